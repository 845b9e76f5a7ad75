//! Recording: that a run began, and how it ended, in the chain itself.
//!
//! It is done where the chain may be written: on the node that leads, with its key, under its lease. What comes in is a
//! plan, or a signed statement that is verified first. Layer: joins a node's configuration with `snapkit::drills`.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use manifests::document::drill::{Begun, Drill, Ended, Prober};
use manifests::document::evidence::{EVIDENCE_CAP, Evidence};
use manifests::document::record::{Body, Pointer};
use manifests::document::root::Root;
use manifests::refusal::{Class, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use snapkit::chain::{Chain, ChainError};
use snapkit::drills::{self, Recorded};
use snapkit::leadership::AgentSocket;
use snapkit::store::mirrored::Listener;

use super::event::Mode;
use super::facts::{PlanFacts, plan_digest};
use super::timeline::strict;
use crate::config::{AgentConfig, ConfigError};
use crate::origin::Origin;

/// The largest plan or statement that is read.
pub const CAP: usize = EVIDENCE_CAP * 4;
/// How far back an earlier record of the same run is looked for.
const BACK: SignedDuration = SignedDuration::from_hours(31 * 24);

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The node's own files.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The one string leads nowhere.
    #[error("cannot find the chain of this node")]
    Origin(#[from] snapkit::manifest::ManifestError),
    /// The chain cannot be read or written.
    #[error("cannot record it in the chain")]
    Chain(#[from] ChainError),
    /// The key of this node cannot be used.
    #[error("cannot use the key of this node")]
    Key(#[from] snapkit::trust::TrustError),
    /// What came in is not to be believed.
    #[error("what is to be recorded is refused")]
    Refused(#[source] Box<Refusal>),
    /// Other writers were always first.
    #[error("other writers were always first")]
    Busy,
}

impl From<Refusal> for RecordError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A record that is in the chain.
#[derive(Debug, Clone)]
pub struct Done {
    /// What it says.
    pub drill: Drill,
    /// Where it is.
    pub place: Pointer,
    /// Whether an earlier try had written it.
    pub before: bool,
    /// What could not be written afterwards.
    pub warnings: Vec<String>,
}

/// A run that begins, as it is given to whoever records it: its plan, and who measures it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beginning {
    /// Always [`BEGINNING_SCHEMA`].
    pub schema: String,
    /// The plan.
    pub plan: Value,
    /// Who measures it, with their keys.
    pub probers: Vec<Prober>,
}

/// The schema of a [`Beginning`].
pub const BEGINNING_SCHEMA: &str = "bootstrap.begun/1";

/// What is recorded, and the statement that it is taken from.
#[derive(Debug)]
struct Incoming {
    drill: Drill,
    said: Option<Box<Evidence>>,
}

/// What a plan, a beginning or a signed statement comes to as a record; the statement is verified under `root`.
///
/// [`Class::Json`] for neither of them; [`Class::Hash`] for a plan that was edited; those of [`Evidence::verify`].
fn drill_of(bytes: &[u8], root: &Root, pin: &Digest, chain: &Digest) -> Result<Incoming, Refusal> {
    let object = "what is to be recorded";
    let value: Value = strict(bytes, CAP, object)?;
    if value.get("payloadType").is_some() {
        let verified = Evidence::verify(bytes, root, pin, Some(chain), object)?;
        let said = verified.evidence;
        let drill = Drill::Ended(Ended {
            id: said.id.clone(),
            begun: said.begun,
            mode: said.mode.clone(),
            verdict: said.verdict.clone(),
            bundle: verified.bundle,
            rto_ms: said.rto_ms,
            rpo_events: said.rpo_events,
        });
        return Ok(Incoming { drill, said: Some(Box::new(said)) });
    }
    let (value, mut probers) = match value.get("schema").and_then(Value::as_str) {
        Some(BEGINNING_SCHEMA) => {
            let beginning: Beginning = strict(bytes, CAP, object)?;
            (beginning.plan, beginning.probers)
        }
        _ => (value, Vec::new()),
    };
    probers.sort();
    let plan: PlanFacts = serde_json::from_value(value.clone())
        .map_err(|error| Refusal::new(Class::Json, object, "a plan, or the statement of a bundle", error))?;
    let digest = plan_digest(&value);
    if digest != plan.plan_sha256 {
        return Err(Refusal::new(Class::Hash, format!("{object}#/plan_sha256"), digest, plan.plan_sha256));
    }
    let drill = Drill::Begun(Begun {
        id: plan.id,
        kind: plan.kind,
        scenario: plan.scenario,
        mode: plan.mode.word().to_owned(),
        plan: digest,
        challenge: plan.challenge.filter(|challenge| !challenge.is_empty()),
        probers,
    });
    Ok(Incoming { drill, said: None })
}

/// Records a run that begins ([`Beginning`], or its plan alone), or a statement with which one ended, in the chain of the node at `node`.
///
/// Under a lease, the agent of the node is asked whether it leads, before and while the record is made.
///
/// # Errors
/// [`RecordError`]; nothing was added.
pub fn record(
    node: &Path,
    bytes: &[u8],
    mut config: snapkit::config::Config,
    listener: Listener,
) -> Result<Done, RecordError> {
    let agent = AgentConfig::read(node)?;
    if let Some(home) = &agent.home {
        config.home =
            snapkit::config::Setting::new(home.clone(), snapkit::config::Source::Flag("home in bootstrap.toml"));
    }
    let from = agent.origin()?;
    let origin = Origin::open(&from, agent.manifest.as_deref(), &config, listener)?;
    let now = Timestamp::now();
    let chain = origin.chain(now)?;
    let Incoming { drill, said } = drill_of(bytes, chain.root(), &origin.pin.root, &chain.id())?;
    let has_lease = chain.head()?.head.term > 0;
    if let Some(said) = said {
        check_begun(&chain, &said, has_lease)?;
    }
    let socket = AgentSocket::new(&node.join(crate::client::SOCKET));
    let chain = if has_lease { chain.led(&socket) } else { chain };
    let key = origin.trust.read_node_key(&origin.pin.root)?;
    let name = agent.node.clone().unwrap_or_else(|| "node".to_owned());
    match drills::record(&chain, &drill, now - BACK, &key, &name)? {
        Some(Recorded::Now(done)) => {
            let place = Pointer { seq: done.seq, digest: done.digest };
            Ok(Done { drill, place, before: false, warnings: done.warnings })
        }
        Some(Recorded::Before(place)) => Ok(Done { drill, place, before: true, warnings: Vec::new() }),
        None => Err(RecordError::Busy),
    }
}

/// The record with which a run says that it began is in this chain, and says the same. Where there is a lease, a run that
/// was executed has one, unless its leader was lost.
fn check_begun(chain: &Chain<'_>, said: &Evidence, has_lease: bool) -> Result<(), RecordError> {
    let id = &said.id;
    let Some(begun) = said.begun else {
        let lost = (said.kind.as_str(), said.scenario.as_str()) == ("failover", "emergency");
        if !has_lease || lost || said.mode != Mode::Execute.word() {
            return Ok(());
        }
        let expected = format!("a run that the chain was told of when {id} began");
        let refusal = Refusal::new(Class::Mix, "what is to be recorded", expected, "an end without a beginning");
        return Err(refusal.with_hint("run it again, where a node that leads can be reached when it begins").into());
    };
    let newest = chain.head()?;
    let record = chain.record_under(begun.seq, &newest)?;
    let is_it = match &record.body {
        Body::Drill(Drill::Begun(there)) => {
            let names = [(&there.id, id), (&there.kind, &said.kind), (&there.scenario, &said.scenario)];
            let same = names.iter().all(|(there, said)| there == said) && there.mode == said.mode;
            same && there.plan == said.plan && there.challenge == said.challenge
        }
        _ => false,
    };
    if record.digest == begun.digest && is_it {
        return Ok(());
    }
    let expected = format!("record {} as the beginning of {id}", begun.seq);
    Err(Refusal::new(Class::Mix, "what is to be recorded", expected, record.digest).into())
}
