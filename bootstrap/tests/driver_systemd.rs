//! The systemd driver against a real manager. Without one (`tests/servers/check-drivers` starts them) nothing is tested
//! here.

#![allow(clippy::unwrap_used)]

mod drivers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bootstrap::clock::BootTime;
use bootstrap::driver::procfs::Process;
use bootstrap::driver::{self, Driver, DriverError, Instance, Life, Manager, Setup};
use drivers::{LIMIT, Site, await_death, await_that, started};
use manifests::document::service::Service;
use rustix::process::Signal;
use serde_json::json;

fn manager() -> Option<Manager> {
    match std::env::var("SNAPKIT_TEST_SYSTEMD").as_deref() {
        Ok("system") => Some(Manager::System),
        Ok("user") => Some(Manager::User),
        _ => {
            eprintln!("NOT TESTED HERE: no systemd; run tests/servers/check-drivers");
            None
        }
    }
}

/// A directory, and a unit of its own.
struct Units {
    site: Site,
    manager: Manager,
    name: String,
}

impl Units {
    fn new(name: &str, lines: &str) -> Option<Units> {
        let manager = manager()?;
        let units = Units { site: Site::new(), manager, name: format!("snapkit-test-{name}.service") };
        let place = units.place();
        fs::create_dir_all(&place).unwrap();
        let directory = units.site.directory.path().display();
        let text = format!("[Service]\nWorkingDirectory={directory}\n{lines}\n");
        fs::write(place.join(&units.name), text).unwrap();
        units.ctl(&["daemon-reload"]);
        Some(units)
    }

    /// A unit that runs a shell script, which is written to a file of its own.
    fn of_script(name: &str, script: &str, lines: &str) -> Option<Units> {
        let file = std::env::temp_dir().join(format!("snapkit-test-{name}-{}.sh", std::process::id()));
        fs::write(&file, script).unwrap();
        Units::new(name, &format!("ExecStart=/bin/sh {}\n{lines}", file.display()))
    }

    fn place(&self) -> PathBuf {
        match self.manager {
            Manager::System => PathBuf::from("/etc/systemd/system"),
            Manager::User => PathBuf::from(std::env::var("HOME").unwrap()).join(".config/systemd/user"),
        }
    }

    fn try_ctl(&self, arguments: &[&str]) -> (bool, String) {
        let level = if self.manager == Manager::System { "--system" } else { "--user" };
        let output = Command::new("systemctl").arg(level).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn ctl(&self, arguments: &[&str]) -> String {
        let (good, said) = self.try_ctl(arguments);
        assert!(good, "{arguments:?}: {said}");
        said
    }

    fn state(&self) -> String {
        self.try_ctl(&["is-active", &self.name]).1.trim().to_owned()
    }

    fn service(&self) -> Service {
        let roles = json!([{"role": "follower", "args": ["--follow"]}, {"role": "leader", "args": ["--lead", "now"]}]);
        serde_json::from_value(json!({"driver": "systemd", "unit": self.name, "roles": roles})).unwrap()
    }

    fn driver(&self) -> Box<dyn Driver> {
        let (service, guard) = (self.service(), Path::new(env!("CARGO_BIN_EXE_bootstrap")));
        let setup = Setup { guard, manager: self.manager, ..Setup::new(&service, &[], self.site.directory.path()) };
        driver::open(&setup).unwrap()
    }

    fn refused(&self) -> String {
        let mut driver = self.driver();
        driver.start(&self.site.start(None), &mut |_| Ok(())).unwrap_err().to_string()
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.try_ctl(&["kill", "--signal=KILL", &self.name]);
        self.try_ctl(&["disable", &self.name]);
        let _ = fs::remove_file(self.place().join(&self.name));
        self.try_ctl(&["daemon-reload"]);
    }
}

/// Ignores what is polite, and leaves its session.
const STUBBORN: &str = "trap '' TERM HUP\necho $$ >>pids\nsetsid sh -c 'trap \"\" TERM; echo $$ >>pids; while :; do sleep 1; done' &\nwhile :; do sleep 1; done\n";

#[test]
fn a_unit_is_told_its_role_and_ends_in_order() {
    let script = "echo \"$SNAPKIT_ROLE [$SNAPKIT_ARGS] $ODD\" >told; echo $$ >>pids; exec sleep 1000\n";
    let Some(units) = Units::of_script("role", script, "Restart=always\nRestartSec=100ms") else { return };
    let mut driver = units.driver();
    let mut start = units.site.start(None);
    start.environment.push(("ODD".into(), "a \"b\" $c \\d 'e'".into()));
    started(&mut *driver, &start);
    let processes = units.site.processes(1);
    assert_eq!(fs::read_to_string(units.site.path("told")).unwrap(), "leader [--lead now] a \"b\" $c \\d 'e'\n");
    assert_eq!(driver.life().unwrap(), Life::Running);
    driver.stop(LIMIT).unwrap();
    assert!(!processes[0].runs());
    assert!(matches!(driver.life().unwrap(), Life::Dead(_)));
    assert_eq!(units.state(), "inactive");
    // Neither by hand nor by anything else does it start without the agent.
    let (started, _) = units.try_ctl(&["start", &units.name]);
    assert!(!started);
    assert_eq!(units.state(), "inactive");
}

#[test]
fn a_unit_that_does_not_end_is_killed_after_its_grace() {
    let lines = "Restart=always\nRestartSec=0\nKillMode=process\nTimeoutStopSec=infinity";
    let Some(units) = Units::of_script("stubborn", STUBBORN, lines) else { return };
    let mut driver = units.driver();
    started(&mut *driver, &units.site.start(None));
    let processes = units.site.processes(2);
    driver.stop(Duration::from_millis(500)).unwrap();
    assert!(processes.iter().all(|process| !process.runs()));
    assert!(["failed", "inactive"].contains(&units.state().as_str()));
}

#[test]
fn a_unit_dies_at_its_deadline_and_is_not_started_again() {
    let lines = "Restart=always\nRestartSec=0\nTimeoutStopSec=infinity";
    let Some(units) = Units::of_script("deadline", STUBBORN, lines) else { return };
    let mut driver = units.driver();
    started(&mut *driver, &units.site.start(Some(LIMIT)));
    let processes = units.site.processes(2);
    driver.extend(BootTime::now() + Duration::from_millis(100)).unwrap();
    await_death(&processes);
    await_that("the driver knows", || driver.life().unwrap() != Life::Running);
    let Life::Dead(how) = driver.life().unwrap() else { panic!("it lives") };
    assert!(how.contains("its time was over"), "{how}");
    assert_eq!(fs::read_to_string(units.site.path("pids")).unwrap().lines().count(), 2, "it was started again");
}

#[test]
fn a_unit_that_ends_by_itself_is_dead_with_what_it_left() {
    let script = "setsid sh -c 'echo $$ >>pids; exec sleep 1000' &\nwhile [ ! -e go ]; do sleep 0.05; done\nexit 3\n";
    let Some(units) = Units::of_script("ends", script, "KillMode=process\nRestart=always") else { return };
    let mut driver = units.driver();
    started(&mut *driver, &units.site.start(None));
    units.site.processes(1);
    fs::write(units.site.path("go"), "").unwrap();
    await_that("its end is seen", || driver.life().unwrap() != Life::Running);
    let left: u32 = fs::read_to_string(units.site.path("pids")).unwrap().trim().parse().unwrap();
    assert_eq!(Process::of(left).filter(|process| process.runs()), None);
    let Life::Dead(how) = driver.life().unwrap() else { panic!("it lives") };
    assert!(how.contains("status 3"), "{how}");
}

#[test]
fn a_unit_that_starts_without_the_agent_is_refused() {
    let lines = "ExecStart=/bin/sleep 1000\n[Install]\nWantedBy=default.target";
    let Some(units) = Units::new("enabled", lines) else { return };
    units.ctl(&["enable", &units.name]);
    assert!(units.refused().contains("starts without the agent"), "{}", units.refused());
    units.ctl(&["disable", &units.name]);
    units.ctl(&["start", &units.name]);
    assert!(units.refused().contains("before anybody here started it"), "{}", units.refused());
    // Killing what the agent did not start is not its business.
    assert_eq!(units.state(), "active");
    units.ctl(&["stop", &units.name]);
    fs::write(
        units.place().join("snapkit-test-waker.timer"),
        format!("[Timer]\nOnActiveSec=1000s\nUnit={}\n", units.name),
    )
    .unwrap();
    units.ctl(&["daemon-reload"]);
    units.ctl(&["start", "snapkit-test-waker.timer"]);
    assert!(units.refused().contains("snapkit-test-waker.timer"), "{}", units.refused());
    units.ctl(&["stop", "snapkit-test-waker.timer"]);
    fs::remove_file(units.place().join("snapkit-test-waker.timer")).unwrap();
    // A simple unit counts as started before its program is run; then it is dead in a moment.
    let Some(broken) = Units::new("broken", "ExecStart=/no/such/program") else { return };
    let mut driver = broken.driver();
    let how = match driver.start(&broken.site.start(None), &mut |_| Ok(())) {
        Err(error) => error.to_string(),
        Ok(_) => {
            await_that("its end is seen", || driver.life().unwrap() != Life::Running);
            format!("{:?}", driver.life().unwrap())
        }
    };
    assert!(how.contains("203"), "{how}");
}

/// An agent of its own: this test program again, running [`the_agent_that_others_start`].
fn agent(units: &Units, until: Duration) -> Child {
    let task =
        json!({"unit": units.name, "directory": units.site.directory.path(), "until_ms": until.as_millis() as u64});
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_agent_that_others_start", "--nocapture"])
        .env("SNAPKIT_TEST_AGENT", task.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_agent_that_others_start() {
    let Ok(task) = std::env::var("SNAPKIT_TEST_AGENT") else { return };
    let task: serde_json::Value = serde_json::from_str(&task).unwrap();
    let directory = PathBuf::from(task["directory"].as_str().unwrap());
    let service: Service = serde_json::from_value(json!({"driver": "systemd", "unit": task["unit"]})).unwrap();
    let guard = Path::new(env!("CARGO_BIN_EXE_bootstrap"));
    let setup = Setup { guard, manager: manager().unwrap(), ..Setup::new(&service, &[], &directory) };
    let mut driver = driver::open(&setup).unwrap();
    let start = driver::Start {
        role: driver::ServiceRole::Leader,
        term: 1,
        until: Some(BootTime::now() + Duration::from_millis(task["until_ms"].as_u64().unwrap())),
        directory: directory.clone(),
        environment: Vec::new(),
    };
    let mut write = |instance: &Instance| fs::write(directory.join("instance.json"), serde_json::to_vec(instance)?);
    driver.start(&start, &mut write).unwrap();
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_unit_does_not_outlive_a_killed_agent_or_a_deadline_while_the_agent_is_stopped() {
    let lines = "Restart=always\nRestartSec=0\nTimeoutStopSec=infinity";
    let Some(units) = Units::of_script("agent", STUBBORN, lines) else { return };
    let mut killed = agent(&units, LIMIT);
    let processes = units.site.processes(2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    await_death(&processes);
    let left: Instance = serde_json::from_slice(&fs::read(units.site.path("instance.json")).unwrap()).unwrap();
    units.driver().reclaim(&left).unwrap();

    fs::remove_file(units.site.path("pids")).unwrap();
    let mut stopped = agent(&units, Duration::from_secs(20));
    let processes = units.site.processes(2);
    Process::of(stopped.id()).unwrap().signal(Signal::STOP).unwrap();
    await_death(&processes);
    stopped.kill().unwrap();
    stopped.wait().unwrap();
}

#[test]
fn reclaiming_ends_a_unit_whose_agent_and_guard_were_killed() {
    let Some(units) = Units::of_script("reclaim", STUBBORN, "Restart=always\nRestartSec=0") else { return };
    let mut killed = agent(&units, LIMIT);
    let processes = units.site.processes(2);
    let left: Instance = serde_json::from_slice(&fs::read(units.site.path("instance.json")).unwrap()).unwrap();
    let guard: Process = serde_json::from_value(left.marks["guard"]["guard"].clone()).unwrap();
    guard.signal(Signal::KILL).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(processes.iter().all(|process| process.runs()), "nobody was left to end it");
    units.driver().reclaim(&left).unwrap();
    assert!(processes.iter().all(|process| !process.runs()));
    let mut other = left;
    other.marks = json!({});
    assert!(matches!(units.driver().reclaim(&other).unwrap_err(), DriverError::Alive { .. }));
}
