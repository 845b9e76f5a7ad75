//! From answers to assertions: what must hold of a fleet, and whether it does.
//!
//! Nothing here passes for lack of an answer: what was not asked is skipped, and an expectation that nothing could show
//! fails. Rules: `docs/fleet.md`, "What is held". Layer: pure.

use super::ask::{self, Asked};
use super::{Assertion, ControlPlane, Exchange, Of, Options, ProbeError, ProbeReport, Role, Status, Surface, Verdict};
use crate::fleet::inventory::{Inventory, Roles, Wanted};

/// Refuses what can show nothing before anything is asked.
pub(super) fn possible(inventory: &Inventory, options: &Options) -> Result<(), ProbeError> {
    for name in &options.skip_nodes {
        inventory.expect_node(name)?;
    }
    let Some(leader) = &options.expect_leader else { return Ok(()) };
    let node = inventory.expect_node(leader)?;
    let direct = node.surface.is_some() && !options.skip_nodes.contains(leader);
    let public = inventory.ingress.is_some() && !options.skip_public;
    let control = inventory.control.is_some() && !options.skip_control;
    if direct || public || control {
        return Ok(());
    }
    let why = "its own surface, the ingress and the control plane are all left out or not in the inventory".to_owned();
    Err(ProbeError::NoEvidence { leader: leader.clone(), why })
}

/// What was expected, where an answer is not that.
pub(super) fn mismatch(wanted: &Wanted, status: u16, body: &str) -> Option<String> {
    let expected = match (&wanted.body, &wanted.pattern, &wanted.pointer) {
        (Some(text), ..) => (body == text.trim(), format!("{}({text})", wanted.status)),
        (_, Some(pattern), _) => {
            let found = regex::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(body));
            (found, format!("{} with {pattern:?} in it", wanted.status))
        }
        (.., Some(pointer)) => {
            let found = at(body, pointer);
            let holds = match (&found, &wanted.value) {
                (found, None) => found.is_some(),
                (found, Some(value)) => found.as_ref() == Some(value),
            };
            let value = wanted.value.as_deref().map_or("something".to_owned(), |value| format!("{value:?}"));
            (holds, format!("{} with {value} at {pointer}", wanted.status))
        }
        _ => (true, wanted.status.to_string()),
    };
    let (holds, expected) = expected;
    (!holds || status != wanted.status).then_some(expected)
}

/// The text of a value in a JSON body.
fn at(body: &str, pointer: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    match body.pointer(pointer)? {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The role that an answer names.
fn role(roles: &Roles, exchange: &Exchange) -> Option<Role> {
    let body = exchange.body.as_deref().filter(|_| exchange.status == Some(200))?;
    let word = match &roles.pointer {
        Some(pointer) => at(body, pointer)?,
        None => body.to_owned(),
    };
    Some(match word.as_str() {
        "" => return None,
        word if word == roles.leader => Role::Leader,
        word if word == roles.follower => Role::Follower,
        "degraded" => Role::Degraded,
        other => Role::Other(other.to_owned()),
    })
}

/// Turns answers into a report.
pub(super) fn judge(inventory: &Inventory, options: &Options, asked: Asked) -> ProbeReport {
    let Asked { at, mut surfaces, control, also, mut warnings } = asked;
    let expect = &inventory.expect;
    for surface in &mut surfaces {
        for (exchange, wanted) in [(&mut surface.health, &expect.health), (&mut surface.ready, &expect.ready)] {
            let answer = exchange.status.zip(exchange.body.as_deref());
            exchange.mismatch = answer.and_then(|(status, body)| mismatch(wanted, status, body));
        }
        surface.is = role(&expect.role, &surface.role);
    }
    let mut book = Book { assertions: Vec::new() };
    for surface in &surfaces {
        book.surface(surface, inventory, options);
    }
    let report = ProbeReport {
        fleet: inventory.name.clone(),
        inventory: inventory.digest(),
        vantage: options.vantage.clone().unwrap_or_else(|| "here".to_owned()),
        at,
        expected_leader: options.expect_leader.clone(),
        surfaces,
        control,
        own_identity: inventory.ingress.as_ref().is_some_and(|ingress| ingress.identity.is_some()),
        assertions: Vec::new(),
        passed: 0,
        failed: 0,
        skipped: 0,
        verdict: Verdict::NothingVerified,
        warnings: Vec::new(),
        explanations: Vec::new(),
        vantages: Vec::new(),
    };
    book.one_leader(&report, options);
    book.control(&report);
    book.ingress(&report, inventory);
    book.expected_leader(&report);
    for (name, node, answer) in also {
        let (holds, observed) = match answer {
            Ok(observed) => (true, observed),
            Err(observed) => (false, observed),
        };
        book.note(&format!("also_{name}"), &node, Some(holds), "not_so", "what the inventory says", &observed);
    }
    warnings.extend(shared_hosts(inventory));
    let mut report = ProbeReport { assertions: book.assertions, warnings, ..report };
    report.count();
    report
}

impl ProbeReport {
    /// Counts the assertions anew, and says what follows.
    pub(in crate::fleet) fn count(&mut self) {
        let count = |status| self.assertions.iter().filter(|assertion| assertion.status == status).count();
        (self.passed, self.failed, self.skipped) =
            (count(Status::Passed), count(Status::Failed), count(Status::Skipped));
        let degraded =
            |name: &str| self.surfaces.iter().any(|surface| surface.name == name && surface.is == Some(Role::Degraded));
        let only_degraded = self.failures().all(|failure| degraded(&failure.of));
        self.verdict = match (self.passed + self.failed, self.failed) {
            (0, _) => Verdict::NothingVerified,
            (_, 0) => Verdict::Passed,
            _ if only_degraded => Verdict::Degraded,
            _ => Verdict::Failed,
        };
    }
}

/// What was found of each assertion.
struct Book {
    assertions: Vec<Assertion>,
}

impl Book {
    /// `holds` is `None` where it could not be looked at.
    fn note(&mut self, id: &str, of: &str, holds: Option<bool>, code: &str, expected: &str, observed: &str) {
        let status = match holds {
            Some(true) => Status::Passed,
            Some(false) => Status::Failed,
            None => Status::Skipped,
        };
        self.assertions.push(Assertion {
            id: id.to_owned(),
            of: of.to_owned(),
            status,
            code: (status == Status::Failed).then(|| code.to_owned()),
            expected: expected.to_owned(),
            observed: observed.to_owned(),
        });
    }

    /// The three answers of one surface, and that a node answers as itself.
    fn surface(&mut self, surface: &Surface, inventory: &Inventory, options: &Options) {
        let name = surface.name.as_str();
        let (expect, roles) = (&inventory.expect, &inventory.expect.role);
        let wanted_role = match (surface.of, &options.expect_leader) {
            (Of::Ingress, _) => roles.leader.clone(),
            (Of::Node, Some(leader)) if leader == name => roles.leader.clone(),
            (Of::Node, Some(_)) => roles.follower.clone(),
            (Of::Node, None) => format!("{} or {}", roles.leader, roles.follower),
        };
        let (role_code, role_holds) = match (surface.of, &options.expect_leader, &surface.is) {
            (_, _, Some(Role::Degraded)) => ("degraded", false),
            (Of::Ingress, _, is) => ("wrong_role", *is == Some(Role::Leader)),
            (Of::Node, Some(leader), is) if leader == name => ("wrong_role", *is == Some(Role::Leader)),
            (Of::Node, Some(_), is) => ("wrong_role", *is == Some(Role::Follower)),
            (Of::Node, None, is) => ("unknown_role", matches!(is, Some(Role::Leader | Role::Follower))),
        };
        let words = |wanted: &Wanted| mismatch(wanted, 0, "").unwrap_or_default();
        let asked = surface.skipped.is_none();
        for (id, exchange, holds, code, expected) in [
            ("health", &surface.health, exchange_holds(&surface.health), "unexpected", words(&expect.health)),
            ("ready", &surface.ready, exchange_holds(&surface.ready), "unexpected", words(&expect.ready)),
            ("role", &surface.role, role_holds, role_code, wanted_role),
        ] {
            let code = if exchange.error.is_some() { "no_answer" } else { code };
            let observed = surface.skipped.clone().unwrap_or_else(|| exchange.shown());
            self.note(id, name, asked.then_some(holds), code, &expected, &observed);
        }
        if let (Of::Node, true, Some(node)) = (surface.of, asked, &surface.who.node) {
            self.note("answers_as_itself", name, Some(node == name), "another_node", name, node);
        }
    }

    /// Exactly one node says of itself that it leads.
    fn one_leader(&mut self, report: &ProbeReport, options: &Options) {
        let asked = report.surfaces.iter().filter(|surface| surface.of == Of::Node && surface.skipped.is_none());
        let asked: Vec<&str> = asked.map(|surface| surface.name.as_str()).collect();
        let leaders: Vec<&str> = report.leaders().collect();
        let left_out: Vec<&str> = options.skip_nodes.iter().map(String::as_str).collect();
        let but = if left_out.is_empty() { String::new() } else { format!(", {} not asked", left_out.join(", ")) };
        let (holds, code, observed) = match leaders[..] {
            _ if asked.is_empty() => (None, "", "no node was asked directly".to_owned()),
            [] => (Some(false), "no_leader", format!("no leader among {}{but}", asked.join(", "))),
            [one] => (Some(true), "", format!("{one}{but}")),
            _ => (Some(false), "several_leaders", format!("{} leaders: {}", leaders.len(), leaders.join(", "))),
        };
        self.note("exactly_one_leader", "fleet", holds, code, "one node that leads", &observed);
    }

    /// The control plane answers, names a holder, and that is the node that leads.
    fn control(&mut self, report: &ProbeReport) {
        let Some(control) = &report.control else { return };
        let expected = "status 200 and JSON that says who leads";
        match (&control.skipped, &control.problem) {
            (Some(why), _) => self.note("control_answers", "control", None, "", expected, why),
            (_, Some(problem)) => {
                self.note("control_answers", "control", Some(false), problem.kind.as_str(), expected, &problem.what);
            }
            _ => self.note("control_answers", "control", Some(true), "", expected, &shown(control)),
        }
        let known = control.skipped.is_none() && control.problem.is_none();
        let holder = match (&control.node, &control.holder) {
            (Some(node), _) => Some(Ok(node.clone())),
            (None, Some(holder)) => Some(Err(holder.clone())),
            (None, None) => None,
        };
        if let (true, Some(Err(holder))) = (known, &holder) {
            self.note("holder_known", "control", Some(false), "unknown_holder", "a node of the fleet", holder);
        }
        let leader = report.leader();
        let (holds, code, observed) = match (&holder, leader) {
            _ if !known => (None, "", "the control plane says nothing".to_owned()),
            (_, None) => (None, "", "no one node that says it leads".to_owned()),
            (None, Some(_)) => (Some(false), "no_holder", "the control plane names no holder".to_owned()),
            (Some(Err(holder)), Some(_)) => (Some(false), "other_holder", holder.clone()),
            (Some(Ok(node)), Some(leader)) => {
                let how = if control.inferred {
                    format!("{node}, inferred from {:?}", control.holder.as_deref().unwrap_or_default())
                } else {
                    node.clone()
                };
                (Some(node == leader), "other_holder", how)
            }
        };
        self.note("lease_agrees", "control", holds, code, leader.unwrap_or("the node that leads"), &observed);
        let own = leader.and_then(|leader| report.node(leader)).and_then(|surface| surface.who.term);
        if let (true, Some(said), Some(own)) = (known, control.term, own) {
            let (expected, observed) = (format!("term {own}, as the leader says"), format!("term {said}"));
            self.note("terms_agree", "control", Some(said == own), "other_term", &expected, &observed);
        }
    }

    /// What clients reach is the leader: which node, which run of it, and at which address.
    fn ingress(&mut self, report: &ProbeReport, inventory: &Inventory) {
        let (Some(ingress), Some(own)) = (report.ingress(), &inventory.ingress) else { return };
        let holder = report.lease_holder();
        let wanted = holder.map_or_else(|| "the node that leads".to_owned(), str::to_owned);
        let (holds, code, observed) = match (&ingress.skipped, &ingress.who.node, holder) {
            (Some(why), ..) => (None, "", why.clone()),
            (None, None, _) => {
                let why = ingress.who.problem.clone().unwrap_or_else(|| "it does not say".to_owned());
                (None, "", format!("it is not known which node answers: {why}"))
            }
            (None, Some(node), None) => (None, "", format!("{node} answers, and it is not known who leads")),
            (None, Some(node), Some(holder)) => (Some(node == holder), "ingress_elsewhere", node.clone()),
        };
        self.note("ingress_leads_to_leader", "ingress", holds, code, &wanted, &observed);
        if let Some((through, direct)) = report.instances() {
            self.note("ingress_instance", "ingress", Some(through == direct), "other_instance", direct, through);
        }
        if ingress.skipped.is_none() && !own.addresses.is_empty() {
            let expected = own.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            let observed = ingress.ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            let holds = ingress.ips.iter().all(|ip| own.addresses.contains(ip));
            let holds = (!ingress.ips.is_empty()).then_some(holds);
            let observed = if observed.is_empty() { "nothing answered" } else { &observed };
            self.note("ingress_address", "ingress", holds, "other_address", &expected, observed);
        }
    }

    /// Whoever was expected to lead does, by every source there is. Without any source that is no pass.
    fn expected_leader(&mut self, report: &ProbeReport) {
        let Some(leader) = &report.expected_leader else { return };
        let direct = report.node(leader).filter(|surface| surface.skipped.is_none() && surface.is.is_some());
        let direct = direct.map(|surface| ("its own surface", surface.is == Some(Role::Leader)));
        let control = report.control.as_ref().and_then(|control| control.node.as_deref());
        let control = control.map(|node| ("the control plane", node == leader));
        let ingress = report.ingress().filter(|ingress| ingress.is == Some(Role::Leader));
        let ingress = ingress.and_then(|ingress| ingress.who.node.as_deref());
        let ingress = ingress.map(|node| ("the ingress", node == leader));
        let sources: Vec<(&str, bool)> = [direct, control, ingress].into_iter().flatten().collect();
        let against: Vec<&str> = sources.iter().filter(|(_, agrees)| !agrees).map(|(source, _)| *source).collect();
        let (holds, code, observed) = match (sources.is_empty(), against.is_empty()) {
            (true, _) => (false, "no_evidence", "nothing says who leads".to_owned()),
            (_, false) => (false, "not_leading", format!("{} says otherwise", against.join(" and "))),
            _ => {
                let named: Vec<&str> = sources.iter().map(|(source, _)| *source).collect();
                (true, "", format!("so says {}", named.join(" and ")))
            }
        };
        self.note("expected_leader", leader, Some(holds), code, &format!("{leader} leads"), &observed);
    }
}

fn exchange_holds(exchange: &Exchange) -> bool {
    exchange.status.is_some() && exchange.mismatch.is_none()
}

fn shown(control: &ControlPlane) -> String {
    format!(
        "mode {}, holder {}, term {}",
        control.mode.as_deref().unwrap_or("unknown"),
        control.holder.as_deref().unwrap_or("none"),
        control.term.map_or_else(|| "unknown".to_owned(), |term| term.to_string()),
    )
}

/// What says who leads must not fail together with a node.
fn shared_hosts(inventory: &Inventory) -> Vec<String> {
    let Some(control) = &inventory.control else { return Vec::new() };
    let host = control.url.host_str().unwrap_or_default();
    let mut warnings = Vec::new();
    if let Some(nodes) = ask::hosts(inventory).get(host) {
        let nodes = nodes.join(", ");
        warnings.push(format!("the control plane {host} is on the machine of {nodes}, and is lost together with it"));
    }
    if inventory.ingress.as_ref().is_some_and(|ingress| ingress.url.host_str() == Some(host)) {
        warnings.push(format!("the control plane {host} is behind the ingress, and cannot be asked when that fails"));
    }
    warnings
}

/// What an inventory shows before anything is asked.
pub fn remarks(inventory: &Inventory) -> Vec<String> {
    shared_hosts(inventory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::inventory::parse;

    fn of(control: &str) -> Vec<String> {
        let text = format!(
            "name = \"f\"\n[ingress]\nurl = \"https://app.example/\"\n[control]\nurl = \"https://{control}/v1/state\"\n\
             [[node]]\nname = \"a\"\nsurface = \"https://one.example:8480\"\n"
        );
        remarks(&parse(&text).unwrap_or_else(|problems| panic!("{problems:#?}")))
    }

    #[test]
    fn what_says_who_leads_must_not_fail_with_the_ingress_or_a_node() {
        assert_eq!(of("control.example"), Vec::<String>::new());
        assert!(matches!(&of("app.example")[..], [one] if one.contains("is behind the ingress")));
        assert!(matches!(&of("one.example")[..], [one] if one.contains("is on the machine of a")));
    }
}
