//! CBOR of leaves, index chunks and chunk lists, as in `docs/format/tree.md`: what both directions share, and their tests.

use super::{ChunkRef, OwnerNames, path};
use crate::pack::PackInfo;

/// Why the bytes of a tree chunk are refused. The bytes hash to their name: they were written so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodecError {
    /// Not the CBOR that the format asks for.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A path breaks the rules.
    #[error(transparent)]
    Path(#[from] path::PathError),
    /// Lengths of an entry do not add up.
    #[error("{path}: {why}")]
    Lengths {
        /// The entry, printable.
        path: String,
        /// What does not add up.
        why: String,
    },
    /// A key or type that this version does not know and must not ignore.
    #[error("written by a newer snapkit: {0}")]
    Newer(String),
}

impl From<minicbor::decode::Error> for CodecError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The first item of a leaf, index chunk or chunk list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Packs that references point to by position.
    pub packs: Vec<PackInfo>,
    /// Names of owners.
    pub names: OwnerNames,
    /// 0 in a leaf and a chunk list.
    pub level: u32,
}

/// One child of an index chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Path of the first entry below it.
    pub first: Vec<u8>,
    /// The leaf or index chunk.
    pub chunk: ChunkRef,
    /// Entries below it.
    pub entries: u64,
}

#[cfg(test)]
mod tests {
    use minicbor::Encoder;
    use proptest::prelude::*;

    use super::super::*;
    use crate::id::{ChunkId, ContentHash, PackId};

    fn packs() -> PackSet {
        let mut packs = PackSet::default();
        for n in 0..3 {
            packs.index(PackInfo { id: PackId([n; 32]), pack_bytes: 5000, table_bytes: 120 });
        }
        packs
    }

    pub(crate) fn file(path: &[u8], bytes: u32, pack: u32) -> Entry {
        let chunk = ChunkId::of(&bytes.to_le_bytes());
        let chunks = ChunkList::Inline(vec![ChunkRef { chunk, bytes, pack, frame: 1, offset: 7 }]);
        let kind = Kind::File { size: u64::from(bytes), content: ContentHash(chunk.0), chunks, holes: vec![] };
        Entry {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 5,
            mtime_s: -1,
            mtime_ns: 9,
            xattrs: vec![],
            group: None,
            torn: false,
        }
    }

    fn leaf(entries: &[Entry]) -> Vec<u8> {
        let mut local = LocalPacks::default();
        let mut body = Vec::new();
        entries.iter().for_each(|e| encode_entry(&mut body, &mut |p| local.number(p), e).unwrap());
        let mut out = Vec::new();
        encode_header(&mut out, &local, &packs(), &OwnerNames::default(), 0);
        out.extend(body);
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, CodecError> {
        let mut entries = Vec::new();
        decode_leaf(bytes, &mut packs(), &mut OwnerNames::default(), |e| entries.push(e))?;
        Ok(entries)
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Directory),
            Just(Kind::Fifo),
            Just(Kind::empty_file()),
            (any::<u32>(), any::<u32>()).prop_map(|rdev| Kind::CharDevice { rdev }),
            proptest::collection::vec(1u8.., 1..40).prop_map(|target| Kind::Symlink { target }),
            (1u32..1000, 0u32..3, 1u64..99).prop_map(|(n, pack, hole)| {
                let chunk = ChunkRef { chunk: ChunkId([8; 32]), bytes: n, pack, frame: 3, offset: 4 };
                let holes = vec![Extent { offset: u64::from(n), bytes: hole }];
                Kind::File {
                    size: u64::from(n) + hole,
                    content: ContentHash([1; 32]),
                    chunks: ChunkList::Inline(vec![chunk]),
                    holes,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_entry_comes_back_as_it_was(
            kind in any_kind(), mode in 0u32..=0o7777, uid: u32, gid: u32, mtime_s: i64, mtime_ns in 0u32..1_000_000_000,
            xattr in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mode = if matches!(kind, Kind::Symlink { .. }) { 0 } else { mode };
            let entry = Entry { path: b"a/b\xff".to_vec(), kind, mode, uid, gid, mtime_s, mtime_ns, xattrs: vec![(b"user.x".to_vec(), xattr)], group: None, torn: false };
            prop_assert_eq!(read(&leaf(std::slice::from_ref(&entry))).unwrap(), [entry]);
        }

        #[test]
        fn damaged_bytes_never_panic(at: prop::sample::Index, value: u8) {
            let mut bytes = leaf(&[file(b"a", 10, 1), file(b"b", 20, 2)]);
            let at = at.index(bytes.len());
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }

    /// A leaf of one entry with one more key.
    fn with_key(key: u64) -> Vec<u8> {
        let entry = file(b"a", 10, 0);
        let mut body = Vec::new();
        let mut local = LocalPacks::default();
        encode_entry(&mut body, &mut |p| local.number(p), &entry).unwrap();
        body[0] += 1; // one more field in the map
        Encoder::new(&mut body).u64(key).unwrap().bool(true).unwrap();
        let mut out = Vec::new();
        encode_header(&mut out, &local, &packs(), &OwnerNames::default(), 0);
        out.extend(body);
        out
    }

    #[test]
    fn unknown_key_below_64_is_newer_and_above_is_ignored() {
        assert!(matches!(read(&with_key(63)), Err(CodecError::Newer(_))));
        assert_eq!(read(&with_key(64)).unwrap(), [file(b"a", 10, 0)]);
    }

    #[test]
    fn unknown_type_is_newer_whatever_fields_it_has() {
        let mut entry = file(b"a", 10, 0);
        entry.torn = true;
        let mut bytes = leaf(&[entry]);
        // The entry begins after the header: a map, key 0 with the path `a`, key 1, the type.
        let at = bytes.windows(4).position(|w| w == [0x41, b'a', 1, 0]).unwrap() + 3;
        bytes[at] = 6;
        assert!(matches!(read(&bytes), Err(CodecError::Newer(_))));
    }

    #[test]
    fn header_without_packs_is_refused() {
        // A map with only key 3, the level.
        let bytes = [0xa1, 3, 1];
        assert!(
            matches!(decode_children(&bytes, None, &mut packs()), Err(CodecError::Malformed(w)) if w.contains("packs"))
        );
    }

    #[test]
    fn tree_chunk_longer_than_its_limit_is_refused() {
        let bytes = vec![0; MAX_TREE_CHUNK_BYTES + 1];
        assert!(matches!(read(&bytes), Err(CodecError::Malformed(w)) if w.contains("a tree chunk of")));
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        let mut entry = file(b"a", 10, 0);
        if let Kind::File { size, .. } = &mut entry.kind {
            *size = 11;
        }
        assert!(matches!(read(&leaf(&[entry])), Err(CodecError::Lengths { .. })));
    }

    #[test]
    fn hostile_paths_are_refused() {
        for bad in [&b"../x"[..], b"/x", b"a/./b"] {
            assert!(matches!(read(&leaf(&[file(bad, 10, 0)])), Err(CodecError::Path(_))));
        }
    }

    #[test]
    fn entry_with_too_many_attributes_is_not_encoded() {
        let mut entry = file(b"a", 10, 0);
        entry.xattrs = vec![(b"user.a".to_vec(), vec![0; MAX_ENTRY_BYTES])];
        let mut out = vec![1];
        assert!(encode_entry(&mut out, &mut |p| p, &entry).is_err());
        assert_eq!(out, [1]);
    }
}
