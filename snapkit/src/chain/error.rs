//! Why a chain could not be read or continued.

use std::path::PathBuf;

use manifests::refusal::Refusal;

use crate::leadership::LeadershipError;
use crate::store::StoreError;
use crate::trust::TrustError;

/// Why a chain could not be read or continued.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// Something is not to be believed, or needs a newer snapkit. Asking again does not help.
    #[error("the chain is refused")]
    Refused(#[source] Box<Refusal>),
    /// The roots or the trust directory stop the run.
    #[error("cannot trust the chain")]
    Trust(#[source] TrustError),
    /// The store could not be asked, or certainly did not write.
    #[error("cannot use the chain in the store")]
    Store(#[source] StoreError),
    /// The store gave no clear answer to the commit, so the record may be there or not. Run again: the next run sees.
    #[error("whether record {seq} was committed is unknown; run again to see")]
    Unknown {
        /// The slot.
        seq: u64,
        /// The last answer.
        source: StoreError,
    },
    /// The chain was continued in two ways by keys that may; both sides were written down.
    #[error(
        "the chain is split; the proof is in {0}: check it with `snapkit verify --fork-proof {0}`, and send it to the \
         owner of the root",
        .file.display()
    )]
    Split {
        /// The fork proof.
        file: PathBuf,
        /// How they contradict each other.
        source: Box<Refusal>,
    },
    /// Whether this writer leads could not be told, so it may not write.
    #[error("cannot tell whether this node leads")]
    Leadership(#[source] LeadershipError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

impl From<Refusal> for ChainError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<TrustError> for ChainError {
    fn from(error: TrustError) -> Self {
        Self::Trust(error)
    }
}

impl From<StoreError> for ChainError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ChainError {
    /// The refusal, if this is one.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) | Self::Split { source: refusal, .. } => Some(refusal),
            Self::Trust(error) => error.refusal(),
            _ => None,
        }
    }
}
