//! The newest record: found with few requests, from what is known here and from what the store hints at.
//!
//! Starting points are the mark of the trust directory, else the checkpoint, else genesis. Beyond the starting point one
//! listing (or a few lengths asked) shows whether there is more. The head must follow from the mark: by the walk if
//! it is near, else by the tiles. The mark rises last. Documented in `docs/format/store.md`, "Finding the head".
//! Layer: part of `chain`.

use std::path::PathBuf;
use std::sync::PoisonError;

use bytes::Bytes;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::receipt::HeadName;
use manifests::document::record::{RECORD_CAP, Record, VOIDS_CAP, Void};
use manifests::refusal::{Class, Refusal};

use super::{CHECKPOINT_KEY, Chain, ChainError, LINE_CAP, Looked, slots};
use crate::store::StoreError;
use crate::trust::{Mark, Minimum, file};

/// The farthest that a head is walked to; beyond, tiles are cheaper.
const WALK_SLOTS: u64 = 4;

/// A verified record with the state after it.
#[derive(Debug, Clone)]
pub struct Newest {
    /// The record.
    pub record: Record,
    /// Where the next record goes on.
    pub head: Head,
    /// Its envelope.
    pub(super) envelope: Bytes,
}

impl Chain<'_> {
    /// The newest valid record. Raises the mark after all checks.
    ///
    /// For a chain that did not change: the record that the mark names, and a listing. For a reader without a mark: the
    /// checkpoint, the record it names, and a listing.
    ///
    /// # Errors
    /// [`Class::Rollback`] if the store shows less than was verified here before or than the pin asks for;
    /// [`Class::Fork`] if it shows another record in a place verified before; [`Class::Newer`] if a record needs a newer
    /// snapkit; [`Class::Missing`] if a valid record lies beyond a missing slot; [`Class::TooMany`] after more than 64
    /// void slots.
    pub fn head(&self) -> Result<Newest, ChainError> {
        let newest = self.look()?;
        self.remember(&newest)?;
        Ok(newest)
    }

    /// As [`Chain::head`], without raising the mark: for a caller that has more to check.
    ///
    /// # Errors
    /// As [`Chain::head`].
    pub fn look(&self) -> Result<Newest, ChainError> {
        self.find_head().map_err(|error| self.blame(error))
    }

    /// Raises the mark to a head that [`Chain::look`] gave.
    ///
    /// # Errors
    /// [`ChainError::Trust`] when the trust directory cannot be written.
    pub fn remember(&self, newest: &Newest) -> Result<(), ChainError> {
        self.accept(newest).map_err(|error| self.blame(error))?;
        let Head { seq, epoch, digest, time, .. } = newest.head;
        *self.accepted.lock().unwrap_or_else(PoisonError::into_inner) = Some(HeadName { seq, epoch, digest, time });
        Ok(())
    }

    /// The newest record that [`Chain::head`] gave in this run.
    pub fn accepted(&self) -> Option<HeadName> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn find_head(&self) -> Result<Newest, ChainError> {
        let mark = self.trust.mark(&self.pin.root)?;
        let (newest, voids) = match mark {
            Some(mark) => self.head_from_mark(&mark)?,
            None => {
                let base = self.hinted()?;
                let beyond = self.newest_beyond(&base.head)?;
                let newest = beyond.newest.map_or(base, |newest| *newest);
                // A writer's word is not enough for an epoch: the owner's forks must be there.
                self.lineage(&newest)?;
                self.check_fence(&newest)?;
                (newest, beyond.voids)
            }
        };
        if let Some(min) = &self.pin.min {
            self.check_minimum(min, &newest)?;
        }
        *self.looked.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Looked { newest: newest.head.digest, voids });
        Ok(newest)
    }

    /// The newest record, and the void slots after it.
    fn head_from_mark(&self, mark: &Mark) -> Result<(Newest, Vec<Void>), ChainError> {
        let base = match self.marked(mark) {
            Ok(base) => base,
            Err(error) => return self.head_of_fork(mark, error),
        };
        let Beyond { newest, voids } = self.newest_beyond(&base.head)?;
        let Some(newest) = newest.map(|newest| *newest) else {
            return Ok((base, voids));
        };
        if newest.head.epoch > mark.epoch {
            self.check_forked(mark, &newest)?;
            self.check_fence(&newest)?;
            return Ok((newest, voids));
        }
        let seq = newest.head.seq;
        if seq - mark.seq > WALK_SLOTS && self.proves(&newest.head.log, mark.seq, &mark.digest) {
            if newest.head.term < base.head.term {
                let expected = format!("term {} or later, which was verified here before", base.head.term);
                let found = format!("term {}", newest.head.term);
                return Err(Refusal::new(Class::Fenced, slots::key(seq), expected, found).into());
            }
            if newest.head.fence != base.head.fence {
                self.check_fence(&newest)?;
            }
            return Ok((newest, voids));
        }
        Ok((self.walk_to(base, seq)?, voids))
    }

    /// The newest record of a store without the marked one, if its owner forked the chain; else `error` stands.
    fn head_of_fork(&self, mark: &Mark, error: ChainError) -> Result<(Newest, Vec<Void>), ChainError> {
        // Also a record that counts no longer, because its key was retired before the chain was forked.
        if error.refusal().is_none_or(|refusal| refusal.class() == Class::Newer) {
            return Err(error);
        }
        let Ok(base) = self.hinted() else { return Err(error) };
        let Ok(Beyond { newest, voids }) = self.newest_beyond(&base.head) else { return Err(error) };
        let newest = newest.map_or(base, |newest| *newest);
        if newest.head.epoch <= mark.epoch {
            return Err(error);
        }
        self.check_forked(mark, &newest)?;
        self.check_fence(&newest)?;
        Ok((newest, voids))
    }

    /// The record that the mark names. It is always read from the store, which may have been replaced.
    fn marked(&self, mark: &Mark) -> Result<Newest, ChainError> {
        let Some(envelope) = self.read_slot(mark.seq)? else {
            return Err(rolled_back(mark.seq, &mark.digest, "no such object"));
        };
        match chain::trusted(&envelope, &self.id, mark.seq, &self.root) {
            Ok((record, _)) if record.digest != mark.digest && record.header.epoch < mark.epoch => {
                let found = format!("one of epoch {}, from before the owner's fork", record.header.epoch);
                Err(rolled_back(mark.seq, &mark.digest, &found))
            }
            Ok((record, _)) if record.digest != mark.digest => Err(self.split(mark, &record, &envelope)),
            Ok((record, head)) => Ok(Newest { record, head, envelope }),
            // The slot was damaged after it was verified: the copy made then is as good, and older snapshots stay
            // within reach. `verify` names the damage.
            Err(refusal) => match self.cached_head(mark) {
                Some(newest) if matches!(self.blame(refusal.clone().into()).refusal(), Some(same) if *same == refusal) => {
                    Ok(newest)
                }
                _ => Err(refusal.into()),
            },
        }
    }

    /// The refusal of another record in the place of the marked one, with both written down as proof if both are here.
    fn split(&self, mark: &Mark, found: &Record, envelope: &[u8]) -> ChainError {
        let refusal = forked(mark.seq, &mark.digest, found);
        let cached = self.cached_head(mark);
        match cached.and_then(|cached| self.keep_fork_proof([&cached.envelope, envelope]).ok()) {
            Some(file) => ChainError::Split { file, source: Box::new(refusal) },
            None => refusal.into(),
        }
    }

    /// Where a reader without a mark begins: the record that the checkpoint names, or genesis.
    fn hinted(&self) -> Result<Newest, ChainError> {
        let hint = match self.store.get(CHECKPOINT_KEY, LINE_CAP) {
            Ok(line) => parse_checkpoint(&line),
            Err(StoreError::Missing { .. } | StoreError::TooBig { .. } | StoreError::Short { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        if let Some((seq, _)) = hint.filter(|(seq, _)| *seq > 0)
            && let Some(envelope) = self.read_slot(seq)?
        {
            // A hint that names no record is no reason to stop; a record that needs a newer snapkit is.
            match chain::trusted(&envelope, &self.id, seq, &self.root) {
                Ok((record, head)) => return Ok(Newest { record, head, envelope }),
                Err(refusal) if refusal.class() == Class::Newer => return Err(refusal.into()),
                Err(_) => {}
            }
        }
        self.genesis()
    }

    /// Looks for valid records after `base`. One listing if there are none.
    pub(super) fn newest_beyond(&self, base: &Head) -> Result<Beyond, ChainError> {
        let after = base.seq + 1;
        let slots = self.slots_from(after)?;
        let mut newest = None;
        let mut voids = Vec::new();
        for seq in (after..=slots.row_end.unwrap_or(base.seq)).rev() {
            match self.judge(seq)? {
                Judged::Record(record) => {
                    newest = Some(record);
                    break;
                }
                Judged::Void(void) => voids.push(void),
            }
            if voids.len() > VOIDS_CAP {
                let found = "more; a flood like this is not an accident";
                let object = format!("the slots from {seq}");
                return Err(Refusal::new(Class::TooMany, object, "at most 64 void slots in a row", found)
                    .with_hint("have the owner of the store remove what is not a record")
                    .into());
            }
        }
        // Slots are filled one by one, so what lies beyond a missing one is foreign, or the row was damaged.
        for seq in slots.beyond.iter().rev().take(VOIDS_CAP) {
            if matches!(self.judge(*seq)?, Judged::Record(_)) {
                let hole = slots.row_end.map_or(after, |end| end + 1);
                let expected = format!("a slot, because there is a record {seq}");
                return Err(Refusal::new(Class::Missing, slots::key(hole), expected, "no such object").into());
            }
        }
        voids.reverse();
        Ok(Beyond { newest, voids })
    }

    /// What a slot holds.
    fn judge(&self, seq: u64) -> Result<Judged, ChainError> {
        let Some(bytes) = self.read_slot(seq)? else {
            return Err(
                Refusal::new(Class::Missing, slots::key(seq), "a slot that was listed", "no such object").into()
            );
        };
        if let Some(void) = chain::is_void(&bytes, &self.id, seq, &self.root)? {
            return Ok(Judged::Void(void));
        }
        let (record, head) = chain::trusted(&bytes, &self.id, seq, &self.root)?;
        Ok(Judged::Record(Box::new(Newest { record, head, envelope: bytes })))
    }

    /// Walks from `base` to the record in slot `seq`.
    pub(super) fn walk_to(&self, base: Newest, seq: u64) -> Result<Newest, ChainError> {
        let (mut newest, mut voids) = (base, Vec::new());
        let mut first = newest.head.seq + 1;
        while first <= seq {
            let last = self.batch_end(first, seq);
            for (at, bytes) in self.read_slots(first, last)? {
                let Some(envelope) = bytes else {
                    let expected = format!("a slot, because there is a record {seq}");
                    return Err(Refusal::new(Class::Missing, slots::key(at), expected, "no such object").into());
                };
                if let Some((record, head)) = chain::step(&newest.head, &mut voids, &envelope, &self.root)? {
                    newest = Newest { record, head, envelope };
                }
            }
            first = last + 1;
        }
        Ok(newest)
    }

    /// Refuses a head that does not hold the record that the pin asks for.
    fn check_minimum(&self, min: &Minimum, newest: &Newest) -> Result<(), ChainError> {
        if newest.head.seq < min.seq {
            let found = format!("record {} as the newest", newest.head.seq);
            return Err(rolled_back(min.seq, &min.digest, &found));
        }
        if newest.head.seq > min.seq && self.proves(&newest.head.log, min.seq, &min.digest) {
            return Ok(());
        }
        let at = self.read_record(min.seq)?;
        if at.record.digest != min.digest {
            return Err(forked(min.seq, &min.digest, &at.record).into());
        }
        self.check_in_chain(&at, newest)
    }

    /// Remembers a head that passed every check.
    pub(super) fn accept(&self, newest: &Newest) -> Result<(), ChainError> {
        let Head { epoch, seq, digest, time, .. } = newest.head;
        let root = &self.pin.root;
        if let Some(first) = &self.first_root {
            self.trust.keep_root(root, 1, first)?;
        }
        self.trust.raise_mark(root, Mark { chain: self.id, epoch, seq, digest, time }, self.now)?;
        self.cache_head(newest);
        Ok(())
    }

    /// The head of the last run, if the cache still has it. It is verified like any other bytes.
    fn cached_head(&self, mark: &Mark) -> Option<Newest> {
        let bytes = file::read(&self.head_cache(), RECORD_CAP).ok()??;
        let (record, head) = chain::trusted(&bytes, &self.id, mark.seq, &self.root).ok()?;
        (record.digest == mark.digest).then(|| Newest { record, head, envelope: bytes.into() })
    }

    fn cache_head(&self, newest: &Newest) {
        let path = self.head_cache();
        let old = file::read(&path, RECORD_CAP);
        if !matches!(old, Ok(Some(old)) if old == newest.envelope) {
            // Without the cache the next run makes one request more.
            let _ = file::write(&path, &newest.envelope);
        }
    }

    fn head_cache(&self) -> PathBuf {
        self.trust.cache_of(&self.pin.root).join("head.json")
    }
}

/// What a slot holds, by itself.
enum Judged {
    Record(Box<Newest>),
    Void(Void),
}

/// What lies after a record.
#[derive(Debug)]
pub(super) struct Beyond {
    /// The last valid record, if there is one.
    pub(super) newest: Option<Box<Newest>>,
    /// The void slots after that.
    pub(super) voids: Vec<Void>,
}

/// The number and the digest of a checkpoint line, if it is one.
pub fn parse_checkpoint(line: &[u8]) -> Option<(u64, Digest)> {
    let (seq, digest) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    let plain = seq.bytes().all(|byte| byte.is_ascii_digit());
    Some((seq.parse().ok().filter(|_| plain)?, digest.parse().ok()?))
}

fn rolled_back(seq: u64, digest: &Digest, found: &str) -> ChainError {
    Refusal::new(Class::Rollback, slots::key(seq), format!("record {seq}, {digest}, which was verified before"), found)
        .into()
}

pub(super) fn forked(seq: u64, expected: &Digest, found: &Record) -> Refusal {
    let expected = format!("record {seq}, {expected}, which was verified before");
    Refusal::new(Class::Fork, slots::key(seq), expected, format!("another valid record, {}", found.digest))
}
