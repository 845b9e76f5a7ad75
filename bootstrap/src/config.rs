//! `bootstrap.toml`: what the operator of a node tells its agent. Documented in `docs/agent.md`, "bootstrap.toml".
//!
//! What runs is decided by the pins; this file says where they come from, and what is this machine's own affair: hooks,
//! the surface, limits. Layer: reads one file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use snapkit::trust::Bootstrap;

use crate::driver::Manager;

/// The file's name in the node directory.
pub const FILE: &str = "bootstrap.toml";
/// The largest file that is read, in bytes; it is written by hand.
const FILE_CAP: u64 = 1 << 20;

/// Hooks that may be declared.
pub const HOOKS: &[&str] =
    &["drain", "save", "pre_promote", "post_promote", "post_demote", "reload", "reconcile", "notify"];

/// What the operator declares.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Where the node comes from: `URL#root=sha256:…`.
    pub from: String,
    /// The name of the manifest.
    pub manifest: Option<String>,
    /// The name of this node; by default the member of the pins that has this node's key.
    pub node: Option<String>,
    /// The directory of keys and trust; by default as for `snapkit`.
    pub home: Option<PathBuf>,
    /// How often the chain is looked at.
    #[serde(default = "poll_seconds")]
    pub poll_seconds: u64,
    /// Never a candidate.
    #[serde(default)]
    pub no_failover: bool,
    /// Snapshots that a candidate, and a ready follower, may be behind.
    #[serde(default = "max_lag")]
    pub max_lag: u64,
    /// Where the agent answers over TCP.
    pub surface: Option<SurfaceConfig>,
    /// Programs that are run on the way up and down.
    #[serde(default)]
    pub hooks: BTreeMap<String, HookConfig>,
    /// The service on this machine.
    #[serde(default)]
    pub service: ServiceConfig,
    /// An address that must lead to the leader.
    pub ingress: Option<IngressConfig>,
}

fn poll_seconds() -> u64 {
    5
}

fn max_lag() -> u64 {
    1
}

/// Where the agent answers over TCP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurfaceConfig {
    /// The address.
    #[serde(default = "listen")]
    pub listen: SocketAddr,
    /// Where people and other nodes reach it, as an address for a browser.
    pub url: Option<String>,
    /// The file of the token that requests need.
    pub token: Option<PathBuf>,
    /// Certificate for TLS; required unless `listen` is on loopback.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl SurfaceConfig {
    /// Where others reach it. What it listens on is told only if that means the same to them as here.
    pub fn address(&self) -> Option<String> {
        let ip = self.listen.ip();
        let same = !ip.is_loopback() && !ip.is_unspecified() && self.listen.port() != 0;
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        self.url.clone().or_else(|| same.then(|| format!("{scheme}://{}/", self.listen)))
    }
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8480))
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookConfig {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// It is killed after this, with its children.
    #[serde(default = "hook_seconds")]
    pub timeout_seconds: u64,
}

fn hook_seconds() -> u64 {
    30
}

/// The service on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceConfig {
    /// How long it is given to end before it is killed.
    pub grace_seconds: u64,
    /// How long it is given to become ready.
    pub start_seconds: u64,
    /// The command of the container engine.
    pub engine: String,
    /// Which systemd runs units; by default the machine's for root, else the user's.
    pub manager: Option<Manager>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self { grace_seconds: 10, start_seconds: 60, engine: "docker".to_owned(), manager: None }
    }
}

/// An address that must lead to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressConfig {
    /// What is asked.
    pub url: String,
    /// The field of its JSON answer that names the node; without one the whole answer is the name.
    pub field: Option<String>,
    /// How often it is asked.
    #[serde(default = "ingress_seconds")]
    pub every_seconds: u64,
}

fn ingress_seconds() -> u64 {
    10
}

/// Why the file cannot be used. All of these are mended by editing it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is none.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}{}: {problem}", .path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where one is to blame.
        line: Option<usize>,
        /// What is wrong.
        problem: String,
    },
}

impl AgentConfig {
    /// Reads the file of a node. Paths in it are relative to the node directory.
    ///
    /// # Errors
    /// [`ConfigError`]
    pub fn read(node: &Path) -> Result<Self, ConfigError> {
        let path = node.join(FILE);
        let found = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ConfigError::Missing(path)),
            Err(source) => return Err(ConfigError::Read { path, source }),
            Ok(found) => found,
        };
        let invalid = |line, problem: String| ConfigError::Invalid { path: path.clone(), line, problem };
        if found.len() > FILE_CAP {
            return Err(invalid(None, format!("it has more than {FILE_CAP} bytes")));
        }
        let text = fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            invalid(line, error.message().lines().collect::<Vec<_>>().join("; "))
        })?;
        config.check().map_err(|problem| invalid(None, problem))?;
        config.resolve(node);
        Ok(config)
    }

    /// The string that the node comes from.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`]; never after [`Self::read`].
    pub fn origin(&self) -> Result<Bootstrap, ConfigError> {
        let wrong = |error: &dyn std::fmt::Display| format!("from: {error}");
        self.from.parse().map_err(|error| ConfigError::Invalid {
            path: FILE.into(),
            line: None,
            problem: wrong(&error),
        })
    }

    /// How often the chain is looked at.
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds)
    }

    fn check(&self) -> Result<(), String> {
        self.from.parse::<Bootstrap>().map_err(|error| format!("from: {error}"))?;
        let within = |what: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("{what} must be {least} to {most}, found {value}")),
        };
        within("poll_seconds", self.poll_seconds, 1, 3600)?;
        within("service.grace_seconds", self.service.grace_seconds, 0, 3600)?;
        within("service.start_seconds", self.service.start_seconds, 1, 86400)?;
        for (name, hook) in &self.hooks {
            if !HOOKS.contains(&name.as_str()) {
                return Err(format!("hooks.{name}: there is no such hook; there are {}", HOOKS.join(", ")));
            }
            if hook.argv.first().is_none_or(String::is_empty) {
                return Err(format!("hooks.{name}.argv must name a program"));
            }
            within(&format!("hooks.{name}.timeout_seconds"), hook.timeout_seconds, 1, 86400)?;
        }
        if let Some(ingress) = &self.ingress {
            if !ingress.url.starts_with("http://") && !ingress.url.starts_with("https://") {
                return Err(format!("ingress.url must be of http or https, found {}", ingress.url));
            }
            within("ingress.every_seconds", ingress.every_seconds, 1, 3600)?;
        }
        match &self.surface {
            Some(SurfaceConfig { url: Some(url), .. })
                if !url.starts_with("http://") && !url.starts_with("https://") =>
            {
                Err(format!("surface.url must be of http or https, found {url}"))
            }
            Some(surface) if surface.certificate.is_some() != surface.key.is_some() => {
                Err("surface.certificate and surface.key belong together".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn resolve(&mut self, node: &Path) {
        let surface =
            self.surface.as_mut().map(|surface| [&mut surface.token, &mut surface.certificate, &mut surface.key]);
        for path in surface.into_iter().flatten().flatten() {
            *path = node.join(&*path);
        }
        if let Some(home) = &mut self.home {
            *home = node.join(&*home);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AgentConfig, String> {
        let node = tempfile::tempdir().unwrap();
        fs::write(node.path().join(FILE), text).unwrap();
        AgentConfig::read(node.path()).map_err(|error| error.to_string())
    }

    fn from() -> String {
        format!("from = \"https://a.example/s#root=sha256:{}\"\n", "a".repeat(64))
    }

    #[test]
    fn the_documented_file_is_accepted() {
        let page = include_str!("../../docs/agent.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let config = read(example).unwrap();
        assert!(!config.hooks.is_empty() && config.surface.is_some() && config.ingress.is_some());
        let hooks: Vec<&str> = config.hooks.keys().map(String::as_str).collect();
        let mut all = HOOKS.to_vec();
        all.sort_unstable();
        assert_eq!(hooks, all);
    }

    #[test]
    fn little_is_needed() {
        let config = read(&from()).unwrap();
        assert_eq!((config.poll_seconds, config.max_lag, config.no_failover), (5, 1, false));
        assert_eq!(config.origin().unwrap().url, "https://a.example/s");
    }

    #[test]
    fn others_are_told_only_an_address_that_leads_here() {
        let told =
            |surface: &str| read(&format!("{}[surface]\n{surface}\n", from())).unwrap().surface.unwrap().address();
        let tls = "certificate = \"c\"\nkey = \"k\"";
        assert_eq!(told("listen = \"127.0.0.1:8480\""), None);
        assert_eq!(told(&format!("listen = \"0.0.0.0:8480\"\n{tls}")), None);
        assert_eq!(told(&format!("listen = \"[2001:db8::1]:8480\"\n{tls}")).unwrap(), "https://[2001:db8::1]:8480/");
        assert_eq!(told("url = \"https://a.example/agent\"").unwrap(), "https://a.example/agent");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, names) in [
            ("polls = 1\n", "line 2"),
            ("poll_seconds = 0\n", "poll_seconds"),
            ("[hooks.promote]\nargv = [\"x\"]\n", "no such hook"),
            ("[hooks.drain]\nargv = []\n", "argv"),
            ("[hooks.drain]\nargv = [\"x\"]\ntimeout_seconds = 0\n", "timeout_seconds"),
            ("[surface]\ncertificate = \"x\"\n", "belong together"),
            ("[surface]\nlisten = \"x\"\n", "line 3"),
            ("[surface]\nurl = \"javascript:alert(1)\"\n", "surface.url"),
            ("[ingress]\nurl = \"ftp://x\"\n", "http"),
            ("[service]\nstart_seconds = 0\n", "start_seconds"),
        ] {
            let error = read(&format!("{}{text}", from())).unwrap_err();
            assert!(error.contains(names), "{text}: {error}");
        }
        assert!(read("from = \"https://a.example/s\"\n").unwrap_err().contains("from"));
    }
}
