//! The body of a fence record: a leadership begins, and every record after it is of its term.
//!
//! It embeds the claim of the lease that it rests on, so that the chain alone shows who led when. From here on what
//! writers sign counts only under the key that signed the fence. Documented in `docs/format/record.md`, "fence".
//! Layer: pure.

use serde::{Deserialize, Serialize};

use super::lease::{Entry, Kind, LEASE_CAP};
use super::record::{Body, Header};
use super::root::Root;
use crate::digest::Digest;
use crate::envelope::Nested;
use crate::keys::KeyId;
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.fence+json";

/// What a leadership rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// The envelope of the claim.
    pub claim: Nested,
}

/// Where a term began, as every record of it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FencePlace {
    /// The slot of the fence.
    pub seq: u64,
    /// The key that signed it, and that writers of this term sign with.
    pub key: KeyId,
}

impl Fence {
    /// The body of a fence that rests on the claim in `bytes`.
    ///
    /// # Errors
    /// What is no envelope.
    pub fn of(bytes: &[u8]) -> Result<Fence, Refusal> {
        Ok(Fence { claim: Nested::read(bytes, LEASE_CAP, "claim")? })
    }

    /// The claim, verified, and compared with the record that embeds it.
    ///
    /// # Errors
    /// Those of the envelope for the role `node`; [`Class::Inconsistent`] for a claim of another chain, term or writer.
    pub(crate) fn verify(&self, header: &Header, chain: &Digest, root: &Root) -> Result<Entry, Refusal> {
        let object = &format!("claim in record {}", header.seq);
        let claim = Entry::verify(&self.claim.to_bytes(), root, chain, object)?;
        let refuse = |expected: String, found: String| Err(Refusal::new(Class::Inconsistent, object, expected, found));
        if claim.entry.kind != Kind::Claim {
            return refuse("a claim".into(), claim.entry.kind.word().into());
        }
        if claim.entry.term != header.term {
            return refuse(format!("a claim of term {}", header.term), format!("one of term {}", claim.entry.term));
        }
        match claim.entry.holder.writer {
            Some(writer) if writer == header.writer.key => Ok(claim.entry),
            writer => {
                let found = writer.map_or("no writer".to_owned(), |writer| format!("the writer {writer}"));
                refuse(format!("a claim that names the writer {}", header.writer.key), found)
            }
        }
    }
}

/// Refuses a header whose `term` and `fence` do not belong together, by themselves.
pub(super) fn check_header(header: &Header, body: &Body, object: &str) -> Result<(), Refusal> {
    let is_fence = matches!(body, Body::Fence(_));
    let sound = match header.fence {
        None => header.term == 0 && !is_fence,
        Some(fence) => header.term > 0 && (fence.seq == header.seq) == is_fence && fence.seq <= header.seq,
    };
    if !sound {
        let found = format!("term {} and fence {:?}", header.term, header.fence.map(|fence| fence.seq));
        let expected = "term 0, or `fence` with the slot that began the term";
        return Err(Refusal::new(Class::Inconsistent, object, expected, found));
    }
    if is_fence && header.fence.is_some_and(|fence| fence.key != header.writer.key) {
        return Err(Refusal::new(Class::Inconsistent, object, "`fence.key` to be the writer's", "another key"));
    }
    if is_fence && header.segments.is_some() {
        return Err(Refusal::new(Class::Json, object, "a fence without segments", "segments"));
    }
    Ok(())
}
