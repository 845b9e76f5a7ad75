//! Deeds that only look: at agents, series, the ingress.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;

use super::{Baseline, Drill, check, failed, kept, until};
use crate::agent::view::Mode;
use crate::drill::deeds::{Measured, When};
use crate::drill::http::Asker;
use crate::evidence::event::{StepStatus, What};
use crate::evidence::facts::{HEALTH_SCHEMA, Health, HealthRow};
use crate::evidence::run_dir::{COLLECT, PROBES, SENTINEL};
use crate::evidence::series::{Head, Line};
use crate::scenario::Outcome;
use crate::scenario::execute::Turn;
use crate::surfaces::state::State;

/// Of a node whose agent cannot be asked.
const SILENT: &str = " does not answer";

impl Drill<'_> {
    /// Rows of what every node says; and what was before, when the drill begins.
    pub(super) fn health(&mut self, when: When, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let name = match when {
            When::Before => format!("{COLLECT}/health-before.json"),
            When::After => format!("{COLLECT}/health-after.json"),
        };
        let is_failed = |what: &What| matches!(what, What::StepEnd { status: StepStatus::Failed, .. });
        let failed_before = turn.journal.past().iter().any(|(_, what)| is_failed(what));
        // A group that was whole a moment ago settles by itself. What is not whole when a drill begins, or after a step of it
        // failed, is not waited for long.
        let within = match when {
            When::Before => Duration::from_secs(2),
            When::After if failed_before => Duration::from_secs(15),
            When::After => turn.within.mul_f32(0.8),
        };
        // Who is silent when a drill begins is not up yet, or will be seen to be missing; and who was silent then and was not
        // brought up, because a step failed, does not come by itself.
        let silent = if failed_before { self.silent_before() } else { Vec::new() };
        let may_be_silent = |host: &String| when == When::Before || silent.contains(host);
        let mut rows = Vec::new();
        let _ = until(within, || {
            let seen: Vec<(bool, HealthRow)> = turn.step.on.iter().map(|node| self.row(node)).collect();
            let settled =
                |(answers, row): &(bool, HealthRow)| row.status == "ok" || (!answers && may_be_silent(&row.host));
            let all_settled = seen.iter().all(settled);
            rows = seen.into_iter().map(|(_, row)| row).collect();
            if all_settled { Ok(()) } else { Err(String::new()) }
        });
        let fine = rows.iter().all(|row| row.status == "ok");
        let told = rows.iter().map(|row| format!("{} is {}: {}", row.host, row.role, row.status));
        let told = told.collect::<Vec<_>>().join(", ");
        kept(self.run.write_json(&name, &Health { schema: HEALTH_SCHEMA.to_owned(), rows }), &name)?;
        if when == When::Before {
            let written = self.note_baseline(turn);
            kept(written, super::BASELINE)?;
            return Ok(Outcome::ok(told).evidence(name));
        }
        let expected = "every node answers and does what it is there for";
        match fine {
            true => Ok(Outcome::ok(&told).with(check("health-after", true, told, expected, &name)).evidence(name)),
            false => Err(failed("health-after", "not-so", &told, expected, &name).evidence(name)),
        }
    }

    /// The nodes that did not answer when the drill began.
    fn silent_before(&self) -> Vec<String> {
        let bytes = fs::read(self.run.file(&format!("{COLLECT}/health-before.json"))).unwrap_or_default();
        let health: Option<Health> = serde_json::from_slice(&bytes).ok();
        let rows = health.into_iter().flat_map(|health| health.rows);
        rows.filter(|row| row.status.ends_with(SILENT)).map(|row| row.host).collect()
    }

    /// Whether a node answers, and how it is.
    fn row(&self, node: &str) -> (bool, HealthRow) {
        let state = self.state(node);
        let answers = state.is_ok();
        let (role, status) = match state {
            Ok(state) if state.health.ok && state.ready.ok => (state.role, "ok".to_owned()),
            Ok(state) if !state.health.ok => (state.role, state.health.why),
            Ok(state) => (state.role, state.ready.why),
            Err(_) => ("unknown".to_owned(), format!("{node}{SILENT}")),
        };
        (answers, HealthRow { host: node.to_owned(), role, service: "agent".to_owned(), status })
    }

    fn note_baseline(&self, turn: &Turn<'_>) -> std::io::Result<()> {
        if self.run.file(super::BASELINE).exists() {
            // An orchestrator before this one saw it first.
            return Ok(());
        }
        let states: Vec<(String, State)> =
            turn.step.on.iter().filter_map(|node| Some((node.clone(), self.state(node).ok()?))).collect();
        let baseline = Baseline {
            term: states.iter().map(|(_, state)| state.view.term).max().unwrap_or(0),
            attempts: states.iter().map(|(node, state)| (node.clone(), state.view.takeover_attempts)).collect(),
            conflicts: self.conflicts().unwrap_or(0),
        };
        self.run.write_json(super::BASELINE, &baseline)
    }

    /// Refused consumers, as whichever service answers counts them; `None` where the inventory does not say where.
    fn conflicts(&self) -> Option<u64> {
        let path = self.inventory.drill.conflicts.as_ref()?;
        let asker = Asker::new(super::ANSWER, true).ok()?;
        let services = self.inventory.nodes.iter().filter_map(|node| node.service.as_ref());
        let told = services.filter_map(|service| {
            let url = service.join(path.trim_start_matches('/')).ok()?;
            asker.ask(Method::GET, url.as_str(), None).ok()?.number("/conflicts")
        });
        told.max()
    }

    /// The last answers of every series are good.
    pub(super) fn measured(&mut self, wanted: &Measured, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let term = self.baseline().map_or(0, |baseline| baseline.term);
        let mut files: Vec<_> = match fs::read_dir(self.run.file(PROBES)) {
            Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        files.retain(|path| path.extension().is_some_and(|ending| ending == "jsonl"));
        files.extend(Some(self.run.file(SENTINEL)).filter(|path| path.exists()));
        if files.is_empty() {
            return Err(Outcome::failed("nothing-measured", "no prober and no sentinel runs"));
        }
        let look = || -> Result<(), String> {
            let mut any = false;
            for path in &files {
                let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                any |= is_good(&name, &text, wanted, term)?;
            }
            if any { Ok(()) } else { Err("no series is one of the ingress".to_owned()) }
        };
        match until(turn.within, look) {
            Ok(()) => Ok(Outcome::ok(format!("{} series, each with {} good answers", files.len(), wanted.good))),
            Err(why) => Err(Outcome::failed("not-so", why)),
        }
    }

    /// The follower follows for as long as the inventory says.
    pub(super) fn soak(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let id = "no-early-consume";
        let expected = "it follows, tries no takeover, and no second consumer is refused";
        let baseline = self.baseline().map_err(|error| Outcome::failed("run-directory", error.to_string()))?;
        let seconds = self.inventory.drill.soak_seconds.min(turn.within.as_secs());
        let end = crate::clock::BootTime::now() + Duration::from_secs(seconds);
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let mut silent = 0;
        loop {
            if let Some(conflicts) = self.conflicts().filter(|conflicts| *conflicts > baseline.conflicts) {
                let observed = format!("{} consumers were refused meanwhile", conflicts - baseline.conflicts);
                return Err(failed(id, "early-consume", &observed, expected, super::BASELINE));
            }
            match self.state(&node) {
                Ok(state) => {
                    silent = 0;
                    let before = baseline.attempts.get(&node).copied().unwrap_or(0);
                    let observed = match state {
                        _ if state.view.takeover_attempts > before => Some(format!("{node} tried to take over")),
                        _ if state.view.conflicts > 0 => Some(format!("{node} saw {} conflicts", state.view.conflicts)),
                        _ if state.view.service.running_as.as_deref() == Some("leader") => {
                            Some(format!("the service of {node} runs as leader"))
                        }
                        _ if !matches!(state.view.mode, Mode::Follower | Mode::Candidate) => {
                            Some(format!("{node} is {}", state.role))
                        }
                        _ => None,
                    };
                    if let Some(observed) = observed {
                        return Err(failed(id, "early-consume", &observed, expected, super::BASELINE));
                    }
                }
                Err(why) => {
                    silent += 1;
                    if silent > 3 {
                        return Err(failed(id, "unreachable", &format!("{node} does not answer: {why}"), expected, ""));
                    }
                }
            }
            if crate::clock::BootTime::now() >= end {
                break;
            }
            std::thread::sleep(Duration::from_millis(250));
        }
        let observed = format!("{node} followed for {seconds} s");
        Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, super::BASELINE)))
    }

    /// The lease is somebody else's, in a later term, and that one's service serves.
    pub(super) fn took_over(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let baseline = self.baseline().map_err(|error| Outcome::failed("run-directory", error.to_string()))?;
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let mut flipped = None;
        let found = until(turn.within, || {
            let state = self.state(&node)?;
            let holder = state.view.holder.as_ref().filter(|holder| !holder.released);
            if let Some(holder) = holder.filter(|holder| holder.term > baseline.term && holder.node == node) {
                flipped.get_or_insert(holder.term);
            }
            let before = baseline.attempts.get(&node).copied().unwrap_or(0);
            match flipped {
                None => Err(format!("{node} is {} in term {}: {}", state.role, state.view.term, state.view.why)),
                Some(_) if !state.leader.ok => Err(format!("{node}: {}", state.leader.why)),
                Some(_) if state.view.takeover_attempts <= before => Err(format!("{node} counts no takeover")),
                Some(term) => Ok(term),
            }
        });
        let later = format!("{node} holds the lease in a term after {}", baseline.term);
        let serves = format!("{node} leads, its service serves, and it counts the takeover");
        match (found, flipped) {
            (Ok(term), _) => {
                let observed = format!("{node} leads in term {term}");
                let flips = check("lease-flips", true, &observed, &later, "lease/");
                Ok(Outcome::ok(&observed).with(flips).with(check("takeover", true, observed, &serves, "lease/")))
            }
            (Err(why), None) => Err(failed("lease-flips", "timeout", &why, &later, "lease/")),
            (Err(why), Some(term)) => {
                let observed = format!("{node} holds the lease in term {term}");
                Err(failed("takeover", "timeout", &why, &serves, "").with(check(
                    "lease-flips",
                    true,
                    observed,
                    &later,
                    "lease/",
                )))
            }
        }
    }

    /// Neither the agent nor the service of the old leader answers.
    pub(super) fn still_down(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let id = "old-leader-down";
        let expected = "neither its agent nor its service answers";
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let service = self.inventory.node(&node).and_then(|node| node.service.clone());
        if let Ok(state) = self.state(&node) {
            let observed = format!("the agent of {node} answers: {}", state.role);
            return Err(failed(id, "not-so", &observed, expected, ""));
        }
        if let Some(url) = service {
            let asker = Asker::new(super::ANSWER, true).map_err(|error| Outcome::failed("here", error.to_string()))?;
            if let Ok(told) = asker.ask(Method::GET, url.as_str(), None) {
                let observed = format!("the service of {node} answers with status {}", told.status);
                return Err(failed(id, "not-so", &observed, expected, ""));
            }
        }
        let observed = format!("nothing of {node} answers at {}", Timestamp::now());
        Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, "")))
    }

    /// Who answers at the ingress is who leads.
    pub(super) fn traffic(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let id = "traffic-at-holder";
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let expected = format!("the ingress leads to {node}");
        let Some(ingress) = &self.inventory.ingress else {
            return Err(failed(id, "no-ingress", "the inventory names no ingress", &expected, ""));
        };
        let identity = ingress.identity.as_ref().unwrap_or(&self.inventory.identity);
        let url = ingress.url.join(identity.path.trim_start_matches('/'));
        let url = url.map_err(|error| Outcome::failed("usage", error.to_string()))?;
        let asker = Asker::new(super::ANSWER, true).map_err(|error| Outcome::failed("here", error.to_string()))?;
        let found = until(turn.within, || {
            let told = asker.ask(Method::GET, url.as_str(), None).map_err(|why| format!("{url}: {why}"))?;
            let answers = identity.node.iter().find_map(|pointer| told.text(pointer));
            match answers {
                Some(answers) if answers == node => Ok(answers),
                Some(other) => Err(format!("{other} answers at {url}")),
                None => Err(format!("status {} without a node's name from {url}", told.status)),
            }
        });
        match found {
            Ok(answers) => {
                let observed = format!("{answers} answers at {url}");
                Ok(Outcome::ok(&observed).with(check(id, true, observed, &expected, "probes/ingress.jsonl")))
            }
            Err(why) => Err(failed(id, "not-so", &why, &expected, "probes/ingress.jsonl")),
        }
    }

    /// One of the nodes leads, and the others follow it.
    pub(super) fn one_leader(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let id = "one-leader";
        let expected = "one leads, and the others stand by and know who it is";
        let nodes = turn.step.on.clone();
        let found = until(turn.within, || {
            let states: Vec<State> = nodes.iter().map(|node| self.state(node)).collect::<Result<_, _>>()?;
            let leaders: Vec<&State> = states.iter().filter(|state| state.leader.ok).collect();
            let [leader] = leaders[..] else { return Err(format!("{} nodes lead", leaders.len())) };
            for state in states.iter().filter(|state| !state.leader.ok) {
                let sees = state.view.holder.as_ref().is_some_and(|holder| holder.instance == leader.view.instance);
                if state.role != "standby" || !sees {
                    return Err(format!("{} is {} and sees another leader", state.view.node, state.role));
                }
            }
            Ok(leader.view.node.clone())
        });
        match found {
            Ok(leader) => {
                let observed = format!("{leader} leads, the others follow it");
                Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, "lease/")))
            }
            Err(why) => Err(failed(id, "not-so", &why, expected, "")),
        }
    }

    /// Somebody leads and serves.
    pub(super) fn somebody_leads(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let nodes = turn.step.on.clone();
        let found = until(turn.within, || {
            let leads = |node: &&String| self.state(node).is_ok_and(|state| state.leader.ok);
            nodes.iter().find(leads).cloned().ok_or_else(|| "nobody leads".to_owned())
        });
        found.map(|node| Outcome::ok(format!("{node} leads"))).map_err(|why| Outcome::failed("timeout", why))
    }
}

/// Whether the last answers of a series are good; `false` for one that says nothing about clients.
fn is_good(name: &str, text: &str, wanted: &Measured, term: u64) -> Result<bool, String> {
    // The last line may be on its way.
    let whole = &text[..text.rfind('\n').map_or(0, |at| at + 1)];
    let mut lines = whole.lines();
    let head: Head = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or_else(|| format!("{name} has no beginning yet"))?;
    if head.of != "ingress" {
        return Ok(false);
    }
    let lines: Vec<Line> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
    let good = |line: &Line| match line {
        Line::Sample(sample) => sample.ok && (!wanted.recovered || sample.term.is_some_and(|now| now > term)),
        Line::Acknowledged(line) => !wanted.recovered || line.term > term,
        Line::Recovered(_) => true,
        Line::Refused(_) => false,
    };
    let last = lines.iter().rev().take(wanted.good).filter(|line| good(line)).count();
    if last < wanted.good {
        return Err(format!("{name}: {last} of the last {} answers are good", wanted.good));
    }
    let told = lines.iter().any(|line| matches!(line, Line::Recovered(line) if line.term > term));
    match wanted.recovered && head.kind == "sentinel" && !told {
        true => Err(format!("{name}: nobody asked yet what is left")),
        false => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: &str, lines: &[&str]) -> String {
        let head = format!(
            "{{\"schema\":\"bootstrap.series/1\",\"kind\":\"{kind}\",\"prober\":\"p\",\"target\":\"who\",\"url\":\"http://x/\",\
             \"of\":\"ingress\",\"interval_ms\":100,\"timeout_ms\":1000,\"boot_id\":\"b\",\"key\":\"k\",\"drill\":\"d\",\
             \"challenge\":\"\",\"started\":\"2026-01-01T00:00:00Z\"}}"
        );
        [&[head.as_str()], lines, &[""]].concat().join("\n")
    }

    const GOOD: &str = r#"{"i":0,"sent_us":1,"done_us":2,"wall":"2026-01-01T00:00:00Z","ok":true,"status":200,"node":"b","instance":"x","term":2,"n":3,"error":null}"#;
    const BAD: &str = r#"{"i":1,"sent_us":1,"done_us":2,"wall":"2026-01-01T00:00:00Z","ok":false,"status":null,"node":null,"instance":null,"term":null,"n":null,"error":"refused"}"#;

    #[test]
    fn a_series_counts_as_good_by_its_last_answers() {
        let wanted = Measured { good: 2, recovered: false };
        assert_eq!(is_good("s", &series("prober", &[BAD, GOOD, GOOD]), &wanted, 0), Ok(true));
        assert!(is_good("s", &series("prober", &[GOOD, GOOD, BAD]), &wanted, 0).is_err());
        assert!(is_good("s", &series("prober", &[GOOD]), &wanted, 0).is_err());
        assert!(is_good("s", "", &wanted, 0).is_err());
    }

    #[test]
    fn answers_of_the_old_term_do_not_count_after_a_takeover() {
        let wanted = Measured { good: 1, recovered: true };
        assert_eq!(is_good("s", &series("prober", &[GOOD]), &wanted, 1), Ok(true));
        assert!(is_good("s", &series("prober", &[GOOD]), &wanted, 2).is_err());
    }
}
