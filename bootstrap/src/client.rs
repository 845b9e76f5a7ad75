//! The client of a running agent: questions over the Unix socket in its node directory.
//!
//! One request per connection, and a limit for the whole of it, so a stopped agent cannot hold up who asks. Whoever may
//! open the socket may ask for everything; no token is needed there. Paths and answers: `docs/surfaces.md`.
//! Layer: the edge; `cli` and bring-up call it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::view::RequestKind;
use crate::surfaces::short_path;
use crate::surfaces::state::State;

/// Where an agent's socket is, from its node directory.
pub const SOCKET: &str = ".node/agent/agent.sock";
/// How long a question may take. Agents answer from memory, and a request waits for the loop for less than this.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest answer in bytes.
const ANSWER_CAP: u64 = 1 << 20;

/// Asks the agent of one node directory.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there: no agent runs for this node directory.
    #[error("no agent answers on {}", .socket.display())]
    NoAgent {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An agent is there, and its answer did not come or was cut off.
    #[error("the agent on {} gives no answer", .socket.display())]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What came is not an answer of an agent.
    #[error("what answers on {} is not an agent of this version: {why}", .socket.display())]
    Strange {
        /// The socket.
        socket: PathBuf,
        /// What was expected and found.
        why: String,
    },
}

/// What `/v1/lease` answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// This node leads.
    Held(Held),
    /// It does not, or not for long enough: why.
    NotHeld(String),
}

/// A lease that is held, as `bootstrap.lease-held/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Which form this is.
    pub schema: String,
    /// The group; absent for a node without one.
    pub group: Option<String>,
    /// The node that holds it.
    pub node: String,
    /// The run of its agent.
    pub instance: String,
    /// The term.
    pub term: u64,
    /// Time left in milliseconds; `None` where nothing limits it.
    pub remaining_ms: Option<u64>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// It is done, or being done.
    Accepted(String),
    /// It was not accepted: why.
    Refused(String),
}

struct Answer {
    status: u16,
    body: Value,
}

impl Client {
    /// A client of the agent of a node directory.
    pub fn of_node(directory: &Path) -> Self {
        Self { socket: directory.join(SOCKET), timeout: TIMEOUT }
    }

    /// The same, which waits no longer than `timeout` for one answer.
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The agent's state.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer.
    pub fn state(&self) -> Result<State, ClientError> {
        let answer = self.ask("GET", "/v1/state", None)?;
        serde_json::from_value(answer.body).map_err(|error| self.strange(format!("its state: {error}")))
    }

    /// Whether the node leads, and will for `min_remaining` more.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer.
    pub fn lease(&self, min_remaining: Duration) -> Result<Lease, ClientError> {
        let path = format!("/v1/lease?min_remaining_ms={}", min_remaining.as_millis());
        let answer = self.ask("GET", &path, None)?;
        match answer.status {
            200 => serde_json::from_value(answer.body)
                .map(Lease::Held)
                .map_err(|error| self.strange(format!("its lease: {error}"))),
            409 => Ok(Lease::NotHeld(answer.why())),
            status => Err(self.strange(format!("status {status} from /v1/lease: {}", answer.why()))),
        }
    }

    /// Asks the agent to do something.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer: then it may be done or not.
    pub fn request(&self, kind: RequestKind, reason: &str) -> Result<Asked, ClientError> {
        let body = serde_json::json!({ "reason": reason });
        let answer = self.ask("POST", &format!("/v1/{}", kind.as_str()), Some(&body))?;
        match answer.status {
            202 => Ok(Asked::Accepted(answer.why())),
            400 | 409 | 429 | 503 | 504 => Ok(Asked::Refused(answer.why())),
            status => Err(self.strange(format!("status {status} from /v1/{}", kind.as_str()))),
        }
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, ClientError> {
        let no_agent = |source| ClientError::NoAgent { socket: self.socket.clone(), source };
        let silent = |source| ClientError::Silent { socket: self.socket.clone(), source };
        let until = Instant::now() + self.timeout;
        let mut stream = short_path(&self.socket).and_then(|path| UnixStream::connect(&path)).map_err(no_agent)?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: agent\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.set_write_timeout(Some(self.timeout)).map_err(silent)?;
        stream.write_all(request.as_bytes()).map_err(silent)?;
        let answer = read_until(&mut stream, until).map_err(silent)?;
        Answer::parse(&answer).map_err(|why| self.strange(why))
    }

    fn strange(&self, why: String) -> ClientError {
        ClientError::Strange { socket: self.socket.clone(), why }
    }
}

/// Everything up to the end of the stream, which must come before `until`.
fn read_until(stream: &mut UnixStream, until: Instant) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut part = [0; 8192];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if bytes.len() as u64 > ANSWER_CAP {
            return Err(io::Error::other("an answer of more than 1 MiB"));
        }
    }
}

impl Answer {
    /// An HTTP/1.0 answer: it has no chunks, and ends with the connection.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let end =
            bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("an answer without an end of its head")?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut words = head.split_whitespace();
        let version = words.next().filter(|version| version.starts_with("HTTP/1."));
        let status = words.next().and_then(|status| status.parse().ok());
        let (Some(_), Some(status)) = (version, status) else {
            return Err(format!("an answer that begins with {:?}", head.lines().next().unwrap_or_default()));
        };
        let body =
            serde_json::from_slice(&bytes[end + 4..]).map_err(|error| format!("its answer is no JSON: {error}"))?;
        Ok(Self { status, body })
    }

    /// The sentence in an answer.
    fn why(&self) -> String {
        self.body.get("why").and_then(Value::as_str).unwrap_or("it does not say why").to_owned()
    }
}
