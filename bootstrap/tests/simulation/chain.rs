//! The chain as far as leadership goes: slots, terms, and the verifier that every reader is.

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
}
