//! Planning a restore: read and verify all trees, choose, and say what will be done. Nothing is written.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use manifests::document::snapshot as document;

use super::adapt::{Adapter, Changes};
use super::spool::{PlanFile, PlannedTree, Planning, Spool, scratch_error};
use super::{Options, RestoreError};
use crate::cancel::Cancel;
use crate::digest::{Digests, TreeDigester, of_state};
use crate::entry::{ChunkList, Entry, Kind, OwnerNames, PackSet, decode_refs};
use crate::fetch::{FetchError, Fetcher};
use crate::id::ContentHash;
use crate::located::Located;
use crate::tree::{ChunkSource, TreeError, TreeReader};

/// What of a snapshot is restored.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only these trees; all when empty.
    pub trees: BTreeSet<String>,
    /// Only this path and what lies below it, and its parents.
    pub subtree: Option<Vec<u8>>,
    /// Only what these gitignore patterns match, and its parents; all when empty.
    pub include: Vec<String>,
}

impl Selection {
    /// True when every path of the chosen trees is restored.
    fn is_whole(&self) -> bool {
        self.subtree.is_none() && self.include.is_empty()
    }
}

/// What a restore will do.
pub struct Plan {
    /// The trees, ascending by name.
    pub trees: Vec<PlannedTree>,
    /// What is restored otherwise than it was, and why.
    pub changes: Changes,
    /// Length of the packs that hold something of it, in bytes.
    pub pack_bytes: u64,
    /// Number of those packs.
    pub packs: u64,
    /// True when all trees are restored whole and as they were, so the result must have the record's digests.
    pub exact: bool,
    pub(super) pack_set: PackSet,
    /// A directory for files that are needed while the plan is carried out.
    pub(super) scratch: PathBuf,
}

impl Plan {
    /// The digests of the whole result, as of a state.
    pub fn expected(&self) -> Digests {
        of_state(self.trees.iter().map(|tree| (tree.name.as_str(), tree.expected)))
    }

    /// Paths of every kind.
    pub fn entries(&self) -> u64 {
        self.trees.iter().map(|tree| tree.entries).sum()
    }

    /// Regular files.
    pub fn files(&self) -> u64 {
        self.trees.iter().map(|tree| tree.files).sum()
    }

    /// What the result takes on disk, about, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.disk_bytes).sum()
    }

    /// Length of the regular files in bytes.
    pub fn bytes(&self) -> u64 {
        self.trees.iter().map(|tree| tree.bytes).sum()
    }
}

/// Reads and verifies the trees of `snapshot` and says what a restore will do.
///
/// `scratch` is a directory for the plan; `xattrs` says whether the target's file system has extended attributes.
///
/// # Errors
/// [`RestoreError`] for a snapshot that cannot be read as it was signed.
pub fn plan(
    fetcher: &Fetcher<'_>,
    snapshot: &document::Snapshot,
    selection: &Selection,
    options: &Options,
    scratch: &Path,
    xattrs: bool,
    cancel: &Cancel,
) -> Result<Plan, RestoreError> {
    let patterns = patterns(&selection.include)?;
    let mut packs = PackSet::default();
    let mut changes = Changes::default();
    let mut trees = Vec::new();
    let mut used = BTreeSet::new();
    let mut names = OwnerNames::default();
    for tree in &snapshot.private.trees {
        if !selection.trees.is_empty() && !selection.trees.contains(&tree.name) {
            continue;
        }
        let raw = read_tree(fetcher, tree, &mut packs, &mut names, scratch, cancel)?;
        let mut adapter = Adapter::new(options.owners, options.devices, &names, xattrs);
        let planned = choose(&tree.name, &raw, selection, patterns.as_ref(), &mut adapter, &mut used, scratch)?;
        merge(&mut changes, adapter.changes);
        trees.push(planned);
    }
    if trees.iter().all(|tree| tree.entries == 0) {
        return Err(RestoreError::NothingSelected);
    }
    trees.retain(|tree| tree.entries > 0);
    let exact = selection.trees.is_empty() && selection.is_whole() && changes == Changes::default();
    let pack_bytes = used.iter().map(|pack| packs.get(*pack).pack_bytes).sum();
    Ok(Plan {
        trees,
        changes,
        pack_bytes,
        packs: used.len() as u64,
        exact,
        pack_set: packs,
        scratch: scratch.to_owned(),
    })
}

fn merge(all: &mut Changes, more: Changes) {
    let pairs = [
        (&mut all.owners, more.owners),
        (&mut all.setid, more.setid),
        (&mut all.xattrs, more.xattrs),
        (&mut all.devices, more.devices),
    ];
    for (all, more) in pairs {
        all.count += more.count;
        all.paths.extend(more.paths);
    }
}

fn patterns(include: &[String]) -> Result<Option<Gitignore>, RestoreError> {
    if include.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    let wrong =
        |source: ignore::Error| RestoreError::Write { path: "--include".to_owned(), source: io::Error::other(source) };
    for pattern in include {
        builder.add_line(None, pattern).map_err(wrong)?;
    }
    builder.build().map(Some).map_err(wrong)
}

/// Reads a whole tree, checks it against its record, and keeps it in a file.
fn read_tree(
    mut fetcher: &Fetcher<'_>,
    tree: &document::Tree,
    packs: &mut PackSet,
    names: &mut OwnerNames,
    scratch: &Path,
    cancel: &Cancel,
) -> Result<PlanFile, RestoreError> {
    let index =
        Located::from_document(&tree.index).ok_or_else(|| RestoreError::BadReference { tree: tree.name.clone() })?;
    let index = index.within(packs);
    let mut reader = TreeReader::new(index, tree.entries);
    let mut digester = TreeDigester::default();
    let mut out = Spool::create(scratch)?;
    let mut result = Ok(());
    while reader.next_leaf(&mut fetcher, packs, names, |entry| {
        digester.push(&entry);
        if result.is_ok() {
            result = out.push(&entry).map(|_| ());
        }
    })? {
        std::mem::replace(&mut result, Ok(()))?;
        if cancel.is_requested() {
            return Err(RestoreError::Cancelled);
        }
    }
    let found = digester.finish();
    for (which, found, expected) in
        [("content", found.content, tree.content_digest), ("full", found.full, tree.full_digest)]
    {
        if found.0 != expected.0 {
            let expected = ContentHash(expected.0);
            return Err(RestoreError::TreeDigest { tree: tree.name.clone(), which, expected, found });
        }
    }
    out.finish()
}

/// Chooses the entries to restore and adapts them to what can be had.
fn choose(
    name: &str,
    raw: &PlanFile,
    selection: &Selection,
    patterns: Option<&Gitignore>,
    adapter: &mut Adapter<'_>,
    used: &mut BTreeSet<u32>,
    scratch: &Path,
) -> Result<PlannedTree, RestoreError> {
    let mut planned = Planning::create(scratch)?;
    // Directories above what is chosen come along; they are held back until something below them is.
    let mut held: Vec<Entry> = Vec::new();
    let mut keep = |entry: Entry, adapter: &mut Adapter<'_>| -> Result<(), RestoreError> {
        let Some(entry) = adapter.adapt(entry) else { return Ok(()) };
        if let Kind::File { chunks: ChunkList::Inline(list) | ChunkList::Stored(list), .. } = &entry.kind {
            used.extend(list.iter().map(|r| r.pack));
        }
        planned.push(&entry)
    };
    for entry in raw.read().map_err(scratch_error)? {
        let entry = entry.map_err(scratch_error)?;
        let is_directory = matches!(entry.kind, Kind::Directory);
        held.retain(|above| is_below(&entry.path, &above.path));
        if !is_chosen(&entry.path, is_directory, selection, patterns) {
            if is_directory {
                held.push(entry);
            }
            continue;
        }
        for above in held.drain(..) {
            keep(above, adapter)?;
        }
        keep(entry, adapter)?;
    }
    planned.finish(name)
}

pub(super) fn is_below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

fn is_chosen(path: &[u8], is_directory: bool, selection: &Selection, patterns: Option<&Gitignore>) -> bool {
    let in_subtree =
        selection.subtree.as_ref().is_none_or(|subtree| path == subtree.as_slice() || is_below(path, subtree));
    let matches = patterns.is_none_or(|patterns| {
        let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
        !path.as_os_str().is_empty() && patterns.matched_path_or_any_parents(path, is_directory).is_ignore()
    });
    in_subtree && matches
}

/// The chunks of a file, whether its entry holds them or chunks do.
pub(super) fn chunks_of(
    list: &ChunkList,
    mut fetcher: &Fetcher<'_>,
    packs: &mut PackSet,
) -> Result<Vec<crate::entry::ChunkRef>, RestoreError> {
    match list {
        ChunkList::Inline(list) => Ok(list.clone()),
        ChunkList::Stored(lists) => {
            let mut all = Vec::new();
            for r in lists {
                let bytes = fetcher.chunk(r, packs)?;
                let refs = decode_refs(&bytes, packs).map_err(|error| FetchError::Tree(TreeError::Codec(error)))?;
                all.extend(refs);
            }
            Ok(all)
        }
    }
}
