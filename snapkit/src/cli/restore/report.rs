//! What `snapkit restore` says it did.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use snapkit::restore::{Adapted, Changed, Plan};

use crate::cli::break_glass::BrokenGlass;
use crate::cli::output::{Bytes, Report, Took};

#[derive(Debug, Serialize)]
pub(super) struct Done {
    pub(super) snapshot: String,
    pub(super) seq: u64,
    pub(super) id: String,
    pub(super) dry_run: bool,
    pub(super) targets: Vec<Target>,
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) packs: u64,
    pub(super) pack_bytes: u64,
    pub(super) fetched_bytes: Option<u64>,
    pub(super) reused_bytes: Option<u64>,
    pub(super) resumed: bool,
    /// Only of a dry run.
    #[serde(flatten)]
    pub(super) preview: Option<Preview>,
    pub(super) content_digest: String,
    pub(super) full_digest: String,
    pub(super) exact: bool,
    pub(super) proof: &'static str,
    pub(super) changes: Vec<Change>,
    pub(super) receipt: Option<PathBuf>,
    pub(super) break_glass: Option<BrokenGlass>,
    pub(super) seconds: f64,
}

/// What a restore will need.
#[derive(Debug, Serialize)]
pub(super) struct Preview {
    pub(super) disk_bytes: u64,
    pub(super) available_bytes: u64,
    pub(super) seed_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Target {
    tree: String,
    path: String,
    /// Only of a restore in place.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_place: Option<Updated>,
}

/// What a restore in place did to one directory.
#[derive(Debug, Serialize)]
struct Updated {
    written: u64,
    extra: u64,
    extra_paths: Vec<String>,
    deleted: bool,
}

impl Updated {
    fn write_text(&self, dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
        let verb = if dry_run { "would write" } else { "wrote" };
        writeln!(out, "    {verb} {} paths that were missing or different", self.written)?;
        if self.extra > 0 {
            let fate = match (self.deleted, dry_run) {
                (true, true) => "would remove",
                (true, false) => "removed",
                (false, _) => "left alone (--delete removes them):",
            };
            let such = self.extra_paths.join(", ");
            writeln!(out, "    {fate} {} paths that are not in the snapshot, such as {such}", self.extra)?;
        }
        Ok(())
    }
}

/// The targets, with what was changed in place.
pub(super) fn targets<'a>(
    targets: impl Iterator<Item = (&'a str, PathBuf)>,
    changed: &[Changed],
    deleted: bool,
) -> Vec<Target> {
    let mut changed = changed.iter();
    let one = |(tree, path): (&str, PathBuf)| {
        let in_place = changed.next().map(|changed| Updated {
            written: changed.written,
            extra: changed.extra,
            extra_paths: changed.extra_paths.clone(),
            deleted,
        });
        Target { tree: tree.to_owned(), path: path.display().to_string(), in_place }
    };
    targets.map(one).collect()
}

/// One way in which the result differs from the snapshot, and the first paths.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    what: &'static str,
    count: u64,
    paths: Vec<String>,
}

impl Change {
    pub(super) fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "  {}: {} paths, such as {}", self.what, self.count, self.paths.join(", "))
    }
}

impl Report for Done {
    const SCHEMA: &'static str = "snapkit.restore/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let verb = if self.dry_run { "would restore" } else { "restored" };
        writeln!(out, "{verb} {} (record {})", self.snapshot, self.seq)?;
        for target in &self.targets {
            writeln!(out, "  {} -> {}", target.tree, target.path)?;
            if let Some(changed) = &target.in_place {
                changed.write_text(self.dry_run, out)?;
            }
        }
        writeln!(out, "  {} entries, {} files, {}", self.entries, self.files, Bytes(self.bytes))?;
        if self.resumed {
            writeln!(out, "  went on with an interrupted restore")?;
        }
        match self.fetched_bytes {
            Some(fetched) => {
                let reused = Bytes(self.reused_bytes.unwrap_or_default());
                writeln!(out, "  fetched {}, reused {reused}, proof {}", Bytes(fetched), self.proof)?;
            }
            None => writeln!(out, "  from {} packs of {}", self.packs, Bytes(self.pack_bytes))?,
        }
        if let Some(preview) = &self.preview {
            let (needed, available) = (Bytes(preview.disk_bytes), Bytes(preview.available_bytes));
            writeln!(out, "  needs about {needed} on disk, {available} are available")?;
            if preview.seed_bytes > 0 {
                writeln!(out, "  {} are likely to be taken from a seed", Bytes(preview.seed_bytes))?;
            }
            if preview.disk_bytes > preview.available_bytes {
                writeln!(out, "  it does NOT fit")?;
            }
        }
        for change in &self.changes {
            change.write_text(out)?;
        }
        writeln!(out, "  content digest {}", self.content_digest)?;
        writeln!(out, "  full digest    {}", self.full_digest)?;
        if self.exact {
            writeln!(out, "  both are those of the signed record")?;
        }
        if let Some(receipt) = &self.receipt {
            writeln!(out, "  receipt {}", receipt.display())?;
        }
        if let Some(glass) = &self.break_glass {
            writeln!(out, "  {}", glass.line())?;
        }
        writeln!(out, "  took {}", Took(Duration::from_secs_f64(self.seconds)))
    }
}

pub(super) fn changes(plan: &Plan) -> Vec<Change> {
    let all: [(&'static str, &Adapted); 4] = [
        ("owned by whoever restores", &plan.changes.owners),
        ("setuid or setgid dropped", &plan.changes.setid),
        ("extended attributes dropped", &plan.changes.xattrs),
        ("fifos and devices left out", &plan.changes.devices),
    ];
    let made = all.into_iter().filter(|(_, adapted)| adapted.count > 0);
    made.map(|(what, adapted)| Change { what, count: adapted.count, paths: adapted.paths.clone() }).collect()
}
