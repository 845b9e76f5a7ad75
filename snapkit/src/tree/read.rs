//! Reading a tree: from its top index chunk to the entries, in order and checked.

use std::collections::HashMap;

use manifests::refusal::Class;

use crate::digest::properties;
use crate::entry::{
    Child, ChunkRef, CodecError, Entry, Kind, OwnerNames, PackSet, compare_paths, decode_children, decode_leaf, parent,
    printable,
};
use crate::id::ChunkId;

/// Where the bytes of chunks come from, verified by name.
pub trait ChunkSource {
    /// Why a chunk cannot be had.
    type Error;

    /// The raw bytes of a chunk that lies in the pack `packs.get(r.pack)`.
    fn chunk(&mut self, r: &ChunkRef, packs: &PackSet) -> Result<Vec<u8>, Self::Error>;
}

/// Why a tree is refused. Its bytes hash to their names, so whoever signed the record wrote them so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TreeError {
    /// A chunk of the tree is not as the format says.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Paths are not strictly ascending.
    #[error("{after} comes after {before}: paths of a tree ascend and none comes twice")]
    Order {
        /// The earlier path, printable.
        before: String,
        /// The later path, printable.
        after: String,
    },
    /// The parent of an entry is no directory of the tree.
    #[error("{path} has no directory above it in the tree")]
    NoParent {
        /// The entry, printable.
        path: String,
    },
    /// The parent of an entry is a symlink or a file.
    #[error("{path} lies below a {word}, not a directory")]
    ParentKind {
        /// The entry, printable.
        path: String,
        /// What the parent is.
        word: &'static str,
    },
    /// The members of a hard-link group are not one file.
    #[error("{path} belongs to a hard-link group whose first member is another file or comes later")]
    Group {
        /// The entry, printable.
        path: String,
    },
    /// The index does not say which path comes first in what it points to, so it would hide paths.
    #[error("the index has {expected} as the first path of a chunk that begins with {found}")]
    First {
        /// What the index says, printable.
        expected: String,
        /// What was found, printable.
        found: String,
    },
    /// Counts of the index and of the leaves differ.
    #[error("the index counts {expected} entries, the leaves hold {found}")]
    Count {
        /// What the index or the record says.
        expected: u64,
        /// What was found.
        found: u64,
    },
}

impl TreeError {
    /// The class this is refused with.
    pub fn class(&self) -> Class {
        match self {
            Self::Codec(CodecError::Newer(_)) => Class::Newer,
            Self::ParentKind { .. } | Self::Group { .. } => Class::Link,
            Self::Codec(CodecError::Path(_)) | Self::Order { .. } | Self::NoParent { .. } | Self::First { .. } => {
                Class::Path
            }
            Self::Codec(CodecError::Lengths { .. }) | Self::Count { .. } => Class::Size,
            Self::Codec(CodecError::Malformed(_)) => Class::Kind,
        }
    }
}

/// Checks the rules that join entries: order, parents, groups.
#[derive(Default)]
struct Neighbours {
    before: Option<Vec<u8>>,
    /// Directories from the tree's own down to the last entry's parent, and what blocks the last entry if it is none.
    open: Vec<(Vec<u8>, &'static str)>,
    /// The properties that all members of a hard-link group share.
    first_members: HashMap<[u8; 16], [u8; 32]>,
    /// The first path, where reading began in the middle: what comes before it is not known.
    from: Option<Vec<u8>>,
}

impl Neighbours {
    fn check(&mut self, entry: &Entry) -> Result<(), TreeError> {
        let path = || printable(&entry.path);
        if let Some(before) = &self.before {
            if compare_paths(before, &entry.path).is_ge() {
                return Err(TreeError::Order { before: printable(before), after: path() });
            }
        } else if self.from.is_none() && (!entry.path.is_empty() || !matches!(entry.kind, Kind::Directory)) {
            return Err(TreeError::NoParent { path: path() });
        }
        if let Some(parent) = parent(&entry.path) {
            while self.open.last().is_some_and(|(open, _)| open != parent) {
                self.open.pop();
            }
            match self.open.last() {
                Some((_, "directory")) => {}
                Some((_, word)) => return Err(TreeError::ParentKind { path: path(), word }),
                None if self.is_unseen(parent) => {}
                None => return Err(TreeError::NoParent { path: path() }),
            }
        }
        self.open.push((entry.path.clone(), entry.kind.word()));
        if let Some(group) = entry.group {
            let own = properties(entry);
            if !entry.links_back() {
                self.first_members.insert(group, own);
            } else if self.first_members.get(&group).map_or(self.from.is_none(), |first| *first != own) {
                return Err(TreeError::Group { path: path() });
            }
        }
        self.before = Some(entry.path.clone());
        Ok(())
    }
}

impl Neighbours {
    /// Goes on at `first`, without what comes before it.
    fn pass_over(&mut self, first: Option<&[u8]>) {
        self.open.clear();
        self.from = Some(first.unwrap_or_default().to_vec());
    }

    /// Whether a path comes before everything that was read.
    fn is_unseen(&self, path: &[u8]) -> bool {
        self.from.as_ref().is_some_and(|from| compare_paths(path, from).is_lt())
    }
}

/// A chunk of a tree that is still to be read, and what the index above it says.
struct Pending {
    /// 0 for a leaf; unknown for the top.
    level: Option<u32>,
    chunk: ChunkRef,
    /// The path of the first entry below it; unknown for the top.
    first: Option<Vec<u8>>,
    /// Entries below it; unknown for the top of a tree of which a part is read.
    entries: Option<u64>,
}

impl Pending {
    fn of(child: Child, level: u32) -> Self {
        Self { level: Some(level), chunk: child.chunk, first: Some(child.first), entries: Some(child.entries) }
    }

    /// The children of this index chunk.
    fn children(&self, bytes: &[u8], packs: &mut PackSet) -> Result<(u32, Vec<Child>), TreeError> {
        let (level, children) = decode_children(bytes, self.level, packs)?;
        self.check_first(children.first().map(|child| &child.first[..]))?;
        let counted: u64 = children.iter().fold(0, |sum, child| sum.saturating_add(child.entries));
        self.check_count(counted)?;
        Ok((level - 1, children))
    }

    fn check_first(&self, found: Option<&[u8]>) -> Result<(), TreeError> {
        match (&self.first, found) {
            (Some(expected), Some(found)) if expected != found => {
                Err(TreeError::First { expected: printable(expected), found: printable(found) })
            }
            _ => Ok(()),
        }
    }

    fn check_count(&self, found: u64) -> Result<(), TreeError> {
        match self.entries {
            Some(expected) if expected != found => Err(TreeError::Count { expected, found }),
            _ => Ok(()),
        }
    }

    /// Gives the entries of this leaf to `visit`, checked.
    fn leaf(
        &self,
        bytes: &[u8],
        packs: &mut PackSet,
        names: &mut OwnerNames,
        neighbours: &mut Neighbours,
        visit: &mut dyn FnMut(Entry),
    ) -> Result<u64, TreeError> {
        let mut found = 0;
        let mut wrong = Ok(());
        decode_leaf(bytes, packs, names, |entry| {
            found += 1;
            if wrong.is_err() {
                return;
            }
            if found == 1 {
                wrong = self.check_first(Some(&entry.path));
            }
            wrong = std::mem::replace(&mut wrong, Ok(())).and_then(|()| neighbours.check(&entry));
            if wrong.is_ok() {
                visit(entry);
            }
        })?;
        wrong?;
        self.check_count(found)?;
        Ok(found)
    }
}

/// What a reader comes to next: a leaf or an index.
pub struct Ahead<'r> {
    /// Its name.
    pub chunk: ChunkId,
    /// 0 for a leaf; unknown for the top.
    pub level: Option<u32>,
    /// The path of the first entry below it.
    pub first: &'r [u8],
    /// Entries below it; two trees that share the chunk share them all.
    pub entries: u64,
}

/// Goes through the leaves of a tree.
pub struct TreeReader {
    /// Chunks still to read, the next one last.
    stack: Vec<Pending>,
    /// Index chunks and leaves below the top, by level.
    neighbours: Neighbours,
    expected: u64,
    found: u64,
}

impl TreeReader {
    /// A reader of the tree with this top index chunk and number of entries.
    pub fn new(index: ChunkRef, entries: u64) -> Self {
        let top = Pending { level: None, chunk: index, first: Some(Vec::new()), entries: Some(entries) };
        Self { stack: vec![top], neighbours: Neighbours::default(), expected: entries, found: 0 }
    }

    /// The chunk references of the leaves still to read that are known, with their levels; for counting and presence.
    pub fn pending(&self) -> impl Iterator<Item = &ChunkRef> {
        self.stack.iter().map(|pending| &pending.chunk)
    }

    /// What comes next; `None` at the end.
    pub fn ahead(&self) -> Option<Ahead<'_>> {
        let Pending { level, chunk, first, entries } = self.stack.last()?;
        let (first, entries) = (first.as_deref().unwrap_or_default(), entries.unwrap_or(self.expected));
        Some(Ahead { chunk: chunk.chunk, level: *level, first, entries })
    }

    /// Leaves out what comes next, for who knows it already, and says how many entries lie below it.
    ///
    /// From here on the rules that join entries are checked as far as what is read shows them.
    pub fn pass_over(&mut self) -> u64 {
        let entries = self.ahead().map_or(0, |ahead| ahead.entries);
        self.stack.pop();
        self.found += entries;
        self.neighbours.pass_over(self.stack.last().and_then(|pending| pending.first.as_deref()));
        entries
    }

    /// Reads the index that comes next, so that what is below it comes next.
    ///
    /// # Errors
    /// What the source reports, or [`TreeError`].
    pub fn open_index<S: ChunkSource>(&mut self, source: &mut S, packs: &mut PackSet) -> Result<(), S::Error>
    where
        S::Error: From<TreeError>,
    {
        let Some(pending) = self.stack.pop_if(|pending| pending.level != Some(0)) else { return Ok(()) };
        let bytes = source.chunk(&pending.chunk, packs)?;
        let (level, children) = pending.children(&bytes, packs)?;
        self.stack.extend(children.into_iter().rev().map(|child| Pending::of(child, level)));
        Ok(())
    }

    /// Reads the next leaf, checks its entries and gives them to `visit`. `false` at the end.
    ///
    /// # Errors
    /// What the source reports, or [`TreeError`].
    pub fn next_leaf<S: ChunkSource>(
        &mut self,
        source: &mut S,
        packs: &mut PackSet,
        names: &mut OwnerNames,
        mut visit: impl FnMut(Entry),
    ) -> Result<bool, S::Error>
    where
        S::Error: From<TreeError>,
    {
        while let Some(pending) = self.stack.pop() {
            let bytes = source.chunk(&pending.chunk, packs)?;
            if pending.level == Some(0) {
                self.found += pending.leaf(&bytes, packs, names, &mut self.neighbours, &mut visit)?;
                return Ok(true);
            }
            let (level, children) = pending.children(&bytes, packs)?;
            self.stack.extend(children.into_iter().rev().map(|child| Pending::of(child, level)));
        }
        if self.found != self.expected {
            return Err(TreeError::Count { expected: self.expected, found: self.found }.into());
        }
        Ok(false)
    }

    /// Leaves out everything that cannot hold `prefix` or what lies below it, so that one path costs one leaf.
    ///
    /// The rules that join entries are checked as far as what is read shows them: parents and first members of
    /// hard-link groups may be among what is left out.
    ///
    /// # Errors
    /// What the source reports, or [`TreeError`].
    pub fn find<S: ChunkSource>(
        index: ChunkRef,
        prefix: &[u8],
        source: &mut S,
        packs: &mut PackSet,
        names: &mut OwnerNames,
        mut visit: impl FnMut(Entry),
    ) -> Result<(), S::Error>
    where
        S::Error: From<TreeError>,
    {
        let mut stack = vec![Pending { level: None, chunk: index, first: Some(Vec::new()), entries: None }];
        let mut neighbours = Neighbours::default();
        while let Some(pending) = stack.pop() {
            let bytes = source.chunk(&pending.chunk, packs)?;
            if pending.level == Some(0) {
                neighbours.from = neighbours.from.or_else(|| pending.first.clone());
                pending.leaf(&bytes, packs, names, &mut neighbours, &mut |entry| {
                    if is_at_or_below(&entry.path, prefix) {
                        visit(entry);
                    }
                })?;
                continue;
            }
            let (level, children) = pending.children(&bytes, packs)?;
            stack.extend(overlapping(&children, prefix).iter().rev().map(|child| Pending::of(child.clone(), level)));
        }
        Ok(())
    }
}

/// The children that can hold `prefix` or anything below it.
fn overlapping<'a>(children: &'a [Child], prefix: &[u8]) -> &'a [Child] {
    let from = children.partition_point(|child| compare_paths(&child.first, prefix).is_le()).saturating_sub(1);
    let past = |child: &Child| compare_paths(&child.first, prefix).is_gt() && !is_at_or_below(&child.first, prefix);
    let to = children.iter().position(past).unwrap_or(children.len());
    &children[from..to.max(from)]
}

/// True for `directory` itself and everything in it; everything lies below the empty path.
pub(super) fn is_at_or_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || (path.starts_with(directory) && (path.len() == directory.len() || path[directory.len()] == b'/'))
}

#[cfg(test)]
mod tests {
    use super::super::build::{ChunkSink, TreeBuilder, TreeRoot, write_indexes};
    use super::*;
    use crate::id::PackId;
    use crate::pack::PackInfo;
    use std::collections::HashSet;
    use std::sync::{Mutex, MutexGuard};

    /// Chunks in memory, one pack each time it is closed.
    #[derive(Default)]
    struct Memory {
        chunks: Vec<Vec<u8>>,
        packs: Mutex<PackSet>,
    }

    impl ChunkSink for Memory {
        type Error = TreeError;

        fn store(&mut self, bytes: &[u8]) -> Result<ChunkRef, TreeError> {
            let pack =
                self.packs.lock().unwrap().index(PackInfo { id: PackId([1; 32]), pack_bytes: 900, table_bytes: 120 });
            self.chunks.push(bytes.to_vec());
            Ok(ChunkRef {
                chunk: ChunkId::of(bytes),
                bytes: bytes.len() as u32,
                pack,
                frame: 0,
                offset: self.chunks.len() as u32 - 1,
            })
        }

        fn close(&mut self) -> Result<(), TreeError> {
            Ok(())
        }

        fn packs(&self) -> MutexGuard<'_, PackSet> {
            self.packs.lock().unwrap()
        }
    }

    impl ChunkSource for Memory {
        type Error = TreeError;

        fn chunk(&mut self, r: &ChunkRef, _: &PackSet) -> Result<Vec<u8>, TreeError> {
            Ok(self.chunks[r.offset as usize].clone())
        }
    }

    fn entry(path: &str, kind: Kind) -> Entry {
        let mode = if matches!(kind, Kind::Symlink { .. }) { 0 } else { 0o755 };
        Entry {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime_s: 0,
            mtime_ns: 0,
            xattrs: vec![],
            group: None,
            torn: false,
        }
    }

    fn build(entries: &[Entry]) -> (Memory, TreeRoot) {
        let mut memory = Memory::default();
        let mut builder = TreeBuilder::default();
        entries.iter().for_each(|e| builder.push(e, &OwnerNames::default(), &mut memory, &mut |_| {}).unwrap());
        let leaves = builder.finish(&mut memory, &mut |_| {}).unwrap();
        let root = write_indexes(vec![leaves], &mut memory, &mut |_| {}).unwrap()[0];
        (memory, root)
    }

    fn read(memory: &mut Memory, root: TreeRoot) -> Result<Vec<Entry>, TreeError> {
        let (mut all, mut packs, mut names) = (Vec::new(), memory.packs().clone(), OwnerNames::default());
        let mut reader = TreeReader::new(root.index, root.entries);
        while reader.next_leaf(memory, &mut packs, &mut names, |e| all.push(e))? {}
        Ok(all)
    }

    fn many(n: usize) -> Vec<Entry> {
        let mut entries = vec![entry("", Kind::Directory), entry("d", Kind::Directory)];
        entries.extend((0..n).map(|i| entry(&format!("d/{i:06}"), Kind::empty_file())));
        entries.push(entry("d0", Kind::empty_file()));
        entries
    }

    #[test]
    fn entries_come_back_in_order_over_many_leaves() {
        let entries = many(20_000);
        let (mut memory, root) = build(&entries);
        assert!(memory.chunks.len() > 10, "{} chunks", memory.chunks.len());
        assert_eq!(root.entries, 20_003);
        assert!(read(&mut memory, root).unwrap() == entries);
    }

    #[test]
    fn one_path_reads_one_leaf_of_many() {
        let (mut memory, root) = build(&many(20_000));
        let (mut found, mut packs) = (Vec::new(), memory.packs().clone());
        TreeReader::find(root.index, b"d/012345", &mut memory, &mut packs, &mut OwnerNames::default(), |e| {
            found.push(e.path)
        })
        .unwrap();
        assert_eq!(found, [b"d/012345"]);
        found.clear();
        TreeReader::find(root.index, b"d", &mut memory, &mut packs, &mut OwnerNames::default(), |e| found.push(e.path))
            .unwrap();
        assert_eq!(found.len(), 20_001);
    }

    #[test]
    fn a_change_leaves_most_leaves_as_they_were() {
        let mut entries = many(20_000);
        let (a, _) = build(&entries);
        entries.remove(777);
        let (b, _) = build(&entries);
        let names = |m: &Memory| m.chunks.iter().map(|c| ChunkId::of(c)).collect::<HashSet<_>>();
        assert!(names(&b).difference(&names(&a)).count() <= 3);
    }

    #[test]
    fn what_is_passed_over_is_counted_and_not_read() {
        let entries = many(20_000);
        let (mut memory, root) = build(&entries);
        let (mut packs, mut names) = (memory.packs().clone(), OwnerNames::default());
        let mut reader = TreeReader::new(root.index, root.entries);
        let (mut read, mut passed, mut odd) = (Vec::new(), 0, false);
        loop {
            while reader.ahead().is_some_and(|ahead| ahead.level != Some(0)) {
                reader.open_index(&mut memory, &mut packs).unwrap();
            }
            odd = !odd;
            if odd && reader.ahead().is_some() {
                passed += reader.pass_over();
            } else if !reader.next_leaf(&mut memory, &mut packs, &mut names, |e| read.push(e)).unwrap() {
                break;
            }
        }
        assert_eq!(passed + read.len() as u64, root.entries);
        assert!(passed > 5_000 && read.len() > 5_000);
        assert!(read.iter().all(|entry| entries.contains(entry)));
    }

    #[test]
    fn duplicate_unsorted_and_orphaned_entries_are_refused() {
        let link = Kind::Symlink { target: b"/etc".to_vec() };
        let root = || entry("", Kind::Directory);
        let refused = |entries: &[Entry]| {
            let (mut memory, root) = build(entries);
            read(&mut memory, root).unwrap_err()
        };
        let twice = [root(), entry("a", Kind::Fifo), entry("a", Kind::Fifo)];
        assert!(matches!(refused(&twice), TreeError::Order { .. }));
        let unsorted = [root(), entry("b", Kind::Fifo), entry("a", Kind::Fifo)];
        assert!(matches!(refused(&unsorted), TreeError::Order { .. }));
        let through = [root(), entry("a", link), entry("a/x", Kind::Fifo)];
        assert!(matches!(refused(&through), TreeError::ParentKind { word: "symlink", .. }));
        let orphan = [root(), entry("a/x", Kind::Fifo)];
        assert!(matches!(refused(&orphan), TreeError::NoParent { .. }));
        let headless = refused(&[entry("a", Kind::Fifo)]);
        assert!(matches!(headless, TreeError::First { .. }), "{headless:?}");
        let mut member = entry("b", Kind::empty_file());
        member.group = Some([3; 16]);
        assert!(matches!(refused(&[root(), member]), TreeError::Group { .. }));
    }
}
