//! The configuration file: `snapkit.toml` laid over the defaults.
//!
//! Unknown keys are refused with their line, because a misspelt exclude must not be silent.
//! Relative paths in the file are relative to the file. Its keys: `docs/cli.md`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::pins::{ManifestTable, PinsConfig};
use super::{Config, ConfigError, Proof, Setting, Source, StoreOption};

/// A configuration or secret file larger than this is refused; both are written by hand.
const MAX_FILE_BYTES: u64 = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    store: Option<Spanned<String>>,
    mirrors: Option<Spanned<Vec<String>>>,
    home: Option<Spanned<PathBuf>>,
    cache: Option<Spanned<PathBuf>>,
    agent: Option<Spanned<PathBuf>>,
    #[serde(default)]
    store_options: BTreeMap<String, Spanned<OptionValue>>,
    #[serde(default)]
    snapshot: SnapshotTable,
    #[serde(default)]
    restore: RestoreTable,
    #[serde(default)]
    manifest: ManifestTable,
    pins: Option<PinsConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotTable {
    excludes: Option<Spanned<Vec<String>>>,
    exclude_from: Option<Spanned<Vec<PathBuf>>>,
    one_file_system: Option<Spanned<bool>>,
    exclude_caches: Option<Spanned<bool>>,
    devices: Option<Spanned<bool>>,
    reread_cycle_days: Option<Spanned<u32>>,
    compression_level: Option<Spanned<i32>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreTable {
    proof: Option<Spanned<Proof>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "expected a string, a boolean, a number, or { file = \"PATH\" }")]
enum OptionValue {
    Text(String),
    Switch(bool),
    Number(i64),
    InFile { file: PathBuf },
}

/// Reads the file at `path` and replaces the values in `config` that it sets.
pub(super) fn apply(path: &Path, config: &mut Config) -> Result<(), ConfigError> {
    let text = read_text(path)?;
    let file: ConfigFile = toml::from_str(&text).map_err(|error| ConfigError::Invalid {
        path: path.to_owned(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        problem: error.message().lines().collect::<Vec<_>>().join("; "),
    })?;
    let reader = Reader { path, text: &text };

    if let Some(store) = file.store {
        config.store = Some(reader.setting(store, |store| reader.store_location(store)));
    }
    if let Some(mirrors) = file.mirrors {
        let beside = |mirrors: Vec<String>| mirrors.into_iter().map(|mirror| reader.store_location(mirror)).collect();
        config.mirrors = reader.setting(mirrors, beside);
    }
    if let Some(home) = file.home {
        config.home = reader.path_setting(home);
    }
    if let Some(cache) = file.cache {
        config.cache = reader.path_setting(cache);
    }
    if let Some(agent) = file.agent {
        config.agent = Some(reader.path_setting(agent));
    }
    for (name, value) in file.store_options {
        let source = reader.source(&value);
        let value = reader.option_value(value.into_inner())?;
        (config.store_options).insert(name, Setting::new(value, source));
    }
    reader.apply_snapshot(file.snapshot, config)?;
    if let Some(proof) = file.restore.proof {
        config.restore.proof = reader.setting(proof, |proof| proof);
    }
    reader.apply_manifest(file.manifest, config)?;
    config.pins = file.pins.map(|mut pins| {
        pins.images.iter_mut().for_each(|image| *image = reader.beside(image.clone()));
        if let Some(compose) = pins.service.as_mut().and_then(|service| service.compose.as_mut()) {
            *compose = reader.beside(compose.clone());
        }
        pins
    });
    Ok(())
}

/// Turns values of one file into settings.
struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn apply_snapshot(&self, table: SnapshotTable, config: &mut Config) -> Result<(), ConfigError> {
        let snapshot = &mut config.snapshot;
        if let Some(excludes) = table.excludes {
            snapshot.excludes = self.setting(excludes, |excludes| excludes);
        }
        if let Some(files) = table.exclude_from {
            snapshot.exclude_from =
                self.setting(files, |files| files.into_iter().map(|file| self.beside(file)).collect());
        }
        if let Some(one) = table.one_file_system {
            snapshot.one_file_system = self.setting(one, |one| one);
        }
        if let Some(exclude) = table.exclude_caches {
            snapshot.exclude_caches = self.setting(exclude, |exclude| exclude);
        }
        if let Some(devices) = table.devices {
            snapshot.devices = self.setting(devices, |devices| devices);
        }
        if let Some(days) = table.reread_cycle_days {
            self.check(&days, 1..=3650, "reread_cycle_days", "1 to 3650")?;
            snapshot.reread_cycle_days = self.setting(days, |days| days);
        }
        if let Some(level) = table.compression_level {
            self.check(&level, 1..=19, "compression_level", "1 to 19")?;
            snapshot.compression_level = self.setting(level, |level| level);
        }
        Ok(())
    }

    fn apply_manifest(&self, table: ManifestTable, config: &mut Config) -> Result<(), ConfigError> {
        let manifest = &mut config.manifest;
        // The default lies beside the file, as every other path in it.
        manifest.pins.value = self.beside(manifest.pins.value.clone());
        if let Some(name) = table.name {
            if !manifests::document::is_name(name.get_ref()) {
                return Err(self.invalid(&name, "`name` must be 1 to 64 of [a-z0-9._-]"));
            }
            manifest.name = self.setting(name, |name| name);
        }
        if let Some(file) = table.file {
            manifest.file = Some(self.path_setting(file));
        }
        if let Some(pins) = table.pins {
            manifest.pins = self.path_setting(pins);
        }
        if let Some(stores) = table.stores {
            manifest.stores = self.setting(stores, |stores| stores);
        }
        if let Some(days) = table.lifetime_days {
            self.check(&days, 1..=3650, "lifetime_days", "1 to 3650")?;
            manifest.lifetime_days = self.setting(days, |days| days);
        }
        if let Some(days) = table.refresh_days {
            self.check(&days, 0..=3650, "refresh_days", "0 to 3650")?;
            manifest.refresh_days = self.setting(days, |days| days);
        }
        Ok(())
    }

    fn setting<T, U>(&self, spanned: Spanned<T>, convert: impl FnOnce(T) -> U) -> Setting<U> {
        let source = self.source(&spanned);
        Setting::new(convert(spanned.into_inner()), source)
    }

    fn path_setting(&self, spanned: Spanned<PathBuf>) -> Setting<PathBuf> {
        self.setting(spanned, |path| self.beside(path))
    }

    fn source<T>(&self, spanned: &Spanned<T>) -> Source {
        Source::File { path: self.path.to_owned(), line: line_of(self.text, spanned.span().start) }
    }

    fn check<T: PartialOrd + Copy>(
        &self,
        value: &Spanned<T>,
        allowed: std::ops::RangeInclusive<T>,
        key: &str,
        said: &str,
    ) -> Result<(), ConfigError> {
        if allowed.contains(value.get_ref()) {
            return Ok(());
        }
        Err(self.invalid(value, &format!("`{key}` must be {said}")))
    }

    fn invalid<T>(&self, value: &Spanned<T>, problem: &str) -> ConfigError {
        let line = line_of(self.text, value.span().start);
        ConfigError::Invalid { path: self.path.to_owned(), line, problem: problem.to_owned() }
    }

    /// A path as the file means it: relative to the file's directory.
    fn beside(&self, path: PathBuf) -> PathBuf {
        match self.path.parent() {
            Some(directory) => directory.join(path),
            None => path,
        }
    }

    /// A store that is a relative directory lies beside the file; a URL stays as it is.
    fn store_location(&self, store: String) -> String {
        if store.contains(':') || Path::new(&store).is_absolute() {
            return store;
        }
        match self.beside(PathBuf::from(&store)).into_os_string().into_string() {
            Ok(location) => location,
            Err(_) => store,
        }
    }

    fn option_value(&self, value: OptionValue) -> Result<StoreOption, ConfigError> {
        Ok(StoreOption(match value {
            OptionValue::Text(text) => text,
            OptionValue::Switch(switch) => switch.to_string(),
            OptionValue::Number(number) => number.to_string(),
            OptionValue::InFile { file } => {
                let text = read_text(&self.beside(file))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
        }))
    }
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        // Counted while reading: a device has no length, and no end.
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(std::io::Error::other("it is larger than 1 MiB"));
        }
        Ok(text)
    };
    read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// The line of a byte offset, counted from 1.
fn line_of(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    before.filter(|byte| **byte == b'\n').count() + 1
}
