//! The body of a fork record: the owner continues the chain from an earlier record, in a new epoch.
//!
//! Every slot between the kept record and the fork is left behind, whoever signed it: that is how a stolen writer
//! key, or a copy that lost its tail, is overcome. Documented in `docs/format/record.md`. Layer: pure.

use serde::{Deserialize, Serialize};

use super::record::{Pointer, RECORD_CAP, check_reason};
use crate::envelope;
use crate::json::Tree;
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.fork+json";

/// Where the chain goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fork {
    /// The last record that is kept.
    pub keep: Pointer,
    /// Why, for people.
    pub reason: String,
}

impl Fork {
    pub(super) fn check(&self, seq: u64, object: &str) -> Result<(), Refusal> {
        self.keep.check_before(seq, object)?;
        check_reason(&self.reason, object)
    }
}

/// What an envelope says of itself that it forks, before anything of it is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The slot that it is made for.
    pub seq: u64,
    /// The slot of the record that it keeps.
    pub keep: u64,
}

/// Reads where a fork belongs, so that its neighbours can be fetched and it be verified.
///
/// # Errors
/// [`Class::Type`] for another document, [`Class::Json`] for what is none.
pub fn claim(envelope: &[u8]) -> Result<Claim, Refusal> {
    let object = "fork";
    let (payload_type, payload) = envelope::unverified(envelope, RECORD_CAP, object)?;
    if payload_type != PAYLOAD_TYPE {
        return Err(Refusal::new(Class::Type, object, PAYLOAD_TYPE, excerpt(&payload_type)));
    }
    let mut tree = Tree::read(&payload, RECORD_CAP, object)?;
    let number = |tree: Option<&Tree>, field: &str| match tree {
        Some(Tree::Positive(number)) => Ok(*number),
        _ => Err(Refusal::new(Class::Json, object, format!("the field `{field}`"), "none that is sound")),
    };
    let seq = number(tree.get("seq"), "seq")?;
    let keep = tree.take("body").and_then(|mut body| body.take("keep"));
    let keep = number(keep.as_ref().and_then(|keep| keep.get("seq")), "body.keep.seq")?;
    Ok(Claim { seq, keep })
}
