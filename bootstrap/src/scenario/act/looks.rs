//! Steps that only look: what every surface says, whether the old leader is down, whether the chain is fresh, and what is
//! kept of it.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Limit, Mover, expected, shown};
use crate::evidence::event::{Actor as By, AfterAction, What};
use crate::evidence::facts::{HEALTH_SCHEMA, Health, HealthRow};
use crate::fleet::probe::{ProbeReport, Verdict};
use crate::scenario::condition::{Condition, Measure, fresh, leaders, nothing_lost};
use crate::scenario::debts::Debt;
use crate::scenario::execute::{Outcome, Turn};
use crate::scenario::field::Port;
use crate::scenario::moves::{ChainFresh, Collect, Down, Expected, NothingLost, Probe};
use crate::scenario::plan::Plan;
use crate::surfaces::state::State;

/// A failure: a stable word and a sentence.
type Failed = (String, String);

fn failed(code: &str, why: impl Into<String>) -> Failed {
    (code.to_owned(), why.into())
}

impl Mover<'_> {
    /// Asks all surfaces until they say what they must, or time is over: right after a change some need a moment.
    pub(super) fn probe(&self, turn: &Turn<'_>, probe: &Probe) -> Outcome {
        let limit = Limit::after(turn.within);
        let plan = turn.plan;
        let skip: Vec<&str> = match (probe.without_old_leader, &plan.old_leader) {
            (true, Some(old)) => vec![old],
            _ => Vec::new(),
        };
        let mut last = None;
        let result = self.until(limit, || {
            let report = self.field.probe(expected(plan, probe.expect), &skip)?;
            let judged = judge(plan, probe, &report);
            last = Some(report);
            judged
        });
        let result = result.map_err(|why| failed("not-so", why));
        self.decided(turn.step, &last, result)
    }

    /// Proves that the old leader does not lead: by what its agent says, by its service's port, and at the ingress.
    pub(super) fn down(&self, turn: &Turn<'_>, down: &Down, nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let mut seen = json!({});
        let result = self.until(limit, || {
            let mut said = Vec::new();
            for node in nodes {
                let state = self.field.state(node);
                let port = self.field.port(node);
                seen[node] = json!({ "state": state.as_ref().ok(), "silent": state.as_ref().err(), "port": format!("{port:?}") });
                said.push(match state {
                    Ok(state) => self.released(node, &state, &port)?,
                    Err(why) if down.unreachable_is_fine => self.gone(turn.plan, node, &why, &port)?,
                    Err(why) => return Err(why),
                });
                if self.field.inventory().ingress.is_some() {
                    let answers = self.field.ingress();
                    seen["ingress"] = json!(answers);
                    // Nobody there is as good as another one: it is not this one.
                    if answers.as_deref() == Ok(node.as_str()) {
                        return Err(format!("{node} answers at the ingress"));
                    }
                }
            }
            Ok(said.join("; "))
        });
        self.decided(turn.step, &seen, result.map_err(|why| failed("timeout", why)))
    }

    fn released(&self, node: &str, state: &State, port: &Port) -> Result<String, String> {
        Condition::Released.holds(state, Measure::default()).map_err(|why| format!("{node}: {why}"))?;
        match (port, state.view.service.running_as.as_deref()) {
            (Port::Open, None) => Err(format!("{node}: its agent runs no service, and one answers at its address")),
            (Port::Closed(_), None) => Ok(format!("{node} holds no lease and runs no service, and its port is closed")),
            (_, Some(role)) => Ok(format!("{node} holds no lease, and its service runs as {role}")),
            (Port::NotKnown, None) => Ok(format!("{node} holds no lease and runs no service")),
        }
    }

    /// A node that does not answer: somebody else leads in a later term than it did, and nothing answers at its address.
    fn gone(&self, plan: &Plan, node: &str, why: &str, port: &Port) -> Result<String, String> {
        if *port == Port::Open {
            return Err(format!(
                "{node}: its agent does not answer ({why}), and something answers at its service's address"
            ));
        }
        let states: Vec<State> = plan.nodes.iter().filter_map(|node| self.field.state(node).ok()).collect();
        match leaders(&states)[..] {
            [leader] if leader != node => {
                let term = states.iter().find(|state| state.view.node == leader).map_or(0, |state| state.view.term);
                let port = if *port == Port::NotKnown { "" } else { ", and its service's port is closed" };
                Ok(format!("{node} does not answer; {leader} leads in term {term}{port}"))
            }
            _ => Err(format!("{node} does not answer ({why}), and no other node leads")),
        }
    }

    pub(super) fn chain_fresh(&self, turn: &Turn<'_>, wanted: &ChainFresh, nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let mut seen = BTreeMap::new();
        let result = self.until(limit, || {
            let mut said = Vec::new();
            for node in nodes {
                let state = self.field.state(node);
                let judged = state.clone().and_then(|state| {
                    fresh(&state)?;
                    let chain = &state.view.chain;
                    match (&chain.failure, chain.lag) {
                        (Some(failure), _) => Err(format!("the chain cannot be read: {failure}")),
                        (None, None) => Err("how far it is behind is not known".to_owned()),
                        (None, Some(lag)) if lag > wanted.max_lag => {
                            Err(format!("{lag} snapshots behind, and at most {} may be", wanted.max_lag))
                        }
                        (None, Some(lag)) => Ok(format!(
                            "{node} is {lag} snapshots behind, of which the newest was taken {} s ago",
                            chain.age_seconds.map_or_else(|| "?".to_owned(), |age| age.to_string())
                        )),
                    }
                });
                seen.insert(node.as_str(), state);
                said.push(judged.map_err(|why| format!("{node}: {why}"))?);
            }
            Ok(said.join("; "))
        });
        self.decided(turn.step, &shown(&seen), result.map_err(|why| failed("not-so", why)))
    }

    /// Holds the snapshot that a new leader began from against the moment at which the old one stopped.
    pub(super) fn nothing_lost(&self, turn: &Turn<'_>, lost: &NothingLost, nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let mut seen = json!({});
        let (Some(from), [to]) = (lost.from.of(turn.plan), nodes) else {
            return Outcome::failed("not-so", "it takes one node that led and one that leads");
        };
        let result = self.until(limit, || {
            let (before, after) = (self.field.state(from)?, self.field.state(to)?);
            let led = before.view.ended.is_some() || before.view.takeover.is_some() || before.holds;
            seen = json!({ "from": before, "to": after });
            match lost.may_not_have_led && !led {
                true => Ok(format!("{from} did not lead")),
                false => nothing_lost(&before, &after),
            }
        });
        self.decided(turn.step, &seen, result.map_err(|why| failed("lost", why)))
    }

    pub(super) fn ingress_check(&self, turn: &Turn<'_>, reaches: Expected) -> Outcome {
        let limit = Limit::after(turn.within);
        let mut seen = json!({});
        let result = self.until(limit, || {
            let answers = self.field.ingress();
            seen = json!({ "answers": answers });
            let node = answers?;
            let leads = self.field.state(&node).is_ok_and(|state| state.leader.ok);
            match reached(turn.plan, reaches, &node) {
                Err(why) => Err(why),
                Ok(()) if !leads => Err(format!("{node} answers at the ingress, and does not lead")),
                Ok(()) => Ok(format!("{node} answers at the ingress, and leads")),
            }
        });
        self.decided(turn.step, &seen, result.map_err(|why| failed("timeout", why)))
    }

    pub(super) fn debts_closed(&self, turn: &Turn<'_>) -> Outcome {
        match self.debts.open() {
            Err(error) => Outcome::failed("not-known", error.to_string()),
            Ok(open) => {
                let settles = turn.plan.steps.iter().any(|step| step.action.kind == "ingress-settle");
                let later = |debt: &Debt| settles && debt.left_to_switchback.is_some();
                let (left, open): (Vec<_>, Vec<_>) = open.into_iter().partition(later);
                let result = match &open[..] {
                    [] if left.is_empty() => Ok("no debt is open".to_owned()),
                    [] => {
                        let ids: Vec<&str> = left.iter().map(|debt| debt.id.as_str()).collect();
                        Ok(format!("no debt is open but what this run puts right: {}", ids.join(", ")))
                    }
                    open => {
                        let named: Vec<String> =
                            open.iter().map(|debt| format!("{}: {}", debt.id, debt.text)).collect();
                        Err(failed("debts-open", format!("{} open: {}", named.len(), named.join("; "))))
                    }
                };
                self.decided(turn.step, &open, result)
            }
        }
    }

    /// Keeps every agent's state, and a health report of it.
    pub(super) fn collect(&self, turn: &Turn<'_>, collect: &Collect) -> Outcome {
        let name = &collect.name;
        let lost = turn.plan.old_leader.as_ref().filter(|_| collect.without_old_leader);
        let states: BTreeMap<&str, Result<State, String>> =
            turn.plan.nodes.iter().map(|node| (node.as_str(), self.field.state(node))).collect();
        let rows = turn
            .plan
            .nodes
            .iter()
            .filter(|node| lost != Some(*node))
            .flat_map(|node| self.health(node, states.get(node.as_str())));
        let health = Health { schema: HEALTH_SCHEMA.to_owned(), rows: rows.collect() };
        let files = self
            .keep(&format!("states-{name}"), &shown(&states))
            .and_then(|states| Ok(states.into_iter().chain(self.keep(&format!("health-{name}"), &health)?)));
        let files = match files {
            Ok(files) => files,
            Err(outcome) => return outcome,
        };
        let bad: Vec<String> = (health.rows.iter())
            .filter(|row| row.status != "ok")
            .map(|row| format!("{} {}: {}", row.host, row.service, row.status))
            .collect();
        let all = health.rows.len();
        let observed = match bad.is_empty() {
            true => format!("all of {all} rows are ok"),
            false => format!("{} of {all} rows are ok; not: {}", all - bad.len(), bad.join("; ")),
        };
        let outcome = self.decided(turn.step, &health, Ok(observed));
        files.fold(outcome, Outcome::evidence)
    }

    fn health(&self, node: &str, state: Option<&Result<State, String>>) -> Vec<HealthRow> {
        let host = self.field.inventory().node(node).and_then(|node| node.host.clone()).unwrap_or(node.to_owned());
        let row = |role: &str, service: &str, status: String| HealthRow {
            host: host.clone(),
            role: role.to_owned(),
            service: service.to_owned(),
            status,
        };
        let judged = |ok: bool, why: &str| if ok { "ok".to_owned() } else { why.to_owned() };
        match state {
            Some(Ok(state)) => vec![
                row(&state.role, "agent", judged(state.health.ok, &state.health.why)),
                row(&state.role, "service", judged(state.ready.ok, &state.ready.why)),
            ],
            Some(Err(why)) => vec![row("unknown", "agent", why.clone())],
            None => Vec::new(),
        }
    }

    /// What must be known after an emergency (C50).
    pub(super) fn after_action(&self, turn: &mut Turn<'_>) -> Outcome {
        let old = turn.plan.old_leader.clone().unwrap_or_default();
        let state = self.field.state(&old);
        let trouble = match &state {
            Err(_) => "unreachable",
            Ok(_) => "wrong-role",
        };
        let debts = match self.debts.all() {
            Ok(debts) => debts,
            Err(error) => return Outcome::failed("not-known", error.to_string()),
        };
        let own = debts.iter().find(|debt| debt.run == turn.plan.id);
        let backup = own.and_then(|debt| debt.backup.as_ref());
        let found = AfterAction {
            trouble: trouble.to_owned(),
            manual_reload: self.reloaded || own.is_some(),
            hotfix: own.is_some(),
            backup_file: backup.map_or_else(|| "none".to_owned(), |backup| backup.display().to_string()),
        };
        if let Err(error) = turn.journal.add(By::Tool, Some(&turn.step.id), What::AfterAction(found.clone())) {
            return Outcome::failed("not-kept", error.to_string());
        }
        let observed = format!(
            "{old} is {trouble}; ingress reloaded: {}; hotfix: {}; backup: {}",
            found.manual_reload, found.hotfix, found.backup_file
        );
        self.decided(turn.step, &found, Ok(observed))
    }
}

/// Whether a probe found what the step wants.
fn judge(plan: &Plan, probe: &Probe, report: &ProbeReport) -> Result<String, String> {
    if report.verdict != Verdict::Passed {
        let failures: Vec<String> = (report.failures())
            .map(|assertion| {
                format!(
                    "{} {}: expected {}, found {}",
                    assertion.of, assertion.id, assertion.expected, assertion.observed
                )
            })
            .collect();
        return Err(match failures.is_empty() {
            true => format!("the probe ended with {:?}", report.verdict),
            false => failures.join("; "),
        });
    }
    let leader = report.leader().ok_or("not exactly one node leads")?;
    if probe.expect == Expected::NotOldLeader && plan.old_leader.as_deref() == Some(leader) {
        return Err(format!("{leader} leads still"));
    }
    Ok(format!("{leader} leads; {} assertions passed, {} were skipped", report.passed, report.skipped))
}

fn reached(plan: &Plan, reaches: Expected, node: &str) -> Result<(), String> {
    let is = |who: &Option<String>| who.as_deref() == Some(node);
    let good = match reaches {
        Expected::OldLeader => is(&plan.old_leader),
        Expected::Target => is(&plan.target),
        Expected::NotOldLeader => !is(&plan.old_leader),
        Expected::Anybody => true,
    };
    if good { Ok(()) } else { Err(format!("{node} answers at the ingress")) }
}
