use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    AcceptHook, HookName, KEYS, ListenerOptions, ListenerTurns, MetricsPlaces, NetnsChoice,
    Options, PumaControl, Settings, SlabPlaces, Token, Turns, Who, is_readable_by_all,
};
use crate::address::{Address, UnixName};

fn parse(text: &str) -> Result<Options, String> {
    Options::parse(Path::new("r.toml"), text).map_err(|error| error.to_string())
}

fn who(root: bool, directory: Option<&str>) -> Who {
    Who {
        root,
        runtime_directory: directory.map(Into::into),
    }
}

#[test]
fn every_key_is_read() {
    let all = "socket = '/a'\nno_bpf = true\naccept_hook = 'fexit'\nsample_hz = 20\n\
               max_connections = 1000\nnetns = 'web'\nturns = 'light'\nlog = '/l'\nverbose = true\n\
               listener = [{ address = ':8443', turns = 'off' }]\n\
               puma = { control_url = 'unix:///c', token = 't' }\n\
               puma_token_file = '/t'\nslab = ['/s']\nslab_directory = '/d'\ninferred_slabs = false\n\
               history = '90s'\n\
               listen_tcp = '127.0.0.1:9911'\nallow_remote = true\ntextfile = '/t'\n\
               metrics_listeners = 50\n";
    let expected = Options {
        socket: Some("/a".into()),
        no_bpf: Some(true),
        accept_hook: Some(HookName::Fexit),
        sample_hz: Some(20),
        max_connections: Some(1000),
        netns: Some(NetnsChoice::Name("web".to_owned())),
        turns: Some(Turns::Light),
        listener: Some(vec![ListenerOptions {
            address: ":8443".to_owned(),
            turns: ListenerTurns::Off,
        }]),
        log: Some("/l".into()),
        verbose: Some(true),
        puma: Some(vec![PumaControl {
            address: Address::Unix(UnixName::Path(b"/c".to_vec())),
            token: Some(Token::new("t".to_owned()).unwrap()),
        }]),
        puma_token_file: Some("/t".into()),
        slab: Some(vec!["/s".into()]),
        slab_directory: Some("/d".into()),
        inferred_slabs: Some(false),
        history: Some(Duration::from_secs(90)),
        listen_tcp: Some(([127, 0, 0, 1], 9911).into()),
        allow_remote: Some(true),
        textfile: Some("/t".into()),
        metrics_listeners: Some(50),
    };
    assert_eq!(parse(all), Ok(expected));
    assert_eq!(all.lines().count(), KEYS.len());
    assert_eq!(parse(""), Ok(Options::default()));
}

#[test]
fn a_reach_is_a_time_of_a_day_at_most() {
    let history = |text: &str| parse(&format!("history = '{text}'")).map(|it| it.history);
    assert_eq!(history("0s").unwrap(), Some(Duration::ZERO));
    assert_eq!(history("24h").unwrap(), Some(Duration::from_secs(86_400)));
    for (text, message) in [
        ("25h", "\"25h\" is longer than 1day"),
        ("15", "\"15\" is not a time such as 90s or 15m"),
    ] {
        let error = history(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_namespace_is_a_word_or_a_process() {
    let netns = |text| parse(text).unwrap().netns;
    assert_eq!(netns("netns = 'all'"), Some(NetnsChoice::All));
    assert_eq!(netns("netns = 17"), netns("netns = '17'"));
    assert!(parse("netns = true").is_err());
}

#[test]
fn mistakes_are_named() {
    for (text, message) in [
        (
            "sampel_hz = 1",
            "r.toml: unknown key \"sampel_hz\"; did you mean \"sample_hz\"?",
        ),
        (
            "no-bpf = true",
            "r.toml: unknown key \"no-bpf\"; did you mean \"no_bpf\"?",
        ),
        (
            "sample_hz = 'x'",
            "invalid type: string \"x\", expected u32",
        ),
        (
            "accept_hook = 'x'",
            "unknown variant `x`, expected one of `auto`",
        ),
        (
            "sample_hz =",
            "r.toml: not a configuration: line 1, column 12: ",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.contains(message), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = Options::read("/nonexistent".as_ref())
        .unwrap_err()
        .to_string();
    assert!(error.contains("/nonexistent: cannot read"), "{error}");
}

#[test]
fn only_a_regular_file_is_read_and_not_without_end() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let directory = tempfile::tempdir().unwrap();
    let (fifo, large) = (
        directory.path().join("fifo"),
        directory.path().join("large"),
    );
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    std::fs::write(&large, " ".repeat((1 << 20) + 1)).unwrap();
    for (path, message) in [
        (fifo.as_path(), "not a regular file"),
        (directory.path(), "not a regular file"),
        (Path::new("/dev/zero"), "not a regular file"),
        (&large, "at most 1024 KiB"),
    ] {
        let error = Options::read(path).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn the_command_line_wins_over_the_file_and_the_file_over_defaults() {
    let line = Options {
        sample_hz: Some(50),
        ..Options::default()
    };
    let file = parse("sample_hz = 20\nlog = '/l'").unwrap();
    let settings = Settings::decide(line.or(file), &who(true, None)).unwrap();
    let expected = Settings {
        socket: "/run/raindrops/raindrops.sock".into(),
        bpf: true,
        accept_hook: AcceptHook::Auto,
        sample_hz: 50,
        max_connections: 131_072,
        netns: None,
        turns: Turns::On,
        without_turns: Vec::new(),
        log: Some("/l".into()),
        verbose: false,
        puma: Vec::new(),
        puma_token_file: None,
        slabs: SlabPlaces {
            files: Vec::new(),
            directory: Some("/run/raindrops/slabs".into()),
            inferred: true,
        },
        history: Duration::from_secs(900),
        metrics: MetricsPlaces::default(),
    };
    assert_eq!(settings, expected);
    assert!(!settings.holds_secrets());
}

#[test]
fn only_a_token_is_a_secret() {
    for (text, holds) in [
        ("", false),
        ("[puma]\ncontrol_url = 'unix:///c'", false),
        ("[puma]\ncontrol_url = 'unix:///c'\ntoken = 't'", true),
    ] {
        let settings = Settings::decide(parse(text).unwrap(), &who(true, None)).unwrap();
        assert_eq!(settings.holds_secrets(), holds, "{text}");
    }
}

#[test]
fn a_file_that_any_user_may_read_is_told() {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.toml");
    assert!(!is_readable_by_all(&file));
    fs::write(&file, "").unwrap();
    for (mode, is_readable) in [(0o600, false), (0o640, false), (0o644, true)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(is_readable_by_all(&file), is_readable, "{mode:o}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (text, message) in [
        ("sample_hz = 0", "sample_hz is 0: it must be from 1 to 100;"),
        (
            "sample_hz = 101",
            "sample_hz is 101: it must be from 1 to 100;",
        ),
        (
            "max_connections = 0",
            "max_connections is 0: it must be from 1 to 16777216;",
        ),
        (
            "accept_hook = 'peername'",
            "accept_hook \"peername\" (--accept-hook) is not supported:",
        ),
        (
            "[[listener]]\naddress = \"4026531833:17\"\nturns = \"off\"",
            "[[listener]] address \"4026531833:17\" is an id,",
        ),
        (
            "listen_tcp = '0.0.0.0:9911'",
            "listen_tcp 0.0.0.0:9911 can be reached from other hosts; use 127.0.0.1:9911,",
        ),
        (
            "listen_tcp = '[fe80::1]:9911'",
            "listen_tcp [fe80::1]:9911 can be reached from other hosts;",
        ),
    ] {
        let error = Settings::decide(parse(text).unwrap(), &who(true, None)).unwrap_err();
        assert!(error.to_string().starts_with(message), "{error}");
    }
}

#[test]
fn sockets_depend_on_who_runs_it() {
    let host = || PathBuf::from("/run/raindrops/raindrops.sock");
    let own = PathBuf::from("/run/user/7/raindrops.sock");
    assert_eq!(who(true, Some("/run/user/0")).known_sockets(), [host()]);
    let user = who(false, Some("/run/user/7"));
    assert_eq!(user.own_socket(), Some(own.clone()));
    assert_eq!(user.known_sockets(), [own, host()]);
    for nobody in [who(false, None), who(false, Some("run"))] {
        let error = Settings::decide(Options::default(), &nobody).unwrap_err();
        assert!(error.to_string().contains("pass --socket PATH"), "{error}");
        assert_eq!(nobody.known_sockets(), [host()]);
    }
}

#[test]
fn hooks_are_named_alike_in_the_file_and_on_the_command_line() {
    for name in HookName::ALL {
        assert_eq!(name.name().parse(), Ok(name));
        let file = parse(&format!("accept_hook = '{}'", name.name()));
        assert_eq!(file.unwrap().accept_hook, Some(name));
    }
}

#[test]
fn other_hosts_are_let_in_only_when_that_is_said() {
    for (text, is_allowed) in [
        ("listen_tcp = '127.8.0.1:9911'", true),
        ("listen_tcp = '[::1]:0'", true),
        ("listen_tcp = '[::ffff:127.0.0.1]:9911'", true),
        ("listen_tcp = '[::]:9911'", false),
        ("listen_tcp = '[::]:9911'\nallow_remote = false", false),
        ("listen_tcp = '[::]:9911'\nallow_remote = true", true),
    ] {
        let settings = Settings::decide(parse(text).unwrap(), &who(true, None));
        assert_eq!(settings.is_ok(), is_allowed, "{text}");
    }
    assert!(parse("listen_tcp = 'localhost:9911'").is_err());
}

/// The packaged configuration: its defaults, and those with its examples.
fn packaged() -> (String, String) {
    let (mut defaults, mut all) = (String::new(), String::new());
    for line in include_str!("../../../packaging/raindrops.toml").lines() {
        let (is_default, text) = match line.strip_prefix('#') {
            Some(example) if example.starts_with("    ") => (false, example.trim_start()),
            Some(prose) if prose.is_empty() || prose.starts_with(' ') => continue,
            Some(default) => (true, default),
            None => (true, line),
        };
        for file in [is_default.then_some(&mut defaults), Some(&mut all)] {
            file.into_iter()
                .for_each(|file| *file += &format!("{text}\n"));
        }
    }
    (defaults, all)
}

#[test]
fn the_packaged_file_has_every_key_and_the_defaults() {
    let (defaults, all) = packaged();
    let root = who(true, None);
    let settings = Settings::decide(parse(&defaults).unwrap(), &root).unwrap();
    let expected = Settings::decide(Options::default(), &root).unwrap();
    assert_eq!(settings, expected);
    parse(&all).unwrap();
    let table: toml::Table = all.parse().unwrap();
    let keys: Vec<&str> = table.keys().map(String::as_str).collect();
    assert_eq!(keys, KEYS);
}
