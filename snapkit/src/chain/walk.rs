//! Walks over many records: backwards for people, forwards for `verify`.
//!
//! Backwards, each record is the one that its successor names. Forwards, every slot is checked from genesis on, and
//! problems are collected: after a hole or a damaged record the walk goes on with the next record that its signature
//! proves. Layer: part of `chain`.

use std::ops::ControlFlow;

use bytes::Bytes;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::record::{Body, Record, Void};
use manifests::document::root::{ROOT_CAP, Root};
use manifests::log::{EMPTY, TILE_WIDTH, Tile};
use manifests::refusal::{Class, Refusal};

use super::edge::{self, Edge, Filled};
use super::head::parse_checkpoint;
use super::{CHECKPOINT_KEY, Chain, ChainError, FORMAT_KEY, FORMAT_LINE, LINE_CAP, Newest, previous_seq, slots};
use crate::store::StoreError;

/// What a walk does about tiles, checkpoint and format that are missing or wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TilePolicy {
    /// It names them.
    Check,
    /// It names them and writes them again.
    Heal,
}

/// Something that is wrong in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub refusal: Refusal,
    /// Whether it follows from the records and can be written again; no snapshot needs it.
    pub derived: bool,
    /// Whether the walk wrote it again.
    pub healed: bool,
}

/// What a walk over a whole chain saw.
#[derive(Debug, Default)]
pub struct Walk {
    /// Valid records, with genesis.
    pub records: u64,
    /// Snapshots among them.
    pub snapshots: u64,
    /// Void slots that records name.
    pub voids: u64,
    /// Forks of the owner.
    pub forks: u64,
    /// Slots that they left behind; what is in them was not looked at.
    pub left_behind: u64,
    /// Bytes of all slots.
    pub bytes: u64,
    /// What is wrong, in the order of the chain.
    pub problems: Vec<Problem>,
}

impl<'a> Chain<'a> {
    /// The records from `newest` back to genesis, one request each but for the first.
    pub fn walk_back(&'a self, newest: &Record) -> impl Iterator<Item = Result<Record, ChainError>> + 'a {
        let mut later: Option<Record> = None;
        let mut first = Some(newest.clone());
        let mut over = false;
        std::iter::from_fn(move || {
            if over {
                return None;
            }
            let read = match (first.take(), &later) {
                (Some(record), _) => Ok(record),
                (None, Some(later)) => {
                    let seq = previous_seq(later)?;
                    self.preceding(later, seq)
                }
                (None, None) => return None,
            };
            over = read.is_err();
            later = read.as_ref().ok().cloned();
            Some(read)
        })
    }

    /// Checks every slot from genesis to `newest`, and what is derived from them; `visit` sees each valid record.
    ///
    /// When `visit` breaks, the walk ends and says what it saw until then.
    ///
    /// # Errors
    /// Only a store that cannot be asked. What is wrong in the chain is in [`Walk::problems`].
    pub fn walk_all(
        &self,
        newest: &Newest,
        policy: TilePolicy,
        visit: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<Walk, ChainError> {
        let mut walker = Walker::new(self, policy)?;
        for range in self.lineage(newest)?.ranges(newest.head.seq) {
            let (mut from, last) = range.into_inner();
            walker.pass_over(from)?;
            while from <= last {
                let to = self.batch_end(from, last);
                for (seq, bytes) in self.read_slots(from, to)? {
                    if let Some(record) = walker.slot(seq, bytes)? {
                        walker.count(&record);
                        if visit(&record).is_break() {
                            return Ok(walker.walk);
                        }
                    }
                }
                from = to + 1;
            }
        }
        walker.end(newest)
    }
}

/// The state of a walk from genesis on.
struct Walker<'a> {
    chain: &'a Chain<'a>,
    policy: TilePolicy,
    walk: Walk,
    /// After the last record; unknown before the first one and after a hole.
    head: Option<Head>,
    /// The void slots since.
    voids: Vec<Void>,
    /// Why each of them is no record: what to say when it turns out that there was one.
    doubts: Vec<(u64, Refusal)>,
    /// The tiles so far; lost after a slot whose leaf is unknown.
    edge: Option<Edge>,
    checkpoint: Option<(u64, Digest)>,
    /// So many slots have all their tiles, as the checkpoint says; without one, all.
    tiled: u64,
    /// The first slot that was not walked or passed over.
    next: u64,
    /// The slot of the fork with which this range of slots begins.
    fork: Option<u64>,
}

impl<'a> Walker<'a> {
    fn new(chain: &'a Chain<'a>, policy: TilePolicy) -> Result<Self, ChainError> {
        let mut walker = Walker {
            chain,
            policy,
            walk: Walk::default(),
            head: None,
            voids: Vec::new(),
            doubts: Vec::new(),
            edge: Some(Edge::default()),
            checkpoint: None,
            tiled: u64::MAX,
            next: 0,
            fork: None,
        };
        walker.check_format()?;
        walker.check_roots()?;
        walker.read_checkpoint()?;
        Ok(walker)
    }

    /// Goes over the slots that the fork in slot `to` left behind; nothing to do before the first range.
    fn pass_over(&mut self, to: u64) -> Result<(), ChainError> {
        if to == 0 {
            return Ok(());
        }
        let slots = to - self.next;
        self.walk.forks += 1;
        self.walk.left_behind += slots;
        self.fork = Some(to);
        // Void slots after the kept record are left behind with the rest.
        self.voids.clear();
        self.doubts.clear();
        let mut filled = Vec::new();
        if let Some(edge) = &mut self.edge {
            (0..slots).for_each(|_| filled.extend(edge.push(&EMPTY)));
        }
        filled.into_iter().try_for_each(|tile| self.check_tile(&tile))
    }

    /// Judges one slot; gives its record if it has a valid one.
    fn slot(&mut self, seq: u64, bytes: Option<Bytes>) -> Result<Option<Record>, ChainError> {
        let Chain { pin, root, id, .. } = self.chain;
        self.next = seq + 1;
        let Some(bytes) = bytes else {
            self.lose(Refusal::new(Class::Missing, slots::key(seq), "a record", "no such object"));
            return Ok(None);
        };
        self.walk.bytes += bytes.len() as u64;
        let stepped = match (&self.head, seq) {
            (_, 0) => chain::first(&bytes, &pin.root, root).map(Some),
            (Some(head), _) if self.fork == Some(seq) => chain::fork(head, seq, &bytes, root).map(Some),
            (Some(head), _) => chain::step(head, &mut self.voids, &bytes, root),
            (None, _) => Ok(None),
        };
        match stepped {
            Ok(Some((record, head))) => {
                let voids = self.doubts.len();
                self.doubts.clear();
                self.go_on(&record, head, voids)?;
                Ok(Some(record))
            }
            // Without a place to come from, or void: the record's own signature decides.
            Ok(None) => match chain::trusted(&bytes, id, seq, root) {
                Ok((record, head)) => self.resume(record, head, None),
                Err(refusal) => {
                    self.doubts.push((seq, refusal.named(slots::key(seq))));
                    Ok(None)
                }
            },
            Err(refusal) => match chain::trusted(&bytes, id, seq, root) {
                Ok((record, head)) => self.resume(record, head, Some(refusal)),
                Err(refusal) => {
                    self.lose(refusal.named(slots::key(seq)));
                    Ok(None)
                }
            },
        }
    }

    /// Goes on at a record that does not follow from what was seen before it.
    fn resume(&mut self, record: Record, head: Head, refusal: Option<Refusal>) -> Result<Option<Record>, ChainError> {
        // The record knows which slots were void when it was made; the others held records then.
        let was_void = |seq: u64| record.header.void.iter().any(|void| void.seq == seq);
        let damaged: Vec<Refusal> =
            self.doubts.drain(..).filter(|(seq, _)| !was_void(*seq)).map(|(_, refusal)| refusal).collect();
        if damaged.is_empty() {
            refusal.into_iter().for_each(|refusal| self.walk.problems.push(Problem::of_record(refusal)));
        }
        self.walk.problems.extend(damaged.into_iter().map(Problem::of_record));
        self.edge = None;
        self.walk.voids += record.header.void.len() as u64;
        self.voids.clear();
        self.head = Some(head);
        Ok(Some(record))
    }

    /// A slot whose record is gone.
    fn lose(&mut self, refusal: Refusal) {
        self.walk.problems.push(Problem::of_record(refusal));
        self.head = None;
        self.edge = None;
        self.voids.clear();
    }

    fn go_on(&mut self, record: &Record, head: Head, voids: usize) -> Result<(), ChainError> {
        self.walk.voids += voids as u64;
        self.head = Some(head);
        let mut filled = Vec::new();
        if let Some(edge) = &mut self.edge {
            (0..voids).for_each(|_| filled.extend(edge.push(&EMPTY)));
            filled.extend(edge.push(&record.digest));
        }
        filled.into_iter().try_for_each(|tile| self.check_tile(&tile))
    }

    fn count(&mut self, record: &Record) {
        self.walk.records += 1;
        self.walk.snapshots += u64::from(matches!(record.body, Body::Snapshot(_)));
        if let Some((seq, digest)) = self.checkpoint
            && seq == record.header.seq
        {
            self.checkpoint = None;
            if digest != record.digest {
                let expected = format!("the digest {} of record {seq}", record.digest);
                self.hint_problem(Refusal::new(Class::Inconsistent, CHECKPOINT_KEY, expected, digest));
            }
        }
    }

    fn end(mut self, newest: &Newest) -> Result<Walk, ChainError> {
        let doubts = std::mem::take(&mut self.doubts);
        self.walk.problems.extend(doubts.into_iter().map(|(_, refusal)| Problem::of_record(refusal)));
        if let Some(head) = &self.head
            && head.seq == newest.head.seq
            && head.digest != newest.head.digest
        {
            let (seq, expected) = (head.seq, newest.head.digest);
            let refusal = Refusal::new(Class::Fork, slots::key(seq), format!("record {expected}"), head.digest);
            self.walk.problems.push(Problem::of_record(refusal));
        }
        // A slot that is damaged itself was named above.
        let lies = |(seq, digest): &(u64, Digest)| {
            *seq > newest.head.seq || *seq == newest.head.seq && *digest != newest.head.digest
        };
        if let Some((seq, _)) = self.checkpoint.take().filter(lies) {
            let expected = format!("a record up to {}", newest.head.seq);
            self.hint_problem(Refusal::new(Class::Inconsistent, CHECKPOINT_KEY, expected, format!("record {seq}")));
        }
        let partials = self.edge.as_ref().map(Edge::partials).unwrap_or_default();
        for tile in &partials {
            self.check_tile(tile)?;
        }
        if self.policy == TilePolicy::Heal {
            self.heal_hints(newest);
        }
        Ok(self.walk)
    }

    fn check_tile(&mut self, (tile, hashes): &Filled) -> Result<(), ChainError> {
        let key = tile.path();
        let stored = match self.chain.store.get(&key, hashes.len() as u64 * 32) {
            Ok(bytes) => Ok(bytes),
            // The last writer was stopped before it came to its tiles; the next one makes up for it.
            Err(StoreError::Missing { .. }) if end_of(tile) > self.tiled && self.policy == TilePolicy::Check => {
                return Ok(());
            }
            Err(StoreError::Missing { .. }) => Err((Class::Missing, "no such object")),
            Err(StoreError::TooBig { .. }) => Err((Class::Size, "more")),
            Err(error) => return Err(error.into()),
        };
        let wanted = edge::bytes_of(hashes);
        let (class, found) = match stored {
            Ok(bytes) if bytes == wanted => return Ok(()),
            Ok(bytes) if bytes.len() == wanted.len() => (Class::Hash, "other bytes"),
            Ok(_) => (Class::Size, "another number of bytes"),
            Err(wrong) => wrong,
        };
        let expected = format!("the {} hashes that follow from the slots", hashes.len());
        let refusal = Refusal::new(class, &key, expected, found)
            .with_hint("no snapshot needs it; it can be written again from the records");
        let healed = self.policy == TilePolicy::Heal && self.chain.store.put(&key, wanted.into()).is_ok();
        self.walk.problems.push(Problem { refusal, derived: true, healed });
        Ok(())
    }

    fn hint_problem(&mut self, refusal: Refusal) {
        let hint = match refusal.object() {
            CHECKPOINT_KEY => "no snapshot needs it; the next snapshot writes it again",
            _ => "no snapshot needs it",
        };
        let refusal = if refusal.class() == Class::Newer { refusal } else { refusal.with_hint(hint) };
        self.walk.problems.push(Problem { refusal, derived: true, healed: false });
    }

    fn check_format(&mut self) -> Result<(), ChainError> {
        let expected = FORMAT_LINE.trim_end();
        // Text for people may follow on further lines.
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let (class, found) = match self.read_line(FORMAT_KEY)? {
            Err((class, found)) => (class, found),
            Ok(text) if first(&text) == expected => return Ok(()),
            Ok(text) if text.starts_with("snapkit store, format ") => (Class::Newer, first(&text)),
            Ok(_) => (Class::Inconsistent, "other text".to_owned()),
        };
        self.hint_problem(Refusal::new(class, FORMAT_KEY, format!("`{expected}`"), found));
        Ok(())
    }

    /// The roots were verified when they were first seen, and this machine has them; others still need the store's.
    fn check_roots(&mut self) -> Result<(), ChainError> {
        let Chain { store, trust, pin, root, .. } = self.chain;
        let mut before: Option<Root> = None;
        for version in 1..=root.version() {
            let Some(kept) = trust.read_root(&pin.root, version)? else {
                return Ok(());
            };
            let verified = |bytes: &[u8]| match &before {
                None => Root::parse_first(bytes, &pin.root),
                Some(before) => before.parse_next(bytes),
            };
            let known = verified(&kept)?;
            // A root is its payload; the envelope around it can be written in more than one way.
            let is_same = |bytes: &[u8]| verified(bytes).is_ok_and(|found| found.digest() == known.digest());
            let key = format!("root/{version}.json");
            let problem = match store.get(&key, ROOT_CAP as u64) {
                Ok(bytes) => (!is_same(&bytes)).then_some((Class::Hash, "another")),
                Err(StoreError::Missing { .. }) => Some((Class::Missing, "no such object")),
                Err(StoreError::TooBig { .. }) => Some((Class::TooBig, "more")),
                Err(error) => return Err(error.into()),
            };
            before = Some(known);
            let Some((class, found)) = problem else { continue };
            let copy = trust.root_file(&pin.root, version);
            let refusal = Refusal::new(class, key, "the root that was verified before", found)
                .with_hint(format!("new machines cannot begin without it; put back {}", copy.display()));
            self.walk.problems.push(Problem::of_record(refusal));
        }
        Ok(())
    }

    fn read_checkpoint(&mut self) -> Result<(), ChainError> {
        let (class, found) = match self.read_line(CHECKPOINT_KEY)? {
            Err((class, found)) => (class, found),
            Ok(line) => match parse_checkpoint(line.as_bytes()) {
                Some((seq, digest)) => {
                    self.checkpoint = Some((seq, digest));
                    self.tiled = seq.saturating_add(1);
                    return Ok(());
                }
                None => (Class::Inconsistent, "other text".to_owned()),
            },
        };
        self.hint_problem(Refusal::new(class, CHECKPOINT_KEY, "one line with a number and a digest", found));
        Ok(())
    }

    /// A short object, or what is wrong with it.
    fn read_line(&self, key: &str) -> Result<Result<String, (Class, String)>, ChainError> {
        match self.chain.store.get(key, LINE_CAP) {
            Ok(bytes) => Ok(Ok(String::from_utf8_lossy(&bytes).into_owned())),
            Err(StoreError::Missing { .. }) => Ok(Err((Class::Missing, "no such object".to_owned()))),
            Err(StoreError::TooBig { .. }) => Ok(Err((Class::TooBig, format!("more than {LINE_CAP} bytes")))),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes checkpoint and format again where they were found wrong.
    fn heal_hints(&mut self, newest: &Newest) {
        let checkpoint = format!("{} {}\n", newest.head.seq, newest.head.digest);
        for problem in self.walk.problems.iter_mut().filter(|problem| problem.derived && !problem.healed) {
            let key = problem.refusal.object().to_owned();
            let line = match key.as_str() {
                CHECKPOINT_KEY => checkpoint.clone(),
                FORMAT_KEY if problem.refusal.class() != Class::Newer => FORMAT_LINE.to_owned(),
                _ => continue,
            };
            problem.healed = self.chain.store.put(&key, line.into()).is_ok();
        }
    }
}

/// The slot after the last one that a tile covers.
fn end_of(tile: &Tile) -> u64 {
    (tile.index * u64::from(TILE_WIDTH) + u64::from(tile.width)) << (8 * u32::from(tile.level))
}

impl Problem {
    fn of_record(refusal: Refusal) -> Self {
        Self { refusal, derived: false, healed: false }
    }
}
