//! `bootstrap drill history`: the drills and failovers of a chain, as the chain itself has them.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::drills;
use snapkit::span::Span;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report, write_table};

use super::run::conductor;
use crate::cli::fleet::InventoryArgs;

/// List the drills and failovers that the chain knows of, the newest first, and how long ago the last good one was
///
/// A run that began and never said how it ended is listed, too. Exit code 25 if none was good within --within.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// How far back is looked
    #[arg(long, value_name = "SPAN", default_value = "90d")]
    since: Span,
    /// There must be a good one that is no older
    #[arg(long, value_name = "SPAN")]
    within: Option<Span>,
}

#[derive(Debug, Serialize)]
struct History {
    runs: Vec<Run>,
    last_good: Option<Timestamp>,
    last_good_seconds: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Run {
    id: String,
    kind: Option<String>,
    scenario: Option<String>,
    begun: Option<Timestamp>,
    ended: Option<Timestamp>,
    mode: Option<String>,
    verdict: Option<String>,
    rto_ms: Option<u64>,
    rpo_events: Option<u64>,
    bundle: Option<String>,
}

impl Run {
    fn of(run: &drills::Run) -> Self {
        let begun = run.begun.as_ref();
        let ended = run.ended.as_ref();
        Self {
            id: run.id.clone(),
            kind: begun.map(|(_, _, begun)| begun.kind.clone()),
            scenario: begun.map(|(_, _, begun)| begun.scenario.clone()),
            begun: begun.map(|(_, time, _)| *time),
            ended: ended.map(|(_, time, _)| *time),
            mode: ended.map(|(_, _, ended)| ended.mode.clone()).or(begun.map(|(_, _, begun)| begun.mode.clone())),
            verdict: ended.map(|(_, _, ended)| ended.verdict.clone()),
            rto_ms: ended.and_then(|(_, _, ended)| ended.rto_ms),
            rpo_events: ended.and_then(|(_, _, ended)| ended.rpo_events),
            bundle: ended.map(|(_, _, ended)| ended.bundle.to_string()),
        }
    }
}

pub(super) fn run(args: &HistoryArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let (_, origin) = conductor(&inventory, &args.inventory.inventory, Path::new("drills"), out)?;
    let now = Timestamp::now();
    let chain = origin.chain(now)?;
    let newest = chain.head()?;
    let found = drills::history(&chain, &newest, now - SignedDuration::from(args.since))?;
    let last_good = found.iter().filter(|run| run.is_good()).filter_map(drills::Run::time).max();
    let last_good_seconds = last_good.map(|time| now.duration_since(time).as_secs());
    let is_old = |within: Span| last_good.is_none_or(|time| now.duration_since(time) > SignedDuration::from(within));
    let too_old = args.within.is_some_and(is_old);
    out.report(&History { runs: found.iter().map(Run::of).collect(), last_good, last_good_seconds })?;
    Ok(if too_old { Exit::of_code(exit::DRILLS_OLD) } else { Exit::DONE })
}

impl Report for History {
    const SCHEMA: &'static str = "bootstrap.drill-history/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<[String; 5]> = (self.runs.iter())
            .map(|run| {
                let time = run
                    .begun
                    .or(run.ended)
                    .map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%MZ").to_string());
                [
                    time,
                    run.id.clone(),
                    run.scenario.clone().unwrap_or_default(),
                    run.verdict.clone().unwrap_or_else(|| "NEVER SAID HOW IT ENDED".to_owned()),
                    run.rto_ms.map_or_else(String::new, |ms| format!("{:.1} s", ms as f64 / 1000.0)),
                ]
            })
            .collect();
        write_table(out, &rows)?;
        match self.last_good_seconds {
            Some(seconds) => writeln!(out, "the last good one was {} h ago", seconds / 3600),
            None => writeln!(out, "none was good"),
        }
    }
}
