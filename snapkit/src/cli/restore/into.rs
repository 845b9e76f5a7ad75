//! `snapkit restore --into`: a snapshot becomes the next generation of a node.

use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use snapkit::node::{self, Activation, Check, NodeDir, NodeError, Outcome, Recovered, Wanted};
use snapkit::restore::{self, Selection};

use super::report::{Change, changes};
use super::{CliError, Exit, RestoreArgs, Session, refused};
use crate::cli::break_glass::BrokenGlass;
use crate::cli::output::{Bytes, Report, Took};

#[derive(Debug, Serialize)]
struct Done {
    snapshot: String,
    seq: u64,
    id: String,
    dry_run: bool,
    node: String,
    generation: String,
    restored: bool,
    switched: Option<Timestamp>,
    previous: Option<String>,
    entries: u64,
    files: u64,
    bytes: u64,
    fetched_bytes: Option<u64>,
    reused_bytes: Option<u64>,
    resumed: bool,
    full_digest: Option<String>,
    exact: bool,
    proof: Option<&'static str>,
    changes: Vec<Change>,
    requirements: Vec<String>,
    recovered: Option<String>,
    removed: Vec<String>,
    not_removed: Vec<String>,
    break_glass: Option<BrokenGlass>,
    seconds: f64,
}

impl Report for Done {
    const SCHEMA: &'static str = "snapkit.restore-into/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if let Some(recovered) = &self.recovered {
            writeln!(out, "first: {recovered}")?;
        }
        let verb = match (self.dry_run, self.restored) {
            (true, _) => "would restore",
            (false, true) => "restored",
            (false, false) => "found unchanged",
        };
        writeln!(out, "{verb} {} (record {})", self.snapshot, self.seq)?;
        writeln!(out, "  {} entries, {} files, {}", self.entries, self.files, Bytes(self.bytes))?;
        if self.resumed {
            writeln!(out, "  went on with an interrupted restore")?;
        }
        if let (Some(fetched), Some(reused), Some(proof)) = (self.fetched_bytes, self.reused_bytes, self.proof) {
            writeln!(out, "  fetched {}, reused {}, proof {proof}", Bytes(fetched), Bytes(reused))?;
        }
        for change in &self.changes {
            change.write_text(out)?;
        }
        if let Some(digest) = &self.full_digest {
            writeln!(out, "  full digest {digest}")?;
        }
        let verb = match (self.dry_run, self.switched) {
            (true, _) => "would switch",
            (false, Some(_)) => "switched",
            (false, None) => "already active,",
        };
        writeln!(out, "{verb} {} to generation {}", self.node, self.generation)?;
        if let Some(previous) = &self.previous {
            writeln!(out, "  before: {previous}; `bootstrap undo` goes back to it")?;
        }
        for requirement in &self.requirements {
            writeln!(out, "  holds: {requirement}")?;
        }
        for name in &self.removed {
            writeln!(out, "  removed the old generation {name}")?;
        }
        if let Some(glass) = &self.break_glass {
            writeln!(out, "  {}", glass.line())?;
        }
        writeln!(out, "  took {}", Took(Duration::from_secs_f64(self.seconds)))
    }
}

pub(super) fn run(
    args: &RestoreArgs,
    wanted: &Wanted<'_>,
    glass: Option<BrokenGlass>,
    session: &mut Session<'_>,
    started: Instant,
) -> Result<Exit, CliError> {
    let path = args.into.as_deref().unwrap_or(Path::new("."));
    let mut done = if args.dry_run {
        look(path, wanted, session)?
    } else {
        let node = NodeDir::create(path)?;
        let (progress, reporter) = session.show_progress();
        let outcome = node::restore_into(&node, wanted, &session.cancel, &progress);
        drop(reporter);
        Done::of(wanted, node.path(), outcome.map_err(node_refused)?)
    };
    for problem in &done.not_removed {
        session.out.warn(format_args!("an old generation could not be removed: {problem}"));
    }
    done.seconds = started.elapsed().as_secs_f64();
    done.break_glass = glass;
    session.out.report(&done)?;
    Ok(BrokenGlass::exit(done.break_glass.as_ref(), Exit::DONE))
}

/// What would be done; nothing is written.
fn look(path: &Path, wanted: &Wanted<'_>, session: &Session<'_>) -> Result<Done, CliError> {
    let generation = node::would_make(path, &wanted.record)?;
    let (all, cancel) = (Selection::default(), &session.cancel);
    let plan = restore::plan(wanted.fetcher, wanted.snapshot, &all, wanted.options, wanted.scratch, true, cancel)
        .map_err(refused)?;
    Ok(Done {
        dry_run: true,
        generation: generation.to_string(),
        entries: plan.entries(),
        files: plan.files(),
        bytes: plan.bytes(),
        full_digest: Some(plan.expected().full.to_string()),
        exact: plan.exact,
        changes: changes(&plan),
        ..Done::empty(wanted, path)
    })
}

impl Done {
    fn empty(wanted: &Wanted<'_>, node: &Path) -> Self {
        Self {
            snapshot: wanted.record.snapshot.clone(),
            seq: wanted.record.seq,
            id: wanted.record.id.clone(),
            dry_run: false,
            node: node.display().to_string(),
            generation: String::new(),
            restored: false,
            switched: None,
            previous: None,
            entries: 0,
            files: 0,
            bytes: 0,
            fetched_bytes: None,
            reused_bytes: None,
            resumed: false,
            full_digest: None,
            exact: false,
            proof: None,
            changes: Vec::new(),
            requirements: Vec::new(),
            recovered: None,
            removed: Vec::new(),
            not_removed: Vec::new(),
            break_glass: None,
            seconds: 0.0,
        }
    }

    fn of(wanted: &Wanted<'_>, node: &Path, outcome: Outcome) -> Self {
        let holds = |checks: &[Check]| checks.iter().map(|check| check.what.clone()).collect();
        let (switched, previous, requirements) = match &outcome.activation {
            Activation::Switched(switched) => {
                (Some(switched.time), switched.from.as_ref().map(ToString::to_string), holds(&switched.checks))
            }
            Activation::Already(checks) => (None, None, holds(checks)),
        };
        let restored = outcome.restored.as_ref();
        let plan = restored.map(|made| &made.plan);
        Self {
            generation: outcome.generation.to_string(),
            restored: plan.is_some(),
            switched,
            previous,
            entries: outcome.is.entries,
            files: outcome.is.files,
            bytes: outcome.is.bytes,
            fetched_bytes: restored.map(|made| made.restored.fetched_bytes),
            reused_bytes: restored.map(|made| made.restored.reused_bytes),
            resumed: restored.is_some_and(|made| made.resumed),
            full_digest: plan.map(|plan| plan.expected().full.to_string()),
            exact: outcome.is.exact,
            proof: restored.map(|_| wanted.options.proof.as_str()),
            changes: plan.map(changes).unwrap_or_default(),
            requirements,
            recovered: outcome.recovered.as_ref().map(recovery),
            removed: outcome.removed.names.iter().map(ToString::to_string).collect(),
            not_removed: outcome.removed.problems,
            ..Self::empty(wanted, node)
        }
    }
}

/// What became of an interrupted switch, in words.
fn recovery(recovered: &Recovered) -> String {
    match recovered {
        Recovered::Finished(to) => format!("an interrupted switch to {to} was finished"),
        Recovered::TakenBack { to: Some(to), .. } => format!("an interrupted switch was taken back to {to}"),
        Recovered::TakenBack { to: None, .. } => "an interrupted first switch was taken back".to_owned(),
    }
}

fn node_refused(error: NodeError) -> CliError {
    match error {
        NodeError::Restore(error) => refused(error),
        error => error.into(),
    }
}
