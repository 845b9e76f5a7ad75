//! Facts of a node, told by the program that runs on it: what it runs, how it is configured, its clocks, its last receipt.
//!
//! A drill asks every node the same command before and after, so what was changed meanwhile shows. Layer: the edge; reads only.

use std::fs;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};
use snapkit::node::NodeDir;
use snapkit::receipt::program_sha256;

use super::series::{boot_id, now_us};

/// The form of facts.
pub const SCHEMA: &str = "bootstrap.node-facts/1";
/// Files in a node directory that configure it.
const CONFIGURATION: [&str; 2] = ["bootstrap.toml", "node.toml"];
/// The largest receipt that is passed on.
const RECEIPT_CAP: u64 = 1 << 20;
/// How much of the end of an agent's log is passed on.
const LOG_END: usize = 16 * 1024;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The node directory.
    pub directory: String,
    /// Whether it is there.
    pub exists: bool,
    /// The version of this program.
    pub version: String,
    /// SHA-256 of it.
    pub program_sha256: Digest,
    /// SHA-256 over the files that configure the node, with their names.
    pub configuration_sha256: Digest,
    /// The name of the machine.
    pub host: String,
    /// Its boot.
    pub boot_id: String,
    /// Microseconds since then.
    pub mono_us: u64,
    /// Its wall clock at that moment.
    pub wall: Timestamp,
    /// What keeps that in step with others.
    pub clock: String,
    /// The active generation.
    pub active: Option<String>,
    /// The receipt of it, as it was signed.
    pub receipt: Option<String>,
    /// The end of the agent's log.
    pub log: String,
}

/// The facts of the node in this directory; one that is not there has facts, too.
///
/// # Errors
/// When the machine cannot be read.
pub fn of_node(directory: &Path) -> io::Result<NodeFacts> {
    let mut configuration = Vec::new();
    for name in CONFIGURATION {
        match fs::read(directory.join(name)) {
            Ok(bytes) => configuration.extend([name.as_bytes(), b"\n", &bytes, b"\n"].concat()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let node = if directory.join(".node").is_dir() { NodeDir::open(directory).ok() } else { None };
    let status = node.as_ref().and_then(|node| snapkit::node::status(node).ok());
    let active = status.as_ref().and_then(|status| status.active.clone());
    let receipt = match (&node, &active) {
        (Some(node), Some(active)) => read_capped(&node.receipt(active)),
        _ => None,
    };
    let log = fs::read(crate::bringup::agent::log_of(directory)).unwrap_or_default();
    Ok(NodeFacts {
        directory: directory.display().to_string(),
        exists: directory.exists(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        program_sha256: program_sha256()?,
        configuration_sha256: Digest::sha256(&configuration),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        boot_id: boot_id()?,
        mono_us: now_us(),
        wall: Timestamp::now(),
        clock: clock(),
        active: active.map(|active| active.to_string()),
        receipt,
        log: String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_END)..]).into_owned(),
    })
}

fn read_capped(path: &Path) -> Option<String> {
    let small = fs::metadata(path).is_ok_and(|file| file.len() <= RECEIPT_CAP);
    if small { fs::read_to_string(path).ok() } else { None }
}

/// What disciplines the clock, by what runs; nobody is asked.
fn clock() -> String {
    let comm = |entry: fs::DirEntry| fs::read_to_string(entry.path().join("comm")).ok();
    let running: Vec<String> = match fs::read_dir("/proc") {
        Ok(entries) => entries.flatten().filter_map(comm).map(|name| name.trim().to_owned()).collect(),
        Err(_) => Vec::new(),
    };
    // The kernel keeps 15 characters of a name.
    let known =
        [("chronyd", "chrony"), ("systemd-timesyn", "systemd-timesyncd"), ("ntpd", "ntpd"), ("ntpd-rs", "ntpd-rs")];
    let found = known.into_iter().find(|(comm, _)| running.iter().any(|name| name == comm));
    found.map_or("none", |(_, name)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_configuration_has_another_digest_and_a_missing_node_has_facts() {
        let place = tempfile::tempdir().unwrap();
        let missing = of_node(&place.path().join("none")).unwrap();
        assert!(!missing.exists && missing.active.is_none());
        fs::write(place.path().join("bootstrap.toml"), "a = 1\n").unwrap();
        let before = of_node(place.path()).unwrap();
        fs::write(place.path().join("bootstrap.toml"), "a = 2\n").unwrap();
        let after = of_node(place.path()).unwrap();
        assert_ne!(before.configuration_sha256, after.configuration_sha256);
        assert_eq!(before.program_sha256, after.program_sha256);
        assert!(after.mono_us >= before.mono_us);
    }
}
