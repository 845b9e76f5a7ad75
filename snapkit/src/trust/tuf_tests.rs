//! Scenarios of the tuf-conformance suite for roots, under their own names.
//!
//! From `test_updater_key_rotations.py` (`test_root_rotation`, all fifteen sequences) and `test_basic.py`: each root is
//! published with the keys, threshold and signatures that the suite gives it, a client that knows nothing but the first
//! follows them, and what it kept on disk is compared. The suite's other metadata is not ours; see `docs/trust.md`.

use manifests::digest::Digest;
use manifests::document::root::{self, Key, RootDocument};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;

use super::*;
use crate::chain::fixture::{at, memory};
use crate::store::Store;
use crate::store::counting::CountingStore;

/// Keys of the role root, threshold, and who signs: one version.
type Version<'a> = (&'a [u8], u32, &'a [u8]);

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[number + 100; 32])
}

fn published(version: u64, (keys, threshold, signers): Version<'_>) -> (Vec<u8>, Digest) {
    let node = key(50).public();
    let mut document = RootDocument::first(&key(keys[0]).public(), &node, at(0), at(600));
    document.version = version;
    document.keys = keys.iter().chain(&[50]).map(|number| Key::from(&key(*number).public())).collect();
    document.keys.sort_by_key(|key| key.id);
    document.roles.retain(|role| role.name != "release");
    let role = document.roles.iter_mut().find(|role| role.name == "root").unwrap();
    role.keys = keys.iter().map(|number| key(*number).public().id()).collect();
    role.keys.sort();
    role.threshold = threshold;
    let payload = document.payload().unwrap();
    let signers: Vec<SecretKey> = signers.iter().map(|number| key(*number)).collect();
    let signers: Vec<&dyn Signer> = signers.iter().map(|key| key as &dyn Signer).collect();
    (envelope::sign(root::PAYLOAD_TYPE, &payload, &signers).unwrap(), Digest::sha256(&payload))
}

/// Whether a client that pinned the first root follows to the last; it always keeps the last good one.
#[track_caller]
fn root_rotation(versions: &[Version<'_>], accepted: bool) {
    let store = memory();
    let all: Vec<(Vec<u8>, Digest)> = (1..).zip(versions).map(|(at, version)| published(at, *version)).collect();
    for (number, (bytes, _)) in (1..).zip(&all) {
        store.put(&format!("root/{number}.json"), bytes.clone().into()).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let trust = TrustDir::new(&directory.path().join("home"), &directory.path().join("cache"));
    let pin = all[0].1;
    trust.keep_root(&pin, 1, &all[0].0).unwrap();
    let result = newest_root(&*store, &pin, &trust, at(1));
    let expected = if accepted { all.len() } else { all.len() - 1 };
    match result {
        Ok(roots) => assert!(accepted && roots.root.version() == expected as u64),
        Err(error) => {
            assert!(!accepted, "{error:?}");
            assert_eq!(error.refusal().unwrap().class(), Class::Root);
        }
    }
    let kept = trust.kept_roots(&pin).unwrap();
    assert_eq!(kept.len(), expected);
    assert_eq!(kept.last(), Some(&all[expected - 1].0));
    // What was refused once is refused again, and nothing of it stays.
    assert_eq!(newest_root(&*store, &pin, &trust, at(1)).is_ok(), accepted);
    assert!(!trust.root_file(&pin, expected as u64 + 1).exists());
}

macro_rules! rotations {
    ($($name:ident, $accepted:literal: $([$($key:literal),*] $threshold:literal [$($signer:literal),*]),+;)+) => {$(
        #[test]
        fn $name() {
            root_rotation(&[$((&[$($key),*][..], $threshold, &[$($signer),*][..])),+], $accepted);
        }
    )+};
}

mod root_rotation {
    use super::root_rotation;

    rotations! {
        _1_of_1_key_rotation, true: [1] 1 [1], [2] 1 [2, 1], [2] 1 [2];
        _1_of_1_key_rotation_unused_signatures, true: [1] 1 [3, 1, 4], [2] 1 [3, 2, 1, 4], [2] 1 [3, 2, 4];
        _3_of_5_sign_with_different_keycombos, true:
            [0, 1, 2, 3, 4] 3 [0, 2, 4], [0, 1, 2, 3, 4] 3 [0, 4, 1],
            [0, 1, 2, 3, 4] 3 [0, 1, 3], [0, 1, 2, 3, 4] 3 [0, 1, 3];
        _3_of_5_one_key_rotated, true: [0, 1, 2, 3, 4] 3 [0, 2, 4], [0, 1, 3, 4, 5] 3 [0, 4, 1];
        _3_of_5_one_key_rotated_with_intermediate_step, true:
            [0, 1, 2, 3, 4] 3 [0, 2, 4], [0, 1, 3, 4, 5] 3 [0, 2, 4, 5], [0, 1, 3, 4, 5] 3 [0, 4, 5];
        _3_of_5_all_keys_rotated_with_intermediate_step, true:
            [0, 1, 2, 3, 4] 3 [0, 2, 4], [5, 6, 7, 8, 9] 3 [0, 2, 4, 5, 6, 7], [5, 6, 7, 8, 9] 3 [5, 6, 7];
        _1_of_3_threshold_increase_to_2_of_3, true: [1, 2, 3] 1 [1], [1, 2, 3] 2 [1, 2];
        _2_of_3_threshold_decrease_to_1_of_3, true: [1, 2, 3] 2 [1, 2], [1, 2, 3] 1 [1, 2], [1, 2, 3] 1 [1];
        _1_of_2_threshold_increase_to_2_of_2, true: [1] 1 [1], [1, 2] 2 [1, 2];
        _1_of_1_key_rotation_fail_not_signed_with_old_key, false: [1] 1 [1], [2] 1 [2, 3, 4];
        _1_of_1_key_rotation_fail_not_signed_with_new_key, false: [1] 1 [1], [2] 1 [1, 3, 4];
        _3_of_5_one_key_rotate_fails_not_signed_with_3_new_keys, false:
            [0, 1, 2, 3, 4] 3 [0, 2, 4], [0, 1, 3, 4, 5] 3 [0, 2, 4];
        _3_of_5_one_key_rotate_fails_not_signed_with_3_old_keys, false:
            [0, 1, 2, 3, 4] 3 [0, 2, 4], [0, 1, 3, 4, 5] 3 [0, 4, 5];
        _1_of_3_threshold_bump_to_2_of_3_fails_new_threshold_not_reached, false: [1, 2, 3] 1 [1], [1, 2, 3] 2 [2];
        _2_of_3_threshold_decr_to_1_of_3_fails_old_threshold_not_eached, false: [1, 2, 3] 2 [1, 2], [1, 2, 3] 1 [1];
    }
}

/// `test_basic.py`: a client whose first root is broken, or not signed, asks the store for nothing.
#[track_caller]
fn invalid_first_root(bytes: &[u8], pin: &Digest, class: Class) {
    let store = CountingStore::new(memory());
    let directory = tempfile::tempdir().unwrap();
    let trust = TrustDir::new(directory.path(), directory.path());
    trust.keep_root(pin, 1, bytes).unwrap();
    let error = newest_root(&store, pin, &trust, at(1)).unwrap_err();
    assert!(error.to_string().contains(class.name()), "{error}");
    assert_eq!(store.counts().requests(), 0);
}

#[test]
fn test_invalid_initial_root() {
    let broken = envelope::sign(root::PAYLOAD_TYPE, b"{}", &[&key(1)]).unwrap();
    invalid_first_root(&broken, &Digest::sha256(b"{}"), Class::Json);
}

#[test]
fn test_unsigned_initial_root() {
    let (bytes, pin) = published(1, (&[1], 1, &[]));
    invalid_first_root(&bytes, &pin, Class::SigMissing);
    let (bytes, pin) = published(1, (&[1], 1, &[2]));
    invalid_first_root(&bytes, &pin, Class::SigUntrusted);
}
