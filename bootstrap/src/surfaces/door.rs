//! The doors: connections over the Unix socket, TCP, or TLS, as one stream of them.
//!
//! A connection serves one request and lives for a few seconds at most, and there is a limit of open ones for each door, so
//! slow or many clients cost nothing else, and the Unix socket stays open to the operator whatever happens on TCP.
//! Layer: the edge.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

use super::tls;

/// How long one connection may live, from the first byte of a handshake to the last of the answer. A request waits for
/// the loop for less than this.
const CONNECTION_LIFE: Duration = Duration::from_secs(20);
/// Open connections of each door.
const CONNECTIONS_CAP: usize = 64;
/// How long accepting rests when it fails, as it does without free file descriptors.
const REST: Duration = Duration::from_millis(200);

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    /// A user of this machine, who may open the socket.
    Local {
        /// The user; `None` where the system does not say.
        uid: Option<u32>,
    },
    /// Somebody at an address.
    Remote(IpAddr),
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        *stream.remote_addr()
    }
}

/// All doors.
#[derive(Debug)]
pub(super) struct Door {
    opened: mpsc::Receiver<(Connection, Peer)>,
}

impl Door {
    /// Starts to accept; the runtime must have been entered.
    pub(super) fn open(unix: UnixListener, tcp: Option<TcpListener>, tls: Option<tls::Acceptor>) -> Self {
        let (opening, opened) = mpsc::channel(CONNECTIONS_CAP);
        tokio::spawn(accept_unix(unix, opening.clone()));
        if let Some(tcp) = tcp {
            tokio::spawn(accept_tcp(tcp, tls.map(Arc::new), opening));
        }
        Self { opened }
    }
}

impl Listener for Door {
    type Io = Connection;
    type Addr = Peer;

    async fn accept(&mut self) -> (Connection, Peer) {
        match self.opened.recv().await {
            Some(opened) => opened,
            // The accepting tasks live as long as the runtime: it is ending.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Peer> {
        Ok(Peer::Remote(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }
}

async fn accept_unix(listener: UnixListener, opening: mpsc::Sender<(Connection, Peer)>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_CAP));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = Peer::Local { uid: stream.peer_cred().ok().map(|peer| peer.uid()) };
                let until = Instant::now() + CONNECTION_LIFE;
                if opening.send((Connection::new(Box::new(stream), until, place), peer)).await.is_err() {
                    return;
                }
            }
            Err(_) => sleep(REST).await,
        }
    }
}

async fn accept_tcp(listener: TcpListener, tls: Option<Arc<tls::Acceptor>>, opening: mpsc::Sender<(Connection, Peer)>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_CAP));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, address): (_, SocketAddr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                sleep(REST).await;
                continue;
            }
        };
        let until = Instant::now() + CONNECTION_LIFE;
        let (tls, opening) = (tls.clone(), opening.clone());
        // A handshake waits for the client, and nobody else waits for it.
        tokio::spawn(async move {
            let stream: Box<dyn Stream> = match tls {
                None => Box::new(stream),
                Some(tls) => match timeout_at(until, tls.accept(stream)).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(_)) | Err(_) => return,
                },
            };
            // Canonical, so that one client has one count of failures.
            let peer = Peer::Remote(address.ip().to_canonical());
            // When this fails the runtime is ending.
            let _ = opening.send((Connection::new(stream, until, place), peer)).await;
        });
    }
}

/// What a connection is made of.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One connection, with its place among the open ones, until its time is over.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    over: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: Box<dyn Stream>, until: Instant, place: OwnedSemaphorePermit) -> Self {
        Self { stream, over: Box::pin(sleep_until(until)), _place: place }
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_over(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_over(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(context)?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }
}
