//! `snapkit log`: the snapshots of a chain, newest first.

use std::io;

use clap::Args;
use jiff::Timestamp;
use manifests::document::record::{Body, Record};
use serde::Serialize;
use snapkit::chain::record_name;

use super::exit_code::{CliError, Exit};
use super::opened::Opened;
use super::output::{Bytes, Report, write_table};
use super::session::Session;

/// List the snapshots of a chain, newest first
///
/// Every record on the way is checked to be the one that its successor names.
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// How many snapshots to list; 0 lists all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    number: u64,
}

/// One snapshot of the list.
#[derive(Debug, Serialize)]
struct Listed {
    seq: u64,
    name: String,
    id: String,
    time: Timestamp,
    node: String,
    trees: Vec<String>,
    entries: u64,
    bytes: u64,
    complete: bool,
    torn: u64,
    unreadable: u64,
}

#[derive(Debug, Serialize)]
struct Log {
    store: String,
    chain: String,
    head: u64,
    snapshots: Vec<Listed>,
    /// Whether older snapshots were left out.
    more: bool,
}

pub(super) fn run(args: &LogArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let newest = chain.head()?;
    let mut log = Log {
        store: opened.store.url().to_owned(),
        chain: chain.id().to_string(),
        head: newest.head.seq,
        snapshots: Vec::new(),
        more: false,
    };
    for record in chain.walk_back(&newest.record) {
        session.cancel.check()?;
        let record = record?;
        log.snapshots.extend(Listed::of(&record));
        if args.number > 0 && log.snapshots.len() as u64 == args.number {
            // Genesis is the only record that is surely no snapshot.
            log.more = record.header.seq > 1;
            break;
        }
    }
    if log.snapshots.is_empty() {
        session.out.note(format_args!("the chain has no snapshot yet; `snapkit snapshot DIR` takes one"));
    }
    session.out.report(&log)?;
    Ok(Exit::DONE)
}

impl Listed {
    fn of(record: &Record) -> Option<Self> {
        let (Body::Snapshot(snapshot), name) = (&record.body, record_name(record)?) else {
            return None;
        };
        let public = &snapshot.public;
        Some(Self {
            seq: record.header.seq,
            name,
            id: record.digest.to_string(),
            time: record.header.time,
            node: record.header.writer.node.clone(),
            trees: snapshot.private.trees.iter().map(|tree| tree.name.clone()).collect(),
            entries: public.entries,
            bytes: public.bytes,
            complete: public.complete,
            torn: public.torn,
            unreadable: public.unreadable,
        })
    }

    /// What is not as it should be, in a word or two.
    fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        if !self.complete {
            remarks.push("INCOMPLETE".to_owned());
        }
        if self.torn > 0 {
            remarks.push(format!("{} torn", self.torn));
        }
        if self.unreadable > 0 {
            remarks.push(format!("{} unreadable", self.unreadable));
        }
        remarks.join(", ")
    }
}

impl Report for Log {
    const SCHEMA: &'static str = "snapkit.log/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let row = |listed: &Listed| {
            let trees = match listed.trees.len() {
                5.. => format!("{} trees", listed.trees.len()),
                _ => listed.trees.join(" "),
            };
            [
                format!("#{}", listed.seq),
                listed.name.clone(),
                listed.time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
                listed.node.clone(),
                format!("{} entries", listed.entries),
                Bytes(listed.bytes).to_string(),
                [trees, listed.remarks()].join("  ").trim_end().to_owned(),
            ]
        };
        write_table(out, &self.snapshots.iter().map(row).collect::<Vec<_>>())
    }
}
