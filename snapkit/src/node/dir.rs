//! The node directory on disk: its paths, its locks, its small files, and `current`.
//!
//! `current` is replaced by renaming a new symlink over it, so it is entirely the old or the new one.
//! Documented in `docs/node.md`. Layer: files.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::state::{Degraded, Intent, State, VERSION};
use super::{GenerationName, NodeError};
use crate::trust::file;

/// The directory of a node that holds its generations.
pub const GENERATIONS: &str = "generations";
/// The operator's file for the agent of a node, which is known here only by its name.
const AGENT_CONFIG: &str = "bootstrap.toml";
const PRIVATE: &str = ".node";
const CURRENT: &str = "current";
/// The symlink that is about to become `current`.
const NEXT: &str = ".current.next";
/// What the name of a generation that is being removed begins with; no generation's name does.
pub(super) const DOOMED: &str = ".doomed-";
/// The largest of the small files, in bytes.
const FILE_CAP: usize = 64 << 20;

/// A node directory.
#[derive(Debug)]
pub struct NodeDir {
    path: PathBuf,
    handle: OwnedFd,
}

/// What is kept from happening twice at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Restoring a generation, which may take long.
    Restore,
    /// Switching, and whatever changes the state.
    Switch,
}

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl NodeDir {
    /// Opens a node directory.
    ///
    /// # Errors
    /// [`NodeError::NotANode`] for a directory that is none; others can read or write its private part.
    pub fn open(path: &Path) -> Result<Self, NodeError> {
        let failed = |source: io::Error| NodeError::Io { what: format!("open {}", path.display()), source };
        let path = fs::canonicalize(path).map_err(failed)?;
        let private = match fs::symlink_metadata(path.join(PRIVATE)) {
            Ok(found) if found.is_dir() => found,
            Ok(_) => return Err(NodeError::NotANode { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(NodeError::NotANode { path }),
            Err(error) => return Err(failed(error)),
        };
        let me = rustix::process::geteuid().as_raw();
        if private.mode() & 0o077 != 0 || (private.uid() != me && me != 0) {
            return Err(NodeError::NotPrivate { path: path.join(PRIVATE) });
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        Ok(Self { path, handle })
    }

    /// Opens a node directory, or makes one of a missing or empty directory.
    ///
    /// # Errors
    /// [`NodeError::NotANode`] for a directory that holds something else; [`NodeError::Io`] when it cannot be made.
    pub fn create(path: &Path) -> Result<Self, NodeError> {
        let failed = |source: io::Error| NodeError::Io { what: format!("make {}", path.display()), source };
        match fs::read_dir(path) {
            Ok(entries) => {
                // What an operator prepares, and what an interrupted first run leaves.
                let ours = [PRIVATE, GENERATIONS, super::config::FILE, AGENT_CONFIG];
                for entry in entries {
                    let name = entry.map_err(failed)?.file_name();
                    if !path.join(PRIVATE).is_dir() && !ours.iter().any(|ours| name == *ours) {
                        return Err(NodeError::NotANode { path: path.to_owned() });
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(path).map_err(failed)?;
                sync(path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        make(&path.join(GENERATIONS), 0o755).map_err(failed)?;
        // Last: a directory is a node once it has this.
        make(&path.join(PRIVATE), 0o700).map_err(failed)?;
        Self::open(path)
    }

    /// The node directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory of all generations.
    pub(super) fn generations(&self) -> PathBuf {
        self.path.join(GENERATIONS)
    }

    /// The directory of one generation.
    pub fn generation(&self, name: &GenerationName) -> PathBuf {
        self.generations().join(name.as_str())
    }

    /// Where the receipt of a generation is kept.
    pub fn receipt(&self, name: &GenerationName) -> PathBuf {
        self.private("receipts").join(format!("{name}.json"))
    }

    fn private(&self, name: &str) -> PathBuf {
        self.path.join(PRIVATE).join(name)
    }

    /// The generations that have a directory, ascending.
    ///
    /// # Errors
    /// [`NodeError::Io`].
    pub fn present(&self) -> Result<Vec<GenerationName>, NodeError> {
        let names = names_in(&self.generations())?;
        let mut names: Vec<GenerationName> = names.iter().filter_map(|name| name.parse().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// What lies beside the generations with names that begin so.
    pub(super) fn beside_generations(&self, prefixes: &[&str]) -> Result<Vec<String>, NodeError> {
        let mut names = names_in(&self.generations())?;
        names.retain(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
        Ok(names)
    }

    /// Takes a lock, or says that another process holds it.
    ///
    /// # Errors
    /// [`NodeError::Busy`]; [`NodeError::Io`].
    pub fn lock(&self, work: Work) -> Result<Lock, NodeError> {
        let path = self.private(if work == Work::Restore { "restore.lock" } else { "switch.lock" });
        let failed = |source| NodeError::Io { what: format!("lock {}", path.display()), source };
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(NodeError::Busy { node: self.path.clone(), work }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }

    /// The state; that of a new node when nothing is written yet.
    ///
    /// # Errors
    /// [`NodeError::Damaged`], [`NodeError::Io`].
    pub fn state(&self) -> Result<State, NodeError> {
        Ok(self.read::<State>("state.json", |state| state.version)?.unwrap_or_default())
    }

    pub(super) fn save_state(&self, state: &State) -> Result<(), NodeError> {
        self.write("state.json", state)
    }

    /// The switch under way, if a process ended in the middle of one or is at it.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn intent(&self) -> Result<Option<Intent>, NodeError> {
        self.read("intent.json", |intent: &Intent| intent.version)
    }

    pub(super) fn save_intent(&self, intent: &Intent) -> Result<(), NodeError> {
        self.write("intent.json", intent)
    }

    pub(super) fn clear_intent(&self) -> Result<(), NodeError> {
        self.remove("intent.json")
    }

    /// The degraded mark, if the node is degraded.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn degraded(&self) -> Result<Option<Degraded>, NodeError> {
        self.read("degraded.json", |mark: &Degraded| mark.version)
    }

    pub(super) fn save_degraded(&self, mark: &Degraded) -> Result<(), NodeError> {
        self.write("degraded.json", mark)
    }

    pub(super) fn clear_degraded(&self) -> Result<(), NodeError> {
        self.remove("degraded.json")
    }

    fn read<T: DeserializeOwned>(&self, name: &str, version: impl Fn(&T) -> u32) -> Result<Option<T>, NodeError> {
        let path = self.private(name);
        let damaged = |why: String| NodeError::Damaged { path: path.clone(), why };
        let read = file::read(&path, FILE_CAP);
        let read = read.map_err(|source| NodeError::Io { what: format!("read {}", path.display()), source })?;
        let Some(bytes) = read else { return Ok(None) };
        let value: T = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        match version(&value) {
            VERSION => Ok(Some(value)),
            other => Err(damaged(format!("it has version {other}, and this program knows {VERSION}"))),
        }
    }

    fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<(), NodeError> {
        let path = self.private(name);
        let mut text = serde_json::to_string_pretty(value).expect("names, numbers and paths of UTF-8 always encode");
        text.push('\n');
        file::write(&path, text.as_bytes())
            .map_err(|source| NodeError::Io { what: format!("write {}", path.display()), source })
    }

    fn remove(&self, name: &str) -> Result<(), NodeError> {
        let path = self.private(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync(&self.path.join(PRIVATE))),
        };
        removed.map_err(|source| NodeError::Io { what: format!("remove {}", path.display()), source })
    }

    /// Removes files that a process which was killed had not put in their place.
    pub(super) fn sweep(&self) -> Result<(), NodeError> {
        for name in names_in(&self.path.join(PRIVATE))? {
            if name.starts_with(".tmp") {
                let path = self.private(&name);
                fs::remove_file(&path)
                    .map_err(|source| NodeError::Io { what: format!("remove {}", path.display()), source })?;
            }
        }
        Ok(())
    }

    /// The generation that `current` names; `None` when there is no `current`.
    ///
    /// # Errors
    /// [`NodeError::ForeignCurrent`] for something that no switch made.
    pub fn current(&self) -> Result<Option<GenerationName>, NodeError> {
        let foreign = |found: String| NodeError::ForeignCurrent { path: self.path.join(CURRENT), found };
        let target = match rustix::fs::readlinkat(&self.handle, CURRENT, Vec::new()) {
            Ok(target) => target,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::INVAL) => return Err(foreign("no symlink".to_owned())),
            Err(error) => {
                let what = format!("read {}", self.path.join(CURRENT).display());
                return Err(NodeError::Io { what, source: error.into() });
            }
        };
        let target = target.to_string_lossy();
        let name = target.strip_prefix(GENERATIONS).and_then(|rest| rest.strip_prefix('/')?.parse().ok());
        name.map(Some).ok_or_else(|| foreign(format!("a symlink to {target}")))
    }

    /// Makes `current` name a generation, durably and in one step, and reads back that it does.
    pub(super) fn point_current(&self, to: &GenerationName) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.handle, NEXT, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        rustix::fs::symlinkat(format!("{GENERATIONS}/{to}"), &self.handle, NEXT)?;
        rustix::fs::renameat(&self.handle, NEXT, &self.handle, CURRENT)?;
        rustix::fs::fsync(&self.handle)?;
        let is_so = self.current().is_ok_and(|current| current.as_ref() == Some(to))
            && self.path.join(CURRENT).metadata()?.ino() == self.generation(to).symlink_metadata()?.ino();
        if is_so { Ok(()) } else { Err(io::Error::other(format!("current does not lead to {to} after it was set"))) }
    }
}

/// Makes changes to a directory's names durable.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync(path.parent().unwrap_or(Path::new("/"))),
    }
}

/// Names in a directory that are UTF-8; none of ours is anything else.
fn names_in(directory: &Path) -> Result<Vec<String>, NodeError> {
    let failed = |source| NodeError::Io { what: format!("read {}", directory.display()), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    Ok(names)
}
