//! Renames: files that are gone from one path and have come to another, by their content.
//!
//! Pairs are made of regular files with at least one byte whose contents have the same hash, each file in one pair at
//! most: first those with the same last component, then the rest, each time in the order of their paths. Files of
//! directories are hashed only when a file of that length has come or gone on the other side.
//! Everything is sorted on disk.

use std::collections::VecDeque;
use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use super::DiffError;
use super::side::{Contents, Sides, hash, is_known};
use super::spool::{Row, Spool};
use crate::cancel::Cancel;
use crate::entry::{Entry, Kind};
use crate::sorter::Sorter;

const GONE: u8 = 0;
const COME: u8 = 1;

/// Files that are only on one side: by length, side and place.
pub(super) struct Candidates {
    by_size: Sorter<17>,
    sizes: Sorter<9>,
}

impl Candidates {
    pub(super) fn new(scratch: &Path) -> Self {
        Self { by_size: Sorter::new(scratch), sizes: Sorter::new(scratch) }
    }

    pub(super) fn add(&mut self, row: &Row, place: u64) -> io::Result<()> {
        let (side, entry) = match (&row.a, &row.b) {
            (Some(entry), None) => (GONE, entry),
            (None, Some(entry)) => (COME, entry),
            _ => return Ok(()),
        };
        if !matches!(entry.kind, Kind::File { size, .. } if size > 0) {
            return Ok(());
        }
        let size = entry.size().to_be_bytes();
        self.sizes.push(row_of(&[&size, &[side]]))?;
        self.by_size.push(row_of(&[&size, &[side], &place.to_be_bytes()]))
    }
}

fn row_of<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut row = [0; N];
    let mut at = 0;
    for part in parts {
        row[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    row
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

type Rows<const N: usize> = Peekable<Box<dyn Iterator<Item = io::Result<[u8; N]>> + Send>>;

fn sorted<const N: usize>(sorter: Sorter<N>) -> Result<Rows<N>, DiffError> {
    let rows: Box<dyn Iterator<Item = io::Result<[u8; N]>> + Send> =
        Box::new(sorter.sorted().map_err(DiffError::Scratch)?);
    Ok(rows.peekable())
}

/// Pairs by place, asked for in rising order.
pub(super) struct Renames {
    /// Where what has come has gone from.
    sources: Rows<16>,
    /// What has gone and come elsewhere.
    gone: Rows<8>,
}

impl Renames {
    /// Whether the row at `place` is told as part of another one.
    pub(super) fn is_source(&mut self, place: u64) -> Result<bool, DiffError> {
        Ok(at_place(&mut self.gone, place)?.is_some())
    }

    /// The place of what the row at `place` was before.
    pub(super) fn source_of(&mut self, place: u64) -> Result<Option<u64>, DiffError> {
        Ok(at_place(&mut self.sources, place)?.map(|row| number(&row[8..])))
    }
}

/// The row that begins with `place`, which is at or behind the next row.
fn at_place<const N: usize>(rows: &mut Rows<N>, place: u64) -> Result<Option<[u8; N]>, DiffError> {
    match rows.peek() {
        Some(Ok(row)) if number(row) == place => {}
        Some(Err(_)) => {}
        _ => return Ok(None),
    }
    rows.next().transpose().map_err(DiffError::Scratch)
}

/// Finds the pairs.
pub(super) fn find(
    candidates: Candidates,
    spool: &Spool,
    contents: &[Sides<'_>],
    scratch: &Path,
    cancel: &Cancel,
) -> Result<Renames, DiffError> {
    let named = with_hashes(candidates, spool, contents, scratch, cancel)?;
    let mut pairs = Pairs { sources: Sorter::new(scratch), gone: Sorter::new(scratch), scratch: scratch.to_owned() };
    // First round: hash and last component agree. Rows: hash, name, side, place.
    let rest: Sorter<41> = pairs.round(sorted(named)?, 48, |row: &[u8; 57]| row_of(&[&row[..32], &row[48..]]))?;
    // Second round: the hash agrees. Rows: hash, side, place.
    let _: Sorter<1> = pairs.round(sorted(rest)?, 32, |_| [0])?;
    Ok(Renames { sources: sorted(pairs.sources)?, gone: sorted(pairs.gone)? })
}

/// The candidates that have one of the same length on the other side, with their hashes.
fn with_hashes(
    candidates: Candidates,
    spool: &Spool,
    contents: &[Sides<'_>],
    scratch: &Path,
    cancel: &Cancel,
) -> Result<Sorter<57>, DiffError> {
    let mut named = Sorter::new(scratch);
    let mut sizes = sorted(candidates.sizes)?;
    let mut wanted: Option<[u8; 8]> = None;
    for row in sorted(candidates.by_size)? {
        let row: [u8; 17] = row.map_err(DiffError::Scratch)?;
        // Lengths come in the same order here: those with both sides are wanted.
        while sizes.peek().is_some_and(|size| size.as_ref().map_or(true, |size| size[..8] <= row[..8])) {
            let Some(gone) = sizes.next().transpose().map_err(DiffError::Scratch)? else { break };
            if sizes.peek().is_some_and(|come| come.as_ref().is_ok_and(|come| come[..8] == gone[..8])) {
                wanted = gone.first_chunk().copied();
            }
        }
        if wanted.is_none_or(|wanted| wanted != row[..8]) {
            continue;
        }
        cancel.check()?;
        let (side, place) = (row[8], number(&row[9..]));
        let found = spool.at(place)?;
        let sides = &contents[found.tree as usize];
        let (entry, contents) = if side == GONE { (found.a, &sides.a) } else { (found.b, &sides.b) };
        if let Some(entry) = entry
            && let Some(content) = content_of(entry.clone(), contents)?
        {
            let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let name = blake3::hash(name);
            named
                .push(row_of(&[&content, &name.as_bytes()[..16], &[side], &place.to_be_bytes()]))
                .map_err(DiffError::Scratch)?;
        }
    }
    Ok(named)
}

fn content_of(mut entry: Entry, contents: &Contents<'_>) -> Result<Option<[u8; 32]>, DiffError> {
    let size = entry.size();
    if let Contents::Directory(root) = contents
        && !is_known(&entry)
        && !hash(root, &mut entry)?
    {
        return Ok(None);
    }
    match entry.kind {
        // A file that has grown since is no rename.
        Kind::File { content, size: now, .. } if now == size => Ok(Some(content.0)),
        _ => Ok(None),
    }
}

struct Pairs {
    sources: Sorter<16>,
    gone: Sorter<8>,
    scratch: PathBuf,
}

impl Pairs {
    /// Pairs rows that agree in their first `key` bytes, which a side and a place follow; gives what is left.
    fn round<const N: usize, const M: usize>(
        &mut self,
        rows: Rows<N>,
        key: usize,
        left_over: impl Fn(&[u8; N]) -> [u8; M],
    ) -> Result<Sorter<M>, DiffError> {
        let mut left = Sorter::new(&self.scratch);
        let mut gone: VecDeque<[u8; N]> = VecDeque::new();
        for row in rows {
            let row = row.map_err(DiffError::Scratch)?;
            if gone.front().is_some_and(|first| first[..key] != row[..key]) {
                gone.drain(..).try_for_each(|row| left.push(left_over(&row))).map_err(DiffError::Scratch)?;
            }
            if row[key] == GONE {
                gone.push_back(row);
            } else if let Some(source) = gone.pop_front() {
                let (from, to) = (&source[key + 1..key + 9], &row[key + 1..key + 9]);
                self.sources.push(row_of(&[to, from])).map_err(DiffError::Scratch)?;
                self.gone.push(row_of(&[from])).map_err(DiffError::Scratch)?;
            } else {
                left.push(left_over(&row)).map_err(DiffError::Scratch)?;
            }
        }
        gone.drain(..).try_for_each(|row| left.push(left_over(&row))).map_err(DiffError::Scratch)?;
        Ok(left)
    }
}
