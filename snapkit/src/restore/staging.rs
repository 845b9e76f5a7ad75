//! The private directory that a restore works in, and what makes an interrupted one go on.
//!
//! ```text
//! .snapkit-restore-<target>/   beside the target, mode 0700, locked while a run uses it
//!   chosen.json                what is restored, durable before the first byte of data
//!   tree/                      what will appear at the target
//!   earlier/                   what an interrupted run staged; only of a restore in place
//!   moving                     names on their way up, when the target is a mount point (`mount.rs`)
//! ```
//!
//! A run that finds a directory begun for the very same goes on with it; one begun for something else is emptied.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::RestoreError;
use crate::scan::walk::{Walk, WalkOptions};

/// What the names of staging directories begin with.
pub(crate) const PREFIX: &str = ".snapkit-restore";
/// Longest name of a target that becomes part of the name of its staging directory.
const LONGEST_NAME: usize = 200;
/// How often the lock is tried, and the pause between.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);
const CHOSEN: &str = "chosen.json";
const TREE: &str = "tree";
/// Names on their way up into a mount point, each with a NUL behind it.
pub(super) const MOVING: &str = "moving";
const EARLIER: &str = "earlier";
/// Longest description that is read.
const CHOSEN_CAP: u64 = 1 << 20;

/// What a restore was asked for, and what it chose: fixed before the first byte is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chosen {
    /// Says what this document is.
    pub format: String,
    /// The chain.
    pub chain: String,
    /// How the snapshot was named.
    pub selector: String,
    /// Its number in the chain.
    pub seq: u64,
    /// Digest of its record.
    pub record: String,
    /// What of it is restored, and how.
    pub request: Vec<String>,
}

impl Chosen {
    /// The value of [`Chosen::format`].
    const FORMAT: &str = "snapkit restore 1";

    /// The record with this number and digest, named so, restored as `request` says.
    pub fn new(chain: String, selector: String, (seq, record): (u64, String), request: Vec<String>) -> Self {
        Self { format: Self::FORMAT.to_owned(), chain, selector, seq, record, request }
    }
}

/// A private directory, locked. Removed when it is dropped, unless it is to be kept.
pub(super) struct Staging {
    pub(super) path: PathBuf,
    /// Begun by an earlier run for the same.
    pub(super) is_resumed: bool,
    keep: bool,
    // Holds the lock.
    handle: OwnedFd,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.keep {
            make_removable(&self.path);
            // What cannot be removed is named by the error that brought us here, and found beside the target.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Directories restored with modes that forbid entering them are opened again, so that they can be removed or read.
pub(crate) fn make_removable(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|m| m.is_dir()) {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                make_removable(&entry.path());
            }
        }
    }
}

/// Takes the lock. A run that was killed holds it until what it was writing is on disk.
fn lock(handle: &OwnedFd) -> bool {
    let mut tries = LOCK_TRIES;
    while rustix::fs::flock(handle, FlockOperation::NonBlockingLockExclusive).is_err() {
        if tries == 0 {
            return false;
        }
        tries -= 1;
        std::thread::sleep(LOCK_PAUSE);
    }
    true
}

/// Where the staging directory of a target lies when it is beside it.
pub(super) fn beside(target: &Path) -> Option<PathBuf> {
    let name = target.file_name()?;
    let mut own = OsString::from(PREFIX);
    own.push("-");
    if name.len() <= LONGEST_NAME {
        own.push(name);
    } else {
        own.push(blake3::hash(name.as_bytes()).to_hex().as_str());
    }
    Some(target.parent()?.join(own))
}

/// What an interrupted restore has chosen, if there is one at `path`.
pub(super) fn chosen_at(path: &Path) -> Option<Chosen> {
    let mut text = String::new();
    let file = fs::OpenOptions::new().read(true).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path.join(CHOSEN));
    io::Read::read_to_string(&mut io::Read::take(file.ok()?, CHOSEN_CAP), &mut text).ok()?;
    serde_json::from_str(&text).ok().filter(|chosen: &Chosen| chosen.format == Chosen::FORMAT)
}

/// Removes the directory of a run that was killed when its target was in place already.
pub(super) fn remove_leftover(path: &Path) {
    let me = rustix::process::geteuid().as_raw();
    let is_ours = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == me);
    if is_ours && !path.join(TREE).exists() && !path.join(MOVING).exists() {
        let _ = fs::remove_file(path.join(CHOSEN));
        // Only if nothing else is in it.
        let _ = fs::remove_dir(path);
    }
}

impl Staging {
    /// Makes the directory, or goes on with one that was begun for the same.
    pub(super) fn open(path: PathBuf, target: &Path, chosen: &Chosen) -> Result<Self, RestoreError> {
        let failed = |source: io::Error| RestoreError::Target { path: target.to_owned(), source };
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(failed)?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        let stat = rustix::fs::fstat(&handle).map_err(|error| failed(error.into()))?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(RestoreError::ForeignStaging { path });
        }
        if !lock(&handle) {
            return Err(RestoreError::Busy { path });
        }
        // Whoever had the lock before may have removed the directory.
        let is_same = fs::symlink_metadata(&path).is_ok_and(|now| (now.dev(), now.ino()) == (stat.st_dev, stat.st_ino));
        if !is_same {
            return Err(RestoreError::Busy { path });
        }
        // What the disk did not take, which an earlier run may not have lived to see, is not gone on with.
        let is_resumed = chosen_at(&path).as_ref() == Some(chosen) && rustix::fs::syncfs(&handle).is_ok();
        let staging = Self { path, is_resumed, keep: is_resumed, handle };
        if !is_resumed {
            staging.begin(chosen).map_err(failed)?;
        }
        Ok(staging)
    }

    /// Empties the directory and writes down, durably, what it is for.
    fn begin(&self, chosen: &Chosen) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                make_removable(&entry.path());
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        self.write(CHOSEN, &serde_json::to_vec_pretty(chosen).map_err(io::Error::other)?)?;
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        File::open(parent)?.sync_all()
    }

    /// Leaves only directories and the first names of files: what else an interrupted run made is made again.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let tree = self.path.join(TREE);
        if !tree.exists() {
            return Ok(());
        }
        make_removable(&tree);
        let mut seen = HashSet::new();
        for found in Walk::new(&tree, WalkOptions::default())? {
            let found = found.map_err(|error| error.source)?;
            let is_kept = match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Directory => true,
                FileType::RegularFile => found.stat.st_nlink == 1 || seen.insert(found.stat.st_ino),
                _ => false,
            };
            if !is_kept {
                rustix::fs::unlinkat(&found.directory, &found.name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Writes a file of the directory durably.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.path.join(format!("{name}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path.join(name))?;
        Ok(rustix::fs::fsync(&self.handle)?)
    }

    /// The directory that becomes the target.
    pub(super) fn tree(&self) -> PathBuf {
        self.path.join(TREE)
    }

    /// Sets aside what an interrupted run staged, to be a seed for what is staged now.
    pub(super) fn set_aside(&mut self) -> io::Result<Option<PathBuf>> {
        let earlier = self.path.join(EARLIER);
        if !std::mem::take(&mut self.is_resumed) || !self.tree().exists() {
            return Ok(None);
        }
        if earlier.exists() {
            make_removable(&earlier);
            fs::remove_dir_all(&earlier)?;
        }
        fs::rename(self.tree(), &earlier)?;
        Ok(Some(earlier))
    }

    /// The directory that becomes the target, or `inside` of it, made if it is not there, and opened.
    pub(super) fn root(&self, inside: Option<&OsStr>) -> io::Result<Arc<OwnedFd>> {
        let mut path = self.tree();
        for inside in [None, inside].into_iter().take(1 + usize::from(inside.is_some())) {
            path.extend(inside);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Arc::new(rustix::fs::open(&path, flags, Mode::empty())?))
    }

    /// Makes everything durable that is staged.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(self.handle.as_fd())?)
    }

    /// Removes the directory when its content is in place: first what was staged, last what it was for.
    ///
    /// While the list of moved names is there they would be taken back; after it the target is complete.
    pub(super) fn finish(&self) -> io::Result<()> {
        let or_absent = |removed: io::Result<()>| match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        };
        or_absent(fs::remove_dir(self.tree()))?;
        or_absent(fs::remove_file(self.path.join(MOVING)))?;
        or_absent(fs::remove_file(self.path.join(CHOSEN)))?;
        fs::remove_dir(&self.path)
    }

    /// Whether the directory is left for the next run.
    pub(super) fn keep(&mut self, keep: bool) {
        self.keep = keep;
    }
}
