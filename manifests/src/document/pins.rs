//! Pins: what nodes may run, signed by the role `release`, whose key no node has.
//!
//! They are embedded in manifests, so the key that keeps manifests fresh changes neither an image nor an argument.
//! Documented in `docs/format/pins.md`. Layer: pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::image::{IMAGES_CAP, ImagePin};
use super::needs::Needs;
use super::root::Root;
use super::service::Service;
use super::snapshot::TREES_CAP;
use super::{check_critical, check_growth, is_name, time};
use crate::digest::Digest;
use crate::envelope::{self, Nested};
use crate::json::Tree;
use crate::keys::{KeyId, excerpt};
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.pins+json";
/// The largest pins with their signatures, in bytes.
pub const PINS_CAP: usize = 256 * 1024;
/// The longest list where no other limit is given.
pub const LIST_CAP: usize = 64;
/// The longest text in bytes.
pub const TEXT_CAP: usize = 4096;
/// The most load-bearing files of one tree.
pub const FILES_CAP: usize = 1024;

/// What nodes may run: pins as they are written; [`VerifiedPins`] were verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Always [`super::FORMAT`].
    pub format: String,
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// The name of the manifests that may embed them.
    pub name: String,
    /// 1, 2, 3, …
    pub version: u64,
    /// When they were made.
    #[serde(with = "time")]
    pub issued: Timestamp,
    /// From when on they are refused.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// The images, by ascending name.
    pub images: Vec<ImagePin>,
    /// How the service is started; absent where only data is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The trees, by ascending name.
    pub trees: Vec<PinnedTree>,
    /// What must be there first.
    pub needs: Needs,
    /// Who may lead; absent where nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// How old the newest complete snapshot may be.
    pub max_head_age_seconds: u64,
    /// How many slots the chain may have beyond the head of the manifest; absent for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_head_lag: Option<u64>,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// A tree, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedTree {
    /// Its name in the snapshots.
    pub name: String,
    /// Where the service expects it: an absolute path.
    pub path: String,
    /// One of [`ACTIVATIONS`].
    pub activation: String,
    /// Load-bearing files, by ascending path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PinnedFile>,
}

/// How a tree becomes the active one.
pub const ACTIVATIONS: &[&str] = &["current", "fixed"];

/// A load-bearing file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedFile {
    /// Its path within the tree.
    pub path: String,
    /// One of [`POLICIES`].
    pub policy: String,
}

/// What a load-bearing file on a node must be, compared with its snapshot.
pub const POLICIES: &[&str] = &["must-match", "may-advance", "ignore"];

/// Who may lead, and how that is decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// `static` or `auto`.
    pub mode: String,
    /// `store` or `etcd`.
    pub back_end: String,
    /// The address of the lease's store, if it is not that of the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The name of the group.
    pub group: String,
    /// How long a claim holds.
    pub ttl_seconds: u64,
    /// Who may claim it, by ascending node.
    pub members: Vec<Member>,
}

/// A node of a lease group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub node: String,
    /// Its key, which the root lists for the role `node`.
    pub key: KeyId,
}

/// Pins that were verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedPins {
    /// What they say.
    pub pins: Pins,
    /// SHA-256 of the payload.
    pub digest: Digest,
}

impl Pins {
    /// The payload bytes, to be signed as [`PAYLOAD_TYPE`]. Equal pins give equal bytes.
    ///
    /// # Errors
    /// What a reader would refuse.
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        let bytes = serde_json::to_vec(self).expect("pins always encode");
        Pins::parse(&bytes, envelope::payload_cap(PINS_CAP), "new pins")?;
        Ok(bytes)
    }

    /// Reads pins of which no signature was checked: a draft, to be shown or signed.
    ///
    /// # Errors
    /// What breaks a rule of the format.
    pub fn of_draft(draft: &Nested, object: &str) -> Result<Pins, Refusal> {
        let (payload_type, payload) = draft.unverified(object)?;
        if payload_type != PAYLOAD_TYPE {
            return Err(Refusal::new(Class::Type, object, PAYLOAD_TYPE, excerpt(&payload_type)));
        }
        Pins::parse(&payload, PINS_CAP, object)
    }

    /// Verifies pins of the chain for manifests called `name`. Their expiry and version are judged by the caller.
    ///
    /// # Errors
    /// Those of [`envelope::verify`] for the role `release`; what breaks a rule of the format; [`Class::Origin`] for pins
    /// of another chain or name.
    pub fn verify(
        bytes: &[u8],
        root: &Root,
        chain: &Digest,
        name: Option<&str>,
        object: &str,
    ) -> Result<VerifiedPins, Refusal> {
        let verified = envelope::verify(bytes, PINS_CAP, &[PAYLOAD_TYPE], &root.signers("release"), object)?;
        let pins = Pins::parse(verified.payload(), PINS_CAP, object)?;
        if pins.chain != *chain {
            return Err(Refusal::new(Class::Origin, object, format!("pins of chain {chain}"), pins.chain));
        }
        match name {
            Some(name) if pins.name != name => {
                Err(Refusal::new(Class::Origin, object, format!("pins for manifests named {name}"), pins.name))
            }
            _ => Ok(VerifiedPins { pins, digest: verified.digest() }),
        }
    }

    /// Applies every rule of the format that needs no signature to payload bytes.
    fn parse(payload: &[u8], cap: usize, object: &str) -> Result<Pins, Refusal> {
        let tree = Tree::read(payload, cap, object)?;
        check_growth(&tree, object)?;
        let pins: Pins = tree.into_typed(object)?;
        check_critical(&pins.critical, object)?;
        pins.check(object)?;
        Ok(pins)
    }

    fn check(&self, object: &str) -> Result<(), Refusal> {
        let rule = |expected: &str, found: String| Err(Refusal::new(Class::Manifest, object, expected, found));
        if !is_name(&self.name) {
            return rule("a name of 1 to 64 of [a-z0-9._-]", excerpt(&self.name));
        }
        if self.version == 0 {
            return rule("a version of 1 or more", "0".into());
        }
        if self.expires <= self.issued {
            return rule("an expiry after the issue", format!("{} and {}", self.expires, self.issued));
        }
        if self.max_head_age_seconds == 0 {
            return rule("`max_head_age_seconds` above 0", "0".into());
        }
        if self.images.len() > IMAGES_CAP {
            return Err(Refusal::new(Class::TooMany, object, "at most 64 images", self.images.len()));
        }
        self.images.iter().try_for_each(|image| image.check(object))?;
        let images: Vec<&str> = self.images.iter().map(|image| image.name.as_str()).collect();
        sorted_names("images", images.iter().copied(), is_name, object)?;
        if let Some(service) = &self.service {
            service.check(&images, object)?;
        }
        self.check_trees(object)?;
        self.needs.check(object)?;
        self.lease.as_ref().map_or(Ok(()), |lease| lease.check(object))
    }

    fn check_trees(&self, object: &str) -> Result<(), Refusal> {
        let rule = |expected: &str, found: &str| Err(Refusal::new(Class::Manifest, object, expected, excerpt(found)));
        if self.trees.len() > TREES_CAP {
            return Err(Refusal::new(Class::TooMany, object, "at most 64 trees", self.trees.len()));
        }
        if self.trees.is_empty() {
            return rule("1 to 64 trees", "none");
        }
        sorted_names("trees", self.trees.iter().map(|tree| tree.name.as_str()), is_name, object)?;
        for tree in &self.trees {
            if !tree.path.starts_with('/') || !is_text(&tree.path, TEXT_CAP) {
                return rule("an absolute path of a tree", &tree.path);
            }
            if !ACTIVATIONS.contains(&tree.activation.as_str()) {
                let expected = "the activation `current` or `fixed`";
                return Err(Refusal::new(Class::Newer, object, expected, excerpt(&tree.activation)));
            }
            if tree.files.len() > FILES_CAP {
                return Err(Refusal::new(Class::TooMany, object, "at most 1024 files of a tree", tree.files.len()));
            }
            if let Some(file) = tree.files.iter().find(|file| !is_path_within(&file.path)) {
                return rule("a path within the tree, without `.`, `..` and empty parts", &file.path);
            }
            if !tree.files.is_sorted_by(|a, b| a.path < b.path) {
                return rule("files by ascending path, each once", "another order");
            }
            if let Some(file) = tree.files.iter().find(|file| !POLICIES.contains(&file.policy.as_str())) {
                let expected = "the policy `must-match`, `may-advance` or `ignore`";
                return Err(Refusal::new(Class::Newer, object, expected, excerpt(&file.policy)));
            }
        }
        Ok(())
    }
}

impl Lease {
    fn check(&self, object: &str) -> Result<(), Refusal> {
        let rule = |expected: &str, found: &str| Err(Refusal::new(Class::Manifest, object, expected, excerpt(found)));
        for (field, value, known) in
            [("mode", &self.mode, ["static", "auto"]), ("back_end", &self.back_end, ["store", "etcd"])]
        {
            if !known.contains(&value.as_str()) {
                let expected = format!("`lease.{field}` to be {}", known.join(" or "));
                return Err(Refusal::new(Class::Newer, object, expected, excerpt(value)));
            }
        }
        if !is_name(&self.group) {
            return rule("a lease group of 1 to 64 of [a-z0-9._-]", &self.group);
        }
        if let Some(store) = self.store.as_ref().filter(|store| !is_text(store, TEXT_CAP)) {
            return rule("an address of the lease's store", store);
        }
        if !(5..=86400).contains(&self.ttl_seconds) {
            return rule("`lease.ttl_seconds` from 5 to 86400", &self.ttl_seconds.to_string());
        }
        if self.members.is_empty() {
            return rule("1 to 64 members of the lease", "none");
        }
        let is_node = |node: &str| is_text(node, 255);
        sorted_names("lease.members", self.members.iter().map(|member| member.node.as_str()), is_node, object)
    }
}

/// Whether `text` has 1 to `cap` bytes without control characters.
pub(super) fn is_text(text: &str, cap: usize) -> bool {
    !text.is_empty() && text.len() <= cap && !text.chars().any(char::is_control)
}

/// Whether `text` is a path that stays within a tree.
fn is_path_within(text: &str) -> bool {
    is_text(text, TEXT_CAP) && text.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// At most [`LIST_CAP`] names, strictly ascending, each of the right form.
pub(super) fn sorted_names<'a>(
    field: &str,
    names: impl ExactSizeIterator<Item = &'a str> + Clone,
    is_good: impl Fn(&str) -> bool,
    object: &str,
) -> Result<(), Refusal> {
    if names.len() > LIST_CAP {
        return Err(Refusal::new(Class::TooMany, object, format!("at most {LIST_CAP} in `{field}`"), names.len()));
    }
    if let Some(name) = names.clone().find(|name| !is_good(name)) {
        return Err(Refusal::new(Class::Manifest, object, format!("names that `{field}` may have"), excerpt(name)));
    }
    if !names.is_sorted_by(|a, b| a < b) {
        return Err(Refusal::new(Class::Manifest, object, format!("`{field}` ascending, each once"), "another order"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::is_path_within;

    #[test]
    fn a_load_bearing_path_stays_within_its_tree() {
        assert!(["a", "etc/app.conf", "a b/ä", "...", ".env"].into_iter().all(is_path_within));
        assert!(!["", "/a", "a/", "a//b", ".", "a/../b", "..", "a\nb"].into_iter().any(is_path_within));
    }
}
