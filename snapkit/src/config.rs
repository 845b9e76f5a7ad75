//! Configuration: every value that is not an argument, and where it came from.
//!
//! Rising precedence: built-in default, `snapkit.toml`, environment, flag. A value keeps its
//! [`Source`], so that `doctor` can show it. Neither the environment nor the working directory is
//! read here: the caller passes both in. The file's keys: `docs/cli.md`.
//! Layer: reads the configuration file and secret files named in it; `cli` calls it.

mod file;
mod pins;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::store::OpenOptions;

pub use pins::{ManifestConfig, NeedsConfig, PinsConfig, SecretConfig, ServiceConfig, TreeConfig};

/// The name of the configuration file in the working directory.
pub const FILE_NAME: &str = "snapkit.toml";
/// The configuration file used where the working directory has none.
pub const SYSTEM_FILE: &str = "/etc/snapkit/snapkit.toml";

/// How many days may pass before a settled file is read again.
const DEFAULT_REREAD_CYCLE_DAYS: u32 = 30;
/// The zstd level of new frames.
const DEFAULT_COMPRESSION_LEVEL: i32 = 3;

/// Every effective value.
#[derive(Debug, Clone)]
pub struct Config {
    /// The configuration file that was read, if any.
    pub file: Option<PathBuf>,
    /// The store named by flag, environment or file.
    pub store: Option<Setting<String>>,
    /// Further copies of the store, which reading commands fall back to.
    pub mirrors: Setting<Vec<String>>,
    /// Options of the store's back end by name, such as `endpoint`.
    pub store_options: BTreeMap<String, Setting<StoreOption>>,
    /// The directory that holds `keys/` and `trust/`.
    pub home: Setting<PathBuf>,
    /// The directory of caches; all of it may be deleted at any time.
    pub cache: Setting<PathBuf>,
    /// The socket of the agent that knows whether this node leads; `None` for a writer outside of lease groups.
    pub agent: Option<Setting<PathBuf>>,
    /// What a snapshot takes and how it stores it.
    pub snapshot: SnapshotConfig,
    /// How a restore works.
    pub restore: RestoreConfig,
    /// What manifests are called and how long they hold.
    pub manifest: ManifestConfig,
    /// What pins are made from, if the file says.
    pub pins: Option<PinsConfig>,
}

/// The `[snapshot]` values.
#[derive(Debug, Clone)]
pub struct SnapshotConfig {
    /// Patterns of what is left out, in gitignore syntax.
    pub excludes: Setting<Vec<String>>,
    /// Files that hold such patterns.
    pub exclude_from: Setting<Vec<PathBuf>>,
    /// Whether directories on other file systems are left out.
    pub one_file_system: Setting<bool>,
    /// Leave out the content of directories that a `CACHEDIR.TAG` marks.
    pub exclude_caches: Setting<bool>,
    /// Whether fifos and devices are taken.
    pub devices: Setting<bool>,
    /// In how many days each settled file is read again once.
    pub reread_cycle_days: Setting<u32>,
    /// The zstd level of new frames, 1 to 19.
    pub compression_level: Setting<i32>,
}

/// The `[restore]` values.
#[derive(Debug, Clone)]
pub struct RestoreConfig {
    /// How the restored contents are proved.
    pub proof: Setting<Proof>,
}

/// How a restore proves the contents it wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Proof {
    /// By hashing the bytes as they are handed to the file system.
    Written,
    /// By reading every file back from the file system.
    Reread,
    /// By reading every file back from the device, past the page cache.
    Device,
}

/// One effective value and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// What set it.
    pub source: Source,
}

/// What set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing did: it is built in.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line option.
    Flag(&'static str),
}

/// The value of a store option. Its `Debug` form never shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreOption(pub String);

/// The environment variables that may matter, as the caller found them.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

/// What the command line says about configuration.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--store`
    pub store: Option<String>,
    /// `--mirror`
    pub mirrors: Vec<String>,
    /// `--config`
    pub config: Option<PathBuf>,
}

/// Why there is no usable configuration. All of these are mended by editing what they name.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The named file, or a file it names, cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be: syntax, an unknown key, or a value out of range.
    #[error("{}, line {line}: {problem}", .path.display())]
    Invalid {
        /// The configuration file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A variable's value is not text.
    #[error("the environment variable {0} is not valid UTF-8")]
    NotText(String),
    /// No directory for keys and trust, or for caches, can be named.
    #[error("no home directory: none of {0} is set")]
    NoHome(&'static str),
}

impl Config {
    /// Finds the configuration file, reads it, and lays environment and flags over it.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be used or a directory cannot be named.
    pub fn load(working_directory: &Path, environment: &Environment, flags: &Flags) -> Result<Self, ConfigError> {
        let named = (flags.config.clone()).or_else(|| environment.path("SNAPKIT_CONFIG"));
        let file = match named {
            Some(path) => Some(working_directory.join(path)),
            None => [working_directory.join(FILE_NAME), SYSTEM_FILE.into()].into_iter().find(|path| path.exists()),
        };
        let mut config = Self::defaults(environment)?;
        if let Some(path) = file {
            file::apply(&path, &mut config)?;
            config.file = Some(path);
        }
        config.apply_environment(environment)?;
        if let Some(store) = &flags.store {
            config.store = Some(Setting::new(store.clone(), Source::Flag("--store")));
        }
        if !flags.mirrors.is_empty() {
            config.mirrors = Setting::new(flags.mirrors.clone(), Source::Flag("--mirror"));
        }
        config.apply_cloud_environment(environment)?;
        Ok(config)
    }

    fn defaults(environment: &Environment) -> Result<Self, ConfigError> {
        Ok(Self {
            file: None,
            store: None,
            mirrors: Setting::default_of(Vec::new()),
            store_options: BTreeMap::new(),
            home: environment
                .xdg("XDG_DATA_HOME", ".local/share")
                .or_else(|| environment.setting_path("SNAPKIT_HOME"))
                .ok_or(ConfigError::NoHome("SNAPKIT_HOME, XDG_DATA_HOME, HOME"))?,
            agent: None,
            cache: environment.xdg("XDG_CACHE_HOME", ".cache").ok_or(ConfigError::NoHome("XDG_CACHE_HOME, HOME"))?,
            snapshot: SnapshotConfig {
                excludes: Setting::default_of(Vec::new()),
                exclude_from: Setting::default_of(Vec::new()),
                one_file_system: Setting::default_of(false),
                exclude_caches: Setting::default_of(false),
                devices: Setting::default_of(false),
                reread_cycle_days: Setting::default_of(DEFAULT_REREAD_CYCLE_DAYS),
                compression_level: Setting::default_of(DEFAULT_COMPRESSION_LEVEL),
            },
            restore: RestoreConfig { proof: Setting::default_of(Proof::Written) },
            manifest: ManifestConfig::default(),
            pins: None,
        })
    }

    fn apply_environment(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        if let Some(home) = environment.setting_path("SNAPKIT_HOME") {
            self.home = home;
        }
        if let Some(agent) = environment.setting_path("SNAPKIT_AGENT") {
            self.agent = Some(agent);
        }
        if let Some(store) = environment.text("SNAPKIT_STORE")? {
            self.store = Some(Setting::new(store, Source::Environment("SNAPKIT_STORE".to_owned())));
        }
        Ok(())
    }

    /// Takes the variables that the vendor's own tools read, for a store of that vendor.
    fn apply_cloud_environment(&mut self, environment: &Environment) -> Result<(), ConfigError> {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let scheme = store.value.split("://").next().unwrap_or_default();
        let Some((_, prefix)) = CLOUD_PREFIXES.iter().find(|(of, _)| *of == scheme) else {
            return Ok(());
        };
        for variable in environment.0.keys() {
            let Some(option) = variable.strip_prefix(prefix) else {
                continue;
            };
            if let Some(value) = environment.text(variable)? {
                let source = Source::Environment(variable.clone());
                let option = option.to_ascii_lowercase();
                (self.store_options).insert(option, Setting::new(StoreOption(value), source));
            }
        }
        Ok(())
    }

    /// The directory of private keys.
    pub fn keys_directory(&self) -> PathBuf {
        self.home.value.join("keys")
    }

    /// The directory of pins and marks.
    pub fn trust_directory(&self) -> PathBuf {
        self.home.value.join("trust")
    }

    /// The mirrors with how to open each: the store's options where a mirror is of the same kind, else none.
    pub fn open_mirrors(&self) -> Vec<(String, OpenOptions)> {
        let scheme = |address: &str| address.split_once("://").map(|(scheme, _)| scheme.to_owned());
        let of_store = self.store.as_ref().and_then(|store| scheme(&store.value));
        let options = |mirror: &str| match scheme(mirror) {
            // Credentials of one place are not shown to another.
            of_mirror if of_mirror == of_store => self.open_options(),
            _ => OpenOptions::default(),
        };
        self.mirrors.value.iter().map(|mirror| (mirror.clone(), options(mirror))).collect()
    }

    /// How to open the store: options of the file as settings, those of the environment as such.
    pub fn open_options(&self) -> OpenOptions {
        let mut options = OpenOptions::default();
        for (name, option) in &self.store_options {
            let value = option.value.0.clone();
            match &option.source {
                Source::Environment(variable) => options.environment.push((variable.clone(), value)),
                _ => options.settings.push((name.clone(), value)),
            }
        }
        options
    }
}

/// The scheme of a cloud store and what its vendor's variables start with.
const CLOUD_PREFIXES: &[(&str, &str)] = &[("s3", "AWS_"), ("gs", "GOOGLE_"), ("az", "AZURE_STORAGE_")];

/// Store options whose values may be shown; every other value is treated as a secret.
const PUBLIC_STORE_OPTIONS: &[&str] = &[
    "access_key_id",
    "account_name",
    "allow_http",
    "application_credentials",
    "default_region",
    "endpoint",
    "endpoint_url",
    "region",
    "skip_signature",
    "use_emulator",
    "use_instance_credentials",
    "virtual_hosted_style_request",
];

impl StoreOption {
    /// The value as it may be shown for the option `name`.
    pub fn shown(&self, name: &str) -> String {
        if PUBLIC_STORE_OPTIONS.contains(&name) { self.0.clone() } else { "(secret)".to_owned() }
    }
}

impl fmt::Debug for StoreOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreOption(..)")
    }
}

impl<T> Setting<T> {
    /// Joins a value to what set it.
    pub fn new(value: T, source: Source) -> Self {
        Self { value, source }
    }

    fn default_of(value: T) -> Self {
        Self::new(value, Source::Default)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

impl Proof {
    /// The word on the command line, in the file and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Reread => "reread",
            Self::Device => "device",
        }
    }
}

impl FromStr for Proof {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "written" => Ok(Self::Written),
            "reread" => Ok(Self::Reread),
            "device" => Ok(Self::Device),
            _ => Err("expected `written`, `reread` or `device`".to_owned()),
        }
    }
}

impl Environment {
    /// Keeps the given variables; empty values count as not set.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            (!value.is_empty()).then_some((name, value))
        });
        Self(named.collect())
    }

    fn path(&self, variable: &str) -> Option<PathBuf> {
        self.0.get(variable).map(PathBuf::from)
    }

    fn setting_path(&self, variable: &'static str) -> Option<Setting<PathBuf>> {
        let path = self.path(variable)?;
        Some(Setting::new(path, Source::Environment(variable.to_owned())))
    }

    fn text(&self, variable: &str) -> Result<Option<String>, ConfigError> {
        match self.0.get(variable) {
            None => Ok(None),
            Some(value) => match value.to_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(ConfigError::NotText(variable.to_owned())),
            },
        }
    }

    /// `snapkit` under an XDG base directory; a relative one is ignored, as that standard asks.
    fn xdg(&self, variable: &'static str, under_home: &str) -> Option<Setting<PathBuf>> {
        let base = self.path(variable).filter(|path| path.is_absolute());
        match base {
            Some(base) => Some(Setting::new(base.join("snapkit"), Source::Environment(variable.to_owned()))),
            None => {
                let home = self.path("HOME").filter(|path| path.is_absolute())?;
                let path = home.join(under_home).join("snapkit");
                Some(Setting::default_of(path))
            }
        }
    }
}

#[cfg(test)]
mod tests;
