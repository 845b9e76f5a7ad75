//! A container as an engine describes it. Docker and Podman use the same names, but for details.
//!
//! Layer: pure, but for the look into `/proc`.

use std::fs;

use serde_json::Value;

use crate::driver::procfs::Process;

/// A container of the project.
#[derive(Debug, Clone)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) name: String,
    /// The id of its image, as the engine calls it.
    pub(super) image: String,
    /// When the engine starts it by itself; empty for never.
    pub(super) restarts: String,
    status: String,
    runs: bool,
    pid: u32,
    exit_code: i64,
}

impl Container {
    /// Reads the answer of `container inspect`.
    pub(super) fn all(answer: &str) -> Result<Vec<Container>, String> {
        let all: Vec<Value> =
            serde_json::from_str(answer).map_err(|error| format!("the engine's answer cannot be read: {error}"))?;
        all.iter().map(Container::of).collect()
    }

    fn of(value: &Value) -> Result<Container, String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let state = &value["State"];
        let flags = ["Running", "Paused", "Restarting"];
        let restarts = text(&value["HostConfig"]["RestartPolicy"]["Name"]);
        let container = Container {
            id: text(&value["Id"]),
            name: text(&value["Name"]).trim_start_matches('/').to_owned(),
            image: text(&value["Image"]),
            restarts: if restarts == "no" { String::new() } else { restarts },
            status: text(&state["Status"]),
            runs: flags.iter().any(|flag| state[flag].as_bool().unwrap_or_default()),
            pid: state["Pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
            exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
        };
        if container.id.is_empty() || container.image.is_empty() || container.status.is_empty() {
            return Err("the engine describes a container without id, image or state".into());
        }
        Ok(container)
    }

    /// Whether anything of it may run. A state that is not known counts as alive.
    pub(super) fn is_alive(&self) -> bool {
        let at_rest = ["created", "configured", "initialized", "exited", "stopped", "dead"];
        self.runs || self.pid != 0 || !at_rest.contains(&self.status.as_str())
    }

    /// Its first process, if that is one of this machine: the engine may be that of another.
    pub(super) fn process(&self) -> Option<Process> {
        let process = Process::of(self.pid).filter(|process| process.pid != 0)?;
        let groups = fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).ok()?;
        groups.contains(&self.id).then_some(process)
    }

    pub(super) fn how_it_ended(&self) -> String {
        format!("{} is {} with exit code {}", self.name, self.status, self.exit_code)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(state: Value) -> Container {
        Container::of(&json!({"Id": "1", "Name": "/a", "Image": "sha256:2", "State": state, "HostConfig": {}})).unwrap()
    }

    #[test]
    fn what_is_not_known_to_be_at_rest_is_alive() {
        for status in ["running", "paused", "restarting", "removing", "stopping", "new"] {
            assert!(of(json!({"Status": status, "Pid": 0})).is_alive(), "{status}");
        }
        assert!(of(json!({"Status": "exited", "Pid": 7})).is_alive());
        assert!(of(json!({"Status": "exited", "Paused": true})).is_alive());
        assert!(!of(json!({"Status": "exited", "Pid": 0, "ExitCode": 1})).is_alive());
        assert!(!of(json!({"Status": "created"})).is_alive());
        assert!(Container::of(&json!({"Id": "1"})).is_err());
    }
}
