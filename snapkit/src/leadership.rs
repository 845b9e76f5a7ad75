//! Leadership: what a writer of a chain that belongs to a lease group asks before it writes.
//!
//! The agent of the node knows whether it leads and for how long; a writer asks it before the first file is read, and
//! again right before the record is created. Nothing is remembered between the two. Protocol of the socket:
//! `docs/surfaces.md`, `/v1/lease`. Layer: the edge of the writer; who leads is decided elsewhere.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::refusal::{Class, Refusal};
use serde::Deserialize;

use crate::store::runtime;

/// The least time that a leader must have left to begin a commit.
pub const COMMIT_BUDGET: Duration = Duration::from_secs(1);
/// How long the agent of the same machine may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// The longest answer in bytes.
const ANSWER_CAP: usize = 64 * 1024;

/// Who knows whether this node leads.
pub trait Leadership: Send + Sync {
    /// The term that this node leads in, for at least `remaining` from now.
    ///
    /// # Errors
    /// [`LeadershipError::NotLeader`] when it does not; else it could not be told, and nothing may be written.
    fn term(&self, remaining: Duration) -> Result<u64, LeadershipError>;
}

/// Why nothing may be written.
#[derive(Debug, thiserror::Error)]
pub enum LeadershipError {
    /// This node does not lead, or not for long enough.
    #[error("this node does not lead: {why}")]
    NotLeader {
        /// What it is, and who leads.
        why: String,
    },
    /// The agent does not answer.
    #[error("the agent at {} does not say who leads", .socket.display())]
    Silent {
        /// Its socket.
        socket: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

impl LeadershipError {
    /// What it means for a commit that was under way.
    pub fn into_refusal(self) -> Result<Refusal, Self> {
        match self {
            Self::NotLeader { why } => Ok(Refusal::new(Class::Fenced, "commit", "to lead until it is done", why)),
            error @ Self::Silent { .. } => Err(error),
        }
    }
}

/// The agent of this node, behind its socket.
#[derive(Debug, Clone)]
pub struct AgentSocket {
    socket: PathBuf,
}

/// What `/v1/lease` answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    term: Option<u64>,
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    why: Option<String>,
}

impl AgentSocket {
    /// The agent that listens on this socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    fn ask(&self, remaining: Duration) -> io::Result<(u16, Vec<u8>)> {
        runtime::start()?;
        let url = format!("http://agent/v1/lease?min_remaining_ms={}", remaining.as_millis());
        runtime::block_on(async {
            let client = reqwest::Client::builder()
                .unix_socket(self.socket.clone())
                .timeout(ANSWER_DEADLINE)
                // Nothing here is encrypted, and a machine without certificates has an agent, too.
                .tls_certs_only([])
                .build()
                .map_err(io::Error::other)?;
            let mut answer = client.get(url).send().await.map_err(io::Error::other)?;
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(io::Error::other)? {
                body.extend_from_slice(&piece);
                if body.len() > ANSWER_CAP {
                    return Err(io::Error::other("it answers without end"));
                }
            }
            Ok((answer.status().as_u16(), body))
        })
    }
}

impl Leadership for AgentSocket {
    fn term(&self, remaining: Duration) -> Result<u64, LeadershipError> {
        let silent = |source| LeadershipError::Silent { socket: self.socket.clone(), source };
        let (status, body) = self.ask(remaining).map_err(silent)?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| silent(io::Error::other(error)))?;
        match (status, answer.term) {
            (200, Some(term)) => Ok(term),
            (409, _) => {
                let mode = answer.mode.unwrap_or_else(|| "no leader".to_owned());
                Err(LeadershipError::NotLeader { why: answer.why.map_or(mode.clone(), |why| format!("{mode}; {why}")) })
            }
            _ => Err(silent(io::Error::other(format!("it answers with status {status}")))),
        }
    }
}
