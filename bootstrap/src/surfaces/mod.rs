//! Surfaces: what people, load balancers, monitors and programs see of an agent, over HTTP.
//!
//! The loop posts its view on a [`Board`]; everything shown follows from it by the pure functions of [`state`], so the page,
//! the metrics and the status codes agree. Requests to change something go to the loop and are decided there. Two doors: a
//! Unix socket in the node directory, whose mode is the right to ask for everything, and a TCP address, on loopback or
//! behind TLS, where requests need a token. Documented in `docs/surfaces.md`. Layer: the edge of the agent.

mod admin;
pub(crate) mod board;
mod door;
#[cfg(test)]
pub(crate) mod examples;
mod metrics;
mod page;
mod routes;
pub mod state;
pub mod story;
mod tls;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Sender;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, Runtime};

use crate::agent::view::{Reply, Request};

pub use board::{Board, Reading};
pub use state::{Limits, State};
pub use tls::TlsFiles;

/// What is served, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node directory; commands that the page names begin from it.
    pub directory: PathBuf,
    /// The Unix socket to make. Its directory exists and is closed to others.
    pub socket: PathBuf,
    /// The TCP door, if any.
    pub tcp: Option<Tcp>,
    /// From when on answers are no.
    pub limits: Limits,
}

/// A TCP door.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// Where to listen.
    pub listen: SocketAddr,
    /// The file of the token that requests need; without one they are refused here.
    pub token: Option<PathBuf>,
    /// Certificate and key; required unless `listen` is on loopback.
    pub tls: Option<TlsFiles>,
}

/// Requests on their way to the loop, each with where its reply goes.
pub type Requests = Sender<(Request, Sender<Reply>)>;

/// Why surfaces cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SurfaceError {
    /// The address or the socket cannot be listened on.
    #[error("cannot listen on {place}")]
    Listen {
        /// Which one.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// Others could read what is served, or take it for somebody else's.
    #[error("{listen} is not a loopback address, and what is served there needs TLS")]
    Plain {
        /// The address.
        listen: SocketAddr,
    },
    /// The certificate or its key cannot be used.
    #[error("{} cannot be used for TLS: {why}", .file.display())]
    Tls {
        /// Which file.
        file: PathBuf,
        /// What was expected and found.
        why: String,
    },
    /// The token cannot be used.
    #[error("{} cannot be used as token: {why}", .file.display())]
    Token {
        /// The file.
        file: PathBuf,
        /// What was expected and found.
        why: String,
    },
    /// Threads cannot be started.
    #[error("cannot start the threads that serve")]
    Threads(#[source] io::Error),
}

/// The surfaces of a running agent. They end when this is dropped.
#[derive(Debug)]
pub struct Surfaces {
    runtime: Option<Runtime>,
    socket: PathBuf,
    tcp: Option<SocketAddr>,
}

impl Surfaces {
    /// Opens the doors and serves what is on the board.
    ///
    /// # Errors
    /// [`SurfaceError`]; then nothing is served.
    pub fn start(config: Config, board: Arc<Board>, requests: Requests) -> Result<Self, SurfaceError> {
        // Everything that can be wrong with the configuration is found before the first door opens.
        let tls = match &config.tcp {
            Some(Tcp { listen, tls: None, .. }) if !listen.ip().is_loopback() => {
                return Err(SurfaceError::Plain { listen: *listen });
            }
            Some(Tcp { tls: Some(files), .. }) => Some(tls::Acceptor::open(files.clone())?),
            _ => None,
        };
        if let Some(token) = config.tcp.as_ref().and_then(|tcp| tcp.token.as_ref()) {
            admin::read_token(token)?;
        }
        let runtime = (Builder::new_multi_thread().worker_threads(1).max_blocking_threads(16))
            .thread_name("surfaces")
            .enable_all()
            .build()
            .map_err(SurfaceError::Threads)?;
        let (door, tcp) = {
            let _within = runtime.enter();
            let unix = listen_unix(&config.socket)?;
            let tcp = config.tcp.as_ref().map(|tcp| listen_tcp(tcp.listen)).transpose()?;
            let bound = tcp.as_ref().and_then(|tcp| tcp.local_addr().ok());
            (door::Door::open(unix, tcp, tls), bound)
        };
        let socket = config.socket.clone();
        let routes = routes::routes(config, board, requests);
        runtime.spawn(async move {
            // It ends only with the runtime: the doors never fail as a whole.
            let _ = axum::serve(door, routes.into_make_service_with_connect_info::<door::Peer>()).await;
        });
        Ok(Self { runtime: Some(runtime), socket, tcp })
    }

    /// The TCP address that is served, with the port that was chosen where none was given.
    pub fn tcp(&self) -> Option<SocketAddr> {
        self.tcp
    }
}

impl Drop for Surfaces {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        // A socket that is left behind answers nobody; the next agent replaces it.
        let _ = fs::remove_file(&self.socket);
    }
}

fn listen_unix(socket: &Path) -> Result<UnixListener, SurfaceError> {
    let listen = || {
        // The agent's lock says that no other agent listens here; what is left is of one that was killed.
        match fs::symlink_metadata(socket) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(socket)?,
            Ok(_) => return Err(io::Error::other("something that is no socket is in its place")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&*short_path(socket)?)?;
        // The directory is closed to others, so nobody came in between.
        fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    listen().map_err(|source| SurfaceError::Listen { place: socket.display().to_string(), source })
}

fn listen_tcp(listen: SocketAddr) -> Result<TcpListener, SurfaceError> {
    let bind = || {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    bind().map_err(|source| SurfaceError::Listen { place: listen.to_string(), source })
}

/// A path to a socket that fits into a socket address, whose paths end at 107 bytes.
#[derive(Debug)]
pub(crate) struct ShortPath {
    path: PathBuf,
    _directory: Option<fs::File>,
}

impl AsRef<Path> for ShortPath {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl std::ops::Deref for ShortPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

/// The path by which a socket can be bound and reached however deep it lies.
///
/// # Errors
/// When its directory cannot be opened.
pub(crate) fn short_path(socket: &Path) -> io::Result<ShortPath> {
    const PATH_CAP: usize = 107;
    let directory = socket.parent().zip(socket.file_name());
    match directory {
        Some((directory, name)) if socket.as_os_str().len() > PATH_CAP => {
            let directory = fs::File::open(directory)?;
            let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
            Ok(ShortPath { path, _directory: Some(directory) })
        }
        _ => Ok(ShortPath { path: socket.to_owned(), _directory: None }),
    }
}
