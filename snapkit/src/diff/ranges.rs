//! Ranges: which bytes of two files differ. A few are kept in memory, the rest in a scratch file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Ranges that are kept in memory.
const KEPT: usize = 4096;

/// Bytes of A in whose place B has other bytes. One of the lengths may be 0: something was put in, or taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte in A.
    pub a_offset: u64,
    /// Bytes of A.
    pub a_bytes: u64,
    /// First byte in B.
    pub b_offset: u64,
    /// Bytes of B.
    pub b_bytes: u64,
}

impl Range {
    /// The range as four numbers, as reports write it.
    pub fn numbers(&self) -> [u64; 4] {
        [self.a_offset, self.a_bytes, self.b_offset, self.b_bytes]
    }
}

/// The ranges in which two files differ, ascending; what lies between two of them is equal.
///
/// Putting the bytes of B in the place of those of A, range by range, gives B.
#[derive(Debug)]
pub struct Ranges {
    /// How many.
    pub count: u64,
    /// Bytes of A in all of them.
    pub a_bytes: u64,
    /// Bytes of B in all of them.
    pub b_bytes: u64,
    first: Vec<Range>,
    rest: Option<File>,
}

impl Ranges {
    /// All of them in order.
    pub fn iter(&self) -> impl Iterator<Item = io::Result<Range>> + '_ {
        let mut rest: Option<BufReader<&File>> = None;
        let mut failed = None;
        if let Some(file) = &self.rest {
            let mut at_start = file;
            match at_start.seek(SeekFrom::Start(0)) {
                Ok(_) => rest = Some(BufReader::new(file)),
                Err(error) => failed = Some(Err(error)),
            }
        }
        let spilled = std::iter::from_fn(move || next(rest.as_mut()?).transpose());
        self.first.iter().map(|range| Ok(*range)).chain(failed).chain(spilled)
    }
}

fn next(input: &mut impl Read) -> io::Result<Option<Range>> {
    let mut row = [0; 32];
    if input.read(&mut row[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut row[1..])?;
    let (numbers, _) = row.as_chunks::<8>();
    let [a_offset, a_bytes, b_offset, b_bytes] = [0, 1, 2, 3].map(|i| u64::from_le_bytes(numbers[i]));
    Ok(Some(Range { a_offset, a_bytes, b_offset, b_bytes }))
}

/// Takes ranges in order and joins those that touch on both sides.
pub(super) struct Collector {
    open: Option<Range>,
    found: Ranges,
    out: Option<BufWriter<File>>,
    scratch: PathBuf,
}

impl Collector {
    pub(super) fn new(scratch: &Path) -> Self {
        let found = Ranges { count: 0, a_bytes: 0, b_bytes: 0, first: Vec::new(), rest: None };
        Self { open: None, found, out: None, scratch: scratch.to_owned() }
    }

    pub(super) fn push(&mut self, range: Range) -> io::Result<()> {
        if let Some(open) = &mut self.open
            && open.a_offset + open.a_bytes == range.a_offset
            && open.b_offset + open.b_bytes == range.b_offset
        {
            open.a_bytes += range.a_bytes;
            open.b_bytes += range.b_bytes;
            return Ok(());
        }
        match self.open.replace(range) {
            Some(closed) => self.close(closed),
            None => Ok(()),
        }
    }

    fn close(&mut self, range: Range) -> io::Result<()> {
        self.found.count += 1;
        self.found.a_bytes += range.a_bytes;
        self.found.b_bytes += range.b_bytes;
        if self.found.first.len() < KEPT {
            self.found.first.push(range);
            return Ok(());
        }
        let out = match &mut self.out {
            Some(out) => out,
            None => self.out.insert(BufWriter::new(tempfile::tempfile_in(&self.scratch)?)),
        };
        range.numbers().iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))
    }

    pub(super) fn finish(mut self) -> io::Result<Ranges> {
        if let Some(last) = self.open.take() {
            self.close(last)?;
        }
        if let Some(out) = self.out {
            self.found.rest = Some(out.into_inner().map_err(io::IntoInnerError::into_error)?);
        }
        Ok(self.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one_and_many_come_back_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut ranges = Collector::new(dir.path());
        let range = |at: u64| Range { a_offset: at, a_bytes: 1, b_offset: at + 5, b_bytes: 1 };
        ranges.push(range(0)).unwrap();
        ranges.push(range(1)).unwrap();
        (2..10_000).for_each(|i| ranges.push(range(2 * i)).unwrap());
        let ranges = ranges.finish().unwrap();
        for _ in 0..2 {
            let all: Vec<Range> = ranges.iter().map(Result::unwrap).collect();
            assert_eq!(all.len(), 9_999);
            assert_eq!(all[0].numbers(), [0, 2, 5, 2]);
            assert_eq!(all[9_998], range(19_998));
        }
        assert_eq!((ranges.count, ranges.a_bytes), (9_999, 10_000));
    }
}
