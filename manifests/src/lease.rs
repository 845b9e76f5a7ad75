//! The lease log: the rules between neighbouring entries, and which slots count as void.
//!
//! A slot is void unless its bytes are signed by a member of the group, name this chain, this group and this slot, and
//! follow the entries before; who can write to the store but not sign can make nothing else. The log decides who
//! leads, never what is in the chain: there a fence does. Documented in `docs/format/lease.md`. Layer: pure.

use crate::digest::Digest;
use crate::document::lease::{self, Entry, Kind, LEASE_CAP, VerifiedEntry};
use crate::document::pins::Member;
use crate::document::record::{VOIDS_CAP, Void};
use crate::document::root::Root;
use crate::json::Tree;
use crate::refusal::{Class, Refusal};

/// Whose word counts in a log.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The digest of the genesis payload.
    pub chain: &'a Digest,
    /// The name of the group.
    pub name: &'a str,
    /// The members, as in the pins.
    pub members: &'a [Member],
    /// The newest root: a member's key counts only while it has the role `node`.
    pub root: &'a Root,
}

impl Group<'_> {
    /// The store key of a slot.
    pub fn key(&self, seq: u64) -> String {
        key(self.name, seq)
    }
}

/// The store key of a slot of a group's log.
pub fn key(group: &str, seq: u64) -> String {
    format!("{}{seq:020}.json", prefix(group))
}

/// What all store keys of a group's log begin with.
pub fn prefix(group: &str) -> String {
    format!("lease/{group}/")
}

/// The slot that a store key of this group's log names.
pub fn slot_of(group: &str, key: &str) -> Option<u64> {
    let digits = key.strip_prefix(&prefix(group))?.strip_suffix(".json")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|seq| plain && *seq > 0)
}

/// How far a log has been read: the last valid entry and the void slots after it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Position {
    /// The last valid entry.
    pub last: Option<VerifiedEntry>,
    /// The void slots after it, or from 1.
    pub voids: Vec<Void>,
}

/// What stands in a slot, judged by itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Slot {
    /// An entry that a member signed for it, and what names the slot should it turn out to be void.
    Entry(Box<VerifiedEntry>, Void),
    /// Nothing that a member signed for it, and why.
    Void(Void, Refusal),
}

/// Judges the bytes of a slot by themselves; [`Position::accept`] and [`Position::pass`] judge them beside their neighbours.
///
/// # Errors
/// What a member signed for this slot and what this reader cannot accept.
pub fn read(bytes: &[u8], seq: u64, group: &Group<'_>) -> Result<Slot, Refusal> {
    match examine(bytes, seq, group) {
        Ok(read) => Ok(Slot::Entry(Box::new(read), Void { seq, sha256: void_digest(bytes) })),
        Err(Verdict::Void(why)) => Ok(Slot::Void(Void { seq, sha256: void_digest(bytes) }, why)),
        Err(Verdict::Stop(refusal)) => Err(refusal),
    }
}

/// What one slot held.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// An entry; it is the last one now.
    Entry,
    /// Nothing that a member signed for it, and why.
    Void(Refusal),
}

impl Position {
    /// The slot of the next entry.
    pub fn next_seq(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.entry.seq) + self.voids.len() as u64 + 1
    }

    /// The highest term that was claimed; 0 without an entry.
    pub fn term(&self) -> u64 {
        self.last.as_ref().map_or(0, |last| last.entry.term)
    }

    /// Reads the next slot and goes past it.
    ///
    /// # Errors
    /// [`Class::Lease`] and the like for what a member signed for this slot and what is no sound entry; [`Class::Newer`] for
    /// what needs a newer snapkit; [`Class::TooMany`] after 64 void slots. The position is unchanged.
    pub fn step(&mut self, bytes: &[u8], group: &Group<'_>) -> Result<Step, Refusal> {
        match read(bytes, self.next_seq(), group)? {
            Slot::Entry(entry, void) => match self.accept(*entry) {
                Ok(()) => Ok(Step::Entry),
                // Sent when the log was another one: it says nothing here, and must not end the log.
                Err(why) => self.pass(void).map(|()| Step::Void(why)),
            },
            Slot::Void(void, why) => self.pass(void).map(|()| Step::Void(why)),
        }
    }

    /// Goes past the entry of the next slot, which was read from verified bytes.
    ///
    /// # Errors
    /// [`Class::Inconsistent`] for one that does not follow. The position is unchanged.
    pub fn accept(&mut self, read: VerifiedEntry) -> Result<(), Refusal> {
        self.check_follows(&read.entry, &key(&read.entry.group, self.next_seq()))?;
        *self = Position { last: Some(read), voids: Vec::new() };
        Ok(())
    }

    /// Goes past the next slot, which is void.
    ///
    /// # Errors
    /// [`Class::TooMany`] after 64 of them.
    pub fn pass(&mut self, void: Void) -> Result<(), Refusal> {
        let object = format!("slot {} of the lease log", void.seq);
        if void.seq != self.next_seq() {
            return Err(Refusal::new(Class::Seq, object, format!("slot {}", self.next_seq()), void.seq));
        }
        if self.voids.len() == VOIDS_CAP {
            let found = "more; a flood like this is not an accident";
            return Err(Refusal::new(Class::TooMany, object, "at most 64 void slots in a row", found)
                .with_hint("find out who writes to the store; pins with another lease group begin a new log"));
        }
        self.voids.push(void);
        Ok(())
    }

    /// docs/format/lease.md, "Between neighbours".
    fn check_follows(&self, entry: &Entry, object: &str) -> Result<(), Refusal> {
        let refuse = |expected: String, found: String| Err(Refusal::new(Class::Inconsistent, object, expected, found));
        if entry.seq != self.next_seq() {
            return refuse(format!("slot {}", self.next_seq()), format!("slot {}", entry.seq));
        }
        let previous = self.last.as_ref().map(|last| last.digest);
        if entry.previous != previous || entry.void != self.voids {
            let name = |digest: Option<Digest>| digest.map_or("no entry".into(), |digest| format!("entry {digest}"));
            return refuse(
                format!("to follow {} and {} void slots", name(previous), self.voids.len()),
                format!("{} and {}", name(entry.previous), entry.void.len()),
            );
        }
        if entry.kind == Kind::Claim {
            let expected = self.term().max(entry.head.term) + 1;
            return if entry.term == expected {
                Ok(())
            } else {
                refuse(format!("a claim of term {expected}"), format!("term {}", entry.term))
            };
        }
        let Some(VerifiedEntry { entry: last, .. }) = &self.last else {
            return refuse("a claim as the first entry".into(), entry.kind.word().into());
        };
        if last.kind == Kind::Release {
            return refuse("a claim after a release".into(), entry.kind.word().into());
        }
        if entry.term != last.term || !entry.same_holder(last) {
            return refuse(
                format!("term {} of {}, who claimed it", last.term, last.holder.node),
                format!("term {} of {}", entry.term, entry.holder.node),
            );
        }
        Ok(())
    }
}

/// What names the bytes of a void slot: SHA-256 of them, or of the first [`LEASE_CAP`] + 1 if there are more.
pub fn void_digest(bytes: &[u8]) -> Digest {
    Digest::sha256(&bytes[..bytes.len().min(LEASE_CAP + 1)])
}

/// Why the bytes of a slot are no entry.
enum Verdict {
    /// No member signed them for this slot.
    Void(Refusal),
    /// A member did, and they cannot be accepted.
    Stop(Refusal),
}

/// Judges a slot by itself: docs/format/lease.md, "Void slots", then the entry's own rules.
fn examine(bytes: &[u8], seq: u64, group: &Group<'_>) -> Result<VerifiedEntry, Verdict> {
    let object = &group.key(seq);
    let (verified, tree) = authorised(bytes, seq, group, object).map_err(Verdict::Void)?;
    let entry = lease::from_verified(&verified, tree, object).map_err(Verdict::Stop)?;
    // Only the holder that is also the member may speak for the node.
    if !group.members.iter().any(|member| member.node == entry.holder.node && member.key == entry.holder.key) {
        let found = format!("node {} with key {}", entry.holder.node, entry.holder.key);
        return Err(Verdict::Void(Refusal::new(Class::Role, object, "a member of the group as holder", found)));
    }
    Ok(VerifiedEntry { digest: verified.digest(), entry })
}

fn authorised(
    bytes: &[u8],
    seq: u64,
    group: &Group<'_>,
    object: &str,
) -> Result<(crate::envelope::Verified, Tree), Refusal> {
    let verified = lease::verified(bytes, group.root, object)?;
    let is_member = |key: &crate::keys::PublicKey| group.members.iter().any(|member| member.key == key.id());
    if !verified.signers().iter().any(is_member) {
        return Err(Refusal::new(Class::Role, object, "a signature by a member of the group", "one by another node"));
    }
    let tree = Tree::read(verified.payload(), LEASE_CAP, object)?;
    let text = |field: &str| match tree.get(field) {
        Some(Tree::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    if text("chain") != Some(group.chain.to_string().as_str()) || text("group") != Some(group.name) {
        let expected = format!("an entry of group {} and chain {}", group.name, group.chain);
        return Err(Refusal::new(Class::Origin, object, expected, "one of another"));
    }
    match tree.get("seq") {
        Some(Tree::Positive(found)) if *found == seq => Ok((verified, tree)),
        Some(Tree::Positive(found)) => Err(Refusal::new(Class::Seq, object, format!("slot {seq}"), found)),
        _ => Err(Refusal::new(Class::Json, object, "the field `seq`", "none that is sound")),
    }
}

#[cfg(test)]
mod tests;
