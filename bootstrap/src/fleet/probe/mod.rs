//! Probes of a whole fleet: what every surface answers, and whether that is what must hold.
//!
//! `ask` puts the questions and judges nothing; `judge` turns answers into assertions and asks nothing. An assertion that could
//! not be looked at is skipped and never passes, and a probe in which none was looked at verified nothing. `explain` says
//! which known cause fits, `text` is the form for people. Meaning: `docs/fleet.md`; JSON: `docs/json.md`, `bootstrap.probe/1`.

mod ask;
mod explain;
mod judge;
mod text;
mod vantage;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::refusal::exit;
use serde::{Deserialize, Serialize};

use super::http::AskerError;
use super::inventory::credential::SecretError;
use super::inventory::{Inventory, Reference, UnknownNode};

pub(super) use ask::below;
pub use explain::Explanation;
pub use judge::remarks;

/// The name of the JSON form.
pub const SCHEMA: &str = "bootstrap.probe/1";

/// What is asked and expected.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// This node must lead, and every other one that is probed must follow.
    pub expect_leader: Option<String>,
    /// These nodes are not asked directly.
    pub skip_nodes: BTreeSet<String>,
    /// The ingress is not asked.
    pub skip_public: bool,
    /// The control plane is not asked.
    pub skip_control: bool,
    /// How long one question may take, instead of what the inventory says.
    pub timeout: Option<Duration>,
    /// The token for reading, instead of what the inventory names.
    pub token: Option<Reference>,
    /// `USER:PASSWORD`, instead of what the inventory names.
    pub basic: Option<Reference>,
    /// Where this is asked from, as the report calls it.
    pub vantage: Option<String>,
}

/// Everything that was asked, answered and concluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The name of the fleet.
    pub fleet: String,
    /// The digest of its inventory.
    pub inventory: Digest,
    /// Where it was asked from: `here`, a node, or `ingress`.
    pub vantage: String,
    /// When it began, by the wall clock there.
    pub at: Timestamp,
    /// Who was expected to lead, where that was said.
    pub expected_leader: Option<String>,
    /// The ingress, then the nodes in the order of the inventory.
    pub surfaces: Vec<Surface>,
    /// What the control plane says; `None` where the fleet has none.
    pub control: Option<ControlPlane>,
    /// Whether the ingress is asked in another way than nodes are who answers there.
    #[serde(default)]
    pub own_identity: bool,
    /// What must hold.
    pub assertions: Vec<Assertion>,
    /// How many assertions passed.
    pub passed: usize,
    /// How many failed.
    pub failed: usize,
    /// How many could not be looked at.
    pub skipped: usize,
    /// What follows from all of it.
    pub verdict: Verdict,
    /// What somebody should know besides.
    pub warnings: Vec<String>,
    /// Which known causes fit, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub explanations: Vec<Explanation>,
    /// The same from other places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vantages: Vec<Vantage>,
}

/// The same asked from another place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vantage {
    /// From where: a node, or `ingress`.
    pub from: String,
    /// What it found there.
    pub report: Option<Box<ProbeReport>>,
    /// Why there is no report.
    pub problem: Option<String>,
}

/// What a probe comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// At least one assertion was looked at, and all that were passed.
    Passed,
    /// At least one failed.
    Failed,
    /// None failed, and a node is degraded: it refuses switches until a person acknowledges it.
    Degraded,
    /// None was looked at.
    NothingVerified,
}

impl Verdict {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Passed => exit::DONE,
            Self::Failed => exit::NO,
            Self::Degraded => exit::DEGRADED,
            Self::NothingVerified => exit::COULD_NOT_RUN,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Of {
    /// What clients reach.
    Ingress,
    /// A node by itself.
    Node,
}

/// One surface and what it answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surface {
    /// `ingress`, or the name of the node.
    pub name: String,
    /// What it is.
    pub of: Of,
    /// Where it was asked.
    pub url: Option<String>,
    /// Why it was not asked.
    pub skipped: Option<String>,
    /// The answer about health.
    pub health: Exchange,
    /// About readiness.
    pub ready: Exchange,
    /// About its role.
    pub role: Exchange,
    /// Which role that is, in one word for all surfaces; `None` without an answer that names one.
    pub is: Option<Role>,
    /// Who answered.
    pub who: Who,
    /// Who answers at its service, asked there as the ingress is; of nodes, where `[ingress.identity]` and `service` are given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Who>,
    /// Which addresses answered.
    pub ips: Vec<IpAddr>,
    /// Which certificates they showed, as SHA-256.
    pub certificates: Vec<Digest>,
}

/// What a surface says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The one that writes go to.
    Leader,
    /// One that follows.
    Follower,
    /// Half switched: it refuses to be switched.
    Degraded,
    /// What else it said.
    Other(String),
}

/// One question and its answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// What was asked.
    pub path: String,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// The body, at most its first 1024 bytes.
    pub body: Option<String>,
    /// Why there was no answer.
    pub error: Option<String>,
    /// Where the answer came from in the end.
    pub url: Option<String>,
    /// How many redirections led there.
    pub redirects: usize,
    /// What was expected, where the answer is not that.
    pub mismatch: Option<String>,
}

/// Who answered, as it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The node.
    pub node: Option<String>,
    /// The run of it.
    pub instance: Option<String>,
    /// The term that it is in.
    pub term: Option<u64>,
    /// Where that was read: a path and pointer, or a header.
    pub source: Option<String>,
    /// Why it is not known, where it was asked.
    pub problem: Option<String>,
}

/// What the control plane says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlPlane {
    /// Where it was asked.
    pub url: String,
    /// Why it was not asked.
    pub skipped: Option<String>,
    /// What is wrong with its answer.
    pub problem: Option<ControlProblem>,
    /// What it is doing.
    pub mode: Option<String>,
    /// Who holds the lease, in its own words.
    pub holder: Option<String>,
    /// Which node that is.
    pub node: Option<String>,
    /// Whether that was only inferred, from how the holder's name begins.
    pub inferred: bool,
    /// The run that holds it.
    pub instance: Option<String>,
    /// The term.
    pub term: Option<u64>,
    /// When the lease ends, in its own words.
    pub expires: Option<String>,
}

/// What is wrong with a control plane's answer: the three ways to fail, and an answer that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlProblem {
    /// Which.
    pub kind: ControlFailure,
    /// What was found.
    pub what: String,
}

/// How a control plane can fail to say who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlFailure {
    /// No answer came.
    Transport,
    /// One came, with another status than 200.
    Status,
    /// Its body is no JSON.
    Unparsable,
    /// Nothing that the mapping names is in it.
    Unmapped,
}

impl ControlFailure {
    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Status => "status",
            Self::Unparsable => "unparsable",
            Self::Unmapped => "unmapped",
        }
    }
}

/// One thing that must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assertion {
    /// Which: `exactly_one_leader`, `health`, `ingress_role`, ….
    pub id: String,
    /// Of what: a node, `ingress`, `control`, or `fleet`.
    pub of: String,
    /// Whether it does.
    pub status: Status,
    /// How it failed, in one word for programs; `None` unless it did.
    pub code: Option<String>,
    /// What was expected.
    pub expected: String,
    /// What was found; why it was not looked at.
    pub observed: String,
}

/// What became of an assertion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// It could not be looked at.
    Skipped,
}

/// Why nothing was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A node that does not exist was named.
    #[error(transparent)]
    UnknownNode(#[from] UnknownNode),
    /// A credential cannot be used.
    #[error("a credential for reading cannot be used")]
    Credential(#[from] SecretError),
    /// An assertion was asked for, and everything that could show it is left out.
    #[error("nothing can show that {leader} leads: {why}")]
    NoEvidence {
        /// Who was expected to lead.
        leader: String,
        /// What is left out.
        why: String,
    },
    /// Nothing can be asked from here.
    #[error(transparent)]
    Asker(#[from] AskerError),
}

impl ProbeReport {
    /// Whether nothing that was asked gave any answer.
    pub fn is_silent(&self) -> bool {
        let answered = |surface: &Surface| surface.health.status.is_some() || surface.role.status.is_some();
        let said = |control: &ControlPlane| {
            control.skipped.is_none()
                && control.problem.as_ref().is_none_or(|problem| problem.kind != ControlFailure::Transport)
        };
        !self.surfaces.iter().any(answered) && !self.control.as_ref().is_some_and(said)
    }

    /// The one node that says of itself that it leads; `None` for none or several.
    pub fn leader(&self) -> Option<&str> {
        let mut leaders = self.leaders();
        leaders.next().filter(|_| leaders.next().is_none())
    }

    /// Every node that says of itself that it leads.
    pub fn leaders(&self) -> impl Iterator<Item = &str> {
        let leads = |surface: &&Surface| surface.of == Of::Node && surface.is == Some(Role::Leader);
        self.surfaces.iter().filter(leads).map(|surface| surface.name.as_str())
    }

    /// Who holds the lease: what the control plane says, else the one node that leads.
    pub fn lease_holder(&self) -> Option<&str> {
        let said = self.control.as_ref().and_then(|control| control.node.as_deref());
        said.or_else(|| self.leader())
    }

    /// Which node answers behind the ingress.
    pub fn ingress_target(&self) -> Option<&str> {
        self.ingress().and_then(|ingress| ingress.who.node.as_deref())
    }

    /// The ingress.
    pub fn ingress(&self) -> Option<&Surface> {
        self.surfaces.iter().find(|surface| surface.of == Of::Ingress)
    }

    /// A node's own surface.
    pub fn node(&self, name: &str) -> Option<&Surface> {
        self.surfaces.iter().find(|surface| surface.of == Of::Node && surface.name == name)
    }

    /// Which run of a node answers behind the ingress, and which one when it is asked directly in the same way.
    pub(super) fn instances(&self) -> Option<(&str, &str)> {
        let ingress = self.ingress()?;
        let node = self.node(ingress.who.node.as_deref()?)?;
        // What says who it is behind the ingress may be the service, and an agent is another run than its service.
        let direct = match self.own_identity {
            true => node.service.as_ref()?.instance.as_deref(),
            false => node.who.instance.as_deref(),
        };
        ingress.who.instance.as_deref().zip(direct)
    }

    /// The assertions that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Assertion> {
        self.assertions.iter().filter(|assertion| assertion.status == Status::Failed)
    }
}

/// Probes a fleet from here.
///
/// # Errors
/// [`ProbeError`] when nothing was asked. That a surface does not answer is part of the report.
pub fn probe(inventory: &Inventory, options: &Options) -> Result<ProbeReport, ProbeError> {
    judge::possible(inventory, options)?;
    let asked = ask::ask(inventory, options)?;
    Ok(judge::judge(inventory, options, asked))
}
