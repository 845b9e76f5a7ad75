//! `bootstrap runbook print`: a scenario as commands for a person.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bootstrap::drill::deeds::Deeds;
use bootstrap::evidence::event::Mode;
use bootstrap::fleet::inventory::{self, InventoryError};
use bootstrap::scenario::render::Runbook;
use bootstrap::scenario::resolve::{Wish, sketch};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::fleet::{DEFAULT_INVENTORY, InventoryArgs, problem};
use super::scenario::{CastArgs, Chosen, site, unfit, unseen};

/// Print a scenario as the commands that a person types
#[derive(Debug, Args)]
pub(super) struct RunbookArgs {
    #[command(subcommand)]
    command: RunbookCommand,
}

#[derive(Debug, Subcommand)]
enum RunbookCommand {
    /// Print the steps of a scenario, in order, each with its commands and with what to do if it fails
    ///
    /// They are the steps that `bootstrap failover` executes. Nothing is asked and nothing is changed: who leads is taken from
    /// what the inventory prefers, unless it is said. What is not known is printed as REPLACE_ME; secrets are never printed.
    Print(PrintArgs),
}

#[derive(Debug, Args)]
struct PrintArgs {
    /// planned, emergency or switchback
    #[arg(long, value_name = "NAME", required_unless_present = "scenario_file")]
    scenario: Option<String>,
    /// A scenario of your own
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    scenario_file: Option<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    cast: CastArgs,
    /// Why it is done, for requests
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// In which form
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For a terminal
    Text,
    /// Markdown
    Md,
    /// One object, as with --json
    Json,
}

pub(super) fn run(args: &RunbookArgs, out: &mut Output) -> Result<Exit, CliError> {
    let RunbookCommand::Print(args) = &args.command;
    let chosen = Chosen::of(args.scenario.as_deref(), args.scenario_file.as_ref(), &Deeds)?;
    let inventory = match inventory::load(&args.inventory.inventory, args.inventory.place()) {
        Ok(inventory) => Some(inventory),
        // Without one, the text has names to replace. One that was named must be there.
        Err(InventoryError::Missing(_)) if args.inventory.inventory == Path::new(DEFAULT_INVENTORY) => None,
        Err(error) => return Err(problem(error)),
    };
    let wish = Wish {
        id: chosen.scenario.name.clone(),
        mode: Mode::Simulated,
        challenge: None,
        now: Timestamp::now(),
        actor: String::new(),
        reason: args.reason.clone().unwrap_or_default(),
        old_leader: args.cast.old_leader.clone(),
        target: args.cast.target.clone(),
    };
    let plan = sketch(&chosen.scenario, &chosen.text, &unseen(inventory.as_ref()), &wish).map_err(unfit)?;
    let file = args.inventory.inventory.display().to_string();
    let site = site(inventory.as_ref(), &file, args.reason.as_deref());
    let runbook = Runbook::of(&plan, &Deeds, &site);
    match args.format {
        Format::Md if !out.is_json() => out.bytes(runbook.markdown().as_bytes())?,
        Format::Json if !out.is_json() => Output::new(true, false).report(&Printed(&runbook))?,
        _ => out.report(&Printed(&runbook))?,
    }
    Ok(Exit::DONE)
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Printed<'r>(&'r Runbook);

impl Report for Printed<'_> {
    const SCHEMA: &'static str = bootstrap::scenario::render::SCHEMA;

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.0.text().as_bytes())
    }
}
