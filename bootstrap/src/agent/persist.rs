//! What the agent keeps over its own end: its state, what it started, and what happened.
//!
//! `state.json` is written before anything that follows from it is done, and `service.json` before anything of a service
//! can run, so the next agent never knows less than was begun. Files: `docs/agent.md`, "Files". Layer: files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::clock::BootTime;
use crate::driver::Instance;

/// The version of the files.
const VERSION: u32 = 1;
/// The largest file that is read, in bytes.
const FILE_CAP: u64 = 1 << 20;
/// `events.jsonl` becomes `events.1.jsonl` beyond this many bytes.
const EVENTS_CAP: u64 = 8 << 20;
/// For how long another one's lock may be no agent's.
const LOOKED_AT: Duration = Duration::from_millis(400);

/// What the machine must know again after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Always 1.
    pub version: u32,
    /// The highest term that was seen.
    pub term: u64,
    /// A leadership of this node whose state may hold more than the chain.
    pub led: Option<Led>,
    /// Earlier such states that are to be set aside, because somebody else led since.
    pub aside: Vec<Led>,
    /// Static leadership: an operator made this node the leader, and why.
    pub appointed: Option<String>,
    /// Who paused it, and why: it takes nothing over.
    pub paused: Option<String>,
    /// An operator took it out of the candidates, and why.
    pub held: Option<String>,
    /// It handed the lease over, and leaves it to the others until then.
    #[serde(default)]
    pub handed_off: Option<Until>,
    /// Times this node tried to take over.
    pub takeover_attempts: u64,
    /// Takeovers that ended with a running leader.
    pub takeovers: u64,
    /// Times another leader beside this one was seen.
    pub conflicts: u64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            version: VERSION,
            term: 0,
            led: None,
            aside: Vec::new(),
            appointed: None,
            paused: None,
            held: None,
            handed_off: None,
            takeover_attempts: 0,
            takeovers: 0,
            conflicts: 0,
        }
    }
}

/// A moment, for whoever reads it after a restart: the time since boot says something only within one boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// The boot.
    pub boot: String,
    /// The time since then.
    pub at: BootTime,
}

/// A leadership that ended without a snapshot of its last state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Led {
    /// The term.
    pub term: u64,
    /// The generation that the service wrote to.
    pub generation: String,
}

/// The private directory of an agent, and the lock that makes it the only one.
#[derive(Debug)]
pub struct AgentDir {
    path: PathBuf,
    _lock: File,
}

/// Why the private directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Another agent keeps this node.
    #[error("another agent runs for {}", .0.display())]
    Busy(PathBuf),
    /// A file is not what an agent wrote.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The machine failed.
    #[error("cannot use {}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl AgentDir {
    /// Where the agent of a node keeps its files.
    pub fn path_in(node: &Path) -> PathBuf {
        node.join(".node/agent")
    }

    /// Makes the directory, for its owner alone, and takes the lock.
    ///
    /// # Errors
    /// [`PersistError::Busy`] while another agent runs; [`PersistError::Io`].
    pub fn open(node: &Path) -> Result<Self, PersistError> {
        let path = Self::path_in(node);
        let failed = |source| PersistError::Io { path: path.clone(), source };
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let lock = path.join("lock");
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&lock);
        let file = file.map_err(|source| PersistError::Io { path: lock.clone(), source })?;
        let began = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { path, _lock: file }),
                // Whoever only looks whether an agent is there has it for a moment.
                Err(TryLockError::WouldBlock) if began.elapsed() < LOOKED_AT => thread::sleep(LOOKED_AT / 20),
                Err(TryLockError::WouldBlock) => return Err(PersistError::Busy(node.to_owned())),
                Err(TryLockError::Error(source)) => return Err(PersistError::Io { path: lock, source }),
            }
        }
    }

    /// Whether an agent keeps a node, also one that does not answer yet.
    pub fn is_kept(node: &Path) -> bool {
        let lock = Self::path_in(node).join("lock");
        File::open(lock).is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the agent answers on this machine.
    pub fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// What the last agent kept.
    ///
    /// # Errors
    /// [`PersistError::Damaged`]: what it led is not known then, so nothing may be guessed.
    pub fn kept(&self) -> Result<Kept, PersistError> {
        let kept: Kept = self.read("state.json")?.unwrap_or_default();
        match kept.version {
            VERSION => Ok(kept),
            other => Err(PersistError::Damaged {
                path: self.path.join("state.json"),
                why: format!("version {VERSION} expected, {other} found"),
            }),
        }
    }

    /// Writes what the next agent must know, durably.
    ///
    /// # Errors
    /// [`PersistError::Io`]; then the old file stands.
    pub fn keep(&self, kept: &Kept) -> Result<(), PersistError> {
        self.write("state.json", kept)
    }

    /// The service that an earlier agent started and did not prove dead.
    ///
    /// # Errors
    /// [`PersistError::Damaged`].
    pub fn left_service(&self) -> Result<Option<Instance>, PersistError> {
        self.read("service.json")
    }

    /// Writes down a service that is about to be started.
    ///
    /// # Errors
    /// [`PersistError::Io`]; then it must not be started.
    pub fn note_service(&self, instance: &Instance) -> Result<(), PersistError> {
        self.write("service.json", instance)
    }

    /// The service is proven dead.
    ///
    /// # Errors
    /// [`PersistError::Io`]; then the next agent proves it once more.
    pub fn forget_service(&self) -> Result<(), PersistError> {
        let path = self.path.join("service.json");
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(PersistError::Io { path, source }),
            Ok(()) => self.sync(),
        }
    }

    /// Appends an event. What cannot be written is lost: the record of deeds never keeps a deed from being done.
    pub fn record(&self, event: &str, details: &serde_json::Value) {
        let path = self.path.join("events.jsonl");
        if fs::metadata(&path).is_ok_and(|file| file.len() > EVENTS_CAP) {
            let _ = fs::rename(&path, self.path.join("events.1.jsonl"));
        }
        let line = serde_json::json!({ "time": Timestamp::now(), "event": event, "details": details });
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let _ = file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, PersistError> {
        let path = self.path.join(name);
        let mut text = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(PersistError::Io { path, source }),
            Ok(file) => match file.take(FILE_CAP).read_to_end(&mut text) {
                Ok(_) => {}
                Err(source) => return Err(PersistError::Io { path, source }),
            },
        }
        serde_json::from_slice(&text).map(Some).map_err(|error| PersistError::Damaged { path, why: error.to_string() })
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result<(), PersistError> {
        let path = self.path.join(name);
        let failed = |source| PersistError::Io { path: path.clone(), source };
        let bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), PersistError> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|source| PersistError::Io { path: self.path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::eventually;

    fn node() -> tempfile::TempDir {
        let node = tempfile::tempdir().unwrap();
        fs::create_dir(node.path().join(".node")).unwrap();
        node
    }

    #[test]
    fn only_one_agent_keeps_a_node() {
        let node = node();
        let first = AgentDir::open(node.path()).unwrap();
        assert!(matches!(AgentDir::open(node.path()), Err(PersistError::Busy(_))));
        assert!(AgentDir::is_kept(node.path()));
        drop(first);
        eventually("nobody keeps it", || !AgentDir::is_kept(node.path()));
        AgentDir::open(node.path()).unwrap();
    }

    #[test]
    fn what_was_kept_is_read_again_and_a_damaged_file_is_not_guessed_at() {
        let node = node();
        let directory = AgentDir::open(node.path()).unwrap();
        assert_eq!(directory.kept().unwrap(), Kept::default());
        let led = Led { term: 7, generation: "a".into() };
        let kept = Kept { term: 8, led: Some(led), ..Kept::default() };
        directory.keep(&kept).unwrap();
        assert_eq!(directory.kept().unwrap(), kept);
        fs::write(directory.path().join("state.json"), b"").unwrap();
        assert!(matches!(directory.kept(), Err(PersistError::Damaged { .. })));
    }
}
