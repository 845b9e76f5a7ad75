//! A plan: a scenario resolved against a fleet, with a digest that an execution is bound to.
//!
//! A dry run and an execution of the same plan have the same digest: it covers everything but who runs it, when, and
//! whether it is simulated. Form: `docs/json.md`, `bootstrap.plan/1`. Layer: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};

use super::grammar::{Action, Effect, Leadership, Unless};
use crate::evidence::event::Mode;
use crate::evidence::facts::plan_digest;

/// The name of the form.
pub const SCHEMA: &str = "bootstrap.plan/1";
/// What is to be done, resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// This run.
    pub id: String,
    /// Simulated or executed.
    pub mode: Mode,
    /// What whoever will verify supplied before the run.
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
    /// Limits by name: `max_failover_seconds`, `max_data_lag_events`, and `PHASE_seconds` for the timebox of a phase.
    #[serde(default)]
    pub thresholds: BTreeMap<String, u64>,
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
        plan_digest(&serde_json::to_value(self).expect("a plan is made of strings, numbers and lists"))
    }

    /// The plan with its digest.
    pub fn sealed(mut self) -> Self {
        self.plan_sha256 = self.digest().to_string();
        self
    }

    /// The plan with these checks, too, without which it is not passed.
    pub fn requiring(mut self, checks: &[&str]) -> Self {
        self.checks.retain(|check| !checks.contains(&check.id.as_str()));
        self.checks.extend(checks.iter().map(|id| Required { id: (*id).to_owned(), required: true }));
        self.sealed()
    }

    /// The way back of a run that has ended, as a plan of its own.
    pub fn way_back(&self, id: String, now: Timestamp, actor: String, reason: String) -> Self {
        Self {
            id,
            made: now,
            actor,
            reason,
            title: format!("The way back of {}", self.id),
            steps: self.rollback.clone(),
            rollback: Vec::new(),
            always: Vec::new(),
            checks: Vec::new(),
            ..self.clone()
        }
        .sealed()
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
