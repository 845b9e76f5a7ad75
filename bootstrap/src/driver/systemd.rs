//! The driver `systemd`: a unit that only the agent starts.
//!
//! The unit is the operator's; a drop-in under `/run` gives it the role, switches off what would start it again, and lets
//! nothing start it but this driver. Proof of death: the unit is inactive or failed, no job waits for it, and its control
//! group has no process. Killing goes to the processes of the control group first, then through the manager, which may hang.
//! Source: systemd.unit(5), systemd.service(5), systemd.kill(5). Layer: the edge.

mod cgroup;
mod drop_in;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use manifests::document::service::Service;
use serde::{Deserialize, Serialize};

use super::guard::Target;
use super::{DriverError, Life, Manager, Setup, Start, role_variable};
use crate::command::{self, Finished, Leftovers};
use drop_in::DropIn;

/// How long the manager may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long a unit may take to be started, beyond what the unit itself allows.
const START_LIMIT: Duration = Duration::from_secs(900);

/// A unit and its manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    manager: Manager,
    name: String,
    drop_in: DropIn,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the unit {}", self.name)
    }
}

/// Prepares the unit.
pub(super) struct SystemdDriver {
    unit: Unit,
    service: Service,
}

/// What `systemctl show` says.
struct Shown(BTreeMap<String, String>);

impl Shown {
    fn of(&self, property: &str) -> &str {
        self.0.get(property).map_or("", String::as_str)
    }
}

/// Properties that name units or sockets which start the unit when they are started or used.
const STARTERS: &[&str] = &["TriggeredBy", "RequiredBy", "WantedBy", "UpheldBy", "BoundBy"];

impl SystemdDriver {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, DriverError> {
        let refused = |why: String| Err(DriverError::Start { why });
        let name = match setup.service.unit.as_deref().unwrap_or_default() {
            name if name.ends_with(".service") => name.to_owned(),
            name if !name.is_empty() && !name.contains('.') => format!("{name}.service"),
            name => return refused(format!("{name} is no service unit; only those can be started and proven dead")),
        };
        if name.starts_with('-') {
            return refused(format!("{name} is no name of a unit"));
        }
        if setup.manager == Manager::User && setup.service.user.is_some() {
            return refused("a user's manager runs units as that user only, so the pins must name none".into());
        }
        let directory = match setup.manager {
            Manager::System => PathBuf::from("/run/systemd/system"),
            Manager::User => match std::env::var_os("XDG_RUNTIME_DIR") {
                Some(directory) => PathBuf::from(directory).join("systemd/user"),
                None => return refused("XDG_RUNTIME_DIR is not set, so there is no user manager".into()),
            },
        };
        let drop_in = DropIn::new(directory.join(format!("{name}.d")));
        Ok(Self { unit: Unit { manager: setup.manager, name, drop_in }, service: setup.service.clone() })
    }

    pub(super) fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Checks the unit, and tells it its role. Starts nothing.
    pub(super) fn prepare(&mut self, start: &Start) -> Result<(), DriverError> {
        let refused = |why: String| Err(DriverError::Start { why });
        let unit = &self.unit;
        let shown = unit.show().map_err(|why| DriverError::Start { why })?;
        if shown.of("LoadState") != "loaded" {
            return refused(format!("{unit} is {} here, expected loaded; install it first", shown.of("LoadState")));
        }
        if let Life::Running = unit.life_of(&shown) {
            let why = format!("it is {} before anybody here started it; stop it", shown.of("ActiveState"));
            return Err(DriverError::Alive { what: unit.to_string(), why });
        }
        // What is started without the agent runs without the lease.
        if let Some(state) = Some(shown.of("UnitFileState")).filter(|state| state.starts_with("enabled")) {
            return refused(format!(
                "{unit} is {state}: it starts without the agent; run systemctl disable {}",
                unit.name
            ));
        }
        if let Some((by, names)) = STARTERS.iter().map(|by| (by, shown.of(by))).find(|(_, names)| !names.is_empty()) {
            return refused(format!("{unit} is started without the agent, {by}: {names}; take that out"));
        }
        let mut environment = start.environment.clone();
        environment.extend(role_variable(&self.service, start.role)?);
        let harmless = ["control-group", "mixed"].contains(&shown.of("KillMode"));
        unit.drop_in
            .write(&environment, self.service.user.as_deref(), unit.manager, !harmless)
            .and_then(|()| unit.call(&["daemon-reload"], ANSWER_LIMIT * 3).map_err(std::io::Error::other))
            .map_err(|source| DriverError::Use { what: format!("tell {unit} its role"), source })
    }
}

impl Unit {
    fn run(&self, arguments: &[&str], limit: Duration) -> Result<Finished, String> {
        let mut command = Command::new("systemctl");
        command.arg(match self.manager {
            Manager::System => "--system",
            Manager::User => "--user",
        });
        command.args(["--no-ask-password", "--no-pager"]).args(arguments);
        command::run(command, limit, Leftovers::Kill).map_err(|error| format!("systemctl cannot be run: {error}"))
    }

    fn call(&self, arguments: &[&str], limit: Duration) -> Result<(), String> {
        let ended = self.run(arguments, limit)?;
        if ended.is_good() { Ok(()) } else { Err(format!("systemctl {}: {}", arguments.join(" "), ended.why())) }
    }

    fn show(&self) -> Result<Shown, String> {
        let properties = "LoadState,ActiveState,SubState,Job,ControlGroup,Result,ExecMainCode,ExecMainStatus,KillMode,\
                          UnitFileState,TriggeredBy,RequiredBy,WantedBy,UpheldBy,BoundBy";
        let ended = self.run(&["show", "--property", properties, "--", &self.name], ANSWER_LIMIT)?;
        if !ended.is_good() {
            return Err(format!("systemctl show {}: {}", self.name, ended.why()));
        }
        let pairs = ended.stdout.lines().filter_map(|line| line.split_once('='));
        Ok(Shown(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }

    fn life_of(&self, shown: &Shown) -> Life {
        let state = shown.of("ActiveState");
        let job = shown.of("Job");
        // `failed` can leave processes behind, and a job that waits starts it in a moment.
        let waits = !matches!(job, "" | "0");
        if !matches!(state, "inactive" | "failed") || waits || !cgroup::processes(shown.of("ControlGroup")).is_empty() {
            return Life::Running;
        }
        let how = match (shown.of("Result"), shown.of("ExecMainCode")) {
            (result, "" | "0") => format!("{state}, {result}"),
            (result, _) => format!("{state}, {result}, status {}", shown.of("ExecMainStatus")),
        };
        Life::Dead(how)
    }
}

impl Target for Unit {
    fn start(&self, given_up: &AtomicBool) -> Result<(), String> {
        if given_up.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("it was given up before it was begun".into());
        }
        self.drop_in.allow().map_err(|error| format!("{self} cannot be allowed to start: {error}"))?;
        // One that failed too often would not be started.
        let _ = self.call(&["reset-failed", "--", &self.name], ANSWER_LIMIT);
        // The manager ends this call itself when the job is taken back, as killing does.
        let started = self.call(&["start", "--", &self.name], START_LIMIT);
        let forbidden = self.drop_in.forbid().map_err(|error| format!("{self} stays allowed to start: {error}"));
        started.and(forbidden)?;
        match self.life()? {
            Life::Running => Ok(()),
            Life::Dead(how) => Err(format!("{self} ended at once: {how}")),
        }
    }

    fn ask_to_end(&self, _grace: Duration) -> Result<(), String> {
        self.call(&["stop", "--no-block", "--", &self.name], ANSWER_LIMIT)
    }

    fn kill(&self) -> Result<(), String> {
        let _ = self.drop_in.forbid();
        let shown = self.show();
        if let Ok(shown) = &shown {
            cgroup::kill(shown.of("ControlGroup"));
        }
        // It fails where nothing is left to be killed. What counts is what is seen afterwards.
        let _ = self.call(&["kill", "--signal=KILL", "--", &self.name], ANSWER_LIMIT);
        // Takes back jobs that wait, and a restart that the unit has begun.
        self.call(&["stop", "--no-block", "--", &self.name], ANSWER_LIMIT)
    }

    fn life(&self) -> Result<Life, String> {
        self.show().map(|shown| self.life_of(&shown))
    }
}
