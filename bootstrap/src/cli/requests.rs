//! `bootstrap drain`, `pause`, `resume`, `handoff`, `demote`, `promote`: what a person asks of a running agent.

use std::io::{self, Write};

use bootstrap::agent::view::RequestKind;
use bootstrap::client::{Asked, Client};
use clap::{Args, Subcommand};
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::NodeArgs;

/// The requests; each help text says what the agent does.
#[derive(Debug, Subcommand)]
pub(super) enum RequestCommand {
    /// Take no new work: /readyz and /leader say no, and the node goes on leading
    Drain(RequestArgs),
    /// Take nothing over, and change nothing, until `bootstrap resume`
    Pause(RequestArgs),
    /// Go on after a drain or a pause
    Resume(RequestArgs),
    /// Step down in order, and let another node of the group lead
    Handoff(RequestArgs),
    /// Step down in order and become a follower: drain, stop, a last snapshot, give the lease back
    Demote(RequestArgs),
    /// Lead. In static leadership you decide, and make sure first that the service on every other node is dead
    Promote(RequestArgs),
}

#[derive(Debug, Args)]
pub(super) struct RequestArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Why; kept in the agent's events and shown by `bootstrap status`
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    node: String,
    request: &'static str,
    reason: String,
    what: String,
}

impl Accepted {
    pub(super) fn new(node: String, kind: RequestKind, reason: &str, what: String) -> Self {
        Self { node, request: kind.as_str(), reason: reason.to_owned(), what }
    }
}

impl Report for Accepted {
    const SCHEMA: &'static str = "bootstrap.request/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: {}", self.node, self.what)?;
        writeln!(out, "  watch it: bootstrap status {}", self.node)
    }
}

pub(super) fn run(command: &RequestCommand, out: &mut Output) -> Result<Exit, CliError> {
    let (kind, args) = match command {
        RequestCommand::Drain(args) => (RequestKind::Drain, args),
        RequestCommand::Pause(args) => (RequestKind::Pause, args),
        RequestCommand::Resume(args) => (RequestKind::Resume, args),
        RequestCommand::Handoff(args) => (RequestKind::Handoff, args),
        RequestCommand::Demote(args) => (RequestKind::Demote, args),
        RequestCommand::Promote(args) => (RequestKind::Promote, args),
    };
    let node = args.node.node.display().to_string();
    let asked = Client::of_node(&args.node.node).request(kind, &args.reason).map_err(|error| {
        CliError::from(error).next("start the agent of this node; `bootstrap status` says whether it answers")
    })?;
    match asked {
        Asked::Accepted(what) => {
            out.report(&Accepted::new(node, kind, &args.reason, what))?;
            Ok(Exit::DONE)
        }
        Asked::Refused(why) => Err(CliError::refused(format!("the agent of {node} does not {}: {why}", kind.as_str()))),
    }
}
