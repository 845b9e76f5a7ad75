//! Trees: read from the top index chunk down, as every reader does; chunks are the files of the case.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use minicbor::Encoder;
use snapkit::digest::{Digests, TreeDigester};
use snapkit::entry::{
    Child, ChunkList, ChunkRef, Entry, Extent, Kind, LocalPacks, OwnerNames, PackSet, decode_refs, encode_child,
    encode_entry, encode_header, encode_ref, group_of,
};
use snapkit::id::{ChunkId, ContentHash, PackId};
use snapkit::pack::PackInfo;
use snapkit::tree::{ChunkSource, TreeError, TreeReader};

use crate::Case;

const INTRO: &str = "# Trees, accepted and refused

One directory per case. `index` is the top index chunk, `leaf-*`, `index-*` and `list-*` are further chunks; a chunk is
found by the BLAKE3 of its bytes, packs and places mean nothing here. `reference` has the name of `index` and the number
of entries that the record states. Accepted trees have `digests`: content and full. Made and judged by
`snapkit/tests/golden/trees.rs`. The format: `docs/format/tree.md` and `docs/format/digests.md`.

";

fn pack() -> PackInfo {
    PackInfo { id: PackId([7; 32]), pack_bytes: 4000, table_bytes: 120 }
}

fn packs() -> PackSet {
    let mut packs = PackSet::default();
    packs.index(pack());
    packs
}

/// A header that lists the one pack.
fn header(level: u32) -> Vec<u8> {
    let (mut out, mut local) = (Vec::new(), LocalPacks::default());
    local.number(0);
    encode_header(&mut out, &local, &packs(), &OwnerNames::default(), level);
    out
}

fn place(bytes: &[u8]) -> ChunkRef {
    ChunkRef { chunk: ChunkId::of(bytes), bytes: bytes.len() as u32, pack: 0, frame: 0, offset: 0 }
}

fn entry(path: &[u8], kind: Kind) -> Entry {
    let mode = match kind {
        Kind::Symlink { .. } => 0,
        Kind::Directory => 0o755,
        _ => 0o644,
    };
    let path = path.to_vec();
    Entry { path, kind, mode, uid: 0, gid: 0, mtime_s: 1, mtime_ns: 0, xattrs: vec![], group: None, torn: false }
}

fn directory(path: &[u8]) -> Entry {
    entry(path, Kind::Directory)
}

fn link(path: &[u8], target: &[u8]) -> Entry {
    entry(path, Kind::Symlink { target: target.to_vec() })
}

fn file(path: &[u8], content: &[u8]) -> Entry {
    let kind = Kind::File {
        size: content.len() as u64,
        content: ContentHash::of(content),
        chunks: ChunkList::Inline(vec![place(content)]),
        holes: vec![],
    };
    entry(path, kind)
}

/// A leaf of these entries.
fn leaf(entries: &[Entry]) -> Vec<u8> {
    let mut out = header(0);
    entries.iter().for_each(|entry| encode_entry(&mut out, &mut |pack| pack, entry).unwrap());
    out
}

/// A leaf of the directory itself and these entries.
fn tree(entries: &[Entry]) -> Vec<Leaf> {
    vec![Leaf::of(&[&[directory(b"")], entries].concat())]
}

struct Leaf {
    first: Vec<u8>,
    entries: u64,
    bytes: Vec<u8>,
}

impl Leaf {
    fn of(entries: &[Entry]) -> Self {
        Self { first: entries[0].path.clone(), entries: entries.len() as u64, bytes: leaf(entries) }
    }

    /// The directory itself and one entry as it stands.
    fn raw(fields: Vec<(u64, Vec<u8>)>) -> Vec<Self> {
        let bytes = [leaf(&[directory(b"")]), map(fields)].concat();
        vec![Self { first: Vec::new(), entries: 2, bytes }]
    }
}

fn index(level: u32, children: &[(Vec<u8>, u64, &[u8])]) -> Vec<u8> {
    let mut out = header(level);
    for (first, entries, bytes) in children {
        let child = Child { first: first.clone(), chunk: place(bytes), entries: *entries };
        encode_child(&mut out, &mut |pack| pack, &child);
    }
    out
}

fn case(name: &'static str, verdict: &'static str, made: &'static str, leaves: Vec<Leaf>) -> Case {
    let children: Vec<_> = leaves.iter().map(|l| (l.first.clone(), l.entries, l.bytes.as_slice())).collect();
    let index = index(1, &children);
    let entries = leaves.iter().map(|leaf| leaf.entries).sum();
    let leaves = leaves.into_iter().enumerate().map(|(i, leaf)| (format!("leaf-{i}"), leaf.bytes)).collect();
    with_index(name, verdict, made, index, entries, leaves)
}

fn with_index(
    name: &'static str,
    verdict: &'static str,
    made: &'static str,
    index: Vec<u8>,
    entries: u64,
    mut files: Vec<(String, Vec<u8>)>,
) -> Case {
    let reference = format!("{} {entries}\n", ChunkId::of(&index));
    files.push(("index".into(), index));
    let chunks = files.iter().map(|(_, bytes)| (ChunkId::of(bytes), bytes.clone())).collect();
    if verdict == "accepted" {
        let digests = read(Chunks(chunks), &reference).unwrap();
        files.push(("digests".into(), format!("{}\n{}\n", digests.content, digests.full).into()));
    }
    files.push(("reference".into(), reference.into()));
    Case { name, verdict, made, files }
}

fn every_kind() -> Vec<Entry> {
    let mut all = vec![
        directory(b""),
        entry(b"block", Kind::BlockDevice { rdev: (8, 1) }),
        entry(b"char", Kind::CharDevice { rdev: (1, 3) }),
        directory(b"dir"),
        file(b"dir/below", b"below"),
        file(b"dir-after", b"after what is below"),
        entry(b"empty", Kind::empty_file()),
        entry(b"fifo", Kind::Fifo),
        file(b"file", b"content"),
        file(b"linked-1", b"linked"),
        file(b"linked-2", b"linked"),
        link(b"symlink", b"../out \xff"),
        file(b"torn", b"torn"),
        file(b"\xff\xfe", b"no UTF-8"),
    ];
    for entry in &mut all {
        match entry.path.as_slice() {
            b"dir" => (entry.mode, entry.uid, entry.gid) = (0o1777, 1000, 100),
            b"file" => {
                (entry.mode, entry.mtime_s, entry.mtime_ns) = (0o4755, -1, 999_999_999);
                entry.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec()), (b"user.b".to_vec(), Vec::new())];
            }
            b"linked-1" | b"linked-2" => entry.group = Some(group_of(b"linked-1")),
            b"torn" => entry.torn = true,
            _ => {}
        }
    }
    let (data, zeros) = (b"data".as_slice(), [0; 100]);
    let whole = [&zeros[..50], data, &zeros[..100]].concat();
    let kind = Kind::File {
        size: 154,
        content: ContentHash::of(&whole),
        chunks: ChunkList::Inline(vec![place(data)]),
        holes: vec![Extent { offset: 0, bytes: 50 }, Extent { offset: 54, bytes: 100 }],
    };
    all.insert(11, entry(b"sparse", kind));
    all
}

fn accepted() -> Vec<Case> {
    let list = {
        let mut out = header(0);
        for part in [b"one ", b"two "] {
            encode_ref(&mut out, &mut |pack| pack, &place(part));
        }
        out
    };
    let kind = Kind::File {
        size: 8,
        content: ContentHash::of(b"one two "),
        chunks: ChunkList::Stored(vec![place(&list)]),
        holes: vec![],
    };
    let mut stored =
        case("chunk-list", "accepted", "a file whose chunks are listed in a chunk", tree(&[entry(b"a", kind)]));
    stored.files.insert(0, ("list-0".into(), list));
    let leaves = [leaf(&[directory(b""), file(b"a", b"a")]), leaf(&[file(b"b", b"b")])];
    let lower = [index(1, &[(vec![], 2, &leaves[0])]), index(1, &[(b"b".to_vec(), 1, &leaves[1])])];
    let top = index(2, &[(vec![], 2, &lower[0]), (b"b".to_vec(), 1, &lower[1])]);
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for i in 0..2 {
        files.push((format!("leaf-{i}"), leaves[i].clone()));
        files.push((format!("index-{i}"), lower[i].clone()));
    }
    let names = {
        let (mut out, local) = (Vec::new(), LocalPacks::default());
        let mut names = OwnerNames::default();
        names.users.extend([(0, b"root".to_vec()), (1000, b"ann\xe9".to_vec())]);
        names.groups.insert(0, b"root".to_vec());
        encode_header(&mut out, &local, &packs(), &names, 0);
        let mut owned = entry(b"a", Kind::empty_file());
        owned.uid = 1000;
        [directory(b""), owned].iter().for_each(|e| encode_entry(&mut out, &mut |pack| pack, e).unwrap());
        vec![Leaf { first: vec![], entries: 2, bytes: out }]
    };
    vec![
        case("every-kind", "accepted", "every type and every key", vec![Leaf::of(&every_kind())]),
        case("owner-names", "accepted", "names of users and groups in the header", names),
        case(
            "two-leaves",
            "accepted",
            "a leaf that ends inside a directory",
            vec![
                Leaf::of(&[directory(b""), directory(b"d"), file(b"d/a", b"a")]),
                Leaf::of(&[file(b"d/b", b"b"), file(b"d-", b"c")]),
            ],
        ),
        with_index("two-levels", "accepted", "an index over indexes", top, 3, files),
        stored,
        case("unknown-key-64", "accepted", "an entry with key 64", Leaf::raw(with(regular(), 64, text("any")))),
    ]
}

fn refused() -> Vec<Case> {
    let path = |name, made, entries: &[Entry]| case(name, "E_PATH", made, tree(entries));
    let long = [&[b'x'; 256][..], b"/b"].concat();
    let member = |path: &[u8], first: &[u8]| Entry { group: Some(group_of(first)), ..file(path, b"x") };
    let raw = |name, verdict, made, fields| case(name, verdict, made, Leaf::raw(fields));
    let one = tree(&[file(b"a", b"a")]);
    let counted = |child: u64, record: u64| {
        let leaf = tree(&[file(b"a", b"a")]).remove(0).bytes;
        (index(1, &[(vec![], child, &leaf)]), record, vec![("leaf-0".to_owned(), leaf)])
    };
    let by_index =
        |name, verdict, made, (index, entries, files)| with_index(name, verdict, made, index, entries, files);
    let newer_header = |key: u64| {
        let fields = vec![(0, array(vec![])), (key, number(1))];
        vec![Leaf { first: vec![], entries: 1, bytes: [map(fields), header_free(&directory(b""))].concat() }]
    };
    let hole = |offset: u64, bytes: u64| array(vec![array(vec![number(offset), number(bytes)])]);
    vec![
        path("reject-path-up", "a path with `..`", &[file(b"../a", b"x")]),
        path("reject-path-absolute", "a path that begins with `/`", &[file(b"/a", b"x")]),
        path("reject-path-dot", "a path with `.`", &[file(b"./a", b"x")]),
        path("reject-path-empty-component", "`a//b`", &[directory(b"a"), file(b"a//b", b"x")]),
        path("reject-path-slash-at-end", "`a/`", &[file(b"a/", b"x")]),
        path("reject-path-nul", "a path with a NUL byte", &[file(b"a\0b", b"x")]),
        path("reject-path-long-component", "a component of 256 bytes", &[file(&long, b"x")]),
        path("reject-path-twice", "one path twice", &[file(b"a", b"x"), file(b"a", b"x")]),
        path("reject-path-order", "`b` before `a`", &[file(b"b", b"x"), file(b"a", b"x")]),
        path(
            "reject-path-byte-order",
            "`a-b` before `a/b`, as bytes alone would have it",
            &[directory(b"a"), file(b"a-b", b"x"), file(b"a/b", b"x")],
        ),
        path("reject-path-no-parent", "`a/b` without `a`", &[file(b"a/b", b"x")]),
        case("reject-path-no-top", "E_PATH", "without the directory itself", vec![Leaf::of(&[file(b"a", b"x")])]),
        case("reject-path-top-file", "E_PATH", "a file with the empty path", vec![Leaf::of(&[file(b"", b"x")])]),
        case(
            "reject-path-order-of-leaves",
            "E_PATH",
            "a leaf that begins with the last path of the leaf before",
            vec![Leaf::of(&[directory(b""), file(b"a", b"a"), file(b"c", b"c")]), Leaf::of(&[file(b"b", b"b")])],
        ),
        case(
            "reject-link-parent-symlink",
            "E_LINK",
            "a file below a symlink",
            tree(&[link(b"a", b"/etc"), file(b"a/b", b"x")]),
        ),
        case("reject-link-parent-file", "E_LINK", "a file below a file", tree(&[file(b"a", b"a"), file(b"a/b", b"x")])),
        case("reject-link-no-first", "E_LINK", "a link group without its first member", tree(&[member(b"b", b"a")])),
        case(
            "reject-link-first-later",
            "E_LINK",
            "a link group whose first member comes later",
            tree(&[member(b"a", b"b"), member(b"b", b"b")]),
        ),
        raw("reject-size-chunks", "E_SIZE", "a file of 8 bytes with 7 bytes of chunks", with(regular(), 7, number(8))),
        raw(
            "reject-size-hole-beyond",
            "E_SIZE",
            "a hole that ends behind the file",
            with(with(regular(), 7, number(9)), 11, hole(8, 2)),
        ),
        raw("reject-size-hole-empty", "E_SIZE", "a hole of 0 bytes", with(regular(), 11, hole(3, 0))),
        raw(
            "reject-size-holes-touch",
            "E_SIZE",
            "two holes that touch",
            with(
                with(regular(), 7, number(9)),
                11,
                array(vec![array(vec![number(0), number(1)]), array(vec![number(1), number(1)])]),
            ),
        ),
        by_index(
            "reject-size-leaf-count",
            "E_SIZE",
            "an index that counts three entries in a leaf of two",
            counted(3, 3),
        ),
        by_index(
            "reject-size-record-count",
            "E_SIZE",
            "a record that counts three entries in a tree of two",
            counted(2, 3),
        ),
        raw("reject-newer-entry-key", "E_NEWER", "an entry with key 17", with(regular(), 17, number(1))),
        raw("reject-newer-type", "E_NEWER", "an entry of type 6", with(regular(), 1, number(6))),
        case("reject-newer-header-key", "E_NEWER", "a header with key 4", newer_header(4)),
        raw(
            "reject-symlink-mode",
            "E_KIND",
            "a symlink with a mode",
            with(with(plain(2), 12, bytes(b"x")), 2, number(0o777)),
        ),
        raw("reject-symlink-no-target", "E_KIND", "a symlink without a target", without(plain(2), 2)),
        raw(
            "reject-symlink-empty",
            "E_KIND",
            "a symlink with an empty target",
            with(without(plain(2), 2), 12, bytes(b"")),
        ),
        raw("reject-symlink-nul", "E_KIND", "a target with a NUL byte", with(without(plain(2), 2), 12, bytes(b"a\0b"))),
        raw("reject-file-no-mode", "E_KIND", "a file without a mode", without(regular(), 2)),
        raw(
            "reject-file-no-content",
            "E_KIND",
            "a file with a size and no content hash",
            without(with(regular(), 9, array(vec![])), 8),
        ),
        raw("reject-directory-content", "E_KIND", "a directory with content", with(regular(), 1, number(1))),
        raw("reject-device-no-numbers", "E_KIND", "a device without numbers", plain(4)),
        raw(
            "reject-fifo-numbers",
            "E_KIND",
            "a fifo with the numbers of a device",
            with(plain(3), 13, array(vec![number(1), number(3)])),
        ),
        raw("reject-mode-range", "E_KIND", "mode 0o10000", with(regular(), 2, number(0o10000))),
        raw("reject-nanoseconds", "E_KIND", "1,000,000,000 nanoseconds", with(regular(), 6, number(1_000_000_000))),
        raw(
            "reject-attribute-order",
            "E_KIND",
            "attributes in descending order",
            with(regular(), 14, array([b"user.b", b"user.a"].map(|n| array(vec![bytes(n), bytes(b"")])).to_vec())),
        ),
        raw(
            "reject-both-lists",
            "E_KIND",
            "an entry with both lists of chunks",
            with(regular(), 10, array(vec![reference(0)])),
        ),
        raw(
            "reject-pack-number",
            "E_KIND",
            "a chunk in the second of one pack",
            with(regular(), 9, array(vec![reference(1)])),
        ),
        raw("reject-group-length", "E_KIND", "a group of 15 bytes", with(regular(), 15, bytes(&[1; 15]))),
        raw("reject-no-owner", "E_KIND", "an entry without a group id", without(regular(), 4)),
        case("reject-key-order", "E_KIND", "keys in descending order", {
            let mut fields = regular();
            fields.swap(2, 3);
            vec![Leaf { bytes: [leaf(&[directory(b"")]), unsorted(fields)].concat(), first: vec![], entries: 2 }]
        }),
        case("reject-indefinite", "E_KIND", "an entry that is a map of indefinite length", {
            let mut entry = map(regular());
            entry[0] = 0xbf;
            entry.push(0xff);
            vec![Leaf { bytes: [leaf(&[directory(b"")]), entry].concat(), first: vec![], entries: 2 }]
        }),
        case("reject-cut-off", "E_KIND", "a leaf without its last byte", {
            let mut leaf = one.into_iter().next().unwrap();
            leaf.bytes.pop();
            vec![leaf]
        }),
        case("reject-header-no-packs", "E_KIND", "a header without a list of packs", {
            vec![Leaf { bytes: [map(vec![]), header_free(&directory(b""))].concat(), first: vec![], entries: 1 }]
        }),
        by_index("reject-index-empty", "E_KIND", "an index without children", (header(1), 0, vec![])),
        by_index("reject-index-level", "E_KIND", "an index of level 5", {
            let leaf = leaf(&[directory(b"")]);
            (index(5, &[(vec![], 1, &leaf)]), 1, vec![("leaf-0".to_owned(), leaf)])
        }),
        by_index("reject-index-skips-level", "E_KIND", "an index of level 2 over a leaf", {
            let leaf = leaf(&[directory(b"")]);
            (index(2, &[(vec![], 1, &leaf)]), 1, vec![("leaf-0".to_owned(), leaf)])
        }),
        by_index("reject-index-order", "E_KIND", "an index with children out of order", {
            let leaves = [leaf(&[directory(b"")]), leaf(&[file(b"a", b"a")])];
            let index = index(1, &[(b"a".to_vec(), 1, &leaves[1]), (vec![], 1, &leaves[0])]);
            let [first, second] = leaves;
            (index, 2, vec![("leaf-0".to_owned(), first), ("leaf-1".to_owned(), second)])
        }),
        by_index("reject-index-is-leaf", "E_KIND", "a leaf in the place of the top index chunk", {
            (leaf(&[directory(b"")]), 1, vec![])
        }),
    ]
}

/// The entry alone, as it stands in a leaf.
fn header_free(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    encode_entry(&mut out, &mut |pack| pack, entry).unwrap();
    out
}

/// The fields that every type has; symlinks have no mode.
fn plain(kind: u64) -> Vec<(u64, Vec<u8>)> {
    vec![(0, bytes(b"a")), (1, number(kind)), (2, number(0o644)), (3, number(0)), (4, number(0)), (5, number(1))]
}

/// A file of seven bytes.
fn regular() -> Vec<(u64, Vec<u8>)> {
    let content = bytes(blake3::hash(b"content").as_bytes());
    [plain(0), vec![(7, number(7)), (8, content), (9, array(vec![reference(0)]))]].concat()
}

/// A reference to the whole content of a file, in the pack with this number.
fn reference(pack: u64) -> Vec<u8> {
    let chunk = bytes(blake3::hash(b"content").as_bytes());
    array(vec![chunk, number(7), number(pack), number(0), number(0)])
}

fn with(mut fields: Vec<(u64, Vec<u8>)>, key: u64, value: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    fields.retain(|(known, _)| *known != key);
    fields.push((key, value));
    fields.sort_by_key(|(key, _)| *key);
    fields
}

fn without(mut fields: Vec<(u64, Vec<u8>)>, key: u64) -> Vec<(u64, Vec<u8>)> {
    fields.retain(|(known, _)| *known != key);
    fields
}

fn map(mut fields: Vec<(u64, Vec<u8>)>) -> Vec<u8> {
    fields.sort_by_key(|(key, _)| *key);
    unsorted(fields)
}

fn unsorted(fields: Vec<(u64, Vec<u8>)>) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(&mut out).map(fields.len() as u64).unwrap();
    for (key, value) in fields {
        out.extend(number(key));
        out.extend(value);
    }
    out
}

fn number(n: u64) -> Vec<u8> {
    minicbor::to_vec(n).unwrap()
}

fn bytes(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(&mut out).bytes(value).unwrap();
    out
}

fn text(value: &str) -> Vec<u8> {
    minicbor::to_vec(value).unwrap()
}

fn array(items: Vec<Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::new(&mut out).array(items.len() as u64).unwrap();
    out.extend(items.concat());
    out
}

/// The chunks of a case, by name.
struct Chunks(HashMap<ChunkId, Vec<u8>>);

impl ChunkSource for Chunks {
    type Error = TreeError;

    fn chunk(&mut self, r: &ChunkRef, _: &PackSet) -> Result<Vec<u8>, TreeError> {
        Ok(self.0[&r.chunk].clone())
    }
}

fn read(mut chunks: Chunks, reference: &str) -> Result<Digests, TreeError> {
    let (name, entries) = reference.trim_end().split_once(' ').unwrap();
    let mut packs = packs();
    let top = ChunkRef { chunk: name.parse().unwrap(), ..place(b"x") };
    let mut reader = TreeReader::new(top, entries.parse().unwrap());
    let (mut names, mut digester, mut lists) = (OwnerNames::default(), TreeDigester::default(), Vec::new());
    while reader.next_leaf(&mut chunks, &mut packs, &mut names, |entry| {
        digester.push(&entry);
        if let Kind::File { chunks: ChunkList::Stored(stored), size, .. } = entry.kind {
            lists.push((stored, size));
        }
    })? {}
    for (stored, size) in lists {
        let mut found = 0;
        for r in stored {
            // The lists of the case are added to it after its digests are made.
            let Some(bytes) = chunks.0.get(&r.chunk) else { return Ok(digester.finish()) };
            found += decode_refs(bytes, &mut packs)?.iter().map(|r| u64::from(r.bytes)).sum::<u64>();
        }
        assert_eq!(found, size);
    }
    Ok(digester.finish())
}

fn judge(case: &Path) -> String {
    let mut chunks = HashMap::new();
    for file in fs::read_dir(case).unwrap().map(Result::unwrap) {
        let bytes = fs::read(file.path()).unwrap();
        chunks.insert(ChunkId::of(&bytes), bytes);
    }
    let reference = fs::read_to_string(case.join("reference")).unwrap();
    match read(Chunks(chunks), &reference) {
        Ok(found) => {
            let expected = fs::read_to_string(case.join("digests")).unwrap();
            assert_eq!(format!("{}\n{}\n", found.content, found.full), expected, "{}", case.display());
            "accepted".to_owned()
        }
        Err(error) => error.class().name().to_owned(),
    }
}

#[test]
fn every_tree_gets_its_verdict() {
    let cases = accepted().into_iter().chain(refused()).collect();
    crate::check("trees/draft", INTRO, cases, judge);
}
