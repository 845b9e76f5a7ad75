//! The generator of the hostile stores in `testdata/attacks/` that no other test forges on its way.
//!
//! Each row of `docs/attacks.md` is a [`Recipe`]: a name, what the adversary does, and a function that does it to a chain
//! with real, valid keys. `cargo test -p snapkit-tests --test attack_prebuilt` with `SNAPKIT_WRITE_TESTDATA=1` makes the
//! cases that are missing; to make one again, remove its directory first. To add rows: a module with `RECIPES`, and a line
//! in [`all`].

mod chain;
mod fence;
mod issued;
mod keys;
mod mirrors;
mod roots;
mod time;
mod withheld;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::root::{PAYLOAD_TYPE, RootDocument};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;
use tempfile::TempDir;

use super::Forge;
use super::prebuilt::{self, Expected, Refuses, Zeros};
use crate::Issuer;

/// How one hostile store is made.
pub struct Recipe {
    /// The id of the row and what it is: the name of the directory.
    pub name: &'static str,
    /// Does it.
    pub make: fn(&mut Making),
}

/// Every recipe.
pub fn all() -> Vec<&'static Recipe> {
    let data = [roots::RECIPES, keys::RECIPES, time::RECIPES, withheld::RECIPES, mirrors::RECIPES, chain::RECIPES];
    data.into_iter().chain([fence::RECIPES, issued::RECIPES]).flatten().collect()
}

/// A hostile store while it is made.
pub struct Making {
    /// The chain with its keys; its store becomes the hostile one.
    pub forge: Forge,
    kept: TempDir,
    expected: Expected,
}

impl Recipe {
    /// Makes the store and what is expected of its readers, unless they are there.
    pub fn write_if_missing(&self) {
        let directory = prebuilt::top().join(self.name);
        if directory.exists() {
            return;
        }
        assert!(prebuilt::is_writing(), "{} is missing; SNAPKIT_WRITE_TESTDATA=1 makes it", self.name);
        let mut making = Making::new();
        (self.make)(&mut making);
        fs::create_dir_all(&directory).unwrap();
        prebuilt::pack(&making.store(), &directory.join("store.tar"));
        for which in ["before", "mirror"] {
            let kept = making.kept.path().join(which);
            if kept.exists() {
                prebuilt::pack(&kept, &directory.join(which).with_extension("tar"));
            }
        }
        prebuilt::write_expected(&directory, &making.expected);
    }
}

impl Making {
    /// An honest chain with one snapshot, in slot 1.
    fn new() -> Self {
        let forge = Forge::new();
        let expected = Expected::of(forge.pin().to_string(), Refuses::Nothing);
        Self { forge, kept: tempfile::tempdir().unwrap(), expected }
    }

    /// The directory of the store.
    pub fn store(&self) -> PathBuf {
        self.forge.object("")
    }

    /// Adds an honest snapshot; the file keeps its content, another one is new.
    pub fn grow(&mut self) -> u64 {
        let seq = self.forge.next_seq();
        self.forge.machine.write(&format!("tree/newer-{seq}"), format!("newer {seq}\n"));
        self.forge.honest();
        seq
    }

    /// The store as it is now was seen by the reader before.
    pub fn seen(&mut self) {
        self.keep("before");
    }

    /// The store as it is now is a mirror that the reader knows.
    pub fn mirrored(&mut self) {
        self.keep("mirror");
    }

    fn keep(&self, which: &str) {
        copy(&self.store(), &self.kept.path().join(which));
    }

    /// Puts the store of another forge in the place of this one.
    pub fn replace_by(&mut self, other: &Forge) {
        self.replace_store(&other.object(""));
    }

    /// Puts another store in the place of this one.
    pub fn replace_store(&mut self, other: &Path) {
        fs::remove_dir_all(self.store()).unwrap();
        copy(other, &self.store());
    }

    /// Goes on with the store of an issuer of manifests, whose reader begins from the bootstrap string.
    pub fn issued_by(&mut self, issuer: &Issuer) {
        self.replace_store(&issuer.machine.path("store"));
        self.expected = Expected { from: true, ..Expected::of(issuer.pin.to_string(), Refuses::Nothing) };
    }

    /// Removes an object.
    pub fn withhold(&mut self, key: &str) {
        fs::remove_file(self.forge.object(key)).unwrap();
    }

    /// The keys of all packs.
    pub fn packs(&self) -> Vec<String> {
        let store = self.store();
        let files = walkdir::WalkDir::new(store.join("packs")).into_iter().map(|entry| entry.unwrap().into_path());
        let files = files.filter(|path| path.is_file());
        let mut keys: Vec<String> =
            files.map(|path| path.strip_prefix(&store).unwrap().to_str().unwrap().to_owned()).collect();
        keys.sort();
        keys
    }

    /// A root like the last one in the store, changed and signed by these keys.
    pub fn root(&self, after: u64, change: impl FnOnce(&mut RootDocument), signers: &[&SecretKey]) -> Vec<u8> {
        let bytes = fs::read(self.forge.object(&format!("root/{after}.json"))).unwrap();
        let mut document = document(&bytes);
        document.version += 1;
        change(&mut document);
        let signers: Vec<&dyn Signer> = signers.iter().map(|key| *key as &dyn Signer).collect();
        envelope::sign(PAYLOAD_TYPE, &document.payload().unwrap(), &signers).unwrap()
    }

    /// Every command that reads the store refuses with this class and names this.
    pub fn refused(&mut self, class: Class, object: &str) {
        self.expect(Refuses::Everything, class, object);
    }

    /// Records are read, and whatever reads a tree refuses.
    pub fn trees_refused(&mut self, class: Class, object: &str) {
        self.expect(Refuses::Trees, class, object);
    }

    /// The first command refuses; the next one goes on from what that one verified.
    pub fn refused_once(&mut self, class: Class, object: &str) {
        self.expect(Refuses::Once, class, object);
    }

    fn expect(&mut self, refuses: Refuses, class: Class, object: &str) {
        self.expected.refuses = refuses;
        self.expected.class = class.name().to_owned();
        self.expected.object = object.to_owned();
    }

    /// It is judged at this time; what was seen before was seen at the usual one.
    pub fn judged_at(&mut self, now: Timestamp) {
        self.expected.before = Some(self.expected.now);
        self.expected.now = now;
    }

    /// The time at which it is judged.
    pub fn now(&self) -> Timestamp {
        self.expected.now
    }

    /// The pin asks for this record.
    pub fn at_least(&mut self, seq: u64, digest: &Digest) {
        self.expected.min = Some(format!("{seq}:{digest}"));
    }

    /// So many roots follow from the pin and are kept.
    pub fn keeps_roots(&mut self, count: u64) {
        self.expected.roots_kept = Some(count);
    }

    /// The reader follows to a newer state than the one that was seen, and does not go back to that.
    pub fn moves_on(&mut self) {
        self.expected.moves_on = true;
    }

    /// A warning of this name is given.
    pub fn warns(&mut self, name: &str) {
        self.expected.warning = Some(name.to_owned());
    }

    /// An object of zeros, which is not kept but made when the store is unpacked.
    pub fn zeros(&mut self, key: &str, bytes: u64) {
        let _ = fs::remove_file(self.forge.object(key));
        self.expected.zeros.push(Zeros { key: key.to_owned(), bytes });
    }
}

/// The document in the envelope of a root.
fn document(bytes: &[u8]) -> RootDocument {
    use base64::Engine as _;
    let envelope: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// An envelope with a change to its list of signatures.
fn with_signatures(bytes: &[u8], change: impl FnOnce(&mut Vec<serde_json::Value>)) -> Vec<u8> {
    let mut envelope: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    change(envelope["signatures"].as_array_mut().unwrap());
    serde_json::to_vec(&envelope).unwrap()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}
