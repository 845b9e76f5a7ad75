//! Restoring: a verified snapshot back into directories, proved before it appears.
//!
//! plan (only reads) -> stage (a private directory beside the target) -> prove (from the file system) -> one rename.
//! Whatever goes wrong before the rename leaves the target as it was; what was staged by then serves the next run.
//! Layer: operations; joins a store with the file system.

mod adapt;
mod apply;
mod compare;
mod directories;
mod find;
mod frames;
mod in_place;
mod links;
mod mount;
mod order;
mod place;
mod plan;
mod prove;
mod reuse;
mod spool;
mod stage;
mod staging;
mod target;

pub use crate::config::Proof;
pub use adapt::{Adapted, Owners};
pub use apply::apply;
pub use in_place::{Changed, InPlace, Update, preview};
pub use plan::{Plan, Selection, plan};
pub use reuse::likely_bytes;
pub use spool::PlannedTree;
pub use staging::Chosen;
pub(crate) use staging::{PREFIX as STAGING_PREFIX, make_removable};
pub use target::{Destination, available_bytes, interrupted, interrupted_in};

use std::io;
use std::path::PathBuf;

use manifests::refusal::Class;

use crate::fetch::FetchError;
use crate::id::ContentHash;
use crate::scan::walk::WalkError;

/// How a restore is done.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who owns what is restored.
    pub owners: Owners,
    /// Restore fifos and devices too.
    pub devices: bool,
    /// How the result is proved.
    pub proof: Proof,
    /// Most frames fetched at once.
    pub fetchers: usize,
    /// Directories that are likely to hold the same files, laid out as the target.
    pub seeds: Vec<PathBuf>,
}

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Paths of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Bytes fetched from packs.
    pub fetched_bytes: u64,
    /// Bytes of files that were in place after an interrupted run, or in a seed.
    pub reused_bytes: u64,
}

/// Why a restore stopped. The target is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot cannot be read as it was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The trees do not have the digests that the record states.
    #[error("the tree {tree} does not have the {which} digest its record states: {found}, expected {expected}")]
    TreeDigest {
        /// The tree.
        tree: String,
        /// `content` or `full`.
        which: &'static str,
        /// What the record says.
        expected: ContentHash,
        /// What the entries come to.
        found: ContentHash,
    },
    /// A number in the record is out of range.
    #[error("the record's reference to the tree {tree} is out of range")]
    BadReference {
        /// The tree.
        tree: String,
    },
    /// The target holds something.
    #[error("the target {} is not empty", .path.display())]
    TargetNotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// Another restore to the same target is running.
    #[error("another restore is using {}", .path.display())]
    Busy {
        /// The private directory.
        path: PathBuf,
    },
    /// The private directory of the target was made by somebody else.
    #[error("{} is not a private directory of whoever restores; look at it, and remove it", .path.display())]
    ForeignStaging {
        /// The private directory.
        path: PathBuf,
    },
    /// The result does not fit.
    #[error("{} has room for {available} bytes, and about {needed} are needed", .path.display())]
    NoSpace {
        /// A directory on the target's file system.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes available.
        available: u64,
    },
    /// The target cannot be made or replaced.
    #[error("cannot restore to {}", .path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A path cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The path, printable.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// A file's bytes do not hash to its entry.
    #[error("the data of {path} does not hash to what its entry states")]
    Content {
        /// The path, printable.
        path: String,
    },
    /// What the file system holds is not what was planned.
    #[error("the restored {path} is not what was planned: {what}")]
    NotProved {
        /// The path, printable.
        path: String,
        /// The first difference.
        what: String,
    },
    /// A directory with something in it that is not in the snapshot stands where something else belongs.
    #[error("the directory {path} must give way to something else and holds paths that are not in the snapshot")]
    InTheWay {
        /// The path, printable.
        path: String,
    },
    /// A restore in place stopped after it had begun to change the target.
    #[error("{} holds a part of the snapshot; the same command goes on from there", .path.display())]
    Partly {
        /// The target.
        path: PathBuf,
        /// Why it stopped.
        #[source]
        cause: Box<RestoreError>,
    },
    /// Two paths fall together on the target's file system.
    #[error("{path} collides with another path on the target's file system")]
    Collides {
        /// The path, printable.
        path: String,
    },
    /// The staged tree cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] WalkError),
    /// Nothing in the snapshot is selected.
    #[error("nothing in the snapshot matches what was selected")]
    NothingSelected,
    /// It was asked to stop.
    #[error("stopped on request; the target was not changed")]
    Cancelled,
}

impl RestoreError {
    /// The class this is refused with; `None` when the machine or the store failed.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Fetch(error) => error.class(),
            Self::TreeDigest { .. } | Self::Content { .. } | Self::NotProved { .. } => Some(Class::Hash),
            Self::BadReference { .. } => Some(Class::Size),
            Self::TargetNotEmpty { .. } | Self::Busy { .. } | Self::ForeignStaging { .. } => Some(Class::Target),
            Self::InTheWay { .. } => Some(Class::Target),
            Self::Partly { cause, .. } => cause.class(),
            Self::Collides { .. } => Some(Class::PathCollide),
            Self::NoSpace { .. } => None,
            Self::Target { .. } | Self::Write { .. } | Self::ReadBack(_) | Self::NothingSelected | Self::Cancelled => {
                None
            }
        }
    }

    /// Whether what was staged is worth keeping: the same may succeed when it is asked for again.
    pub fn can_go_on(&self) -> bool {
        matches!(self, Self::Cancelled) || matches!(self, Self::Fetch(FetchError::Store(_)))
    }

    fn write(path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Write { path: crate::entry::printable(path), source: source.into() }
    }
}
