//! Attacks E01 to E04: data that is not what was signed, and data that was signed to do harm.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use manifests::digest::Digest;
use manifests::document::record::SegmentRef;
use manifests::refusal::Class;
use snapkit::entry::ChunkRef;
use snapkit::id::{ChunkId, PackId, SegmentId};
use snapkit::pack::{FrameEncoder, PackInfo};
use snapkit::segment::{self, Place, Row};
use snapkit_tests::attack::{Content, Forge, Victim, forged_frame};
use snapkit_tests::compare::same_tree;

fn forged(content: Content) -> (Forge, Victim) {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    forge.commit(content);
    (forge, victim)
}

/// Every command that needs the data of `file` refuses; those that need the tree alone do not.
#[track_caller]
fn data_refused(content: Content, class: Class) {
    let (_forge, victim) = forged(content);
    victim.records_are_accepted();
    victim.accepts(&["ls", "latest"]);
    victim.accepts(&["restore", "latest", "missing", "--dry-run"]);
    for command in [&["restore", "latest", "missing"][..], &["restore", "latest", "empty"], &["cat", "latest", "file"]]
    {
        victim.refuses(command, class, "");
    }
    victim.verify_finds(class);
    assert_eq!(fs::read(victim.restores("1").join("file")).unwrap(), b"honest\n");
}

fn packs(forge: &Forge) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(forge.object("packs")).into_iter().map(|entry| entry.unwrap().into_path());
    files.filter(|path| path.is_file()).collect()
}

#[test]
fn e01_a_flipped_bit_in_any_pack_is_refused_by_whoever_needs_it() {
    let forge = Forge::new();
    let victim = Victim::of(&forge);
    for pack in packs(&forge) {
        let good = fs::read(&pack).unwrap();
        for at in [20, good.len() / 2, good.len() - 60, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&pack, &bad).unwrap();
            let name = pack.file_name().unwrap().to_str().unwrap();
            victim.refuses(&["restore", "latest", "missing"], Class::Hash, name);
            victim.refuses(&["cat", "latest", "file"], Class::Hash, name);
            victim.verify_finds(Class::Hash);
        }
        fs::write(&pack, good).unwrap();
    }
    victim.restores("latest");
    victim.verify_is_clean();
}

#[test]
fn e02_a_frame_that_decodes_to_more_than_its_row_says_is_refused() {
    let zeros = vec![0; 6 << 20];
    let bomb = FrameEncoder::new(19).encode(&zeros, 1);
    let mut content = Content::new();
    let chunk = content.frame(&forged_frame(bomb.stored, 1000), &zeros[..1000]);
    content.file_of("file", &zeros[..1000], vec![chunk]);
    data_refused(content, Class::Hash);
}

#[test]
fn e02_a_frame_whose_stated_content_size_is_a_lie_is_refused() {
    // Magic, a descriptor with a size of four bytes and no window, then that size.
    let zeros = vec![0; 6 << 20];
    let mut stored = FrameEncoder::new(19).encode(&zeros, 1).stored;
    assert_eq!(stored[4] & 0b1110_0000, 0b1010_0000, "one segment, size in four bytes");
    stored[5..9].copy_from_slice(&1000u32.to_le_bytes());
    let mut content = Content::new();
    let chunk = content.frame(&forged_frame(stored, 1000), &zeros[..1000]);
    content.file_of("file", &zeros[..1000], vec![chunk]);
    data_refused(content, Class::Hash);
}

#[test]
fn e02_a_frame_that_asks_for_a_huge_window_is_refused() {
    // A frame with a window of 2 GiB, a content size of one byte, and one raw block with that byte.
    let mut stored = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1000_0000, 21 << 3];
    stored.extend(1u32.to_le_bytes());
    stored.extend([0b0000_1001, 0, 0, b'x']);
    assert_eq!(zstd::bulk::decompress(&stored, 10).unwrap(), b"x", "it is valid zstd");
    let mut content = Content::new();
    let chunk = content.frame(&forged_frame(stored, 1), b"x");
    content.file_of("file", b"x", vec![chunk]);
    data_refused(content, Class::Hash);
}

#[test]
fn e02_more_than_one_zstd_frame_in_a_frame_is_refused() {
    let one = || {
        let mut stored = vec![0x28, 0xb5, 0x2f, 0xfd, 0b0010_0000, 1];
        stored.extend([0b0000_1001, 0, 0, b'x']);
        stored
    };
    // A second frame with nothing in it, and a skippable one that hides bytes.
    let nothing = [0x28, 0xb5, 0x2f, 0xfd, 0b0010_0000, 0, 1, 0, 0];
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, b'h', b'i', b'd', b'e'];
    for more in [&nothing[..], &skippable] {
        let stored = [one(), more.to_vec()].concat();
        let mut content = Content::new();
        let chunk = content.frame(&forged_frame(stored, 1), b"x");
        content.file_of("file", b"x", vec![chunk]);
        data_refused(content, Class::Hash);
    }
}

#[test]
fn e02_a_row_that_claims_more_than_the_longest_frame_is_refused() {
    for raw_len in [(8 << 20) + 1, u32::MAX, 0] {
        let mut content = Content::new();
        let chunk = content.frame(&forged_frame(vec![0x28, 0xb5, 0x2f, 0xfd], raw_len), b"x");
        content.file_of("file", b"x", vec![chunk]);
        data_refused(content, Class::Hash);
    }
}

#[test]
fn e03_a_valid_chunk_under_another_name_is_refused() {
    let mut content = Content::new();
    let other = content.chunk(b"evil!!\n");
    content.file_of("file", b"honest\n", vec![ChunkRef { chunk: ChunkId::of(b"honest\n"), ..other }]);
    data_refused(content, Class::Hash);
}

#[test]
fn e03_chunks_of_a_file_in_another_order_or_place_are_refused() {
    // Both chunks are valid; the file is not the one that was signed.
    let mut content = Content::new();
    let (a, b) = (content.chunk(b"first "), content.chunk(b"second"));
    content.file_of("file", b"first second", vec![b, a]);
    // Each piece is what it says and only the whole is wrong, which shows when the file is put together.
    let (_forge, victim) = forged(content);
    victim.records_are_accepted();
    for command in [&["restore", "latest", "missing"][..], &["restore", "latest", "empty"], &["cat", "latest", "file"]]
    {
        victim.refuses(command, Class::Hash, "file");
    }

    let mut content = Content::new();
    let (a, b) = (content.chunk(b"first "), content.chunk(b"second"));
    let swapped = ChunkRef { chunk: a.chunk, ..b };
    content.file_of("file", b"first second", vec![swapped, ChunkRef { chunk: b.chunk, ..a }]);
    data_refused(content, Class::Hash);

    let mut content = Content::new();
    let long = content.chunk(b"....honest\n....");
    let shifted = ChunkRef { chunk: ChunkId::of(b"honest\n"), bytes: 7, offset: 5, ..long };
    content.file_of("file", b"honest\n", vec![shifted]);
    data_refused(content, Class::Hash);
}

#[test]
fn e03_a_place_that_does_not_exist_is_refused() {
    let places: [fn(ChunkRef) -> ChunkRef; 3] =
        [|r| ChunkRef { frame: 9, ..r }, |r| ChunkRef { offset: 1, ..r }, |r| ChunkRef { offset: (8 << 20) - 7, ..r }];
    for place in places {
        let mut content = Content::new();
        let chunk = content.chunk(b"honest\n");
        content.file_of("file", b"honest\n", vec![place(chunk)]);
        data_refused(content, Class::Size);
    }
}

#[test]
fn e03_packs_swapped_for_each_other_are_refused() {
    let forge = Forge::new();
    let victim = Victim::of(&forge);
    let all = packs(&forge);
    let (first, second) = (fs::read(&all[0]).unwrap(), fs::read(&all[1]).unwrap());
    fs::write(&all[0], second).unwrap();
    fs::write(&all[1], first).unwrap();
    let run = victim.run(&["restore", "latest", "missing"]);
    assert!(matches!(run.code, 71 | 72), "{run:?}");
    assert!(!victim.machine.path("missing").exists());
    let found = victim.run(&["verify", "--data"]).expect(1);
    let named = |pack: &PathBuf| found.text().contains(pack.file_name().unwrap().to_str().unwrap());
    assert!(named(&all[0]) || named(&all[1]), "{}", found.text());
}

/// A segment that claims every chunk of a pack lies where other bytes are.
fn poisoned(info: PackInfo, chunks: &[ChunkId]) -> (SegmentId, Vec<u8>) {
    let mut rows: Vec<Row> = chunks
        .iter()
        .map(|chunk| Row { chunk: *chunk, place: Place { pack: 0, frame: 0, offset: 0, bytes: 1 } })
        .collect();
    rows.sort_by_key(|row| row.chunk);
    let mut out = std::io::Cursor::new(Vec::new());
    segment::write(&[info], rows.len() as u64, rows.into_iter().map(Ok), &mut out).unwrap();
    let bytes = out.into_inner();
    (SegmentId::of(&bytes), bytes)
}

#[test]
fn e04_a_poisoned_segment_and_extra_objects_change_no_restore() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let mut evil = Content::new();
    evil.file("file", b"evil");
    let body = forge.store(evil);
    let evil_pack = &body.public.packs.last[0];
    let info =
        PackInfo { id: PackId(evil_pack.id.0), pack_bytes: evil_pack.bytes, table_bytes: evil_pack.table_bytes as u32 };
    let (id, bytes) = poisoned(info, &[ChunkId::of(b"honest\n"), ChunkId::of(b"newer\n")]);

    // As an object beside the others, and in the place of a segment that the record names.
    forge.put(&id.key(), &bytes);
    for entry in fs::read_dir(forge.object("segments")).unwrap() {
        fs::write(entry.unwrap().path(), &bytes).unwrap();
    }
    forge.put("packs/zz/not-a-name", b"extra");
    forge.put("segments/extra", b"extra");
    forge.put("chain/not-a-slot", b"extra");
    forge.put("tile/9/999", b"extra");
    assert_eq!(fs::read(victim.restores("latest").join("file")).unwrap(), b"honest\n");
    victim.accepts(&["ls", "latest"]);
    assert_eq!(victim.accepts(&["cat", "latest", "file"]).stdout, b"honest\n");

    // A writer that lost its cache does not believe it either.
    fs::remove_dir_all(forge.machine.cache()).unwrap();
    forge.machine.write("tree/newer", "newer\n");
    forge.honest();
    same_tree(&forge.machine.path("tree"), &victim.restores("latest"));
    victim.verify_is_clean();
}

#[test]
fn e04_a_segment_signed_by_the_writer_is_never_asked_by_a_reader() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let mut content = Content::new();
    content.file("file", b"honest\n");
    let body = forge.store(content);
    let pack = &body.public.packs.last[1];
    let info = PackInfo { id: PackId(pack.id.0), pack_bytes: pack.bytes, table_bytes: pack.table_bytes as u32 };
    let (id, bytes) = poisoned(info, &[ChunkId::of(b"honest\n")]);
    forge.put(&id.key(), &bytes);
    let mut header = forge.header();
    header.segments = Some(vec![SegmentRef { id: Digest(id.0), bytes: bytes.len() as u64 }]);
    let header = serde_json::to_string(&header).unwrap();
    let body = serde_json::to_string(&body).unwrap();
    forge.put_snapshot(&format!(r#"{},"body":{body}}}"#, header.strip_suffix('}').unwrap()));
    for snapshot in ["1", "latest"] {
        assert_eq!(fs::read(victim.restores(snapshot).join("file")).unwrap(), b"honest\n");
    }
    assert_eq!(victim.newest(), 2);
}

#[test]
fn a_pack_of_a_newer_version_codec_or_cipher_is_newer_and_not_damage() {
    let edits: [fn(&mut Vec<u8>); 3] = [
        |table| table[8] = 7,
        |table| table[9] = 1,
        |table| {
            let footer = table.len() - 48;
            table[footer + 4] = 1;
        },
    ];
    for edit in edits {
        let mut content = Content::new();
        content.file("file", b"newer");
        content.edit_table(edit);
        data_refused(content, Class::Newer);
    }
}

#[test]
fn a_segment_of_a_newer_version_stops_the_writer_and_no_reader() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let mut content = Content::new();
    content.file("file", b"honest\n");
    let body = forge.store(content);
    let pack = &body.public.packs.last[0];
    let info = PackInfo { id: PackId(pack.id.0), pack_bytes: pack.bytes, table_bytes: pack.table_bytes as u32 };
    let (_, mut bytes) = poisoned(info, &[ChunkId::of(b"honest\n")]);
    bytes[8] = 1;
    let id = SegmentId::of(&bytes);
    forge.put(&id.key(), &bytes);
    let mut header = forge.header();
    header.segments = Some(vec![SegmentRef { id: Digest(id.0), bytes: bytes.len() as u64 }]);
    let header = serde_json::to_string(&header).unwrap();
    let body = serde_json::to_string(&body).unwrap();
    forge.put_snapshot(&format!(r#"{},"body":{body}}}"#, header.strip_suffix('}').unwrap()));
    forge.follow();
    forge.hint();
    assert_eq!(fs::read(victim.restores("latest").join("file")).unwrap(), b"honest\n");
    victim.verify_finds(Class::Newer);
    // Whoever left it out of the list would make the newer one store everything again.
    let run = forge.machine.run(&["snapshot", "--store", "store", "tree"]).expect(35);
    run.stderr_names("E_NEWER");
}
