//! The driver `compose`: containers of one project, from images that the pins name.
//!
//! The containers are created first and looked at: which image each has, by its config and layers and not by a name, and
//! that the engine never starts it by itself. Only then are they started, and the running ones are looked at again. The
//! guard removes them when their time is over. Proof of death: the engine runs none of the project, and the processes that
//! were seen in them are gone. Layer: the edge.

mod containers;
mod text;

use std::fmt;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifests::digest::Digest;
use manifests::document::image::ImagePin;
use manifests::document::service::Service;
use serde::{Deserialize, Serialize};
use snapkit::cancel::Cancel;
use snapkit::image::engine::Engine;

use super::guard::Target;
use super::procfs::Process;
use super::{DriverError, Life, Setup, Start, role_variable};
use crate::command::{self, Finished, Leftovers};
use containers::Container;

/// How long a question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long creating or starting containers may take.
const WORK_LIMIT: Duration = Duration::from_secs(540);

/// Containers that belong together, and what manages them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Project {
    engine: String,
    /// The command that understands compose files, with its first arguments.
    compose: Vec<String>,
    name: String,
    /// Where the compose file and the variables for it are.
    directory: PathBuf,
    /// What relative paths in it begin at.
    base: PathBuf,
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the compose project {}", self.name)
    }
}

/// Creates the containers and checks them.
pub(super) struct ComposeDriver {
    project: Project,
    service: Service,
    images: Vec<ImagePin>,
    /// Ids of the containers that were created and found right.
    created: Vec<String>,
}

impl ComposeDriver {
    pub(super) fn new(setup: &Setup<'_>) -> Result<Self, DriverError> {
        let text = setup.service.compose.as_deref().unwrap_or_default();
        text::check(text)?;
        if setup.service.user.is_some() {
            let why = "the driver compose takes no `user`: say it in the compose file".into();
            return Err(DriverError::Start { why });
        }
        let images: Vec<ImagePin> =
            setup.images.iter().filter(|image| setup.service.images.contains(&image.name)).cloned().collect();
        if images.is_empty() {
            let why = "the pins name no image in `service.images`, so nothing could be told from a wrong one".into();
            return Err(DriverError::Start { why });
        }
        let compose = compose_of(setup.engine)?;
        let place = fs::canonicalize(setup.directory)
            .map_err(|source| DriverError::Use { what: format!("find {}", setup.directory.display()), source })?;
        // The same for this node directory on this machine, whoever starts it.
        let digest = Digest::sha256(place.as_os_str().as_encoded_bytes()).to_string();
        let project = Project {
            engine: setup.engine.to_owned(),
            compose,
            name: format!("snapkit-{}", &digest[..12]),
            directory: place.clone(),
            base: place,
        };
        Ok(Self { project, service: setup.service.clone(), images, created: Vec::new() })
    }

    pub(super) fn project(&self) -> &Project {
        &self.project
    }

    /// Creates the containers, and checks that they are what the pins name. None of them runs.
    pub(super) fn prepare(&mut self, start: &Start) -> Result<(), DriverError> {
        let failed = |why: String| DriverError::Start { why };
        self.created.clear();
        self.project.base.clone_from(&start.directory);
        let project = &self.project;
        if let Some(one) = project.containers().map_err(failed)?.into_iter().find(|one| one.is_alive()) {
            let why = format!("the container {} runs before anybody here started it; remove it", one.name);
            return Err(DriverError::Alive { what: project.to_string(), why });
        }
        // Those of an earlier start, which may be of other images.
        project.remove().map_err(failed)?;
        let mut environment = start.environment.clone();
        environment.extend(role_variable(&self.service, start.role)?);
        project
            .write(self.service.compose.as_deref().unwrap_or_default(), &environment)
            .map_err(|source| DriverError::Use { what: format!("write files of {project}"), source })?;
        let mut arguments = vec!["up", "--no-start", "--no-build"];
        if project.is_plugin() {
            // What is missing was to be loaded before; here nothing is fetched.
            arguments.extend(["--pull", "never"]);
        }
        let said = project.compose(&arguments, WORK_LIMIT).map_err(failed)?;
        let containers = project.containers().map_err(failed)?;
        if containers.is_empty() {
            // Some of these commands end with 0 whatever happened.
            return Err(failed(format!("the compose file makes no container: {}", said.why())));
        }
        self.created = self.checked(&containers)?;
        Ok(())
    }

    /// Checks that what runs is what was created.
    pub(super) fn verify_running(&self) -> Result<(), DriverError> {
        let found = self.project.containers().map_err(|why| DriverError::Start { why })?;
        let ids = self.checked(&found)?;
        match found.iter().zip(&ids).find(|(_, id)| !self.created.contains(id)) {
            None => Ok(()),
            Some((container, id)) => Err(DriverError::Identity {
                what: format!("the container {}", container.name),
                why: format!("it was replaced while it was started; its id is now {id}"),
            }),
        }
    }

    /// Checks every container against the pins; their ids.
    fn checked(&self, containers: &[Container]) -> Result<Vec<String>, DriverError> {
        for container in containers {
            if !container.restarts.is_empty() {
                let why = format!(
                    "the restart policy of the container {} is {}, so the engine would start it without the agent; \
                     take it out of the compose file",
                    container.name, container.restarts
                );
                return Err(DriverError::Start { why });
            }
            self.check_image(container)?;
        }
        Ok(containers.iter().map(|container| container.id.clone()).collect())
    }

    fn check_image(&self, container: &Container) -> Result<(), DriverError> {
        let engine = Engine::new(&self.project.engine, &Cancel::default());
        let what = format!("the image of the container {}", container.name);
        let unknown = |error: snapkit::image::ImageError| DriverError::Identity {
            what: what.clone(),
            why: std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source())
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(": "),
        };
        let held = engine.inspect(&container.image).map_err(unknown)?;
        for pin in self.images.iter().filter(|pin| pin.diff_ids == held.diff_ids) {
            let found = engine.identify(&container.image, Some(pin), &self.project.directory).map_err(unknown)?;
            if found.config == pin.config && found.diff_ids == pin.diff_ids {
                return Ok(());
            }
        }
        let expected: Vec<String> =
            self.images.iter().map(|pin| format!("{} (config {})", pin.name, pin.config)).collect();
        let why = format!("found {}, expected one of {}", container.image, expected.join(", "));
        Err(DriverError::Identity { what, why })
    }
}

/// The command for compose files that goes with an engine.
fn compose_of(engine: &str) -> Result<Vec<String>, DriverError> {
    let own = [engine.to_owned(), "compose".to_owned()];
    let separate = [format!("{engine}-compose")];
    for prefix in [own.as_slice(), &separate] {
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg("version");
        if command::run(command, ANSWER_LIMIT, Leftovers::Kill).is_ok_and(|ended| ended.is_good()) {
            return Ok(prefix.to_vec());
        }
    }
    let why = format!("neither `{engine} compose` nor `{engine}-compose` can be run here; install one");
    Err(DriverError::Start { why })
}

/// What the engine and its commands need of the agent's own environment.
const PASSED_ON: &[&str] = &["DOCKER_", "CONTAINER", "XDG_", "PATH", "HOME", "TMPDIR"];

impl Project {
    fn is_plugin(&self) -> bool {
        self.compose.len() > 1
    }

    /// `podman-compose` cannot be told where relative paths begin: that is where the file lies.
    fn is_podman_compose(&self) -> bool {
        !self.is_plugin() && self.engine.ends_with("podman")
    }

    fn file(&self) -> PathBuf {
        if self.is_podman_compose() {
            self.base.join(".snapkit-compose.yml")
        } else {
            self.directory.join("compose.yml")
        }
    }

    fn variables(&self) -> PathBuf {
        self.directory.join("compose.environment")
    }

    fn write(&self, text: &str, environment: &[(String, String)]) -> std::io::Result<()> {
        let write = |path: &Path, content: &[u8]| -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
            file.write_all(content)
        };
        write(&self.file(), text.as_bytes())?;
        write(&self.variables(), &serde_json::to_vec(environment)?)
    }

    fn compose(&self, arguments: &[&str], limit: Duration) -> Result<Finished, String> {
        let variables: Vec<(String, String)> = fs::read(self.variables())
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or("the variables of the compose file cannot be read")?;
        let mut command = Command::new(&self.compose[0]);
        command.args(&self.compose[1..]).arg("--file").arg(self.file()).args(["--project-name", &self.name]);
        if !self.is_podman_compose() {
            command.arg("--project-directory").arg(&self.base);
        }
        command.args(arguments).current_dir(&self.base).env_clear();
        let kept = std::env::vars_os()
            .filter(|(name, _)| name.to_str().is_some_and(|name| PASSED_ON.iter().any(|kept| name.starts_with(kept))));
        command.envs(kept).envs(variables);
        // Podman's containers are children of what started them.
        let ended = command::run(command, limit, Leftovers::Leave)
            .map_err(|error| format!("{} cannot be run: {error}", self.compose.join(" ")))?;
        if ended.is_good() {
            Ok(ended)
        } else {
            Err(format!("{} {}: {}", self.compose.join(" "), arguments[0], ended.why()))
        }
    }

    fn engine(&self, arguments: &[&str]) -> Result<Finished, String> {
        let mut command = Command::new(&self.engine);
        command.args(arguments);
        command::run(command, ANSWER_LIMIT, Leftovers::Leave)
            .map_err(|error| format!("{} cannot be run: {error}", self.engine))
    }

    /// All containers of the project, whatever state they are in.
    fn containers(&self) -> Result<Vec<Container>, String> {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let listed = self.engine(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label])?;
        if !listed.is_good() {
            return Err(format!("{} ps: {}", self.engine, listed.why()));
        }
        let ids: Vec<&str> = listed.stdout.split_whitespace().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["container", "inspect", "--"];
        arguments.extend(&ids);
        let shown = self.engine(&arguments)?;
        if !shown.is_good() {
            return Err(format!("{} container inspect: {}", self.engine, shown.why()));
        }
        Container::all(&shown.stdout)
    }

    /// Kills and removes all containers. Volumes without a name go with them: state belongs in trees.
    fn remove(&self) -> Result<(), String> {
        let ids: Vec<String> = self.containers()?.into_iter().map(|container| container.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let mut arguments = vec!["rm", "--force", "--volumes", "--"];
        arguments.extend(ids.iter().map(String::as_str));
        let ended = self.engine(&arguments)?;
        if ended.is_good() { Ok(()) } else { Err(format!("{} rm: {}", self.engine, ended.why())) }
    }

    /// What the guard asks.
    pub(super) fn target(&self) -> Held {
        Held { project: self.clone(), seen: std::sync::Mutex::default() }
    }
}

/// A project and the processes that were seen in its containers.
pub(super) struct Held {
    project: Project,
    seen: std::sync::Mutex<Vec<Process>>,
}

impl Held {
    /// Processes that were seen and still run.
    fn left(&self) -> Vec<Process> {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.retain(|process| process.runs());
        seen.clone()
    }

    fn look(&self) -> Result<Vec<Container>, String> {
        let containers = self.project.containers()?;
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for process in containers.iter().filter_map(Container::process) {
            if !seen.contains(&process) {
                seen.push(process);
            }
        }
        drop(seen);
        Ok(containers)
    }
}

impl Target for Held {
    fn start(&self, given_up: &AtomicBool) -> Result<(), String> {
        if given_up.load(Ordering::SeqCst) {
            return Err("it was given up before it was begun".into());
        }
        // Not `up`, which would replace a container that somebody changed since it was looked at.
        self.project.compose(&["start"], WORK_LIMIT)?;
        self.look().map(drop)
    }

    fn ask_to_end(&self, grace: Duration) -> Result<(), String> {
        let seconds = grace.as_secs().max(1).to_string();
        self.project.compose(&["stop", "--timeout", &seconds], grace + ANSWER_LIMIT).map(drop)
    }

    fn kill(&self) -> Result<(), String> {
        let removed = self.project.remove();
        if removed.is_err() {
            // An engine that hangs does not keep the kernel from it.
            for process in self.left() {
                let _ = process.signal(rustix::process::Signal::KILL);
            }
        }
        removed
    }

    fn life(&self) -> Result<Life, String> {
        let containers = self.look()?;
        if containers.iter().any(Container::is_alive) || !self.left().is_empty() {
            return Ok(Life::Running);
        }
        let ended: Vec<String> = containers.iter().map(Container::how_it_ended).collect();
        Ok(Life::Dead(if ended.is_empty() { "no container is left".into() } else { ended.join(", ") }))
    }
}
