//! Freshness: whether a verified manifest follows from the one seen before, and whether it still holds.
//!
//! Functions of documents, a time and what the chain shows; nothing is read here and nothing remembered. The order of the
//! steps is the caller's: what is old is called old before anything is called expired.
//! Documented in `docs/format/manifest.md`, "Fresh" and "Verifying". Layer: pure.
//! Source: TUF specification 1.0, sections 5.3.11, 5.4.3, 5.4.4 and 5.6.

use jiff::{SignedDuration, Timestamp};

use crate::document::manifest::{Manifest, VerifiedManifest};
use crate::document::pins::{Pins, VerifiedPins};
use crate::refusal::{Class, Refusal, exit};

/// Refuses a manifest that is older than one that was verified before.
///
/// # Errors
/// [`Class::Rollback`] for a lower version, or a higher one with a lower head; [`Class::Manifest`] for another manifest of
/// the same version.
pub fn check_succession(new: &VerifiedManifest, known: &VerifiedManifest, object: &str) -> Result<(), Refusal> {
    let (new_version, version) = (new.manifest.version, known.manifest.version);
    // TUF 5.4.3.1: the version never falls.
    check_version(object, (new_version, new.digest), (version, known.digest))?;
    // TUF 5.4.3.2, with the head of the chain in the place of the snapshot's version.
    let place = |manifest: &Manifest| (manifest.head.epoch, manifest.head.seq);
    if place(&new.manifest) < place(&known.manifest) {
        let expected = format!("a head of record {} or later, as in version {version}", known.manifest.head.seq);
        let found = format!("record {} in version {new_version}", new.manifest.head.seq);
        return Err(Refusal::new(Class::Rollback, object, expected, found));
    }
    Ok(())
}

/// Refuses pins that are older than those that were verified before.
///
/// # Errors
/// [`Class::Rollback`] for a lower version, [`Class::Manifest`] for other pins of the same version.
pub fn check_pins_succession(new: &VerifiedPins, known: &VerifiedPins, object: &str) -> Result<(), Refusal> {
    // TUF 5.6.4, with pins in the place of targets.
    check_version(object, (new.pins.version, new.digest), (known.pins.version, known.digest))
}

fn check_version<D: PartialEq + std::fmt::Display>(
    object: &str,
    new: (u64, D),
    known: (u64, D),
) -> Result<(), Refusal> {
    if new.0 < known.0 {
        let expected = format!("version {} or later, which was verified before", known.0);
        return Err(Refusal::new(Class::Rollback, object, expected, format!("version {}", new.0)));
    }
    if new.0 == known.0 && new.1 != known.1 {
        let expected = format!("version {} to be {}, which was verified before", known.0, known.1);
        return Err(Refusal::new(Class::Manifest, object, expected, new.1).with_hint(
            "two of one version were signed: ask whoever signs them, and do not use the key until it is known why",
        ));
    }
    Ok(())
}

/// What the world outside of a manifest shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The time that the run judges by.
    pub now: Timestamp,
    /// When the newest root expires.
    pub root_expires: Timestamp,
    /// The slot of the newest record, which extends the manifest's head.
    pub head_seq: u64,
    /// When the newest complete snapshot of the chain was captured.
    pub captured: Timestamp,
}

/// How fresh a manifest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// What expires first: `manifest`, `pins` or `root`.
    pub expires_first: &'static str,
    /// When.
    pub expires: Timestamp,
    /// How long until then; negative afterwards.
    pub remaining: SignedDuration,
    /// Slots of the chain beyond the manifest's head.
    pub lag: u64,
    /// How many there may be.
    pub max_lag: Option<u64>,
    /// The age of the newest complete snapshot.
    pub age: SignedDuration,
    /// How old it may be.
    pub max_age: SignedDuration,
}

/// The answer to whether a manifest is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Fresh,
    /// The chain moved on farther than it allows.
    Lags,
    /// The newest snapshot is older than it allows.
    Old,
    /// It is, and will not be for as long as was asked.
    Expiring,
    /// It is not, because something expired.
    Expired,
}

impl Verdict {
    /// The exit code of a check.
    pub const fn exit_code(self) -> u8 {
        match self {
            Verdict::Fresh => exit::DONE,
            Verdict::Lags => exit::MANIFEST_LAGS,
            Verdict::Old => exit::SNAPSHOT_OLD,
            Verdict::Expiring => exit::MANIFEST_EXPIRING,
            Verdict::Expired => exit::MANIFEST_EXPIRED,
        }
    }

    /// The word for it in reports.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Fresh => "fresh",
            Verdict::Lags => "lags",
            Verdict::Old => "old",
            Verdict::Expiring => "expiring",
            Verdict::Expired => "expired",
        }
    }
}

/// Judges a manifest with its pins.
pub fn judge(manifest: &Manifest, pins: &Pins, facts: &Facts) -> Freshness {
    let (expires, expires_first) =
        [(manifest.expires, "manifest"), (pins.expires, "pins"), (facts.root_expires, "root")]
            .into_iter()
            .min()
            .expect("there are three");
    let seconds = i64::try_from(pins.max_head_age_seconds).unwrap_or(i64::MAX);
    Freshness {
        expires_first,
        expires,
        remaining: expires.duration_since(facts.now),
        lag: facts.head_seq.saturating_sub(manifest.head.seq),
        max_lag: pins.max_head_lag,
        age: facts.now.duration_since(facts.captured).max(SignedDuration::ZERO),
        max_age: SignedDuration::from_secs(seconds),
    }
}

impl Freshness {
    /// Whether it has expired: what expires now has.
    pub fn is_expired(&self) -> bool {
        self.remaining <= SignedDuration::ZERO
    }

    /// Whether the chain moved on too far.
    pub fn lags(&self) -> bool {
        self.max_lag.is_some_and(|max| self.lag > max)
    }

    /// Whether the newest snapshot is too old.
    pub fn is_old(&self) -> bool {
        self.age > self.max_age
    }

    /// The first of what is wrong, the gravest first; `within` is how long it shall last at least.
    pub fn verdict(&self, within: SignedDuration) -> Verdict {
        if self.is_expired() {
            Verdict::Expired
        } else if self.lags() {
            Verdict::Lags
        } else if self.is_old() {
            Verdict::Old
        } else if self.remaining <= within {
            Verdict::Expiring
        } else {
            Verdict::Fresh
        }
    }

    /// Refuses what has expired.
    ///
    /// # Errors
    /// [`Class::Stale`], naming what expired and when.
    pub fn check_expiry(&self, object: &str) -> Result<(), Refusal> {
        if !self.is_expired() {
            return Ok(());
        }
        let expected = format!("the {} to be valid now", self.expires_first);
        Err(Refusal::new(Class::Stale, object, expected, format!("one that expired at {}", self.expires)))
    }

    /// Refuses what is not fresh.
    ///
    /// # Errors
    /// [`Class::Stale`], for what expired, a chain that moved on too far, and a snapshot that is too old.
    pub fn check(&self, object: &str) -> Result<(), Refusal> {
        self.check_expiry(object)?;
        let refuse = |expected: String, found: String, hint: &str| {
            Err(Refusal::new(Class::Stale, object, expected, found).with_hint(hint))
        };
        if self.lags() {
            let expected = format!("the chain to be at most {} slots beyond it", self.max_lag.unwrap_or_default());
            return refuse(expected, self.lag.to_string(), "run `snapkit manifest refresh` where the manifest key is");
        }
        if self.is_old() {
            let expected = format!("a complete snapshot not older than {} s", self.max_age.as_secs());
            return refuse(
                expected,
                format!("{} s", self.age.as_secs()),
                "take a snapshot, or find out why none is taken",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
