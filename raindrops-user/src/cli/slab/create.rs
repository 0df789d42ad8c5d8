//! `raindrops slab create`: a slab file for workers to open.

use std::{path::PathBuf, process::ExitCode, str::FromStr};

use raindrops_slab::{Field, Invalid, Kind, Schema, Slab, Unit};

/// Make a slab file.
///
/// Workers open it and claim a slot each; see docs/slabs.md. It takes the place of a slab at PATH.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to make; /run/raindrops/slabs/UID/NAME.slab is found by the daemon
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// What the slab is called [default: the file's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How many workers may have a slot at one time
    #[arg(long, value_name = "COUNT", default_value_t = 64)]
    slots: u32,
    /// NAME:KIND, NAME:KIND:UNIT or NAME:histogram:UNIT:HIGHEST; KIND is counter, gauge, max or
    /// histogram; may be repeated
    #[arg(long = "field", value_name = "FIELD", required = true)]
    fields: Vec<Declared>,
}

/// A field, as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Declared(Field);

/// What histograms tell apart where nothing is said: in microseconds, a minute.
const HIGHEST: u64 = 60_000_000;

impl FromStr for Declared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let kind = parts
            .next()
            .ok_or("a kind is missing: as in requests:counter")?;
        let kind = Kind::ALL
            .into_iter()
            .find(|known| known.name() == kind)
            .ok_or_else(|| {
                let names = Kind::ALL.map(Kind::name).join(", ");
                format!("there is no kind {kind:?}: kinds are {names}")
            })?;
        let unit =
            Unit::new(parts.next().unwrap_or_default()).map_err(|error| error.to_string())?;
        let highest = parts.next().map(|number| {
            let number = number.parse::<u64>().map_err(|error| error.to_string());
            number.map_err(|error| format!("the highest value of {name}: {error}"))
        });
        let highest = highest.transpose()?;
        if parts.next().is_some() || (highest.is_some() && kind != Kind::Histogram) {
            return Err(format!("{text}: there is too much in it"));
        }
        Ok(Self(match kind {
            Kind::Counter => Field::counter(name, unit),
            Kind::Gauge => Field::gauge(name, unit),
            Kind::Max => Field::max(name, unit),
            Kind::Histogram => Field::histogram(name, unit, highest.unwrap_or(HIGHEST)),
        }))
    }
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => name_of(&args.path),
    };
    let fields = args.fields.iter().map(|Declared(field)| field.clone());
    let schema = Schema::new(&name, args.slots, fields).map_err(|error| match error {
        Invalid::Name(wrong) if args.name.is_none() && wrong == name => {
            anyhow::anyhow!("the file's name makes no name for the slab; give one with --name")
        }
        error => error.into(),
    })?;
    let is_there = std::fs::symlink_metadata(&args.path).is_ok();
    if is_there && super::read(&mut super::looker(&args.path)).is_err() {
        anyhow::bail!(
            "{} is there and is no slab: remove it first, or give another path",
            args.path.display()
        );
    }
    Slab::create(&args.path, &schema)?;
    Ok(ExitCode::SUCCESS)
}

/// `shop` for `/run/shop.slab`.
fn name_of(path: &std::path::Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().replace(['-', '.'], "_")
}

#[cfg(test)]
mod tests {
    use raindrops_slab::{Field, Unit};

    use super::{Declared, HIGHEST, name_of};

    #[test]
    fn fields_are_typed_in_one_word() {
        let us = || Unit::new("us").unwrap();
        for (text, field) in [
            ("requests:counter", Field::counter("requests", Unit::NONE)),
            ("calling:gauge", Field::gauge("calling", Unit::NONE)),
            ("longest:max:us", Field::max("longest", us())),
            (
                "answer:histogram:us",
                Field::histogram("answer", us(), HIGHEST),
            ),
            (
                "answer:histogram:us:1000",
                Field::histogram("answer", us(), 1000),
            ),
            (
                "answer:histogram::7",
                Field::histogram("answer", Unit::NONE, 7),
            ),
        ] {
            assert_eq!(text.parse(), Ok(Declared(field)), "{text}");
        }
        for (text, error) in [
            ("requests", "a kind is missing: as in requests:counter"),
            (
                "requests:total",
                "there is no kind \"total\": kinds are counter, gauge, max, histogram",
            ),
            ("a:counter:us:5", "a:counter:us:5: there is too much in it"),
            (
                "a:histogram:us:x",
                "the highest value of a: invalid digit found in string",
            ),
        ] {
            assert_eq!(text.parse::<Declared>(), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_slab_is_called_like_its_file() {
        assert_eq!(
            name_of("/run/raindrops/slabs/0/my-shop.slab".as_ref()),
            "my_shop"
        );
    }
}
