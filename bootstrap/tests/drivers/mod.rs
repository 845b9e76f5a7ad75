//! What tests of drivers share: a directory, a driver with the real guard, and waiting.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::clock::BootTime;
use bootstrap::driver::procfs::Process;
use bootstrap::driver::{self, Driver, Instance, ServiceRole, Setup, Start};
use manifests::document::service::Service;
use serde_json::json;

/// Much longer than anything here takes, on however slow a machine.
pub const LIMIT: Duration = Duration::from_secs(60);

pub struct Site {
    pub directory: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Site {
        Site { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn driver_of(&self, service: serde_json::Value) -> Box<dyn Driver> {
        let service: Service = serde_json::from_value(service).unwrap();
        let guard = Path::new(env!("CARGO_BIN_EXE_bootstrap"));
        driver::open(&Setup { guard, ..Setup::new(&service, &[], self.directory.path()) }).unwrap()
    }

    pub fn driver(&self, script: &str) -> Box<dyn Driver> {
        self.driver_of(json!({"driver": "process", "argv": ["sh", "-c", script]}))
    }

    pub fn start(&self, until: Option<Duration>) -> Start {
        Start {
            role: ServiceRole::Leader,
            term: 3,
            until: until.map(|left| BootTime::now() + left),
            directory: self.directory.path().to_owned(),
            environment: vec![
                ("PATH".into(), std::env::var("PATH").unwrap()),
                ("SNAPKIT_ROLE".into(), "leader".into()),
            ],
        }
    }

    /// The processes that the script wrote down, once there are that many.
    pub fn processes(&self, count: usize) -> Vec<Process> {
        let read = || -> Option<Vec<Process>> {
            let text = fs::read_to_string(self.path("pids")).ok()?;
            let found: Option<Vec<Process>> = text.lines().map(|line| Process::of(line.trim().parse().ok()?)).collect();
            found.filter(|found| found.len() >= count)
        };
        await_that("the service began", || read().is_some());
        read().unwrap()
    }
}

pub fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

pub fn await_death(processes: &[Process]) {
    await_that("all processes ended", || processes.iter().all(|process| !process.runs()));
}

pub fn started(driver: &mut dyn Driver, start: &Start) -> Instance {
    driver.start(start, &mut |_| Ok(())).unwrap()
}
