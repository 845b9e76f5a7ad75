//! A stand-in for a container engine: a script that answers as Docker's or Podman's command does.
//!
//! It knows images and containers that a test gives it, says whatever id it is told to, and loads and saves real
//! archives; so what engines of other kinds and versions report can be tried without them. Real ones are tried by
//! `tests/servers/check-images`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::Machine;

/// The script: state lies in the directory it lies in, one file for each name.
const SCRIPT: &str = r#"#!/bin/sh
here=$(dirname "$0")
last() { for last; do :; done; printf %s "$last" | tr '/:' '__'; }
answer() { cat "$here/$1" 2>/dev/null || { echo "Error: No such $2: $3" >&2; exit 1; }; }
case "$1 $2" in
"image inspect") answer "image-$(last "$@")" image "$*" ;;
"container inspect") answer "container-$(last "$@")" container "$*" ;;
"ps --quiet") cat "$here/running" 2>/dev/null || true ;;
"save --output") cp "$here/saved-$(last "$@")" "$3" || exit 1 ;;
"load --input") cp "$3" "$here/loaded" ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;

/// The stand-in, in the working directory of a machine.
#[derive(Debug)]
pub struct StandIn {
    directory: PathBuf,
}

impl StandIn {
    /// An engine that has nothing.
    pub fn new(machine: &Machine) -> Self {
        let directory = machine.path("engine");
        fs::create_dir_all(&directory).unwrap();
        let script = directory.join("docker");
        fs::write(&script, SCRIPT).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { directory }
    }

    /// The command.
    pub fn command(&self) -> String {
        self.directory.join("docker").into_os_string().into_string().unwrap()
    }

    fn put(&self, kind: &str, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.directory.join(format!("{kind}-{}", name.replace(['/', ':'], "_"))), bytes).unwrap();
    }

    /// Has an image under a name and under its id; `saved` is what saving it gives.
    pub fn image(&self, name: &str, id: &str, diff_ids: &[String], saved: Option<&[u8]>) {
        let image = json!({
            "Id": id, "RepoDigests": null, "Os": "linux", "Architecture": "amd64",
            "RootFS": {"Type": "layers", "Layers": diff_ids},
            "Config": {"Env": ["PATH=/bin"], "Entrypoint": null, "Cmd": ["/content"], "User": "", "WorkingDir": ""},
        });
        for name in [name, id] {
            self.put("image", name, json!([image]).to_string());
        }
        if let Some(saved) = saved {
            self.put("saved", id, saved);
        }
    }

    /// Runs a container that was created from the image with this id, called so then. `change` may change what it says.
    pub fn container(&self, name: &str, id: &str, reference: &str, change: impl FnOnce(&mut Value)) {
        let mut container = json!({
            "Name": format!("/{name}"), "Image": id, "Path": "/content", "Args": [], "State": {"Running": true},
            "Config": {"Image": reference, "Env": ["PATH=/bin"], "User": "", "WorkingDir": ""},
        });
        change(&mut container);
        self.put("container", name, json!([container]).to_string());
        fs::write(self.directory.join("running"), format!("{name}\n")).unwrap();
    }

    /// What was loaded last.
    pub fn loaded(&self) -> Vec<u8> {
        fs::read(self.directory.join("loaded")).unwrap()
    }
}
