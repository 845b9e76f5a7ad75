//! The driver `hooks` with a daemon that belongs to nobody here: it left the session, and its parent is gone.

#![allow(clippy::unwrap_used)]

mod drivers;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bootstrap::clock::BootTime;
use bootstrap::driver::procfs::Process;
use bootstrap::driver::{self, Driver, DriverError, Instance, Life, ServiceRole, Setup};
use drivers::{LIMIT, Site, await_death, await_that, started};
use manifests::document::service::Service;
use rustix::process::Signal;
use serde_json::{Value, json};

/// Controls the daemon as an init script does. Files change what it does: `stubborn`, `unknown`, `slow`, `broken`.
const CONTROL: &str = r#"#!/bin/sh
action=$1; shift
alive() { [ -e daemon.pid ] && kill -0 "$(cat daemon.pid)" 2>/dev/null; }
case $action in
start)
    echo "$SNAPKIT_ROLE [$*] [$ODD]" >told
    if [ -e slow ]; then echo $$ >>pids; exec sleep 1000; fi
    if [ -e broken ]; then echo "no such thing" >&2; exit 6; fi
    trap=:; if [ -e stubborn ]; then trap="trap '' TERM"; fi
    # Twice forked, in a session of its own, without its parent's environment.
    (env -i PATH="$PATH" setsid sh -c "$trap; echo \$\$ >daemon.pid; echo \$\$ >>pids; while :; do sleep 0.1; done" &)
    while ! alive; do sleep 0.01; done ;;
stop) kill -TERM "$(cat daemon.pid)" ;;
kill) echo kill >>kills; alive && kill -KILL "$(cat daemon.pid)" ;;
status)
    if [ -e unknown ]; then echo "the manager does not answer" >&2; exit 4; fi
    if alive; then exit 0; fi
    echo "it is gone"; exit 3 ;;
esac
"#;

/// A directory with the program that controls the daemon.
struct Place {
    site: Site,
}

impl Place {
    fn new(files: &[&str]) -> Place {
        let place = Place { site: Site::new() };
        let control = place.site.path("control");
        fs::write(&control, CONTROL).unwrap();
        fs::set_permissions(&control, fs::Permissions::from_mode(0o755)).unwrap();
        files.iter().for_each(|file| place.set(file));
        place
    }

    fn set(&self, file: &str) {
        fs::write(self.site.path(file), "").unwrap();
    }

    fn unset(&self, file: &str) {
        fs::remove_file(self.site.path(file)).unwrap();
    }

    fn driver(&self) -> Box<dyn Driver> {
        self.site.driver_of(service())
    }

    /// Runs the program by hand; its exit code.
    fn control(&self, action: &str) -> Option<i32> {
        let mut command = Command::new(self.site.path("control"));
        command.arg(action).current_dir(self.site.directory.path()).status().unwrap().code()
    }

    fn was_killed(&self) -> bool {
        self.site.path("kills").exists()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.control("kill");
    }
}

fn service() -> Value {
    let hook = |action: &str| json!(["./control", action]);
    json!({
        "driver": "hooks",
        "hooks": {"start": hook("start"), "stop": hook("stop"), "kill": hook("kill"), "status": hook("status")},
        "roles": [{"role": "leader", "args": ["--lead", "right now"]}],
    })
}

fn ended(driver: &mut dyn Driver) -> String {
    match driver.life().unwrap() {
        Life::Dead(how) => how,
        Life::Running => panic!("it lives"),
    }
}

#[test]
fn a_daemon_is_told_its_role_and_ends_in_order() {
    let place = Place::new(&[]);
    let mut driver = place.driver();
    let mut start = place.site.start(None);
    start.environment.push(("ODD".into(), "a \"b\" $c".into()));
    started(&mut *driver, &start);
    let processes = place.site.processes(1);
    assert_eq!(fs::read_to_string(place.site.path("told")).unwrap(), "leader [--lead right now] [a \"b\" $c]\n");
    assert_eq!(driver.life().unwrap(), Life::Running);
    driver.stop(LIMIT).unwrap();
    assert!(!processes[0].runs());
    assert_eq!(ended(&mut *driver), "it is gone");
    // A second start has the arguments once.
    started(&mut *driver, &start);
    assert_eq!(fs::read_to_string(place.site.path("told")).unwrap(), "leader [--lead right now] [a \"b\" $c]\n");
    driver.kill().unwrap();
    assert_eq!(place.control("status"), Some(3));
}

#[test]
fn a_daemon_that_does_not_end_is_killed_after_its_grace() {
    let place = Place::new(&["stubborn"]);
    let mut driver = place.driver();
    started(&mut *driver, &place.site.start(None));
    let processes = place.site.processes(1);
    driver.stop(Duration::from_millis(300)).unwrap();
    assert!(!processes[0].runs());
    assert!(place.was_killed());
}

#[test]
fn a_daemon_is_killed_at_its_deadline() {
    let place = Place::new(&["stubborn"]);
    let mut driver = place.driver();
    started(&mut *driver, &place.site.start(Some(LIMIT)));
    let processes = place.site.processes(1);
    driver.extend(BootTime::now() + Duration::from_millis(100)).unwrap();
    await_death(&processes);
    await_that("the driver knows", || driver.life().unwrap() != Life::Running);
    assert!(ended(&mut *driver).contains("its time was over"));
}

#[test]
fn a_daemon_that_ends_by_itself_is_dead() {
    let place = Place::new(&[]);
    let mut driver = place.driver();
    started(&mut *driver, &place.site.start(None));
    place.site.processes(1)[0].signal(Signal::KILL).unwrap();
    await_that("its end is seen", || driver.life().unwrap() != Life::Running);
    assert_eq!(ended(&mut *driver), "it is gone");
}

#[test]
fn what_cannot_be_told_counts_as_alive() {
    let place = Place::new(&[]);
    let mut driver = place.driver();
    let instance = started(&mut *driver, &place.site.start(None));
    let processes = place.site.processes(1);
    place.set("unknown");
    assert_eq!(driver.life().unwrap(), Life::Running);
    let error = driver.kill().unwrap_err();
    assert!(matches!(error, DriverError::Alive { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("exit code 0 or 3") && said.contains("the manager does not answer"), "{said}");
    assert!(!processes[0].runs(), "it was killed all the same");
    let error = place.driver().start(&place.site.start(None), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, DriverError::Alive { .. }), "{error}");
    place.unset("unknown");
    driver.kill().unwrap();
    place.driver().reclaim(&instance).unwrap();
}

#[test]
fn what_runs_already_is_refused_and_left_alone() {
    let place = Place::new(&[]);
    let environment = place.site.start(None).environment;
    assert!(environment.iter().any(|(name, _)| name == "PATH"));
    assert_eq!(place.control("start"), Some(0));
    let processes = place.site.processes(1);
    let error = place.driver().start(&place.site.start(None), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("before anybody here started it"), "{error}");
    assert!(processes[0].runs() && !place.was_killed());
}

#[test]
fn a_start_that_fails_or_hangs_leaves_nothing() {
    let place = Place::new(&["broken"]);
    let mut driver = place.driver();
    let error = driver.start(&place.site.start(None), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("exit status: 6"), "{error}");
    place.unset("broken");
    place.set("slow");
    let error = driver.start(&place.site.start(Some(Duration::from_secs(15))), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, DriverError::Start { .. }), "{error}");
    assert!(place.was_killed());
    let hung: u32 = fs::read_to_string(place.site.path("pids")).unwrap().trim().parse().unwrap();
    assert_eq!(Process::of(hung).filter(|process| process.runs()), None);
}

#[test]
fn hooks_that_cannot_be_run_and_users_are_refused() {
    let place = Place::new(&[]);
    let mut without = service();
    without["hooks"]["kill"] = json!(["./no-such-program"]);
    let error = place.site.driver_of(without).start(&place.site.start(None), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("./no-such-program"), "{error}");
    let mut start = place.site.start(None);
    start.role = ServiceRole::Follower;
    let error = place.driver().start(&start, &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("as a follower"), "{error}");
    let mut with_user = service();
    with_user["user"] = json!("nobody");
    let with_user: Service = serde_json::from_value(with_user).unwrap();
    let error = driver::open(&Setup::new(&with_user, &[], place.site.directory.path())).err().unwrap();
    assert!(error.to_string().contains("takes no `user`"), "{error}");
}

/// An agent of its own: this test program again, running [`the_agent_that_others_start`].
fn agent(place: &Place) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_agent_that_others_start", "--nocapture"])
        .env("SNAPKIT_TEST_AGENT", place.site.directory.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_agent_that_others_start() {
    let Some(directory) = std::env::var_os("SNAPKIT_TEST_AGENT").map(PathBuf::from) else { return };
    let service: Service = serde_json::from_value(service()).unwrap();
    let guard = Path::new(env!("CARGO_BIN_EXE_bootstrap"));
    let state = directory.join("state");
    fs::create_dir_all(&state).unwrap();
    let mut driver = driver::open(&Setup { guard, ..Setup::new(&service, &[], &state) }).unwrap();
    let start = driver::Start {
        role: ServiceRole::Leader,
        term: 1,
        until: None,
        directory: directory.clone(),
        environment: vec![("PATH".into(), std::env::var("PATH").unwrap())],
    };
    let mut write = |instance: &Instance| fs::write(directory.join("instance.json"), serde_json::to_vec(instance)?);
    driver.start(&start, &mut write).unwrap();
    fs::write(directory.join("started"), "").unwrap();
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

/// What the agent wrote down, and its guard.
fn left(place: &Place) -> (Instance, Process) {
    let left: Instance = serde_json::from_slice(&fs::read(place.site.path("instance.json")).unwrap()).unwrap();
    let guard = serde_json::from_value(left.marks["guard"]["guard"].clone()).unwrap();
    (left, guard)
}

/// The next agent's driver; its directory is not that of the node, as in a real one.
fn next_driver(place: &Place) -> Box<dyn Driver> {
    let service: Service = serde_json::from_value(service()).unwrap();
    let guard = Path::new(env!("CARGO_BIN_EXE_bootstrap"));
    driver::open(&Setup { guard, ..Setup::new(&service, &[], &place.site.path("state")) }).unwrap()
}

#[test]
fn a_daemon_does_not_outlive_its_agent() {
    let place = Place::new(&["stubborn"]);
    let mut killed = agent(&place);
    let mut processes = place.site.processes(1);
    // The guard needs the hooks for its proof, so they stay until it has ended.
    processes.push(left(&place).1);
    killed.kill().unwrap();
    killed.wait().unwrap();
    await_death(&processes);
}

#[test]
fn reclaiming_ends_a_daemon_whose_agent_and_guard_were_killed() {
    let place = Place::new(&["stubborn"]);
    let mut killed = agent(&place);
    await_that("the agent started it", || place.site.path("started").exists());
    let processes = place.site.processes(1);
    let (left, guard) = left(&place);
    guard.signal(Signal::KILL).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(processes[0].runs(), "nobody was left to end it");
    next_driver(&place).reclaim(&left).unwrap();
    assert!(!processes[0].runs());
    assert_eq!(place.control("status"), Some(3));
}
