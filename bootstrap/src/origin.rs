//! Origin: the one string that a node comes from, opened: which stores, which chain, which manifest.
//!
//! Nothing that a store says of itself is believed: roots, manifest, pins and head are followed from the pin in the string,
//! by `snapkit::manifest`. Documented in `docs/bring-up.md`, "What is followed". Layer: opens stores; decides nothing.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use snapkit::chain::{Chain, ChainError};
use snapkit::config::Config;
use snapkit::manifest::{Expiry, Followed, Located, ManifestError, Place, Stores, follow, locate};
use snapkit::store::Store;
use snapkit::store::mirrored::Listener;
use snapkit::trust::{self, Bootstrap, Location, Pin, TrustDir};

/// A manifest that was found, the stores of its chain as copies of one, and the pin by which both are judged.
pub struct Origin {
    /// The string.
    pub from: Bootstrap,
    /// Where the chain is read.
    pub store: Arc<dyn Store>,
    /// What this machine believes.
    pub trust: TrustDir,
    /// What it is judged by.
    pub pin: Pin,
    /// Where the manifest was found, for messages.
    pub address: String,
    bytes: Bytes,
    name: Option<String>,
}

impl Origin {
    /// Finds the manifest that `from` leads to; called `name`, or as the configuration says where the string names a store.
    ///
    /// `listener` is told what is wrong with one copy of the store while another one serves. Nothing is verified yet.
    ///
    /// # Errors
    /// As [`locate`]; [`ManifestError::Trust`] when the trust directory does not allow the pin.
    pub fn open(
        from: &Bootstrap,
        name: Option<&str>,
        config: &Config,
        listener: Listener,
    ) -> Result<Self, ManifestError> {
        let place = Place::of(&from.url);
        let called = name.unwrap_or(&config.manifest.name.value);
        let Located { bytes, address, store } =
            locate(&place, called, None, &config.open_options(), &Stores::All(listener))?;
        let trust = TrustDir::new(&config.home.value, &config.cache.value);
        let location = Location { url: store.url().to_owned(), pin: Some(from.pin) };
        let pin = trust::pin_for(&*store, &location, &trust)?;
        let name = name.map(str::to_owned);
        Ok(Self { from: from.clone(), store, trust, pin, address, bytes, name })
    }

    /// The chain, with its roots followed from the pin.
    ///
    /// # Errors
    /// What a root is refused for; the store cannot be asked.
    pub fn chain(&self, now: Timestamp) -> Result<Chain<'_>, ChainError> {
        Chain::open(&*self.store, self.pin, &self.trust, now)
    }

    /// Follows the manifest to the newest record of `chain`.
    ///
    /// # Errors
    /// As [`follow`].
    pub fn follow(&self, chain: &Chain<'_>, expiry: Expiry) -> Result<Followed, ManifestError> {
        follow(chain, &self.trust, &self.bytes, self.name.as_deref(), expiry, &self.address)
    }
}

/// The string with an address that means the same from every working directory.
///
/// # Errors
/// When the working directory cannot be told.
pub fn absolute(from: &Bootstrap) -> std::io::Result<Bootstrap> {
    if from.url.contains("://") {
        return Ok(from.clone());
    }
    let url = std::path::absolute(&from.url)?.display().to_string();
    Ok(Bootstrap { url, pin: from.pin })
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn a_directory_is_named_so_that_it_is_found_from_everywhere() {
        let pin = format!("#root=sha256:{}", "a".repeat(64));
        let of = |url: &str| absolute(&format!("{url}{pin}").parse().unwrap()).unwrap().url;
        assert_eq!(of("https://a.example/s"), "https://a.example/s");
        assert_eq!(of("/srv/store"), "/srv/store");
        assert!(of("store").starts_with('/') && of("store").ends_with("/store"));
    }
}
