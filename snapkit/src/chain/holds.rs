//! Whether a chain holds a record that another signed document names.
//!
//! Layer: part of `chain`.

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::record::{Body, Record};

use super::{Chain, ChainError, Newest};

/// What stands in the place of a record that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The record.
    Yes,
    /// Nothing yet: the chain ends before it.
    EndsBefore,
    /// Another record, or none that counts.
    Another(Option<Digest>),
}

/// The complete snapshot that counts as the latest.
#[derive(Debug, Clone)]
pub struct LastComplete {
    /// The newest complete one, or the one that a rollback after it names.
    pub record: Record,
    /// When the newest complete one was captured, whatever a rollback names.
    pub captured: Timestamp,
    /// Whether a newer snapshot is not complete.
    pub passed: bool,
}

impl Chain<'_> {
    /// Whether slot `seq` holds the record `digest`, under the verified record `newest`.
    ///
    /// A handful of tiles, or a walk where they do not prove it.
    ///
    /// # Errors
    /// A store that cannot be asked; what a record on the walk is refused for.
    pub fn holds(&self, newest: &Newest, seq: u64, digest: &Digest) -> Result<Holds, ChainError> {
        if seq > newest.head.seq {
            return Ok(Holds::EndsBefore);
        }
        if seq == newest.head.seq {
            let there = newest.head.digest;
            return Ok(if there == *digest { Holds::Yes } else { Holds::Another(Some(there)) });
        }
        if self.proves(&newest.head.log, seq, digest) {
            return Ok(Holds::Yes);
        }
        // Tiles are only a help; what the newest record leads back to decides.
        for record in self.walk_back(&newest.record) {
            let record = record?;
            if record.header.seq <= seq {
                let is_there = record.header.seq == seq;
                return Ok(match is_there && record.digest == *digest {
                    true => Holds::Yes,
                    false => Holds::Another(is_there.then_some(record.digest)),
                });
            }
        }
        Ok(Holds::Another(None))
    }

    /// The complete snapshot that counts as the latest under `newest`, and how old the newest complete one is.
    ///
    /// # Errors
    /// What a record on the way back is refused for.
    pub fn last_complete(&self, newest: &Newest) -> Result<Option<LastComplete>, ChainError> {
        let (mut passed, mut rolled_back) = (false, None);
        for record in self.walk_back(&newest.record) {
            let record = record?;
            match &record.body {
                Body::Snapshot(snapshot) if snapshot.public.complete => {
                    let captured = snapshot.private.started;
                    return Ok(Some(LastComplete { record: rolled_back.unwrap_or(record), captured, passed }));
                }
                Body::Snapshot(_) => passed |= rolled_back.is_none(),
                // The last one before the next snapshot counts, and only to what is complete.
                Body::Rollback(rollback) if rolled_back.is_none() && !passed => {
                    let target = self.rolled_back_to(&record, rollback, newest)?;
                    let complete = matches!(&target.body, Body::Snapshot(snapshot) if snapshot.public.complete);
                    rolled_back = complete.then_some(target);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
