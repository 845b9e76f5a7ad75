//! `snapkit cat`: the bytes of one file.

use std::io::{self, Write};

use clap::Args;
use snapkit::browse::{BrowseError, read_file};
use snapkit::fetch::Fetcher;
use snapkit::selector::Selector;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::session::Session;

/// Print a file of a snapshot
///
/// Each piece is verified before it is printed, and the whole at the end: with exit code 0 the output is the file.
#[derive(Debug, Args)]
pub(super) struct CatArgs {
    /// Snapshot: latest, latest~2, name or unique prefix, number, or @TIME
    snapshot: Selector,
    /// Path of the file; with several trees, beginning with the name of its tree
    path: String,
}

pub(super) fn run(args: &CatArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let record = args.snapshot.resolve(&chain)?;
    let (_, snapshot) = snapshot_of(&record)?;
    let fetcher = Fetcher::new(&*opened.store);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let path = args.path.trim_matches('/').as_bytes();
    match read_file(&fetcher, snapshot, path, &mut |bytes| out.write_all(bytes)) {
        Ok(()) => {}
        Err(BrowseError::Fetch(error)) => return Err(Opened::refused(error)),
        Err(BrowseError::Write(error)) => return Err(error.into()),
        Err(error @ BrowseError::Content { .. }) => {
            return Err(CliError::of_class(error, manifests::refusal::Class::Hash));
        }
        Err(error) => return Err(CliError::no(error.to_string())),
    }
    out.flush()?;
    Ok(Exit::DONE)
}
