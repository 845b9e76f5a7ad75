//! Evidence: what a drill or a failover left behind, so that a stranger can check it without trusting whoever ran it.
//!
//! A run writes a [run directory](run_dir): its plan, a [`timeline`] whose lines are chained by hash, and raw [`series`]
//! that probers sign with keys of their own. [`recompute`] makes of it what it amounts to: one pure function, called when a
//! bundle is [sealed](seal) and again by whoever [verifies](verify) it, so that nothing in the report has to be believed.
//! Documented in `docs/evidence.md` and `docs/format/bundle.md`. Layer: the files are the edge; everything that judges is
//! pure.

mod begun;
pub mod collect;
mod documents;
pub mod event;
pub mod facts;
pub mod files;
mod measure;
pub mod policy;
pub mod recompute;
pub mod record;
pub mod redact;
pub mod report;
pub mod result;
mod rules;
pub mod run_dir;
pub mod seal;
pub mod series;
pub mod timeline;
pub mod verify;

use std::io;
use std::path::{Path, PathBuf};

use manifests::refusal::Refusal;

/// Why there is no bundle, or why one is not believed.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not to be believed.
    #[error("the evidence is refused")]
    Refused(#[source] Box<Refusal>),
}

impl From<Refusal> for EvidenceError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl EvidenceError {
    /// The same, of the file at `path`.
    fn at(self, path: &Path) -> Self {
        match self {
            Self::Read { source, .. } => Self::Read { path: path.to_owned(), source },
            other => other,
        }
    }

    /// The refusal that it is.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// The beginning of a text that may be anything, fit for a message.
fn excerpt(text: &str) -> String {
    format!("`{}`", text.chars().take(80).flat_map(char::escape_debug).collect::<String>())
}
