//! A session: what one run of a command has at hand.

use std::env;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags, Source};
use snapkit::progress::Progress;
use snapkit::store::mirrored::{Listener, Notice};
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
    /// When the run began: everything in it is judged by this one time.
    pub(super) now: Timestamp,
    /// Set once a signal asked to stop.
    pub(super) cancel: Cancel,
    progress: ProgressMode,
}

/// The stable name of a remark about a copy of the store.
const W_MIRROR: &str = "W_MIRROR";

/// The JSON form of a remark about a copy, one line on stderr.
#[derive(Debug, Serialize)]
struct MirrorNotice<'n> {
    schema: &'static str,
    name: &'static str,
    store: &'n str,
    object: Option<&'n str>,
    fault: &'static str,
    why: &'n str,
    last: bool,
}

impl<'n> MirrorNotice<'n> {
    fn of(notice: &'n Notice) -> Self {
        Self {
            schema: "snapkit.warning/1",
            name: W_MIRROR,
            store: &notice.store,
            object: Some(&*notice.key).filter(|key| !key.is_empty()),
            fault: notice.fault.as_str(),
            why: &notice.why,
            last: notice.last,
        }
    }
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
        let flags = Flags { store, mirrors: global.mirror.clone(), config: global.config.clone() };
        let environment = Environment::new(env::vars_os());
        let progress = if global.quiet { ProgressMode::None } else { global.progress };
        Ok(Self { config: Config::load(&here, &environment, &flags)?, out, now: Timestamp::now(), cancel, progress })
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
        self.refuse_mirrors()?;
        let store = store::open(self.store_location()?, &self.config.open_options())?;
        Ok(store)
    }

    /// Refuses `--mirror` where one store alone is meant; mirrors of the configuration are not used there.
    pub(super) fn refuse_mirrors(&self) -> Result<(), CliError> {
        if self.config.mirrors.source != Source::Flag("--mirror") {
            return Ok(());
        }
        Err(CliError::usage("this command uses one store and no mirrors")
            .next("leave --mirror out; to look at a mirror, name it with --store URL#root=sha256:…"))
    }

    /// Prints what is wrong with a copy of the store while another one serves.
    pub(super) fn mirror_listener(&self) -> Listener {
        let json = self.out.is_json();
        Arc::new(move |notice| {
            let mut out = Output::new(json, false);
            if json {
                out.problem_json(&MirrorNotice::of(notice));
            } else {
                out.warn(format_args!("{notice} ({W_MIRROR})"));
            }
        })
    }

    /// New counters for an operation, shown until the reporter is dropped.
    pub(super) fn show_progress(&self) -> (Arc<Progress>, Reporter) {
        let progress = Arc::new(Progress::new());
        let reporter = Reporter::start(Arc::clone(&progress), self.progress);
        (progress, reporter)
    }
}
