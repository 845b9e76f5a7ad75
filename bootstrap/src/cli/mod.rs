//! The command line: one file per subcommand.
//!
//! Only this layer and `snapkit::terminal` print, handle signals or choose exit codes. What a node directory is and does:
//! `snapkit::node`. Reports: `docs/json.md`.

mod ack;
mod agent;
mod bring_up;
mod check;
mod completions;
mod debt;
mod docs;
mod drill;
mod evidence;
mod failover;
mod fleet;
mod guard;
mod health;
mod ingress_file;
mod install;
mod inventory;
mod lease;
mod man;
mod node;
mod probe;
mod requests;
mod run_if_leader;
mod runbook;
mod scenario;
mod status;
mod topology;
mod triage;
mod undo;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use snapkit::cancel::Cancel;
use snapkit::node::{Check, NodeDir};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::{self, output};

use output::Output;

/// Nodes: brought up from one string, and what has become of them
///
/// `bootstrap --from 'URL#root=sha256:DIGEST' NODE-DIR` makes a verified, running node of a machine that has nothing. With
/// nothing but that string, roots, manifest, pins and chain are followed; everything that is missing here is listed before
/// anything is touched; the snapshot is restored and proved; the agent is started and waited for. Given again, the same
/// command goes on from wherever it was interrupted.
#[derive(Debug, Parser)]
#[command(name = "bootstrap", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    bring_up: bring_up::BringUpArgs,
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Option<Command>,
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
    Agent(agent::AgentArgs),
    Status(status::StatusArgs),
    Check(check::CheckArgs),
    Undo(undo::UndoArgs),
    Ack(ack::AckArgs),
    Install(install::InstallArgs),
    Lease(lease::LeaseArgs),
    Drill(drill::DrillArgs),
    Evidence(evidence::EvidenceArgs),
    RunIfLeader(run_if_leader::RunIfLeaderArgs),
    #[command(flatten)]
    Request(requests::RequestCommand),
    Inventory(inventory::InventoryCommand),
    Topology(topology::TopologyArgs),
    Probe(probe::ProbeArgs),
    Triage(triage::TriageArgs),
    Health(health::HealthArgs),
    Node(node::NodeCommand),
    Runbook(runbook::RunbookArgs),
    Failover(failover::FailoverArgs),
    Debt(debt::DebtArgs),
    Docs(docs::DocsCommand),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    #[command(hide = true)]
    IngressFile(ingress_file::IngressFileArgs),
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// Runs the command line of this process and gives its exit code.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(bring_up::words(std::env::args_os())) {
        Ok(cli) => cli,
        // Help and version come this way too, and end with 0.
        Err(error) => match misspelt(std::env::args_os().skip(1)).filter(|_| error.use_stderr()) {
            Some(word) => return terminal::run(Output::new(false, false), |_, _| Err(no_command(&word))),
            None => error.exit(),
        },
    };
    // It outlives signals, and its standard output belongs to the agent that began it.
    if let Some(Command::Guard(args)) = &cli.command {
        return guard::run(args);
    }
    if let Some(Command::RunIfLeader(args)) = &cli.command
        && let Some(exit) = args.enter()
    {
        return exit;
    }
    // Most commands take no time and have no place to stop at: a signal comes when they have ended, or ends them the second
    // time.
    terminal::run(Output::new(cli.global.json, cli.global.quiet), |out, cancel| match cli.asked()? {
        None => bring_up::run(&cli.bring_up, cli.global.quiet, out, &cancel),
        Some(command) => command.run(out, &cancel),
    })
}

impl Cli {
    /// The command, where it is not a bring-up.
    fn asked(&self) -> Result<Option<&Command>, CliError> {
        match (&self.command, self.bring_up.is_given()) {
            (_, true) if self.bring_up.word().is_some_and(is_word) => {
                Err(no_command(&self.bring_up.word().unwrap_or(Path::new("")).to_string_lossy()))
            }
            (Some(_), true) => Err(CliError::usage("a command is given beside --from or a node directory")
                .next("`bootstrap --from … NODE-DIR` stands alone; other commands take NODE-DIR after their name")),
            (None, true) if self.bring_up.word().is_some() => Err(CliError::usage(
                "a node directory is given without --from to bring it up with, and without a command",
            )
            .next("see `bootstrap --help`")),
            (None, false) => Err(CliError::usage("nothing is asked for").next("see `bootstrap --help`")),
            (command, _) => Ok(command.as_ref()),
        }
    }
}

/// Whether this was meant as a command rather than as a path.
fn is_word(word: &Path) -> bool {
    word.components().count() == 1 && !word.is_dir() && word.as_os_str() != "." && word.as_os_str() != ".."
}

fn no_command(word: &str) -> CliError {
    CliError::usage(format!("there is no command `{word}`")).next("see `bootstrap --help`")
}

/// The first word of a command line that could not be understood, if no command has that name. The parser takes it for the
/// node directory and complains of what follows.
fn misspelt(mut arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let word = arguments.next()?.into_string().ok()?;
    let is_known = word == "help" || Cli::command().find_subcommand(&word).is_some();
    (!is_known && !word.starts_with('-') && is_word(Path::new(&word))).then_some(word)
}

impl Command {
    fn run(&self, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
        match self {
            Command::Agent(args) => agent::run(args, out, cancel),
            Command::Status(args) => status::run(args, out),
            Command::Check(args) => check::run(args, out),
            Command::Undo(args) => undo::run(args, out),
            Command::Ack(args) => ack::run(args, out),
            Command::RunIfLeader(args) => run_if_leader::run(args, cancel),
            Command::Request(command) => requests::run(command, out),
            Command::Install(args) => install::run(args, out),
            Command::Lease(args) => lease::run(args, out, cancel),
            Command::Drill(args) => drill::run(args, out, cancel),
            Command::Evidence(args) => evidence::run(args, out),
            Command::Inventory(args) => inventory::run(args, out),
            Command::Topology(args) => topology::run(args, out),
            Command::Probe(args) => probe::run(args, out),
            Command::Triage(args) => triage::run(args, out),
            Command::Health(args) => health::run(args, out),
            Command::Node(args) => node::run(args, out),
            Command::Runbook(args) => runbook::run(args, out),
            Command::Failover(args) => failover::run(args, out, cancel),
            Command::Debt(args) => debt::run(args, out),
            Command::IngressFile(args) => ingress_file::run(args, out),
            Command::Docs(args) => docs::run(args, out),
            Command::Completions(args) => completions::run(args, out),
            Command::Man(args) => man::run(args, out),
            Command::Guard(_) => unreachable!("main runs the guard before anything else"),
        }
    }
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
