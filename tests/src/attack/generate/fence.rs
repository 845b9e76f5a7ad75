//! Writers that do not lead: D07.

use manifests::document::fence::{self, Fence, FencePlace};
use manifests::document::lease::{self, ChainHead, Entry, Holder, Kind};
use manifests::document::record::{Body, Header, Nonce, Writer, payload};
use manifests::document::snapshot;
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;

use super::super::Content;
use super::{Making, Recipe};

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "d07-a-superseded-leader-goes-on-in-its-own-term", make: goes_on },
    Recipe { name: "d07-a-writer-from-before-the-first-leadership", make: from_before },
    Recipe { name: "d07-a-writer-that-did-not-sign-the-fence", make: another_writer },
    Recipe { name: "d07-a-term-that-no-fence-began", make: without_fence },
    Recipe { name: "d07-a-fence-with-a-claim-of-another-term", make: other_term },
    Recipe { name: "d07-a-fence-whose-claim-no-node-signed-counts-for-nothing", make: forged_claim },
];

fn evil() -> Content {
    let mut content = Content::new();
    content.file("file", b"evil\n");
    content
}

fn other() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

/// A claim of `term` that names `writer`, signed by `node`.
fn claim(making: &Making, term: u64, writer: &SecretKey, node: &SecretKey) -> Vec<u8> {
    let genesis = making.forge.digest_of(0);
    let key = node.public().id();
    let writer = Some(writer.public().id());
    let entry = Entry {
        format: manifests::document::FORMAT.into(),
        chain: genesis,
        group: "app".into(),
        seq: 1,
        term,
        kind: Kind::Claim,
        previous: None,
        void: Vec::new(),
        holder: Holder { node: "forge".into(), instance: Nonce([5; 16]), key, writer, api: None },
        ttl_ms: Some(60_000),
        nonce: Nonce([6; 16]),
        head: ChainHead { epoch: 0, seq: 0, digest: genesis, term: 0 },
        time: making.now(),
        reason: None,
        critical: None,
        ext: serde_json::Map::new(),
    };
    envelope::sign(lease::PAYLOAD_TYPE, &entry.payload().unwrap(), &[node]).unwrap()
}

/// The fence that `by` signs for this claim, whatever it is worth.
fn fence(making: &mut Making, term: u64, claim: &[u8], by: &SecretKey) -> Vec<u8> {
    let header = making.forge.header();
    let writer = Writer { key: by.public().id(), ..header.writer.clone() };
    let place = FencePlace { seq: header.seq, key: writer.key };
    let header = Header { term, fence: Some(place), writer, ..header };
    let (payload_type, payload) = payload(&header, &Body::Fence(Box::new(Fence::of(claim).unwrap()))).unwrap();
    assert_eq!(payload_type, fence::PAYLOAD_TYPE);
    envelope::sign(payload_type, &payload, &[by]).unwrap()
}

/// The writer of the forge leads from here on, in `term`.
fn lead(making: &mut Making, term: u64) {
    let node = SecretKey::parse(&making.forge.node.to_pem()).unwrap();
    let claim = claim(making, term, &node, &node);
    let bytes = fence(making, term, &claim, &node);
    making.forge.put_slot(&bytes);
    making.forge.follow();
    making.forge.hint();
}

/// A snapshot in the next slot, signed by `by`, with a header that was changed.
fn write(making: &mut Making, by: &SecretKey, change: impl FnOnce(&mut Header)) {
    let body = Body::Snapshot(Box::new(making.forge.store(evil())));
    let mut header = making.forge.header();
    header.writer.key = by.public().id();
    change(&mut header);
    let (payload_type, payload) = payload(&header, &body).unwrap();
    assert_eq!(payload_type, snapshot::PAYLOAD_TYPE);
    let bytes = envelope::sign(payload_type, &payload, &[by]).unwrap();
    making.forge.put_slot(&bytes);
}

fn node(making: &Making) -> SecretKey {
    SecretKey::parse(&making.forge.node.to_pem()).unwrap()
}

fn goes_on(making: &mut Making) {
    lead(making, 1);
    let old = making.forge.header();
    lead(making, 2);
    making.seen();
    let by = node(making);
    write(making, &by, |header| (header.term, header.fence) = (old.term, old.fence));
    making.refused(Class::Fenced, "record 4");
}

fn from_before(making: &mut Making) {
    lead(making, 1);
    making.seen();
    let by = node(making);
    write(making, &by, |header| (header.term, header.fence) = (0, None));
    making.refused(Class::Fenced, "record 3");
}

fn another_writer(making: &mut Making) {
    lead(making, 1);
    let owner = SecretKey::parse(&making.forge.owner.to_pem()).unwrap();
    let two = making.root(1, |root| root.add_writer(&other().public(), 0, None).unwrap(), &[&owner]);
    making.forge.put("root/2.json", &two);
    making.seen();
    write(making, &other(), |_| {});
    making.refused(Class::Fenced, "record 3");
}

fn without_fence(making: &mut Making) {
    making.seen();
    let by = node(making);
    let key = by.public().id();
    write(making, &by, |header| (header.term, header.fence) = (1, Some(FencePlace { seq: 1, key })));
    making.refused(Class::Inconsistent, "record 2");
}

fn other_term(making: &mut Making) {
    making.seen();
    let by = node(making);
    let claim = claim(making, 1, &by, &by);
    let bytes = fence(making, 9, &claim, &by);
    making.forge.put_slot(&bytes);
    making.refused(Class::Inconsistent, "record 2");
}

/// The store's slot is lost to it, and the chain goes on.
fn forged_claim(making: &mut Making) {
    making.seen();
    let by = node(making);
    let claim = claim(making, 1, &by, &other());
    let bytes = fence(making, 1, &claim, &by);
    making.forge.put_slot(&bytes);
}
