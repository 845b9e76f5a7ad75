//! `snapkit init`: make a chain in a new store.

use std::io;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::init::{InitError, init};
use snapkit::store;
use snapkit::trust::TrustDir;

use super::exit_code::{CliError, Exit};
use super::output::Report;
use super::session::Session;
use super::snapshot::host_name;

/// Make a chain in a new store, with keys for its owner and for this machine
///
/// It prints the bootstrap string: the one line by which any other machine can check everything it reads from the store.
/// A run that was interrupted is completed by running the same command again.
#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Where the store shall be: a directory, s3://, gs:// or az://; default: the configured store
    #[arg(value_name = "DIR-OR-URL")]
    place: Option<String>,
    /// Name of this node in the first record; default: the host name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

impl InitArgs {
    /// The store that is named, if it is.
    pub(super) fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}

#[derive(Debug, Serialize)]
struct Initialised {
    bootstrap: String,
    store: String,
    root: String,
    root_expires: Timestamp,
    chain: String,
    owner_key: PathBuf,
    node_key: PathBuf,
    resumed: bool,
}

pub(super) fn run(args: &InitArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    session.refuse_mirrors()?;
    let place = session.store_location()?;
    let mut options = session.config.open_options();
    options.create_directory = true;
    let store = store::open(place, &options)?;
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let node = args.node.clone().unwrap_or_else(host_name);
    let made = init(&*store, &trust, &node, session.now).map_err(explained)?;
    for warning in &made.warnings {
        session.out.warn(format_args!("{warning}"));
    }
    session.out.report(&Initialised {
        bootstrap: made.bootstrap.to_string(),
        store: made.bootstrap.url,
        root: made.bootstrap.pin.root.to_string(),
        root_expires: made.root_expires,
        chain: made.chain.to_string(),
        owner_key: made.owner_key,
        node_key: made.node_key,
        resumed: made.resumed,
    })?;
    Ok(Exit::DONE)
}

fn explained(error: InitError) -> CliError {
    let exists = matches!(error, InitError::Exists { .. });
    let error = CliError::from(error);
    if !exists {
        return error;
    }
    error.with_exit(Exit::of_code(exit::REFUSED)).next(
        "name another place; to use this chain, ask its owner for the bootstrap string and run `snapkit trust add`",
    )
}

impl Report for Initialised {
    const SCHEMA: &'static str = "snapkit.init/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let how = if self.resumed { "completed" } else { "made" };
        writeln!(out, "A chain was {how} in {}.", self.store)?;
        writeln!(out)?;
        writeln!(out, "Bootstrap string; keep it where the store is not, a new machine needs nothing else:")?;
        writeln!(out, "  {}", self.bootstrap)?;
        writeln!(out)?;
        writeln!(out, "Keys:")?;
        writeln!(out, "  {}  signs for this machine", self.node_key.display())?;
        writeln!(out, "  {}  decides which keys count", self.owner_key.display())?;
        writeln!(out)?;
        writeln!(out, "Move owner.key to a safe place off this machine. Snapshots do not need it; whoever has it can")?;
        writeln!(out, "replace every other key. The root is valid until {}.", self.root_expires)
    }
}
