//! The run directory: one per run, with the names that a bundle has.
//!
//! Documented in `docs/evidence.md`, "Run directory". Layer: the edge.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

/// The plan: `bootstrap.plan/1`.
pub const PLAN: &str = "plan.json";
/// The environment: [`super::facts::Environment`].
pub const ENVIRONMENT: &str = "environment.json";
/// The series of probers.
pub const PROBES: &str = "probes";
/// The series of the sentinel.
pub const SENTINEL: &str = "sentinel.jsonl";
/// Lease entries as they lie in the store: `lease/<20 digits>.json`.
pub const LEASE: &str = "lease";
/// `chain/root/<n>.json`, `chain/manifest.json` and records `chain/<20 digits>.json`, as they lie in the store.
pub const CHAIN: &str = "chain";
/// Receipts of restores: `restore/<node>.receipt.json`.
pub const RESTORE: &str = "restore";
/// Reports of `snapkit diff --json`.
pub const DIFF: &str = "diff";
/// Logs and dashboards, without secrets; `collect/health-before.json` and `collect/health-after.json`.
pub const COLLECT: &str = "collect";
/// What people stated, and their pictures.
pub const ATTEST: &str = "attest";

/// A run directory.
#[derive(Debug, Clone)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes the directory of the run `id`, begun at `now`, below `runs`: `<utc>-<id>`.
    ///
    /// # Errors
    /// When it is there already or cannot be made.
    pub fn create(runs: &Path, id: &str, now: Timestamp) -> io::Result<RunDir> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(runs)?;
        let path = runs.join(format!("{}-{id}", now.strftime("%Y%m%dT%H%M%SZ")));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        for directory in [PROBES, LEASE, CHAIN, "chain/root", RESTORE, DIFF, COLLECT, ATTEST] {
            fs::DirBuilder::new().mode(0o700).create(path.join(directory))?;
        }
        Ok(RunDir { path })
    }

    /// The run directory at `path`.
    pub fn at(path: &Path) -> RunDir {
        RunDir { path: path.to_owned() }
    }

    /// The run with this id below `runs`, the newest one.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(runs: &Path, id: &str) -> io::Result<RunDir> {
        let mut found: Vec<PathBuf> = fs::read_dir(runs)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.is_dir() && path.file_name().is_some_and(|name| is_run(&name.to_string_lossy(), id)))
            .collect();
        found.sort();
        let newest = found.pop().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no run {id}")))?;
        Ok(RunDir { path: newest })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a file of it is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file, in one step and onto the disk; directories of `name` are made.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.file(name);
        let directory = path.parent().unwrap_or(&self.path);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let beside = directory.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(directory)?.sync_all()
    }

    /// Writes a value as JSON, one field per line.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(value)?;
        bytes.push(b'\n');
        self.write(name, &bytes)
    }
}

/// Whether a directory of this name is a run with this id.
fn is_run(name: &str, id: &str) -> bool {
    name.split_once('-').is_some_and(|(time, rest)| rest == id && time.len() == 16 && time.ends_with('Z'))
}
