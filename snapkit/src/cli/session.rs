//! A session: what one run of a command has at hand.

use std::env;
use std::sync::Arc;

use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags};
use snapkit::progress::Progress;
use snapkit::store::{self, Store};

use super::GlobalArgs;
use super::exit_code::CliError;
use super::output::Output;
use super::progress::{ProgressMode, Reporter};

/// The configuration, the output, and the request to stop.
#[derive(Debug)]
pub(super) struct Session<'a> {
    /// Every effective value.
    pub(super) config: Config,
    /// Where results and problems go.
    pub(super) out: &'a mut Output,
    /// Set once a signal asked to stop.
    pub(super) cancel: Cancel,
    progress: ProgressMode,
}

impl<'a> Session<'a> {
    /// Reads the configuration as the command line and the environment say.
    pub(super) fn open(
        global: &GlobalArgs,
        named_store: Option<&str>,
        out: &'a mut Output,
        cancel: Cancel,
    ) -> Result<Self, CliError> {
        let here =
            env::current_dir().map_err(|source| CliError::from(source).context("cannot tell the working directory"))?;
        let store = named_store.map(str::to_owned).or_else(|| global.store.clone());
        let flags = Flags { store, config: global.config.clone() };
        let environment = Environment::new(env::vars_os());
        let progress = if global.quiet { ProgressMode::None } else { global.progress };
        Ok(Self { config: Config::load(&here, &environment, &flags)?, out, cancel, progress })
    }

    /// The store that was named, or a usage error that says how to name one.
    pub(super) fn store_location(&self) -> Result<&str, CliError> {
        match &self.config.store {
            Some(store) => Ok(&store.value),
            None => Err(CliError::usage("no store is named")
                .next("give --store DIR-OR-URL, set SNAPKIT_STORE, or put `store = \"…\"` into snapkit.toml")),
        }
    }

    /// Opens the store that was named; nothing is read from it yet.
    pub(super) fn open_store(&self) -> Result<Arc<dyn Store>, CliError> {
        let store = store::open(self.store_location()?, &self.config.open_options())?;
        Ok(store)
    }

    /// New counters for an operation, shown until the reporter is dropped.
    pub(super) fn show_progress(&self) -> (Arc<Progress>, Reporter) {
        let progress = Arc::new(Progress::new());
        let reporter = Reporter::start(Arc::clone(&progress), self.progress);
        (progress, reporter)
    }
}
