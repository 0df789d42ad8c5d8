//! HTTP/1.1 over a Unix stream socket: what clients see of the [`Hub`].
//!
//! It answers from the latest view: no request waits for the kernel, for a worker or for another
//! client, and only the first after a pause a moment for the sampler. Connections alone are read when
//! they are asked for, elsewhere ([`Desk`]). Whatever a client sends or fails to send, the rest goes
//! on.

mod answer;
pub mod claim;
pub mod compat;
mod connections;
mod path;
mod route;
mod stall;

pub use self::answer::AGE_MS;

use std::{future::Future, os::unix::net, pin::pin, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time,
};

use self::{compat::Compat, route::Reply, stall::Stalling};
use crate::publish::{Hub, STALE};

/// Where connections are asked for; what it tells is rendered.
pub type Desk = crate::connections::Desk<answer::Answer>;

/// What a client may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time. One more is told so and closed.
    pub connections: usize,
    /// Connections at one time that are being told that there are too many.
    pub refusals: usize,
    /// For a request's head to arrive, and for an idle connection to send its next request.
    pub header: Duration,
    /// For a client that does not read to take something.
    pub stall: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Age of the view from which on the sampler counts as stuck.
    pub stale: Duration,
    /// For connections to be read.
    pub reading: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            refusals: 64,
            header: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            head_bytes: 16 * 1024,
            stale: STALE,
            reading: Duration::from_secs(2),
        }
    }
}

/// How many header lines a request may have.
const MAX_HEADERS: usize = 64;
/// How long a refused client may take to send its request.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// How long the first request after a pause waits for a view of its own.
const FRESHENED: Duration = Duration::from_millis(20);
/// Pause after `accept()` failed, which it does again at once when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\n\
    content-length: 94\r\n\
    connection: close\r\n\r\n\
    {\"error\":\"too many connections\",\"hint\":\"close idle ones, or ask again when others have gone\"}\n";

/// Serves until `stop` completes, then closes idle connections and lets answers in flight finish.
/// The caller bounds that by dropping the future, which cuts off whoever is left.
pub async fn serve(
    listener: net::UnixListener,
    hub: Arc<Hub>,
    desk: Arc<Desk>,
    compat: Arc<Compat>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let connections = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(limits.refusals));
    let (stopping, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
    let recording = tokio::spawn(compat::record(Arc::clone(&hub), Arc::clone(&compat)));
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => break,
            Some(ended) = tasks.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::warn!("cannot accept a client: {error}");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Ok(permit) = Arc::clone(&connections).try_acquire_owned() {
            let sources = (Arc::clone(&hub), Arc::clone(&desk), Arc::clone(&compat));
            tasks.spawn(connection(stream, sources, limits, stopped.clone(), permit));
        } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            log::debug!("refused a client: {} are connected", limits.connections);
            tasks.spawn(refuse(stream, permit));
        }
    }
    drop(listener);
    drop(stopping);
    recording.abort();
    compat.end();
    while let Some(ended) = tasks.join_next().await {
        report(ended);
    }
    Ok(())
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        log::error!("an answer failed: {error}");
    }
}

async fn connection(
    stream: UnixStream,
    (hub, desk, compat): (Arc<Hub>, Arc<Desk>, Arc<Compat>),
    limits: Limits,
    mut stopping: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    let peer = stream.peer_cred().ok().map(|peer| peer.uid());
    let service = service_fn(|request| {
        let (hub, desk, compat) = (Arc::clone(&hub), Arc::clone(&desk), Arc::clone(&compat));
        async move {
            let is_compat = compat::is_theirs(request.uri().path());
            if is_compat || route::reads_view(&request) {
                // After a pause. Whoever comes then gets what there is when the sampler is stuck.
                let _ = time::timeout(FRESHENED, hub.freshened()).await;
            }
            if is_compat {
                return Ok(compat::respond(&request, &hub, &compat, peer));
            }
            let response = match route::respond(&request, &hub, limits.stale) {
                Reply::Answer(answer) => answer,
                Reply::Ask(asked) => connections::answer(*asked, &desk, limits.reading).await,
            };
            Ok::<_, std::convert::Infallible>(response.map(BodyExt::boxed_unsync))
        }
    });
    let mut http = http1::Builder::new();
    // A client that says it has no more to send (`nc -N`) still wants its answer.
    http.half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(limits.head_bytes.max(8192))
        .max_headers(MAX_HEADERS);
    let io = TokioIo::new(Stalling::new(stream, limits.stall));
    let mut connection = pin!(http.serve_connection(io, service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("a connection ended early: {error}");
    }
}

/// Waits for the request, because a client that is cut off while it writes sees only that.
async fn refuse(stream: UnixStream, _permit: OwnedSemaphorePermit) {
    let told = async {
        stream.readable().await?;
        let mut request = [0; 4096];
        stream.try_read(&mut request)?;
        stream.writable().await?;
        stream.try_write(TOO_MANY.as_bytes())
    };
    if let Ok(Err(error)) = time::timeout(REFUSAL_PATIENCE, told).await {
        log::debug!("a refused client did not listen: {error}");
    }
}

#[cfg(test)]
mod tests;
