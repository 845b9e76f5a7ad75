//! The command line: one file per subcommand.
//!
//! Only this layer and `snapkit::terminal` print, handle signals or choose exit codes. What a node directory is and does:
//! `snapkit::node`. Reports: `docs/json.md`.

mod ack;
mod check;
mod completions;
mod guard;
mod man;
mod status;
mod undo;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use snapkit::node::{Check, NodeDir};
use snapkit::terminal::exit_code::CliError;
use snapkit::terminal::{self, output};

use output::Output;

/// Nodes that run from restored snapshots: which state is active, and going back
///
/// `snapkit restore SNAP --into NODE-DIR` makes a node directory and switches it to a snapshot.
#[derive(Debug, Parser)]
#[command(name = "bootstrap", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArgs {
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but the result and problems
    #[arg(long, short, global = true)]
    quiet: bool,
}

/// The node that a command is about.
#[derive(Debug, Args)]
struct NodeArgs {
    /// The node directory
    #[arg(value_name = "NODE-DIR")]
    node: PathBuf,
}

impl NodeArgs {
    fn open(&self) -> Result<NodeDir, CliError> {
        Ok(NodeDir::open(&self.node)?)
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Command {
    Status(status::StatusArgs),
    Check(check::CheckArgs),
    Undo(undo::UndoArgs),
    Ack(ack::AckArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// Runs the command line of this process and gives its exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way too, and end with 0.
        Err(error) => error.exit(),
    };
    // It outlives signals, and its standard output belongs to the agent that began it.
    if let Command::Guard(args) = &cli.command {
        return guard::run(args);
    }
    // No command here takes long or has a place to stop at: a signal comes when it has ended, or ends it the second time.
    terminal::run(Output::new(cli.global.json, cli.global.quiet), |out, _cancel| match &cli.command {
        Command::Status(args) => status::run(args, out),
        Command::Check(args) => check::run(args, out),
        Command::Undo(args) => undo::run(args, out),
        Command::Ack(args) => ack::run(args, out),
        Command::Completions(args) => completions::run(args, out),
        Command::Man(args) => man::run(args, out),
        Command::Guard(_) => Ok(terminal::exit_code::Exit::DONE),
    })
}

/// One thing that must hold, for a report.
#[derive(Debug, serde::Serialize)]
struct Requirement {
    what: String,
    holds: bool,
    problem: Option<String>,
}

impl From<&Check> for Requirement {
    fn from(check: &Check) -> Self {
        Self { what: check.what.clone(), holds: check.problem.is_none(), problem: check.problem.clone() }
    }
}

impl Requirement {
    fn all(checks: &[Check]) -> Vec<Self> {
        checks.iter().map(Self::from).collect()
    }

    fn write_text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        match &self.problem {
            None => writeln!(out, "  holds: {}", self.what),
            Some(problem) => writeln!(out, "  DOES NOT HOLD: {}: {problem}", self.what),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
