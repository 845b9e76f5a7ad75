//! Packs: read through a store and a fetcher, as every reader does.

use std::fs;
use std::path::Path;

use snapkit::fetch::{FetchError, Fetcher};
use snapkit::id::{ChunkId, PackId};
use snapkit::located::Located;
use snapkit::pack::{FrameEncoder, PackInfo, PackWriter};
use snapkit::store::{OpenOptions, Store, open};

use crate::Case;

const INTRO: &str = "# Packs, accepted and refused

One directory per case. `pack` holds the bytes; `reference` is what a verified document says of it: the name, the length
of the pack, the length of its table with the footer; `chunks` has a line for each chunk to read from it: its name,
frame, offset and length. Made and judged by `snapkit/tests/golden/packs.rs`. The format: `docs/format/pack.md`.

";

const HEADER: usize = 16;
const ROW: usize = 72;

struct Made {
    info: PackInfo,
    bytes: Vec<u8>,
    /// Name, frame, offset, length.
    chunks: Vec<(ChunkId, u16, u32, u32)>,
}

impl Made {
    /// Two chunks of text in a compressed frame and, if asked for, one of noise in a frame as it is.
    fn new(second_frame: bool) -> Self {
        let texts = ["one chunk of text. ".repeat(30), "another chunk of text, ".repeat(20)];
        let mut encoder = FrameEncoder::new(3);
        let mut writer = PackWriter::new(0);
        writer.push(&encoder.encode(texts.concat().as_bytes(), 2));
        let mut chunks = vec![
            (ChunkId::of(texts[0].as_bytes()), 0, 0, texts[0].len() as u32),
            (ChunkId::of(texts[1].as_bytes()), 0, texts[0].len() as u32, texts[1].len() as u32),
        ];
        if second_frame {
            let mut noise = [0; 300];
            blake3::Hasher::new().finalize_xof().fill(&mut noise);
            writer.push(&encoder.encode(&noise, 1));
            chunks.push((ChunkId::of(&noise), 1, 0, 300));
        }
        let (info, bytes) = writer.finish(b"salt of examples");
        Self { info, bytes: bytes.to_vec(), chunks }
    }

    /// Changes the bytes and leaves the name as it was: damage.
    fn damaged(mut self, edit: impl Fn(&mut Vec<u8>)) -> Self {
        edit(&mut self.bytes);
        self
    }

    /// Changes the table and names the pack by it, as a writer would.
    fn rewritten(mut self, edit: impl Fn(&mut [u8])) -> Self {
        let at = self.info.table_range().start as usize;
        edit(&mut self.bytes[at..]);
        self.info.id = PackId::of(&self.bytes[at..]);
        self
    }

    fn case(self, name: &'static str, verdict: &'static str, made: &'static str) -> Case {
        let PackInfo { id, pack_bytes, table_bytes } = self.info;
        let line = |(chunk, frame, offset, bytes): &_| format!("{chunk} {frame} {offset} {bytes}\n");
        let chunks: String = self.chunks.iter().map(line).collect();
        let files = vec![
            ("pack".to_owned(), self.bytes),
            ("reference".to_owned(), format!("{id} {pack_bytes} {table_bytes}\n").into_bytes()),
            ("chunks".to_owned(), chunks.into_bytes()),
        ];
        Case { name, verdict, made, files }
    }
}

/// A pack of one frame whose row claims `raw_len` bytes.
fn claiming(raw_len: u32) -> Made {
    let mut made = Made::new(false);
    let mut frame = FrameEncoder::new(3).encode(&[0; 5000], 1);
    frame.raw_len = raw_len;
    let mut writer = PackWriter::new(0);
    writer.push(&frame);
    let (info, bytes) = writer.finish(b"salt of examples");
    (made.info, made.bytes) = (info, bytes.to_vec());
    made.chunks = vec![(ChunkId::of(&[0; 100]), 0, 0, 100)];
    made
}

fn cases() -> Vec<Case> {
    let two = || Made::new(true);
    let footer = 2 * ROW;
    let mut outside = two();
    outside.chunks[2].2 = 1;
    let mut no_frame = two();
    no_frame.chunks[2].1 = 2;
    let mut other_chunk = two();
    other_chunk.chunks[0].0 = ChunkId::of(b"another");
    let mut shorter = two();
    shorter.info.pack_bytes -= 1;
    vec![
        Made::new(false).case("two-chunks", "accepted", "two chunks in one zstd frame"),
        two().case("two-frames", "accepted", "a zstd frame with two chunks, a stored frame with one"),
        two().damaged(|b| b[0] = b's').case("reject-header-magic", "E_HASH", "another first byte"),
        two().damaged(|b| b[8] = 1).case("reject-header-version", "E_HASH", "version 1 in the header alone"),
        two().damaged(|b| b[HEADER + 20] ^= 1).case("reject-frame-bit", "E_HASH", "one bit of a frame flipped"),
        two().damaged(|b| *b.last_mut().unwrap() ^= 1).case(
            "reject-table-bit",
            "E_HASH",
            "one bit of the footer flipped",
        ),
        two().damaged(|b| b.truncate(b.len() - 1)).case("reject-truncated", "E_HASH", "the last byte cut off"),
        two().damaged(|b| b.push(0)).case("reject-appended", "E_SIZE", "one byte more than the reference says"),
        shorter.case("reject-other-length", "E_SIZE", "the reference says one byte less than the footer"),
        two().rewritten(|t| t[footer] = 1).case("reject-frame-count", "E_HASH", "the footer counts one frame of two"),
        two().rewritten(|t| t[0] += 1).case("reject-stored-length", "E_HASH", "a row one byte longer than its frame"),
        two().rewritten(|t| t[10] = 1).case("reject-row-zero", "E_HASH", "a 1 where a row has zeros"),
        two().rewritten(|t| t[16] = 1).case("reject-row-nonce", "E_HASH", "a nonce without a cipher"),
        two().rewritten(|t| t[footer + 32] = 1).case("reject-footer-zero", "E_HASH", "a 1 where the footer has zeros"),
        two().rewritten(|t| t[ROW + 4..ROW + 8].copy_from_slice(&299u32.to_le_bytes())).case(
            "reject-stored-raw-length",
            "E_HASH",
            "a stored frame with two lengths",
        ),
        two().rewritten(|t| t[40] ^= 1).case("reject-row-hash", "E_HASH", "a row with another hash than its frame's"),
        claiming(0).case("reject-raw-length-zero", "E_HASH", "a row with a raw length of 0"),
        claiming((8 << 20) + 1).case("reject-raw-length-limit", "E_HASH", "a row with a raw length above 8 MiB"),
        claiming(100).case("reject-bomb", "E_HASH", "a frame of 5,000 bytes with a row that says 100"),
        outside.case("reject-chunk-outside", "E_SIZE", "a chunk that ends behind its frame"),
        no_frame.case("reject-chunk-no-frame", "E_SIZE", "a chunk in a frame that is not there"),
        other_chunk.case("reject-chunk-name", "E_HASH", "another name for the bytes at a place"),
        two().rewritten(|t| t[footer + 4] = 1).damaged(|b| b[8] = 1).case(
            "reject-newer-version",
            "E_NEWER",
            "version 1 in header and footer",
        ),
        two().rewritten(|t| t[8] = 2).case("reject-newer-codec", "E_NEWER", "codec 2"),
        two().rewritten(|t| t[9] = 1).case("reject-newer-cipher", "E_NEWER", "cipher 1"),
    ]
}

fn judge(case: &Path) -> String {
    let text = fs::read_to_string(case.join("reference")).unwrap();
    let [id, pack_bytes, table_bytes] = text.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{text}") };
    let pack = PackInfo {
        id: id.parse().unwrap(),
        pack_bytes: pack_bytes.parse().unwrap(),
        table_bytes: table_bytes.parse().unwrap(),
    };
    let url = format!("memory://golden-{}", case.file_name().unwrap().to_str().unwrap());
    let store = open(&url, &OpenOptions::default()).unwrap();
    store.put(&pack.id.key(), fs::read(case.join("pack")).unwrap().into()).unwrap();
    match read_all(&*store, pack, &fs::read_to_string(case.join("chunks")).unwrap()) {
        Ok(()) => "accepted".to_owned(),
        Err(error) => error.class().unwrap().name().to_owned(),
    }
}

fn read_all(store: &dyn Store, pack: PackInfo, chunks: &str) -> Result<(), FetchError> {
    let fetcher = Fetcher::new(store);
    for line in chunks.lines() {
        let [chunk, frame, offset, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        fetcher.located(&Located {
            chunk: chunk.parse().unwrap(),
            bytes: bytes.parse().unwrap(),
            pack,
            frame: frame.parse().unwrap(),
            offset: offset.parse().unwrap(),
        })?;
    }
    Ok(())
}

#[test]
fn every_pack_gets_its_verdict() {
    crate::check("packs/draft", INTRO, cases(), judge);
}
