//! Planning pins: from the configuration to the next version of the document, ready to be signed.
//!
//! What did not change stays as it was, salts too, so that planning again changes nothing.
//! Layer: files that the configuration names; the rules are those of `manifests`.

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use manifests::document::image::ImagePin;
use manifests::document::needs::{Fingerprint, Needs, Salt, Secret};
use manifests::document::pins::{PinnedFile, PinnedTree, Pins};
use manifests::document::service::{COMPOSE_CAP, RoleArgs, Service};
use manifests::document::{FORMAT, image, pins};
use manifests::refusal::{Class, Refusal};

use super::{ManifestError, Surroundings};
use crate::config::{NeedsConfig, PinsConfig, ServiceConfig, TreeConfig};
use crate::span::{Span, whole_second};
use crate::trust::file;

/// The largest file with an image pin, in bytes: all the layers there may be.
const IMAGE_FILE_CAP: usize = 64 * image::LAYERS_CAP * 2;

/// Pins that were planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The pins; those before where nothing changes.
    pub pins: Pins,
    /// Whether they say anything else than those before.
    pub changed: bool,
}

/// Makes pins of `chain` for manifests called `name`, as the configuration says.
///
/// `before` are the pins at hand, and `floor` is the newest version that was signed; an unsigned draft above that keeps its
/// number. Fingerprints of secrets that are not here are taken from the pins before.
///
/// # Errors
/// [`ManifestError::Read`] for a file that the configuration names; [`ManifestError::Refused`] for what breaks a rule of pins;
/// [`ManifestError::Unfit`] for a secret that would have to be here.
pub fn plan(
    config: &PinsConfig,
    chain: &Digest,
    name: &str,
    before: Option<&Pins>,
    floor: u64,
    now: Timestamp,
    surroundings: &Surroundings<'_>,
) -> Result<Planned, ManifestError> {
    let mut images = config.images.iter().map(|path| read_image(path)).collect::<Result<Vec<_>, _>>()?;
    images.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<String> = images.iter().map(|image| image.name.clone()).collect();
    let mut trees: Vec<PinnedTree> = config.trees.iter().map(tree_of).collect();
    trees.sort_by(|a, b| a.name.cmp(&b.name));
    let now = whole_second(now);
    let lifetime = SignedDuration::from(Span::days(config.lifetime_days));
    let mut lease = config.lease.clone();
    if let Some(lease) = &mut lease {
        lease.members.sort_by(|a, b| a.node.cmp(&b.node));
    }
    let next = Pins {
        format: FORMAT.into(),
        chain: *chain,
        name: name.to_owned(),
        version: floor + 1,
        issued: now,
        expires: now.checked_add(lifetime).unwrap_or(Timestamp::MAX),
        images,
        service: config.service.as_ref().map(|service| service_of(service, names)).transpose()?,
        trees,
        needs: needs_of(&config.needs, before.map(|before| &before.needs), surroundings)?,
        lease,
        max_head_age_seconds: config.max_head_age.seconds(),
        max_head_lag: config.max_head_lag,
        critical: None,
        ext: serde_json::Map::new(),
    };
    next.payload()?;
    match before {
        Some(before) if is_same(before, &next) => Ok(Planned { pins: before.clone(), changed: false }),
        _ => Ok(Planned { pins: next, changed: true }),
    }
}

/// Whether two versions say the same but for number and times.
fn is_same(before: &Pins, next: &Pins) -> bool {
    let Pins { version, issued, expires, .. } = before.clone();
    *before == Pins { version, issued, expires, ext: before.ext.clone(), ..next.clone() }
}

fn read_file(path: &Path, cap: usize) -> Result<Vec<u8>, ManifestError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let read = file::read(path, cap).and_then(|bytes| bytes.ok_or_else(missing));
    read.map_err(|source| ManifestError::Read { path: path.to_owned(), source })
}

fn read_image(path: &Path) -> Result<ImagePin, ManifestError> {
    let bytes = read_file(path, IMAGE_FILE_CAP)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::new(Class::Json, path.display().to_string(), "an image pin as JSON", error)
            .with_hint("pin the image by its digests; a tag alone is no pin")
            .into()
    })
}

fn tree_of(config: &TreeConfig) -> PinnedTree {
    let of = |paths: &[String], policy: &str| -> Vec<PinnedFile> {
        let file = |path: &String| PinnedFile { path: path.clone(), policy: policy.to_owned() };
        paths.iter().map(file).collect()
    };
    let mut files = of(&config.must_match, "must-match");
    files.extend(of(&config.may_advance, "may-advance"));
    files.extend(of(&config.ignore, "ignore"));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let TreeConfig { name, path, activation, .. } = config.clone();
    PinnedTree { name, path, activation, files }
}

fn service_of(config: &ServiceConfig, pinned: Vec<String>) -> Result<Service, ManifestError> {
    let compose = match &config.compose {
        None => None,
        Some(path) => {
            let text = String::from_utf8(read_file(path, COMPOSE_CAP)?);
            Some(text.map_err(|error| ManifestError::Read {
                path: path.clone(),
                source: std::io::Error::new(std::io::ErrorKind::InvalidData, error),
            })?)
        }
    };
    let config = config.clone();
    let role = |role: &str, args: Option<Vec<String>>| args.map(|args| RoleArgs { role: role.to_owned(), args });
    let mut images = config.images.unwrap_or(pinned);
    images.sort();
    let (mut ports, mut exclusive) = (config.ports, config.exclusive);
    ports.sort_by(|a, b| a.name.cmp(&b.name));
    exclusive.sort();
    Ok(Service {
        driver: config.driver,
        argv: config.argv,
        compose,
        unit: config.unit,
        hooks: config.hooks,
        images,
        roles: [role("follower", config.follower_args), role("leader", config.leader_args)]
            .into_iter()
            .flatten()
            .collect(),
        ports,
        user: config.user,
        health: config.health,
        ready: config.ready,
        role: config.role,
        exclusive,
    })
}

fn needs_of(
    config: &NeedsConfig,
    before: Option<&Needs>,
    surroundings: &Surroundings<'_>,
) -> Result<Needs, ManifestError> {
    let mut secrets = Vec::new();
    for secret in &config.secrets {
        let known = before.into_iter().flat_map(|needs| &needs.secrets).find(|known| known.name == secret.name);
        let known = known.and_then(|known| known.fingerprint.clone());
        let fingerprint = match secret.fingerprint {
            false => None,
            true => Some(fingerprint_of(&secret.name, secret.path.as_deref(), known, surroundings)?),
        };
        let from = if secret.path.is_some() { "file" } else { "environment" };
        secrets.push(Secret { name: secret.name.clone(), from: from.into(), path: secret.path.clone(), fingerprint });
    }
    secrets.sort_by(|a, b| a.name.cmp(&b.name));
    let (mut environment, mut capabilities) = (config.environment.clone(), config.capabilities.clone());
    environment.sort();
    capabilities.sort();
    Ok(Needs { environment, secrets, free_bytes: config.free_bytes, capabilities })
}

/// The fingerprint of a secret: the one before if it still fits or the secret is not here, else a new one.
fn fingerprint_of(
    name: &str,
    path: Option<&str>,
    known: Option<Fingerprint>,
    surroundings: &Surroundings<'_>,
) -> Result<Fingerprint, ManifestError> {
    match (surroundings.secret(name, path), known) {
        (Some(bytes), Some(known)) if known.is_of(&bytes) => Ok(known),
        (Some(bytes), _) => {
            let mut salt = [0; 16];
            getrandom::fill(&mut salt).map_err(ManifestError::Random)?;
            Ok(Fingerprint::of(&bytes, Salt(salt)))
        }
        (None, Some(known)) => Ok(known),
        (None, None) => Err(ManifestError::Unfit {
            why: format!("the secret {name} is not here, so its fingerprint cannot be made"),
            next: format!("set it for this one run, or leave out `fingerprint` of {name}"),
        }),
    }
}

/// The limit of a pins file in bytes.
pub(super) const PINS_FILE_CAP: usize = pins::PINS_CAP;
