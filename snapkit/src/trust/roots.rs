//! From a pin to the newest verified root.
//!
//! Layer: reads `root/<n>.json` of a store and the trust directory, which keeps each step.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::root::{ROOT_CAP, Root, STEPS_CAP};
use manifests::refusal::{Class, Refusal};

use super::{Location, Pin, TrustDir, TrustError, clock};
use crate::store::{Store, StoreError};

/// How long following new roots may take: a store that is just fast enough with each must not hold a run for hours.
const STEPS_TIME: Duration = Duration::from_secs(600);

/// The pin for a store: the one it was named with, or the one in the trust directory.
///
/// # Errors
/// [`Class::NoPin`] without either, with the digest that the store claims, to be compared; [`Class::RootPin`] if both
/// exist and differ.
pub fn pin_for(store: &dyn Store, location: &Location, trust: &TrustDir) -> Result<Pin, TrustError> {
    let known = trust.pinned(store.url())?;
    match (location.pin, known) {
        (Some(given), Some(known)) if given.root != known => Err(Refusal::new(
            Class::RootPin,
            store.url(),
            format!("the root pinned in the trust directory, sha256:{known}"),
            format!("the pin sha256:{}", given.root),
        )
        .with_hint("check the pin; if the store was made anew, use another address for it")
        .into()),
        (Some(given), _) => Ok(given),
        (None, Some(root)) => Ok(Pin { root, min: None }),
        (None, None) => Err(no_pin(store)),
    }
}

/// The refusal of a store without a pin. What the store says of itself is shown and not believed.
fn no_pin(store: &dyn Store) -> TrustError {
    let url = store.url();
    let refuse = |found: String| Refusal::new(Class::NoPin, url, "a pin for this store", found);
    match claimed_root(store) {
        Ok(Some(root)) => refuse(format!("none; the store claims root sha256:{root}"))
            .with_hint(format!(
                "compare the digest with what the owner of the store gave you; if it is the same, run \
                 `snapkit trust add '{url}#root=sha256:{root}'`"
            ))
            .into(),
        Ok(None) => refuse("none, and no store either".into())
            .with_hint(format!("check the address, or make a store with `snapkit init '{url}'`"))
            .into(),
        Err(error) => error,
    }
}

/// The digest that `root/1.json` claims, or nothing when there is none.
///
/// # Errors
/// [`TrustError::Refused`] for what is no root at all.
pub fn claimed_root(store: &dyn Store) -> Result<Option<Digest>, TrustError> {
    let Some(bytes) = fetch(store, 1)? else {
        return Ok(None);
    };
    // No root has this digest, so the refusal names the one that is there.
    match Root::parse_first(&bytes, &Digest([0; 32])) {
        Ok(root) => Ok(Some(root.digest())),
        Err(refusal) if refusal.class() == Class::RootPin => {
            let claimed = refusal.found().strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
            Ok(Some(claimed.ok_or(refusal)?))
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// The roots of a store, as far as they are verified.
#[derive(Debug)]
pub struct Roots {
    /// The newest.
    pub root: Root,
    /// The first as the store gave it, while the trust directory does not have it.
    pub first: Option<Bytes>,
    /// Why the newest is not to be used, if it has expired.
    pub expired: Option<Refusal>,
}

/// The newest root that follows from the pin, step by step; each step is kept in the trust directory.
///
/// The first root is not kept here: a pin that was only named, for a store that is refused in the end, leaves no
/// trace. One request when nothing changed.
///
/// # Errors
/// What [`Root::parse_first`] and [`Root::parse_next`] refuse; [`Class::Missing`] without a first root;
/// [`Class::TooMany`] after 256 steps; [`Class::Slow`] when they take too long; [`Class::Clock`] as in
/// [`clock::judged`]; [`Class::Stale`] if the newest has expired.
pub fn newest_root(store: &dyn Store, pin: &Digest, trust: &TrustDir, now: Timestamp) -> Result<Roots, TrustError> {
    let roots = newest_root_even_expired(store, pin, trust, now)?;
    match roots.expired {
        Some(refusal) => Err(refusal.into()),
        None => Ok(roots),
    }
}

/// As [`newest_root`], but says of an expired root that it is one, for who has a reason to use it all the same.
///
/// # Errors
/// As [`newest_root`], except for [`Class::Stale`].
pub fn newest_root_even_expired(
    store: &dyn Store,
    pin: &Digest,
    trust: &TrustDir,
    now: Timestamp,
) -> Result<Roots, TrustError> {
    let mut roots = newest_root_of_any_age(store, pin, trust)?;
    let latest = clock::judged(now, trust.mark(pin)?.as_ref(), &roots.root)?;
    roots.expired = roots.root.check_expiry(latest).err();
    Ok(roots)
}

/// As [`newest_root`], expired or not, which is not asked: for whoever makes the next one.
///
/// # Errors
/// As [`newest_root`], except [`Class::Stale`] and [`Class::Clock`].
pub fn newest_root_of_any_age(store: &dyn Store, pin: &Digest, trust: &TrustDir) -> Result<Roots, TrustError> {
    let started = Instant::now();
    let (mut root, first) = first_root(store, pin, trust)?;
    let mut steps: u32 = 0;
    loop {
        let version = root.version() + 1;
        if let Some(bytes) = trust.read_root(pin, version)? {
            root = root.parse_next(&bytes).map_err(|refusal| kept(refusal, trust, pin, version))?;
            continue;
        }
        let Some(bytes) = fetch(store, version)? else {
            break;
        };
        steps += 1;
        if steps > STEPS_CAP {
            let expected = format!("at most {STEPS_CAP} new roots in one run");
            return Err(Refusal::new(Class::TooMany, key(version), expected, "more").into());
        }
        if started.elapsed() > STEPS_TIME {
            let expected = format!("all new roots within {} s", STEPS_TIME.as_secs());
            return Err(Refusal::new(Class::Slow, key(version), expected, "more to come").into());
        }
        let (bytes, next) = judged(store, version, bytes, |bytes| root.parse_next(bytes))?;
        root = next;
        trust.keep_root(pin, version, &bytes)?;
    }
    Ok(Roots { root, first, expired: None })
}

/// The newest root under `pin` that is kept in the trust directory, without asking any store.
///
/// # Errors
/// [`Class::NoPin`] when none is kept; [`Class::Clock`] as in [`clock::judged`]; [`Class::Stale`] if the newest has expired.
pub fn known_root(pin: &Digest, trust: &TrustDir, now: Timestamp) -> Result<Root, TrustError> {
    let Some(bytes) = trust.read_root(pin, 1)? else {
        let refusal = Refusal::new(Class::NoPin, format!("root sha256:{pin}"), "a root that was verified here", "none");
        return Err(refusal
            .with_hint("run `snapkit trust add URL#root=sha256:DIGEST` once, where the store can be reached")
            .into());
    };
    let mut root = Root::parse_first(&bytes, pin).map_err(|refusal| kept(refusal, trust, pin, 1))?;
    while let Some(bytes) = trust.read_root(pin, root.version() + 1)? {
        let version = root.version() + 1;
        root = root.parse_next(&bytes).map_err(|refusal| kept(refusal, trust, pin, version))?;
    }
    root.check_expiry(clock::judged(now, trust.mark(pin)?.as_ref(), &root)?)?;
    Ok(root)
}

fn first_root(store: &dyn Store, pin: &Digest, trust: &TrustDir) -> Result<(Root, Option<Bytes>), TrustError> {
    if let Some(bytes) = trust.read_root(pin, 1)? {
        let root = Root::parse_first(&bytes, pin).map_err(|refusal| kept(refusal, trust, pin, 1))?;
        return Ok((root, None));
    }
    let Some(bytes) = fetch(store, 1)? else {
        let expected = format!("the root sha256:{pin}");
        return Err(Refusal::new(Class::Missing, key(1), expected, format!("no such object in {}", store.url()))
            .with_hint("check the address of the store")
            .into());
    };
    let (bytes, root) = judged(store, 1, bytes, |bytes| Root::parse_first(bytes, pin))?;
    Ok((root, Some(bytes)))
}

/// A root as `judge` reads it, from another copy of the store where it refuses the first.
fn judged(
    store: &dyn Store,
    version: u64,
    bytes: Bytes,
    judge: impl Fn(&[u8]) -> Result<Root, Refusal>,
) -> Result<(Bytes, Root), Refusal> {
    let refusal = match judge(&bytes) {
        Ok(root) => return Ok((bytes, root)),
        Err(refusal) => refusal,
    };
    match store.another(&key(version), ROOT_CAP as u64, &mut |other| judge(other).is_ok()) {
        Some(better) => judge(&better).map(|root| (better, root)),
        None => Err(refusal),
    }
}

/// A root that was verified before it was kept and no longer is: the file was damaged.
fn kept(refusal: Refusal, trust: &TrustDir, pin: &Digest, version: u64) -> TrustError {
    TrustError::Damaged { path: trust.root_file(pin, version), why: refusal.to_string() }
}

fn key(version: u64) -> String {
    format!("root/{version}.json")
}

fn fetch(store: &dyn Store, version: u64) -> Result<Option<Bytes>, TrustError> {
    match store.get(&key(version), ROOT_CAP as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(StoreError::TooBig { key, cap_bytes, .. }) => {
            Err(Refusal::new(Class::TooBig, key, format!("at most {cap_bytes} bytes"), "more").into())
        }
        Err(error) => Err(TrustError::Store(error)),
    }
}
