//! `bootstrap undo`: back to the generation before.

use std::io::{self, Write};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::node::{self, Undone};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::{NodeArgs, Requirement};

/// Switch a node back to the generation that was active before
///
/// It goes the way every switch goes: what must hold is checked afterwards, and if it does not, the node is switched
/// back. A second undo goes forward again. If the last switch was interrupted, taking it back is all that is done.
#[derive(Debug, Args)]
pub(super) struct UndoArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Serialize)]
struct Went {
    node: String,
    active: Option<String>,
    before: Option<String>,
    switched: Option<Timestamp>,
    interrupted: bool,
    requirements: Vec<Requirement>,
}

impl Report for Went {
    const SCHEMA: &'static str = "bootstrap.undo/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let active = self.active.as_deref().unwrap_or("no generation");
        if self.interrupted {
            return writeln!(out, "{}: the interrupted switch was taken back; {active} is active", self.node);
        }
        writeln!(out, "{}: switched back to {active}", self.node)?;
        if let Some(before) = &self.before {
            writeln!(out, "  before: {before}; another undo goes forward to it again")?;
        }
        self.requirements.iter().try_for_each(|requirement| requirement.write_text(out))
    }
}

pub(super) fn run(args: &UndoArgs, out: &mut Output) -> Result<Exit, CliError> {
    let node = args.node.open()?;
    let path = node.path().display().to_string();
    let went = match node::undo(&node)? {
        Undone::Switched(switched) => Went {
            node: path,
            active: Some(switched.to.to_string()),
            before: switched.from.map(|from| from.to_string()),
            switched: Some(switched.time),
            interrupted: false,
            requirements: Requirement::all(&switched.checks),
        },
        Undone::TakenBack(to) => Went {
            node: path,
            active: to.map(|to| to.to_string()),
            before: None,
            switched: None,
            interrupted: true,
            requirements: Vec::new(),
        },
    };
    out.report(&went)?;
    Ok(Exit::DONE)
}
