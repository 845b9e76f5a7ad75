//! The part that the drivers `systemd`, `compose` and `hooks` share: what runs belongs to another manager, and a guard ends it there.
//!
//! Layer: the edge.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compose::ComposeDriver;
use super::guard::{Charge, Ended, External, Guarded, Order, What};
use super::hooks::HooksDriver;
use super::sweep::Marks;
use super::systemd::SystemdDriver;
use super::{Driver, DriverError, Instance, Life, Setup, Start};
use crate::clock::BootTime;

/// How long a manager may take to start it. A deadline of the lease comes first.
const START_PATIENCE: Duration = Duration::from_secs(600);
/// How long what was killed may take to be gone.
const DEATH_PATIENCE: Duration = Duration::from_secs(30);

/// What differs between managers.
pub(super) enum Kind {
    Systemd(SystemdDriver),
    Compose(ComposeDriver),
    Hooks(HooksDriver),
}

impl Kind {
    fn external(&self) -> External {
        match self {
            Self::Systemd(driver) => External::Unit(driver.unit().clone()),
            Self::Compose(driver) => External::Project(driver.project().clone()),
            Self::Hooks(driver) => External::Hooks(driver.hooks().clone()),
        }
    }

    /// Takes from `start` what [`Kind::external`] must know to find and end it. Runs nothing.
    fn aim(&mut self, start: &Start) -> Result<(), DriverError> {
        match self {
            Self::Systemd(_) | Self::Compose(_) => Ok(()),
            Self::Hooks(driver) => driver.aim(start),
        }
    }

    /// Makes everything ready to be started and checks that it is what the pins name. Nothing runs yet.
    fn prepare(&mut self, start: &Start) -> Result<(), DriverError> {
        match self {
            Self::Systemd(driver) => driver.prepare(start),
            Self::Compose(driver) => driver.prepare(start),
            Self::Hooks(driver) => driver.prepare(start),
        }
    }

    /// Checks that what runs is what was prepared.
    fn verify(&self) -> Result<(), DriverError> {
        match self {
            Self::Systemd(_) | Self::Hooks(_) => Ok(()),
            Self::Compose(driver) => driver.verify_running(),
        }
    }
}

/// A service that another manager runs.
pub(super) struct ExternalDriver {
    guard: PathBuf,
    lock: PathBuf,
    kind: Kind,
    running: Option<(Guarded, Marks)>,
    ended: String,
}

/// How it is found again.
#[derive(Debug, Serialize, Deserialize)]
struct ExternalMarks {
    guard: Marks,
    external: External,
}

impl ExternalDriver {
    pub(super) fn new(setup: &Setup<'_>, kind: Kind) -> Self {
        let (guard, lock) = (setup.guard.to_owned(), setup.lock());
        Self { guard, lock, kind, running: None, ended: "it was not started".into() }
    }

    fn begin(
        &mut self,
        start: &Start,
        written: &mut dyn FnMut(&Instance) -> std::io::Result<()>,
    ) -> Result<Instance, DriverError> {
        let using = |what: &str| {
            let what = what.to_owned();
            move |source| DriverError::Use { what, source }
        };
        self.kind.aim(start)?;
        let guarded = Guarded::begin(&self.guard)?;
        let guard = Marks::new(guarded.process()).map_err(using("mark the service"))?;
        let marks = serde_json::to_value(ExternalMarks { guard: guard.clone(), external: self.kind.external() })
            .map_err(|error| using("write marks")(error.into()))?;
        let instance = Instance { role: start.role, term: start.term, marks };
        written(&instance).map_err(using("write down what is started"))?;
        self.kind.prepare(start)?;
        let what = What::External(self.kind.external());
        let charge = Charge { lock: self.lock.clone(), until: start.until, what };
        let (guarded, _) = self.running.insert((guarded, guard));
        guarded.start(charge, START_PATIENCE)?;
        self.kind.verify()?;
        Ok(instance)
    }

    /// Waits for the guard to have proved everything dead; does its work where it cannot.
    fn finish(&mut self, patience: Duration) -> Result<(), DriverError> {
        let Some((mut guarded, marks)) = self.running.take() else { return Ok(()) };
        if let Some(Ended::Failed(how) | Ended::Dead(how)) = guarded.wait(patience) {
            self.ended = how;
            return Ok(());
        }
        guarded.kill_guard();
        let external = self.kind.external();
        // Commands that the guard was running first: they might start the service this very moment.
        match super::sweep::sweep(&marks, DEATH_PATIENCE).and_then(|()| external.end(DEATH_PATIENCE)) {
            Ok(_) => {
                self.ended = "killed, after its guard was".into();
                Ok(())
            }
            Err(error) => {
                self.running = Some((guarded, marks));
                Err(error)
            }
        }
    }
}

impl Driver for ExternalDriver {
    fn start(
        &mut self,
        start: &Start,
        written: &mut dyn FnMut(&Instance) -> std::io::Result<()>,
    ) -> Result<Instance, DriverError> {
        if self.running.is_some() {
            return Err(DriverError::Alive { what: "the service".into(), why: "it was not stopped before".into() });
        }
        self.begin(start, written).or_else(|error| {
            self.kill()?;
            Err(error)
        })
    }

    fn extend(&mut self, until: BootTime) -> Result<(), DriverError> {
        match &mut self.running {
            Some((guarded, _)) => guarded.order(&Order::Until(until)),
            None => Ok(()),
        }
    }

    fn stop(&mut self, grace: Duration) -> Result<(), DriverError> {
        if let Some((guarded, _)) = &mut self.running {
            let _ = guarded.order(&Order::Stop(grace));
        }
        self.finish(grace.saturating_add(DEATH_PATIENCE))
    }

    fn kill(&mut self) -> Result<(), DriverError> {
        if let Some((guarded, _)) = &mut self.running {
            let _ = guarded.order(&Order::Kill);
        }
        self.finish(DEATH_PATIENCE)
    }

    fn life(&mut self) -> Result<Life, DriverError> {
        if let Some((guarded, _)) = &mut self.running {
            if guarded.ended().is_none() {
                return Ok(Life::Running);
            }
            self.finish(Duration::ZERO)?;
        }
        Ok(Life::Dead(self.ended.clone()))
    }

    fn reclaim(&mut self, left: &Instance) -> Result<(), DriverError> {
        let marks: ExternalMarks = serde_json::from_value(left.marks.clone()).map_err(|error| DriverError::Alive {
            what: "what an earlier agent started".into(),
            why: format!("its marks are of another driver ({error}); end it by hand, then remove the agent's state"),
        })?;
        // Its guard first: it might be starting the service this very moment.
        super::sweep::reclaim(&marks.guard, DEATH_PATIENCE)?;
        marks.external.end(DEATH_PATIENCE).map(drop)
    }
}
