//! The chain in a store: its newest record, any record, all records, and the next one.
//!
//! A [`Chain`] exists only after the roots were verified from a pin; everything it returns was verified under the
//! newest root. Marks of the trust directory rise after all checks. Rules between records: `manifests::chain`;
//! documented in `docs/format/store.md` and `docs/format/record.md`. Layer: joins `store`, `trust` and `manifests`.

mod ancestry;
mod commit;
pub mod edge;
mod error;
mod fence;
mod fork;
pub mod fork_proof;
mod head;
mod holds;
mod lineage;
mod reroot;
mod slots;
mod tiles;
mod walk;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::Timestamp;
use manifests::chain;
use manifests::digest::Digest;
use manifests::document::receipt::HeadName;
use manifests::document::record::{Body, Record, SegmentRef, Void};
use manifests::document::rollback::Rollback;
use manifests::document::root::Root;
use manifests::refusal::{Class, Refusal};

use crate::leadership::Leadership;
use crate::store::Store;
use crate::trust::{self, Pin, TrustDir};

pub(crate) use commit::fresh_nonce;
pub use commit::{Commit, Committed};
pub use error::ChainError;
pub use fence::FenceDone;
pub use head::{Newest, parse_checkpoint};
pub use holds::{Holds, LastComplete};
pub use lineage::{Branch, Lineage};
pub use reroot::Voided;
pub(crate) use slots::key as slot_key;
pub use walk::{Problem, TilePolicy, Walk};

/// What records name as the tool that made them.
pub const TOOL: &str = concat!("snapkit ", env!("CARGO_PKG_VERSION"));
/// The object that says what a store is, for people and for refusing early.
pub const FORMAT_KEY: &str = "format";
/// What stands in it.
pub const FORMAT_LINE: &str = "snapkit store, format 0-draft\n";
/// The hint at the newest record.
pub const CHECKPOINT_KEY: &str = "checkpoint";
/// The longest checkpoint and format line that is read, in bytes.
const LINE_CAP: u64 = 256;

/// A chain under a verified root.
pub struct Chain<'a> {
    store: &'a dyn Store,
    trust: &'a TrustDir,
    pin: Pin,
    root: Root,
    first_root: Option<Bytes>,
    id: Digest,
    now: Timestamp,
    expired: Option<Refusal>,
    /// Who says whether this writer leads; `None` for a writer outside of lease groups.
    leadership: Option<&'a dyn Leadership>,
    /// What the last look-up of the head saw beyond it.
    looked: Mutex<Option<Looked>>,
    /// The newest record that was accepted in this run.
    accepted: Mutex<Option<HeadName>>,
    /// The forks that the record with this digest descends from.
    lineage: Mutex<Option<(Digest, Arc<Lineage>)>>,
}

/// The newest record of a look-up, and the void slots after it.
struct Looked {
    newest: Digest,
    voids: Vec<Void>,
}

impl<'a> Chain<'a> {
    /// Verifies the roots from the pin on, and which chain this is. One request for a chain that is known here.
    ///
    /// # Errors
    /// What the roots or genesis are refused for; a store that cannot be asked.
    pub fn open(store: &'a dyn Store, pin: Pin, trust: &'a TrustDir, now: Timestamp) -> Result<Self, ChainError> {
        Self::under(trust::newest_root(store, &pin.root, trust, now), store, pin, trust, now)
    }

    /// As [`Chain::open`], but an expired root is used; [`Chain::expired`] says so. For who was told to, with a reason.
    ///
    /// # Errors
    /// As [`Chain::open`], except for [`Class::Stale`].
    pub fn open_even_expired(
        store: &'a dyn Store,
        pin: Pin,
        trust: &'a TrustDir,
        now: Timestamp,
    ) -> Result<Self, ChainError> {
        Self::under(trust::newest_root_even_expired(store, &pin.root, trust, now), store, pin, trust, now)
    }

    /// As [`Chain::open`] under a root that may have expired: for whoever makes the next one.
    ///
    /// # Errors
    /// As [`Chain::open`], except for an expired root.
    pub fn open_expired(
        store: &'a dyn Store,
        pin: Pin,
        trust: &'a TrustDir,
        now: Timestamp,
    ) -> Result<Self, ChainError> {
        Self::under(trust::newest_root_of_any_age(store, &pin.root, trust), store, pin, trust, now)
    }

    fn under(
        roots: Result<trust::Roots, trust::TrustError>,
        store: &'a dyn Store,
        pin: Pin,
        trust: &'a TrustDir,
        now: Timestamp,
    ) -> Result<Self, ChainError> {
        let roots = match roots {
            Err(error) => return Err(newer_format(store, error.into())),
            Ok(roots) => roots,
        };
        let mut chain = Chain {
            store,
            trust,
            pin,
            root: roots.root,
            first_root: roots.first,
            id: pin.root,
            now,
            expired: roots.expired,
            leadership: None,
            looked: Mutex::default(),
            accepted: Mutex::default(),
            lineage: Mutex::default(),
        };
        chain.id = match trust.mark(&pin.root)? {
            Some(mark) => mark.chain,
            None => chain.genesis().map_err(|error| chain.blame(error))?.head.chain,
        };
        Ok(chain)
    }

    /// The store.
    pub fn store(&self) -> &'a dyn Store {
        self.store
    }

    /// The newest root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The digest of the genesis payload.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The pin that trust began with.
    pub fn pin(&self) -> &Pin {
        &self.pin
    }

    /// Why the root would be refused, if it has expired and is used all the same.
    pub fn expired(&self) -> Option<&Refusal> {
        self.expired.as_ref()
    }

    /// The time that this run judges expiry by.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Reads genesis from the store.
    fn genesis(&self) -> Result<Newest, ChainError> {
        let Some(bytes) = self.read_slot(0)? else {
            return Err(Refusal::new(Class::Missing, slots::key(0), "the first record of the chain", "no such object")
                .with_hint("if `snapkit init` was interrupted, run it again")
                .into());
        };
        let (record, head) = chain::first(&bytes, &self.pin.root, &self.root)?;
        Ok(Newest { record, head, envelope: bytes })
    }

    /// Reads the record in slot `seq`, verified by its signature and its number. One request.
    ///
    /// # Errors
    /// [`Class::Missing`] for a slot that is not there; what makes a slot void or unacceptable.
    pub fn record(&self, seq: u64) -> Result<Record, ChainError> {
        self.read_record(seq).map(|newest| newest.record).map_err(|error| self.blame(error))
    }

    /// As [`Chain::record`], with what the next record needs.
    fn read_record(&self, seq: u64) -> Result<Newest, ChainError> {
        if seq == 0 {
            return self.genesis();
        }
        let Some(envelope) = self.read_slot(seq)? else {
            return Err(Refusal::new(Class::Missing, slots::key(seq), "a record", "no such object").into());
        };
        let (record, head) = chain::trusted(&envelope, &self.id, seq, &self.root)?;
        Ok(Newest { record, head, envelope })
    }

    /// Says "another store" where the store has another first root than the pinned one, whatever was noticed first.
    ///
    /// A known root is not fetched again, so a store that was replaced shows in what its records are refused for.
    fn blame(&self, error: ChainError) -> ChainError {
        let class = error.refusal().map(Refusal::class);
        if !matches!(class, None | Some(Class::Newer | Class::TooMany | Class::RootPin))
            && let Ok(Some(found)) = trust::claimed_root(self.store)
            && found != self.pin.root
        {
            let expected = format!("the pinned root sha256:{}", self.pin.root);
            return Refusal::new(Class::RootPin, "root/1.json", expected, format!("sha256:{found}"))
                .with_hint("the store was replaced by another; check its address")
                .into();
        }
        error
    }

    /// What a document that came with the store is refused for, or that the store was replaced by another.
    pub fn refused(&self, refusal: Refusal) -> ChainError {
        self.blame(refusal.into())
    }

    /// The segments that hold from `newest` on. No request, unless other tools wrote records that leave them as before.
    ///
    /// # Errors
    /// What a record on the way back is refused for.
    pub fn segments(&self, newest: &Newest) -> Result<Vec<SegmentRef>, ChainError> {
        let mut record = newest.record.clone();
        if let Some(segments) = &newest.head.segments {
            return Ok(segments.clone());
        }
        loop {
            if let Some(segments) = record.header.segments {
                return Ok(segments);
            }
            let Some(seq) = previous_seq(&record) else {
                return Ok(Vec::new());
            };
            record = self.preceding(&record, seq)?;
        }
    }

    /// The last snapshot that was taken, up to `newest`; nothing where none was. One request for each other record.
    ///
    /// # Errors
    /// What a record on the way back is refused for.
    pub fn last_snapshot(&self, newest: &Newest) -> Result<Option<Record>, ChainError> {
        let is_snapshot = |record: &Record| matches!(record.body, Body::Snapshot(_));
        self.walk_back(&newest.record).find(|record| record.as_ref().map_or(true, is_snapshot)).transpose()
    }

    /// The snapshot that counts as the latest: the last one, or the one that a rollback after it names.
    ///
    /// # Errors
    /// What a record on the way back is refused for; [`Class::Type`] for a rollback to what is no snapshot,
    /// [`Class::Mix`] for one to a record that the chain does not have there.
    pub fn latest_snapshot(&self, newest: &Newest) -> Result<Option<Record>, ChainError> {
        for record in self.walk_back(&newest.record) {
            let record = record?;
            match &record.body {
                Body::Snapshot(_) => return Ok(Some(record)),
                Body::Rollback(rollback) => return self.rolled_back_to(&record, rollback, newest).map(Some),
                _ => {}
            }
        }
        Ok(None)
    }

    fn rolled_back_to(&self, record: &Record, rollback: &Rollback, newest: &Newest) -> Result<Record, ChainError> {
        let object = format!("record {}", record.header.seq);
        let target = self.record_under(rollback.target.seq, newest)?;
        if target.digest != rollback.target.digest {
            let expected = format!("a rollback to record {}, {}", rollback.target.seq, target.digest);
            return Err(Refusal::new(Class::Mix, object, expected, rollback.target.digest).into());
        }
        if !matches!(target.body, Body::Snapshot(_)) {
            let found = format!("one to record {}, a {} record", rollback.target.seq, target.body.kind());
            return Err(Refusal::new(Class::Type, object, "a rollback to a snapshot", found).into());
        }
        Ok(target)
    }

    /// The valid record before `record`, which lies in slot `seq`.
    fn preceding(&self, record: &Record, seq: u64) -> Result<Record, ChainError> {
        let before = self.record(seq)?;
        check_preceding(&before, record)?;
        Ok(before)
    }
}

/// Refuses a record that is not the one its successor names.
fn check_preceding(before: &Record, record: &Record) -> Result<(), Refusal> {
    let expected = record.header.previous;
    let object = format!("record {}", before.header.seq);
    if expected == Some(before.digest) {
        // A fork may go back to a record from before a fence; nothing else lowers the term.
        if before.header.term > record.header.term && !matches!(record.body, Body::Fork(_)) {
            let expected =
                format!("term {} or later, as in record {} before it", before.header.term, before.header.seq);
            let object = format!("record {}", record.header.seq);
            return Err(Refusal::new(Class::Fenced, object, expected, format!("term {}", record.header.term)));
        }
        return Ok(());
    }
    let expected = expected.map_or("none".to_owned(), |digest| digest.to_string());
    Err(Refusal::new(
        Class::Mix,
        object,
        format!("the record that record {} follows, {expected}", record.header.seq),
        before.digest,
    ))
}

/// The slot of the valid record before `record`; none before genesis.
fn previous_seq(record: &Record) -> Option<u64> {
    if let Body::Fork(fork) = &record.body {
        return Some(fork.keep.seq);
    }
    record.header.seq.checked_sub(1 + record.header.void.len() as u64)
}

/// Says "newer" instead of "damaged" when the store itself says that it has another format.
fn newer_format(store: &dyn Store, error: ChainError) -> ChainError {
    let foreign = matches!(error.refusal().map(Refusal::class), Some(Class::Json | Class::Type | Class::Missing));
    let Some(line) = foreign.then(|| store.get(FORMAT_KEY, LINE_CAP).ok()).flatten() else {
        return error;
    };
    let line = String::from_utf8_lossy(&line).lines().next().unwrap_or_default().to_owned();
    match line.strip_prefix("snapkit store, format ") {
        Some(format) if line != FORMAT_LINE.trim_end() => {
            let shown: String = format.chars().take(40).flat_map(char::escape_debug).collect();
            Refusal::new(Class::Newer, FORMAT_KEY, "format 0-draft", format!("format {shown}")).into()
        }
        _ => error,
    }
}

/// The name of a snapshot for people: `snap-<UTC YYYYMMDDHH>-<first 8 hex of the digest>`.
pub fn name(time: Timestamp, digest: &Digest) -> String {
    let hour = time.strftime("%Y%m%d%H");
    format!("snap-{hour}-{}", &digest.to_string()[..8])
}

/// The name of a record for people; only snapshots have one.
pub fn record_name(record: &Record) -> Option<String> {
    matches!(record.body, Body::Snapshot(_)).then(|| name(record.header.time, &record.digest))
}

#[cfg(test)]
mod fence_tests;
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod fork_tests;
#[cfg(test)]
mod tests;
