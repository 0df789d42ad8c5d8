//! The same figures over TCP, for Prometheus, which scrapes no Unix sockets: /metrics and /healthz
//! and nothing else.
//!
//! Whoever reaches the port may ask, so it is on loopback unless the operator wants otherwise, and
//! then nothing is answered that is asked in another host's name: a page in a browser on this host
//! that lets its name lead to 127.0.0.1 must not read what is here (DNS rebinding).

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http_body_util::{Either, Full};
use hyper::{Request, StatusCode, header::HOST, http::uri::Authority, service::service_fn};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};

use super::{
    FRESHENED, Limits, accept,
    answer::{Answer, error},
    crowd::Place,
    document, drive,
    peer::Peer,
    route::{self, Reply},
};
use crate::publish::Hub;

/// Paths that exist here.
const PATHS: [&str; 2] = ["/metrics", "/healthz"];

/// A port that is listened on, and who may ask there.
#[derive(Debug)]
pub struct Port {
    listener: std::net::TcpListener,
    address: SocketAddr,
    allow_remote: bool,
}

impl Port {
    /// Clients that connect wait until they are served.
    pub fn open(address: SocketAddr, allow_remote: bool) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            allow_remote,
        })
    }

    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes, then closes idle connections and lets answers in flight finish.
    pub async fn serve(
        self,
        hub: Arc<Hub>,
        limits: Limits,
        stop: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener)?;
        let names = (!self.allow_remote).then_some(self.address.ip());
        let client = |stream, _, place, stopping| {
            client(stream, Arc::clone(&hub), names, limits, stopping, place)
        };
        accept::clients(listener, limits, stop, client).await;
        Ok(())
    }
}

async fn client(
    stream: TcpStream,
    hub: Arc<Hub>,
    names: Option<IpAddr>,
    limits: Limits,
    stopping: watch::Receiver<()>,
    place: Place,
) {
    let place = &Arc::new(place);
    let service = service_fn(|request| {
        let hub = Arc::clone(&hub);
        async move {
            place.is_used();
            let answer = match refused(&request, names) {
                Some(refused) => refused,
                None => {
                    // Whoever comes gets what there is when the sampler is stuck.
                    let _ = time::timeout(FRESHENED, hub.freshened()).await;
                    match route::respond(&request, &hub, Peer::UNKNOWN, limits.stale) {
                        Reply::Answer(answer) => answer,
                        Reply::Document(form, latest) => {
                            document::answer(form, latest, &hub, limits.stale).await
                        }
                        Reply::Ask(_) | Reply::Stream(_) | Reply::History(..) | Reply::Reset => {
                            nowhere()
                        }
                    }
                }
            };
            let answer = answer.map(|body| Either::Left(Full::new(place.answer(body))));
            Ok::<_, Infallible>(answer)
        }
    });
    drive(stream, service, place, limits, stopping).await;
}

/// Why a request is not answered. `names`: the address that is listened on, where only requests in
/// the name of this host are.
fn refused<B>(request: &Request<B>, names: Option<IpAddr>) -> Option<Answer> {
    if let Some(own) = names
        && !is_own(request, own)
    {
        return Some(error(
            StatusCode::FORBIDDEN,
            "this is asked in the name of another host",
            &format!(
                "ask for http://{}/metrics, or see --allow-remote",
                shown(own)
            ),
        ));
    }
    (!PATHS.contains(&request.uri().path())).then(nowhere)
}

fn nowhere() -> Answer {
    error(
        StatusCode::NOT_FOUND,
        "over TCP there are only /metrics and /healthz",
        "everything else is on the Unix socket: curl --unix-socket /run/raindrops/raindrops.sock",
    )
}

fn shown(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Whether a request names this host by loopback or by the address that is listened on, in each
/// place where it names one.
fn is_own<B>(request: &Request<B>, own: IpAddr) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let host = host.to_str().ok().and_then(|host| host.parse().ok());
    let named = |authority: &Authority| {
        let host = authority.host();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = |address: IpAddr| {
            address.to_canonical().is_loopback() || address.to_canonical() == own.to_canonical()
        };
        host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
    };
    host.as_ref().is_some_and(named) && request.uri().authority().is_none_or(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1));

    fn request(uri: &str, hosts: &[&str]) -> Request<()> {
        let mut request = Request::get(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn only_requests_in_this_hosts_name_are_answered() {
        for (hosts, is_answered) in [
            (&["localhost"] as &[&str], true),
            (&["LOCALHOST:9911"], true),
            (&["127.0.0.1:9911"], true),
            (&["127.9.9.9"], true),
            (&["[::1]:9911"], true),
            (&["[::ffff:127.0.0.1]"], true),
            (&["evil.example"], false),
            (&["localhost.evil.example:9911"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["evil.example@127.0.0.1.example"], false),
            (&["10.0.0.7"], false),
            (&["0.0.0.0:9911"], false),
            (&[""], false),
            (&[], false),
            (&["localhost", "evil.example"], false),
        ] {
            let answered = refused(&request("/metrics", hosts), Some(OWN)).is_none();
            assert_eq!(answered, is_answered, "{hosts:?}");
            assert!(refused(&request("/metrics", hosts), None).is_none());
        }
        let in_its_line = request("http://evil.example/metrics", &["localhost"]);
        assert!(refused(&in_its_line, Some(OWN)).is_some());
        let listened = "10.0.0.7".parse().ok();
        assert!(refused(&request("/metrics", &["10.0.0.7:9911"]), listened).is_none());
    }

    #[test]
    fn other_paths_are_not_there() {
        for (path, status) in [
            ("/metrics", None),
            ("/healthz", None),
            ("/", Some(StatusCode::NOT_FOUND)),
            ("/v1/view", Some(StatusCode::NOT_FOUND)),
            ("/metrics/", Some(StatusCode::NOT_FOUND)),
        ] {
            let refused = refused(&request(path, &["localhost"]), Some(OWN));
            assert_eq!(refused.map(|answer| answer.status()), status, "{path}");
        }
    }
}
