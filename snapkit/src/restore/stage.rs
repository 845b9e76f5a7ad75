//! Staging: the data of all files into a private directory, many files and many frames at once.
//!
//! ```text
//! planner (caller's thread): makes directories, asks for frames, hands out files
//!   -> fetchers: fetch, verify and decode frames
//!   -> writers, one per core: create, write, hash, set metadata
//! ```
//!
//! Files are handed out in tree order, which is the order they were packed in, so a frame is fetched once and serves
//! its neighbours. Decoded frames on their way are bounded by a budget of bytes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::Mode;

use super::place::{NewFile, Opener, name_of};
use super::plan::{PlannedTree, chunks_of};
use super::{Options, RestoreError};
use crate::cancel::Cancel;
use crate::entry::{ChunkRef, Entry, Extent, Kind, PackSet};
use crate::fetch::{FetchError, Fetcher, OpenPack, piece};
use crate::pack::FrameDecoder;
use crate::progress::Progress;

/// Decoded bytes on their way at once.
const BUDGET_BYTES: u64 = 40 << 20;
/// Decoded bytes of frames kept for the files that come next.
const KEPT_FRAMES: usize = 6;
/// Raw bytes of new frames after which what was gathered is handed out.
const WINDOW_BYTES: u64 = 4 << 20;
/// Files after which what was gathered is handed out.
const WINDOW_FILES: usize = 256;
/// Files that a writer takes at once.
const JOB_FILES: usize = 32;
/// Longest run of neighbouring frames fetched with one request, in stored bytes.
const RUN_BYTES: u64 = 4 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that may be on their way.
struct Budget {
    left: Mutex<i64>,
    freed: Condvar,
}

/// A frame that was asked for.
struct Frame {
    data: Mutex<Option<Arc<Vec<u8>>>>,
    ready: Condvar,
    raw_len: u64,
    run: Arc<Shared>,
}

impl Drop for Frame {
    fn drop(&mut self) {
        *lock(&self.run.budget.left) += self.raw_len as i64;
        self.run.budget.freed.notify_all();
    }
}

/// What the threads share.
struct Shared {
    budget: Budget,
    failed: Mutex<Option<RestoreError>>,
    fetched_bytes: AtomicU64,
    cancel: Cancel,
}

impl Shared {
    fn fail(&self, error: RestoreError) {
        lock(&self.failed).get_or_insert(error);
    }

    fn has_ended(&self) -> bool {
        self.cancel.is_requested() || lock(&self.failed).is_some()
    }
}

impl Frame {
    /// The decoded bytes, once they are there; `None` when the run has ended before.
    fn wait(&self) -> Option<Arc<Vec<u8>>> {
        let mut data = lock(&self.data);
        loop {
            if let Some(data) = &*data {
                return Some(data.clone());
            }
            if self.run.has_ended() {
                return None;
            }
            let timeout = std::time::Duration::from_millis(100);
            data = self.ready.wait_timeout(data, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A run of neighbouring frames to fetch.
struct Order {
    pack: Arc<OpenPack>,
    first: u32,
    frames: Vec<Arc<Frame>>,
}

/// A piece of a file: bytes of a frame.
struct Piece {
    frame: Arc<Frame>,
    offset: u32,
    bytes: u32,
}

/// A file to write: where, and what.
struct FileJob {
    entry: Entry,
    directory: Arc<OwnedFd>,
    name: CString,
    pieces: Pieces,
}

enum Pieces {
    All(Vec<Piece>),
    /// A file longer than a window comes in parts.
    Parts(Receiver<Vec<Piece>>),
}

/// Stages the data of all `trees`; `roots` are the directories they go to. Says how many bytes were fetched.
///
/// Directories are made private; links, special files and the metadata of directories come later.
pub(super) fn stage(
    fetcher: &Fetcher<'_>,
    trees: &[PlannedTree],
    roots: &[Arc<OwnedFd>],
    packs: &PackSet,
    options: &Options,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<u64, RestoreError> {
    let run = Arc::new(Shared {
        budget: Budget { left: Mutex::new(BUDGET_BYTES as i64), freed: Condvar::new() },
        failed: Mutex::new(None),
        fetched_bytes: AtomicU64::new(0),
        cancel: cancel.clone(),
    });
    let cores = crate::parallel::cores();
    let (to_fetch, orders) = bounded::<Order>(options.fetchers.max(1));
    let (to_write, jobs) = bounded::<Vec<FileJob>>(cores);
    std::thread::scope(|scope| {
        for _ in 0..options.fetchers.max(1) {
            let orders = orders.clone();
            let run = &run;
            scope.spawn(move || fetch(&orders, fetcher, run));
        }
        for _ in 0..cores {
            let jobs = jobs.clone();
            let run = &run;
            scope.spawn(move || write(&jobs, run, progress));
        }
        drop((orders, jobs));
        let mut planner = Planner {
            fetcher,
            packs: packs.clone(),
            run: run.clone(),
            to_fetch,
            to_write,
            live: HashMap::new(),
            kept: VecDeque::new(),
            open: None,
            wanted: BTreeMap::new(),
            wanted_bytes: 0,
            waiting: Vec::new(),
        };
        for (tree, root) in trees.iter().zip(roots) {
            if let Err(error) = planner.tree(tree, root) {
                run.fail(error);
            }
        }
    });
    if let Some(error) = lock(&run.failed).take() {
        return Err(error);
    }
    if cancel.is_requested() {
        return Err(RestoreError::Cancelled);
    }
    Ok(run.fetched_bytes.load(Ordering::Relaxed))
}

fn fetch(orders: &Receiver<Order>, fetcher: &Fetcher<'_>, run: &Shared) {
    let mut decoder = FrameDecoder::default();
    for order in orders {
        if run.has_ended() {
            continue;
        }
        if let Err(error) = fetch_run(&order, fetcher, run, &mut decoder) {
            run.fail(error.into());
        }
    }
}

fn fetch_run(order: &Order, fetcher: &Fetcher<'_>, run: &Shared, decoder: &mut FrameDecoder) -> Result<(), FetchError> {
    let end = order.first + order.frames.len() as u32;
    let stored = fetcher.stored(&order.pack, order.first..end)?;
    run.fetched_bytes.fetch_add(stored.len() as u64, Ordering::Relaxed);
    let mut at = 0;
    for (i, frame) in order.frames.iter().enumerate() {
        let index = order.first + i as u32;
        let row = &order.pack.table.rows[index as usize];
        let bytes = &stored[at..at + row.stored_len as usize];
        at += row.stored_len as usize;
        let mut raw = Vec::new();
        decoder.decode(&order.pack.info.id, index, row, bytes, &mut raw)?;
        *lock(&frame.data) = Some(Arc::new(raw));
        frame.ready.notify_all();
    }
    Ok(())
}

fn write(jobs: &Receiver<Vec<FileJob>>, run: &Shared, progress: &Progress) {
    for job in jobs {
        for file in job {
            if run.has_ended() {
                break;
            }
            let size = file.entry.size();
            match write_file(file) {
                Ok(()) => {
                    progress.add_items(1);
                    progress.add_bytes(size);
                }
                Err(error) => run.fail(error),
            }
        }
    }
}

fn write_file(job: FileJob) -> Result<(), RestoreError> {
    let entry = &job.entry;
    let failed = |source: io::Error| RestoreError::write(&entry.path, source);
    let Kind::File { holes, .. } = &entry.kind else { unreachable!("only files are handed out") };
    let mut out = Writer { file: NewFile::create(job.directory.as_fd(), &job.name).map_err(failed)?, at: 0, holes };
    match &job.pieces {
        Pieces::All(pieces) => {
            if !out.pieces(pieces).map_err(failed)? {
                return Ok(());
            }
        }
        Pieces::Parts(parts) => {
            for pieces in parts {
                if !out.pieces(&pieces).map_err(failed)? {
                    return Ok(());
                }
            }
        }
    }
    out.skip_holes();
    out.file.finish(entry)
}

struct Writer<'a> {
    file: NewFile,
    at: u64,
    holes: &'a [Extent],
}

impl Writer<'_> {
    fn skip_holes(&mut self) {
        while let Some(hole) = self.holes.first().filter(|hole| hole.offset == self.at) {
            self.file.skip(hole.bytes);
            self.at += hole.bytes;
            self.holes = &self.holes[1..];
        }
    }

    /// Writes pieces around the holes; `false` when the run has ended.
    fn pieces(&mut self, pieces: &[Piece]) -> io::Result<bool> {
        for piece_of in pieces {
            let Some(raw) = piece_of.frame.wait() else { return Ok(false) };
            // Places were checked against the frame's length when the frame was asked for.
            let mut bytes = piece(&raw, piece_of.offset, piece_of.bytes).expect("the place lies in the frame");
            while !bytes.is_empty() {
                self.skip_holes();
                let most = self.holes.first().map_or(u64::MAX, |hole| hole.offset - self.at);
                let n = (bytes.len() as u64).min(most) as usize;
                self.file.write(&bytes[..n])?;
                self.at += n as u64;
                bytes = &bytes[n..];
            }
        }
        Ok(true)
    }
}

/// The thread that decides what is fetched and written, and in which order.
struct Planner<'a, 'store> {
    fetcher: &'a Fetcher<'store>,
    packs: PackSet,
    run: Arc<Shared>,
    to_fetch: Sender<Order>,
    to_write: Sender<Vec<FileJob>>,
    /// Frames that somebody holds.
    live: HashMap<(u32, u16), Weak<Frame>>,
    /// Frames held for the files that come next.
    kept: VecDeque<Arc<Frame>>,
    /// The pack asked for last.
    open: Option<(u32, Arc<OpenPack>)>,
    /// Frames to be asked for when the window is full, in packing order.
    wanted: BTreeMap<(u32, u16), (Arc<OpenPack>, Arc<Frame>)>,
    wanted_bytes: u64,
    waiting: Vec<FileJob>,
}

/// The run has ended, for a reason that is noted elsewhere.
struct Ended;

impl Planner<'_, '_> {
    fn tree(&mut self, tree: &PlannedTree, root: &Arc<OwnedFd>) -> Result<(), RestoreError> {
        let mut opener = Opener::new(root.clone());
        let entries = tree.file.read().map_err(|source| RestoreError::write(b"", source))?;
        for entry in entries {
            let entry = entry.map_err(|source| RestoreError::write(b"", source))?;
            let failed = |source: io::Error| RestoreError::write(&entry.path, source);
            match &entry.kind {
                Kind::Directory if entry.path.is_empty() => {}
                Kind::Directory => {
                    let above = opener.parent_of(&entry.path).map_err(failed)?;
                    let made = rustix::fs::mkdirat(&above, name_of(&entry.path), Mode::RWXU);
                    made.map_err(|error| collision_or(&entry, error))?;
                }
                // Further members of a hard-link group are linked to the first when all data is there.
                Kind::File { .. } if entry.links_back() => {}
                Kind::File { .. } => {
                    let handed_out = self.file(entry, &mut opener)?;
                    if handed_out.is_err() {
                        return Ok(());
                    }
                }
                _ => {}
            }
        }
        let _ = self.hand_out();
        Ok(())
    }

    fn file(&mut self, entry: Entry, opener: &mut Opener) -> Result<Result<(), Ended>, RestoreError> {
        let directory = opener.parent_of(&entry.path).map_err(|source| RestoreError::write(&entry.path, source))?;
        let name = name_of(&entry.path);
        let Kind::File { chunks, .. } = &entry.kind else { unreachable!("the caller looked") };
        let chunks = chunks_of(chunks, self.fetcher, &mut self.packs)?;
        let bytes: u64 = chunks.iter().map(|r| u64::from(r.bytes)).sum();
        if bytes <= WINDOW_BYTES {
            let pieces = self.pieces(&chunks)?;
            self.waiting.push(FileJob { entry, directory, name, pieces: Pieces::All(pieces) });
            if self.wanted_bytes >= WINDOW_BYTES || self.waiting.len() >= WINDOW_FILES {
                return Ok(self.hand_out());
            }
            return Ok(Ok(()));
        }
        let (parts, receiver) = bounded(2);
        self.waiting.push(FileJob { entry, directory, name, pieces: Pieces::Parts(receiver) });
        if self.hand_out().is_err() {
            return Ok(Err(Ended));
        }
        let mut part = Vec::new();
        for chunk in &chunks {
            part.extend(self.pieces(std::slice::from_ref(chunk))?);
            let is_full = self.wanted_bytes >= WINDOW_BYTES || part.len() >= 1024;
            if is_full && (self.hand_out().is_err() || parts.send(std::mem::take(&mut part)).is_err()) {
                return Ok(Err(Ended));
            }
        }
        if self.hand_out().is_err() || parts.send(part).is_err() {
            return Ok(Err(Ended));
        }
        Ok(Ok(()))
    }

    fn pieces(&mut self, chunks: &[ChunkRef]) -> Result<Vec<Piece>, RestoreError> {
        chunks
            .iter()
            .map(|r| Ok(Piece { frame: self.frame(r)?, offset: r.offset, bytes: r.bytes }))
            .collect::<Result<_, FetchError>>()
            .map_err(RestoreError::from)
    }

    /// The frame a chunk lies in, asked for if nobody has.
    fn frame(&mut self, r: &ChunkRef) -> Result<Arc<Frame>, FetchError> {
        let key = (r.pack, r.frame);
        let no_place = |pack| FetchError::NoSuchPlace { chunk: r.chunk, pack, frame: r.frame.into() };
        let frame = match self.live.get(&key).and_then(Weak::upgrade) {
            Some(frame) => frame,
            None => {
                let pack = self.pack(r.pack)?;
                let row = pack.table.rows.get(usize::from(r.frame)).ok_or_else(|| no_place(pack.info.id))?;
                let raw_len = u64::from(row.raw_len);
                let frame = self.new_frame(raw_len);
                self.live.insert(key, Arc::downgrade(&frame));
                if self.live.len() > 4096 {
                    self.live.retain(|_, frame| frame.strong_count() > 0);
                }
                self.wanted_bytes += raw_len;
                self.wanted.insert(key, (pack, frame.clone()));
                self.kept.push_back(frame.clone());
                if self.kept.len() > KEPT_FRAMES {
                    self.kept.pop_front();
                }
                frame
            }
        };
        if u64::from(r.offset) + u64::from(r.bytes) > frame.raw_len {
            return Err(no_place(self.packs.get(r.pack).id));
        }
        Ok(frame)
    }

    fn pack(&mut self, index: u32) -> Result<Arc<OpenPack>, FetchError> {
        if let Some((open, pack)) = &self.open
            && *open == index
        {
            return Ok(pack.clone());
        }
        let pack = self.fetcher.pack(&self.packs.get(index))?;
        self.open = Some((index, pack.clone()));
        Ok(pack)
    }

    /// A new frame, once the budget allows it.
    fn new_frame(&mut self, raw_len: u64) -> Arc<Frame> {
        if *lock(&self.run.budget.left) < raw_len as i64 {
            // What was gathered must be on its way before anything of it can come free.
            let _ = self.hand_out();
            self.kept.clear();
        }
        let mut left = lock(&self.run.budget.left);
        while *left < raw_len as i64 && *left < BUDGET_BYTES as i64 && !self.run.has_ended() {
            let timeout = std::time::Duration::from_millis(100);
            left = self.run.budget.freed.wait_timeout(left, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
        *left -= raw_len as i64;
        drop(left);
        Arc::new(Frame { data: Mutex::new(None), ready: Condvar::new(), raw_len, run: self.run.clone() })
    }

    /// Asks for the gathered frames, neighbours together, and hands out the gathered files.
    fn hand_out(&mut self) -> Result<(), Ended> {
        self.wanted_bytes = 0;
        let mut run: Option<(u32, u64, Order)> = None;
        for ((pack, frame), (open, data)) in std::mem::take(&mut self.wanted) {
            let stored = u64::from(open.table.rows[usize::from(frame)].stored_len);
            match &mut run {
                Some((of, bytes, order))
                    if *of == pack
                        && order.first + order.frames.len() as u32 == u32::from(frame)
                        && *bytes + stored <= RUN_BYTES / 2 =>
                {
                    order.frames.push(data);
                    *bytes += stored;
                }
                _ => {
                    let next = Order { pack: open, first: frame.into(), frames: vec![data] };
                    if let Some((_, _, order)) = run.replace((pack, stored, next)) {
                        self.to_fetch.send(order).map_err(|_| Ended)?;
                    }
                }
            }
        }
        if let Some((_, _, order)) = run {
            self.to_fetch.send(order).map_err(|_| Ended)?;
        }
        let mut waiting = std::mem::take(&mut self.waiting).into_iter().peekable();
        while waiting.peek().is_some() {
            let job: Vec<FileJob> = waiting.by_ref().take(JOB_FILES).collect();
            self.to_write.send(job).map_err(|_| Ended)?;
        }
        if self.run.has_ended() { Err(Ended) } else { Ok(()) }
    }
}

fn collision_or(entry: &Entry, error: rustix::io::Errno) -> RestoreError {
    if error == rustix::io::Errno::EXIST {
        return RestoreError::Collides { path: crate::entry::printable(&entry.path) };
    }
    RestoreError::write(&entry.path, error)
}
