//! Manifests in the hands of whoever has the store, or the key of manifests: rows A05 to A07, A10, H01 and H02.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use manifests::refusal::Class;
use serde_json::Value;
use snapkit_tests::issuer::PINS;
use snapkit_tests::{Issuer, Machine};

/// A machine that begins from one string, and what it may not change.
struct Victim<'a> {
    machine: Machine,
    issuer: &'a Issuer,
}

impl<'a> Victim<'a> {
    /// A machine that has seen nothing.
    fn cold(issuer: &'a Issuer) -> Self {
        let machine = Machine::new();
        machine.write("precious", "precious\n");
        Self { machine, issuer }
    }

    /// A machine that has seen the manifest there is.
    fn warm(issuer: &'a Issuer) -> Self {
        let victim = Self::cold(issuer);
        victim.verify().expect(0);
        victim
    }

    fn from(&self) -> String {
        format!("{}#root=sha256:{}", self.issuer.machine.arg("store"), self.issuer.pin)
    }

    fn verify(&self) -> snapkit_tests::Run {
        self.machine.run(&["--json", "verify", "--from", &self.from(), "--manifest", "app"])
    }

    /// Expects that what stands in the store is refused with this class, and leaves everything as it was.
    #[track_caller]
    fn refuses(&self, class: Class) {
        let before = (contents(&self.machine.path("")), contents(&self.machine.home()));
        let run = self.verify().expect(class.exit_code().into());
        let line = run.stderr.lines().find(|line| line.starts_with(r#"{"schema":"snapkit.error/1""#)).unwrap();
        let error: Value = serde_json::from_str(line).unwrap();
        assert_eq!(error["class"], class.name(), "{error}");
        assert!(!error["next"].is_null(), "{error}");
        assert!(run.stdout.is_empty(), "{}", run.text());
        assert!(
            before == (contents(&self.machine.path("")), contents(&self.machine.home())),
            "it left everything alone"
        );
    }
}

fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let walk = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    // Locks are empty and may be made by reading.
    let files = walk.filter(|entry| entry.path().extension().is_none_or(|extension| extension != "lock"));
    files.map(|entry| (entry.path().to_owned(), fs::read(entry.path()).unwrap_or_default())).collect()
}

fn copy(machine: &Machine, from: &str, to: &str) {
    let _ = fs::remove_dir_all(machine.path(to));
    let status = std::process::Command::new("cp").args(["-a", from, to]).current_dir(machine.path("")).status();
    assert!(status.unwrap().success());
}

#[test]
fn a05_a_store_that_stands_still_is_noticed_when_the_manifest_expires() {
    let issuer = Issuer::new();
    issuer.generate();
    let (cold, warm) = (Victim::cold(&issuer), Victim::warm(&issuer));
    let expired = issuer.forged(|manifest| {
        (manifest.issued, manifest.expires) = (Issuer::hours(-200), Issuer::hours(-32));
    });
    issuer.serve(&expired);
    cold.refuses(Class::Stale);
    // One that saw the manifest before sees that this is another of the same version.
    warm.refuses(Class::Manifest);
    let later = issuer.forged(|manifest| {
        (manifest.version, manifest.issued, manifest.expires) = (2, Issuer::hours(-200), Issuer::hours(-32));
    });
    issuer.serve(&later);
    warm.refuses(Class::Stale);
}

#[test]
fn a06_a_new_machine_is_not_shown_an_old_state_under_an_unexpired_manifest() {
    let issuer = Issuer::without_pins(&PINS.replace("26h", "30s"));
    for command in [&["pins", "edit"][..], &["pins", "sign"]] {
        issuer.machine.ok(command);
    }
    issuer.snapshots(1);
    issuer.generate();
    copy(&issuer.machine, "store", "older");
    issuer.snapshots(1);
    let newest = issuer.machine.ok(&["show", "latest", "--json"]).json("snapkit.show/1");
    std::thread::sleep(std::time::Duration::from_secs(31));
    // Everything in the copy is signed and unexpired; only its age tells.
    issuer.machine.ok(&["snapshot", "tree"]);
    fs::rename(issuer.machine.path("store"), issuer.machine.path("real")).unwrap();
    fs::rename(issuer.machine.path("older"), issuer.machine.path("store")).unwrap();
    Victim::cold(&issuer).refuses(Class::Stale);
    // A floor in the string tells at once.
    let victim = Victim::cold(&issuer);
    let floor = format!("{}&min={}:{}", victim.from(), newest["seq"], newest["id"].as_str().unwrap());
    victim.machine.run(&["verify", "--from", &floor, "--manifest", "app"]).expect(55);
}

#[test]
fn a07_a_manifest_and_a_chain_that_do_not_belong_together_are_refused() {
    let issuer = Issuer::new();
    issuer.generate();
    // A manifest of another chain, whose root is another too.
    let other = Issuer::new();
    other.generate();
    issuer.serve(&fs::read(other.file()).unwrap());
    Victim::cold(&issuer).refuses(Class::SigUntrusted);
    // Signed by the right key for another chain, and under another root.
    let foreign = other.manifest().chain;
    issuer.serve(&issuer.forged(|manifest| manifest.chain = foreign));
    Victim::cold(&issuer).refuses(Class::Origin);
    issuer.serve(&issuer.forged(|manifest| manifest.root = foreign));
    Victim::cold(&issuer).refuses(Class::Origin);
    // A head that the chain does not have there.
    let head = other.manifest().head.digest;
    issuer.serve(&issuer.forged(|manifest| (manifest.head.digest, manifest.snapshot.digest) = (head, head)));
    Victim::cold(&issuer).refuses(Class::Mix);
    // A new manifest over an old chain.
    copy(&issuer.machine, "store/chain", "chain");
    issuer.snapshots(1);
    issuer.generate();
    let newer = fs::read(issuer.file()).unwrap();
    fs::remove_dir_all(issuer.machine.path("store/chain")).unwrap();
    fs::rename(issuer.machine.path("chain"), issuer.machine.path("store/chain")).unwrap();
    issuer.serve(&newer);
    Victim::cold(&issuer).refuses(Class::Rollback);
}

#[test]
fn a07_a_manifest_cannot_say_of_its_snapshot_what_the_record_does_not() {
    let issuer = Issuer::new();
    issuer.generate();
    let victim = Victim::warm(&issuer);
    issuer.serve(&issuer.forged(|manifest| {
        manifest.version = 2;
        manifest.snapshot.captured = Issuer::hours(1);
    }));
    victim.refuses(Class::Manifest);
    // Nor can its key change what runs, or bring back pins for another manifest.
    let pins = issuer.forged_pins(&issuer.node, |pins| pins.version = 2);
    issuer.serve(&issuer.forged(|manifest| (manifest.version, manifest.pins) = (2, pins.clone())));
    victim.refuses(Class::Role);
    let pins = issuer.forged_pins(&issuer.owner, |pins| (pins.version, pins.name) = (2, "other".into()));
    issuer.serve(&issuer.forged(|manifest| (manifest.version, manifest.pins) = (2, pins.clone())));
    victim.refuses(Class::Origin);
}

#[test]
fn a10_after_a_stolen_key_drove_versions_up_a_new_root_is_the_whole_remedy() {
    let issuer = Issuer::new();
    issuer.generate();
    issuer.serve(&issuer.forged(|manifest| manifest.version = (1 << 53) - 1));
    let victim = Victim::warm(&issuer);
    issuer.serve(&issuer.forged(|manifest| manifest.version = 2));
    victim.refuses(Class::Rollback);
    let key = issuer.rotate("manifest");
    issuer.serve(&issuer.forged_by(&key, |manifest| manifest.version = 2));
    victim.verify().expect(0);
    // From here on the new key's versions count.
    issuer.serve(&issuer.forged_by(&key, |manifest| manifest.version = 1));
    victim.refuses(Class::Rollback);
}

#[test]
fn a10_adding_a_key_forgets_nothing() {
    let issuer = Issuer::new();
    issuer.generate();
    issuer.serve(&issuer.forged(|manifest| manifest.version = 9));
    let victim = Victim::warm(&issuer);
    let new = snapkit::keyfile::generate().unwrap();
    issuer.next_root(|document| {
        document.keys.push((&manifests::keys::Signer::public(&new)).into());
        document.keys.sort_by_key(|key| key.id);
        let role = document.roles.iter_mut().find(|role| role.name == "manifest").unwrap();
        role.keys.push(manifests::keys::Signer::public(&new).id());
        role.keys.sort();
    });
    // The new root is kept by the first look at it, which is no change that a refusal makes.
    victim.verify().expect(0);
    issuer.serve(&issuer.forged_by(&new, |manifest| manifest.version = 8));
    victim.refuses(Class::Rollback);
}

#[test]
fn h01_another_store_behind_the_right_address_is_refused_whatever_it_holds() {
    let (issuer, other) = (Issuer::new(), Issuer::new());
    issuer.generate();
    other.generate();
    let (cold, warm) = (Victim::cold(&issuer), Victim::warm(&issuer));
    fs::rename(issuer.machine.path("store"), issuer.machine.path("real")).unwrap();
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([other.machine.path("store"), issuer.machine.path("store")])
        .status();
    assert!(copied.unwrap().success());
    cold.refuses(Class::RootPin);
    // One that knows the root does not fetch it again, and says the same all the same.
    warm.refuses(Class::RootPin);
    // The address of the other store with its own pin is another matter, and says nothing about this one.
    let from = format!("{}#root=sha256:{}", other.machine.arg("store"), other.pin);
    Machine::new().ok(&["verify", "--from", &from, "--manifest", "app"]);
}

#[test]
fn h02_a_manifest_that_needs_a_newer_snapkit_says_so_and_is_never_called_damaged() {
    let issuer = Issuer::new();
    issuer.generate();
    let victim = Victim::warm(&issuer);
    let text = String::from_utf8(issuer.manifest().payload().unwrap()).unwrap();
    let signed = |payload: &str| {
        let payload_type = manifests::document::manifest::PAYLOAD_TYPE;
        manifests::envelope::sign(payload_type, payload.as_bytes(), &[&issuer.node]).unwrap()
    };
    issuer.serve(&signed(&text.replace("manifest:0-draft", "manifest:9")));
    victim.refuses(Class::Newer);
    issuer.serve(&signed(&text.replace(r#""pins":{"#, r#""critical":["witness"],"pins":{"#)));
    victim.refuses(Class::Newer);
    // Older rules cannot be asked for either: there is no such thing as an unsigned manifest.
    let payload_type = manifests::document::manifest::PAYLOAD_TYPE;
    issuer.serve(&manifests::envelope::sign(payload_type, text.as_bytes(), &[]).unwrap());
    victim.refuses(Class::SigMissing);
}
