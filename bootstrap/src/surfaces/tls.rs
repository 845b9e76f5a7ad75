//! TLS for the TCP door: a certificate and its key, read again when their files change.
//!
//! Certificates are renewed while agents run for months. When new files cannot be used, the old ones go on serving, which
//! a monitor sees by the certificate's end. Layer: the edge.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::SurfaceError;

/// The longest certificate chain or key in bytes.
const PEM_CAP: u64 = 1 << 20;
/// How often the files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The files of a certificate, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, and those between it and a root.
    pub certificate: PathBuf,
    /// Its private key, which others must not be able to read.
    pub key: PathBuf,
}

/// Makes connections into encrypted ones.
pub(super) struct Acceptor {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    seen: Seen,
    looked: Instant,
}

/// By which a change of the files is noticed.
type Seen = Option<[(u64, i64, i64, u64); 2]>;

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// [`SurfaceError::Tls`] when one cannot be used.
    pub(super) fn open(files: TlsFiles) -> Result<Self, SurfaceError> {
        let seen = seen(&files);
        let current = Mutex::new(Current { acceptor: read(&files)?, seen, looked: Instant::now() });
        Ok(Self { files, current })
    }

    /// The encrypted connection after its handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let acceptor = self.current();
        acceptor.accept(stream).await
    }

    fn current(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= LOOK_EVERY {
            current.looked = Instant::now();
            let seen = seen(&self.files);
            // Certificate and key are two files: between their renewals they do not fit, and the next look finds the pair.
            if seen != current.seen
                && let Ok(acceptor) = read(&self.files)
            {
                current.acceptor = acceptor;
                current.seen = seen;
            }
        }
        current.acceptor.clone()
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("files", &self.files).finish_non_exhaustive()
    }
}

fn seen(files: &TlsFiles) -> Seen {
    let of = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
    };
    Some([of(&files.certificate)?, of(&files.key)?])
}

fn read(files: &TlsFiles) -> Result<TlsAcceptor, SurfaceError> {
    let bad = |file: &Path, why: String| SurfaceError::Tls { file: file.to_owned(), why };
    let pem = |file: &Path| read_bounded(file).map_err(|error| bad(file, error.to_string()));

    let chain = CertificateDer::pem_slice_iter(&pem(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| bad(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(bad(&files.certificate, "expected certificates in PEM, found none".to_owned()));
    }
    let mode = fs::metadata(&files.key).map_err(|error| bad(&files.key, error.to_string()))?.mode();
    if mode & 0o007 != 0 {
        return Err(bad(&files.key, format!("others may use it (mode {:o}); chmod o= it", mode & 0o777)));
    }
    let key = PrivateKeyDer::from_pem_slice(&pem(&files.key)?)
        .map_err(|_| bad(&files.key, "expected a private key in PEM, found none".to_owned()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| bad(&files.certificate, format!("it does not go with {}: {error}", files.key.display())))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read_bounded(file: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(file)?.take(PEM_CAP + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > PEM_CAP {
        return Err(io::Error::other("more than 1 MiB"));
    }
    Ok(bytes)
}
