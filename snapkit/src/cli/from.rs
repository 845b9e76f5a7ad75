//! `--from`: the client workflow on a machine that has nothing but the bootstrap string.

use clap::Args;
use manifests::refusal::{Class, Refusal};
use snapkit::manifest::{Expiry, Place, newest_key};
use snapkit::trust::Judge;

use super::exit_code::CliError;
use super::manifest::target::{Summary, TargetArgs};
use super::opened::Opened;
use super::pins::explained;
use super::session::Session;

/// Where to begin.
#[derive(Debug, Clone, Args)]
pub(super) struct FromArgs {
    /// Begin with nothing but this: 'URL#root=sha256:DIGEST' of a store or of a manifest, ending in .json
    ///
    /// Roots, manifest, pins and head are followed in this order, and the manifest must be fresh. A store without a
    /// manifest is verified all the same, and what that does not prove is said.
    #[arg(long, value_name = "URL#root=sha256:DIGEST", conflicts_with = "break_glass")]
    from: Option<String>,
    /// Name of the manifest, with --from
    #[arg(long, value_name = "NAME", requires = "from")]
    manifest: Option<String>,
}

impl FromArgs {
    /// The store that is named.
    pub(super) fn place(&self) -> Option<String> {
        TargetArgs::of(self.from.as_ref()?, None).named_store()
    }

    /// The store to read, and the manifest that was followed to it; the configured store without `--from`.
    pub(super) fn open(&self, session: &mut Session<'_>) -> Result<(Opened, Option<Summary>), CliError> {
        open(self, session)
    }
}

/// The store to verify, and the manifest that was followed to it.
fn open(args: &FromArgs, session: &mut Session<'_>) -> Result<(Opened, Option<Summary>), CliError> {
    let Some(from) = &args.from else {
        return Ok((Opened::alone(session)?, None));
    };
    let found = TargetArgs::of(from, args.manifest.as_deref()).find(session);
    let target = match found {
        Ok(target) => target,
        // Whoever asks for a manifest by its address or name wants that one.
        Err(error) => {
            let is_absent = error.class() == Some(Class::Missing) && args.manifest.is_none();
            let store = is_absent.then(|| Place::of(from.split("#root=").next().unwrap_or_default()));
            let Some(Place::Store { .. }) = store else {
                return Err(error);
            };
            let opened = Opened::at(from, &session.config, session.now)?;
            refuse_withheld(&opened, session)?;
            session.out.warn(format_args!(
                "the store has no manifest {}, so nothing proves that its head is the newest; an older state that was \
                 complete then would look the same",
                session.config.manifest.name.value
            ));
            return Ok((opened, None));
        }
    };
    let followed = target.follow(Expiry::RefuseStale).map_err(explained)?;
    session.out.note(format_args!(
        "manifest {} v{} is fresh; it expires at {}",
        followed.manifest.manifest.name, followed.manifest.manifest.version, followed.freshness.expires
    ));
    let summary = Summary::of(&followed);
    Ok((target.opened, Some(summary)))
}

/// A store that had a manifest when it was read here before, and has none now, withholds it.
fn refuse_withheld(opened: &Opened, session: &Session<'_>) -> Result<(), CliError> {
    let chain = opened.chain()?;
    let judge = Judge { pin: &opened.pin.root, root: chain.root(), chain: &chain.id() };
    let name = &session.config.manifest.name.value;
    match opened.trust.kept_manifest(&judge, name)? {
        None => Ok(()),
        Some(known) => {
            let expected = format!("version {} or later, which was verified here before", known.manifest.version);
            Err(Refusal::new(Class::Rollback, newest_key(name), expected, "no such object").into())
        }
    }
}
