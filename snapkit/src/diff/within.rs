//! Inside of files: the exact ranges in which two files differ.
//!
//! Files are aligned by their chunks first. What lies between two shared chunks is compared byte by byte when it has the
//! same length on both sides; otherwise it is cut much finer, aligned once more, and trimmed. Bytes of shared chunks are
//! never read. Files of the same length are compared in place too when their chunks are found at other offsets, and the
//! shorter answer counts.

use std::path::Path;

use super::DiffError;
use super::align::{Gaps, align};
use super::pieces::{Content, Piece, Pieces, ReadAt};
use super::ranges::{Collector, Range, Ranges};
use crate::cancel::Cancel;
use crate::progress::Progress;

/// Bytes of each side that are compared at once.
const BLOCK: usize = 256 << 10;
/// Shortest and longest fine piece in bytes; the average is about 100.
const FINE_MIN: usize = 32;
const FINE_MAX: usize = 1024;
/// A fine piece ends where these bits of the rolling hash are zero.
const FINE_MASK: u64 = 63 << 58;

/// The ranges in which two files differ.
pub(super) fn differing(
    a: &Content<'_>,
    b: &Content<'_>,
    scratch: &Path,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Ranges, DiffError> {
    let work = Work { cancel, progress };
    let mut coarse = Coarse { a, b, work: &work, found: Collector::new(scratch), shift: 0, has_shift: false };
    align(&mut a.pieces(), &mut b.pieces(), &mut coarse)?;
    let Coarse { found, has_shift, .. } = coarse;
    let aligned = found.finish().map_err(DiffError::Scratch)?;
    if a.size() != b.size() || !has_shift {
        return Ok(aligned);
    }
    let mut found = Collector::new(scratch);
    in_place(a, b, &work, &mut found)?;
    let in_place = found.finish().map_err(DiffError::Scratch)?;
    let is_shorter = in_place.a_bytes + in_place.b_bytes <= aligned.a_bytes + aligned.b_bytes;
    Ok(if is_shorter { in_place } else { aligned })
}

struct Work<'w> {
    cancel: &'w Cancel,
    progress: &'w Progress,
}

/// A stretch of both files that is to be compared.
#[derive(Clone, Copy)]
struct Gap {
    a: u64,
    a_bytes: u64,
    b: u64,
    b_bytes: u64,
}

impl Gap {
    fn range(&self) -> Range {
        Range { a_offset: self.a, a_bytes: self.a_bytes, b_offset: self.b, b_bytes: self.b_bytes }
    }

    /// The stretch that these pieces make up, beginning at `at` in A and in B.
    fn between(a: &[Piece], b: &[Piece], at: (u64, u64)) -> Self {
        let sum = |pieces: &[Piece]| pieces.iter().map(|piece| piece.bytes).sum();
        Self { a: at.0, a_bytes: sum(a), b: at.1, b_bytes: sum(b) }
    }
}

/// Takes what lies between shared chunks.
struct Coarse<'w, 'c> {
    a: &'w Content<'c>,
    b: &'w Content<'c>,
    work: &'w Work<'w>,
    found: Collector,
    /// Where B is, less where A is, behind the last match.
    shift: i128,
    has_shift: bool,
}

/// Where a gap begins on both sides, when one of them may have nothing there.
fn start_of(a: &[Piece], b: &[Piece], shift: i128) -> (u64, u64) {
    match (a.first(), b.first()) {
        (Some(a), Some(b)) => (a.offset, b.offset),
        (Some(a), None) => (a.offset, (i128::from(a.offset) + shift) as u64),
        (None, Some(b)) => ((i128::from(b.offset) - shift) as u64, b.offset),
        (None, None) => (0, 0),
    }
}

/// How far B is ahead of A behind a gap.
fn shift_behind(gap: &Gap) -> i128 {
    i128::from(gap.b) + i128::from(gap.b_bytes) - i128::from(gap.a) - i128::from(gap.a_bytes)
}

impl Gaps for Coarse<'_, '_> {
    fn gap(&mut self, a: &[Piece], b: &[Piece]) -> Result<(), DiffError> {
        self.work.cancel.check()?;
        let gap = Gap::between(a, b, start_of(a, b, self.shift));
        self.shift = shift_behind(&gap);
        self.has_shift |= self.shift != 0;
        self.work.progress.add_bytes(gap.a_bytes + gap.b_bytes);
        let (a, b) = (self.a.within(a), self.b.within(b));
        compare(&a, &b, gap, Level::Coarse, self.work, &mut self.found)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Coarse,
    Fine,
}

/// Finds the ranges of one gap.
fn compare(
    a: &dyn ReadAt,
    b: &dyn ReadAt,
    gap: Gap,
    level: Level,
    work: &Work<'_>,
    found: &mut Collector,
) -> Result<(), DiffError> {
    if gap.a_bytes == gap.b_bytes {
        return compare_in_place(a, b, gap, work, found);
    }
    let gap = trimmed(a, b, gap, work)?;
    if gap.a_bytes == 0 || gap.b_bytes == 0 || level == Level::Fine {
        return found.push(gap.range()).map_err(DiffError::Scratch);
    }
    let mut fine = Fine { a, b, work, found, shift: i128::from(gap.b) - i128::from(gap.a) };
    let mut of_a = FineCut::new(a, gap.a, gap.a_bytes, work);
    let mut of_b = FineCut::new(b, gap.b, gap.b_bytes, work);
    align(&mut of_a, &mut of_b, &mut fine)
}

/// Takes what lies between shared fine pieces.
struct Fine<'w> {
    a: &'w dyn ReadAt,
    b: &'w dyn ReadAt,
    work: &'w Work<'w>,
    found: &'w mut Collector,
    shift: i128,
}

impl Gaps for Fine<'_> {
    fn gap(&mut self, a: &[Piece], b: &[Piece]) -> Result<(), DiffError> {
        let gap = Gap::between(a, b, start_of(a, b, self.shift));
        self.shift = shift_behind(&gap);
        compare(self.a, self.b, gap, Level::Fine, self.work, self.found)
    }
}

/// Byte by byte, as `cmp -l` does.
fn compare_in_place(
    a: &dyn ReadAt,
    b: &dyn ReadAt,
    gap: Gap,
    work: &Work<'_>,
    found: &mut Collector,
) -> Result<(), DiffError> {
    let most = gap.a_bytes.min(BLOCK as u64) as usize;
    let (mut x, mut y) = (vec![0; most], vec![0; most]);
    let mut done = 0;
    while done < gap.a_bytes {
        work.cancel.check()?;
        let (at_a, at_b) = (gap.a + done, gap.b + done);
        if let (Some(end_a), Some(end_b)) = (a.hole_end(at_a), b.hole_end(at_b)) {
            done += (end_a - at_a).min(end_b - at_b).min(gap.a_bytes - done);
            continue;
        }
        let n = (gap.a_bytes - done).min(BLOCK as u64) as usize;
        a.read_at(at_a, &mut x[..n])?;
        b.read_at(at_b, &mut y[..n])?;
        runs(&x[..n], &y[..n], |start, bytes| {
            let (start, bytes) = (start as u64, bytes as u64);
            found.push(Range { a_offset: at_a + start, a_bytes: bytes, b_offset: at_b + start, b_bytes: bytes })
        })
        .map_err(DiffError::Scratch)?;
        done += n as u64;
    }
    Ok(())
}

/// Each run of bytes that differ.
fn runs<E>(x: &[u8], y: &[u8], mut put: impl FnMut(usize, usize) -> Result<(), E>) -> Result<(), E> {
    let mut at = 0;
    while at < x.len() {
        let Some(equal) = first_difference(&x[at..], &y[at..]) else { return Ok(()) };
        at += equal;
        let run = x[at..].iter().zip(&y[at..]).position(|(x, y)| x == y).unwrap_or(x.len() - at);
        put(at, run)?;
        at += run;
    }
    Ok(())
}

fn first_difference(x: &[u8], y: &[u8]) -> Option<usize> {
    const STEP: usize = 4096;
    // Long equal stretches are compared as a whole, which is much faster.
    let mut at = 0;
    for (x, y) in x.chunks(STEP).zip(y.chunks(STEP)) {
        if x != y {
            return x.iter().zip(y).position(|(x, y)| x != y).map(|inside| at + inside);
        }
        at += x.len();
    }
    None
}

/// The gap without what is equal at its start and at its end.
fn trimmed(a: &dyn ReadAt, b: &dyn ReadAt, mut gap: Gap, work: &Work<'_>) -> Result<Gap, DiffError> {
    let most = gap.a_bytes.min(gap.b_bytes).min(BLOCK as u64) as usize;
    let (mut x, mut y) = (vec![0; most], vec![0; most]);
    loop {
        let n = gap.a_bytes.min(gap.b_bytes).min(BLOCK as u64) as usize;
        if n == 0 {
            return Ok(gap);
        }
        work.cancel.check()?;
        a.read_at(gap.a, &mut x[..n])?;
        b.read_at(gap.b, &mut y[..n])?;
        let equal = first_difference(&x[..n], &y[..n]);
        let skip = equal.unwrap_or(n) as u64;
        gap.a += skip;
        gap.b += skip;
        gap.a_bytes -= skip;
        gap.b_bytes -= skip;
        if equal.is_some() {
            break;
        }
    }
    loop {
        let n = gap.a_bytes.min(gap.b_bytes).min(BLOCK as u64) as usize;
        if n == 0 {
            return Ok(gap);
        }
        work.cancel.check()?;
        a.read_at(gap.a + gap.a_bytes - n as u64, &mut x[..n])?;
        b.read_at(gap.b + gap.b_bytes - n as u64, &mut y[..n])?;
        let equal = x[..n].iter().rev().zip(y[..n].iter().rev()).position(|(x, y)| x != y);
        let skip = equal.unwrap_or(n) as u64;
        gap.a_bytes -= skip;
        gap.b_bytes -= skip;
        if equal.is_some() {
            return Ok(gap);
        }
    }
}

/// Cuts a stretch into fine pieces at places that its content chooses.
struct FineCut<'w> {
    from: &'w dyn ReadAt,
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    start: usize,
    work: &'w Work<'w>,
}

impl<'w> FineCut<'w> {
    fn new(from: &'w dyn ReadAt, at: u64, bytes: u64, work: &'w Work<'w>) -> Self {
        Self { from, at, end: at + bytes, buffer: Vec::new(), start: 0, work }
    }
}

impl Pieces for FineCut<'_> {
    fn next(&mut self) -> Result<Option<Piece>, DiffError> {
        if self.buffer.len() - self.start < FINE_MAX {
            self.work.cancel.check()?;
            self.buffer.drain(..self.start);
            self.start = 0;
            let have = self.buffer.len();
            let read_from = self.at + have as u64;
            let n = (self.end - read_from).min((BLOCK - have) as u64) as usize;
            self.buffer.resize(have + n, 0);
            self.from.read_at(read_from, &mut self.buffer[have..])?;
        }
        let data = &self.buffer[self.start..];
        if data.is_empty() {
            return Ok(None);
        }
        let cut = fine_cut(data);
        let piece = Piece::of(&data[..cut], self.at);
        self.start += cut;
        self.at += cut as u64;
        Ok(Some(piece))
    }
}

/// Length of the first fine piece. Its end depends on the 32 bytes before it.
fn fine_cut(data: &[u8]) -> usize {
    let mut hash = 0u64;
    let end = data.len().min(FINE_MAX);
    for (i, byte) in data[..end].iter().enumerate() {
        // Bits move up by two, so that a byte is forgotten after 32.
        hash = (hash << 2).wrapping_add(crate::chunk::gear_of(*byte));
        if i + 1 >= FINE_MIN && hash & FINE_MASK == 0 {
            return i + 1;
        }
    }
    end
}

/// One after the other at the same offsets, whatever chunks are shared elsewhere.
fn in_place(a: &Content<'_>, b: &Content<'_>, work: &Work<'_>, found: &mut Collector) -> Result<(), DiffError> {
    let (mut of_a, mut of_b) = (a.pieces(), b.pieces());
    let (mut x, mut y) = (of_a.next()?, of_b.next()?);
    let mut at = 0;
    while let (Some(piece_a), Some(piece_b)) = (&x, &y) {
        let end = piece_a.end().min(piece_b.end());
        if piece_a.offset != piece_b.offset || !piece_a.is_same(piece_b) {
            let gap = Gap { a: at, a_bytes: end - at, b: at, b_bytes: end - at };
            let bytes_a = a.within(std::slice::from_ref(piece_a));
            let bytes_b = b.within(std::slice::from_ref(piece_b));
            compare_in_place(&bytes_a, &bytes_b, gap, work, found)?;
        }
        at = end;
        let (a_ends, b_ends) = (piece_a.end() == end, piece_b.end() == end);
        if a_ends {
            x = of_a.next()?;
        }
        if b_ends {
            y = of_b.next()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::diff::side::Contents;
    use crate::entry::{ChunkList, Entry, Extent, Kind};
    use crate::id::ContentHash;
    use crate::scan::metadata::entry_of;

    /// Two files in a directory, compared.
    fn compared(a: &[u8], b: &[u8]) -> Vec<Range> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), a).unwrap();
        fs::write(dir.path().join("b"), b).unwrap();
        compared_in(dir.path())
    }

    fn entry(dir: &Path, name: &str) -> Entry {
        let stat = rustix::fs::lstat(dir.join(name)).unwrap();
        let mut entry = entry_of(name.into(), &stat).unwrap();
        let (content, chunks) = (ContentHash::of(b""), ChunkList::Stored(Vec::new()));
        entry.kind = Kind::File { size: stat.st_size as u64, content, chunks, holes: Vec::new() };
        entry
    }

    fn compared_in(dir: &Path) -> Vec<Range> {
        let contents = Contents::Directory(Arc::new(fs::File::open(dir).unwrap().into()));
        let (a, b) = (entry(dir, "a"), entry(dir, "b"));
        let (a, b) = (Content::open(&contents, &a).unwrap(), Content::open(&contents, &b).unwrap());
        let ranges = differing(&a, &b, dir, &Cancel::new(), &Progress::new()).unwrap();
        ranges.iter().map(Result::unwrap).collect()
    }

    fn applied(a: &[u8], b: &[u8], ranges: &[Range]) -> Vec<u8> {
        let (mut made, mut at) = (Vec::new(), 0);
        for range in ranges {
            let [a_offset, a_bytes, b_offset, b_bytes] = range.numbers().map(|n| n as usize);
            assert!(at <= a_offset, "ranges ascend");
            made.extend(&a[at..a_offset]);
            assert_eq!(made.len(), b_offset, "B goes on where A does");
            made.extend(&b[b_offset..b_offset + b_bytes]);
            at = a_offset + a_bytes;
        }
        made.extend(&a[at..]);
        made
    }

    fn marked(ranges: &[Range]) -> u64 {
        ranges.iter().map(|range| range.a_bytes + range.b_bytes).sum()
    }

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_keyed(&[9; 32]).update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn one_byte_put_in_is_one_range_of_one_byte() {
        let a = noise(1, 5 << 20);
        let mut b = a.clone();
        b.insert(2 << 20, !a[2 << 20]);
        let ranges = compared(&a, &b);
        assert_eq!(ranges.iter().map(Range::numbers).collect::<Vec<_>>(), [[2 << 20, 0, 2 << 20, 1]]);
    }

    #[test]
    fn edits_of_one_chunk_are_told_apart() {
        let a = noise(2, 300_000);
        let mut b = a.clone();
        b.splice(100_000..100_010, noise(3, 500));
        b.splice(110_000..110_500, noise(4, 3));
        b[120_000] ^= 1;
        let ranges = compared(&a, &b);
        assert_eq!(applied(&a, &b, &ranges), b);
        assert!(marked(&ranges) < 4_000, "{ranges:?}");
        assert!(ranges.len() >= 3, "{ranges:?}");
    }

    #[test]
    fn a_byte_put_in_and_one_taken_out_mark_little_of_a_file_of_the_same_length() {
        let a = noise(5, 3 << 20);
        let mut b = a.clone();
        b.insert(100, !a[100]);
        b.remove(3_000_000);
        let ranges = compared(&a, &b);
        assert_eq!(applied(&a, &b, &ranges), b);
        assert!(marked(&ranges) <= 4, "{ranges:?}");
    }

    #[test]
    fn a_hole_equals_the_zeros_it_stands_for() {
        let dir = tempfile::tempdir().unwrap();
        let a = fs::File::create(dir.path().join("a")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&a, b"here", 5 << 20).unwrap();
        let mut b = vec![0; (5 << 20) + 4];
        b[5 << 20..].copy_from_slice(b"hers");
        fs::write(dir.path().join("b"), b).unwrap();
        let ranges = compared_in(dir.path());
        assert_eq!(ranges.iter().map(Range::numbers).collect::<Vec<_>>(), [[(5 << 20) + 3, 1, (5 << 20) + 3, 1]]);
    }

    #[test]
    fn a_file_that_changed_since_it_was_listed_is_not_compared() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "one").unwrap();
        let entry = entry(dir.path(), "a");
        fs::write(dir.path().join("a"), "more").unwrap();
        let contents = Contents::Directory(Arc::new(fs::File::open(dir.path()).unwrap().into()));
        assert!(matches!(Content::open(&contents, &entry), Err(DiffError::Changed { .. })));
    }

    /// Bytes with a hole in the middle that reading may not touch.
    struct Hollow {
        hole: Extent,
        read: Cell<u64>,
    }

    impl ReadAt for Hollow {
        fn read_at(&self, _: u64, buffer: &mut [u8]) -> Result<(), DiffError> {
            self.read.set(self.read.get() + buffer.len() as u64);
            buffer.fill(0);
            Ok(())
        }

        fn hole_end(&self, offset: u64) -> Option<u64> {
            let end = self.hole.offset + self.hole.bytes;
            (self.hole.offset..end).contains(&offset).then_some(end)
        }
    }

    #[test]
    fn holes_on_both_sides_are_passed_over() {
        let hollow = |offset| Hollow { hole: Extent { offset, bytes: 1 << 60 }, read: Cell::new(0) };
        let (a, b) = (hollow(1 << 20), hollow(2 << 20));
        let dir = tempfile::tempdir().unwrap();
        let (cancel, progress) = (Cancel::new(), Progress::new());
        let work = Work { cancel: &cancel, progress: &progress };
        let bytes = (1 << 60) + (2 << 20);
        let mut found = Collector::new(dir.path());
        compare_in_place(&a, &b, Gap { a: 0, a_bytes: bytes, b: 0, b_bytes: bytes }, &work, &mut found).unwrap();
        assert_eq!(found.finish().unwrap().count, 0);
        assert!(a.read.get() < 4 << 20);
    }

    #[derive(Clone, Debug)]
    enum Edit {
        Overwrite,
        PutIn,
        TakeOut,
    }

    fn edits() -> impl Strategy<Value = Vec<(Edit, f64, usize)>> {
        let edit = prop_oneof![Just(Edit::Overwrite), Just(Edit::PutIn), Just(Edit::TakeOut)];
        proptest::collection::vec((edit, 0.0..1.0f64, 1usize..3_000), 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ranges_put_into_a_give_b_and_mark_little_more_than_the_edits(
            seed: u64, len in 0usize..700_000, edits in edits(),
        ) {
            let a = noise(seed, len);
            let (mut b, mut edited) = (a.clone(), 0);
            for (i, (edit, place, bytes)) in edits.iter().enumerate() {
                let at = (*place * b.len() as f64) as usize;
                let end = (at + bytes).min(b.len());
                let new = noise(seed ^ (i as u64 + 1), *bytes);
                match edit {
                    Edit::Overwrite => b[at..end].copy_from_slice(&new[..end - at]),
                    Edit::PutIn => drop(b.splice(at..at, new)),
                    Edit::TakeOut => drop(b.drain(at..end)),
                }
                edited += 2 * *bytes as u64;
            }
            let ranges = compared(&a, &b);
            prop_assert_eq!(applied(&a, &b, &ranges), b);
            let most = edited + 4 * FINE_MAX as u64 * edits.len() as u64;
            prop_assert!(marked(&ranges) <= most, "{} marked, {} edited: {:?}", marked(&ranges), edited, ranges);
        }

        #[test]
        fn files_that_repeat_themselves_are_compared_right(
            a in proptest::collection::vec(0u8..2, 0..3_000), b in proptest::collection::vec(0u8..2, 0..3_000), times in 1usize..60,
        ) {
            let (a, b) = (a.repeat(times), b.repeat(times));
            let ranges = compared(&a, &b);
            prop_assert_eq!(applied(&a, &b, &ranges), b);
        }

        #[test]
        fn overwritten_files_have_the_ranges_of_a_byte_by_byte_comparison(
            seed: u64, len in 1usize..600_000, places in proptest::collection::vec((0.0..1.0f64, 1usize..5_000), 0..6),
        ) {
            let a = noise(seed, len);
            let mut b = a.clone();
            for (i, (place, bytes)) in places.iter().enumerate() {
                let at = (*place * len as f64) as usize;
                let end = (at + bytes).min(len);
                b[at..end].copy_from_slice(&noise(seed ^ (i as u64 + 7), end - at));
            }
            let mut expected: Vec<[u64; 4]> = Vec::new();
            for i in (0..len).filter(|i| a[*i] != b[*i]).map(|i| i as u64) {
                match expected.last_mut() {
                    Some(last) if last[0] + last[1] == i => (last[1], last[3]) = (last[1] + 1, last[3] + 1),
                    _ => expected.push([i, 1, i, 1]),
                }
            }
            prop_assert_eq!(compared(&a, &b).iter().map(Range::numbers).collect::<Vec<_>>(), expected);
        }
    }
}
