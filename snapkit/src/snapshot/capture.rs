//! Capturing one tree: walk, compare with what was seen before, read what changed, assemble in order.
//!
//! ```text
//! walker -> batches -> readers, one per core -> parts -> assembler (the caller's thread) -> sink and spool
//! ```
//!
//! The assembler takes the parts in the order of the walk. As long as everything is as the scan cache has it nothing
//! is handed on at all; the first difference sends what came before it after it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::index::Reusable;
use super::read::{Batch, Item, PART_BYTES, Part, Step, work};
use super::sink::PackSink;
use super::spool::{Spool, SpoolFile};
use super::{Options, Problem, SnapshotError};
use crate::cancel::Cancel;
use crate::digest::{Digests, TreeDigester, properties};
use crate::entry::{
    ChunkList, ChunkRef, Entry, Kind, MAX_ENTRY_BYTES, MAX_INLINE, OwnerNames, PackSet, compare_paths, group_of,
};
use crate::progress::Progress;
use crate::scan::cache::{CacheReader, CachedTree, Seen, packs_of};
use crate::scan::metadata::{Identity, entry_of, learn_names};
use crate::scan::walk::{Found, Walk};

/// Most paths in a batch.
const BATCH_ITEMS: usize = 256;
/// Parts of a batch that wait for the assembler.
const PARTS_AHEAD: usize = 2;

/// What a tree holds, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Paths of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Length of the regular files in bytes.
    pub bytes: u64,
    /// Files that changed while they were read.
    pub torn: u64,
}

impl Counts {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        if let Kind::File { size, .. } = entry.kind {
            self.files += 1;
            self.bytes += size;
        }
        self.torn += u64::from(entry.torn);
    }
}

/// A tree whose data is on its way to the store.
pub(super) struct Assembled {
    pub(super) spool: SpoolFile,
    pub(super) names: OwnerNames,
    pub(super) digests: Digests,
    pub(super) counts: Counts,
    /// Some file has more chunks than its entry can hold.
    pub(super) has_long_lists: bool,
}

/// What came of one tree.
pub(super) enum Captured {
    /// Everything is as the cache has it.
    Unchanged(Box<CachedTree>),
    /// To be written.
    Changed(Box<Assembled>),
}

/// What all trees of a run share.
pub(super) struct Context<'run> {
    pub(super) options: &'run Options,
    pub(super) reusable: &'run Reusable,
    pub(super) packs: &'run Mutex<PackSet>,
    pub(super) cancel: &'run Cancel,
    pub(super) progress: &'run Progress,
    pub(super) scratch: &'run Path,
}

/// Captures the tree `name` from `directory`.
pub(super) fn capture(
    context: &Context<'_>,
    name: &str,
    directory: &Path,
    cache: &Path,
    sink: &mut PackSink<'_>,
    problems: &mut Vec<Problem>,
) -> Result<Captured, SnapshotError> {
    let walk = Walk::new(directory, context.options.walk.clone())
        .map_err(|source| SnapshotError::Source { directory: directory.to_owned(), source })?;
    let clocks = Clocks::default();
    let stop = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (to_read, batches) = bounded::<Batch>(cores);
    let (in_order, ordered) = bounded::<Receiver<Part>>(cores + 2);
    let mut assembler = Assembler::new(context, name, sink, problems)?;
    let walked = std::thread::scope(|scope| {
        for _ in 0..cores {
            let batches = batches.clone();
            let clocks = &clocks;
            scope.spawn(move || work(&batches, &|dev| clocks.is_ours(dev)));
        }
        drop(batches);
        let walker = scope.spawn(|| {
            let mut walker = Walker::new(context, cache, &clocks, &stop, to_read, in_order);
            walker.run(walk);
            walker.finish()
        });
        for parts in ordered {
            let result = parts.into_iter().try_for_each(|part| assembler.part(part));
            if let Err(error) = result {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(walker.join().expect("the walker does not panic"))
    })?;
    if context.cancel.is_requested() {
        return Err(SnapshotError::Cancelled);
    }
    match walked.unchanged {
        Some(tree) => Ok(Captured::Unchanged(tree)),
        None => assembler.finish(walked.names).map(|assembled| Captured::Changed(Box::new(assembled))),
    }
}

/// Whether the clock of a file system is the one of this machine.
#[derive(Default)]
struct Clocks(Mutex<HashMap<u64, bool>>);

impl Clocks {
    /// File systems of local disks. Others, tmpfs among them, leave no trace of stores through `mmap`, or have the
    /// clock of another machine.
    const LOCAL: [u64; 8] = [
        0xEF53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683E, // btrfs
        0xF2F5_2010, // f2fs
        0x2FC1_2FC1, // zfs
        0xCA45_1A4E, // bcachefs
        0x794C_7630, // overlayfs: what lies below is local on every container host
        0x3153_464A, // jfs
    ];

    fn learn(&self, found: &Found) {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.entry(found.stat.st_dev).or_insert_with(|| {
            rustix::fs::fstatfs(&found.directory).is_ok_and(|fs| Self::LOCAL.contains(&(fs.f_type as u64)))
        });
    }

    fn is_ours(&self, dev: u64) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&dev).copied().unwrap_or(false)
    }
}

/// What the walker found out.
struct Walked {
    names: OwnerNames,
    unchanged: Option<Box<CachedTree>>,
}

/// The thread that walks.
struct Walker<'a> {
    context: &'a Context<'a>,
    clocks: &'a Clocks,
    stop: &'a AtomicBool,
    to_read: Sender<Batch>,
    in_order: Sender<Receiver<Part>>,
    cache_path: &'a Path,
    cache: CacheReader<'a>,
    /// Whether each pack of the cache's entries may be reused, as far as it was asked.
    allowed: HashMap<u32, bool>,
    /// Entries that were equal to the cache's from its beginning; `None` after the first difference.
    equal_so_far: Option<u64>,
    batch: Vec<Item>,
    batch_bytes: u64,
    names: OwnerNames,
    asked: HashSet<(bool, u32)>,
    groups: HashMap<(u64, u64), [u8; 16]>,
    reread_left: u64,
    now: i64,
}

impl<'a> Walker<'a> {
    fn new(
        context: &'a Context<'a>,
        cache: &'a Path,
        clocks: &'a Clocks,
        stop: &'a AtomicBool,
        to_read: Sender<Batch>,
        in_order: Sender<Receiver<Part>>,
    ) -> Self {
        Self {
            context,
            clocks,
            stop,
            to_read,
            in_order,
            cache_path: cache,
            cache: CacheReader::open(cache, context.packs),
            allowed: HashMap::new(),
            equal_so_far: Some(0),
            batch: Vec::new(),
            batch_bytes: 0,
            names: OwnerNames::default(),
            asked: HashSet::new(),
            groups: HashMap::new(),
            reread_left: context.options.reread_bytes,
            now: rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec,
        }
    }

    fn run(&mut self, walk: Walk) {
        let mut device = None;
        for found in walk {
            if self.stop.load(Ordering::Relaxed) || self.context.cancel.is_requested() {
                return;
            }
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    self.differ();
                    self.send(Item::Unreadable(error.path, error.source), 0);
                    continue;
                }
            };
            let Some(entry) = entry_of(found.path.clone(), &found.stat) else { continue };
            if !self.context.options.devices && matches!(entry.kind.code(), 3..=5) {
                continue;
            }
            if device != Some(found.stat.st_dev) {
                device = Some(found.stat.st_dev);
                self.clocks.learn(&found);
            }
            learn_names(&mut self.names, &mut self.asked, entry.uid, entry.gid);
            self.path(entry, found);
        }
        if self.cache.next().is_some() {
            self.differ();
        }
    }

    fn path(&mut self, mut entry: Entry, found: Found) {
        if !matches!(entry.kind, Kind::Directory) && found.stat.st_nlink > 1 {
            let inode = (found.stat.st_dev, found.stat.st_ino);
            entry.group = Some(*self.groups.entry(inode).or_insert_with(|| group_of(&entry.path)));
        }
        let before = self.cached(&entry.path);
        let identity = Identity::of(&found.stat);
        match before {
            Some((known, seen)) if self.may_reuse(&known, &seen, &entry, &identity) => {
                if self.is_due(&known, &seen) {
                    self.differ();
                    let size = known.size();
                    let expected = Some(Box::new(known));
                    self.send(Item::ToRead { entry, found, expected }, size);
                    return;
                }
                if known.group != entry.group {
                    self.differ();
                }
                match &mut self.equal_so_far {
                    Some(equal) => *equal += 1,
                    None => self.send(Item::Known(Entry { group: entry.group, ..known }, seen), 0),
                }
                self.context.progress.add_items(1);
            }
            _ => {
                self.differ();
                let size = identity.size;
                self.send(Item::ToRead { entry, found, expected: None }, size);
            }
        }
    }

    /// The cache's row for `path`; rows of paths that are gone are passed over.
    fn cached(&mut self, path: &[u8]) -> Option<(Entry, Seen)> {
        while let Some((known, _)) = self.cache.peek() {
            match compare_paths(&known.path, path) {
                std::cmp::Ordering::Less => {
                    self.differ();
                    self.cache.next();
                }
                std::cmp::Ordering::Equal => return self.cache.next(),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    fn may_reuse(&mut self, known: &Entry, seen: &Seen, entry: &Entry, identity: &Identity) -> bool {
        known.kind.code() == entry.kind.code()
            && !known.torn
            && seen.matches(known, identity)
            && packs_of(known).all(|pack| self.may_reuse_pack(pack))
    }

    fn may_reuse_pack(&mut self, pack: u32) -> bool {
        let context = self.context;
        *self.allowed.entry(pack).or_insert_with(|| {
            let packs = context.packs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            context.reusable.allows(&packs.get(pack))
        })
    }

    /// Whether a settled file is read again all the same, because its turn has come.
    fn is_due(&mut self, known: &Entry, seen: &Seen) -> bool {
        let cycle = self.context.options.reread_cycle.as_secs() as i64;
        // Turns are spread over the second half of the cycle, so that not all files of one day come back on one day.
        let spread = i64::from(blake3::hash(&known.path).as_bytes()[0]) * (cycle / 512);
        known.size() > 0
            && self.now.saturating_sub(seen.read_at) >= cycle - spread
            && take_turn(known.size(), &mut self.reread_left, self.context.options.reread_bytes)
    }

    /// From here on everything is handed on; first what was equal so far.
    fn differ(&mut self) {
        let Some(equal) = self.equal_so_far.take() else { return };
        let mut again = CacheReader::open(self.cache_path, self.context.packs);
        for _ in 0..equal {
            let Some((entry, seen)) = again.next() else { break };
            self.send(Item::Known(entry, seen), 0);
        }
    }

    fn send(&mut self, item: Item, bytes: u64) {
        self.batch.push(item);
        self.batch_bytes += bytes;
        if self.batch.len() >= BATCH_ITEMS || self.batch_bytes >= PART_BYTES as u64 {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return;
        }
        let (parts, receiver) = bounded(PARTS_AHEAD);
        let batch = Batch { items: std::mem::take(&mut self.batch), parts };
        // Both fail only when the run has ended.
        let _ = self.in_order.send(receiver).is_ok() && self.to_read.send(batch).is_ok();
    }

    fn finish(mut self) -> Walked {
        self.flush();
        let equal = self.equal_so_far;
        let unchanged =
            self.cache.tree().filter(|tree| equal == Some(tree.entries) && self.all_reusable(tree)).cloned();
        if unchanged.is_none() {
            self.differ();
            self.flush();
        }
        Walked { names: self.names, unchanged: unchanged.map(Box::new) }
    }

    fn all_reusable(&self, tree: &CachedTree) -> bool {
        tree.packs.iter().all(|pack| self.context.reusable.allows(pack))
    }
}

/// Whether a file of `size` bytes still fits what this run reads again; `left` of `most` bytes become fewer.
///
/// The first one always fits, or a file longer than `most` would never have its turn.
fn take_turn(size: u64, left: &mut u64, most: u64) -> bool {
    if size > *left && *left < most {
        return false;
    }
    *left = left.saturating_sub(size);
    true
}

/// The caller's thread: puts entries and chunks together.
struct Assembler<'a, 'run> {
    context: &'a Context<'a>,
    tree: &'a str,
    sink: &'a mut PackSink<'run>,
    problems: &'a mut Vec<Problem>,
    spool: Spool,
    digester: TreeDigester,
    counts: Counts,
    chunks: Vec<ChunkRef>,
    has_long_lists: bool,
    /// For each hard-link group of the walk, the group of the first member that could be read, and what that was like.
    first_members: HashMap<[u8; 16], ([u8; 16], [u8; 32])>,
}

impl<'a, 'run> Assembler<'a, 'run> {
    fn new(
        context: &'a Context<'a>,
        tree: &'a str,
        sink: &'a mut PackSink<'run>,
        problems: &'a mut Vec<Problem>,
    ) -> Result<Self, SnapshotError> {
        Ok(Self {
            context,
            tree,
            sink,
            problems,
            spool: Spool::create(context.scratch).map_err(SnapshotError::LocalTable)?,
            digester: TreeDigester::default(),
            counts: Counts::default(),
            chunks: Vec::new(),
            has_long_lists: false,
            first_members: HashMap::new(),
        })
    }

    fn part(&mut self, part: Part) -> Result<(), SnapshotError> {
        if self.context.cancel.is_requested() {
            return Err(SnapshotError::Cancelled);
        }
        for step in part.steps {
            match step {
                Step::Chunk(id, range) => {
                    let chunk = self.sink.add(id, &part.data[range])?;
                    self.chunks.push(chunk);
                }
                Step::Restart => self.chunks.clear(),
                Step::Done(entry, seen) => self.done(*entry, seen)?,
                Step::Mismatch(path) => self.problem(Problem::cache_mismatch(self.tree, &path)),
                Step::Unreadable(path, error) => self.problem(Problem::unreadable(self.tree, &path, &error)),
            }
        }
        Ok(())
    }

    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn done(&mut self, mut entry: Entry, seen: Seen) -> Result<(), SnapshotError> {
        let chunks = std::mem::take(&mut self.chunks);
        if let Kind::File { chunks: list @ ChunkList::Inline(_), .. } = &mut entry.kind
            && !chunks.is_empty()
        {
            self.has_long_lists |= chunks.len() > MAX_INLINE;
            *list = ChunkList::Inline(chunks);
        }
        let attributes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        if attributes > MAX_ENTRY_BYTES / 2 {
            let error = io::Error::other(format!(
                "it has {attributes} bytes of extended attributes, at most 65536 can be stored"
            ));
            self.problem(Problem::unreadable(self.tree, &entry.path, &error));
            return Ok(());
        }
        if let Some(group) = entry.group {
            let own = properties(&entry);
            let (group, first) = *self.first_members.entry(group).or_insert_with(|| (group_of(&entry.path), own));
            entry.group = (own == first).then_some(group);
            // It was written between the reads of two of its names, which are therefore no longer one file.
            entry.torn |= own != first && matches!(entry.kind, Kind::File { .. });
        }
        if entry.torn {
            self.problem(Problem::torn(self.tree, &entry.path));
        }
        self.counts.add(&entry);
        self.context.progress.add_items(1);
        self.context.progress.add_bytes(entry.size());
        self.digester.push(&entry);
        self.spool.push(&entry, &seen).map_err(SnapshotError::LocalTable)
    }

    fn finish(self, names: OwnerNames) -> Result<Assembled, SnapshotError> {
        Ok(Assembled {
            spool: self.spool.finish().map_err(SnapshotError::LocalTable)?,
            names,
            digests: self.digester.finish(),
            counts: self.counts,
            has_long_lists: self.has_long_lists,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::take_turn;

    #[test]
    fn a_file_longer_than_the_limit_has_its_turn_alone() {
        let mut left = 100;
        assert_eq!([60, 60, 40, 1].map(|size| take_turn(size, &mut left, 100)), [true, false, true, false]);
        let mut left = 100;
        assert_eq!([500, 1].map(|size| take_turn(size, &mut left, 100)), [true, false]);
    }
}
