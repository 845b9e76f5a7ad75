//! Spooling: what differs, in order, in a file of the cache directory.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::DiffError;
use super::policy::Class;
use super::renames::Candidates;
use crate::entry::{Entry, decode_entry_of_any_length, encode_entry_of_any_length};

/// One path that differs: what it is on the sides that have it.
pub(super) struct Row {
    /// Index of the pair of trees.
    pub(super) tree: u32,
    pub(super) class: Class,
    pub(super) a: Option<Entry>,
    pub(super) b: Option<Entry>,
}

/// Takes rows in order.
pub(super) struct Writer {
    out: BufWriter<File>,
    buffer: Vec<u8>,
    at: u64,
    candidates: Candidates,
}

impl Writer {
    pub(super) fn create(scratch: &Path) -> Result<Self, DiffError> {
        let file = tempfile::tempfile_in(scratch).map_err(DiffError::Scratch)?;
        let out = BufWriter::with_capacity(256 << 10, file);
        Ok(Self { out, buffer: Vec::new(), at: 0, candidates: Candidates::new(scratch) })
    }

    pub(super) fn push(&mut self, row: &Row) -> Result<(), DiffError> {
        self.buffer.clear();
        self.buffer.extend([0; 4]);
        self.buffer.extend(row.tree.to_le_bytes());
        self.buffer.push(row.class.code());
        for entry in [&row.a, &row.b] {
            let start = self.buffer.len();
            self.buffer.extend([0; 4]);
            if let Some(entry) = entry {
                encode_entry_of_any_length(&mut self.buffer, &mut |pack| pack, entry);
            }
            let len = (self.buffer.len() - start - 4) as u32;
            self.buffer[start..start + 4].copy_from_slice(&len.to_le_bytes());
        }
        let len = (self.buffer.len() - 4) as u32;
        self.buffer[..4].copy_from_slice(&len.to_le_bytes());
        self.candidates.add(row, self.at).map_err(DiffError::Scratch)?;
        self.out.write_all(&self.buffer).map_err(DiffError::Scratch)?;
        self.at += self.buffer.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(Spool, Candidates), DiffError> {
        let file = self.out.into_inner().map_err(|error| DiffError::Scratch(error.into_error()))?;
        Ok((Spool { file }, self.candidates))
    }
}

/// All rows.
pub(super) struct Spool {
    file: File,
}

impl Spool {
    /// Every row in order, with its place.
    pub(super) fn read(&self) -> Result<impl Iterator<Item = Result<(u64, Row), DiffError>> + use<>, DiffError> {
        let mut file = self.file.try_clone().map_err(DiffError::Scratch)?;
        file.seek(SeekFrom::Start(0)).map_err(DiffError::Scratch)?;
        let mut input = BufReader::with_capacity(256 << 10, file);
        let (mut buffer, mut at) = (Vec::new(), 0);
        Ok(std::iter::from_fn(move || {
            let place = at;
            let row = next(&mut input, &mut buffer).and_then(|found| match found {
                true => row_of(&buffer).map(Some),
                false => Ok(None),
            });
            at += 4 + buffer.len() as u64;
            row.map(|row| row.map(|row| (place, row))).map_err(DiffError::Scratch).transpose()
        }))
    }

    /// The row at a place.
    pub(super) fn at(&self, place: u64) -> Result<Row, DiffError> {
        let read = || {
            let mut len = [0; 4];
            self.file.read_exact_at(&mut len, place)?;
            let mut buffer = vec![0; u32::from_le_bytes(len) as usize];
            self.file.read_exact_at(&mut buffer, place + 4)?;
            row_of(&buffer)
        };
        read().map_err(DiffError::Scratch)
    }
}

fn next(input: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut len = [0; 4];
    if input.read(&mut len[..1])? == 0 {
        return Ok(false);
    }
    input.read_exact(&mut len[1..])?;
    buffer.resize(u32::from_le_bytes(len) as usize, 0);
    input.read_exact(buffer)?;
    Ok(true)
}

fn row_of(bytes: &[u8]) -> io::Result<Row> {
    let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let number = |bytes: &[u8]| bytes.first_chunk().map(|n| u32::from_le_bytes(*n)).ok_or_else(cut);
    let tree = number(bytes)?;
    let class = bytes.get(4).and_then(|code| Class::of_code(*code)).ok_or_else(cut)?;
    let mut rest = &bytes[5..];
    let mut entry = || -> io::Result<Option<Entry>> {
        let end = 4 + number(rest)? as usize;
        let encoded = rest.get(4..end).ok_or_else(cut)?;
        rest = &rest[end..];
        if encoded.is_empty() {
            return Ok(None);
        }
        decode_entry_of_any_length(encoded).map(Some).map_err(io::Error::other)
    };
    Ok(Row { tree, class, a: entry()?, b: entry()? })
}
