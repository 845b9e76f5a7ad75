//! Comparing two states: which paths, which metadata and which bytes differ.
//!
//! Each side is a snapshot of any store or a directory. Both are sorted streams of entries, joined in order; what differs
//! goes into a file of the cache directory, renames are found by sorting there, and then each difference is given to the
//! caller in order, with its byte ranges. Memory does not grow with the trees. Nothing is written but scratch files.
//!
//! What counts as a difference, and the order of everything: `docs/diff.md`. Layer: operations; reads stores and
//! directories.

mod align;
mod difference;
mod fields;
pub mod html;
mod join;
pub mod json;
mod pieces;
pub mod policy;
mod ranges;
mod renames;
mod side;
mod spool;
pub mod text;
mod within;

pub use difference::{Change, Difference, Sample, Shown};
pub use fields::{Field, FieldChange};
pub use policy::{Class, Policy, PolicyError, Verdict};
pub use ranges::{Range, Ranges};
pub use side::{Source, TreePair};

use std::io;
use std::path::Path;

use manifests::refusal::Class as Refused;
use serde::Serialize;

use crate::cancel::{Cancel, Cancelled};
use crate::entry::printable;
use crate::fetch::FetchError;
use crate::progress::Progress;
use crate::scan::exclude::Excludes;
use spool::{Row, Writer};

/// What of an entry counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// What the full digest covers.
    #[default]
    Full,
    /// What the content digest covers: no owners, times, attributes and hard links.
    Content,
}

/// How to compare.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What of an entry counts.
    pub scope: Scope,
    /// Find the bytes that differ inside of files.
    pub ranges: bool,
    /// Keep the bytes around the first ranges of each file.
    pub samples: bool,
    /// Paths that are left out on both sides.
    pub excludes: Option<Excludes>,
    /// Whether fifos and devices count, on both sides.
    pub devices: bool,
    /// What may differ.
    pub policy: Policy,
}

/// Why a comparison gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    /// A snapshot cannot be read as it was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A path of a directory cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The path, printable.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The chunks of a file do not make up its length.
    #[error("the chunks of {path} do not make up its length")]
    Length {
        /// The path, printable.
        path: String,
    },
    /// A scratch file cannot be written or read.
    #[error("cannot use a scratch file in the cache directory")]
    Scratch(#[source] io::Error),
    /// Whoever takes the differences fails.
    #[error("cannot write the result")]
    Write(#[source] io::Error),
    /// It was stopped.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A file changed while it was compared. Never leaves this module.
    #[error("{path} changed while it was compared")]
    Changed {
        /// The path, printable.
        path: String,
    },
}

impl DiffError {
    /// The class this is refused with; `None` when something could not be asked.
    pub fn class(&self) -> Option<Refused> {
        match self {
            Self::Fetch(error) => error.class(),
            Self::Length { .. } => Some(Refused::Size),
            _ => None,
        }
    }

    fn read(path: &[u8], source: io::Error) -> Self {
        Self::Read { path: printable(path), source }
    }
}

/// Paths of one class by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Nothing differs that counts.
    pub identical: u64,
    /// Differ as their class allows.
    pub advanced: u64,
    /// Differ.
    pub differs: u64,
    /// Only in A.
    pub missing: u64,
    /// Only in B.
    pub extra: u64,
}

/// What a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Paths that must match.
    pub must_match: Counts,
    /// Paths that may advance.
    pub may_advance: Counts,
    /// Paths that were left out by the policy.
    pub ignored: u64,
    /// Paths that are only in B, renamed ones not among them.
    pub added: u64,
    /// Paths that are only in A, renamed ones not among them.
    pub removed: u64,
    /// Paths in both that differ.
    pub changed: u64,
    /// Files that are in both under different paths.
    pub renamed: u64,
    /// Files in both with different bytes.
    pub contents: u64,
    /// Ranges of bytes that differ.
    pub ranges: u64,
    /// Bytes of A in them.
    pub a_bytes: u64,
    /// Bytes of B in them.
    pub b_bytes: u64,
}

impl Summary {
    /// The answer.
    pub fn answer(&self) -> Answer {
        let Counts { differs, missing, .. } = self.may_advance;
        let Counts { identical: _, advanced: _, differs: d, missing: m, extra } = self.must_match;
        if differs + missing + d + m + extra > 0 {
            Answer::Differs
        } else if self.may_advance.advanced + self.may_advance.extra > 0 {
            Answer::Allowed
        } else {
            Answer::Same
        }
    }

    fn count(&mut self, class: Class, verdict: Verdict) {
        let counts = match class {
            Class::MustMatch => &mut self.must_match,
            Class::MayAdvance => &mut self.may_advance,
            Class::Ignore => {
                self.ignored += 1;
                return;
            }
        };
        *match verdict {
            Verdict::Identical => &mut counts.identical,
            Verdict::Advanced => &mut counts.advanced,
            Verdict::Differs => &mut counts.differs,
            Verdict::Missing => &mut counts.missing,
            Verdict::Extra => &mut counts.extra,
        } += 1;
    }
}

/// Whether two states are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Nothing differs that counts.
    Same,
    /// They differ only where the policy allows.
    Allowed,
    /// They differ.
    Differs,
}

impl Answer {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Allowed => "allowed",
            Self::Differs => "differs",
        }
    }
}

/// Compares the trees and gives each difference to `visit`, ascending by tree and path.
///
/// `scratch` is a directory for files that are gone when this returns.
///
/// # Errors
/// [`DiffError`]; what was visited before it is right but not all.
pub fn compare(
    pairs: &[TreePair<'_>],
    options: &Options,
    scratch: &Path,
    cancel: &Cancel,
    progress: &Progress,
    visit: &mut dyn FnMut(&Difference) -> io::Result<()>,
) -> Result<Summary, DiffError> {
    std::fs::create_dir_all(scratch).map_err(DiffError::Scratch)?;
    let mut summary = Summary::default();
    let mut spool = Writer::create(scratch)?;
    progress.start_phase("comparing");
    let mut contents = Vec::new();
    for (tree, pair) in pairs.iter().enumerate() {
        contents.push(join::join(pair, tree as u32, options, cancel, progress, &mut spool, &mut summary)?);
    }
    let (spool, candidates) = spool.finish()?;
    let mut renames = renames::find(candidates, &spool, &contents, scratch, cancel)?;
    progress.start_phase("finding the bytes that differ");
    let shown = Shown { pairs, several: pairs.len() > 1 };
    for row in spool.read()? {
        cancel.check()?;
        let (place, row) = row?;
        if renames.is_source(place)? {
            continue;
        }
        let from = match renames.source_of(place)? {
            Some(source) => Some(spool.at(source)?),
            None => None,
        };
        let difference = difference_of(row, from, &shown, &contents, options, scratch, cancel, progress)?;
        difference.count(&mut summary);
        progress.add_items(1);
        visit(&difference).map_err(DiffError::Write)?;
    }
    Ok(summary)
}

#[expect(clippy::too_many_arguments, reason = "all of one comparison, used in one place")]
fn difference_of(
    row: Row,
    from: Option<Row>,
    shown: &Shown<'_>,
    contents: &[side::Sides<'_>],
    options: &Options,
    scratch: &Path,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Difference, DiffError> {
    let sides = &contents[row.tree as usize];
    let mut difference = Difference::of(row, from, shown, options.scope);
    if options.ranges && difference.content_differs() {
        difference.find_ranges(sides, options.samples, scratch, cancel, progress)?;
    }
    Ok(difference)
}
