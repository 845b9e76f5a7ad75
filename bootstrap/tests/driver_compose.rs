//! The compose driver with a real engine and registry. Without them (`tests/servers/check-drivers` starts them) nothing is
//! tested here.

#![allow(clippy::unwrap_used)]

mod drivers;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bootstrap::clock::BootTime;
use bootstrap::driver::procfs::Process;
use bootstrap::driver::{self, Driver, DriverError, Instance, Life, Setup, Start};
use drivers::{LIMIT, Site, await_death, await_that, started};
use manifests::document::image::ImagePin;
use manifests::document::service::Service;
use rustix::process::Signal;
use serde_json::{Value, json};

/// The engine under test.
fn engine() -> Option<String> {
    let engine = std::env::var("SNAPKIT_TEST_ENGINE").ok();
    if engine.is_none() {
        eprintln!("NOT TESTED HERE: no registry and no engine; run tests/servers/check-drivers");
    }
    engine
}

fn tool(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A directory, an engine, and an image that was built, pushed, pinned, and pulled.
struct Containers {
    site: Site,
    engine: String,
    /// By what the compose file names it.
    reference: String,
    pin: ImagePin,
}

impl Containers {
    fn new(name: &str) -> Option<Containers> {
        let engine = engine()?;
        let site = Site::new();
        let (reference, pin) = image(&site, &engine, name, "first");
        Some(Containers { site, engine, reference, pin })
    }

    /// A compose file of one container, which writes its process down and goes on.
    fn text(&self, script: &str, more: &str) -> String {
        format!(
            "services:\n  app:\n    image: \"{}\"\n    environment:\n      - SNAPKIT_ROLE\n      - \
             SNAPKIT_ARGS\n    volumes:\n      - \"./data:/data\"\n    command: [\"/busybox\", \"sh\", \"-c\", {}]\n{more}",
            self.reference,
            // What begins with a dollar would be filled in by the tool.
            serde_json::to_string(&script.replace('$', "$$")).unwrap(),
        )
    }

    fn service(&self, text: &str) -> Service {
        let roles = json!([{"role": "leader", "args": ["--lead"]}]);
        serde_json::from_value(json!({"driver": "compose", "compose": text, "images": ["app"], "roles": roles}))
            .unwrap()
    }

    fn open(&self, text: &str) -> Result<Box<dyn Driver>, DriverError> {
        fs::create_dir_all(self.site.path("data")).unwrap();
        open(self.site.directory.path(), &self.engine, &self.service(text), std::slice::from_ref(&self.pin))
    }

    fn driver(&self, script: &str) -> Box<dyn Driver> {
        self.open(&self.text(script, "")).unwrap()
    }

    /// All containers of the project: id, and whether it runs.
    fn all(&self) -> Vec<(String, bool, u32)> {
        let file: PathBuf = fs::canonicalize(self.site.directory.path()).unwrap();
        let digest = manifests::digest::Digest::sha256(file.as_os_str().as_encoded_bytes()).to_string();
        let label = format!("label=com.docker.compose.project=snapkit-{}", &digest[..12]);
        let ids = tool(&[&self.engine, "ps", "-aq", "--no-trunc", "--filter", &label]);
        let one = |id: &str| {
            let shown: Value = serde_json::from_str(&tool(&[&self.engine, "container", "inspect", id])).unwrap();
            let state = &shown[0]["State"];
            (id.to_owned(), state["Running"].as_bool().unwrap(), state["Pid"].as_u64().unwrap() as u32)
        };
        ids.split_whitespace().map(one).collect()
    }

    /// The one process, as this machine counts.
    fn process(&self) -> Process {
        let all = self.all();
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0].1, "{all:?}");
        Process::of(all[0].2).unwrap()
    }
}

fn open(
    directory: &Path,
    engine: &str,
    service: &Service,
    images: &[ImagePin],
) -> Result<Box<dyn Driver>, DriverError> {
    let guard = Path::new(env!("CARGO_BIN_EXE_bootstrap"));
    driver::open(&Setup { guard, engine, ..Setup::new(service, images, directory) })
}

/// Builds an image around a static program, pushes it, drops it, and pulls it by digest. What names it, and its pin.
///
/// One at a time: the images share a layer, and Podman 4.3 cannot pull one while it drops another ("layer not known").
fn image(site: &Site, engine: &str, name: &str, content: &str) -> (String, ImagePin) {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let registry = std::env::var("SNAPKIT_TEST_REGISTRY").unwrap();
    let context = site.path("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("content"), content).unwrap();
    fs::copy("/bin/busybox", context.join("busybox")).unwrap();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY busybox /busybox\nCOPY content /content\n").unwrap();
    let (engine_name, directory) = (engine.rsplit('/').next().unwrap(), context.to_str().unwrap());
    let tag = format!("{registry}/{engine_name}/{name}:{content}");
    tool(&[engine, "build", "-q", "-t", &tag, directory]);
    let insecure: &[&str] = if engine_name == "podman" { &["--tls-verify=false"] } else { &[] };
    tool(&[&[engine, "push", "-q"], insecure, &[tag.as_str()]].concat());
    let digest =
        tool(&["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", &format!("docker://{tag}")]);
    let config = tool(&["skopeo", "inspect", "--tls-verify=false", "--raw", "--config", &format!("docker://{tag}")]);
    let config_value: Value = serde_json::from_str(&config).unwrap();
    let manifest: Value = {
        let raw = tool(&["skopeo", "inspect", "--tls-verify=false", "--raw", &format!("docker://{tag}")]);
        serde_json::from_str(&raw).unwrap()
    };
    let hex = |text: &Value| text.as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let diff_ids: Vec<String> = config_value["rootfs"]["diff_ids"].as_array().unwrap().iter().map(hex).collect();
    let pin = json!({
        "name": "app", "reference": tag, "platform": "linux/amd64", "manifest": digest.trim_start_matches("sha256:"),
        "config": hex(&manifest["config"]["digest"]), "diff_ids": diff_ids,
    });
    tool(&[engine, "rmi", "-f", &tag]);
    let reference = format!("{registry}/{engine_name}/{name}@{digest}");
    tool(&[&[engine, "pull", "-q"], insecure, &[reference.as_str()]].concat());
    (reference, serde_json::from_value(pin).unwrap())
}

const STUBBORN: &str =
    "trap '' TERM; echo \"$SNAPKIT_ROLE [$SNAPKIT_ARGS]\" >/data/told; while :; do /busybox sleep 1; done";

fn told(containers: &Containers) -> Process {
    await_that("the service began", || containers.site.path("data/told").exists());
    containers.process()
}

#[test]
fn containers_of_the_pinned_image_run_in_their_role_and_end() {
    let Some(containers) = Containers::new("role") else { return };
    let mut driver = containers.driver(STUBBORN);
    started(&mut *driver, &containers.site.start(None));
    let process = told(&containers);
    await_that("it is told", || !fs::read_to_string(containers.site.path("data/told")).unwrap().is_empty());
    assert_eq!(fs::read_to_string(containers.site.path("data/told")).unwrap(), "leader [--lead]\n");
    assert_eq!(driver.life().unwrap(), Life::Running);
    driver.stop(Duration::from_secs(1)).unwrap();
    assert!(!process.runs());
    assert!(matches!(driver.life().unwrap(), Life::Dead(_)));
    assert_eq!(containers.all(), []);
    // A second time, as after a handoff.
    started(&mut *driver, &containers.site.start(None));
    driver.kill().unwrap();
    assert_eq!(containers.all(), []);
}

#[test]
fn a_swapped_image_is_refused_before_it_runs() {
    let Some(mut containers) = Containers::new("swapped") else { return };
    let good = containers.pin.clone();
    // The reference names another image than the pin.
    let (other, _) = image(&containers.site, &containers.engine, "swapped", "second");
    containers.reference = other;
    let mut driver = containers.driver(STUBBORN);
    let error = driver.start(&containers.site.start(None), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(&error, DriverError::Identity { .. }), "{error}");
    assert!(error.to_string().contains(&good.config.to_string()), "{error}");
    assert!(!containers.site.path("data/told").exists());
    assert!(containers.all().iter().all(|(_, runs, _)| !runs));
}

#[test]
fn what_could_run_without_the_agent_or_without_a_pin_is_refused() {
    let Some(containers) = Containers::new("policies") else { return };
    let said = |text: &str| match containers.open(text) {
        Err(error) => error.to_string(),
        Ok(mut driver) => driver.start(&containers.site.start(None), &mut |_| Ok(())).unwrap_err().to_string(),
    };
    let restarts = said(&containers.text(STUBBORN, "    restart: always\n"));
    assert!(restarts.contains("restart policy"), "{restarts}");
    let tagged = said(&containers.text(STUBBORN, "").replace(&containers.reference, "app:latest"));
    assert!(tagged.contains("line 3"), "{tagged}");
    let missing = format!("sha256:{}", "0".repeat(64));
    let missing = said(&containers.text(STUBBORN, "").replace(&containers.reference, &missing));
    assert!(missing.contains("compose"), "{missing}");
    assert!(!containers.site.path("data/told").exists());
}

#[test]
fn a_container_dies_at_its_deadline_and_when_it_ends_its_end_is_told() {
    let Some(containers) = Containers::new("deadline") else { return };
    let mut driver = containers.driver(STUBBORN);
    started(&mut *driver, &containers.site.start(Some(LIMIT)));
    let process = told(&containers);
    driver.extend(BootTime::now() + Duration::from_millis(100)).unwrap();
    await_death(&[process]);
    await_that("the driver knows", || driver.life().unwrap() != Life::Running);
    let Life::Dead(how) = driver.life().unwrap() else { panic!("it lives") };
    assert!(how.contains("its time was over"), "{how}");

    let mut driver = containers.driver("exit 3");
    started(&mut *driver, &containers.site.start(None));
    await_that("its end is seen", || driver.life().unwrap() != Life::Running);
    let Life::Dead(how) = driver.life().unwrap() else { panic!("it lives") };
    assert!(how.contains("exit code 3"), "{how}");
}

/// An agent of its own: this test program again, running [`the_agent_that_others_start`].
fn agent(containers: &Containers, until: Duration) -> Child {
    fs::create_dir_all(containers.site.path("data")).unwrap();
    let task = json!({
        "engine": containers.engine, "directory": containers.site.directory.path(),
        "service": containers.service(&containers.text(STUBBORN, "")), "pin": containers.pin,
        "until_ms": until.as_millis() as u64,
    });
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
    let task: Value = serde_json::from_str(&task).unwrap();
    let directory = PathBuf::from(task["directory"].as_str().unwrap());
    let service: Service = serde_json::from_value(task["service"].clone()).unwrap();
    let pin: ImagePin = serde_json::from_value(task["pin"].clone()).unwrap();
    let mut driver = open(&directory, task["engine"].as_str().unwrap(), &service, &[pin]).unwrap();
    let start = Start {
        role: driver::ServiceRole::Leader,
        term: 1,
        until: Some(BootTime::now() + Duration::from_millis(task["until_ms"].as_u64().unwrap())),
        directory: directory.clone(),
        environment: vec![("SNAPKIT_ROLE".into(), "leader".into())],
    };
    let mut write = |instance: &Instance| fs::write(directory.join("instance.json"), serde_json::to_vec(instance)?);
    driver.start(&start, &mut write).unwrap();
    loop {
        thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_container_does_not_outlive_a_killed_agent_or_a_deadline_while_the_agent_is_stopped() {
    let Some(containers) = Containers::new("agent") else { return };
    let mut killed = agent(&containers, LIMIT);
    let process = told(&containers);
    killed.kill().unwrap();
    killed.wait().unwrap();
    await_death(&[process]);
    let left: Instance = serde_json::from_slice(&fs::read(containers.site.path("instance.json")).unwrap()).unwrap();
    containers.driver(STUBBORN).reclaim(&left).unwrap();

    fs::remove_file(containers.site.path("data/told")).unwrap();
    let mut stopped = agent(&containers, Duration::from_secs(40));
    let process = told(&containers);
    Process::of(stopped.id()).unwrap().signal(Signal::STOP).unwrap();
    await_death(&[process]);
    stopped.kill().unwrap();
    stopped.wait().unwrap();
}

#[test]
fn reclaiming_ends_containers_whose_agent_and_guard_were_killed() {
    let Some(containers) = Containers::new("reclaim") else { return };
    let mut killed = agent(&containers, LIMIT);
    let process = told(&containers);
    let left: Instance = serde_json::from_slice(&fs::read(containers.site.path("instance.json")).unwrap()).unwrap();
    let guard: Process = serde_json::from_value(left.marks["guard"]["guard"].clone()).unwrap();
    guard.signal(Signal::KILL).unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(process.runs(), "nobody was left to end it");
    containers.driver(STUBBORN).reclaim(&left).unwrap();
    assert!(!process.runs());
    assert_eq!(containers.all(), []);
}
