//! Sorting more rows than memory should hold: sorted runs on disk, merged.
//!
//! Rows are of one length and sort as bytes. Layer: files of the cache directory; no store.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Bytes of rows kept in memory.
const MEMORY_BYTES: usize = 8 << 20;

/// Takes rows in any order.
pub struct Sorter<const N: usize> {
    rows: Vec<[u8; N]>,
    runs: Vec<File>,
    directory: PathBuf,
}

impl<const N: usize> Sorter<N> {
    /// A sorter that spills into `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { rows: Vec::new(), runs: Vec::new(), directory: directory.to_owned() }
    }

    /// Adds a row.
    ///
    /// # Errors
    /// When a run cannot be written.
    pub fn push(&mut self, row: [u8; N]) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() * N >= MEMORY_BYTES {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.rows.sort_unstable();
        self.rows.dedup();
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.directory)?);
        for row in self.rows.drain(..) {
            out.write_all(&row)?;
        }
        let mut run = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        run.rewind()?;
        self.runs.push(run);
        Ok(())
    }

    /// All rows in order, each once.
    ///
    /// # Errors
    /// When a run cannot be written or read.
    pub fn sorted(mut self) -> io::Result<impl Iterator<Item = io::Result<[u8; N]>> + Send> {
        self.spill()?;
        let mut runs: Vec<BufReader<File>> = self.runs.into_iter().map(BufReader::new).collect();
        let mut heap = BinaryHeap::new();
        for (i, run) in runs.iter_mut().enumerate() {
            if let Some(row) = next(run)? {
                heap.push(Reverse((row, i)));
            }
        }
        let mut last = None;
        Ok(std::iter::from_fn(move || {
            loop {
                let Reverse((row, i)) = heap.pop()?;
                match next(&mut runs[i]) {
                    Ok(Some(following)) => heap.push(Reverse((following, i))),
                    Ok(None) => {}
                    Err(error) => return Some(Err(error)),
                }
                if last.replace(row) != Some(row) {
                    return Some(Ok(row));
                }
            }
        }))
    }
}

fn next<const N: usize>(run: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut row = [0; N];
    if run.read(&mut row[..1])? == 0 {
        return Ok(None);
    }
    run.read_exact(&mut row[1..])?;
    Ok(Some(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_sorted_and_once_over_several_runs() {
        let dir = tempfile::tempdir().unwrap();
        let mut sorter = Sorter::<8>::new(dir.path());
        let count = (2 * MEMORY_BYTES / 8 + 100) as u64;
        for i in 0..count {
            sorter.push((i * 7919 % (count / 2)).to_be_bytes()).unwrap();
        }
        let sorted: Vec<u64> = sorter.sorted().unwrap().map(|row| u64::from_be_bytes(row.unwrap())).collect();
        assert!(sorted.is_sorted_by(|a, b| a < b));
        let expected: std::collections::BTreeSet<u64> = (0..count).map(|i| i * 7919 % (count / 2)).collect();
        assert!(sorted.into_iter().eq(expected));
    }
}
