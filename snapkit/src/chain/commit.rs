//! The commit: one record created in the next slot, or nothing.
//!
//! Creating the slot is the commit. What lies beyond the base is looked at before and after, doubtful answers are read
//! back, and everything that follows (mark, checkpoint, tiles) is only a help for the next reader.
//! Documented in `docs/format/store.md`, "Commit". Layer: part of `chain`.

use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::record::{Body, Header, Nonce, SegmentRef, Void, Writer, payload};
use manifests::envelope;
use manifests::keys::Signer;
use manifests::log::EMPTY;
use manifests::refusal::{Class, Refusal};

use super::head::Beyond;
use super::{CHECKPOINT_KEY, Chain, ChainError, Newest, TOOL, slots};
use crate::store::{Created, StoreError};

/// How often the same bytes are offered while the slot stays empty.
const ATTEMPTS: u32 = 5;
/// The pause before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// What became of a commit.
#[derive(Debug)]
#[must_use]
pub enum Commit {
    /// The record is in the chain.
    Done(Box<Committed>),
    /// Another writer was first; nothing of this run is in the chain. Plan again on the new head.
    Lost {
        /// The newest record seen.
        newer: u64,
    },
}

/// A record that is in the chain.
#[derive(Debug)]
pub struct Committed {
    /// Its slot.
    pub seq: u64,
    /// The digest of its payload.
    pub digest: Digest,
    /// Its name for people.
    pub name: String,
    /// The record, and where the next one goes on.
    pub newest: Newest,
    /// What could not be written afterwards. The record is committed all the same.
    pub warnings: Vec<String>,
}

/// What became of a slot.
pub(super) enum Slot {
    /// It holds the record made here.
    Ours,
    /// It holds these bytes.
    Taken(Bytes),
}

impl Chain<'_> {
    /// Adds a record after `base`, which is the head that it was planned on.
    ///
    /// `segments` are those from this record on; without them, those of `base`, and nothing was stored. If nothing is
    /// in the way: a listing (if something was stored), the create, a listing, and two puts of hints.
    ///
    /// # Errors
    /// Before the create: whatever stops a reader, and a signer that the root does not allow; nothing was written.
    /// [`ChainError::Unknown`] if the store never gave a clear answer. [`ChainError::Split`] if records lie beyond that do
    /// not follow; the chain needs its owner then.
    pub fn commit(
        &self,
        base: &Head,
        body: &Body,
        segments: Option<Vec<SegmentRef>>,
        signer: &dyn Signer,
        node: &str,
        now: Timestamp,
    ) -> Result<Commit, ChainError> {
        // A run that stored nothing comes straight from its look-up of the head; that listing serves for this one too.
        let looked = if segments.is_none() { self.looked_at(base) } else { None };
        let mut voids = match looked {
            Some(voids) => voids,
            None => match self.newest_beyond(base)? {
                Beyond { newest: Some(newer), .. } => return Ok(Commit::Lost { newer: newer.head.seq }),
                Beyond { voids, .. } => voids,
            },
        };
        self.check_leads(base, body.kind(), signer)?;
        // The list is written even if it did not change: the head alone is then enough for the next writer.
        let segments = segments.or_else(|| base.segments.clone());
        loop {
            let writer = Writer { key: signer.public().id(), node: node.to_owned(), tool: TOOL.to_owned() };
            let header = base.next_header(&voids, now, fresh_nonce()?, writer)?;
            let header = Header { segments: segments.clone(), ..header };
            let made = self.make(base, &voids, &header, body, signer)?;
            match self.create_slot(&made)? {
                Slot::Ours => {
                    return self.finish(base, voids.len() as u64, made).map(|done| Commit::Done(Box::new(done)));
                }
                Slot::Taken(bytes) => match chain::is_void(&bytes, &self.id, made.head.seq, &self.root)? {
                    None => return Ok(Commit::Lost { newer: made.head.seq }),
                    // Bytes that are no record took the number; the next one is as good.
                    Some(void) => voids.push(void),
                },
            }
        }
    }

    /// The void slots after `base`, if the last look-up of this run found it to be the head. It serves one commit.
    fn looked_at(&self, base: &Head) -> Option<Vec<Void>> {
        let looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner).take();
        looked.filter(|looked| looked.newest == base.digest).map(|looked| looked.voids)
    }

    /// Makes the record and reads it as any reader will, so that nothing unacceptable is ever created.
    pub(super) fn make(
        &self,
        base: &Head,
        voids: &[Void],
        header: &Header,
        body: &Body,
        signer: &dyn Signer,
    ) -> Result<Newest, ChainError> {
        let (payload_type, payload) = payload(header, body)?;
        let envelope = envelope::sign(payload_type, &payload, &[signer])?;
        let (record, head) = chain::next(base, voids, &envelope, &self.root)?;
        Ok(Newest { record, head, envelope: envelope.into() })
    }

    /// Creates the slot, and reads it back after anything but clear success.
    pub(super) fn create_slot(&self, made: &Newest) -> Result<Slot, ChainError> {
        let seq = made.head.seq;
        let key = slots::key(seq);
        let mut doubt: Option<StoreError> = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                thread::sleep(PAUSE * 2u32.pow(attempt - 1));
            }
            match self.store.create(&key, made.envelope.clone()) {
                Ok(Created::Yes) => return Ok(Slot::Ours),
                Ok(Created::Exists) => {}
                Ok(Created::Unknown(error)) => doubt = Some(error),
                // An earlier attempt that looked lost may still land.
                Err(source) if doubt.is_some() => return Err(ChainError::Unknown { seq, source }),
                Err(error) => return Err(error.into()),
            }
            match self.read_slot(seq) {
                Ok(Some(bytes)) if self.is_same(&bytes, made) => return Ok(Slot::Ours),
                Ok(Some(bytes)) => return Ok(Slot::Taken(bytes)),
                Ok(None) => {}
                Err(ChainError::Store(error)) => doubt = Some(error),
                Err(error) => return Err(error),
            }
        }
        let absent = || StoreError::Missing { key, store: self.store.url().to_owned() };
        Err(ChainError::Unknown { seq, source: doubt.unwrap_or_else(absent) })
    }

    fn is_same(&self, bytes: &Bytes, made: &Newest) -> bool {
        let digest = || chain::trusted(bytes, &self.id, made.head.seq, &self.root).map(|(record, _)| record.digest);
        *bytes == made.envelope || digest() == Ok(made.record.digest)
    }

    /// Everything after the create: the look beyond, the mark, the hints. `passed` slots lie between base and record.
    pub(super) fn finish(&self, base: &Head, passed: u64, made: Newest) -> Result<Committed, ChainError> {
        let mut warnings = Vec::new();
        if let Err(error) = self.look_beyond(&made) {
            match error {
                ChainError::Store(_) => warnings.push(told("cannot look beyond the new record", &error)),
                error => return Err(error),
            }
        }
        if let Err(error) = self.accept(&made) {
            warnings.push(told("cannot remember the new record", &error));
        }
        let Head { seq, digest, time, .. } = made.head;
        // What the checkpoint names was left behind by a fork.
        let is_fork = matches!(made.record.body, Body::Fork(_));
        let added = (0..passed).map(|_| EMPTY).chain([digest]);
        match self.write_tiles(base, added) {
            // The checkpoint comes last: up to where it points, all tiles are there.
            // A commit that fills a tile writes two, and leaves the checkpoint to the next: it may lag.
            Ok(tiles) if tiles <= 1 || is_fork => {
                if let Err(error) = self.store.put(CHECKPOINT_KEY, format!("{seq} {digest}\n").into()) {
                    warnings.push(told("cannot write the checkpoint; the next snapshot does", &error));
                }
            }
            Ok(_) => {}
            Err(error) => warnings.push(told("cannot write the tiles; the next snapshot does", &error)),
        }
        Ok(Committed { seq, digest, name: super::name(time, &digest), newest: made, warnings })
    }

    /// Whether what lies beyond the new record follows from it. Otherwise a writer saw slots that this one did not.
    fn look_beyond(&self, made: &Newest) -> Result<(), ChainError> {
        let seq = made.head.seq;
        let slots = self.slots_from(seq + 1)?;
        let mut voids = Vec::new();
        for at in seq + 1..=slots.row_end.unwrap_or(seq) {
            let Some(bytes) = self.read_slot(at)? else {
                break;
            };
            match chain::step(&made.head, &mut voids, &bytes, &self.root) {
                Ok(None) => {}
                Ok(Some(_)) => return Ok(()),
                Err(refusal) if matches!(refusal.class(), Class::Newer | Class::TooMany) => return Ok(()),
                Err(refusal) => return Err(self.split_at(made, &bytes, refusal)),
            }
        }
        for at in slots.beyond {
            let Some(bytes) = self.read_slot(at)? else {
                continue;
            };
            if matches!(chain::is_void(&bytes, &self.id, at, &self.root), Ok(None)) {
                let expected = format!("no record beyond {seq}");
                let refusal = Refusal::new(Class::Fork, slots::key(at), expected, "a valid record");
                return Err(self.split_at(made, &bytes, refusal));
            }
        }
        Ok(())
    }

    fn split_at(&self, made: &Newest, other: &Bytes, source: Refusal) -> ChainError {
        match self.keep_fork_proof([&made.envelope, other]) {
            Ok(file) => ChainError::Split { file, source: Box::new(source) },
            Err(_) => source.into(),
        }
    }
}

pub(crate) fn fresh_nonce() -> Result<Nonce, ChainError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(ChainError::Random)?;
    Ok(Nonce(bytes))
}

/// An error with all its causes, in one line.
fn told(what: &str, error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.fold(what.to_owned(), |line, cause| format!("{line}: {cause}"))
}
