//! `snapkit man`: the manual pages, made from the same texts as `--help`.

use std::io;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde::Serialize;

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
            let pages = write_pages(dir)
                .map_err(|source| CliError::from(source).context(format!("cannot write pages to {}", dir.display())))?;
            session.out.report(&PagesWritten { dir: dir.clone(), pages })?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            session.out.bytes(&page)?;
        }
    }
    Ok(Exit::DONE)
}

fn write_pages(dir: &Path) -> io::Result<Vec<String>> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("snapkit") && name.ends_with(".1") {
            pages.push(name);
        }
    }
    pages.sort();
    Ok(pages)
}
