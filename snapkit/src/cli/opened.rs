//! An opened store with its chain: what most commands begin with.

use std::sync::Arc;

use jiff::Timestamp;
use manifests::document::record::{Body, Record};
use manifests::document::snapshot::Snapshot;
use snapkit::chain::{Chain, record_name};
use snapkit::config::Config;
use snapkit::leadership::AgentSocket;
use snapkit::store::mirrored::open_mirrored;
use snapkit::store::{self, Store};
use snapkit::trust::{self, Location, Pin, TrustDir};

use super::break_glass::BreakGlass;
use super::exit_code::CliError;
use super::session::Session;

/// A store that was named, with the pin for it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) trust: TrustDir,
    pub(super) pin: Pin,
    pub(super) now: Timestamp,
    /// Who knows whether this node leads, where it is in a lease group.
    pub(super) agent: Option<AgentSocket>,
}

impl Opened {
    /// Opens the store with its mirrors, for reading, and finds its pin; without one nothing is believed.
    pub(super) fn new(session: &Session<'_>) -> Result<Self, CliError> {
        let config = &session.config;
        let location = Self::location(session.store_location()?)?;
        let mirrors = config.open_mirrors();
        if let Some((mirror, _)) =
            mirrors.iter().find(|(mirror, _)| !matches!(mirror.parse(), Ok(Location { pin: None, .. })))
        {
            let problem = CliError::usage(format!("the mirror {mirror} is named with a pin"));
            return Err(problem.next("name it without; every copy is held to the pin of the store"));
        }
        let store = open_mirrored(&location.url, &config.open_options(), &mirrors, session.mirror_listener())?;
        Self::of(store, &location, config, session.now)
    }

    /// Opens the store alone: for who writes to it, or judges it.
    pub(super) fn alone(session: &Session<'_>) -> Result<Self, CliError> {
        session.refuse_mirrors()?;
        Self::at(session.store_location()?, &session.config, session.now)
    }

    /// Opens a store that is named beside the one of the session.
    pub(super) fn at(location: &str, config: &Config, now: Timestamp) -> Result<Self, CliError> {
        let location = Self::location(location)?;
        let store = store::open(&location.url, &config.open_options())?;
        Self::of(store, &location, config, now)
    }

    fn location(text: &str) -> Result<Location, CliError> {
        text.parse().map_err(|error| CliError::usage(format!("{error}")))
    }

    fn of(store: Arc<dyn Store>, location: &Location, config: &Config, now: Timestamp) -> Result<Self, CliError> {
        let trust = TrustDir::new(&config.home.value, &config.cache.value);
        let pin = trust::pin_for(&*store, location, &trust)?;
        Ok(Self::with(store, trust, pin, config, now))
    }

    /// A store of which everything is known.
    pub(super) fn with(store: Arc<dyn Store>, trust: TrustDir, pin: Pin, config: &Config, now: Timestamp) -> Self {
        let agent = config.agent.as_ref().map(|socket| AgentSocket::new(&socket.value));
        Self { store, trust, pin, now, agent }
    }

    /// The chain in the store, verified from its pin.
    pub(super) fn chain(&self) -> Result<Chain<'_>, CliError> {
        let chain = Chain::open(&*self.store, self.pin, &self.trust, self.now)?;
        Ok(match &self.agent {
            Some(agent) => chain.led(agent),
            None => chain,
        })
    }

    /// As [`Self::chain`], but with a reason, what has expired is used; see `break_glass.rs`.
    pub(super) fn chain_unless(&self, glass: &BreakGlass) -> Result<Chain<'_>, CliError> {
        match glass.reason() {
            None => self.chain(),
            Some(_) => Ok(Chain::open_even_expired(&*self.store, self.pin, &self.trust, self.now)?),
        }
    }

    /// Where this chain's caches lie.
    pub(super) fn cache(&self) -> std::path::PathBuf {
        self.trust.cache_of(&self.pin.root)
    }
}

/// The snapshot that a record is, with its name.
pub(super) fn snapshot_of(record: &Record) -> Result<(String, &Snapshot), CliError> {
    match (&record.body, record_name(record)) {
        (Body::Snapshot(snapshot), Some(name)) => Ok((name, snapshot)),
        _ => Err(CliError::usage(format!("record {} is no snapshot", record.header.seq))
            .next("`snapkit log` lists the snapshots")),
    }
}

impl Opened {
    /// What could not be fetched as it was signed, with the exit code of its class.
    pub(super) fn refused(error: snapkit::fetch::FetchError) -> CliError {
        match error.class() {
            Some(class) => CliError::of_class(error, class),
            None => error.into(),
        }
    }
}
