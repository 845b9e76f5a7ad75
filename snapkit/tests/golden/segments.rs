//! Segments: opened as the local copy that writers probe.

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use snapkit::id::{ChunkId, PackId, SegmentId};
use snapkit::pack::PackInfo;
use snapkit::segment::{self, Place, Row, Segment, SegmentError};

use crate::Case;

const INTRO: &str = "# Segments, accepted and refused

One directory per case: `segment` holds the bytes, `name` what a record calls it. Made and judged by
`snapkit/tests/golden/segments.rs`. Damage is `E_HASH`: the segment counts as absent. The format:
`docs/format/segment.md`.

";

const HEADER: usize = 32;
const PACK: usize = 48;
const ROW: usize = 48;

fn packs() -> [PackInfo; 2] {
    [1, 2].map(|n| PackInfo { id: PackId([n; 32]), pack_bytes: 4000, table_bytes: 120 })
}

/// A segment of `rows` chunks in two packs.
fn made(rows: u32) -> Vec<u8> {
    let mut all: Vec<Row> = (0..rows)
        .map(|n| {
            let place = Place { pack: n % 2, frame: (n % 3) as u16, offset: 10 * n, bytes: 10 };
            Row { chunk: ChunkId::of(&n.to_le_bytes()), place }
        })
        .collect();
    all.sort_unstable_by_key(|row| row.chunk);
    let mut out = Cursor::new(Vec::new());
    segment::write(&packs(), rows.into(), all.into_iter().map(Ok), &mut out).unwrap();
    out.into_inner()
}

fn rows_at(bytes: &[u8]) -> usize {
    HEADER + 2 * PACK + 4 * ((1 << bytes[12]) + 1)
}

/// Gives the row at `at` its check.
fn rechecked(bytes: &mut [u8], at: usize) {
    let check = blake3::hash(&bytes[at..at + 46]);
    bytes[at + 46..at + 48].copy_from_slice(&check.as_bytes()[..2]);
}

fn edited(rows: u32, edit: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = made(rows);
    edit(&mut bytes);
    bytes
}

fn cases() -> Vec<Case> {
    let case = |name, verdict, made, bytes: Vec<u8>| {
        let id = SegmentId::of(&bytes);
        Case { name, verdict, made, files: vec![("segment".into(), bytes), ("name".into(), format!("{id}\n").into())] }
    };
    let mut other_name = case("reject-other-name", "E_HASH", "the name of other bytes", made(3));
    other_name.files[1].1 = format!("{}\n", SegmentId::of(b"other")).into();
    vec![
        case("three-rows", "accepted", "three chunks in two packs", made(3)),
        case("hundred-rows", "accepted", "a hundred chunks, so a fan-out of 2 bits", made(100)),
        case("no-rows", "accepted", "no chunk", made(0)),
        other_name,
        case("reject-magic", "E_HASH", "another first byte", edited(3, |b| b[0] = b's')),
        case("reject-short-header", "E_HASH", "31 bytes", edited(3, |b| b.truncate(31))),
        case("reject-truncated", "E_HASH", "the last byte cut off", edited(3, |b| b.truncate(b.len() - 1))),
        case("reject-appended", "E_HASH", "one byte more", edited(3, |b| b.push(0))),
        case("reject-fan-bits", "E_HASH", "25 bits of fan-out", edited(3, |b| b[12] = 25)),
        case("reject-row-count", "E_HASH", "2^32 rows", edited(3, |b| b[28] = 1)),
        case(
            "reject-fan-out-total",
            "E_HASH",
            "a fan-out that ends with 2 of 3 rows",
            edited(3, |b| {
                let at = rows_at(b);
                b[at - 4] = 2;
            }),
        ),
        case(
            "reject-fan-out-bucket",
            "E_HASH",
            "a bucket that begins one row late",
            edited(100, |b| {
                let at = rows_at(b);
                b[at - 8] += 1;
            }),
        ),
        case(
            "reject-row-check",
            "E_HASH",
            "a row that fails its check",
            edited(3, |b| {
                let at = rows_at(b);
                b[at + 36] ^= 1;
            }),
        ),
        case(
            "reject-row-order",
            "E_HASH",
            "the first two rows in the other order",
            edited(3, |b| {
                let at = rows_at(b);
                b[at..at + 2 * ROW].rotate_left(ROW);
            }),
        ),
        case(
            "reject-row-twice",
            "E_HASH",
            "the first row twice",
            edited(3, |b| {
                let at = rows_at(b);
                b.copy_within(at..at + ROW, at + ROW);
            }),
        ),
        case(
            "reject-pack-index",
            "E_HASH",
            "a row in the third of two packs",
            edited(3, |b| {
                let at = rows_at(b);
                b[at + 32] = 2;
                rechecked(b, at);
            }),
        ),
        case("reject-newer-version", "E_NEWER", "version 1", edited(3, |b| b[8] = 1)),
    ]
}

fn judge(case: &Path) -> String {
    let path = case.join("segment");
    let name = fs::read_to_string(case.join("name")).unwrap();
    if segment::name_of(&mut File::open(&path).unwrap()).unwrap().to_string() != name.trim_end() {
        return "E_HASH".to_owned();
    }
    let checked = Segment::open(File::open(&path).unwrap()).and_then(|segment| segment.check_rows());
    match checked {
        Ok(()) => "accepted",
        Err(SegmentError::Damaged(_)) => "E_HASH",
        Err(SegmentError::Newer(_)) => "E_NEWER",
        Err(SegmentError::Read(error)) => panic!("{error}"),
    }
    .to_owned()
}

#[test]
fn every_segment_gets_its_verdict() {
    crate::check("segments/draft", INTRO, cases(), judge);
}
