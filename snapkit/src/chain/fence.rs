//! The fence: the first act of a new leader, and what readers hold later records to.
//!
//! From the fence on, what an earlier leader still has under way fails at its slot. A record of a later term is believed
//! only with the fence that began it, under the same head. Documented in `docs/format/record.md`, "fence".
//! Layer: part of `chain`.

use jiff::Timestamp;
use manifests::chain::writes_as_leader;
use manifests::document::fence::Fence;
use manifests::document::lease::Entry;
use manifests::document::record::{Body, Record, Writer};
use manifests::keys::Signer;
use manifests::refusal::{Class, Refusal};

use super::commit::Slot;
use super::head::Beyond;
use super::{Chain, ChainError, Committed, Newest, TOOL, fresh_nonce, slots};
use crate::leadership::{COMMIT_BUDGET, Leadership};

/// How often a fence that lost its slot is made anew: a leader that was superseded may be busy.
const ATTEMPTS: u32 = 20;

impl<'a> Chain<'a> {
    /// The chain for a writer of a lease group: it writes only while `leadership` says that it leads.
    #[must_use]
    pub fn led(mut self, leadership: &'a dyn Leadership) -> Self {
        self.leadership = Some(leadership);
        self
    }

    /// Puts the term of a claim into the chain, after whatever is its newest record now.
    ///
    /// Done already, it finds its own fence and changes nothing. What the superseded leader committed before stays.
    ///
    /// # Errors
    /// [`Class::Fenced`] if the chain has this term from another claim, or a later one; what stops a reader; a signer
    /// that the claim does not name; [`ChainError::Unknown`] if the store never gave a clear answer.
    pub fn fence(&self, claim: &[u8], signer: &dyn Signer, node: &str) -> Result<FenceDone, ChainError> {
        let claimed = Entry::verify(claim, &self.root, &self.id, "claim")?.entry;
        let fence = Fence::of(claim)?;
        for _ in 0..ATTEMPTS {
            let newest = self.head()?;
            if newest.head.term >= claimed.term {
                return self
                    .own_fence(&newest, claimed.term, &fence)
                    .map(|record| FenceDone::Already(Box::new(record)));
            }
            let voids = match self.newest_beyond(&newest.head)? {
                Beyond { newest: Some(_), .. } => continue,
                Beyond { voids, .. } => voids,
            };
            let writer = Writer { key: signer.public().id(), node: node.to_owned(), tool: TOOL.to_owned() };
            let now = Timestamp::now();
            let header = newest.head.fence_header(&voids, claimed.term, now, fresh_nonce()?, writer)?;
            let body = Body::Fence(Box::new(fence.clone()));
            let made = self.make(&newest.head, &voids, &header, &body, signer)?;
            if let Slot::Ours = self.create_slot(&made)? {
                let done = self.finish(&newest.head, voids.len() as u64, made)?;
                return Ok(FenceDone::Written(Box::new(done)));
            }
        }
        let refusal = Refusal::new(Class::Fenced, "new fence", "a free slot for it", "other writers were always first");
        Err(refusal.with_hint("another writer is busy; revoke its key if it should not be").into())
    }

    /// The fence of `term` under `newest`, if it rests on the same claim.
    fn own_fence(&self, newest: &Newest, term: u64, fence: &Fence) -> Result<Record, ChainError> {
        if newest.head.term == term
            && let Some(place) = newest.head.fence
        {
            let record = self.record_under(place.seq, newest)?;
            if matches!(&record.body, Body::Fence(found) if **found == *fence) {
                return Ok(record);
            }
        }
        let expected = format!("a chain before term {term}");
        Err(Refusal::new(Class::Fenced, slots::key(newest.head.seq), expected, format!("term {}", newest.head.term))
            .into())
    }

    /// Refuses a record whose term was not begun by the fence that it names. No request in term 0.
    pub(super) fn check_fence(&self, newest: &Newest) -> Result<(), ChainError> {
        let Some(place) = newest.head.fence.filter(|place| place.seq != newest.head.seq) else {
            return Ok(());
        };
        let fence = self.read_record(place.seq)?;
        let begun = matches!(fence.record.body, Body::Fence(_))
            && (fence.head.term, fence.head.fence) == (newest.head.term, newest.head.fence);
        if !begun {
            let expected = format!("the fence of term {} in slot {}", newest.head.term, place.seq);
            let found = format!("a {} record of term {}", fence.record.body.kind(), fence.head.term);
            return Err(Refusal::new(Class::Fenced, slots::key(newest.head.seq), expected, found).into());
        }
        self.check_in_chain(&fence, newest)
    }

    /// Refuses a writer that does not lead in the term of the head it is about to write after.
    pub(super) fn check_leads(
        &self,
        head: &manifests::chain::Head,
        kind: &str,
        signer: &dyn Signer,
    ) -> Result<(), ChainError> {
        if !writes_as_leader(kind, &[signer.public()], head.seq + 1, &self.root) {
            return Ok(());
        }
        let own = match self.leadership {
            None => 0,
            Some(leadership) => leadership.term(COMMIT_BUDGET).map_err(|error| match error.into_refusal() {
                Ok(refusal) => ChainError::from(refusal),
                Err(error) => ChainError::Leadership(error),
            })?,
        };
        if own == head.term {
            return Ok(());
        }
        let expected = format!("a chain in term {own}, which this writer may write in");
        let refusal = Refusal::new(Class::Fenced, slots::key(head.seq), expected, format!("term {}", head.term));
        Err(match self.leadership {
            None => refusal
                .with_hint("this chain has a leader: name its agent's socket with `agent = \"…\"` in snapkit.toml"),
            Some(_) if own > head.term => refusal.with_hint("the agent has not fenced the chain yet; run again"),
            Some(_) => refusal,
        }
        .into())
    }
}

/// What became of a fence.
#[derive(Debug)]
pub enum FenceDone {
    /// It is in the chain now.
    Written(Box<Committed>),
    /// It was there before.
    Already(Box<Record>),
}
