//! Images against a real registry, a real Docker Engine, Podman and skopeo. Without them (`tests/servers/check-images`
//! starts them) nothing is tested here.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use manifests::refusal::Class;
use serde_json::Value;
use snapkit_tests::{Machine, Run};

/// The registry, and a machine with a chain.
struct Site {
    machine: Machine,
    registry: String,
}

impl Site {
    fn new() -> Option<Self> {
        let Some(registry) = std::env::var("SNAPKIT_TEST_REGISTRY").ok() else {
            eprintln!("NOT TESTED HERE: no registry and no engine; run tests/servers/check-images");
            return None;
        };
        let machine = Machine::new();
        machine.ok(&["init", "store"]);
        Some(Self { machine, registry })
    }

    fn snapkit(&self, arguments: &[&str]) -> Run {
        let mut command = self.machine.command(arguments);
        for name in ["DOCKER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"] {
            command.env(name, std::env::var_os(name).unwrap());
        }
        command.env("SNAPKIT_STORE", self.machine.path("store"));
        Run::of(command)
    }

    fn ok(&self, arguments: &[&str]) -> Run {
        self.snapkit(arguments).expect(0)
    }

    fn refused(&self, arguments: &[&str], class: Class) {
        self.snapkit(arguments).expect(class.exit_code().into()).stderr_names(class.name());
    }

    /// Another tool, whose output is given back.
    fn tool(&self, command: &[&str]) -> String {
        self.tool_with(command, b"")
    }

    fn tool_with(&self, command: &[&str], input: &[u8]) -> String {
        let mut child = Command::new(command[0])
            .args(&command[1..])
            .current_dir(self.machine.path(""))
            .env("HOME", self.machine.path(""))
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Builds an image from a file and an argument; a static program makes it one that can be run.
    fn build(&self, tag: &str, content: &str) {
        self.machine.write("context/content", content);
        fs::copy("/bin/busybox", self.machine.path("context/busybox")).unwrap();
        let recipe = "FROM scratch\nCOPY busybox /busybox\nCOPY content /content\nENV KIND=test\nCMD [\"/busybox\", \"sleep\", \"600\"]\n";
        self.machine.write("context/Dockerfile", recipe);
        self.tool(&["docker", "build", "-q", "-t", tag, "context"]);
    }

    fn pinned(&self, arguments: &[&str]) -> Value {
        let arguments = [&["image", "pin", "app"], arguments, &["--json"]].concat();
        self.ok(&arguments).json("snapkit.image-pin/1")
    }
}

#[test]
fn every_way_to_an_image_gives_the_same_pin_and_every_tool_the_same_digests() {
    let Some(site) = Site::new() else { return };
    let reference = &format!("{}/same:1", site.registry);
    site.build(reference, "same");
    site.tool(&["docker", "push", "-q", reference]);
    site.tool(&["docker", "tag", reference, "local/same:dev"]);
    let pushed = site.pinned(&[reference, "--plain-http", "--out", "pushed.json"]);
    let local = site.pinned(&["local/same:dev", "--engine", "docker", "--out", "local.json"]);
    site.tool(&["docker", "save", "-o", "saved.tar", reference]);
    let saved = site.pinned(&[reference, "--archive", "saved.tar", "--no-keep"]);
    let source = format!("docker://{reference}");
    site.tool(&["skopeo", "copy", "-q", "--src-tls-verify=false", &source, "docker-archive:skopeo.tar"]);
    let copied = site.pinned(&[reference, "--archive", "skopeo.tar", "--no-keep"]);
    for other in [&local, &saved, &copied] {
        for field in ["config", "diff_ids", "platform"] {
            assert_eq!(other["pin"][field], pushed["pin"][field]);
        }
    }
    assert!(local["pin"]["archive"]["seq"].is_u64(), "a local image is kept: {local}");

    // What outside tools say of the same image.
    let raw = site.tool(&["sh", "-c", &format!("skopeo inspect --raw --tls-verify=false {source} | sha256sum")]);
    assert!(raw.starts_with(pushed["pin"]["manifest"].as_str().unwrap()), "{raw}");
    let config = pushed["pin"]["config"].as_str().unwrap();
    let id = site.tool(&["docker", "image", "inspect", "-f", "{{.Id}}", reference]);
    assert_eq!(id, format!("sha256:{config}"));
    let found = site.tool(&["skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", &source]);
    assert_eq!(found, format!("sha256:{}", pushed["pin"]["manifest"].as_str().unwrap()));
    site.ok(&["image", "check", "pushed.json", "local.json", "--engine", "docker"]);

    // By digest, from the registry, with compressed layers, into the chain.
    let by_digest = format!("{}/same@{found}", site.registry);
    let kept = site.pinned(&[&by_digest, "--plain-http", "--keep"]);
    assert_eq!(kept["pin"]["config"], pushed["pin"]["config"]);
    assert!(kept["kept"]["stored_bytes"].as_u64().unwrap() < 20_000, "its layers were there: {kept}");

    site.ok(&["image", "export", "--pin", "local.json", "--out", "exported.tar"]);
    for kind in ["oci-archive", "docker-archive"] {
        let raw = format!("skopeo inspect --raw --config {kind}:exported.tar | sha256sum");
        assert!(site.tool(&["sh", "-c", &raw]).starts_with(config), "{kind}");
    }
    site.ok(&["verify", "--data"]);
}

#[test]
fn an_index_leads_to_the_manifest_of_the_platform() {
    let Some(site) = Site::new() else { return };
    let reference = &format!("{}/multi:1", site.registry);
    site.build(reference, "multi");
    site.tool(&["docker", "push", "-q", reference]);
    let single = site.pinned(&[reference, "--plain-http"]);
    // An index with this manifest, put into the registry as any client would.
    let manifest = single["pin"]["manifest"].as_str().unwrap();
    let name = format!("http://{}/v2/multi/manifests", site.registry);
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let accept = format!("Accept: {kind}");
    let raw = site.tool(&["curl", "-sf", "-H", &accept, &format!("{name}/1")]);
    let index = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [{"mediaType": kind, "digest": format!("sha256:{manifest}"), "size": raw.len(),
            "platform": {"os": "linux", "architecture": "amd64"}}],
    });
    let kind = "Content-Type: application/vnd.docker.distribution.manifest.list.v2+json";
    let put = ["curl", "-sf", "-X", "PUT", "-H", kind, "--data-binary", "@-", &format!("{name}/all")];
    site.tool_with(&put, index.to_string().as_bytes());
    let all = &format!("{}/multi:all", site.registry);
    let found = site.pinned(&[all, "--plain-http", "--platform", "linux/amd64"]);
    assert_eq!(found["pin"]["manifest"], single["pin"]["manifest"]);
    assert!(found["pin"]["index"].is_string(), "{found}");
    let other = ["image", "pin", "app", all, "--plain-http", "--platform", "linux/arm64"];
    site.refused(&other, Class::Platform);
    let missing = format!("{}/multi:none", site.registry);
    site.snapkit(&["image", "pin", "app", &missing, "--plain-http"]).expect(1);
}

#[test]
fn g01_g02_g05_tags_that_move_are_found_in_the_registry_in_the_engine_and_in_containers() {
    let Some(site) = Site::new() else { return };
    let reference = &format!("{}/moving:prod", site.registry);
    site.build(reference, "good");
    site.tool(&["docker", "push", "-q", reference]);
    site.pinned(&[reference, "--plain-http", "--out", "pin.json"]);
    let (registry, engine) = (
        ["image", "check", "pin.json", "--registry", "--plain-http"],
        ["image", "check", "pin.json", "--engine", "docker"],
    );
    site.ok(&registry);
    site.ok(&engine);
    let container = site.tool(&["docker", "run", "-d", reference]);
    site.ok(&engine);
    site.ok(&[engine.as_slice(), &["--container", &container, "--as-built"]].concat());
    let otherwise = site.tool(&["docker", "run", "-d", "-e", "LD_PRELOAD=/evil.so", reference]);
    site.refused(&[engine.as_slice(), &["--container", &otherwise, "--as-built"]].concat(), Class::Launch);
    site.tool(&["docker", "rm", "-f", &otherwise]);

    // G01: the tag moves in the registry. G02: the engine is given another image of that name.
    site.build(reference, "evil");
    site.refused(&engine, Class::Image);
    site.ok(&registry);
    site.tool(&["docker", "push", "-q", reference]);
    site.refused(&registry, Class::Image);
    // G05: the right image is back, and a container of the other one runs.
    let evil = site.tool(&["docker", "run", "-d", reference]);
    site.tool(&["docker", "tag", &site.tool(&["docker", "inspect", "-f", "{{.Image}}", &container]), reference]);
    site.refused(&engine, Class::ImageRunning);
    site.tool(&["docker", "rm", "-f", &evil]);
    site.ok(&engine);
    site.tool(&["docker", "rm", "-f", &container]);
}

#[test]
fn an_image_comes_back_into_every_engine_and_runs() {
    let Some(site) = Site::new() else { return };
    site.build("local/back:dev", "back");
    site.pinned(&["local/back:dev", "--engine", "docker", "--out", "pin.json"]);
    let id = site.tool(&["docker", "image", "inspect", "-f", "{{.Id}}", "local/back:dev"]);
    site.tool(&["docker", "rmi", "-f", "local/back:dev"]);
    site.refused(&["image", "check", "pin.json", "--engine", "docker"], Class::Image);
    for engine in ["docker", "podman"] {
        site.ok(&["image", "load", "--pin", "pin.json", "--engine", engine]);
        site.ok(&["image", "check", "pin.json", "--engine", engine]);
        let network = if engine == "podman" { "--network=host" } else { "--network=none" };
        let content = [engine, "run", "--rm", network, "local/back:dev", "/busybox", "cat", "/content"];
        assert_eq!(site.tool(&content), "back", "{engine}");
    }
    assert_eq!(site.tool(&["docker", "image", "inspect", "-f", "{{.Id}}", "local/back:dev"]), id);
}
