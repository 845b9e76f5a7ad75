//! What has happened, in one of a few classes, and the one command that comes next.
//!
//! Made for the worst minute: it only reads, skips what is dead by itself, and names one next step. Classes: `docs/fleet.md`,
//! "Triage". Layer: pure; a probe and the states of nodes are its input.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use snapkit::terminal::output::Report;

use super::inventory::{Inventory, Preferred};
use super::probe::{Of, ProbeReport, Role};
use crate::agent::view::Mode;
use crate::surfaces::state::State;

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// The node that is to lead does, and clients reach it.
    #[serde(rename = "healthy")]
    Healthy,
    /// The node that is to lead does, and clients reach it; something else does not hold.
    #[serde(rename = "impaired")]
    Impaired,
    /// Another node leads already, and clients reach it.
    A,
    /// Nobody leads, and no follower is fit to.
    B,
    /// A node leads, and clients do not reach it.
    C,
    /// Nobody leads, and a follower is fit to.
    #[serde(rename = "fit")]
    Fit,
    /// Several nodes say that they lead.
    #[serde(rename = "split")]
    Split,
    /// Nothing answered.
    #[serde(rename = "unknown")]
    Unknown,
}

impl Class {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Impaired => "impaired",
            Self::A => "A",
            Self::B => "B",
            Self::C => "C",
            Self::Fit => "fit",
            Self::Split => "split",
            Self::Unknown => "unknown",
        }
    }
}

/// What a node is, for whoever must decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The node.
    pub node: String,
    /// Whether it answers at all.
    pub answers: bool,
    /// Whether it could lead; `None` where it does not say.
    pub fit: Option<bool>,
    /// Why, or why not.
    pub why: String,
    /// Snapshots it is behind.
    pub lag: Option<u64>,
}

/// The class and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Triage {
    /// The name of the fleet.
    pub fleet: String,
    /// What has happened.
    pub class: Class,
    /// In a sentence.
    pub what: String,
    /// Who leads.
    pub leader: Option<String>,
    /// Who was to lead.
    pub preferred: Option<String>,
    /// Where clients get to.
    pub ingress_target: Option<String>,
    /// The nodes, and what each could do; the best to lead first.
    pub candidates: Vec<Candidate>,
    /// The next command.
    pub next: String,
}

/// What a node said of itself, or why it said nothing.
pub type Said = (String, Result<State, String>);

/// Finds the class. `states` has what the agents say; a node that is not in it was not asked.
pub fn triage(inventory: &Inventory, report: &ProbeReport, states: &[Said]) -> Triage {
    let mut candidates: Vec<Candidate> = inventory.names().map(|name| candidate(name, report, states)).collect();
    candidates
        .sort_by_key(|candidate| (candidate.fit != Some(true), !candidate.answers, candidate.lag.unwrap_or(u64::MAX)));
    let preferred = inventory.nodes.iter().find(|node| node.preferred == Preferred::Leader);
    let preferred = preferred.map(|node| node.name.clone());
    let leaders: Vec<&str> = report.leaders().collect();
    let target = report.ingress_target();
    let ingress = report.ingress().filter(|ingress| ingress.skipped.is_none());
    let (class, what, next) = match leaders[..] {
        _ if !candidates.iter().any(|candidate| candidate.answers) => {
            let what = match ingress.filter(|ingress| ingress.is.is_some()) {
                Some(_) => "no node answers when asked directly, though something does behind the ingress",
                None => "nothing answers",
            };
            (Class::Unknown, what.to_owned(), "bootstrap probe --explain".to_owned())
        }
        [_, _, ..] => {
            let term = |name: &&str| report.node(name).and_then(|surface| surface.who.term).unwrap_or(0);
            let old = leaders.iter().min_by_key(|name| term(name)).copied().unwrap_or_default();
            let what = format!("{} all say that they lead", leaders.join(", "));
            (Class::Split, what, format!("bootstrap node down {old} --leading --execute"))
        }
        [leader] => led(leader, report, preferred.as_deref(), ingress.is_some(), target),
        [] => nobody(&candidates),
    };
    Triage {
        fleet: inventory.name.clone(),
        class,
        what,
        leader: report.leader().map(str::to_owned),
        preferred,
        ingress_target: target.map(str::to_owned),
        candidates,
        next,
    }
}

fn led(
    leader: &str,
    report: &ProbeReport,
    preferred: Option<&str>,
    has_ingress: bool,
    target: Option<&str>,
) -> (Class, String, String) {
    let reached = !has_ingress
        || match target {
            Some(target) => target == leader,
            None => report.ingress().is_some_and(|ingress| ingress.is == Some(Role::Leader)),
        };
    if !reached {
        let where_to = target.map_or_else(|| "nowhere".to_owned(), |target| format!("to {target}"));
        let what = format!("{leader} leads, and the ingress leads {where_to}");
        return (Class::C, what, "bootstrap probe --vantage ingress --explain".to_owned());
    }
    let lead_in = if has_ingress { "and clients reach it" } else { "and no ingress is named" };
    match preferred {
        Some(preferred) if preferred != leader => {
            let what = format!("{leader} leads already, {lead_in}; {preferred} was to");
            (Class::A, what, format!("bootstrap node status {preferred}"))
        }
        _ => {
            let failed = report.failures().find(|failure| failure.of != "ingress");
            let what = match failed {
                Some(failure) => {
                    format!(
                        "{leader} leads, {lead_in}; not all is well: {} {}: {}",
                        failure.of, failure.id, failure.observed
                    )
                }
                None => format!("{leader} leads, {lead_in}"),
            };
            match failed {
                Some(_) => (Class::Impaired, what, "bootstrap probe --explain".to_owned()),
                None => (Class::Healthy, what, "nothing to do".to_owned()),
            }
        }
    }
}

fn nobody(candidates: &[Candidate]) -> (Class, String, String) {
    let fit = candidates.iter().find(|candidate| candidate.fit == Some(true));
    match fit {
        Some(fit) => {
            let what = format!("nobody leads, and {} is fit to: {}", fit.node, fit.why);
            (Class::Fit, what, "bootstrap failover emergency".to_owned())
        }
        None => {
            let all: Vec<String> =
                candidates.iter().map(|candidate| format!("{}: {}", candidate.node, candidate.why)).collect();
            let best = candidates.iter().find(|candidate| candidate.answers).map_or("", |one| one.node.as_str());
            let what = format!("nobody leads, and no node is fit to ({})", all.join("; "));
            (Class::B, what, format!("bootstrap node status {best}"))
        }
    }
}

/// What a node could do.
fn candidate(name: &str, report: &ProbeReport, states: &[Said]) -> Candidate {
    let surface = report.surfaces.iter().find(|surface| surface.of == Of::Node && surface.name == name);
    // What names no role is somebody else's answer, such as the 404 of a web server.
    let answered = surface.filter(|surface| surface.skipped.is_none() && surface.is.is_some());
    let said = states.iter().find(|(node, _)| node == name).map(|(_, said)| said);
    let (answers, fit, why, lag) = match said {
        Some(Ok(state)) => {
            let (fit, why) = fitness(state);
            (true, Some(fit), why, state.view.chain.lag)
        }
        other => {
            let why = match other {
                Some(Err(why)) => why.clone(),
                _ => "it was not asked".to_owned(),
            };
            match answered {
                // It may be fit without being ours: what it says of readiness is all that is known.
                Some(surface) => {
                    let ready = surface.ready.status.is_some() && surface.ready.mismatch.is_none();
                    let follows = matches!(surface.is, Some(Role::Follower | Role::Leader));
                    let why = format!("it answers {} and is {}", surface.ready.shown(), surface.role.shown());
                    (true, Some(ready && follows), why, None)
                }
                None => (false, Some(false), why, None),
            }
        }
    };
    Candidate { node: name.to_owned(), answers, fit, why, lag }
}

/// Whether an agent says that its node could lead.
fn fitness(state: &State) -> (bool, String) {
    let view = &state.view;
    let bars = view.problems.iter().find(|problem| {
        ["degraded", "refused", "no_candidate", "unfit", "stale", "store_unreachable", "takeover_failed"]
            .contains(&problem.name.as_str())
    });
    match view.mode {
        Mode::Leader | Mode::Promoting | Mode::Draining => (true, format!("it is {}", view.mode.role())),
        Mode::Candidate => (true, "it claims the lease as soon as it may".to_owned()),
        // In static leadership a follower is no candidate until it is told to lead.
        Mode::Follower if view.lease.mode.as_deref() == Some("static") && state.ready.ok => {
            (true, format!("it waits to be promoted: {}", state.ready.why))
        }
        Mode::Follower | Mode::Paused => match bars {
            Some(problem) => (false, problem.what.clone()),
            None => (false, format!("it is {}: {}", view.mode.role(), view.why)),
        },
        other => (false, format!("it is {}: {}", other.role(), view.why)),
    }
}

impl Report for Triage {
    const SCHEMA: &'static str = "bootstrap.triage/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "class {}: {}", self.class.as_str(), self.what)?;
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
        writeln!(out, "lease holder: {}; ingress target: {}", shown(&self.leader), shown(&self.ingress_target))?;
        for candidate in &self.candidates {
            let fit = match candidate.fit {
                Some(true) => "fit",
                Some(false) if candidate.answers => "not fit",
                Some(false) => "silent",
                None => "not known",
            };
            let lag = candidate.lag.map_or_else(String::new, |lag| format!(", {lag} snapshots behind"));
            writeln!(out, "  {}: {fit}{lag}: {}", candidate.node, candidate.why)?;
        }
        writeln!(out, "next: {}", self.next)
    }
}
