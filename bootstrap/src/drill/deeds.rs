//! The kinds of actions that only drills have: what each accepts, what it does to the world, and what a person would type.
//!
//! `act` does them; every other kind is one of `scenario::moves`. Kinds: `docs/drills.md`, "Steps". Layer: pure.

use serde::Deserialize;

use crate::scenario::moves::Moves;
use crate::scenario::site::{Line, Site};
use crate::scenario::{Action, Effect, Plan, Step, Vocabulary};

/// The scenarios of drills, by name.
pub const BUILT_IN: &[(&str, &str)] =
    &[("full", include_str!("builtin/full.toml")), ("restore", include_str!("builtin/restore.toml"))];

/// The place in a drill's scenario that stands for the node that is restored cold.
const BLANK: &str = "on = \"blank\"";

/// The text of a scenario of drills with the node that is restored cold in its place; `None` if there is no such scenario.
pub fn text(name: &str, blank: &str) -> Option<String> {
    let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
    Some(with_blank(text, blank))
}

/// A scenario with the node that is restored cold in its place.
pub fn with_blank(text: &str, blank: &str) -> String {
    text.replace(BLANK, &format!("on = {}", toml::Value::String(blank.to_owned())))
}

/// An action that only drills have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Every node says what it runs, how it is configured, and what its clocks show.
    Facts(When),
    /// Every node says how it is.
    NodeHealth(When),
    /// The probers and the sentinel see what they should.
    Measured(Measured),
    /// The manifest is as new as its pins ask for.
    Manifest,
    /// Everything that the pins ask for is there.
    Prerequisites,
    /// A node comes up from the one string.
    BringUp(BringUp),
    /// A follower is watched, which must only follow.
    Soak,
    /// The leader takes a snapshot.
    TakeSnapshot,
    /// Something breaks.
    Fault(Broken),
    /// It is taken back.
    Heal(Broken),
    /// The follower leads in a later term.
    TookOver,
    /// The old leader is down.
    StillDown,
    /// Clients are answered by whoever holds the lease.
    Traffic,
    /// What was restored is what was signed.
    Compare,
    /// One leads, the others follow it.
    OneLeader,
    /// Somebody leads.
    SomebodyLeads,
    /// What was made for the drill is removed.
    Remove,
}

/// Of `facts` and `node-health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// When the drill begins.
    Before,
    /// When it ends.
    After,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct At {
    when: When,
}

/// Of `measured`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// So many good answers in a row are wanted, of each.
    pub good: usize,
    /// The sentinel must have been told what is left, in a later term.
    #[serde(default)]
    pub recovered: bool,
}

/// Of `bring-up`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BringUp {
    /// Whether its agent is started and waited for.
    pub agent: bool,
    /// Whether nothing may be there yet: a cold restore.
    #[serde(default)]
    pub blank: bool,
}

/// Of `fault` and `heal`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broken {
    /// `stop`, `kill`, `pause`, `partition` or `store-block`.
    pub fault: String,
}

/// Of a kind that accepts nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The faults that a scenario may inject; a state is destroyed by hand alone.
const FAULTS: [&str; 5] = ["stop", "kill", "pause", "partition", "store-block"];

impl Deed {
    /// The action, if its kind is one of drills.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn of(action: &Action) -> Result<Option<Self>, String> {
        let plain = |one: Self| action.with::<Nothing>().map(|Nothing {}| one);
        let when = || action.with::<At>().map(|at| at.when);
        let broken = || {
            let broken: Broken = action.with()?;
            match FAULTS.contains(&&*broken.fault) {
                true => Ok(broken),
                false => Err(format!(
                    "{}: there is no fault {:?}; expected one of {}",
                    action.kind,
                    broken.fault,
                    FAULTS.join(", ")
                )),
            }
        };
        let known = match action.kind.as_str() {
            "facts" => Self::Facts(when()?),
            "node-health" => Self::NodeHealth(when()?),
            "measured" => Self::Measured(action.with()?),
            "manifest" => plain(Self::Manifest)?,
            "prerequisites" => plain(Self::Prerequisites)?,
            "bring-up" => Self::BringUp(action.with()?),
            "soak" => plain(Self::Soak)?,
            "take-snapshot" => plain(Self::TakeSnapshot)?,
            "fault" => Self::Fault(broken()?),
            "heal" => Self::Heal(broken()?),
            "took-over" => plain(Self::TookOver)?,
            "still-down" => plain(Self::StillDown)?,
            "traffic" => plain(Self::Traffic)?,
            "compare" => plain(Self::Compare)?,
            "one-leader" => plain(Self::OneLeader)?,
            "somebody-leads" => plain(Self::SomebodyLeads)?,
            "remove" => plain(Self::Remove)?,
            _ => return Ok(None),
        };
        Ok(Some(known))
    }

    /// Whether it makes sense while nothing was changed.
    pub fn is_looked_at_beforehand(&self) -> bool {
        match self {
            Self::Facts(when) | Self::NodeHealth(when) => *when == When::Before,
            Self::Manifest | Self::Prerequisites => true,
            _ => false,
        }
    }

    fn effect(&self) -> Effect {
        match self {
            Self::BringUp(_) | Self::TakeSnapshot | Self::Fault(_) | Self::Heal(_) | Self::Remove => Effect::Mutate,
            _ => Effect::Read,
        }
    }

    fn commands(&self, plan: &Plan, step: &Step, site: &Site) -> Vec<Line> {
        let each = |command: &[&str], options: &[&str]| -> Vec<Line> {
            step.on.iter().map(|node| site.on_node(node, command, options)).collect()
        };
        let string = crate::scenario::site::REPLACE_ME;
        match self {
            Self::Facts(_) => each(&["drill", "facts"], &["--json"]),
            Self::NodeHealth(_) | Self::Soak | Self::TookOver | Self::OneLeader | Self::SomebodyLeads => {
                each(&["status"], &[])
            }
            Self::StillDown => {
                let noted = "must not answer, and neither may its service";
                each(&["status"], &[]).into_iter().map(|line| line.noting(noted)).collect()
            }
            Self::Measured(_) => vec![Line::remark("look at the series of the probers and the sentinel")],
            Self::Manifest | Self::Prerequisites => each(&["--from", string], &["--dry-run"]),
            Self::BringUp(up) => each(&["--from", string], if up.agent { &[] } else { &["--no-agent"] }),
            Self::TakeSnapshot => vec![Line::remark("take a snapshot on the leader, as its timer does")],
            Self::Fault(broken) => each(&["drill", "fault", &broken.fault], &["--confirm", &plan.id]),
            Self::Heal(broken) => each(&["drill", "fault", &broken.fault], &["--confirm", &plan.id, "--heal"]),
            Self::Traffic => match &site.ingress {
                Some(ingress) => {
                    vec![Line::here(["curl", "--fail", "--silent", "--show-error", "--max-time", "5", &ingress.url])]
                }
                None => vec![Line::remark("the inventory names no ingress: look by hand where clients are led")],
            },
            Self::Compare => {
                let noted = "and `snapkit diff SNAPSHOT NODE-DIR/current/`, which must end with 0";
                each(&["check"], &[]).into_iter().map(|line| line.noting(noted)).collect()
            }
            Self::Remove => each(&["drill", "fault", "destroy-state"], &["--confirm", &plan.id, "--destroy", string]),
        }
    }
}

/// The kinds of drills, and those of moves of the lead.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deeds;

impl Vocabulary for Deeds {
    fn effect(&self, action: &Action) -> Result<Option<Effect>, String> {
        match Deed::of(action)? {
            Some(deed) => Ok(Some(deed.effect())),
            None => Moves.effect(action),
        }
    }

    fn commands(&self, plan: &Plan, step: &Step, site: &Site) -> Vec<Line> {
        match Deed::of(&step.action) {
            Ok(Some(deed)) => deed.commands(plan, step, site),
            _ => Moves.commands(plan, step, site),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn the_built_in_drills_are_sound() {
        for (name, _) in BUILT_IN {
            let text = text(name, "node-c").unwrap();
            let scenario = Scenario::parse(name, &text, &Deeds).unwrap();
            assert_eq!(scenario.name, *name);
            let decided: Vec<&str> = scenario.steps().filter_map(|(_, step)| step.check.as_deref()).collect();
            // The others follow from series and timeline, whoever computes them.
            let computed = [
                "signatures",
                "load-bearing",
                "lease-flips",
                "probers-alive",
                "sentinel",
                "clock-steady",
                "rto",
                "rpo",
                "timeboxes",
            ];
            for id in &scenario.required {
                assert!(
                    decided.contains(&id.as_str()) || computed.contains(&id.as_str()),
                    "{name}: nothing decides {id}"
                );
            }
            assert!(scenario.steps().all(|(_, step)| step.on.as_deref() != Some("blank")), "{name}");
        }
    }

    #[test]
    fn a_drill_with_an_unknown_fault_or_key_is_refused() {
        let full = text("full", "c").unwrap();
        for (from, to, named) in [
            ("fault = \"kill\"", "fault = \"destroy-state\"", "destroy-state"),
            ("kind = \"soak\"", "kind = \"soak\", seconds = 3", "seconds"),
            ("kind = \"compare\"", "kind = \"believe\"", "believe"),
        ] {
            let error = Scenario::parse("full", &full.replace(from, to), &Deeds).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
