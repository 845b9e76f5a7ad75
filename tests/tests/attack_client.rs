//! What a client keeps, and what it lifts: A13 with poisoned caches, H07.

#![allow(clippy::unwrap_used)]

use std::fs;

use jiff::{SignedDuration, Timestamp};
use manifests::refusal::Class;
use snapkit_tests::attack::{Forge, Victim};
use snapkit_tests::{Machine, Run, clock};

/// Every file below a directory.
fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let all = walkdir::WalkDir::new(directory).into_iter().map(|entry| entry.unwrap().into_path());
    all.filter(|path| path.is_file()).collect()
}

#[test]
fn a13_caches_with_hostile_bytes_change_nothing() {
    let (mut forge, other) = (Forge::new(), Forge::new());
    forge.machine.write("tree/newer", "newer\n");
    forge.honest();
    let victim = Victim::of(&forge);
    victim.restores("latest");
    let cached = files(&victim.machine.cache());
    assert!(cached.iter().any(|path| path.ends_with("head.json")), "the head is cached: {cached:?}");
    for poison in [other.slot(1), forge.slot(1), b"garbage".to_vec(), Vec::new()] {
        for path in &cached {
            fs::write(path, &poison).unwrap();
        }
        assert_eq!(victim.newest(), 2);
        victim.restores("latest");
        victim.verify_is_clean();
        // And when the store is damaged where the cache would help: what is in it is judged like any other bytes.
        for path in &cached {
            fs::write(path, &poison).unwrap();
        }
        let good = forge.slot(2);
        forge.replace_slot(2, b"garbage");
        victim.refuses(&["log"], Class::Json, "record 2");
        forge.replace_slot(2, &good);
    }
}

/// Two years after its only root was made.
fn later(machine: &Machine, args: &[&str]) -> Run {
    let mut command = machine.command(args);
    clock::set(&mut command, Timestamp::now() + SignedDuration::from_hours(24 * 730));
    Run::of(command)
}

#[test]
fn h07_break_glass_lifts_an_expired_root_and_never_silently() {
    let forge = Forge::new();
    let machine = &forge.machine;
    let restore = |target: &'static str| vec!["--store", "store", "--json", "restore", "latest", target];
    later(machine, &restore("refused")).expect(Class::Stale.exit_code().into()).stderr_names("E_STALE");
    assert!(!machine.path("refused").exists());

    let mut args = restore("restored");
    args.extend(["--receipt", "receipt.json", "--break-glass", "the owner is on a plane"]);
    let run = later(machine, &args).expect(4).stderr_names("W_BREAKGLASS").stderr_names("on a plane");
    let glass = &run.json("snapkit.restore/1")["break_glass"];
    assert_eq!(glass["reason"], "the owner is on a plane");
    assert_eq!(glass["lifted"][0]["class"], "E_STALE");
    assert_eq!(glass["lifted"][0]["object"], "root/1.json");
    assert_eq!(fs::read(machine.path("restored/file")).unwrap(), b"honest\n");

    // The receipt says so to whoever reads it, when the root is good again or by the key of the node.
    let receipt = machine.ok(&["--json", "receipt", "show", "receipt.json"]).json("snapkit.receipt-show/1");
    assert_eq!(receipt["break_glass"]["reason"], "the owner is on a plane");
    machine.ok(&["receipt", "verify", "receipt.json"]).text().contains("BREAK-GLASS");

    let verified = later(machine, &["--store", "store", "--json", "verify", "--break-glass", "an audit"]).expect(4);
    assert_eq!(verified.json("snapkit.verify/1")["break_glass"]["reason"], "an audit");
}

#[test]
fn h07_break_glass_lifts_nothing_but_an_expiry() {
    let mut forge = Forge::new();
    forge.machine.write("tree/newer", "newer\n");
    forge.honest();
    let victim = Victim::of(&forge);
    let newest = "chain/00000000000000000002.json";
    let good = forge.slot(2);
    let glass = ["restore", "latest", "missing", "--break-glass", "no time to think"];
    fs::remove_file(forge.object(newest)).unwrap();
    victim.refuses(&glass, Class::Rollback, newest);
    forge.replace_slot(2, &good);
    let root = fs::read(forge.object("root/1.json")).unwrap();
    forge.put("root/2.json", &root);
    victim.refuses(&glass, Class::Version, "root/2.json");
    fs::remove_file(forge.object("root/2.json")).unwrap();
    // Nor is the clock lifted.
    let mut back = victim.machine.command(&["--store", &forge.machine.arg("store"), "verify", "--break-glass", "why"]);
    clock::set(&mut back, "2001-01-01T00:00:00Z".parse().unwrap());
    Run::of(back).expect(Class::Clock.exit_code().into()).stderr_names("E_CLOCK");
    // Where nothing has expired there is nothing to record.
    let run = victim.accepts(&glass);
    assert!(run.json("snapkit.restore/1")["break_glass"].is_null());
    victim.run(&["restore", "latest", "other", "--break-glass", " "]).expect(2);
}

#[test]
fn mirrors_are_for_reading_and_named_without_a_pin() {
    let forge = Forge::new();
    let machine = &forge.machine;
    for command in [&["snapshot", "tree"][..], &["verify"]] {
        let mut args = vec!["--store", "store", "--mirror", "elsewhere"];
        args.extend(command);
        machine.run(&args).expect(2).stderr_names("mirror");
    }
    let pinned = forge.bootstrap.replace("store#", "copy#");
    machine.run(&["--store", "store", "--mirror", &pinned, "log"]).expect(2).stderr_names("pin");
    // In the configuration they are for those who read, and a mirror that is away does not matter.
    machine.write("snapkit.toml", "store = \"store\"\nmirrors = [\"copy\"]\n");
    machine.ok(&["snapshot", "tree"]);
    machine.ok(&["verify"]);
    machine.ok(&["log"]).stderr_names("W_MIRROR");
    // Nor does the store, once there is a copy.
    fs::rename(machine.path("store"), machine.path("copy")).unwrap();
    let run = machine.ok(&["--json", "restore", "latest", "restored"]).stderr_names("\"fault\":\"unavailable\"");
    assert!(run.stderr.starts_with("{\"schema\":\"snapkit.warning/1\",\"name\":\"W_MIRROR\""), "{}", run.stderr);
    assert_eq!(fs::read(machine.path("restored/file")).unwrap(), b"honest\n");
    machine.run(&["snapshot", "tree"]).expect(5);
}
