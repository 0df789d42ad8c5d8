use clap::{Arg, Command, CommandFactory as _};

use super::{
    Cli,
    manual::{all, bin_name},
};

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

/// A row of docs/configuration.md: what may be typed, of which commands, and all that is said.
struct Row {
    typed: &'static str,
    of: &'static str,
    whole: &'static str,
}

/// Flags that have a key are those of `serve`.
fn documented() -> Vec<Row> {
    let text = include_str!("../../../docs/configuration.md");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (first, second) = (cells.next()?, cells.next()?);
        let (typed, of) = if second.contains("`--") {
            (second, "`serve`")
        } else {
            (first, second)
        };
        Some(Row {
            typed,
            of,
            whole: line,
        })
    });
    rows.collect()
}

/// What stands in backticks.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

impl Row {
    fn is_of(&self, command: &str) -> bool {
        self.of == "all" || words(self.of).any(|word| word == command)
    }

    fn names(&self, typed: &str) -> bool {
        let first = |word: &str| word.split([' ', '…']).next() == Some(typed);
        words(self.typed).any(first)
    }
}

/// As it is typed: a flag, or what stands for an operand.
fn typed(argument: &Arg) -> String {
    match argument.get_long() {
        Some(long) => format!("--{long}"),
        None => argument.get_value_names().unwrap()[0].to_string(),
    }
}

/// What of a command the rows lack.
fn lacking(command: &Command, rows: &[Row]) -> Vec<String> {
    let whole = bin_name(command);
    let name = whole.strip_prefix("raindrops ").unwrap_or(&whole);
    let mut lacking = Vec::new();
    for argument in command.get_arguments() {
        let typed = typed(argument);
        let of_it = |row: &&Row| row.is_of(name) && row.names(&typed);
        let Some(row) = rows.iter().find(of_it) else {
            lacking.push(format!("{name} {typed}"));
            continue;
        };
        let values = argument.get_possible_values();
        let takes_value = argument.get_action().takes_values();
        for value in values.iter().filter(|it| takes_value && !it.is_hide_set()) {
            let value = value.get_name();
            if !row
                .whole
                .split(|it: char| !it.is_alphanumeric())
                .any(|it| it == value)
            {
                lacking.push(format!("{name} {typed} {value}"));
            }
        }
    }
    lacking
}

#[test]
fn each_option_is_documented() {
    let rows = documented();
    let commands = all();
    assert!(commands.len() > 10, "parts of parts are among them");
    let lacking: Vec<String> = commands
        .iter()
        .flat_map(|command| lacking(command, &rows))
        .collect();
    assert!(
        lacking.is_empty(),
        "docs/configuration.md lacks {lacking:#?}"
    );
}

#[test]
fn what_is_not_documented_is_found() {
    let rows = [Row {
        typed: "`--format text\\|json`, `PATH`",
        of: "`show`",
        whole: "| `--format text\\|json`, `PATH` | `show` | `text` | |",
    }];
    let command = |name: &'static str| {
        Command::new(name).disable_help_flag(true).args([
            Arg::new("path").value_name("PATH"),
            Arg::new("form").long("form").value_name("TEXT"),
            Arg::new("format")
                .long("format")
                .value_parser(["text", "json", "xml"]),
        ])
    };
    for (name, expected) in [
        ("show", &["show --form", "show --format xml"][..]),
        ("top", &["top PATH", "top --form", "top --format"]),
    ] {
        assert_eq!(lacking(&command(name), &rows), expected);
    }
}

/// Check that nothing is documented that does not exist.
#[test]
fn each_documented_flag_exists() {
    let commands = all();
    for row in documented() {
        for flag in words(row.typed).filter(|word| word.starts_with("--")) {
            let flag = flag.split(' ').next().unwrap();
            for of in words(row.of) {
                let name = format!("raindrops {of}");
                let command = commands
                    .iter()
                    .find(|it| bin_name(it) == name || bin_name(it) == of)
                    .unwrap_or_else(|| panic!("{}", row.whole));
                let exists = command.get_arguments().any(|it| typed(it) == flag);
                assert!(exists, "{of} {flag}");
            }
        }
    }
}
