//! The order in which files are staged: that of their data, so that each pack is read once, from front to back.
//!
//! What is in place already, from an interrupted run or a seed (`reuse.rs`), is left out or noted.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::RestoreError;
use super::reuse::{Found, Reuse};
use super::spool::{PlannedTree, Window};
use crate::cancel::Cancel;
use crate::entry::{ChunkList, Entry, Kind, PackSet};
use crate::fetch::Fetcher;
use crate::parallel;
use crate::progress::Progress;
use crate::sorter::Sorter;

/// Files that are looked at together.
const BATCH: usize = 64;

/// Pack, frame, tree, place in the plan file.
type Row = [u8; 4 + 2 + 2 + 8];

/// The chunks of a file that are in place.
#[derive(Default)]
pub(super) struct Partial(Vec<bool>);

impl Partial {
    pub(super) fn new(chunks: Vec<bool>) -> Self {
        Self(chunks)
    }

    /// Whether the chunk with this number is in place.
    pub(super) fn holds(&self, chunk: usize) -> bool {
        self.0.get(chunk).copied().unwrap_or_default()
    }
}

/// A file to stage.
pub(super) struct Next {
    /// Index of its tree in the plan.
    pub(super) tree: usize,
    pub(super) entry: Entry,
    /// What is in place when it was begun already.
    pub(super) partial: Option<Partial>,
}

/// The files to stage, in the order of their data.
pub(super) struct Ordered<'a> {
    rows: Box<dyn Iterator<Item = io::Result<Row>> + Send + 'a>,
    plans: Vec<Window>,
    partial: HashMap<(usize, u64), Partial>,
}

impl Ordered<'_> {
    /// The file that comes next.
    pub(super) fn next(&mut self) -> Result<Option<Next>, RestoreError> {
        let Some(row) = self.rows.next() else { return Ok(None) };
        let (tree, place) = decode(&row.map_err(scratch_error)?);
        let entry = self.plans[tree].at(place).map_err(scratch_error)?;
        Ok(Some(Next { tree, entry, partial: self.partial.remove(&(tree, place)) }))
    }
}

fn scratch_error(source: io::Error) -> RestoreError {
    RestoreError::Write { path: "the order of files in the cache directory".to_owned(), source }
}

fn encode(entry: &Entry, tree: usize, place: u64) -> Row {
    let Kind::File { chunks: ChunkList::Inline(list) | ChunkList::Stored(list), .. } = &entry.kind else {
        unreachable!("only files are ordered")
    };
    let (pack, frame) = list.first().map_or((u32::MAX, u16::MAX), |r| (r.pack, r.frame));
    let mut row = Row::default();
    row[..4].copy_from_slice(&pack.to_be_bytes());
    row[4..6].copy_from_slice(&frame.to_be_bytes());
    row[6..8].copy_from_slice(&(tree as u16).to_be_bytes());
    row[8..].copy_from_slice(&place.to_be_bytes());
    row
}

fn decode(row: &Row) -> (usize, u64) {
    let tree = u16::from_be_bytes([row[6], row[7]]);
    let place = u64::from_be_bytes(row[8..].try_into().expect("8 bytes are left"));
    (tree.into(), place)
}

/// True for a file whose data must be staged: not a further name of one that is.
fn has_data(entry: &Entry) -> bool {
    matches!(entry.kind, Kind::File { .. }) && !entry.links_back()
}

/// What orders files: the plan, and what it may find in place.
pub(super) struct Source<'a> {
    pub(super) trees: &'a [PlannedTree],
    pub(super) packs: &'a PackSet,
    pub(super) scratch: &'a std::path::Path,
    /// The directories that the trees go to.
    pub(super) roots: &'a [Arc<OwnedFd>],
    pub(super) reuse: &'a Reuse,
}

/// Orders the files of all trees. Says how many bytes are in place already.
pub(super) fn order<'a>(
    source: &Source<'a>,
    fetcher: &Fetcher<'_>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(Ordered<'a>, u64), RestoreError> {
    let mut sorter = Sorter::new(source.scratch);
    let mut partial = HashMap::new();
    let mut reused_bytes = 0;
    let mut files = Vec::new();
    for (tree, planned) in source.trees.iter().enumerate() {
        let entries = planned.file.read_placed().map_err(scratch_error)?;
        files.push(entries.map(move |placed| placed.map(|(place, entry)| (tree, place, entry))));
    }
    let mut files = files.into_iter().flatten().filter(|file| file.as_ref().map_or(true, |(.., e)| has_data(e)));
    if source.reuse.is_nothing() {
        for file in files {
            let (tree, place, entry) = file.map_err(scratch_error)?;
            sorter.push(encode(&entry, tree, place)).map_err(scratch_error)?;
        }
    } else {
        let batches = std::iter::from_fn(move || {
            let batch: Vec<_> = files.by_ref().take(BATCH).collect();
            (!batch.is_empty()).then_some(batch)
        });
        parallel::map_in_order(
            parallel::cores(),
            batches,
            || source.reuse.worker(source.roots, source.packs.clone(), fetcher),
            |worker, batch| -> Result<Vec<_>, RestoreError> {
                let look = |file: io::Result<(usize, u64, Entry)>| {
                    let (tree, place, entry) = file.map_err(scratch_error)?;
                    if cancel.is_requested() {
                        return Err(RestoreError::Cancelled);
                    }
                    let found = worker.find(tree, &entry)?;
                    Ok((tree, place, entry, found))
                };
                batch.into_iter().map(look).collect()
            },
            |batch| -> Result<(), RestoreError> {
                for (tree, place, entry, found) in batch? {
                    match found {
                        Found::Whole => {
                            reused_bytes += entry.size();
                            progress.add_items(1);
                            progress.add_bytes(entry.size());
                            continue;
                        }
                        Found::Chunks { chunks, bytes } => {
                            reused_bytes += bytes;
                            partial.insert((tree, place), Partial::new(chunks));
                        }
                        Found::Nothing => {}
                    }
                    sorter.push(encode(&entry, tree, place)).map_err(scratch_error)?;
                }
                Ok(())
            },
        )?;
    }
    let mut plans = Vec::new();
    for planned in source.trees {
        plans.push(Window::of(&planned.file).map_err(scratch_error)?);
    }
    let rows = Box::new(sorter.sorted().map_err(scratch_error)?);
    Ok((Ordered { rows, plans, partial }, reused_bytes))
}
