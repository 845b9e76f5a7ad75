//! Browsing a snapshot: its paths and contents, without restoring it.
//!
//! With several trees in a snapshot a path begins with the name of its tree. Layer: operations; reads a store.

use manifests::document::snapshot::{Snapshot, Tree};

use crate::entry::{ChunkList, Entry, Kind, OwnerNames, PackSet, decode_refs, join};
use crate::fetch::{FetchError, Fetcher};
use crate::id::ContentHash;
use crate::located::Located;
use crate::tree::{ChunkSource, TreeError, TreeReader};

/// A path of a snapshot, as a person sees it.
pub struct Item {
    /// Path with the name of its tree before it where the snapshot has several.
    pub path: Vec<u8>,
    /// The entry.
    pub entry: Entry,
}

/// Why a file's bytes cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// The snapshot cannot be read as it was signed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// There is no such path.
    #[error("the snapshot has no {path}")]
    NoSuchPath {
        /// The path.
        path: String,
    },
    /// The path is no file.
    #[error("{path} is a {word}, not a file")]
    NotAFile {
        /// The path.
        path: String,
        /// What it is.
        word: &'static str,
    },
    /// The bytes do not hash to what the entry states.
    #[error("the data of {path} does not hash to what its entry states")]
    Content {
        /// The path.
        path: String,
    },
    /// Whoever takes the bytes fails.
    #[error("cannot write the bytes")]
    Write(#[from] std::io::Error),
}

fn index_of(tree: &Tree) -> Result<Located, FetchError> {
    Located::from_document(&tree.index).ok_or_else(|| {
        let what = format!("the reference to the tree {} is out of range", tree.name);
        FetchError::Tree(TreeError::Codec(crate::entry::CodecError::Malformed(what)))
    })
}

/// Visits `path` and everything below it, in order; all of the snapshot when it is empty.
///
/// Only the leaves that can hold it are read.
///
/// # Errors
/// [`FetchError`] for a snapshot that cannot be read as it was signed.
pub fn list(
    mut fetcher: &Fetcher<'_>,
    snapshot: &Snapshot,
    path: &[u8],
    packs: &mut PackSet,
    names: &mut OwnerNames,
    visit: &mut dyn FnMut(Item),
) -> Result<(), FetchError> {
    let several = snapshot.private.trees.len() > 1;
    for tree in &snapshot.private.trees {
        let inside = if several {
            match split_tree(path, tree.name.as_bytes()) {
                Some(inside) => inside,
                None => continue,
            }
        } else {
            path
        };
        let index = index_of(tree)?.within(packs);
        let mut visit = |entry: Entry| {
            let path = if !several {
                entry.path.clone()
            } else if entry.path.is_empty() {
                tree.name.clone().into_bytes()
            } else {
                join(tree.name.as_bytes(), &entry.path)
            };
            visit(Item { path, entry });
        };
        if inside.is_empty() {
            let mut reader = TreeReader::new(index, tree.entries);
            while reader.next_leaf(&mut fetcher, packs, names, &mut visit)? {}
        } else {
            TreeReader::find(index, inside, &mut fetcher, packs, names, &mut visit)?;
        }
    }
    Ok(())
}

/// The rest of `path` inside a tree; all trees lie below the empty path.
fn split_tree<'a>(path: &'a [u8], tree: &[u8]) -> Option<&'a [u8]> {
    if path.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(tree)?;
    if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b"/") }
}

/// Gives the bytes of a file to `take`, in order, verified chunk by chunk and as a whole at the end.
///
/// # Errors
/// [`BrowseError`]; bytes given before the error hash to the names of their chunks.
pub fn read_file(
    mut fetcher: &Fetcher<'_>,
    snapshot: &Snapshot,
    path: &[u8],
    take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), BrowseError> {
    let printable = crate::entry::printable(path);
    let (mut packs, mut names) = (PackSet::default(), OwnerNames::default());
    let mut found = None;
    list(fetcher, snapshot, path, &mut packs, &mut names, &mut |item| {
        if item.path == path {
            found = Some(item.entry);
        }
    })?;
    let entry = found.ok_or_else(|| BrowseError::NoSuchPath { path: printable.clone() })?;
    let Kind::File { size, content, chunks, holes } = &entry.kind else {
        return Err(BrowseError::NotAFile { path: printable, word: entry.kind.word() });
    };
    let refs = match chunks {
        ChunkList::Inline(list) => list.clone(),
        ChunkList::Stored(lists) => {
            let mut all = Vec::new();
            for list in lists {
                let bytes = fetcher.chunk(list, &packs)?;
                all.extend(decode_refs(&bytes, &mut packs).map_err(|e| FetchError::Tree(TreeError::from(e)))?);
            }
            all
        }
    };
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let mut holes = holes.iter().peekable();
    let mut put = |bytes: &[u8]| {
        hasher.update(bytes);
        take(bytes)
    };
    let zeros = vec![0; 64 << 10];
    let mut fill = |at: &mut u64, put: &mut dyn FnMut(&[u8]) -> std::io::Result<()>| -> std::io::Result<()> {
        while let Some(hole) = holes.next_if(|hole| hole.offset == *at) {
            let mut left = hole.bytes;
            while left > 0 {
                let n = left.min(zeros.len() as u64);
                put(&zeros[..n as usize])?;
                left -= n;
            }
            *at += hole.bytes;
        }
        Ok(())
    };
    let bounds: Vec<u64> = match &entry.kind {
        Kind::File { holes, .. } => holes.iter().map(|hole| hole.offset).collect(),
        _ => Vec::new(),
    };
    for r in &refs {
        let bytes = fetcher.chunk(r, &packs)?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            fill(&mut at, &mut put)?;
            let next_hole = bounds.iter().find(|offset| **offset > at).map_or(u64::MAX, |offset| offset - at);
            let n = (rest.len() as u64).min(next_hole) as usize;
            put(&rest[..n])?;
            at += n as u64;
            rest = &rest[n..];
        }
    }
    fill(&mut at, &mut put)?;
    if at != *size || ContentHash(*hasher.finalize().as_bytes()) != *content {
        return Err(BrowseError::Content { path: printable });
    }
    Ok(())
}
