//! Manifests: reading them by the client workflow, and issuing them.
//!
//! A manifest is found in a `place`, followed from the pin of the root to the records of the chain by `workflow`, and
//! made by [`issue`], with pins that [`plan`] makes from the configuration. Nothing of what a refused manifest says is
//! kept. Documented in `docs/manifest.md` and `docs/format/manifest.md`.
//! Layer: joins `store`, `trust` and `chain` with `manifests`.
//! Source: TUF specification 1.0, section 5 (detailed client workflow).

mod issue;
mod need;
mod place;
mod plan;
mod publish;
mod workflow;

use std::io;
use std::path::PathBuf;

use manifests::refusal::{Class, Refusal};

use crate::chain::ChainError;
use crate::fetch::FetchError;
use crate::store::{OpenError, StoreError};
use crate::trust::TrustError;

pub use issue::{Issued, Order, check_order, issue};
pub use need::{Surroundings, missing_needs};
pub use place::{Located, Place, Stores, locate};
pub use plan::{Planned, plan};
pub use publish::{Published, publish, published_version, write_file};
pub use workflow::{Expiry, Followed, follow, newest_facts};

/// The key of the newest manifest of a name.
pub fn newest_key(name: &str) -> String {
    format!("manifests/{name}.json")
}

/// The key of one version of a manifest.
pub fn version_key(name: &str, version: u64) -> String {
    format!("manifests/{name}/{version}.json")
}

/// Why a manifest could not be read, judged or issued. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Something is not to be believed. Asking again does not help.
    #[error("the manifest is refused")]
    Refused(#[source] Box<Refusal>),
    /// The roots or the trust directory stop the run.
    #[error("cannot trust the manifest")]
    Trust(#[source] TrustError),
    /// The chain stops the run.
    #[error("cannot judge the manifest by its chain")]
    Chain(#[source] ChainError),
    /// The store could not be asked or written.
    #[error("cannot use the store of the manifest")]
    Store(#[source] StoreError),
    /// The address is none, or nothing is there.
    #[error("cannot open the place of the manifest")]
    Open(#[source] OpenError),
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
    /// A snapshot cannot be read.
    #[error("cannot look into the snapshot")]
    Fetch(#[source] FetchError),
    /// The manifest would promise what does not hold.
    #[error("no manifest is issued: {why}")]
    Unfit {
        /// What does not hold.
        why: String,
        /// What to do about it.
        next: String,
    },
    /// No store is known in which the chain of a manifest file could be read.
    #[error("no store is known for {0}")]
    NoStore(String),
    /// Another run issued a version at the same time.
    #[error("version {version} of the manifest {name} was issued by another run meanwhile; run again")]
    Lost {
        /// The manifest.
        name: String,
        /// The version that was taken.
        version: u64,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

impl From<Refusal> for ManifestError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<TrustError> for ManifestError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl From<ChainError> for ManifestError {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

impl From<StoreError> for ManifestError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<OpenError> for ManifestError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<FetchError> for ManifestError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl ManifestError {
    /// The class, if this is a refusal of something that was read.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Refused(refusal) => Some(refusal.class()),
            Self::Trust(error) => error.refusal().map(Refusal::class),
            Self::Chain(error) => error.refusal().map(Refusal::class),
            Self::Fetch(error) => error.class(),
            Self::Store(StoreError::Missing { .. }) => Some(Class::Missing),
            Self::Store(StoreError::TooBig { .. }) => Some(Class::TooBig),
            Self::Store(StoreError::Slow { .. }) => Some(Class::Slow),
            _ => None,
        }
    }

    /// What to do about it, where the error itself knows.
    pub fn next(&self) -> Option<String> {
        match self {
            Self::Unfit { next, .. } => Some(next.clone()),
            Self::NoStore(_) => {
                Some("name the store with --store, or put `store = \"…#root=sha256:…\"` into snapkit.toml".to_owned())
            }
            _ => None,
        }
    }
}
