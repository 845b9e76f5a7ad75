//! What a probe of credentials finds behind policies, and that it leaves everything as it was.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use snapkit::store::rights::{Due, Found, Right, RightsReport, Role, TRIAL, rights};
use snapkit::store::{Abilities, Created, OpenOptions, Store, StoreError, open};

/// Whether a right to a key is given.
type Policy = fn(Right, &str) -> bool;

/// A store with a policy: what is not allowed is refused, as a bucket does it.
struct Guarded<'a> {
    inner: &'a dyn Store,
    allows: Policy,
}

impl Guarded<'_> {
    fn ask(&self, right: Right, key: &str) -> Result<(), StoreError> {
        if (self.allows)(right, key) {
            return Ok(());
        }
        Err(StoreError::Denied { key: key.into(), store: "guarded://".into(), source: "403".into() })
    }
}

impl Store for Guarded<'_> {
    fn url(&self) -> &str {
        self.inner.url()
    }
    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }
    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        self.ask(Right::Read, key)?;
        self.inner.get(key, cap_bytes)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.ask(Right::Read, key)?;
        self.inner.get_range(key, range)
    }
    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.ask(Right::Read, key)?;
        self.inner.size(key)
    }
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.ask(Right::Replace, key)?;
        self.inner.put(key, bytes)
    }
    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.ask(Right::Create, key)?;
        self.inner.create(key, bytes)
    }
    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.ask(Right::Delete, key)?;
        self.inner.delete(key)
    }
    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        self.ask(Right::List, prefix)?;
        self.inner.list(prefix, after, visit)
    }
}

fn below(key: &str, places: &[&str]) -> bool {
    places.iter().any(|place| key.starts_with(place))
}

const OBJECTS: [&str; 8] = [
    "chain/00000000000000000000.json",
    "checkpoint",
    "format",
    "manifests/db.json",
    "packs/ab/abcd",
    "root/1.json",
    "segments/abcd",
    "tile/0/000.p/1",
];

/// A bucket in memory with one object in each place.
fn bucket(name: &str) -> std::sync::Arc<dyn Store> {
    let store = open(&format!("memory://{name}"), &OpenOptions::default()).unwrap();
    OBJECTS.iter().for_each(|key| store.put(key, Bytes::from(*key)).unwrap());
    store
}

fn contents(store: &dyn Store) -> BTreeMap<String, Bytes> {
    let mut keys = Vec::new();
    store.list("", None, &mut |key, _| keys.push(key.to_owned())).unwrap();
    keys.into_iter().map(|key| (key.clone(), store.get(&key, 4096).unwrap())).collect()
}

fn found(report: &RightsReport, place: &str, right: Right) -> Found {
    report.checks.iter().find(|check| check.place == place && check.right == right).unwrap().found
}

fn beyond(report: &RightsReport) -> Vec<(&'static str, Right)> {
    report.checks.iter().filter(|check| check.is_beyond()).map(|check| (check.place, check.right)).collect()
}

fn lacking(report: &RightsReport) -> Vec<(&'static str, Right)> {
    report.checks.iter().filter(|check| check.is_lacking()).map(|check| (check.place, check.right)).collect()
}

const WRITES: [&str; 4] = ["chain/", "packs/", "segments/", "tile/"];

fn reader(right: Right, _: &str) -> bool {
    matches!(right, Right::Read | Right::List)
}

/// As the policy of Amazon in `docs/credentials.md`: slots are created and never replaced.
fn writer(right: Right, key: &str) -> bool {
    match right {
        Right::Read | Right::List => true,
        Right::Create => below(key, &WRITES) || key == "checkpoint",
        Right::Replace => below(key, &WRITES[1..]) || key == "checkpoint",
        Right::Delete => false,
    }
}

#[test]
fn what_a_role_needs_and_no_more_fits_it_and_no_other() {
    let store = bucket("rights-roles");
    let policies: [(Role, Policy); 5] = [
        (Role::Reader, reader),
        (Role::Writer, writer),
        (Role::Pruner, |right, key| {
            writer(right, key) || right == Right::Delete && below(key, &["packs/", "segments/"])
        }),
        (Role::Manifest, |right, key| reader(right, key) || right != Right::Delete && below(key, &["manifests/"])),
        (Role::Owner, |right, key| match right {
            Right::Create => below(key, &["chain/", "root/", "tile/", "checkpoint"]),
            Right::Replace => below(key, &["tile/", "checkpoint"]),
            _ => reader(right, key),
        }),
    ];
    for (of, allows) in policies {
        for (role, _) in policies {
            let report = rights(&Guarded { inner: &*store, allows }, role);
            assert_eq!(report.fits, of == role, "credentials of {of:?} as {role:?}: {report:#?}");
        }
    }
    let report = rights(&Guarded { inner: &*store, allows: reader }, Role::Follower);
    assert!(report.fits, "in the store a follower is a reader");
}

#[test]
fn each_right_too_many_or_too_few_is_named() {
    let store = bucket("rights-named");
    let report = rights(&Guarded { inner: &*store, allows: |_, _| true }, Role::Reader);
    assert_eq!(beyond(&report).len(), 6 * 3 + 2);
    let report = rights(&Guarded { inner: &*store, allows: reader }, Role::Writer);
    assert_eq!((lacking(&report).len(), beyond(&report)), (5, vec![]));
    let replaces_slots =
        |right: Right, key: &str| writer(right, key) || right == Right::Replace && below(key, &["chain/"]);
    let report = rights(&Guarded { inner: &*store, allows: replaces_slots }, Role::Writer);
    assert_eq!((lacking(&report), beyond(&report)), (vec![], vec![("chain/", Right::Replace)]));
    // Without the right to list, some stores answer 403 for what is missing.
    let blind = |right: Right, key: &str| right == Right::Read && !key.ends_with(TRIAL);
    let report = rights(&Guarded { inner: &*store, allows: blind }, Role::Reader);
    assert!(!report.fits && lacking(&report).contains(&("chain/", Right::Read)), "{report:#?}");
}

#[test]
fn the_objects_of_a_store_are_as_they_were() {
    let store = bucket("rights-untouched");
    let before = contents(&*store);
    let policies: [Policy; 3] = [reader, |_, _| true, |right, _| right != Right::Create];
    for allows in policies {
        for role in [Role::Reader, Role::Pruner, Role::Owner] {
            let report = rights(&Guarded { inner: &*store, allows }, role);
            assert_eq!(report.left, Vec::<String>::new());
            assert_eq!(contents(&*store), before);
        }
    }
}

#[test]
fn what_may_not_be_deleted_is_left_once_and_used_again() {
    let store = bucket("rights-left");
    let before = contents(&*store);
    for round in 0..2 {
        let report = rights(&Guarded { inner: &*store, allows: writer }, Role::Writer);
        assert!(report.fits, "round {round}: {report:#?}");
        assert_eq!(report.left, WRITES.map(|place| format!("{place}{TRIAL}")));
    }
    let mut after = contents(&*store);
    after.retain(|key, _| !key.ends_with(TRIAL));
    assert_eq!(after, before);
    // Whoever may delete takes it away.
    let report = rights(&Guarded { inner: &*store, allows: |_, _| true }, Role::Pruner);
    assert_eq!((found(&report, "packs/", Right::Delete), report.left.len()), (Found::Yes, 0));
    assert_eq!(contents(&*store), before);
}

#[test]
fn an_object_that_is_not_of_a_probe_is_left_alone_and_proves_nothing() {
    let store = bucket("rights-foreign");
    store.put(&format!("packs/{TRIAL}"), Bytes::from_static(b"somebody's")).unwrap();
    let before = contents(&*store);
    let report = rights(&*store, Role::Pruner);
    assert_eq!(contents(&*store), before);
    assert_eq!(found(&report, "packs/", Right::Delete), Found::Unknown);
    assert!(!report.fits);
}

#[test]
fn in_an_empty_store_nothing_is_made_up() {
    let store = open("memory://rights-empty", &OpenOptions::default()).unwrap();
    let report = rights(&*store, Role::Writer);
    assert_eq!(found(&report, "checkpoint", Right::Replace), Found::Unknown);
    assert!(contents(&*store).is_empty());
    assert!(!report.fits);
}

#[test]
fn nobody_is_due_to_delete_or_replace_slots_and_roots() {
    for role in [Role::Reader, Role::Follower, Role::Writer, Role::Pruner, Role::Manifest, Role::Owner] {
        for place in ["chain/", "root/"] {
            assert_eq!(role.due(place, Right::Replace), Due::Beyond);
            assert_eq!(role.due(place, Right::Delete), Due::Beyond);
        }
    }
}
