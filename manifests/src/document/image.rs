//! The image pin: which container image a node may run, whatever its name points to today.
//!
//! A tag names another image tomorrow, and a manifest digest changes when an image is saved and loaded, so the config
//! digest with the diff ids is what decides; index and manifest digest say where to get it. A value inside of pins.
//! Documented in `docs/format/pins.md`, "Images". Layer: pure.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The most images one pins document names.
pub const IMAGES_CAP: usize = 64;
/// The most layers one image has.
pub const LAYERS_CAP: usize = 256;
/// The longest reference in bytes.
pub const REFERENCE_CAP: usize = 512;

/// One image for one platform. All digests are SHA-256, written without a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagePin {
    /// How the service calls it: 1 to 64 of `[a-z0-9._-]`, the first a letter or digit.
    pub name: String,
    /// Where it was found, such as `registry.example/app:prod`. For people and for fetching; it proves nothing.
    pub reference: String,
    /// `os/architecture` or `os/architecture/variant`, as OCI names them.
    pub platform: String,
    /// The digest of the index through which the manifest was found, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<Digest>,
    /// The digest of the manifest in the registry; absent for an image that is in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// The digest of the image's config.
    pub config: Digest,
    /// The digests of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// The record of the chain that holds the image's archive, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveRecord>,
}

/// The record of an image archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveRecord {
    /// The number of its slot.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
}

impl ImagePin {
    /// Whether a machine without this image can get it: from a registry or from the store.
    pub fn can_be_fetched(&self) -> bool {
        self.manifest.is_some() || self.archive.is_some()
    }

    /// Applies the rules for one pin; `object` names what it stands in.
    ///
    /// # Errors
    /// [`Class::Manifest`] for what breaks one, [`Class::TooMany`] for too many layers.
    pub fn check(&self, object: &str) -> Result<(), Refusal> {
        let refuse = |expected: String, found: String| Err(Refusal::new(Class::Manifest, object, expected, found));
        if !super::is_name(&self.name) {
            return refuse("an image name of 1 to 64 of [a-z0-9._-]".into(), excerpt(&self.name));
        }
        let name = &self.name;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if self.reference.is_empty() || self.reference.len() > REFERENCE_CAP || !plain(&self.reference) {
            let expected = format!("a reference of image {name} of 1 to {REFERENCE_CAP} graphic ASCII bytes");
            return refuse(expected, excerpt(&self.reference));
        }
        if !is_platform(&self.platform) {
            let expected = format!("a platform of image {name} such as linux/amd64 or linux/arm/v7");
            return refuse(expected, excerpt(&self.platform));
        }
        if self.index.is_some() && self.manifest.is_none() {
            return refuse(format!("the manifest that the index of image {name} led to"), "an index alone".into());
        }
        if self.diff_ids.len() > LAYERS_CAP {
            let expected = format!("at most {LAYERS_CAP} layers in image {name}");
            return Err(Refusal::new(Class::TooMany, object, expected, self.diff_ids.len()));
        }
        if self.diff_ids.is_empty() {
            return refuse(format!("at least one diff id of image {name}"), "none".into());
        }
        Ok(())
    }
}

/// Whether the text names a platform: two or three parts of `[a-z0-9._-]`.
pub fn is_platform(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    (2..=3).contains(&parts.len()) && parts.iter().all(|part| part.len() <= 32 && super::is_name(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_two_or_three_plain_parts() {
        for platform in ["linux/amd64", "linux/arm/v7", "linux/arm64/v8", "windows/amd64"] {
            assert!(is_platform(platform), "{platform}");
        }
        for other in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "Linux/amd64", "linux/amd 64", "linux/.."] {
            assert!(!is_platform(other), "{other}");
        }
    }
}
