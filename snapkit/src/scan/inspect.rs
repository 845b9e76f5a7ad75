//! Inspecting: the full entry of a path as the file system has it now, content hash and all.
//!
//! For digests of directories and for proving a restore; a snapshot reads in its own way (`snapshot::read`).

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::metadata::{entry_of, xattrs_of_file, xattrs_of_name};
use super::walk::{Found, Walk, WalkError, WalkOptions};
use crate::digest::{Digests, TreeDigester};
use crate::entry::{ChunkList, Entry, Kind, group_of};
use crate::id::ContentHash;
use crate::parallel;

/// Paths that are inspected together.
const BATCH: usize = 64;

/// Whether file contents are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Read and hashed.
    Read,
    /// Not looked at; the content hash of files is that of nothing.
    Skip,
    /// Read past the page cache (`O_DIRECT`), and hashed. A file system without that gives an error.
    ReadFromDevice,
}

/// The entry of a path that was found; `None` for sockets.
///
/// # Errors
/// When the path cannot be read.
pub fn inspect(found: &Found, contents: Contents) -> io::Result<Option<Entry>> {
    let Some(mut entry) = entry_of(found.path.clone(), &found.stat) else { return Ok(None) };
    let directory = found.directory.as_fd();
    match &mut entry.kind {
        Kind::File { size, content, .. } => {
            *size = found.stat.st_size as u64;
            if contents != Contents::Skip {
                let mut flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                flags.set(OFlags::DIRECT, contents == Contents::ReadFromDevice);
                let file = File::from(rustix::fs::openat(directory, &found.name, flags, Mode::empty())?);
                let mut hasher = blake3::Hasher::new();
                match contents {
                    Contents::ReadFromDevice => hash_aligned(&file, &mut hasher)?,
                    _ => {
                        hasher.update_reader(&file)?;
                    }
                }
                *size = hasher.count();
                *content = ContentHash(*hasher.finalize().as_bytes());
                entry.xattrs = xattrs_of_file(file.as_fd())?;
                return Ok(Some(entry));
            }
        }
        Kind::Symlink { target } => {
            *target = rustix::fs::readlinkat(directory, &found.name, Vec::new())?.into_bytes();
        }
        Kind::Directory if found.path.is_empty() => {
            entry.xattrs = xattrs_of_file(directory)?;
            return Ok(Some(entry));
        }
        _ => {}
    }
    entry.xattrs = xattrs_of_name(directory, &found.name)?;
    Ok(Some(entry))
}

/// Reads a file that was opened past the page cache: whole blocks into memory at a block boundary.
fn hash_aligned(file: &File, hasher: &mut blake3::Hasher) -> io::Result<()> {
    const BLOCK: usize = 4096;
    const BYTES: usize = 256 << 10;
    let mut memory = vec![0; BYTES + BLOCK];
    let start = memory.as_ptr().align_offset(BLOCK);
    let buffer = &mut memory[start..start + BYTES];
    let mut at = 0;
    loop {
        let n = file.read_at(buffer, at)?;
        hasher.update(&buffer[..n]);
        at += n as u64;
        // Only the end of a file gives less than whole blocks.
        if n % BLOCK != 0 || n == 0 {
            return Ok(());
        }
    }
}

/// An entry, and its device and inode if it has more than one link and is no directory.
type Inspected = (Entry, Option<(u64, u64)>);

/// Every entry of a directory in order, hard links grouped, read on all cores.
///
/// # Errors
/// The first path that cannot be read, or what `visit` returns.
pub fn inspect_tree<E: From<WalkError> + Send>(
    walk: Walk,
    contents: Contents,
    mut visit: impl FnMut(Entry) -> Result<(), E>,
) -> Result<(), E> {
    let mut groups: HashMap<(u64, u64), [u8; 16]> = HashMap::new();
    let mut walk = walk.fuse();
    let batches = std::iter::from_fn(move || {
        let batch: Vec<_> = walk.by_ref().take(BATCH).collect();
        (!batch.is_empty()).then_some(batch)
    });
    let look = |found: Result<Found, WalkError>| -> Result<Option<Inspected>, WalkError> {
        let found = found?;
        let is_shared = found.stat.st_nlink > 1;
        match inspect(&found, contents) {
            Ok(Some(entry)) => {
                let inode = (is_shared && !matches!(entry.kind, Kind::Directory))
                    .then_some((found.stat.st_dev, found.stat.st_ino));
                Ok(Some((entry, inode)))
            }
            Ok(None) => Ok(None),
            Err(source) => Err(WalkError { path: found.path, source }),
        }
    };
    parallel::map_in_order(
        parallel::cores(),
        batches,
        || (),
        |(), batch| batch.into_iter().map(look).collect::<Vec<_>>(),
        |batch| {
            for entry in batch {
                let Some((mut entry, inode)) = entry? else { continue };
                if let Some(inode) = inode {
                    entry.group = Some(*groups.entry(inode).or_insert_with(|| group_of(&entry.path)));
                }
                visit(entry)?;
            }
            Ok(())
        },
    )
}

/// The digests of a directory as it is now. Fifos and devices count only when `devices` is set, as in a snapshot.
///
/// # Errors
/// The first path that cannot be read.
pub fn digest_directory(directory: &Path, options: WalkOptions, devices: bool) -> Result<Digests, WalkError> {
    let walk = Walk::new(directory, options).map_err(|source| WalkError { path: Vec::new(), source })?;
    let mut digester = TreeDigester::default();
    inspect_tree::<WalkError>(walk, Contents::Read, |entry| {
        if devices || !matches!(entry.kind.code(), 3..=5) {
            digester.push(&entry);
        }
        Ok(())
    })?;
    Ok(digester.finish())
}

/// An entry for a file with this content, for comparing.
pub fn with_content(entry: &mut Entry, known: ContentHash) {
    if let Kind::File { content, chunks, .. } = &mut entry.kind {
        *content = known;
        *chunks = ChunkList::Inline(Vec::new());
    }
}
