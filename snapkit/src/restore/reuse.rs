//! Reusing: files that need not be fetched, because an interrupted run or a seed has them.
//!
//! The staged files are their own journal: whatever lies there is kept only if it hashes to what the plan says, whole
//! or chunk by chunk, so neither a kill nor a power cut can leave something that is believed. A file of a seed, a
//! directory that is likely to hold the same state, is cloned or copied into the staging directory first; the private
//! copy is hashed, so whoever changes the seed meanwhile changes nothing that is used. Nothing is ever linked.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::RestoreError;
use super::place::{Opener, name_of, set_metadata, set_mode};
use super::plan::chunks_of;
use super::spool::{PlannedTree, scratch_error};
use crate::entry::{ChunkRef, Entry, Extent, Kind, PackSet};
use crate::fetch::Fetcher;
use crate::id::ChunkId;

/// Bytes copied and hashed at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Where files may be found that need not be fetched.
#[derive(Default)]
pub(super) struct Reuse {
    /// The staging directories were begun by an earlier run.
    pub(super) resumed: bool,
    /// For each tree of the plan, directories that may hold its files at the same paths.
    pub(super) seeds: Vec<Vec<Arc<OwnedFd>>>,
}

/// What is in place of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All of it, metadata too.
    Whole,
    /// Some of its chunks, by number, and their length in bytes.
    Chunks { chunks: Vec<bool>, bytes: u64 },
    /// Nothing; there is no such file.
    Nothing,
}

impl Reuse {
    pub(super) fn is_nothing(&self) -> bool {
        !self.resumed && self.seeds.iter().all(Vec::is_empty)
    }

    /// A worker for one thread.
    pub(super) fn worker<'a, 'store>(
        &'a self,
        roots: &[Arc<OwnedFd>],
        packs: PackSet,
        fetcher: &'a Fetcher<'store>,
    ) -> Worker<'a, 'store> {
        let openers = |roots: &[Arc<OwnedFd>]| roots.iter().map(|root| Opener::new(root.clone())).collect();
        Worker {
            resumed: self.resumed,
            staged: openers(roots),
            seeds: self.seeds.iter().map(|seeds| openers(seeds)).collect(),
            packs,
            fetcher,
            buffer: vec![0; BUFFER_BYTES],
        }
    }
}

/// Length of the files that `seeds` are likely to give to `tree`: one of the same length is at the same path.
///
/// Only looks, and reads no data; what a restore really takes must hash right.
///
/// # Errors
/// When the plan cannot be read.
pub fn likely_bytes(tree: &PlannedTree, seeds: &[PathBuf]) -> Result<u64, RestoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |seed: &PathBuf| Some(Opener::new(Arc::new(rustix::fs::open(seed, flags, Mode::empty()).ok()?)));
    let mut seeds: Vec<Opener> = seeds.iter().filter_map(open).collect();
    let mut bytes = 0;
    for entry in tree.file.read().map_err(scratch_error)? {
        let entry = entry.map_err(scratch_error)?;
        let is_there = |seed: &mut Opener| {
            let directory = seed.parent_of(&entry.path).ok()?;
            let stat = rustix::fs::statat(&directory, name_of(&entry.path), AtFlags::SYMLINK_NOFOLLOW).ok()?;
            (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size as u64 == entry.size())
                .then_some(())
        };
        if matches!(entry.kind, Kind::File { .. })
            && !entry.links_back()
            && seeds.iter_mut().find_map(is_there).is_some()
        {
            bytes += entry.size();
        }
    }
    Ok(bytes)
}

/// Looks for files.
pub(super) struct Worker<'a, 'store> {
    resumed: bool,
    staged: Vec<Opener>,
    seeds: Vec<Vec<Opener>>,
    packs: PackSet,
    fetcher: &'a Fetcher<'store>,
    buffer: Vec<u8>,
}

impl Worker<'_, '_> {
    /// Puts in place what there is of a file of the tree with this index.
    pub(super) fn find(&mut self, tree: usize, entry: &Entry) -> Result<Found, RestoreError> {
        let failed = |source: io::Error| RestoreError::write(&entry.path, source);
        let directory = self.staged[tree].parent_of(&entry.path).map_err(failed)?;
        let name = name_of(&entry.path);
        if self.resumed
            && let Some(file) = reopen(directory.as_fd(), &name).map_err(failed)?
        {
            // Read from the disk: pages that could not be written stay in the cache as if they had been. Everything that
            // could be was written when the staging directory was opened.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).map_err(|e| failed(e.into()))?;
            match self.check(&file, entry).unwrap_or(Found::Nothing) {
                Found::Nothing => {
                    rustix::fs::unlinkat(&directory, &name, AtFlags::empty()).map_err(|e| failed(e.into()))?;
                }
                found => return Ok(found),
            }
        }
        let Kind::File { size: 1.., holes, .. } = &entry.kind else { return Ok(Found::Nothing) };
        // A copy has no holes; such files are fetched.
        if !holes.is_empty() {
            return Ok(Found::Nothing);
        }
        for seed in 0..self.seeds.get(tree).map_or(0, Vec::len) {
            let Some(from) = open_seed(&mut self.seeds[tree][seed], entry) else { continue };
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let to = rustix::fs::openat(&directory, &name, flags, Mode::RUSR | Mode::WUSR);
            let to = File::from(to.map_err(|error| super::directories::collision_or(entry, error))?);
            // What cannot be read of a seed is fetched instead.
            let copied = self.copy(&from, &to, entry.size()).is_ok();
            match if copied { self.check(&to, entry)? } else { Found::Nothing } {
                Found::Nothing => {
                    rustix::fs::unlinkat(&directory, &name, AtFlags::empty()).map_err(|e| failed(e.into()))?;
                }
                found => return Ok(found),
            }
        }
        Ok(Found::Nothing)
    }

    /// Clones `from`, or copies what can be of use of it.
    fn copy(&mut self, from: &File, to: &File, most: u64) -> io::Result<()> {
        if rustix::fs::ioctl_ficlone(to, from).is_ok() {
            return Ok(());
        }
        let mut at = 0;
        while at < most {
            let n = (most - at).min(self.buffer.len() as u64) as usize;
            let n = from.read_at(&mut self.buffer[..n], at)?;
            if n == 0 {
                break;
            }
            to.write_all_at(&self.buffer[..n], at)?;
            at += n as u64;
        }
        Ok(())
    }

    /// What a private file holds of an entry. If it is all, it is given its metadata.
    fn check(&mut self, file: &File, entry: &Entry) -> Result<Found, RestoreError> {
        let failed = |source: io::Error| RestoreError::write(&entry.path, source);
        let Kind::File { size, content, chunks, holes } = &entry.kind else { unreachable!("the caller looked") };
        let len = file.metadata().map_err(failed)?.len();
        if len >= *size && self.hash(file, *size).map_err(failed)? == Some(content.0) {
            let finish = || -> io::Result<()> {
                if len > *size {
                    file.set_len(*size)?;
                }
                set_metadata(file.as_fd(), entry)
            };
            finish().map_err(failed)?;
            return Ok(Found::Whole);
        }
        let chunks = chunks_of(chunks, self.fetcher, &mut self.packs)?;
        if chunks.len() < 2 {
            return Ok(Found::Nothing);
        }
        let mut found = Vec::with_capacity(chunks.len());
        let mut bytes = 0;
        let mut at = 0;
        for chunk in &chunks {
            let is_there = self.holds(file, chunk, &mut at, holes).map_err(failed)?;
            bytes += if is_there { u64::from(chunk.bytes) } else { 0 };
            found.push(is_there);
        }
        Ok(if bytes > 0 { Found::Chunks { chunks: found, bytes } } else { Found::Nothing })
    }

    /// The hash of the first `size` bytes; `None` when there are fewer.
    fn hash(&mut self, file: &File, size: u64) -> io::Result<Option<[u8; 32]>> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < size {
            let n = (size - at).min(self.buffer.len() as u64) as usize;
            let n = file.read_at(&mut self.buffer[..n], at)?;
            if n == 0 {
                return Ok(None);
            }
            hasher.update(&self.buffer[..n]);
            at += n as u64;
        }
        Ok(Some(*hasher.finalize().as_bytes()))
    }

    /// Whether the chunk that begins at `at`, holes aside, is there. Moves `at` past it.
    fn holds(&mut self, file: &File, chunk: &ChunkRef, at: &mut u64, holes: &[Extent]) -> io::Result<bool> {
        let mut hasher = blake3::Hasher::new();
        let mut left = u64::from(chunk.bytes);
        let mut is_read = true;
        while left > 0 {
            while let Some(hole) = hole_at(holes, *at) {
                *at += hole.bytes;
            }
            let next = holes.partition_point(|hole| hole.offset < *at);
            let most = holes.get(next).map_or(u64::MAX, |hole| hole.offset - *at);
            let n = left.min(most).min(self.buffer.len() as u64) as usize;
            if is_read {
                is_read = read_full_at(file, &mut self.buffer[..n], *at)?;
                hasher.update(&self.buffer[..n]);
            }
            *at += n as u64;
            left -= n as u64;
        }
        Ok(is_read && ChunkId(*hasher.finalize().as_bytes()) == chunk.chunk)
    }
}

fn hole_at(holes: &[Extent], at: u64) -> Option<Extent> {
    holes.binary_search_by_key(&at, |hole| hole.offset).ok().map(|i| holes[i])
}

/// Fills `buffer`; false when the file ends before.
fn read_full_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file that an earlier run left, if there is one.
fn reopen(directory: std::os::fd::BorrowedFd<'_>, name: &std::ffi::CString) -> io::Result<Option<File>> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(directory, name, flags, Mode::empty());
    let opened = match open() {
        // It has its final mode, which keeps its owner out.
        Err(Errno::ACCESS) => set_mode(directory, name, 0o600).map_err(|_| Errno::ACCESS).and_then(|()| open()),
        opened => opened,
    };
    match opened {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The file at the same path of a seed, if it is a regular one that can be read.
fn open_seed(seed: &mut Opener, entry: &Entry) -> Option<File> {
    let directory = seed.parent_of(&entry.path).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, name_of(&entry.path), flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size > 0).then(|| file.into())
}
