//! The result: what a run amounts to, as `result.json` says it.
//!
//! Every field is computed from the files of the bundle; nothing in it is anybody's word that is not marked so. Fields:
//! `docs/format/bundle.md`, "Result". Layer: plain.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::record::Pointer;
use serde::{Deserialize, Serialize};

use super::event::{AfterAction, CheckStatus, Claim, Failure, Mode, Program, StepStatus};
use super::facts::Node;

/// The schema of a result.
pub const SCHEMA: &str = "bootstrap.result/1";

/// What a run amounts to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunResult {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The id of the run.
    pub id: String,
    /// `drill` or `failover`.
    pub kind: String,
    /// The scenario.
    pub scenario: String,
    /// The lease group.
    pub group: String,
    /// Whether anything was done.
    pub mode: Mode,
    /// How far it went.
    pub grade: Grade,
    /// How it ended.
    pub verdict: Verdict,
    /// The first step that failed.
    pub failed_step: Option<String>,
    /// Who ran it.
    pub operator: String,
    /// Who approved it.
    pub approver: Option<String>,
    /// Why.
    pub reason: String,
    /// What whoever will verify gave beforehand.
    pub challenge: Option<String>,
    /// The digest of the plan.
    pub plan_sha256: Digest,
    /// The chain.
    pub chain: Digest,
    /// SHA-256 of the payload of the first root.
    pub root: Digest,
    /// The record of the chain with which it began.
    pub begun: Option<Pointer>,
    /// The newest record of the bundle.
    pub head: Option<Head>,
    /// The manifest of the bundle.
    pub manifest: Option<ManifestFacts>,
    /// What ran it.
    pub tool: Program,
    /// When it began.
    pub started: Timestamp,
    /// When it ended, or its last event.
    pub ended: Timestamp,
    /// The time between, by the clock since boot where both are of one boot; 0 where a wall clock went back.
    pub duration_ms: u64,
    /// What was measured.
    pub measured: Measured,
    /// The limits of the plan.
    pub limits: BTreeMap<String, u64>,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// What had to hold, by id.
    pub checks: Vec<Check>,
    /// What was broken on purpose.
    pub faults: Vec<Fault>,
    /// Who led when, as far as entries of the lease log say.
    pub leaders: Vec<Leader>,
    /// The probers and the sentinel.
    pub probers: Vec<Prober>,
    /// From how many boots of machines the ingress was asked.
    pub prober_boots: u64,
    /// The machines that took part.
    pub nodes: Vec<Node>,
    /// What was let off, and by whom.
    pub waivers: Vec<Waiver>,
    /// What was done by hand that the plan does not have.
    pub deviations: Vec<String>,
    /// What people stated.
    pub attestations: Vec<Attestation>,
    /// What has to be put right.
    pub debts: Vec<Debt>,
    /// What was found after an emergency.
    pub after_action: Option<AfterAction>,
    /// Files that say something that does not hold.
    pub problems: Vec<Problem>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every step was done and everything required holds.
    Passed,
    /// Something does not.
    Failed,
    /// It was given up.
    Aborted,
}

impl Verdict {
    /// The word that stands in files.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Aborted => "aborted",
        }
    }
}

/// How far a run went: what it can be evidence of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// Nothing that has a grade is proven, or the run did not pass.
    #[serde(rename = "none")]
    None,
    /// Nothing was done.
    #[serde(rename = "simulated")]
    Simulated,
    /// A snapshot was restored beside the group.
    #[serde(rename = "isolated-restore")]
    IsolatedRestore,
    /// Another node leads.
    #[serde(rename = "live-takeover")]
    LiveTakeover,
    /// A takeover and a cold restore.
    #[serde(rename = "full")]
    Full,
    /// A full drill in which nothing was done by hand; and no program changed and nothing was left behind, as far as the
    /// program that ran it found (C98).
    #[serde(rename = "AAA")]
    Aaa,
}

impl Grade {
    /// The word that stands in files.
    pub fn word(self) -> &'static str {
        match self {
            Grade::None => "none",
            Grade::Simulated => "simulated",
            Grade::IsolatedRestore => "isolated-restore",
            Grade::LiveTakeover => "live-takeover",
            Grade::Full => "full",
            Grade::Aaa => "AAA",
        }
    }
}

/// A record of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its slot.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// Its term.
    pub term: u64,
    /// SHA-256 of its payload.
    pub sha256: Digest,
}

/// A manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFacts {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its payload.
    pub sha256: Digest,
    /// The id of the key that signed it.
    pub key: Digest,
    /// From when on it is refused.
    pub expires: Timestamp,
}

/// What was measured. Absent is what nothing in the bundle shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// The longest time from the last good answer of one leader to the first of the next, over all probers of the ingress.
    pub rto_ms: Option<u64>,
    /// The error of it: the interval of that prober.
    pub rto_error_ms: Option<u64>,
    /// How many acknowledged writes were lost.
    pub rpo_events: Option<u64>,
    /// The time over which they had been acknowledged.
    pub rpo_ms: Option<u64>,
    /// The time from the capture of what was restored last to the first fault, by wall clocks.
    pub rpo_chain_ms: Option<u64>,
    /// From the fault to the claim of the lease, by wall clocks.
    pub fault_to_claim_ms: Option<u64>,
    /// From the claim of the lease to the first good answer, by wall clocks.
    pub claim_to_answer_ms: Option<u64>,
    /// Each change of who answers at the ingress, as each prober saw it.
    pub changes: Vec<Change>,
    /// Bytes that were restored.
    pub restored_bytes: Option<u64>,
    /// Files that were restored.
    pub restored_files: Option<u64>,
}

/// A change of who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The prober that saw it.
    pub prober: String,
    /// The term of the last good answer before.
    pub from_term: u64,
    /// Who gave it.
    pub from_node: String,
    /// When it was complete, in microseconds since boot.
    pub last_good_us: u64,
    /// The term of the first good answer after.
    pub to_term: u64,
    /// Who gave it.
    pub to_node: String,
    /// When it was complete.
    pub first_good_us: u64,
    /// The time between, rounded up.
    pub gap_ms: u64,
}

/// A phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its id.
    pub id: String,
    /// The worst of its steps.
    pub status: StepStatus,
    /// When it began, in milliseconds after the run.
    pub start_ms: Option<u64>,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// How long it may take, if that is limited.
    pub timebox_ms: Option<u64>,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its id.
    pub id: String,
    /// Its phase.
    pub phase: String,
    /// For people.
    pub title: String,
    /// How it ended.
    pub status: StepStatus,
    /// When it began, in milliseconds after the run.
    pub start_ms: Option<u64>,
    /// How long it took, also when it failed.
    pub duration_ms: Option<u64>,
    /// How long it may take.
    pub timebox_ms: u64,
    /// Why it failed, was skipped or waived.
    pub error: Option<Failure>,
    /// Files that it left.
    pub evidence: Vec<String>,
}

/// What became of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its id.
    pub id: String,
    /// Whether the run fails without it.
    pub required: bool,
    /// What became of it.
    pub status: CheckStatus,
    /// What that rests on.
    pub claim: Claim,
    /// What was seen, or why nobody looked.
    pub observed: String,
    /// What should have been seen.
    pub expected: String,
    /// The files that show it.
    pub source: String,
}

/// Something that was broken on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What.
    pub fault: String,
    /// Where.
    pub node: String,
    /// When, in milliseconds after the run, where both clocks are of one boot.
    pub at_ms: Option<u64>,
    /// Whether it was undone.
    pub healed: bool,
}

/// Somebody who led.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: String,
    /// When its first entry in the bundle was made, by its wall clock.
    pub from: Timestamp,
    /// When its last one was.
    pub until: Timestamp,
    /// Whether it gave the lease back.
    pub released: bool,
}

/// A prober or sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prober {
    /// Its name.
    pub name: String,
    /// `prober` or `sentinel`.
    pub kind: String,
    /// `ingress` or a node.
    pub of: String,
    /// Its file.
    pub file: String,
    /// Time between two questions.
    pub interval_ms: u64,
    /// How many it asked.
    pub asked: u64,
    /// How many were answered well.
    pub good: u64,
    /// The longest time between two good answers.
    pub longest_gap_ms: u64,
}

/// A step or check that was let off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Its id.
    pub id: String,
    /// By whom.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// What a person stated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Who.
    pub who: String,
    /// What.
    pub text: String,
    /// When.
    pub at: Timestamp,
    /// A file below `attest/`.
    pub file: Option<String>,
}

/// Something that has to be put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debt {
    /// Its id.
    pub id: String,
    /// What.
    pub text: String,
    /// Whether it is open.
    pub open: bool,
}

/// A file that says something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

impl RunResult {
    /// A check by its id.
    pub fn check(&self, id: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.id == id)
    }
}
