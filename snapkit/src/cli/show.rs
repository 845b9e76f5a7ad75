//! `snapkit show`: everything one record says.

use std::io;

use clap::Args;
use jiff::Timestamp;
use manifests::document::record::Record;
use manifests::document::snapshot::Snapshot;
use serde::Serialize;
use snapkit::selector::Selector;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::output::{Bytes, Report, write_table};
use super::session::Session;

/// Show everything the record of a snapshot says
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// latest, latest~2, #12, @2026-11-20T12:00, or the beginning of a name or id
    #[arg(value_name = "SNAP")]
    snapshot: Selector,
}

#[derive(Debug, Serialize)]
struct Shown {
    seq: u64,
    name: String,
    id: String,
    chain: Option<String>,
    previous: Option<String>,
    epoch: u64,
    term: u64,
    time: Timestamp,
    started: Timestamp,
    finished: Timestamp,
    node: String,
    tool: String,
    key_id: String,
    complete: bool,
    torn: u64,
    unreadable: u64,
    entries: u64,
    files: u64,
    bytes: u64,
    packs: u64,
    pack_bytes: u64,
    content_digest: String,
    full_digest: String,
    void_slots: Vec<u64>,
    trees: Vec<Tree>,
}

#[derive(Debug, Serialize)]
struct Tree {
    name: String,
    path: String,
    entries: u64,
    files: u64,
    bytes: u64,
    content_digest: String,
    full_digest: String,
}

pub(super) fn run(args: &ShowArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let record = args.snapshot.resolve(&chain)?;
    let (name, snapshot) = snapshot_of(&record)?;
    session.out.report(&Shown::of(&record, name, snapshot))?;
    Ok(Exit::DONE)
}

impl Shown {
    fn of(record: &Record, name: String, snapshot: &Snapshot) -> Self {
        let (header, public, private) = (&record.header, &snapshot.public, &snapshot.private);
        let tree = |tree: &manifests::document::snapshot::Tree| Tree {
            name: tree.name.clone(),
            path: tree.path.clone(),
            entries: tree.entries,
            files: tree.files,
            bytes: tree.bytes,
            content_digest: tree.content_digest.to_string(),
            full_digest: tree.full_digest.to_string(),
        };
        Self {
            seq: header.seq,
            name,
            id: record.digest.to_string(),
            chain: header.chain.map(|chain| chain.to_string()),
            previous: header.previous.map(|previous| previous.to_string()),
            epoch: header.epoch,
            term: header.term,
            time: header.time,
            started: private.started,
            finished: private.finished,
            node: header.writer.node.clone(),
            tool: header.writer.tool.clone(),
            key_id: header.writer.key.to_string(),
            complete: public.complete,
            torn: public.torn,
            unreadable: public.unreadable,
            entries: public.entries,
            files: public.files,
            bytes: public.bytes,
            packs: public.packs.count,
            pack_bytes: public.packs.bytes,
            content_digest: private.content_digest.to_string(),
            full_digest: private.full_digest.to_string(),
            void_slots: header.void.iter().map(|void| void.seq).collect(),
            trees: private.trees.iter().map(tree).collect(),
        }
    }
}

impl Report for Shown {
    const SCHEMA: &'static str = "snapkit.show/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let complete = match (self.complete, self.torn, self.unreadable) {
            (true, 0, 0) => "yes".to_owned(),
            (complete, torn, unreadable) => {
                let word = if complete { "yes" } else { "NO" };
                format!("{word}; {torn} torn, {unreadable} unreadable")
            }
        };
        let rows = [
            ["snapshot", &format!("{} (record {})", self.name, self.seq)],
            ["id", &self.id],
            ["previous", self.previous.as_deref().unwrap_or("none")],
            ["time", &self.time.to_string()],
            ["read", &format!("{} to {}", self.started, self.finished)],
            ["node", &format!("{} with {}", self.node, self.tool)],
            ["signed by", &self.key_id],
            ["complete", &complete],
            ["holds", &format!("{} entries, {} files, {}", self.entries, self.files, Bytes(self.bytes))],
            ["lies in", &format!("{} packs, {}", self.packs, Bytes(self.pack_bytes))],
            ["content digest", &self.content_digest],
            ["full digest", &self.full_digest],
        ];
        write_table(out, &rows.map(|row| row.map(str::to_owned)))?;
        for tree in &self.trees {
            writeln!(out)?;
            writeln!(out, "tree {} of {}", tree.name, tree.path)?;
            writeln!(out, "  {} entries, {} files, {}", tree.entries, tree.files, Bytes(tree.bytes))?;
            writeln!(out, "  content digest {}", tree.content_digest)?;
            writeln!(out, "  full digest    {}", tree.full_digest)?;
        }
        Ok(())
    }
}
