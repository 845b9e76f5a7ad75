//! `snapkit root show`: which keys count, in a store or in a file.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use manifests::document::root::Draft;
use manifests::refusal::{Class, Refusal};
use serde::Serialize;
use snapkit::root::read_draft;

use super::describe::{DraftReport, RootView};
use super::{newest, sign};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::session::Session;

/// Show the newest root of the store, an earlier one, or a file
///
/// What comes from the store was verified from the pin on. A file was not: it is shown with what it changes and who signed.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A draft, or a copy of a root
    file: Option<PathBuf>,
    /// An earlier version of the store's root
    #[arg(long, value_name = "N", conflicts_with = "file")]
    version: Option<u64>,
    /// Print the signed document itself, as it lies in the store
    #[arg(long, conflicts_with = "file")]
    raw: bool,
    /// The root before the file, to compare it with
    #[arg(long, value_name = "FILE", requires = "file")]
    previous: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct RootShown {
    verified: bool,
    #[serde(flatten)]
    root: RootView,
    draft: Option<DraftReport>,
}

impl Report for RootShown {
    const SCHEMA: &'static str = "snapkit.root-show/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.root.write_text(out)?;
        match &self.draft {
            None => Ok(()),
            Some(draft) => {
                writeln!(out)?;
                draft.write_body(out)
            }
        }
    }
}

pub(super) fn run(args: &ShowArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    if let Some(file) = &args.file {
        let (draft, _) = read_draft(file)?;
        let root = RootView::of(draft.document(), draft.digest().to_string());
        // A first root stands for itself.
        let report = if draft.document().version == 1 {
            None
        } else {
            let previous = sign::previous(args.previous.as_ref(), &draft, session)?;
            Some(DraftReport::of(file.clone(), &draft, previous.as_ref())?)
        };
        session.out.report(&RootShown { verified: false, root, draft: report })?;
        return Ok(Exit::DONE);
    }
    let opened = Opened::alone(session)?;
    let newest = newest(&opened)?;
    let version = args.version.unwrap_or(newest.version());
    let bytes = verified(&opened, version, newest.version())?;
    if args.raw {
        session.out.bytes(&bytes)?;
        return Ok(Exit::DONE);
    }
    let shown = Draft::parse(&bytes, &format!("root/{version}.json"))?;
    let root = RootView::of(shown.document(), shown.digest().to_string());
    session.out.report(&RootShown { verified: true, root, draft: None })?;
    Ok(Exit::DONE)
}

/// The bytes of a root that was verified a moment ago: from here, or the first from the store, which has the pinned digest.
fn verified(opened: &Opened, version: u64, newest: u64) -> Result<Vec<u8>, CliError> {
    let missing = || {
        let expected = format!("a version from 1 to {newest}");
        Refusal::new(Class::Missing, format!("root/{version}.json"), expected, "no such root")
    };
    let at = version.checked_sub(1).and_then(|at| usize::try_from(at).ok()).ok_or_else(missing)?;
    if let Some(bytes) = opened.trust.kept_roots(&opened.pin.root)?.into_iter().nth(at) {
        return Ok(bytes);
    }
    if version == 0 || version > newest {
        return Err(missing().into());
    }
    let key = format!("root/{version}.json");
    let bytes = opened.store.get(&key, manifests::document::root::ROOT_CAP as u64)?;
    if version == 1 {
        manifests::document::root::Root::parse_first(&bytes, &opened.pin.root)?;
        return Ok(bytes.to_vec());
    }
    Err(missing().with_hint("run `snapkit trust add` with the bootstrap string first").into())
}
