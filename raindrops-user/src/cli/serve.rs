//! `raindrops serve`: the daemon, in the foreground.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser as _};
use raindrops_user::{
    config::{HookName, MAX_CONNECTIONS, METRICS_LISTENERS, Options, SAMPLE_HZ, reach},
    daemon::{self, CommandLine},
    plan::{Turns, netns::NetnsChoice},
};

/// Watch this host and answer on a Unix socket.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Socket to answer on [default: /run/raindrops/raindrops.sock as root, otherwise
    /// $XDG_RUNTIME_DIR/raindrops.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Load no BPF programs: queues only, no accepts and no waits
    #[arg(long)]
    no_bpf: bool,
    /// How accepts are seen [default: auto]
    #[arg(long, value_name = "HOOK", value_parser = hook())]
    accept_hook: Option<HookName>,
    /// Queue readings in a second, 1 to 100 [default: 10]
    #[arg(long, value_name = "HZ", value_parser = number(SAMPLE_HZ))]
    sample_hz: Option<u32>,
    /// Connections that are followed at one time [default: 131072]
    #[arg(long, value_name = "COUNT", value_parser = number(MAX_CONNECTIONS))]
    max_connections: Option<u32>,
    /// Network namespaces to read: all, own, or only that of a name or a process [default: all
    /// where that is allowed, else own]
    #[arg(long, value_name = "all|own|NAME|PID")]
    netns: Option<NetnsChoice>,
    /// How much is seen of turns: on; light, without the hooks that tell the end of an answer; or
    /// off [default: on]
    #[arg(long, value_name = "HOW", value_parser = turns())]
    turns: Option<Turns>,
    /// Slab of an application to read, besides those in /run/raindrops/slabs and those that workers
    /// have mapped; may be repeated
    #[arg(long, value_name = "PATH")]
    slab: Vec<PathBuf>,
    /// How long the past is kept for /v1/history and `raindrops top`; 0s: not at all [default: 15m]
    #[arg(long, value_name = "TIME", value_parser = reach)]
    history: Option<Duration>,
    /// Serve /metrics and /healthz on TCP too, for Prometheus: 127.0.0.1:PORT or [::1]:PORT
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    listen_tcp: Option<SocketAddr>,
    /// Let --listen-tcp be an address that other hosts reach: whoever does reads all figures
    #[arg(long)]
    allow_remote: bool,
    /// Write DIR/raindrops.prom every 15 s, for the textfile collector of node_exporter
    #[arg(long, value_name = "DIR")]
    textfile: Option<PathBuf>,
    /// Listeners that have series in /metrics and in the textfile: known servers first, then TCP;
    /// how many are left out is one of the series [default: 500]
    #[arg(long, value_name = "COUNT", value_parser = number(METRICS_LISTENERS))]
    metrics_listeners: Option<u32>,
    /// File of tokens for `pumactl -T TOKEN stats` on the socket, with lines of a token and the id,
    /// kind or address of the server that it asks for; read again on HUP
    #[arg(long, value_name = "FILE")]
    puma_token_file: Option<PathBuf>,
    /// Configuration file (TOML; keys are these options with underscores, [[listener]] and [puma]),
    /// read again on HUP
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Log to a file, opened again on USR1 [default: standard error]
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Log more
    #[arg(short, long)]
    verbose: bool,
}

/// What no program is made for is understood, and refused with the reason, but not offered.
fn hook() -> impl clap::builder::TypedValueParser<Value = HookName> {
    let possible = HookName::ALL.map(|it| PossibleValue::new(it.name()).hide(it.hook().is_none()));
    PossibleValuesParser::new(possible).try_map(|name| name.parse::<HookName>())
}

fn turns() -> impl clap::builder::TypedValueParser<Value = Turns> {
    PossibleValuesParser::new(Turns::NAMES).try_map(|name| name.parse::<Turns>())
}

fn number(range: std::ops::RangeInclusive<u32>) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(i64::from(*range.start())..=i64::from(*range.end()))
}

fn address(typed: &str) -> Result<SocketAddr, String> {
    typed
        .parse()
        .map_err(|_| "not an address with a port, as 127.0.0.1:9911 or [::1]:9911".to_owned())
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args {
        socket,
        no_bpf,
        accept_hook,
        sample_hz,
        max_connections,
        netns,
        turns,
        slab,
        history,
        listen_tcp,
        allow_remote,
        textfile,
        metrics_listeners,
        puma_token_file,
        config,
        log,
        verbose,
    } = args;
    let options = Options {
        socket,
        no_bpf: no_bpf.then_some(true),
        accept_hook,
        sample_hz,
        max_connections,
        netns,
        turns,
        listener: None,
        log,
        verbose: verbose.then_some(true),
        puma: None,
        puma_token_file,
        slab: (!slab.is_empty()).then_some(slab),
        slab_directory: None,
        inferred_slabs: None,
        history,
        listen_tcp,
        allow_remote: allow_remote.then_some(true),
        textfile,
        metrics_listeners,
    };
    daemon::run(&CommandLine { options, config })?;
    Ok(ExitCode::SUCCESS)
}
