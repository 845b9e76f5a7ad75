//! What an error of the `object_store` crate means for the caller of a store.
//!
//! The crate keeps its type for failed requests private, so the HTTP status is read from its message; the tests in
//! `tests/store_protocol.rs` hold every case against a scripted server. Layer: part of `store`.

use std::error::Error;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};

use super::error::Source;
use super::pace::TooSlow;
use super::{Created, StoreError};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write,
    Create,
    Delete,
    List,
}

impl Action {
    fn verb(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }
}

/// Which kind of store said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Memory,
    S3,
    Gcs,
    Azure,
    Web,
}

/// Builds errors about one action on one key.
#[derive(Clone, Copy)]
pub(super) struct Translate<'a> {
    pub(super) store: &'a str,
    pub(super) kind: Kind,
    pub(super) action: Action,
    pub(super) key: &'a str,
}

impl Translate<'_> {
    fn names(&self) -> (String, String) {
        (self.key.to_owned(), self.store.to_owned())
    }

    pub(super) fn missing(&self) -> StoreError {
        let (key, store) = self.names();
        StoreError::Missing { key, store }
    }

    pub(super) fn too_big(&self, cap_bytes: u64) -> StoreError {
        let (key, store) = self.names();
        StoreError::TooBig { key, store, cap_bytes }
    }

    pub(super) fn short(&self, wanted_end: u64) -> StoreError {
        let (key, store) = self.names();
        StoreError::Short { key, store, wanted_end }
    }

    pub(super) fn denied(&self, source: Source) -> StoreError {
        let (key, store) = self.names();
        StoreError::Denied { key, store, source }
    }

    pub(super) fn unsupported(&self, what: &str) -> StoreError {
        let (key, store) = self.names();
        StoreError::Unsupported { key, store, what: what.to_owned() }
    }

    pub(super) fn slow(&self, slow: &TooSlow) -> StoreError {
        let (key, store) = self.names();
        StoreError::Slow { key, store, moved_bytes: slow.moved_bytes, seconds: slow.seconds }
    }

    pub(super) fn other(&self, source: Source) -> StoreError {
        self.with_advice("", false, source)
    }

    /// The connection or the server failed; the object need not be at fault.
    pub(super) fn transient(&self, source: Source) -> StoreError {
        self.with_advice("; retry", true, source)
    }

    /// A transfer ended in the middle.
    pub(super) fn broken_off(&self, source: Source) -> StoreError {
        self.with_advice(", the transfer broke off; retry", true, source)
    }

    fn with_advice(&self, advice: &'static str, retry: bool, source: Source) -> StoreError {
        let (key, store) = self.names();
        StoreError::Other { action: self.action.verb(), key, store, advice, retry, source }
    }

    /// An error of the operating system in a directory store.
    pub(super) fn io(&self, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::PermissionDenied if error.raw_os_error() == Some(EPERM) && self.action == Action::Create => {
                self.unsupported(
                    "create files by hard link there: its file system has none, or the directory is immutable",
                )
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => self.denied(error.into()),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.with_advice("; free some space there, then run it again", false, error.into())
            }
            io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                self.with_advice("; something else is in its place, move it away", false, error.into())
            }
            _ => self.with_advice("; check the disk", false, error.into()),
        }
    }

    /// Any error of the crate below.
    pub(super) fn error(&self, error: object_store::Error) -> StoreError {
        use object_store::Error as E;
        match error {
            E::NotFound { source, .. } => match self.action {
                Action::Read | Action::Delete => self.missing(),
                _ => self.with_advice("; the bucket or directory does not exist, create it first", false, source),
            },
            E::PermissionDenied { source, .. } | E::Unauthenticated { source, .. } => self.denied(source),
            E::NotImplemented { .. } | E::NotSupported { .. } => self.unsupported(self.action.verb()),
            error if self.kind == Kind::Directory => match find::<io::Error>(&error) {
                Some(cause) => self.io(copy_of(cause)),
                None => self.other(error.into()),
            },
            error => self.request_failed(error),
        }
    }

    fn request_failed(&self, error: object_store::Error) -> StoreError {
        match status(&error) {
            Some(401 | 403) => self.denied(error.into()),
            Some(404) if matches!(self.action, Action::Read | Action::Delete) => self.missing(),
            // The range starts beyond the end; the caller knows which.
            Some(416) => self.short(0),
            Some(408 | 429 | 500..) => self.transient(error.into()),
            Some(_) => self.other(error.into()),
            None if says(&error, "Wanted range starting at") => self.short(0),
            None if says(&error, "non-partial response") => self.unsupported("serve a part of an object"),
            None => match find::<HttpError>(&error).map(HttpError::kind) {
                Some(HttpErrorKind::Decode) | None => self.other(error.into()),
                Some(_) => self.transient(error.into()),
            },
        }
    }

    /// What an error says about an object that was to be created.
    ///
    /// Azure refuses an existing name with 409 and a code of its own; elsewhere 409 means "try again": S3 gives it
    /// while another request on the key is under way, and then nobody may have won yet.
    pub(super) fn not_created(&self, error: object_store::Error) -> Result<Created, StoreError> {
        use object_store::Error as E;
        let refused = matches!(error, E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. });
        let is_local = matches!(self.kind, Kind::Directory | Kind::Memory);
        if refused && is_local {
            return Ok(Created::Exists);
        }
        match status(&error) {
            Some(304 | 412) => Ok(Created::Exists),
            Some(409) if self.kind == Kind::Azure && says(&error, "BlobAlreadyExists") => Ok(Created::Exists),
            Some(408 | 409 | 429) => Ok(Created::Unknown(self.transient(error.into()))),
            Some(400..=499) => Err(self.error(error)),
            None if is_local => match self.error(error) {
                error @ (StoreError::Denied { .. } | StoreError::Unsupported { .. }) => Err(error),
                error => Ok(Created::Unknown(error)),
            },
            None if matches!(error, E::NotImplemented { .. } | E::NotSupported { .. }) => Err(self.error(error)),
            _ => Ok(Created::Unknown(self.transient(error.into()))),
        }
    }
}

/// `EPERM` on Linux and macOS: what `link` gives where a file system has no hard links.
const EPERM: i32 = 1;

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

fn find<T: Error + 'static>(error: &object_store::Error) -> Option<&T> {
    causes(error).find_map(|cause| cause.downcast_ref::<T>())
}

fn says(error: &object_store::Error, words: &str) -> bool {
    causes(error).any(|cause| cause.to_string().contains(words))
}

/// The HTTP status that the request ended with, if it got one.
fn status(error: &object_store::Error) -> Option<u16> {
    let text = error.to_string();
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
