//! `snapkit root add-key`, `remove-key`, `set-threshold`, `renew`: the draft of the next root.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use manifests::document::root::{Draft, ROLES, Root, RootDocument};
use manifests::keys::KeyId;
use snapkit::chain::Chain;
use snapkit::keyfile;
use snapkit::root::{keep_records, read_draft, unsigned, write_draft};

use super::describe::DraftReport;
use super::{key_id, moment, newest};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::session::Session;

/// How long a root is valid unless another time is given.
const LIFETIME: &str = "1y";

#[derive(Debug, Args)]
struct DraftOptions {
    /// The draft to make or to change; default: root-N.json in the working directory
    #[arg(long, value_name = "FILE")]
    draft: Option<PathBuf>,
    /// When the next root expires: a time, or from now on such as 90d or 1y [default: 1y]
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
}

/// Give a key a role in the next root
///
/// Changes go into the draft of the next root; several may follow each other. A new writer may sign from the next record on.
#[derive(Debug, Args)]
pub(super) struct AddKeyArgs {
    /// Key file; of a secret one only the public key is used
    key: PathBuf,
    /// Role to give; can be repeated
    #[arg(long, required = true, value_name = "ROLE", value_parser = clap::builder::PossibleValuesParser::new(ROLES))]
    role: Vec<String>,
    /// First record that a writer may sign; default: the next one
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// First record that a writer may no longer sign
    #[arg(long, value_name = "SEQ")]
    until: Option<u64>,
    #[command(flatten)]
    options: DraftOptions,
}

/// Take roles from a key in the next root
///
/// What a writer signed before the record named by --until stays valid, and what it signs from there on is refused.
/// Records of other roles that the key signed stay valid, before --until where it is given: the next root lists them.
#[derive(Debug, Args)]
pub(super) struct RemoveKeyArgs {
    /// Key file, or the beginning of a key id
    key: String,
    /// Role to take; can be repeated; default: every role it has
    #[arg(long, value_name = "ROLE", value_parser = clap::builder::PossibleValuesParser::new(ROLES))]
    role: Vec<String>,
    /// First record that the key may no longer sign; default: the next one, so that all its records stay valid
    #[arg(long, value_name = "SEQ")]
    until: Option<u64>,
    #[command(flatten)]
    options: DraftOptions,
}

/// Set how many keys of a role must sign, in the next root
#[derive(Debug, Args)]
pub(super) struct SetThresholdArgs {
    /// The role: root or release; documents of the others are signed by one key
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(ROLES))]
    role: String,
    /// How many of its keys must sign
    threshold: u32,
    #[command(flatten)]
    options: DraftOptions,
}

/// Prepare the next root with the same keys and a later expiry
#[derive(Debug, Args)]
pub(super) struct RenewArgs {
    #[command(flatten)]
    options: DraftOptions,
}

/// What is at hand when a draft is changed.
struct Work {
    opened: Opened,
    newest: Root,
    document: RootDocument,
    path: PathBuf,
    signatures: usize,
    now: Timestamp,
}

impl Work {
    /// The newest root of the store, and the draft of the next one as far as there is one.
    fn begin(options: &DraftOptions, session: &mut Session<'_>) -> Result<Self, CliError> {
        let opened = Opened::alone(session)?;
        let newest = newest(&opened)?;
        let now = session.now;
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let version = newest.version() + 1;
        let path = options.draft.clone().unwrap_or_else(|| format!("root-{version}.json").into());
        let begun = if path.exists() { Some(continued(&path, &newest)?) } else { None };
        let signatures = begun.as_ref().map_or(0, |draft| draft.own_approval().signed.len());
        let base = begun.as_ref().map_or(newest.document(), |draft| draft.document());
        let expires = match (&options.expires, &begun) {
            (Some(text), _) => moment(text, now)?,
            (None, Some(draft)) => draft.document().expires,
            (None, None) => moment(LIFETIME, now)?,
        };
        let document = RootDocument { version, issued: now, expires, ..base.clone() };
        Ok(Self { opened, newest, document, path, signatures, now })
    }

    /// The number of the next record, expired root or not.
    fn next_seq(&self) -> Result<u64, CliError> {
        Ok(self.chain()?.head()?.head.seq + 1)
    }

    fn chain(&self) -> Result<Chain<'_>, CliError> {
        let Opened { store, trust, pin, .. } = &self.opened;
        Ok(Chain::open_expired(&**store, *pin, trust, self.now)?)
    }

    /// Lists in the draft the records that would not count any more because a key leaves a role since `before`.
    fn keep_records(
        &mut self,
        before: &RootDocument,
        lost: Option<(KeyId, u64)>,
        session: &mut Session<'_>,
    ) -> Result<(), CliError> {
        let mut document = self.document.clone();
        let kept = keep_records(&self.chain()?, before, &mut document, lost)?;
        for record in kept {
            session.out.note(format_args!(
                "record {} ({}) was signed by a key that leaves its role, and stays valid by name",
                record.seq, record.kind
            ));
        }
        self.document = document;
        Ok(())
    }

    /// Writes the draft, without signatures: the bytes that were signed are not these any more.
    fn finish(self, session: &mut Session<'_>) -> Result<Exit, CliError> {
        let bytes = unsigned(&self.document)?;
        write_draft(&self.path, &bytes)?;
        if self.signatures > 0 {
            session.out.warn(format_args!("the draft changed, so its {} signatures are gone", self.signatures));
        }
        let draft = Draft::parse(&bytes, "the draft")?;
        session.out.report(&DraftReport::of(self.path, &draft, Some(self.newest.document()))?)?;
        Ok(Exit::DONE)
    }
}

/// A draft that was begun, which must be for the root after the newest.
fn continued(path: &Path, newest: &Root) -> Result<Draft, CliError> {
    let (draft, _) = read_draft(path)?;
    let found = draft.document().version;
    if found == newest.version() + 1 {
        return Ok(draft);
    }
    let sentence =
        format!("{} is a draft of root {found}, and the newest root is {}", path.display(), newest.version());
    Err(CliError::refused(sentence).next("move it away, or name another file with --draft FILE"))
}

/// A step that makes no sense is refused, and the draft stays as it is.
fn refused(error: manifests::document::root::EditError) -> CliError {
    CliError::refused(error.to_string()).next("`snapkit root show` lists the keys, roles and thresholds")
}

pub(super) fn add_key(args: &AddKeyArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let key = keyfile::read(&args.key)?.public();
    let mut work = Work::begin(&args.options, session)?;
    for role in &args.role {
        if role == "writer" {
            let from = args.from.map_or_else(|| work.next_seq(), Ok)?;
            work.document.add_writer(&key, from, args.until).map_err(refused)?;
        } else {
            work.document.add_key(&key, role).map_err(refused)?;
        }
    }
    work.finish(session)
}

pub(super) fn remove_key(args: &RemoveKeyArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let mut work = Work::begin(&args.options, session)?;
    let id = key_id(&args.key, &work.document)?;
    let before = work.document.clone();
    let mut roles = args.role.clone();
    if roles.is_empty() {
        let held = work.document.roles.iter().filter(|role| role.keys.contains(&id));
        roles = held.map(|role| role.name.clone()).collect();
    }
    for role in &roles {
        if role == "writer" {
            let until = args.until.map_or_else(|| work.next_seq(), Ok)?;
            work.document.retire_writer(&id, until).map_err(refused)?;
        } else {
            work.document.remove_key(&id, role).map_err(refused)?;
        }
    }
    if roles.iter().any(|role| role != "writer" && role != "node") {
        let until = args.until.or_else(|| retired_at(&id, work.newest.document(), &work.document));
        work.keep_records(&before, until.map(|until| (id, until)), session)?;
    }
    work.finish(session)
}

/// Where a draft ends what a writer may sign, if it does: an earlier change may have said from where on its key is lost.
fn retired_at(key: &KeyId, newest: &RootDocument, draft: &RootDocument) -> Option<u64> {
    let end = |document: &RootDocument| document.writers.iter().rfind(|range| range.key == *key)?.until_seq;
    end(draft).filter(|end_now| end(newest).is_none_or(|end_before| *end_now < end_before))
}

pub(super) fn set_threshold(args: &SetThresholdArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let mut work = Work::begin(&args.options, session)?;
    let before = work.document.clone();
    let threshold = before.roles.iter().find(|role| role.name == args.role).map_or(0, |role| role.threshold);
    work.document.set_threshold(&args.role, args.threshold).map_err(refused)?;
    if args.threshold > threshold {
        work.keep_records(&before, None, session)?;
    }
    work.finish(session)
}

pub(super) fn renew(args: &RenewArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    Work::begin(&args.options, session)?.finish(session)
}
