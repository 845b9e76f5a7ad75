//! What a node directory knows of itself: its generations, a switch under way, the degraded mark.
//!
//! Three small JSON files of `.node/`, each replaced as a whole. Documented in `docs/node.md`. Layer: files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::GenerationName;

/// The version of the three files; a reader refuses any other.
pub(super) const VERSION: u32 = 1;
/// Events that are kept.
const KEPT_EVENTS: usize = 100;

/// `state.json`: what each generation is, and what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    pub(super) version: u32,
    /// The generation that the last finished switch went to.
    pub active: Option<GenerationName>,
    /// The one before it, which undo goes back to.
    pub previous: Option<GenerationName>,
    /// When the last switch was finished.
    pub switched: Option<Timestamp>,
    /// What each generation is. One without a directory was begun and not finished.
    pub generations: BTreeMap<GenerationName, Generation>,
    /// What happened last, oldest first.
    pub events: Vec<Event>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: VERSION,
            active: None,
            previous: None,
            switched: None,
            generations: BTreeMap::new(),
            events: Vec::new(),
        }
    }
}

impl State {
    /// Adds an event and forgets the oldest when there are too many.
    pub(super) fn note(&mut self, event: Event) {
        self.events.push(event);
        let surplus = self.events.len().saturating_sub(KEPT_EVENTS);
        self.events.drain(..surplus);
    }
}

/// What one generation is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The record it was restored from; `None` for what was found at a fixed path before the first switch.
    pub record: Option<RecordOf>,
    /// When its restore began, or when it was found.
    pub made: Timestamp,
    /// Its trees.
    pub trees: Vec<GenerationTree>,
    /// Paths of every kind, when it was restored.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Whether it was proved to have the digests of its record.
    pub exact: bool,
    /// How it was restored, as far as that changes the result; another way makes another generation.
    pub manner: String,
    /// The load-bearing files, as the snapshot has them.
    pub required: Vec<RequiredFile>,
}

/// A record that a generation was restored from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordOf {
    /// The snapshot's name.
    pub snapshot: String,
    /// Its number in the chain.
    pub seq: u64,
    /// SHA-256 of its payload, in hex.
    pub id: String,
}

/// One tree of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerationTree {
    /// Its name.
    pub name: String,
    /// Whether it lies in a directory of its name; else the generation's directory is the tree.
    pub inside: bool,
    /// Where it is while the generation is active, if it is activated by exchange.
    pub fixed: Option<PathBuf>,
    /// The full digest it was proved to have, in hex; `None` for what was found.
    pub full_digest: Option<String>,
}

/// A load-bearing file as the snapshot has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequiredFile {
    /// The path as `node.toml` names it.
    pub path: String,
    /// `file` or `symlink`.
    pub kind: String,
    /// Permission bits; 0 for symlinks.
    pub mode: u32,
    /// Length in bytes; 0 for symlinks.
    pub bytes: u64,
    /// BLAKE3 of a file's content in hex, or where a symlink points, printable.
    pub content: String,
}

/// Something that happened to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// What.
    pub what: EventKind,
    /// The generation that was active before.
    pub from: Option<GenerationName>,
    /// The generation that it was about.
    pub to: Option<GenerationName>,
    /// Why: the causes of a failure, or the reason of an acknowledgement.
    pub why: Option<String>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A restored generation became active.
    Switched,
    /// The generation before became active again.
    Undone,
    /// A switch did not hold and was taken back.
    SwitchedBack,
    /// `current` was changed by somebody else.
    Moved,
    /// A switch did not hold and could not be taken back.
    Degraded,
    /// Somebody acknowledged the degraded mark.
    Acknowledged,
}

impl EventKind {
    /// The words for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Undone => "undone",
            Self::SwitchedBack => "switched back",
            Self::Moved => "moved by hand",
            Self::Degraded => "degraded",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// Which command switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// To a generation that was restored.
    Restore,
    /// To the generation before.
    Undo,
}

/// `intent.json`: a switch under way. It is there from before the first step until the switch is finished or taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    pub(super) version: u32,
    /// When it began.
    pub started: Timestamp,
    /// Which command.
    pub how: How,
    /// The generation to go back to.
    pub from: Option<GenerationName>,
    /// The generation to go to.
    pub to: GenerationName,
    /// The directories to exchange.
    pub moves: Vec<Move>,
}

/// One directory exchange of a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The tree.
    pub tree: String,
    /// Where it is activated.
    pub path: PathBuf,
    /// Inode of the directory that comes in.
    pub incoming: u64,
    /// Inode of the directory that goes out; `None` when the path was missing.
    pub outgoing: Option<u64>,
    /// The generation into whose directory it goes.
    pub aside: GenerationName,
}

/// `degraded.json`: a switch that did not hold and could not be taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Degraded {
    pub(super) version: u32,
    /// Since when.
    pub since: Timestamp,
    /// The generation that was active before the switch.
    pub from: Option<GenerationName>,
    /// The generation that the switch went to.
    pub to: GenerationName,
    /// Why the switch does not hold.
    pub failure: String,
    /// Why it could not be taken back.
    pub rollback: String,
}
