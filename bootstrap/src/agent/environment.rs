//! What a service and a hook find in their environment: what the pins name, what the agent says, and nothing else.
//!
//! A follower is not told of anything exclusive. Documented in `docs/agent.md`, "Environment". Layer: pure.

use std::collections::BTreeMap;
use std::path::Path;

use manifests::document::pins::Pins;

use super::persist::AgentDir;
use crate::driver::ServiceRole;

/// What is passed on because hardly any program goes without.
const COMMON: &[&str] = &["PATH", "HOME", "LANG", "TZ"];

/// The variables of the agent itself.
#[derive(Clone, Default)]
pub struct Surroundings(BTreeMap<String, String>);

impl Surroundings {
    /// The variables that are text; others cannot be named in pins.
    pub fn of(variables: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self(variables.into_iter().filter_map(text).collect())
    }
}

/// The environment of a service in a role, and of a hook about it.
pub fn of_service(
    agent: &Surroundings,
    pins: &Pins,
    name: &str,
    node: &Path,
    role: ServiceRole,
    term: u64,
) -> Vec<(String, String)> {
    let secrets = pins.needs.secrets.iter().filter(|secret| secret.from == "environment").map(|secret| &*secret.name);
    let named = COMMON.iter().copied().chain(pins.needs.environment.iter().map(String::as_str)).chain(secrets);
    let mut environment: BTreeMap<String, String> =
        named.filter_map(|name| Some((name.to_owned(), agent.0.get(name)?.clone()))).collect();
    let exclusive = match (role, &pins.service) {
        (ServiceRole::Leader, Some(service)) => service.exclusive.join(","),
        _ => String::new(),
    };
    let socket = AgentDir::path_in(node).join("agent.sock");
    environment.extend([
        ("SNAPKIT_ROLE".to_owned(), role.as_str().to_owned()),
        ("SNAPKIT_TERM".to_owned(), term.to_string()),
        ("SNAPKIT_NODE".to_owned(), name.to_owned()),
        ("SNAPKIT_NODE_DIR".to_owned(), node.display().to_string()),
        ("SNAPKIT_AGENT_SOCKET".to_owned(), socket.display().to_string()),
        ("SNAPKIT_EXCLUSIVE".to_owned(), exclusive),
    ]);
    environment.into_iter().collect()
}
