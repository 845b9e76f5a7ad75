//! The process driver and its guard, with real processes that do not want to die.

#![allow(clippy::unwrap_used)]

mod drivers;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use bootstrap::clock::BootTime;
use bootstrap::driver::procfs::Process;
use bootstrap::driver::{self, DriverError, Instance, Life, ServiceRole, Setup, Start};
use drivers::{LIMIT, Site, await_death, await_that, started};
use manifests::document::service::Service;
use rustix::process::Signal;
use serde_json::json;

/// A service of four generations that nobody's hang-up or polite request reaches.
const STUBBORN: &str = "trap '' TERM HUP INT
    echo $$ >>pids
    setsid sh -c 'trap \"\" TERM HUP INT; echo $$ >>pids; (echo dies; sh -c \"trap : TERM HUP; echo \\$\\$ >>pids; while :; do sleep 1; done\" &) ; while :; do sleep 1; done' &
    env -i PATH=\"$PATH\" setsid sh -c 'echo $$ >>pids; while :; do sleep 1; done' &
    while :; do sleep 1; done";

#[test]
fn a_service_is_told_its_role_and_nothing_of_the_agents_environment() {
    let site = Site::new();
    let mut driver = site.driver("env >environment; echo $$ >>pids; exec sleep 1000");
    let instance = started(&mut *driver, &site.start(None));
    assert_eq!((instance.role, instance.term), (ServiceRole::Leader, 3));
    assert_eq!(driver.life().unwrap(), Life::Running);
    let processes = site.processes(1);
    driver.stop(LIMIT).unwrap();
    assert!(!processes[0].runs());
    assert_eq!(driver.life().unwrap(), Life::Dead("it was ended by signal 15".into()));
    let environment = fs::read_to_string(site.path("environment")).unwrap();
    assert!(environment.contains("SNAPKIT_ROLE=leader\n"));
    assert!(!environment.contains("CARGO"), "{environment}");
}

#[test]
fn stop_ends_what_ignores_the_request_and_what_left_its_session() {
    let site = Site::new();
    let mut driver = site.driver(STUBBORN);
    started(&mut *driver, &site.start(None));
    let processes = site.processes(4);
    driver.stop(Duration::from_millis(300)).unwrap();
    assert!(processes.iter().all(|process| !process.runs()));
    let Life::Dead(how) = driver.life().unwrap() else { panic!("it lives") };
    assert!(how.contains("within its grace"), "{how}");
}

#[test]
fn a_service_that_forks_without_end_is_killed_whole() {
    let site = Site::new();
    let script = "echo $$ >>pids; while :; do setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &' & done";
    let mut driver = site.driver(script);
    started(&mut *driver, &site.start(None));
    let main = site.processes(1)[0];
    // Some hundred of them, all in sessions of their own and children of the guard by now.
    thread::sleep(Duration::from_millis(500));
    driver.kill().unwrap();
    assert!(!main.runs());
    let sleeping = fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let directory = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        directory == fs::canonicalize(site.directory.path()).unwrap()
    });
    assert_eq!(sleeping.count(), 0);
}

#[test]
fn what_a_program_leaves_behind_when_it_ends_is_killed() {
    let site = Site::new();
    let mut driver = site
        .driver("setsid sh -c 'echo $$ >>pids; exec sleep 1000' & while [ ! -s pids ]; do sleep 0.01; done; exit 3");
    started(&mut *driver, &site.start(None));
    await_that("the program's end is seen", || driver.life().unwrap() != Life::Running);
    assert_eq!(driver.life().unwrap(), Life::Dead("it ended with exit code 3".into()));
    let left: u32 = fs::read_to_string(site.path("pids")).unwrap().trim().parse().unwrap();
    assert_eq!(Process::of(left).filter(|process| process.runs()), None);
}

#[test]
fn a_service_that_ends_in_order_has_its_grace() {
    let site = Site::new();
    let mut driver = site.driver("trap 'echo bye >bye; exit 0' TERM; echo $$ >>pids; while :; do sleep 0.05; done");
    started(&mut *driver, &site.start(None));
    site.processes(1);
    driver.stop(LIMIT).unwrap();
    assert_eq!(fs::read_to_string(site.path("bye")).unwrap(), "bye\n");
    assert_eq!(driver.life().unwrap(), Life::Dead("it ended with exit code 0".into()));
}

#[test]
fn a_deadline_kills_and_an_extended_one_does_not() {
    let site = Site::new();
    let mut driver = site.driver(STUBBORN);
    started(&mut *driver, &site.start(Some(LIMIT)));
    let processes = site.processes(4);
    driver.extend(BootTime::now() + Duration::from_millis(50)).unwrap();
    await_death(&processes);
    await_that("the driver knows", || driver.life().unwrap() != Life::Running);
    assert_eq!(driver.life().unwrap(), Life::Dead("killed: its time was over".into()));

    let site = Site::new();
    let mut driver = site.driver("echo $$ >>pids; exec sleep 1000");
    let first = site.start(Some(Duration::from_secs(20)));
    let deadline = first.until.unwrap();
    started(&mut *driver, &first);
    driver.extend(deadline + LIMIT).unwrap();
    await_that("the first deadline is past", || BootTime::now() > deadline + Duration::from_millis(200));
    assert_eq!(driver.life().unwrap(), Life::Running);
    driver.kill().unwrap();
    assert_eq!(driver.life().unwrap(), Life::Dead("killed: on order".into()));
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    let site = Site::new();
    let failure = |service: serde_json::Value, start: &Start| {
        let mut driver = site.driver_of(service);
        let error = driver.start(start, &mut |_| Ok(())).unwrap_err();
        assert!(matches!(driver.life().unwrap(), Life::Dead(_)));
        error.to_string()
    };
    let start = site.start(None);
    let said = failure(json!({"driver": "process", "argv": ["no-such-program"]}), &start);
    assert!(said.contains("no program no-such-program"), "{said}");
    fs::write(site.path("odd"), "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(site.path("odd"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = failure(json!({"driver": "process", "argv": ["./odd"]}), &start);
    assert!(said.contains("cannot run ./odd"), "{said}");
    let said = failure(json!({"driver": "process", "argv": ["sleep", "1"], "user": "nobody-of-that-name"}), &start);
    assert!(said.contains("no user"), "{said}");
    let late = Start { until: Some(BootTime::now()), ..start.clone() };
    let said = failure(json!({"driver": "process", "argv": ["sleep", "1"]}), &late);
    assert!(said.contains("over already"), "{said}");
    let follower = Start { role: ServiceRole::Follower, ..start };
    let said = failure(json!({"driver": "process", "argv": ["sleep", "1"]}), &follower);
    assert!(said.contains("as a follower"), "{said}");
}

#[test]
fn nothing_runs_that_was_not_written_down_first() {
    let site = Site::new();
    let mut driver = site.driver("echo $$ >>pids; exec sleep 1000");
    let mut refuse = |_: &Instance| Err(std::io::Error::other("the disk is full"));
    let error = driver.start(&site.start(None), &mut refuse).unwrap_err();
    assert!(matches!(error, DriverError::Use { .. }), "{error}");
    drop(driver);
    assert!(!site.path("pids").exists());
}

#[test]
fn a_second_guard_of_the_node_starts_nothing() {
    let site = Site::new();
    let mut first = site.driver("echo $$ >>pids; exec sleep 1000");
    started(&mut *first, &site.start(None));
    let mut second = site.driver("echo $$ >>second; exec sleep 1000");
    let error = second.start(&site.start(None), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("guard of an earlier service"), "{error}");
    assert!(!site.path("second").exists());
    first.kill().unwrap();
    started(&mut *second, &site.start(None));
    second.kill().unwrap();
}

#[test]
fn a_service_gets_the_ids_of_its_user() {
    if !rustix::process::geteuid().is_root() {
        return eprintln!("NOT TESTED HERE: only root can become another user");
    }
    let site = Site::new();
    fs::set_permissions(site.directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let script = "{ id -un; id -Gn; echo $HOME; } >ids; echo $$ >>pids; exec sleep 1000";
    let mut driver = site.driver_of(json!({"driver": "process", "argv": ["sh", "-c", script], "user": "nobody"}));
    started(&mut *driver, &site.start(None));
    let processes = site.processes(1);
    assert_eq!(fs::read_to_string(site.path("ids")).unwrap(), "nobody\nnogroup\n/nonexistent\n");
    // What binds a program to its guard holds for another user too.
    guard_of(&site).signal(Signal::KILL).unwrap();
    await_death(&processes);
    assert!(matches!(driver.life().unwrap(), Life::Dead(_)));
}

/// The parent of the service.
fn guard_of(site: &Site) -> Process {
    let service = site.processes(1)[0];
    let stat = fs::read_to_string(format!("/proc/{}/stat", service.pid)).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().to_owned();
    Process::of(parent.parse().unwrap()).unwrap()
}

#[test]
fn a_killed_guard_takes_the_service_with_it_and_what_is_left_is_found() {
    let site = Site::new();
    let mut driver = site.driver(STUBBORN);
    started(&mut *driver, &site.start(None));
    let processes = site.processes(4);
    guard_of(&site).signal(Signal::KILL).unwrap();
    // One of them cleared its environment and left the session: descent from others was all it had.
    await_that("the driver knows", || driver.life().unwrap() != Life::Running);
    let Life::Dead(how) = driver.life().unwrap() else { panic!("it lives") };
    assert!(how.contains("after its guard"), "{how}");
    let cleared = |process: &Process| {
        !fs::read(format!("/proc/{}/environ", process.pid))
            .unwrap_or_default()
            .windows(13)
            .any(|part| part == b"SNAPKIT_GUARD")
    };
    for process in processes.iter().filter(|process| process.runs()) {
        assert!(cleared(process), "left behind: {process:?}");
        process.signal(Signal::KILL).unwrap();
    }
}

#[test]
fn a_stopped_guard_is_woken_to_kill() {
    let site = Site::new();
    let mut driver = site.driver(STUBBORN);
    started(&mut *driver, &site.start(None));
    let processes = site.processes(4);
    guard_of(&site).signal(Signal::STOP).unwrap();
    driver.kill().unwrap();
    assert!(processes.iter().all(|process| !process.runs()));
}

/// An agent of its own: this test program again, running [`the_agent_that_others_start`].
fn agent(site: &Site, until: Duration, script: &str) -> Child {
    let task = json!({"directory": site.directory.path(), "until_ms": until.as_millis() as u64, "script": script});
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_agent_that_others_start", "--nocapture"])
        .env("SNAPKIT_TEST_AGENT", task.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn the_agent_that_others_start() {
    let Ok(task) = std::env::var("SNAPKIT_TEST_AGENT") else { return };
    let task: serde_json::Value = serde_json::from_str(&task).unwrap();
    let directory = PathBuf::from(task["directory"].as_str().unwrap());
    let service = json!({"driver": "process", "argv": ["sh", "-c", task["script"]]});
    let service: Service = serde_json::from_value(service).unwrap();
    let guard = Path::new(env!("CARGO_BIN_EXE_bootstrap"));
    let mut driver = driver::open(&Setup { guard, ..Setup::new(&service, &[], &directory) }).unwrap();
    let start = Start {
        role: ServiceRole::Leader,
        term: 1,
        until: Some(BootTime::now() + Duration::from_millis(task["until_ms"].as_u64().unwrap())),
        directory: directory.clone(),
        environment: vec![("PATH".into(), std::env::var("PATH").unwrap())],
    };
    let mut write = |instance: &Instance| {
        let mut file = fs::File::create(directory.join("instance.json"))?;
        file.write_all(&serde_json::to_vec(instance)?)
    };
    driver.start(&start, &mut write).unwrap();
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

fn instance_of(site: &Site) -> Instance {
    serde_json::from_slice(&fs::read(site.path("instance.json")).unwrap()).unwrap()
}

#[test]
fn a_service_does_not_outlive_an_agent_that_was_killed() {
    let site = Site::new();
    let mut agent = agent(&site, LIMIT, STUBBORN);
    let processes = site.processes(4);
    agent.kill().unwrap();
    agent.wait().unwrap();
    await_death(&processes);
    site.driver("true").reclaim(&instance_of(&site)).unwrap();
}

#[test]
fn a_service_does_not_outlive_its_deadline_when_the_agent_is_stopped() {
    let site = Site::new();
    let mut agent = agent(&site, Duration::from_secs(20), STUBBORN);
    let processes = site.processes(4);
    Process::of(agent.id()).unwrap().signal(Signal::STOP).unwrap();
    await_death(&processes);
    agent.kill().unwrap();
    agent.wait().unwrap();
}

#[test]
fn reclaiming_kills_what_a_killed_agent_and_a_stopped_guard_left() {
    let site = Site::new();
    let mut agent = agent(
        &site,
        LIMIT,
        "trap '' TERM HUP; echo $$ >>pids; setsid sh -c 'echo $$ >>pids; while :; do sleep 1; done' & while :; do sleep 1; done",
    );
    let processes = site.processes(2);
    guard_of(&site).signal(Signal::STOP).unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let mut driver = site.driver("true");
    driver.reclaim(&instance_of(&site)).unwrap();
    assert!(processes.iter().all(|process| !process.runs()));
    // A second time there is nothing to do, and of another boot there cannot be.
    driver.reclaim(&instance_of(&site)).unwrap();
    let mut other = instance_of(&site);
    other.marks["boot"] = json!("another");
    driver.reclaim(&other).unwrap();
    other.marks = json!({"unit": "a.service"});
    assert!(matches!(driver.reclaim(&other).unwrap_err(), DriverError::Alive { .. }));
}
