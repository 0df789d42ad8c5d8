//! HTTP/1.1 over a Unix stream socket: what clients see of the [`Hub`].
//!
//! It answers from the latest view: no request waits for the kernel, for a worker or for another
//! client, and only the first after a pause a moment for the sampler. Connections alone are read when
//! they are asked for, elsewhere ([`Desk`]). Whatever a client sends or fails to send, the rest goes
//! on.

mod accept;
mod answer;
mod attended;
pub mod claim;
pub mod compat;
mod connections;
mod crowd;
mod document;
mod history;
mod path;
mod peer;
mod route;
mod stream;
pub mod tcp;
mod unread;

pub use self::{answer::AGE_MS, history::Archive};

use std::{
    convert::Infallible, fmt, future::Future, io, os::unix::net, pin::pin, sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use http_body_util::{BodyExt as _, Either, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    time,
};

use self::{
    answer::Answer,
    attended::{Attended, Socket},
    compat::Compat,
    crowd::Place,
    peer::Peer,
    route::Reply,
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
/// How long the first request after a pause waits for a view of its own.
const FRESHENED: Duration = Duration::from_millis(20);
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
    let recording = tokio::spawn(compat::record(Arc::clone(&sources)));
    let stop = async {
        stop.await;
        recording.abort();
        sources.compat.end();
    };
    let client = |stream, peer, place, stopping| {
        connection(stream, peer, Arc::clone(&sources), limits, stopping, place)
    };
    accept::clients(listener, limits, stop, client).await;
    Ok(())
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
    S: Socket,
    H: HttpService<Incoming, ResBody = Body, Error = Infallible>,
{
    let mut http = http1::Builder::new();
    // A client that says it has no more to send (`nc -N`) still wants its answer.
    http.half_close(true)
        // Who compares names letter by letter finds those that Rack and puma write.
        .title_case_headers(true)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(limits.head_bytes.max(8192))
        .max_headers(MAX_HEADERS);
    let io = TokioIo::new(Attended::new(stream, limits.stall));
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

/// Lines that are made one after another, each when there is room for it.
fn lines<S, F>(source: S, next: impl Fn(S) -> F + Send + 'static) -> Lines
where
    S: Send + 'static,
    F: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let lines = futures_util::stream::unfold(source, next).map(|line| Ok(Frame::data(line)));
    StreamBody::new(lines).boxed_unsync()
}

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
        return compat::respond(request, hub, compat, peer, limits.stale);
    }
    let answer = match route::respond(request, hub, peer, limits.stale) {
        Reply::Answer(answer) => answer,
        Reply::Document(form, latest) => document::answer(form, latest, hub, limits.stale).await,
        Reply::Ask(asked) => connections::answer(*asked, desk, limits.reading).await,
        Reply::History(which, published) => archive.answer(which, published, limits.reading).await,
        Reply::Reset => {
            forget_peaks();
            forgotten(time::timeout(limits.reading, hub.renewed()).await.is_ok())
        }
        Reply::Stream(wish) => {
            let place = Arc::clone(place);
            let views = stream::Views::new(Arc::clone(hub), wish, stopping, place);
            return answer::lines().map(|()| Either::Right(lines(views, stream::Views::next)));
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

#[cfg(test)]
mod tests;
