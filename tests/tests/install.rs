//! `bootstrap install`: what starts a node by itself, held against what will read it.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;
use snapkit_tests::{Issuer, Machine};

/// A node that was brought up in a directory with this name.
fn node(name: &str) -> (Issuer, Machine) {
    let machine = Machine::new();
    let issuer = Issuer::without_pins(&format!(
        "[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
         [pins]\nmax_head_age = \"26h\"\n[[pins.trees]]\nname = \"tree\"\npath = \"{}\"\nactivation = \"current\"\n",
        machine.arg("state")
    ));
    for command in [&["pins", "edit"][..], &["pins", "sign"], &["manifest", "generate"]] {
        issuer.machine.ok(command);
    }
    let (_, pin) = issuer.bootstrap.split_once("#root=").unwrap();
    let from = format!("{}#root={pin}", issuer.machine.arg("store"));
    machine.bootstrap(&["--from", &from, "--manifest", "app", name]).expect(0);
    (issuer, machine)
}

fn text(report: &Value, name: &str) -> String {
    let files = report["files"].as_array().unwrap();
    let file = files.iter().find(|file| file["name"] == name);
    file.unwrap_or_else(|| panic!("no {name} in {report}"))["text"].as_str().unwrap().to_owned()
}

#[test]
fn units_are_accepted_by_systemd_and_printing_writes_nothing() {
    let (_issuer, machine) = node("a node with 100% $odd \"names\"");
    let name = "a node with 100% $odd \"names\"";
    let run = machine.bootstrap(&["install", name, "--print"]).expect(0);
    assert!(
        run.text().contains("ExecStart=") && run.text().contains("# then: systemctl daemon-reload"),
        "{}",
        run.text()
    );
    let into = machine.arg("units");
    assert!(!machine.path("units").exists());
    let report = machine.bootstrap(&["install", name, "--apply", "--into", &into, "--every", "15m", "--json"]);
    let report = report.expect(0).json("bootstrap.install/1");
    assert_eq!(report["next"][1], "systemctl enable --now snapkit-agent-app.service snapkit-snapshot-app.timer");
    let units = ["snapkit-agent-app.service", "snapkit-snapshot-app.service", "snapkit-snapshot-app.timer"];
    for unit in units {
        let path = machine.path("units").join(unit);
        assert_eq!(fs::read_to_string(&path).unwrap(), text(&report, unit));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o644);
    }
    // Held against the judge once more, by this test: a bad unit only makes it speak.
    let verify = |units: &[&str]| {
        let paths = units.iter().map(|unit| machine.path("units").join(unit));
        let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        assert_eq!(report["checked"], Value::Null);
        return eprintln!("NOT TESTED HERE: there is no systemd-analyze");
    }
    assert_eq!(report["checked"], "systemd-analyze verify");
    assert_eq!(verify(&units), (true, String::new()));
    let bad = text(&report, units[0]).replace("Restart=always", "Restart=sometimes");
    fs::write(machine.path("units").join("bad.service"), bad).unwrap();
    assert!(verify(&["bad.service"]).1.contains("sometimes"));
}

#[test]
fn the_snapshot_that_is_installed_works_as_cron_would_start_it() {
    let (issuer, machine) = node("node");
    let report = machine.bootstrap(&["install", "node", "--print", "--for", "cron", "--json"]).expect(0);
    let report = report.json("bootstrap.install/1");
    let file = text(&report, "snapkit-app");
    let line = file.lines().find(|line| line.starts_with("17 * * * * root ")).unwrap();
    let command = line.strip_prefix("17 * * * * root ").unwrap().replace("\\%", "%");
    // A key that may write, as `snapkit key enroll` and the owner of the chain would give it.
    let (from, to) = (issuer.machine.home().join("keys"), machine.home().join("keys"));
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
    machine.write("node/current/file", "what the service wrote\n");
    // cron gives next to nothing. No agent runs, so nobody is asked.
    let command = command.replace("/.node/agent/agent.sock'", "/.node/agent/agent.sock' SNAPKIT_AGENT= ");
    let output = Command::new("/bin/sh").args(["-c", &command]).env_clear().env("HOME", "/").output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    let shown = issuer.machine.ok(&["cat", "latest", "file"]);
    assert_eq!(shown.text(), "what the service wrote\n");
    assert!(file.lines().any(|line| line.starts_with("@reboot root ")), "{file}");
}

#[test]
fn a_compose_file_names_its_image_by_digest_and_is_read_by_what_is_there() {
    let (_issuer, machine) = node("node");
    let compose = |more: &[&str]| {
        let mut args = vec!["install", "node", "--for", "compose"];
        args.extend(more);
        machine.bootstrap(&args)
    };
    compose(&["--print"]).expect(2);
    compose(&["--print", "--image", "app:latest"]).expect(2).stderr_names("digest");
    let image = format!("registry.example/app@sha256:{}", "c".repeat(64));
    compose(&["--apply", "--image", &image]).expect(0);
    let file = machine.path("node/compose.yaml");
    let engines: [&[&str]; 3] = [&["docker", "compose"], &["docker-compose"], &["podman-compose"]];
    let works = |engine: &&&[&str]| {
        let output = Command::new(engine[0]).args(&engine[1..]).arg("version").output();
        output.is_ok_and(|output| output.status.success())
    };
    let Some(engine) = engines.iter().find(works) else {
        return eprintln!("NOT TESTED HERE: no engine reads compose files");
    };
    let mut command = Command::new(engine[0]);
    command.args(&engine[1..]).arg("--file").arg(&file).arg("config");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&image) && said.contains(&machine.arg("node")), "{said}");
}

#[test]
fn what_cannot_be_installed_is_refused() {
    let (_issuer, machine) = node("node");
    machine.bootstrap(&["install", "node"]).expect(2);
    machine.bootstrap(&["install", "node", "--print", "--image", "x@sha256:00"]).expect(2);
    machine.bootstrap(&["install", "absent", "--print"]).expect(5);
    let text = fs::read_to_string(machine.path("node/bootstrap.toml")).unwrap();
    let web: String = text
        .lines()
        .map(|line| match line.split_once("#root=") {
            Some((_, pin)) if line.starts_with("from") => format!("from = \"https://backup.example/app#root={pin}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(machine.path("node/bootstrap.toml"), web).unwrap();
    machine.bootstrap(&["install", "node", "--print"]).expect(2).stderr_names("--no-snapshots");
    let run = machine.bootstrap(&["install", "node", "--print", "--no-snapshots"]).expect(0);
    assert!(!run.text().contains("snapkit-snapshot"), "{}", run.text());
}
