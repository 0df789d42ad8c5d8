//! `raindrops man`: the manual, made of the same words as `--help`.
//!
//! What no option says (exit codes, files, variables, signals) is written here.

use std::process::ExitCode;

use clap::{Command, error::ErrorKind};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use raindrops_user::config::{HOST_SOCKET, SLAB_DIRECTORY};

use super::terminal;

/// Print a page of the manual.
///
/// To read it: raindrops man serve | man -l -
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print the names of all pages instead, one on a line
    #[arg(long, conflicts_with = "command")]
    list: bool,
    /// The command that it is about, as in `serve` or `slab create` [default: raindrops itself]
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut commands = all();
    if args.list {
        let names: Vec<String> = commands.iter().map(|it| bin_name(it) + "\n").collect();
        terminal::print(names.concat().as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = wanted(&args.command);
    let Some(at) = commands.iter().position(|it| bin_name(it) == wanted) else {
        let message = format!("there is no command {:?}", args.command.join(" "));
        super::command()
            .error(ErrorKind::InvalidSubcommand, message)
            .exit()
    };
    terminal::print(&page(commands.swap_remove(at)))?;
    Ok(ExitCode::SUCCESS)
}

fn wanted(words: &[String]) -> String {
    let own = ["raindrops".to_owned()];
    let words: Vec<&str> = own.iter().chain(words).map(String::as_str).collect();
    words.join(" ")
}

/// `raindrops slab create`.
pub(super) fn bin_name(command: &Command) -> String {
    let name = command.get_bin_name();
    name.unwrap_or_else(|| command.get_name()).to_owned()
}

/// Every command that has a page, the whole before its parts.
pub(super) fn all() -> Vec<Command> {
    fn add(command: &Command, all: &mut Vec<Command>) {
        all.push(command.clone());
        for part in command.get_subcommands().filter(|it| !it.is_hide_set()) {
            add(part, all);
        }
    }
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let mut all = Vec::new();
    add(&command, &mut all);
    all
}

/// Rows of a section: what is named, and what is said of it.
type Rows = Vec<(&'static str, String)>;

fn page(command: Command) -> Vec<u8> {
    let name = bin_name(&command);
    let title = name.replace(' ', "-").to_uppercase();
    let has_parts = command.get_subcommands().next().is_some();
    let man = Man::new(command)
        .title(title)
        .source(concat!("raindrops ", env!("CARGO_PKG_VERSION")))
        .manual("raindrops");
    let mut out = Vec::new();
    let written = man
        .render_title(&mut out)
        .and_then(|()| man.render_name_section(&mut out))
        .and_then(|()| man.render_synopsis_section(&mut out))
        .and_then(|()| man.render_description_section(&mut out))
        .and_then(|()| man.render_options_section(&mut out))
        .and_then(|()| match has_parts {
            true => man.render_subcommands_section(&mut out),
            false => Ok(()),
        })
        .and_then(|()| further(&name).to_writer(&mut out));
    written.expect("memory takes what is written to it");
    out
}

/// The sections that clap knows nothing of.
fn further(name: &str) -> Roff {
    let mut page = Roff::new();
    let mut section = |heading: &str, rows: Rows| {
        if !rows.is_empty() {
            page.control("SH", [heading]);
        }
        for (term, text) in rows {
            page.control("TP", []);
            page.text([bold(term)]);
            page.text([roman(text)]);
        }
    };
    section("SIGNALS", signals(name));
    section("EXIT STATUS", exit_status(name));
    section("FILES", files(name));
    section("ENVIRONMENT", environment(name));
    page.control("SH", ["SEE ALSO"]);
    page.text([roman(see_also(name))]);
    page
}

fn signals(name: &str) -> Rows {
    if name != "raindrops serve" {
        return Rows::new();
    }
    vec![
        ("HUP", "Reads the configuration file again.".to_owned()),
        (
            "USR1",
            "Opens the log again, after it was rotated.".to_owned(),
        ),
        ("TERM, INT", "Stop at once.".to_owned()),
        (
            "QUIT",
            "Stops when the answers in flight are finished, or after 10 seconds.".to_owned(),
        ),
    ]
}

fn exit_status(name: &str) -> Rows {
    let mut rows = vec![
        ("0", "Fine.".to_owned()),
        (
            "1",
            "It failed; one line on standard error says why.".to_owned(),
        ),
        ("2", "The command line is not understood.".to_owned()),
    ];
    if matches!(name, "raindrops" | "raindrops doctor") {
        let text = "raindrops doctor: a verdict is a warning or worse.";
        rows.push(("3", text.to_owned()));
    }
    rows
}

fn files(name: &str) -> Rows {
    let mut rows = vec![
        (
            HOST_SOCKET,
            "Socket of root's daemon: HTTP/1.1, for curl --unix-socket and for the other commands. \
             Members of the group raindrops may ask it, where there is that group."
                .to_owned(),
        ),
        (
            "$XDG_RUNTIME_DIR/raindrops.sock",
            "Socket of the daemon of another user.".to_owned(),
        ),
    ];
    if matches!(name, "raindrops" | "raindrops serve") {
        rows.push((
            "/etc/raindrops/raindrops.toml",
            "Configuration that raindrops.service has the daemon read; every key is in it. Without \
             --config no file is read."
                .to_owned(),
        ));
    }
    if matches!(name, "raindrops" | "raindrops serve") || name.starts_with("raindrops slab") {
        rows.push((
            SLAB_DIRECTORY,
            "Slabs of applications: in it a directory for each user, named by his number, of mode \
             0700 and his own."
                .to_owned(),
        ));
    }
    rows
}

fn environment(name: &str) -> Rows {
    let mut rows = vec![
        (
            "NO_COLOR, TERM",
            "No colours on a terminal where NO_COLOR is not empty, or TERM is dumb or not set."
                .to_owned(),
        ),
        (
            "XDG_RUNTIME_DIR",
            "Directory of the socket, unless root. It is ignored where it is not an absolute path."
                .to_owned(),
        ),
    ];
    if name == "raindrops serve" {
        rows.push((
            "NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID",
            "Set by systemd: the daemon tells it when it serves and when it ends and, as long as \
             views are made, that it lives."
                .to_owned(),
        ));
    }
    rows
}

fn see_also(name: &str) -> String {
    let pages = all();
    let others = pages.iter().map(bin_name).filter(|other| other != name);
    let mut others: Vec<String> = others.map(|it| it.replace(' ', "-") + "(1)").collect();
    others.extend(["ss(8)", "systemctl(1)"].map(str::to_owned));
    format!(
        "{}. The Debian package has all documents in /usr/share/doc/raindrops.",
        others.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::{all, bin_name, page, wanted};

    #[test]
    fn every_command_has_a_page() {
        let names: Vec<String> = all().iter().map(bin_name).collect();
        for subcommand in crate::cli::command().get_subcommands() {
            let name = wanted(&[subcommand.get_name().to_owned()]);
            assert!(names.contains(&name), "{name} among {names:?}");
        }
        assert!(names.contains(&wanted(&["slab".to_owned(), "create".to_owned()])));
        for command in all() {
            let name = bin_name(&command).replace(' ', "\\-");
            let page = String::from_utf8(page(command)).unwrap();
            let head = format!(".SH NAME\n{name} \\- ");
            assert!(page.contains(&head), "{head:?} in {page}");
            for heading in [
                "SYNOPSIS",
                "EXIT STATUS",
                "FILES",
                "ENVIRONMENT",
                "SEE ALSO",
            ] {
                let count = page.matches(&format!(".SH \"{heading}\"\n")).count()
                    + page.matches(&format!(".SH {heading}\n")).count();
                assert_eq!(count, 1, "{heading} in {page}");
            }
        }
    }
}
