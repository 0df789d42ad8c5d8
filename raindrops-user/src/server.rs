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
mod crowd;
mod history;
mod path;
mod peer;
mod route;
mod stall;
mod stream;
pub mod tcp;
mod unread;

pub use self::{answer::AGE_MS, history::Archive};

use std::{
    convert::Infallible, fmt, future::Future, io, os::unix::net, pin::pin, sync::Arc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Either, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time,
};

use self::{
    answer::Answer,
    compat::Compat,
    crowd::{Crowd, Place},
    peer::Peer,
    route::Reply,
    stall::Stalling,
};
use crate::publish::{Hub, STALE};

/// Where connections are asked for; what it tells is rendered.
pub type Desk = crate::connections::Desk<Answer>;

/// What answers are made of.
pub struct Sources {
    pub hub: Arc<Hub>,
    pub desk: Desk,
    pub archive: Archive,
    /// Has the sampler forget peaks, before its next view.
    pub forget_peaks: Box<dyn Fn() + Send + Sync>,
    /// What is kept for older clients.
    pub compat: Compat,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What a client may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time. For one more an idle one is closed; where all are in use, it is
    /// told so and closed.
    pub connections: usize,
    /// Connections at one time that are being told that there are too many.
    pub refusals: usize,
    /// For a request's head to arrive, and for an idle connection to send its next request.
    pub header: Duration,
    /// For a client to take an answer, or a line of a stream, from when it first makes the server wait.
    pub stall: Duration,
    /// Bytes of answers that clients have not taken. Where there are more, those with the oldest go.
    pub unread_bytes: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Age of the view from which on the sampler counts as stuck.
    pub stale: Duration,
    /// For connections to be read, and for the past to be told.
    pub reading: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000,
            refusals: 64,
            header: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            unread_bytes: 64 << 20,
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
    sources: Arc<Sources>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let crowd = Crowd::new(limits);
    let refusals = Arc::new(Semaphore::new(limits.refusals));
    let (stopping, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
    let recording = tokio::spawn(compat::record(Arc::clone(&sources)));
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
        let peer = Peer::of(&stream);
        if let Some(place) = crowd.enter(peer) {
            let sources = Arc::clone(&sources);
            let stopped = stopped.clone();
            tasks.spawn(connection(stream, peer, sources, limits, stopped, place));
        } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            log::debug!("refused a client: {} are connected", limits.connections);
            tasks.spawn(refuse(stream, permit));
        }
    }
    drop(listener);
    drop(stopping);
    recording.abort();
    sources.compat.end();
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
    peer: Peer,
    sources: Arc<Sources>,
    limits: Limits,
    stopping: watch::Receiver<()>,
    place: Place,
) {
    let place = &Arc::new(place);
    let streams_stop = stopping.clone();
    let service = service_fn(|request| {
        let (sources, stopping) = (Arc::clone(&sources), streams_stop.clone());
        async move {
            place.is_used();
            let made = respond(&request, peer, &sources, limits, stopping, place).await;
            Ok::<_, Infallible>(made.map(|made| match made {
                Either::Left(whole) => Either::Left(Full::new(place.answer(whole))),
                Either::Right(lines) => Either::Right(lines),
            }))
        }
    });
    drive(stream, service, place, limits, stopping).await;
}

/// Serves one client to its end, within the limits.
async fn drive<S, H>(
    stream: S,
    service: H,
    place: &Place,
    limits: Limits,
    mut stopping: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    H: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
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
        biased;
        ended = &mut connection => ended,
        () = place.wanted() => {
            log::debug!("a connection is closed that is idle or does not read, for another");
            return;
        }
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        log::debug!("a connection ended early: {error}");
    }
}

/// An answer, or one that does not end by itself.
type Made = Either<Bytes, Lines>;
type Lines = UnsyncBoxBody<Bytes, io::Error>;
/// That, in the client's hands.
type Body = Either<Full<Bytes>, Lines>;

async fn respond<B>(
    request: &Request<B>,
    peer: Peer,
    sources: &Sources,
    limits: Limits,
    stopping: watch::Receiver<()>,
    place: &Arc<Place>,
) -> Response<Made> {
    let Sources {
        hub,
        desk,
        archive,
        forget_peaks,
        compat,
    } = sources;
    let is_compat = compat::is_theirs(request.uri().path());
    if is_compat || route::reads_view(request) {
        // After a pause. Whoever comes then gets what there is when the sampler is stuck.
        let _ = time::timeout(FRESHENED, hub.freshened()).await;
    }
    if is_compat {
        return compat::respond(request, hub, compat, peer);
    }
    let answer = match route::respond(request, hub, peer, limits.stale) {
        Reply::Answer(answer) => answer,
        Reply::Ask(asked) => connections::answer(*asked, desk, limits.reading).await,
        Reply::History(wish) => archive.answer(wish, limits.reading).await,
        Reply::Reset => {
            forget_peaks();
            forgotten(time::timeout(limits.reading, hub.renewed()).await.is_ok())
        }
        Reply::Stream(wish) => {
            let place = Arc::clone(place);
            let lines = stream::lines(Arc::clone(hub), wish, limits.stall, stopping, place);
            return answer::lines().map(|()| Either::Right(lines.boxed_unsync()));
        }
    };
    answer.map(Either::Left)
}

/// Peaks are forgotten; the next view shows it.
fn forgotten(is_shown: bool) -> Answer {
    if is_shown {
        return answer::ok(
            answer::JSON,
            Bytes::from_static(b"{\"forgotten\":\"peaks\"}\n"),
        );
    }
    answer::error(
        StatusCode::SERVICE_UNAVAILABLE,
        "the sampler did not make a view without the old peaks in time",
        "look at the daemon's log, and whether the host thrashes",
    )
}

/// Waits for the request, because a client that is cut off while it writes sees only that.
async fn refuse(mut stream: impl AsyncRead + AsyncWrite + Unpin, _permit: OwnedSemaphorePermit) {
    let told = async {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream.write_all(TOO_MANY.as_bytes()).await
    };
    if let Ok(Err(error)) = time::timeout(REFUSAL_PATIENCE, told).await {
        log::debug!("a refused client did not listen: {error}");
    }
}

#[cfg(test)]
mod tests;
