//! Hostile stores that are kept in `testdata/attacks/`, so that other readers can be held against them too.
//!
//! One directory per case: `store.tar` with the hostile store, and `expected.json` with the pin, the time, and what a
//! reader must answer. `before.tar` is an honest state of the same store that the reader saw before, `mirror.tar` another
//! copy of the store that it may ask. They are made by `generate.rs`, or kept from a test that forged them.
//! Fields of `expected.json`: `testdata/attacks/README.md`.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::refusal::Class;
use serde::{Deserialize, Serialize};

use crate::Machine;

/// The manifest that `verify --from` asks for.
pub(super) const FROM_MANIFEST: &str = "app";

/// A hostile store, signed with valid keys.
#[derive(Debug)]
pub struct Prebuilt {
    directory: PathBuf,
    pub(super) expected: Expected,
}

/// Which commands refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refuses {
    /// All that read the store.
    Everything,
    /// The first that reads the store; the next one goes on from what that one verified.
    Once,
    /// Those that read a tree; records are read as ever, and reading all data finds the same.
    Trees,
    /// None: the attack has no effect, and the newest snapshot is restored.
    Nothing,
}

/// What a reader must answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expected {
    /// The pin: SHA-256 of the payload of the first root.
    pub(super) root: String,
    /// A record that the pin asks for: `<number>:<id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) min: Option<String>,
    /// The reader begins from the bootstrap string, follows a manifest and verifies; it does nothing else.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) from: bool,
    /// The time at which the honest state was seen; `now` if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Timestamp>,
    /// The time at which it is judged.
    pub(super) now: Timestamp,
    /// The class of the refusal, or `ok`.
    pub(super) class: String,
    /// What the message names.
    #[serde(default)]
    pub(super) object: String,
    pub(super) refuses: Refuses,
    /// How many bytes a command may read at most, with everything that it reads on its own machine.
    #[serde(default = "usual_cap")]
    pub(super) read_cap_bytes: u64,
    /// The number of roots that follow from the pin, and are kept although the store is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) roots_kept: Option<u64>,
    /// The reader follows to a newer state than the one that was seen, and does not go back to that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) moves_on: bool,
    /// The name of a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) warning: Option<String>,
    /// Objects of zeros, too long to be kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) zeros: Vec<Zeros>,
}

/// An object of so many zeros.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Zeros {
    pub(super) key: String,
    pub(super) bytes: u64,
}

pub(super) fn usual_cap() -> u64 {
    8 << 20
}

pub(super) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/attacks")
}

/// Whether examples that are missing are to be made.
pub(super) fn is_writing() -> bool {
    std::env::var_os("SNAPKIT_WRITE_TESTDATA").is_some()
}

impl Prebuilt {
    /// All that are kept.
    pub fn all() -> Vec<Self> {
        let directories = fs::read_dir(top())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.join("store.tar").exists());
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

    /// The class that it is refused with, if it is.
    pub fn class(&self) -> Option<Class> {
        Class::ALL.iter().copied().find(|class| class.name() == self.expected.class)
    }

    /// What the message must name.
    pub fn object(&self) -> &str {
        &self.expected.object
    }

    /// Which commands refuse.
    pub fn refuses(&self) -> Refuses {
        self.expected.refuses
    }

    /// Whether the reader begins from the bootstrap string and follows a manifest.
    pub fn is_from(&self) -> bool {
        self.expected.from
    }

    /// The name of the warning that is expected.
    pub fn warning(&self) -> Option<&str> {
        self.expected.warning.as_deref()
    }

    /// Whether the reader saw an honest state of the store before.
    pub fn was_seen(&self) -> bool {
        self.directory.join("before.tar").exists()
    }

    /// Whether the reader follows to a newer state than the one it saw before.
    pub fn moves_on(&self) -> bool {
        self.expected.moves_on
    }

    /// Whether the reader has another copy of the store to ask.
    pub fn has_mirror(&self) -> bool {
        self.directory.join("mirror.tar").exists()
    }

    /// How many roots are kept although the store is refused, if any are.
    pub fn roots_kept(&self) -> Option<u64> {
        self.expected.roots_kept
    }

    /// Whether slot 1 has an honest snapshot whose objects are all good, before the hostile one.
    pub fn has_honest_snapshot(&self) -> bool {
        !["a15", "a18", "e01"].iter().any(|row| self.name().starts_with(row))
    }

    /// What follows the address in the bootstrap string.
    pub(super) fn pin(&self) -> String {
        let min = self.expected.min.as_ref().map(|min| format!("&min={min}")).unwrap_or_default();
        format!("#root=sha256:{}{min}", self.expected.root)
    }

    /// Puts one of `store`, `before` and `mirror` at a path, in place of what is there.
    pub(super) fn unpack(&self, which: &str, at: &Path) {
        let _ = fs::remove_dir_all(at);
        let mut bytes = Vec::new();
        File::open(self.directory.join(which).with_extension("tar")).unwrap().read_to_end(&mut bytes).unwrap();
        tar::Archive::new(&bytes[..]).unpack(at).unwrap();
        for Zeros { key, bytes } in self.expected.zeros.iter().filter(|_| which == "store") {
            fs::create_dir_all(at.join(key).parent().unwrap()).unwrap();
            File::create(at.join(key)).unwrap().set_len(*bytes).unwrap();
        }
    }
}

/// Writes the store at `store` as a tar of a case.
pub(super) fn pack(store: &Path, into: &Path) {
    let mut archive = tar::Builder::new(File::create(into).unwrap());
    archive.mode(tar::HeaderMode::Deterministic);
    let mut paths: Vec<PathBuf> =
        walkdir::WalkDir::new(store).into_iter().map(|entry| entry.unwrap().into_path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.is_file()) {
        archive.append_path_with_name(path, path.strip_prefix(store).unwrap()).unwrap();
    }
    archive.finish().unwrap();
}

pub(super) fn write_expected(directory: &Path, expected: &Expected) {
    let text = serde_json::to_string_pretty(expected).unwrap();
    fs::write(directory.join("expected.json"), text + "\n").unwrap();
}

/// Keeps the store of the attack at hand, the first of each test, when examples are written.
pub(super) fn keep(victim: &Machine, store: &Path, class: Class) {
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    let is_row = test.len() > 3 && test.starts_with(['e', 'f']) && test[1..3].bytes().all(|b| b.is_ascii_digit());
    let directory = top().join(test.replace('_', "-"));
    if !is_writing() || !is_row || directory.exists() {
        return;
    }
    let trusted = victim.ok(&["trust", "show", "--json"]).json("snapkit.trust-show/1");
    let root = trusted["stores"][0]["root"].as_str().unwrap().to_owned();
    fs::create_dir_all(&directory).unwrap();
    pack(store, &directory.join("store.tar"));
    let expected = Expected { class: class.name().to_owned(), ..Expected::of(root, Refuses::Trees) };
    write_expected(&directory, &expected);
}

impl Expected {
    /// What is expected of a reader now, without a refusal.
    pub(super) fn of(root: String, refuses: Refuses) -> Self {
        let now = Timestamp::from_second(Timestamp::now().as_second() + 60).unwrap();
        Self {
            root,
            min: None,
            from: false,
            before: None,
            now,
            class: "ok".to_owned(),
            object: String::new(),
            refuses,
            read_cap_bytes: usual_cap(),
            roots_kept: None,
            moves_on: false,
            warning: None,
            zeros: Vec::new(),
        }
    }
}
