//! `bootstrap drill preflight`: what a fleet is ready for.

use std::io::{self, Write};

use bootstrap::drill::conduct::ConductError;
use bootstrap::drill::preflight::{self, Condition, Level};
use clap::Args;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report, write_table};

use super::run::{AskedArgs, RunsArgs, conductor, explained};
use crate::cli::fleet::InventoryArgs;

/// Say how far a drill of this fleet could go, and what is missing for more
///
/// A harmless command is run on every node, so that commands, rights and paths are tried. Nothing is changed. Exit code 1 if a
/// drill could not be done.
#[derive(Debug, Args)]
pub(super) struct PreflightArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    place: RunsArgs,
    #[command(flatten)]
    asked: AskedArgs,
}

#[derive(Debug, Serialize)]
struct Found {
    level: Level,
    conditions: Vec<Condition>,
}

pub(super) fn run(args: &PreflightArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let fleet = std::path::absolute(&args.inventory.inventory)?;
    let (conductor, _origin) = conductor(&inventory, &fleet, &args.place.runs, out)?;
    let blank = match conductor.blank(&args.asked.asked(Some("full"))?) {
        Ok(blank) => blank,
        Err(ConductError::NoBlank) => String::new(),
        Err(error) => return Err(explained(error)),
    };
    let mut conditions = preflight::look(&inventory, &conductor.origin, &blank);
    if blank.is_empty() {
        let found = "no node is named: give --blank, or `blank` in [drill]".to_owned();
        let name = "a node for the cold restore".to_owned();
        conditions.push(Condition { name, needed_for: Level::Simulate, holds: false, found });
    }
    let found = Found { level: preflight::level(&conditions), conditions };
    out.report(&found)?;
    Ok(if found.level == Level::Execute { Exit::DONE } else { Exit::NO })
}

impl Report for Found {
    const SCHEMA: &'static str = "bootstrap.drill-preflight/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<[String; 3]> = (self.conditions.iter())
            .map(|one| {
                let word =
                    if one.holds { "holds".to_owned() } else { format!("MISSING for {}", one.needed_for.word()) };
                [format!("  {word}"), one.name.clone(), one.found.clone()]
            })
            .collect();
        write_table(out, &rows)?;
        writeln!(out, "possible: {}", self.level.word())
    }
}
