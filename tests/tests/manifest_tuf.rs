//! Scenarios of the public conformance suite for TUF clients, under their own names.
//!
//! Rollback, expiration, keys, rotations of other keys than the root's, and what applies of the basic ones, of version 2.4
//! of the suite, with these in the places of its metadata: the manifest for the timestamp, the head of the chain for the
//! snapshot, pins for targets. Where several keys must sign, pins stand for the suite's snapshot too: only they and roots
//! can take more than one signature. Where a scenario ends otherwise than there, the test says why.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use manifests::document::pins::{self, PINS_CAP, Pins};
use manifests::document::root::{self, Key, RootDocument};
use manifests::envelope::{self, Nested};
use manifests::keys::{SecretKey, Signer};
use serde_json::Value;
use snapkit_tests::{Issuer, Machine};

/// A client that knows nothing but the bootstrap string, and the repository it reads.
struct Suite {
    repo: Issuer,
    client: Machine,
}

impl Suite {
    /// A client that has refreshed once, from version 1.
    fn new() -> Self {
        let repo = Issuer::new();
        repo.generate();
        let suite = Self { repo, client: Machine::new() };
        suite.refresh(0, None);
        suite
    }

    /// The client refreshes, and this is what comes of it.
    #[track_caller]
    fn refresh(&self, code: i32, class: Option<&str>) {
        let address = format!("{}#root=sha256:{}", self.repo.machine.arg("store"), self.repo.pin);
        let run = self.client.run(&["manifest", "check", &address, "--name", "app", "--json"]).expect(code);
        let report = run.json("snapkit.manifest-check/1");
        assert_eq!(report["class"].as_str(), class, "{report}");
    }

    /// The client refreshes, and refuses what it finds.
    #[track_caller]
    fn refused(&self) {
        let address = format!("{}#root=sha256:{}", self.repo.machine.arg("store"), self.repo.pin);
        self.client.run(&["manifest", "check", &address, "--name", "app"]).expect(24);
    }

    /// Publishes the next root, whether or not it may be; the change is of its JSON.
    fn any_root(&self, change: impl FnOnce(&mut Value)) {
        let path = |version: u64| self.repo.machine.path(format!("store/root/{version}.json"));
        let version = (1..).find(|version| !path(*version).exists()).unwrap();
        let newest: Value = serde_json::from_slice(&fs::read(path(version - 1)).unwrap()).unwrap();
        let payload = base64::engine::general_purpose::STANDARD.decode(newest["payload"].as_str().unwrap()).unwrap();
        let mut document: Value = serde_json::from_slice(&payload).unwrap();
        document["version"] = version.into();
        change(&mut document);
        let bytes = envelope::sign(root::PAYLOAD_TYPE, document.to_string().as_bytes(), &[&self.repo.owner]).unwrap();
        fs::write(path(version), bytes).unwrap();
    }

    /// Whether the client keeps a root of this version.
    fn has_root(&self, version: u64) -> bool {
        self.client.home().join(format!("trust/{}/root/{version}.json", self.repo.pin)).exists()
    }

    /// The next manifest, with pins of the next version that these keys signed.
    fn sign_pins(&self, version: u64, signers: &[u8]) {
        let draft = fs::read(self.repo.machine.path("deploy/pins.json")).unwrap();
        let mut changed = Pins::of_draft(&Nested::read(&draft, PINS_CAP, "pins").unwrap(), "pins").unwrap();
        changed.version = version;
        let signers: Vec<SecretKey> = signers.iter().map(|number| key(*number)).collect();
        let signers: Vec<&dyn Signer> = signers.iter().map(|key| key as &dyn Signer).collect();
        let bytes = envelope::sign(pins::PAYLOAD_TYPE, &changed.payload().unwrap(), &signers).unwrap();
        let nested = Nested::read(&bytes, PINS_CAP, "pins").unwrap();
        self.repo.serve(&self.repo.forged(|manifest| (manifest.version, manifest.pins) = (version, nested)));
    }

    /// The payload of what the client keeps.
    fn kept(&self, file: &str) -> Value {
        let path = self.client.home().join(format!("trust/{}/{file}", self.repo.pin));
        let envelope: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        serde_json::from_slice(&decode(envelope["payload"].as_str().unwrap())).unwrap()
    }

    /// The version of the manifest that the client trusts.
    fn manifest_version(&self) -> u64 {
        self.kept("manifests/app.json")["predicate"]["version"].as_u64().unwrap()
    }

    /// The version of the pins that the client trusts.
    fn pins_version(&self) -> u64 {
        self.kept("pins/app.json")["version"].as_u64().unwrap()
    }

    /// The slot of the newest record that the client trusts.
    fn head(&self) -> u64 {
        self.kept("manifests/app.json")["predicate"]["head"]["seq"].as_u64().unwrap()
    }

    /// Issues a manifest of the newest head, whether or not it is needed.
    fn publish(&self) {
        self.repo.generate();
    }
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number + 100; 32])
}

/// Gives these keys a role in the place of those that have it.
fn give(document: &mut RootDocument, name: &str, keys: &[u8], threshold: u32) {
    for number in keys {
        let public = Key::from(&key(*number).public());
        if document.keys.iter().all(|listed| listed.id != public.id) {
            document.keys.push(public);
        }
    }
    document.keys.sort_by_key(|key| key.id);
    let role = document.roles.iter_mut().find(|role| role.name == name).unwrap();
    role.keys = keys.iter().map(|number| key(*number).public().id()).collect();
    role.keys.sort();
    role.threshold = threshold;
}

#[test]
fn test_simple_snapshot_rollback() {
    let suite = Suite::new();
    suite.repo.snapshots(1);
    suite.publish();
    suite.refresh(0, None);
    // The store shows less than the manifest says. There the client does not look; here it does, and refuses.
    fs::remove_file(suite.repo.machine.path("store/chain/00000000000000000002.json")).unwrap();
    suite.refresh(24, Some("E_ROLLBACK"));
    assert_eq!(suite.head(), 2);
}

#[test]
fn test_new_timestamp_version_rollback() {
    let suite = Suite::new();
    let first = fs::read(suite.repo.file()).unwrap();
    suite.publish();
    suite.refresh(0, None);
    assert_eq!(suite.manifest_version(), 2);
    suite.repo.serve(&first);
    suite.refresh(24, Some("E_ROLLBACK"));
    assert_eq!(suite.manifest_version(), 2);
}

#[test]
fn test_snapshot_rollback() {
    let suite = Suite::new();
    let first = suite.repo.manifest();
    suite.repo.snapshots(1);
    suite.publish();
    suite.refresh(0, None);
    // "basic": a newer manifest with an older head. "with hashes": heads are always named by their digest.
    let rolled_back = suite.repo.forged(|manifest| {
        manifest.version = 3;
        (manifest.head, manifest.snapshot) = (first.head, first.snapshot.clone());
    });
    suite.repo.serve(&rolled_back);
    suite.refresh(24, Some("E_ROLLBACK"));
    assert_eq!((suite.manifest_version(), suite.head()), (2, 2));
}

#[test]
fn test_new_targets_fast_forward_recovery() {
    let suite = Suite::new();
    let fast = suite.repo.forged_pins(&suite.repo.owner, |pins| pins.version = 99);
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.pins) = (2, fast.clone())));
    suite.refresh(0, None);
    assert_eq!(suite.pins_version(), 99);
    // There the versions of targets are in the snapshot, so its key is rotated; here pins have a key of their own.
    let key = suite.repo.rotate("release");
    let slow = suite.repo.forged_pins(&key, |pins| pins.version = 2);
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.pins) = (3, slow.clone())));
    suite.refresh(0, None);
    assert_eq!((suite.pins_version(), suite.manifest_version()), (2, 3));
}

#[test]
fn test_new_snapshot_fast_forward_recovery() {
    let suite = Suite::new();
    // A head that is far beyond cannot be named, because the chain does not hold it: nothing is there to recover from.
    let fast = suite.repo.forged(|manifest| (manifest.version, manifest.head.seq) = (2, 99999));
    suite.repo.serve(&fast);
    suite.refresh(24, Some("E_ROLLBACK"));
    assert_eq!((suite.manifest_version(), suite.head()), (1, 1));
    let key = suite.repo.rotate("manifest");
    suite.repo.serve(&suite.repo.forged_by(&key, |manifest| manifest.version = 1));
    suite.refresh(0, None);
}

#[test]
fn test_new_snapshot_version_mismatch() {
    let suite = Suite::new();
    // The manifest names another record than the chain holds in that place.
    let other = suite.repo.pin;
    let mismatch = suite.repo.forged(|manifest| {
        manifest.version = 2;
        (manifest.head.digest, manifest.snapshot.digest) = (other, other);
    });
    suite.repo.serve(&mismatch);
    suite.refresh(24, Some("E_MIX"));
    assert_eq!(suite.manifest_version(), 1);
}

#[test]
fn test_new_timestamp_fast_forward_recovery() {
    let suite = Suite::new();
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.version = (1 << 53) - 1));
    suite.refresh(0, None);
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.version = 2));
    suite.refresh(24, Some("E_ROLLBACK"));
    let key = suite.repo.rotate("manifest");
    suite.repo.serve(&suite.repo.forged_by(&key, |manifest| manifest.version = 1));
    suite.refresh(0, None);
    assert_eq!(suite.manifest_version(), 1);
    // What the old key signed counts for nothing now.
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.version = 3));
    suite.refresh(24, Some("E_ROLE"));
}

#[test]
fn test_targets_rollback() {
    let suite = Suite::new();
    let first = suite.repo.manifest().pins;
    let newer = suite.repo.forged_pins(&suite.repo.owner, |pins| pins.version = 2);
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.pins) = (2, newer.clone())));
    suite.refresh(0, None);
    // "basic" and "with hashes" are one here: pins are embedded.
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.pins) = (3, first.clone())));
    suite.refresh(24, Some("E_ROLLBACK"));
    // There the snapshot is kept before targets are looked at; here all marks rise together.
    assert_eq!((suite.pins_version(), suite.manifest_version()), (2, 2));
}

#[test]
fn test_root_expired() {
    let suite = Suite::new();
    suite.repo.next_root(|_| {});
    suite.refresh(0, None);
    suite.repo.next_root(|document| {
        (document.issued, document.expires) = (Issuer::hours(-48), Issuer::hours(-24));
    });
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.version = 2));
    suite.refresh(23, Some("E_STALE"));
    let root = |version: u64| suite.client.home().join(format!("trust/{}/root/{version}.json", suite.repo.pin));
    assert!(root(3).exists(), "a root is kept before its expiry is judged");
    assert_eq!(suite.manifest_version(), 1);
}

#[test]
fn test_snapshot_expired() {
    // A head does not expire; how old the newest snapshot may be is in the pins.
    let suite = Suite::new();
    let strict = suite.repo.forged_pins(&suite.repo.owner, |pins| (pins.version, pins.max_head_age_seconds) = (2, 1));
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.pins) = (2, strict.clone())));
    std::thread::sleep(Duration::from_secs(2));
    suite.refresh(21, None);
}

#[test]
fn test_targets_expired() {
    let suite = Suite::new();
    let expired = suite.repo.forged_pins(&suite.repo.owner, |pins| {
        (pins.version, pins.issued, pins.expires) = (2, Issuer::hours(-200), Issuer::hours(-120));
    });
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.pins) = (2, expired.clone())));
    suite.refresh(23, None);
    assert_eq!((suite.pins_version(), suite.manifest_version()), (1, 1));
}

#[test]
fn test_expired_metadata() {
    let suite = Suite::new();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(30);
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.expires) = (2, soon)));
    suite.refresh(0, None);
    std::thread::sleep(Duration::from_secs(31));
    // What is remembered has expired, and still serves to compare with.
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.version = 1));
    suite.refresh(24, Some("E_ROLLBACK"));
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.version = 3));
    suite.refresh(0, None);
    assert_eq!(suite.manifest_version(), 3);
}

#[test]
fn test_timestamp_expired() {
    let suite = Suite::new();
    let expired = suite.repo.forged(|manifest| {
        (manifest.version, manifest.issued, manifest.expires) = (2, Issuer::hours(-200), Issuer::hours(-120));
    });
    suite.repo.serve(&expired);
    suite.refresh(23, None);
    assert_eq!(suite.manifest_version(), 1);
}

#[test]
fn test_basic_init_and_refresh() {
    let suite = Suite::new();
    assert_eq!((suite.manifest_version(), suite.pins_version(), suite.head()), (1, 1, 1));
    assert!(!suite.has_root(2));
}

#[test]
fn test_timestamp_eq_versions_check() {
    let suite = Suite::new();
    let other = Issuer::hours(24 * 6);
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.expires = other));
    // There the client goes on with what it has; here two documents of one version are a finding.
    suite.refused();
    let kept = suite.kept("manifests/app.json");
    assert_ne!(kept["predicate"]["expires"].as_str().unwrap(), other.to_string());
}

#[test]
fn test_timestamp_content_changes() {
    let suite = Suite::new();
    suite.repo.serve(&suite.repo.forged(|manifest| manifest.head.seq = 100));
    suite.refused();
    assert_eq!((suite.manifest_version(), suite.head()), (1, 1));
}

#[test]
fn test_root_has_keys_but_not_snapshot() {
    let suite = Suite::new();
    suite.repo.next_root(|document| give(document, "release", &[1, 2, 3, 4], 3));
    suite.sign_pins(2, &[1, 2, 3]);
    suite.refresh(0, None);
    assert_eq!((suite.pins_version(), suite.has_root(2)), (2, true));
    // There the root is kept although nobody can reach the threshold; here such a root is refused as a whole.
    let release = |document: &mut Value, change: &dyn Fn(&mut Value)| {
        let roles = document["roles"].as_array_mut().unwrap();
        change(roles.iter_mut().find(|role| role["name"] == "release").unwrap());
    };
    suite.any_root(|document| release(document, &|role| role["threshold"] = 5.into()));
    suite.refused();
    assert_eq!((suite.pins_version(), suite.has_root(3)), (2, false));
    // The id of a key that the root does not list does not help.
    fs::remove_file(suite.repo.machine.path("store/root/3.json")).unwrap();
    suite.any_root(|document| {
        release(document, &|role| {
            role["threshold"] = 5.into();
            let mut keys: Vec<String> =
                role["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
            keys.push(key(5).public().id().to_string());
            keys.sort();
            role["keys"] = keys.into();
        });
    });
    suite.refused();
    assert_eq!((suite.pins_version(), suite.has_root(3)), (2, false));
}

#[test]
fn test_wrong_hashing_algorithm() {
    let suite = Suite::new();
    // There a field that is not of the specification changes nothing; here it is refused wherever it stands.
    suite.any_root(|document| document["keys"][0]["keyid_hash_algorithms"] = serde_json::json!(["md5"]));
    suite.refresh(24, Some("E_JSON"));
    assert!(!suite.has_root(2));
}

#[test]
fn test_snapshot_threshold() {
    let suite = Suite::new();
    suite.any_root(|document| {
        let mut typed: RootDocument = serde_json::from_value(document.clone()).unwrap();
        give(&mut typed, "release", &[1, 2, 3, 4, 5], 6);
        *document = serde_json::to_value(typed).unwrap();
    });
    suite.sign_pins(2, &[1, 2, 3, 4, 5]);
    suite.refresh(24, Some("E_THRESHOLD"));
    assert_eq!(suite.pins_version(), 1);
}

#[test]
fn test_duplicate_keys_root() {
    let suite = Suite::new();
    suite.any_root(|document| {
        let mut typed: RootDocument = serde_json::from_value(document.clone()).unwrap();
        give(&mut typed, "release", &[1, 1, 1, 1, 1, 1, 1, 1, 1, 2], 6);
        *document = serde_json::to_value(typed).unwrap();
    });
    suite.sign_pins(2, &[1]);
    suite.refresh(24, Some("E_THRESHOLD"));
    assert_eq!(suite.pins_version(), 1);
}

/// Pins of the keys, threshold and signers that the suite gives, under a root that says so.
#[track_caller]
fn non_root_rotation(keys: &[u8], threshold: u32, signers: &[u8], accepted: bool) {
    let suite = Suite::new();
    suite.repo.next_root(|document| give(document, "release", keys, threshold));
    suite.sign_pins(2, signers);
    if accepted {
        suite.refresh(0, None)
    } else {
        suite.refused()
    }
    assert_eq!(suite.pins_version(), if accepted { 2 } else { 1 });
    assert!(suite.has_root(2), "the root itself is good");
}

macro_rules! non_root_rotations {
    ($($name:ident, $accepted:literal: [$($key:literal),*] $threshold:literal [$($signer:literal),*];)+) => {$(
        #[test]
        fn $name() {
            super::non_root_rotation(&[$($key),*], $threshold, &[$($signer),*], $accepted);
        }
    )+};
}

mod test_non_root_rotations {
    non_root_rotations! {
        _1_of_1_key_rotation, true: [2] 1 [2];
        _1_of_1_key_rotation_unused_signatures, true: [1] 1 [3, 1, 4];
        _1_of_1_key_rotation_fail_not_signed_with_new_key, false: [2] 1 [1, 3, 4];
        _3_of_5_one_key_signature_wrong_not_signed_with_3_expected_keys, false: [0, 1, 3, 4, 5] 3 [0, 2, 4];
        _2_of_5_one_key_signature_mising_threshold_not_reached, false: [0, 1, 3, 4, 5] 3 [0, 4];
        _3_of_5_sign_first_combo, true: [0, 1, 2, 3, 4] 3 [0, 2, 4];
        _3_of_5_sign_second_combo, true: [0, 1, 2, 3, 4] 3 [0, 4, 1];
        _3_of_5_sign_third_combo, true: [0, 1, 2, 3, 4] 3 [0, 1, 3];
        _3_of_5_sign_fourth_combo, true: [0, 1, 2, 3, 4] 3 [1, 2, 3];
        _3_of_5_sign_fifth_combo, true: [0, 1, 2, 3, 4] 3 [2, 3, 4];
    }
}

#[test]
fn test_non_root_rotations_of_the_timestamp() {
    // The cases with one key, for the role whose documents one key signs.
    for (signer, accepted) in [(2, true), (1, false)] {
        let suite = Suite::new();
        suite.repo.next_root(|document| give(document, "manifest", &[2], 1));
        suite.repo.serve(&suite.repo.forged_by(&key(signer), |manifest| manifest.version = 2));
        if accepted {
            suite.refresh(0, None)
        } else {
            suite.refused()
        }
        assert_eq!(suite.manifest_version(), if accepted { 2 } else { 1 });
    }
}
