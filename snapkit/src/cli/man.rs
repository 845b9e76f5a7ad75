//! `snapkit man`: the manual pages, made from the same texts as `--help`.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use serde::Serialize;
use snapkit::terminal::manual;

use super::Cli;
use super::exit_code::{CliError, Exit};
use super::output::Report;
use super::session::Session;

/// Print the manual page, or write all of them
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Write one page per command into this directory instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct PagesWritten {
    dir: PathBuf,
    pages: Vec<String>,
}

impl Report for PagesWritten {
    const SCHEMA: &'static str = "snapkit.man/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        for page in &self.pages {
            writeln!(out, "{}", self.dir.join(page).display())?;
        }
        Ok(())
    }
}

pub(super) fn run(args: &ManArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    match &args.dir {
        Some(dir) => {
            let pages = manual::write_pages(Cli::command(), dir)
                .map_err(|source| CliError::from(source).context(format!("cannot write pages to {}", dir.display())))?;
            session.out.report(&PagesWritten { dir: dir.clone(), pages })?;
        }
        None => {
            session.out.bytes(&manual::page(Cli::command())?)?;
        }
    }
    Ok(Exit::DONE)
}
