//! The service: how what runs on a node is started, asked and told its role.
//!
//! Everything that decides what is executed stands here, so that whoever can change a state cannot change what is run.
//! Values inside of pins. Documented in `docs/format/pins.md`, "Service". Layer: pure.

use serde::{Deserialize, Serialize};

use super::is_name;
use super::pins::{TEXT_CAP, is_text, sorted_names};
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The most arguments of a program.
pub const ARGS_CAP: usize = 256;
/// The longest compose file in bytes.
pub const COMPOSE_CAP: usize = 64 * 1024;
/// The longest time a probe may take, in seconds.
const PROBE_SECONDS_CAP: u64 = 3600;

/// How the service is started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// One of [`DRIVERS`].
    pub driver: String,
    /// The program and its arguments, for `process`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// The text of the compose file, for `compose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<String>,
    /// The name of the unit, for `systemd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The commands of another manager, for `hooks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<ServiceHooks>,
    /// Names of the images that run, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// What differs between roles, by ascending role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleArgs>,
    /// The ports it listens on, by ascending name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The user it runs as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Probe>,
    /// Whether it may be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<Probe>,
    /// Which role it plays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Probe>,
    /// What only one node may hold at a time, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusive: Vec<String>,
}

/// How services may be started.
pub const DRIVERS: &[&str] = &["process", "compose", "systemd", "hooks"];
/// The roles a service can play, in the order they are written.
pub const SERVICE_ROLES: &[&str] = &["follower", "leader"];

/// The commands that start, end and ask a service which another manager runs: programs and their arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceHooks {
    /// Starts it, and ends once it runs.
    pub start: Vec<String>,
    /// Asks it to end.
    pub stop: Vec<String>,
    /// Kills it.
    pub kill: Vec<String>,
    /// Says whether it runs, by its exit code.
    pub status: Vec<String>,
}

impl ServiceHooks {
    /// Each with its name in the document.
    pub fn all(&self) -> [(&'static str, &[String]); 4] {
        [("start", &self.start), ("stop", &self.stop), ("kill", &self.kill), ("status", &self.status)]
    }
}

/// The arguments of one role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleArgs {
    /// One of [`SERVICE_ROLES`].
    pub role: String,
    /// What is put after `argv`, or after `start` of `hooks`.
    pub args: Vec<String>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What it is called.
    pub name: String,
    /// Its number.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// A question to a running service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// One of [`PROBES`].
    pub kind: String,
    /// What is asked with `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What `http` must answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What `tcp` connects to: `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What `exec` runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// How long it may take.
    pub timeout_seconds: u64,
}

/// The kinds of probes.
pub const PROBES: &[&str] = &["http", "tcp", "exec"];

impl Service {
    /// Applies the rules for a service whose images are among `images`.
    pub(super) fn check(&self, images: &[&str], object: &str) -> Result<(), Refusal> {
        let rule = |expected: &str, found: &str| Err(Refusal::new(Class::Manifest, object, expected, excerpt(found)));
        let newer = |expected: &str, found: &str| Err(Refusal::new(Class::Newer, object, expected, excerpt(found)));
        if !DRIVERS.contains(&self.driver.as_str()) {
            return newer("the driver `process`, `compose`, `systemd` or `hooks`", &self.driver);
        }
        for (driver, given, field) in [
            ("process", self.argv.is_some(), "argv"),
            ("compose", self.compose.is_some(), "compose"),
            ("systemd", self.unit.is_some(), "unit"),
            ("hooks", self.hooks.is_some(), "hooks"),
        ] {
            if (self.driver == driver) != given {
                return rule(&format!("`{field}` with the driver {driver} and with no other"), &self.driver);
            }
        }
        if let Some(argv) = &self.argv {
            check_argv("service.argv", argv, object)?;
        }
        for (name, argv) in self.hooks.iter().flat_map(ServiceHooks::all) {
            check_argv(&format!("service.hooks.{name}"), argv, object)?;
        }
        let plain = |character: char| !character.is_control() || matches!(character, '\t' | '\n');
        if self
            .compose
            .as_ref()
            .is_some_and(|text| text.is_empty() || text.len() > COMPOSE_CAP || !text.chars().all(plain))
        {
            return rule("a compose file of 1 to 65536 bytes of plain text", "another text");
        }
        let of_unit = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@-".contains(&byte);
        if let Some(unit) =
            self.unit.as_ref().filter(|unit| !(1..=255).contains(&unit.len()) || !unit.bytes().all(of_unit))
        {
            return rule("a unit name of 1 to 255 of [A-Za-z0-9:_.@-]", unit);
        }
        sorted_names("service.images", self.images.iter().map(String::as_str), is_name, object)?;
        if let Some(image) = self.images.iter().find(|image| !images.contains(&image.as_str())) {
            return rule("only images that the pins name in `service.images`", image);
        }
        self.check_roles(object)?;
        sorted_names("service.ports", self.ports.iter().map(|port| port.name.as_str()), is_name, object)?;
        if let Some(port) = self.ports.iter().find(|port| port.port == 0 || !["tcp", "udp"].contains(&&*port.protocol))
        {
            return rule("ports from 1 to 65535 of `tcp` or `udp`", &format!("{} {}", port.protocol, port.port));
        }
        if let Some(user) = self.user.as_ref().filter(|user| !is_text(user, TEXT_CAP)) {
            return rule("a user without control characters", user);
        }
        for (field, probe) in [("health", &self.health), ("ready", &self.ready), ("role", &self.role)] {
            if let Some(probe) = probe {
                probe.check(&format!("service.{field}"), object)?;
            }
        }
        sorted_names("service.exclusive", self.exclusive.iter().map(String::as_str), is_name, object)
    }

    fn check_roles(&self, object: &str) -> Result<(), Refusal> {
        let known = |role: &str| SERVICE_ROLES.contains(&role);
        sorted_names("service.roles", self.roles.iter().map(|role| role.role.as_str()), known, object)?;
        self.roles.iter().try_for_each(|role| check_argv("service.roles.args", &role.args, object))
    }
}

fn check_argv(field: &str, argv: &[String], object: &str) -> Result<(), Refusal> {
    if argv.len() > ARGS_CAP {
        return Err(Refusal::new(Class::TooMany, object, format!("at most {ARGS_CAP} texts in `{field}`"), argv.len()));
    }
    if argv.is_empty() || !argv.iter().all(|text| is_text(text, TEXT_CAP)) {
        let expected =
            format!("`{field}` of at least one text, each of 1 to {TEXT_CAP} bytes without control characters");
        return Err(Refusal::new(Class::Manifest, object, expected, "others"));
    }
    Ok(())
}

impl Probe {
    fn check(&self, field: &str, object: &str) -> Result<(), Refusal> {
        let rule = |expected: String| Err(Refusal::new(Class::Manifest, object, expected, "another probe"));
        let kind = self.kind.as_str();
        if !PROBES.contains(&kind) {
            let expected = format!("`{field}` of the kind {}", PROBES.join(", "));
            return Err(Refusal::new(Class::Newer, object, expected, excerpt(kind)));
        }
        let has = [self.url.is_some(), self.address.is_some(), self.argv.is_some()];
        let wanted = [kind == "http", kind == "tcp", kind == "exec"];
        if has != wanted || self.body.is_some() && kind != "http" {
            return rule(format!("`{field}` with what a probe of the kind {kind} has, and nothing else"));
        }
        if !(1..=PROBE_SECONDS_CAP).contains(&self.timeout_seconds) {
            return rule(format!("`{field}.timeout_seconds` from 1 to {PROBE_SECONDS_CAP}"));
        }
        for text in [&self.url, &self.body, &self.address].into_iter().flatten() {
            if !is_text(text, TEXT_CAP) {
                return rule(format!("texts without control characters in `{field}`"));
            }
        }
        let is_web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        let is_address = |text: &String| {
            text.rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
        };
        if !self.url.as_ref().is_none_or(is_web) || !self.address.as_ref().is_none_or(is_address) {
            return rule(format!("`{field}` with a URL of http or https, or an address host:port"));
        }
        self.argv.as_ref().map_or(Ok(()), |argv| check_argv(field, argv, object))
    }
}
