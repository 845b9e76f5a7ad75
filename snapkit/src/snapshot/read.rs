//! Reading files: cut, hashed, and read again when they change meanwhile.
//!
//! Workers take batches in the order of the walk and hand each batch's parts to whoever assembles the tree, in that
//! order. A part holds at most about 1 MiB, so a file of any length passes through.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{Mode, OFlags};

use crate::chunk;
use crate::entry::{ChunkList, Entry, Extent, Kind};
use crate::id::{ChunkId, ContentHash};
use crate::scan::cache::Seen;
use crate::scan::metadata::{Identity, holes_of, xattrs_of_file, xattrs_of_name};
use crate::scan::walk::Found;

/// Raw bytes after which a part is handed over.
pub(super) const PART_BYTES: usize = 1 << 20;
/// How often a file that changes while it is read is read again.
const ATTEMPTS: u32 = 3;

/// One path of a batch.
pub(super) enum Item {
    /// Nothing of it need be read.
    Known(Entry, Seen),
    /// To be read; `entry` lacks content, target and attributes. `expected` is what a settled file must hold.
    ToRead { entry: Entry, found: Found, expected: Option<Box<Entry>> },
    /// It could not even be looked at.
    Unreadable(Vec<u8>, io::Error),
}

/// Paths that one worker reads, and where their parts go.
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    pub(super) parts: Sender<Part>,
}

/// A step in assembling the tree.
pub(super) enum Step {
    /// The next chunk of the file at hand; its bytes are this range of the part's data.
    Chunk(ChunkId, Range<usize>),
    /// Forget the chunks of the file at hand: it changed and is read again.
    Restart,
    /// The file at hand, or a path without data, is complete but for its chunks.
    Done(Box<Entry>, Seen),
    /// The path holds something else than the cache said, though its times did not change.
    Mismatch(Vec<u8>),
    /// The path could not be read.
    Unreadable(Vec<u8>, io::Error),
}

/// Steps with the bytes they speak of.
#[derive(Default)]
pub(super) struct Part {
    pub(super) data: Vec<u8>,
    pub(super) steps: Vec<Step>,
}

/// The receiver is gone: the run has ended.
struct Ended;

enum ReadError {
    Io(io::Error),
    Ended,
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for ReadError {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Reads batches until there are no more.
pub(super) fn work(batches: &Receiver<Batch>, clock_is_ours: &(dyn Fn(u64) -> bool + Sync)) {
    for batch in batches {
        let mut worker = Worker { part: Part::default(), parts: batch.parts, clock_is_ours };
        for item in batch.items {
            if worker.item(item).is_err() {
                break;
            }
        }
        let _ = worker.hand_over();
    }
}

struct Worker<'a> {
    part: Part,
    parts: Sender<Part>,
    clock_is_ours: &'a (dyn Fn(u64) -> bool + Sync),
}

impl Worker<'_> {
    fn item(&mut self, item: Item) -> Result<(), Ended> {
        let step = match item {
            Item::Known(entry, seen) => Step::Done(Box::new(entry), seen),
            Item::Unreadable(path, error) => Step::Unreadable(path, error),
            Item::ToRead { entry, found, expected } => match self.read(entry, &found) {
                Ok(step) => {
                    self.compare(&step, &found, expected);
                    step
                }
                Err(ReadError::Io(error)) => {
                    self.part.steps.push(Step::Restart);
                    Step::Unreadable(found.path, error)
                }
                Err(ReadError::Ended) => return Err(Ended),
            },
        };
        self.part.steps.push(step);
        if self.part.data.len() >= PART_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Raises the alarm when a file whose times are as they were holds something else.
    fn compare(&mut self, step: &Step, found: &Found, expected: Option<Box<Entry>>) {
        let (Step::Done(entry, seen), Some(Kind::File { content: expected, .. })) = (step, expected.map(|e| e.kind))
        else {
            return;
        };
        let unchanged = seen.ctime == Identity::of(&found.stat).ctime && !entry.torn;
        if unchanged && !matches!(entry.kind, Kind::File { content, .. } if content == expected) {
            self.part.steps.push(Step::Mismatch(entry.path.clone()));
        }
    }

    fn hand_over(&mut self) -> Result<(), Ended> {
        self.parts.send(std::mem::take(&mut self.part)).map_err(|_| Ended)
    }

    fn read(&mut self, mut entry: Entry, found: &Found) -> Result<Step, ReadError> {
        let read_at = now_seconds();
        match &mut entry.kind {
            Kind::File { .. } => return self.read_file(entry, found),
            Kind::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                entry.xattrs = match rustix::fs::openat(&found.directory, &found.name, flags, Mode::empty()) {
                    Ok(directory) => xattrs_of_file(directory.as_fd())?,
                    // Its content was reported as unreadable already; what can be known of it is kept.
                    Err(rustix::io::Errno::ACCESS) => Vec::new(),
                    Err(error) => return Err(error.into()),
                };
            }
            Kind::Symlink { target } => {
                *target = rustix::fs::readlinkat(&found.directory, &found.name, Vec::new())?.into_bytes();
                entry.xattrs = xattrs_of_name(found.directory.as_fd(), &found.name)?;
            }
            Kind::Fifo | Kind::CharDevice { .. } | Kind::BlockDevice { .. } => {
                entry.xattrs = xattrs_of_name(found.directory.as_fd(), &found.name)?;
            }
        }
        let seen = self.seen(&Identity::of(&found.stat), read_at);
        Ok(Step::Done(Box::new(entry), seen))
    }

    fn seen(&self, identity: &Identity, read_at: i64) -> Seen {
        Seen::new(identity, read_at, (self.clock_is_ours)(identity.dev))
    }

    fn read_file(&mut self, mut entry: Entry, found: &Found) -> Result<Step, ReadError> {
        let mut file = open_for_reading(found)?;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let read_at = now_seconds();
            let before = rustix::fs::fstat(&file)?;
            let identity = Identity::of(&before);
            if (identity.dev, identity.ino) != (found.stat.st_dev, found.stat.st_ino) {
                return Err(io::Error::other("it was replaced while it was read").into());
            }
            let holes = if (before.st_blocks as u64) * 512 < identity.size {
                holes_of(&file, identity.size)?
            } else {
                Vec::new()
            };
            let (size, content, holes) = self.read_once(&mut file, identity.size, holes)?;
            let xattrs = xattrs_of_file(file.as_fd())?;
            let after = Identity::of(&rustix::fs::fstat(&file)?);
            let held_still = after == identity && size == identity.size;
            if !held_still && attempt < ATTEMPTS {
                self.part.steps.push(Step::Restart);
                rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
                continue;
            }
            (entry.mtime_s, entry.mtime_ns) = after.mtime;
            entry.mode = before.st_mode & 0o7777;
            (entry.uid, entry.gid) = (before.st_uid, before.st_gid);
            entry.xattrs = xattrs;
            entry.torn = !held_still;
            entry.kind = Kind::File { size, content, chunks: ChunkList::Inline(Vec::new()), holes };
            let mut seen = self.seen(&after, read_at);
            seen.settled &= held_still;
            return Ok(Step::Done(Box::new(entry), seen));
        }
    }

    /// Reads the file to its end; its length, hash and holes as they were found.
    fn read_once(
        &mut self,
        file: &mut File,
        size: u64,
        holes: Vec<Extent>,
    ) -> Result<(u64, ContentHash, Vec<Extent>), ReadError> {
        let start = self.part.data.len();
        if holes.is_empty() && size <= chunk::MIN as u64 {
            // Most files: one chunk, one hash.
            self.part.data.reserve(size as usize + 1);
            file.take(chunk::MIN as u64 + 1).read_to_end(&mut self.part.data)?;
            let len = self.part.data.len() - start;
            if len <= chunk::MIN {
                let id = ChunkId::of(&self.part.data[start..]);
                if len > 0 {
                    self.part.steps.push(Step::Chunk(id, start..start + len));
                }
                return Ok((len as u64, ContentHash(id.0), holes));
            }
            // It has grown; what was read is the beginning of a longer file.
        }
        self.read_long(file, start, size, holes)
    }

    /// Reads a file in pieces. `start..` of the part's data is its beginning, already read.
    fn read_long(
        &mut self,
        file: &mut File,
        start: usize,
        size: u64,
        holes: Vec<Extent>,
    ) -> Result<(u64, ContentHash, Vec<Extent>), ReadError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.part.data[start..]);
        let mut at = (self.part.data.len() - start) as u64;
        let mut cut_from = start;
        let mut pending_holes = holes.clone().into_iter().peekable();
        loop {
            let mut limit = u64::MAX;
            if let Some(hole) = pending_holes.peek() {
                if at == hole.offset {
                    hash_zeros(&mut hasher, hole.bytes);
                    at += hole.bytes;
                    rustix::fs::seek(&*file, rustix::fs::SeekFrom::Start(at))?;
                    pending_holes.next();
                    continue;
                }
                limit = hole.offset - at;
            }
            let old = self.part.data.len();
            let room = (PART_BYTES + chunk::MAX - (old - cut_from).min(PART_BYTES)) as u64;
            // Never more than the file had when it was opened: one that grows faster than it is read would have no end.
            let most = room.min(limit).min(size.saturating_sub(at));
            self.part.data.reserve_exact(most as usize);
            let n = file.by_ref().take(most).read_to_end(&mut self.part.data)?;
            hasher.update(&self.part.data[old..]);
            at += n as u64;
            // Where it was truncated before a hole, the rest is gone, and so are the holes in it.
            let ended = n == 0 || (at >= size && pending_holes.peek().is_none());
            while self.part.data.len() - cut_from >= if ended { 1 } else { chunk::MAX } {
                let cut = cut_from + chunk::first_cut(&self.part.data[cut_from..]);
                self.part.steps.push(Step::Chunk(ChunkId::of(&self.part.data[cut_from..cut]), cut_from..cut));
                cut_from = cut;
            }
            if ended {
                let holes = holes.into_iter().filter(|hole| hole.offset + hole.bytes <= at).collect();
                return Ok((at, ContentHash(*hasher.finalize().as_bytes()), holes));
            }
            if cut_from >= PART_BYTES {
                let rest = self.part.data.split_off(cut_from);
                self.hand_over().map_err(|Ended| ReadError::Ended)?;
                self.part.data = Vec::with_capacity(PART_BYTES + 2 * chunk::MAX);
                self.part.data.extend_from_slice(&rest);
                cut_from = 0;
            }
        }
    }
}

fn hash_zeros(hasher: &mut blake3::Hasher, mut bytes: u64) {
    const ZEROS: &[u8] = &[0; 64 << 10];
    while bytes > 0 {
        let n = bytes.min(ZEROS.len() as u64);
        hasher.update(&ZEROS[..n as usize]);
        bytes -= n;
    }
}

/// Opens a file found by the walk; not another one that took its place, and never waiting for a pipe.
fn open_for_reading(found: &Found) -> Result<File, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |flags| rustix::fs::openat(&found.directory, &found.name, flags, Mode::empty());
    // Reading must not change the access time, where we may ask for that.
    let file = match open(flags | OFlags::NOATIME) {
        Err(rustix::io::Errno::PERM) => open(flags)?,
        other => other?,
    };
    Ok(File::from(file))
}

fn now_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}
