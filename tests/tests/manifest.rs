//! Pins and manifests: issued, kept fresh, and checked where nothing secret is.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use snapkit_tests::issuer::PINS;
use snapkit_tests::{Issuer, Machine, python};

/// A pipeline: a machine with the repository alone.
fn pipeline(issuer: &Issuer) -> Machine {
    let machine = Machine::new();
    machine.write("snapkit.toml", fs::read(issuer.machine.path("snapkit.toml")).unwrap());
    machine.write("deploy/manifest.json", fs::read(issuer.file()).unwrap());
    machine
}

#[test]
fn a_manifest_in_a_repository_is_checked_in_one_line_without_any_secret() {
    let issuer = Issuer::new();
    issuer.generate();
    let machine = pipeline(&issuer);
    let run = machine.ok(&["manifest", "check"]);
    assert_eq!(run.text().lines().count(), 1, "{}", run.text());
    assert!(run.text().starts_with("app v1: fresh; its head is the newest; "), "{}", run.text());
    assert!(!machine.home().join("keys").exists());
    // The same manifest by its other addresses.
    let store = issuer.machine.arg("store");
    let pin = format!("#root=sha256:{}", issuer.pin);
    let cold = Machine::new();
    for address in [format!("{store}{pin}"), format!("{store}/manifests/app.json{pin}")] {
        cold.ok(&["manifest", "check", &address, "--name", "app"]);
    }
    let shown = machine.ok(&["manifest", "show", "--json"]).json("snapkit.manifest-show/1");
    assert_eq!(shown["pins"]["service"]["argv"][0], "/usr/bin/app");
    assert!(machine.ok(&["manifest", "show"]).text().contains("load-bearing"));
}

#[test]
fn each_state_has_its_exit_code() {
    let issuer = Issuer::new();
    issuer.generate();
    let check = |args: &[&str], code: i32, verdict: &str| {
        let report = issuer.check(args).expect(code).json("snapkit.manifest-check/1");
        assert_eq!(report["verdict"], verdict, "{report}");
        assert_eq!(report["exit_code"], code, "{report}");
    };
    check(&[], 0, "fresh");
    check(&["--within", "8d"], 22, "expiring");
    // The chain may be two records beyond.
    issuer.snapshots(2);
    check(&[], 0, "fresh");
    issuer.snapshots(1);
    check(&[], 20, "lags");
    issuer.machine.ok(&["manifest", "refresh"]);
    check(&[], 0, "fresh");
    let expired = issuer.forged(|manifest| {
        manifest.version += 1;
        (manifest.issued, manifest.expires) = (Issuer::hours(-200), Issuer::hours(-1));
    });
    fs::write(issuer.file(), &expired).unwrap();
    check(&[], 23, "expired");
    fs::write(issuer.file(), "{}").unwrap();
    check(&[], 24, "unverifiable");
    // A store that cannot be asked proves nothing either way.
    fs::write(issuer.file(), &expired).unwrap();
    issuer.check(&["--store", "http://127.0.0.1:9/store"]).expect(5);
}

#[test]
fn a_snapshot_that_is_too_old_has_its_own_exit_code_and_is_not_refreshed() {
    let issuer = Issuer::without_pins(&PINS.replace("26h", "30s"));
    for command in [&["pins", "edit"][..], &["pins", "sign"]] {
        issuer.machine.ok(command);
    }
    issuer.snapshots(1);
    issuer.generate();
    std::thread::sleep(std::time::Duration::from_secs(31));
    let report = issuer.check(&[]).expect(21).json("snapkit.manifest-check/1");
    assert_eq!(report["verdict"], "old", "{report}");
    issuer.machine.run(&["manifest", "refresh"]).expect(21).stderr_names("snapkit snapshot");
    issuer.machine.run(&["manifest", "generate"]).expect(3).stderr_names("old");
}

#[test]
fn junit_is_well_formed_and_has_a_case_for_each_question() {
    let issuer = Issuer::new();
    issuer.generate();
    let counts = |file: &str| {
        let script = "import sys, xml.etree.ElementTree as e\nr = e.parse(sys.argv[1]).getroot()\n\
                      print(len(r.findall('.//testcase')), len(r.findall('.//failure')), len(r.findall('.//skipped')))";
        let output = Command::new("python3").args(["-c", script, &issuer.machine.arg(file)]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    issuer.check(&["--junit", "good.xml"]).expect(0);
    assert_eq!(counts("good.xml"), "5 0 0\n");
    issuer.check(&["--within", "8d", "--junit", "soon.xml"]).expect(22);
    assert_eq!(counts("soon.xml"), "5 1 0\n");
    fs::write(issuer.file(), "<&\"").unwrap();
    issuer.check(&["--junit", "bad.xml"]).expect(24);
    assert_eq!(counts("bad.xml"), "5 1 4\n");
}

#[test]
fn refresh_needs_the_manifest_key_alone_and_does_nothing_while_fresh() {
    let issuer = Issuer::new();
    issuer.generate();
    fs::remove_file(issuer.machine.home().join(format!("keys/{}/owner.key", issuer.pin))).unwrap();
    let refresh = |args: &[&str]| {
        let mut all = vec!["manifest", "refresh", "--json"];
        all.extend(args);
        issuer.machine.ok(&all).json("snapkit.manifest-made/1")
    };
    let before = fs::read(issuer.file()).unwrap();
    let idle = refresh(&[]);
    assert_eq!(idle["issued"], false, "{idle}");
    assert_eq!(fs::read(issuer.file()).unwrap(), before);
    let pins = issuer.manifest().pins;
    let renewed = refresh(&["--within", "8d"]);
    assert_eq!(renewed["summary"]["version"], 2, "{renewed}");
    assert!(issuer.manifest().pins == pins, "the pins are as they were signed");
    // Every version stays, and the newest is in both places.
    let store = issuer.machine.path("store/manifests");
    assert!(store.join("app/1.json").exists() && store.join("app/2.json").exists());
    issuer.machine.ok(&["manifest", "check", "store", "--name", "app"]);
}

#[test]
fn generate_promises_nothing_that_does_not_hold() {
    let issuer = Issuer::new();
    let refused = |args: &[&str], what: &str| {
        let mut all = vec!["manifest", "generate"];
        all.extend(args);
        issuer.machine.run(&all).expect(3).stderr_names(what);
        assert!(!issuer.file().exists());
    };
    // Not the newest head.
    refused(&["--expect-head", "7"], "the newest record is 1");
    // A load-bearing file is gone, then back.
    fs::remove_file(issuer.machine.path("tree/etc/app.conf")).unwrap();
    issuer.snapshots(1);
    refused(&[], "etc/app.conf in the tree tree");
    issuer.machine.write("tree/etc/app.conf", "key = 2\n");
    issuer.snapshots(1);
    // Something is not set, or not the right one.
    let needs =
        "\n[pins.needs]\nenvironment = [\"APP_REGION\"]\nsecrets = [{ name = \"TOKEN\", fingerprint = true }]\n";
    let config = fs::read_to_string(issuer.machine.path("snapkit.toml")).unwrap();
    issuer.machine.write("snapkit.toml", config.clone() + needs);
    issuer.machine.run(&["pins", "edit"]).expect(3).stderr_names("TOKEN");
    let with = |variables: &[(&str, &str)], args: &[&str]| {
        let mut command = issuer.machine.command(args);
        command.envs(variables.iter().copied());
        snapkit_tests::Run::of(command)
    };
    with(&[("TOKEN", "hunter2")], &["pins", "edit"]).expect(0);
    let pins = fs::read_to_string(issuer.machine.path("deploy/pins.json")).unwrap();
    assert!(!pins.contains("hunter2"));
    issuer.machine.ok(&["pins", "sign"]);
    refused(&[], "APP_REGION is not set");
    let wrong = with(&[("TOKEN", "hunter3"), ("APP_REGION", "eu")], &["manifest", "generate"]).expect(3);
    wrong.stderr_names("not the one that was pinned");
    with(&[("TOKEN", "hunter2"), ("APP_REGION", "eu")], &["manifest", "generate", "--dry-run"]).expect(0);
    let accept = ["manifest", "generate", "--accept", "unset=the secrets are on the nodes alone", "--json"];
    let made = issuer.machine.ok(&accept).json("snapkit.manifest-made/1");
    assert_eq!(made["summary"]["version"], 1, "{made}");
    let accepted = &issuer.manifest().accepted;
    assert_eq!(accepted[0].reason, "the secrets are on the nodes alone");
}

#[test]
fn an_image_is_pinned_by_its_digests_or_refused() {
    let issuer = Issuer::without_pins(&PINS.replace("max_head_lag = 2", "images = [\"deploy/app.image.json\"]"));
    issuer
        .machine
        .write("deploy/app.image.json", r#"{"name":"app","reference":"app:latest","platform":"linux/amd64"}"#);
    issuer.machine.run(&["pins", "edit"]).expect(30).stderr_names("a tag alone is no pin");
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let local = format!(
        r#"{{"name":"app","reference":"app:latest","platform":"linux/amd64","config":"{digest}","diff_ids":["{digest}"]}}"#
    );
    issuer.machine.write("deploy/app.image.json", &local);
    issuer.machine.ok(&["pins", "edit"]);
    issuer.machine.ok(&["pins", "sign"]);
    issuer.machine.run(&["manifest", "generate"]).expect(3).stderr_names("in no registry and not in the store");
    let archived = local.replace(r#""diff_ids""#, &format!(r#""archive":{{"seq":1,"digest":"{digest}"}},"diff_ids""#));
    // Fields may come in any order, but the record must be in the chain.
    issuer.machine.write("deploy/app.image.json", archived);
    issuer.machine.ok(&["pins", "edit"]);
    issuer.machine.ok(&["pins", "sign"]);
    issuer.machine.run(&["manifest", "generate"]).expect(3).stderr_names("no record 1 with the archive");
    let fetched = local.replace(r#""config""#, &format!(r#""manifest":"{digest}","config""#));
    issuer.machine.write("deploy/app.image.json", fetched);
    issuer.machine.ok(&["pins", "edit"]);
    issuer.machine.ok(&["pins", "sign"]);
    issuer.generate();
    assert_eq!(issuer.check(&[]).code, 0);
}

#[test]
fn planning_pins_again_changes_nothing_and_signed_pins_are_not_overwritten_by_the_same() {
    let issuer = Issuer::new();
    let file = issuer.machine.path("deploy/pins.json");
    let before = fs::read(&file).unwrap();
    let edit = |args: &[&str]| {
        let mut all = vec!["pins", "edit", "--json"];
        all.extend(args);
        issuer.machine.ok(&all).json("snapkit.pins-edit/1")
    };
    let again = edit(&[]);
    assert_eq!((&again["signed"], &again["written"]), (&true.into(), &false.into()), "{again}");
    assert_eq!(fs::read(&file).unwrap(), before);
    let config = fs::read_to_string(issuer.machine.path("snapkit.toml")).unwrap();
    issuer.machine.write("snapkit.toml", config.replace("--lead", "--primary"));
    let changed = edit(&[]);
    assert_eq!(changed["version"], 2, "{changed}");
    assert_eq!(changed["changed"], serde_json::json!(["service"]), "{changed}");
    // A draft is no pins: nothing embeds it.
    issuer.machine.run(&["manifest", "generate"]).expect(40).stderr_names("snapkit pins sign");
    let shown = issuer.machine.ok(&["pins", "show", "--json"]).json("snapkit.pins-show/1");
    assert_eq!(shown["good"], false, "{shown}");
    // The key of manifests cannot sign pins, the owner can, and without any store.
    let node = format!("{}/keys/{}/node.key", issuer.machine.home().display(), issuer.pin);
    issuer.machine.run(&["pins", "sign", "--signer", &node]).expect(44);
    fs::rename(issuer.machine.path("store"), issuer.machine.path("away")).unwrap();
    issuer.machine.ok(&["pins", "sign"]);
    assert_eq!(issuer.machine.ok(&["pins", "show", "--json"]).json("snapkit.pins-show/1")["good"], true);
    fs::rename(issuer.machine.path("away"), issuer.machine.path("store")).unwrap();
    let renewed = edit(&["--renew"]);
    assert_eq!((&renewed["version"], &renewed["written"]), (&3.into(), &true.into()), "{renewed}");
}

#[test]
fn a_machine_that_has_nothing_verifies_from_one_string() {
    let issuer = Issuer::new();
    let store = issuer.machine.arg("store");
    let pin = format!("#root=sha256:{}", issuer.pin);
    // Without a manifest what is not proved is said.
    let cold = Machine::new();
    let run = cold.ok(&["verify", "--from", &format!("{store}{pin}"), "--manifest", "app"][..3]);
    assert!(run.stderr.contains("nothing proves"), "{}", run.stderr);
    cold.run(&["verify", "--from", &format!("{store}{pin}"), "--manifest", "app"]).expect(70);
    issuer.generate();
    let cold = Machine::new();
    for from in [format!("{store}{pin}"), format!("{store}/manifests/app.json{pin}")] {
        let args = ["verify", "--from", &from, "--manifest", "app", "--data", "--json"];
        let report = cold.ok(&args).json("snapkit.verify/1");
        assert_eq!(report["manifest"]["version"], 1, "{report}");
        assert_eq!(report["findings"], serde_json::json!([]));
    }
    // A manifest outside of the store leads to it.
    let outside = cold.write("elsewhere/m.json", fs::read(issuer.file()).unwrap());
    cold.ok(&["verify", "--from", &format!("{}{pin}", outside.display())]);
    // What was there and is withheld is missed.
    fs::remove_file(issuer.machine.path("store/manifests/app.json")).unwrap();
    cold.write("snapkit.toml", "[manifest]\nname = \"app\"\n");
    cold.run(&["verify", "--from", &format!("{store}{pin}")]).expect(55);
}

/// What is done to a copy of a store, which is named by its directory on the machine.
type Damage<'a> = &'a dyn Fn(&Machine, &str);

#[test]
fn the_stores_that_a_manifest_names_are_copies_of_one() {
    let stores = "[manifest]\nstores = [\"../first\", \"../second\", \"../third\"]";
    let issuer = Issuer::without_pins(&PINS.replace("[manifest]", stores));
    issuer.machine.ok(&["pins", "edit"]);
    issuer.machine.ok(&["pins", "sign"]);
    issuer.generate();
    // A machine with two copies; the third cannot be opened.
    let with_copies = |damage: Damage<'_>| {
        let machine = Machine::new();
        for copy in ["first", "second"] {
            let (from, to) = (issuer.machine.path("store"), machine.path(copy));
            assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
        }
        let manifest = machine.write("deploy/m.json", fs::read(issuer.file()).unwrap());
        damage(&machine, "first");
        (machine, format!("{}#root=sha256:{}", manifest.display(), issuer.pin))
    };
    let files = |machine: &Machine, directory: &str| -> Vec<PathBuf> {
        let walk = walkdir::WalkDir::new(machine.path(directory)).into_iter().map(Result::unwrap);
        walk.filter(|entry| entry.file_type().is_file()).map(|entry| entry.path().to_owned()).collect()
    };
    let wrong = |machine: &Machine, copy: &str| {
        for path in [files(machine, &format!("{copy}/packs")), files(machine, &format!("{copy}/chain"))].concat() {
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }
    };
    let missing = |machine: &Machine, copy: &str| {
        fs::remove_dir_all(machine.path(format!("{copy}/packs"))).unwrap();
        fs::remove_file(machine.path(format!("{copy}/chain/00000000000000000001.json"))).unwrap();
    };
    let garbage_root = |machine: &Machine, copy: &str| {
        fs::write(machine.path(format!("{copy}/root/1.json")), "{}").unwrap();
    };
    let damages: [Damage<'_>; 3] = [&wrong, &missing, &garbage_root];
    for damage in damages {
        let (machine, from) = with_copies(damage);
        let run = machine.ok(&["verify", "--from", &from, "--data", "--json"]);
        assert_eq!(run.json("snapkit.verify/1")["findings"], serde_json::json!([]));
        assert!(run.stderr.contains("W_MIRROR"), "{}", run.stderr);
        assert!(run.stderr.contains(&machine.arg("first")), "{}", run.stderr);
        let (machine, from) = with_copies(damage);
        machine.ok(&["manifest", "check", &from]);
        // Two bad copies are no good one, and a store that is named is judged alone.
        let (machine, from) = with_copies(damage);
        let alone = format!("{}#root=sha256:{}", machine.arg("first"), issuer.pin);
        assert_ne!(machine.run(&["verify", "--store", &alone, "--data"]).code, 0);
        damage(&machine, "second");
        assert_ne!(machine.run(&["verify", "--from", &from, "--data"]).code, 0);
    }
}

#[test]
fn the_page_has_pipelines_that_parse_and_a_configuration_that_is_accepted() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manifest.md")).unwrap();
    let blocks = |kind: &str| -> Vec<String> {
        let fence = format!("```{kind}\n");
        page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
    };
    let machine = Machine::new();
    let yaml = blocks("yaml");
    assert_eq!(yaml.len(), 2);
    for text in &yaml {
        let path = machine.write("pipeline.yml", text);
        let script = "import sys, yaml; d = yaml.safe_load(open(sys.argv[1])); assert isinstance(d, dict) and d";
        if !python::is_left_out() {
            let output = python::python().args(["-c", script]).arg(path).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        let commands: Vec<&str> =
            text.lines().filter_map(|line| Some(&line[line.find("snapkit manifest")?..])).collect();
        assert_eq!(commands.len(), 1, "{text}");
        for command in commands {
            // The command exists with these options: what fails is that no chain is here.
            let args: Vec<&str> = command.split_whitespace().skip(1).collect();
            let run = machine.run(&args);
            assert!(run.code != 2 || run.stderr.contains("no store is named"), "{command}: {}", run.stderr);
        }
    }
    let issuer = Issuer::without_pins("");
    let config = blocks("toml").remove(0).replace("https://backup.example/app#root=sha256:afd0…", &issuer.bootstrap);
    let config = config.replace("images = [\"deploy/app.image.json\"]   # one image pin each\n", "");
    let config = config.replace(&"0123456789abcdef".repeat(4), &issuer.node_id());
    issuer.machine.write("snapkit.toml", config);
    let mut command = issuer.machine.command(&["pins", "edit"]);
    command.env("APP_TOKEN", "secret");
    snapkit_tests::Run::of(command).expect(0);
}
