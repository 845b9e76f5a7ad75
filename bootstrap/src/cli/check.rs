//! `bootstrap check`: whether everything that must hold does.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use snapkit::node;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::{NodeArgs, Requirement};

/// Check that what must hold for the active generation does
///
/// The files and links that node.toml requires are read again, the way whoever uses the node reaches them. Exit code 1
/// if one does not hold.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Serialize)]
struct Checked {
    node: String,
    active: Option<String>,
    requirements: Vec<Requirement>,
    holds: bool,
}

impl Report for Checked {
    const SCHEMA: &'static str = "bootstrap.check/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let active = self.active.as_deref().unwrap_or("none");
        writeln!(out, "{}: active generation {active}", self.node)?;
        self.requirements.iter().try_for_each(|requirement| requirement.write_text(out))
    }
}

pub(super) fn run(args: &CheckArgs, out: &mut Output) -> Result<Exit, CliError> {
    let node = args.node.open()?;
    let (active, checks) = node::check_now(&node)?;
    let holds = checks.iter().all(|check| check.problem.is_none());
    out.report(&Checked {
        node: node.path().display().to_string(),
        active: active.map(|active| active.to_string()),
        requirements: Requirement::all(&checks),
        holds,
    })?;
    Ok(if holds { Exit::DONE } else { Exit::NO })
}
