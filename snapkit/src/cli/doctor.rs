//! `snapkit doctor`: every effective value and its source, and what this machine would trip over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use snapkit::config::{Config, Setting, Source};
use snapkit::keyfile;

use super::exit_code::{CliError, Exit};
use super::output::{Bytes, Report, write_table};
use super::session::Session;

/// The oldest kernel that is supported.
const OLDEST_KERNEL: (u32, u32) = (5, 10);
/// Less free space than this is worth a warning: scan caches and journals need room.
const LOW_SPACE_BYTES: u64 = 256 << 20;
/// A clock this far behind a file it should be ahead of is wrong.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(24 * 3600);

/// Show every effective value and where it came from, and check this machine
///
/// Ends with exit code 1 when a check finds a problem; warnings do not change the exit code.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {}

#[derive(Debug, Serialize)]
struct Examination {
    version: &'static str,
    settings: Vec<Shown>,
    checks: Vec<Check>,
    problems: usize,
}

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    value: serde_json::Value,
    source: String,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    found: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

pub(super) fn run(_args: &DoctorArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let checks = check_machine(&session.config);
    let problem = |check: &&Check| check.verdict == Verdict::Problem;
    let problems = checks.iter().filter(problem).count();
    let examination =
        Examination { version: env!("CARGO_PKG_VERSION"), settings: settings(&session.config), checks, problems };
    session.out.report(&examination)?;
    Ok(if problems == 0 { Exit::DONE } else { Exit::NO })
}

impl Report for Examination {
    const SCHEMA: &'static str = "snapkit.doctor/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "snapkit {}\n", self.version)?;
        let settings: Vec<_> = (self.settings.iter())
            .map(|shown| {
                let value = match &shown.value {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Null => "-".to_owned(),
                    other => other.to_string(),
                };
                [shown.name.clone(), value, format!("({})", shown.source)]
            })
            .collect();
        write_table(out, &settings)?;
        writeln!(out)?;
        let checks: Vec<_> = (self.checks.iter())
            .map(|check| {
                let verdict = match check.verdict {
                    Verdict::Ok => "ok",
                    Verdict::Warning => "warning",
                    Verdict::Problem => "PROBLEM",
                };
                [verdict.to_owned(), check.name.to_owned(), check.found.clone()]
            })
            .collect();
        write_table(out, &checks)
    }
}

fn settings(config: &Config) -> Vec<Shown> {
    let unset =
        |name: &str| Shown { name: name.to_owned(), value: serde_json::Value::Null, source: "not set".to_owned() };
    let mut shown = vec![
        match &config.file {
            Some(path) => Shown {
                name: "configuration file".to_owned(),
                value: path.to_string_lossy().into(),
                source: "read".to_owned(),
            },
            None => unset("configuration file"),
        },
        match &config.store {
            Some(store) => of("store", store),
            None => unset("store"),
        },
        of("mirrors", &config.mirrors),
    ];
    shown.extend(config.store_options.iter().map(|(name, option)| Shown {
        name: format!("store_options.{name}"),
        value: option.value.shown(name).into(),
        source: option.source.to_string(),
    }));
    let (snapshot, restore, manifest) = (&config.snapshot, &config.restore, &config.manifest);
    shown.extend([
        of("home", &config.home),
        of("cache", &config.cache),
        config.agent.as_ref().map_or_else(|| unset("agent"), |agent| of("agent", agent)),
        of("snapshot.excludes", &snapshot.excludes),
        of("snapshot.exclude_from", &snapshot.exclude_from),
        of("snapshot.one_file_system", &snapshot.one_file_system),
        of("snapshot.exclude_caches", &snapshot.exclude_caches),
        of("snapshot.devices", &snapshot.devices),
        of("snapshot.reread_cycle_days", &snapshot.reread_cycle_days),
        of("snapshot.compression_level", &snapshot.compression_level),
        of("restore.proof", &restore.proof),
        of("manifest.name", &manifest.name),
        manifest.file.as_ref().map_or_else(|| unset("manifest.file"), |file| of("manifest.file", file)),
        of("manifest.pins", &manifest.pins),
        of("manifest.stores", &manifest.stores),
        of("manifest.lifetime_days", &manifest.lifetime_days),
        of("manifest.refresh_days", &manifest.refresh_days),
    ]);
    shown
}

fn of<T: Serialize>(name: &str, setting: &Setting<T>) -> Shown {
    Shown {
        name: name.to_owned(),
        // Every setting is text, a number, a switch or a list of them; a path that is not text
        // is the one value JSON cannot hold.
        value: serde_json::to_value(&setting.value).unwrap_or_else(|_| "(not UTF-8)".into()),
        source: setting.source.to_string(),
    }
}

fn check_machine(config: &Config) -> Vec<Check> {
    vec![
        check_kernel(),
        check_clock(config),
        check_keys(&config.keys_directory()),
        check_trust(&config.trust_directory()),
        check_cache(&config.cache.value),
        check_secrets(config),
    ]
}

fn verdict(name: &'static str, verdict: Verdict, found: impl Into<String>) -> Check {
    Check { name, verdict, found: found.into() }
}

fn check_kernel() -> Check {
    const NAME: &str = "kernel";
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return verdict(NAME, Verdict::Warning, "not Linux: only the data commands are tested here");
    };
    let release = release.trim();
    let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => verdict(NAME, Verdict::Ok, release),
        _ => {
            let (major, minor) = OLDEST_KERNEL;
            let found = format!("{release}: {major}.{minor} or newer is needed");
            verdict(NAME, Verdict::Problem, found)
        }
    }
}

/// The clock must not be behind the program or the trust marks that it wrote.
fn check_clock(config: &Config) -> Check {
    const NAME: &str = "clock";
    let now = SystemTime::now();
    let marks = [std::env::current_exe().ok(), Some(config.trust_directory()), Some(config.keys_directory())];
    for path in marks.into_iter().flatten() {
        let Ok(modified) = fs::metadata(&path).and_then(|metadata| metadata.modified()) else {
            continue;
        };
        if modified > now + CLOCK_TOLERANCE {
            let found = format!("behind the time of {}; set it", path.display());
            return verdict(NAME, Verdict::Problem, found);
        }
    }
    match jiff::Timestamp::try_from(now) {
        Ok(now) => verdict(NAME, Verdict::Ok, format!("{now:.0}")),
        Err(_) => verdict(NAME, Verdict::Problem, "out of every sensible range; set it"),
    }
}

fn check_keys(directory: &Path) -> Check {
    const NAME: &str = "keys";
    if !directory.exists() {
        let found = format!("none in {}; `snapkit init` makes them", directory.display());
        return verdict(NAME, Verdict::Ok, found);
    }
    let keys = match keyfile::list(directory) {
        Ok(keys) => keys,
        Err(error) => {
            let found = format!("cannot read {}: {error}", directory.display());
            return verdict(NAME, Verdict::Problem, found);
        }
    };
    let readable = keys.iter().find(|key| readable_by_others(key));
    match readable {
        Some(key) => {
            verdict(NAME, Verdict::Problem, format!("{} is readable by others; `chmod 600` it", key.display()))
        }
        None => {
            let found = format!("{} in {}", keys.len(), directory.display());
            verdict(NAME, Verdict::Ok, found)
        }
    }
}

fn check_trust(directory: &Path) -> Check {
    const NAME: &str = "trust";
    match fs::read_dir(directory) {
        Ok(entries) => {
            let roots = entries.flatten().filter(|entry| entry.path().is_dir()).count();
            let found = format!("{roots} pinned in {}", directory.display());
            verdict(NAME, Verdict::Ok, found)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let found = format!("nothing pinned in {}", directory.display());
            verdict(NAME, Verdict::Ok, found)
        }
        Err(error) => {
            let found = format!("cannot read {}: {error}", directory.display());
            verdict(NAME, Verdict::Problem, found)
        }
    }
}

fn check_cache(directory: &Path) -> Check {
    const NAME: &str = "cache";
    let existing = nearest_existing(directory);
    let free = match rustix::fs::statvfs(&existing) {
        Ok(space) => space.f_bavail.saturating_mul(space.f_frsize),
        Err(error) => {
            let found = format!("cannot look at {}: {error}", existing.display());
            return verdict(NAME, Verdict::Problem, found);
        }
    };
    let kind = file_system_kind(&existing).unwrap_or_else(|| "unknown".to_owned());
    let found = format!("{} free on {kind} for {}", Bytes(free), directory.display());
    let writable = rustix::fs::access(&existing, rustix::fs::Access::WRITE_OK).is_ok();
    if !writable {
        verdict(NAME, Verdict::Problem, format!("{found}: not writable"))
    } else if free < LOW_SPACE_BYTES {
        verdict(NAME, Verdict::Warning, format!("{found}: little space"))
    } else {
        verdict(NAME, Verdict::Ok, found)
    }
}

/// Secrets written into a configuration file that others can read are no secrets.
fn check_secrets(config: &Config) -> Check {
    const NAME: &str = "secrets";
    let exposed = config.store_options.iter().find_map(|(name, option)| {
        let Source::File { path, .. } = &option.source else {
            return None;
        };
        let secret = option.value.shown(name) != option.value.0;
        (secret && readable_by_others(path)).then_some((name, path))
    });
    match exposed {
        Some((name, path)) => verdict(
            NAME,
            Verdict::Warning,
            format!("{} holds {name} or names it, and others can read it", path.display()),
        ),
        None => verdict(NAME, Verdict::Ok, "none in a file that others can read"),
    }
}

fn readable_by_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

fn nearest_existing(path: &Path) -> PathBuf {
    let mut ancestors = path.ancestors();
    let existing = ancestors.find(|ancestor| ancestor.exists());
    existing.unwrap_or(Path::new("/")).to_owned()
}

/// The type of the file system that holds `path`, from the longest mount point above it.
fn file_system_kind(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut found = BTreeMap::new();
    for line in mounts.lines() {
        // proc(5): the fifth field is the mount point, the type follows a lone hyphen.
        let (fields, rest) = line.split_once(" - ")?;
        let point = fields.split(' ').nth(4)?;
        if path.starts_with(point) {
            found.insert(point.len(), rest.split(' ').next()?.to_owned());
        }
    }
    found.pop_last().map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_others_can_read_is_a_problem() {
        let keys = tempfile::tempdir().unwrap();
        let key = keys.path().join("node.key");
        fs::write(&key, "x").unwrap();
        for (mode, expected) in [(0o600, Verdict::Ok), (0o640, Verdict::Problem)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check_keys(keys.path()).verdict, expected, "{mode:o}");
        }
    }

    #[test]
    fn a_program_from_the_future_means_a_wrong_clock() {
        let home = tempfile::tempdir().unwrap();
        let trust = home.path().join("trust");
        fs::create_dir(&trust).unwrap();
        let environment = snapkit::config::Environment::new([
            ("SNAPKIT_HOME".into(), home.path().into()),
            ("HOME".into(), home.path().into()),
        ]);
        let config = Config::load(home.path(), &environment, &Default::default()).unwrap();
        assert_eq!(check_clock(&config).verdict, Verdict::Ok);
        let ahead = SystemTime::now() + 3 * CLOCK_TOLERANCE;
        fs::File::open(&trust).unwrap().set_modified(ahead).unwrap();
        assert_eq!(check_clock(&config).verdict, Verdict::Problem);
    }
}
