//! Taking a snapshot: directories in, packs and a record's body out.
//!
//! walk -> what changed? -> read, cut, hash -> frames -> packs -> entries -> segment; the record is `chain`'s.
//! Everything that is written before the record is invisible without it, so a run that dies leaves nothing half done.
//! Layer: operations; joins the scan with formats and a store.

mod capture;
mod index;
mod journal;
mod read;
mod run;
mod sink;
mod spool;
mod write;

pub use capture::Counts;
pub use run::{Base, Directories, Outcome, Pending, take};
pub use write::local_segment;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use manifests::refusal::Refusal;

use crate::entry::{CodecError, printable};
use crate::scan::walk::WalkOptions;
use crate::store::StoreError;

/// A directory to capture and the name of its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of the tree.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
}

/// How a snapshot is taken.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the walk leaves out.
    pub walk: WalkOptions,
    /// Take fifos and devices too.
    pub devices: bool,
    /// Compression level of zstd, 1 to 19.
    pub level: i32,
    /// In this time each settled file is read once.
    pub reread_cycle: Duration,
    /// Most bytes that one run reads again for that.
    pub reread_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            walk: WalkOptions::default(),
            devices: false,
            level: 3,
            reread_cycle: Duration::from_secs(30 * 24 * 3600),
            reread_bytes: 1 << 30,
        }
    }
}

/// What kind of problem a path had. The snapshot was taken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// It changed while it was read and would not hold still.
    Torn,
    /// It could not be read and is missing from the snapshot.
    Unreadable,
    /// Its content differs though its times do not.
    CacheMismatch,
}

/// A path that was not captured as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What happened.
    pub kind: ProblemKind,
    /// The tree.
    pub tree: String,
    /// The path, printable.
    pub path: String,
    /// What the system said, or what it means.
    pub detail: String,
}

impl Problem {
    fn new(kind: ProblemKind, tree: &str, path: &[u8], detail: String) -> Self {
        Self { kind, tree: tree.to_owned(), path: printable(path), detail }
    }

    fn torn(tree: &str, path: &[u8]) -> Self {
        Self::new(ProblemKind::Torn, tree, path, "it changed each time it was read".to_owned())
    }

    fn unreadable(tree: &str, path: &[u8], error: &io::Error) -> Self {
        Self::new(ProblemKind::Unreadable, tree, path, error.to_string())
    }

    fn cache_mismatch(tree: &str, path: &[u8]) -> Self {
        let detail = "its content changed though its times did not: suspect the disk, or a program that resets times";
        Self::new(ProblemKind::CacheMismatch, tree, path, detail.to_owned())
    }
}

/// Why a snapshot could not be taken. Nothing was committed; what was stored is reused by the next run.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A directory to capture cannot be opened.
    #[error("cannot read the directory {}", .directory.display())]
    Source {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the cache directory cannot be written or read.
    #[error("cannot use the cache directory")]
    LocalTable(#[source] io::Error),
    /// An entry cannot be stored.
    #[error(transparent)]
    Entry(#[from] CodecError),
    /// The system has no random numbers.
    #[error("cannot get random numbers: {0}")]
    Randomness(String),
    /// A segment of the chain was written by a newer snapkit.
    #[error("cannot read what the chain has")]
    Newer(#[source] Box<Refusal>),
    /// A pack that the snapshot refers to is not in the store any more.
    #[error(
        "pack {0} is not in the store any more, though it was at the beginning of this run; run the snapshot again"
    )]
    PackGone(crate::id::PackId),
    /// It was asked to stop.
    #[error("stopped on request; what was stored is reused by the next run")]
    Cancelled,
}
