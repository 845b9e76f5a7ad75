//! The journal of an interrupted run: which packs it stored, and which chunks lie in them.
//!
//! One small segment per pack, written before the pack. The next run reuses those whose packs the store has; a
//! committed run deletes them. Private to this machine; losing it costs time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use crate::id::ChunkId;
use crate::pack::PackInfo;
use crate::segment::{self, Place, Row, Segment};

/// The journal of one chain on this machine.
pub(super) struct Journal {
    directory: PathBuf,
}

/// A pack of an interrupted run and its chunks; places name no pack.
pub(super) type Leftover = (PackInfo, HashMap<ChunkId, Place>);

impl Journal {
    /// The journal that lies in `directory`, which is made if it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Remembers a pack that is about to be stored.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn record(&self, pack: &PackInfo, rows: &[Row]) -> io::Result<()> {
        let mut sorted: Vec<Row> =
            rows.iter().map(|row| Row { place: Place { pack: 0, ..row.place }, ..*row }).collect();
        sorted.sort_unstable_by_key(|row| row.chunk);
        let mut out = BufWriter::new(tempfile::NamedTempFile::new_in(&self.directory)?);
        segment::write(&[*pack], sorted.len() as u64, sorted.into_iter().map(Ok), &mut out)?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(self.directory.join(pack.id.to_string())).map(|_| ()).map_err(|error| error.error)
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    }

    /// What an interrupted run left. Entries that cannot be read are as if they were not there.
    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        self.files()
            .iter()
            .filter_map(|path| {
                let table = Segment::open(File::open(path).ok()?).ok()?;
                let pack = *table.packs().first()?;
                let rows =
                    table.scan().map(|row| row.map(|row| (row.chunk, row.place))).collect::<io::Result<_>>().ok()?;
                Some((pack, rows))
            })
            .collect()
    }

    /// Forgets everything: the run was committed, or given up.
    ///
    /// # Errors
    /// When a file cannot be deleted.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.files().iter().try_for_each(fs::remove_file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::PackId;

    #[test]
    fn leftovers_are_what_was_recorded_until_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("j")).unwrap();
        let pack = PackInfo { id: PackId([1; 32]), pack_bytes: 500, table_bytes: 120 };
        let row = Row { chunk: ChunkId([2; 32]), place: Place { pack: 7, frame: 1, offset: 2, bytes: 3 } };
        journal.record(&pack, &[row]).unwrap();
        fs::write(dir.path().join("j/garbage"), b"x").unwrap();
        let found = journal.leftovers();
        assert_eq!(found, [(pack, HashMap::from([(row.chunk, Place { pack: 0, ..row.place })]))]);
        journal.clear().unwrap();
        assert_eq!(journal.leftovers(), []);
    }
}
