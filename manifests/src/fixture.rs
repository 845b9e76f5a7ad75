//! A small chain with fixed keys, times and nonces, from which every test here starts.

use jiff::Timestamp;

use crate::chain::{self, Head};
use crate::digest::Digest;
use crate::document::archive::Archive;
use crate::document::fork::{self, Fork};
use crate::document::genesis::{self, Cutter, Genesis, Protection};
use crate::document::image::{ArchiveRecord, ImagePin};
use crate::document::lease::{self, ChainHead, Entry, Holder, Kind};
use crate::document::manifest::{Accepted, Manifest, SnapshotName};
use crate::document::needs::{Fingerprint, Needs, Salt, Secret};
use crate::document::pins::{self, Lease, Member, PinnedFile, PinnedTree, Pins};
use crate::document::receipt::{
    Counts, Digests, HeadName, Host, LeftOut, Receipt, RecordName, RestoredTree, State, Tool, Transfer,
};
use crate::document::record::{self, Body, Header, Nonce, Pointer, Record, Void, Writer};
use crate::document::root::{self, Root, RootDocument};
use crate::document::service::{Port, Probe, RoleArgs, Service};
use crate::document::snapshot::{self, ChunkRef, PackRef, Packs, Private, Public, Snapshot, Tree};
use crate::envelope::{self, Nested};
use crate::keys::{SecretKey, Signer};

/// The key of the seed that is 32 times this byte.
pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// Roles root and release.
pub(crate) fn owner() -> SecretKey {
    key(1)
}

/// All other roles.
pub(crate) fn node() -> SecretKey {
    key(2)
}

/// In no root.
pub(crate) fn stranger() -> SecretKey {
    key(9)
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn root_document() -> RootDocument {
    let (issued, expires) = (at("2026-11-20T12:00:00Z"), at("2027-11-20T12:00:00Z"));
    RootDocument::first(&owner().public(), &node().public(), issued, expires)
}

/// Signs text that need not be what a writer of this crate would write.
pub(crate) fn sign(payload_type: &str, payload: &str, keys: &[&SecretKey]) -> Vec<u8> {
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| *key as &dyn Signer).collect();
    envelope::sign(payload_type, payload.as_bytes(), &signers).unwrap()
}

pub(crate) fn root_payload() -> String {
    String::from_utf8(root_document().payload().unwrap()).unwrap()
}

pub(crate) fn root_bytes() -> Vec<u8> {
    sign(root::PAYLOAD_TYPE, &root_payload(), &[&owner()])
}

pub(crate) fn pin() -> Digest {
    Digest::sha256(root_payload().as_bytes())
}

pub(crate) fn root_one() -> Root {
    Root::parse_first(&root_bytes(), &pin()).unwrap()
}

pub(crate) fn writer(key: &SecretKey) -> Writer {
    Writer { key: key.public().id(), node: "node-a".into(), tool: "snapkit 0.1.0".into() }
}

pub(crate) fn genesis_body() -> Genesis {
    let cutter = Cutter { name: "fastcdc-2020".into(), min: 16384, average: 65536, max: 262144 };
    Genesis { root: pin(), cutter, protection: Protection::default() }
}

pub(crate) fn genesis_payload() -> String {
    let header = Header::genesis(at("2026-11-20T12:00:01Z"), Nonce([0; 16]), writer(&owner()));
    text(&header, &Body::Genesis(genesis_body()))
}

pub(crate) fn genesis_bytes() -> Vec<u8> {
    sign(genesis::PAYLOAD_TYPE, &genesis_payload(), &[&owner()])
}

pub(crate) fn first() -> (Record, Head) {
    chain::first(&genesis_bytes(), &pin(), &root_one()).unwrap()
}

fn name(text: &str) -> Digest {
    Digest::sha256(text.as_bytes())
}

fn chunk_ref(text: &str) -> ChunkRef {
    ChunkRef {
        chunk: name(text),
        bytes: 300,
        pack: name("pack"),
        pack_bytes: 5000,
        table_bytes: 200,
        frame: 1,
        offset: 40,
    }
}

fn tree(name_: &str) -> Tree {
    Tree {
        name: name_.into(),
        path: format!("/srv/{name_}"),
        content_digest: name("content"),
        full_digest: name("full"),
        entries: 3,
        files: 2,
        bytes: 700,
        index: chunk_ref(name_),
    }
}

pub(crate) fn snapshot_body() -> Snapshot {
    let last = vec![PackRef { id: name("pack"), bytes: 5000, table_bytes: 200 }];
    Snapshot {
        public: Public {
            complete: true,
            trees: 2,
            entries: 6,
            files: 4,
            bytes: 1400,
            torn: 0,
            unreadable: 0,
            packs: Packs { count: 2, bytes: 9000, list: vec![chunk_ref("list")], last },
        },
        private: Private {
            started: at("2026-11-20T12:00:02.5Z"),
            finished: at("2026-11-20T12:00:03Z"),
            content_digest: name("all content"),
            full_digest: name("all"),
            trees: vec![tree("config"), tree("state")],
        },
    }
}

/// An image of one layer with its archive.
pub(crate) fn archive_body() -> Archive {
    let mut state = snapshot_body();
    let tree = Tree { name: "image".into(), ..tree("image") };
    (state.public.trees, state.public.entries) = (1, tree.entries);
    (state.public.files, state.public.bytes) = (tree.files, tree.bytes);
    state.private.trees = vec![tree];
    let image = ImagePin {
        name: "app".into(),
        reference: "registry.example/app:prod".into(),
        platform: "linux/amd64".into(),
        index: None,
        manifest: Some(name("image manifest")),
        config: name("image config"),
        diff_ids: vec![name("layer")],
        archive: None,
    };
    Archive { image, state }
}

/// The payload of a fork in slot `seq` that keeps `head`, made by the owner.
pub(crate) fn fork_payload(head: &Head, seq: u64, epoch: u64) -> String {
    let time = at("2026-11-20T18:00:00Z") + jiff::SignedDuration::from_secs(60 * seq as i64);
    let header = head.fork_header(seq, epoch, time, Nonce([seq as u8; 16]), writer(&owner())).unwrap();
    let keep = Pointer { seq: head.seq, digest: head.digest };
    text(&header, &Body::Fork(Fork { keep, reason: "the key of node-a was stolen".into() }))
}

/// That fork, signed by the owner.
pub(crate) fn fork_bytes(head: &Head, seq: u64, epoch: u64) -> Vec<u8> {
    sign(fork::PAYLOAD_TYPE, &fork_payload(head, seq, epoch), &[&owner()])
}

/// The receipt of an exact restore of the snapshot in slot 1, by the node.
pub(crate) fn receipt() -> Receipt {
    let body = snapshot_body();
    let (_, head) = first();
    let digest = Digest::sha256(snapshot_payload(&head, &[]).as_bytes());
    let tree = |tree: &Tree| {
        let digests = Digests { content_digest: tree.content_digest, full_digest: tree.full_digest };
        RestoredTree {
            name: tree.name.clone(),
            path: format!("/restored/{}", tree.name),
            signed: digests,
            found: digests,
            entries: tree.entries,
            files: tree.files,
            bytes: tree.bytes,
        }
    };
    let trees: Vec<RestoredTree> = body.private.trees.iter().map(tree).collect();
    let all = of_state(&trees);
    Receipt {
        chain: head.chain,
        root: pin(),
        record: RecordName { seq: 1, epoch: 0, digest, name: format!("snap-2026112012-{}", &digest.to_string()[..8]) },
        head: HeadName { seq: 4, epoch: 0, digest: name("head"), time: at("2026-11-20T12:50:00Z") },
        exact: true,
        selection: None,
        changes: None,
        left_out: LeftOut { trees: 0, entries: 0 },
        restored: Counts { entries: body.public.entries, files: body.public.files, bytes: body.public.bytes },
        transfer: Transfer { fetched_bytes: 900, reused_bytes: 0 },
        state: State { signed: all, found: all },
        trees,
        proof: "written".into(),
        break_glass: None,
        started: at("2026-11-20T13:00:00Z"),
        finished: at("2026-11-20T13:00:01.5Z"),
        tool: Tool { name: "snapkit".into(), version: "0.1.0".into(), sha256: name("executable") },
        host: Host { name: "node-b".into(), machine: Some(name("machine")), kernel: "6.1.0".into() },
        node: node().public().id(),
        critical: None,
        ext: serde_json::Map::new(),
    }
}

/// docs/format/digests.md: what was found over all trees, so that the example holds for readers that compute it.
fn of_state(trees: &[RestoredTree]) -> Digests {
    let state = |digest: fn(&RestoredTree) -> Digest| {
        let mut hasher = blake3::Hasher::new();
        for tree in trees {
            hasher.update(&(tree.name.len() as u32).to_le_bytes()).update(tree.name.as_bytes()).update(&digest(tree).0);
        }
        Digest(*hasher.finalize().as_bytes())
    };
    Digests {
        content_digest: state(|tree| tree.found.content_digest),
        full_digest: state(|tree| tree.found.full_digest),
    }
}

/// Pins with one of everything.
pub(crate) fn pins() -> Pins {
    let probe = |kind: &str| Probe {
        kind: kind.into(),
        url: (kind == "http").then(|| "http://127.0.0.1:4317/healthz".into()),
        body: (kind == "http").then(|| "ok".into()),
        address: (kind == "tcp").then(|| "127.0.0.1:4317".into()),
        argv: (kind == "exec").then(|| vec!["/usr/bin/app-role".into()]),
        timeout_seconds: 5,
    };
    let role = |role: &str| RoleArgs { role: role.into(), args: vec![format!("--{role}")] };
    let file = |path: &str, policy: &str| PinnedFile { path: path.into(), policy: policy.into() };
    Pins {
        format: "0-draft".into(),
        chain: first().1.chain,
        name: "app".into(),
        version: 3,
        issued: at("2026-11-20T12:30:00Z"),
        expires: at("2027-11-20T12:00:00Z"),
        images: vec![ImagePin {
            name: "app".into(),
            reference: "registry.example/app:prod".into(),
            platform: "linux/amd64".into(),
            index: None,
            manifest: Some(name("manifest")),
            config: name("config"),
            diff_ids: vec![name("lower layer"), name("upper layer")],
            archive: Some(ArchiveRecord { seq: 1, digest: name("archive") }),
        }],
        service: Some(Service {
            driver: "process".into(),
            argv: Some(vec!["/usr/bin/app".into(), "--data".into(), "/srv/state".into()]),
            compose: None,
            unit: None,
            hooks: None,
            images: vec!["app".into()],
            roles: vec![role("follower"), role("leader")],
            ports: vec![Port { name: "api".into(), port: 4317, protocol: "tcp".into() }],
            user: Some("app".into()),
            health: Some(probe("http")),
            ready: Some(probe("tcp")),
            role: Some(probe("exec")),
            exclusive: vec!["bot-token".into()],
        }),
        trees: vec![
            PinnedTree {
                name: "config".into(),
                path: "/etc/app".into(),
                activation: "current".into(),
                files: vec![file("app.conf", "must-match"), file("cache/index", "ignore")],
            },
            PinnedTree {
                name: "state".into(),
                path: "/srv/state".into(),
                activation: "fixed".into(),
                files: vec![file("db", "may-advance")],
            },
        ],
        needs: Needs {
            environment: vec!["APP_REGION".into()],
            secrets: vec![Secret {
                name: "API_TOKEN".into(),
                from: "environment".into(),
                path: None,
                fingerprint: Some(Fingerprint { salt: Salt([7; 16]), scrypt: name("scrypt") }),
            }],
            free_bytes: Some(1 << 30),
            capabilities: vec!["docker".into()],
        },
        lease: Some(Lease {
            mode: "static".into(),
            back_end: "store".into(),
            store: None,
            group: "app".into(),
            ttl_seconds: 60,
            members: vec![Member { node: "node-a".into(), key: node().public().id() }],
        }),
        max_head_age_seconds: 86400,
        max_head_lag: Some(2),
        critical: None,
        ext: serde_json::Map::new(),
    }
}

/// The text of their payload.
pub(crate) fn pins_payload() -> String {
    String::from_utf8(pins().payload().unwrap()).unwrap()
}

/// The pins, signed by the owner.
pub(crate) fn pins_bytes() -> Vec<u8> {
    sign(pins::PAYLOAD_TYPE, &pins_payload(), &[&owner()])
}

/// A manifest of the chain with the snapshot in slot 1, embedding those pins.
pub(crate) fn manifest() -> Manifest {
    let (_, head) = first();
    let (record, _) = chain::next(&head, &[], &snapshot_bytes(&head, &[]), &root_one()).unwrap();
    let snapshot_name = format!("snap-2026112012-{}", &record.digest.to_string()[..8]);
    let snapshot = SnapshotName::of(&record, &snapshot_name).unwrap();
    Manifest {
        name: "app".into(),
        chain: head.chain,
        root: pin(),
        version: 7,
        issued: at("2026-11-20T13:00:00Z"),
        expires: at("2026-11-27T13:00:00Z"),
        stores: vec!["https://objects.example/app".into(), "../".into()],
        head: snapshot.place(),
        snapshot,
        accepted: vec![Accepted { what: "torn".into(), reason: "the log is always written".into() }],
        pins: Nested::read(&pins_bytes(), pins::PINS_CAP, "pins").unwrap(),
        key: node().public().id(),
        critical: None,
        ext: serde_json::Map::new(),
    }
}

/// The text of its payload.
pub(crate) fn manifest_payload() -> String {
    String::from_utf8(manifest().payload().unwrap()).unwrap()
}

/// The text of that receipt's payload.
pub(crate) fn receipt_payload() -> String {
    String::from_utf8(receipt().payload().unwrap()).unwrap()
}

pub(crate) fn text(header: &Header, body: &Body) -> String {
    String::from_utf8(record::payload(header, body).unwrap().1).unwrap()
}

/// The header of the record after `head` and these void slots, made by the node.
pub(crate) fn header_after(head: &Head, voids: &[Void]) -> Header {
    let seq = head.seq + 1 + voids.len() as u64;
    let time = at("2026-11-20T12:00:00Z") + jiff::SignedDuration::from_secs(60 * seq as i64);
    head.next_header(voids, time, Nonce([seq as u8; 16]), writer(&node())).unwrap()
}

/// The payload of a snapshot after `head` and these void slots.
pub(crate) fn snapshot_payload(head: &Head, voids: &[Void]) -> String {
    text(&header_after(head, voids), &Body::Snapshot(Box::new(snapshot_body())))
}

/// A snapshot after `head` and these void slots, signed by the node.
pub(crate) fn snapshot_bytes(head: &Head, voids: &[Void]) -> Vec<u8> {
    sign(snapshot::PAYLOAD_TYPE, &snapshot_payload(head, voids), &[&node()])
}

/// The same text with the one occurrence of `from` replaced.
pub(crate) fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` once in {text}");
    text.replace(from, to)
}

/// The first entry of the group's lease log: a claim of node-a.
pub(crate) fn lease_claim() -> Entry {
    let head = first().1;
    Entry {
        format: "0-draft".into(),
        chain: head.chain,
        group: "app".into(),
        seq: 1,
        term: 1,
        kind: Kind::Claim,
        previous: None,
        void: Vec::new(),
        holder: Holder {
            node: "node-a".into(),
            instance: Nonce([5; 16]),
            key: node().public().id(),
            writer: Some(node().public().id()),
            api: Some("http://127.0.0.1:8480".into()),
        },
        ttl_ms: Some(60_000),
        nonce: Nonce([1; 16]),
        head: ChainHead { epoch: 0, seq: 0, digest: head.digest, term: 0 },
        time: at("2026-11-20T13:00:00Z"),
        reason: None,
        critical: None,
        ext: serde_json::Map::new(),
    }
}

/// An entry of this kind by the same holder, after `last` and these void slots.
pub(crate) fn lease_after(last: &Entry, voids: &[Void], kind: Kind) -> Entry {
    let seq = last.seq + 1 + voids.len() as u64;
    Entry {
        seq,
        term: last.term + u64::from(kind == Kind::Claim),
        kind,
        previous: Some(Digest::sha256(&last.payload().unwrap())),
        void: voids.to_vec(),
        ttl_ms: (kind != Kind::Release).then_some(60_000),
        nonce: Nonce([seq as u8; 16]),
        ..last.clone()
    }
}

/// An entry, signed by the node without asking whether a reader would take it.
pub(crate) fn lease_bytes(entry: &Entry) -> Vec<u8> {
    sign(lease::PAYLOAD_TYPE, &serde_json::to_string(entry).unwrap(), &[&node()])
}
