//! Issuing a manifest: a promise is signed only after everything it says was looked at.
//!
//! The head is looked up twice, before and after all checks; a manifest is made for the head of the second look. The newest
//! snapshot must be complete and whole, every load-bearing file must be in it, and every image must be to be had, unless
//! a reason is given, which then stands in the manifest. Documented in `docs/manifest.md`. Layer: joins `chain`, `browse` and
//! `manifests`.

use jiff::SignedDuration;
use manifests::document::manifest::{Accepted, Manifest, PAYLOAD_TYPE, SnapshotName, VerifiedManifest};
use manifests::document::pins::{Pins, VerifiedPins};
use manifests::document::record::{Body, Record};
use manifests::document::snapshot::Snapshot;
use manifests::envelope::{self, Nested};
use manifests::freshness;
use manifests::keys::Signer;

use super::plan::PINS_FILE_CAP;
use super::{ManifestError, newest_facts, version_key};
use crate::browse;
use crate::chain::{Chain, Holds, Newest, record_name};
use crate::entry::{OwnerNames, PackSet, join};
use crate::fetch::Fetcher;
use crate::span::{Said, Span, whole_second};
use crate::trust::{Judge, TrustDir};

/// How often the head may move on while a manifest is made.
const ATTEMPTS: u32 = 5;
/// The most versions that are found taken by what is no manifest.
const TAKEN_CAP: u64 = 64;

/// What a manifest is to say beside what the chain shows.
#[derive(Debug, Clone)]
pub struct Order {
    /// The pins, verified.
    pub pins: VerifiedPins,
    /// Their envelope.
    pub pins_bytes: Vec<u8>,
    /// The stores it names.
    pub stores: Vec<String>,
    /// How long it holds.
    pub lifetime: Span,
    /// What is let pass, and why.
    pub accepted: Vec<Accepted>,
    /// No version up to this one is made.
    pub above: u64,
}

/// A manifest that was signed.
#[derive(Debug)]
pub struct Issued {
    /// The manifest.
    pub manifest: VerifiedManifest,
    /// Its envelope.
    pub bytes: Vec<u8>,
}

/// Makes and signs the next manifest. Nothing is written.
///
/// # Errors
/// [`ManifestError::Unfit`] for whatever would not hold; what the chain or the snapshot is refused for.
pub fn issue(chain: &Chain<'_>, trust: &TrustDir, order: &Order, signer: &dyn Signer) -> Result<Issued, ManifestError> {
    let mut newest = chain.look()?;
    for _ in 0..ATTEMPTS {
        let snapshot = check_order(chain, trust, &newest, order)?;
        let again = chain.look()?;
        if again.head.digest == newest.head.digest {
            let manifest = make(chain, trust, &newest, &snapshot, order, signer)?;
            chain.remember(&newest)?;
            return Ok(manifest);
        }
        newest = again;
    }
    Err(unfit("the chain goes on all the time, so no head is the newest", "run it again when less is written"))
}

fn unfit(why: impl Into<String>, next: impl Into<String>) -> ManifestError {
    ManifestError::Unfit { why: why.into(), next: next.into() }
}

/// Checks everything that a manifest of this head would promise, and gives the snapshot it would name.
///
/// # Errors
/// As [`issue`].
pub fn check_order(
    chain: &Chain<'_>,
    trust: &TrustDir,
    newest: &Newest,
    order: &Order,
) -> Result<Record, ManifestError> {
    let pins = &order.pins.pins;
    let accepts = |what: &str| order.accepted.iter().any(|accepted| accepted.what == what);
    let (record, facts) = newest_facts(chain, trust, newest)?;
    let passed = chain.last_complete(newest)?.is_some_and(|last| last.passed);
    let Body::Snapshot(snapshot) = &record.body else {
        return Err(unfit("the chain has no complete snapshot", "take one with `snapkit snapshot`"));
    };
    if passed && !accepts("incomplete") {
        return Err(unfit(
            "the newest snapshot is incomplete: something could not be read",
            "take a complete one, or name the complete one before it with --accept incomplete=REASON",
        ));
    }
    if snapshot.public.torn > 0 && !accepts("torn") {
        return Err(unfit(
            format!("{} files changed while the newest snapshot was taken", snapshot.public.torn),
            "take one while they hold still, or let it pass with --accept torn=REASON",
        ));
    }
    let age = facts.now.duration_since(facts.captured);
    if age > SignedDuration::from_secs(i64::try_from(pins.max_head_age_seconds).unwrap_or(i64::MAX)) {
        return Err(unfit(
            format!("the newest snapshot is {} old, more than the pins allow", Said(age)),
            "take one with `snapkit snapshot`",
        ));
    }
    check_files(chain, snapshot, pins)?;
    check_images(chain, newest, pins)?;
    Ok(record)
}

/// Every pinned tree is in the snapshot, and every load-bearing file in its tree.
fn check_files(chain: &Chain<'_>, snapshot: &Snapshot, pins: &Pins) -> Result<(), ManifestError> {
    let fetcher = Fetcher::new(chain.store());
    let (mut packs, mut names) = (PackSet::default(), OwnerNames::default());
    let several = snapshot.private.trees.len() > 1;
    let mut missing = Vec::new();
    for tree in &pins.trees {
        if snapshot.private.trees.iter().all(|there| there.name != tree.name) {
            missing.push(format!("the tree {}", tree.name));
            continue;
        }
        for file in tree.files.iter().filter(|file| file.policy != "ignore") {
            let path = match several {
                true => join(tree.name.as_bytes(), file.path.as_bytes()),
                false => file.path.clone().into_bytes(),
            };
            let mut found = false;
            browse::list(&fetcher, snapshot, &path, &mut packs, &mut names, &mut |item| found |= item.path == path)?;
            if !found {
                missing.push(format!("{} in the tree {}", file.path, tree.name));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(unfit(
        format!("the newest snapshot lacks what the pins call load-bearing: {}", missing.join(", ")),
        "take a snapshot that has them, or have pins signed that do not ask for them",
    ))
}

/// Every image can be had by a machine that does not have it.
fn check_images(chain: &Chain<'_>, newest: &Newest, pins: &Pins) -> Result<(), ManifestError> {
    for image in &pins.images {
        let name = &image.name;
        if !image.can_be_fetched() {
            return Err(unfit(
                format!("the image {name} is in no registry and not in the store"),
                "put its archive into the store, and have it pinned with the record",
            ));
        }
        if let Some(archive) = &image.archive
            && chain.holds(newest, archive.seq, &archive.digest)? != Holds::Yes
        {
            return Err(unfit(
                format!("the chain has no record {} with the archive of the image {name}", archive.seq),
                "put the archive into the store again, and have it pinned with the new record",
            ));
        }
    }
    Ok(())
}

fn make(
    chain: &Chain<'_>,
    trust: &TrustDir,
    newest: &Newest,
    snapshot: &Record,
    order: &Order,
    signer: &dyn Signer,
) -> Result<Issued, ManifestError> {
    let judge = Judge { pin: &chain.pin().root, root: chain.root(), chain: &chain.id() };
    let name = &order.pins.pins.name;
    let known = trust.kept_manifest(&judge, name)?;
    let above = known.map_or(0, |known| known.manifest.version).max(order.above);
    let snapshot_name = record_name(snapshot).unwrap_or_default();
    let Some(snapshot) = SnapshotName::of(snapshot, &snapshot_name) else {
        return Err(unfit("the newest record is no snapshot", "take one with `snapkit snapshot`"));
    };
    let now = whole_second(chain.now());
    let manifest = Manifest {
        name: name.clone(),
        chain: chain.id(),
        root: chain.pin().root,
        version: free_version(chain, name, above)?,
        issued: now,
        expires: now.checked_add(SignedDuration::from(order.lifetime)).unwrap_or(jiff::Timestamp::MAX),
        stores: order.stores.clone(),
        head: manifests::document::manifest::RecordPlace {
            epoch: newest.head.epoch,
            seq: newest.head.seq,
            digest: newest.head.digest,
        },
        snapshot,
        accepted: order.accepted.clone(),
        pins: Nested::read(&order.pins_bytes, PINS_FILE_CAP, "pins")?,
        key: signer.public().id(),
        critical: None,
        ext: serde_json::Map::new(),
    };
    let bytes = envelope::sign(PAYLOAD_TYPE, &manifest.payload()?, &[signer])?;
    // Read as any reader will, so that nothing unacceptable is ever published.
    let object = "new manifest";
    let verified = Manifest::verify(&bytes, judge.root, judge.pin, Some(judge.chain), Some(name), object)?;
    let pins = verified.pins(judge.root, object)?;
    let (_, facts) = newest_facts(chain, trust, newest)?;
    freshness::judge(&verified.manifest, &pins.pins, &facts).check_expiry(object)?;
    Ok(Issued { manifest: verified, bytes })
}

/// The first version above `above` whose object is not taken. Whoever can write to the store can take numbers, not more.
fn free_version(chain: &Chain<'_>, name: &str, above: u64) -> Result<u64, ManifestError> {
    for version in (above + 1)..=(above + TAKEN_CAP) {
        match chain.store().size(&version_key(name, version)) {
            Err(error) if error.is_missing() => return Ok(version),
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
    }
    Err(unfit(
        format!("the versions {} to {} of the manifest {name} are taken in the store", above + 1, above + TAKEN_CAP),
        "have the owner of the store remove what is no manifest",
    ))
}
