//! `snapkit root publish`: a signed draft becomes the newest root.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::root::{Records, RootError, publish, read_draft};

use super::describe::short;
use super::fork;
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::session::Session;

/// Publish a signed draft: as the next root, or as a fork
///
/// It is checked as every reader will check it, and created only if nobody else published that version. Publishing again
/// after an interruption does no harm. A root that would make records void is refused unless that is asked for.
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// The draft, signed by enough holders of the role root of the newest root and of itself
    draft: PathBuf,
    /// Publish it even if records become void: for a stolen writer key, to be followed by a fork
    #[arg(long)]
    void_records: bool,
}

#[derive(Debug, Serialize)]
struct Published {
    store: String,
    version: u64,
    digest: String,
    expires: Timestamp,
    was_there: bool,
    voided: Vec<VoidedView>,
}

#[derive(Debug, Serialize)]
struct VoidedView {
    seq: u64,
    kind: String,
    id: String,
    key: String,
}

impl Report for Published {
    const SCHEMA: &'static str = "snapkit.root-publish/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let how = if self.was_there { "was published before" } else { "is published" };
        writeln!(out, "root {} {how} in {}", self.version, self.store)?;
        writeln!(out, "  sha256:{}", self.digest)?;
        writeln!(out, "  expires {}", self.expires)?;
        for record in &self.voided {
            writeln!(out, "  void: record {} ({}) by key {}", record.seq, record.kind, short(&record.key))?;
        }
        Ok(())
    }
}

pub(super) fn run(args: &PublishArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    if let Some((bytes, _)) = fork::read_draft(&args.draft)? {
        return fork::publish(&bytes, session);
    }
    let (_, bytes) = read_draft(&args.draft)?;
    let opened = Opened::alone(session)?;
    let records = if args.void_records { Records::MayGo } else { Records::MustStay };
    let done = publish(&*opened.store, &opened.trust, opened.pin, &bytes, records, session.now).map_err(explained)?;
    if !done.voided.is_empty() {
        session.out.warn(format_args!(
            "readers that saw record {} refuse the chain until its owner forks it",
            done.voided[0].seq
        ));
    }
    session.out.report(&Published {
        store: opened.store.url().to_owned(),
        version: done.root.version(),
        digest: done.root.digest().to_string(),
        expires: done.root.document().expires,
        was_there: done.was_there,
        voided: done
            .voided
            .iter()
            .map(|record| VoidedView {
                seq: record.seq,
                kind: record.kind.clone(),
                id: record.digest.to_string(),
                key: record.key.to_string(),
            })
            .collect(),
    })?;
    Ok(Exit::DONE)
}

fn explained(error: RootError) -> CliError {
    let RootError::Voids(voided) = &error else {
        return error.into();
    };
    let last = voided.iter().map(|record| record.seq).max().unwrap_or_default();
    let next = format!(
        "to keep them, prepare it again with --until {}; if the key was stolen, publish with --void-records and have the \
         owner fork the chain",
        last + 1
    );
    CliError::refused(error.to_string()).next(next)
}
