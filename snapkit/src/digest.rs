//! The two digests of a state: what two directories must share to be the same.
//!
//! Rows are length-prefixed, so no two different trees have the same bytes to hash.
//! Documented in `docs/format/digests.md`. Layer: pure.

use crate::entry::{Entry, Kind};
use crate::id::ContentHash;

/// Bytes gathered before they are hashed: BLAKE3 is fastest on long input.
const BATCH_BYTES: usize = 64 << 10;

/// Content digest and full digest of a tree or of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Path, type, permission bits, length, content, link target, device.
    pub content: ContentHash,
    /// That plus owner, modification time, extended attributes, hard links.
    pub full: ContentHash,
}

/// Computes the digests of a tree from its entries in order.
#[derive(Default)]
pub struct TreeDigester {
    content: Rows,
    full: Rows,
}

#[derive(Default)]
struct Rows {
    hasher: blake3::Hasher,
    batch: Vec<u8>,
}

impl Rows {
    fn flush_if_long(&mut self) {
        if self.batch.len() >= BATCH_BYTES {
            self.hasher.update(&self.batch);
            self.batch.clear();
        }
    }

    fn finish(mut self) -> ContentHash {
        self.hasher.update(&self.batch);
        ContentHash(*self.hasher.finalize().as_bytes())
    }
}

fn push_bytes(row: &mut Vec<u8>, bytes: &[u8]) {
    row.extend((bytes.len() as u32).to_le_bytes());
    row.extend(bytes);
}

fn push_content(row: &mut Vec<u8>, entry: &Entry) {
    push_bytes(row, &entry.path);
    row.push(entry.kind.code());
    row.extend(entry.mode.to_le_bytes());
    match &entry.kind {
        Kind::File { size, content, .. } => {
            row.extend(size.to_le_bytes());
            row.extend(content.0);
        }
        Kind::Symlink { target } => push_bytes(row, target),
        Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } => {
            row.extend(rdev.0.to_le_bytes());
            row.extend(rdev.1.to_le_bytes());
        }
        Kind::Directory | Kind::Fifo => {}
    }
}

fn push_rest(row: &mut Vec<u8>, entry: &Entry) {
    row.extend(entry.uid.to_le_bytes());
    row.extend(entry.gid.to_le_bytes());
    row.extend(entry.mtime_s.to_le_bytes());
    row.extend(entry.mtime_ns.to_le_bytes());
    row.extend((entry.xattrs.len() as u32).to_le_bytes());
    for (name, value) in &entry.xattrs {
        push_bytes(row, name);
        push_bytes(row, value);
    }
    match entry.group.filter(|_| entry.links_back()) {
        Some(group) => {
            row.push(1);
            row.extend(group);
        }
        None => row.push(0),
    }
}

/// What all members of a hard-link group share: everything but the path and the link itself.
pub fn properties(entry: &Entry) -> [u8; 32] {
    let mut row = Vec::new();
    let nameless = Entry { path: Vec::new(), group: None, ..entry.clone() };
    push_content(&mut row, &nameless);
    push_rest(&mut row, &nameless);
    *blake3::hash(&row).as_bytes()
}

impl TreeDigester {
    /// Adds the next entry of the tree.
    pub fn push(&mut self, entry: &Entry) {
        let start = self.content.batch.len();
        push_content(&mut self.content.batch, entry);
        self.full.batch.extend_from_slice(&self.content.batch[start..]);
        push_rest(&mut self.full.batch, entry);
        self.content.flush_if_long();
        self.full.flush_if_long();
    }

    /// The digests of all entries pushed.
    pub fn finish(self) -> Digests {
        Digests { content: self.content.finish(), full: self.full.finish() }
    }
}

/// The digests of a state from those of its trees, ascending by name.
pub fn of_state<'a>(trees: impl Iterator<Item = (&'a str, Digests)>) -> Digests {
    let (mut content, mut full) = (Vec::new(), Vec::new());
    for (name, digests) in trees {
        for (rows, digest) in [(&mut content, digests.content), (&mut full, digests.full)] {
            push_bytes(rows, name.as_bytes());
            rows.extend(digest.0);
        }
    }
    Digests { content: ContentHash::of(&content), full: ContentHash::of(&full) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::group_of;

    fn entry(path: &[u8]) -> Entry {
        Entry {
            path: path.to_vec(),
            kind: Kind::empty_file(),
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime_s: 3,
            mtime_ns: 4,
            xattrs: vec![],
            group: None,
            torn: false,
        }
    }

    fn digest(entries: &[Entry]) -> Digests {
        let mut digester = TreeDigester::default();
        entries.iter().for_each(|e| digester.push(e));
        digester.finish()
    }

    /// Whether an edit changes the content digest and the full digest.
    fn changes(edit: impl Fn(&mut Entry)) -> (bool, bool) {
        let mut edited = entry(b"a");
        edit(&mut edited);
        let (a, b) = (digest(&[entry(b"a")]), digest(&[edited]));
        (a.content != b.content, a.full != b.full)
    }

    #[test]
    fn content_digest_covers_path_type_mode_length_and_bytes() {
        assert_eq!(changes(|e| e.path = b"b".to_vec()), (true, true));
        assert_eq!(changes(|e| e.mode = 0o600), (true, true));
        assert_eq!(changes(|e| e.kind = Kind::Fifo), (true, true));
        assert_eq!(changes(|e| e.kind = Kind::Symlink { target: b"x".to_vec() }), (true, true));
        let other = |size, byte: &[u8]| Kind::File {
            size,
            content: ContentHash::of(byte),
            chunks: crate::entry::ChunkList::Inline(vec![]),
            holes: vec![],
        };
        assert_eq!(changes(|e| e.kind = other(1, b"")), (true, true));
        assert_eq!(changes(|e| e.kind = other(0, b"x")), (true, true));
    }

    #[test]
    fn full_digest_alone_covers_owner_time_attributes_and_links() {
        assert_eq!(changes(|e| e.uid = 9), (false, true));
        assert_eq!(changes(|e| e.gid = 9), (false, true));
        assert_eq!(changes(|e| e.mtime_ns = 9), (false, true));
        assert_eq!(changes(|e| e.xattrs = vec![(b"user.a".to_vec(), vec![])]), (false, true));
        assert_eq!(changes(|e| e.group = Some(group_of(b"earlier"))), (false, true));
    }

    #[test]
    fn first_member_of_a_group_counts_as_a_plain_file() {
        assert_eq!(changes(|e| e.group = Some(group_of(b"a"))), (false, false));
    }

    #[test]
    fn names_and_order_of_trees_are_part_of_the_state() {
        let d = digest(&[entry(b"a")]);
        let of = |names: &[&str]| of_state(names.iter().map(|n| (*n, d))).full;
        assert_ne!(of(&["a"]), of(&["b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab"]));
    }
}
