//! `snapkit manifest show`: what a verified manifest and its pins say.

use std::io::{self, Write};

use clap::Args;
use jiff::Timestamp;
use manifests::document::manifest::{Manifest, SnapshotName};
use manifests::document::pins::Pins;
use serde::Serialize;
use snapkit::manifest::Expiry;

use super::target::{Summary, TargetArgs};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::output::{Bytes, Report, write_table};
use crate::cli::pins::{explained, write_pins};
use crate::cli::session::Session;

#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    address: String,
    verdict: &'static str,
    summary: Summary,
    /// What the manifest says, without the envelope of the pins.
    manifest: serde_json::Value,
    pins: Pins,
    #[serde(skip)]
    document: Manifest,
    #[serde(skip)]
    now: Timestamp,
}

pub(super) fn run(args: &ShowArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let target = args.target.find(session)?;
    let followed = target.follow(Expiry::Tell).map_err(explained)?;
    let document = followed.manifest.manifest.clone();
    let mut manifest = serde_json::to_value(&document).unwrap_or_default();
    if let Some(fields) = manifest.as_object_mut() {
        fields.remove("pins");
    }
    let verdict = followed.freshness.verdict(jiff::SignedDuration::ZERO).word();
    session.out.report(&Shown {
        address: target.address,
        verdict,
        summary: Summary::of(&followed),
        manifest,
        pins: followed.pins.pins.clone(),
        document,
        now: session.now,
    })?;
    Ok(Exit::DONE)
}

impl Report for Shown {
    const SCHEMA: &'static str = "snapkit.manifest-show/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Manifest { name, version, issued, expires, stores, head, snapshot, accepted, key, .. } = &self.document;
        let SnapshotName { name: snapshot_name, seq, captured, entries, files, bytes, .. } = snapshot;
        let mut rows = vec![
            ["manifest".to_owned(), format!("{name}, version {version}: {}", self.verdict)],
            ["id".to_owned(), self.summary.manifest.clone()],
            ["valid".to_owned(), format!("{issued} to {expires}")],
            ["signed by".to_owned(), key.to_string()],
            ["head".to_owned(), format!("record {}, {}", head.seq, head.digest)],
            ["snapshot".to_owned(), format!("{snapshot_name} (record {seq}), captured {captured}")],
            ["holds".to_owned(), format!("{entries} entries, {files} files, {}", Bytes(*bytes))],
            ["newest now".to_owned(), format!("{} (record {})", self.summary.snapshot, self.summary.snapshot_seq)],
        ];
        rows.extend(stores.iter().map(|store| ["store".to_owned(), store.clone()]));
        let accepted = accepted.iter().map(|accepted| format!("{}: {}", accepted.what, accepted.reason));
        rows.extend(accepted.map(|accepted| ["let pass".to_owned(), accepted]));
        write_table(out, &rows)?;
        writeln!(out)?;
        write_pins(&self.pins, self.now, out, &[["pins", &self.summary.pins]])
    }
}
