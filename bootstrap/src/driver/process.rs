//! The driver `process`: a program in the foreground, a child of its guard.
//!
//! It dies with the agent, at once. Proof of death is that of the guard, which has no child left; where the guard was killed
//! itself, that nothing bears the marks of the service. Layer: the edge.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::document::service::Service;

use super::guard::{Charge, Ended, Guarded, Order, Program, What};
use super::sweep::{self, Marks, SIGN};
use super::{Driver, DriverError, Instance, Life, Setup, Start, role_arguments};
use crate::clock::BootTime;

/// How long a program may take to be run at all.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long what was killed may take to be gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(10);

/// A program as a service.
pub(super) struct ProcessDriver {
    guard: PathBuf,
    lock: PathBuf,
    argv: Vec<String>,
    service: Service,
    running: Option<Running>,
    /// How the last one ended.
    ended: String,
}

struct Running {
    guarded: Guarded,
    marks: Marks,
}

impl ProcessDriver {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, DriverError> {
        let argv = setup.service.argv.clone().unwrap_or_default();
        if argv.is_empty() {
            return Err(DriverError::Start { why: "the pins name no program".into() });
        }
        Ok(Self {
            guard: setup.guard.to_owned(),
            lock: setup.lock(),
            argv,
            service: setup.service.clone(),
            running: None,
            ended: "it was not started".into(),
        })
    }

    fn program(&self, start: &Start, marks: &Marks) -> Result<Program, DriverError> {
        let mut argv = self.argv.clone();
        argv.extend(role_arguments(&self.service, start.role)?.iter().cloned());
        let mut environment = start.environment.clone();
        if let Some(name) = &self.service.user {
            let refused = |why: String| DriverError::Start { why };
            let user = nix::unistd::User::from_name(name)
                .map_err(|error| refused(format!("the user {name} cannot be looked up: {error}")))?
                .ok_or_else(|| refused(format!("there is no user {name} on this machine")))?;
            environment.retain(|(name, _)| !["HOME", "USER", "LOGNAME"].contains(&name.as_str()));
            let home = user.dir.to_string_lossy().into_owned();
            environment.extend([
                ("HOME".into(), home),
                ("USER".into(), name.clone()),
                ("LOGNAME".into(), name.clone()),
            ]);
        }
        environment.push((SIGN.into(), marks.sign.clone()));
        find_program(&argv[0], &start.directory, &environment)?;
        Ok(Program { argv, environment, directory: start.directory.clone(), user: self.service.user.clone() })
    }

    /// Waits for the guard to have proved everything dead; does its work where it cannot.
    fn finish(&mut self, patience: Duration) -> Result<(), DriverError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let ended = running.guarded.wait(patience);
        if let Some(Ended::Failed(how) | Ended::Dead(how)) = ended {
            self.ended = how;
            return Ok(());
        }
        // Killing the guard takes the service with it; the rest is found by its marks.
        running.guarded.kill_guard();
        let swept = sweep::sweep(&running.marks, DEATH_PATIENCE);
        match swept {
            Ok(()) => {
                self.ended = "killed, after its guard was".into();
                Ok(())
            }
            Err(error) => {
                self.running = Some(running);
                Err(error)
            }
        }
    }
}

impl Driver for ProcessDriver {
    fn start(
        &mut self,
        start: &Start,
        written: &mut dyn FnMut(&Instance) -> std::io::Result<()>,
    ) -> Result<Instance, DriverError> {
        if self.running.is_some() {
            return Err(DriverError::Alive { what: "the service".into(), why: "it was not stopped before".into() });
        }
        let guarded = Guarded::begin(&self.guard)?;
        let using = |what: &str| {
            let what = what.to_owned();
            move |source| DriverError::Use { what, source }
        };
        let marks = Marks::new(guarded.process()).map_err(using("mark the service"))?;
        let what = What::Program(self.program(start, &marks)?);
        let instance = |marks: &Marks| -> Result<Instance, DriverError> {
            let marks = serde_json::to_value(marks).map_err(|error| using("write marks")(error.into()))?;
            Ok(Instance { role: start.role, term: start.term, marks })
        };
        written(&instance(&marks)?).map_err(using("write down what is started"))?;
        let charge = Charge { lock: self.lock.clone(), until: start.until, what };
        let running = self.running.insert(Running { guarded, marks });
        match running.guarded.start(charge, START_PATIENCE) {
            Ok(service) => {
                running.marks.service = service;
                instance(&running.marks)
            }
            Err(error) => {
                let _ = running.guarded.order(&Order::Kill);
                self.finish(DEATH_PATIENCE)?;
                Err(error)
            }
        }
    }

    fn extend(&mut self, until: BootTime) -> Result<(), DriverError> {
        match &mut self.running {
            Some(running) => running.guarded.order(&Order::Until(until)),
            None => Ok(()),
        }
    }

    fn stop(&mut self, grace: Duration) -> Result<(), DriverError> {
        if let Some(running) = &mut self.running {
            // A guard that cannot be told is dealt with after the same time.
            let _ = running.guarded.order(&Order::Stop(grace));
        }
        self.finish(grace.saturating_add(DEATH_PATIENCE))
    }

    fn kill(&mut self) -> Result<(), DriverError> {
        if let Some(running) = &mut self.running {
            let _ = running.guarded.order(&Order::Kill);
        }
        self.finish(DEATH_PATIENCE)
    }

    fn life(&mut self) -> Result<Life, DriverError> {
        if let Some(running) = &mut self.running {
            if running.guarded.ended().is_none() {
                return Ok(Life::Running);
            }
            self.finish(Duration::ZERO)?;
        }
        Ok(Life::Dead(self.ended.clone()))
    }

    fn reclaim(&mut self, left: &Instance) -> Result<(), DriverError> {
        let marks = Marks::deserialize_from(left)?;
        sweep::reclaim(&marks, DEATH_PATIENCE)
    }
}

impl Marks {
    /// The marks of something that a driver of this kind started.
    fn deserialize_from(left: &Instance) -> Result<Marks, DriverError> {
        serde_json::from_value(left.marks.clone()).map_err(|error| DriverError::Alive {
            what: "what an earlier agent started".into(),
            why: format!(
                "its marks are not those of a program ({error}); end it by hand, then remove the agent's state"
            ),
        })
    }
}

/// The program must be there before anything is begun for it.
pub(super) fn find_program(
    program: &str,
    directory: &Path,
    environment: &[(String, String)],
) -> Result<(), DriverError> {
    let can_run = |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    let found = if program.contains('/') {
        can_run(&directory.join(program))
    } else {
        let path = environment
            .iter()
            .find(|(name, _)| name == "PATH")
            .map_or("/usr/local/bin:/usr/bin:/bin", |(_, value)| value);
        std::env::split_paths(path).any(|part| can_run(&part.join(program)))
    };
    if found {
        return Ok(());
    }
    Err(DriverError::Start { why: format!("there is no program {program} here that can be run; install it first") })
}
