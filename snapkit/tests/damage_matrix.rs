//! The damage matrix: every kind of damage to every kind of object is found and named, heals where it can, and leaves
//! every snapshot within reach that does not need the object.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use manifests::document::record::Body;
use snapkit::chain::TilePolicy;
use snapkit::fetch::Fetcher;
use snapkit::store::Store;
use snapkit::verify::pack_list;
use world::{Finding, Listed, World, full_digest, noise};

const DAMAGES: [Damage; 6] = [
    Damage::Delete,
    Damage::Truncate,
    Damage::FlipBit,
    Damage::SwapWithAnother,
    Damage::AppendByte,
    Damage::ReplaceByEmpty,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Delete,
    Truncate,
    FlipBit,
    /// With another object of the same kind, if need be of another store.
    SwapWithAnother,
    AppendByte,
    ReplaceByEmpty,
}

impl Damage {
    fn apply(self, path: &PathBuf, other: &PathBuf) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Damage::Delete => return fs::remove_file(path).unwrap(),
            Damage::Truncate => bytes.truncate(bytes.len() / 2),
            Damage::FlipBit => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Damage::SwapWithAnother => {
                let others = fs::read(other).unwrap();
                assert_ne!(bytes, others);
                fs::write(other, bytes).unwrap();
                bytes = others;
            }
            Damage::AppendByte => bytes.push(b'x'),
            Damage::ReplaceByEmpty => bytes.clear(),
        }
        fs::write(path, bytes).unwrap();
    }
}

/// A chain of three snapshots, and what is in it.
struct Sample {
    world: World,
    /// Each snapshot with its digest.
    noted: Listed,
    /// Each snapshot with the packs it needs.
    needs: BTreeMap<u64, BTreeSet<String>>,
    /// A store of another chain, with objects of the same kinds.
    foreign: World,
}

fn state(world: &World, number: u64) {
    world.write(&format!("file-{number}"), noise(2 << 20, 1 + number));
    world.write("small", format!("as of {number}"));
}

fn sample() -> Sample {
    let world = World::new();
    let mut noted = Listed::new();
    for number in 1..=3 {
        state(&world, number);
        noted.insert(world.snapshot().committed.seq, full_digest(&world.state()));
    }
    let foreign = World::new();
    for number in 11..=13 {
        state(&foreign, number);
        foreign.snapshot();
    }
    let (node, store) = (world.node(), world.store());
    let chain = node.open(&store);
    let packs = |seq: u64| {
        let record = chain.record(seq).unwrap();
        let Body::Snapshot(snapshot) = &record.body else { panic!("a snapshot") };
        let packs = pack_list(&Fetcher::new(&store), &snapshot.public.packs).unwrap();
        packs.into_iter().map(|pack| pack.id.key()).collect()
    };
    let needs = noted.keys().map(|seq| (*seq, packs(*seq))).collect();
    Sample { world, noted, needs, foreign }
}

impl Sample {
    /// A copy of it in which an object is damaged, with `other` as the object to swap with.
    fn damaged(&self, key: &str, other: &Other, damage: Damage) -> Sample {
        let (world, foreign) = (self.world.copy(), self.foreign.copy());
        let other = match other {
            Other::Of(key) => world.path("store").join(key),
            Other::Foreign(key) => foreign.path("store").join(key),
        };
        damage.apply(&world.path("store").join(key), &other);
        Sample { world, noted: self.noted.clone(), needs: self.needs.clone(), foreign }
    }

    fn keys(&self, prefix: &str) -> Vec<String> {
        keys(&self.world, prefix)
    }

    /// Expects that verify names the object, to the machine that made the chain and to one that sees it for the first
    /// time.
    #[track_caller]
    fn expect_named(&self, key: &str, why: &str) {
        let number = key.strip_prefix("chain/").and_then(|name| name.strip_suffix(".json")?.parse::<u64>().ok());
        let record = number.map_or_else(|| key.to_owned(), |seq| format!("record {seq}"));
        for (who, node) in [("its machine", self.world.node()), ("a stranger", self.world.stranger())] {
            match node.try_findings(&self.world.store(), TilePolicy::Check) {
                Ok(findings) => {
                    // A stranger cannot know that the newest record is gone, but the checkpoint tells of it.
                    let named = |f: &Finding| f.object == key || f.what.contains(&record);
                    assert!(findings.iter().any(named), "{why}: {who} found {findings:#?}");
                }
                Err(refused) => {
                    let line = told(&refused);
                    assert!(line.contains(key) || line.contains(&record), "{why}: {who} was told {line}");
                }
            }
        }
    }

    /// Expects that these snapshots restore, and that the others do so exactly or not at all.
    #[track_caller]
    fn expect_restores(&self, whole: &[u64], why: &str) {
        let (node, store) = (self.world.node(), self.world.store());
        for (seq, digest) in &self.noted {
            if whole.contains(seq) {
                assert_eq!(self.world.restored(&node, &store, *seq).unwrap(), *digest, "{why}: snapshot {seq}");
            } else if node.open(&store).record(*seq).is_ok()
                && let Ok(restored) = self.world.restored(&node, &store, *seq)
            {
                assert_eq!(restored, *digest, "{why}: snapshot {seq}");
            }
        }
    }

    fn without(&self, seq: u64) -> Vec<u64> {
        self.noted.keys().copied().filter(|other| *other != seq).collect()
    }

    fn all(&self) -> Vec<u64> {
        self.noted.keys().copied().collect()
    }
}

/// The object that another is swapped with.
enum Other {
    Of(String),
    Foreign(String),
}

fn keys(world: &World, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    world.store().list(prefix, None, &mut |key, _| keys.push(key.to_owned())).unwrap();
    keys.sort();
    keys
}

/// An error with all its causes.
fn told(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(|e| e.to_string()).collect::<Vec<_>>().join(": ")
}

fn slot(seq: u64) -> String {
    format!("chain/{seq:020}.json")
}

#[test]
fn a_damaged_record_is_named_and_hides_no_other_snapshot() {
    let sample = sample();
    for damage in DAMAGES {
        for seq in 1..=3 {
            let why = format!("{damage:?} of record {seq}");
            let damaged = sample.damaged(&slot(seq), &Other::Foreign(slot(seq)), damage);
            damaged.expect_named(&slot(seq), &why);
            damaged.expect_restores(&damaged.without(seq), &why);
        }
    }
}

#[test]
fn two_records_that_changed_places_are_found_and_hide_no_other_snapshot() {
    let sample = sample();
    for (one, two) in [(1, 2), (1, 3), (2, 3)] {
        let why = format!("records {one} and {two} changed places");
        let damaged = sample.damaged(&slot(one), &Other::Of(slot(two)), Damage::SwapWithAnother);
        damaged.expect_named(&slot(two), &why);
        damaged.expect_restores(&[6 - one - two], &why);
        let node = damaged.world.node();
        assert!(node.open(&damaged.world.store()).record(one).is_err(), "{why}");
    }
}

#[test]
fn the_next_snapshot_works_after_any_record_but_the_newest_was_damaged() {
    let sample = sample();
    for damage in DAMAGES {
        for seq in 0..=2 {
            let damaged = sample.damaged(&slot(seq), &Other::Foreign(slot(seq)), damage);
            let done = damaged.world.snapshot();
            assert_eq!(done.committed.seq, 4, "{damage:?} of record {seq}");
            let (node, store) = (damaged.world.node(), damaged.world.store());
            assert_eq!(damaged.world.restored(&node, &store, 4).unwrap(), full_digest(&damaged.world.state()));
        }
    }
}

#[test]
fn a_damaged_first_record_is_named_and_the_machines_that_know_the_chain_restore_all() {
    let sample = sample();
    for damage in DAMAGES {
        let why = format!("{damage:?} of genesis");
        let damaged = sample.damaged(&slot(0), &Other::Of(slot(1)), damage);
        damaged.expect_named(&slot(0), &why);
        let spared = if damage == Damage::SwapWithAnother { vec![2, 3] } else { damaged.all() };
        damaged.expect_restores(&spared, &why);
    }
}

#[test]
fn a_damaged_root_is_named_and_the_machines_that_know_it_restore_all() {
    let sample = sample();
    for damage in DAMAGES {
        let why = format!("{damage:?} of the root");
        let damaged = sample.damaged("root/1.json", &Other::Foreign("root/1.json".into()), damage);
        damaged.expect_named("root/1.json", &why);
        damaged.expect_restores(&damaged.all(), &why);
    }
}

#[test]
fn a_damaged_pack_is_named_and_what_the_next_snapshot_needs_of_it_is_stored_again() {
    let sample = sample();
    let packs = sample.keys("packs/");
    let sizes = |key: &String| fs::metadata(sample.world.path("store").join(key)).unwrap().len();
    assert!(packs.iter().any(|key| sizes(key) > 1 << 20), "a pack with data");
    assert!(packs.iter().any(|key| sizes(key) < 1 << 20), "a pack with trees");
    let foreign = keys(&sample.foreign, "packs/").remove(0);
    for damage in DAMAGES {
        for key in &packs {
            let why = format!("{damage:?} of {key}");
            let damaged = sample.damaged(key, &Other::Foreign(foreign.clone()), damage);
            damaged.expect_named(key, &why);
            let spared = damaged.all().into_iter().filter(|seq| !damaged.needs[seq].contains(key));
            damaged.expect_restores(&spared.collect::<Vec<_>>(), &why);
            // Verify has seen the damage on this machine.
            let done = damaged.world.snapshot();
            let (node, store) = (damaged.world.node(), damaged.world.store());
            let restored = damaged.world.restored(&node, &store, done.committed.seq);
            assert_eq!(restored.expect(&why), full_digest(&damaged.world.state()), "{why}");
        }
    }
}

#[test]
fn two_packs_that_changed_places_are_found_and_never_restored_from() {
    let sample = sample();
    let packs = sample.keys("packs/");
    for (number, key) in packs.iter().enumerate() {
        let other = &packs[(number + 1) % packs.len()];
        let why = format!("{key} and {other} changed places");
        let damaged = sample.damaged(key, &Other::Of(other.clone()), Damage::SwapWithAnother);
        let findings = damaged.world.node().findings(&damaged.world.store(), TilePolicy::Check);
        // The one may be needed for nothing but what only the other leads to.
        assert!(findings.iter().any(|finding| [key, other].contains(&&finding.object)), "{why}: {findings:#?}");
        let hit = |seq: &u64| damaged.needs[seq].contains(key) || damaged.needs[seq].contains(other);
        damaged.expect_restores(&damaged.all().into_iter().filter(|seq| !hit(seq)).collect::<Vec<_>>(), &why);
        let done = damaged.world.snapshot();
        let (node, store) = (damaged.world.node(), damaged.world.store());
        let restored = damaged.world.restored(&node, &store, done.committed.seq);
        assert_eq!(restored.expect(&why), full_digest(&damaged.world.state()), "{why}");
    }
}

#[test]
fn a_damaged_segment_is_named_and_the_next_snapshot_replaces_it() {
    let sample = sample();
    let (node, store) = (sample.world.node(), sample.world.store());
    let chain = node.open(&store);
    let segments = chain.segments(&chain.head().unwrap()).unwrap();
    let live: Vec<String> = segments.iter().map(|segment| format!("segments/{}", segment.id)).collect();
    let foreign = keys(&sample.foreign, "segments/").remove(0);
    for damage in DAMAGES {
        for key in &live {
            let why = format!("{damage:?} of {key}");
            let damaged = sample.damaged(key, &Other::Foreign(foreign.clone()), damage);
            damaged.expect_named(key, &why);
            damaged.expect_restores(&damaged.all(), &why);
            // Machines that have no copy of the segment store again what they cannot find.
            let other = damaged.world.other_node("other");
            damaged.world.write("more", "more");
            let (state, store) = (damaged.world.state(), damaged.world.store());
            let done = other.snapshot(&store, &state).unwrap();
            assert_eq!(damaged.world.restored(&other, &store, done.committed.seq).unwrap(), full_digest(&state));
            assert_eq!(other.findings(&store, TilePolicy::Check), [], "{why}: after the next snapshot");
        }
    }
}

/// Damages something that only helps readers: it is named, nothing needs it, and it heals in two ways.
fn hints(key: &str, damages: &[Damage]) {
    let sample = sample();
    for damage in damages {
        let why = format!("{damage:?} of {key}");
        let damaged = sample.damaged(key, &Other::Foreign(key.to_owned()), *damage);
        damaged.expect_named(key, &why);
        damaged.expect_restores(&damaged.all(), &why);
        let (node, store) = (damaged.world.node(), damaged.world.store());
        let healed = node.findings(&store, TilePolicy::Heal);
        assert!(healed.iter().all(|finding| finding.derived && finding.healed), "{why}: {healed:#?}");
        assert_eq!(node.findings(&store, TilePolicy::Check), [], "{why}: after healing");

        // Without that, the next snapshot works all the same, for its own machine and for one without caches.
        for own in [true, false] {
            let damaged = sample.damaged(key, &Other::Foreign(key.to_owned()), *damage);
            let world = &damaged.world;
            let node = if own { world.node() } else { world.other_node("other") };
            let done = node.snapshot(&world.store(), &world.state()).unwrap();
            assert_eq!(done.committed.seq, 4, "{why}");
            assert_eq!(done.committed.warnings, Vec::<String>::new(), "{why}");
            let left = node.findings(&world.store(), TilePolicy::Check);
            // The text for people is `init`'s; all else is written by every commit.
            let named: Vec<&str> = left.iter().map(|finding| finding.object.as_str()).collect();
            assert_eq!(named, if key == "format" { vec!["format"] } else { vec![] }, "{why}: after the next snapshot");
        }
    }
}

#[test]
fn a_damaged_tile_is_named_and_heals() {
    hints("tile/0/000.p/4", &DAMAGES);
}

#[test]
fn a_damaged_checkpoint_is_named_and_heals() {
    hints("checkpoint", &DAMAGES);
}

#[test]
fn a_damaged_format_line_is_named_and_heals() {
    // Stores of one format have the same line, so there is no other to swap it with, and text for people may follow it.
    hints("format", &[Damage::Delete, Damage::Truncate, Damage::FlipBit, Damage::ReplaceByEmpty]);
}

#[test]
fn after_the_newest_record_was_damaged_its_own_machine_goes_on_and_after_it_was_deleted_refuses() {
    let sample = sample();
    for damage in DAMAGES {
        let damaged = sample.damaged(&slot(3), &Other::Foreign(slot(3)), damage);
        let world = &damaged.world;
        world.write("small", "after the damage");
        let (node, store) = (world.node(), world.store());
        match node.snapshot(&store, &world.state()) {
            // The machine has the record, so the next one follows from it, and the slot is one that was damaged.
            Ok(done) => {
                assert_ne!(damage, Damage::Delete);
                assert_eq!(done.committed.seq, 4, "{damage:?}");
                assert_eq!(world.restored(&world.stranger(), &store, 4).unwrap(), full_digest(&world.state()));
                damaged.expect_named(&slot(3), &format!("{damage:?} of the newest record"));
            }
            // A slot that can be created again would make another chain of it.
            Err(error) => {
                assert_eq!(damage, Damage::Delete, "{}", told(&error));
                assert!(told(&error).contains("E_ROLLBACK"), "{}", told(&error));
                assert!(!world.path("store").join(slot(3)).exists());
            }
        }
    }
}
