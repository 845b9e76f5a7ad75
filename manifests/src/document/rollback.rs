//! The body of a rollback record: an older snapshot counts as the latest one, until the next snapshot.
//!
//! Being served an old head is refused; this is how going back is asked for. Documented in `docs/format/record.md`.
//! Layer: pure.

use serde::{Deserialize, Serialize};

use super::record::{Pointer, check_reason};
use crate::refusal::Refusal;

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.rollback+json";

/// Which snapshot to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The snapshot.
    pub target: Pointer,
    /// Why, for people.
    pub reason: String,
}

impl Rollback {
    pub(super) fn check(&self, seq: u64, object: &str) -> Result<(), Refusal> {
        self.target.check_before(seq, object)?;
        check_reason(&self.reason, object)
    }
}
