//! Editing: the steps from one root to the next, and what a step changed.
//!
//! Each function does one thing that a person asks for and refuses what makes no sense; that the result is a root is
//! judged by [`RootDocument::payload`] as ever. Documented in `docs/format/root.md`. Layer: pure.

use jiff::Timestamp;

use super::{KeptRecord, Key, ROLES, Role, RootDocument, WriterRange};
use crate::keys::{KeyId, PublicKey};

/// Why a step makes no sense. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no such role.
    #[error("there is no role {0}; the roles are drill, manifest, node, prune, release, root and writer")]
    NoRole(String),
    /// The key has the role already.
    #[error("key {key} has the role {role} already")]
    Has {
        /// The key.
        key: KeyId,
        /// The role.
        role: String,
    },
    /// The key does not have the role.
    #[error("key {key} does not have the role {role}")]
    HasNot {
        /// The key.
        key: KeyId,
        /// The role.
        role: String,
    },
    /// The role would have fewer keys than it takes signatures.
    #[error("role {role} takes {threshold} signatures and would have {keys} keys; lower the threshold first")]
    Threshold {
        /// The role.
        role: String,
        /// How many signatures it takes.
        threshold: u32,
        /// How many keys it would have.
        keys: usize,
    },
    /// Nobody could make the next root.
    #[error("the last key of the role root cannot be removed; add another one first")]
    LastOwner,
    /// Nothing gathers several signatures for this role.
    #[error("documents of the role {0} are signed by one key; only root and release can take more than one")]
    OneSigner(String),
    /// A threshold that no number of signatures meets, or that none does.
    #[error("role {role} has {keys} keys, so its threshold is from 1 to {keys}")]
    NoSuchThreshold {
        /// The role.
        role: String,
        /// How many keys it has.
        keys: usize,
    },
    /// The key may sign at these numbers already.
    #[error("writer {key} may sign from record {from_seq} on already; end that range first")]
    Overlap {
        /// The key.
        key: KeyId,
        /// Where its range begins.
        from_seq: u64,
    },
}

/// One difference between two root documents, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A key got a role.
    Added {
        /// The key.
        key: KeyId,
        /// The role.
        role: String,
    },
    /// A key lost a role.
    Removed {
        /// The key.
        key: KeyId,
        /// The role.
        role: String,
    },
    /// A role takes another number of signatures; 0 where there is no such role.
    Threshold {
        /// The role.
        role: String,
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// A writer may sign these numbers from now on.
    Range(WriterRange),
    /// A writer may not sign these numbers any more.
    NoRange(WriterRange),
    /// The owner vouches for a record.
    Kept(KeptRecord),
    /// The owner no longer vouches for a record.
    NotKept(KeptRecord),
    /// It expires at another time.
    Expires {
        /// Before.
        from: Timestamp,
        /// After.
        to: Timestamp,
    },
}

impl RootDocument {
    /// The version after this one, with the same keys and roles.
    #[must_use]
    pub fn next(&self, issued: Timestamp, expires: Timestamp) -> RootDocument {
        RootDocument { version: self.version + 1, issued, expires, ..self.clone() }
    }

    /// Gives a key a role other than `writer`.
    ///
    /// # Errors
    /// [`EditError::NoRole`], [`EditError::Has`].
    pub fn add_key(&mut self, key: &PublicKey, role: &str) -> Result<(), EditError> {
        if !ROLES.contains(&role) {
            return Err(EditError::NoRole(role.to_owned()));
        }
        let id = key.id();
        let at = self.roles.binary_search_by(|listed| listed.name.as_str().cmp(role));
        match at {
            Err(at) => self.roles.insert(at, Role { name: role.to_owned(), keys: vec![id], threshold: 1 }),
            Ok(at) => match self.roles[at].keys.binary_search(&id) {
                Ok(_) => return Err(EditError::Has { key: id, role: role.to_owned() }),
                Err(place) => self.roles[at].keys.insert(place, id),
            },
        }
        if let Err(at) = self.keys.binary_search_by(|listed| listed.id.cmp(&id)) {
            self.keys.insert(at, Key::from(key));
        }
        Ok(())
    }

    /// Lets a key write from `from_seq` on, up to and without `until_seq`; a key that wrote before may write again.
    ///
    /// # Errors
    /// [`EditError::Overlap`].
    pub fn add_writer(&mut self, key: &PublicKey, from_seq: u64, until_seq: Option<u64>) -> Result<(), EditError> {
        let id = key.id();
        let meets = |range: &&WriterRange| {
            range.key == id
                && range.until_seq.is_none_or(|until| from_seq < until)
                && until_seq.is_none_or(|until| range.from_seq < until)
        };
        if let Some(range) = self.writers.iter().find(meets) {
            return Err(EditError::Overlap { key: id, from_seq: range.from_seq });
        }
        match self.add_key(key, "writer") {
            Ok(()) | Err(EditError::Has { .. }) => {}
            Err(error) => return Err(error),
        }
        self.writers.push(WriterRange { key: id, from_seq, until_seq });
        self.writers.sort_by_key(|range| (range.key, range.from_seq));
        Ok(())
    }

    /// Takes a role other than `writer` from a key; a key without a role is no longer listed.
    ///
    /// # Errors
    /// [`EditError::HasNot`], [`EditError::Threshold`], [`EditError::LastOwner`].
    pub fn remove_key(&mut self, key: &KeyId, role: &str) -> Result<(), EditError> {
        let has_not = || EditError::HasNot { key: *key, role: role.to_owned() };
        let at = self.roles.iter().position(|listed| listed.name == role).ok_or_else(has_not)?;
        let place = self.roles[at].keys.binary_search(key).map_err(|_| has_not())?;
        let (left, threshold) = (self.roles[at].keys.len() - 1, self.roles[at].threshold);
        if left == 0 && role == "root" {
            return Err(EditError::LastOwner);
        }
        if left > 0 && threshold as usize > left {
            return Err(EditError::Threshold { role: role.to_owned(), threshold, keys: left });
        }
        self.roles[at].keys.remove(place);
        if left == 0 {
            // A role without keys is one that is not there: nobody may sign for it.
            self.roles.remove(at);
        }
        if self.roles.iter().all(|listed| !listed.keys.contains(key)) {
            self.keys.retain(|listed| listed.id != *key);
        }
        Ok(())
    }

    /// Ends what a writer may sign: nothing from `until_seq` on. What it signed before stays valid.
    ///
    /// # Errors
    /// [`EditError::HasNot`] if it may sign nothing there.
    pub fn retire_writer(&mut self, key: &KeyId, until_seq: u64) -> Result<(), EditError> {
        let ends_later =
            |range: &WriterRange| range.key == *key && range.until_seq.is_none_or(|until| until > until_seq);
        if !self.writers.iter().any(ends_later) {
            return Err(EditError::HasNot { key: *key, role: format!("writer from record {until_seq} on") });
        }
        let ranges = std::mem::take(&mut self.writers);
        self.writers = ranges
            .into_iter()
            .map(|range| if ends_later(&range) { WriterRange { until_seq: Some(until_seq), ..range } } else { range })
            .filter(|range| range.until_seq.is_none_or(|until| range.from_seq < until))
            .collect();
        if self.writers.iter().all(|range| range.key != *key) {
            // It never signed anything that counts.
            self.remove_key(key, "writer")?;
        }
        Ok(())
    }

    /// Sets how many signatures a role takes.
    ///
    /// # Errors
    /// [`EditError::NoRole`], [`EditError::OneSigner`], [`EditError::NoSuchThreshold`].
    pub fn set_threshold(&mut self, role: &str, threshold: u32) -> Result<(), EditError> {
        let no_role = || EditError::NoRole(role.to_owned());
        let listed = self.roles.iter_mut().find(|listed| listed.name == role).ok_or_else(no_role)?;
        if threshold > 1 && !super::lint::SEVERAL_SIGNERS.contains(&role) {
            return Err(EditError::OneSigner(role.to_owned()));
        }
        if threshold == 0 || threshold as usize > listed.keys.len() {
            return Err(EditError::NoSuchThreshold { role: role.to_owned(), keys: listed.keys.len() });
        }
        listed.threshold = threshold;
        Ok(())
    }

    /// Vouches for a record whose signers leave their role. Vouching twice changes nothing.
    pub fn keep(&mut self, record: KeptRecord) {
        let kept = self.kept.get_or_insert_default();
        if let Err(at) = kept.binary_search_by_key(&record.seq, |kept| kept.seq) {
            kept.insert(at, record);
        }
    }

    /// What is different in `next`.
    pub fn changes(&self, next: &RootDocument) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in ROLES {
            let of = |document: &RootDocument| document.roles.iter().find(|role| role.name == *name).cloned();
            let none = Role { name: (*name).to_owned(), keys: Vec::new(), threshold: 0 };
            let (old, new) = (of(self).unwrap_or(none.clone()), of(next).unwrap_or(none));
            let role = || (*name).to_owned();
            let gone = old.keys.iter().filter(|key| !new.keys.contains(key));
            changes.extend(gone.map(|key| Change::Removed { key: *key, role: role() }));
            let come = new.keys.iter().filter(|key| !old.keys.contains(key));
            changes.extend(come.map(|key| Change::Added { key: *key, role: role() }));
            if old.threshold != new.threshold {
                changes.push(Change::Threshold { role: role(), from: old.threshold, to: new.threshold });
            }
        }
        let gone = self.writers.iter().filter(|range| !next.writers.contains(range));
        changes.extend(gone.cloned().map(Change::NoRange));
        let come = next.writers.iter().filter(|range| !self.writers.contains(range));
        changes.extend(come.cloned().map(Change::Range));
        let kept = |document: &RootDocument| document.kept.clone().unwrap_or_default();
        let (old, new) = (kept(self), kept(next));
        changes.extend(old.iter().filter(|record| !new.contains(record)).cloned().map(Change::NotKept));
        changes.extend(new.iter().filter(|record| !old.contains(record)).cloned().map(Change::Kept));
        if self.expires != next.expires {
            changes.push(Change::Expires { from: self.expires, to: next.expires });
        }
        changes
    }
}
