//! Proving a restore: what the staged tree holds must be what was planned, path by path and as a digest.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::place::mode_until_proved;
use super::spool::PlannedTree;
use super::{Proof, RestoreError};
use crate::digest::TreeDigester;
use crate::entry::{Entry, Kind, compare_paths, printable};
use crate::scan::inspect::{Contents, inspect_tree, with_content};
use crate::scan::walk::{Walk, WalkError, WalkOptions};

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        Self(RestoreError::ReadBack(error))
    }
}

struct Stop(RestoreError);

/// What is said of paths that are not in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    Refuse,
    /// They are no part of the state, and were there before.
    Pass,
}

/// Reads a tree back from the file system and compares it with the plan.
pub(super) fn prove(tree: &PlannedTree, root: &Arc<OwnedFd>, proof: Proof, extra: Extra) -> Result<(), RestoreError> {
    let contents = match proof {
        Proof::Written => Contents::Skip,
        Proof::Reread => Contents::Read,
        Proof::Device => Contents::ReadFromDevice,
    };
    let walk =
        Walk::of_handle(reopened(root)?, WalkOptions::default()).map_err(|source| RestoreError::write(b"", source))?;
    let mut planned = tree.file.read().map_err(|source| RestoreError::write(b"", source))?.peekable();
    let mut digester = TreeDigester::default();
    let compare = |mut found: Entry| -> Result<(), Stop> {
        let path = printable(&found.path);
        if extra == Extra::Pass {
            let is_before = |next: &Entry| compare_paths(&found.path, &next.path) == std::cmp::Ordering::Less;
            if planned.peek().is_none_or(|next| next.as_ref().is_ok_and(is_before)) {
                return Ok(());
            }
        }
        let not_proved = |what: String| Stop(RestoreError::NotProved { path: path.clone(), what });
        let expected = match planned.next() {
            Some(Ok(expected)) => expected,
            Some(Err(source)) => return Err(Stop(RestoreError::write(b"", source))),
            None => return Err(not_proved("it is not part of the plan".to_owned())),
        };
        if let (Proof::Written, Kind::File { content, .. }) = (proof, &expected.kind) {
            with_content(&mut found, *content);
        }
        if found.mode == mode_until_proved(&expected) {
            found.mode = expected.mode;
        }
        if let Some(what) = difference(&expected, &found) {
            return Err(not_proved(what));
        }
        digester.push(&found);
        Ok(())
    };
    inspect_tree(walk, contents, compare).map_err(|Stop(error)| error)?;
    if let Some(missing) = planned.next() {
        let missing = missing.map_err(|source| RestoreError::write(b"", source))?;
        let path = printable(&missing.path);
        return Err(RestoreError::NotProved { path, what: "it is missing".to_owned() });
    }
    let found = digester.finish();
    if found != tree.expected {
        let what = format!("full digest {}, expected {}", found.full, tree.expected.full);
        return Err(RestoreError::NotProved { path: format!("tree {}", tree.name), what });
    }
    Ok(())
}

/// A handle of its own, so that reading the directory begins at its start.
pub(super) fn reopened(root: &OwnedFd) -> Result<Arc<OwnedFd>, RestoreError> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(root, c".", flags, Mode::empty());
    handle.map(Arc::new).map_err(|source| RestoreError::write(b"", source))
}

/// The first field in which two entries differ, in words.
pub(super) fn difference(expected: &Entry, found: &Entry) -> Option<String> {
    let differs = |what: &str, expected: String, found: String| {
        (expected != found).then(|| format!("{what} {found}, expected {expected}"))
    };
    let kind = |e: &Entry| e.kind.word().to_owned();
    let content = |e: &Entry| match &e.kind {
        Kind::File { size, content, .. } => format!("{size} bytes hashing to {content}"),
        Kind::Symlink { target } => printable(target),
        Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } => format!("{}:{}", rdev.0, rdev.1),
        Kind::Directory | Kind::Fifo => String::new(),
    };
    differs("path", printable(&expected.path), printable(&found.path))
        .or_else(|| differs("type", kind(expected), kind(found)))
        .or_else(|| differs("mode", format!("{:o}", expected.mode), format!("{:o}", found.mode)))
        .or_else(|| differs("content", content(expected), content(found)))
        .or_else(|| {
            differs("owner", format!("{}:{}", expected.uid, expected.gid), format!("{}:{}", found.uid, found.gid))
        })
        .or_else(|| {
            let time = |e: &Entry| format!("{}.{:09}", e.mtime_s, e.mtime_ns);
            differs("modification time", time(expected), time(found))
        })
        .or_else(|| (expected.xattrs != found.xattrs).then(|| "extended attributes that differ".to_owned()))
        .or_else(|| {
            let group =
                |e: &Entry| if e.links_back() { format!("linked to {:?}", e.group) } else { "not linked".to_owned() };
            differs("hard link", group(expected), group(found))
        })
}
