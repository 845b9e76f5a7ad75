//! `bootstrap ack`: a degraded node may be switched again.

use std::io::{self, Write};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::node;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::{NodeArgs, Requirement};

/// Acknowledge that a degraded node was repaired, so that it may be switched again
///
/// Everything that must hold is checked first; while something does not, the mark stays (exit code 1).
#[derive(Debug, Args)]
pub(super) struct AckArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// What was done about it; kept with the node's events
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

#[derive(Debug, Serialize)]
struct Acknowledged {
    node: String,
    since: Timestamp,
    failure: String,
    rollback: String,
    reason: String,
    requirements: Vec<Requirement>,
}

impl Report for Acknowledged {
    const SCHEMA: &'static str = "bootstrap.ack/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: no longer degraded, as it was since {}", self.node, self.since)?;
        self.requirements.iter().try_for_each(|requirement| requirement.write_text(out))
    }
}

pub(super) fn run(args: &AckArgs, out: &mut Output) -> Result<Exit, CliError> {
    let node = args.node.open()?;
    let (mark, checks) = node::acknowledge(&node, &args.reason)?;
    out.report(&Acknowledged {
        node: node.path().display().to_string(),
        since: mark.since,
        failure: mark.failure,
        rollback: mark.rollback,
        reason: args.reason.clone(),
        requirements: Requirement::all(&checks),
    })?;
    Ok(Exit::DONE)
}
