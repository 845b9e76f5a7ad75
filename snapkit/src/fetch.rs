//! Fetching: chunks from packs, every byte verified before it is used.
//!
//! The name of a pack verifies its table, the table a frame, the frame is decoded, and a chunk must hash to its name.
//! Tables and a few decoded frames are kept, so neighbours cost nothing.
//! Layer: operations; joins a store with the pack format.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use manifests::refusal::Class;

use crate::entry::{ChunkRef, PackSet};
use crate::id::{ChunkId, PackId};
use crate::located::Located;
use crate::pack::{FrameDecoder, PackError, PackInfo, Table, open_whole, parse_table};
use crate::store::{Store, StoreError};
use crate::tree::{ChunkSource, TreeError};

/// A pack up to this length in bytes is fetched whole: one request instead of two.
const WHOLE_PACK_BYTES: u64 = 256 << 10;
/// Packs whose tables are kept.
const KEPT_PACKS: usize = 64;
/// Decoded frames that are kept.
const KEPT_FRAMES: usize = 8;

/// Why a chunk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The store does not give what it should.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What it gives is not what was signed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The bytes at a chunk's place do not hash to its name.
    #[error("chunk {chunk} is not what lies at its place, frame {frame} of pack {pack}")]
    ChunkMismatch {
        /// The chunk.
        chunk: ChunkId,
        /// The pack.
        pack: PackId,
        /// Index of the frame.
        frame: u32,
    },
    /// A chunk's place does not exist.
    #[error("chunk {chunk} should lie in frame {frame} of pack {pack}, which has no such place")]
    NoSuchPlace {
        /// The chunk.
        chunk: ChunkId,
        /// The pack.
        pack: PackId,
        /// Index of the frame.
        frame: u32,
    },
    /// A tree that was signed breaks the rules of its format.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

impl FetchError {
    /// The class this is refused with; `None` when the store could not be asked.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Store(StoreError::Missing { .. }) => Some(Class::Missing),
            Self::Store(StoreError::Short { .. } | StoreError::TooBig { .. }) | Self::NoSuchPlace { .. } => {
                Some(Class::Size)
            }
            Self::Store(StoreError::Slow { .. }) => Some(Class::Slow),
            Self::Store(_) => None,
            Self::Pack(PackError::Damaged { .. }) | Self::ChunkMismatch { .. } => Some(Class::Hash),
            Self::Pack(PackError::Newer { .. }) => Some(Class::Newer),
            Self::Tree(error) => Some(error.class()),
        }
    }
}

/// A pack whose table is verified.
#[derive(Debug)]
pub struct OpenPack {
    /// The pack.
    pub info: PackInfo,
    /// Its table.
    pub table: Table,
    whole: Option<Bytes>,
}

struct Kept<K, V> {
    items: VecDeque<(K, V)>,
    most: usize,
}

impl<K: PartialEq + Copy, V: Clone> Kept<K, V> {
    fn new(most: usize) -> Self {
        Self { items: VecDeque::new(), most }
    }

    fn get(&mut self, key: &K) -> Option<V> {
        let at = self.items.iter().position(|(k, _)| k == key)?;
        let item = self.items.remove(at)?;
        let value = item.1.clone();
        self.items.push_front(item);
        Some(value)
    }

    fn forget(&mut self, key: &K) {
        self.items.retain(|(k, _)| k != key);
    }

    fn put(&mut self, key: K, value: V) {
        self.items.push_front((key, value));
        self.items.truncate(self.most);
    }
}

/// A frame: its pack and its index there.
type FramePlace = (PackId, u32);

/// Reads packs of one store. Shared by threads.
pub struct Fetcher<'a> {
    store: &'a dyn Store,
    packs: Mutex<Kept<PackId, Arc<OpenPack>>>,
    frames: Mutex<Kept<FramePlace, Arc<Vec<u8>>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Fetcher<'a> {
    /// A fetcher of `store`.
    pub fn new(store: &'a dyn Store) -> Self {
        Self { store, packs: Mutex::new(Kept::new(KEPT_PACKS)), frames: Mutex::new(Kept::new(KEPT_FRAMES)) }
    }

    /// The store it reads.
    pub fn store(&self) -> &'a dyn Store {
        self.store
    }

    /// The verified table of a pack.
    ///
    /// # Errors
    /// [`FetchError::Store`] or [`FetchError::Pack`].
    pub fn pack(&self, info: &PackInfo) -> Result<Arc<OpenPack>, FetchError> {
        if let Some(pack) = lock(&self.packs).get(&info.id) {
            return Ok(pack);
        }
        let key = info.id.key();
        let is_small = info.pack_bytes <= WHOLE_PACK_BYTES;
        let pack = loop {
            let range = if is_small { 0..info.pack_bytes } else { info.table_range() };
            let bytes = if is_small { self.store.get(&key, range.end)? } else { self.store.get_range(&key, range)? };
            match if is_small { open_whole(info, &bytes) } else { parse_table(info, &bytes) } {
                Ok(table) => break OpenPack { info: *info, table, whole: is_small.then_some(bytes) },
                Err(error) if self.is_copy_to_blame(&key, &error) => {}
                Err(error) => return Err(error.into()),
            }
        };
        let pack = Arc::new(pack);
        lock(&self.packs).put(info.id, pack.clone());
        Ok(pack)
    }

    /// Whether another copy of a damaged pack will be asked next.
    pub fn is_copy_to_blame(&self, key: &str, error: &PackError) -> bool {
        matches!(error, PackError::Damaged { .. }) && self.store.blame(key, &error.to_string())
    }

    /// Hands the stored bytes of a run of neighbouring frames to `decode`, which verifies them: those of another copy
    /// again, as long as it finds damage and there is one.
    ///
    /// # Errors
    /// [`FetchError::Store`], or the last answer of `decode`.
    pub fn stored<T>(
        &self,
        pack: &OpenPack,
        frames: Range<u32>,
        mut decode: impl FnMut(&[u8]) -> Result<T, PackError>,
    ) -> Result<T, FetchError> {
        let rows = &pack.table.rows[frames.start as usize..frames.end as usize];
        let range = rows.first().map_or(0, |row| row.offset)..rows.last().map_or(0, |row| row.range().end);
        let key = pack.info.id.key();
        let mut stored = match &pack.whole {
            Some(whole) => whole.slice(range.start as usize..range.end as usize),
            None => self.store.get_range(&key, range.clone())?,
        };
        loop {
            match decode(&stored) {
                Err(error) if self.is_copy_to_blame(&key, &error) => {
                    lock(&self.packs).forget(&pack.info.id);
                    stored = self.store.get_range(&key, range.clone())?;
                }
                decoded => return Ok(decoded?),
            }
        }
    }

    /// A decoded frame; kept for a while.
    fn frame(&self, r: &Located) -> Result<Arc<Vec<u8>>, FetchError> {
        let frame = u32::from(r.frame);
        if let Some(raw) = lock(&self.frames).get(&(r.pack.id, frame)) {
            return Ok(raw);
        }
        let pack = self.pack(&r.pack)?;
        let row = pack.table.rows.get(usize::from(r.frame)).ok_or(FetchError::NoSuchPlace {
            chunk: r.chunk,
            pack: r.pack.id,
            frame,
        })?;
        let raw = self.stored(&pack, frame..frame + 1, |stored| {
            let mut raw = Vec::new();
            FrameDecoder::default().decode(&r.pack.id, frame, row, stored, &mut raw).map(|_| raw)
        })?;
        let raw = Arc::new(raw);
        lock(&self.frames).put((r.pack.id, frame), raw.clone());
        Ok(raw)
    }

    /// The bytes of a chunk, which hash to its name.
    ///
    /// # Errors
    /// [`FetchError`] for a chunk that cannot be had as it was signed.
    pub fn located(&self, r: &Located) -> Result<Vec<u8>, FetchError> {
        let raw = self.frame(r)?;
        let (chunk, pack, frame) = (r.chunk, r.pack.id, u32::from(r.frame));
        let bytes = piece(&raw, r.offset, r.bytes).ok_or(FetchError::NoSuchPlace { chunk, pack, frame })?;
        if ChunkId::of(bytes) != chunk {
            return Err(FetchError::ChunkMismatch { chunk, pack, frame });
        }
        Ok(bytes.to_vec())
    }
}

/// The bytes of a chunk in its decoded frame, if they lie inside it.
pub fn piece(raw: &[u8], offset: u32, bytes: u32) -> Option<&[u8]> {
    raw.get(offset as usize..offset as usize + bytes as usize)
}

impl ChunkSource for &Fetcher<'_> {
    type Error = FetchError;

    fn chunk(&mut self, r: &ChunkRef, packs: &PackSet) -> Result<Vec<u8>, FetchError> {
        self.located(&Located::new(r, packs))
    }
}
