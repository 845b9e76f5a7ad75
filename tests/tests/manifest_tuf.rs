//! Scenarios of the public conformance suite for TUF clients, under their own names.
//!
//! Rollback and expiration of version 2.4 of the suite, with these in the places of its metadata: the manifest for the
//! timestamp, the head of the chain for the snapshot, pins for targets. All of both files apply; with the two that it runs
//! twice these are 15 of its cases. Where a scenario ends otherwise than there, the test says why.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use base64::Engine as _;
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
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
    suite.repo.serve(&suite.repo.forged(|manifest| (manifest.version, manifest.expires) = (2, soon)));
    suite.refresh(0, None);
    std::thread::sleep(Duration::from_secs(9));
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
