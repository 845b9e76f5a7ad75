//! An opened store with its chain: what most commands begin with.

use std::sync::Arc;

use jiff::Timestamp;
use manifests::document::record::{Body, Record};
use manifests::document::snapshot::Snapshot;
use snapkit::chain::{Chain, record_name};
use snapkit::config::Config;
use snapkit::store::{self, Store};
use snapkit::trust::{self, Location, Pin, TrustDir};

use super::exit_code::CliError;
use super::session::Session;

/// A store that was named, with the pin for it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    pub(super) trust: TrustDir,
    pub(super) pin: Pin,
}

impl Opened {
    /// Opens the store and finds its pin; without one nothing is believed.
    pub(super) fn new(session: &Session<'_>) -> Result<Self, CliError> {
        Self::at(session.store_location()?, &session.config)
    }

    /// Opens a store that is named beside the one of the session.
    pub(super) fn at(location: &str, config: &Config) -> Result<Self, CliError> {
        let location: Location = location.parse().map_err(|error| CliError::usage(format!("{error}")))?;
        let store = store::open(&location.url, &config.open_options())?;
        let trust = TrustDir::new(&config.home.value, &config.cache.value);
        let pin = trust::pin_for(&*store, &location, &trust)?;
        Ok(Self { store, trust, pin })
    }

    /// The chain in the store, verified from its pin.
    pub(super) fn chain(&self) -> Result<Chain<'_>, CliError> {
        Ok(Chain::open(&*self.store, self.pin, &self.trust, Timestamp::now())?)
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
