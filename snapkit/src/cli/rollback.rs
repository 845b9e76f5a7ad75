//! `snapkit rollback`: an older snapshot counts as the latest, on purpose and on record.

use std::io;

use clap::Args;
use jiff::Timestamp;
use manifests::document::record::{Body, Pointer, Record};
use manifests::document::rollback::Rollback;
use serde::Serialize;
use snapkit::chain::{Commit, record_name};
use snapkit::selector::Selector;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::output::Report;
use super::session::Session;
use super::signer_options::SignerOptions;
use super::snapshot::host_name;

/// How often a run that lost its slot tries again.
const ATTEMPTS: u32 = 5;

/// Make an older snapshot the latest one, until the next snapshot is taken
///
/// It adds a signed record with your reason; nothing is deleted, and `snapkit log` shows it. From then on `latest`, and
/// every node that follows the chain, means that snapshot. A store that only shows an old state is refused as ever.
#[derive(Debug, Args)]
pub(super) struct RollbackArgs {
    /// The snapshot to go back to: latest~1, #12, @2026-11-20T12:00, or the beginning of a name or id
    #[arg(long, value_name = "SNAP")]
    to: Selector,
    /// Why, for whoever reads the chain later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Name of this node in the record; default: the host name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    signer: SignerOptions,
}

#[derive(Debug, Serialize)]
struct RolledBack {
    /// The record that says so; absent after a dry run, and when nothing was to be done.
    seq: Option<u64>,
    id: Option<String>,
    target: Target,
    before: Target,
    reason: String,
}

#[derive(Debug, Serialize)]
struct Target {
    seq: u64,
    name: String,
    id: String,
    time: Timestamp,
}

pub(super) fn run(args: &RollbackArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::alone(session)?;
    let chain = opened.chain()?;
    let target = args.to.resolve(&chain)?;
    let (_, snapshot) = snapshot_of(&target)?;
    let public = &snapshot.public;
    if !public.complete || public.torn + public.unreadable > 0 {
        session.out.warn(format_args!("the snapshot has gaps: {} torn, {} unreadable", public.torn, public.unreadable));
    }
    let mut done = RolledBack {
        seq: None,
        id: None,
        before: Target::of(&target),
        target: Target::of(&target),
        reason: args.reason.clone(),
    };
    for _ in 0..ATTEMPTS {
        let newest = chain.head()?;
        let Some(latest) = chain.latest_snapshot(&newest)? else {
            return Err(CliError::usage("the chain has no snapshot"));
        };
        done.before = Target::of(&latest);
        if latest.digest == target.digest {
            session.out.note(format_args!("{} is the latest snapshot already; nothing was added", done.target.name));
            session.out.report(&done)?;
            return Ok(Exit::DONE);
        }
        if args.dry_run {
            session.out.note(format_args!("dry run: nothing was added"));
            session.out.report(&done)?;
            return Ok(Exit::DONE);
        }
        let signer_for =
            |role| args.signer.for_role(role, chain.root(), &opened.trust, &opened.pin.root, &session.cancel);
        let signer = signer_for("writer").or_else(|_| signer_for("manifest"))?;
        let pointer = Pointer { seq: target.header.seq, digest: target.digest };
        let body = Body::Rollback(Rollback { target: pointer, reason: args.reason.clone() });
        let node = args.node.clone().unwrap_or_else(host_name);
        match chain.commit(&newest.head, &body, None, &*signer, &node, Timestamp::now())? {
            Commit::Done(committed) => {
                for warning in &committed.warnings {
                    session.out.warn(format_args!("{warning}"));
                }
                done.seq = Some(committed.seq);
                done.id = Some(committed.digest.to_string());
                session.out.report(&done)?;
                return Ok(Exit::DONE);
            }
            Commit::Lost { .. } => {}
        }
    }
    Err(CliError::from(io::Error::other("other writers were always first")).next("run it again when it is quiet"))
}

impl Target {
    fn of(record: &Record) -> Self {
        Self {
            seq: record.header.seq,
            name: record_name(record).unwrap_or_default(),
            id: record.digest.to_string(),
            time: record.header.time,
        }
    }
}

impl Report for RolledBack {
    const SCHEMA: &'static str = "snapkit.rollback/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let line = |target: &Target| format!("{} (record {}, of {})", target.name, target.seq, target.time);
        match self.seq {
            Some(seq) => writeln!(out, "record {seq}: the latest snapshot is {}", line(&self.target))?,
            None => writeln!(out, "the snapshot to go back to is {}", line(&self.target))?,
        }
        writeln!(out, "  before  {}", line(&self.before))?;
        writeln!(out, "  reason  {}", self.reason)
    }
}
