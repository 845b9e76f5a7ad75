//! Which manifest is meant, and by which root it is judged.

use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;
use manifests::document::manifest::Manifest;
use serde::Serialize;
use snapkit::config::Source;
use snapkit::manifest::{Expiry, Followed, Located, ManifestError, Place, Stores, follow, locate};
use snapkit::store::{Store, known_address};
use snapkit::trust::{self, Location, TrustDir};

use crate::cli::exit_code::CliError;
use crate::cli::opened::Opened;
use crate::cli::session::Session;

/// A manifest that is named.
#[derive(Debug, Clone, Default, Args)]
pub(in crate::cli) struct TargetArgs {
    /// A manifest's file or URL ending in .json, or a store; perhaps with '#root=sha256:DIGEST'. Default: `file` of
    /// `[manifest]` in snapkit.toml, else the configured store
    #[arg(value_name = "FILE-OR-URL")]
    what: Option<String>,
    /// Name of the manifest; default: `name` of `[manifest]` in snapkit.toml, else `main`
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// A manifest that was found, and the pin it is to be judged by. Nothing is verified.
pub(in crate::cli) struct Target {
    pub(in crate::cli) opened: Opened,
    pub(in crate::cli) bytes: Bytes,
    pub(in crate::cli) address: String,
    /// The name it must have, where one was asked for.
    pub(in crate::cli) name: Option<String>,
}

impl TargetArgs {
    /// A target without a name of its own.
    pub(in crate::cli) fn of(what: &str, name: Option<&str>) -> Self {
        Self { what: Some(what.to_owned()), name: name.map(str::to_owned) }
    }

    /// The store that the address names by itself.
    pub(in crate::cli) fn named_store(&self) -> Option<String> {
        let location: Location = self.what.as_ref()?.parse().ok()?;
        let store = Place::of(&location.url).store()?;
        // The pin goes with it, so that what follows opens the store as it was named.
        Some(match location.pin {
            Some(pin) => trust::Bootstrap { url: store, pin }.to_string(),
            None => store,
        })
    }

    /// The manifest as it was named, for messages; without the pin.
    pub(in crate::cli) fn shown(&self, session: &Session<'_>) -> String {
        let named = self.place(session).map(|(_, location)| location.url);
        named.unwrap_or_else(|_| "manifest".to_owned())
    }

    /// Where the manifest is, and the pin in the address.
    fn place(&self, session: &Session<'_>) -> Result<(Place, Location), CliError> {
        let parse = |text: &str| text.parse::<Location>().map_err(|error| CliError::usage(format!("{error}")));
        if let Some(what) = &self.what {
            let location = parse(what)?;
            return Ok((Place::of(&location.url), location));
        }
        if let Some(file) = &session.config.manifest.file {
            let url = file.value.display().to_string();
            return Ok((Place::File(file.value.clone()), Location { url, pin: None }));
        }
        let location = parse(session.store_location()?)?;
        Ok((Place::Store { url: location.url.clone() }, location))
    }

    /// The name that is asked for: the one given, or the one of the configuration if it was set there.
    fn asked_name(&self, session: &Session<'_>) -> Option<String> {
        let configured = &session.config.manifest.name;
        let set = (configured.source != Source::Default).then(|| configured.value.clone());
        self.name.clone().or(set)
    }

    /// Finds the manifest, the store of its chain with the copies that the manifest names, for reading, and the pin.
    pub(in crate::cli) fn find(&self, session: &Session<'_>) -> Result<Target, CliError> {
        self.find_with(session, &Stores::All(session.mirror_listener()))
    }

    /// The same with one store alone: for who writes to it.
    pub(in crate::cli) fn find_alone(&self, session: &Session<'_>) -> Result<Target, CliError> {
        self.find_with(session, &Stores::First)
    }

    fn find_with(&self, session: &Session<'_>, stores: &Stores) -> Result<Target, CliError> {
        let (place, location) = self.place(session)?;
        let asked = self.asked_name(session);
        let name = asked.clone().unwrap_or_else(|| session.config.manifest.name.value.clone());
        let config = &session.config;
        let configured: Option<Location> = match &config.store {
            Some(store) => Some(store.value.parse().map_err(|error| CliError::usage(format!("{error}")))?),
            None => None,
        };
        let by_flag = config.store.as_ref().is_some_and(|store| store.source == Source::Flag("--store"));
        let same = |a: &str, b: &str| known_address(a) == known_address(b);
        // A manifest with a pin of its own, or from a store of its own, is not judged by another chain's store.
        let own = place.store();
        let usable = configured.filter(|configured| match (&own, location.pin) {
            (Some(own), _) => same(own, &configured.url) || by_flag && configured.url != *own,
            (None, Some(_)) => by_flag,
            (None, None) => true,
        });
        let named = match &place {
            Place::Store { .. } => None,
            _ => usable.as_ref().map(|configured| configured.url.as_str()),
        };
        let Located { bytes, address, store } =
            locate(&place, &name, named, &config.open_options(), stores).map_err(super::super::pins::explained)?;
        let pin = location.pin.or(usable.and_then(|configured| configured.pin));
        let opened = open(store, pin, session)?;
        Ok(Target { opened, bytes, address, name: asked })
    }
}

fn open(store: Arc<dyn Store>, pin: Option<trust::Pin>, session: &Session<'_>) -> Result<Opened, CliError> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let location = Location { url: store.url().to_owned(), pin };
    let pin = trust::pin_for(&*store, &location, &trust)?;
    Ok(Opened::with(store, trust, pin, &session.config, session.now))
}

impl Target {
    /// Follows the manifest to its chain.
    pub(in crate::cli) fn follow(&self, expiry: Expiry) -> Result<Followed, ManifestError> {
        let Opened { store, trust, pin, now, .. } = &self.opened;
        let chain = snapkit::chain::Chain::open(&**store, *pin, trust, *now)?;
        follow(&chain, trust, &self.bytes, self.name.as_deref(), expiry, &self.address)
    }
}

/// What every report says of a manifest that was verified.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Summary {
    pub(in crate::cli) name: String,
    pub(in crate::cli) version: u64,
    pub(in crate::cli) manifest: String,
    pub(in crate::cli) chain: String,
    pub(in crate::cli) issued: Timestamp,
    pub(in crate::cli) expires: Timestamp,
    pub(in crate::cli) expires_first: &'static str,
    pub(in crate::cli) remaining_seconds: i64,
    pub(in crate::cli) pins: String,
    pub(in crate::cli) pins_version: u64,
    pub(in crate::cli) head: u64,
    pub(in crate::cli) newest: u64,
    pub(in crate::cli) lag: u64,
    pub(in crate::cli) max_lag: Option<u64>,
    pub(in crate::cli) pinned_snapshot: String,
    pub(in crate::cli) snapshot: String,
    pub(in crate::cli) snapshot_seq: u64,
    pub(in crate::cli) snapshot_id: String,
    pub(in crate::cli) age_seconds: i64,
    pub(in crate::cli) max_age_seconds: i64,
}

impl Summary {
    /// The summary of a manifest that was followed.
    pub(in crate::cli) fn of(followed: &Followed) -> Self {
        let Followed { manifest, pins, newest, snapshot, snapshot_name, freshness } = followed;
        let Manifest { name, version, chain, issued, head, .. } = &manifest.manifest;
        Self {
            name: name.clone(),
            version: *version,
            manifest: manifest.digest.to_string(),
            chain: chain.to_string(),
            issued: *issued,
            expires: freshness.expires,
            expires_first: freshness.expires_first,
            remaining_seconds: freshness.remaining.as_secs(),
            pins: pins.digest.to_string(),
            pins_version: pins.pins.version,
            head: head.seq,
            newest: newest.head.seq,
            lag: freshness.lag,
            max_lag: freshness.max_lag,
            pinned_snapshot: manifest.manifest.snapshot.name.clone(),
            snapshot: snapshot_name.clone(),
            snapshot_seq: snapshot.header.seq,
            snapshot_id: snapshot.digest.to_string(),
            age_seconds: freshness.age.as_secs(),
            max_age_seconds: freshness.max_age.as_secs(),
        }
    }
}
