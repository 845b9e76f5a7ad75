//! What a bring-up found and did: one value for `--json`, the terminal, and evidence.
//!
//! Its JSON is `bootstrap.bring-up/1` of `docs/json.md`. Layer: values only.

use jiff::Timestamp;
use manifests::document::manifest::Manifest;
use serde::Serialize;
use snapkit::manifest::Followed;
use snapkit::node::{Activation, Check, Outcome};

use super::agent::Seen;
use super::files::Written;
use super::plan::Target;
use super::prerequisites::Prerequisite;

/// A bring-up.
#[derive(Debug, Serialize)]
pub struct BroughtUp {
    /// The node directory.
    pub node: String,
    /// `follower` or `leader`.
    pub role: &'static str,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Whether every required prerequisite holds.
    pub ready: bool,
    /// How far it came: `looked`, `restored`, `running`.
    pub stage: &'static str,
    /// What was followed.
    pub manifest: FollowedManifest,
    /// What is restored.
    pub snapshot: Snapshot,
    /// Everything that was looked at.
    pub prerequisites: Vec<Prerequisite>,
    /// The images that the service runs.
    pub images: Vec<Image>,
    /// Files and links.
    pub files: Written,
    /// The generation; absent in a dry run, and where the agent runs already.
    pub generation: Option<Generation>,
    /// The agent, where one runs.
    pub agent: Option<Agent>,
    /// What runs, compared with the pins.
    pub running: Vec<Running>,
    /// How long each part took.
    pub phases: Vec<Phase>,
    /// How long all of it took.
    pub seconds: f64,
}

/// The manifest.
#[derive(Debug, Serialize)]
pub struct FollowedManifest {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its payload.
    pub digest: String,
    /// Where it was found.
    pub address: String,
    /// SHA-256 of the first root: the pin.
    pub root: String,
    /// The chain.
    pub chain: String,
    /// Until when it may be relied on.
    pub expires: Timestamp,
    /// Slot of the newest record.
    pub newest: u64,
    /// Records beyond the manifest's head.
    pub lag: u64,
    /// The version of the pins.
    pub pins_version: u64,
    /// SHA-256 of their payload.
    pub pins: String,
}

/// The snapshot.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
    /// Its slot.
    pub seq: u64,
    /// The digest of its record.
    pub id: String,
    /// When it was captured.
    pub captured: Timestamp,
    /// How long ago that was.
    pub age_seconds: i64,
    /// Entries of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Bytes of the packs that hold it.
    pub pack_bytes: u64,
    /// Whether the manifest itself names it.
    pub pinned: bool,
    /// Whether an interrupted run chose it.
    pub resumes: bool,
}

/// An image.
#[derive(Debug, Serialize)]
pub struct Image {
    /// Its name in the pins.
    pub name: String,
    /// What it is.
    pub config: String,
    /// Where it was found.
    pub place: Option<String>,
    /// The name by which the engine has it; absent in a dry run.
    pub engine_name: Option<String>,
}

/// The generation that is active.
#[derive(Debug, Serialize)]
pub struct Generation {
    /// Its name.
    pub name: String,
    /// Whether it was restored now, and not found unchanged.
    pub restored: bool,
    /// Whether an interrupted restore was gone on with.
    pub resumed: bool,
    /// When it was switched to; absent when it was active already.
    pub switched: Option<Timestamp>,
    /// The one that was active before.
    pub previous: Option<String>,
    /// Bytes fetched from packs.
    pub fetched_bytes: u64,
    /// Bytes taken from what was in place.
    pub reused_bytes: u64,
    /// Whether it has the digests of its record.
    pub exact: bool,
    /// The digest it was proved to have.
    pub full_digest: Option<String>,
    /// What must hold, and does.
    pub requirements: Vec<String>,
    /// Where its receipt is; absent without a node key.
    pub receipt: Option<String>,
}

/// The agent.
#[derive(Debug, Serialize)]
pub struct Agent {
    /// Whether it was started now.
    pub started: bool,
    /// What it says.
    #[serde(flatten)]
    pub seen: Seen,
}

/// Something that runs.
#[derive(Debug, Serialize)]
pub struct Running {
    /// What it is.
    pub what: String,
    /// Which image of the pins it was created from.
    pub image: String,
}

/// One part of the work.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// How long it took.
    pub milliseconds: u64,
}

impl FollowedManifest {
    /// What was followed to this address.
    pub fn of(followed: &Followed, address: &str) -> Self {
        let Followed { manifest, pins, newest, freshness, .. } = followed;
        let Manifest { name, version, chain, root, .. } = &manifest.manifest;
        Self {
            name: name.clone(),
            version: *version,
            digest: manifest.digest.to_string(),
            address: address.to_owned(),
            root: root.to_string(),
            chain: chain.to_string(),
            expires: freshness.expires,
            newest: newest.head.seq,
            lag: freshness.lag,
            pins_version: pins.pins.version,
            pins: pins.digest.to_string(),
        }
    }
}

impl Snapshot {
    /// The snapshot that is restored, as of `now`.
    pub fn of(target: &Target, followed: &Followed, now: Timestamp) -> Self {
        let snapshot = target.snapshot();
        let captured = snapshot.private.started;
        Self {
            name: target.name.clone(),
            seq: target.record.header.seq,
            id: target.record.digest.to_string(),
            captured,
            age_seconds: now.duration_since(captured).as_secs(),
            entries: snapshot.public.entries,
            files: snapshot.public.files,
            bytes: snapshot.public.bytes,
            pack_bytes: snapshot.public.packs.bytes,
            pinned: target.record.digest == followed.manifest.manifest.snapshot.digest,
            resumes: target.resumes,
        }
    }
}

impl Generation {
    /// What came of a restore.
    pub fn of(outcome: &Outcome, receipt: Option<String>) -> Self {
        let holds = |checks: &[Check]| checks.iter().map(|check| check.what.clone()).collect();
        let (switched, previous, requirements) = match &outcome.activation {
            Activation::Switched(switched) => {
                let before = switched.from.as_ref().map(ToString::to_string);
                (Some(switched.time), before, holds(&switched.checks))
            }
            Activation::Already(checks) => (None, None, holds(checks)),
        };
        let made = outcome.restored.as_ref();
        Self {
            name: outcome.generation.to_string(),
            restored: made.is_some(),
            resumed: made.is_some_and(|made| made.resumed),
            switched,
            previous,
            fetched_bytes: made.map_or(0, |made| made.restored.fetched_bytes),
            reused_bytes: made.map_or(0, |made| made.restored.reused_bytes),
            exact: outcome.is.exact,
            full_digest: made.map(|made| made.plan.expected().full.to_string()),
            requirements,
            receipt,
        }
    }
}
