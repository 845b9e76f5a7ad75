//! Health of a fleet: one row per service, with host, role, service and status, and where that was read.
//!
//! Agents say what they and their services do; units beside them are asked of whatever runs them. A row that could not be
//! looked at is `unknown` and never `ok`. Layer: the edge asks, the parsing of answers is pure.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use snapkit::terminal::output::{Report, write_table};
use url::Url;

use super::http::{Asker, Auth};
use super::inventory::{Inventory, Node, Unit, UnitKind};
use super::node::Handle;
use super::probe::below;
use crate::agent::view::Mode;
use crate::surfaces::state::State;

/// How a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It does what it is there for.
    Ok,
    /// It is not meant to run here now.
    Standby,
    /// It runs and does not do what it is there for.
    NotReady,
    /// Half switched: a person must act.
    Degraded,
    /// It does not run, or does not answer.
    Down,
    /// It could not be looked at.
    Unknown,
}

impl Health {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Standby => "standby",
            Self::NotReady => "not_ready",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The machine.
    pub host: String,
    /// What its node is: `leader`, `standby`, …; `ingress`, `control`; `unknown`.
    pub role: String,
    /// What is looked at: `agent`, `service`, or the name of a unit.
    pub service: String,
    /// How it is.
    pub status: Health,
    /// What was found.
    pub why: String,
    /// Where that was read: an address or a command.
    pub evidence: String,
}

/// All rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// The name of the fleet.
    pub fleet: String,
    /// When it was looked at, by the wall clock here.
    pub at: Timestamp,
    /// The rows: nodes in the order of the inventory, then ingress and control plane.
    pub rows: Vec<Row>,
}

impl HealthReport {
    /// Whether every row is as it should be.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| matches!(row.status, Health::Ok | Health::Standby))
    }
}

/// Looks at everything.
pub fn look(inventory: &Inventory) -> HealthReport {
    let at = Timestamp::now();
    let rows = thread::scope(|scope| {
        let nodes: Vec<_> =
            inventory.nodes.iter().map(|node| scope.spawn(move || node_rows(inventory, node))).collect();
        let mut rows: Vec<Row> = Vec::new();
        for node in nodes {
            rows.extend(node.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        rows
    });
    let mut report = HealthReport { fleet: inventory.name.clone(), at, rows };
    let limit = inventory.patience();
    if let Some(ingress) = &inventory.ingress {
        let url = below(&ingress.url, &inventory.expect.health.path);
        report.rows.push(http_row(
            inventory,
            &url,
            ingress.url.host_str().unwrap_or_default(),
            "ingress",
            "ingress",
            limit,
        ));
    }
    if let Some(control) = &inventory.control {
        let url = below(&control.url, &control.path);
        report.rows.push(http_row(
            inventory,
            &url,
            control.url.host_str().unwrap_or_default(),
            "control",
            "control",
            limit,
        ));
    }
    report
}

fn node_rows(inventory: &Inventory, node: &Node) -> Vec<Row> {
    let handle = Handle::new(inventory, node);
    let limit = inventory.patience();
    let host = node.host.clone().unwrap_or_else(|| node.name.clone());
    let evidence = match (&node.surface, &node.reach) {
        (Some(surface), _) => below(surface, "/v1/state").to_string(),
        (None, Some(_)) => {
            let words = handle.bootstrap_argv(&["status", &handle.directory(), "--json"]);
            handle.reach().map(|reach| reach.text(&words)).unwrap_or_default()
        }
        (None, None) => "nothing: the inventory names no way".to_owned(),
    };
    let mut rows = Vec::new();
    let role = match handle.state(limit) {
        Ok(state) => {
            rows.push(agent_row(&state, &host, &evidence));
            rows.extend(service_row(&state, &host, &evidence));
            state.role
        }
        Err(error) => {
            let status =
                if matches!(error, super::node::HandleError::NoWay(_)) { Health::Unknown } else { Health::Down };
            rows.push(Row {
                host: host.clone(),
                role: "unknown".to_owned(),
                service: "agent".to_owned(),
                status,
                why: error.to_string(),
                evidence,
            });
            "unknown".to_owned()
        }
    };
    rows.extend(node.units.iter().map(|unit| unit_row(inventory, &handle, unit, &host, &role, limit)));
    rows
}

fn agent_row(state: &State, host: &str, evidence: &str) -> Row {
    let (status, why) = match state.view.mode {
        Mode::Degraded => (Health::Degraded, state.view.why.clone()),
        _ if !state.health.ok => (Health::Down, state.health.why.clone()),
        _ if !state.ready.ok => (Health::NotReady, state.ready.why.clone()),
        _ => (Health::Ok, state.ready.why.clone()),
    };
    let (host, evidence) = (host.to_owned(), evidence.to_owned());
    Row { host, role: state.role.clone(), service: "agent".to_owned(), status, why, evidence }
}

/// The service that the agent keeps; none where it keeps only data.
fn service_row(state: &State, host: &str, evidence: &str) -> Option<Row> {
    let service = &state.view.service;
    let driver = service.driver.as_ref()?;
    let leads = state.role == "leader";
    let (status, why) = match (&service.running_as, service.healthy, service.ready) {
        (None, ..) if leads || service.follows => (Health::Down, "it does not run".to_owned()),
        (None, ..) => (Health::Standby, "a cold standby runs nothing".to_owned()),
        (Some(_), Some(false), _) => (Health::Down, "its health probe does not hold".to_owned()),
        (Some(_), _, Some(false)) => (Health::NotReady, "its ready probe does not hold".to_owned()),
        (Some(role), ..) => (Health::Ok, format!("it runs as {role}, by {driver}")),
    };
    let (host, evidence) = (host.to_owned(), evidence.to_owned());
    Some(Row { host, role: state.role.clone(), service: "service".to_owned(), status, why, evidence })
}

fn http_row(inventory: &Inventory, url: &Url, host: &str, role: &str, service: &str, limit: Duration) -> Row {
    let got = Asker::new(inventory.ca.as_deref(), limit).map_err(|error| error.to_string());
    let got = got.and_then(|asker| asker.get(url, &Auth::None).map_err(|error| error.to_string()));
    let (status, why) = match got {
        Ok(got) if got.status == 200 => (Health::Ok, "status 200".to_owned()),
        // It wants a credential: somebody answers, and that is all that is known.
        Ok(got) if [401, 403].contains(&got.status) => (Health::Unknown, format!("status {}", got.status)),
        Ok(got) => (Health::NotReady, format!("status {}, expected 200", got.status)),
        Err(why) => (Health::Down, why),
    };
    let (host, role, service) = (host.to_owned(), role.to_owned(), service.to_owned());
    Row { host, role, service, status, why, evidence: url.to_string() }
}

fn unit_row(inventory: &Inventory, handle: &Handle, unit: &Unit, host: &str, role: &str, limit: Duration) -> Row {
    let words: Vec<String> = match (unit.kind, &unit.url) {
        (UnitKind::Http, Some(url)) => return http_row(inventory, url, host, role, &unit.name, limit),
        (UnitKind::Http, None) => Vec::new(),
        (UnitKind::Systemd, _) => {
            let unit = unit.unit.as_ref().unwrap_or(&unit.name);
            ["systemctl", "show", "--property=LoadState,ActiveState,SubState", unit].map(str::to_owned).into()
        }
        (UnitKind::Compose, _) => {
            let file = unit.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            let service = unit.unit.as_ref().unwrap_or(&unit.name);
            ["docker", "compose", "-f", &file, "ps", "--all", "--format", "json", service].map(str::to_owned).into()
        }
    };
    let (status, why) = match handle.run(&words, b"", limit.max(Duration::from_secs(10))) {
        Err(error) => (Health::Unknown, error.to_string()),
        Ok(ended) if !ended.is_good() => (Health::Unknown, ended.why()),
        Ok(ended) if unit.kind == UnitKind::Systemd => systemd(&ended.stdout),
        Ok(ended) => compose(&ended.stdout),
    };
    let evidence = handle.reach().map(|reach| reach.text(&words)).unwrap_or_default();
    Row { host: host.to_owned(), role: role.to_owned(), service: unit.name.clone(), status, why, evidence }
}

/// What `systemctl show` says.
fn systemd(text: &str) -> (Health, String) {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let (load, active, sub) = (field("LoadState"), field("ActiveState"), field("SubState"));
    let why = format!("{} ({})", active.unwrap_or("no state"), sub.unwrap_or("no state"));
    match (load, active) {
        (None, _) | (_, None) => (Health::Unknown, "systemctl shows no state".to_owned()),
        (Some("not-found"), _) => (Health::Down, "there is no such unit".to_owned()),
        (_, Some("active")) => (Health::Ok, why),
        (_, Some("activating" | "reloading" | "deactivating")) => (Health::NotReady, why),
        _ => (Health::Down, why),
    }
}

/// What `docker compose ps` says: one object a line, or a list of them.
fn compose(text: &str) -> (Health, String) {
    let all: Option<Vec<Value>> = match serde_json::from_str(text) {
        Ok(Value::Array(list)) => Some(list),
        _ => text.lines().filter(|line| !line.trim().is_empty()).map(|line| serde_json::from_str(line).ok()).collect(),
    };
    let Some(all) = all else { return (Health::Unknown, "compose shows no JSON".to_owned()) };
    let field = |one: &Value, name: &str| one.get(name).and_then(Value::as_str).unwrap_or_default().to_lowercase();
    let one = |one: &Value| {
        let (name, state, health) = (field(one, "Name"), field(one, "State"), field(one, "Health"));
        let status = match (state.as_str(), health.as_str()) {
            ("running", "unhealthy" | "starting") => Health::NotReady,
            ("running", _) => Health::Ok,
            ("restarting" | "created", _) => Health::NotReady,
            _ => Health::Down,
        };
        (status, format!("{name} {state}{}", if health.is_empty() { String::new() } else { format!(" ({health})") }))
    };
    let worst = [Health::Down, Health::NotReady, Health::Ok];
    let found: Vec<(Health, String)> = all.iter().map(one).collect();
    let first = worst.into_iter().find_map(|status| found.iter().find(|(one, _)| *one == status));
    first.cloned().unwrap_or_else(|| (Health::Down, "there is no container".to_owned()))
}

impl Report for HealthReport {
    const SCHEMA: &'static str = "bootstrap.health/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows = vec![["host", "role", "service", "status", "found"].map(str::to_owned)];
        rows.extend(self.rows.iter().map(|row| {
            [row.host.clone(), row.role.clone(), row.service.clone(), row.status.as_str().to_owned(), row.why.clone()]
        }));
        write_table(out, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_shows_is_read() {
        let of = |text| systemd(text).0;
        assert_eq!(of("LoadState=loaded\nActiveState=active\nSubState=running\n"), Health::Ok);
        assert_eq!(of("LoadState=loaded\nActiveState=failed\nSubState=failed\n"), Health::Down);
        assert_eq!(of("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\n"), Health::NotReady);
        assert_eq!(of("LoadState=not-found\nActiveState=inactive\nSubState=dead\n"), Health::Down);
        assert_eq!(of(""), Health::Unknown);
    }

    #[test]
    fn what_compose_shows_is_read_in_both_of_its_forms() {
        let lines = "{\"Name\":\"a\",\"State\":\"running\",\"Health\":\"\"}\n{\"Name\":\"b\",\"State\":\"exited\"}\n";
        assert_eq!(compose(lines), (Health::Down, "b exited".to_owned()));
        let list = r#"[{"Name":"a","State":"running","Health":"unhealthy"}]"#;
        assert_eq!(compose(list), (Health::NotReady, "a running (unhealthy)".to_owned()));
        assert_eq!(compose(r#"{"Name":"a","State":"running","Health":"healthy"}"#).0, Health::Ok);
        assert_eq!(compose("").0, Health::Down);
        assert_eq!(compose("no configuration file").0, Health::Unknown);
    }
}
