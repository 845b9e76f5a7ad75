//! Entries of a plan in files of the cache directory, so that memory does not grow with them.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::RestoreError;
use super::directories::is_closed;
use crate::digest::{Digests, TreeDigester};
use crate::entry::{Entry, Kind, decode_entry_of_any_length, encode_entry_of_any_length};

/// A block of most file systems, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// One tree of the plan.
pub struct PlannedTree {
    /// Its name.
    pub name: String,
    /// Paths of every kind that will be restored.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// What they take on disk, about, in bytes: holes take nothing, and everything takes whole blocks.
    pub disk_bytes: u64,
    /// The digests that the result must have.
    pub expected: Digests,
    pub(super) file: PlanFile,
    /// Where the directories lie in the plan file.
    pub(super) directories: Vec<u64>,
    /// Where those lie that must stay open to their owner until they are proved.
    pub(super) closed: Vec<u64>,
}

/// Entries in order, in a file of the cache directory.
pub(super) struct PlanFile {
    file: File,
}

impl PlanFile {
    /// All entries in order.
    pub(super) fn read(&self) -> io::Result<impl Iterator<Item = io::Result<Entry>> + Send + use<>> {
        Ok(self.read_placed()?.map(|placed| placed.map(|(_, entry)| entry)))
    }

    /// All entries in order, each with its place in the file.
    pub(super) fn read_placed(&self) -> io::Result<impl Iterator<Item = io::Result<(u64, Entry)>> + Send + use<>> {
        // Through a position of its own: readers may be on their way through the file at the same time.
        let mut window = Window::of(self)?;
        let mut place = 0;
        let end = self.file.metadata()?.len();
        Ok(std::iter::from_fn(move || {
            (place < end).then(|| {
                let (entry, bytes) = window.entry(place)?;
                let at = place;
                place += bytes;
                Ok((at, entry))
            })
        }))
    }
}

/// Reads entries of a plan file at places that mostly ascend.
pub(super) struct Window {
    file: File,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Bytes read at once.
    const BYTES: usize = 256 << 10;
    /// Bytes read at once after a jump.
    const FAR_BYTES: usize = 16 << 10;

    pub(super) fn of(plan: &PlanFile) -> io::Result<Self> {
        Ok(Self { file: plan.file.try_clone()?, start: 0, bytes: Vec::new() })
    }

    /// The entry at a place that [`PlannedTree::directories`] or [`PlanFile::read_placed`] names.
    pub(super) fn at(&mut self, place: u64) -> io::Result<Entry> {
        Ok(self.entry(place)?.0)
    }

    /// The entry at a place, and the bytes it takes there.
    fn entry(&mut self, place: u64) -> io::Result<(Entry, u64)> {
        let len = self.bytes_at(place, 4)?;
        let len = u32::from_le_bytes(len.try_into().expect("4 bytes were asked for"));
        let entry = decode_entry_of_any_length(self.bytes_at(place + 4, len as usize)?).map_err(io::Error::other)?;
        Ok((entry, 4 + u64::from(len)))
    }

    fn bytes_at(&mut self, place: u64, len: usize) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if place < self.start || place + len as u64 > end {
            // Readers go on, go back little by little, or jump.
            let window = Self::BYTES as u64;
            let (start, bytes) = match place {
                _ if place >= self.start && place < end + window => (place, Self::BYTES),
                _ if place < self.start && place + window > self.start => {
                    ((place + Self::FAR_BYTES as u64).saturating_sub(window).min(place), Self::BYTES)
                }
                _ => (place, Self::FAR_BYTES),
            };
            self.bytes.resize(bytes.max((place - start) as usize + len), 0);
            let mut filled = 0;
            while filled < self.bytes.len() {
                match self.file.read_at(&mut self.bytes[filled..], start + filled as u64)? {
                    0 => break,
                    n => filled += n,
                }
            }
            self.bytes.truncate(filled);
            self.start = start;
        }
        let from = (place - self.start) as usize;
        self.bytes.get(from..from + len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

pub(super) fn scratch_error(source: io::Error) -> RestoreError {
    RestoreError::Write { path: "the plan in the cache directory".to_owned(), source }
}

/// Takes entries one after the other.
pub(super) struct Spool {
    out: BufWriter<File>,
    buffer: Vec<u8>,
    at: u64,
}

impl Spool {
    pub(super) fn create(scratch: &Path) -> Result<Self, RestoreError> {
        std::fs::create_dir_all(scratch).map_err(scratch_error)?;
        let file = tempfile::tempfile_in(scratch).map_err(scratch_error)?;
        Ok(Self { out: BufWriter::with_capacity(256 << 10, file), buffer: Vec::new(), at: 0 })
    }

    /// Adds an entry and says where it lies.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<u64, RestoreError> {
        self.buffer.clear();
        encode_entry_of_any_length(&mut self.buffer, &mut |pack| pack, entry);
        self.out.write_all(&(self.buffer.len() as u32).to_le_bytes()).map_err(scratch_error)?;
        self.out.write_all(&self.buffer).map_err(scratch_error)?;
        let at = self.at;
        self.at += 4 + self.buffer.len() as u64;
        Ok(at)
    }

    pub(super) fn finish(self) -> Result<PlanFile, RestoreError> {
        let file = self.out.into_inner().map_err(|error| scratch_error(error.into_error()))?;
        Ok(PlanFile { file })
    }
}

/// A tree of the plan in the making.
pub(super) struct Planning {
    out: Spool,
    digester: TreeDigester,
    entries: u64,
    files: u64,
    bytes: u64,
    disk_bytes: u64,
    directories: Vec<u64>,
    closed: Vec<u64>,
}

impl Planning {
    pub(super) fn create(scratch: &Path) -> Result<Self, RestoreError> {
        Ok(Self {
            out: Spool::create(scratch)?,
            digester: TreeDigester::default(),
            entries: 0,
            files: 0,
            bytes: 0,
            disk_bytes: 0,
            directories: Vec::new(),
            closed: Vec::new(),
        })
    }

    /// Adds the next entry of the tree.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), RestoreError> {
        self.digester.push(entry);
        self.entries += 1;
        if let Kind::File { size, holes, .. } = &entry.kind {
            self.files += 1;
            self.bytes += size;
            if !entry.links_back() {
                let holes: u64 = holes.iter().map(|hole| hole.bytes).sum();
                self.disk_bytes += (size - holes).next_multiple_of(BLOCK_BYTES);
            }
        }
        let place = self.out.push(entry)?;
        if matches!(entry.kind, Kind::Directory) {
            self.disk_bytes += BLOCK_BYTES;
            self.directories.push(place);
        }
        if is_closed(entry) {
            self.closed.push(place);
        }
        Ok(())
    }

    pub(super) fn finish(self, name: &str) -> Result<PlannedTree, RestoreError> {
        Ok(PlannedTree {
            name: name.to_owned(),
            entries: self.entries,
            files: self.files,
            bytes: self.bytes,
            disk_bytes: self.disk_bytes,
            expected: self.digester.finish(),
            file: self.out.finish()?,
            directories: self.directories,
            closed: self.closed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Kind;

    #[test]
    fn entries_are_found_forwards_backwards_and_after_jumps() {
        let scratch = tempfile::tempdir().unwrap();
        let mut spool = Spool::create(scratch.path()).unwrap();
        let entry = |i: usize| Entry {
            path: format!("{}{i}", "d/".repeat(i * 7919 % 1500)).into_bytes(),
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime_s: 0,
            mtime_ns: 0,
            xattrs: vec![],
            group: None,
            torn: false,
        };
        let places: Vec<u64> = (0..2000).map(|i| spool.push(&entry(i)).unwrap()).collect();
        let file = spool.finish().unwrap();
        let mut window = Window::of(&file).unwrap();
        let jumps = (0..2000).map(|i| i * 7919 % 2000);
        for i in (0..2000).chain((0..2000).rev()).chain(jumps) {
            assert_eq!(window.at(places[i]).unwrap(), entry(i), "{i}");
        }
        assert!(file.read().unwrap().map(Result::unwrap).eq((0..2000).map(entry)));
    }
}
