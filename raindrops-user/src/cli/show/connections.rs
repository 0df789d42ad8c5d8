//! `raindrops show --connections`: accepted connections, one by one.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use raindrops_user::{
    connections,
    plan::Off,
    render::{self, json},
    sampler, select,
    view::connections::{Listing, Question, USUAL_LIMIT},
};

use super::{
    super::{
        ShowFormat,
        client::{self, Way},
        terminal,
    },
    Args, typed,
};

/// For one reading without a daemon.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.format == ShowFormat::Openmetrics {
        anyhow::bail!("connections are no metrics: use --format text or json");
    }
    let listeners: Vec<String> = args.listeners.iter().map(typed).collect();
    let listing: Listing = match client::way(args.socket.as_deref())? {
        Way::Daemon(daemon) => {
            let body = daemon.get(&path(&listeners, args.limit))?.body;
            if args.format == ShowFormat::Json {
                terminal::print(&body)?;
                return Ok(());
            }
            serde_json::from_slice(&body)
                .with_context(|| format!("{daemon}: its connections are of another version"))?
        }
        Way::OneReading(why) => {
            terminal::note(&why);
            one_reading(&listeners, args.limit)?
        }
    };
    let mut out = Vec::new();
    if args.format == ShowFormat::Json {
        json::write(&listing, &mut out)?;
    } else {
        render::connections::text(&listing, terminal::style(), &mut out)?;
    }
    terminal::print(&out)?;
    Ok(())
}

/// What a daemon is asked.
fn path(listeners: &[String], limit: Option<u16>) -> String {
    let limit = limit.map_or(USUAL_LIMIT, usize::from);
    let mut path = format!("/v1/connections?limit={limit}");
    for listener in listeners {
        path.push_str("&listener=");
        for byte in listener.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~:/@".contains(&byte) {
                path.push(char::from(byte));
            } else {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
    path
}

fn one_reading(listeners: &[String], limit: Option<u16>) -> anyhow::Result<Listing> {
    let view = sampler::one_tick().context("cannot read the listeners of this host")?;
    let question = Question {
        places: select::places(&view, listeners)?,
        worker: None,
        allowed: None,
        limit: limit.map_or(USUAL_LIMIT, usize::from),
    };
    let alone = |_, _| {
        Err(Off {
            reason: "a single reading, without a daemon".to_owned(),
            grant: Some("start the daemon: raindrops serve".to_owned()),
        })
    };
    let listing = connections::read(&question, alone, Instant::now() + PATIENCE)?;
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn listeners_are_encoded() {
        for (listeners, limit, expected) in [
            (&[][..], None, "/v1/connections?limit=100"),
            (&[":80"], Some(7), "/v1/connections?limit=7&listener=:80"),
            (
                &["[::]:80", "/run/a&b %.sock"],
                None,
                "/v1/connections?limit=100&listener=%5B::%5D:80&listener=/run/a%26b%20%25.sock",
            ),
        ] {
            let listeners: Vec<String> = listeners.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(path(&listeners, limit), expected);
        }
    }
}
