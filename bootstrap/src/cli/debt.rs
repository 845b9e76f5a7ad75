//! `bootstrap debt`: what failovers changed in a hurry, and whether it was put right.

use std::io::{self, Write};

use bootstrap::fleet::inventory::Inventory;
use bootstrap::scenario::act::{deployed, leads_there, settle_up};
use bootstrap::scenario::debts::{Closed, Debt, DebtError, Debts, Left};
use bootstrap::scenario::field::Ground;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::failover::RunsArgs;
use super::fleet::InventoryArgs;

/// List what failovers changed in a hurry, and close what was put right
///
/// While one is open, `bootstrap failover switchback` is refused.
#[derive(Debug, Args)]
pub(super) struct DebtArgs {
    #[command(subcommand)]
    command: DebtCommand,
}

#[derive(Debug, Subcommand)]
enum DebtCommand {
    /// List them; exit code 1 while one is open
    List(ListArgs),
    /// Close one, once the deployed file is the canonical one again
    ///
    /// The file is looked at: anything but the canonical one is refused (exit code 3). With --restore a hotfix is replaced by
    /// it first, checked and reloaded; that is refused while the canonical file leads clients to a node that does not lead.
    /// With --with-switchback it stays open, and the next switchback puts it right as soon as the preferred node leads.
    Close(CloseArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// Also those that are closed
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct CloseArgs {
    /// Its id
    id: String,
    #[command(flatten)]
    inventory: InventoryArgs,
    /// How it was put right; kept
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Put the canonical file back, check it and bring it into force
    #[arg(long)]
    restore: bool,
    /// Leave it to the next `bootstrap failover switchback`
    #[arg(long, conflicts_with = "restore")]
    with_switchback: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    #[serde(skip)]
    fleet: String,
    open: usize,
    debts: Vec<Debt>,
}

impl Report for Listed {
    const SCHEMA: &'static str = "bootstrap.debts/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.debts.is_empty() {
            return writeln!(out, "no debt is open");
        }
        for debt in &self.debts {
            match &debt.closed {
                None => writeln!(out, "OPEN {} since {}", debt.id, debt.opened)?,
                Some(closed) => {
                    writeln!(out, "closed {} at {} by {}: {}", debt.id, closed.at, closed.by, closed.reason)?
                }
            }
            writeln!(out, "  {}", debt.text)?;
            writeln!(out, "  canonical: {} with SHA-256 {}", debt.file.display(), debt.canonical_sha256)?;
            if let Some(backup) = &debt.backup {
                writeln!(out, "  backup: {}", backup.display())?;
            }
            if let Some(left) = debt.left_to_switchback.as_ref().filter(|_| debt.closed.is_none()) {
                writeln!(out, "  left to the next switchback at {} by {}: {}", left.at, left.by, left.reason)?;
            } else if debt.closed.is_none() {
                writeln!(out, "  close it: bootstrap debt close {} --restore{} --reason TEXT", debt.id, self.fleet)?;
            }
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Settled {
    id: String,
    closed: bool,
    what: String,
}

impl Report for Settled {
    const SCHEMA: &'static str = "bootstrap.debt-closed/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} {}: {}", self.id, if self.closed { "is closed" } else { "stays open" }, self.what)
    }
}

pub(super) fn run(args: &DebtArgs, out: &mut Output) -> Result<Exit, CliError> {
    match &args.command {
        DebtCommand::List(args) => list(args, out),
        DebtCommand::Close(args) => close(args, out),
    }
}

/// The debts of a fleet, whichever directory its runs are kept in.
fn debts_of(inventory: &Inventory) -> Result<Debts, CliError> {
    let runs = RunsArgs { runs: "drills".into() };
    Ok(Debts::below(runs.of_fleet(inventory)?.shared()))
}

fn list(args: &ListArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let mut debts = debts_of(&inventory)?.all().map_err(problem)?;
    let open = debts.iter().filter(|debt| debt.closed.is_none()).count();
    if !args.all {
        debts.retain(|debt| debt.closed.is_none());
    }
    out.report(&Listed { fleet: args.inventory.typed(), open, debts })?;
    Ok(if open == 0 { Exit::DONE } else { Exit::NO })
}

fn close(args: &CloseArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let debts = debts_of(&inventory)?;
    let debt = debts.get(&args.id).map_err(problem)?;
    if let Some(closed) = &debt.closed {
        return Err(CliError::refused(format!("{} was closed at {} by {}", debt.id, closed.at, closed.by)));
    }
    let ground = Ground::new(inventory);
    let refused = |why: String| CliError::refused(format!("{} stays open: {why}", debt.id));
    if args.with_switchback {
        let (by, reason) = (super::failover::actor(), args.reason.clone());
        let left_to_switchback = Some(Left { at: Timestamp::now(), by, reason });
        debts.put(&Debt { left_to_switchback, ..debt.clone() }).map_err(problem)?;
        let what = "`bootstrap failover switchback` puts it right".to_owned();
        out.report(&Settled { id: debt.id, closed: false, what })?;
        return Ok(Exit::DONE);
    }
    let what = if args.restore {
        leads_there(&ground, &debt).map_err(refused).map_err(|error| {
            error.next(format!(
                "`bootstrap debt close {} --with-switchback --reason TEXT` has the next switchback put it right",
                debt.id
            ))
        })?;
        settle_up(&ground, &debt).map_err(refused)?
    } else {
        let file = deployed(&ground).map_err(refused)?;
        if (&file.path, file.sha256) != (&debt.file, debt.canonical_sha256) {
            let why = format!(
                "expected {} with SHA-256 {}, found {} with {}",
                debt.file.display(),
                debt.canonical_sha256,
                file.path.display(),
                file.sha256
            );
            return Err(refused(why).next("deploy the canonical file, or give --restore"));
        }
        format!("{} is the canonical one", file.path.display())
    };
    let found_sha256 = debt.canonical_sha256;
    let closed =
        Closed { at: Timestamp::now(), by: super::failover::actor(), reason: args.reason.clone(), found_sha256 };
    debts.put(&Debt { closed: Some(closed), ..debt.clone() }).map_err(problem)?;
    out.report(&Settled { id: debt.id.clone(), closed: true, what })?;
    Ok(Exit::DONE)
}

fn problem(error: DebtError) -> CliError {
    match error {
        DebtError::None { .. } => CliError::usage(error.to_string()).next("`bootstrap debt list --all` shows them"),
        DebtError::Strange { .. } => {
            CliError::from(error).next("look at the file: nobody knows whether that debt is open")
        }
        DebtError::Io { .. } => error.into(),
    }
}
