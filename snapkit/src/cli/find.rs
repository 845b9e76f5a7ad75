//! `snapkit find`: which snapshots hold a path.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use ignore::gitignore::GitignoreBuilder;
use serde::Serialize;
use snapkit::browse::list;
use snapkit::entry::{OwnerNames, PackSet};
use snapkit::fetch::Fetcher;

use super::exit_code::{CliError, Exit};
use super::ls::Listed;
use super::opened::{Opened, snapshot_of};
use super::output::Report;
use super::session::Session;

/// Find paths in the snapshots of a chain
///
/// Newest snapshots come first. A path that several snapshots hold unchanged is listed once, for the newest of them.
#[derive(Debug, Args)]
pub(super) struct FindArgs {
    /// Pattern in gitignore syntax
    pattern: String,
    /// Look only into the newest N snapshots
    #[arg(long, short = 'n', value_name = "N")]
    newest: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Found {
    snapshot: String,
    seq: u64,
    #[serde(flatten)]
    entry: Listed,
}

#[derive(Debug, Serialize)]
struct Findings {
    found: Vec<Found>,
}

impl Report for Findings {
    const SCHEMA: &'static str = "snapkit.find/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.found.iter().try_for_each(|found| {
            write!(out, "{} ", found.snapshot)?;
            found.entry.write_line(out)
        })
    }
}

pub(super) fn run(args: &FindArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let mut builder = GitignoreBuilder::new("");
    let pattern = builder.add_line(None, &args.pattern).and_then(|builder| builder.build());
    let pattern =
        pattern.map_err(|error| CliError::usage(format!("cannot use the pattern {:?}: {error}", args.pattern)))?;
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let fetcher = Fetcher::new(&*opened.store);
    let newest = chain.head()?;
    let mut found = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let mut trees = std::collections::HashSet::new();
    let mut looked = 0;
    for record in chain.walk_back(&newest.record) {
        let record = record?;
        session.cancel.check()?;
        let Ok((name, snapshot)) = snapshot_of(&record) else { continue };
        if args.newest.is_some_and(|newest| looked == newest) {
            break;
        }
        looked += 1;
        // A snapshot with the trees of a newer one holds nothing else.
        let indexes: Vec<_> = snapshot.private.trees.iter().map(|tree| (tree.name.clone(), tree.index.chunk)).collect();
        if !trees.insert(indexes) {
            continue;
        }
        let (mut packs, mut names) = (PackSet::default(), OwnerNames::default());
        let mut matching = Vec::new();
        list(&fetcher, snapshot, b"", &mut packs, &mut names, &mut |item| {
            let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&item.path));
            let is_directory = matches!(item.entry.kind, snapkit::entry::Kind::Directory);
            if !path.as_os_str().is_empty() && pattern.matched(path, is_directory).is_ignore() {
                matching.push(item);
            }
        })
        .map_err(Opened::refused)?;
        for item in matching {
            let key = (
                item.path.clone(),
                item.entry.mtime_s,
                item.entry.mtime_ns,
                format!("{:?}", item.entry.kind.code()),
                item.entry.size(),
            );
            if seen.insert(key) {
                let entry = Listed::new(&item, &names);
                found.push(Found { snapshot: name.clone(), seq: record.header.seq, entry });
            }
        }
    }
    let none = found.is_empty();
    session.out.report(&Findings { found })?;
    Ok(if none { Exit::NO } else { Exit::DONE })
}
