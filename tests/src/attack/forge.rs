//! The forge: a chain with its keys, to which anything can be added.

use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::record::{Header, Nonce, Void, Writer};
use manifests::document::root::Root;
use manifests::document::snapshot::{self, PackRef, Packs, Private, Public, Snapshot, Tree};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::log::{EMPTY, Tile, leaf_hash};
use snapkit::digest::of_state;
use snapkit::entry::PackSet;
use snapkit::located::Located;
use snapkit::trust::TrustDir;

use super::content::{Content, Written};
use crate::Machine;

/// A chain in the directory `store` of a machine that has all its keys.
pub struct Forge {
    /// The machine that made the chain and may add honest snapshots of its directory `tree`.
    pub machine: Machine,
    /// What a cold machine needs.
    pub bootstrap: String,
    /// The key that signs records.
    pub node: SecretKey,
    /// The key that signs roots.
    pub owner: SecretKey,
    root: Root,
    pin: Digest,
    head: Head,
    voids: Vec<Void>,
    leaves: Vec<Digest>,
    salt: u8,
}

impl Default for Forge {
    fn default() -> Self {
        Self::new()
    }
}

impl Forge {
    /// A new chain with one honest snapshot, in slot 1, of one file `file`.
    pub fn new() -> Self {
        let machine = Machine::new();
        machine.write("tree/file", "honest\n");
        let init = machine.ok(&["init", "store", "--json"]).json("snapkit.init/1");
        machine.ok(&["snapshot", "--store", "store", "tree"]);
        let pin: Digest = init["root"].as_str().unwrap().parse().unwrap();
        let trust = TrustDir::new(&machine.home(), &machine.cache());
        let bootstrap = init["bootstrap"].as_str().unwrap().to_owned();
        let root = Root::parse_first(&fs::read(machine.path("store/root/1.json")).unwrap(), &pin).unwrap();
        let genesis = fs::read(machine.path(format!("store/{}", slot_key(0)))).unwrap();
        let (record, head) = chain::first(&genesis, &pin, &root).unwrap();
        let mut forge = Self {
            bootstrap,
            node: trust.read_node_key(&pin).unwrap(),
            owner: trust.read_owner_key(&pin).unwrap(),
            root,
            pin,
            head,
            voids: Vec::new(),
            leaves: vec![record.digest],
            salt: 0,
            machine,
        };
        forge.follow();
        forge
    }

    /// The digest of the first root.
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// The path of an object.
    pub fn object(&self, key: &str) -> PathBuf {
        self.machine.path("store").join(key)
    }

    /// Writes an object.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.object(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// The bytes of a slot.
    pub fn slot(&self, seq: u64) -> Vec<u8> {
        fs::read(self.object(&slot_key(seq))).unwrap()
    }

    /// Replaces the bytes of a slot.
    pub fn replace_slot(&self, seq: u64, bytes: &[u8]) {
        self.put(&slot_key(seq), bytes);
    }

    /// The number of the next slot.
    pub fn next_seq(&self) -> u64 {
        self.head.seq + 1 + self.voids.len() as u64
    }

    /// Begins the chain anew from the genesis that the store has now; later slots are removed.
    pub fn restart(&mut self) {
        for seq in 1..self.next_seq() {
            fs::remove_file(self.object(&slot_key(seq))).unwrap();
        }
        let (record, head) = chain::first(&self.slot(0), &self.pin, &self.root).unwrap();
        (self.head, self.voids, self.leaves) = (head, Vec::new(), vec![record.digest]);
    }

    /// The digest of the record in a slot.
    pub fn digest_of(&self, seq: u64) -> Digest {
        self.leaves[usize::try_from(seq).unwrap()]
    }

    /// Takes an honest snapshot of the directory `tree`.
    pub fn honest(&mut self) {
        self.machine.ok(&["snapshot", "--store", "store", "tree"]);
        self.follow();
    }

    /// Reads what others added to the chain.
    pub fn follow(&mut self) {
        while let Ok(bytes) = fs::read(self.object(&slot_key(self.next_seq()))) {
            let before = self.voids.len();
            match chain::step(&self.head, &mut self.voids, &bytes, &self.root) {
                Ok(Some((record, head))) => {
                    self.leaves.extend(vec![EMPTY; before]);
                    self.leaves.push(record.digest);
                    self.head = head;
                }
                Ok(None) => {}
                Err(refusal) => panic!("the chain cannot go on after a record that is refused: {refusal}"),
            }
        }
    }

    /// The header that an honest next record has.
    pub fn header(&mut self) -> Header {
        self.salt += 1;
        let writer = Writer { key: self.node.public().id(), node: "forge".into(), tool: "forge 0".into() };
        self.head.next_header(&self.voids, Timestamp::now(), Nonce([self.salt; 16]), writer).unwrap()
    }

    /// The payload of a record with this body, which is JSON.
    pub fn payload(&mut self, body: &str) -> String {
        let header = serde_json::to_string(&self.header()).unwrap();
        format!(r#"{},"body":{body}}}"#, header.strip_suffix('}').unwrap())
    }

    /// Stores a content and makes the payload of a snapshot of it.
    pub fn snapshot(&mut self, content: Content) -> String {
        let body = self.store(content);
        self.payload(&serde_json::to_string(&body).unwrap())
    }

    /// Stores the packs of a content and makes the body of a snapshot of it.
    pub fn store(&mut self, content: Content) -> Snapshot {
        self.salt += 1;
        let Written { packs, index, digests, entries, files, bytes } = content.write(&[self.salt; 16]);
        let mut set = PackSet::default();
        for (info, bytes) in &packs {
            set.index(*info);
            self.put(&info.id.key(), bytes);
        }
        let state = of_state([("tree", digests)].into_iter());
        let last: Vec<PackRef> = packs.iter().map(|(info, _)| snapkit::located::pack_to_document(info)).collect();
        let now = Timestamp::now();
        Snapshot {
            public: Public {
                complete: true,
                trees: 1,
                entries,
                files,
                bytes,
                torn: 0,
                unreadable: 0,
                packs: Packs {
                    count: last.len() as u64,
                    bytes: last.iter().map(|pack| pack.bytes).sum(),
                    list: Vec::new(),
                    last,
                },
            },
            private: Private {
                started: now,
                finished: now,
                content_digest: Digest(state.content.0),
                full_digest: Digest(state.full.0),
                trees: vec![Tree {
                    name: "tree".into(),
                    path: "/forged".into(),
                    content_digest: Digest(digests.content.0),
                    full_digest: Digest(digests.full.0),
                    entries,
                    files,
                    bytes,
                    index: Located::new(&index, &set).to_document(),
                }],
            },
        }
    }

    /// Signs a payload with the writer's key and puts it into the next slot.
    pub fn put_record(&mut self, payload_type: &str, payload: &str) -> u64 {
        let bytes = envelope::sign(payload_type, payload.as_bytes(), &[&self.node]).unwrap();
        self.put_slot(&bytes)
    }

    /// Signs a payload as a snapshot and puts it into the next slot.
    pub fn put_snapshot(&mut self, payload: &str) -> u64 {
        self.put_record(snapshot::PAYLOAD_TYPE, payload)
    }

    /// Adds a snapshot of a content, with everything that is derived from it.
    pub fn commit(&mut self, content: Content) -> u64 {
        let payload = self.snapshot(content);
        let seq = self.put_snapshot(&payload);
        self.follow();
        assert_eq!(self.head.seq, seq, "the record itself is valid");
        self.hint();
        seq
    }

    /// Puts bytes into the next slot. What they are is not looked at before [`Forge::follow`].
    pub fn put_slot(&mut self, bytes: &[u8]) -> u64 {
        let seq = self.next_seq();
        self.replace_slot(seq, bytes);
        seq
    }

    /// Writes checkpoint and tile for the chain as far as it was followed.
    pub fn hint(&self) {
        self.put("checkpoint", format!("{} {}\n", self.head.seq, self.head.digest).as_bytes());
        let width = u16::try_from(self.leaves.len()).unwrap();
        assert!(width < 256, "the forge fills no tile");
        let hashes: Vec<u8> = self.leaves.iter().flat_map(|leaf| *leaf_hash(leaf).as_bytes()).collect();
        self.put(&Tile { level: 0, index: 0, width }.path(), &hashes);
    }
}

fn slot_key(seq: u64) -> String {
    format!("chain/{seq:020}.json")
}

/// An envelope whose payload is changed and signed anew as the same type.
pub fn resigned(bytes: &[u8], key: &SecretKey, change: impl FnOnce(String) -> String) -> Vec<u8> {
    let envelope: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let payload = decoded(envelope["payload"].as_str().unwrap());
    let changed = change(String::from_utf8(payload).unwrap());
    envelope::sign(envelope["payloadType"].as_str().unwrap(), changed.as_bytes(), &[key]).unwrap()
}

/// An envelope in which everything in base64 is written in the URL-safe alphabet.
pub fn widened(bytes: &[u8]) -> Vec<u8> {
    let mut envelope: serde_json::Value = serde_json::from_slice(bytes).unwrap();
    let safe = |text: &str| text.replace('+', "-").replace('/', "_");
    envelope["payload"] = safe(envelope["payload"].as_str().unwrap()).into();
    for signature in envelope["signatures"].as_array_mut().unwrap() {
        signature["sig"] = safe(signature["sig"].as_str().unwrap()).into();
    }
    serde_json::to_vec(&envelope).unwrap()
}

fn decoded(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
