//! `bootstrap agent`: keeps a node what it is meant to be, until it is asked to end.

use std::env;
use std::io::{self, Write};

use bootstrap::agent::begin::BeginError;
use bootstrap::agent::environment::Surroundings;
use bootstrap::agent::run::{Order, run as keep};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::NodeArgs;

/// Keep a node: follow the chain, take part in the lease, run the service, answer on the surfaces
///
/// It runs until SIGTERM, then stops the service in order and hands over; a second signal ends it at once, and the service
/// is killed. What it does is said on standard error, kept in NODE-DIR/.node/agent/events.jsonl, and shown by `bootstrap
/// status`. It is told by NODE-DIR/bootstrap.toml, and by the pins.
#[derive(Debug, Args)]
pub(super) struct AgentArgs {
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &AgentArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let here =
        env::current_dir().map_err(|error| CliError::from(error).context("cannot tell the working directory"))?;
    let config = Config::load(&here, &Environment::new(env::vars_os()), &Flags::default())?;
    let variables = Surroundings::of(env::vars_os());
    let mut tell = |line: &str| out.note(format_args!("{line}"));
    let order = Order { node: &args.node.node, config, variables: &variables, cancel: cancel.clone(), tell: &mut tell };
    let started = Timestamp::now();
    let ended = keep(order).map_err(problem)?;
    out.report(&Done {
        node: ended.node,
        instance: ended.instance,
        started,
        ended: Timestamp::now(),
        term: ended.term,
        takeovers: ended.takeovers,
        conflicts: ended.conflicts,
        unshared: ended.unshared,
    })?;
    Ok(Exit::DONE)
}

#[derive(Debug, Serialize)]
struct Done {
    node: String,
    instance: String,
    started: Timestamp,
    ended: Timestamp,
    term: u64,
    takeovers: u64,
    conflicts: u64,
    unshared: Option<u64>,
}

impl Report for Done {
    const SCHEMA: &'static str = "bootstrap.agent/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: the agent ended in order, in term {}", self.node, self.term)?;
        match self.unshared {
            Some(term) => writeln!(out, "  what it wrote as leader in term {term} is only here"),
            None => Ok(()),
        }
    }
}

fn problem(error: BeginError) -> CliError {
    let next = error.next();
    let problem = match error {
        BeginError::Node(error) => CliError::from(error),
        BeginError::Config(error) => CliError::from(error).with_exit(Exit::USAGE),
        BeginError::Persist(error @ bootstrap::agent::persist::PersistError::Busy(_)) => {
            CliError::from(error).with_exit(Exit::REFUSED)
        }
        error => CliError::from(error),
    };
    match next {
        Some(next) => problem.next(next),
        None => problem,
    }
}
