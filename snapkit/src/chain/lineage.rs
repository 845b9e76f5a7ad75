//! Lineage: which slots of a chain count, where its owner has forked it.
//!
//! A fork names the record it keeps; the slots between are left behind. From the newest record back, each epoch says
//! which fork began it, so the whole lineage takes two records for each fork. No epoch is believed without its fork,
//! signed by the owner. Documented in `docs/format/record.md`, "fork". Layer: part of `chain`.

use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError};

use manifests::chain;
use manifests::document::record::{Body, Pointer, Record};
use manifests::refusal::{Class, Refusal};

use super::{Chain, ChainError, Newest, slots};
use crate::trust::Mark;

/// The forks that a record descends from, the latest first.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    branches: Vec<Branch>,
}

/// One fork.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Its slot.
    pub seq: u64,
    /// The epoch that it began.
    pub epoch: u64,
    /// The last record that it kept.
    pub keep: Pointer,
    /// The epoch of that record.
    pub kept_epoch: u64,
    /// Why the owner forked.
    pub reason: String,
}

impl Lineage {
    /// The forks, the latest first.
    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    /// The fork that left slot `seq` behind, if one did.
    pub fn left_behind(&self, seq: u64) -> Option<&Branch> {
        self.branches.iter().find(|branch| branch.keep.seq < seq && seq < branch.seq)
    }

    /// The slots up to `last` that count, in rising order; each range but the first begins with a fork.
    pub fn ranges(&self, last: u64) -> Vec<RangeInclusive<u64>> {
        let mut ranges = Vec::new();
        let mut end = last;
        for branch in &self.branches {
            ranges.push(branch.seq..=end);
            end = branch.keep.seq;
        }
        ranges.push(0..=end);
        ranges.reverse();
        ranges
    }
}

impl Chain<'_> {
    /// The forks that `newest` descends from. No request where there are none, or for the head of the last call.
    ///
    /// # Errors
    /// What a fork, or a record that one keeps, is refused for; [`Class::Inconsistent`] for an epoch without its fork.
    pub fn lineage(&self, newest: &Newest) -> Result<Arc<Lineage>, ChainError> {
        let mut known = self.lineage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((digest, lineage)) = &*known
            && *digest == newest.head.digest
        {
            return Ok(Arc::clone(lineage));
        }
        let mut branches = Vec::new();
        let mut at = newest.clone();
        while let Some(seq) = at.head.fork {
            let fork = if seq == at.head.seq { at.clone() } else { self.read_record(seq)? };
            let Body::Fork(body) = &fork.record.body else {
                return Err(no_fork(&at, fork.record.body.kind()));
            };
            if fork.head.epoch != at.head.epoch {
                return Err(no_fork(&at, &format!("a fork that begins epoch {}", fork.head.epoch)));
            }
            self.check_within_epoch(&fork, &at)?;
            let kept = self.read_record(body.keep.seq)?;
            // The fork's own log shows that the kept record is the one, over everything before it.
            chain::fork(&kept.head, seq, &fork.envelope, &self.root)?;
            branches.push(Branch {
                seq,
                epoch: fork.head.epoch,
                keep: body.keep,
                kept_epoch: kept.head.epoch,
                reason: body.reason.clone(),
            });
            at = kept;
        }
        let lineage = Arc::new(Lineage { branches });
        *known = Some((newest.head.digest, Arc::clone(&lineage)));
        Ok(lineage)
    }

    /// Refuses a record that does not lie under `newest`: by tiles, else by a walk.
    ///
    /// # Errors
    /// [`Class::Fork`] for a record that a fork left behind, or in whose place the chain has another one.
    pub(super) fn check_in_chain(&self, record: &Newest, newest: &Newest) -> Result<(), ChainError> {
        let (seq, digest) = (record.head.seq, record.head.digest);
        let lineage = self.lineage(newest)?;
        if let Some(branch) = lineage.left_behind(seq) {
            let found = format!("one that the fork in slot {} left behind ({})", branch.seq, branch.reason);
            return Err(Refusal::new(Class::Fork, slots::key(seq), "a record of the chain", found)
                .with_hint("choose another one; `snapkit log` lists those that count")
                .into());
        }
        if seq == newest.head.seq && digest == newest.head.digest || self.proves(&newest.head.log, seq, &digest) {
            return Ok(());
        }
        // Without tiles: up to the last record of its epoch, which the fork after it or the newest record names.
        let end = match lineage.branches.iter().rev().find(|branch| seq <= branch.keep.seq) {
            Some(branch) => Pointer { seq: branch.keep.seq, digest: branch.keep.digest },
            None => Pointer { seq: newest.head.seq, digest: newest.head.digest },
        };
        let walked = self.walk_to(record.clone(), end.seq)?;
        if walked.head.digest == end.digest {
            return Ok(());
        }
        let expected = format!("a record of the chain, which has {} in slot {}", end.digest, end.seq);
        Err(Refusal::new(Class::Fork, slots::key(seq), expected, format!("one that leads to {}", walked.head.digest))
            .into())
    }

    /// Refuses a fork that `later`, a record of the epoch it began, does not descend from.
    fn check_within_epoch(&self, fork: &Newest, later: &Newest) -> Result<(), ChainError> {
        let (seq, digest) = (fork.head.seq, fork.head.digest);
        if digest == later.head.digest || self.proves(&later.head.log, seq, &digest) {
            return Ok(());
        }
        let walked = self.walk_to(fork.clone(), later.head.seq)?;
        if walked.head.digest == later.head.digest {
            return Ok(());
        }
        Err(no_fork(later, &format!("one that leads to {}", walked.head.digest)))
    }

    /// Accepts a newest record of a later epoch than the mark's: what the mark says still counts, or a fork left it behind.
    pub(super) fn check_forked(&self, mark: &Mark, newest: &Newest) -> Result<(), ChainError> {
        let lineage = self.lineage(newest)?;
        let after_mark = lineage.branches.iter().rev().find(|branch| branch.epoch > mark.epoch);
        match after_mark {
            Some(branch) if branch.kept_epoch == mark.epoch && mark.seq <= branch.keep.seq => {
                let marked = self.read_record(mark.seq)?;
                if marked.head.digest != mark.digest {
                    return Err(super::head::forked(mark.seq, &mark.digest, &marked.record).into());
                }
                self.check_in_chain(&marked, newest)
            }
            _ => Ok(()),
        }
    }

    /// The record in slot `seq`, shown to lie under `newest`. One request, and one for each level of tiles.
    ///
    /// # Errors
    /// As [`Chain::record`], and [`Class::Fork`] for a record that is not, or no longer, part of this chain.
    pub fn record_under(&self, seq: u64, newest: &Newest) -> Result<Record, ChainError> {
        let find = || {
            let record = self.read_record(seq)?;
            self.check_in_chain(&record, newest)?;
            Ok(record.record)
        };
        find().map_err(|error| self.blame(error))
    }
}

fn no_fork(record: &Newest, found: &str) -> ChainError {
    let (epoch, seq) = (record.head.epoch, record.head.fork.unwrap_or_default());
    Refusal::new(Class::Inconsistent, slots::key(seq), format!("the fork that began epoch {epoch}"), found).into()
}
