//! `snapkit digest`: the two digests of a directory or a snapshot.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use snapkit::scan::exclude::Excludes;
use snapkit::scan::inspect::digest_directory;
use snapkit::scan::walk::WalkOptions;
use snapkit::selector::Selector;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::output::Report;
use super::session::Session;

/// Print the content digest and the full digest of a directory or a snapshot
///
/// Two directories hold the same content exactly when their content digests agree. Digests of directories need no store;
/// what is an existing directory is not looked up as a snapshot. The digests of a state include the names of its trees;
/// those of a single directory are those of its tree.
#[derive(Debug, Args)]
pub(super) struct DigestArgs {
    /// Directory, or snapshot
    what: String,
    /// Leave out what matches, in gitignore syntax, as in the snapshot to compare with; can be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches a line of FILE; can be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Count fifos and devices too
    #[arg(long)]
    devices: bool,
}

#[derive(Debug, Serialize)]
struct DigestOf {
    of: String,
    content_digest: String,
    full_digest: String,
    trees: Vec<TreeDigest>,
}

#[derive(Debug, Serialize)]
struct TreeDigest {
    name: String,
    content_digest: String,
    full_digest: String,
}

impl Report for DigestOf {
    const SCHEMA: &'static str = "snapkit.digest/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.of)?;
        writeln!(out, "  content digest {}", self.content_digest)?;
        writeln!(out, "  full digest    {}", self.full_digest)?;
        if self.trees.len() > 1 {
            for tree in &self.trees {
                writeln!(out, "  {}: content {}, full {}", tree.name, tree.content_digest, tree.full_digest)?;
            }
        }
        Ok(())
    }
}

pub(super) fn run(args: &DigestArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let report = if Path::new(&args.what).is_dir() { of_directory(args)? } else { of_snapshot(args, session)? };
    session.out.report(&report)?;
    Ok(Exit::DONE)
}

fn of_directory(args: &DigestArgs) -> Result<DigestOf, CliError> {
    let excludes = Excludes::new(&args.exclude, &args.exclude_from)
        .map_err(|error| CliError::from(error).with_exit(Exit::USAGE))?;
    let walk = WalkOptions { excludes: Some(excludes), ..WalkOptions::default() };
    let digests = digest_directory(Path::new(&args.what), walk, args.devices)?;
    Ok(DigestOf {
        of: args.what.clone(),
        content_digest: digests.content.to_string(),
        full_digest: digests.full.to_string(),
        trees: Vec::new(),
    })
}

fn of_snapshot(args: &DigestArgs, session: &mut Session<'_>) -> Result<DigestOf, CliError> {
    let selector: Selector = args.what.parse().map_err(|error| {
        CliError::usage(format!("{error}"))
            .next("give a directory that exists, or a snapshot as `snapkit log` lists them")
    })?;
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let record = selector.resolve(&chain)?;
    let (name, snapshot) = snapshot_of(&record)?;
    let private = &snapshot.private;
    let trees = private.trees.iter().map(|tree| TreeDigest {
        name: tree.name.clone(),
        content_digest: tree.content_digest.to_string(),
        full_digest: tree.full_digest.to_string(),
    });
    let trees: Vec<TreeDigest> = trees.collect();
    // One tree: what a directory with the same content has.
    let (content_digest, full_digest) = match &trees[..] {
        [tree] => (tree.content_digest.clone(), tree.full_digest.clone()),
        _ => (private.content_digest.to_string(), private.full_digest.to_string()),
    };
    Ok(DigestOf { of: name, content_digest, full_digest, trees })
}
