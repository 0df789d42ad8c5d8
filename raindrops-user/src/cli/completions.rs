//! `raindrops completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap_complete::{Shell, generate};

use super::terminal;

/// Print what a shell needs to complete this command line.
///
/// For bash, put it into /usr/share/bash-completion/completions/raindrops or run
/// `source <(raindrops completions bash)`. The Debian package has those of bash, fish and zsh.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    terminal::print(&script(args.shell))?;
    Ok(ExitCode::SUCCESS)
}

/// Goes through memory, because the generators do not expect a closed pipe.
fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    let mut command = super::command();
    let name = command.get_name().to_owned();
    generate(shell, &mut command, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::{Shell, script};

    #[test]
    fn every_shell_knows_every_subcommand() {
        let command = crate::cli::command();
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for subcommand in command.get_subcommands() {
                let name = subcommand.get_name();
                assert!(script.contains(name), "{shell}: {name}");
            }
        }
    }
}
