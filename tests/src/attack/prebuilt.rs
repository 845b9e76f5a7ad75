//! Hostile stores that are kept in `testdata/attacks/`, so that other readers can be held against them too.
//!
//! One directory per case, named for the test that forged it: `store.tar`, and `expected.json` with the pin and the class
//! of the refusal. With `SNAPKIT_WRITE_TESTDATA=1`, `cargo test -p snapkit-tests --test attack_data --test attack_trees` makes
//! those that are missing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use manifests::refusal::Class;
use serde::{Deserialize, Serialize};

use crate::Machine;

/// A hostile store, signed with valid keys.
#[derive(Debug)]
pub struct Prebuilt {
    directory: PathBuf,
    expected: Expected,
}

#[derive(Debug, Serialize, Deserialize)]
struct Expected {
    root: String,
    class: String,
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/attacks")
}

impl Prebuilt {
    /// All that are kept.
    pub fn all() -> Vec<Self> {
        let directories = fs::read_dir(top()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let mut all: Vec<Self> = directories
            .map(|directory| {
                let expected = fs::read(directory.join("expected.json")).unwrap();
                Self { expected: serde_json::from_slice(&expected).unwrap(), directory }
            })
            .collect();
        all.sort_by(|a, b| a.directory.cmp(&b.directory));
        all
    }

    /// What it is called.
    pub fn name(&self) -> String {
        self.directory.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// The class that it is refused with.
    pub fn class(&self) -> Class {
        Class::ALL.iter().copied().find(|class| class.name() == self.expected.class).unwrap()
    }

    pub(super) fn root(&self) -> &str {
        &self.expected.root
    }

    pub(super) fn unpack(&self, store: &Path) {
        tar::Archive::new(File::open(self.directory.join("store.tar")).unwrap()).unpack(store).unwrap();
    }
}

/// Keeps the store of the attack at hand, the first of each test, when examples are written.
pub(super) fn keep(victim: &Machine, store: &Path, class: Class) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let is_row = test.len() > 3 && test.starts_with(['e', 'f']) && test[1..3].bytes().all(|b| b.is_ascii_digit());
    let directory = top().join(test.replace('_', "-"));
    if std::env::var_os("SNAPKIT_WRITE_TESTDATA").is_none() || !is_row || directory.exists() {
        return;
    }
    let trusted = victim.ok(&["trust", "show", "--json"]).json("snapkit.trust-show/1");
    let root = trusted["stores"][0]["root"].as_str().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    let mut archive = tar::Builder::new(File::create(directory.join("store.tar")).unwrap());
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all("", store).unwrap();
    archive.finish().unwrap();
    let expected = serde_json::to_string_pretty(&Expected { root, class: class.name().to_owned() }).unwrap();
    fs::write(directory.join("expected.json"), expected + "\n").unwrap();
}
