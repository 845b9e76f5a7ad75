//! Events: what a line of the timeline says.
//!
//! Names and fields are those of `docs/format/bundle.md`, "Timeline". Layer: pure.

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};

/// Who did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Actor {
    /// A person; what it says is a statement, not a measurement.
    Human,
    /// A program.
    Tool,
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepStatus {
    /// It did what it was there for.
    Ok,
    /// It did not.
    Failed,
    /// It was left out.
    Skipped,
    /// Something before it failed.
    NotRun,
    /// A person decided that it need not be done.
    Waived,
}

impl StepStatus {
    /// The word that stands in files.
    pub fn word(self) -> &'static str {
        match self {
            StepStatus::Ok => "ok",
            StepStatus::Failed => "failed",
            StepStatus::Skipped => "skipped",
            StepStatus::NotRun => "not_run",
            StepStatus::Waived => "waived",
        }
    }
}

/// What became of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// Nobody looked; a required check that was skipped fails the run.
    Skipped,
}

impl CheckStatus {
    /// The word that stands in files.
    pub fn word(self) -> &'static str {
        match self {
            CheckStatus::Passed => "passed",
            CheckStatus::Failed => "failed",
            CheckStatus::Skipped => "skipped",
        }
    }
}

/// What a claim rests on, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It follows from signed or raw data of the bundle, and whoever verifies computes it again.
    Proven,
    /// The program that ran the drill, or a person, says so.
    Asserted,
    /// Nothing speaks for it.
    Unproven,
}

impl Claim {
    /// The word that stands in files.
    pub fn word(self) -> &'static str {
        match self {
            Claim::Proven => "proven",
            Claim::Asserted => "asserted",
            Claim::Unproven => "unproven",
        }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// A stable word, such as `timeout` or `E_STALE`.
    pub code: String,
    /// For people.
    pub text: String,
}

/// A result that somebody who watched reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckResult {
    /// One of the ids of the plan.
    pub id: String,
    /// What became of it.
    pub status: CheckStatus,
    /// What the reporter says it rests on; computed again from the files.
    pub claim: Claim,
    /// What was seen; of a skipped check, why it was skipped.
    pub observed: String,
    /// What should have been seen.
    pub expected: String,
    /// The file of the run directory that shows it, with a pointer behind `#` where one helps; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

/// The program that ran something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the executable.
    pub sha256: Digest,
}

/// How a run begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// The id of the run.
    pub id: String,
    /// `failover` or `drill`, as in the plan.
    pub run: String,
    /// The scenario's name.
    pub scenario: String,
    /// `simulated` or `execute`.
    pub mode: Mode,
    /// The group, as in the pins.
    pub group: String,
    /// What whoever will verify gave beforehand; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub challenge: String,
    /// The digest of the plan: [`super::facts::plan_digest`].
    pub plan: Digest,
    /// SHA-256 of the payload of the first root: the pin.
    pub root: Digest,
    /// The chain.
    pub chain: Digest,
    /// Who started it.
    pub operator: String,
    /// Who approved it; empty where nobody was asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub approver: String,
    /// Why.
    pub reason: String,
    /// What runs it.
    pub tool: Program,
}

/// Whether something was done or only gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Nothing was changed.
    Simulated,
    /// It was done.
    Execute,
}

impl Mode {
    /// The word that stands in files.
    pub fn word(self) -> &'static str {
        match self {
            Mode::Simulated => "simulated",
            Mode::Execute => "execute",
        }
    }
}

/// What is said after an emergency (C50).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AfterAction {
    /// `unreachable` or `wrong-role`: what was wrong with the old leader.
    pub trouble: String,
    /// Whether the ingress had to be reloaded by hand.
    pub manual_reload: bool,
    /// Whether something was repaired outside of the plan.
    pub hotfix: bool,
    /// Which stored state of the ingress or node was used; `none` where none was.
    pub backup_file: String,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "kebab-case", deny_unknown_fields)]
pub enum What {
    /// The run begins; the first event, and there is one.
    Begin(Box<Begin>),
    /// The step of the event begins.
    StepBegin {
        /// The phase that it belongs to.
        phase: String,
        /// For people.
        title: String,
        /// The longest that it may take.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timebox_ms: Option<u64>,
    },
    /// The step of the event ended.
    StepEnd {
        /// How.
        status: StepStatus,
        /// Why it failed, was skipped or waived.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
        /// Files of the run directory that it left.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        evidence: Vec<String>,
    },
    /// A check was made.
    Check(CheckResult),
    /// A prober or sentinel was started; its series is believed under this key alone.
    Prober {
        /// Its name, that of its file: `probes/NAME.jsonl`, or `sentinel`.
        name: String,
        /// `ingress` or the name of a node.
        of: String,
        /// Its public key, 64 hex digits.
        key: String,
    },
    /// Something was broken on purpose.
    Fault {
        /// `stop`, `kill`, `pause`, `partition`, `store-block`, `destroy-state`.
        fault: String,
        /// Where.
        node: String,
        /// When, by whoever injected it, in microseconds since the boot of its machine.
        at_mono_us: u64,
        /// The boot of that machine.
        boot_id: String,
    },
    /// A fault was undone.
    Heal {
        /// Which.
        fault: String,
        /// Where.
        node: String,
        /// When, by whoever healed it.
        at_mono_us: u64,
        /// The boot of that machine.
        boot_id: String,
    },
    /// A record of the run was added to the chain.
    Recorded {
        /// `begun`.
        phase: String,
        /// Its slot.
        seq: u64,
        /// SHA-256 of its payload.
        digest: Digest,
    },
    /// Something was done by hand that the plan does not have.
    Manual {
        /// What.
        text: String,
    },
    /// A person states something.
    Attest {
        /// Who.
        who: String,
        /// What.
        text: String,
        /// A file below `attest/`, such as a picture.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
    },
    /// A remark.
    Note {
        /// What.
        text: String,
    },
    /// A step or check was let off.
    Waive {
        /// Its id.
        id: String,
        /// By whom.
        who: String,
        /// Why.
        reason: String,
    },
    /// Something that has to be put right afterwards, or was.
    Debt {
        /// Its id.
        id: String,
        /// What.
        text: String,
        /// Whether it is still open.
        open: bool,
    },
    /// What was found after an emergency.
    AfterAction(AfterAction),
    /// What a clock showed.
    Clock {
        /// Whose.
        node: String,
        /// The boot that its monotonic time counts from.
        boot_id: String,
        /// Microseconds since that boot.
        mono_us: u64,
        /// The wall clock at that moment.
        wall: Timestamp,
    },
    /// The run is given up; what follows is the way back.
    Abort {
        /// Why.
        reason: String,
    },
    /// Another process goes on with the run.
    Resume {
        /// Bytes of a line that was not written to its end, and was cut off.
        torn_bytes: u64,
    },
    /// The run ended; the last event.
    End {
        /// What the program that ran it says; computed again from the files.
        passed: bool,
    },
}
