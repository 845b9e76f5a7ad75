//! Aligning: two rows of pieces are matched where they share pieces, so that only what lies between is compared.
//!
//! Matching looks at windows of pieces, so memory does not grow with the file. In a window, pieces that occur once on
//! both sides and in the same order on both are anchors ("patience diff"), and between anchors the same again.

use std::collections::HashMap;

use super::DiffError;
use super::pieces::{Piece, Pieces};

/// Pieces of each side that are matched at once: some 4 GiB of a file.
const WINDOW: usize = 1 << 16;
/// How often what lies between anchors is searched for further anchors.
const DEPTH: u32 = 16;

/// Takes the stretches of two files that do not match, as pieces.
pub(super) trait Gaps {
    /// The pieces of A and of B that lie between two matches, or before the first or behind the last.
    fn gap(&mut self, a: &[Piece], b: &[Piece]) -> Result<(), DiffError>;

    /// Two pieces that are the same.
    fn same(&mut self, _a: &Piece, _b: &Piece) {}
}

struct Window<'p> {
    pieces: Vec<Piece>,
    source: &'p mut dyn Pieces,
    has_ended: bool,
}

impl Window<'_> {
    fn fill(&mut self, most: usize) -> Result<(), DiffError> {
        while !self.has_ended && self.pieces.len() < most {
            match self.source.next()? {
                Some(piece) => self.pieces.push(piece),
                None => self.has_ended = true,
            }
        }
        Ok(())
    }
}

/// Matches all pieces and gives what lies between the matches to `gaps`, in order.
pub(super) fn align(a: &mut dyn Pieces, b: &mut dyn Pieces, gaps: &mut dyn Gaps) -> Result<(), DiffError> {
    align_in_windows(a, b, gaps, WINDOW)
}

fn align_in_windows(
    a: &mut dyn Pieces,
    b: &mut dyn Pieces,
    gaps: &mut dyn Gaps,
    window: usize,
) -> Result<(), DiffError> {
    let mut a = Window { pieces: Vec::new(), source: a, has_ended: false };
    let mut b = Window { pieces: Vec::new(), source: b, has_ended: false };
    loop {
        a.fill(window)?;
        b.fill(window)?;
        if a.pieces.is_empty() && b.pieces.is_empty() {
            return Ok(());
        }
        let is_last = a.has_ended && b.has_ended;
        let anchors = anchors(&a.pieces, &b.pieces, is_last);
        // What comes behind the last anchor may match pieces that are not in the window yet.
        let end = match anchors.last() {
            Some((i, j)) if !is_last => (i + 1, j + 1),
            _ => (a.pieces.len(), b.pieces.len()),
        };
        let (mut i, mut j) = (0, 0);
        for (x, y) in anchors {
            if i < x || j < y {
                gaps.gap(&a.pieces[i..x], &b.pieces[j..y])?;
            }
            gaps.same(&a.pieces[x], &b.pieces[y]);
            (i, j) = (x + 1, y + 1);
        }
        if i < end.0 || j < end.1 {
            gaps.gap(&a.pieces[i..end.0], &b.pieces[j..end.1])?;
        }
        a.pieces.drain(..end.0);
        b.pieces.drain(..end.1);
    }
}

/// Pairs of pieces that are the same, ascending on both sides.
fn anchors(a: &[Piece], b: &[Piece], ends_match: bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut todo = vec![((0, a.len()), (0, b.len()), 0)];
    while let Some(((mut i, mut a_end), (mut j, mut b_end), depth)) = todo.pop() {
        while i < a_end && j < b_end && a[i].is_same(&b[j]) {
            found.push((i, j));
            (i, j) = (i + 1, j + 1);
        }
        // The end of a window is no place where files end together.
        let is_end = a_end == a.len() && b_end == b.len() && !ends_match;
        while !is_end && i < a_end && j < b_end && a[a_end - 1].is_same(&b[b_end - 1]) {
            (a_end, b_end) = (a_end - 1, b_end - 1);
            found.push((a_end, b_end));
        }
        if i == a_end || j == b_end || depth == DEPTH {
            continue;
        }
        let unique = rising(&unique_in_both(&a[i..a_end], &b[j..b_end]));
        if unique.is_empty() {
            continue;
        }
        let (base_a, base_b) = (i, j);
        for (x, y) in unique {
            let (x, y) = (base_a + x, base_b + y);
            found.push((x, y));
            todo.push(((i, x), (j, y), depth + 1));
            (i, j) = (x + 1, y + 1);
        }
        todo.push(((i, a_end), (j, b_end), depth + 1));
    }
    found.sort_unstable();
    found
}

/// Pieces that each side has once, ascending in A.
fn unique_in_both(a: &[Piece], b: &[Piece]) -> Vec<(usize, usize)> {
    #[derive(Default)]
    struct Seen {
        in_a: u32,
        in_b: u32,
        b: u32,
    }
    let mut seen: HashMap<&[u8; 32], Seen> = HashMap::with_capacity(a.len());
    for piece in a {
        seen.entry(&piece.name).or_default().in_a += 1;
    }
    for (j, piece) in b.iter().enumerate() {
        if let Some(seen) = seen.get_mut(&piece.name) {
            seen.in_b += 1;
            seen.b = j as u32;
        }
    }
    let unique = a.iter().enumerate().filter_map(|(i, piece)| {
        let seen = seen.get(&piece.name).filter(|seen| seen.in_a == 1 && seen.in_b == 1)?;
        b[seen.b as usize].is_same(piece).then_some((i, seen.b as usize))
    });
    unique.collect()
}

/// The longest selection that ascends on the right side too.
fn rising(pairs: &[(usize, usize)]) -> Vec<(usize, usize)> {
    // Index of the pair that ends the best selection of each length, and what comes before each pair.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    for (index, pair) in pairs.iter().enumerate() {
        let at = ends.partition_point(|end| pairs[*end].1 < pair.1);
        before.push(at.checked_sub(1).map(|at| ends[at]));
        if at == ends.len() {
            ends.push(index);
        } else {
            ends[at] = index;
        }
    }
    let mut chosen: Vec<(usize, usize)> =
        std::iter::successors(ends.last().copied(), |index| before[*index]).map(|index| pairs[index]).collect();
    chosen.reverse();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Row(std::vec::IntoIter<Piece>);

    impl Pieces for Row {
        fn next(&mut self) -> Result<Option<Piece>, DiffError> {
            Ok(self.0.next())
        }
    }

    fn row(letters: &str) -> Row {
        let pieces = letters.bytes().enumerate().map(|(i, letter)| Piece::of(&[letter], i as u64));
        Row(pieces.collect::<Vec<_>>().into_iter())
    }

    /// What does not match, and how many pieces match.
    #[derive(Default)]
    struct Seen {
        gaps: Vec<(std::ops::Range<u64>, std::ops::Range<u64>)>,
        at: (u64, u64),
        same: Vec<(u64, u64)>,
    }

    impl Gaps for Seen {
        fn gap(&mut self, a: &[Piece], b: &[Piece]) -> Result<(), DiffError> {
            let next = (self.at.0 + a.len() as u64, self.at.1 + b.len() as u64);
            self.gaps.push((self.at.0..next.0, self.at.1..next.1));
            self.at = next;
            Ok(())
        }

        fn same(&mut self, a: &Piece, b: &Piece) {
            assert!(a.is_same(b));
            assert_eq!((a.offset, b.offset), self.at, "nothing is passed over");
            self.same.push(self.at);
            self.at = (self.at.0 + 1, self.at.1 + 1);
        }
    }

    fn aligned(a: &str, b: &str, window: usize) -> Seen {
        let mut seen = Seen::default();
        align_in_windows(&mut row(a), &mut row(b), &mut seen, window).unwrap();
        assert_eq!(seen.at, (a.len() as u64, b.len() as u64));
        seen
    }

    #[test]
    fn an_insertion_moves_what_follows() {
        let seen = aligned("abcdef", "abXYcdef", 100);
        assert_eq!(seen.gaps, [(2..2, 2..4)]);
        let seen = aligned("abcdef", "cdef", 100);
        assert_eq!(seen.gaps, [(0..2, 0..0)]);
    }

    #[test]
    fn repeated_pieces_do_not_lead_astray() {
        let seen = aligned("aaaaxaaaa", "aaaayaaaa", 100);
        assert_eq!(seen.gaps, [(4..5, 4..5)]);
        let seen = aligned("0a0b0c0", "0a0X0c0", 100);
        assert_eq!(seen.gaps, [(3..4, 3..4)]);
    }

    #[test]
    fn a_small_window_still_covers_everything() {
        let a: String = (0..200).map(|i| char::from(b'!' + i % 90)).collect();
        let b = a.replacen('A', "", 1);
        let seen = aligned(&a, &b, 8);
        assert_eq!(seen.same.len(), 199);
    }

    proptest! {
        #[test]
        fn every_piece_is_in_one_match_or_one_gap(a in "[a-f]{0,40}", b in "[a-f]{0,40}", window in 1usize..50) {
            aligned(&a, &b, window);
        }
    }
}
