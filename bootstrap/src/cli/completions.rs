//! `bootstrap completions`: the script that completes commands in a shell.

use clap::CommandFactory;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

use super::Cli;

/// Print the completion script of a shell
///
/// For bash: `bootstrap completions bash > /etc/bash_completion.d/bootstrap`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs, out: &mut Output) -> Result<Exit, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "bootstrap", &mut script);
    out.bytes(&script)?;
    Ok(Exit::DONE)
}
