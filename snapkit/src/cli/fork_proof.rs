//! `snapkit verify --fork-proof`: whether a file shows that a chain was continued in two ways.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::record::Record;
use manifests::refusal::{Class, Refusal};
use serde::Serialize;
use snapkit::chain::fork_proof::{FORK_PROOF_CAP, check, claimed_root};
use snapkit::trust::TrustDir;

use super::exit_code::{CliError, Exit};
use super::output::Report;
use super::session::Session;

#[derive(Debug, Serialize)]
struct Proved {
    chain: String,
    root: String,
    contradiction: String,
    records: Vec<Side>,
}

#[derive(Debug, Serialize)]
struct Side {
    seq: u64,
    id: String,
    kind: String,
    time: Timestamp,
    node: String,
    signed_by: Vec<String>,
}

/// Checks the proof in `file` against the root that was named, or one that is trusted here.
pub(super) fn run(file: &Path, root: Option<Digest>, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let too_long = std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > FORK_PROOF_CAP as u64);
    if too_long {
        let expected = format!("at most {FORK_PROOF_CAP} bytes");
        return Err(Refusal::new(Class::TooBig, file.display().to_string(), expected, "more").into());
    }
    let read = |source: io::Error| CliError::from(source).context(format!("cannot read {}", file.display()));
    let bytes = std::fs::read(file).map_err(read)?;
    let root = match root {
        Some(root) => root,
        None => trusted(&bytes, session)?,
    };
    let proof = check(&bytes, &root).map_err(|refusal| {
        let object = format!("{}: {}", file.display(), refusal.object());
        refusal.named(object)
    })?;
    session.out.report(&Proved {
        chain: proof.chain.to_string(),
        root: root.to_string(),
        contradiction: proof.contradiction,
        records: proof.records.iter().map(Side::of).collect(),
    })?;
    Ok(Exit::DONE)
}

/// The root that the proof claims, if this machine trusts it for some store.
fn trusted(bytes: &[u8], session: &Session<'_>) -> Result<Digest, CliError> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let claimed = claimed_root(bytes);
    let known = trust.stores()?.into_values().find(|root| Some(*root) == claimed);
    known.ok_or_else(|| {
        let found = claimed.map_or("none".to_owned(), |root| format!("sha256:{root}, which is not trusted here"));
        Refusal::new(Class::NoPin, "fork proof", "a root that is trusted here", found)
            .with_hint("compare the digest with what the owner of the store says, and give it with --root")
            .into()
    })
}

impl Side {
    fn of(record: &Record) -> Self {
        Self {
            seq: record.header.seq,
            id: record.digest.to_string(),
            kind: record.body.kind().to_owned(),
            time: record.header.time,
            node: record.header.writer.node.clone(),
            signed_by: record.signers.iter().map(|key| key.id().to_string()).collect(),
        }
    }
}

impl Report for Proved {
    const SCHEMA: &'static str = "snapkit.fork-proof/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "The proof holds: chain {} was continued in two ways; {}.", self.chain, self.contradiction)?;
        for side in &self.records {
            writeln!(out, "  record {} ({}) {}", side.seq, side.kind, side.id)?;
            writeln!(out, "    made {} by {}, signed by {}", side.time, side.node, side.signed_by.join(", "))?;
        }
        writeln!(out, "The owner of the root decides which one is kept: `snapkit root fork`.")
    }
}
