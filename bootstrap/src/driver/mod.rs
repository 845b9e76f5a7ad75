//! Drivers: how the one service of a node is started, stopped, and proven dead.
//!
//! The agent knows the service only through [`Driver`]. Whatever a driver starts is bound to a guard, a process of its own
//! that knows until when the service may live and kills it then, also when the agent is stopped, killed or hung.
//! Documented in `docs/drivers.md`. Layer: the edge; decides nothing about who leads.

mod compose;
mod external;
pub mod guard;
mod hooks;
mod process;
pub mod procfs;
mod sweep;
mod systemd;

use std::path::{Path, PathBuf};
use std::time::Duration;

use manifests::document::image::ImagePin;
use manifests::document::service::Service;
use serde::{Deserialize, Serialize};

use crate::clock::BootTime;

/// What the service is run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceRole {
    /// It serves what may be served by many, and opens nothing exclusive.
    Follower,
    /// It is the one.
    Leader,
}

impl ServiceRole {
    /// The word for it, as in pins and on surfaces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follower => "follower",
            Self::Leader => "leader",
        }
    }
}

/// What a service is started with.
#[derive(Debug, Clone)]
pub struct Start {
    /// As what.
    pub role: ServiceRole,
    /// The term it leads in, or that of the leader it follows.
    pub term: u64,
    /// When the guard kills it, unless [`Driver::extend`] comes first; `None` where no lease limits it.
    pub until: Option<BootTime>,
    /// The directory it is started in: the node directory.
    pub directory: PathBuf,
    /// Variables beside those that the driver passes on.
    pub environment: Vec<(String, String)>,
}

/// What was started, as it is written down to be found again after a crash of the agent. Contents belong to the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// As what it runs.
    pub role: ServiceRole,
    /// The term it was started in.
    pub term: u64,
    /// The driver's own marks: process ids with their start times, a unit, containers.
    pub marks: serde_json::Value,
}

/// Whether the service lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// It is proven dead; how it ended, in words.
    Dead(String),
}

/// What a driver must know of the node.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// The service, as the pins name it.
    pub service: &'a Service,
    /// The images of the pins.
    pub images: &'a [ImagePin],
    /// A directory of the agent, closed to others: locks and other files that are worth nothing after a reboot.
    pub directory: &'a Path,
    /// The program that has the hidden subcommand `guard`.
    pub guard: &'a Path,
    /// The command of the container engine.
    pub engine: &'a str,
    /// Which systemd runs units.
    pub manager: Manager,
}

/// Which systemd runs units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// That of the machine.
    System,
    /// That of the user whom the agent runs as.
    User,
}

impl Manager {
    /// The machine's for root, the user's for others.
    pub fn of_this_user() -> Self {
        if rustix::process::geteuid().is_root() { Self::System } else { Self::User }
    }
}

/// The program that runs now, also if its file was replaced or removed since.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

impl<'a> Setup<'a> {
    /// A setup with this program as the guard, Docker as the engine, and the machine's systemd for root, the user's for
    /// others.
    pub fn new(service: &'a Service, images: &'a [ImagePin], directory: &'a Path) -> Self {
        let manager = Manager::of_this_user();
        Self { service, images, directory, guard: Path::new(THIS_PROGRAM), engine: "docker", manager }
    }

    /// Locked by a guard while anything of the service may live.
    fn lock(&self) -> PathBuf {
        self.directory.join("guard.lock")
    }
}

/// The driver that the pins ask for. Nothing is started or changed.
///
/// # Errors
/// [`DriverError`] when it cannot be used here.
pub fn open(setup: &Setup<'_>) -> Result<Box<dyn Driver>, DriverError> {
    match setup.service.driver.as_str() {
        "process" => Ok(Box::new(process::ProcessDriver::new(setup)?)),
        "systemd" => {
            let kind = external::Kind::Systemd(systemd::SystemdDriver::new(setup)?);
            Ok(Box::new(external::ExternalDriver::new(setup, kind)))
        }
        "compose" => {
            let kind = external::Kind::Compose(compose::ComposeDriver::new(setup)?);
            Ok(Box::new(external::ExternalDriver::new(setup, kind)))
        }
        "hooks" => {
            let kind = external::Kind::Hooks(hooks::HooksDriver::new(setup)?);
            Ok(Box::new(external::ExternalDriver::new(setup, kind)))
        }
        other => Err(DriverError::Start { why: format!("the driver {other} is not known here") }),
    }
}

/// Whether anything is started for this role: a leader always, a follower only where the pins say how.
pub fn is_started(service: &Service, role: ServiceRole) -> bool {
    role == ServiceRole::Leader || service.roles.iter().any(|one| one.role == role.as_str())
}

/// The arguments of a role, which a follower must have.
fn role_arguments(service: &Service, role: ServiceRole) -> Result<&[String], DriverError> {
    match service.roles.iter().find(|one| one.role == role.as_str()) {
        Some(one) => Ok(&one.args),
        None if role == ServiceRole::Leader => Ok(&[]),
        None => Err(DriverError::Start { why: "the pins do not say how it is started as a follower".into() }),
    }
}

/// The arguments of a role as one variable, for drivers that add no arguments themselves.
fn role_variable(service: &Service, role: ServiceRole) -> Result<Option<(String, String)>, DriverError> {
    let arguments = role_arguments(service, role)?;
    let is_plain = |text: &String| !text.contains(|one: char| one.is_whitespace() || "\"'\\$`".contains(one));
    if let Some(odd) = arguments.iter().find(|text| !is_plain(text)) {
        let why = format!(
            "the argument {odd:?} of its role has white space, quotes, $ or \\, which {ARGUMENTS} cannot pass on"
        );
        return Err(DriverError::Start { why });
    }
    Ok((!arguments.is_empty()).then(|| (ARGUMENTS.to_owned(), arguments.join(" "))))
}

/// The variable with the arguments of the role, for units and compose files.
const ARGUMENTS: &str = "SNAPKIT_ARGS";

/// Starts and stops one service. Calls block and are bounded in time.
pub trait Driver: Send {
    /// Starts the service, which must not be running.
    ///
    /// `written` is called with what will find the service again before anything of it can run; if that fails, nothing
    /// was started.
    ///
    /// # Errors
    /// [`DriverError`]; whatever was begun is proven dead, or the error says that it is not.
    fn start(
        &mut self,
        start: &Start,
        written: &mut dyn FnMut(&Instance) -> std::io::Result<()>,
    ) -> Result<Instance, DriverError>;

    /// Lets the service live until `until` instead. Cheap; called at every renewal.
    ///
    /// # Errors
    /// [`DriverError`] when the guard cannot be told; the old deadline stands.
    fn extend(&mut self, until: BootTime) -> Result<(), DriverError>;

    /// Asks the service to end, kills it after `grace`, and returns once it is proven dead.
    ///
    /// # Errors
    /// [`DriverError::Alive`] when death cannot be proven.
    fn stop(&mut self, grace: Duration) -> Result<(), DriverError>;

    /// Kills everything of the service at once, and returns once it is proven dead.
    ///
    /// # Errors
    /// [`DriverError::Alive`] when death cannot be proven.
    fn kill(&mut self) -> Result<(), DriverError>;

    /// Whether the service lives.
    ///
    /// # Errors
    /// [`DriverError`] when it cannot be told: then it counts as alive.
    fn life(&mut self) -> Result<Life, DriverError>;

    /// Kills what an earlier agent started and left behind, and returns once it is proven dead.
    ///
    /// # Errors
    /// [`DriverError::Alive`] when death cannot be proven.
    fn reclaim(&mut self, left: &Instance) -> Result<(), DriverError>;
}

/// Why a driver could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The service did not start; nothing of it runs.
    #[error("the service does not start: {why}")]
    Start {
        /// What happened.
        why: String,
    },
    /// Something of the service may still run. Nobody may lead before it is gone.
    #[error("{what} cannot be proven dead: {why}")]
    Alive {
        /// What it is: a process, unit or container.
        what: String,
        /// What was tried and seen.
        why: String,
    },
    /// What runs, or would run, is not what the pins name.
    #[error("{what} is not what the pins name: {why}")]
    Identity {
        /// The container or image.
        what: String,
        /// What was expected and found.
        why: String,
    },
    /// The program behind the driver, or the guard, cannot be used.
    #[error("cannot {what}")]
    Use {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}
