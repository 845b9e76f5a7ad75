//! The terminal: what the commands of this workspace share in printing, failing, being stopped and showing progress.
//!
//! Only this module and the `cli` of a binary print, handle signals or choose exit codes; nothing else in the library
//! calls this module. A binary parses its arguments, makes an [`Output`], and gives [`run`] what is to be done.
//! Results: `docs/json.md`. Exit codes: `docs/exit-codes.md`. Layer: edge.

pub mod exit_code;
pub mod manual;
pub mod output;
pub mod progress;
pub mod signals;

use std::process::ExitCode;

use exit_code::{CliError, Exit};
use output::Output;

use crate::cancel::Cancel;

/// Runs one command to its end: installs the signal handlers, prints the problem if there is one, gives the exit code.
pub fn run(mut out: Output, command: impl FnOnce(&mut Output, Cancel) -> Result<Exit, CliError>) -> ExitCode {
    match run_cancellable(&mut out, command) {
        Ok(exit) => exit.into(),
        Err(error) => error.report(&mut out).into(),
    }
}

fn run_cancellable(
    out: &mut Output,
    command: impl FnOnce(&mut Output, Cancel) -> Result<Exit, CliError>,
) -> Result<Exit, CliError> {
    let signals = signals::install().map_err(|source| CliError::from(source).context("cannot handle signals"))?;
    let result = command(out, signals.cancel());
    // Whatever an interrupted operation says about itself, the caller asks for the signal's code.
    match (result, signals.received()) {
        (Err(error), Some(exit)) => Err(error.with_exit(exit)),
        (result, _) => result,
    }
}
