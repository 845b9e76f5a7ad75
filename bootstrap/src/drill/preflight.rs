//! Preflight: what a fleet is ready for, and what is missing for more.
//!
//! Every condition is looked at and named, whether it holds or not; the level follows from the ones that do not. Nothing is
//! changed. Documented in `docs/drills.md`, "Preflight". Layer: the edge; [`level`] is pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::facts::NodeFacts;
use crate::command::{self, Leftovers};
use crate::fleet::inventory::{Inventory, Node};
use crate::fleet::node::Handle;

/// How long one command on a node may take.
const LIMIT: Duration = Duration::from_secs(60);

/// How far a drill can go, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// It can be talked through.
    Paper,
    /// What is there can be looked at.
    ReadOnly,
    /// It can be gone through without changing anything.
    Simulate,
    /// It can be done.
    Execute,
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::ReadOnly => "read-only",
            Self::Simulate => "simulate",
            Self::Execute => "execute",
        }
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Its name.
    pub name: String,
    /// The level that needs it.
    pub needed_for: Level,
    /// Whether it holds.
    pub holds: bool,
    /// What was found.
    pub found: String,
}

/// The level that these conditions allow.
pub fn level(conditions: &[Condition]) -> Level {
    let levels = [Level::Execute, Level::Simulate, Level::ReadOnly];
    let allowed = |level: &Level| conditions.iter().all(|one| one.holds || one.needed_for > *level);
    levels.into_iter().find(allowed).unwrap_or(Level::Paper)
}

fn condition(name: impl Into<String>, needed_for: Level, found: Result<String, String>) -> Condition {
    let holds = found.is_ok();
    Condition { name: name.into(), needed_for, holds, found: found.unwrap_or_else(|why| why) }
}

/// Looks at everything that a drill of this fleet needs; `blank` is the node that is to be restored cold.
pub fn look(inventory: &Inventory, origin: &str, blank: &str) -> Vec<Condition> {
    let handles = Handle::all(inventory);
    let mut all = Vec::new();
    let states: Vec<_> = handles.iter().map(|handle| (handle, handle.state(inventory.patience()))).collect();
    let answering = states.iter().filter(|(_, state)| state.is_ok()).count();
    all.push(condition(
        "an agent answers",
        Level::ReadOnly,
        match answering {
            0 => Err("none of the fleet does".to_owned()),
            some => Ok(format!("{some} of {} do", states.len())),
        },
    ));
    let leaders: Vec<&str> = states
        .iter()
        .filter(|(_, state)| state.as_ref().is_ok_and(|state| state.health.ok && state.ready.ok && state.leader.ok))
        .map(|(handle, _)| handle.name())
        .collect();
    all.push(condition(
        "one node leads, healthy and ready",
        Level::Simulate,
        match leaders[..] {
            [one] => Ok(one.to_owned()),
            [] => Err("nobody does".to_owned()),
            _ => Err(leaders.join(" and ")),
        },
    ));
    for (handle, state) in &states {
        if handle.name() == blank {
            continue;
        }
        if let Ok(state) = state {
            let churn = state.view.conflicts;
            let found =
                if churn == 0 { Ok("0".to_owned()) } else { Err(format!("{churn} since its agent was started")) };
            all.push(condition(format!("{}: no conflicts", handle.name()), Level::Execute, found));
        }
    }
    let mut facts = Vec::new();
    for handle in &handles {
        let found = facts_of(handle);
        let told = found.as_ref().map(|facts| format!("{} on {}", facts.version, facts.host)).map_err(Clone::clone);
        all.push(condition(format!("{}: commands run there", handle.name()), Level::Simulate, told));
        facts.extend(found.ok().map(|facts| (handle.name().to_owned(), facts)));
    }
    all.push(condition("every node runs the same program", Level::Execute, same_program(&facts)));
    if let Some((_, blank)) = facts.iter().find(|(name, _)| name == blank) {
        let found = match &blank.active {
            None => Ok("nothing is there".to_owned()),
            Some(active) => Err(format!("{active} is active there; a cold restore wants a node without a state")),
        };
        all.push(condition("the node for the cold restore is blank", Level::Execute, found));
    }
    if let Some(handle) = handles.iter().find(|handle| handle.name() == blank) {
        let found = dry_run(inventory, handle.node(), handle, origin);
        all.push(condition("manifest, head and prerequisites, seen from there", Level::Execute, found));
    }
    let missing: Vec<&str> = [
        ("ingress", inventory.ingress.is_some()),
        ("drill.write", inventory.drill.write.is_some()),
        ("drill.read", inventory.drill.read.is_some()),
    ]
    .into_iter()
    .filter(|(_, there)| !there)
    .map(|(name, _)| name)
    .collect();
    all.push(condition(
        "clients can be measured",
        Level::Execute,
        match missing.is_empty() {
            true => Ok("ingress and sentinel".to_owned()),
            false => Err(format!("the inventory has no {}", missing.join(", "))),
        },
    ));
    for check in &inventory.drill.checks {
        all.extend(custom(inventory, check));
    }
    all
}

fn facts_of(handle: &Handle) -> Result<NodeFacts, String> {
    let directory = handle.directory();
    let ended = handle.bootstrap(&["drill", "facts", &directory, "--json"], b"", LIMIT);
    let ended = ended.map_err(|error| error.to_string())?;
    if !ended.is_good() {
        return Err(ended.why());
    }
    serde_json::from_str(&ended.stdout).map_err(|error| format!("a strange answer: {error}"))
}

fn same_program(facts: &[(String, NodeFacts)]) -> Result<String, String> {
    let Some(((first, known), others)) = facts.split_first() else { return Err("no node told".to_owned()) };
    match others.iter().find(|(_, facts)| facts.program_sha256 != known.program_sha256) {
        None => Ok(format!("sha256:{}", known.program_sha256)),
        Some((other, _)) => Err(format!("{first} and {other} do not")),
    }
}

fn dry_run(inventory: &Inventory, node: &Node, handle: &Handle, origin: &str) -> Result<String, String> {
    let directory = handle.directory();
    let mut args = vec!["--from", origin];
    if let Some(manifest) = &inventory.manifest {
        args.extend(["--manifest", manifest]);
    }
    args.push(&directory);
    args.extend(node.bring_up.iter().map(String::as_str));
    args.extend(["--dry-run", "--quiet"]);
    let ended = handle.bootstrap(&args, b"", LIMIT).map_err(|error| error.to_string())?;
    if ended.is_good() { Ok("complete".to_owned()) } else { Err(ended.why()) }
}

fn custom(inventory: &Inventory, check: &crate::fleet::inventory::drill::Check) -> Vec<Condition> {
    let judged = |ended: Result<command::Finished, String>| match ended {
        Ok(ended) if ended.is_good() => Ok(ended.said().unwrap_or("ends with 0").to_owned()),
        Ok(ended) => Err(ended.why()),
        Err(why) => Err(why),
    };
    if check.on.is_empty() {
        let mut command = std::process::Command::new(&check.argv[0]);
        command.args(&check.argv[1..]);
        let ended = command::run(command, LIMIT, Leftovers::Kill).map_err(|error| error.to_string());
        return vec![condition(&check.name, Level::Execute, judged(ended))];
    }
    let on = |name: &String| {
        let ended = match inventory.node(name) {
            Some(node) => Handle::new(inventory, node).run(&check.argv, b"", LIMIT).map_err(|error| error.to_string()),
            None => Err(format!("the inventory has no node {name}")),
        };
        condition(format!("{} on {name}", check.name), Level::Execute, judged(ended))
    };
    check.on.iter().map(on).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(broken: &[Level]) -> Level {
        let all = [Level::ReadOnly, Level::Simulate, Level::Execute];
        let found = |level: &Level| if broken.contains(level) { Err("no".to_owned()) } else { Ok("yes".to_owned()) };
        level(&all.map(|level| condition("x", level, found(&level))))
    }

    #[test]
    fn the_level_is_the_highest_below_which_everything_holds() {
        assert_eq!(with(&[]), Level::Execute);
        assert_eq!(with(&[Level::Execute]), Level::Simulate);
        assert_eq!(with(&[Level::Simulate]), Level::ReadOnly);
        assert_eq!(with(&[Level::Execute, Level::ReadOnly]), Level::Paper);
    }
}
