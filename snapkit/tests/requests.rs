//! How many requests the commands make, whatever the length of the chain.
#![allow(clippy::unwrap_used)]

mod world;

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::document::record::Body;
use snapkit::cancel::Cancel;
use snapkit::chain::Commit;
use snapkit::diff::{Difference, Options, Source, TreePair, compare};
use snapkit::fetch::Fetcher;
use snapkit::progress::Progress;
use snapkit::restore::Selection;
use snapkit::scan::exclude::Excludes;
use snapkit::selector::Selector;
use snapkit::store::Store;
use snapkit::store::counting::CountingStore;
use snapkit::store::faulty::FaultyStore;
use world::{Node, WithoutLists, World, full_digest, noise, restore_body};

const MIB: u64 = 1 << 20;

/// A file system in memory where there is one: commits sync many small files, which is not measured here.
fn quick_place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// A chain in memory with a state of many files, one of them of 1 MiB, taken as snapshots `1..=4`, with changes.
fn chain(name: &str) -> World {
    let world = World::on(Some(&format!("memory://requests-{name}")), &quick_place());
    for directory in 0..40 {
        fs::create_dir(world.state().join(format!("d{directory:02}"))).unwrap();
        for file in 0..100 {
            world.write(&format!("d{directory:02}/f{file:02}"), noise(1000 + file, directory * 100 + file as u64));
        }
    }
    fs::create_dir(world.state().join("d20/sub")).unwrap();
    world.write("d20/sub/wanted", noise(1 << 20, 777));
    world.write("large", noise(24 << 20, 778));
    world.snapshot();
    for number in 0..3 {
        world.write(&format!("d1{number}/f50"), format!("changed {number}"));
        world.write(&format!("more-{number}"), noise(2 << 20, 800 + number));
        world.snapshot();
    }
    world
}

/// Adds unchanged snapshots until the newest record is `seq`.
fn grow(world: &World, seq: u64) {
    let (node, store) = (world.node(), WithoutLists(world.store()));
    let chain = node.open(&store);
    let mut newest = chain.head().unwrap();
    while newest.head.seq < seq {
        assert!(matches!(newest.record.body, Body::Snapshot(_)), "the newest record is a snapshot");
        match chain.commit(&newest.head, &newest.record.body, None, &node.key, "node", Timestamp::now()).unwrap() {
            Commit::Done(done) => newest = done.newest,
            Commit::Lost { newer } => panic!("lost to {newer}"),
        }
    }
}

/// Runs `work` on the store and expects that it keeps within the budget.
#[track_caller]
fn within<T>(world: &World, requests: u64, received_bytes: u64, work: impl FnOnce(&dyn Store) -> T) -> T {
    let store = CountingStore::new(FaultyStore::new(world.store()));
    let done = work(&store);
    let counts = store.counts();
    let asked = format!("{} requests, {} bytes received: {counts:?}", counts.requests(), counts.received_bytes());
    println!("{asked}");
    let operations = store.inner().operations();
    assert!(counts.requests() <= requests, "{asked}\n{operations:#?}");
    assert!(counts.received_bytes() <= received_bytes, "{asked}\n{operations:#?}");
    done
}

fn unchanged_snapshot(world: &World) -> u64 {
    let state = world.state();
    let done = within(world, 8, MIB, |store| world.node().snapshot(store, &state).unwrap());
    assert!(!done.outcome.changed);
    assert_eq!((done.outcome.new_objects, done.outcome.new_bytes), (0, 0));
    assert_eq!(done.committed.warnings, Vec::<String>::new());
    done.committed.seq
}

#[test]
fn an_unchanged_snapshot_makes_at_most_eight_requests_however_long_the_chain() {
    let world = chain("unchanged");
    assert_eq!(unchanged_snapshot(&world), 5);
    grow(&world, 250);
    // Some of these fill a tile of 256 slots.
    for seq in 251..265 {
        assert_eq!(unchanged_snapshot(&world), seq);
    }
    grow(&world, 300);
    assert_eq!(unchanged_snapshot(&world), 301);
}

/// What `log -n 20` asks for.
fn log_of_twenty(node: &Node, store: &dyn Store) {
    let chain = node.open(store);
    let newest = chain.head().unwrap();
    let listed = chain.walk_back(&newest.record).map(Result::unwrap).take(20).count();
    assert_eq!(listed, 20);
}

#[test]
fn a_log_of_twenty_snapshots_makes_at_most_24_requests() {
    let world = chain("log");
    grow(&world, 300);
    within(&world, 24, MIB, |store| log_of_twenty(&world.node(), store));
    // A machine that sees the chain for the first time reads the root itself, once.
    within(&world, 24 + 1, MIB, |store| log_of_twenty(&world.stranger(), store));
}

/// What `restore SELECTOR TARGET --path PATH` asks for.
fn restore_one(world: &World, node: &Node, store: &dyn Store, selector: &Selector, path: &str) -> PathBuf {
    let record = selector.resolve(&node.open(store)).unwrap();
    let Body::Snapshot(snapshot) = &record.body else { panic!("a snapshot was selected") };
    let target = world.path("one-file");
    let choice = Selection { subtree: Some(path.as_bytes().to_vec()), ..Selection::default() };
    restore_body(store, snapshot, &target, &choice, &node.cache().join("scratch")).unwrap();
    target
}

#[test]
fn restoring_one_file_from_ten_thousand_snapshots_makes_at_most_twelve_requests_and_two_for_an_older_one() {
    let world = chain("restore");
    let first = world.path("first-state");
    world::copy_tree(&world.state(), &first);
    grow(&world, 10_000);
    let wanted = fs::read(world.state().join("d20/sub/wanted")).unwrap();
    // That an older snapshot lies under the newest record is shown by one tile of each level, here two.
    for (selector, node, proof) in [
        (Selector::Latest { back: 0 }, world.stranger(), 0),
        (Selector::Latest { back: 0 }, world.node(), 0),
        (Selector::Seq(1), world.stranger(), 2),
        (Selector::Seq(5_000), world.node(), 2),
    ] {
        let target =
            within(&world, 12 + proof, 4 * MIB, |store| restore_one(&world, &node, store, &selector, "d20/sub/wanted"));
        let files: Vec<PathBuf> =
            walkdir_files(&target).into_iter().filter(|path| path.file_name() == Some("wanted".as_ref())).collect();
        assert_eq!(files.len(), 1, "{selector}: {:?}", walkdir_files(&target));
        assert_eq!(fs::read(&files[0]).unwrap(), wanted, "{selector}");
        fs::remove_dir_all(target).unwrap();
    }
    assert_eq!(world.restored(&world.stranger(), &world.store(), 10_000).unwrap(), full_digest(&first));
}

/// What `diff A B` asks for, both snapshots of the chain: the paths that differ, and how many do not.
fn compared(world: &World, store: &dyn Store, a: u64, b: u64, options: &Options) -> (Vec<String>, u64) {
    let node = world.node();
    let chain = node.open(store);
    let bodies = [a, b].map(|seq| match chain.record(seq).unwrap().body {
        Body::Snapshot(snapshot) => snapshot,
        _ => panic!("a snapshot was selected"),
    });
    let fetcher = Fetcher::new(store);
    let [a, b] = bodies.each_ref().map(|body| Source::Snapshot { fetcher: &fetcher, tree: &body.private.trees[0] });
    let (mut paths, pairs) = (Vec::new(), [TreePair { name: "state".to_owned(), a, b }]);
    let mut put = |difference: &Difference| -> std::io::Result<()> {
        paths.push(String::from_utf8(difference.path.clone()).unwrap());
        Ok(())
    };
    let (cancel, progress) = (Cancel::new(), Progress::new());
    let summary = compare(&pairs, options, &node.cache().join("scratch"), &cancel, &progress, &mut put).unwrap();
    (paths, summary.must_match.identical)
}

#[test]
fn comparing_snapshots_of_a_chain_reads_only_what_they_do_not_share() {
    let world = chain("compare");
    let options = Options { devices: true, ..Options::default() };
    let (paths, identical) = within(&world, 12, MIB / 2, |store| compared(&world, store, 3, 4, &options));
    assert_eq!(paths, ["", "d12/f50", "more-2"]);
    // Which bytes of the changed file differ costs the frames that hold it, of the 40 MiB there are.
    let ranges = Options { ranges: true, ..options.clone() };
    within(&world, 16, 4 * MIB, |store| assert_eq!(compared(&world, store, 3, 4, &ranges).0, paths));
    // The same without leaving out what both share.
    let excludes = Some(Excludes::new(&["no-such-path".to_owned()], &[]).unwrap());
    let whole = Options { excludes, ..options.clone() };
    assert_eq!(compared(&world, &world.store(), 3, 4, &whole), (paths, identical));
    assert_eq!(compared(&world, &world.store(), 1, 4, &whole), compared(&world, &world.store(), 1, 4, &options));
    assert_eq!(compared(&world, &world.store(), 4, 1, &whole), compared(&world, &world.store(), 4, 1, &options));
    // What is the same by its digests is not read at all: the requests are those for the two records.
    grow(&world, 5);
    within(&world, 8, MIB / 4, |store| assert_eq!(compared(&world, store, 4, 5, &options).0, Vec::<String>::new()));
}

fn walkdir_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walkdir_files(&path)) } else { files.push(path) }
    }
    files
}
