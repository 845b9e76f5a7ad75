//! An issuer: a machine with a chain and its keys, a configuration with pins, and signed manifests of any kind.

use std::fs;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use manifests::document::manifest::{Manifest, PAYLOAD_TYPE};
use manifests::document::pins::{self, PINS_CAP, Pins};
use manifests::document::root::{self, Root, RootDocument};
use manifests::envelope::{self, Nested};
use manifests::keys::{SecretKey, Signer};
use serde_json::Value;
use snapkit::trust::TrustDir;

use crate::{Machine, Run};

/// A machine whose chain in `store` has one snapshot of `tree`, with signed pins and no manifest yet.
pub struct Issuer {
    /// The machine.
    pub machine: Machine,
    /// What a cold machine needs.
    pub bootstrap: String,
    /// The digest of the first root.
    pub pin: Digest,
    /// The key of the roles `manifest`, `writer` and others.
    pub node: SecretKey,
    /// The key of the roles `root` and `release`.
    pub owner: SecretKey,
}

/// The `[manifest]` and `[pins]` that the tests begin with.
pub const PINS: &str = r#"
[manifest]
name = "app"
file = "deploy/manifest.json"
pins = "deploy/pins.json"

[pins]
max_head_age = "26h"
max_head_lag = 2

[pins.service]
driver = "process"
argv = ["/usr/bin/app", "--data", "/srv/state"]
leader_args = ["--lead"]

[[pins.trees]]
name = "tree"
path = "/srv/state"
must_match = ["etc/app.conf"]
may_advance = ["file"]
ignore = ["cache"]
"#;

impl Default for Issuer {
    fn default() -> Self {
        Self::new()
    }
}

impl Issuer {
    /// The machine, with pins as in [`PINS`].
    pub fn new() -> Self {
        let issuer = Self::without_pins(PINS);
        issuer.machine.ok(&["pins", "edit"]);
        issuer.machine.ok(&["pins", "sign"]);
        issuer
    }

    /// The machine with this configuration, and nothing signed yet.
    pub fn without_pins(config: &str) -> Self {
        Self::at("store", Machine::new(), config)
    }

    /// The same, with its store at this address; what works on its files is for directories alone.
    pub fn at(store: &str, machine: Machine, config: &str) -> Self {
        machine.write("tree/file", "honest\n");
        machine.write("tree/etc/app.conf", "key = 1\n");
        let init = machine.ok(&["init", store, "--json"]).json("snapkit.init/1");
        let bootstrap = init["bootstrap"].as_str().unwrap().to_owned();
        machine.write("snapkit.toml", format!("store = \"{bootstrap}\"\n{config}"));
        machine.ok(&["snapshot", "tree"]);
        let pin: Digest = init["root"].as_str().unwrap().parse().unwrap();
        let trust = TrustDir::new(&machine.home(), &machine.cache());
        let (node, owner) = (trust.read_node_key(&pin).unwrap(), trust.read_owner_key(&pin).unwrap());
        Self { machine, bootstrap, pin, node, owner }
    }

    /// The manifest in the repository.
    pub fn file(&self) -> PathBuf {
        self.machine.path("deploy/manifest.json")
    }

    /// Issues a manifest.
    #[track_caller]
    pub fn generate(&self) -> Value {
        self.machine.ok(&["manifest", "generate", "--json"]).json("snapkit.manifest-made/1")
    }

    /// Takes so many more snapshots.
    #[track_caller]
    pub fn snapshots(&self, count: u32) {
        for _ in 0..count {
            self.machine.ok(&["snapshot", "tree"]);
        }
    }

    /// Runs the check with its answer as JSON.
    pub fn check(&self, args: &[&str]) -> Run {
        let mut all = vec!["manifest", "check", "--json"];
        all.extend(args);
        self.machine.run(&all)
    }

    /// The manifest in the repository as it was signed; nothing is checked but that it is one.
    pub fn manifest(&self) -> Manifest {
        let bytes = fs::read(self.file()).unwrap();
        Manifest::verify(&bytes, &self.root(), &self.pin, None, None, "manifest").unwrap().manifest
    }

    /// The first root.
    pub fn root(&self) -> Root {
        Root::parse_first(&fs::read(self.machine.path("store/root/1.json")).unwrap(), &self.pin).unwrap()
    }

    /// The manifest in the repository with something changed, signed by the key that may.
    pub fn forged(&self, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        self.forged_by(&self.node, change)
    }

    /// The same, signed by any key.
    pub fn forged_by(&self, key: &SecretKey, change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
        let mut manifest = self.manifest();
        change(&mut manifest);
        manifest.key = key.public().id();
        envelope::sign(PAYLOAD_TYPE, &manifest.payload().unwrap(), &[key]).unwrap()
    }

    /// Puts bytes into the place of the newest manifest in the store.
    pub fn serve(&self, bytes: &[u8]) {
        fs::write(self.machine.path("store/manifests/app.json"), bytes).unwrap();
    }

    /// The pins in the repository with something changed, signed by any key.
    pub fn forged_pins(&self, key: &SecretKey, change: impl FnOnce(&mut Pins)) -> Nested {
        let bytes = fs::read(self.machine.path("deploy/pins.json")).unwrap();
        let mut changed = Pins::of_draft(&Nested::read(&bytes, PINS_CAP, "pins").unwrap(), "pins").unwrap();
        change(&mut changed);
        let bytes = envelope::sign(pins::PAYLOAD_TYPE, &changed.payload().unwrap(), &[key]).unwrap();
        Nested::read(&bytes, PINS_CAP, "pins").unwrap()
    }

    /// Publishes the next root, signed by the owner.
    pub fn next_root(&self, change: impl FnOnce(&mut RootDocument)) {
        let mut root = self.root();
        let path = |version: u64| self.machine.path(format!("store/root/{version}.json"));
        while let Ok(bytes) = fs::read(path(root.version() + 1)) {
            root = root.parse_next(&bytes).unwrap();
        }
        let mut document = root.document().clone();
        document.version += 1;
        change(&mut document);
        let bytes = envelope::sign(root::PAYLOAD_TYPE, &document.payload().unwrap(), &[&self.owner]).unwrap();
        fs::write(path(document.version), bytes).unwrap();
    }

    /// Gives these public keys the roles of a node that may lead, as an owner does: with the command.
    pub fn add_nodes(&self, keys: &[PathBuf]) {
        for key in keys {
            let key = key.to_str().unwrap();
            self.machine.ok(&["root", "add-key", key, "--role", "writer", "--role", "node"]);
        }
        let owner = TrustDir::new(&self.machine.home(), &self.machine.cache()).owner_key(&self.pin);
        self.machine.ok(&["root", "sign", "root-2.json", "--signer", owner.to_str().unwrap()]);
        self.machine.ok(&["root", "publish", "root-2.json"]);
    }

    /// Publishes a root in which a new key has the role instead of the keys that have it, and gives the key.
    pub fn rotate(&self, role: &str) -> SecretKey {
        let new = snapkit::keyfile::generate().unwrap();
        self.next_root(|document| {
            document.keys.push((&new.public()).into());
            document.keys.sort_by_key(|key| key.id);
            let role = document.roles.iter_mut().find(|listed| listed.name == role).unwrap();
            role.keys = vec![new.public().id()];
        });
        new
    }

    /// The id of the node's key.
    pub fn node_id(&self) -> String {
        self.node.public().id().to_string()
    }

    /// A time so many hours from now; before it, if negative.
    pub fn hours(hours: i64) -> Timestamp {
        Timestamp::now().checked_add(SignedDuration::from_hours(hours)).unwrap()
    }
}
