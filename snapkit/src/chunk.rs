//! Chunking: where file content is cut into the pieces that snapshots share.
//!
//! Cuts depend only on the bytes and the limits, never on the file or the machine, so equal
//! content gives equal chunks and an edit moves only the cuts near it.
//! Limits: `docs/format/pack.md`. Layer: pure; `snapshot` calls it, and it knows no store.
//!
//! Source: Xia et al., "FastCDC", USENIX ATC 2016, and "The Design of Fast Content-Defined
//! Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 2020.

use std::sync::OnceLock;

/// Shortest chunk in bytes; only the last of a file may be shorter.
pub const MIN: usize = 16 << 10;
/// Length in bytes that cuts aim for.
pub const AVERAGE: usize = 64 << 10;
/// Longest chunk in bytes.
pub const MAX: usize = 256 << 10;

/// Bits that must be zero to cut before the average length, and after it (normalisation level 2).
const STRICT_BITS: u32 = AVERAGE.trailing_zeros() + 2;
const LOOSE_BITS: u32 = AVERAGE.trailing_zeros() - 2;

/// The gear values of all byte values, and the same shifted left by one for the second byte of a step.
struct Gear {
    plain: [u64; 256],
    shifted: [u64; 256],
}

fn gear() -> &'static Gear {
    static GEAR: OnceLock<Gear> = OnceLock::new();
    GEAR.get_or_init(|| {
        let mut bytes = [0; 2048];
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"snapkit gear table 0");
        hasher.finalize_xof().fill(&mut bytes);
        let mut gear = Gear { plain: [0; 256], shifted: [0; 256] };
        for (i, word) in bytes.as_chunks::<8>().0.iter().enumerate() {
            gear.plain[i] = u64::from_le_bytes(*word);
            gear.shifted[i] = gear.plain[i] << 1;
        }
        gear
    })
}

/// The number that stands for a byte in a rolling hash.
pub(crate) fn gear_of(byte: u8) -> u64 {
    gear().plain[usize::from(byte)]
}

/// Length in bytes of the first chunk of `data`.
///
/// `data` should hold at least [`MAX`] bytes unless it is the end of a file; the result is then
/// the same however the file is read. It is `data.len()` when that is at most [`MIN`].
pub fn first_cut(data: &[u8]) -> usize {
    let len = data.len().min(MAX);
    if len <= MIN {
        return len;
    }
    // The highest bits depend on the last 64 bytes; the lowest only on the last few.
    let strict = !0u64 << (64 - STRICT_BITS);
    let loose = !0u64 << (64 - LOOSE_BITS);
    let gear = gear();
    let average = len.min(AVERAGE);
    let mut hash = 0u64;
    // 64 bytes before the minimum warm the hash up, so that a cut depends on a full window.
    for byte in &data[MIN - 64..MIN] {
        hash = (hash << 1).wrapping_add(gear.plain[usize::from(*byte)]);
    }
    if let Some(cut) = scan(gear, data, MIN, average, strict, &mut hash) {
        return cut;
    }
    scan(gear, data, average, len, loose, &mut hash).unwrap_or(len)
}

/// The first position in `from..to` after which `hash` has no bit of `mask`. Two bytes a step.
#[inline]
fn scan(gear: &Gear, data: &[u8], from: usize, to: usize, mask: u64, hash: &mut u64) -> Option<usize> {
    let mut h = *hash;
    let (pairs, rest) = data[from..to].as_chunks::<2>();
    for (i, [a, b]) in pairs.iter().enumerate() {
        let first = (h << 1).wrapping_add(gear.plain[usize::from(*a)]);
        if first & mask == 0 {
            return Some(from + 2 * i + 1);
        }
        h = (h << 2).wrapping_add(gear.shifted[usize::from(*a)]).wrapping_add(gear.plain[usize::from(*b)]);
        if h & mask == 0 {
            return Some(from + 2 * i + 2);
        }
    }
    if let [a] = rest {
        h = (h << 1).wrapping_add(gear.plain[usize::from(*a)]);
        if h & mask == 0 {
            return Some(to);
        }
    }
    *hash = h;
    None
}

/// Splits `data` at boundaries chosen by its content.
///
/// Lengths are in bytes, in input order, and sum to `data.len()`. Each lies within [`MIN`] and
/// [`MAX`], except the last, which may be shorter. Empty data has no chunks.
pub fn split(mut data: &[u8]) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let cut = first_cut(data);
        data = &data[cut..];
        (cut > 0).then_some(cut)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new_keyed(&[7; 32]).update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn cuts_of_known_data_do_not_change() {
        // Golden: writers of every version must cut alike, or nothing is shared between them.
        let lengths: Vec<usize> = split(&noise(1, 1 << 20)).collect();
        assert_eq!(lengths.iter().sum::<usize>(), 1 << 20);
        insta::assert_debug_snapshot!(lengths);
    }

    #[test]
    fn one_inserted_byte_moves_only_the_cuts_near_it() {
        let data = noise(2, 8 << 20);
        let mut edited = data.clone();
        edited.insert(4 << 20, 0);
        let names = |d: &[u8]| {
            let mut at = 0;
            split(d).map(|n| (at += n, blake3::hash(&d[at - n..at])).1).collect::<std::collections::HashSet<_>>()
        };
        let (a, b) = (names(&data), names(&edited));
        assert!(a.len() > 80, "about 64 KiB each, found {} chunks", a.len());
        assert!(b.difference(&a).count() <= 3);
    }

    #[test]
    fn average_length_is_near_the_aim() {
        let chunks = split(&noise(3, 32 << 20)).count();
        let average = (32 << 20) / chunks;
        assert!((AVERAGE * 3 / 4..AVERAGE * 5 / 4).contains(&average), "{average}");
    }

    proptest! {
        #[test]
        fn lengths_sum_and_keep_the_limits(seed: u64, len in 0usize..2_000_000) {
            let data = noise(seed, len);
            let lengths: Vec<usize> = split(&data).collect();
            prop_assert_eq!(lengths.iter().sum::<usize>(), len);
            for (i, n) in lengths.iter().enumerate() {
                prop_assert!(*n <= MAX);
                prop_assert!(*n >= MIN || i + 1 == lengths.len());
            }
        }

        #[test]
        fn a_cut_needs_only_the_next_max_bytes(seed: u64, len in 0usize..1_000_000) {
            let data = noise(seed, len);
            prop_assert_eq!(first_cut(&data), first_cut(&data[..len.min(MAX)]));
        }
    }
}
