//! Which known cause fits what a probe found: the tree that an operator would go through by hand, in its order.
//!
//! Nothing advises to change DNS: the name is not what failed, and caches would keep the change for longer than the fault
//! lasts. Layer: pure.

use serde::{Deserialize, Serialize};

use super::{Of, ProbeReport, Role, Surface};

/// A cause that fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which, in one word for programs.
    pub cause: String,
    /// What was seen that fits it.
    pub what: String,
    /// What to do.
    pub next: String,
}

impl ProbeReport {
    /// Every known cause that fits, the most likely first; `inventory` are the words that name it in commands.
    pub fn explain(&self, inventory: &str) -> Vec<Explanation> {
        let mut found = Vec::new();
        let mut say = |cause: &str, what: String, next: String| {
            found.push(Explanation { cause: cause.to_owned(), what, next });
        };
        let leaders: Vec<&str> = self.leaders().collect();
        let asked = self.surfaces.iter().any(|surface| surface.of == Of::Node && surface.skipped.is_none());
        if leaders.len() > 1 {
            let what = format!("{} all say that they lead", leaders.join(", "));
            say(
                "several_leaders",
                what,
                format!(
                    "stop all but the one with the highest term: bootstrap node down NODE --leading --execute{inventory}"
                ),
            );
        }
        if leaders.is_empty() && asked {
            say(
                "no_leader",
                "no node that was asked says that it leads".to_owned(),
                format!("bootstrap triage{inventory}"),
            );
        }
        if let (Some(leader), Some(node)) =
            (self.leader(), self.control.as_ref().and_then(|control| control.node.as_deref()))
            && leader != node
        {
            let what = format!("{leader} says that it leads, and the control plane says {node}");
            let next = "wait one ttl and probe again; if it stays, the one with the lower term must stop".to_owned();
            say("lease_elsewhere", what, next);
        }
        let (Some(ingress), Some(leader)) =
            (self.ingress().filter(|ingress| ingress.skipped.is_none()), self.lease_holder())
        else {
            return found;
        };
        let direct = self.node(leader).filter(|surface| surface.skipped.is_none());
        if let Some(direct) = direct.filter(|direct| !answers_ready(direct)) {
            let what = format!("{leader} leads and is not ready: {}", direct.ready.shown());
            say("leader_not_ready", what, format!("bootstrap node status {leader}{inventory}"));
        }
        let target = ingress.who.node.as_deref();
        let from_ingress = self.vantages.iter().find(|vantage| vantage.from == "ingress");
        let path =
            from_ingress.and_then(|vantage| vantage.report.as_ref()).and_then(|report| report.node(leader).cloned());
        let wrong = ingress.is != Some(Role::Leader) || target.is_some_and(|target| target != leader);
        if let (true, Some(path)) = (wrong, path.as_ref().filter(|path| path.health.error.is_some())) {
            let what = format!("from the ingress, {leader} does not answer: {}", path.health.shown());
            say(
                "path_broken",
                what,
                format!("mend the route or firewall between the ingress and {leader}, then probe --vantage ingress"),
            );
        }
        let silent = [&ingress.health, &ingress.ready, &ingress.role].iter().all(|one| one.error.is_some());
        match target {
            _ if silent => {
                let what = format!(
                    "nothing answers at {}: {}",
                    ingress.url.as_deref().unwrap_or_default(),
                    ingress.health.shown()
                );
                say(
                    "ingress_down",
                    what,
                    "look at the ingress itself: is it running, and does its configuration test pass".to_owned(),
                );
            }
            Some(target) if target != leader => {
                let still = self
                    .node(target)
                    .is_some_and(|surface| surface.is == Some(Role::Leader) || answers_health(surface));
                let (cause, what) = match still {
                    true => {
                        ("old_still_serves", format!("{target} still answers behind the ingress, and {leader} leads"))
                    }
                    false => (
                        "dead_node_answers",
                        format!("{target} answers behind the ingress, and does not when asked directly"),
                    ),
                };
                say(
                    cause,
                    what,
                    format!(
                        "stop the service of {target} (bootstrap node down {target} --execute{inventory}), or swap the order of the ingress (bootstrap runbook print --scenario emergency{inventory})"
                    ),
                );
            }
            Some(target) => {
                if let Some((through, own)) = self.instances()
                    && through != own
                {
                    let what = format!(
                        "the run {through} of {target} answers behind the ingress, and {own} when asked directly"
                    );
                    say("old_process", what, format!("stop what is left of the old service on {target}"));
                }
            }
            None if ingress.is == Some(Role::Leader) => {
                let what = "it answers as leader and does not say which node it is; the word alone cannot tell a dead node's cache from the leader".to_owned();
                say("who_unknown", what, "set [ingress.identity] to what names the node behind it".to_owned());
            }
            None => {}
        }
        if !silent && wrong && target == Some(leader) {
            let what = format!("{leader} answers behind the ingress, and not as leader: {}", ingress.role.shown());
            say("stale_role", what, format!("bootstrap node status {leader}{inventory}"));
        }
        let elsewhere = self.failures().find(|failure| failure.id == "ingress_address");
        if let Some(failure) = elsewhere {
            let what = format!("its name leads to {}, expected {}", failure.observed, failure.expected);
            say(
                "resolves_elsewhere",
                what,
                "ask from another place (--vantage NODE) before anything else; leave DNS as it is".to_owned(),
            );
        }
        found
    }
}

fn answers_health(surface: &Surface) -> bool {
    surface.health.status.is_some()
}

fn answers_ready(surface: &Surface) -> bool {
    surface.ready.status.is_some() && surface.ready.mismatch.is_none()
}
