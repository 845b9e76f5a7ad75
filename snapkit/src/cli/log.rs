//! `snapkit log`: the snapshots of a chain, newest first, and what else is recorded between them.

use std::io;

use clap::Args;
use jiff::Timestamp;
use manifests::document::drill::Drill;
use manifests::document::record::{Body, Record};
use serde::Serialize;
use snapkit::chain::record_name;

use super::exit_code::{CliError, Exit};
use super::opened::Opened;
use super::output::{Bytes, Report, write_table};
use super::session::Session;

/// List the snapshots of a chain, newest first
///
/// Every record on the way is checked to be the one that its successor names. Forks, rollbacks and images are listed
/// where they stand.
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

/// A record that is no snapshot.
#[derive(Debug, Serialize)]
struct Event {
    seq: u64,
    kind: String,
    id: String,
    time: Timestamp,
    node: String,
    about: String,
}

#[derive(Debug, Serialize)]
struct Log {
    store: String,
    chain: String,
    head: u64,
    epoch: u64,
    /// The record of the snapshot that counts as the latest.
    latest: Option<u64>,
    snapshots: Vec<Listed>,
    events: Vec<Event>,
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
        epoch: newest.head.epoch,
        latest: chain.latest_snapshot(&newest)?.map(|record| record.header.seq),
        snapshots: Vec::new(),
        events: Vec::new(),
        more: false,
    };
    for record in chain.walk_back(&newest.record) {
        session.cancel.check()?;
        let record = record?;
        log.snapshots.extend(Listed::of(&record));
        log.events.extend(Event::of(&record));
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

impl Event {
    fn of(record: &Record) -> Option<Self> {
        let about = match &record.body {
            Body::Genesis(_) | Body::Snapshot(_) => return None,
            Body::Fence(_) => format!("{} leads in term {}", record.header.writer.node, record.header.term),
            Body::Fork(fork) => {
                format!("goes on after record {}, in epoch {}: {}", fork.keep.seq, record.header.epoch, fork.reason)
            }
            Body::Rollback(rollback) => format!("back to record {}: {}", rollback.target.seq, rollback.reason),
            Body::Image(archive) => format!("{} for {}", archive.image.name, archive.image.platform),
            Body::Drill(drill) => about_drill(drill),
            Body::Unknown { .. } => "unknown to this version".to_owned(),
        };
        Some(Self {
            seq: record.header.seq,
            kind: record.body.kind().to_owned(),
            id: record.digest.to_string(),
            time: record.header.time,
            node: record.header.writer.node.clone(),
            about,
        })
    }
}

/// What a drill record says, in one line.
fn about_drill(drill: &Drill) -> String {
    match drill {
        Drill::Begun(begun) => format!("{} {} ({}) began, {}", begun.kind, begun.id, begun.scenario, begun.mode),
        Drill::Ended(ended) => {
            let rto = ended.rto_ms.map_or_else(String::new, |ms| format!(", {ms} ms without an answer"));
            let rpo = ended.rpo_events.map_or_else(String::new, |lost| format!(", {lost} writes lost"));
            format!("{} {}, {}{rto}{rpo}", ended.id, ended.verdict, ended.mode)
        }
    }
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
        let time = |time: &Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let of_snapshot = |listed: &Listed| {
            let trees = match listed.trees.len() {
                5.. => format!("{} trees", listed.trees.len()),
                _ => listed.trees.join(" "),
            };
            let latest = if self.latest == Some(listed.seq) && self.rolled_back() { "LATEST" } else { "" };
            [
                format!("#{}", listed.seq),
                listed.name.clone(),
                time(&listed.time),
                listed.node.clone(),
                format!("{} entries", listed.entries),
                Bytes(listed.bytes).to_string(),
                [trees, listed.remarks(), latest.to_owned()].join("  ").trim_end().to_owned(),
            ]
        };
        let of_event = |event: &Event| {
            let [seq, kind] = [format!("#{}", event.seq), event.kind.clone()];
            [seq, kind, time(&event.time), event.node.clone(), String::new(), String::new(), event.about.clone()]
        };
        let mut rows: Vec<(u64, [String; 7])> = self.snapshots.iter().map(|row| (row.seq, of_snapshot(row))).collect();
        rows.extend(self.events.iter().map(|event| (event.seq, of_event(event))));
        rows.sort_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        write_table(out, &rows.into_iter().map(|(_, row)| row).collect::<Vec<_>>())
    }
}

impl Log {
    /// Whether another snapshot than the last one counts as the latest.
    fn rolled_back(&self) -> bool {
        self.snapshots.first().is_some_and(|first| self.latest != Some(first.seq))
    }
}
