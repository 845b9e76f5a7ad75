//! From a scenario and what is seen of a fleet to a plan: who leads, who is to lead, and which steps that takes.
//!
//! The same sight gives the same plan, so that a dry run and the execution that follows it have one digest unless something
//! changed in between. Layer: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::digest::Digest;

use super::condition::{Condition, Measure};
use super::grammar::{Leadership, OldLeader, Scenario, StepSpec, Target, When};
use super::plan::{Plan, Required, SCHEMA, Step};
use super::site::REPLACE_ME;
use crate::agent::view::Mode as AgentMode;
use crate::evidence::event::Mode;
use crate::surfaces::state::State;

/// What is known of a fleet.
#[derive(Debug, Clone)]
pub struct Sight {
    /// The nodes, in the order of the inventory.
    pub nodes: Vec<Seen>,
    /// Whether the inventory names an ingress.
    pub ingress: bool,
    /// Whether it says how that is changed.
    pub ingress_driver: bool,
    /// The SHA-256 of the inventory.
    pub inventory: Digest,
    /// Limits.
    pub thresholds: BTreeMap<String, u64>,
    /// What may be stopped.
    pub scope_stop: Vec<String>,
}

/// One node.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Whether it is to lead when nothing is wrong.
    pub preferred: bool,
    /// What its agent says.
    pub state: Option<State>,
    /// Why it says nothing.
    pub silence: Option<String>,
}

/// What a person asks for, and who that is.
#[derive(Debug, Clone)]
pub struct Wish {
    /// This run.
    pub id: String,
    /// Simulated or executed.
    pub mode: Mode,
    /// What a verifier supplied.
    pub challenge: Option<String>,
    /// Now.
    pub now: Timestamp,
    /// Who asks.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// Whom the lead is taken from, if a person says so.
    pub old_leader: Option<String>,
    /// Who is to lead, if a person says so.
    pub target: Option<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A name that is no node of the fleet.
    #[error("there is no node {name:?} in the inventory; it has {known}")]
    NoNode {
        /// The name.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The fleet is not as the scenario needs it.
    #[error("{why}")]
    NotNow {
        /// What was expected and found.
        why: String,
        /// What to do.
        next: String,
    },
}

fn not_now<T>(why: impl Into<String>, next: impl Into<String>) -> Result<T, ResolveError> {
    Err(ResolveError::NotNow { why: why.into(), next: next.into() })
}

/// A plan of `scenario`, whose text is `text`, for what is seen.
///
/// # Errors
/// [`ResolveError`] when no lead can be moved so.
pub fn resolve(scenario: &Scenario, text: &str, sight: &Sight, wish: &Wish) -> Result<Plan, ResolveError> {
    for name in wish.old_leader.iter().chain(&wish.target) {
        sight.expect(name)?;
    }
    let leadership = sight.leadership();
    let old_leader = sight.old_leader(scenario, wish)?;
    let target = sight.target(scenario, wish, old_leader.as_deref())?;
    Ok(assemble(scenario, text, sight, wish, leadership, old_leader, target)?.sealed())
}

/// A plan to print where nobody was asked: by what the inventory prefers, with names to replace where there is none.
///
/// # Errors
/// [`ResolveError::NoNode`] for a step on a node that is not there.
pub fn sketch(scenario: &Scenario, text: &str, sight: &Sight, wish: &Wish) -> Result<Plan, ResolveError> {
    for name in wish.old_leader.iter().chain(&wish.target) {
        sight.expect(name)?;
    }
    let preferred = sight.nodes.iter().find(|node| node.preferred).or(sight.nodes.first());
    let other = sight.nodes.iter().find(|node| preferred.is_none_or(|preferred| preferred.name != node.name));
    let (from, to) = match scenario.target {
        Target::PreferredLeader => (other, preferred),
        Target::BestFollower | Target::Nobody => (preferred, other),
    };
    let name = |wished: &Option<String>, node: Option<&Seen>| {
        wished.clone().or_else(|| node.map(|node| node.name.clone())).unwrap_or_else(|| REPLACE_ME.to_owned())
    };
    let old_leader = (scenario.old_leader != OldLeader::Nobody).then(|| name(&wish.old_leader, from));
    let target = (scenario.target != Target::Nobody).then(|| name(&wish.target, to));
    Ok(assemble(scenario, text, sight, wish, sight.leadership(), old_leader, target)?.sealed())
}

fn assemble(
    scenario: &Scenario,
    text: &str,
    sight: &Sight,
    wish: &Wish,
    leadership: Leadership,
    old_leader: Option<String>,
    target: Option<String>,
) -> Result<Plan, ResolveError> {
    let cast = Cast { sight, leadership, old_leader: old_leader.as_deref(), target: target.as_deref() };
    let phases = scenario.phase.iter().flat_map(|phase| phase.step.iter().map(|step| (phase.id.as_str(), step)));
    let steps = cast.steps(phases)?;
    let rollback = cast.steps(scenario.rollback.iter().map(|step| ("rollback", step)))?;
    let always = cast.steps(scenario.always.iter().map(|step| ("always", step)))?;
    let checks =
        |ids: &[String], required| ids.iter().map(move |id| Required { id: id.clone(), required }).collect::<Vec<_>>();
    let groups = sight.nodes.iter().filter_map(|node| node.state.as_ref()?.view.group.clone());
    let thresholds = limits(&sight.thresholds, steps.iter().chain(&always));
    Ok(Plan {
        schema: SCHEMA.to_owned(),
        id: wish.id.clone(),
        mode: wish.mode,
        challenge: wish.challenge.clone(),
        made: wish.now,
        actor: wish.actor.clone(),
        reason: wish.reason.clone(),
        kind: "failover".to_owned(),
        scenario: scenario.name.clone(),
        title: scenario.title.clone(),
        scenario_sha256: Digest::sha256(text.as_bytes()).to_string(),
        group: groups.into_iter().next().unwrap_or_default(),
        leadership,
        inventory_sha256: sight.inventory.to_string(),
        nodes: sight.nodes.iter().map(|node| node.name.clone()).collect(),
        steps,
        rollback,
        always,
        checks: [checks(&scenario.required, true), checks(&scenario.optional, false)].concat(),
        thresholds,
        scope_stop: sight.scope_stop.clone(),
        old_leader,
        target,
        plan_sha256: String::new(),
    })
}

/// The limits of a run. A phase without a timebox of its own may take as long as its steps together.
fn limits<'p>(given: &BTreeMap<String, u64>, steps: impl Iterator<Item = &'p Step>) -> BTreeMap<String, u64> {
    let mut limits = BTreeMap::new();
    for step in steps {
        *limits.entry(format!("{}_seconds", step.phase)).or_default() += step.timeout_seconds;
    }
    limits.extend(given.iter().map(|(name, limit)| (name.clone(), *limit)));
    limits
}

impl Sight {
    fn expect(&self, name: &str) -> Result<&Seen, ResolveError> {
        self.nodes.iter().find(|node| node.name == name).ok_or_else(|| ResolveError::NoNode {
            name: name.to_owned(),
            known: self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    fn states(&self) -> impl Iterator<Item = &State> {
        self.nodes.iter().filter_map(|node| node.state.as_ref())
    }

    fn leadership(&self) -> Leadership {
        let mode = self.states().find_map(|state| state.view.lease.mode.as_deref());
        match mode {
            Some("static") => Leadership::Static,
            Some(_) => Leadership::Auto,
            None if self.states().next().is_some() => Leadership::Nobody,
            // Nobody answers: the usual one.
            None => Leadership::Auto,
        }
    }

    /// The one node that leads and serves.
    fn leader(&self) -> Result<&Seen, ResolveError> {
        let leads = |node: &&Seen| node.state.as_ref().is_some_and(|state| state.leader.ok);
        let leaders: Vec<&Seen> = self.nodes.iter().filter(leads).collect();
        match leaders[..] {
            [one] => Ok(one),
            [] => not_now(
                format!("nobody leads: {}", self.said()),
                "`bootstrap triage` says which case it is; `bootstrap failover emergency` has a standby lead",
            ),
            [..] => {
                let names: Vec<&str> = leaders.iter().map(|node| node.name.as_str()).collect();
                not_now(
                    format!("{} say that they lead, and one may", names.join(" and ")),
                    "nothing is moved while that is so: `bootstrap triage` says which one to stop",
                )
            }
        }
    }

    /// Who holds or last held the lease, by the highest term that anybody knows.
    fn last_holder(&self) -> Option<&str> {
        let holders = self.states().filter_map(|state| state.view.holder.as_ref());
        holders.max_by_key(|holder| holder.term).map(|holder| holder.node.as_str())
    }

    fn said(&self) -> String {
        let of = |node: &Seen| match (&node.state, &node.silence) {
            (Some(state), _) => format!("{} is {}", node.name, state.role),
            (None, Some(why)) => format!("{} does not answer ({why})", node.name),
            (None, None) => format!("{} does not answer", node.name),
        };
        self.nodes.iter().map(of).collect::<Vec<_>>().join(", ")
    }

    fn old_leader(&self, scenario: &Scenario, wish: &Wish) -> Result<Option<String>, ResolveError> {
        if scenario.old_leader == OldLeader::Nobody {
            return Ok(None);
        }
        if scenario.old_leader == OldLeader::Leader {
            let leader = &self.leader()?.name;
            return match &wish.old_leader {
                Some(wished) if wished != leader => not_now(
                    format!("{leader} leads, and the lead was to be taken from {wished}"),
                    "leave --old-leader out, or look first: `bootstrap topology`",
                ),
                _ => Ok(Some(leader.clone())),
            };
        }
        let serves = |name: &str| self.expect(name).is_ok_and(leads);
        let lost = match &wish.old_leader {
            Some(wished) => Some(wished.clone()),
            None => self.lost(),
        };
        match lost {
            Some(lost) if serves(&lost) => not_now(
                format!("{lost} leads, and its service serves"),
                "an emergency is for a leader that is lost; `bootstrap failover planned` moves the lead in order",
            ),
            Some(lost) => self.expect(&lost).map(|node| Some(node.name.clone())),
            None => not_now(
                format!("no leader is lost: {}", self.said()),
                "name it with --old-leader, or look first: `bootstrap triage`",
            ),
        }
    }

    /// Whom an emergency is about: the last holder, unless that one serves; then whoever should be there and is not.
    fn lost(&self) -> Option<String> {
        let holder = self.last_holder().and_then(|holder| self.expect(holder).ok());
        if let Some(holder) = holder.filter(|holder| !leads(holder)) {
            return Some(holder.name.clone());
        }
        let missing = |node: &&Seen| {
            let stands_by = |state: &State| Condition::StandsBy.holds(state, Measure::default()).is_ok();
            !leads(node) && !node.state.as_ref().is_some_and(stands_by)
        };
        let missing: Vec<&Seen> = self.nodes.iter().filter(missing).collect();
        let preferred = missing.iter().find(|node| node.preferred);
        let only = (missing.len() == 1).then(|| missing[0]);
        preferred.copied().or(only).map(|node| node.name.clone())
    }

    fn target(
        &self,
        scenario: &Scenario,
        wish: &Wish,
        old_leader: Option<&str>,
    ) -> Result<Option<String>, ResolveError> {
        let target = match (scenario.target, &wish.target) {
            (Target::Nobody, _) => return Ok(None),
            (_, Some(wished)) => Some(wished.clone()),
            (Target::PreferredLeader, None) => {
                self.nodes.iter().find(|node| node.preferred).map(|node| node.name.clone())
            }
            (Target::BestFollower, None) => self.best_follower(old_leader),
        };
        // Where a lease decides after a loss, whoever claims it first leads: nobody is chosen, and a plan does not change
        // because somebody has led since its dry run.
        let is_open = scenario.old_leader == OldLeader::LastHolder && self.leadership() == Leadership::Auto;
        // One that is taking over stands by no longer, and does not lead yet.
        let promoting = || self.states().any(|state| state.view.mode == AgentMode::Promoting);
        if is_open && wish.target.is_none() && (target.is_some() || promoting()) {
            return Ok(None);
        }
        match target {
            Some(target) if Some(target.as_str()) == old_leader => not_now(
                format!("{target} leads already, and the lead cannot be moved to where it is"),
                match scenario.target {
                    Target::PreferredLeader => "the preferred node leads already; there is nothing to give back",
                    _ => "name another node with --target",
                },
            ),
            Some(target) => Ok(Some(target)),
            None if scenario.target == Target::PreferredLeader => not_now(
                "the inventory prefers no node as leader",
                "give one node `preferred = \"leader\"`, or name it with --target",
            ),
            None => not_now(
                format!("no node could take over: {}", self.said()),
                "`bootstrap node up NODE --execute` brings one up; `bootstrap triage` says more",
            ),
        }
    }

    /// Whoever leads already; else the standby that is least behind, the first of the inventory among equals.
    fn best_follower(&self, old_leader: Option<&str>) -> Option<String> {
        let others = || self.nodes.iter().filter(|node| Some(node.name.as_str()) != old_leader);
        if let Some(leading) = others().find(|node| leads(node)) {
            return Some(leading.name.clone());
        }
        let fit = |node: &&Seen| {
            let fit = |state: &State| Condition::StandsBy.holds(state, Measure::default()).is_ok();
            node.state.as_ref().is_some_and(fit)
        };
        let behind = |node: &&Seen| node.state.as_ref().and_then(|state| state.view.chain.lag).unwrap_or(u64::MAX);
        others().filter(fit).min_by_key(behind).map(|node| node.name.clone())
    }
}

fn leads(node: &Seen) -> bool {
    node.state.as_ref().is_some_and(|state| state.leader.ok)
}

/// Who is who in a plan.
struct Cast<'s> {
    sight: &'s Sight,
    leadership: Leadership,
    old_leader: Option<&'s str>,
    target: Option<&'s str>,
}

impl Cast<'_> {
    fn steps<'p>(&self, specs: impl Iterator<Item = (&'p str, &'p StepSpec)>) -> Result<Vec<Step>, ResolveError> {
        let mut steps = Vec::new();
        for (phase, spec) in specs.filter(|(_, spec)| self.applies(spec.when)) {
            let on = self.place(spec.on.as_deref())?;
            // A place that means several nodes may mean none: of two nodes, none is another one.
            if on.is_empty() && spec.on.as_deref().is_some_and(|place| !["leader", "ingress"].contains(&place)) {
                continue;
            }
            if let Some(unless) = &spec.unless {
                self.place(Some(&unless.on))?;
            }
            steps.push(Step {
                id: spec.id.clone(),
                phase: phase.to_owned(),
                title: spec.title.clone(),
                effect: spec.effect,
                on,
                place: spec.on.clone(),
                unless: spec.unless.clone(),
                action: spec.action.clone(),
                timeout_seconds: spec.timeout_seconds,
                check: spec.check.clone(),
                next: spec.next.clone(),
            });
        }
        Ok(steps)
    }

    fn applies(&self, when: When) -> bool {
        when.leadership.is_none_or(|wanted| wanted == self.leadership)
            && when.ingress.is_none_or(|wanted| wanted == self.sight.ingress)
            && when.ingress_driver.is_none_or(|wanted| wanted == self.sight.ingress_driver)
    }

    fn place(&self, place: Option<&str>) -> Result<Vec<String>, ResolveError> {
        let nodes = self.sight.nodes.iter().map(|node| node.name.as_str());
        let but = |out: &[Option<&str>]| -> Vec<String> {
            nodes.clone().filter(|name| !out.contains(&Some(*name))).map(str::to_owned).collect()
        };
        let one = |name: Option<&str>| name.map(str::to_owned).into_iter().collect();
        Ok(match place {
            None | Some("leader" | "ingress") => Vec::new(),
            Some("old-leader") => one(self.old_leader),
            Some("target") => one(self.target),
            Some("others") => but(&[self.old_leader, self.target]),
            Some("standbys") => but(&[self.old_leader]),
            Some("not-target") => but(&[self.target]),
            Some("both") => [self.old_leader, self.target].into_iter().flatten().map(str::to_owned).collect(),
            Some("all") => but(&[]),
            Some(name) => vec![self.sight.expect(name)?.name.clone()],
        })
    }
}

/// The nodes that a place of a plan means when it is acted; `leader` is found out then.
pub fn nodes_of(plan: &Plan, place: &str) -> Vec<String> {
    let but = |out: &[&Option<String>]| -> Vec<String> {
        plan.nodes.iter().filter(|name| !out.iter().any(|one| one.as_ref() == Some(*name))).cloned().collect()
    };
    match place {
        "leader" | "ingress" => Vec::new(),
        "old-leader" => plan.old_leader.clone().into_iter().collect(),
        "target" => plan.target.clone().into_iter().collect(),
        "others" => but(&[&plan.old_leader, &plan.target]),
        "standbys" => but(&[&plan.old_leader]),
        "not-target" => but(&[&plan.target]),
        "both" => [&plan.old_leader, &plan.target].into_iter().flatten().cloned().collect(),
        "all" => but(&[]),
        name => vec![name.to_owned()],
    }
}

#[cfg(test)]
pub(crate) mod tests;
