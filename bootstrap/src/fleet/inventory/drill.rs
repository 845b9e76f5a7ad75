//! How drills are done in this fleet: what measures, who is restored cold, and what must hold before. Layer: values only.

use serde::Serialize;

/// The table `[drill]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drills {
    /// Path below the ingress that takes a POSTed event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<String>,
    /// Path below the ingress that tells the last event, node and term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<String>,
    /// Path of a service that counts refused consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<String>,
    /// Time between two questions of a prober.
    pub interval_ms: u64,
    /// How long a prober waits for an answer.
    pub timeout_ms: u64,
    /// How long a follower is watched before the leader is lost.
    pub soak_seconds: u64,
    /// After how long a drill without its orchestrator is taken back.
    pub dead_man_seconds: u64,
    /// The node that is restored cold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blank: Option<String>,
    /// Takes a snapshot on the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Vec<String>>,
    /// Further conditions before a drill.
    #[serde(rename = "check", skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
}

/// A further condition before a drill (C79).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name in reports.
    pub name: String,
    /// The command that must end with 0.
    pub argv: Vec<String>,
    /// The nodes on which it is run; empty: here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
}

impl Default for Drills {
    fn default() -> Self {
        Self {
            write: None,
            read: None,
            conflicts: None,
            interval_ms: 100,
            timeout_ms: 1000,
            soak_seconds: 30,
            dead_man_seconds: 3600,
            blank: None,
            snapshot: None,
            checks: Vec::new(),
        }
    }
}

impl Drills {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
