//! `snapkit root fork`: the chain goes on after an earlier record.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use manifests::document::fork::{Claim, PAYLOAD_TYPE, claim};
use manifests::document::record::{RECORD_CAP, Record};
use manifests::document::root::Draft;
use manifests::envelope;
use manifests::keys::{KeyId, Signer};
use serde::Serialize;
use snapkit::chain::{Chain, Committed, record_name};

use super::{key_id, known_roots};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::session::Session;
use crate::cli::signer_options::SignerOptions;
use crate::cli::snapshot::host_name;

/// Continue the chain after an earlier record, leaving all later ones behind
///
/// For a stolen writer key: retire it first (`root remove-key --role writer --until`, `root publish --void-records`), then
/// fork at the last record that is good. For a copy of the store that lost its newest records: fork at the last one it has.
/// No data is written or deleted, and everybody who follows the chain follows the fork. With --draft, the fork is
/// only prepared; sign it elsewhere with `root sign`, and publish it with `root publish`.
#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    /// The last record to keep, by number
    #[arg(long, value_name = "SEQ")]
    keep: u64,
    /// Why, for whoever reads the chain later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Say what would be left behind, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Write the fork to this new file instead, to be signed elsewhere
    #[arg(long, value_name = "FILE", requires = "first_signer", conflicts_with_all = ["dry_run", "signer"])]
    draft: Option<PathBuf>,
    /// Key file or beginning of the id of one of those who will sign the draft
    #[arg(long, value_name = "KEY", requires = "draft")]
    first_signer: Option<String>,
    #[command(flatten)]
    signer: SignerOptions,
}

#[derive(Debug, Serialize)]
struct Forked {
    /// The slot of the fork; `null` unless it was created.
    seq: Option<u64>,
    id: Option<String>,
    epoch: Option<u64>,
    keep: Kept,
    left_behind: Vec<Kept>,
    draft: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Kept {
    seq: u64,
    kind: String,
    name: Option<String>,
    id: String,
    time: Timestamp,
    node: String,
}

pub(super) fn run(args: &ForkArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::alone(session)?;
    let chain = opened.chain()?;
    let kept = chain.record(args.keep)?;
    let mut report = Forked {
        seq: None,
        id: None,
        epoch: None,
        keep: Kept::of(&kept),
        left_behind: chain.valid_after(args.keep)?.iter().map(Kept::of).collect(),
        draft: None,
    };
    let now = session.now;
    if let (Some(file), Some(signer)) = (&args.draft, &args.first_signer) {
        let key = key_id(signer, chain.root().document())?;
        write_draft(file, &chain, args, key, now)?;
        report.draft = Some(file.clone());
    } else if !args.dry_run {
        let signer = args.signer.for_role("root", chain.root(), &opened.trust, &opened.pin.root, &session.cancel)?;
        let done = chain.fork(args.keep, &args.reason, &[&*signer], &host_name(), now)?;
        report.committed(&done, session);
    }
    session.out.report(&report)?;
    Ok(Exit::DONE)
}

fn write_draft(file: &Path, chain: &Chain<'_>, args: &ForkArgs, key: KeyId, now: Timestamp) -> Result<(), CliError> {
    let payload = chain.prepare_fork(args.keep, &args.reason, key, &host_name(), now)?;
    let bytes = envelope::sign(PAYLOAD_TYPE, &payload, &[])?;
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).open(file).map_err(cannot("write", file))?;
    out.write_all(&bytes).and_then(|()| out.sync_all()).map_err(cannot("write", file))
}

/// The fork in a draft, if that is what the file holds.
pub(super) fn read_draft(file: &Path) -> Result<Option<(Vec<u8>, Claim)>, CliError> {
    let bytes = std::fs::read(file).map_err(cannot("read", file))?;
    Ok(claim(&bytes).ok().map(|claim| (bytes, claim)))
}

/// Adds a signature to a draft; whether it counts is judged when the fork is published.
pub(super) fn sign(
    file: &Path,
    (bytes, claim): (Vec<u8>, Claim),
    signer: &SignerOptions,
    session: &mut Session<'_>,
) -> Result<Exit, CliError> {
    let message = envelope::message_of(&bytes, RECORD_CAP, "the draft")?;
    let roots = known_roots(session);
    let newest = roots.last().map(|root| Draft::parse(root, "the newest root known here")).transpose()?;
    let candidates = newest.map(|root| root.own_approval().allowed).unwrap_or_default();
    let signer: Box<dyn Signer> = match signer.for_message(&candidates, &message, &session.cancel)? {
        Some(signer) => signer,
        None => Box::new(snapkit::keyfile::read_secret(&super::sign::own_key(session)?)?),
    };
    let signed = envelope::cosign(&bytes, RECORD_CAP, &[&*signer], &file.display().to_string())?;
    snapkit::root::write_draft(file, &signed)?;
    session.out.report(&SignedFork {
        draft: file.to_owned(),
        seq: claim.seq,
        keep: claim.keep,
        signed_by: signer.public().id().to_string(),
    })?;
    Ok(Exit::DONE)
}

/// Publishes a draft that enough holders of the role root have signed.
pub(super) fn publish(bytes: &[u8], session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::alone(session)?;
    let chain = opened.chain()?;
    let keep = chain.record(claim(bytes)?.keep)?;
    let left_behind = chain.valid_after(keep.header.seq)?.iter().map(Kept::of).collect();
    let mut report = Forked { seq: None, id: None, epoch: None, keep: Kept::of(&keep), left_behind, draft: None };
    let done = chain.publish_fork(bytes)?;
    report.committed(&done, session);
    session.out.report(&report)?;
    Ok(Exit::DONE)
}

fn cannot<'a>(what: &'a str, file: &'a Path) -> impl Fn(io::Error) -> CliError + 'a {
    move |source| CliError::from(source).context(format!("cannot {what} {}", file.display()))
}

impl Forked {
    fn committed(&mut self, done: &Committed, session: &mut Session<'_>) {
        for warning in &done.warnings {
            session.out.warn(format_args!("{warning}"));
        }
        self.seq = Some(done.seq);
        self.id = Some(done.digest.to_string());
        self.epoch = Some(done.newest.record.header.epoch);
    }
}

impl Kept {
    fn of(record: &Record) -> Self {
        Self {
            seq: record.header.seq,
            kind: record.body.kind().to_owned(),
            name: record_name(record),
            id: record.digest.to_string(),
            time: record.header.time,
            node: record.header.writer.node.clone(),
        }
    }

    fn line(&self) -> String {
        let Self { seq, kind, time, node, .. } = self;
        format!("record {seq} ({kind}, {time}, {node}) {}", self.name.as_deref().unwrap_or_default()).trim_end().into()
    }
}

#[derive(Debug, Serialize)]
struct SignedFork {
    draft: PathBuf,
    seq: u64,
    keep: u64,
    signed_by: String,
}

impl Report for SignedFork {
    const SCHEMA: &'static str = "snapkit.root-fork-sign/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: a fork in slot {} that keeps record {}", self.draft.display(), self.seq, self.keep)?;
        writeln!(out, "  signed by {}", self.signed_by)?;
        writeln!(out, "publish it with `snapkit root publish {}`", self.draft.display())
    }
}

impl Report for Forked {
    const SCHEMA: &'static str = "snapkit.root-fork/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        match (self.seq, self.epoch, &self.draft) {
            (Some(seq), Some(epoch), _) => writeln!(out, "record {seq} forks the chain; epoch {epoch} begins")?,
            (_, _, Some(draft)) => {
                writeln!(out, "{} holds the fork; sign it with `snapkit root sign`", draft.display())?;
            }
            _ => writeln!(out, "the fork would do this:")?,
        }
        writeln!(out, "  keep         {}", self.keep.line())?;
        if self.left_behind.is_empty() {
            writeln!(out, "  leave behind nothing that is valid here")?;
        }
        for left in &self.left_behind {
            writeln!(out, "  leave behind {}", left.line())?;
        }
        Ok(())
    }
}
