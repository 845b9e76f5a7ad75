//! Rules over what the program that ran it wrote down of itself and of the nodes. They are applied again, and what they
//! are applied to is that program's word. Layer: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{StepStatus, What};
use super::super::facts::{Environment, Node};
use super::super::recompute::Run;
use super::super::result::Step;
use super::super::run_dir;
use super::super::timeline;
use super::{Found, found, signed};

pub(super) fn timeboxes(run: &Run<'_>, steps: &[Step]) -> Found {
    let over = |what: &str, id: &str, took: Option<u64>, limit: Option<u64>| match (took, limit) {
        (Some(took), Some(limit)) if took > limit => Some(format!("{what} {id} took {took} ms of {limit} ms")),
        _ => None,
    };
    let late: Vec<String> =
        steps.iter().filter_map(|step| over("step", &step.id, step.duration_ms, Some(step.timebox_ms))).collect();
    // A phase is all of its steps, one after the other.
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    for step in steps {
        let phase = phases.entry(&step.phase).or_default();
        *phase = phase.saturating_add(step.duration_ms.unwrap_or(0));
    }
    let limit =
        |phase: &str| run.plan.thresholds.get(&format!("{phase}_seconds")).map(|seconds| seconds.saturating_mul(1000));
    let late_phases: Vec<String> =
        phases.iter().filter_map(|(phase, took)| over("phase", phase, Some(*took), limit(phase))).collect();
    // A wall clock that went back, where two boots lie between, leaves no duration.
    let unknown = steps.iter().filter(|step| step.status == StepStatus::Ok && step.duration_ms.is_none());
    let unknown: Vec<String> = unknown.map(|step| format!("nobody knows how long step {} took", step.id)).collect();
    let late = [late, late_phases, unknown].concat();
    let expected = "every step and phase within its timebox";
    if !late.is_empty() {
        return found(false, late.join("; "), expected, timeline::FILE);
    }
    found(true, format!("{} steps within theirs", steps.len()), expected, timeline::FILE)
}

/// Nodes that took part and that nothing is said of.
fn unheard(run: &Run<'_>, environment: &Environment) -> Vec<String> {
    let told: BTreeSet<&str> = environment.nodes.iter().map(|node| node.name.as_str()).collect();
    // A leader that was lost before anybody looked cannot be asked.
    let lost = (run.plan.scenario == "emergency").then_some(run.plan.old_leader.as_ref()).flatten();
    let planned = run.plan.nodes.iter().filter(|node| lost != Some(node));
    let all: BTreeSet<&String> = planned.chain(run.documents.receipts.keys()).collect();
    all.into_iter().filter(|node| !told.contains(node.as_str())).cloned().collect()
}

pub(super) fn teardown(run: &Run<'_>) -> Found {
    let expected = "every node that was made removed or kept on purpose, and every fault healed";
    let Some(environment) = &run.environment else {
        return found(false, "there is none", expected, run_dir::ENVIRONMENT);
    };
    let made: Vec<&Node> = environment.nodes.iter().filter(|node| node.temporary.is_some()).collect();
    let is_left = |node: &&&Node| {
        let life = node.temporary.as_ref();
        life.is_some_and(|life| life.destroyed.is_none() && life.kept.as_ref().is_none_or(|why| why.trim().is_empty()))
    };
    let left: Vec<&str> = made.iter().filter(is_left).map(|node| node.name.as_str()).collect();
    let broken = run.events.iter().filter(|event| run.is_healed(event) == Some(false)).count();
    let cold = signed::cold(run).map(|(node, _)| node);
    let untold = cold.filter(|cold| made.iter().all(|node| node.name != **cold));
    let (holds, observed) = match (left.is_empty(), broken, untold) {
        (true, 0, None) => (true, format!("{} nodes made, none left", made.len())),
        (true, 0, Some(node)) => (false, format!("{node} was restored for it, and nothing is said of its end")),
        (true, broken, _) => (false, format!("{broken} faults are not healed")),
        (false, _, _) => (false, format!("left: {}", left.join(", "))),
    };
    found(holds, observed, expected, run_dir::ENVIRONMENT)
}

pub(super) fn tool_unchanged(run: &Run<'_>) -> Found {
    let expected = "the same programs and configuration at the beginning and at the end";
    let Some(environment) = &run.environment else {
        return found(false, "there is none", expected, run_dir::ENVIRONMENT);
    };
    let unheard = unheard(run, environment);
    if !unheard.is_empty() || environment.nodes.is_empty() {
        let observed = format!(
            "nothing is said of {}",
            if unheard.is_empty() { "any node".to_owned() } else { unheard.join(", ") }
        );
        return found(false, observed, expected, run_dir::ENVIRONMENT);
    }
    let mut pairs = vec![
        ("the program that ran it".to_owned(), environment.tool.sha256, environment.tool_sha256_end),
        ("the inventory".to_owned(), environment.inventory.start, environment.inventory.end),
    ];
    for node in &environment.nodes {
        if node.program.is_none() {
            let observed = format!("nothing is said of the program of {}", node.name);
            return found(false, observed, expected, run_dir::ENVIRONMENT);
        }
        for (what, digests) in [("program", node.program), ("configuration", node.configuration)] {
            pairs.extend(digests.map(|digests| (format!("the {what} of {}", node.name), digests.start, digests.end)));
        }
    }
    let wrong: Vec<String> = pairs
        .iter()
        .filter(|(_, start, end)| Some(*start) != *end)
        .map(|(what, _, end)| match end {
            None => format!("{what} was not looked at in the end"),
            Some(_) => format!("{what} changed"),
        })
        .collect();
    if !wrong.is_empty() {
        return found(false, wrong.join("; "), expected, run_dir::ENVIRONMENT);
    }
    found(true, format!("{} digests are the same", pairs.len()), expected, run_dir::ENVIRONMENT)
}

pub(super) fn health_after(run: &Run<'_>) -> Option<Found> {
    let file = "collect/health-after.json";
    let health = run.health_after.as_ref()?;
    let ill: Vec<String> = health
        .rows
        .iter()
        .filter(|row| row.status != "ok")
        .map(|row| format!("{} {}: {}", row.host, row.service, row.status))
        .collect();
    let expected = "every row ok";
    if !ill.is_empty() {
        return Some(found(false, ill.join("; "), expected, file));
    }
    Some(found(!health.rows.is_empty(), format!("{} rows ok", health.rows.len()), expected, file))
}

pub(super) fn debts_closed(run: &Run<'_>) -> Option<Found> {
    let mut debts: BTreeMap<&str, bool> = BTreeMap::new();
    for event in &run.events {
        if let What::Debt { id, open, .. } = &event.what {
            debts.insert(id, *open);
        }
    }
    let open: Vec<&str> = debts.iter().filter(|(_, open)| **open).map(|(id, _)| *id).collect();
    if debts.is_empty() {
        return None;
    }
    let observed =
        if open.is_empty() { format!("{} closed", debts.len()) } else { format!("open: {}", open.join(", ")) };
    Some(found(open.is_empty(), observed, "no open debt", timeline::FILE))
}

pub(super) fn no_skips(run: &Run<'_>, steps: &[Step]) -> Found {
    let waived = steps.iter().filter(|step| step.status == StepStatus::Waived).map(|step| step.id.as_str());
    let let_off = run.events.iter().filter_map(|event| match &event.what {
        What::Waive { id, .. } => Some(id.as_str()),
        _ => None,
    });
    let all: BTreeSet<&str> = waived.chain(let_off).collect();
    let observed = match all.is_empty() {
        true => "none".to_owned(),
        false => all.into_iter().collect::<Vec<_>>().join(", "),
    };
    found(observed == "none", observed, "nothing waived", timeline::FILE)
}

pub(super) fn after_action(run: &Run<'_>) -> Found {
    let expected = "what was wrong, whether somebody reloaded or repaired by hand, and which stored state was used";
    let said = run.events.iter().rev().find_map(|event| match &event.what {
        What::AfterAction(said) => Some(said),
        _ => None,
    });
    match said {
        None => found(false, "nobody said", expected, timeline::FILE),
        Some(said) => {
            let complete =
                ["unreachable", "wrong-role"].contains(&said.trouble.as_str()) && !said.backup_file.trim().is_empty();
            let observed = format!(
                "{}, reloaded by hand: {}, hotfix: {}, stored state: {}",
                said.trouble, said.manual_reload, said.hotfix, said.backup_file
            );
            found(complete, observed, expected, timeline::FILE)
        }
    }
}
