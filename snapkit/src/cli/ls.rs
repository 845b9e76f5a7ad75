//! `snapkit ls`: what a snapshot holds.

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;
use snapkit::browse::{Item, list};
use snapkit::entry::{Entry, Kind, OwnerNames, PackSet, printable};
use snapkit::fetch::Fetcher;
use snapkit::selector::Selector;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::output::Report;
use super::session::Session;

/// List the paths of a snapshot
///
/// With several trees in the snapshot, paths begin with the name of their tree.
#[derive(Debug, Args)]
pub(super) struct LsArgs {
    /// Snapshot: latest, latest~2, name or unique prefix, number, or @TIME
    snapshot: Selector,
    /// Only this path and what lies below it
    path: Option<String>,
    /// Print the files as `b3sum --check` reads them
    #[arg(long)]
    b3sum: bool,
}

/// One path.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    pub(super) path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    user: String,
    group: String,
    size: u64,
    mtime: String,
    content: Option<String>,
    target: Option<String>,
    torn: bool,
}

impl Listed {
    pub(super) fn new(item: &Item, names: &OwnerNames) -> Self {
        let entry = &item.entry;
        let name = |table: &std::collections::BTreeMap<u32, Vec<u8>>, id: u32| {
            table.get(&id).map_or_else(|| id.to_string(), |name| printable(name))
        };
        let time = jiff::Timestamp::new(entry.mtime_s, entry.mtime_ns as i32);
        Self {
            path: printable(&item.path),
            kind: entry.kind.word(),
            mode: format!("{:04o}", entry.mode),
            user: name(&names.users, entry.uid),
            group: name(&names.groups, entry.gid),
            size: entry.size(),
            mtime: time.map_or_else(|_| format!("{}", entry.mtime_s), |time| time.to_string()),
            content: content(entry).map(|hash| hash.to_string()),
            target: match &entry.kind {
                Kind::Symlink { target } => Some(printable(target)),
                _ => None,
            },
            torn: entry.torn,
        }
    }

    pub(super) fn write_line(&self, out: &mut dyn Write) -> io::Result<()> {
        let letter = match self.kind {
            "directory" => 'd',
            "symlink" => 'l',
            "fifo" => 'p',
            "character device" => 'c',
            "block device" => 'b',
            _ => '-',
        };
        let seconds = self.mtime.split('.').next().unwrap_or_default().trim_end_matches('Z');
        let Self { mode, user, group, size, path, .. } = self;
        write!(out, "{letter}{mode} {user:>8} {group:>8} {size:>12} {seconds} {path}")?;
        match &self.target {
            Some(target) => writeln!(out, " -> {target}"),
            None => writeln!(out, "{}", if self.torn { "  (torn)" } else { "" }),
        }
    }
}

fn content(entry: &Entry) -> Option<snapkit::id::ContentHash> {
    match entry.kind {
        Kind::File { content, .. } => Some(content),
        _ => None,
    }
}

/// One line of a check file: a backslash before the hash says that the name is escaped.
fn write_check_line(out: &mut dyn Write, hash: snapkit::id::ContentHash, path: &str) -> io::Result<()> {
    if path.contains(['\n', '\r', '\\']) {
        let path = path.replace('\\', r"\\").replace('\n', r"\n").replace('\r', r"\r");
        return writeln!(out, "\\{hash}  {path}");
    }
    writeln!(out, "{hash}  {path}")
}

#[derive(Debug, Serialize)]
struct Listing {
    snapshot: String,
    seq: u64,
    entries: Vec<Listed>,
}

impl Report for Listing {
    const SCHEMA: &'static str = "snapkit.ls/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.entries.iter().try_for_each(|entry| entry.write_line(out))
    }
}

pub(super) fn run(args: &LsArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let record = args.snapshot.resolve(&chain)?;
    let (name, snapshot) = snapshot_of(&record)?;
    let fetcher = Fetcher::new(&*opened.store);
    let path = args.path.as_deref().unwrap_or_default().trim_matches('/');
    let (mut packs, mut names) = (PackSet::default(), OwnerNames::default());
    let mut found = 0u64;
    let mut result = Ok(());
    if args.b3sum {
        let mut odd = 0u64;
        let mut out = io::BufWriter::new(io::stdout().lock());
        list(&fetcher, snapshot, path.as_bytes(), &mut packs, &mut names, &mut |item| {
            found += 1;
            let Some(hash) = content(&item.entry) else { return };
            match std::str::from_utf8(&item.path) {
                Ok(path) if result.is_ok() => result = write_check_line(&mut out, hash, path),
                Ok(_) => {}
                Err(_) => odd += 1,
            }
        })
        .map_err(Opened::refused)?;
        result = result.and_then(|()| out.flush());
        drop(out);
        if odd > 0 {
            session.out.warn(format_args!(
                "{odd} files have names that are not UTF-8, which a check file cannot hold; they are left out"
            ));
        }
    } else if session.out.is_json() {
        let mut entries = Vec::new();
        list(&fetcher, snapshot, path.as_bytes(), &mut packs, &mut OwnerNames::default(), &mut |item| {
            entries.push(item)
        })
        .map_err(Opened::refused)?;
        found = entries.len() as u64;
        let entries = entries.iter().map(|item| Listed::new(item, &names)).collect();
        session.out.report(&Listing { snapshot: name, seq: record.header.seq, entries })?;
    } else {
        let mut out = io::BufWriter::new(io::stdout().lock());
        let known = OwnerNames::default();
        list(&fetcher, snapshot, path.as_bytes(), &mut packs, &mut names, &mut |item| {
            found += 1;
            if result.is_ok() {
                result = Listed::new(&item, &known).write_line(&mut out);
            }
        })
        .map_err(Opened::refused)?;
        result = result.and_then(|()| out.flush());
    }
    result?;
    if found == 0 {
        return Err(CliError::no(format!("the snapshot has no {path}")));
    }
    Ok(Exit::DONE)
}
