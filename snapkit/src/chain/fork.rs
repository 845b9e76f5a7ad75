//! Forking: the owner continues the chain after an earlier record, in a new epoch.
//!
//! The fork goes behind everything that is in the store, so that nothing of what it leaves behind comes after it; holes
//! in the row are filled first, because readers refuse a row with holes. No data is written or deleted. Documented in
//! `docs/format/record.md`, "fork". Layer: part of `chain`.

use bytes::Bytes;
use jiff::Timestamp;
use manifests::chain::{self, Head};
use manifests::document::fork::{self, Fork};
use manifests::document::record::{Body, Pointer, Record, Writer, payload};
use manifests::envelope;
use manifests::keys::{KeyId, Signer};
use manifests::refusal::{Class, Refusal};

use super::commit::Slot;
use super::{Chain, ChainError, Committed, Newest, TOOL, fresh_nonce, slots};

/// What stands in a slot that was missing between others.
const FILLER: &[u8] = b"left behind by a fork\n";
/// The most holes that are filled.
const HOLES_CAP: u64 = 4096;
/// How often a fork whose slot was taken meanwhile is made anew.
const ATTEMPTS: u32 = 5;

impl Chain<'_> {
    /// The payload of a fork that keeps the record in slot `keep`, to be signed as the type
    /// [`fork::PAYLOAD_TYPE`] by the role root, among others by the key `signer`; then [`Chain::publish_fork`].
    ///
    /// # Errors
    /// What the kept record is refused for; [`Class::Json`] for a reason that says nothing.
    pub fn prepare_fork(
        &self,
        keep: u64,
        reason: &str,
        signer: KeyId,
        node: &str,
        now: Timestamp,
    ) -> Result<Vec<u8>, ChainError> {
        let kept = self.read_record(keep).map_err(|error| self.blame(error))?;
        let (seq, epoch) = self.after_everything(&kept.head)?;
        let writer = Writer { key: signer, node: node.to_owned(), tool: TOOL.to_owned() };
        let header = kept.head.fork_header(seq, epoch, now, fresh_nonce()?, writer)?;
        let pointer = Pointer { seq: keep, digest: kept.head.digest };
        let body = Body::Fork(Fork { keep: pointer, reason: reason.to_owned() });
        Ok(payload(&header, &body)?.1)
    }

    /// Forks with signers that are at hand.
    ///
    /// # Errors
    /// As [`Chain::prepare_fork`] and [`Chain::publish_fork`].
    pub fn fork(
        &self,
        keep: u64,
        reason: &str,
        signers: &[&dyn Signer],
        node: &str,
        now: Timestamp,
    ) -> Result<Committed, ChainError> {
        let Some(first) = signers.first() else {
            return Err(Refusal::new(Class::SigMissing, "new fork", "a key of the role root", "none").into());
        };
        let mut attempt = 1;
        loop {
            let payload = self.prepare_fork(keep, reason, first.public().id(), node, now)?;
            let bytes = envelope::sign(fork::PAYLOAD_TYPE, &payload, signers)?;
            match self.publish_fork(&bytes) {
                Err(ChainError::Refused(refusal)) if refusal.class() == Class::Seq && attempt < ATTEMPTS => {
                    attempt += 1
                }
                done => return done,
            }
        }
    }

    /// Creates the slot of a fork that is signed.
    ///
    /// # Errors
    /// [`Class::Seq`] if the slot it was made for is taken; make it anew then. What the fork is refused for.
    pub fn publish_fork(&self, envelope: &[u8]) -> Result<Committed, ChainError> {
        let claimed = fork::claim(envelope)?;
        let (seq, keep) = (claimed.seq, claimed.keep);
        let kept = self.read_record(keep).map_err(|error| self.blame(error))?;
        let (record, head) = chain::fork(&kept.head, seq, envelope, &self.root)?;
        let made = Newest { record, head, envelope: Bytes::copy_from_slice(envelope) };
        self.fill_holes(keep, seq)?;
        match self.create_slot(&made)? {
            Slot::Ours => self.finish(&kept.head, seq - keep - 1, made),
            Slot::Taken(_) => Err(Refusal::new(
                Class::Seq,
                slots::key(seq),
                "an empty slot for the fork",
                "one that was taken meanwhile",
            )
            .with_hint("make and sign the fork anew")
            .into()),
        }
    }

    /// The records after slot `seq` that are valid by themselves: what a fork would leave behind. Reads every slot.
    ///
    /// # Errors
    /// [`ChainError::Store`] when a slot cannot be read.
    pub fn valid_after(&self, seq: u64) -> Result<Vec<Record>, ChainError> {
        let last = self.slots_from(seq + 1)?.row_end.unwrap_or(seq);
        let (mut valid, mut at) = (Vec::new(), seq + 1);
        while at <= last {
            let end = self.batch_end(at, last);
            for (slot, bytes) in self.read_slots(at, end)? {
                let record = bytes.and_then(|bytes| chain::trusted(&bytes, &self.id, slot, &self.root).ok());
                valid.extend(record.map(|(record, _)| record));
            }
            at = end + 1;
        }
        Ok(valid)
    }

    /// The slot behind all others, and an epoch above all that were seen.
    fn after_everything(&self, kept: &Head) -> Result<(u64, u64), ChainError> {
        let slots = self.slots_from(kept.seq + 1)?;
        let last = slots.beyond.last().copied().or(slots.row_end).unwrap_or(kept.seq);
        let seen = self.trust.mark(&self.pin.root)?.map_or(0, |mark| mark.epoch);
        let beyond = self.newest_beyond(kept).ok().and_then(|beyond| beyond.newest);
        let stored = beyond.map_or(0, |newest| newest.head.epoch);
        Ok((last + 1, kept.epoch.max(seen).max(stored) + 1))
    }

    /// Fills the missing slots between the kept record and the fork.
    fn fill_holes(&self, keep: u64, fork: u64) -> Result<(), ChainError> {
        let there = self.slots_from(keep + 1)?;
        let row_end = there.row_end.unwrap_or(keep);
        let holes = fork.saturating_sub(row_end + 1) - there.beyond.iter().filter(|seq| **seq < fork).count() as u64;
        if holes > HOLES_CAP {
            let expected = format!("at most {HOLES_CAP} missing slots before it");
            return Err(Refusal::new(Class::TooMany, slots::key(fork), expected, holes)
                .with_hint("remove what stands alone in `chain/`, and make the fork anew")
                .into());
        }
        for seq in (row_end + 1..fork).filter(|seq| !there.beyond.contains(seq)) {
            // Whoever else fills it does as well.
            let _ = self.store.create(&slots::key(seq), Bytes::from_static(FILLER))?;
        }
        Ok(())
    }
}
