//! The chain: the rules between neighbouring records, and which slots count as void.
//!
//! A slot is void unless its bytes are signed as the root asks and their payload names this chain and this
//! slot; whoever can write to the store but not sign can make nothing else. A record that is signed for
//! its slot but breaks a rule, contradicts what came before, or needs a newer snapkit is never void: the
//! reader stops and says why. Documented in `docs/format/record.md`. Layer: pure.

use jiff::Timestamp;

use crate::digest::Digest;
use crate::document::fence::FencePlace;
use crate::document::record::{
    self, Body, Claim, Header, LogState, Nonce, RECORD_CAP, Record, SegmentRef, VOIDS_CAP, Void, Writer, kind_of,
};
use crate::document::root::Root;
use crate::envelope::{self, Envelope, Signers, Verified};
use crate::json::Tree;
use crate::keys::{PublicKey, excerpt};
use crate::log::{EMPTY, Frontier};
use crate::refusal::{Class, Refusal};

/// The roles of which one may sign a record of a kind that this reader does not know.
pub const CHAIN_ROLES: &[&str] = &["drill", "manifest", "prune", "release", "root", "writer"];

/// What the next writer or reader needs from the last valid record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// The epoch of the record.
    pub epoch: u64,
    /// The slot of the fork that began it.
    pub fork: Option<u64>,
    /// Its slot.
    pub seq: u64,
    /// The digest of its payload.
    pub digest: Digest,
    /// Its term.
    pub term: u64,
    /// The fence that began it.
    pub fence: Option<FencePlace>,
    /// Its time.
    pub time: Timestamp,
    /// The log with this record: its size is `seq + 1`.
    pub log: Frontier,
    /// The segments from here on; unknown if reading began at a record that leaves them as before.
    pub segments: Option<Vec<SegmentRef>>,
}

impl Head {
    /// The header of the next record, after these void slots; `segments`, if they change, are to be set.
    ///
    /// # Errors
    /// [`Class::TooMany`] after 64 void slots, [`Class::Seq`] if they do not follow this record.
    pub fn next_header(
        &self,
        voids: &[Void],
        time: Timestamp,
        nonce: Nonce,
        writer: Writer,
    ) -> Result<Header, Refusal> {
        let log = self.log_after(voids)?;
        Ok(Header {
            chain: Some(self.chain),
            epoch: self.epoch,
            fork: self.fork,
            seq: log.size(),
            previous: Some(self.digest),
            term: self.term,
            fence: self.fence,
            log: LogState::from(&log),
            void: voids.to_vec(),
            ..Header::genesis(time, nonce, writer)
        })
    }

    /// The header of a fence that begins `term`, after these void slots.
    ///
    /// # Errors
    /// As [`Head::next_header`]; [`Class::Fenced`] unless the term is a new one.
    pub fn fence_header(
        &self,
        voids: &[Void],
        term: u64,
        time: Timestamp,
        nonce: Nonce,
        writer: Writer,
    ) -> Result<Header, Refusal> {
        if term <= self.term {
            return Err(Refusal::new(Class::Fenced, "new fence", format!("a term above {}", self.term), term));
        }
        let key = writer.key;
        let header = self.next_header(voids, time, nonce, writer)?;
        Ok(Header { term, fence: Some(FencePlace { seq: header.seq, key }), ..header })
    }

    /// The header of a fork in slot `seq` that keeps this record as its last one and begins `epoch`.
    ///
    /// # Errors
    /// [`Class::Seq`] unless the slot lies after this record, [`Class::Inconsistent`] unless the epoch is a new one.
    pub fn fork_header(
        &self,
        seq: u64,
        epoch: u64,
        time: Timestamp,
        nonce: Nonce,
        writer: Writer,
    ) -> Result<Header, Refusal> {
        if epoch <= self.epoch {
            let expected = format!("an epoch above {}", self.epoch);
            return Err(Refusal::new(Class::Inconsistent, "new fork", expected, epoch));
        }
        let log = self.log_up_to(seq)?;
        Ok(Header {
            chain: Some(self.chain),
            epoch,
            fork: Some(seq),
            seq,
            previous: Some(self.digest),
            term: self.term,
            fence: self.fence,
            log: LogState::from(&log),
            ..Header::genesis(time, nonce, writer)
        })
    }

    /// The log up to slot `seq`, in which every slot after this record counts for nothing.
    fn log_up_to(&self, seq: u64) -> Result<Frontier, Refusal> {
        if seq <= self.seq {
            let expected = format!("a slot after {}", self.seq);
            return Err(Refusal::new(Class::Seq, "fork", expected, seq));
        }
        let mut log = self.log.clone();
        (self.seq + 1..seq).for_each(|_| log.push(&EMPTY));
        Ok(log)
    }

    /// The log up to the next record: with this record and the void slots after it.
    fn log_after(&self, voids: &[Void]) -> Result<Frontier, Refusal> {
        let object = || format!("record {}", self.seq);
        if voids.len() > VOIDS_CAP {
            let found = "more; a flood like this is not an accident";
            return Err(Refusal::new(Class::TooMany, object(), "at most 64 void slots after it", found)
                .with_hint("have the owner of the store remove what is not a record"));
        }
        let mut log = self.log.clone();
        for void in voids {
            if void.seq != log.size() {
                let expected = format!("the void slot {}", log.size());
                return Err(Refusal::new(Class::Seq, object(), expected, void.seq));
            }
            log.push(&EMPTY);
        }
        Ok(log)
    }

    fn after(record: &Record, chain: Digest, mut log: Frontier, segments: Option<Vec<SegmentRef>>) -> Head {
        log.push(&record.digest);
        let Header { epoch, fork, seq, term, fence, time, .. } = record.header;
        Head { chain, epoch, fork, seq, digest: record.digest, term, fence, time, log, segments }
    }
}

/// Reads genesis from slot 0: signed by the role `root`, naming the pinned first root.
///
/// `root_one` is the digest of `root/1.json`, `root` the newest root.
///
/// # Errors
/// [`Class::Origin`] if it names another first root; else what [`next`] refuses.
pub fn first(bytes: &[u8], root_one: &Digest, root: &Root) -> Result<(Record, Head), Refusal> {
    let object = "record 0";
    let record = examine(bytes, None, 0, root).map_err(Verdict::refusal)?;
    let Body::Genesis(genesis) = &record.body else {
        return Err(Refusal::new(Class::Type, object, "a genesis record", record.body.kind()));
    };
    if genesis.root != *root_one {
        return Err(Refusal::new(Class::Origin, object, format!("first root sha256:{root_one}"), genesis.root));
    }
    let head = Head::after(&record, record.digest, Frontier::default(), Some(Vec::new()));
    Ok((record, head))
}

/// Reads the record that follows `head` and these void slots.
///
/// # Errors
/// What [`is_void`] calls void, as its refusal; [`Class::Mix`] if it follows another record,
/// [`Class::Inconsistent`] if its epoch, void slots or log are not those seen; [`Class::Fenced`] if it is not of the term
/// seen, or not signed by who began that; [`Class::Newer`] if
/// it needs a newer snapkit; [`Class::TooMany`] after more than 64 void slots.
pub fn next(head: &Head, voids: &[Void], bytes: &[u8], root: &Root) -> Result<(Record, Head), Refusal> {
    let log = head.log_after(voids)?;
    let record = examine(bytes, Some(head.chain), log.size(), root).map_err(Verdict::refusal)?;
    follow(head, voids, log, record)
}

/// Reads the fork in slot `seq`, which goes on after `keep`, whatever lies in the slots between.
///
/// # Errors
/// As [`next`]; [`Class::Type`] for another kind of record, [`Class::Mix`] for a fork that keeps another one.
pub fn fork(keep: &Head, seq: u64, bytes: &[u8], root: &Root) -> Result<(Record, Head), Refusal> {
    let record = examine(bytes, Some(keep.chain), seq, root).map_err(Verdict::refusal)?;
    follow_fork(keep, record)
}

/// Reads one more slot: a record, or a void slot that is added to `voids`.
///
/// This is the body of every loop over a chain. After a record, `voids` is empty.
///
/// # Errors
/// As [`next`], except for what makes the slot void.
pub fn step(head: &Head, voids: &mut Vec<Void>, bytes: &[u8], root: &Root) -> Result<Option<(Record, Head)>, Refusal> {
    let log = head.log_after(voids)?;
    match examine(bytes, Some(head.chain), log.size(), root) {
        Ok(record) => {
            let followed = follow(head, voids, log, record)?;
            voids.clear();
            Ok(Some(followed))
        }
        Err(Verdict::Void(_)) => {
            voids.push(Void { seq: log.size(), sha256: void_digest(bytes) });
            head.log_after(voids).map(|_| None)
        }
        Err(Verdict::Stop(refusal)) => Err(refusal),
    }
}

/// Reads a record in the middle of a chain by its signature alone.
///
/// Its own log gives the state to go on from. Nothing is known about the slots before it; its segments are
/// unknown if it leaves them as before.
///
/// # Errors
/// As [`next`], except for what contradicts the slots before it.
pub fn trusted(bytes: &[u8], chain: &Digest, seq: u64, root: &Root) -> Result<(Record, Head), Refusal> {
    let record = examine(bytes, Some(*chain), seq, root).map_err(Verdict::refusal)?;
    let LogState { size, frontier, .. } = &record.header.log;
    let log = Frontier::from_parts(*size, frontier.clone()).expect("the record's log was checked");
    let segments = if seq == 0 { Some(Vec::new()) } else { record.header.segments.clone() };
    let head = Head::after(&record, *chain, log, segments);
    Ok((record, head))
}

/// The chain and the slot that a record names itself, before anything of it is verified: only to verify it there.
///
/// # Errors
/// [`Class::Json`] for bytes that name none.
pub fn claimed_place(bytes: &[u8], object: &str) -> Result<(Digest, u64), Refusal> {
    let (_, payload) = envelope::unverified(bytes, RECORD_CAP, object)?;
    let tree = Tree::read(&payload, RECORD_CAP, object)?;
    let claim = Claim::of(&tree)
        .ok_or_else(|| Refusal::new(Class::Json, object, "the fields `chain` and `seq`", "none that are sound"))?;
    Ok((claim.chain.unwrap_or(Digest::sha256(&payload)), claim.seq))
}

/// Whether these bytes make slot `seq` of this chain void, and if so, the entry for the next record's list.
///
/// # Errors
/// The refusal of bytes that are signed for this slot and yet no record this reader can accept; among
/// them [`Class::Newer`]. Such a slot is not void.
pub fn is_void(bytes: &[u8], chain: &Digest, seq: u64, root: &Root) -> Result<Option<Void>, Refusal> {
    match examine(bytes, Some(*chain), seq, root) {
        Ok(_) => Ok(None),
        Err(Verdict::Void(_)) => Ok(Some(Void { seq, sha256: void_digest(bytes) })),
        Err(Verdict::Stop(refusal)) => Err(refusal),
    }
}

/// What names the bytes of a void slot: SHA-256 of them, or of the first [`RECORD_CAP`] + 1 if there are
/// more, so that nobody has to read a flood to its end.
pub fn void_digest(bytes: &[u8]) -> Digest {
    Digest::sha256(&bytes[..bytes.len().min(RECORD_CAP + 1)])
}

/// Why the bytes of a slot are no record.
enum Verdict {
    /// Nobody entitled signed them for this slot.
    Void(Refusal),
    /// Somebody entitled did, and they cannot be accepted.
    Stop(Refusal),
}

impl Verdict {
    fn refusal(self) -> Refusal {
        match self {
            Verdict::Void(refusal) | Verdict::Stop(refusal) => refusal,
        }
    }
}

/// Judges a slot by itself: docs/format/record.md, "Void slots", steps 1 to 4, then the record's own rules.
fn examine(bytes: &[u8], chain: Option<Digest>, seq: u64, root: &Root) -> Result<Record, Verdict> {
    let object = &format!("record {seq}");
    let (verified, tree) = authorised(bytes, chain, seq, root, object).map_err(Verdict::Void)?;
    let record = record::from_verified(&verified, tree, object).map_err(Verdict::Stop)?;
    // What the owner keeps by its digest was judged when its signers were known.
    if !record.signers.is_empty() {
        check_leadership(&record, root, object)?;
    }
    Ok(record)
}

/// docs/format/record.md, "fence": who begins a term needs a claim, and who writes in it the key that began it.
fn check_leadership(record: &Record, root: &Root, object: &str) -> Result<(), Verdict> {
    let header = &record.header;
    if let (Body::Fence(fence), Some(chain)) = (&record.body, &header.chain) {
        return match fence.verify(header, chain, root) {
            Ok(_) => Ok(()),
            // Nobody entitled claimed the lease: as if the fence itself were not signed.
            Err(refusal) if is_about_signers(refusal.class()) => Err(Verdict::Void(refusal)),
            Err(refusal) => Err(Verdict::Stop(refusal)),
        };
    }
    let Some(fence) = header.fence else { return Ok(()) };
    let led = record.signers.iter().any(|key| key.id() == fence.key);
    if led || !writes_as_leader(record.body.kind(), &record.signers, header.seq, root) {
        return Ok(());
    }
    let expected = format!("a signature of key {}, which began term {} in slot {}", fence.key, header.term, fence.seq);
    Err(Verdict::Stop(Refusal::new(Class::Fenced, object, expected, format!("one of key {}", header.writer.key))))
}

/// Whether a refusal says that nobody entitled signed.
fn is_about_signers(class: Class) -> bool {
    matches!(class, Class::SigMissing | Class::SigUntrusted | Class::Sig | Class::Role | Class::Threshold)
}

/// Whether nothing but the role writer entitles these signers to such a record: then they need to lead.
pub fn writes_as_leader(kind: &str, signers: &[PublicKey], seq: u64, root: &Root) -> bool {
    match kind {
        "genesis" | "fork" => false,
        "snapshot" | "image" | "fence" => true,
        _ => !roles_of(kind).0.iter().any(|role| *role != "writer" && meets(role, signers, seq, root)),
    }
}

/// Whether these signers reach the threshold of a role; writer keys count only in their range.
fn meets(role: &str, signers: &[PublicKey], seq: u64, root: &Root) -> bool {
    let Signers { allowed, threshold, .. } = root.signers(role);
    let valid = |key: &&PublicKey| allowed.contains(key) && (role != "writer" || root.writer_may_sign(key, seq));
    signers.iter().filter(valid).count() >= threshold.max(1) as usize
}

fn authorised(
    bytes: &[u8],
    chain: Option<Digest>,
    seq: u64,
    root: &Root,
    object: &str,
) -> Result<(Verified, Tree), Refusal> {
    let envelope = Envelope::decode(bytes, RECORD_CAP, object)?;
    let Some(kind) = kind_of(envelope.payload_type()).map(str::to_owned) else {
        return Err(Refusal::new(Class::Type, object, "a kind of record", excerpt(envelope.payload_type())));
    };
    // The digest does not cover the type, so the owner names both; anything else in the slot is judged as ever.
    let kept = root.kept(seq).filter(|kept| kept.kind == kind).and_then(|kept| envelope.pinned(&kept.sha256).ok());
    let verified = match kept {
        Some(verified) => verified,
        None => {
            let verified = envelope.verify(&signers_of(&kind, root), object)?;
            check_entitled(&kind, verified.signers(), seq, root, object)?;
            verified
        }
    };
    let tree = Tree::read(verified.payload(), RECORD_CAP, object)?;
    let claim = Claim::of(&tree)
        .ok_or_else(|| Refusal::new(Class::Json, object, "the fields `chain` and `seq`", "none that are sound"))?;
    if claim.seq != seq {
        return Err(Refusal::new(Class::Seq, object, format!("sequence number {seq}"), claim.seq));
    }
    // Genesis cannot name its own digest, and it is what the chain is named by.
    let named = claim.chain.unwrap_or(verified.digest());
    match chain {
        Some(chain) if named != chain => {
            Err(Refusal::new(Class::Origin, object, format!("a record of chain {chain}"), format!("one of {named}")))
        }
        _ => Ok((verified, tree)),
    }
}

/// The table of who may sign what: docs/format/envelope.md, "Payload types".
fn signers_of(kind: &str, root: &Root) -> Signers {
    match kind {
        // It names the first root, and the roots after it follow from that one.
        "genesis" => root.founders(),
        "fork" => root.signers("root"),
        "snapshot" | "image" | "fence" => root.signers("writer"),
        _ => {
            let (roles, name) = roles_of(kind);
            let mut any = Signers { name: name.into(), threshold: 1, ..root.signers("root") };
            any.allowed.clear();
            for role in roles {
                any.allowed.extend(root.signers(role).allowed);
            }
            any
        }
    }
}

/// The roles of which one may sign, where there is more than one.
fn roles_of(kind: &str) -> (&'static [&'static str], &'static str) {
    match kind {
        "rollback" => (&["manifest", "writer"], "one of the roles manifest and writer"),
        "drill" => (&["drill", "writer"], "one of the roles drill and writer"),
        _ => (CHAIN_ROLES, "a role of the chain"),
    }
}

/// Writer keys count only in their range; a record of an unknown kind needs the threshold of one role.
fn check_entitled(kind: &str, signers: &[PublicKey], seq: u64, root: &Root, object: &str) -> Result<(), Refusal> {
    let met = |role: &str| meets(role, signers, seq, root);
    let refuse = |class, expected: &str, found: &str| Err(Refusal::new(class, object, expected, found));
    match kind {
        // Their one role was asked for its threshold when the signatures were checked.
        "genesis" | "fork" => Ok(()),
        "snapshot" | "image" | "fence" if met("writer") => Ok(()),
        "snapshot" | "image" | "fence" => refuse(
            Class::Revoked,
            &format!("a writer key that is valid at sequence number {seq}"),
            "one outside of its range in the root",
        ),
        _ if roles_of(kind).0.iter().any(|role| met(role)) => Ok(()),
        _ => refuse(
            Class::Threshold,
            &format!("the threshold of {}", roles_of(kind).1),
            "fewer signatures or an expired writer key",
        ),
    }
}

/// Only a fence raises the term, nothing lowers it, and everything else stays in the term it was begun by.
fn check_term(head: &Head, record: &Record, object: &str) -> Result<(), Refusal> {
    let header = &record.header;
    let fits = match record.body {
        Body::Fence(_) => header.term > head.term,
        _ => (header.term, header.fence) == (head.term, head.fence),
    };
    if fits {
        return Ok(());
    }
    let said = |term: u64, fence: Option<FencePlace>| {
        let begun = fence.map_or(String::new(), |fence| format!(", begun in slot {} by key {}", fence.seq, fence.key));
        format!("term {term}{begun}")
    };
    let above = if matches!(record.body, Body::Fence(_)) { "a term above that of " } else { "" };
    let expected = format!("{above}{}", said(head.term, head.fence));
    // A record without the fence before it is that of a leader who was superseded, whatever it says of itself.
    let class = if header.term > head.term { Class::Inconsistent } else { Class::Fenced };
    Err(Refusal::new(class, object, expected, said(header.term, header.fence)))
}

/// Compares a record with what its reader saw before it.
fn follow(head: &Head, voids: &[Void], log: Frontier, record: Record) -> Result<(Record, Head), Refusal> {
    let object = format!("record {}", record.header.seq);
    let refuse = |class, expected: String, found: String| Err(Refusal::new(class, object.clone(), expected, found));
    let header = &record.header;
    if matches!(record.body, Body::Fork(_)) {
        return follow_fork(head, record);
    }
    if (header.epoch, header.fork) != (head.epoch, head.fork) {
        let said = |epoch: u64, fork: Option<u64>| {
            let begun = fork.map_or(String::new(), |slot| format!(", begun in slot {slot}"));
            format!("epoch {epoch}{begun}")
        };
        return refuse(Class::Inconsistent, said(head.epoch, head.fork), said(header.epoch, header.fork));
    }
    check_term(head, &record, &object)?;
    if header.void != voids {
        let list = |voids: &[Void]| match voids {
            [] => "none".to_owned(),
            _ => voids.iter().map(|void| format!("{} ({})", void.seq, void.sha256)).collect::<Vec<_>>().join(", "),
        };
        return refuse(Class::Inconsistent, format!("the void slots seen, {}", list(voids)), list(&header.void));
    }
    if header.previous != Some(head.digest) {
        let found = header.previous.map_or("none".to_owned(), |digest| digest.to_string());
        return refuse(Class::Mix, format!("record {} as its previous, {}", head.seq, head.digest), found);
    }
    if header.log != LogState::from(&log) {
        let expected = format!("log root {} over {} slots", log.root(), log.size());
        return refuse(Class::Inconsistent, expected, format!("{} over {}", header.log.root, header.log.size));
    }
    let segments = header.segments.clone().or_else(|| head.segments.clone());
    let next = Head::after(&record, head.chain, log, segments);
    Ok((record, next))
}

/// Compares a fork with the record that it keeps.
fn follow_fork(keep: &Head, record: Record) -> Result<(Record, Head), Refusal> {
    let header = &record.header;
    let object = format!("record {}", header.seq);
    let refuse = |class, expected: String, found: String| Err(Refusal::new(class, object.clone(), expected, found));
    let Body::Fork(fork) = &record.body else {
        return refuse(Class::Type, "a fork".into(), record.body.kind().into());
    };
    if (fork.keep.seq, fork.keep.digest) != (keep.seq, keep.digest) || header.previous != Some(keep.digest) {
        let expected = format!("a fork that keeps record {}, {}", keep.seq, keep.digest);
        return refuse(Class::Mix, expected, format!("one that keeps record {}, {}", fork.keep.seq, fork.keep.digest));
    }
    if header.epoch <= keep.epoch || (header.term, header.fence) != (keep.term, keep.fence) {
        let expected = format!("an epoch above {} and the term of the kept record, {}", keep.epoch, keep.term);
        return refuse(Class::Inconsistent, expected, format!("epoch {} and term {}", header.epoch, header.term));
    }
    let log = keep.log_up_to(header.seq)?;
    if header.log != LogState::from(&log) {
        let expected = format!("log root {} over {} slots", log.root(), log.size());
        return refuse(Class::Inconsistent, expected, format!("{} over {}", header.log.root, header.log.size));
    }
    let next = Head::after(&record, keep.chain, log, keep.segments.clone());
    Ok((record, next))
}

#[cfg(test)]
mod fence_tests;
#[cfg(test)]
mod fork_tests;
#[cfg(test)]
mod rotation_tests;
#[cfg(test)]
mod tests;
