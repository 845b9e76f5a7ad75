//! The body of a fork record: the owner continues the chain from an earlier record, in a new epoch.
//!
//! Every slot between the kept record and the fork is left behind, whoever signed it: that is how a stolen writer
//! key, or a copy that lost its tail, is overcome. Documented in `docs/format/record.md`. Layer: pure.

use serde::{Deserialize, Serialize};

use super::record::{Pointer, check_reason};
use crate::refusal::Refusal;

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
