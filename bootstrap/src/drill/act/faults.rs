//! Deeds that break something on a node and take it back, and the leader's snapshot.

use serde_json::Value;

use super::{Drill, kept, until};
use crate::drill::deeds::Broken;
use crate::drill::fault::Injected;
use crate::evidence::event::{Actor as By, What};
use crate::scenario::Outcome;
use crate::scenario::execute::Turn;

/// What was written down last of one fault on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Injected,
    Healed,
}

/// A run may have several faults, and the same one more than once.
fn last_of(past: &[(Option<&str>, &What)], fault: &str, on: &str) -> Option<Last> {
    past.iter().rev().find_map(|(_, what)| match what {
        What::Fault { fault: one, node, .. } if one == fault && node == on => Some(Last::Injected),
        What::Heal { fault: one, node, .. } if one == fault && node == on => Some(Last::Healed),
        _ => None,
    })
}

impl Drill<'_> {
    fn fault_args<'a>(&'a self, broken: &'a Broken, node: &str, heal: bool) -> Vec<&'a str> {
        // What the inventory names goes before what is built in.
        let named = self.inventory.node(node).and_then(|node| node.faults.get(&broken.fault));
        let argv = named.map(|named| if heal { &named.heal } else { &named.inject });
        let argv = argv.into_iter().flatten().map(String::as_str);
        let mut args: Vec<&str> = argv.collect();
        if !args.is_empty() {
            args.insert(0, "--");
        }
        args
    }

    fn ask_fault(&self, broken: &Broken, heal: bool, turn: &Turn<'_>) -> Result<(String, Injected), Outcome> {
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let directory = self.handle(&node)?.directory();
        let mut args = vec!["drill", "fault", &broken.fault, &directory, "--confirm", &turn.plan.id];
        args.extend(heal.then_some("--heal"));
        args.push("--json");
        args.extend(self.fault_args(broken, &node, heal));
        let what = if heal { "taken back" } else { "injected" };
        let ended = self.handle(&node)?.bootstrap(&args, b"", turn.within);
        let ended = ended.map_err(|error| Outcome::failed("unreachable", error.to_string()))?;
        let said =
            super::answer(&ended).map_err(|ran| ran.outcome(&format!("{} on {node} is not {what}", broken.fault)))?;
        let injected = serde_json::from_value(said).map_err(|error| Outcome::failed("strange", error.to_string()))?;
        Ok((node, injected))
    }

    /// Injects a fault; an injection that an orchestrator before this one asked for is only told again.
    pub(super) fn break_it(&mut self, broken: &Broken, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let (node, injected) = self.ask_fault(broken, false, turn)?;
        let event = What::Fault {
            fault: broken.fault.clone(),
            node: node.clone(),
            at_mono_us: injected.at_mono_us,
            boot_id: injected.boot_id.clone(),
        };
        kept(turn.journal.add(By::Tool, Some(&turn.step.id), event), "the timeline")?;
        Ok(Outcome::ok(format!("{} on {node} at {} µs since its boot", broken.fault, injected.at_mono_us)))
    }

    /// A node that runs again although nobody here started it: healed when it was seen.
    fn healed_by_somebody(&self, broken: &Broken, node: &str, turn: &Turn<'_>) -> Result<(String, Injected), Outcome> {
        let facts = self.facts_of(node, turn.within).map_err(|why| Outcome::failed("unreachable", why))?;
        let injected = Injected {
            fault: broken.fault.clone(),
            node: facts.directory,
            drill: turn.plan.id.clone(),
            healed: true,
            at_mono_us: facts.mono_us,
            done_mono_us: facts.mono_us,
            boot_id: facts.boot_id,
            wall: facts.wall,
            processes: Vec::new(),
        };
        Ok((node.to_owned(), injected))
    }

    /// Takes a fault back, and waits until the node is what it should be.
    pub(super) fn heal_it(&mut self, broken: &Broken, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let past = turn.journal.past();
        let begun =
            past.iter().any(|(_, what)| matches!(what, What::StepBegin { phase, .. } if phase == "demote-primary"));
        let last = last_of(&past, &broken.fault, &node);
        if !begun {
            return Ok(Outcome::skipped("nothing was broken"));
        }
        // A fault that was asked for may have been injected without anybody left to write it down.
        let answers = self.state(&node).is_ok();
        if last != Some(Last::Healed) && (last == Some(Last::Injected) || !answers) {
            let (node, injected) = match self.ask_fault(broken, true, turn) {
                Ok(asked) => asked,
                // Somebody else started it, perhaps a moment ago: healed when it was seen. What is frozen or cut off may
                // answer all the same.
                Err(outcome) if !["stop", "kill"].contains(&&*broken.fault) => return Err(outcome),
                Err(outcome) => match until(turn.within.mul_f32(0.4), || self.state(&node)) {
                    Ok(_) => self.healed_by_somebody(broken, &node, turn)?,
                    Err(_) => return Err(outcome),
                },
            };
            let event = What::Heal {
                fault: broken.fault.clone(),
                node,
                at_mono_us: injected.at_mono_us,
                boot_id: injected.boot_id,
            };
            kept(turn.journal.add(By::Tool, Some(&turn.step.id), event), "the timeline")?;
        }
        let found = until(turn.within.mul_f32(0.8), || {
            let state = self.state(&node)?;
            let settled = state.health.ok && state.ready.ok && ["leader", "standby"].contains(&&*state.role);
            if settled { Ok(state.role) } else { Err(format!("{node} is {}: {}", state.role, state.ready.why)) }
        });
        found.map(|role| Outcome::ok(format!("{node} is {role}"))).map_err(|why| Outcome::failed("timeout", why))
    }

    /// Has the leader take a snapshot, as the inventory says.
    pub(super) fn take_snapshot(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let Some(argv) = &self.inventory.drill.snapshot else {
            return Ok(Outcome::skipped("the inventory names no command: the last snapshot of the timer counts"));
        };
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let handle = self.handle(&node)?;
        let directory = handle.directory();
        let argv: Vec<String> = argv.iter().map(|word| word.replace("{directory}", &directory)).collect();
        let ended = handle.run(&argv, b"", turn.within);
        let ended = ended.map_err(|error| Outcome::failed("unreachable", error.to_string()))?;
        if !ended.is_good() {
            return Err(Outcome::failed("command", format!("{} on {node}: {}", argv[0], ended.why())));
        }
        let name = "collect/snapshot.txt";
        kept(self.run.write(name, ended.stdout.as_bytes()), name)?;
        let said: Option<Value> = serde_json::from_str(&ended.stdout).ok();
        let snapshot = said.and_then(|said| Some(said.get("name")?.as_str()?.to_owned()));
        Ok(Outcome::ok(snapshot.unwrap_or_else(|| "taken".to_owned())).evidence(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_of_each_node_is_taken_back_for_itself() {
        let (fault, boot_id) = ("pause".to_owned(), "boot".to_owned());
        let injected =
            What::Fault { fault: fault.clone(), node: "a".to_owned(), at_mono_us: 1, boot_id: boot_id.clone() };
        let healed = What::Heal { fault: fault.clone(), node: "a".to_owned(), at_mono_us: 2, boot_id };
        let last = |events: &[&What], fault: &str, node: &str| {
            let past: Vec<(Option<&str>, &What)> = events.iter().map(|what| (None, *what)).collect();
            last_of(&past, fault, node)
        };
        assert_eq!(last(&[&injected], "pause", "a"), Some(Last::Injected));
        assert_eq!(last(&[&injected, &healed], "pause", "a"), Some(Last::Healed));
        assert_eq!(last(&[&injected, &healed, &injected], "pause", "a"), Some(Last::Injected));
        assert_eq!(last(&[&injected, &healed], "pause", "b"), None);
        assert_eq!(last(&[&injected, &healed], "stop", "a"), None);
    }
}
