//! The chain as far as leadership goes: slots, terms, and the verifier that every reader is.

use bootstrap::agent::machine::Fenced;
use manifests::digest::Digest;
use manifests::document::lease::ChainHead;
use manifests::document::record::Nonce;

#[derive(Clone, Copy)]
pub(crate) struct Record {
    pub(crate) term: u64,
    pub(crate) by: Nonce,
    pub(crate) is_fence: bool,
}

#[derive(Default)]
pub(crate) struct Chain {
    records: Vec<Record>,
}

impl Chain {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// The fence of the present term.
    pub(crate) fn leader(&self) -> Option<Record> {
        self.records.iter().rev().find(|record| record.is_fence).copied()
    }

    pub(crate) fn term(&self) -> u64 {
        self.leader().map_or(0, |fence| fence.term)
    }

    /// The term of the first `len` records: what a writer knows that has read so far.
    pub(crate) fn term_of(&self, len: usize) -> u64 {
        self.records[..len].iter().rev().find(|record| record.is_fence).map_or(0, |fence| fence.term)
    }

    pub(crate) fn head(&self) -> ChainHead {
        let seq = self.records.len() as u64;
        ChainHead { epoch: 0, seq, digest: Digest([0; 32]), term: self.term() }
    }

    /// Create-if-absent of a slot: whether it was written. What lands is judged as every reader will.
    pub(crate) fn create(&mut self, slot: usize, record: Record) -> Result<bool, String> {
        if slot != self.records.len() {
            return Ok(false);
        }
        let fence = self.leader();
        if record.is_fence && record.term <= self.term() {
            return Err(format!("the term of the chain fell from {} to {}", self.term(), record.term));
        }
        if !record.is_fence && fence.is_none_or(|fence| (fence.term, fence.by) != (record.term, record.by)) {
            return Err(format!("a record of term {} stands in term {} of the chain", record.term, self.term()));
        }
        self.records.push(record);
        Ok(true)
    }

    /// The slot behind the newest snapshot; 0 is what the chain began with.
    pub(crate) fn snapshot(&self) -> u64 {
        self.snapshot_in(self.records.len())
    }

    fn snapshot_in(&self, len: usize) -> u64 {
        self.records[..len].iter().rposition(|record| !record.is_fence).map_or(0, |slot| slot as u64 + 1)
    }

    pub(crate) fn snapshots_after(&self, snapshot: u64) -> u64 {
        self.records[snapshot as usize..].iter().filter(|record| !record.is_fence).count() as u64
    }

    /// The fence of a term, if it stands.
    pub(crate) fn fence(&self, term: u64) -> Option<(usize, Record)> {
        let mut records = self.records.iter().copied().enumerate();
        records.find(|(_, record)| record.is_fence && record.term == term)
    }

    /// The fences of some terms.
    pub(crate) fn fences(&self, terms: std::ops::Range<u64>) -> impl Iterator<Item = Record> + '_ {
        self.records.iter().copied().filter(move |record| record.is_fence && terms.contains(&record.term))
    }

    /// The newest snapshot before the fence of a term.
    pub(crate) fn snapshot_before(&self, term: u64) -> u64 {
        self.fence(term).map_or(0, |(slot, _)| self.snapshot_in(slot))
    }

    /// What a fence that stands is told with.
    pub(crate) fn fenced(&self, term: u64) -> Fenced {
        let slot = self.fence(term).map_or(self.records.len(), |(slot, _)| slot);
        Fenced { term, seq: slot as u64, before: self.term_of(slot) }
    }
}
