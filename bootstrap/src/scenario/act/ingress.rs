//! Steps that change the ingress: the debt first, then the file, then what validates and reloads it; taken back if that
//! fails.

use std::time::Duration;

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::de::DeserializeOwned;

use super::{Limit, Mover};
use crate::evidence::event::{Actor as By, What};
use crate::fleet::inventory::Ingress;
use crate::scenario::condition::leaders;
use crate::scenario::debts::{Closed, Debt, SCHEMA};
use crate::scenario::execute::{Outcome, Turn};
use crate::scenario::field::Field;
use crate::scenario::ingress::{File, Replaced, first, leading};
use crate::surfaces::state::State;

/// How long one command at the ingress may take.
const COMMAND: Duration = Duration::from_secs(30);

/// How long an ingress may take to see that a node is gone, where the inventory does not say.
const NOTICES: Duration = Duration::from_secs(10);
/// Beyond that, for the first request that goes elsewhere.
const MOMENT: Duration = Duration::from_secs(2);

/// Reads the deployed configuration.
///
/// # Errors
/// What is wrong, in a sentence.
pub fn deployed(field: &dyn Field) -> Result<File, String> {
    let config = config(field)?;
    ask(field, &["ingress-file", "read", &config], b"")
}

/// Puts another text in its place, checks it, and brings it into force; what was there comes back if that fails.
///
/// # Errors
/// What is wrong, in a sentence; what was there is there again, or the sentence says that it is not.
pub(super) fn deploy(field: &dyn Field, expected: Digest, text: &str, now: Timestamp) -> Result<Replaced, String> {
    let config = config(field)?;
    let replaced: Replaced = replace(field, &config, expected, text, now)?;
    match in_force(field) {
        Ok(()) => Ok(replaced),
        Err(why) => {
            let undone = undo(field, &config, &replaced);
            Err(match undone {
                Ok(()) => format!("{why}; what was there before is there again"),
                Err(again) => format!("{why}; and it could not be taken back: {again}"),
            })
        }
    }
}

fn undo(field: &dyn Field, config: &str, replaced: &Replaced) -> Result<(), String> {
    let backup = replaced.backup.display().to_string();
    let before: File = ask(field, &["ingress-file", "read", &backup], b"")?;
    replace(field, config, replaced.after, &before.text, Timestamp::now())?;
    in_force(field)
}

/// Puts another text in its place; the name of the copy has this time in it.
fn replace(field: &dyn Field, config: &str, expected: Digest, text: &str, now: Timestamp) -> Result<Replaced, String> {
    let (expected, now) = (expected.to_string(), now.to_string());
    ask(field, &["ingress-file", "replace", config, "--expect", &expected, "--at", &now], text.as_bytes())
}

/// Has the deployed configuration checked and loaded.
///
/// # Errors
/// What is wrong, in a sentence.
pub fn in_force(field: &dyn Field) -> Result<(), String> {
    let ingress = ingress(field)?;
    for argv in [&ingress.validate, &ingress.reload].into_iter().flatten() {
        let ended = field.run_at_ingress(argv, COMMAND)?;
        if !ended.is_good() {
            return Err(format!("{}: {}", argv.join(" "), ended.why()));
        }
    }
    Ok(())
}

fn ingress(field: &dyn Field) -> Result<&Ingress, String> {
    field.inventory().ingress.as_ref().ok_or_else(|| "the inventory names no ingress".to_owned())
}

fn config(field: &dyn Field) -> Result<String, String> {
    let config = ingress(field)?.config.as_ref();
    config
        .map(|config| config.display().to_string())
        .ok_or_else(|| "the inventory names no `config` of the ingress".to_owned())
}

fn ask<T: DeserializeOwned>(field: &dyn Field, args: &[&str], stdin: &[u8]) -> Result<T, String> {
    let args: Vec<String> = args.iter().copied().chain(["--json"]).map(str::to_owned).collect();
    let ended = field.at_ingress(&args, stdin, COMMAND)?;
    if !ended.is_good() {
        return Err(format!("{}: {}", args.join(" "), ended.why()));
    }
    serde_json::from_str(&ended.stdout).map_err(|error| format!("{}: {error}", args.join(" ")))
}

/// The nodes behind the ingress with the addresses that stand in its configuration.
fn upstreams(field: &dyn Field) -> Result<Vec<(String, String)>, String> {
    let address = |name: &String| {
        let node = field.inventory().node(name).ok_or_else(|| format!("the inventory has no node {name}"))?;
        let url = node.service.as_ref().ok_or_else(|| format!("the inventory gives {name} no `service`"))?;
        let (host, port) = (url.host_str(), url.port_or_known_default());
        let (Some(host), Some(port)) = (host, port) else { return Err(format!("{url} has no host and port")) };
        Ok((name.clone(), format!("{host}:{port}")))
    };
    ingress(field)?.upstreams.iter().map(address).collect()
}

impl Mover<'_> {
    /// Leads the ingress to whoever leads, if it does not go there by itself.
    pub(super) fn ingress_swap(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let limit = Limit::after(turn.within);
        // An ingress that looks for the leader itself gets the time to find it.
        let notices = self.field.inventory().ingress.as_ref().and_then(Ingress::detection).unwrap_or(NOTICES);
        let itself = Limit::after((notices + MOMENT).min(turn.within / 4));
        let leader = match self.until(itself, || self.led()) {
            Ok(leader) => {
                return match self.find_backup(turn) {
                    Ok(()) => Outcome::ok(format!("nothing to do: the ingress leads to {leader}")),
                    Err(why) => Outcome::failed("ingress", why),
                };
            }
            Err(_) => match self.leader(turn) {
                Ok(leader) => leader,
                Err(why) => return Outcome::failed("not-so", why),
            },
        };
        match self.swap(turn, &leader) {
            Err(why) => Outcome::failed("ingress", why),
            Ok(what) => match self.until(limit, || self.led()) {
                Ok(_) => Outcome::ok(what),
                Err(why) => Outcome::failed("timeout", format!("{what}; but {why}")),
            },
        }
    }

    /// Who answers at the ingress, if that is who leads.
    fn led(&self) -> Result<String, String> {
        let node = self.field.ingress()?;
        let leads = self.field.state(&node).is_ok_and(|state| state.leader.ok);
        if leads { Ok(node) } else { Err(format!("{node} answers at the ingress, and does not lead")) }
    }

    fn leader(&self, turn: &Turn<'_>) -> Result<String, String> {
        let states: Vec<State> = turn.plan.nodes.iter().filter_map(|node| self.field.state(node).ok()).collect();
        match leaders(&states)[..] {
            [one] => Ok(one.to_owned()),
            ref found => Err(format!("expected one leader, found {}", found.len())),
        }
    }

    fn swap(&mut self, turn: &mut Turn<'_>, leader: &str) -> Result<String, String> {
        let before = deployed(self.field)?;
        let text = first(&before.text, &upstreams(self.field)?, leader).map_err(|error| error.to_string())?;
        if text == before.text {
            // The file says so already: it may not be in force.
            in_force(self.field)?;
            self.reloaded = true;
            self.find_backup(turn)?;
            return Ok(format!("{leader} is first in {} already; it was loaded again", before.path.display()));
        }
        let mut debt = Debt {
            schema: SCHEMA.to_owned(),
            id: format!("{}-ingress", turn.plan.id),
            group: turn.plan.group.clone(),
            run: turn.plan.id.clone(),
            opened: Timestamp::now(),
            text: format!("{leader} was put first in {}", before.path.display()),
            file: before.path.clone(),
            canonical_sha256: before.sha256,
            hotfix_sha256: Digest::sha256(text.as_bytes()),
            backup: None,
            canonical: before.text.clone(),
            left_to_switchback: None,
            closed: None,
        };
        // Before the change that it is about: a change without its debt cannot be.
        self.debts.put(&debt).map_err(|error| error.to_string())?;
        let open = What::Debt { id: debt.id.clone(), text: debt.text.clone(), open: true };
        turn.journal.add(By::Tool, Some(&turn.step.id), open).map_err(|error| error.to_string())?;
        match deploy(self.field, before.sha256, &text, debt.opened) {
            Ok(replaced) => {
                self.reloaded = true;
                debt.backup = Some(replaced.backup.clone());
                self.debts.put(&debt).map_err(|error| error.to_string())?;
                Ok(format!("{}; the backup is {}; debt {}", debt.text, replaced.backup.display(), debt.id))
            }
            Err(why) => {
                // Open unless the canonical text stands there for certain.
                if deployed(self.field).is_ok_and(|file| file.sha256 == debt.canonical_sha256) {
                    self.settle(turn, debt, "it could not be brought into force and was taken back")?;
                }
                Err(why)
            }
        }
    }

    /// An orchestrator before this one may have changed the file and not lived to note where the copy is: under the name
    /// with the time of its debt.
    fn find_backup(&self, turn: &Turn<'_>) -> Result<(), String> {
        let open = self.debts.open().map_err(|error| error.to_string())?;
        let own = open.into_iter().filter(|debt| debt.run == turn.plan.id && debt.backup.is_none());
        for debt in own {
            let path = File::backup(&debt.file, debt.opened);
            let found: File = ask(self.field, &["ingress-file", "read", &path.display().to_string()], b"")?;
            if found.sha256 == debt.canonical_sha256 {
                self.debts.put(&Debt { backup: Some(path), ..debt }).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    fn settle(&self, turn: &mut Turn<'_>, debt: Debt, reason: &str) -> Result<(), String> {
        let (by, reason) = (turn.plan.actor.clone(), reason.to_owned());
        let closed = What::Debt { id: debt.id.clone(), text: debt.text.clone(), open: false };
        let found_sha256 = debt.canonical_sha256;
        let debt = Debt { closed: Some(Closed { at: Timestamp::now(), by, reason, found_sha256 }), ..debt };
        // Told first: one that is told and still open is settled again, one that is closed is not looked at any more.
        turn.journal.add(By::Tool, Some(&turn.step.id), closed).map_err(|error| error.to_string())?;
        self.debts.put(&debt).map_err(|error| error.to_string())
    }

    /// Gives the ingress back what this run took from it, unless that would lead clients away from whoever leads.
    pub(super) fn ingress_restore(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let own = match self.debts.open() {
            Ok(open) => open.into_iter().filter(|debt| debt.run == turn.plan.id).collect(),
            Err(error) => return Outcome::failed("not-known", error.to_string()),
        };
        self.settle_all(turn, own, |id, why| Ok(format!("{id} stays open: {why}")))
    }

    /// Puts right every debt that was left to this run, now that the canonical file leads to whoever leads.
    pub(super) fn ingress_settle(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let left = match self.debts.open() {
            Ok(open) => open.into_iter().filter(|debt| debt.left_to_switchback.is_some()).collect(),
            Err(error) => return Outcome::failed("not-known", error.to_string()),
        };
        self.settle_all(turn, left, |id, why| Err(format!("{id}: {why}")))
    }

    fn settle_all(
        &mut self,
        turn: &mut Turn<'_>,
        debts: Vec<Debt>,
        led_away: impl Fn(&str, &str) -> Result<String, String>,
    ) -> Outcome {
        let mut said = Vec::new();
        for debt in debts {
            let id = debt.id.clone();
            let away = leads_there(self.field, &debt).err();
            if let Some(why) = away {
                // It stays, so where its copy is must be known.
                match led_away(&id, &why).and_then(|what| self.find_backup(turn).map(|()| what)) {
                    Ok(what) => said.push(what),
                    Err(why) => return Outcome::failed("ingress", why),
                }
                continue;
            }
            match settle_up(self.field, &debt).and_then(|what| self.settle(turn, debt, &what).map(|()| what)) {
                Ok(what) => said.push(format!("{id}: {what}")),
                Err(why) => return Outcome::failed("ingress", format!("{id}: {why}")),
            }
        }
        Outcome::ok(if said.is_empty() { "nothing was changed there".to_owned() } else { said.join("; ") })
    }
}

/// Whether the canonical configuration of a debt leads to whoever leads now; a fleet without one leader decides nothing.
///
/// # Errors
/// Whom it would lead to instead.
pub fn leads_there(field: &dyn Field, debt: &Debt) -> Result<(), String> {
    // What is deployed already leads nobody anywhere else.
    if deployed(field)?.sha256 == debt.canonical_sha256 {
        return Ok(());
    }
    let states: Vec<State> = field.inventory().names().filter_map(|node| field.state(node).ok()).collect();
    let upstreams = upstreams(field)?;
    match (&leaders(&states)[..], leading(&debt.canonical, &upstreams)) {
        ([leader], Some(first)) if *leader != first => {
            Err(format!("{leader} leads, and the canonical {} leads clients to {first}", debt.file.display()))
        }
        _ => Ok(()),
    }
}

/// Has the canonical configuration in its place again; what was done for it.
///
/// # Errors
/// What is wrong, in a sentence: a file that is neither the canonical one nor the hotfix was changed by somebody else.
pub fn settle_up(field: &dyn Field, debt: &Debt) -> Result<String, String> {
    let file = deployed(field)?;
    if file.path != debt.file {
        return Err(format!("it is about {}, and the inventory names {}", debt.file.display(), file.path.display()));
    }
    if file.sha256 == debt.canonical_sha256 {
        in_force(field)?;
        return Ok(format!("{} is the canonical one", file.path.display()));
    }
    if file.sha256 != debt.hotfix_sha256 {
        return Err(format!(
            "expected {} with the SHA-256 {} (canonical) or {} (hotfix), found {}: somebody else changed it",
            file.path.display(),
            debt.canonical_sha256,
            debt.hotfix_sha256,
            file.sha256
        ));
    }
    let replaced = deploy(field, file.sha256, &debt.canonical, Timestamp::now())?;
    Ok(format!("{} was put back; the hotfix is kept as {}", file.path.display(), replaced.backup.display()))
}
