//! Segments: immutable sorted tables that say where every chunk lies.
//!
//! A lookup reads a few rows through the fan-out and never the whole table, so the memory of a
//! writer does not grow with the chain. Rows carry a check, because the probed copy is a local one.
//! Documented in `docs/format/segment.md`. Layer: formats; files and bytes, no store.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use crate::id::{ChunkId, PackId, SegmentId};
use crate::pack::PackInfo;

const MAGIC: &[u8; 8] = b"SNAPSEGM";
const VERSION: u32 = 0;
const HEADER_BYTES: u64 = 32;
const PACK_BYTES: usize = 48;
const ROW_BYTES: usize = 48;
const MAX_FAN_BITS: u32 = 24;
/// Rows that writers aim to have in one bucket of the fan-out.
const BUCKET_ROWS: u64 = 16;
/// Most rows read at once when a table is gone through from end to end.
const SCAN_ROWS: u64 = 4096;

/// Where a chunk lies. `pack` is an index into the packs of the table it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the pack.
    pub pack: u32,
    /// Index of the frame in the pack.
    pub frame: u16,
    /// First byte of the chunk in the decoded frame.
    pub offset: u32,
    /// Length of the chunk in bytes.
    pub bytes: u32,
}

/// One row: a chunk and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Name of the chunk.
    pub chunk: ChunkId,
    /// Where it lies.
    pub place: Place,
}

/// What is wrong with a segment.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The bytes are not a segment as described. Another copy may be right.
    #[error("segment is damaged: {0}")]
    Damaged(String),
    /// Written by a version that knows more.
    #[error("segment was written by a newer snapkit: format version {0}")]
    Newer(u32),
    /// The local copy cannot be read.
    #[error("cannot read the local copy of a segment")]
    Read(#[from] io::Error),
}

fn encode_row(row: &Row) -> [u8; ROW_BYTES] {
    let mut bytes = [0; ROW_BYTES];
    bytes[..32].copy_from_slice(&row.chunk.0);
    bytes[32..36].copy_from_slice(&row.place.pack.to_le_bytes());
    bytes[36..40].copy_from_slice(&row.place.offset.to_le_bytes());
    bytes[40..44].copy_from_slice(&row.place.bytes.to_le_bytes());
    bytes[44..46].copy_from_slice(&row.place.frame.to_le_bytes());
    let check = blake3::hash(&bytes[..46]);
    bytes[46..].copy_from_slice(&check.as_bytes()[..2]);
    bytes
}

/// The row, or `None` when it fails its check.
fn decode_row(bytes: &[u8]) -> Option<Row> {
    if blake3::hash(&bytes[..46]).as_bytes()[..2] != bytes[46..48] {
        return None;
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let place = Place {
        pack: u32_at(32),
        offset: u32_at(36),
        bytes: u32_at(40),
        frame: u16::from_le_bytes([bytes[44], bytes[45]]),
    };
    Some(Row { chunk: ChunkId(bytes[..32].try_into().expect("32 bytes")), place })
}

/// Bucket of a chunk in a fan-out of `bits` bits.
fn bucket(chunk: &ChunkId, bits: u32) -> u64 {
    let top = u32::from_be_bytes(chunk.0[..4].try_into().expect("four bytes"));
    u64::from(top).checked_shr(32 - bits).unwrap_or(0)
}

/// Writes a segment of `rows` rows, which come strictly ascending, to `out`.
///
/// # Errors
/// What `out` or the rows report. Rows out of order or of another number are a bug and panic.
pub fn write(
    packs: &[PackInfo],
    rows: u64,
    sorted: impl Iterator<Item = io::Result<Row>>,
    out: &mut (impl Write + io::Seek),
) -> io::Result<()> {
    let fan_bits = (rows / BUCKET_ROWS).checked_ilog2().unwrap_or(0).min(MAX_FAN_BITS);
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&fan_bits.to_le_bytes())?;
    out.write_all(&u32::try_from(packs.len()).expect("fewer than 2^32 packs").to_le_bytes())?;
    out.write_all(&[0; 4])?;
    out.write_all(&rows.to_le_bytes())?;
    for pack in packs {
        out.write_all(&pack.id.0)?;
        out.write_all(&pack.pack_bytes.to_le_bytes())?;
        out.write_all(&pack.table_bytes.to_le_bytes())?;
        out.write_all(&[0; 4])?;
    }
    let fan_at = out.stream_position()?;
    let mut fan = vec![0u32; (1 << fan_bits) + 1];
    out.write_all(&vec![0; fan.len() * 4])?;
    let mut count = 0;
    let mut before: Option<ChunkId> = None;
    for row in sorted {
        let row = row?;
        assert!(before.is_none_or(|b| b < row.chunk), "rows of a segment ascend");
        before = Some(row.chunk);
        fan[bucket(&row.chunk, fan_bits) as usize + 1] += 1;
        out.write_all(&encode_row(&row))?;
        count += 1;
    }
    assert_eq!(count, rows, "a segment has as many rows as announced");
    for i in 1..fan.len() {
        fan[i] += fan[i - 1];
    }
    let end = out.stream_position()?;
    out.seek(io::SeekFrom::Start(fan_at))?;
    out.write_all(&fan.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<_>>())?;
    out.seek(io::SeekFrom::Start(end))?;
    Ok(())
}

/// A segment in a local file, probed in place.
#[derive(Debug)]
pub struct Segment {
    file: File,
    packs: Vec<PackInfo>,
    /// Numbers of packs are below this.
    pack_count: u32,
    fan: Vec<u32>,
    fan_bits: u32,
    rows: u64,
    rows_at: u64,
}

impl Segment {
    /// Opens a local copy; reads header, packs and fan-out.
    ///
    /// # Errors
    /// [`SegmentError`] when the file is not a segment of this version.
    pub fn open(file: File) -> Result<Self, SegmentError> {
        let len = file.metadata()?.len();
        let mut header = [0; HEADER_BYTES as usize];
        if len < HEADER_BYTES {
            return Err(SegmentError::Damaged(format!("it has {len} bytes")));
        }
        file.read_exact_at(&mut header, 0)?;
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if &header[..8] != MAGIC {
            return Err(SegmentError::Damaged("it lacks the magic bytes".to_owned()));
        }
        if u32_at(8) != VERSION {
            return Err(SegmentError::Newer(u32_at(8)));
        }
        let (fan_bits, pack_count) = (u32_at(12), u64::from(u32_at(16)));
        let rows = u64::from_le_bytes(header[24..32].try_into().expect("eight bytes"));
        if fan_bits > MAX_FAN_BITS || rows >= 1 << 32 {
            return Err(SegmentError::Damaged(format!("it claims {rows} rows and {fan_bits} fan-out bits")));
        }
        let fan_len = (1usize << fan_bits) + 1;
        let fan_at = HEADER_BYTES + pack_count * PACK_BYTES as u64;
        let rows_at = fan_at + 4 * fan_len as u64;
        if rows_at + rows * ROW_BYTES as u64 != len {
            return Err(SegmentError::Damaged(format!("{rows} rows and {pack_count} packs do not make {len} bytes")));
        }
        let mut bytes = vec![0; pack_count as usize * PACK_BYTES];
        file.read_exact_at(&mut bytes, HEADER_BYTES)?;
        let packs = bytes
            .chunks_exact(PACK_BYTES)
            .map(|p| PackInfo {
                id: PackId(p[..32].try_into().expect("32 bytes")),
                pack_bytes: u64::from_le_bytes(p[32..40].try_into().expect("eight bytes")),
                table_bytes: u32::from_le_bytes(p[40..44].try_into().expect("four bytes")),
            })
            .collect();
        let mut bytes = vec![0; 4 * fan_len];
        file.read_exact_at(&mut bytes, fan_at)?;
        let fan: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        if !fan.is_sorted() || u64::from(fan[fan_len - 1]) != rows {
            return Err(SegmentError::Damaged("its fan-out does not match its rows".to_owned()));
        }
        Ok(Self { file, packs, pack_count: pack_count as u32, fan, fan_bits, rows, rows_at })
    }

    /// Opens a table of a run whose packs have no names yet: places hold numbers that only the run knows.
    ///
    /// # Errors
    /// As [`Segment::open`].
    pub fn open_unnamed(file: File) -> Result<Self, SegmentError> {
        Self::open(file).map(|segment| Self { pack_count: u32::MAX, ..segment })
    }

    /// Checks everything [`Segment::open`] leaves out: every row, their order, packs and fan-out.
    ///
    /// # Errors
    /// [`SegmentError::Damaged`] with the first row that is wrong.
    pub fn check_rows(&self) -> Result<(), SegmentError> {
        let mut before: Option<ChunkId> = None;
        for (i, row) in self.scan().enumerate() {
            let row = row.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => SegmentError::Damaged(format!("row {i} fails its check")),
                _ => SegmentError::Read(error),
            })?;
            let in_bucket = {
                let b = bucket(&row.chunk, self.fan_bits) as usize;
                (self.fan[b] as usize..self.fan[b + 1] as usize).contains(&i)
            };
            if before.is_some_and(|b| b >= row.chunk) || row.place.pack >= self.pack_count || !in_bucket {
                return Err(SegmentError::Damaged(format!("row {i} is out of order or names no pack")));
            }
            before = Some(row.chunk);
        }
        Ok(())
    }

    /// The packs that rows refer to by index.
    pub fn packs(&self) -> &[PackInfo] {
        &self.packs
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Where `chunk` lies, if the segment lists it and the row passes its check.
    ///
    /// # Errors
    /// When the local file cannot be read.
    pub fn find(&self, chunk: &ChunkId) -> io::Result<Option<Place>> {
        let b = bucket(chunk, self.fan_bits) as usize;
        let (from, to) = (u64::from(self.fan[b]), u64::from(self.fan[b + 1]));
        let mut buffer = [0; 64 * ROW_BYTES];
        let mut at = from;
        while at < to {
            let n = (to - at).min(64);
            let rows = &mut buffer[..n as usize * ROW_BYTES];
            self.file.read_exact_at(rows, self.rows_at + at * ROW_BYTES as u64)?;
            if let Some(row) = rows.chunks_exact(ROW_BYTES).find(|row| row[..32] == chunk.0) {
                let row = decode_row(row).filter(|row| row.place.pack < self.pack_count);
                return Ok(row.map(|row| row.place));
            }
            at += n;
        }
        Ok(None)
    }

    /// All rows in order.
    pub fn scan(&self) -> impl Iterator<Item = io::Result<Row>> + '_ {
        let mut at = 0;
        let mut buffer = Vec::new();
        let mut next = 0;
        std::iter::from_fn(move || {
            if next == buffer.len() {
                let n = (self.rows - at).min(SCAN_ROWS);
                if n == 0 {
                    return None;
                }
                buffer.resize(n as usize * ROW_BYTES, 0);
                if let Err(error) = self.file.read_exact_at(&mut buffer, self.rows_at + at * ROW_BYTES as u64) {
                    at = self.rows;
                    buffer.clear();
                    next = 0;
                    return Some(Err(error));
                }
                at += n;
                next = 0;
            }
            let row = decode_row(&buffer[next..next + ROW_BYTES]);
            next += ROW_BYTES;
            Some(row.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a row of a segment fails its check")))
        })
    }
}

/// Merges sorted tables into one sorted stream; of equal chunks, the one from the later source wins.
pub fn merge<'a>(
    sources: Vec<Box<dyn Iterator<Item = io::Result<Row>> + 'a>>,
) -> impl Iterator<Item = io::Result<Row>> + 'a {
    let mut sources: Vec<_> = sources.into_iter().map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let mut least: Option<ChunkId> = None;
        for source in &mut sources {
            match source.peek() {
                Some(Ok(row)) => least = Some(least.map_or(row.chunk, |l| l.min(row.chunk))),
                Some(Err(_)) => return source.next(),
                None => {}
            }
        }
        let least = least?;
        let mut newest = None;
        for source in &mut sources {
            if matches!(source.peek(), Some(Ok(row)) if row.chunk == least) {
                newest = source.next();
            }
        }
        newest
    })
}

/// Name of a segment file, read from its start.
///
/// # Errors
/// When it cannot be read.
pub fn name_of(file: &mut (impl io::Read + io::Seek)) -> io::Result<SegmentId> {
    file.rewind()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file)?;
    Ok(SegmentId(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::io::BufWriter;

    fn pack(n: u8) -> PackInfo {
        PackInfo { id: PackId([n; 32]), pack_bytes: 1000, table_bytes: 120 }
    }

    fn row(n: u32, pack: u32) -> Row {
        Row { chunk: ChunkId::of(&n.to_le_bytes()), place: Place { pack, frame: 3, offset: n, bytes: 10 } }
    }

    fn table(rows: &BTreeMap<ChunkId, Place>) -> File {
        let mut file = BufWriter::new(tempfile::tempfile().unwrap());
        let sorted = rows.iter().map(|(c, p)| Ok(Row { chunk: *c, place: *p }));
        write(&[pack(1), pack(2)], rows.len() as u64, sorted, &mut file).unwrap();
        file.into_inner().unwrap()
    }

    fn map(rows: impl IntoIterator<Item = Row>) -> BTreeMap<ChunkId, Place> {
        rows.into_iter().map(|r| (r.chunk, r.place)).collect()
    }

    proptest! {
        #[test]
        fn every_row_is_found_and_no_other(n in 0u32..3000) {
            let rows = map((0..n).map(|i| row(i, i % 2)));
            let segment = Segment::open(table(&rows)).unwrap();
            segment.check_rows().unwrap();
            for (chunk, place) in &rows {
                prop_assert_eq!(segment.find(chunk).unwrap(), Some(*place));
            }
            prop_assert_eq!(segment.find(&ChunkId::of(b"absent")).unwrap(), None);
            prop_assert_eq!(segment.scan().count() as u32, n);
        }

        #[test]
        fn merge_equals_a_map_in_which_later_rows_win(a in proptest::collection::vec(0u32..50, 0..60), b in proptest::collection::vec(0u32..50, 0..60)) {
            let (a, b) = (map(a.into_iter().map(|i| row(i, 0))), map(b.into_iter().map(|i| row(i, 1))));
            let (sa, sb) = (Segment::open(table(&a)).unwrap(), Segment::open(table(&b)).unwrap());
            let merged: Vec<Row> = merge(vec![Box::new(sa.scan()), Box::new(sb.scan())]).map(Result::unwrap).collect();
            let mut expected = a.clone();
            expected.extend(b.clone());
            prop_assert_eq!(merged, expected.into_iter().map(|(chunk, place)| Row { chunk, place }).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_row_that_fails_its_check_is_as_if_absent() {
        let rows = map((0..40).map(|i| row(i, 0)));
        let file = table(&rows);
        let segment = Segment::open(file.try_clone().unwrap()).unwrap();
        let (chunk, _) = rows.iter().nth(7).unwrap();
        let at = segment.rows_at + 7 * ROW_BYTES as u64 + 36;
        file.write_all_at(&[0xff], at).unwrap();
        assert_eq!(segment.find(chunk).unwrap(), None);
        assert!(matches!(segment.check_rows(), Err(SegmentError::Damaged(_))));
    }

    #[test]
    fn truncated_extended_and_newer_segments_are_told_apart() {
        let rows = map((0..40).map(|i| row(i, 0)));
        let cut = table(&rows);
        cut.set_len(cut.metadata().unwrap().len() - 1).unwrap();
        assert!(matches!(Segment::open(cut), Err(SegmentError::Damaged(_))));
        let longer = table(&rows);
        longer.set_len(longer.metadata().unwrap().len() + 1).unwrap();
        assert!(matches!(Segment::open(longer), Err(SegmentError::Damaged(_))));
        let newer = table(&rows);
        newer.write_all_at(&[1], 8).unwrap();
        assert!(matches!(Segment::open(newer), Err(SegmentError::Newer(1))));
    }
}
