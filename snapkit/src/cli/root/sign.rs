//! `snapkit root sign`: one signature more on a draft, on any machine, with no store at hand.

use std::path::PathBuf;

use clap::Args;
use manifests::document::root::{Draft, ROOT_CAP, RootDocument};
use manifests::envelope;
use manifests::keys::PublicKey;
use manifests::refusal::{Class, Refusal};
use snapkit::keyfile;
use snapkit::root::{read_draft, write_draft};
use snapkit::trust::TrustDir;

use super::describe::DraftReport;
use super::{fork, known_roots, pinned};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::session::Session;
use crate::cli::signer_options::SignerOptions;

/// Sign the draft of a root, or of a fork
///
/// It needs the draft and the key, no store and no network. What the draft changes is shown where the root before it is
/// known: from this machine's trust directory if a store is named, or from --previous.
#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// The draft; the signature is added to it
    draft: PathBuf,
    /// The root before it, such as root/1.json of the store
    #[arg(long, value_name = "FILE")]
    previous: Option<PathBuf>,
    #[command(flatten)]
    signer: SignerOptions,
}

pub(super) fn run(args: &SignArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    if let Some(draft) = fork::read_draft(&args.draft)? {
        return fork::sign(&args.draft, draft, &args.signer, session);
    }
    let (draft, bytes) = read_draft(&args.draft)?;
    let previous = previous(args.previous.as_ref(), &draft, session)?;
    let mut candidates = draft.own_approval().allowed;
    if let Some(previous) = &previous {
        candidates.extend(draft.approval_by(previous)?.allowed);
    }
    let signer = match args.signer.for_message(&candidates, &draft.message(), &session.cancel)? {
        Some(signer) => signer,
        None => Box::new(keyfile::read_secret(&own_key(session)?)?),
    };
    check_counts(&signer.public(), &candidates, previous.is_some())?;
    let signed = envelope::cosign(&bytes, ROOT_CAP, &[&*signer], &args.draft.display().to_string())?;
    write_draft(&args.draft, &signed)?;
    let mut report = DraftReport::of(args.draft.clone(), &Draft::parse(&signed, "the draft")?, previous.as_ref())?;
    report.signed_by = Some(signer.public().id().to_string());
    session.out.report(&report)?;
    Ok(Exit::DONE)
}

/// The root before the draft, if it was named or this machine has verified it.
pub(super) fn previous(
    named: Option<&PathBuf>,
    draft: &Draft,
    session: &Session<'_>,
) -> Result<Option<RootDocument>, CliError> {
    let Some(before) = draft.document().version.checked_sub(1).filter(|before| *before > 0) else {
        return Err(CliError::refused("this is a first root, which `snapkit init` makes and signs")
            .next("name the draft of a later root"));
    };
    let found = match named {
        Some(path) => Some(read_draft(path)?.0.document().clone()),
        None => {
            let known = known_roots(session);
            let bytes = usize::try_from(before - 1).ok().and_then(|at| known.get(at));
            bytes
                .map(|bytes| Draft::parse(bytes, "the root before it"))
                .transpose()?
                .map(|root| root.document().clone())
        }
    };
    match found {
        Some(document) if document.version != before => Err(Refusal::new(
            Class::Version,
            "the root before the draft",
            format!("root {before}"),
            format!("root {}", document.version),
        )
        .into()),
        found => Ok(found),
    }
}

/// The owner's key, where `init` put it and it was not moved away.
pub(super) fn own_key(session: &Session<'_>) -> Result<PathBuf, CliError> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    match pinned(session).map(|root| trust.owner_key(&root)) {
        Some(file) if file.exists() => Ok(file),
        _ => Err(CliError::usage("there is no owner's key on this machine")
            .next("name what signs: --signer FILE or --signer 'cmd:COMMAND'")),
    }
}

/// Refuses a signature that would count for nothing.
fn check_counts(key: &PublicKey, candidates: &[PublicKey], previous_known: bool) -> Result<(), CliError> {
    if candidates.contains(key) {
        return Ok(());
    }
    let (roots, hint) = if previous_known {
        ("of the draft or of the root before it", "sign with a key of that role; `snapkit root show FILE` lists them")
    } else {
        ("of the draft", "if it has the role in the root before, name that root: --previous FILE")
    };
    let expected = format!("a key of the role root {roots}");
    let refusal = Refusal::new(Class::Role, format!("key {}", key.id()), expected, "one that is not in it");
    Err(refusal.with_hint(hint).into())
}
