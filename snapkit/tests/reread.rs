//! Settled files are read again in rotation, and one that changed in silence raises the alarm.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use snapkit::cancel::Cancel;
use snapkit::entry::{Kind, LocalPacks, OwnerNames, PackSet, encode_entry, encode_header};
use snapkit::id::ContentHash;
use snapkit::progress::Progress;
use snapkit::scan::cache::{CacheReader, CacheWriter};
use snapkit::snapshot::{self, Base, Directories, Options, Outcome, ProblemKind, Source};
use snapkit::store::{OpenOptions, Store, open};

/// A directory whose files were last changed long ago, as only a system's own can be in a test.
const OLD: &str = "/usr/share/common-licenses";

fn take(store: &dyn Store, dir: &Path, base: &Base, cycle: Duration) -> Outcome {
    let sources = [Source { name: "old".to_owned(), directory: OLD.into() }];
    let directories = Directories { cache: dir.join("cache") };
    let options = Options { reread_cycle: cycle, ..Options::default() };
    snapshot::take(store, &sources, &options, base, &directories, &Cancel::new(), &Progress::new()).unwrap()
}

fn first(dir: &Path) -> (std::sync::Arc<dyn Store>, Base) {
    let options = OpenOptions { create_directory: true, ..OpenOptions::default() };
    let store = open(dir.join("store").to_str().unwrap(), &options).unwrap();
    let outcome = take(&*store, dir, &Base::default(), Duration::MAX / 4);
    let base = Base { segments: outcome.segments.clone().unwrap(), snapshot: Some(outcome.body.clone()) };
    outcome.pending.committed().unwrap();
    (store, base)
}

/// Makes the scan cache say that the first file with content held something else.
fn falsify(dir: &Path) {
    let caches: Vec<PathBuf> = std::fs::read_dir(dir.join("cache/scan")).unwrap().map(|e| e.unwrap().path()).collect();
    let packs = Mutex::new(PackSet::default());
    let mut reader = CacheReader::open(&caches[0], &packs);
    let mut rows: Vec<_> = reader.by_ref().collect();
    let tree = reader.tree().unwrap().clone();
    assert!(rows.iter().all(|(_, seen)| seen.settled), "{OLD} changed in the last minute");
    let content = rows.iter_mut().find_map(|(entry, _)| match &mut entry.kind {
        Kind::File { size, content, .. } if *size > 0 => Some(content),
        _ => None,
    });
    *content.unwrap() = ContentHash([7; 32]);
    let (mut body, mut local) = (Vec::new(), LocalPacks::default());
    for (entry, _) in &rows {
        encode_entry(&mut body, &mut |pack| local.number(pack), entry).unwrap();
    }
    let mut leaf = Vec::new();
    encode_header(&mut leaf, &local, &packs.lock().unwrap(), &OwnerNames::default(), 0);
    leaf.extend(body);
    let mut writer = CacheWriter::create(&caches[0]).unwrap();
    writer.push(&leaf, &rows.iter().map(|(_, seen)| *seen).collect::<Vec<_>>()).unwrap();
    writer.finish(&tree).unwrap();
}

#[test]
fn a_settled_file_that_changed_in_silence_raises_the_alarm_when_its_turn_comes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, base) = first(dir.path());
    falsify(dir.path());
    let trusting = take(&*store, dir.path(), &base, Duration::from_secs(86_400 * 30));
    assert_eq!(trusting.problems, [], "before its turn a settled file is not read");
    let outcome = take(&*store, dir.path(), &base, Duration::ZERO);
    assert_eq!(outcome.problems.iter().map(|p| p.kind).collect::<Vec<_>>(), [ProblemKind::CacheMismatch]);
}

#[test]
fn settled_files_that_are_read_again_and_did_not_change_store_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, base) = first(dir.path());
    let outcome = take(&*store, dir.path(), &base, Duration::ZERO);
    assert_eq!((outcome.problems.len(), outcome.new_bytes), (0, 0));
}
