//! Against peers that do anything but answer as puma does; the real one is asked end to end.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    thread,
};

use super::*;

const MOMENT: Duration = Duration::from_millis(150);
/// Reached only by what is broken.
const CEILING: Duration = Duration::from_secs(10);

fn control(path: &Path, token: Option<&str>) -> PumaControl {
    use std::os::unix::ffi::OsStrExt as _;
    PumaControl {
        address: Address::Unix(UnixName::Path(path.as_os_str().as_bytes().to_vec())),
        token: token.map(|token| Token::new(token.to_owned()).unwrap()),
    }
}

/// What asking gives where `serve` answers.
fn asked(
    patience: Duration,
    serve: impl FnOnce(UnixStream) + Send + 'static,
) -> Result<Received, PumaError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || serve(listener.accept().unwrap().0));
    ask(&control(&path, Some("tok3n")), patience)
}

fn reply(mut stream: impl Read + Write, answer: &[u8]) {
    // Closing with the request unread would reset the connection.
    let _ = stream.read(&mut [0; 128]).unwrap();
    stream.write_all(answer).unwrap();
}

#[test]
fn the_request_is_that_of_pumactl() {
    let token = Token::new("tok3n".to_owned()).unwrap();
    let with = request(Some(&token));
    assert_eq!(with, b"GET /stats?token=tok3n HTTP/1.0\r\n\r\n");
    assert_eq!(request(None), b"GET /stats HTTP/1.0\r\n\r\n");
}

#[test]
fn an_answer_is_read_to_its_end_and_its_sender_is_known() {
    let received = asked(CEILING, |mut stream| {
        let mut request = [0; 128];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(b"you said: ").unwrap();
        thread::sleep(Duration::from_millis(10));
        stream.write_all(&request[..length]).unwrap();
    });
    let expected = Received {
        peer: Some(Pid(std::process::id())),
        answer: b"you said: GET /stats?token=tok3n HTTP/1.0\r\n\r\n".to_vec(),
    };
    assert_eq!(received.unwrap(), expected);
}

#[test]
fn abstract_names_and_tcp_are_asked_too() {
    use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};

    let name = format!("raindrops-puma-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let unix = UnixListener::bind_addr(&address).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    thread::spawn(move || reply(unix.accept().unwrap().0, b"unix"));
    thread::spawn(move || reply(tcp.accept().unwrap().0, b"tcp"));
    let ip = std::net::Ipv4Addr::LOCALHOST.into();
    for (address, peer, answer) in [
        (
            Address::Unix(UnixName::Abstract(name.into_bytes())),
            Some(Pid(std::process::id())),
            &b"unix"[..],
        ),
        (Address::Tcp { ip, port }, None, b"tcp"),
    ] {
        let token = None;
        let received = ask(&PumaControl { address, token }, CEILING).unwrap();
        assert_eq!((received.peer, &received.answer[..]), (peer, answer));
    }
}

#[test]
fn who_is_slow_in_any_way_has_one_deadline() {
    let drips = |mut stream: UnixStream| {
        while stream.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    };
    let began = Instant::now();
    assert!(matches!(asked(MOMENT, drips), Err(PumaError::Timeout)));
    let is_mute = |stream: UnixStream| {
        thread::sleep(MOMENT * 4);
        drop(stream);
    };
    assert!(matches!(asked(MOMENT, is_mute), Err(PumaError::Timeout)));
    assert!(began.elapsed() < CEILING);
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let floods = |mut stream: UnixStream| while stream.write_all(&[b'x'; 4096]).is_ok() {};
    assert!(matches!(asked(CEILING, floods), Err(PumaError::NotPuma)));
}

#[test]
fn who_accepts_nothing_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    let control = control(&path, None);
    let reason = |result: Result<Received, PumaError>| result.unwrap_err().off();

    let missing = reason(ask(&control, CEILING));
    let expected = "cannot connect: No such file or directory (os error 2)";
    assert_eq!(missing.reason, expected);
    assert!(missing.grant.unwrap().contains("activate_control_app"));

    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        match ask(&control, Duration::from_millis(20)) {
            Err(PumaError::Timeout) => waiting.push(connect(&control.address, CEILING)),
            other => break other,
        }
    };
    assert_eq!(reason(full).reason, "its queue is full: it accepts nothing");

    drop(listener);
    let refused = reason(ask(&control, CEILING));
    let expected = "cannot connect: Connection refused (os error 111)";
    assert_eq!(refused.reason, expected);
}
