//! The grammar of a scenario: phases of steps, each with an effect, a place, an action, a limit and a check.
//!
//! The three built-in scenarios and an operator's own are the same TOML, and everything wrong with one is said at once.
//! What a kind of action accepts is asked of a [`Vocabulary`], so that drills add kinds of their own. Grammar:
//! `docs/scenarios.md`. Layer: pure.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::plan::{Plan, Step};
use super::site::{Line, Site};

/// The name of the form.
pub const SCHEMA: &str = "bootstrap.scenario/1";
/// The phases, in the only order they may stand in.
pub const PHASES: &[&str] = &["precheck", "backup-sync-check", "demote-primary", "promote-standby", "verify"];

/// What a step may do to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It only looks.
    Read,
    /// It writes down what is meant to be done.
    Plan,
    /// It changes a node, a service or the ingress.
    Mutate,
}

/// A scenario as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// One word: `planned`.
    pub name: String,
    /// What it does, in a sentence.
    pub title: String,
    /// Who the step place `old-leader` means.
    #[serde(default)]
    pub old_leader: OldLeader,
    /// Who the step place `target` means.
    #[serde(default)]
    pub target: Target,
    /// The effects that its steps may have; others are refused.
    #[serde(default = "all_effects")]
    pub allowed_effects: BTreeSet<Effect>,
    /// The ids of checks without which it is not passed.
    pub required: Vec<String>,
    /// Checks that are reported and may fail.
    #[serde(default)]
    pub optional: Vec<String>,
    /// Its steps.
    pub phase: Vec<Phase>,
    /// The way back, stored before anything is done.
    pub rollback: Vec<StepSpec>,
    /// Steps at the end, whatever happened before.
    #[serde(default)]
    pub always: Vec<StepSpec>,
}

fn all_effects() -> BTreeSet<Effect> {
    [Effect::Read, Effect::Plan, Effect::Mutate].into()
}

/// Whom the lead is taken from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldLeader {
    /// Who leads now; it must answer.
    #[default]
    Leader,
    /// Who holds or last held the lease, dead or not.
    LastHolder,
    /// Nobody: no lead is moved.
    Nobody,
}

/// Who is to lead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The follower that is least behind, or the one that is asked for.
    #[default]
    BestFollower,
    /// The node that the inventory prefers as leader, or the one that is asked for.
    PreferredLeader,
    /// Nobody.
    Nobody,
}

/// A phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// One of [`PHASES`].
    pub id: String,
    /// Its steps, in order.
    #[serde(default)]
    pub step: Vec<StepSpec>,
}

/// A step as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// Unique in the scenario.
    pub id: String,
    /// What it does, in a sentence for a person.
    pub title: String,
    /// What it may do to the world.
    pub effect: Effect,
    /// Where: `old-leader`, `target`, `others` (neither of both), `standbys` (all but the old leader), `all`, `leader`
    /// (whoever leads when it is done), `ingress`, or a node's name. Without it: where the orchestrator runs.
    pub on: Option<String>,
    /// It belongs to the plan only if this holds of the fleet.
    #[serde(default)]
    pub when: When,
    /// It is left out, as done, if this holds already when its turn comes.
    pub unless: Option<Unless>,
    /// What is done.
    pub action: Action,
    /// How long it may take.
    pub timeout_seconds: u64,
    /// The id of the check that it decides.
    pub check: Option<String>,
    /// What a person does if it fails.
    pub next: Option<String>,
}

/// What must hold of a fleet for a step to belong to the plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// `auto` or `static`.
    pub leadership: Option<Leadership>,
    /// Whether the inventory has an ingress.
    pub ingress: Option<bool>,
    /// Whether the inventory says how the ingress is changed.
    pub ingress_driver: Option<bool>,
}

/// How it is decided who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leadership {
    /// The lease decides.
    Auto,
    /// An operator decides.
    Static,
    /// A node by itself.
    Nobody,
}

/// A state of the fleet in which a step has nothing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unless {
    /// A place, as in a step.
    pub on: String,
    /// A condition, as in `wait`.
    pub is: String,
}

/// What a step does: a kind, and what that kind accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The kind: `probe`, `request`, `wait`, ….
    pub kind: String,
    /// Everything else.
    #[serde(flatten)]
    pub with: Map<String, Value>,
}

impl Action {
    /// What the kind accepts, as a value of the kind's own type; an unknown key is refused by that type.
    ///
    /// # Errors
    /// What is wrong, in a sentence.
    pub fn with<T: serde::de::DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.with.clone())).map_err(|error| format!("{}: {error}", self.kind))
    }
}

/// The kinds of actions that somebody knows how to do.
pub trait Vocabulary {
    /// The least effect that a step with this action has; `None` if the kind is not known here.
    ///
    /// # Errors
    /// What is wrong with the action, in a sentence.
    fn effect(&self, action: &Action) -> Result<Option<Effect>, String>;

    /// What a person would type to do this step, in order. Empty for a kind that is not known here.
    fn commands(&self, plan: &Plan, step: &Step, site: &Site) -> Vec<Line>;
}

/// Everything that is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct GrammarError {
    /// Which scenario.
    pub of: String,
    /// What is wrong, one sentence each.
    pub problems: Vec<String>,
}

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the scenario {} cannot be used: {}", self.of, self.problems.join("; "))
    }
}

impl Scenario {
    /// Reads a scenario; `of` names it in problems.
    ///
    /// # Errors
    /// [`GrammarError`] with everything that is wrong.
    pub fn parse(of: &str, text: &str, vocabulary: &dyn Vocabulary) -> Result<Self, GrammarError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|error| GrammarError { of: of.to_owned(), problems: vec![error.to_string().trim().to_owned()] })?;
        let problems = scenario.problems(vocabulary);
        if problems.is_empty() { Ok(scenario) } else { Err(GrammarError { of: of.to_owned(), problems }) }
    }

    /// All its steps with their phase: in order, then the way back, then what is done always.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &StepSpec)> {
        let phases = self.phase.iter().flat_map(|phase| phase.step.iter().map(|step| (phase.id.as_str(), step)));
        let rollback = self.rollback.iter().map(|step| ("rollback", step));
        phases.chain(rollback).chain(self.always.iter().map(|step| ("always", step)))
    }

    fn problems(&self, vocabulary: &dyn Vocabulary) -> Vec<String> {
        let mut problems = Vec::new();
        if self.schema != SCHEMA {
            problems.push(format!("expected schema = {SCHEMA:?}, found {:?}", self.schema));
        }
        if !is_word(&self.name) {
            problems.push(format!("the name {:?} is not one word of small letters, digits and dashes", self.name));
        }
        let mut rest = PHASES.iter();
        for phase in &self.phase {
            if !rest.any(|known| *known == phase.id) {
                problems.push(format!("the phase {:?} is none of {} in this order", phase.id, PHASES.join(", ")));
            }
        }
        let mut ids = BTreeSet::new();
        for (phase, step) in self.steps() {
            if !ids.insert(&step.id) {
                problems.push(format!("two steps have the id {:?}", step.id));
            }
            problems.extend(step.problems(vocabulary).into_iter().map(|what| format!("{phase}/{}: {what}", step.id)));
            if !self.allowed_effects.contains(&step.effect) {
                problems.push(format!("{phase}/{}: its effect is not among allowed_effects", step.id));
            }
        }
        if !self.phase.iter().any(|phase| !phase.step.is_empty()) {
            problems.push("it has no step".to_owned());
        }
        problems
    }
}

impl StepSpec {
    fn problems(&self, vocabulary: &dyn Vocabulary) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_word(&self.id) {
            problems.push("the id is not one word of small letters, digits and dashes".to_owned());
        }
        if self.title.trim().is_empty() || self.title.contains(['\n', '\r']) {
            problems.push("expected a title of one line".to_owned());
        }
        if !(1..=86_400).contains(&self.timeout_seconds) {
            problems.push(format!("timeout_seconds = {} is not between 1 and 86400", self.timeout_seconds));
        }
        match vocabulary.effect(&self.action) {
            Err(why) => problems.push(why),
            Ok(None) => problems.push(format!("there is no kind of action {:?}", self.action.kind)),
            Ok(Some(least)) if self.effect < least => problems.push(format!(
                "effect = {:?} says less than {:?} does, which is {:?}",
                word(self.effect),
                self.action.kind,
                word(least)
            )),
            Ok(Some(_)) => {}
        }
        problems
    }
}

/// The word for an effect.
pub fn word(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Plan => "plan",
        Effect::Mutate => "mutate",
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

#[cfg(test)]
mod tests;
