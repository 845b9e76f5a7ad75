//! What an agent says of itself: one value, made by the loop, shown by every surface.
//!
//! Its JSON is `bootstrap.state/1` of `docs/json.md`. Nothing in it is secret. Layer: values only.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock::BootTime;
use crate::lease::Holder;

/// The state of the agent's machine, in one word each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Finding out what is here; an old service counts as alive until it is proven dead.
    Starting,
    /// Following the chain.
    Follower,
    /// Following, and claiming the lease.
    Candidate,
    /// Holding the lease, on the way to a running leader.
    Promoting,
    /// The one leader.
    Leader,
    /// Still leading, taking no new work.
    Draining,
    /// Stopping the service.
    Demoting,
    /// Lost the lease; the service is proven dead.
    Fenced,
    /// Half switched, or a service that cannot be proven dead: a person must act.
    Degraded,
    /// Something is not to be believed or is missing: a person must act.
    Refused,
    /// A person paused it: it keeps what it is and takes nothing over.
    Paused,
}

impl Mode {
    /// What `/rolez` answers: `leader`, `standby`, or the state itself.
    pub fn role(self) -> &'static str {
        match self {
            Self::Leader | Self::Draining => "leader",
            Self::Follower | Self::Candidate => "standby",
            Self::Starting => "unknown",
            Self::Promoting => "promoting",
            Self::Demoting => "demoting",
            Self::Fenced => "fenced",
            Self::Degraded => "degraded",
            Self::Refused => "refused",
            Self::Paused => "paused",
        }
    }
}

/// Everything that is shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    /// The name of the lease group; `None` for a node without one.
    pub group: Option<String>,
    /// The name of this node.
    pub node: String,
    /// This run of the agent.
    pub instance: String,
    /// The version of the tool.
    pub version: String,
    /// What the agent is doing.
    pub mode: Mode,
    /// Since when.
    pub since: Timestamp,
    /// Why, in a sentence, and what a person can do where one must act.
    pub why: String,
    /// What to do next, where a person must act.
    pub next: Option<String>,
    /// The class of the refusal, where something is refused: `E_STALE`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The highest term seen.
    pub term: u64,
    /// Who holds or last held the lease.
    pub holder: Option<Holder>,
    /// How long ago the holder was last seen to write, in milliseconds.
    pub holder_seen_ms_ago: Option<u64>,
    /// Time left until this node's service must be dead, in milliseconds; `None` without a lease.
    pub remaining_ms: Option<u64>,
    /// The service.
    pub service: ServiceView,
    /// The chain.
    pub chain: ChainView,
    /// The lease.
    pub lease: LeaseView,
    /// Times this node tried to take over.
    pub takeover_attempts: u64,
    /// Takeovers that ended with a running leader.
    pub takeovers: u64,
    /// The last takeover, with what it cost.
    pub takeover: Option<TakeoverView>,
    /// Whether it takes a last snapshot when it stops leading: it has a `save` hook.
    #[serde(default)]
    pub saves: bool,
    /// How the last leadership of this run of the agent ended in order; absent until one has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<EndedView>,
    /// Times another leader of this node's own term, or a service beside the lease, was seen.
    pub conflicts: u64,
    /// Whether the node directory is half switched.
    pub degraded: Option<String>,
    /// Why a person paused it.
    pub paused: Option<String>,
    /// Why a person drained it.
    pub drained: Option<String>,
    /// Why a person demoted it: until resumed or promoted it is no candidate.
    pub demoted: Option<String>,
    /// What ingress answered last, where it is checked.
    pub ingress: Option<IngressView>,
    /// State of an earlier leadership that is kept aside.
    pub orphaned: Vec<String>,
    /// Hooks that ran last, the newest first.
    pub hooks: Vec<HookView>,
    /// What is wrong now, the worst first; empty when nothing is.
    pub problems: Vec<Problem>,
}

/// The service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ServiceView {
    /// The driver; `None` where only data is kept.
    pub driver: Option<String>,
    /// `leader` or `follower` while it runs.
    pub running_as: Option<String>,
    /// Whether its health probe holds; `None` without one or while it is not running.
    pub healthy: Option<bool>,
    /// Whether it may be asked.
    pub ready: Option<bool>,
    /// What its role probe answered last.
    pub role: Option<String>,
    /// Times it was started by this agent.
    pub starts: u64,
    /// Whether it is to run on a follower, too; otherwise a follower is a cold standby.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
}

/// The chain as this node sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ChainView {
    /// Where it is read.
    pub store: String,
    /// Slot of the newest record.
    pub head: Option<u64>,
    /// The newest complete snapshot, verified.
    pub snapshot: Option<String>,
    /// Its slot.
    pub snapshot_seq: Option<u64>,
    /// When its state was captured.
    pub captured: Option<Timestamp>,
    /// The snapshot that is ready on this node, or active.
    pub applied: Option<String>,
    /// Its slot.
    pub applied_seq: Option<u64>,
    /// Snapshots that this node is behind.
    pub lag: Option<u64>,
    /// Seconds since the newest state was captured.
    pub age_seconds: Option<u64>,
    /// When the chain was last read and verified.
    pub verified: Option<Timestamp>,
    /// Until when the manifest is valid.
    pub manifest_expires: Option<Timestamp>,
    /// What the last attempt to read it said, if it failed.
    pub failure: Option<String>,
}

/// The lease as this node sees it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LeaseView {
    /// `static` or `auto`.
    pub mode: Option<String>,
    /// Time to live in milliseconds.
    pub ttl_ms: Option<u64>,
    /// Number of the newest entry; `None` until the log was read to its end.
    pub seq: Option<u64>,
    /// When that entry was first seen. Means nothing outside of this machine.
    #[serde(skip)]
    pub seen: Option<BootTime>,
    /// Renewals that worked.
    pub renewals: u64,
    /// Requests that failed.
    pub failures: u64,
    /// How long the last renewal took, in milliseconds.
    pub last_renewal_ms: Option<u64>,
    /// The longest time without a leader that follows from the timing, in milliseconds.
    pub worst_case_ms: Option<u64>,
    /// What the last request said, if it failed.
    pub failure: Option<String>,
}

/// One takeover.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeoverView {
    /// The term that began.
    pub term: u64,
    /// When the claim was won.
    pub claimed: Timestamp,
    /// When the leader was ready.
    pub ready: Option<Timestamp>,
    /// The snapshot that it began from.
    pub snapshot: String,
    /// When its state was captured: what came after is not in it.
    pub captured: Timestamp,
    /// Seconds between that and the claim: what is lost at most.
    pub lost_seconds: u64,
    /// Milliseconds of each phase, in order.
    pub phases: Vec<(String, u64)>,
}

/// The end of a leadership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedView {
    /// Its term.
    pub term: u64,
    /// When its service was proven dead: nothing was acknowledged after that.
    pub stopped: Timestamp,
    /// When the `save` hook had put its last state into the chain; null if none did.
    pub saved: Option<Timestamp>,
}

/// What ingress points at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IngressView {
    /// The node that answers there, as it says itself.
    pub answers: Option<String>,
    /// Whether that is the holder.
    pub agrees: bool,
    /// When it was asked.
    pub checked: Timestamp,
}

/// One run of a hook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HookView {
    /// Which hook.
    pub hook: String,
    /// When it was started.
    pub started: Timestamp,
    /// How long it ran, in milliseconds.
    pub took_ms: u64,
    /// Its exit code; `None` if it was killed.
    pub exit: Option<i32>,
    /// SHA-256 of its output.
    pub output_sha256: String,
    /// The end of its output.
    pub output_end: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A stable name: `dual_leader`, `store_unreachable`, `ingress_mismatch`, `behind`, ….
    pub name: String,
    /// What was expected and found.
    pub what: String,
    /// What to do about it.
    pub next: String,
}

/// What a person, or a program, asks of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What it is.
    pub kind: RequestKind,
    /// Why; kept.
    pub reason: String,
    /// Who asked, as far as the surface can tell: `uid 0 on the socket`, `192.0.2.7 with the token`; kept.
    pub by: String,
}

/// The kinds of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Take no new work.
    Drain,
    /// Take nothing over, and keep what it is.
    Pause,
    /// Go on after a drain or a pause.
    Resume,
    /// Give the lease to another candidate: demote, and do not claim for a while.
    Handoff,
    /// Become a follower.
    Demote,
    /// Lead: in static leadership an operator decides, and has made sure that nobody else does.
    Promote,
    /// Claim the lease now, whoever holds it: an operator made sure that the old leader is dead.
    ForceClaim,
}

impl RequestKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Drain, Self::Pause, Self::Resume, Self::Handoff, Self::Demote, Self::Promote, Self::ForceClaim];

    /// The kind that a word names.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word in the path of the surface.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Handoff => "handoff",
            Self::Demote => "demote",
            Self::Promote => "promote",
            Self::ForceClaim => "force-claim",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done, or being done; what happens, in a sentence.
    Accepted(String),
    /// It cannot be done now: why, and what to do.
    Refused(String),
}
