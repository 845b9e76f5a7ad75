use std::fs;
use std::os::unix::fs::PermissionsExt;

use jiff::SignedDuration;
use manifests::digest::Digest;
use manifests::document::root;
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;

use super::*;
use crate::chain::Chain;
use crate::chain::fixture::{World, at};
use crate::keyfile::KeyFileError;
use crate::store::Store;

/// Minutes of a day.
const DAY: i64 = 24 * 60;

fn class(error: &TrustError) -> Class {
    error.refusal().unwrap_or_else(|| panic!("{error:?}")).class()
}

/// Puts a root with this version into the store, like root 1 but for its expiry, signed by these keys.
fn put_root(world: &World, version: u64, expires_minute: i64, signers: &[&SecretKey]) {
    let pin = world.pin().root;
    let roots = newest_root(&world.store, &pin, &world.trust, at(1)).unwrap();
    let mut document = roots.root.document().clone();
    document.version = version;
    document.expires = at(expires_minute);
    let signers: Vec<&dyn Signer> = signers.iter().map(|key| *key as &dyn Signer).collect();
    let bytes = envelope::sign(root::PAYLOAD_TYPE, &document.payload().unwrap(), &signers).unwrap();
    world.store.put(&format!("root/{version}.json"), bytes.into()).unwrap();
}

#[test]
fn roots_are_followed_step_by_step_and_kept() {
    let world = World::new();
    let (pin, owner) = (world.pin().root, world.trust.read_owner_key(&world.pin().root).unwrap());
    put_root(&world, 2, 300 * DAY, &[&owner]);
    put_root(&world, 3, 400 * DAY, &[&owner]);
    assert_eq!(newest_root(&world.store, &pin, &world.trust, at(1)).unwrap().root.version(), 3);
    // What was verified cannot be withheld later.
    world.store.delete("root/3.json").unwrap();
    assert_eq!(newest_root(&world.store, &pin, &world.trust, at(1)).unwrap().root.version(), 3);
}

#[test]
fn a_root_by_other_keys_or_out_of_turn_is_refused_and_not_kept() {
    let world = World::new();
    let pin = world.pin().root;
    let owner = world.trust.read_owner_key(&pin).unwrap();
    put_root(&world, 2, 300 * DAY, &[&world.key]);
    assert_eq!(class(&newest_root(&world.store, &pin, &world.trust, at(1)).unwrap_err()), Class::Root);
    world.store.delete("root/2.json").unwrap();
    put_root(&world, 3, 300 * DAY, &[&owner]);
    let three = world.store.get("root/3.json", 1 << 20).unwrap();
    world.store.put("root/2.json", three).unwrap();
    assert_eq!(class(&newest_root(&world.store, &pin, &world.trust, at(1)).unwrap_err()), Class::Version);
    assert!(!world.trust.root_file(&pin, 2).exists());
}

#[test]
fn only_the_newest_root_is_judged_by_its_expiry() {
    let world = World::new();
    let pin = world.pin().root;
    let owner = world.trust.read_owner_key(&pin).unwrap();
    put_root(&world, 2, DAY, &[&owner]);
    let in_two_days = at(2 * DAY);
    assert_eq!(class(&newest_root(&world.store, &pin, &world.trust, in_two_days).unwrap_err()), Class::Stale);
    put_root(&world, 3, 300 * DAY, &[&owner]);
    assert_eq!(newest_root(&world.store, &pin, &world.trust, in_two_days).unwrap().root.version(), 3);
}

#[test]
fn a_clock_set_back_makes_nothing_fresh() {
    let world = World::new();
    let pin = world.pin().root;
    let owner = world.trust.read_owner_key(&pin).unwrap();
    world.commit();
    let mark = world.trust.mark(&pin).unwrap().unwrap();
    assert_eq!(mark.time, at(60), "the clock of the run that verified it");
    put_root(&world, 2, 30, &[&owner]);
    assert_eq!(class(&newest_root(&world.store, &pin, &world.trust, at(-600)).unwrap_err()), Class::Stale);
}

#[test]
fn a_clock_more_than_a_day_behind_what_was_seen_is_refused() {
    let world = World::new();
    let pin = world.pin().root;
    world.commit();
    let (_directory, cold) = world.stranger();
    for trust in [&world.trust, &cold] {
        let error = newest_root(&world.store, &pin, trust, at(-2 * DAY)).unwrap_err();
        assert_eq!(class(&error), Class::Clock);
        assert!(newest_root(&world.store, &pin, trust, at(-DAY / 2)).is_ok());
    }
    let error = known_root(&pin, &world.trust, at(-2 * DAY)).unwrap_err();
    assert_eq!(class(&error), Class::Clock);
}

#[test]
fn an_expired_root_is_told_of_to_who_asks_for_it_and_nothing_else_is_lifted() {
    let world = World::new();
    let pin = world.pin().root;
    let late = at(900 * DAY);
    let roots = newest_root_even_expired(&world.store, &pin, &world.trust, late).unwrap();
    assert_eq!(roots.expired.unwrap().class(), Class::Stale);
    assert_eq!(class(&newest_root(&world.store, &pin, &world.trust, late).unwrap_err()), Class::Stale);
    put_root(&world, 2, 300 * DAY, &[&world.key]);
    assert_eq!(class(&newest_root_even_expired(&world.store, &pin, &world.trust, late).unwrap_err()), Class::Root);
}

#[test]
fn a_store_without_a_pin_is_refused_with_what_it_claims() {
    let world = World::new();
    let (directory, trust) = world.stranger();
    let location = Location { url: world.store.url().to_owned(), pin: None };
    let error = pin_for(&world.store, &location, &trust).unwrap_err();
    let refusal = error.refusal().unwrap();
    assert_eq!(refusal.class(), Class::NoPin);
    let digest = world.pin().root.to_string();
    assert!(refusal.found().contains(&digest) && refusal.hint().contains(&world.made.bootstrap.to_string()));
    assert!(!directory.path().join("home").exists());
}

#[test]
fn a_pin_that_contradicts_the_one_kept_is_refused() {
    let world = World::new();
    let pin = Pin { root: Digest::sha256(b"other"), min: None };
    let location = Location { url: format!("{}/", world.store.url()), pin: Some(pin) };
    assert_eq!(class(&pin_for(&world.store, &location, &world.trust).unwrap_err()), Class::RootPin);
}

#[test]
fn a_refused_store_leaves_no_trace() {
    let world = World::new();
    world.store.put("chain/00000000000000000000.json", "garbage".into()).unwrap();
    let (directory, trust) = world.stranger();
    assert!(Chain::open(&world.store, world.pin(), &trust, at(60)).is_err());
    assert!(!directory.path().join("home").exists());
}

#[test]
fn a_mark_never_falls() {
    let world = World::new();
    let root = world.pin().root;
    world.grow(3);
    let high = world.trust.mark(&root).unwrap().unwrap();
    let low = Mark { seq: 1, digest: Digest::sha256(b"low"), ..high };
    assert_eq!(world.trust.raise_mark(&root, low, at(99)).unwrap(), high);
    assert_eq!(world.trust.mark(&root).unwrap(), Some(high));
    // A clock far ahead cannot make everything look expired for good.
    let next = Mark { seq: 4, time: at(4), ..high };
    let raised = world.trust.raise_mark(&root, next, at(999 * DAY)).unwrap();
    assert_eq!(raised.time, at(4) + SignedDuration::from_hours(24));
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let world = World::new();
    let root = world.pin().root;
    let path = world.trust.node_key(&root);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(class(&world.trust.read_node_key(&root).unwrap_err()), Class::KeyFile);
    fs::remove_file(&path).unwrap();
    let missing = world.trust.read_node_key(&root).unwrap_err();
    assert!(matches!(missing, TrustError::Key(KeyFileError::Read { .. })));
}

#[test]
fn a_damaged_file_is_named_and_never_overwritten() {
    let world = World::new();
    let root = world.pin().root;
    let mark = world.trust.root_file(&root, 1).parent().unwrap().with_file_name("head.json");
    for (path, text) in [(world.trust.root_file(&root, 1), "{}"), (mark, "{\"seq\":0}")] {
        let good = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let opened = Chain::open(&world.store, world.pin(), &world.trust, at(60)).map(|_| ());
        assert!(opened.unwrap_err().to_string().contains("trust"), "{}", path.display());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::write(&path, good).unwrap();
    }
}
