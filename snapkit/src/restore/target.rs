//! The target of a restore: staged in private, and one rename when everything is proved.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, XattrFlags};

use super::place::set_metadata;
use super::prove::difference;
use super::spool::PlannedTree;
use super::staging::{self, Chosen, Staging};
use super::{RestoreError, mount};
use crate::entry::Entry;
use crate::scan::inspect::{Contents, inspect};
use crate::scan::walk::{Walk, WalkOptions};

/// A directory that will appear, and what it holds.
pub struct Destination {
    target: PathBuf,
    pub(super) staging: Staging,
    is_mount_point: bool,
    /// Name of each tree in it with the directory inside; `None` when the tree is the directory.
    trees: Vec<(String, Option<String>)>,
}

/// What an interrupted restore to `target` has chosen, if there is one that can go on.
pub fn interrupted(target: &Path) -> Option<Chosen> {
    let target = std::path::absolute(target).ok()?;
    let inside = staging::chosen_at(&target.join(staging::PREFIX));
    inside.or_else(|| staging::chosen_at(&staging::beside(&target)?))
}

/// Bytes that can still be written to the file system of a directory.
///
/// # Errors
/// When it cannot be asked.
pub fn available_bytes(directory: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(directory)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Refuses when `needed` bytes do not fit into the file system of a directory.
pub(super) fn expect_space(directory: &Path, needed: u64) -> Result<(), RestoreError> {
    let failed = |source| RestoreError::Target { path: directory.to_owned(), source };
    let available = available_bytes(directory).map_err(failed)?;
    if needed > available {
        return Err(RestoreError::NoSpace { path: directory.to_owned(), needed, available });
    }
    Ok(())
}

/// What interrupted restores to missing directories in `above` have chosen, of those that can go on.
pub fn interrupted_in(above: &Path) -> Vec<Chosen> {
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    let staging = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(staging::PREFIX.as_bytes()));
    staging.filter_map(|entry| staging::chosen_at(&entry.path())).collect()
}

impl Destination {
    /// Prepares `target`, which must be missing or empty: makes a private directory beside it, inside it when it is a
    /// mount point, or goes on with the one that an interrupted run for the same left.
    ///
    /// # Errors
    /// [`RestoreError::TargetNotEmpty`], [`RestoreError::Busy`], [`RestoreError::ForeignStaging`], or
    /// [`RestoreError::Target`] when it cannot be written.
    pub fn prepare(target: &Path, trees: Vec<(String, Option<String>)>, chosen: &Chosen) -> Result<Self, RestoreError> {
        let failed = |source| RestoreError::Target { path: target.to_owned(), source };
        let target = std::path::absolute(target).map_err(failed)?;
        let beside =
            staging::beside(&target).ok_or_else(|| failed(io::Error::other("it has no directory above it")))?;
        let inside = target.join(staging::PREFIX);
        let parent = target.parent().unwrap_or(Path::new("/"));
        let mut is_mount_point = false;
        match fs::symlink_metadata(&target) {
            Ok(found) if !found.is_dir() => return Err(RestoreError::TargetNotEmpty { path: target }),
            Ok(_) => {
                is_mount_point = mount::is_mount_point(&target).map_err(failed)?;
                let is_empty = match is_mount_point {
                    true => mount::is_empty(&target).map_err(failed)?,
                    false => fs::read_dir(&target).map_err(failed)?.next().is_none(),
                };
                if !is_empty {
                    staging::remove_leftover(if is_mount_point { &inside } else { &beside });
                    return Err(RestoreError::TargetNotEmpty { path: target });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let path = if is_mount_point { inside } else { beside };
        let staging = Staging::open(path, &target, chosen)?;
        if staging.is_resumed {
            if is_mount_point {
                mount::take_back(&staging, &target).map_err(failed)?;
            }
            staging.sweep().map_err(failed)?;
        }
        Ok(Self { target, staging, is_mount_point, trees })
    }

    /// Whether an interrupted run is gone on with.
    pub fn is_resumed(&self) -> bool {
        self.staging.is_resumed
    }

    /// Whether the file system of the target has extended attributes.
    pub fn has_xattrs(&self) -> bool {
        let name = "user.snapkit.probe";
        let set = rustix::fs::setxattr(&self.staging.path, name, b"1", XattrFlags::empty()).is_ok();
        set && rustix::fs::removexattr(&self.staging.path, name).is_ok()
    }

    /// Refuses when what a fresh run will write does not fit; what an interrupted one wrote is there already.
    pub(super) fn expect_space(&self, trees: &[PlannedTree]) -> Result<(), RestoreError> {
        let here = trees.iter().filter(|tree| self.inside(&tree.name).is_some());
        let needed = here.map(|tree| tree.disk_bytes).sum();
        if self.is_resumed() { Ok(()) } else { expect_space(&self.staging.path, needed) }
    }

    fn inside(&self, tree: &str) -> Option<Option<&str>> {
        self.trees.iter().find(|(name, _)| name == tree).map(|(_, inside)| inside.as_deref())
    }

    /// The directory, opened for staging `tree` in it; `None` when the tree goes elsewhere.
    pub(super) fn root(&self, tree: &str) -> Result<Option<Arc<OwnedFd>>, RestoreError> {
        let Some(inside) = self.inside(tree) else { return Ok(None) };
        let root = self.staging.root(inside.map(AsRef::as_ref));
        root.map(Some).map_err(|source| RestoreError::Target { path: self.target.clone(), source })
    }

    /// The directories of `seeds` that may hold what `tree` does.
    pub(super) fn seeds(&self, tree: &str, seeds: &[PathBuf]) -> Vec<Arc<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let at = |seed: &PathBuf| {
            let path = self.inside(tree)?.map_or_else(|| seed.clone(), |inside| seed.join(inside));
            rustix::fs::open(path, flags, Mode::empty()).ok().map(Arc::new)
        };
        seeds.iter().filter_map(at).collect()
    }

    /// Whether the directory itself is `tree`.
    pub(super) fn is_tree(&self, tree: &str) -> bool {
        self.inside(tree) == Some(None)
    }

    /// Everything staged becomes durable and appears at the target, in one step unless it is a mount point.
    ///
    /// `root` is the entry of the directory itself when it is a tree.
    pub(super) fn activate(mut self, root: Option<&Entry>) -> Result<(), RestoreError> {
        // From here on a failure may have left the target in place: what is staged is never removed by guess.
        self.staging.keep(true);
        let failed = |source: io::Error| RestoreError::Target { path: self.target.clone(), source };
        let staged = self.staging.tree();
        if root.is_none() {
            // Several trees: the directory above them is ours, not of the snapshot.
            fs::set_permissions(&staged, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        if let Err(source) = self.staging.sync() {
            // The page cache still holds what the disk did not take, so a run that goes on would believe it.
            self.staging.keep(false);
            return Err(RestoreError::Target { path: self.target.clone(), source });
        }
        if self.is_mount_point {
            mount::move_up(&self.staging, &self.target).map_err(failed)?;
        } else {
            fs::rename(&staged, &self.target).map_err(failed)?;
            let parent = self.target.parent().unwrap_or(Path::new("/"));
            fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        }
        if let Some(root) = root
            && (self.is_mount_point || super::directories::is_closed(root))
        {
            // Only now: a directory that its owner may not write cannot be moved by its owner.
            self.finish_root(root)?;
        }
        self.staging.finish().map_err(failed)?;
        if self.is_mount_point {
            // Taking the private directory out of it has changed its time.
            root.map_or(Ok(()), |root| self.finish_root(root))?;
            fs::File::open(&self.target).and_then(|target| target.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    /// Gives the target what its own entry says, and sees that it has it.
    fn finish_root(&self, root: &Entry) -> Result<(), RestoreError> {
        let failed = |source: io::Error| RestoreError::Target { path: self.target.clone(), source };
        // Opened before it may get a mode that keeps its owner out.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::open(&self.target, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        set_metadata(target.as_fd(), root).map_err(failed)?;
        rustix::fs::fchmod(&target, Mode::from_raw_mode(root.mode)).map_err(|error| failed(error.into()))?;
        let mut walk = Walk::of_handle(Arc::new(target), WalkOptions::default()).map_err(failed)?;
        let found = walk.next().expect("a walk begins with its directory")?;
        let now = inspect(&found, Contents::Skip).map_err(failed)?;
        let what = match &now {
            Some(now) => difference(root, now),
            None => Some("it is no directory any more".to_owned()),
        };
        what.map_or(Ok(()), |what| Err(RestoreError::NotProved { path: self.target.display().to_string(), what }))
    }
}
