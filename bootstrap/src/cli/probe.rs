//! `bootstrap probe`: what every surface of a fleet answers, and whether that is what must hold.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::fleet::inventory::Reference;
use bootstrap::fleet::probe::{self, Options, ProbeError, ProbeReport};
use clap::Args;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::fleet::InventoryArgs;

/// Ask every surface of a fleet, and say whether exactly one node leads and clients get to it
///
/// Only reads. Every node, the ingress and the control plane are asked, each question with its own limit. What is left out or
/// cannot be asked is skipped and never passes. Exit code 0 if something was verified and all of it holds, 1 if something does
/// not, 4 if only because a node is degraded, 5 if nothing was verified, 3 if nothing could show the leader that is expected.
#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    pub(super) asked: AskedArgs,
    /// Expect that this node leads, and that every other one that is asked follows
    #[arg(long, value_name = "NODE", env = "SNAPKIT_EXPECT_LEADER")]
    expect_leader: Option<String>,
    /// Ask from there, too: a node, or `ingress`; may be given several times
    #[arg(long, value_name = "PLACE", env = "SNAPKIT_VANTAGE", value_delimiter = ',')]
    vantage: Vec<String>,
    /// Say which known causes fit what was found
    #[arg(long)]
    explain: bool,
}

/// What is asked, and with which credentials.
#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    /// Do not ask this node; may be given several times
    #[arg(long, value_name = "NODE", env = "SNAPKIT_SKIP_NODE", value_delimiter = ',')]
    skip_node: Vec<String>,
    /// Do not ask the ingress
    #[arg(long, env = "SNAPKIT_SKIP_PUBLIC")]
    skip_public: bool,
    /// Do not ask the control plane
    #[arg(long, env = "SNAPKIT_SKIP_CONTROL_API")]
    skip_control_api: bool,
    /// How long one question may take [default: `thresholds.probe_seconds`, else 5]
    #[arg(long, value_name = "SECONDS", env = "SNAPKIT_PROBE_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: Option<u64>,
    /// File with the token for reading, instead of what the inventory names
    #[arg(long, value_name = "PATH", env = "SNAPKIT_TOKEN_FILE", conflicts_with = "token_env")]
    token_file: Option<PathBuf>,
    /// Variable with the token for reading, instead of what the inventory names
    #[arg(long, value_name = "NAME")]
    token_env: Option<String>,
    /// File with USER:PASSWORD for the nodes, instead of what the inventory names
    #[arg(long, value_name = "PATH", env = "SNAPKIT_BASIC_FILE", conflicts_with = "basic_env")]
    basic_file: Option<PathBuf>,
    /// Variable with USER:PASSWORD for the nodes, instead of what the inventory names
    #[arg(long, value_name = "NAME")]
    basic_env: Option<String>,
}

impl AskedArgs {
    pub(super) fn options(&self) -> Options {
        let reference = |file: &Option<PathBuf>, variable: &Option<String>| {
            let file = file.clone().map(Reference::File);
            file.or_else(|| variable.clone().map(Reference::Env))
        };
        Options {
            skip_nodes: self.skip_node.iter().cloned().collect::<BTreeSet<_>>(),
            skip_public: self.skip_public,
            skip_control: self.skip_control_api,
            timeout: self.timeout.map(Duration::from_secs),
            token: reference(&self.token_file, &self.token_env),
            basic: reference(&self.basic_file, &self.basic_env),
            ..Options::default()
        }
    }
}

/// A probe as it is printed.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(ProbeReport);

impl Report for Shown {
    const SCHEMA: &'static str = probe::SCHEMA;

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.0.write_text(out)
    }
}

pub(super) fn run(args: &ProbeArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let options = Options { expect_leader: args.expect_leader.clone(), ..args.asked.options() };
    let mut report = probe::probe(&inventory, &options).map_err(problem)?;
    for from in &args.vantage {
        let asked = report.ask_from(&inventory, &options, from);
        asked.map_err(|error| CliError::from(error).with_exit(Exit::USAGE))?;
    }
    if args.explain {
        report.explanations = report.explain(&args.inventory.typed());
    }
    let exit = Exit::of_code(report.verdict.code());
    out.report(&Shown(report))?;
    Ok(exit)
}

pub(super) fn problem(error: ProbeError) -> CliError {
    match error {
        ProbeError::NoEvidence { .. } => {
            CliError::from(error).with_exit(Exit::REFUSED).next("leave out less, or name more in the inventory")
        }
        ProbeError::UnknownNode(_) | ProbeError::Credential(_) | ProbeError::Asker(_) => {
            CliError::from(error).with_exit(Exit::USAGE)
        }
    }
}
