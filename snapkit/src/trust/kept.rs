//! The manifests and pins that were verified here: the marks against older ones.
//!
//! They are kept as they were signed, and verified again whenever they are read: what no longer verifies under the newest
//! root counts as not seen, so a rotation of keys leaves behind what a stolen one signed, and nothing else does.
//! Documented in `docs/trust.md` and `docs/format/manifest.md`. Layer: files.
//! Source: TUF specification 1.0, section 5.3.11.

use std::fs::File;
use std::path::PathBuf;

use manifests::digest::Digest;
use manifests::document::manifest::{MANIFEST_CAP, Manifest, VerifiedManifest};
use manifests::document::pins::{PINS_CAP, Pins, VerifiedPins};
use manifests::document::root::Root;

use super::{TrustDir, TrustError, file};

/// The chain whose manifests are meant, with the newest root that judges them.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// SHA-256 of the payload of the first root.
    pub pin: &'a Digest,
    /// The newest root.
    pub root: &'a Root,
    /// The digest of the genesis payload.
    pub chain: &'a Digest,
}

/// Held while marks are compared and raised, so that two runs do not lower each other's.
#[derive(Debug)]
pub struct MarksLock(#[expect(dead_code, reason = "held until dropped")] File);

impl TrustDir {
    /// The manifest `name` that was verified here, if it still is what the newest root asks for.
    ///
    /// # Errors
    /// [`TrustError::Read`].
    pub fn kept_manifest(&self, judge: &Judge<'_>, name: &str) -> Result<Option<VerifiedManifest>, TrustError> {
        let path = self.manifest_file(judge.pin, name);
        let object = path.display().to_string();
        let bytes = file::read(&path, MANIFEST_CAP).map_err(|source| TrustError::Read { path, source })?;
        let verify = |bytes: Vec<u8>| {
            Manifest::verify(&bytes, judge.root, judge.pin, Some(judge.chain), Some(name), &object).ok()
        };
        Ok(bytes.and_then(verify))
    }

    /// The pins for manifests `name` that were verified here, if they still are what the newest root asks for.
    ///
    /// # Errors
    /// [`TrustError::Read`].
    pub fn kept_pins(&self, judge: &Judge<'_>, name: &str) -> Result<Option<VerifiedPins>, TrustError> {
        let path = self.pins_file(judge.pin, name);
        let object = path.display().to_string();
        let bytes = file::read(&path, PINS_CAP).map_err(|source| TrustError::Read { path, source })?;
        Ok(bytes.and_then(|bytes| Pins::verify(&bytes, judge.root, judge.chain, Some(name), &object).ok()))
    }

    /// Keeps other runs from raising the marks of manifest `name` until it is dropped.
    ///
    /// # Errors
    /// [`TrustError::Write`].
    pub(crate) fn lock_marks(&self, pin: &Digest, name: &str) -> Result<MarksLock, TrustError> {
        self.lock(&self.manifest_file(pin, name)).map(MarksLock)
    }

    /// Keeps a manifest and its pins, which were verified and follow from what was kept before.
    ///
    /// # Errors
    /// [`TrustError::Write`]; each of the two is the old or the new one then.
    pub(crate) fn keep_manifest(
        &self,
        _lock: &MarksLock,
        pin: &Digest,
        name: &str,
        manifest: &[u8],
        pins: &[u8],
    ) -> Result<(), TrustError> {
        // Pins first: a manifest that is kept without them would let older pins pass with a newer manifest.
        for (path, bytes) in [(self.pins_file(pin, name), pins), (self.manifest_file(pin, name), manifest)] {
            let same = matches!(file::read(&path, MANIFEST_CAP), Ok(Some(old)) if old == bytes);
            if !same {
                file::write(&path, bytes).map_err(|source| TrustError::Write { path, source })?;
            }
        }
        Ok(())
    }

    fn manifest_file(&self, pin: &Digest, name: &str) -> PathBuf {
        self.of(pin).join("manifests").join(format!("{name}.json"))
    }

    fn pins_file(&self, pin: &Digest, name: &str) -> PathBuf {
        self.of(pin).join("pins").join(format!("{name}.json"))
    }
}
