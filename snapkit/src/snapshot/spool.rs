//! The spool: entries of a tree in order, on disk, until the packs they refer to have names.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;

use crate::entry::{Entry, decode_entry_of_any_length, encode_entry_of_any_length};
use crate::scan::cache::{SEEN_BYTES, Seen};

/// Takes entries in order.
pub(super) struct Spool {
    out: BufWriter<File>,
    buffer: Vec<u8>,
}

impl Spool {
    /// An empty spool in `directory`; it is gone when the run ends, however it ends.
    pub(super) fn create(directory: &Path) -> io::Result<Self> {
        let out = BufWriter::with_capacity(256 << 10, tempfile::tempfile_in(directory)?);
        Ok(Self { out, buffer: Vec::new() })
    }

    /// Adds an entry and what was seen of it.
    pub(super) fn push(&mut self, entry: &Entry, seen: &Seen) -> io::Result<()> {
        self.buffer.clear();
        encode_entry_of_any_length(&mut self.buffer, &mut |pack| pack, entry);
        self.out.write_all(&(self.buffer.len() as u32).to_le_bytes())?;
        self.out.write_all(&seen.encode())?;
        self.out.write_all(&self.buffer)
    }

    /// Ends writing. The spool can be read any number of times.
    pub(super) fn finish(self) -> io::Result<SpoolFile> {
        Ok(SpoolFile(self.out.into_inner().map_err(io::IntoInnerError::into_error)?))
    }
}

/// A complete spool.
pub(super) struct SpoolFile(File);

impl SpoolFile {
    /// All entries in order.
    pub(super) fn read(&mut self) -> io::Result<impl Iterator<Item = io::Result<(Entry, Seen)>> + '_> {
        self.0.rewind()?;
        let mut input = BufReader::with_capacity(256 << 10, &self.0);
        let mut buffer = Vec::new();
        Ok(std::iter::from_fn(move || next(&mut input, &mut buffer).transpose()))
    }
}

fn next(input: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<(Entry, Seen)>> {
    let mut head = [0; 4 + SEEN_BYTES];
    if input.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut head[1..])?;
    buffer.resize(u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize, 0);
    input.read_exact(buffer)?;
    let entry = decode_entry_of_any_length(buffer).map_err(io::Error::other)?;
    Ok(Some((entry, Seen::decode(&head[4..]))))
}
