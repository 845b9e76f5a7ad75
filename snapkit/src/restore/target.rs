//! The target of a restore: a private directory beside it, and one rename when everything is proved.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use rustix::fs::{Mode, OFlags, XattrFlags};

use super::finish::finish;
use super::plan::{Plan, PlannedTree};
use super::prove::prove;
use super::stage::stage;
use super::{Options, RestoreError, Restored};
use crate::cancel::Cancel;
use crate::fetch::Fetcher;
use crate::progress::Progress;

/// How often what is staged is written to disk meanwhile.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// A directory that will appear, and what it holds.
pub struct Destination {
    target: PathBuf,
    staging: Staging,
    /// Name of each tree in it with the directory inside; `None` when the tree is the directory.
    trees: Vec<(String, Option<String>)>,
}

/// A private directory that is removed unless it is renamed.
struct Staging {
    path: PathBuf,
    armed: bool,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.armed {
            make_removable(&self.path);
            // What cannot be removed is named by the error that brought us here, and found beside the target.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Directories restored with modes that forbid entering them are opened again, so that they can be removed.
fn make_removable(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                make_removable(&entry.path());
            }
        }
    }
}

impl Destination {
    /// Prepares `target`, which must be missing or empty: makes a private directory beside it.
    ///
    /// # Errors
    /// [`RestoreError::TargetNotEmpty`], or [`RestoreError::Target`] when it cannot be written.
    pub fn prepare(target: &Path, trees: Vec<(String, Option<String>)>) -> Result<Self, RestoreError> {
        let failed = |source| RestoreError::Target { path: target.to_owned(), source };
        let target = std::path::absolute(target).map_err(failed)?;
        let parent = target.parent().ok_or_else(|| failed(io::Error::other("it has no directory above it")))?;
        match fs::symlink_metadata(&target) {
            Ok(found) if !found.is_dir() => return Err(RestoreError::TargetNotEmpty { path: target }),
            Ok(found) => {
                if fs::read_dir(&target).map_err(failed)?.next().is_some() {
                    return Err(RestoreError::TargetNotEmpty { path: target });
                }
                if fs::metadata(parent).map_err(failed)?.dev() != found.dev() {
                    let why =
                        "it is a mount point, which cannot be replaced in one step; restore to a directory inside it";
                    return Err(failed(io::Error::other(why)));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error.to_string())))?;
        let mut name = OsString::from(".snapkit-restore-");
        name.push(u64::from_le_bytes(random).to_string());
        let path = parent.join(name);
        fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        Ok(Self { target, staging: Staging { path, armed: true }, trees })
    }

    /// Whether the file system of the target has extended attributes.
    pub fn has_xattrs(&self) -> bool {
        let name = "user.snapkit.probe";
        let set = rustix::fs::setxattr(&self.staging.path, name, b"1", XattrFlags::empty()).is_ok();
        set && rustix::fs::removexattr(&self.staging.path, name).is_ok()
    }

    /// The directory, opened for staging `tree` in it, and made if it lies inside.
    fn root(&self, tree: &str) -> Result<Option<Arc<OwnedFd>>, RestoreError> {
        let Some((_, inside)) = self.trees.iter().find(|(name, _)| name == tree) else { return Ok(None) };
        let failed = |source: io::Error| RestoreError::Target { path: self.target.clone(), source };
        let mut path = self.staging.path.join("tree");
        if !path.exists() {
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        }
        if let Some(inside) = inside {
            path.push(inside);
            fs::DirBuilder::new().mode(0o700).create(&path).map_err(failed)?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Some(Arc::new(handle)))
    }

    /// Everything staged becomes durable and appears at the target, in one step.
    fn activate(mut self) -> Result<(), RestoreError> {
        let failed = |source: io::Error| RestoreError::Target { path: self.target.clone(), source };
        let staged = self.staging.path.join("tree");
        if self.trees.iter().any(|(_, inside)| inside.is_some()) {
            // Several trees: the directory above them is ours, not of the snapshot.
            fs::set_permissions(&staged, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        let handle = fs::File::open(&self.staging.path).map_err(failed)?;
        rustix::fs::syncfs(&handle).map_err(|error| failed(error.into()))?;
        fs::rename(&staged, &self.target).map_err(failed)?;
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
        self.staging.armed = false;
        fs::remove_dir(&self.staging.path).map_err(failed)
    }
}

/// Does what `plan` says: stages all trees, proves them, and lets them appear.
///
/// # Errors
/// [`RestoreError`]; the targets are as they were unless several were asked for and an earlier one had appeared.
pub fn apply(
    fetcher: &Fetcher<'_>,
    plan: &Plan,
    destinations: Vec<Destination>,
    options: &Options,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    progress.start_phase("restoring");
    progress.expect_total(plan.files(), plan.bytes());
    let mut roots = Vec::new();
    for tree in &plan.trees {
        let root = destinations.iter().find_map(|destination| destination.root(&tree.name).transpose());
        roots.push(root.expect("every tree of the plan has a destination")?);
    }
    let trees: &[PlannedTree] = &plan.trees;
    let fetched_bytes = flushing(&roots, || stage(fetcher, trees, &roots, &plan.pack_set, options, cancel, progress))?;
    for (tree, root) in trees.iter().zip(&roots) {
        finish(tree, root, cancel)?;
    }
    progress.start_phase("proving");
    for (tree, root) in trees.iter().zip(&roots) {
        prove(tree, root, options.proof)?;
    }
    drop(roots);
    if cancel.is_requested() {
        return Err(RestoreError::Cancelled);
    }
    for destination in destinations {
        destination.activate()?;
    }
    Ok(Restored { entries: plan.entries(), files: plan.files(), bytes: plan.bytes(), fetched_bytes })
}

/// Does `work` while another thread writes to disk what is staged already, so that little is left to wait for at the end.
///
/// What must be durable is made so before the rename; this only begins earlier, and its errors come back there.
fn flushing<T>(roots: &[Arc<OwnedFd>], work: impl FnOnce() -> T) -> T {
    let (done, ended) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
                for root in roots {
                    let _ = rustix::fs::syncfs(root);
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}
