//! Every fuzz target over the examples it starts from and over everything that fuzzing ever found, with stable Rust.
//!
//! With `SNAPKIT_FUZZ_SEEDS=DIRECTORY` the examples are also written there, one directory for each target, as
//! `tests/fuzz/run` asks for.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};

use snapkit_tests::fuzz::{TARGETS, Target, seeds};

/// The longest input kept in `testdata/fuzz/`, and the most bytes of all of them.
const INPUT_CAP: u64 = 16 << 10;
const CORPUS_CAP: u64 = 1 << 20;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(here("../testdata/fuzz").join(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap())).collect()
}

fn names(directory: &Path, ending: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    entries.filter_map(|name| name.strip_suffix(ending).map(str::to_owned)).collect()
}

#[test]
fn every_target_takes_its_examples_and_everything_that_was_found() {
    for Target { name, run } in TARGETS {
        let inputs = [seeds(name), kept(name)].concat();
        assert!(!inputs.is_empty(), "{name} has examples to start from");
        for (input, bytes) in inputs {
            let outcome = panic::catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "target {name}, input {input}: a parser panicked or broke a rule of its format");
        }
    }
}

/// The ends of an input are where parsers read past what they have.
#[test]
fn every_target_takes_its_examples_cut_short() {
    for Target { name, run } in TARGETS {
        for (input, bytes) in seeds(name) {
            for end in (0..bytes.len()).step_by(bytes.len() / 16 + 1) {
                let outcome = panic::catch_unwind(|| run(&bytes[..end]));
                assert!(outcome.is_ok(), "target {name}, the first {end} bytes of {input}");
            }
        }
    }
}

#[test]
fn every_target_has_its_binary_and_every_directory_its_target() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&here("fuzz/fuzz_targets"), ".rs"), targets);
    let manifest = fs::read_to_string(here("fuzz/Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("\nname = \"{target}\"\n")), "tests/fuzz/Cargo.toml has {target}");
    }
    let directories = names(&here("../testdata/fuzz"), "");
    assert!(directories.is_subset(&targets), "{directories:?}");
}

#[test]
fn what_is_kept_is_small() {
    let mut sum = 0;
    for file in walkdir::WalkDir::new(here("../testdata/fuzz")).into_iter().map(Result::unwrap) {
        let len = file.metadata().unwrap().len();
        assert!(file.file_type().is_dir() || len <= INPUT_CAP, "{} has {len} bytes", file.path().display());
        sum += if file.file_type().is_dir() { 0 } else { len };
    }
    assert!(sum <= CORPUS_CAP, "testdata/fuzz has {sum} bytes");
}

#[test]
fn examples_are_written_where_fuzzing_starts() {
    let Some(top) = std::env::var_os("SNAPKIT_FUZZ_SEEDS") else { return };
    for Target { name, .. } in TARGETS {
        let directory = Path::new(&top).join(name);
        fs::create_dir_all(&directory).unwrap();
        for (seed, bytes) in [seeds(name), kept(name)].concat() {
            let seed = Path::new(&seed).file_name().unwrap();
            fs::write(directory.join(seed), bytes).unwrap();
        }
    }
}
