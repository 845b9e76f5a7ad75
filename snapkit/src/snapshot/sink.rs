//! Where new chunks go: into frames, frames into packs, packs into the store, all at once.
//!
//! ```text
//! caller: frames of raw chunks -> compressors, one per core -> packer, in order -> uploaders
//! ```
//!
//! Places are given out before anything is compressed, so frames and packs are cut by raw bytes and do not depend on
//! timing. Every queue is short: memory is bounded by the packs in flight.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::SnapshotError;
use super::index::ChunkIndex;
use super::journal::Journal;
use crate::cancel::Cancel;
use crate::entry::{ChunkRef, PackSet};
use crate::id::ChunkId;
use crate::pack::{Frame, FrameEncoder, PackInfo, PackWriter};
use crate::segment::{Place, Row};
use crate::store::Store;
use crate::tree::ChunkSink;

/// Raw bytes after which a frame is closed.
const FRAME_BYTES: usize = 1 << 20;
/// Raw bytes after which a pack is closed.
const PACK_RAW_BYTES: u64 = 16 << 20;
/// Chunks after which a pack is closed.
const PACK_CHUNKS: u32 = 32_768;
/// Packs on their way to the store at once.
const UPLOADS: usize = 2;

/// A frame to compress, and the end of its pack if it is the last.
struct Job {
    number: u64,
    raw: Vec<u8>,
    chunks: u32,
    closes: Option<Closing>,
}

/// A pack that is complete but for its name.
struct Closing {
    pack: u32,
    rows: Vec<Row>,
}

struct Packed {
    number: u64,
    frame: Option<Frame>,
    closes: Option<Closing>,
}

/// What the threads share.
pub(super) struct SinkState {
    packs: Mutex<PackSet>,
    progress: Mutex<Flight>,
    landed: Condvar,
    cancel: Cancel,
}

#[derive(Default)]
struct Flight {
    packs_open: usize,
    stored: Stored,
    failed: Option<SnapshotError>,
}

/// What a sink has stored so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    /// Packs written in this run, in the order they landed.
    pub(super) packs: Vec<PackInfo>,
}

impl Stored {
    /// Their length in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.packs.iter().map(|pack| pack.pack_bytes).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panics ends the run; what it left behind is never committed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SinkState {
    /// The shared state of one run, starting with the packs its index refers to.
    pub(super) fn new(packs: PackSet, cancel: Cancel) -> Self {
        Self { packs: Mutex::new(packs), progress: Mutex::default(), landed: Condvar::new(), cancel }
    }

    /// The packs that references point to.
    pub(super) fn packs(&self) -> &Mutex<PackSet> {
        &self.packs
    }

    fn fail(&self, error: SnapshotError) {
        lock(&self.progress).failed.get_or_insert(error);
        self.landed.notify_all();
    }

    fn landed(&self, closing: &Closing, info: PackInfo) {
        lock(&self.packs).resolve(closing.pack, info);
        let mut flight = lock(&self.progress);
        flight.packs_open -= 1;
        flight.stored.packs.push(info);
        self.landed.notify_all();
    }
}

/// Stores chunks that are not stored yet. Used from one thread.
pub(super) struct PackSink<'run> {
    state: &'run SinkState,
    jobs: Sender<Job>,
    index: ChunkIndex,
    raw: Vec<u8>,
    chunks: u32,
    rows: Vec<Row>,
    pack: Option<u32>,
    frame: u16,
    pack_raw_bytes: u64,
    pack_chunks: u32,
    next_number: u64,
    /// Raw bytes of chunks that were new.
    pub(super) new_bytes: u64,
}

impl<'run> PackSink<'run> {
    /// Starts the threads; they end when the sink is dropped.
    pub(super) fn start<'scope>(
        scope: &'scope Scope<'scope, 'run>,
        state: &'run SinkState,
        store: &'run dyn Store,
        journal: &'run Journal,
        index: ChunkIndex,
        level: i32,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let (jobs, to_compress) = bounded::<Job>(cores);
        let (packed, to_pack) = bounded::<Packed>(cores);
        let (closed, to_upload) = bounded::<(Closing, PackInfo, Bytes)>(0);
        for _ in 0..cores {
            let (to_compress, packed) = (to_compress.clone(), packed.clone());
            scope.spawn(move || compress(&to_compress, &packed, level));
        }
        scope.spawn(move || pack_in_order(&to_pack, &closed, state));
        for _ in 0..UPLOADS {
            let to_upload = to_upload.clone();
            scope.spawn(move || upload(&to_upload, state, store, journal));
        }
        Self {
            state,
            jobs,
            index,
            raw: Vec::with_capacity(FRAME_BYTES + crate::chunk::MAX),
            chunks: 0,
            rows: Vec::new(),
            pack: None,
            frame: 0,
            pack_raw_bytes: 0,
            pack_chunks: 0,
            next_number: 0,
            new_bytes: 0,
        }
    }

    /// Stores a chunk unless it is stored already; says where it lies.
    ///
    /// # Errors
    /// The first error of any thread.
    pub(super) fn add(&mut self, chunk: ChunkId, bytes: &[u8]) -> Result<ChunkRef, SnapshotError> {
        let len = u32::try_from(bytes.len()).expect("a chunk is at most 1 MiB");
        let place = match self.index.find(&chunk).map_err(SnapshotError::LocalTable)? {
            Some(place) => place,
            None => self.append(chunk, bytes, len)?,
        };
        Ok(ChunkRef { chunk, bytes: len, pack: place.pack, frame: place.frame, offset: place.offset })
    }

    fn append(&mut self, chunk: ChunkId, bytes: &[u8], len: u32) -> Result<Place, SnapshotError> {
        let pack = match self.pack {
            Some(pack) => pack,
            None => {
                lock(&self.state.progress).packs_open += 1;
                *self.pack.insert(lock(&self.state.packs).reserve())
            }
        };
        let place = Place { pack, frame: self.frame, offset: self.raw.len() as u32, bytes: len };
        self.raw.extend_from_slice(bytes);
        self.chunks += 1;
        self.pack_chunks += 1;
        self.pack_raw_bytes += u64::from(len);
        self.new_bytes += u64::from(len);
        self.rows.push(Row { chunk, place });
        self.index.insert(chunk, place).map_err(SnapshotError::LocalTable)?;
        if self.pack_raw_bytes >= PACK_RAW_BYTES || self.pack_chunks >= PACK_CHUNKS {
            self.close_pack()?;
        } else if self.raw.len() >= FRAME_BYTES {
            self.close_frame(None)?;
        }
        Ok(place)
    }

    fn close_frame(&mut self, closes: Option<Closing>) -> Result<(), SnapshotError> {
        let raw = std::mem::replace(&mut self.raw, Vec::with_capacity(FRAME_BYTES + crate::chunk::MAX));
        let job = Job { number: self.next_number, raw, chunks: std::mem::take(&mut self.chunks), closes };
        self.next_number += 1;
        self.frame += 1;
        if self.jobs.send(job).is_err() || self.state.cancel.is_requested() {
            return Err(self.failure());
        }
        Ok(())
    }

    fn close_pack(&mut self) -> Result<(), SnapshotError> {
        let Some(pack) = self.pack.take() else { return Ok(()) };
        let rows = std::mem::take(&mut self.rows);
        self.close_frame(Some(Closing { pack, rows }))?;
        self.frame = 0;
        self.pack_raw_bytes = 0;
        self.pack_chunks = 0;
        Ok(())
    }

    /// Why the threads have stopped.
    fn failure(&self) -> SnapshotError {
        if self.state.cancel.is_requested() {
            return SnapshotError::Cancelled;
        }
        lock(&self.state.progress).failed.take().unwrap_or(SnapshotError::Cancelled)
    }

    /// What was stored so far; complete after [`ChunkSink::close`].
    pub(super) fn stored(&self) -> Stored {
        lock(&self.state.progress).stored.clone()
    }

    /// The index of chunks, to write the segment from.
    pub(super) fn into_index(self) -> ChunkIndex {
        self.index
    }

    /// Makes a pack of an interrupted run known, so that its chunks are reused.
    ///
    /// # Errors
    /// When a local table cannot be written.
    pub(super) fn adopt(&mut self, info: PackInfo, rows: HashMap<ChunkId, Place>) -> Result<(), SnapshotError> {
        let pack = lock(&self.state.packs).index(info);
        for (chunk, place) in rows {
            self.index.insert(chunk, Place { pack, ..place }).map_err(SnapshotError::LocalTable)?;
        }
        Ok(())
    }
}

impl ChunkSink for PackSink<'_> {
    type Error = SnapshotError;

    fn store(&mut self, bytes: &[u8]) -> Result<ChunkRef, SnapshotError> {
        self.add(ChunkId::of(bytes), bytes)
    }

    fn close(&mut self) -> Result<(), SnapshotError> {
        self.close_pack()?;
        let mut flight = lock(&self.state.progress);
        while flight.packs_open > 0 && flight.failed.is_none() && !self.state.cancel.is_requested() {
            let timeout = std::time::Duration::from_millis(100);
            flight = self.state.landed.wait_timeout(flight, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
        let done = flight.packs_open == 0 && flight.failed.is_none();
        drop(flight);
        if done { Ok(()) } else { Err(self.failure()) }
    }

    fn packs(&self) -> MutexGuard<'_, PackSet> {
        lock(&self.state.packs)
    }
}

fn compress(jobs: &Receiver<Job>, packed: &Sender<Packed>, level: i32) {
    let mut encoder = FrameEncoder::new(level);
    for job in jobs {
        let frame = (!job.raw.is_empty()).then(|| encoder.encode(&job.raw, job.chunks));
        if packed.send(Packed { number: job.number, frame, closes: job.closes }).is_err() {
            return;
        }
    }
}

fn pack_in_order(packed: &Receiver<Packed>, closed: &Sender<(Closing, PackInfo, Bytes)>, state: &SinkState) {
    let mut early = BTreeMap::new();
    let mut next = 0;
    let mut writer: Option<PackWriter> = None;
    for item in packed {
        early.insert(item.number, item);
        while let Some(item) = early.remove(&next) {
            next += 1;
            if let Some(frame) = item.frame {
                writer.get_or_insert_with(|| PackWriter::new(PACK_RAW_BYTES as usize / 2)).push(&frame);
            }
            let Some(closing) = item.closes else { continue };
            let mut salt = [0; 16];
            if let Err(error) = getrandom::fill(&mut salt) {
                return state.fail(SnapshotError::Randomness(error.to_string()));
            }
            let (info, bytes) = writer.take().expect("a pack has a frame").finish(&salt);
            if closed.send((closing, info, bytes)).is_err() {
                return;
            }
        }
    }
}

fn upload(closed: &Receiver<(Closing, PackInfo, Bytes)>, state: &SinkState, store: &dyn Store, journal: &Journal) {
    for (closing, info, bytes) in closed {
        // The journal comes before the pack, so that a run killed in between loses nothing: the next run believes the
        // journal only where it lists the pack.
        if let Err(error) = journal.record(&info, &closing.rows) {
            return state.fail(SnapshotError::LocalTable(error));
        }
        if let Err(error) = store.put(&info.id.key(), bytes) {
            return state.fail(SnapshotError::Store(error));
        }
        state.landed(&closing, info);
    }
}
