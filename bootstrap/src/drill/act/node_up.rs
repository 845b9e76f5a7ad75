//! Deeds that bring a node up from the one string, and remove it again.

use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use manifests::refusal::Class;
use serde_json::Value;

use super::{Drill, Ran, check, failed, kept, until};
use crate::clock::BootTime;
use crate::drill::deeds::BringUp;
use crate::evidence::facts::{Before, Temporary};
use crate::evidence::run_dir::RESTORE;
use crate::scenario::Outcome;
use crate::scenario::execute::{Attempt, Turn};

/// Which check a bring-up that was refused speaks of.
fn refused_check(class: Option<&str>, otherwise: &'static str) -> &'static str {
    let Some(class) = class.and_then(|name| Class::ALL.iter().find(|class| class.name() == name)) else {
        return otherwise;
    };
    match class {
        Class::Prereq => "prerequisites",
        Class::Stale => "manifest-fresh",
        // Documents, their signatures, and bytes that do not hash to their names.
        _ => "signatures",
    }
}

impl Drill<'_> {
    /// `bootstrap --from STRING … NODE-DIR`, on the node.
    fn by_string(&self, node: &str, options: &[&str], within: Duration) -> Result<Value, Ran> {
        let Some(of_inventory) = self.inventory.node(node) else {
            return Err(Ran::of(format!("the inventory has no node {node}")));
        };
        let directory = of_inventory.directory.display().to_string();
        let mut args: Vec<&str> = vec!["--from", &self.origin];
        if let Some(manifest) = &self.inventory.manifest {
            args.extend(["--manifest", manifest]);
        }
        args.push(&directory);
        args.extend(of_inventory.bring_up.iter().map(String::as_str));
        args.extend(options);
        self.bootstrap(node, &args, within)
    }

    /// The same, and what an orchestrator that was killed had begun is let come to its end first: its command may still be at
    /// the node, and two at once are refused.
    fn by_string_again(&self, node: &str, options: &[&str], turn: &Turn<'_>) -> Result<Value, Ran> {
        let end = BootTime::now() + turn.within;
        loop {
            let ended = self.by_string(node, options, BootTime::now().until(end));
            match ended {
                Err(ran) if turn.attempt == Attempt::Again && ran.is_in_the_way() && BootTime::now() < end => {
                    thread::sleep(super::LOOK);
                }
                ended => return ended,
            }
        }
    }

    /// The manifest as the node finds it.
    pub(super) fn manifest(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let expected = "a manifest that is signed, has not expired, and is as close to the head as its pins ask for";
        let mut told = Vec::new();
        for node in &turn.step.on {
            let name = format!("collect/{node}-manifest.json");
            match self.by_string(node, &["--dry-run"], turn.within) {
                Ok(report) => {
                    kept(self.run.write_json(&name, &report), &name)?;
                    told.push(said_of_manifest(&report));
                }
                // Something is missing there: the manifest was followed to its end all the same.
                Err(ran) if ran.class.as_deref() == Some(Class::Prereq.name()) => told.push(ran.why),
                Err(ran) => {
                    let id = refused_check(ran.class.as_deref(), "manifest-fresh");
                    return Err(failed(id, ran.word(), &format!("{node}: {}", ran.why), expected, ""));
                }
            }
        }
        let told = told.join("; ");
        Ok(Outcome::ok(&told).with(check("manifest-fresh", true, told, expected, "chain/manifest.json")))
    }

    /// Everything that is missing on the nodes.
    pub(super) fn prerequisites(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let (id, expected) = ("prerequisites", "nothing that the pins ask for is missing");
        let mut found = serde_json::Map::new();
        for node in &turn.step.on {
            match self.by_string(node, &["--dry-run"], turn.within) {
                Ok(report) => {
                    drop(found.insert(node.clone(), report.get("prerequisites").cloned().unwrap_or_default()))
                }
                Err(ran) => {
                    let id = refused_check(ran.class.as_deref(), id);
                    return Err(failed(id, ran.word(), &format!("{node}: {}", ran.why), expected, ""));
                }
            }
        }
        let name = "collect/prerequisites.json";
        kept(self.run.write_json(name, &found), name)?;
        let observed = format!("complete on {}", turn.step.on.join(", "));
        Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, name)).evidence(name))
    }

    /// A node comes up from the one string: a follower with its agent, or a cold restore without.
    pub(super) fn bring_up(&mut self, up: &BringUp, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let id = turn.step.check.clone();
        if up.blank {
            self.begin_blank(&node, turn)?;
        }
        let wait = turn.within.as_secs().saturating_sub(5).max(5).to_string();
        let options: &[&str] = if up.agent { &["--wait", &wait] } else { &["--no-agent"] };
        let expected =
            if up.agent { "it comes up from the manifest and follows" } else { "restored, every byte of it verified" };
        let report = match self.by_string_again(&node, options, turn) {
            Ok(report) => report,
            Err(ran) => {
                let otherwise = if up.agent { "follower-from-manifest" } else { "cold-restore" };
                let id = refused_check(ran.class.as_deref(), otherwise);
                return Err(failed(id, ran.word(), &format!("{node}: {}", ran.why), expected, ""));
            }
        };
        let name = format!("{RESTORE}/{node}.bring-up.json");
        kept(self.run.write_json(&name, &report), &name)?;
        let restored = report.pointer("/snapshot/name").and_then(Value::as_str).unwrap_or("?").to_owned();
        let mut outcome = Outcome::ok(format!("{node}: {restored}")).evidence(&name);
        let facts = self.facts_of(&node, turn.within).map_err(|why| Outcome::failed("unreachable", why))?;
        if let Some(receipt) = &facts.receipt {
            let file = format!("{RESTORE}/{node}.receipt.json");
            // That of a cold restore stays, whatever the agent restores later.
            if !self.run.file(&file).exists() {
                kept(self.run.write(&file, receipt.as_bytes()), &file)?;
                outcome = outcome.evidence(file);
            }
        }
        if let Ok(mut environment) = self.environment() {
            let known = environment.nodes.iter_mut().find(|known| known.name == node);
            if let Some(known) = known.filter(|known| known.temporary.is_none()) {
                known.configuration.get_or_insert(Before { start: facts.configuration_sha256, end: None });
            }
            self.keep_environment(&environment)?;
        }
        if up.agent {
            return self.follows(&node, id.as_deref(), outcome, turn);
        }
        let source = format!("{RESTORE}/{node}.receipt.json");
        if facts.receipt.is_none() {
            let observed = format!("{node} left no receipt: it has no key for one");
            return Err(failed("cold-restore", "no-receipt", &observed, expected, &name));
        }
        let observed = format!("{restored} on {node}, with a receipt");
        let signatures = check("signatures", true, "every document and every byte was verified", "no refusal", &source);
        Ok(outcome.with(check("cold-restore", true, observed, expected, &source)).with(signatures))
    }

    /// It follows, and sees who leads.
    fn follows(&self, node: &str, id: Option<&str>, outcome: Outcome, turn: &Turn<'_>) -> Result<Outcome, Outcome> {
        let expected = "it stands by, sees who leads, tried no takeover and saw no conflict";
        let before = self.baseline().ok().and_then(|baseline| baseline.attempts.get(node).copied()).unwrap_or(0);
        let found = until(turn.within.mul_f32(0.5), || {
            let state = self.state(node)?;
            let holder = state.view.holder.as_ref().filter(|holder| !holder.released && holder.node != node);
            match holder {
                Some(holder)
                    if state.role == "standby"
                        && state.view.takeover_attempts <= before
                        && state.view.conflicts == 0 =>
                {
                    Ok(format!("{node} stands by, {} leads in term {}", holder.node, holder.term))
                }
                Some(holder) => Err(format!("{node} is {}, {} leads", state.role, holder.node)),
                None => Err(format!("{node} is {} and sees no leader", state.role)),
            }
        });
        match (found, id) {
            (Ok(observed), Some(id)) => {
                let source = format!("{RESTORE}/{node}.bring-up.json");
                Ok(outcome.with(check(id, true, observed, expected, &source)))
            }
            (Ok(_), None) => Ok(outcome),
            (Err(why), Some(id)) => Err(failed(id, "not-so", &why, expected, "")),
            (Err(why), None) => Err(Outcome::failed("not-so", why)),
        }
    }

    /// Nothing is there yet, or only what this run began.
    fn begin_blank(&self, node: &str, turn: &Turn<'_>) -> Result<(), Outcome> {
        let mut environment =
            self.environment().map_err(|error| Outcome::failed("run-directory", error.to_string()))?;
        let known = environment.nodes.iter_mut().find(|known| known.name == node);
        let known =
            known.ok_or_else(|| Outcome::failed("no-node", format!("{node} was not asked when the drill began")))?;
        if known.temporary.is_some() && turn.attempt == Attempt::Again {
            return Ok(());
        }
        let facts = self.facts_of(node, turn.within).map_err(|why| Outcome::failed("unreachable", why))?;
        if let Some(active) = facts.active {
            let observed = format!("{node} has {active} already");
            return Err(failed("cold-restore", "not-blank", &observed, "a node with nothing on it", ""));
        }
        known.temporary = Some(Temporary { created: Timestamp::now(), destroyed: None, kept: None });
        self.keep_environment(&environment)
    }

    /// Removes what was made for the drill, and looks whether it is gone.
    pub(super) fn remove(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let (id, expected) = ("teardown", "nothing is left of what was made for the drill");
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let made = self.environment().ok().is_some_and(|environment| {
            environment.nodes.iter().any(|known| known.name == node && known.temporary.is_some())
        });
        if !made {
            let observed = format!("{node} was not made by this drill, and is left alone");
            return Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, "environment.json")));
        }
        let Some(of_inventory) = self.inventory.node(&node) else { return Err(Outcome::failed("no-node", node)) };
        let directory = of_inventory.directory.display().to_string();
        let name =
            of_inventory.directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let confirm = turn.plan.id.clone();
        let before = self.facts_of(&node, turn.within).map_err(|why| failed(id, "unreachable", &why, expected, ""))?;
        if before.exists {
            if self.state(&node).is_ok() {
                let stop = ["drill", "fault", "stop", &directory, "--confirm", &confirm];
                if let Err(ran) = self.bootstrap(&node, &stop, turn.within) {
                    return Err(failed(
                        id,
                        ran.word(),
                        &format!("{node} cannot be stopped: {}", ran.why),
                        expected,
                        "",
                    ));
                }
            }
            kept(self.run.write(&format!("collect/{node}.log"), before.log.as_bytes()), "a log")?;
            let destroy = ["drill", "fault", "destroy-state", &directory, "--confirm", &confirm, "--destroy", &name];
            if let Err(ran) = self.bootstrap(&node, &destroy, turn.within) {
                return Err(failed(id, ran.word(), &format!("{node} cannot be removed: {}", ran.why), expected, ""));
            }
        }
        let after = self.facts_of(&node, turn.within).map_err(|why| failed(id, "unreachable", &why, expected, ""))?;
        if after.exists {
            return Err(failed(id, "not-so", &format!("{directory} is still there on {node}"), expected, ""));
        }
        let mut environment =
            self.environment().map_err(|error| Outcome::failed("run-directory", error.to_string()))?;
        for known in environment.nodes.iter_mut().filter(|known| known.name == node) {
            if let Some(temporary) = &mut known.temporary {
                temporary.destroyed.get_or_insert(Timestamp::now());
            }
        }
        self.keep_environment(&environment)?;
        let observed = format!("{directory} on {node} is gone");
        Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, "environment.json")))
    }
}

fn said_of_manifest(report: &Value) -> String {
    let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let text = |pointer: &str| report.pointer(pointer).and_then(Value::as_str).unwrap_or("?").to_owned();
    format!(
        "version {} of {}, {} slots behind the head, valid until {}",
        number("/manifest/version"),
        text("/manifest/name"),
        number("/manifest/lag"),
        text("/manifest/expires")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_fails_the_check_that_it_speaks_of() {
        assert_eq!(refused_check(Some("E_PREREQ"), "cold-restore"), "prerequisites");
        assert_eq!(refused_check(Some("E_STALE"), "cold-restore"), "manifest-fresh");
        assert_eq!(refused_check(Some("E_SIG"), "cold-restore"), "signatures");
        assert_eq!(refused_check(None, "cold-restore"), "cold-restore");
    }
}
