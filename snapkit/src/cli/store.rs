//! `snapkit store`: commands about a store itself, whatever is in it.

use std::io;

use clap::{Args, Subcommand, ValueEnum};
use manifests::refusal::exit::COULD_NOT_RUN;
use serde::Serialize;
use snapkit::store::probe::{ProbeReport, Verdict, probe};
use snapkit::store::rights::{Due, Found, Right, RightCheck, RightsReport, Role, rights};

use super::exit_code::{CliError, Exit};
use super::output::{Report, write_table};
use super::session::Session;

/// Find out what a store can do
#[derive(Debug, Args)]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Prove what a store enforces, by trying it under a random name
    ///
    /// Ends with exit code 1 when the store does not keep what writing a chain relies on: of many
    /// writers who create one object at once exactly one wins, and what was written is read and
    /// listed at once. What it wrote is removed again.
    ///
    /// With --role it tries instead what the credentials may do in each part of the store, and ends
    /// with exit code 1 when that is more, or less, than the role is to have. Nothing of the chain
    /// is touched.
    Probe(ProbeArgs),
}

#[derive(Debug, Args)]
struct ProbeArgs {
    /// Try what the credentials may do, and hold it against what this role is to have
    #[arg(long, value_enum)]
    role: Option<RoleName>,
}

/// The roles of `docs/credentials.md`.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Restores and verifies
    Reader,
    /// Keeps a node close behind the chain
    Follower,
    /// Adds snapshots
    Writer,
    /// Ends retention and deletes
    Pruner,
    /// Refreshes the manifest
    Manifest,
    /// Publishes roots and forks
    Owner,
}

/// What a probe found.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Probed(ProbeReport);

pub(super) fn run(args: &StoreArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let StoreCommand::Probe(args) = &args.command;
    let store = session.open_store()?;
    if let Some(role) = args.role {
        let found = Rights(rights(&*store, role.into()));
        session.out.report(&found)?;
        return Ok(found.exit());
    }
    let probed = Probed(probe(&*store, ""));
    session.out.report(&probed)?;
    Ok(if probed.0.fit_for_writing { Exit::DONE } else { Exit::NO })
}

impl Report for Probed {
    const SCHEMA: &'static str = "snapkit.store-probe/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let rows: Vec<_> = (self.0.checks.iter())
            .map(|check| {
                let verdict = match check.verdict {
                    Verdict::Passed => "passed",
                    Verdict::Failed => "FAILED",
                    Verdict::Skipped => "skipped",
                };
                [verdict, check.name, &check.reason].map(str::to_owned)
            })
            .collect();
        write_table(out, &rows)?;
        let fit = if self.0.fit_for_writing { "is fit" } else { "is NOT fit" };
        writeln!(out, "{} {fit} for writing", self.0.store)
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Reader => Self::Reader,
            RoleName::Follower => Self::Follower,
            RoleName::Writer => Self::Writer,
            RoleName::Pruner => Self::Pruner,
            RoleName::Manifest => Self::Manifest,
            RoleName::Owner => Self::Owner,
        }
    }
}

/// What the credentials may do.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Rights(RightsReport);

impl Rights {
    fn exit(&self) -> Exit {
        let wrong = |check: &RightCheck| check.is_beyond() || check.is_lacking();
        match (self.0.fits, self.0.checks.iter().any(wrong)) {
            (true, _) => Exit::DONE,
            (false, true) => Exit::NO,
            // What could not be tried proves nothing.
            (false, false) => Exit::of_code(COULD_NOT_RUN),
        }
    }
}

impl Report for Rights {
    const SCHEMA: &'static str = "snapkit.store-rights/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let rights = [Right::Read, Right::List, Right::Create, Right::Replace, Right::Delete];
        let mut rows = vec![[
            "place".to_owned(),
            "read".into(),
            "list".into(),
            "create".into(),
            "replace".into(),
            "delete".into(),
        ]];
        for checks in self.0.checks.chunk_by(|a, b| a.place == b.place) {
            let cell = |right| checks.iter().find(|check| check.right == right).map_or("-", shown).to_owned();
            let [read, list, create, replace, delete] = rights.map(cell);
            rows.push([checks[0].place.to_owned(), read, list, create, replace, delete]);
        }
        write_table(out, &rows)?;
        for checks in self.0.checks.chunk_by(|a, b| a.place == b.place) {
            let beyond: Vec<&str> = checks.iter().filter(|check| check.is_beyond()).map(|c| verb(c.right)).collect();
            if !beyond.is_empty() {
                writeln!(out, "beyond the role: may {} in {}", beyond.join(", "), checks[0].place)?;
            }
            for check in checks.iter().filter(|check| check.is_lacking() || check.is_unproven()) {
                let what = if check.is_lacking() { "lacking: may not" } else { "not proven: may" };
                writeln!(out, "{what} {} in {}{}", verb(check.right), check.place, because(check))?;
            }
        }
        if let Some(check) = self.0.checks.iter().find(|check| check.due == Due::Inseparable) {
            writeln!(out, "not to be withheld here: {}", check.reason)?;
        }
        for key in &self.0.left {
            writeln!(out, "left behind, as it may not be deleted: {key}; it does no harm")?;
        }
        let fits = match self.exit() {
            Exit::DONE => "have what the role needs and nothing beyond it",
            Exit::NO => "are NOT fit",
            _ => "could not be tried to the end, which proves NOTHING",
        };
        let role = RoleName::value_variants().iter().find(|name| Role::from(**name) == self.0.role);
        let role =
            role.and_then(RoleName::to_possible_value).map_or_else(String::new, |value| value.get_name().to_owned());
        writeln!(out, "{}: for the role {role} these credentials {fits}", self.0.store)
    }
}

/// What stands in the table: capitals where something is wrong.
fn shown(check: &RightCheck) -> &'static str {
    match (check.found, check.due) {
        (Found::Yes, Due::Beyond) => "YES",
        (Found::Yes, _) => "yes",
        (Found::No, Due::Needed) => "NO",
        (Found::No, _) => "no",
        (Found::Unknown, _) => "?",
    }
}

fn verb(right: Right) -> &'static str {
    match right {
        Right::Read => "read",
        Right::List => "list",
        Right::Create => "create",
        Right::Replace => "replace",
        Right::Delete => "delete",
    }
}

fn because(check: &RightCheck) -> String {
    if check.reason.is_empty() { String::new() } else { format!(": {}", check.reason) }
}
