//! The signed documents of a bundle: roots, manifest, records, lease entries and receipts, each verified from the pin.
//!
//! What a bundle does not hold is absent; what it holds and what does not verify is a problem, named with its file.
//! Layer: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::lease::VerifiedEntry;
use manifests::document::manifest::{Manifest, VerifiedManifest};
use manifests::document::pins::VerifiedPins;
use manifests::document::receipt::{Authority, Receipt};
use manifests::document::record::{Body, Record};
use manifests::document::root::Root;
use manifests::lease::{self, Group, Position, Slot, Step};
use manifests::refusal::{Class, Refusal};

use super::files::Files;

/// What the documents of a bundle say.
#[derive(Debug, Default)]
pub(super) struct Documents {
    /// The newest root of the bundle.
    pub root: Option<Root>,
    /// The manifest, with its pins.
    pub manifest: Option<(VerifiedManifest, VerifiedPins)>,
    /// The records, in order, and the last head.
    pub records: Vec<Record>,
    pub head: Option<Head>,
    /// The lease entries, in order.
    pub lease: Vec<VerifiedEntry>,
    /// The receipts by the node of their file name.
    pub receipts: BTreeMap<String, Receipt>,
    /// What did not verify: the file and why.
    pub problems: Vec<(String, String)>,
}

impl Documents {
    /// Reads and verifies what there is under the first root `pin`, of the chain `chain` and the lease group `group`.
    pub(super) fn read(files: &Files, pin: &Digest, chain: &Digest, group: &str) -> Documents {
        let mut found = Documents::default();
        match roots(files, pin) {
            Ok(root) => found.root = root,
            Err(refusal) => found.problem("chain/root", refusal),
        }
        let Some(root) = found.root.clone() else {
            return found;
        };
        if let Some(bytes) = files.get("chain/manifest.json") {
            let object = "chain/manifest.json";
            let read = Manifest::verify(bytes, &root, pin, Some(chain), None, object)
                .and_then(|manifest| manifest.pins(&root, object).map(|pins| (manifest, pins)));
            match read {
                Ok(read) => found.manifest = Some(read),
                Err(refusal) => found.problem(object, refusal),
            }
        }
        found.read_records(files, chain, &root);
        found.read_lease(files, chain, group, &root);
        for (file, bytes) in files.below("restore", ".receipt.json") {
            let node = file.trim_start_matches("restore/").trim_end_matches(".receipt.json").to_owned();
            let authority = Authority::Root { root: &root, pin: *pin, chain: Some(*chain) };
            match Receipt::verify(bytes, &authority, file) {
                Ok(read) => drop(found.receipts.insert(node, read.receipt)),
                Err(refusal) => found.problem(file, refusal),
            }
        }
        found
    }

    fn problem(&mut self, file: &str, why: Refusal) {
        self.problems.push((file.to_owned(), why.to_string()));
    }

    fn read_records(&mut self, files: &Files, chain: &Digest, root: &Root) {
        let mut voids = Vec::new();
        for (seq, file, bytes) in slots(files, "chain") {
            let read = match &self.head {
                // The first one is believed by its signature and its number; it says what state to go on from.
                None => chain::trusted(bytes, chain, seq, root).map(Some),
                Some(head) if head.seq + voids.len() as u64 + 1 != seq => {
                    let expected = format!("record {} next", head.seq + voids.len() as u64 + 1);
                    Err(Refusal::new(Class::Missing, file, expected, format!("record {seq}")))
                }
                Some(head) => chain::step(head, &mut voids, bytes, root),
            };
            match read {
                Ok(None) => {}
                Ok(Some((record, head))) => {
                    self.records.push(record);
                    self.head = Some(head);
                }
                Err(refusal) => return self.problem(file, refusal),
            }
        }
    }

    fn read_lease(&mut self, files: &Files, chain: &Digest, group: &str, root: &Root) {
        let members = match &self.manifest {
            Some((_, pins)) => pins.pins.lease.as_ref().map(|lease| lease.members.clone()).unwrap_or_default(),
            None => return,
        };
        let group = Group { chain, name: group, members: &members, root };
        let mut position: Option<Position> = None;
        for (seq, file, bytes) in slots(files, "lease") {
            let entry = match &mut position {
                None => match lease::read(bytes, seq, &group) {
                    Ok(Slot::Entry(entry, _)) => {
                        position = Some(Position { last: Some((*entry).clone()), voids: Vec::new() });
                        Ok(Some(*entry))
                    }
                    Ok(Slot::Void(_, why)) | Err(why) => Err(why),
                },
                Some(position) if position.next_seq() != seq => {
                    let expected = format!("entry {} next", position.next_seq());
                    Err(Refusal::new(Class::Missing, file, expected, format!("entry {seq}")))
                }
                Some(position) => position.step(bytes, &group).map(|step| match step {
                    Step::Entry => position.last.clone(),
                    Step::Void(_) => None,
                }),
            };
            match entry {
                Ok(entry) => self.lease.extend(entry),
                Err(refusal) => return self.problem(file, refusal),
            }
        }
    }

    /// The record with this digest, if it is a snapshot of the bundle.
    pub(super) fn snapshot(&self, digest: &Digest) -> Option<&Record> {
        self.records.iter().find(|record| record.digest == *digest && matches!(record.body, Body::Snapshot(_)))
    }

    /// The newest complete snapshot that was captured up to `time`: of the records, or the one that the manifest names.
    pub(super) fn captured_by(&self, time: Timestamp) -> Option<Timestamp> {
        let of_record = |record: &Record| match &record.body {
            Body::Snapshot(snapshot) if snapshot.public.complete => Some(snapshot.private.started),
            _ => None,
        };
        let named = self.manifest.iter().map(|(manifest, _)| manifest.manifest.snapshot.captured);
        self.records
            .iter()
            .filter(|record| record.header.time <= time)
            .filter_map(of_record)
            .chain(named)
            .filter(|captured| *captured <= time)
            .max()
    }
}

/// The newest root of the bundle, from the pinned one on; nothing if there is none.
fn roots(files: &Files, pin: &Digest) -> Result<Option<Root>, Refusal> {
    let Some(first) = files.get("chain/root/1.json") else {
        return Ok(None);
    };
    let mut root = Root::parse_first(first, pin)?;
    while let Some(bytes) = files.get(&format!("chain/root/{}.json", root.version() + 1)) {
        root = root.parse_next(bytes)?;
    }
    Ok(Some(root))
}

/// The numbered files of a directory, in order.
fn slots<'f>(files: &'f Files, directory: &str) -> Vec<(u64, &'f str, &'f [u8])> {
    let prefix = format!("{directory}/");
    let number = |name: &str| {
        let digits = name.strip_prefix(&prefix)?.strip_suffix(".json")?;
        (digits.len() == 20).then(|| digits.parse().ok()).flatten()
    };
    files.below(directory, ".json").filter_map(|(name, bytes)| Some((number(name)?, name, bytes))).collect()
}
