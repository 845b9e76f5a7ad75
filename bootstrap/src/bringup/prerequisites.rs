//! Prerequisites: everything a node must have before it is brought up, looked at and listed before anything is touched.
//!
//! Restoring cannot bring secrets, free ports or rights, and what is found missing after a switch costs the service that ran
//! before it. So all of it is asked first, in one list. Documented in `docs/bring-up.md`, "Prerequisites".
//! Layer: joins what is asked of machine, engine, node directory and store; writes nothing.

use serde::Serialize;

use manifests::document::needs::Needs;
use manifests::document::service::Service;
use snapkit::manifest;
use snapkit::node::{NodeDir, NodeError};
use snapkit::restore;

use super::plan::Leads;
use super::run::BringUp;
use super::{AgentStart, images, machine, place, rights};
use crate::driver::{Manager, ServiceRole};

/// One thing that a node must, or should, have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prerequisite {
    /// What kind of thing: `environment`, `secret`, `space`, `capability`, `port`, `program`, `user`, `image`, `node`,
    /// `state`, `path`, `lead`.
    pub kind: &'static str,
    /// What must hold.
    pub what: String,
    /// Whether it does.
    pub holds: bool,
    /// Whether bring-up is refused without it.
    pub required: bool,
    /// What was found.
    pub found: Option<String>,
    /// What to do about it.
    pub next: Option<String>,
}

impl Prerequisite {
    /// Something that holds.
    pub fn met(kind: &'static str, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), holds: true, required: true, found: None, next: None }
    }

    /// Something that holds, with what was found.
    pub fn found(kind: &'static str, what: impl Into<String>, found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), ..Self::met(kind, what) }
    }

    /// Something that does not hold.
    pub fn lacking(
        kind: &'static str,
        what: impl Into<String>,
        found: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self { holds: false, next: Some(next.into()), ..Self::found(kind, what, found) }
    }

    /// Something that a node can be brought up without.
    #[must_use]
    pub fn advised(self) -> Self {
        Self { required: false, ..self }
    }

    /// Whether bring-up is refused because of it.
    pub fn stops(&self) -> bool {
        self.required && !self.holds
    }

    fn of(kind: &'static str, what: String, result: Result<(), String>, next: &str) -> Self {
        match result {
            Ok(()) => Self::met(kind, what),
            Err(found) => Self::lacking(kind, what, found, next),
        }
    }
}

/// Looks at everything. `running` says that the service of this node runs already, so that its ports are its own.
pub fn check(up: &BringUp<'_>, images: &[images::Pinned], running: bool) -> Vec<Prerequisite> {
    let pins = &up.followed.pins.pins;
    let mut list = needs(&pins.needs, up);
    list.push(space(up));
    list.extend(pins.needs.capabilities.iter().map(|name| {
        let (engine, path) = (up.engine_command(), up.path());
        let result = machine::capability(name, engine.as_deref(), &up.order.node, path.as_ref());
        Prerequisite::of("capability", format!("the machine can do {name}"), result, "install or allow it")
    }));
    list.extend(node(up));
    list.extend(trees(up));
    if let Some(service) = &pins.service {
        list.extend(of_service(service, up, running));
    }
    list.extend(images.iter().map(images::Pinned::prerequisite));
    list.extend(rights::check(up));
    list
}

/// Variables and secrets, each by itself, so that each has a line.
fn needs(needs: &Needs, up: &BringUp<'_>) -> Vec<Prerequisite> {
    let surroundings = manifest::Surroundings(up.surroundings.variable);
    let problem = |needs: Needs| manifest::missing_needs(&needs, &surroundings).into_iter().next().map_or(Ok(()), Err);
    let variable = |name: &String| {
        let only = Needs { environment: vec![name.clone()], ..Needs::default() };
        Prerequisite::of("environment", format!("the variable {name}"), problem(only), "set it")
    };
    let secret = |secret: &manifests::document::needs::Secret| {
        let place = secret.path.as_ref().map_or("in the environment".to_owned(), |path| format!("in {path}"));
        let what = format!("the secret {} {place}", secret.name);
        let only = Needs { secrets: vec![secret.clone()], ..Needs::default() };
        Prerequisite::of("secret", what, problem(only), "bring it from where secrets are kept; no chain holds it")
    };
    needs.environment.iter().map(variable).chain(needs.secrets.iter().map(secret)).collect()
}

/// Room for what is restored.
fn space(up: &BringUp<'_>) -> Prerequisite {
    let public = &up.target.snapshot().public;
    let asked = up.followed.pins.pins.needs.free_bytes.unwrap_or(0);
    // What an interrupted run has staged, or an earlier one restored, needs no room again.
    let restored = if up.target.resumes || up.has_generation() { 0 } else { public.bytes };
    let there = machine::existing(&up.order.node);
    let what = format!("{} bytes free at {}", asked.max(restored), up.order.node.display());
    match restore::available_bytes(&there) {
        Ok(free) if free >= restored && (free >= asked || up.has_generation()) => {
            Prerequisite::found("space", what, format!("{free} bytes are free"))
        }
        Ok(free) => Prerequisite::lacking("space", what, format!("{free} bytes are free"), "make room"),
        Err(error) => Prerequisite::lacking("space", what, error.to_string(), "look at that file system"),
    }
}

/// The node directory, and whether it is one of this chain.
fn node(up: &BringUp<'_>) -> Vec<Prerequisite> {
    let path = up.order.node.display();
    let what = format!("{path} can be a node");
    let directory = match NodeDir::open(&up.order.node) {
        Ok(node) => match node.degraded() {
            Ok(Some(mark)) => Prerequisite::lacking(
                "node",
                format!("the node {path} can be switched"),
                format!("it is degraded since {}: {}", mark.since, mark.failure),
                format!("repair it, then run `bootstrap ack {path} --reason TEXT`"),
            ),
            Ok(None) => Prerequisite::found("node", what, "it is one"),
            Err(error) => refused(&what, &error),
        },
        Err(NodeError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            let above = machine::existing(&up.order.node);
            match rustix::fs::access(&above, rustix::fs::Access::WRITE_OK) {
                Ok(()) => Prerequisite::found("node", what, "it is made"),
                Err(error) => {
                    let next = "name another directory, or run as who may write there";
                    Prerequisite::lacking("node", what, format!("{} cannot be written: {error}", above.display()), next)
                }
            }
        }
        Err(NodeError::NotANode { .. }) => match place::is_free(&up.order.node) {
            Ok(true) => Prerequisite::found("node", what, "it is empty"),
            Ok(false) => {
                let next = "name a missing or empty directory; nothing is ever restored over something else";
                Prerequisite::lacking("node", what, "it holds something that is no node", next)
            }
            Err(error) => Prerequisite::lacking("node", what, error.to_string(), "look at that directory"),
        },
        Err(error) => refused(&what, &error),
    };
    vec![directory]
}

fn refused(what: &str, error: &NodeError) -> Prerequisite {
    Prerequisite::lacking("node", what, error.to_string(), error.next().unwrap_or_else(|| "look at it".into()))
}

/// The trees that the pins name: in the snapshot, and their paths on this machine.
fn trees(up: &BringUp<'_>) -> Vec<Prerequisite> {
    let held = &up.target.snapshot().private.trees;
    let missing =
        (up.followed.pins.pins.trees.iter()).filter(|pinned| !held.iter().any(|tree| tree.name == pinned.name));
    let missing = missing.map(|pinned| {
        let what = format!("the tree {} in {}", pinned.name, up.target.name);
        let next = "take a snapshot with it, or have pins signed without it";
        Prerequisite::lacking("state", what, "the snapshot has no such tree", next)
    });
    let paths = up.leads().into_iter().filter_map(|(tree, leads)| {
        let path = std::path::Path::new(&tree.path);
        match leads {
            Leads::Inside => None,
            Leads::Link(to) => Some(place::link(path, &to, &up.order.node)),
            Leads::Fixed => Some(place::fixed(path, &up.order.node)),
        }
    });
    missing.chain(paths).collect()
}

/// What the service needs to be started and asked.
fn of_service(service: &Service, up: &BringUp<'_>, running: bool) -> Vec<Prerequisite> {
    let path = up.path();
    let mut list = Vec::new();
    let mut program = |name: &str, why: &str| {
        let what = format!("the program {name}, {why}");
        // What comes with the state is there once that is restored.
        let is_state = up.leads().iter().any(|(tree, _)| std::path::Path::new(name).starts_with(&tree.path));
        list.push(match machine::program(name, path.as_ref()) {
            Some(_) => Prerequisite::met("program", what),
            None if is_state || std::path::Path::new(name).starts_with(&up.order.node) => {
                Prerequisite::found("program", what, "it comes with the state")
            }
            None => Prerequisite::lacking("program", what, "there is no such program", "install it"),
        });
    };
    if let Some(first) = service.argv.as_ref().and_then(|argv| argv.first()) {
        program(first, "which is the service");
    }
    for (name, argv) in service.hooks.iter().flat_map(|hooks| hooks.all()) {
        if let Some(first) = argv.first() {
            program(first, &format!("which is the hook {name} of the service"));
        }
    }
    for (probe, which) in [(&service.health, "health"), (&service.ready, "readiness"), (&service.role, "its role")] {
        if let Some(first) = probe.as_ref().and_then(|probe| probe.argv.as_ref()?.first()) {
            program(first, &format!("which is asked for {which}"));
        }
    }
    if let Some(unit) = &service.unit {
        let level = match up.manager() {
            Manager::System => "--system",
            Manager::User => "--user",
        };
        let result = machine::answers("systemctl", &[level, "cat", "--no-pager", "--", unit], path.as_ref());
        list.push(Prerequisite::of("program", format!("the unit {unit}"), result, "install the unit"));
    }
    if service.compose.is_some() {
        let result = machine::capability("compose", up.engine_command().as_deref(), &up.order.node, path.as_ref());
        list.push(Prerequisite::of("capability", "the machine can do compose".into(), result, "install it"));
    }
    if let Some(user) = &service.user {
        let next = "make the user, or run as root";
        list.push(Prerequisite::of("user", format!("the service can run as {user}"), machine::can_be(user), next));
    }
    // A cold standby starts nothing, so whoever has its ports now may have them until it takes over.
    let starts = up.order.role == ServiceRole::Leader || service.roles.iter().any(|role| role.role == "follower");
    for port in &service.ports {
        let what = format!("port {}/{} ({})", port.port, port.protocol, port.name);
        let free = machine::port_is_free(port);
        list.push(match free {
            _ if running => Prerequisite::found("port", what, "the service of this node runs already"),
            Ok(()) => Prerequisite::met("port", what),
            Err(error) => {
                let next = "end what listens there, or run as who may use the port";
                let lacking = Prerequisite::lacking("port", what, error.to_string(), next);
                if starts && up.order.agent != AgentStart::Other { lacking } else { lacking.advised() }
            }
        });
    }
    list
}
