//! Clients as they come, over whatever they come, each in a task of its own.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
    time,
};

use super::{
    Limits,
    attended::Socket,
    crowd::{Crowd, Place},
    peer::Peer,
};

/// How long a refused client may take to send its request.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// Pause after `accept()` failed, which it does again at once when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_MANY: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 94\r\n\
    Connection: close\r\n\r\n\
    {\"error\":\"too many connections\",\"hint\":\"close idle ones, or ask again when others have gone\"}\n";

/// Where clients come from.
pub trait Listener {
    type Stream: Socket;

    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Peer)>> + Send;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<(UnixStream, Peer)> {
        let (stream, _) = self.accept().await?;
        let peer = Peer::of(&stream);
        Ok((stream, peer))
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, _) = self.accept().await?;
        Ok((stream, Peer::UNKNOWN))
    }
}

/// Serves clients until `stop` completes, then tells those that are served, and waits until they have
/// gone.
pub async fn clients<L, C>(
    listener: L,
    limits: Limits,
    stop: impl Future<Output = ()>,
    client: impl Fn(L::Stream, Peer, Place, watch::Receiver<()>) -> C,
) where
    L: Listener,
    C: Future<Output = ()> + Send + 'static,
{
    let crowd = Crowd::new(limits);
    let refusals = Arc::new(Semaphore::new(limits.refusals));
    let (stopping, stopped) = watch::channel(());
    let mut tasks = JoinSet::new();
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
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("cannot accept a client: {error}");
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Some(place) = crowd.enter(peer) {
            tasks.spawn(client(stream, peer, place, stopped.clone()));
        } else if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
            log::debug!("refused a client: {} are connected", limits.connections);
            tasks.spawn(refuse(stream, permit));
        }
    }
    drop(listener);
    drop(stopping);
    while let Some(ended) = tasks.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        log::error!("an answer failed: {error}");
    }
}

/// Waits for the request, because a client that is cut off while it writes sees only that.
async fn refuse(mut stream: impl Socket, _permit: OwnedSemaphorePermit) {
    let told = async {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await?;
        stream.write_all(TOO_MANY.as_bytes()).await
    };
    if let Ok(Err(error)) = time::timeout(REFUSAL_PATIENCE, told).await {
        log::debug!("a refused client did not listen: {error}");
    }
}
