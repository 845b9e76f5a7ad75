//! The client workflow: from a manifest that was found to one that is believed.
//!
//! Each step is that of `docs/format/manifest.md`, "Verifying", which maps the client workflow of TUF to root, manifest,
//! pins and chain. The roots were followed before ([`Chain::open`]); every mark rises after the last check and before any
//! data is asked for. Layer: joins `trust`, `chain` and `manifests`.

use jiff::Timestamp;
use manifests::document::manifest::{Manifest, RecordPlace, SnapshotName, VerifiedManifest};
use manifests::document::pins::VerifiedPins;
use manifests::document::record::{Body, Record};
use manifests::freshness::{self, Facts, Freshness};
use manifests::refusal::{Class, Refusal};

use super::ManifestError;
use crate::chain::{Chain, Holds, LastComplete, Newest, record_name};
use crate::trust::{Judge, TrustDir};

/// What expired documents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// They are refused, and so is whatever else is not fresh.
    RefuseStale,
    /// They are refused.
    Refuse,
    /// They are verified all the same, to be judged or renewed, and never kept as marks.
    Tell,
}

/// A manifest that is believed, with what the chain shows.
pub struct Followed {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// Its pins.
    pub pins: VerifiedPins,
    /// The newest record of the chain.
    pub newest: Newest,
    /// The newest complete snapshot of the chain.
    pub snapshot: Record,
    /// Its name for people.
    pub snapshot_name: String,
    /// How fresh the manifest is.
    pub freshness: Freshness,
}

/// Follows a manifest from its bytes to the chain, and keeps it as the mark when all of it holds.
///
/// `name` is compared where one was asked for; `object` names the manifest in messages.
///
/// # Errors
/// [`ManifestError::Refused`] with the class that the page names for the step; what the chain is refused for.
pub fn follow(
    chain: &Chain<'_>,
    trust: &TrustDir,
    bytes: &[u8],
    name: Option<&str>,
    expiry: Expiry,
    object: &str,
) -> Result<Followed, ManifestError> {
    let judge = Judge { pin: &chain.pin().root, root: chain.root(), chain: &chain.id() };
    // Step 2 (TUF 5.4.2): signatures, type, fields, rules, origin.
    let manifest = Manifest::verify(bytes, judge.root, judge.pin, Some(judge.chain), name, object)
        .map_err(|refusal| chain.refused(refusal))?;
    // Steps 3 and 4 (TUF 5.3.11, 5.4.3, 5.6): what was verified before.
    let pins = checked_pins(trust, &judge, &manifest, object)?;
    // Step 5 (TUF 5.4.4, 5.6.6), with the root's expiry judged when it was opened.
    let now = latest(trust, chain)?;
    let facts = Facts { now, root_expires: judge.root.document().expires, head_seq: 0, captured: now };
    let expired = freshness::judge(&manifest.manifest, &pins.pins, &facts).check_expiry(object);
    if expiry != Expiry::Tell {
        expired.clone()?;
    }
    // Step 6 (TUF 5.5): the chain holds what the manifest names.
    let newest = chain.look()?;
    check_held(chain, &newest, &manifest.manifest.head, object)?;
    let named = check_held(chain, &newest, &manifest.manifest.snapshot.place(), object)?;
    check_snapshot(chain, named, &manifest.manifest.snapshot, object)?;
    let (snapshot, facts) = newest_facts(chain, trust, &newest)?;
    let snapshot_name = record_name(&snapshot).unwrap_or_default();
    let freshness = freshness::judge(&manifest.manifest, &pins.pins, &facts);
    if expiry == Expiry::RefuseStale {
        // Step 7: a refusal leaves the marks as they are.
        freshness.check(object)?;
    }
    if expired.is_ok() {
        // Step 8 (TUF 5.4.5): all marks rise together, compared once more while no other run can raise them.
        chain.remember(&newest)?;
        let own = &manifest.manifest.name;
        let lock = trust.lock_marks(judge.pin, own)?;
        checked_pins(trust, &judge, &manifest, object)?;
        trust.keep_manifest(&lock, judge.pin, own, bytes, &manifest.manifest.pins.to_bytes())?;
    }
    Ok(Followed { manifest, pins, newest, snapshot, snapshot_name, freshness })
}

/// The pins of a manifest, after both were compared with what was verified here before.
fn checked_pins(
    trust: &TrustDir,
    judge: &Judge<'_>,
    manifest: &VerifiedManifest,
    object: &str,
) -> Result<VerifiedPins, ManifestError> {
    let name = &manifest.manifest.name;
    if let Some(known) = trust.kept_manifest(judge, name)? {
        freshness::check_succession(manifest, &known, object)?;
    }
    let pins = manifest.pins(judge.root, object)?;
    if let Some(known) = trust.kept_pins(judge, name)? {
        freshness::check_pins_succession(&pins, &known, &format!("pins in {object}"))?;
    }
    Ok(pins)
}

/// The time that expiry is judged by: that of the run, or the latest that was stored.
fn latest(trust: &TrustDir, chain: &Chain<'_>) -> Result<Timestamp, ManifestError> {
    Ok(trust.mark(&chain.pin().root)?.map_or(chain.now(), |mark| mark.time.max(chain.now())))
}

/// Refuses a manifest that names a record which the chain does not hold. Gives the place for the next step.
fn check_held(
    chain: &Chain<'_>,
    newest: &Newest,
    place: &RecordPlace,
    object: &str,
) -> Result<RecordPlace, ManifestError> {
    let RecordPlace { seq, digest, .. } = *place;
    let refuse = |class, found: String| {
        let expected = format!("a chain that holds record {seq}, {digest}, as the manifest says");
        Err(Refusal::new(class, object, expected, found).into())
    };
    match chain.holds(newest, seq, &digest)? {
        Holds::Yes => Ok(*place),
        Holds::EndsBefore => refuse(Class::Rollback, format!("one that ends with record {}", newest.head.seq)),
        Holds::Another(Some(other)) => refuse(Class::Mix, format!("another record there, {other}")),
        Holds::Another(None) => refuse(Class::Mix, "no record there".into()),
    }
}

/// Refuses a manifest that says of its snapshot what the record does not.
fn check_snapshot(
    chain: &Chain<'_>,
    place: RecordPlace,
    named: &SnapshotName,
    object: &str,
) -> Result<(), ManifestError> {
    let record = chain.record(place.seq)?;
    let name = record_name(&record).unwrap_or_default();
    let complete = matches!(&record.body, Body::Snapshot(snapshot) if snapshot.public.complete);
    if record.digest == place.digest && complete && SnapshotName::of(&record, &name).as_ref() == Some(named) {
        return Ok(());
    }
    let expected = format!("what record {} says of its complete snapshot", place.seq);
    Err(Refusal::new(Class::Manifest, object, expected, "something else").into())
}

/// The complete snapshot that counts as the latest under `newest`, and what a manifest is judged by.
///
/// # Errors
/// [`ManifestError::Unfit`] for a chain without a complete snapshot.
pub fn newest_facts(chain: &Chain<'_>, trust: &TrustDir, newest: &Newest) -> Result<(Record, Facts), ManifestError> {
    let Some(LastComplete { record, captured, .. }) = chain.last_complete(newest)? else {
        let why = "the chain has no complete snapshot".to_owned();
        return Err(ManifestError::Unfit { why, next: "take one with `snapkit snapshot`".into() });
    };
    let facts = Facts {
        now: latest(trust, chain)?,
        root_expires: chain.root().document().expires,
        head_seq: newest.head.seq,
        captured,
    };
    Ok((record, facts))
}
