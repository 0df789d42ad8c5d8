//! Turns on this kernel: what is shown is held, step by step, against what a server of the test's own
//! was told to do. Asks for less only where `ability` says that the kernel tells less.

mod connections;
mod stage;
mod workers;

use anyhow::Result;
use raindrops_tests::{
    ability,
    daemon::{self, Place, User},
    lookup, netns,
    puppet::{Kind, Listening},
    skip::{Need, can_run},
};
use raindrops_user::view::WriteEnd;

/// Check that turns are followed in the way that this kernel has, that what is asked for is obeyed, and
/// that the source says so.
#[test]
fn way() -> Result<()> {
    if !can_run(&[Need::Root, Need::Bpf]) {
        return Ok(());
    }
    netns::in_new(|| {
        let place = Place::new()?;
        let listening = Listening::new(Kind::Tcp, place.path())?;
        let way = ability::turns()?;
        for wanted in ["on", "light", "off"] {
            let daemon = place.start(User::Same, &["--turns", wanted])?;
            let view = daemon.view()?;
            let told = &daemon::source(&view, "bpf")?.detail["turns"];
            let expected = match (way, wanted) {
                (_, "off") => "off: switched off".to_owned(),
                (None, _) => "off: this kernel's programs cannot go over".to_owned(),
                (Some(way), "on") => format!("{way}+syscalls"),
                (Some(way), _) => way.to_owned(),
            };
            let is_as_expected = if told.starts_with("off") {
                told.starts_with(&expected)
            } else {
                *told == expected
            };
            assert!(is_as_expected, "{told}, expected {expected}");
            let end = lookup::listener(&view, &listening.address)?
                .turns
                .as_ref()
                .map(|turns| turns.write_end);
            let expected = match wanted {
                "on" => Some(WriteEnd::Seen),
                "light" => Some(WriteEnd::NextRead),
                _ => None,
            };
            assert_eq!(end, expected.filter(|_| way.is_some()));
        }
        let yes_or_no = |is_so: bool| if is_so { "yes" } else { "no" };
        ability::state("turns by", way.unwrap_or("nothing: no turns"))?;
        ability::state(
            "turns of unix connections",
            yes_or_no(ability::sees_unix_turns()?),
        )?;
        let knows_waits = way.is_some() && ability::has_sk_data_ready()?;
        ability::state("how long data waits for its read", yes_or_no(knows_waits))
    })
}
