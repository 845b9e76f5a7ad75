//! What of an existing directory is not as planned: the first half of a restore in place. Only reads.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use super::RestoreError;
use super::plan::is_below;
use super::prove::{difference, reopened};
use super::spool::{PlanFile, PlannedTree, Planning, Spool, scratch_error};
use super::staging::PREFIX;
use crate::entry::{Entry, Kind, compare_paths};
use crate::scan::inspect::{Contents, inspect_tree};
use crate::scan::walk::{Walk, WalkError, WalkOptions};

/// What is to be done to one directory so that it holds what a tree of the plan says.
pub(super) struct Delta {
    /// What is written anew, with the directories above.
    pub(super) write: PlannedTree,
    /// Paths written anew, without directories that are there.
    pub(super) changed: u64,
    /// Paths that are there and not in the plan, each directory before what it holds; other kinds stand as files.
    pub(super) extra: PlanFile,
    /// Where they lie in `extra`.
    pub(super) extra_places: Vec<u64>,
    /// A directory that stands where something else is planned, with something in it that is not.
    pub(super) in_the_way: Option<Vec<u8>>,
}

struct Stop(RestoreError);

impl From<WalkError> for Stop {
    fn from(error: WalkError) -> Self {
        Self(RestoreError::ReadBack(error))
    }
}

/// What a path of the plan needs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    /// A directory is there, whatever its metadata.
    Metadata,
    Write,
}

/// Compares the directory `root` with a tree; the contents of all its files are read.
///
/// `is_mount_point`: what a new file system holds, and the staging directory in it, do not count.
pub(super) fn compare(
    tree: &PlannedTree,
    root: &Arc<OwnedFd>,
    is_mount_point: bool,
    scratch: &Path,
) -> Result<Delta, RestoreError> {
    let mut needs = Vec::with_capacity(tree.entries as usize);
    let mut broken_groups = HashSet::new();
    let mut extra = Spool::create(scratch)?;
    let mut extra_places = Vec::new();
    let mut in_the_way = None;
    let mut planned = tree.file.read().map_err(scratch_error)?.peekable();
    // The path of the plan that is no directory and whose place a directory has.
    let mut replaced: Option<Vec<u8>> = None;
    let mut need = |needs: &mut Vec<Need>, expected: &Entry, need| {
        if need == Need::Write {
            broken_groups.extend(expected.group);
        }
        needs.push(need);
    };
    let walk = Walk::of_handle(reopened(root)?, WalkOptions::default()).map_err(|e| RestoreError::write(b"", e))?;
    inspect_tree(walk, Contents::Read, |found| -> Result<(), Stop> {
        if is_mount_point && is_of_the_mount(&found.path) {
            return Ok(());
        }
        loop {
            let order = match planned.peek() {
                Some(Ok(expected)) => compare_paths(&expected.path, &found.path),
                Some(Err(_)) => std::cmp::Ordering::Less,
                None => std::cmp::Ordering::Greater,
            };
            match order {
                std::cmp::Ordering::Less => {
                    let missing = planned.next().expect("it was looked at").map_err(|e| Stop(scratch_error(e)))?;
                    need(&mut needs, &missing, Need::Write);
                }
                std::cmp::Ordering::Equal => {
                    let expected = planned.next().expect("it was looked at").map_err(|e| Stop(scratch_error(e)))?;
                    let is_directory = matches!(found.kind, Kind::Directory);
                    let what = match difference(&expected, &found) {
                        None => Need::Nothing,
                        Some(_) if is_directory && matches!(expected.kind, Kind::Directory) => Need::Metadata,
                        Some(_) => Need::Write,
                    };
                    need(&mut needs, &expected, what);
                    replaced = (what == Need::Write && is_directory).then(|| expected.path.clone());
                    return Ok(());
                }
                std::cmp::Ordering::Greater => {
                    if let Some(replaced) = replaced.as_ref().filter(|above| is_below(&found.path, above)) {
                        in_the_way.get_or_insert_with(|| replaced.clone());
                    }
                    let kind = if matches!(found.kind, Kind::Directory) { Kind::Directory } else { Kind::empty_file() };
                    extra_places.push(extra.push(&Entry { kind, ..found }).map_err(Stop)?);
                    return Ok(());
                }
            }
        }
    })
    .map_err(|Stop(error)| error)?;
    for missing in planned {
        need(&mut needs, &missing.map_err(scratch_error)?, Need::Write);
    }
    let (write, changed) = chosen(tree, &needs, &broken_groups, scratch)?;
    Ok(Delta { write, changed, extra: extra.finish()?, extra_places, in_the_way })
}

fn is_of_the_mount(path: &[u8]) -> bool {
    let top = path.split(|b| *b == b'/').next().unwrap_or_default();
    top == PREFIX.as_bytes() || path == b"lost+found"
}

/// The part of a tree that must be written, with the directories above, and the number of paths it changes.
fn chosen(
    tree: &PlannedTree,
    needs: &[Need],
    broken_groups: &HashSet<[u8; 16]>,
    scratch: &Path,
) -> Result<(PlannedTree, u64), RestoreError> {
    let mut write = Planning::create(scratch)?;
    let mut changed = 0;
    let mut above: Vec<Entry> = Vec::new();
    for (entry, need) in tree.file.read().map_err(scratch_error)?.zip(needs) {
        let entry = entry.map_err(scratch_error)?;
        let is_directory = matches!(entry.kind, Kind::Directory);
        above.retain(|directory| is_below(&entry.path, &directory.path));
        let is_written = *need == Need::Write || entry.group.is_some_and(|group| broken_groups.contains(&group));
        changed += u64::from(is_written);
        if !is_written {
            if is_directory {
                above.push(entry);
            }
            continue;
        }
        for entry in above.drain(..).chain([entry]) {
            write.push(&entry)?;
        }
    }
    Ok((write.finish(&tree.name)?, changed))
}
