//! `snapkit snapshot`: put directories under the chain.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use manifests::document::is_name;
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::backup::back_up;
use snapkit::leadership::{COMMIT_BUDGET, Leadership, LeadershipError};
use snapkit::scan::exclude::Excludes;
use snapkit::scan::walk::WalkOptions;
use snapkit::snapshot::{Options, Problem, ProblemKind, Source};

use super::exit_code::{CliError, Exit};
use super::opened::Opened;
use super::output::{Bytes, Report, Took};
use super::session::Session;
use super::signer_options::SignerOptions;

/// Take a snapshot of directories
///
/// Each directory becomes a named tree: NAME=DIR, or the directory's own name. Files that did not change since the last
/// snapshot are not read again. Nothing of a run that was interrupted is visible; the next run reuses what it stored.
/// Where the configuration names an agent, a node that does not lead takes none and exits with 7.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// Directories, each with an optional name: [NAME=]DIR
    #[arg(required = true, value_name = "[NAME=]DIR")]
    directories: Vec<String>,
    /// Leave out what matches, in gitignore syntax; can be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches a line of FILE; can be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Leave out the content of directories that hold a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Do not enter other file systems
    #[arg(long)]
    one_file_system: bool,
    /// Take fifos and devices too
    #[arg(long)]
    devices: bool,
    /// Name of this node in the record; default: the host name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    signer: SignerOptions,
}

#[derive(Debug, Serialize)]
struct Snapshotted {
    name: String,
    seq: u64,
    id: String,
    content_digest: String,
    full_digest: String,
    changed: bool,
    complete: bool,
    entries: u64,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    new_objects: u64,
    torn: Vec<Named>,
    unreadable: Vec<Named>,
    cache_mismatches: Vec<Named>,
    seconds: f64,
}

/// A path with a problem.
#[derive(Debug, Serialize)]
struct Named {
    tree: String,
    path: String,
    detail: String,
}

/// Why no snapshot was taken.
#[derive(Debug, Serialize)]
struct Skipped {
    why: String,
}

impl Report for Skipped {
    const SCHEMA: &'static str = "snapkit.snapshot-skipped/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "skipped: this node does not lead: {}", self.why)
    }
}

impl Report for Snapshotted {
    const SCHEMA: &'static str = "snapkit.snapshot/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let unchanged = if self.changed { "" } else { ", unchanged" };
        writeln!(out, "{} (record {}){unchanged}", self.name, self.seq)?;
        writeln!(out, "  {} entries, {} files, {}", self.entries, self.files, Bytes(self.bytes))?;
        let (new, stored) = (Bytes(self.new_bytes), Bytes(self.stored_bytes));
        writeln!(out, "  new: {new}, stored as {stored} in {} objects", self.new_objects)?;
        writeln!(out, "  content digest {}", self.content_digest)?;
        writeln!(out, "  took {}", Took(Duration::from_secs_f64(self.seconds)))
    }
}

pub(super) fn run(args: &SnapshotArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let started = Instant::now();
    let sources = sources(&args.directories)?;
    let options = options(args, session)?;
    let opened = Opened::alone(session)?;
    // Before the first file is read; the commit asks again, after everything was stored.
    match opened.agent.as_ref().map(|agent| agent.term(COMMIT_BUDGET)).transpose() {
        Err(LeadershipError::NotLeader { why }) => {
            session.out.report(&Skipped { why })?;
            return Ok(Exit::of_code(exit::NOT_LEADER));
        }
        told => told?,
    };
    let node = args.node.clone().unwrap_or_else(host_name);
    let chain = opened.chain()?;
    // Before the first file is read: a key that may not write would otherwise be noticed after everything was stored.
    let signer = args.signer.for_role("writer", chain.root(), &opened.trust, &opened.pin.root, &session.cancel)?;
    let (progress, reporter) = session.show_progress();
    let backup = back_up(&chain, &sources, &options, opened.cache(), &*signer, &node, &session.cancel, &progress)?;
    drop(reporter);
    for warning in backup.outcome.warnings.iter().chain(&backup.committed.warnings) {
        session.out.warn(format_args!("{warning}"));
    }
    for problem in &backup.outcome.problems {
        session.out.warn(format_args!("{}: {}: {}", word(problem.kind), place(problem, &sources), problem.detail));
    }
    let public = &backup.outcome.body.public;
    let private = &backup.outcome.body.private;
    let of_kind = |kind| paths(&backup.outcome.problems, kind);
    session.out.report(&Snapshotted {
        name: backup.committed.name.clone(),
        seq: backup.committed.seq,
        id: backup.committed.digest.to_string(),
        content_digest: private.content_digest.to_string(),
        full_digest: private.full_digest.to_string(),
        changed: backup.outcome.changed,
        complete: public.complete,
        entries: public.entries,
        files: public.files,
        bytes: public.bytes,
        new_bytes: backup.outcome.new_bytes,
        stored_bytes: backup.outcome.stored_bytes,
        new_objects: backup.outcome.new_objects,
        torn: of_kind(ProblemKind::Torn),
        unreadable: of_kind(ProblemKind::Unreadable),
        cache_mismatches: of_kind(ProblemKind::CacheMismatch),
        seconds: started.elapsed().as_secs_f64(),
    })?;
    Ok(exit_of(&backup.outcome.problems))
}

/// The worst problem decides: what is missing, then what is suspect, then what is torn.
fn exit_of(problems: &[Problem]) -> Exit {
    let has = |kind| problems.iter().any(|problem| problem.kind == kind);
    if has(ProblemKind::Unreadable) {
        Exit::of_code(exit::INCOMPLETE)
    } else if has(ProblemKind::CacheMismatch) {
        Exit::of_code(exit::CACHE_MISMATCH)
    } else if has(ProblemKind::Torn) {
        Exit::of_code(exit::TORN)
    } else {
        Exit::DONE
    }
}

fn word(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Torn => "torn",
        ProblemKind::Unreadable => "unreadable, not in the snapshot",
        ProblemKind::CacheMismatch => "content changed in silence",
    }
}

fn place(problem: &Problem, sources: &[Source]) -> String {
    let directory = sources.iter().find(|source| source.name == problem.tree).map(|source| &source.directory);
    directory.map_or_else(|| problem.path.clone(), |directory| directory.join(&problem.path).display().to_string())
}

fn paths(problems: &[Problem], kind: ProblemKind) -> Vec<Named> {
    let of_kind = problems.iter().filter(|problem| problem.kind == kind);
    of_kind.map(|p| Named { tree: p.tree.clone(), path: p.path.clone(), detail: p.detail.clone() }).collect()
}

/// The name of this machine.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// The trees that were named, ascending by name.
fn sources(directories: &[String]) -> Result<Vec<Source>, CliError> {
    let mut sources = BTreeMap::new();
    for text in directories {
        let source = match text.split_once('=') {
            Some((name, directory)) if !Path::new(text).is_dir() => {
                if !is_name(name) {
                    return Err(CliError::usage(format!("{name:?} is no name for a tree"))
                        .next("a name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit"));
                }
                Source { name: name.to_owned(), directory: directory.into() }
            }
            _ => Source { name: default_name(text)?, directory: text.into() },
        };
        if let Some(other) = sources.insert(source.name.clone(), source) {
            return Err(CliError::usage(format!("two trees have the name {}", other.name))
                .next("name them apart: one=DIR two=DIR"));
        }
    }
    Ok(sources.into_values().collect())
}

/// The directory's own name, with every other character made `-`.
fn default_name(directory: &str) -> Result<String, CliError> {
    let path = std::path::absolute(directory).map_err(CliError::from)?;
    let name = path.file_name().map_or_else(|| "root".to_owned(), |name| name.to_string_lossy().to_lowercase());
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).take(64).collect();
    let name = name.trim_start_matches(['.', '_', '-']).to_owned();
    if is_name(&name) {
        return Ok(name);
    }
    Err(CliError::usage(format!("{directory:?} gives no name for its tree")).next(format!("name it: NAME={directory}")))
}

fn options(args: &SnapshotArgs, session: &Session<'_>) -> Result<Options, CliError> {
    let config = &session.config.snapshot;
    // Later patterns win, so those of the command line come after those of the configuration.
    let patterns: Vec<String> = config.excludes.value.iter().chain(&args.exclude).cloned().collect();
    let files: Vec<PathBuf> = config.exclude_from.value.iter().chain(&args.exclude_from).cloned().collect();
    let excludes = Excludes::new(&patterns, &files).map_err(|error| CliError::from(error).with_exit(Exit::USAGE))?;
    let walk = WalkOptions {
        excludes: Some(excludes),
        exclude_caches: args.exclude_caches || config.exclude_caches.value,
        one_file_system: args.one_file_system || config.one_file_system.value,
    };
    let days = Duration::from_secs(24 * 3600) * config.reread_cycle_days.value;
    Ok(Options {
        walk,
        devices: args.devices || config.devices.value,
        level: config.compression_level.value,
        reread_cycle: days,
        ..Options::default()
    })
}
