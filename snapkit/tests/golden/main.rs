//! The stored examples of the binary formats, and the draft store: each is read and judged as its README says.
//!
//! `SNAPKIT_WRITE_TESTDATA=1 cargo test -p snapkit --test golden` writes the examples of packs, segments and trees
//! again; the store is made by a test that is ignored (`stores.rs`). Tests fail when a directory is not covered.

#![allow(clippy::unwrap_used)]

mod packs;
mod segments;
mod stores;
mod trees;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One example: a directory, its verdict, and its files.
struct Case {
    name: &'static str,
    /// `accepted`, or the class it is refused with.
    verdict: &'static str,
    made: &'static str,
    files: Vec<(String, Vec<u8>)>,
}

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

fn directories(path: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    let directories = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    directories.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// Holds the directories below `testdata/<path>` equal to `cases`, and each case to its verdict.
fn check(path: &str, intro: &str, cases: Vec<Case>, judge: impl Fn(&Path) -> String) {
    let top = testdata(path);
    let mut readme = format!("{intro}\n| case | verdict | how it was made |\n|---|---|---|\n");
    for Case { name, verdict, made, .. } in &cases {
        readme.push_str(&format!("| `{name}` | {verdict} | {made} |\n"));
    }
    let write = std::env::var_os("SNAPKIT_WRITE_TESTDATA").is_some();
    let mut expected = vec![(top.join("README.md"), readme.into_bytes())];
    for case in &cases {
        let file = |(file, bytes): &(String, Vec<u8>)| (top.join(case.name).join(file), bytes.clone());
        expected.extend(case.files.iter().map(file));
    }
    for (path, bytes) in expected {
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        let is_same = fs::read(&path).is_ok_and(|stored| stored == bytes);
        assert!(is_same, "{} is as it is made here: a writer changed, or the example", path.display());
    }
    assert_eq!(directories(&top), cases.iter().map(|case| case.name.to_owned()).collect());
    for case in &cases {
        assert_eq!(judge(&top.join(case.name)), case.verdict, "{path}/{}", case.name);
    }
}

#[test]
fn every_format_and_version_in_testdata_has_its_tests() {
    let covered = [("packs", "draft"), ("segments", "draft"), ("trees", "draft"), ("stores", "draft")];
    for (format, version) in covered {
        assert_eq!(directories(&testdata(format)), BTreeSet::from([version.to_owned()]), "testdata/{format}");
    }
    let known = ["attacks", "fuzz", "manifests", "packs", "segments", "stores", "trees", "vectors"].map(str::to_owned);
    assert_eq!(directories(&testdata("")), BTreeSet::from(known));
}
