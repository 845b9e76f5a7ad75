//! Debts: what was changed in a hurry and must be put right before the lead is given back.
//!
//! One file per debt below what all runs of a fleet share, written before the change that it is about, so that a change without its
//! debt cannot be. A debt is closed only when the deployed file is the canonical one again. Meaning: `docs/scenarios.md`,
//! "Debts"; JSON: `bootstrap.debt/1`. Layer: reads and writes small files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};

/// The name of the form.
pub const SCHEMA: &str = "bootstrap.debt/1";
/// The directory below what is shared.
const DIRECTORY: &str = "debts";
/// The largest file of one in bytes.
const CAP: u64 = 1 << 20;

/// Something to put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debt {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Its id: that of the run, and what it is about.
    pub id: String,
    /// The lease group.
    pub group: String,
    /// The run that made it.
    pub run: String,
    /// When.
    pub opened: Timestamp,
    /// What was done, in a sentence.
    pub text: String,
    /// The deployed file, on the machine of the ingress.
    pub file: PathBuf,
    /// What must stand there again.
    pub canonical_sha256: Digest,
    /// What was put there.
    pub hotfix_sha256: Digest,
    /// Where the canonical text is kept beside the file, once it was replaced.
    pub backup: Option<PathBuf>,
    /// The canonical text.
    pub canonical: String,
    /// Whether the next switchback is to put it right, because the canonical file leads to a node that does not lead before.
    #[serde(default)]
    pub left_to_switchback: Option<Left>,
    /// How it was put right.
    pub closed: Option<Closed>,
}

/// That a debt is left to the next switchback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// Since when.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// How a debt was put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why, or how.
    pub reason: String,
    /// What was found in the file then.
    pub found_sha256: Digest,
}

/// Why debts cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DebtError {
    /// There is none with this id.
    #[error("there is no debt {id:?} in {}", .directory.display())]
    None {
        /// The id.
        id: String,
        /// Where was looked.
        directory: PathBuf,
    },
    /// A file is no debt. Nobody knows then whether it is open.
    #[error("{} is no debt: {why}", .path.display())]
    Strange {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system says no.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The debts of a fleet.
#[derive(Debug, Clone)]
pub struct Debts {
    directory: PathBuf,
}

impl Debts {
    /// The debts below `shared`.
    pub fn below(shared: &Path) -> Self {
        Self { directory: shared.join(DIRECTORY) }
    }

    /// All of them, by id. One that cannot be read fails the whole: it may be open.
    ///
    /// # Errors
    /// [`DebtError`]
    pub fn all(&self) -> Result<Vec<Debt>, DebtError> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(DebtError::Io { path: self.directory.clone(), source }),
        };
        let mut debts = Vec::new();
        for entry in entries {
            let path = entry.map_err(|source| DebtError::Io { path: self.directory.clone(), source })?.path();
            if path.extension().is_some_and(|ending| ending == "json") {
                debts.push(read(&path)?);
            }
        }
        debts.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(debts)
    }

    /// Those that are open.
    ///
    /// # Errors
    /// [`DebtError`]
    pub fn open(&self) -> Result<Vec<Debt>, DebtError> {
        Ok(self.all()?.into_iter().filter(|debt| debt.closed.is_none()).collect())
    }

    /// One by its id.
    ///
    /// # Errors
    /// [`DebtError`]
    pub fn get(&self, id: &str) -> Result<Debt, DebtError> {
        let none = || DebtError::None { id: id.to_owned(), directory: self.directory.clone() };
        self.all()?.into_iter().find(|debt| debt.id == id).ok_or_else(none)
    }

    /// Writes one, in one step and onto the disk.
    ///
    /// # Errors
    /// [`DebtError::Io`]
    pub fn put(&self, debt: &Debt) -> Result<(), DebtError> {
        let path = self.directory.join(format!("{}.json", debt.id));
        let write = || -> io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let beside = self.directory.join(format!(".{}.new", debt.id));
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(debt)?)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| DebtError::Io { path: path.clone(), source })
    }
}

fn read(path: &Path) -> Result<Debt, DebtError> {
    let strange = |why: String| DebtError::Strange { path: path.to_owned(), why };
    let io = |source| DebtError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(io)?.len() > CAP * 2 {
        return Err(strange("it is too big".to_owned()));
    }
    let debt: Debt =
        serde_json::from_slice(&fs::read(path).map_err(io)?).map_err(|error| strange(error.to_string()))?;
    if debt.schema != SCHEMA {
        return Err(strange(format!("expected {SCHEMA}, found {:?}", debt.schema)));
    }
    if path.file_stem().is_none_or(|stem| *stem != *debt.id) {
        return Err(strange(format!("it is called {:?} inside", debt.id)));
    }
    Ok(debt)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn debt(id: &str) -> Debt {
        Debt {
            schema: SCHEMA.to_owned(),
            id: id.to_owned(),
            group: "app".to_owned(),
            run: "run".to_owned(),
            opened: Timestamp::UNIX_EPOCH,
            text: "b is first".to_owned(),
            file: "/etc/nginx/app.conf".into(),
            canonical_sha256: Digest::sha256(b"old"),
            hotfix_sha256: Digest::sha256(b"new"),
            backup: None,
            canonical: "old".to_owned(),
            left_to_switchback: None,
            closed: None,
        }
    }

    #[test]
    fn a_debt_is_open_until_it_is_closed() {
        let runs = tempfile::tempdir().unwrap();
        let debts = Debts::below(runs.path());
        assert!(debts.open().unwrap().is_empty());
        debts.put(&debt("one")).unwrap();
        debts.put(&debt("two")).unwrap();
        assert_eq!(debts.open().unwrap().len(), 2);
        let (at, found_sha256) = (Timestamp::UNIX_EPOCH, Digest::sha256(b"old"));
        let closed = Some(Closed { at, by: "test".to_owned(), reason: "put back".to_owned(), found_sha256 });
        debts.put(&Debt { closed, ..debts.get("one").unwrap() }).unwrap();
        let open: Vec<String> = debts.open().unwrap().into_iter().map(|debt| debt.id).collect();
        assert_eq!((open, debts.all().unwrap().len()), (vec!["two".to_owned()], 2));
        assert!(matches!(debts.get("three"), Err(DebtError::None { .. })));
    }

    #[test]
    fn a_debt_that_cannot_be_read_is_not_taken_for_none() {
        let runs = tempfile::tempdir().unwrap();
        let debts = Debts::below(runs.path());
        debts.put(&debt("one")).unwrap();
        let file = runs.path().join("debts/one.json");
        let text = fs::read_to_string(&file).unwrap();
        for damage in
            [&text[..text.len() / 2], &text.replace("\"closed\"", "\"settled\""), &text.replace("\"one\"", "\"two\"")]
        {
            fs::write(&file, damage).unwrap();
            assert!(matches!(debts.open(), Err(DebtError::Strange { .. })), "{damage}");
        }
    }
}
