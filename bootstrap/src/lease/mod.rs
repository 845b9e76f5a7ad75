//! The lease: which node of a group leads, decided by an append-only log under create-if-absent.
//!
//! Creating entry n + 1 is the compare-and-swap. Validity counts from before the request was sent, on the clock of
//! [`crate::clock`]; wall clocks are never compared. The rules and why they hold: `docs/leadership.md`; bytes:
//! `docs/format/lease.md`. Layer: `machine` decides and is pure, `log` asks the store, `runner` joins the two.

pub mod capability;
pub mod collect;
pub mod inspect;
pub mod log;
pub mod machine;
pub mod runner;
pub mod timing;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::BootTime;

/// What the rest of the agent asks of the lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseWish {
    /// Claim it when the rules allow, and keep it.
    Lead,
    /// Claim it now, whoever holds it: an operator proved that the old leader is dead, and says why.
    Force {
        /// The reason, kept in the claim.
        reason: String,
    },
    /// Do not claim it.
    Follow,
    /// Give it back: the service is proven dead. Does nothing without a claim.
    Release,
}

/// What the lease tells the rest of the agent, in the order it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseNote {
    /// The newest claim of the log, or that there is none, was seen to be another one than before.
    Seen(Option<Holder>),
    /// This node claimed the lease. The claim is what its fence embeds.
    Claimed {
        /// The term that begins.
        term: u64,
        /// The envelope of the claim.
        claim: Vec<u8>,
        /// When the service must be dead; `None` where nothing limits it (static leadership).
        until: Option<BootTime>,
    },
    /// The lease holds longer.
    Renewed {
        /// When the service must be dead.
        until: BootTime,
    },
    /// Renewing fails for so long that the service must be stopped in order now.
    Late {
        /// What failed last.
        why: String,
    },
    /// The service must be dead by now, whatever it takes.
    Expired,
    /// Somebody else leads in a higher term: the service must be dead by now.
    Superseded {
        /// Who leads.
        by: Holder,
    },
    /// The lease was given back.
    Released,
    /// This node cannot take part: what is missing, in words.
    Unfit(String),
}

/// Who holds, or last held, the lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The name of the node.
    pub node: String,
    /// The one run of its agent that claimed.
    pub instance: String,
    /// The term.
    pub term: u64,
    /// Where its agent answers, as it said itself; proves nothing.
    pub api: Option<String>,
    /// When it claimed, by its own wall clock; shown to people, never compared.
    pub since: Option<Timestamp>,
    /// Whether the lease was given back.
    pub released: bool,
}
