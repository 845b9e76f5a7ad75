//! Facts about a run that are not events: its plan, its environment, the health of its nodes.
//!
//! Documented in `docs/format/bundle.md`, "Plan", "Environment" and "Health". Layer: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Mode, Program};

/// The schema of an environment.
pub const ENVIRONMENT_SCHEMA: &str = "bootstrap.environment/1";
/// The schema of a health report.
pub const HEALTH_SCHEMA: &str = "bootstrap.health/1";
/// The fields of a plan that its digest does not cover: they differ between a dry run and what follows it.
pub const NOT_OF_THE_PLAN: &[&str] = &["id", "mode", "challenge", "made", "actor", "reason", "approver", "plan_sha256"];

/// The digest of a plan: SHA-256 of its JSON without [`NOT_OF_THE_PLAN`], names ascending at every depth, without white
/// space.
pub fn plan_digest(plan: &Value) -> Digest {
    let mut plan = plan.clone();
    if let Some(fields) = plan.as_object_mut() {
        NOT_OF_THE_PLAN.iter().for_each(|name| drop(fields.remove(*name)));
    }
    Digest::sha256(sorted(&plan).as_bytes())
}

/// JSON with names in ascending order, whatever order the library keeps.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<&String, &Value> = fields.iter().collect();
            let fields = fields.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), sorted(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(sorted).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

/// What evidence needs of a plan. A plan says more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanFacts {
    /// `bootstrap.plan/1`.
    pub schema: String,
    /// The id of the run.
    pub id: String,
    /// Whether it is to be done.
    pub mode: Mode,
    /// What whoever will verify gave beforehand.
    #[serde(default)]
    pub challenge: Option<String>,
    /// When it was made.
    pub made: Timestamp,
    /// Who runs it.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// `failover` or `drill`.
    pub kind: String,
    /// The scenario's name.
    pub scenario: String,
    /// The lease group.
    pub group: String,
    /// Whom the lead is taken from.
    #[serde(default)]
    pub old_leader: Option<String>,
    /// Who is to lead.
    #[serde(default)]
    pub target: Option<String>,
    /// The nodes of the group.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// What is done at the end in any case.
    #[serde(default)]
    pub always: Vec<PlannedStep>,
    /// What must hold.
    pub checks: Vec<PlannedCheck>,
    /// Limits by name: `max_failover_seconds`, `max_data_lag_events`, and `PHASE_seconds` for the timebox of a phase.
    #[serde(default)]
    pub thresholds: BTreeMap<String, u64>,
    /// [`plan_digest`] of it.
    pub plan_sha256: Digest,
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its phase.
    pub phase: String,
    /// Its id.
    pub id: String,
    /// For people.
    pub title: String,
    /// The longest that it may take.
    pub timeout_seconds: u64,
    /// Where it has nothing to do.
    #[serde(default)]
    pub unless: Option<Value>,
    /// What is done.
    #[serde(default)]
    pub action: Option<Value>,
    /// The check that it decides.
    #[serde(default)]
    pub check: Option<String>,
}

impl PlannedStep {
    /// Whether it may turn out to have nothing to do: where the plan names the condition, or it is a kind of step that
    /// nothing rests on.
    pub(super) fn may_be_skipped(&self) -> bool {
        let kind = self.action.as_ref().and_then(|action| action.get("kind")).and_then(Value::as_str);
        self.unless.is_some() || self.check.is_none() && matches!(kind, Some("take-snapshot" | "heal"))
    }
}

/// A check of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCheck {
    /// Its id.
    pub id: String,
    /// Whether the run fails without it.
    pub required: bool,
}

/// Machines and programs, before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Always [`ENVIRONMENT_SCHEMA`].
    pub schema: String,
    /// The program that ran it, when it began.
    pub tool: Program,
    /// SHA-256 of the same executable when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_sha256_end: Option<Digest>,
    /// SHA-256 of the inventory when it began, and when it ended.
    pub inventory: Before,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What keeps the clocks in step: `chrony`, `systemd-timesyncd`, `none`.
    pub clock: String,
}

/// A digest before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Before {
    /// When the run began.
    pub start: Digest,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<Digest>,
}

/// A machine that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// What its provider calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// The boot of it when the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The id of its agent's run when it began, and when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_start: Option<String>,
    /// The same at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_end: Option<String>,
    /// SHA-256 of its programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Before>,
    /// SHA-256 of its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<Before>,
    /// Its images, as they ran.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Set for a node that was made for this run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary: Option<Temporary>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Its name in the pins.
    pub name: String,
    /// Its digest in the pins.
    pub pinned: String,
    /// The digest of what runs, as the engine says.
    pub running: String,
}

/// The life of a node that was made for a run (C81).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Temporary {
    /// When it was made.
    pub created: Timestamp,
    /// When it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<Timestamp>,
    /// Why it was kept on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
}

/// A health report: `collect/health-before.json` and `collect/health-after.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Always [`HEALTH_SCHEMA`].
    pub schema: String,
    /// The rows.
    pub rows: Vec<HealthRow>,
}

/// One row of a health report (C59).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthRow {
    /// The host.
    pub host: String,
    /// Its role.
    pub role: String,
    /// What was looked at.
    pub service: String,
    /// `ok`, or what it is.
    pub status: String,
}
