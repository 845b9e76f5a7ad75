//! Staging: the data of all files into a private directory, many files and many frames at once.
//!
//! ```text
//! planner (caller's thread): asks for frames, hands out files
//!   -> fetchers: fetch, verify and decode frames
//!   -> writers, one per core: create, write, hash, set metadata
//! ```
//!
//! Files are handed out in the order of their data (`order.rs`), so a frame is fetched once and serves its neighbours
//! in its pack. Decoded frames on their way are bounded by a budget of bytes (`frames.rs`).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::frames::{Frame, Order, Shared, fetch};
use super::order::{Next, Ordered, Partial};
use super::place::{NewFile, Opener, name_of};
use super::plan::chunks_of;
use super::{Options, RestoreError};
use crate::cancel::Cancel;
use crate::entry::{ChunkRef, Entry, Extent, Kind, PackSet};
use crate::fetch::{FetchError, Fetcher, OpenPack, piece};
use crate::progress::Progress;

/// Decoded bytes of frames kept for the files that come next.
const KEPT_FRAMES: usize = 8;
/// Raw bytes of new frames after which what was gathered is handed out.
const WINDOW_BYTES: u64 = 4 << 20;
/// Files after which what was gathered is handed out.
const WINDOW_FILES: usize = 256;
/// Files that a writer takes at once.
const JOB_FILES: usize = 32;
/// Longest run of neighbouring frames fetched with one request, in stored bytes.
const RUN_BYTES: u64 = 2 << 20;
/// Pieces of a long file that are handed out at once.
const PART_PIECES: usize = 1024;

/// A piece of a file.
enum Piece {
    /// Bytes of a frame.
    Of { frame: Arc<Frame>, offset: u32, bytes: u32 },
    /// Bytes that the file holds already.
    InPlace(u32),
}

/// A file to write: where, and what.
struct FileJob {
    entry: Entry,
    directory: Arc<OwnedFd>,
    name: CString,
    /// A part of it is there already.
    is_begun: bool,
    pieces: Pieces,
}

enum Pieces {
    All(Vec<Piece>),
    /// A file longer than a window comes in parts.
    Parts(Receiver<Vec<Piece>>),
}

/// Stages the files of `ordered` into the directories `roots`, which are there. Says how many bytes were fetched.
///
/// Links, special files and the metadata of directories come later.
pub(super) fn stage(
    fetcher: &Fetcher<'_>,
    mut ordered: Ordered<'_>,
    roots: &[Arc<OwnedFd>],
    packs: &PackSet,
    options: &Options,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<u64, RestoreError> {
    let run = Shared::new(cancel);
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
            openers: roots.iter().map(|root| Opener::new(root.clone())).collect(),
            to_fetch,
            to_write,
            live: HashMap::new(),
            kept: VecDeque::new(),
            open: None,
            wanted: BTreeMap::new(),
            wanted_bytes: 0,
            waiting: Vec::new(),
        };
        if let Err(error) = planner.all(&mut ordered) {
            run.fail(error);
        }
    });
    run.outcome()
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
    let open = if job.is_begun { NewFile::reopen } else { NewFile::create };
    let mut out = Writer { file: open(job.directory.as_fd(), &job.name).map_err(failed)?, at: 0, holes };
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
            match piece_of {
                Piece::Of { frame, offset, bytes } => {
                    let Some(raw) = frame.wait() else { return Ok(false) };
                    // Places were checked against the frame's length when the frame was asked for.
                    let bytes = piece(&raw, *offset, *bytes).expect("the place lies in the frame");
                    self.around_holes(bytes.len() as u64, |file, from, n| file.write(&bytes[from..from + n]))?;
                }
                Piece::InPlace(bytes) => {
                    self.around_holes((*bytes).into(), |file, _, n| file.keep(n))?;
                }
            }
        }
        Ok(true)
    }

    /// Does `put` with the place and the length of each run of data between holes.
    fn around_holes(
        &mut self,
        bytes: u64,
        mut put: impl FnMut(&mut NewFile, usize, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < bytes {
            self.skip_holes();
            let most = self.holes.first().map_or(u64::MAX, |hole| hole.offset - self.at);
            let n = (bytes - done).min(most);
            put(&mut self.file, done as usize, n as usize)?;
            self.at += n;
            done += n;
        }
        Ok(())
    }
}

/// The thread that decides what is fetched and written, and in which order.
struct Planner<'a, 'store> {
    fetcher: &'a Fetcher<'store>,
    packs: PackSet,
    run: Arc<Shared>,
    /// One per tree.
    openers: Vec<Opener>,
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
    fn all(&mut self, ordered: &mut Ordered<'_>) -> Result<(), RestoreError> {
        while let Some(next) = ordered.next()? {
            if self.file(next)?.is_err() {
                return Ok(());
            }
        }
        let _ = self.hand_out();
        Ok(())
    }

    fn file(&mut self, Next { tree, entry, partial }: Next) -> Result<Result<(), Ended>, RestoreError> {
        let directory =
            self.openers[tree].parent_of(&entry.path).map_err(|source| RestoreError::write(&entry.path, source))?;
        let name = name_of(&entry.path);
        let Kind::File { chunks, .. } = &entry.kind else { unreachable!("only files are ordered") };
        let chunks = chunks_of(chunks, self.fetcher, &mut self.packs)?;
        let is_begun = partial.is_some();
        let partial = partial.unwrap_or_default();
        let bytes: u64 = chunks.iter().map(|r| u64::from(r.bytes)).sum();
        if bytes <= WINDOW_BYTES {
            let pieces = self.pieces(&chunks, 0, &partial)?;
            self.waiting.push(FileJob { entry, directory, name, is_begun, pieces: Pieces::All(pieces) });
            if self.wanted_bytes >= WINDOW_BYTES || self.waiting.len() >= WINDOW_FILES {
                return Ok(self.hand_out());
            }
            return Ok(Ok(()));
        }
        let (parts, receiver) = bounded(2);
        self.waiting.push(FileJob { entry, directory, name, is_begun, pieces: Pieces::Parts(receiver) });
        if self.hand_out().is_err() {
            return Ok(Err(Ended));
        }
        let mut part = Vec::new();
        for (i, chunk) in chunks.iter().enumerate() {
            part.extend(self.pieces(std::slice::from_ref(chunk), i, &partial)?);
            let is_full = self.wanted_bytes >= WINDOW_BYTES || part.len() >= PART_PIECES;
            if is_full && (self.hand_out().is_err() || parts.send(std::mem::take(&mut part)).is_err()) {
                return Ok(Err(Ended));
            }
        }
        if self.hand_out().is_err() || parts.send(part).is_err() {
            return Ok(Err(Ended));
        }
        Ok(Ok(()))
    }

    /// The pieces that `chunks` are, the first of which is number `first` of its file.
    fn pieces(&mut self, chunks: &[ChunkRef], first: usize, partial: &Partial) -> Result<Vec<Piece>, RestoreError> {
        let piece = |(i, r): (usize, &ChunkRef)| -> Result<Piece, FetchError> {
            if partial.holds(first + i) {
                return Ok(Piece::InPlace(r.bytes));
            }
            Ok(Piece::Of { frame: self.frame(r)?, offset: r.offset, bytes: r.bytes })
        };
        Ok(chunks.iter().enumerate().map(piece).collect::<Result<_, FetchError>>()?)
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
                if self.run.is_short_of(raw_len) {
                    // What was gathered must be on its way before anything of it can come free.
                    let _ = self.hand_out();
                    self.kept.clear();
                }
                let frame = self.run.new_frame(raw_len);
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
                        && *bytes + stored <= RUN_BYTES =>
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
