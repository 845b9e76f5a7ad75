//! `[manifest]` and `[pins]`: what manifests and pins are made from.
//!
//! `[manifest]` are settings like any others. `[pins]` is the text of a document, read as it stands; the rules for it are
//! those of the document. Its keys: `docs/manifest.md`. Layer: part of `config`.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::Setting;
use crate::span::Span;

/// The `[manifest]` values.
#[derive(Debug, Clone)]
pub struct ManifestConfig {
    /// The name of manifests and of their pins.
    pub name: Setting<String>,
    /// Where a manifest is kept beside the store, such as in a repository.
    pub file: Option<Setting<PathBuf>>,
    /// The pins that manifests embed.
    pub pins: Setting<PathBuf>,
    /// The stores that manifests name; empty for the store itself.
    pub stores: Setting<Vec<String>>,
    /// In how many days a manifest expires.
    pub lifetime_days: Setting<u32>,
    /// How many days before that it is renewed.
    pub refresh_days: Setting<u32>,
}

impl Default for ManifestConfig {
    fn default() -> Self {
        Self {
            name: Setting::default_of("main".to_owned()),
            file: None,
            pins: Setting::default_of("pins.json".into()),
            stores: Setting::default_of(Vec::new()),
            lifetime_days: Setting::default_of(7),
            refresh_days: Setting::default_of(3),
        }
    }
}

/// The `[manifest]` table as it stands.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestTable {
    pub(super) name: Option<Spanned<String>>,
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) pins: Option<Spanned<PathBuf>>,
    pub(super) stores: Option<Spanned<Vec<String>>>,
    pub(super) lifetime_days: Option<Spanned<u32>>,
    pub(super) refresh_days: Option<Spanned<u32>>,
}

/// The `[pins]` table: what pins are made from. Paths of local files are below the configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinsConfig {
    /// In how many days pins expire.
    #[serde(default = "a_year")]
    pub lifetime_days: u32,
    /// How old the newest complete snapshot may be.
    pub max_head_age: Span,
    /// How many slots the chain may have beyond a manifest.
    pub max_head_lag: Option<u64>,
    /// Files that hold an image pin each.
    #[serde(default)]
    pub images: Vec<PathBuf>,
    /// How the service is started.
    pub service: Option<ServiceConfig>,
    /// The trees.
    #[serde(default)]
    pub trees: Vec<TreeConfig>,
    /// What must be there first.
    #[serde(default)]
    pub needs: NeedsConfig,
    /// Who may lead.
    pub lease: Option<manifests::document::pins::Lease>,
}

fn a_year() -> u32 {
    365
}

/// A tree, where it goes, and its load-bearing files by policy.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeConfig {
    /// Its name in the snapshots.
    pub name: String,
    /// Where the service expects it.
    pub path: String,
    /// `current` or `fixed`.
    #[serde(default = "current")]
    pub activation: String,
    /// Files that are there and the same.
    #[serde(default)]
    pub must_match: Vec<String>,
    /// Files that are there, and with which the service may have gone on.
    #[serde(default)]
    pub may_advance: Vec<String>,
    /// Files that need not be there.
    #[serde(default)]
    pub ignore: Vec<String>,
}

fn current() -> String {
    "current".to_owned()
}

/// How the service is started: as in the document, but for the compose file, which is named.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// `process`, `compose`, `systemd` or `hooks`.
    pub driver: String,
    /// With `process`: the program and its arguments.
    pub argv: Option<Vec<String>>,
    /// With `compose`: the compose file.
    pub compose: Option<PathBuf>,
    /// With `systemd`: the unit.
    pub unit: Option<String>,
    /// With `hooks`: the commands.
    pub hooks: Option<manifests::document::service::ServiceHooks>,
    /// Names of the images that run; all of the pins if absent.
    pub images: Option<Vec<String>>,
    /// What is put after `argv`, or the hook `start`, on a follower.
    pub follower_args: Option<Vec<String>>,
    /// What is put after `argv`, or the hook `start`, on a leader.
    pub leader_args: Option<Vec<String>>,
    /// The ports.
    #[serde(default)]
    pub ports: Vec<manifests::document::service::Port>,
    /// The user it runs as.
    pub user: Option<String>,
    /// Whether it lives.
    pub health: Option<manifests::document::service::Probe>,
    /// Whether it may be asked.
    pub ready: Option<manifests::document::service::Probe>,
    /// Which role it plays.
    pub role: Option<manifests::document::service::Probe>,
    /// What only one node may hold at a time.
    #[serde(default)]
    pub exclusive: Vec<String>,
}

/// What must be there first.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeedsConfig {
    /// Environment variables.
    #[serde(default)]
    pub environment: Vec<String>,
    /// Secrets.
    #[serde(default)]
    pub secrets: Vec<SecretConfig>,
    /// Bytes that must be free.
    pub free_bytes: Option<u64>,
    /// What the machine must be able to do.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// A secret that must be there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretConfig {
    /// Its name, and that of its environment variable.
    pub name: String,
    /// The file it is in, instead of the environment.
    pub path: Option<String>,
    /// Whether the right one is told from others by a fingerprint.
    #[serde(default)]
    pub fingerprint: bool,
}
