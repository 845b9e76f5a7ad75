//! `snapkit store`: commands about a store itself, whatever is in it.

use std::io;

use clap::{Args, Subcommand};
use serde::Serialize;
use snapkit::store::probe::{ProbeReport, Verdict, probe};

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
    Probe,
}

/// What a probe found.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Probed(ProbeReport);

pub(super) fn run(args: &StoreArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let StoreCommand::Probe = args.command;
    let store = session.open_store()?;
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
