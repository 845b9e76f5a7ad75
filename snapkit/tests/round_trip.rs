//! A state captured into a store comes back as it was, without a chain around it.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use snapkit::cancel::Cancel;
use snapkit::fetch::Fetcher;
use snapkit::progress::Progress;
use snapkit::restore::{self, Chosen, Destination, Owners, Proof, Selection};
use snapkit::scan::inspect::digest_directory;
use snapkit::scan::walk::WalkOptions;
use snapkit::snapshot::{self, Base, Directories, Options, Outcome, Source};
use snapkit::store::{OpenOptions, Store, open};

fn store(dir: &Path) -> std::sync::Arc<dyn Store> {
    let options = OpenOptions { create_directory: true, ..OpenOptions::default() };
    open(dir.join("store").to_str().unwrap(), &options).unwrap()
}

fn take(store: &dyn Store, dir: &Path, base: &Base) -> Outcome {
    let sources = [Source { name: "state".to_owned(), directory: dir.join("state") }];
    let directories = Directories { cache: dir.join("cache") };
    snapshot::take(store, &sources, &Options::default(), base, &directories, &Cancel::new(), &Progress::new()).unwrap()
}

fn restore(store: &dyn Store, dir: &Path, outcome: &Outcome, proof: Proof) {
    let fetcher = Fetcher::new(store);
    let options = restore::Options { owners: Owners::Ids, devices: true, proof, fetchers: 4, seeds: Vec::new() };
    let target = dir.join("restored");
    let destination = Destination::prepare(
        &target,
        vec![("state".to_owned(), None)],
        &Chosen::new(String::new(), String::new(), (1, String::new()), Vec::new()),
    )
    .unwrap();
    let scratch = dir.join("scratch");
    let cancel = Cancel::new();
    let plan =
        restore::plan(&fetcher, &outcome.body, &Selection::default(), &options, &scratch, true, &cancel).unwrap();
    assert!(plan.exact || !rustix_is_root());
    restore::apply(&fetcher, &plan, vec![destination], &options, &cancel, &Progress::new()).unwrap();
}

fn rustix_is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

fn make_state(dir: &Path) {
    let state = dir.join("state");
    fs::create_dir_all(state.join("sub/empty")).unwrap();
    fs::write(state.join("sub/a"), b"text").unwrap();
    fs::write(state.join("empty"), b"").unwrap();
    fs::hard_link(state.join("sub/a"), state.join("b-link")).unwrap();
    std::os::unix::fs::symlink("nowhere", state.join("link")).unwrap();
    let mut noise = vec![0; 9 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    fs::write(state.join("large"), &noise).unwrap();
    fs::set_permissions(state.join("sub/a"), fs::Permissions::from_mode(0o4751)).unwrap();
}

#[test]
fn a_state_comes_back_as_it_was() {
    for proof in [Proof::Written, Proof::Reread] {
        let dir = tempfile::tempdir().unwrap();
        make_state(dir.path());
        let store = store(dir.path());
        let outcome = take(&store, dir.path(), &Base::default());
        assert_eq!(outcome.problems, []);
        restore(&store, dir.path(), &outcome, proof);
        let digest = |name: &str| digest_directory(&dir.path().join(name), WalkOptions::default(), true).unwrap();
        assert_eq!(digest("restored"), digest("state"));
        assert_eq!(outcome.body.private.trees[0].full_digest.0, digest("state").full.0);
    }
}

#[test]
fn a_second_snapshot_of_the_same_state_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    make_state(dir.path());
    let store = store(dir.path());
    let first = take(&store, dir.path(), &Base::default());
    let base = Base { segments: first.segments.clone().unwrap(), snapshot: Some(first.body.clone()) };
    first.pending.committed().unwrap();
    let second = take(&store, dir.path(), &base);
    assert_eq!((second.new_objects, second.segments, second.new_bytes), (0, None, 0));
    assert_eq!(second.body.public.packs, first.body.public.packs);
    assert_eq!(second.body.private.trees, first.body.private.trees);
}
