//! Which rights some credentials have in a store, held against the role they are for.
//!
//! A stolen credential is worth what it may do, so it is tried, place by place, because policies are written by place.
//! Nothing that a chain consists of is touched: in each place the trial is an object of its own, [`TRIAL`], which readers
//! ignore, and `checkpoint` and `format` are only created again, which an existing object refuses, or given the bytes that
//! they have. Who may create and not delete leaves its trial behind, and the next probe uses it again.
//! The roles and policies for them: `docs/credentials.md`. Layer: uses any store.

use bytes::Bytes;
use serde::Serialize;

use super::conformance::tell;
use super::{Ability, Created, Store, StoreError};

/// The name of the object that is tried in every place.
pub const TRIAL: &str = ".probe-rights";
/// What is in it begins like this, so that it is known again.
const CONTENTS_BEGIN: &str = "snapkit store probe tried here";
/// What is in it, before and after it is replaced.
const CONTENTS: [&str; 2] = [
    "snapkit store probe tried here what its credentials may do; this may be deleted (1)\n",
    "snapkit store probe tried here what its credentials may do; this may be deleted (2)\n",
];
/// How much of an object is looked at; the trial, `checkpoint` and `format` are shorter.
const LOOK_BYTES: u64 = 4096;

/// What a machine or a person does with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Restores and verifies.
    Reader,
    /// Keeps a node close behind the chain; in the store it only reads.
    Follower,
    /// Adds snapshots.
    Writer,
    /// Ends the retention of snapshots and deletes what nothing needs any more.
    Pruner,
    /// Refreshes the manifest.
    Manifest,
    /// Publishes roots and forks.
    Owner,
}

/// What can be done in one place of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// Read what is there, and be told what is missing.
    Read,
    /// List what is there.
    List,
    /// Add an object.
    Create,
    /// Put other bytes under a key that exists.
    Replace,
    /// Delete an object.
    Delete,
}

/// What a role is to have of a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Due {
    /// It does not work without.
    Needed,
    /// It may have it.
    Allowed,
    /// It should not have it, and this kind of store cannot withhold it.
    Inseparable,
    /// It must not have it.
    Beyond,
}

/// What trying a right showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// The credentials have it.
    Yes,
    /// The store refused it.
    No,
    /// It was not tried, or the answer was no answer.
    Unknown,
}

/// One right in one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RightCheck {
    /// The keys it is about: a prefix with `/` at its end, or one key.
    pub place: &'static str,
    /// What was tried.
    pub right: Right,
    /// What the role is to have.
    pub due: Due,
    /// What it has.
    pub found: Found,
    /// Why it is not known, or what else is to be said.
    pub reason: String,
}

impl RightCheck {
    /// Whether the credentials have what the role must not have.
    pub fn is_beyond(&self) -> bool {
        self.due == Due::Beyond && self.found == Found::Yes
    }

    /// Whether the credentials have not what the role needs.
    pub fn is_lacking(&self) -> bool {
        self.due == Due::Needed && self.found == Found::No
    }

    /// Whether it is open if the credentials fit.
    pub fn is_unproven(&self) -> bool {
        matches!(self.due, Due::Needed | Due::Beyond) && self.found == Found::Unknown
    }
}

/// What credentials may do, held against a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RightsReport {
    /// The store, without secrets.
    pub store: String,
    /// The role.
    pub role: Role,
    /// Every right in every place.
    pub checks: Vec<RightCheck>,
    /// Trials that the credentials may not delete.
    pub left: Vec<String>,
    /// Whether the credentials have what the role needs and nothing beyond it, all of it tried.
    pub fits: bool,
}

/// Places with many keys, and the two keys that stand alone.
const PREFIXES: [&str; 6] = ["chain/", "manifests/", "packs/", "root/", "segments/", "tile/"];
const KEYS: [&str; 2] = ["checkpoint", "format"];

impl Role {
    /// What this role is to have; the table of `docs/credentials.md`.
    pub fn due(self, place: &str, right: Right) -> Due {
        use Role::{Manifest, Owner, Pruner, Writer};
        match (right, place, self) {
            (Right::Read, ..) => Due::Needed,
            // A commit lists slots, and reuses only packs that it saw.
            (Right::List, "chain/", Writer | Pruner | Owner) | (Right::List, "packs/", Writer | Pruner) => Due::Needed,
            (Right::List, ..) => Due::Allowed,
            (Right::Create, "chain/" | "tile/", Writer | Pruner | Owner) => Due::Needed,
            (Right::Create, "packs/" | "segments/", Writer | Pruner) => Due::Needed,
            (Right::Create, "root/", Owner) | (Right::Create | Right::Replace, "manifests/", Manifest) => Due::Needed,
            (Right::Replace, "checkpoint", Writer | Pruner | Owner) => Due::Needed,
            // The same bytes again: how damage heals, and how a run that lost an answer goes on.
            (Right::Replace, "packs/" | "segments/", Writer | Pruner) => Due::Allowed,
            (Right::Replace, "tile/", Writer | Pruner | Owner) | (Right::Replace, "format", Owner) => Due::Allowed,
            (Right::Delete, "packs/" | "segments/", Pruner) => Due::Needed,
            _ => Due::Beyond,
        }
    }
}

/// Tries what the credentials of `store` may do, and holds it against `role`.
///
/// Never fails: whatever goes wrong is a line of the report.
pub fn rights(store: &dyn Store, role: Role) -> RightsReport {
    let mut trial = Trial { store, is_directory: !store.url().contains("://"), left: Vec::new() };
    let mut checks = Vec::new();
    for place in PREFIXES {
        for (right, (found, reason)) in trial.prefix(place) {
            checks.push(RightCheck { place, right, due: role.due(place, right), found, reason });
        }
    }
    for place in KEYS {
        for (right, (found, reason)) in trial.key(place) {
            checks.push(RightCheck { place, right, due: role.due(place, right), found, reason });
        }
    }
    if trial.is_directory {
        for check in &mut checks {
            let may_create = role.due(check.place, Right::Create) == Due::Needed;
            if may_create && check.due == Due::Beyond {
                check.due = Due::Inseparable;
                check.reason = "who may create files in a directory may also replace and delete them".to_owned();
            }
        }
    }
    let fits = !checks.iter().any(|check| check.is_beyond() || check.is_lacking() || check.is_unproven());
    RightsReport { store: store.url().to_owned(), role, checks, left: trial.left, fits }
}

type Answer = (Found, String);

fn yes() -> Answer {
    (Found::Yes, String::new())
}

fn no() -> Answer {
    (Found::No, String::new())
}

fn unknown(why: impl Into<String>) -> Answer {
    (Found::Unknown, why.into())
}

/// What an attempt says about the right to it.
fn answer(result: Result<(), StoreError>) -> Answer {
    match result {
        Ok(()) => yes(),
        Err(StoreError::Denied { .. } | StoreError::Unsupported { .. }) => no(),
        Err(error) => unknown(tell(error)),
    }
}

/// What a read says about the right to it.
fn readable(result: &Result<Bytes, StoreError>) -> Answer {
    match result {
        Ok(_) | Err(StoreError::Missing { .. } | StoreError::TooBig { .. }) => yes(),
        Err(StoreError::Denied { .. }) => {
            (Found::No, "reading is refused, or only what is missing: see docs/credentials.md".into())
        }
        Err(error) => unknown(error.to_string()),
    }
}

fn in_order(read: Answer, list: Answer, create: Answer, replace: Answer, delete: Answer) -> Vec<(Right, Answer)> {
    let rights = [Right::Read, Right::List, Right::Create, Right::Replace, Right::Delete];
    rights.into_iter().zip([read, list, create, replace, delete]).collect()
}

/// What is under the key of a trial.
#[derive(Clone, Copy, PartialEq, Eq)]
enum There {
    /// The object of this probe, or of an earlier one.
    Trial,
    Nothing,
    /// Something else, or nobody can say; it is left alone.
    Other,
}

/// A trial of one store.
struct Trial<'a> {
    store: &'a dyn Store,
    is_directory: bool,
    left: Vec<String>,
}

impl Trial<'_> {
    fn is_read_only(&self) -> bool {
        self.store.abilities().can_write == Ability::No
    }

    fn prefix(&mut self, place: &str) -> Vec<(Right, Answer)> {
        let key = format!("{place}{TRIAL}");
        let list = answer(self.store.list(place, None, &mut |_, _| {}));
        if self.is_read_only() {
            let [create, replace, delete] = [no(), no(), no()];
            return in_order(self.read(&key), list, create, replace, delete);
        }
        let (create, there) = self.create(&key);
        let replace = match there {
            There::Trial => answer(self.store.put(&key, Bytes::from_static(CONTENTS[1].as_bytes()))),
            There::Nothing if create.0 == Found::No => no(),
            _ => unknown("there is no object of the probe to replace"),
        };
        let read = self.read(&key);
        let delete = self.delete(&key, there, create.0);
        if there == There::Trial && delete.0 != Found::Yes {
            self.left.push(key);
        }
        in_order(read, list, create, replace, delete)
    }

    /// Whether an object can be read, or is told as missing: a store that says neither is no use to a reader.
    fn read(&self, key: &str) -> Answer {
        let answer = readable(&self.store.get(key, LOOK_BYTES));
        if answer.0 != Found::Yes {
            return answer;
        }
        readable(&self.store.get(&format!("{key}-missing"), LOOK_BYTES))
    }

    /// The right to create, and what is there now.
    fn create(&mut self, key: &str) -> (Answer, There) {
        match self.store.create(key, Bytes::from_static(CONTENTS[0].as_bytes())) {
            Ok(Created::Yes) => (yes(), There::Trial),
            Ok(Created::Exists) => (yes(), self.look(key)),
            Ok(Created::Unknown(error)) => (unknown(tell(error)), self.look(key)),
            Err(error) => match self.look(key) {
                // Some stores ask for the right to replace before they look whether the condition holds.
                There::Trial => (self.create_another(key), There::Trial),
                there => (answer(Err(error)), there),
            },
        }
    }

    /// The right to create under a name that is new.
    fn create_another(&mut self, key: &str) -> Answer {
        let mut random = [0; 8];
        if let Err(error) = getrandom::fill(&mut random) {
            return unknown(error.to_string());
        }
        let key = format!("{key}-{:016x}", u64::from_le_bytes(random));
        let created = self.store.create(&key, Bytes::from_static(CONTENTS[0].as_bytes()));
        if matches!(created, Ok(Created::Yes | Created::Unknown(_))) && self.store.delete(&key).is_err() {
            self.left.push(key);
        }
        match created {
            Ok(Created::Unknown(error)) => unknown(tell(error)),
            other => answer(other.map(drop)),
        }
    }

    fn look(&self, key: &str) -> There {
        match self.store.get(key, LOOK_BYTES) {
            Ok(bytes) if bytes.starts_with(CONTENTS_BEGIN.as_bytes()) => There::Trial,
            Err(StoreError::Missing { .. }) => There::Nothing,
            _ => There::Other,
        }
    }

    fn delete(&self, key: &str, there: There, create: Found) -> Answer {
        match there {
            There::Other => return unknown(format!("{key} is not of a probe, or cannot be read")),
            // In a directory, deleting what is missing succeeds without any right to it.
            There::Nothing if self.is_directory && create == Found::No => return no(),
            There::Nothing if self.is_directory => return unknown("there is no object of the probe to delete"),
            There::Nothing | There::Trial => {}
        }
        match (answer(self.store.delete(key)), self.store.size(key)) {
            ((Found::Yes, _), Ok(_)) => unknown("the store said it was deleted, and it is still there"),
            (answer, _) => answer,
        }
    }

    /// One key that others need as it is: it is read, and created again, which an existing object refuses.
    fn key(&self, key: &'static str) -> Vec<(Right, Answer)> {
        let read = self.store.get(key, LOOK_BYTES);
        let replace = match &read {
            _ if self.is_read_only() => no(),
            Err(_) => unknown("it is not there, or cannot be read"),
            // With its own bytes, should somebody delete it in this moment.
            Ok(bytes) => match self.store.create(key, bytes.clone()) {
                // A sticky directory lets files be added that may not be replaced.
                Ok(_) if self.is_directory => answer(self.store.put(key, bytes.clone())),
                Ok(Created::Yes | Created::Exists) => yes(),
                Ok(Created::Unknown(error)) => unknown(tell(error)),
                Err(error) => answer(Err(error)),
            },
        };
        vec![(Right::Read, readable(&read)), (Right::Replace, replace)]
    }
}
