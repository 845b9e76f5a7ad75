//! The driver `hooks`: a service of another manager, which only the commands in the pins know how to start and end.
//!
//! Proof of death is the word of `status`, and nothing else: it must say so by the one exit code for it. Any other answer,
//! also that it hangs, counts as alive. The guard runs `kill` when the time of the service is over.
//! Exit codes as of LSB init scripts. Documented in `docs/drivers.md`. Layer: the edge.

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifests::document::service::{Service, ServiceHooks};
use serde::{Deserialize, Serialize};

use super::guard::Target;
use super::process::find_program;
use super::{DriverError, Life, Setup, Start, role_arguments};
use crate::command::{self, Finished, Leftovers};

/// How long `status` and `kill` may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How long `start` may take.
const START_LIMIT: Duration = Duration::from_secs(540);
/// `status` says that it runs.
const RUNS: i32 = 0;
/// `status` says that it does not run.
const DEAD: i32 = 3;

/// The hooks of a service, and where they are run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hooks {
    hooks: ServiceHooks,
    /// Where they are run: the node directory.
    directory: PathBuf,
    /// A file with their environment, which may hold secrets.
    variables: PathBuf,
}

impl fmt::Display for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the service of {}", self.hooks.status.join(" "))
    }
}

/// Checks the hooks, and tells them the role.
pub(super) struct HooksDriver {
    hooks: Hooks,
    service: Service,
}

impl HooksDriver {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, DriverError> {
        let refused = |why: &str| DriverError::Start { why: why.to_owned() };
        if setup.service.user.is_some() {
            return Err(refused("the driver hooks takes no `user`: what starts the service knows whose it is"));
        }
        let hooks = setup.service.hooks.clone().ok_or_else(|| refused("the pins name no hooks"))?;
        let directory = fs::canonicalize(setup.directory)
            .map_err(|source| DriverError::Use { what: format!("find {}", setup.directory.display()), source })?;
        let hooks = Hooks { hooks, variables: directory.join("hooks.environment"), directory };
        Ok(Self { hooks, service: setup.service.clone() })
    }

    pub(super) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// Takes from `start` what will be run, and where. Runs nothing.
    pub(super) fn aim(&mut self, start: &Start) -> Result<(), DriverError> {
        let pinned = self.service.hooks.as_ref();
        self.hooks.hooks.start = pinned.map(|hooks| hooks.start.clone()).unwrap_or_default();
        self.hooks.hooks.start.extend(role_arguments(&self.service, start.role)?.iter().cloned());
        self.hooks.directory.clone_from(&start.directory);
        self.hooks
            .write(&start.environment)
            .map_err(|source| DriverError::Use { what: "write the environment of the hooks".into(), source })
    }

    /// Checks that the hooks are there and that nothing runs. Starts nothing.
    pub(super) fn prepare(&self, start: &Start) -> Result<(), DriverError> {
        for (_, argv) in self.hooks.hooks.all() {
            find_program(&argv[0], &start.directory, &start.environment)?;
        }
        let why = match self.hooks.life() {
            Ok(Life::Dead(_)) => return Ok(()),
            Ok(Life::Running) => "it runs before anybody here started it; stop it".to_owned(),
            Err(why) => why,
        };
        Err(DriverError::Alive { what: self.hooks.to_string(), why })
    }
}

impl Hooks {
    fn write(&self, environment: &[(String, String)]) -> std::io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&self.variables)?;
        file.write_all(&serde_json::to_vec(environment)?)
    }

    fn command(&self, argv: &[String]) -> Result<Command, String> {
        let environment: Vec<(String, String)> = fs::read(&self.variables)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or("the environment of the hooks cannot be read")?;
        let (program, arguments) = argv.split_first().ok_or("a hook without a program")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.directory).env_clear().envs(environment);
        Ok(command)
    }

    fn run(&self, argv: &[String], limit: Duration) -> Result<Finished, String> {
        command::run(self.command(argv)?, limit, Leftovers::Kill)
            .map_err(|error| format!("{} cannot be run: {error}", argv[0]))
    }
}

impl Target for Hooks {
    fn start(&self, given_up: &AtomicBool) -> Result<(), String> {
        if given_up.load(Ordering::SeqCst) {
            return Err("it was given up before it was begun".into());
        }
        let name = &self.hooks.start[0];
        let status = command::run_logged(self.command(&self.hooks.start)?, START_LIMIT, given_up)
            .map_err(|error| format!("{name} cannot be run: {error}"))?;
        match status {
            Some(status) if status.success() => {}
            Some(status) => return Err(format!("{name}: {status}; what it said is in the agent's log")),
            None => {
                return Err(format!("{name} was killed, because it did not end in time or was not wanted any more"));
            }
        }
        match self.life()? {
            Life::Running => Ok(()),
            Life::Dead(how) => Err(format!("it does not run after it was started: {how}")),
        }
    }

    fn ask_to_end(&self, grace: Duration) -> Result<(), String> {
        let ended = self.run(&self.hooks.stop, grace + ANSWER_LIMIT)?;
        if ended.is_good() { Ok(()) } else { Err(format!("{}: {}", self.hooks.stop[0], ended.why())) }
    }

    fn kill(&self) -> Result<(), String> {
        let ended = self.run(&self.hooks.kill, ANSWER_LIMIT)?;
        // Many fail where there is nothing to be killed. What counts is what `status` says afterwards.
        ended.status.map(drop).ok_or_else(|| format!("{}: {}", self.hooks.kill[0], ended.why()))
    }

    fn life(&self) -> Result<Life, String> {
        let ended = self.run(&self.hooks.status, ANSWER_LIMIT)?;
        match ended.status.and_then(|status| status.code()) {
            Some(RUNS) => Ok(Life::Running),
            Some(DEAD) => Ok(Life::Dead(ended.said().unwrap_or("its status says that it does not run").to_owned())),
            _ => Err(format!(
                "{} cannot tell whether it runs, expected exit code {RUNS} or {DEAD}: {}",
                self.hooks.status.join(" "),
                ended.why()
            )),
        }
    }
}
