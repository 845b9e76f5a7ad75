//! Bring-up where a service runs from images, with a real engine and a registry. Without them
//! (`tests/servers/check-images` starts them) nothing is tested here.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use serde_json::Value;
use snapkit_tests::{Issuer, Machine, Run};

/// An issuer and a cold machine, which share an engine and a registry.
struct Site {
    issuer: Issuer,
    machine: Machine,
    registry: String,
}

/// A command with what leads to the engine.
fn with_engine(mut command: Command) -> Command {
    for name in ["DOCKER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"] {
        command.env(name, std::env::var_os(name).unwrap());
    }
    command
}

fn docker(machine: &Machine, args: &[&str]) -> String {
    let mut command = Command::new("docker");
    command.args(args).current_dir(machine.path("")).env("DOCKER_BUILDKIT", "0");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Site {
    fn new(name: &str) -> Option<Self> {
        let Some(registry) = std::env::var("SNAPKIT_TEST_REGISTRY").ok() else {
            eprintln!("NOT TESTED HERE: no registry and no engine; run tests/servers/check-images");
            return None;
        };
        let machine = Machine::new();
        let issuer = Issuer::without_pins(&format!(
            "[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
             [pins]\nmax_head_age = \"26h\"\nimages = [\"deploy/app.json\"]\n\
             [pins.service]\ndriver = \"process\"\nargv = [\"/bin/sh\"]\nimages = [\"app\"]\n\
             [[pins.trees]]\nname = \"tree\"\npath = \"{}\"\nactivation = \"current\"\n",
            machine.arg("state")
        ));
        let site = Self { issuer, machine, registry };
        site.build(name, "as it was pinned");
        Some(site)
    }

    /// Builds an image under this tag.
    fn build(&self, tag: &str, content: &str) {
        let machine = &self.issuer.machine;
        machine.write("context/content", content);
        fs::copy("/bin/busybox", machine.path("context/busybox")).unwrap();
        machine.write("context/Dockerfile", "FROM scratch\nCOPY busybox /busybox\nCOPY content /content\n");
        docker(machine, &["build", "-q", "-t", tag, "context"]);
    }

    fn pin(&self, args: &[&str]) {
        fs::create_dir_all(self.issuer.machine.path("deploy")).unwrap();
        let all = [&["image", "pin", "app"], args, &["--out", "deploy/app.json"]].concat();
        Run::of(with_engine(self.issuer.machine.command(&all))).expect(0);
        self.issuer.machine.ok(&["pins", "edit"]);
        self.issuer.machine.ok(&["pins", "sign"]);
        Run::of(with_engine(self.issuer.machine.command(&["manifest", "generate"]))).expect(0);
    }

    fn up(&self, more: &[&str]) -> Run {
        let (_, pin) = self.issuer.bootstrap.split_once("#root=").unwrap();
        let from = format!("{}#root={pin}", self.issuer.machine.arg("store"));
        let all = [&["--from", &from, "--manifest", "app", "node", "--no-agent", "--json"], more].concat();
        Run::of(with_engine(self.machine.bootstrap_command(&all)))
    }

    fn brought(&self, more: &[&str]) -> Value {
        self.up(more).expect(0).json("bootstrap.bring-up/1")
    }
}

#[test]
fn an_image_that_the_engine_lacks_is_pulled_by_digest_and_compared() {
    let reference = format!("{}/bring-up:prod", std::env::var("SNAPKIT_TEST_REGISTRY").unwrap_or_default());
    let Some(site) = Site::new(&reference) else { return };
    docker(&site.machine, &["push", "-q", &reference]);
    // It stays in the registry alone, and what the tag names next is another image.
    site.pin(&[&reference, "--no-keep", "--plain-http"]);
    site.build(&reference, "swapped");
    docker(&site.machine, &["push", "-q", &reference]);
    let pin: Value = serde_json::from_slice(&fs::read(site.issuer.machine.path("deploy/app.json")).unwrap()).unwrap();
    docker(&site.machine, &["rmi", "-f", &format!("sha256:{}", pin["config"].as_str().unwrap())]);
    let report = site.brought(&["--dry-run"]);
    assert!(report["images"][0]["place"].as_str().unwrap().starts_with("in its registry"), "{report}");
    let report = site.brought(&[]);
    let name = report["images"][0]["engine_name"].as_str().unwrap();
    assert!(name.starts_with(&format!("{}/bring-up@sha256:", site.registry)), "{name}");
    assert_eq!(
        docker(&site.machine, &["image", "inspect", "--format", "{{.Id}}", name]),
        format!("sha256:{}", report["images"][0]["config"].as_str().unwrap())
    );
    // Now the engine has it.
    let report = site.brought(&[]);
    assert!(report["images"][0]["place"].as_str().unwrap().starts_with("in the engine"), "{report}");
}

#[test]
fn an_image_of_no_registry_is_loaded_from_the_chain_whatever_its_name_means_here() {
    let Some(site) = Site::new("local/bring-up:dev") else { return };
    site.pin(&["local/bring-up:dev", "--engine", "docker"]);
    docker(&site.machine, &["rmi", "-f", "local/bring-up:dev"]);
    // Somebody else's image has the name on this machine.
    site.build("local/bring-up:dev", "swapped");
    let report = site.brought(&[]);
    assert!(report["images"][0]["place"].as_str().unwrap().starts_with("in the chain, record "), "{report}");
    let config = report["images"][0]["config"].as_str().unwrap();
    let name = report["images"][0]["engine_name"].as_str().unwrap();
    assert_eq!(docker(&site.machine, &["image", "inspect", "--format", "{{.Id}}", name]), format!("sha256:{config}"));
    docker(&site.machine, &["rmi", "-f", &format!("sha256:{config}")]);
    // Podman is another engine with nothing in it.
    let report = site.brought(&["--engine", "podman"]);
    assert!(report["images"][0]["place"].as_str().unwrap().starts_with("in the chain"), "{report}");
}

#[test]
fn an_image_that_is_nowhere_is_missing_before_anything_is_touched() {
    let Some(site) = Site::new("local/nowhere:dev") else { return };
    site.pin(&["local/nowhere:dev", "--engine", "docker"]);
    docker(&site.machine, &["rmi", "-f", "local/nowhere:dev"]);
    let run = site.up(&["--engine", "/no/such/engine"]).expect(58);
    assert!(run.stderr.contains("the image app"), "{}", run.stderr);
    assert!(!site.machine.path("node").exists());
}
