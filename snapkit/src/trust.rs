//! Trust: which root a reader believes in, and what it has verified before.
//!
//! There is no trust on first use: the pin comes from the bootstrap string or from the trust directory, never from
//! the store. Roots are kept step by step as they are verified, and the mark of the newest verified head only rises.
//! A refusal changes nothing here. Documented in `docs/format/root.md` and `docs/trust.md`.
//! Layer: local files (`directory`, `file`) and the roots of a store (`roots`); it knows no record but the head's mark.
//! Source: TUF client workflow, section 5.3 (update the root role).

mod bootstrap;
pub mod clock;
mod directory;
pub(crate) mod file;
mod kept;
mod roots;

use std::io;
use std::path::{Path, PathBuf};

use manifests::refusal::Refusal;

use crate::keyfile::KeyFileError;
use crate::store::StoreError;

pub use bootstrap::{Bootstrap, Location, Minimum, NotABootstrap, Pin};
pub use directory::{Mark, Pending, TrustDir};
pub use kept::{Judge, MarksLock};
pub use roots::{
    Roots, claimed_root, known_root, newest_root, newest_root_even_expired, newest_root_of_any_age, pin_for,
};

/// Why trust could not be established. Neither the store nor the trust directory was changed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Something is not to be believed. Asking again does not help.
    #[error("the store is not trusted")]
    Refused(#[source] Box<Refusal>),
    /// The store could not be asked.
    #[error("cannot read the trust root from the store")]
    Store(#[source] StoreError),
    /// A local file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A local file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A local file is not what snapkit wrote there.
    #[error("{} is damaged: {why}; bring it back from a backup", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A signing key cannot be used.
    #[error("cannot use a signing key")]
    Key(#[source] KeyFileError),
}

impl From<Refusal> for TrustError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl TrustError {
    /// The refusal, if this is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Key(KeyFileError::Refused(refusal)) => Some(refusal),
            _ => None,
        }
    }
}

/// Makes the directory of a key file that is to be written.
///
/// # Errors
/// [`TrustError::Write`].
pub fn make_key_directory(key: &Path) -> Result<(), TrustError> {
    let directory = key.parent().unwrap_or(key);
    file::make_directory(directory).map_err(|source| TrustError::Write { path: directory.to_owned(), source })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tuf_tests;
