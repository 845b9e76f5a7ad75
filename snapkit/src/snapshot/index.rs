//! Which chunks are stored already, and where.
//!
//! Chunks of this run are kept in memory up to a fixed number, then in sorted tables on disk; those of the chain are
//! probed in local copies of its segments. A pack is reused only if it was seen in this run with the right length and
//! is not known to be damaged (`docs/format/store.md`, rule h).

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter};
use std::path::PathBuf;

use crate::entry::PackSet;
use crate::id::{ChunkId, PackId};
use crate::pack::PackInfo;
use crate::segment::{self, Place, Row, Segment};

/// Chunks of this run kept in memory: about 64 bytes each.
const MEMORY_ROWS: usize = 128 << 10;

/// Packs a writer may reuse.
#[derive(Debug, Default)]
pub(super) struct Reusable {
    seen: HashMap<PackId, u64>,
    damaged: HashSet<PackId>,
}

impl Reusable {
    /// From a listing of packs with their lengths, and the packs known to be damaged.
    pub(super) fn new(seen: HashMap<PackId, u64>, damaged: HashSet<PackId>) -> Self {
        Self { seen, damaged }
    }

    /// Whether `pack` was seen with the right length and is not known to be damaged.
    pub(super) fn allows(&self, pack: &PackInfo) -> bool {
        self.seen.get(&pack.id) == Some(&pack.pack_bytes) && !self.damaged.contains(&pack.id)
    }
}

struct Base {
    segment: Segment,
    /// For each pack of the segment its index in the run's [`PackSet`], or `None` if it may not be reused.
    packs: Vec<Option<u32>>,
}

/// Finds chunks of the chain and of this run. Pack numbers are those of the run's [`PackSet`].
pub(super) struct ChunkIndex {
    recent: HashMap<ChunkId, Place>,
    spilled: Vec<Segment>,
    base: Vec<Base>,
    directory: PathBuf,
}

impl ChunkIndex {
    /// An index over the chain's segments, oldest first. Tables of this run are spilled into `directory`.
    pub(super) fn new(segments: Vec<Segment>, reusable: &Reusable, packs: &mut PackSet, directory: PathBuf) -> Self {
        let base = segments
            .into_iter()
            .map(|segment| {
                let packs =
                    segment.packs().iter().map(|pack| reusable.allows(pack).then(|| packs.index(*pack))).collect();
                Base { segment, packs }
            })
            .collect();
        Self { recent: HashMap::new(), spilled: Vec::new(), base, directory }
    }

    /// Where a chunk lies, if it is stored in a pack that may be reused.
    ///
    /// # Errors
    /// When a local table cannot be read.
    pub(super) fn find(&self, chunk: &ChunkId) -> io::Result<Option<Place>> {
        if let Some(place) = self.recent.get(chunk) {
            return Ok(Some(*place));
        }
        for table in self.spilled.iter().rev() {
            if let Some(place) = table.find(chunk)? {
                return Ok(Some(place));
            }
        }
        for base in self.base.iter().rev() {
            if let Some(place) = base.segment.find(chunk)?
                && let Some(pack) = base.packs[place.pack as usize]
            {
                return Ok(Some(Place { pack, ..place }));
            }
        }
        Ok(None)
    }

    /// Adds a chunk of this run.
    ///
    /// # Errors
    /// When a table cannot be spilled.
    pub(super) fn insert(&mut self, chunk: ChunkId, place: Place) -> io::Result<()> {
        self.recent.insert(chunk, place);
        if self.recent.len() >= MEMORY_ROWS {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        let rows = sorted(&self.recent);
        let mut merged = self.table(rows.len() as u64, &mut rows.into_iter().map(Ok))?;
        self.recent.clear();
        // Tables of like size are merged, so a lookup probes few.
        while let Some(last) = self.spilled.pop_if(|last| last.rows() <= 2 * merged.rows()) {
            let rows = count(merge_of(&[&last], Some(&merged)))?;
            let larger = self.table(rows, &mut merge_of(&[&last], Some(&merged)))?;
            merged = larger;
        }
        self.spilled.push(merged);
        Ok(())
    }

    fn table(&self, rows: u64, sorted: &mut dyn Iterator<Item = io::Result<Row>>) -> io::Result<Segment> {
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.directory)?);
        // The packs have no names yet; places hold numbers of the run's set.
        segment::write(&[], rows, sorted, &mut out)?;
        Segment::open_unnamed(out.into_inner().map_err(io::IntoInnerError::into_error)?).map_err(io::Error::other)
    }

    /// Number of chunks of this run.
    pub(super) fn is_unchanged(&self) -> bool {
        self.recent.is_empty() && self.spilled.is_empty()
    }

    /// Writes the segment of this run, merged with those at the end of the chain's list that are not much longer.
    ///
    /// Returns how many segments of the list stay. All packs must be closed.
    ///
    /// # Errors
    /// When a local table cannot be read or `out` not be written.
    pub(super) fn write_segment(
        &mut self,
        packs: &PackSet,
        out: &mut (impl io::Write + io::Seek),
    ) -> io::Result<usize> {
        self.spill()?;
        let own: Vec<&Segment> = self.spilled.iter().collect();
        let mut rows = own.iter().map(|table| table.rows()).sum::<u64>();
        let mut kept = self.base.len();
        while kept > 0 && self.base[kept - 1].segment.rows() <= 2 * rows {
            kept -= 1;
            rows += self.base[kept].segment.rows();
        }
        // Packs of the new segment: those of the merged ones, reusable or not, then those of this run.
        let mut infos: Vec<PackInfo> = Vec::new();
        let mut numbers: HashMap<PackId, u32> = HashMap::new();
        let mut number = |pack: PackInfo| {
            *numbers.entry(pack.id).or_insert_with(|| {
                infos.push(pack);
                infos.len() as u32 - 1
            })
        };
        let maps: Vec<Vec<u32>> =
            self.base[kept..].iter().map(|b| b.segment.packs().iter().map(|pack| number(*pack)).collect()).collect();
        let mut own_map: HashMap<u32, u32> = HashMap::new();
        for table in &own {
            for row in table.scan() {
                let pack = row?.place.pack;
                own_map.entry(pack).or_insert_with(|| number(packs.get(pack)));
            }
        }
        let merged = || {
            let mut sources: Vec<Box<dyn Iterator<Item = io::Result<Row>> + '_>> = Vec::new();
            for (base, map) in self.base[kept..].iter().zip(&maps) {
                sources.push(Box::new(renumbered(&base.segment, |pack| map[pack as usize])));
            }
            for table in &own {
                sources.push(Box::new(renumbered(table, |pack| own_map[&pack])));
            }
            segment::merge(sources)
        };
        let rows = count(merged())?;
        segment::write(&infos, rows, merged(), out)?;
        Ok(kept)
    }
}

fn sorted(rows: &HashMap<ChunkId, Place>) -> Vec<Row> {
    let mut rows: Vec<Row> = rows.iter().map(|(chunk, place)| Row { chunk: *chunk, place: *place }).collect();
    rows.sort_unstable_by_key(|row| row.chunk);
    rows
}

fn merge_of<'a>(tables: &[&'a Segment], newest: Option<&'a Segment>) -> impl Iterator<Item = io::Result<Row>> + 'a {
    let all = tables.iter().copied().chain(newest);
    segment::merge(all.map(|table| Box::new(table.scan()) as Box<dyn Iterator<Item = _>>).collect())
}

fn renumbered<'a>(table: &'a Segment, map: impl Fn(u32) -> u32 + 'a) -> impl Iterator<Item = io::Result<Row>> + 'a {
    table.scan().map(move |row| {
        let row = row?;
        Ok(Row { place: Place { pack: map(row.place.pack), ..row.place }, ..row })
    })
}

fn count(mut rows: impl Iterator<Item = io::Result<Row>>) -> io::Result<u64> {
    rows.try_fold(0, |n, row| row.map(|_| n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn pack(n: u8) -> PackInfo {
        PackInfo { id: PackId([n; 32]), pack_bytes: 1000, table_bytes: 120 }
    }

    fn chunk(n: u32) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    fn place(pack: u32, n: u32) -> Place {
        Place { pack, frame: 0, offset: n, bytes: 1 }
    }

    /// The segment a run with the chunks `range`, all in pack `n`, would write on top of `base`.
    fn run(base: Vec<Segment>, n: u8, range: std::ops::Range<u32>) -> (File, usize) {
        let dir = tempfile::tempdir().unwrap();
        let mut packs = PackSet::default();
        let mut index = ChunkIndex::new(base, &Reusable::default(), &mut packs, dir.path().to_owned());
        let own = packs.index(pack(n));
        range.for_each(|i| index.insert(chunk(i), place(own, i)).unwrap());
        let mut out = tempfile::tempfile().unwrap();
        let kept = index.write_segment(&packs, &mut out).unwrap();
        (out, kept)
    }

    fn open(file: &File) -> Segment {
        Segment::open(file.try_clone().unwrap()).unwrap()
    }

    #[test]
    fn chunks_of_this_run_are_found_after_they_were_spilled() {
        let (out, _) = run(vec![], 1, 0..MEMORY_ROWS as u32 * 2 + 5);
        let segment = open(&out);
        segment.check_rows().unwrap();
        assert_eq!(segment.rows(), MEMORY_ROWS as u64 * 2 + 5);
        assert_eq!(segment.find(&chunk(70_000)).unwrap(), Some(place(0, 70_000)));
    }

    #[test]
    fn only_segments_of_like_size_are_merged() {
        let (large, _) = run(vec![], 1, 0..1000);
        let (small, kept) = run(vec![open(&large)], 2, 1000..1010);
        assert_eq!((open(&small).rows(), kept), (10, 1));
        let (next, kept) = run(vec![open(&large), open(&small)], 3, 2000..2010);
        assert_eq!((open(&next).rows(), kept), (20, 1));
        assert_eq!(open(&next).packs().iter().map(|p| p.id).collect::<Vec<_>>(), [pack(2).id, pack(3).id]);
    }

    #[test]
    fn pack_not_seen_or_damaged_is_not_reused() {
        let dir = tempfile::tempdir().unwrap();
        let found = |seen: HashMap<PackId, u64>, damaged: HashSet<PackId>| {
            let (file, _) = run(vec![], 1, 0..5);
            let mut packs = PackSet::default();
            let reusable = Reusable::new(seen, damaged);
            let index = ChunkIndex::new(vec![open(&file)], &reusable, &mut packs, dir.path().to_owned());
            index.find(&chunk(3)).unwrap().is_some()
        };
        let id = pack(1).id;
        assert!(found(HashMap::from([(id, 1000)]), HashSet::new()));
        assert!(!found(HashMap::new(), HashSet::new()));
        assert!(!found(HashMap::from([(id, 999)]), HashSet::new()));
        assert!(!found(HashMap::from([(id, 1000)]), HashSet::from([id])));
    }
}
