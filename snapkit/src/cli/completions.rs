//! `snapkit completions`: the script that completes commands in a shell.

use clap::CommandFactory;

use super::Cli;
use super::exit_code::{CliError, Exit};
use super::session::Session;

/// Print the completion script of a shell
///
/// For bash: `snapkit completions bash > /etc/bash_completion.d/snapkit`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "snapkit", &mut script);
    session.out.bytes(&script)?;
    Ok(Exit::DONE)
}
