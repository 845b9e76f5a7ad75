//! The inventory: which nodes there are, how they are reached, and what they must answer.
//!
//! [`Inventory`] is a file that was read and checked; its JSON and TOML forms have the keys of the file, so that what is
//! printed can be read again. No secret is in it: credentials are named by file or variable ([`credential`]). Every key:
//! `docs/fleet.md`, `schema.rs`. Layer: `read` and `dotenv` are pure, [`load`] reads files.

pub mod credential;
mod dotenv;
pub mod drill;
mod load;
mod read;
pub mod schema;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};
use snapkit::trust::Bootstrap;
use url::Url;

pub use credential::{Credentials, Reference};
pub use drill::Drills;
pub use load::{InventoryError, Place, load};
pub use read::{Problem, parse};

/// Everything that is known of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// The name of the fleet.
    pub name: String,
    /// Where nodes come from: `URL#root=sha256:…`, or `file:PATH` of a file that holds such a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name of the manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// Certificates of authorities beside those of the system, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The networks that addresses must lie in.
    pub networks: Networks,
    /// Where credentials are.
    #[serde(skip_serializing_if = "Credentials::is_empty")]
    pub credentials: Credentials,
    /// What surfaces must answer.
    pub expect: Expect,
    /// How a surface says who it is.
    pub identity: Identity,
    /// Limits that runs are held against.
    pub thresholds: Thresholds,
    /// How long the phases of a run may take, in seconds, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timeboxes: BTreeMap<String, u64>,
    /// What a scenario may stop.
    pub scope: Scope,
    /// Where services say how much work they have begun and not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work: Option<Work>,
    /// What clients reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Ingress>,
    /// What says who leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// How drills are done.
    #[serde(skip_serializing_if = "Drills::is_default")]
    pub drill: Drills,
    /// The nodes, in the order of the file.
    #[serde(rename = "node")]
    pub nodes: Vec<Node>,
}

/// The networks of a fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Networks {
    /// Where the private address of every node must lie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_cidr: Option<IpNet>,
}

/// What a node is to be when nothing is wrong. Which one leads is decided by the lease, never by this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preferred {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
}

impl Preferred {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
        }
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its name, as its agent has it.
    pub name: String,
    /// What it is to be when nothing is wrong.
    pub preferred: Preferred,
    /// Where its agent answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub surface: Option<Url>,
    /// Where its service answers by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Url>,
    /// The node directory there.
    pub directory: PathBuf,
    /// The `bootstrap` command there.
    pub program: String,
    /// Its address in the private network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private: Option<IpAddr>,
    /// The name of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What is put before a command so that it runs there; empty: here. `None`: no command can be run there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Vec<String>>,
    /// Whether the words behind `reach` pass through a shell; by default those behind `ssh` do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<bool>,
    /// How its service is run: `process`, `systemd`, `compose` or `hooks`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Further arguments for the command that brings it up, such as `--leave-paths`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bring_up: Vec<String>,
    /// What starts its agent; without it the node is brought up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Vec<String>>,
    /// What ends its agent; without it the agent is sent SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<Vec<String>>,
    /// Further arguments of `bootstrap install` there; without it no units of it are looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install: Option<Vec<String>>,
    /// Where its own credentials are; what it does not say is as for the fleet.
    #[serde(skip_serializing_if = "Credentials::is_empty")]
    pub credentials: Credentials,
    /// Services beside the agent, for `bootstrap health`.
    #[serde(rename = "unit", skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
    /// How to do it harm in a drill, and how to undo that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<String, Fault>,
}

/// A service beside the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// Its name in reports.
    pub name: String,
    /// How it is asked.
    pub kind: UnitKind,
    /// Of systemd: its unit. Of compose: its service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Of compose: the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Of http: what must answer with 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
}

/// How a unit is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// `systemctl show`, on the node.
    Systemd,
    /// `docker compose ps`, on the node.
    Compose,
    /// An address.
    Http,
}

/// A way to do harm, and the way back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Does it.
    pub inject: Vec<String>,
    /// Undoes it.
    pub heal: Vec<String>,
}

/// What clients reach: it decides where traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ingress {
    /// What clients ask for.
    pub url: Url,
    /// The addresses it must resolve to; empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// How what answers says who it is, where that is not as for nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// The nodes behind it, in its order; by default those of the file.
    pub upstreams: Vec<String>,
    /// What is put before a command so that it runs where the ingress is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reach: Option<Vec<String>>,
    /// As [`Node::quote`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote: Option<bool>,
    /// The `bootstrap` command there.
    pub program: String,
    /// Its deployed configuration, on the machine of the ingress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// Checks that configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate: Option<Vec<String>>,
    /// Brings it into force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reload: Option<Vec<String>>,
    /// Failed requests after which it leaves a node out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_fails: Option<u64>,
    /// Within how long they count, and how long it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail_timeout_seconds: Option<u64>,
    /// How often it looks by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_seconds: Option<u64>,
}

impl Ingress {
    /// How long it may take to see that a node is gone: `max_fails` looks, or `fail_timeout_seconds` where it looks at
    /// requests alone. Part of the budget of a takeover.
    pub fn detection(&self) -> Option<Duration> {
        let looks = self.check_seconds.map(|every| every * self.max_fails.unwrap_or(1));
        looks.or(self.fail_timeout_seconds).map(Duration::from_secs)
    }
}

/// What says who leads; it need not be ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Control {
    /// Its address.
    pub url: Url,
    /// What is asked there.
    pub path: String,
    /// Where things stand in its answer.
    pub map: Mapping,
    /// Whether a holder that no node is called by is the node whose name, and a dash, it begins with.
    pub holder_prefix: bool,
}

/// JSON pointers; the first that leads to something wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// What the control plane is doing.
    pub mode: Vec<String>,
    /// Who holds the lease.
    pub holder: Vec<String>,
    /// Which run of it.
    pub instance: Vec<String>,
    /// The term.
    pub term: Vec<String>,
    /// When the lease ends.
    pub expires: Vec<String>,
}

impl Default for Mapping {
    fn default() -> Self {
        let all = |list: &[&str]| list.iter().map(|&pointer| pointer.to_owned()).collect();
        Self {
            mode: all(&["/mode", "/state/mode", "/lease/mode"]),
            holder: all(&["/holder/node", "/holder_id", "/lease/holder_id", "/holder", "/leader"]),
            instance: all(&["/holder/instance", "/lease/instance"]),
            term: all(&["/term", "/lease/term"]),
            expires: all(&["/lease_expires_at", "/lease/lease_expires_at", "/lease/expires_at", "/expires_at"]),
        }
    }
}

/// How a surface says who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// What is asked.
    pub path: String,
    /// JSON pointers to the name of the node.
    pub node: Vec<String>,
    /// To the run of it.
    pub instance: Vec<String>,
    /// To the term.
    pub term: Vec<String>,
    /// A header of every answer that has the name of the node; it is looked at where the fields say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

impl Default for Identity {
    fn default() -> Self {
        let all = |list: &[&str]| list.iter().map(|&pointer| pointer.to_owned()).collect();
        Self {
            path: "/v1/state".to_owned(),
            node: all(&["/node"]),
            instance: all(&["/instance"]),
            term: all(&["/term"]),
            header: None,
        }
    }
}

/// What surfaces must answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expect {
    /// Whether something lives there.
    pub health: Wanted,
    /// Whether it is ready.
    pub ready: Wanted,
    /// What it is.
    pub role: Roles,
    /// Further questions.
    #[serde(rename = "also", skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Also>,
}

/// What one path must answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wanted {
    /// The path.
    pub path: String,
    /// The status.
    pub status: u16,
    /// The whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A regular expression that finds something in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// A JSON pointer into the body …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// … and what stands there, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { path: String::new(), status: 200, body: None, pattern: None, pointer: None, value: None }
    }
}

/// The words for roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Roles {
    /// The path.
    pub path: String,
    /// A JSON pointer to the word; without one it is the whole body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The word of a leader.
    pub leader: String,
    /// The word of a follower.
    pub follower: String,
}

impl Default for Roles {
    fn default() -> Self {
        Self { path: "/rolez".to_owned(), pointer: None, leader: "leader".to_owned(), follower: "standby".to_owned() }
    }
}

/// A further question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Also {
    /// Its name in reports.
    pub name: String,
    /// To which nodes it is put; empty: to all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// A path of their service, which must answer so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Wanted>,
    /// A port of theirs, which must accept a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<u16>,
    /// A command that is run there and must end with 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
}

/// Limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thresholds {
    /// How long one question may take.
    pub probe_seconds: u64,
    /// How long work may take to drain.
    pub drain_seconds: u64,
    /// How long clients may be without an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failover_seconds: Option<u64>,
    /// How many events may be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_data_lag_events: Option<u64>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { probe_seconds: 5, drain_seconds: 60, max_failover_seconds: None, max_data_lag_events: None }
    }
}

/// What a scenario may stop beside the one service that leads.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Scope {
    /// Names of units; nothing by default.
    pub stop: Vec<String>,
}

/// Where a service says how much work it has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Work {
    /// A path of the service.
    pub path: String,
    /// A JSON pointer to the number.
    pub pointer: String,
}

impl Inventory {
    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// [`UnknownNode`], which says the names there are.
    pub fn expect_node(&self, name: &str) -> Result<&Node, UnknownNode> {
        self.node(name).ok_or_else(|| UnknownNode {
            name: name.to_owned(),
            fleet: self.name.clone(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }

    /// The names of all nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| node.name.as_str())
    }

    /// The credentials of a node: its own, else those of the fleet.
    pub fn credentials(&self, node: &Node) -> Credentials {
        node.credentials.or(&self.credentials)
    }

    /// How long one question may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.thresholds.probe_seconds)
    }

    /// The limits that runs are held against, by the names they have in plans; `PHASE_seconds` is a timebox.
    pub fn limits(&self) -> BTreeMap<String, u64> {
        let of = &self.thresholds;
        let thresholds =
            [("max_failover_seconds", of.max_failover_seconds), ("max_data_lag_events", of.max_data_lag_events)];
        let thresholds = thresholds.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?)));
        let timeboxes = self.timeboxes.iter().map(|(phase, seconds)| (format!("{phase}_seconds"), *seconds));
        thresholds.chain(timeboxes).collect()
    }

    /// What makes two inventories the same: the digest of all values, whatever the file looks like.
    pub fn digest(&self) -> Digest {
        Digest::sha256(&serde_json::to_vec(self).expect("an inventory has text keys"))
    }

    /// The inventory as a file that says everything, also what was left to defaults.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an inventory has text keys")
    }

    /// The string that nodes come from.
    ///
    /// # Errors
    /// [`OriginError`] when there is none, or its file does not hold one.
    pub fn origin(&self) -> Result<Bootstrap, OriginError> {
        let from = self.from.as_deref().ok_or(OriginError::Missing)?;
        let text = match from.strip_prefix("file:") {
            None => from.to_owned(),
            Some(path) => load::read_capped(path.as_ref())
                .map_err(|source| OriginError::Read { path: path.to_owned(), source })?
                .trim()
                .to_owned(),
        };
        text.parse().map_err(|error: <Bootstrap as std::str::FromStr>::Err| OriginError::Invalid {
            from: from.to_owned(),
            why: error.to_string(),
        })
    }
}

/// A node that the inventory does not name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no node {name} in fleet {fleet}; there are {known}")]
pub struct UnknownNode {
    /// What was asked for.
    pub name: String,
    /// The fleet.
    pub fleet: String,
    /// The names there are.
    pub known: String,
}

/// Why it is not known where nodes come from.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// The inventory does not say.
    #[error("the inventory has no `from`, which says where nodes come from")]
    Missing,
    /// The file cannot be read.
    #[error("cannot read {path}, which `from` names")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no such string.
    #[error("from = {from:?}: {why}")]
    Invalid {
        /// The value.
        from: String,
        /// What is wrong.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_an_ingress_takes_to_notice_follows_from_what_is_said_of_it() {
        let of = |lines: &str| {
            let text =
                format!("name = \"f\"\n[[node]]\nname = \"a\"\n[ingress]\nurl = \"https://f.example/\"\n{lines}\n");
            parse(&text).unwrap().ingress.unwrap().detection()
        };
        assert_eq!(of(""), None);
        assert_eq!(of("max_fails = 2\nfail_timeout_seconds = 5"), Some(Duration::from_secs(5)));
        assert_eq!(of("max_fails = 3\ncheck_seconds = 2\nfail_timeout_seconds = 60"), Some(Duration::from_secs(6)));
    }

    #[test]
    fn where_nodes_come_from_may_stand_in_a_file() {
        let string = format!("https://a.example/s#root=sha256:{}", "a".repeat(64));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fleet.toml");
        let of = |from: &str, file: &str| {
            std::fs::write(&path, format!("name = \"f\"\nfrom = \"{from}\"\n[[node]]\nname = \"a\"\n")).unwrap();
            std::fs::write(directory.path().join("string"), file).unwrap();
            load(&path, Place::OutsideOfRepositories).unwrap().origin()
        };
        assert_eq!(of(&string, "").unwrap().to_string(), string);
        assert_eq!(of("file:string", &format!("{string}\n")).unwrap().to_string(), string);
        assert!(matches!(of("file:string", "nonsense"), Err(OriginError::Invalid { .. })));
        assert!(matches!(of("file:elsewhere", ""), Err(OriginError::Read { .. })));
    }
}
