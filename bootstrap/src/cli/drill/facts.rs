//! `bootstrap drill facts`: what a drill asks of each node before and after.

use std::io::{self, Write};

use bootstrap::drill::facts::{self, NodeFacts};
use clap::Args;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use crate::cli::NodeArgs;

/// Say what this machine runs for a node, how it is configured, and what its clocks show
///
/// A drill runs this on every node, before and after. Nothing is changed, and no secret is in it.
#[derive(Debug, Args)]
pub(super) struct FactsArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Serialize)]
struct Shown(NodeFacts);

impl Report for Shown {
    const SCHEMA: &'static str = facts::SCHEMA;

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let facts = &self.0;
        writeln!(out, "{} on {}", facts.directory, facts.host)?;
        writeln!(out, "  program {} sha256:{}", facts.version, facts.program_sha256)?;
        writeln!(out, "  configuration sha256:{}", facts.configuration_sha256)?;
        writeln!(out, "  {} µs since boot {}, {} (kept by {})", facts.mono_us, facts.boot_id, facts.wall, facts.clock)?;
        match &facts.active {
            Some(active) => writeln!(out, "  active: {active}"),
            None => writeln!(out, "  nothing is active"),
        }
    }
}

pub(super) fn run(args: &FactsArgs, out: &mut Output) -> Result<Exit, CliError> {
    let facts = facts::of_node(&args.node.node)
        .map_err(|error| CliError::from(error).context(format!("cannot read {}", args.node.node.display())))?;
    out.report(&Shown(facts))?;
    Ok(Exit::DONE)
}
