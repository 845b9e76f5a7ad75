//! A plan: a scenario resolved against a fleet, with a digest that an execution is bound to.
//!
//! A dry run and an execution of the same plan have the same digest: it covers everything but who runs it, when, and
//! whether it is simulated. Form: `docs/json.md`, `bootstrap.plan/1`. Layer: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::grammar::{Action, Effect, Leadership, Unless};

/// The name of the form.
pub const SCHEMA: &str = "bootstrap.plan/1";
/// The fields that the digest does not cover.
const OUTSIDE: &[&str] =
    &["schema", "id", "mode", "challenge", "made", "expires", "plan_sha256", "operator", "approver", "reason"];

/// Whether a plan is done or only gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunMode {
    /// Nothing is changed; steps that would are only named.
    Simulated,
    /// It is done.
    Execute,
}

/// What is to be done, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// This run.
    pub id: String,
    /// Simulated or executed.
    pub mode: RunMode,
    /// What whoever will verify supplied before the run; empty without one.
    #[serde(default)]
    pub challenge: String,
    /// When it was made.
    pub made: Timestamp,
    /// Who runs it.
    pub operator: String,
    /// Who approved it; empty where nobody was asked.
    #[serde(default)]
    pub approver: String,
    /// Why.
    pub reason: String,
    /// `failover`, `full` or `restore`.
    pub run: String,
    /// The scenario's name.
    pub scenario: String,
    /// What it does.
    pub title: String,
    /// The SHA-256 of the scenario's text.
    pub scenario_sha256: String,
    /// The lease group.
    pub group: String,
    /// How it is decided who leads.
    pub leadership: Leadership,
    /// The SHA-256 of the inventory, without secrets.
    pub inventory_sha256: String,
    /// All nodes, in the order of the inventory.
    pub nodes: Vec<String>,
    /// Whom the lead is taken from.
    pub old_leader: Option<String>,
    /// Who is to lead.
    pub target: Option<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// The way back.
    pub rollback: Vec<Step>,
    /// What is done at the end in any case.
    pub always: Vec<Step>,
    /// The checks that decide.
    pub checks: Vec<Required>,
    /// Limits.
    #[serde(default)]
    pub thresholds: Thresholds,
    /// The services and units that may be stopped.
    pub scope_stop: Vec<String>,
    /// SHA-256 over everything else but who, when, and whether it is simulated.
    pub plan_sha256: String,
}

/// A step, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the plan.
    pub id: String,
    /// `precheck`, …, `rollback`, `always`.
    pub phase: String,
    /// What it does.
    pub title: String,
    /// What it may do to the world.
    pub effect: Effect,
    /// The nodes it is done on, in order; empty where no node is meant, and for `leader`.
    pub on: Vec<String>,
    /// The place as the scenario names it.
    pub place: Option<String>,
    /// It has nothing to do if this holds.
    pub unless: Option<Unless>,
    /// What is done.
    pub action: Action,
    /// How long it may take.
    pub timeout_seconds: u64,
    /// The check that it decides.
    pub check: Option<String>,
    /// What a person does if it fails.
    pub next: Option<String>,
}

/// The limits of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// The longest time without a good answer, from the last of the old leader to the first of the new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failover_seconds: Option<u64>,
    /// The most acknowledged writes that may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_data_lag_events: Option<u64>,
    /// The longest that each phase may take, by its name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub phase_seconds: BTreeMap<String, u64>,
}

/// A check of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Required {
    /// Its id.
    pub id: String,
    /// Whether a run without it is not passed.
    pub required: bool,
}

impl Plan {
    /// The digest over what the plan does.
    pub fn digest(&self) -> Digest {
        let mut value = serde_json::to_value(self).expect("a plan is made of strings, numbers and lists");
        if let Value::Object(fields) = &mut value {
            fields.retain(|name, _| !OUTSIDE.contains(&name.as_str()));
        }
        // Keys are in order, because `serde_json` keeps objects so.
        Digest::sha256(value.to_string().as_bytes())
    }

    /// The plan with its digest.
    pub fn sealed(mut self) -> Self {
        self.plan_sha256 = self.digest().to_string();
        self
    }

    /// Whether a run without this check is not passed.
    pub fn requires(&self, check: &str) -> bool {
        self.checks.iter().any(|one| one.id == check && one.required)
    }

    /// Whether the digest that stands in it is its own.
    pub fn is_sound(&self) -> bool {
        self.plan_sha256 == self.digest().to_string()
    }
}
