//! Images: pinned, kept in the chain, brought back, and compared with what an engine has and runs.

#![allow(clippy::unwrap_used)]

use std::fs;

use manifests::digest::Digest;
use manifests::refusal::Class;
use serde_json::Value;
use snapkit_tests::engine::StandIn;
use snapkit_tests::image::{Image, layer, named};
use snapkit_tests::issuer::PINS;
use snapkit_tests::{Issuer, Machine, Run};

const REFERENCE: &str = "registry.example/app:prod";

/// A machine with a chain in `store`.
fn with_chain() -> Machine {
    let machine = Machine::new();
    machine.ok(&["init", "store"]);
    machine
}

fn pin(machine: &Machine, archive: &str, out: &str) -> Run {
    machine.ok(&["image", "pin", "app", REFERENCE, "--archive", archive, "--store", "store", "--out", out, "--json"])
}

fn refused(machine: &Machine, arguments: &[&str], class: Class) -> Run {
    machine.run(arguments).expect(class.exit_code().into()).stderr_names(class.name())
}

#[test]
fn an_image_that_is_in_no_registry_is_kept_and_comes_back_as_it_was() {
    let machine = with_chain();
    let image = Image::new("one");
    machine.write("saved.tar", image.docker().to_tar());
    let pinned = pin(&machine, "saved.tar", "pin.json").json("snapkit.image-pin/1");
    assert_eq!(pinned["kept"]["seq"], 1);
    let written: Value = serde_json::from_slice(&fs::read(machine.path("pin.json")).unwrap()).unwrap();
    assert_eq!(written, pinned["pin"]);
    assert_eq!((&written["config"], &written["diff_ids"]), (&image.pin()["config"], &image.pin()["diff_ids"]));
    assert!(written.get("manifest").is_none(), "an archive's manifest is in no registry");

    machine.ok(&["verify", "--data", "--store", "store"]);
    let shown = machine.ok(&["image", "show", "--store", "store", "--json"]).json("snapkit.image-show/1");
    assert_eq!(shown["images"][0]["pin"], written);
    let record = machine.ok(&["image", "show", "#1", "--store", "store", "--json"]).json("snapkit.image-show/1");
    assert_eq!(record, shown);

    for (which, out) in [(["app"].as_slice(), "by-name.tar"), (&["--pin", "pin.json"], "by-pin.tar")] {
        let arguments = [&["image", "export", "--store", "store", "--out", out], which].concat();
        machine.ok(&arguments);
        machine.ok(&["image", "check", "pin.json", "--archive", out]);
    }
    let bytes = fs::read(machine.path("by-name.tar")).unwrap();
    assert_eq!(bytes, fs::read(machine.path("by-pin.tar")).unwrap(), "equal images give equal archives");
    machine.run(&["image", "export", "app", "--store", "store", "--out", "by-pin.tar"]).expect(3);
}

#[test]
fn ten_versions_of_an_image_cost_little_more_than_one() {
    let machine = with_chain();
    // Nothing that compresses, and longer than many chunks.
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let noise: Vec<u8> = (0..6 << 20).map(|_| next()).collect();
    let mut stored = Vec::new();
    for version in 0..10 {
        let text = format!("version {version}\n");
        let image = Image::of_layer(layer(&[("content", text.as_bytes()), ("library", &noise)]), "amd64");
        let tar = format!("{version}.tar");
        machine.write(&tar, image.layout().to_tar());
        let pinned = pin(&machine, &tar, &format!("{version}.json")).json("snapkit.image-pin/1");
        stored.push(pinned["kept"]["stored_bytes"].as_u64().unwrap());
    }
    let later: u64 = stored[1..].iter().sum();
    assert!(later < stored[0] / 4, "the first cost {} bytes, nine others {later}", stored[0]);
    // The newest of the name, and an older one by its number.
    machine.ok(&["image", "export", "app", "--store", "store", "--out", "newest.tar"]);
    machine.ok(&["image", "check", "9.json", "--archive", "newest.tar"]);
    machine.ok(&["image", "export", "4", "--store", "store", "--out", "fourth.tar"]);
    machine.ok(&["image", "check", "3.json", "--archive", "fourth.tar"]);
    refused(&machine, &["image", "check", "4.json", "--archive", "fourth.tar"], Class::Image);
}

#[test]
fn the_same_image_kept_again_stores_no_layer_again() {
    let machine = with_chain();
    let image = Image::new(&"same".repeat(10_000));
    machine.write("a.tar", image.layout().to_tar());
    machine.write("b.tar", image.docker().to_tar());
    pin(&machine, "a.tar", "a.json");
    let again = pin(&machine, "b.tar", "b.json").json("snapkit.image-pin/1");
    let record = machine.ok(&["image", "show", "--store", "store", "--json"]).json("snapkit.image-show/1");
    assert_eq!(record["images"].as_array().unwrap().len(), 2);
    // What was packed in two ways is one tree.
    assert_eq!(again["kept"]["new_objects"], 0, "{again}");
}

#[test]
fn a_snapshot_goes_on_beside_images() {
    let machine = with_chain();
    machine.write("tree/file", "content");
    machine.write("a.tar", Image::new("one").docker().to_tar());
    machine.ok(&["snapshot", "tree", "--store", "store"]);
    pin(&machine, "a.tar", "a.json");
    let again = machine.ok(&["snapshot", "tree", "--store", "store", "--json"]).json("snapkit.snapshot/1");
    assert_eq!((&again["changed"], &again["new_bytes"]), (&Value::from(false), &Value::from(0)));
    machine.ok(&["restore", "latest", "target", "--store", "store"]);
    assert_eq!(fs::read(machine.path("target/file")).unwrap(), b"content");
    machine.ok(&["verify", "--data", "--store", "store"]);
}

#[test]
fn what_is_not_there_is_the_answer_no() {
    let machine = with_chain();
    machine.write("a.tar", Image::new("one").layout().to_tar());
    machine.run(&["image", "show", "nothing", "--store", "store"]).expect(1).stderr_names("no image nothing");
    machine.run(&["image", "export", "7", "--store", "store", "--out", "x"]).expect(Class::Missing.exit_code().into());
    machine.run(&["image", "pin", "UPPER", REFERENCE, "--archive", "a.tar", "--no-keep"]).expect(2);
    machine.run(&["image", "pin", "app", "not a reference"]).expect(2);
    let engine = StandIn::new(&machine);
    let arguments = ["image", "pin", "app", REFERENCE, "--engine", &engine.command(), "--no-keep"];
    machine.run(&arguments).expect(1).stderr_names("there is no image");
    // Without a store nothing can be kept, and that is said before anything is done.
    machine.run(&["image", "pin", "app", REFERENCE, "--archive", "a.tar", "--out", "p.json"]).expect(2);
    assert!(!machine.path("p.json").exists());
}

/// A pin of `image`, and an engine that has nothing yet.
fn with_pin(image: &Image) -> (Machine, StandIn) {
    let machine = with_chain();
    machine.write("pin.json", image.pin().to_string());
    let engine = StandIn::new(&machine);
    (machine, engine)
}

#[test]
fn g02_what_an_engine_calls_by_the_name_must_be_the_image() {
    let (good, evil) = (Image::new("good"), Image::new("evil"));
    let (machine, engine) = with_pin(&good);
    let command = engine.command();
    let check = ["image", "check", "pin.json", "--engine", &command];
    refused(&machine, &check, Class::Image).stderr_names("no image");
    engine.image(REFERENCE, &named(&good.config), &[named(&good.layer)], None);
    machine.ok(&check);
    engine.image(REFERENCE, &named(&evil.config), &[named(&evil.layer)], None);
    refused(&machine, &check, Class::Image);
}

#[test]
fn an_engine_that_names_images_by_their_manifest_is_asked_to_save_them() {
    let good = Image::new("good");
    let (machine, engine) = with_pin(&good);
    let command = engine.command();
    let check = ["image", "check", "pin.json", "--engine", &command];
    let id = named(good.manifest().to_string().as_bytes());
    engine.image(REFERENCE, &id, &[named(&good.layer)], Some(&good.layout().to_tar()));
    machine.ok(&check);
    // The same layers with another command: G06 by way of the config.
    let config = String::from_utf8(good.config.clone()).unwrap().replace("/content", "/evil");
    let swapped = Image { config: config.into_bytes(), ..good.clone() };
    let id = named(swapped.manifest().to_string().as_bytes());
    engine.image(REFERENCE, &id, &[named(&good.layer)], Some(&swapped.layout().to_tar()));
    refused(&machine, &check, Class::Image);
}

#[test]
fn g05_a_running_container_must_be_created_from_the_image() {
    let (good, evil) = (Image::new("good"), Image::new("evil"));
    let (machine, engine) = with_pin(&good);
    let command = engine.command();
    let check = ["image", "check", "pin.json", "--engine", &command];
    let (right, wrong) = (named(&good.config), named(&evil.config));
    engine.image("other", &wrong, &[named(&evil.layer)], None);
    engine.image(REFERENCE, &right, &[named(&good.layer)], None);
    engine.container("web", &right, REFERENCE, |_| {});
    machine.ok(&check);
    // The name means the right image again, and what runs was created before.
    engine.container("web", &wrong, REFERENCE, |_| {});
    refused(&machine, &check, Class::ImageRunning).stderr_names("container web");
    // One that runs under another name is looked at when it is named.
    engine.container("web", &wrong, "other", |_| {});
    machine.ok(&check);
    refused(&machine, &[check.as_slice(), &["--container", "web"]].concat(), Class::ImageRunning);
    engine.container("web", &right, REFERENCE, |container| container["State"]["Running"] = false.into());
    refused(&machine, &[check.as_slice(), &["--container", "web"]].concat(), Class::ImageRunning);
    engine.container("web", &wrong, REFERENCE, |_| {});
    let report = machine.run(&[check.as_slice(), &["--json"]].concat()).json("snapkit.image-check/1");
    assert_eq!((&report["all_match"], &report["checks"][0]["matches"]), (&false.into(), &true.into()));
}

#[test]
fn g06_a_container_that_is_started_otherwise_is_found() {
    let good = Image::new("good");
    let (machine, engine) = with_pin(&good);
    let command = engine.command();
    let check = ["image", "check", "pin.json", "--engine", &command, "--as-built"];
    let id = named(&good.config);
    engine.image(REFERENCE, &id, &[named(&good.layer)], None);
    engine.container("web", &id, REFERENCE, |_| {});
    machine.ok(&check);
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 5] = [
        ("command", |c| c["Path"] = "/bin/sh".into()),
        ("command", |c| c["Args"] = serde_json::json!(["--evil"])),
        ("environment", |c| c["Config"]["Env"] = serde_json::json!(["PATH=/bin", "LD_PRELOAD=/evil.so"])),
        ("user", |c| c["Config"]["User"] = "0".into()),
        ("working directory", |c| c["Config"]["WorkingDir"] = "/evil".into()),
    ];
    for (what, change) in changes {
        engine.container("web", &id, REFERENCE, change);
        refused(&machine, &check, Class::Launch).stderr_names(what);
    }
}

#[test]
fn an_image_is_loaded_and_what_the_engine_made_of_it_is_checked() {
    let (good, evil) = (Image::new("good"), Image::new("evil"));
    let (machine, engine) = with_pin(&good);
    machine.write("good.tar", good.docker().to_tar());
    pin(&machine, "good.tar", "kept.json");
    let command = engine.command();
    let load = ["image", "load", "app", "--store", "store", "--engine", &command];
    // An engine that has loaded nothing, whatever it said, and one that has something else.
    machine.run(&load).expect(1).stderr_names("there is no image");
    machine.write("loaded.tar", engine.loaded());
    machine.ok(&["image", "check", "pin.json", "--archive", "loaded.tar"]);
    engine.image(REFERENCE, &named(&evil.config), &[named(&evil.layer)], None);
    refused(&machine, &load, Class::Image);
    engine.image(REFERENCE, &named(&good.config), &[named(&good.layer)], None);
    machine.ok(&[load.as_slice(), &["--json"]].concat()).json("snapkit.image-fetch/1");
}

#[test]
fn signed_pins_and_manifests_say_which_images_must_be_there() {
    let (app, side, evil) = (Image::new("app"), Image::new("side"), Image::new("evil"));
    let images = "max_head_lag = 2\nimages = [\"deploy/app.image.json\", \"deploy/side.image.json\"]";
    let issuer = Issuer::without_pins(&PINS.replace("max_head_lag = 2", images));
    let machine = &issuer.machine;
    let reference = |name: &str| format!("registry.example/{name}:prod");
    for (name, image) in [("app", &app), ("side", &side)] {
        let mut pin = image.pin();
        (pin["name"], pin["reference"]) = (name.into(), reference(name).into());
        pin["manifest"] = Digest::sha256(image.manifest().to_string().as_bytes()).to_string().into();
        machine.write(&format!("deploy/{name}.image.json"), pin.to_string());
    }
    machine.ok(&["pins", "edit"]);
    machine.run(&["image", "check", "--signed", "deploy/pins.json"]).expect(Class::SigMissing.exit_code().into());
    machine.ok(&["pins", "sign"]);
    issuer.generate();
    let engine = StandIn::new(machine);
    let command = engine.command();
    let has = |name: &str, image: &Image| {
        engine.image(&reference(name), &named(&image.config), &[named(&image.layer)], None);
    };
    has("app", &app);
    let store = machine.arg("store");
    for signed in ["deploy/pins.json", "deploy/manifest.json", &store] {
        let check = ["image", "check", "--signed", signed, "--name", "app", "--engine", &command];
        has("side", &side);
        let report = machine.ok(&[check.as_slice(), &["--json"]].concat()).json("snapkit.image-check/1");
        assert_eq!(report["checks"].as_array().unwrap().len(), 2, "{report}");
        has("side", &evil);
        refused(machine, &check, Class::Image).stderr_names(&reference("side"));
        machine.ok(&[check.as_slice(), &["--image", "app"]].concat());
        machine.run(&[check.as_slice(), &["--image", "other"]].concat()).expect(2).stderr_names("app, side");
    }
    // Nothing is compared with what is not signed as it must be, or is old.
    let forged = issuer.forged_pins(&issuer.node, |pins| pins.version = 2);
    machine.write("deploy/forged.json", forged.to_bytes());
    let stale = issuer.forged(|manifest| {
        (manifest.version, manifest.issued, manifest.expires) = (2, Issuer::hours(-200), Issuer::hours(-120));
    });
    machine.write("deploy/stale.json", stale);
    for (signed, code) in
        [("deploy/forged.json", None), ("deploy/app.image.json", None), ("deploy/stale.json", Some(53))]
    {
        let run = machine.run(&["image", "check", "--signed", signed, "--engine", &command]);
        assert!(run.code > 2 && code.is_none_or(|code| code == run.code), "{signed}: {} {}", run.code, run.stderr);
        assert!(!run.stderr.contains("registry.example"), "{}", run.stderr);
    }
}
