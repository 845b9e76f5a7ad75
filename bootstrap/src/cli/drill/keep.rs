//! `bootstrap drill keep`: the process that holds those who measure a run. Not for people, and not in the help.

use std::path::PathBuf;

use bootstrap::drill::keeper::{self, Place};
use clap::Args;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};

/// Hold those who measure a run, and take it back when nobody goes on with it
#[derive(Debug, Args)]
pub(super) struct KeepArgs {
    /// The directory beside the run directory
    place: PathBuf,
}

pub(super) fn run(args: &KeepArgs, cancel: &Cancel) -> Result<Exit, CliError> {
    let program = std::env::current_exe()?;
    keeper::run(&Place::at(&args.place), &program, cancel)?;
    Ok(Exit::DONE)
}
