//! Restoring in place: an existing directory is brought to what a tree of the plan says, writing only what differs.
//!
//! Compare (only reads) -> stage what differs beside it -> prove that -> put each path in its place, one rename each ->
//! prove the whole. The directory as a whole is neither old nor new meanwhile; every single path is. A run that is
//! interrupted is gone on with by giving the command again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::apply::flushing;
use super::compare::{Delta, compare};
use super::order::{Source, order};
use super::place::{Opener, name_of, set_metadata};
use super::plan::Plan;
use super::prove::{Extra, difference};
use super::reuse::Reuse;
use super::spool::{PlannedTree, Window, scratch_error};
use super::stage::stage;
use super::staging::{self, Chosen, Staging};
use super::target::expect_space;
use super::{Options, RestoreError, Restored, directories, links, mount, prove};
use crate::cancel::Cancel;
use crate::entry::{Entry, Kind, printable};
use crate::fetch::Fetcher;
use crate::progress::Progress;
use crate::scan::inspect::{Contents, inspect};
use crate::scan::metadata::xattrs_of_file;
use crate::scan::walk::{Walk, WalkOptions};

/// Paths named for people.
const NAMED: usize = 20;

/// A directory that is there.
pub struct InPlace {
    target: PathBuf,
    tree: String,
    root: Arc<OwnedFd>,
    is_mount_point: bool,
}

/// What a restore in place does, or did, to one directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Paths written anew: missing, or different in whatever way.
    pub written: u64,
    /// Paths that are there and not in the snapshot.
    pub extra: u64,
    /// The first of those, printable.
    pub extra_paths: Vec<String>,
}

impl InPlace {
    /// Opens `target`, the directory for one tree.
    ///
    /// # Errors
    /// [`RestoreError::Target`] when it is no directory.
    pub fn open(target: &Path, tree: &str) -> Result<Self, RestoreError> {
        let failed = |source: io::Error| RestoreError::Target { path: target.to_owned(), source };
        let target = std::path::absolute(target).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&target, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let is_mount_point = mount::is_mount_point(&target).map_err(failed)?;
        Ok(Self { target, tree: tree.to_owned(), root: Arc::new(root), is_mount_point })
    }

    fn staging(&self, chosen: &Chosen) -> Result<Staging, RestoreError> {
        let beside = staging::beside(&self.target).filter(|_| !self.is_mount_point);
        let path = beside.unwrap_or_else(|| self.target.join(staging::PREFIX));
        Staging::open(path, &self.target, chosen)
    }

    fn planned<'a>(&self, plan: &'a Plan) -> &'a PlannedTree {
        plan.trees.iter().find(|tree| tree.name == self.tree).expect("the plan has every tree that was asked for")
    }

    fn compare(&self, plan: &Plan) -> Result<Delta, RestoreError> {
        compare(self.planned(plan), &self.root, self.is_mount_point, &plan.scratch)
    }
}

impl Delta {
    fn changed(&self) -> Result<Changed, RestoreError> {
        let paths = self.extra.read().map_err(scratch_error)?.take(NAMED);
        let extra_paths = paths.map(|entry| Ok(printable(&entry?.path))).collect::<io::Result<_>>();
        Ok(Changed {
            written: self.changed,
            extra: self.extra_places.len() as u64,
            extra_paths: extra_paths.map_err(scratch_error)?,
        })
    }
}

/// Says what [`Update::apply`] would do. Reads every file of the targets.
///
/// # Errors
/// [`RestoreError`] when something cannot be read.
pub fn preview(plan: &Plan, targets: &[InPlace]) -> Result<Vec<Changed>, RestoreError> {
    targets.iter().map(|target| target.compare(plan)?.changed()).collect()
}

/// A restore in place.
pub struct Update<'a> {
    /// Where data comes from.
    pub fetcher: &'a Fetcher<'a>,
    /// What the directories are brought to.
    pub plan: &'a Plan,
    /// Remove what is not in the snapshot.
    pub delete: bool,
    /// What a run that goes on with an interrupted one must have been asked for.
    pub chosen: &'a Chosen,
    /// How it is restored.
    pub options: &'a Options,
    /// Polled.
    pub cancel: &'a Cancel,
    /// Counted into.
    pub progress: &'a Progress,
}

impl Update<'_> {
    /// Brings directories to what the plan says.
    ///
    /// # Errors
    /// [`RestoreError`]; before [`RestoreError::Partly`] nothing was changed.
    pub fn apply(&self, targets: &[InPlace]) -> Result<(Restored, Vec<Changed>), RestoreError> {
        let plan = self.plan;
        let mut restored =
            Restored { entries: plan.entries(), files: plan.files(), bytes: plan.bytes(), ..Restored::default() };
        let mut all = Vec::new();
        for target in targets {
            self.progress.start_phase("comparing");
            let delta = target.compare(plan)?;
            if let Some(path) = delta.in_the_way.as_ref().filter(|_| !self.delete) {
                return Err(RestoreError::InTheWay { path: printable(path) });
            }
            let mut staging = target.staging(self.chosen)?;
            let staged = self.stage(target, &delta, &mut staging);
            let (fetched, reused) = staged.inspect_err(|error| staging.keep(error.can_go_on()))?;
            restored.fetched_bytes += fetched;
            restored.reused_bytes += reused;
            // From here on what is staged is part of the new state: it is removed only after everything went well.
            staging.keep(true);
            self.put(target, &delta, &staging)
                .map_err(|cause| RestoreError::Partly { path: target.target.clone(), cause: Box::new(cause) })?;
            staging.keep(false);
            all.push(delta.changed()?);
        }
        Ok((restored, all))
    }

    /// Stages and proves what differs. Says how many bytes were fetched, and reused.
    fn stage(&self, target: &InPlace, delta: &Delta, staging: &mut Staging) -> Result<(u64, u64), RestoreError> {
        if delta.write.entries == 0 {
            return Ok((0, 0));
        }
        expect_space(&staging.path, delta.write.disk_bytes)?;
        self.progress.start_phase("restoring");
        self.progress.expect_total(delta.write.files, delta.write.bytes);
        let failed = |source: io::Error| RestoreError::Target { path: target.target.clone(), source };
        let earlier = staging.set_aside().map_err(failed)?;
        let root = staging.root(None).map_err(failed)?;
        directories::make(&delta.write, &root, false)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = |seed: &PathBuf| rustix::fs::open(seed, flags, Mode::empty()).ok().map(Arc::new);
        let others = self.options.seeds.iter().chain(&earlier).filter_map(open);
        let seeds = [target.root.clone()].into_iter().chain(others).collect();
        let reuse = Reuse { resumed: false, seeds: vec![seeds] };
        let (trees, roots) = (std::slice::from_ref(&delta.write), std::slice::from_ref(&root));
        let (packs, scratch) = (&self.plan.pack_set, &*self.plan.scratch);
        let source = Source { trees, packs, scratch, roots, reuse: &reuse };
        let bytes = flushing(roots, || {
            let (ordered, reused) = order(&source, self.fetcher, self.cancel, self.progress)?;
            let fetched = stage(self.fetcher, ordered, roots, packs, self.options, self.cancel, self.progress)?;
            Ok::<_, RestoreError>((fetched, reused))
        })?;
        links::make_links(&delta.write, &root, self.cancel)?;
        directories::finish(&delta.write, &root)?;
        prove::prove(&delta.write, &root, self.options.proof, Extra::Refuse)?;
        directories::close(&delta.write, &root)?;
        staging.sync().map_err(failed)?;
        Ok(bytes)
    }

    /// Puts what is staged in its place, removes what is to go, and proves the whole.
    fn put(&self, target: &InPlace, delta: &Delta, staging: &Staging) -> Result<(), RestoreError> {
        put_in_place(target, delta, staging)?;
        if self.delete {
            remove_extra(target, delta)?;
        }
        let planned = target.planned(self.plan);
        finish_directories(planned, &target.root)?;
        self.progress.start_phase("proving");
        let extra = if self.delete && !target.is_mount_point { Extra::Refuse } else { Extra::Pass };
        prove::prove(planned, &target.root, self.options.proof, extra)?;
        rustix::fs::syncfs(&target.root).map_err(|error| RestoreError::write(b"", error))
    }
}

/// Puts every staged path in its place, each with one rename.
fn put_in_place(target: &InPlace, delta: &Delta, staging: &Staging) -> Result<(), RestoreError> {
    let root = staging.root(None).map_err(|source| RestoreError::Target { path: target.target.clone(), source })?;
    let (mut from, mut to) = (Opener::new(root), Opener::new(target.root.clone()));
    // A directory that went as a whole; what is below it went with it.
    let mut moved: Option<Vec<u8>> = None;
    for entry in delta.write.file.read().map_err(scratch_error)? {
        let entry = entry.map_err(scratch_error)?;
        if entry.path.is_empty() || moved.as_ref().is_some_and(|moved| super::plan::is_below(&entry.path, moved)) {
            continue;
        }
        let is_directory = matches!(entry.kind, Kind::Directory);
        let mut put = || -> io::Result<bool> {
            let (from, to) = (from.parent_of(&entry.path)?, to.parent_of(&entry.path)?);
            let name = name_of(&entry.path);
            let there = match rustix::fs::statat(&to, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => Some(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
                Err(Errno::NOENT) => None,
                Err(error) => return Err(error.into()),
            };
            match (is_directory, there) {
                (true, Some(true)) => return Ok(false),
                (true, Some(false)) | (false, Some(true)) => {
                    rustix::fs::renameat_with(&from, &name, &to, &name, RenameFlags::EXCHANGE)?;
                }
                (true, None) | (false, _) => rustix::fs::renameat(&from, &name, &to, &name)?,
            }
            Ok(true)
        };
        if put().map_err(|source| RestoreError::write(&entry.path, source))? && is_directory {
            moved = Some(entry.path);
        }
    }
    Ok(())
}

/// Removes what is not in the snapshot, from the deepest up.
fn remove_extra(target: &InPlace, delta: &Delta) -> Result<(), RestoreError> {
    let mut opener = Opener::new(target.root.clone());
    let mut extra = Window::of(&delta.extra).map_err(scratch_error)?;
    for place in delta.extra_places.iter().rev() {
        let entry = extra.at(*place).map_err(scratch_error)?;
        let flags = if matches!(entry.kind, Kind::Directory) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let removed = opener
            .parent_of(&entry.path)
            .and_then(|directory| Ok(rustix::fs::unlinkat(&directory, name_of(&entry.path), flags)?));
        match removed {
            // It went with a directory that another path has replaced.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => {}
            removed => removed.map_err(|source| RestoreError::write(&entry.path, source))?,
        }
    }
    Ok(())
}

/// Gives every directory that is not as planned its metadata, from the deepest up.
fn finish_directories(tree: &PlannedTree, root: &Arc<OwnedFd>) -> Result<(), RestoreError> {
    let mut opener = Opener::new(root.clone());
    let mut plan = Window::of(&tree.file).map_err(scratch_error)?;
    for place in tree.directories.iter().rev() {
        let entry = plan.at(*place).map_err(scratch_error)?;
        let mut finish = || -> io::Result<()> {
            let directory = opener.directory(&entry.path)?;
            if is_as_planned(&directory, &entry)? {
                return Ok(());
            }
            for (name, _) in xattrs_of_file(directory.as_fd())? {
                if !entry.xattrs.iter().any(|(planned, _)| *planned == name) {
                    rustix::fs::fremovexattr(
                        &directory,
                        <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name),
                    )?;
                }
            }
            set_metadata(directory.as_fd(), &entry)
        };
        finish().map_err(|source| RestoreError::write(&entry.path, source))?;
    }
    Ok(())
}

fn is_as_planned(directory: &Arc<OwnedFd>, entry: &Entry) -> io::Result<bool> {
    let walk = Walk::of_handle(directory.clone(), WalkOptions::default())?;
    let Some(Ok(found)) = walk.into_iter().next() else { return Ok(false) };
    let now = inspect(&found, Contents::Skip)?;
    Ok(now.is_some_and(|now| difference(entry, &Entry { path: entry.path.clone(), ..now }).is_none()))
}
