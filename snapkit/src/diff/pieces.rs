//! Pieces: a file as a row of named stretches, and its bytes.
//!
//! Two pieces with the same name hold the same bytes. A file of a snapshot has the pieces that its entry lists; a file of
//! a directory is cut here as a snapshot would cut it, so that both share their names.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::DiffError;
use super::side::{Contents, open_below};
use crate::chunk;
use crate::entry::{ChunkList, ChunkRef, Entry, Extent, Kind, PackSet, decode_refs, printable};
use crate::fetch::{FetchError, Fetcher};
use crate::id::ChunkId;
use crate::located::Located;
use crate::scan::metadata::{Identity, holes_of};
use crate::tree::TreeError;

/// Bytes of a directory's file that are read at once.
const READ_BYTES: usize = 1 << 20;

/// A stretch of a file.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) bytes: u64,
    /// What it holds.
    pub(super) name: [u8; 32],
    /// Where its bytes come from.
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    /// In a chunk, from this byte of it on.
    Stored(ChunkRef, u32),
    /// A hole.
    Zeros,
    /// In the file that was cut.
    File,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.name == other.name
    }

    /// A piece of bytes that are read from somewhere else.
    pub(super) fn of(bytes: &[u8], offset: u64) -> Self {
        Self { offset, bytes: bytes.len() as u64, name: *blake3::hash(bytes).as_bytes(), at: At::File }
    }
}

/// Gives pieces in order.
pub(super) trait Pieces {
    /// The next piece; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<Piece>, DiffError>;
}

/// Gives bytes.
pub(super) trait ReadAt {
    /// Fills the buffer with what lies at `offset`, all of it inside.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiffError>;

    /// Where the hole ends that `offset` lies in.
    fn hole_end(&self, _offset: u64) -> Option<u64> {
        None
    }
}

/// A regular file of one side.
pub(super) struct Content<'c> {
    path: &'c [u8],
    size: u64,
    from: Origin<'c>,
}

enum Origin<'c> {
    Stored {
        fetcher: &'c Fetcher<'c>,
        packs: &'c RefCell<PackSet>,
        chunks: &'c ChunkList,
        holes: &'c [Extent],
        last: RefCell<Option<Last>>,
    },
    File {
        file: File,
        holes: Vec<Extent>,
        identity: Identity,
    },
    Empty,
}

/// The chunk that was read last.
struct Last {
    chunk: ChunkId,
    bytes: Vec<u8>,
}

impl<'c> Content<'c> {
    /// Opens the content of a file.
    pub(super) fn open(contents: &'c Contents<'_>, entry: &'c Entry) -> Result<Self, DiffError> {
        let path = &entry.path;
        let Kind::File { size, chunks, holes, .. } = &entry.kind else {
            return Ok(Self { path, size: 0, from: Origin::Empty });
        };
        let from = match contents {
            Contents::Stored { fetcher, packs } => {
                Origin::Stored { fetcher, packs, chunks, holes, last: RefCell::default() }
            }
            Contents::Directory(root) => {
                let changed = |_| DiffError::Changed { path: printable(path) };
                let file = open_below(root, path).map_err(changed)?;
                let identity = identity_of(&file).map_err(changed)?;
                if identity.size != *size || identity.mtime != (entry.mtime_s, entry.mtime_ns) {
                    return Err(DiffError::Changed { path: printable(path) });
                }
                let holes = holes_of(&file, *size).map_err(|error| DiffError::read(path, error))?;
                Origin::File { file, holes, identity }
            }
            Contents::Nothing => Origin::Empty,
        };
        Ok(Self { path, size: *size, from })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Fails when the file changed since it was opened.
    pub(super) fn check_unchanged(&self) -> Result<(), DiffError> {
        match &self.from {
            Origin::File { file, identity, .. } if identity_of(file).ok() != Some(*identity) => {
                Err(DiffError::Changed { path: printable(self.path) })
            }
            _ => Ok(()),
        }
    }

    /// Its pieces from the start.
    pub(super) fn pieces(&self) -> FilePieces<'_> {
        let (chunks, holes): (Chunks<'_>, &[Extent]) = match &self.from {
            Origin::Stored { fetcher, packs, chunks, holes, .. } => match chunks {
                ChunkList::Inline(list) => (Chunks::List(list.iter()), holes),
                ChunkList::Stored(lists) => {
                    let lists = lists.iter();
                    (Chunks::Lists { fetcher, packs, lists, list: Vec::new().into_iter() }, holes)
                }
            },
            Origin::File { file, holes, .. } => (Chunks::Cut(Cutter::new(file, self.size, holes)), holes),
            Origin::Empty => (Chunks::List([].iter()), &[]),
        };
        FilePieces { path: self.path, size: self.size, chunks, holes: holes.iter(), next_hole: None, at: 0, open: None }
            .with_first_hole()
    }

    /// Its bytes, as far as `pieces` cover them.
    pub(super) fn within<'p>(&'p self, pieces: &'p [Piece]) -> Stretch<'p, 'c> {
        Stretch { content: self, pieces }
    }

    fn chunk(&self, r: &ChunkRef, take: impl FnOnce(&[u8])) -> Result<(), DiffError> {
        let Origin::Stored { fetcher, packs, last, .. } = &self.from else {
            return Err(DiffError::Length { path: printable(self.path) });
        };
        let mut last = last.borrow_mut();
        if last.as_ref().is_none_or(|last| last.chunk != r.chunk) {
            let located = Located::new(r, &packs.borrow());
            *last = Some(Last { chunk: r.chunk, bytes: fetcher.located(&located)? });
        }
        if let Some(last) = &*last {
            take(&last.bytes);
        }
        Ok(())
    }
}

fn identity_of(file: &File) -> io::Result<Identity> {
    Ok(Identity::of(&rustix::fs::fstat(file)?))
}

/// Consecutive pieces of a file, as bytes.
pub(super) struct Stretch<'p, 'c> {
    content: &'p Content<'c>,
    pieces: &'p [Piece],
}

impl Stretch<'_, '_> {
    fn piece_at(&self, offset: u64) -> Option<&Piece> {
        let index = self.pieces.partition_point(|piece| piece.end() <= offset);
        self.pieces.get(index).filter(|piece| piece.offset <= offset)
    }
}

impl ReadAt for Stretch<'_, '_> {
    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), DiffError> {
        if let Origin::File { file, .. } = &self.content.from {
            return file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => DiffError::Changed { path: printable(self.content.path) },
                _ => DiffError::read(self.content.path, error),
            });
        }
        while !buffer.is_empty() {
            let piece =
                self.piece_at(offset).ok_or_else(|| DiffError::Length { path: printable(self.content.path) })?;
            let n = (piece.end() - offset).min(buffer.len() as u64) as usize;
            let (now, rest) = buffer.split_at_mut(n);
            match &piece.at {
                At::Zeros | At::File => now.fill(0),
                At::Stored(r, skip) => {
                    let start = *skip as usize + (offset - piece.offset) as usize;
                    self.content.chunk(r, |bytes| now.copy_from_slice(&bytes[start..start + n]))?;
                }
            }
            offset += n as u64;
            buffer = rest;
        }
        Ok(())
    }

    fn hole_end(&self, offset: u64) -> Option<u64> {
        self.piece_at(offset).filter(|piece| matches!(piece.at, At::Zeros)).map(Piece::end)
    }
}

/// Where the chunks of a file come from.
enum Chunks<'c> {
    List(std::slice::Iter<'c, ChunkRef>),
    Lists {
        fetcher: &'c Fetcher<'c>,
        packs: &'c RefCell<PackSet>,
        lists: std::slice::Iter<'c, ChunkRef>,
        list: std::vec::IntoIter<ChunkRef>,
    },
    Cut(Cutter<'c>),
}

/// A chunk of which pieces are made.
struct Open {
    name: [u8; 32],
    bytes: u32,
    stored: Option<ChunkRef>,
    /// Bytes of it that are in pieces already.
    done: u32,
}

impl Chunks<'_> {
    fn next(&mut self, path: &[u8]) -> Result<Option<Open>, DiffError> {
        let stored = |r: ChunkRef| Open { name: r.chunk.0, bytes: r.bytes, stored: Some(r), done: 0 };
        match self {
            Self::List(list) => Ok(list.next().map(|r| stored(*r))),
            Self::Lists { fetcher, packs, lists, list } => loop {
                if let Some(r) = list.next() {
                    return Ok(Some(stored(r)));
                }
                let Some(next) = lists.next() else { return Ok(None) };
                let located = Located::new(next, &packs.borrow());
                let bytes = fetcher.located(&located)?;
                let refs = decode_refs(&bytes, &mut packs.borrow_mut())
                    .map_err(|error| FetchError::Tree(TreeError::Codec(error)))?;
                *list = refs.into_iter();
            },
            Self::Cut(cutter) => cutter.next(path),
        }
    }
}

/// The pieces of a file.
pub(super) struct FilePieces<'c> {
    path: &'c [u8],
    size: u64,
    chunks: Chunks<'c>,
    holes: std::slice::Iter<'c, Extent>,
    next_hole: Option<Extent>,
    at: u64,
    open: Option<Open>,
}

impl FilePieces<'_> {
    fn with_first_hole(mut self) -> Self {
        self.next_hole = self.holes.next().copied();
        self
    }
}

impl Pieces for FilePieces<'_> {
    fn next(&mut self) -> Result<Option<Piece>, DiffError> {
        if let Some(hole) = self.next_hole.filter(|hole| hole.offset == self.at) {
            self.next_hole = self.holes.next().copied();
            self.at += hole.bytes;
            let name = *blake3::hash(&[&b"hole"[..], &hole.bytes.to_le_bytes()].concat()).as_bytes();
            return Ok(Some(Piece { offset: hole.offset, bytes: hole.bytes, name, at: At::Zeros }));
        }
        if self.open.is_none() {
            self.open = self.chunks.next(self.path)?;
        }
        let Some(open) = &mut self.open else {
            return if self.at == self.size { Ok(None) } else { Err(DiffError::Length { path: printable(self.path) }) };
        };
        let until_hole = self.next_hole.map_or(u64::MAX, |hole| hole.offset - self.at);
        let n = until_hole.min(u64::from(open.bytes - open.done)) as u32;
        let is_whole = n == open.bytes;
        let name = if is_whole {
            open.name
        } else {
            let part = [&open.name[..], &open.done.to_le_bytes(), &n.to_le_bytes()].concat();
            *blake3::hash(&part).as_bytes()
        };
        let at = open.stored.map_or(At::File, |r| At::Stored(r, open.done));
        let piece = Piece { offset: self.at, bytes: n.into(), name, at };
        open.done += n;
        if open.done == open.bytes {
            self.open = None;
        }
        self.at += u64::from(n);
        if self.at > self.size {
            return Err(DiffError::Length { path: printable(self.path) });
        }
        Ok(Some(piece))
    }
}

/// Cuts the data of a file as a snapshot does: holes are left out first.
struct Cutter<'c> {
    file: &'c File,
    size: u64,
    holes: std::iter::Peekable<std::slice::Iter<'c, Extent>>,
    /// The next byte to read.
    at: u64,
    buffer: Vec<u8>,
    start: usize,
}

impl<'c> Cutter<'c> {
    fn new(file: &'c File, size: u64, holes: &'c [Extent]) -> Self {
        Self { file, size, holes: holes.iter().peekable(), at: 0, buffer: Vec::new(), start: 0 }
    }

    fn fill(&mut self, path: &[u8]) -> Result<(), DiffError> {
        if self.buffer.len() - self.start >= chunk::MAX {
            return Ok(());
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        while self.buffer.len() < READ_BYTES {
            if let Some(hole) = self.holes.next_if(|hole| hole.offset == self.at) {
                self.at += hole.bytes;
                continue;
            }
            let end = self.holes.peek().map_or(self.size, |hole| hole.offset.min(self.size));
            let n = (end - self.at).min((READ_BYTES - self.buffer.len()) as u64) as usize;
            if n == 0 {
                break;
            }
            let from = self.buffer.len();
            self.buffer.resize(from + n, 0);
            self.file.read_exact_at(&mut self.buffer[from..], self.at).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => DiffError::Changed { path: printable(path) },
                _ => DiffError::read(path, error),
            })?;
            self.at += n as u64;
        }
        Ok(())
    }

    fn next(&mut self, path: &[u8]) -> Result<Option<Open>, DiffError> {
        self.fill(path)?;
        let data = &self.buffer[self.start..];
        let cut = chunk::first_cut(data);
        if cut == 0 {
            return Ok(None);
        }
        let name = *blake3::hash(&data[..cut]).as_bytes();
        self.start += cut;
        Ok(Some(Open { name, bytes: cut as u32, stored: None, done: 0 }))
    }
}
