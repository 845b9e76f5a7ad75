//! The demo service: small, and honest in what a drill needs. It keeps state, says who it is, and notices two leaders.
//!
//! It appends numbered lines to a file of its tree, each forced to disk before it is acknowledged. As leader it consumes a
//! queue, which gives itself to one consumer and takes itself from a dead one; a second one is told so and counted, as a
//! message service counts with status 409. Every answer says which node gave it. Layer: the edge; started by an agent.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};
use snapkit::cancel::Cancel;

use super::http::Asker;
use crate::driver::ServiceRole;

/// The file of the tree that the service writes to.
pub const LINES: &str = "lines";
/// How much of the end of that file is read for its last line.
const END_BYTES: u64 = 64 * 1024;

/// How often it looks whether it was asked to end.
const NAP: Duration = Duration::from_millis(20);

/// How the service is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As what.
    pub role: ServiceRole,
    /// The queue that one leader consumes: a directory that all nodes see.
    pub queue: PathBuf,
    /// Where each node listens.
    pub at: BTreeMap<String, SocketAddr>,
    /// The node, its term, and its directory, as the agent gives them.
    pub node: String,
    /// The term it leads in, or that it follows.
    pub term: u64,
    /// The node directory.
    pub directory: PathBuf,
}

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No address is given for its node.
    #[error("no address is given for the node {0}")]
    Address(String),
    /// The machine failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ServiceError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }
}

/// What it works with.
struct Service {
    node: String,
    instance: String,
    role: ServiceRole,
    term: u64,
    queue: PathBuf,
    /// The file and the number of its last line. Only a leader writes.
    lines: Mutex<(File, u64)>,
    /// The queue, while it is this one's.
    held: Option<File>,
}

/// Runs until it is asked to end.
///
/// # Errors
/// [`ServiceError`] when it cannot begin.
pub fn run(settings: &Settings, cancel: &Cancel) -> Result<(), ServiceError> {
    let Some(address) = settings.at.get(&settings.node).copied() else {
        return Err(ServiceError::Address(settings.node.clone()));
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ServiceError::io("begin"))?;
    runtime.block_on(async {
        let listener =
            tokio::net::TcpListener::bind(address).await.map_err(ServiceError::io(format!("listen on {address}")))?;
        let service = Arc::new(Service::open(settings)?);
        let routes = Router::new()
            .route("/ready", get(ready))
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(readyz))
            .route("/rolez", get(rolez))
            .route("/who", get(who))
            .route("/add", post(add))
            .route("/conflicts", get(conflicts))
            .with_state(service);
        let asked_to_end = async {
            while !cancel.is_requested() {
                tokio::time::sleep(NAP).await;
            }
        };
        tokio::select! {
            served = axum::serve(listener, routes) => served.map_err(ServiceError::io(format!("serve on {address}"))),
            () = asked_to_end => Ok(()),
        }
    })
}

/// What the running service of a node answers, for a probe of its agent; status 200 counts.
///
/// # Errors
/// Why it is not good, in words.
pub fn ask(at: &BTreeMap<String, SocketAddr>, node: &str, path: &str) -> Result<String, String> {
    let address = at.get(node).ok_or_else(|| format!("no address is given for the node {node}"))?;
    let asker = Asker::new(Duration::from_secs(2), false).map_err(|error| error.to_string())?;
    let url = format!("http://{address}{path}");
    let told = asker.ask(Method::GET, &url, None)?;
    match (told.status, told.body) {
        (200, Some(Value::String(word))) => Ok(word),
        (200, body) => Ok(body.unwrap_or_default().to_string()),
        (status, _) => Err(format!("{url} answers with status {status}, expected 200")),
    }
}

/// How many times a consumer came while another one had the queue.
pub fn conflicts_of(queue: &Path) -> u64 {
    let text = fs::read_to_string(queue.join("conflicts.jsonl")).unwrap_or_default();
    text.lines().count() as u64
}

impl Service {
    fn open(settings: &Settings) -> Result<Self, ServiceError> {
        let path = settings.directory.join("current").join(LINES);
        let name = path.display().to_string();
        let mut random = [0_u8; 8];
        getrandom::fill(&mut random).map_err(|error| ServiceError::io("begin")(io::Error::other(error)))?;
        let held = match settings.role {
            ServiceRole::Leader => consume(settings)?,
            ServiceRole::Follower => None,
        };
        let mut file = match settings.role {
            ServiceRole::Leader => File::options().create(true).append(true).read(true).open(&path),
            // A follower writes nothing, and may have nothing to read yet.
            ServiceRole::Follower => File::open(&path).or_else(|_| File::open("/dev/null")),
        }
        .map_err(ServiceError::io(format!("open {name}")))?;
        let last = last_number(&mut file).map_err(ServiceError::io(format!("read {name}")))?;
        Ok(Self {
            node: settings.node.clone(),
            instance: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            role: settings.role,
            term: settings.term,
            queue: settings.queue.clone(),
            lines: Mutex::new((file, last)),
            held,
        })
    }

    fn last(&self) -> u64 {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn is_leader(&self) -> bool {
        self.role == ServiceRole::Leader && self.held.is_some()
    }
}

/// Takes the queue; where somebody has it, that is counted, and this one leads without it, as a service would that was not
/// made for two.
fn consume(settings: &Settings) -> Result<Option<File>, ServiceError> {
    let path = settings.queue.join("consumer");
    let name = path.display().to_string();
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(ServiceError::io(format!("open {name}")))?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).map_err(ServiceError::io(format!("write {name}")))?;
            let who = format!("{} in term {}", settings.node, settings.term);
            file.write_all(who.as_bytes()).map_err(ServiceError::io(format!("write {name}")))?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => {
            let mut by = String::new();
            let _ = file.read_to_string(&mut by);
            let conflict = json!({
                "status": 409,
                "node": settings.node,
                "term": settings.term,
                "consumed_by": by,
                "wall": Timestamp::now(),
            });
            let line = format!("{conflict}\n");
            let path = settings.queue.join("conflicts.jsonl");
            let mut conflicts = File::options()
                .create(true)
                .append(true)
                .open(&path)
                .map_err(ServiceError::io(format!("open {}", path.display())))?;
            conflicts.write_all(line.as_bytes()).map_err(ServiceError::io(format!("write {}", path.display())))?;
            Ok(None)
        }
        Err(TryLockError::Error(source)) => Err(ServiceError::Io { what: format!("lock {name}"), source }),
    }
}

/// The number in the last whole line; 0 for none.
fn last_number(file: &mut File) -> io::Result<u64> {
    let length = match file.seek(SeekFrom::End(0)) {
        Ok(length) => length,
        Err(_) => return Ok(0),
    };
    file.seek(SeekFrom::Start(length.saturating_sub(END_BYTES)))?;
    let mut end = Vec::new();
    file.take(END_BYTES).read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(&[][..], |at| &end[..at]);
    let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let line: Option<Value> = serde_json::from_slice(line).ok();
    Ok(line.and_then(|line| line["n"].as_u64()).unwrap_or(0))
}

async fn ready(State(service): State<Arc<Service>>) -> (StatusCode, Json<&'static str>) {
    match service.role {
        ServiceRole::Leader if service.held.is_none() => {
            (StatusCode::SERVICE_UNAVAILABLE, Json("somebody else consumes the queue"))
        }
        _ => (StatusCode::OK, Json("ready")),
    }
}

/// The same in the words that a fleet's probe expects behind an ingress.
async fn readyz(service: State<Arc<Service>>) -> (StatusCode, &'static str) {
    let (status, _) = ready(service).await;
    (status, if status.is_success() { "ready" } else { "not ready" })
}

async fn rolez(State(service): State<Arc<Service>>) -> &'static str {
    match service.role {
        ServiceRole::Leader => "leader",
        ServiceRole::Follower => "standby",
    }
}

/// Who this is; with a status that says whether it serves, so that whoever counts only good answers counts leaders.
async fn who(State(service): State<Arc<Service>>) -> (StatusCode, Json<Value>) {
    let status = if service.is_leader() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "node": service.node,
        "instance": service.instance,
        "role": service.role.as_str(),
        "term": service.term,
        "n": service.last(),
    });
    (status, Json(body))
}

async fn conflicts(State(service): State<Arc<Service>>) -> Json<Value> {
    Json(json!({ "conflicts": conflicts_of(&service.queue) }))
}

async fn add(State(service): State<Arc<Service>>, Json(value): Json<Value>) -> (StatusCode, Json<Value>) {
    if !service.is_leader() {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "node": service.node, "why": "it does not lead" })));
    }
    match write(&service, &value) {
        Ok(n) => {
            let Service { node, instance, term, .. } = &*service;
            (StatusCode::OK, Json(json!({ "n": n, "node": node, "instance": instance, "term": term })))
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "why": error.to_string() }))),
    }
}

fn write(service: &Service, value: &Value) -> io::Result<u64> {
    let mut lines = service.lines.lock().unwrap_or_else(PoisonError::into_inner);
    let n = lines.1 + 1;
    let line = json!({ "n": n, "term": service.term, "node": service.node, "wall": Timestamp::now(), "value": value });
    lines.0.write_all(format!("{line}\n").as_bytes())?;
    lines.0.sync_data()?;
    lines.1 = n;
    Ok(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::eventually;

    fn settings(directory: &Path, role: ServiceRole) -> Settings {
        fs::create_dir_all(directory.join("current")).unwrap();
        fs::create_dir_all(directory.join("queue")).unwrap();
        Settings {
            role,
            queue: directory.join("queue"),
            at: BTreeMap::new(),
            node: "a".into(),
            term: 3,
            directory: directory.to_owned(),
        }
    }

    #[test]
    fn numbers_go_on_where_the_state_ends_and_a_torn_line_does_not_count() {
        let place = tempfile::tempdir().unwrap();
        let settings = settings(place.path(), ServiceRole::Leader);
        fs::write(place.path().join("current/lines"), "{\"n\":1}\n{\"n\":2}\n{\"n\":3").unwrap();
        let service = Service::open(&settings).unwrap();
        assert_eq!(service.last(), 2);
        assert_eq!(write(&service, &json!({})).unwrap(), 3);
    }

    #[test]
    fn a_second_consumer_is_refused_and_counted() {
        let place = tempfile::tempdir().unwrap();
        let settings = settings(place.path(), ServiceRole::Leader);
        let first = Service::open(&settings).unwrap();
        let second = Service::open(&settings).unwrap();
        assert!(first.is_leader() && !second.is_leader());
        assert_eq!(conflicts_of(&settings.queue), 1);
        drop(first);
        eventually("a dead consumer's queue is free", || Service::open(&settings).unwrap().is_leader());
    }

    #[test]
    fn a_follower_neither_consumes_nor_writes() {
        let place = tempfile::tempdir().unwrap();
        let service = Service::open(&settings(place.path(), ServiceRole::Follower)).unwrap();
        assert!(!service.is_leader());
        assert!(!place.path().join("current/lines").exists());
    }
}
