//! The lease log as a store keeps it, without bytes: what is in a slot was decoded already.

use std::collections::BTreeMap;

use bootstrap::lease::machine::{Answer, Request};
use manifests::digest::Digest;
use manifests::document::lease::{Entry, Kind, VerifiedEntry};
use manifests::document::record::Void;
use manifests::lease::Slot;
use manifests::refusal::{Class, Refusal};

/// The newest slots are never collected: more than can be void in a history, as 1000 is more than the 64 that may be.
const KEPT: u64 = 8;

struct Cell {
    /// `None` for what nobody signed.
    entry: Option<VerifiedEntry>,
    born: u64,
}

#[derive(Default)]
pub(crate) struct LogStore {
    slots: BTreeMap<u64, Cell>,
}

/// A digest that is as good as one for entries that differ in their nonce.
fn digest_of(entry: &Entry) -> Digest {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&entry.nonce.0);
    bytes[16..24].copy_from_slice(&entry.seq.to_le_bytes());
    Digest(bytes)
}

/// What names garbage: when it was written.
fn digest_at(born: u64) -> Digest {
    let mut bytes = [0xff; 32];
    bytes[..8].copy_from_slice(&born.to_le_bytes());
    Digest(bytes)
}

impl LogStore {
    /// Carries out a request.
    pub(crate) fn serve(&mut self, request: &Request, now: u64) -> Answer {
        match request {
            Request::List { after } => Answer::Highest(self.highest().filter(|highest| highest > after)),
            Request::Get { seq } => match self.slots.get(seq) {
                None => Answer::Missing,
                Some(cell) => {
                    let void = Void { seq: *seq, sha256: digest_at(cell.born) };
                    let why = || Refusal::new(Class::Json, "slot", "an entry", "garbage");
                    Answer::Slot(Box::new(match &cell.entry {
                        Some(entry) => Slot::Entry(Box::new(entry.clone()), void),
                        None => Slot::Void(void, why()),
                    }))
                }
            },
            Request::Create { entry } => {
                if self.slots.contains_key(&entry.seq) {
                    return Answer::Exists;
                }
                let digest = digest_of(entry);
                let read = VerifiedEntry { entry: (**entry).clone(), digest };
                self.slots.insert(entry.seq, Cell { entry: Some(read), born: now });
                Answer::Created(digest)
            }
        }
    }

    pub(crate) fn highest(&self) -> Option<u64> {
        self.slots.keys().next_back().copied()
    }

    /// Who stands at the end of the log, and whether that one gave the lease back.
    pub(crate) fn holder(&self) -> Option<(&str, bool)> {
        let newest = self.slots.values().rev().find_map(|cell| cell.entry.as_ref())?;
        Some((&newest.entry.holder.node, newest.entry.kind == Kind::Release))
    }

    /// Somebody without a key writes into the next slot.
    pub(crate) fn litter(&mut self, now: u64) {
        let next = self.highest().unwrap_or(0) + 1;
        self.slots.insert(next, Cell { entry: None, born: now });
    }

    /// The newest file is empty after a power failure. Whether it was a claim: then its term may be claimed again, and the
    /// first fence decides.
    pub(crate) fn tear(&mut self) -> bool {
        let torn = self.slots.last_entry().and_then(|mut newest| newest.get_mut().entry.take());
        torn.is_some_and(|torn| torn.entry.kind == Kind::Claim)
    }

    /// Somebody deletes the whole log.
    pub(crate) fn empty(&mut self) {
        self.slots.clear();
    }

    /// Rule 9. Returns how many were collected.
    pub(crate) fn collect(&mut self, now: u64, age: u64) -> u64 {
        let highest = self.highest().unwrap_or(0);
        let before = self.slots.len();
        self.slots.retain(|seq, cell| *seq + KEPT > highest || now - cell.born < age);
        (before - self.slots.len()) as u64
    }
}
