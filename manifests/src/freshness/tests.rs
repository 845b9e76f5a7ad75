use super::*;
use crate::digest::Digest;
use crate::fixture::{at, manifest, pins};

fn facts(now: &str) -> Facts {
    Facts {
        now: at(now),
        root_expires: at("2027-11-20T12:00:00Z"),
        head_seq: 1,
        captured: at("2026-11-20T12:00:02.5Z"),
    }
}

fn verdict(facts: &Facts, within_seconds: i64) -> Verdict {
    judge(&manifest(), &pins(), facts).verdict(SignedDuration::from_secs(within_seconds))
}

#[test]
fn each_reason_has_its_verdict_and_the_gravest_wins() {
    let fresh = facts("2026-11-20T14:00:00Z");
    assert_eq!(verdict(&fresh, 0), Verdict::Fresh);
    assert_eq!(verdict(&fresh, 8 * 86400), Verdict::Expiring);
    let lags = Facts { head_seq: 4, ..fresh };
    assert_eq!(verdict(&lags, 8 * 86400), Verdict::Lags);
    let old = facts("2026-11-22T12:00:00Z");
    assert_eq!(verdict(&old, 0), Verdict::Old);
    assert_eq!(verdict(&Facts { head_seq: 4, ..old }, 0), Verdict::Lags);
    assert_eq!(verdict(&Facts { head_seq: 4, ..facts("2026-11-28T12:00:00Z") }, 0), Verdict::Expired);
}

#[test]
fn the_limits_are_inclusive_but_for_expiry() {
    let mut facts = facts("2026-11-21T12:00:02.5Z");
    // Exactly a day old, exactly two behind.
    facts.head_seq = 3;
    assert_eq!(verdict(&facts, 0), Verdict::Fresh);
    facts.now = at("2026-11-21T12:00:02.500000001Z");
    assert_eq!(verdict(&facts, 0), Verdict::Old);
    let end = manifest().expires;
    facts = Facts { now: end, captured: end, ..facts };
    assert_eq!(verdict(&facts, 0), Verdict::Expired, "what expires now has expired");
}

#[test]
fn whatever_expires_first_counts() {
    let early = at("2026-11-21T00:00:00Z");
    let with_root = Facts { root_expires: early, ..facts("2026-11-20T14:00:00Z") };
    let judged = judge(&manifest(), &pins(), &with_root);
    assert_eq!((judged.expires_first, judged.expires), ("root", early));
    let mut short = pins();
    short.expires = early;
    let judged = judge(&manifest(), &short, &facts("2026-11-22T00:00:00Z"));
    assert_eq!(judged.check("m").unwrap_err().class(), Class::Stale);
    assert_eq!(judged.expires_first, "pins");
}

#[test]
fn a_snapshot_from_the_future_is_not_older_than_nothing() {
    let facts = Facts { captured: at("2027-01-01T00:00:00Z"), ..facts("2026-11-20T14:00:00Z") };
    assert_eq!(judge(&manifest(), &pins(), &facts).age, SignedDuration::ZERO);
}

fn verified(version: u64, head_seq: u64, digest: &[u8]) -> VerifiedManifest {
    let mut manifest = manifest();
    (manifest.version, manifest.head.seq) = (version, head_seq);
    VerifiedManifest { manifest, digest: Digest::sha256(digest) }
}

#[test]
fn neither_version_nor_head_ever_falls() {
    let known = verified(5, 10, b"known");
    let class = |new: VerifiedManifest| check_succession(&new, &known, "m").err().map(|refusal| refusal.class());
    assert_eq!(class(known.clone()), None);
    assert_eq!(class(verified(6, 10, b"next")), None);
    assert_eq!(class(verified(9, 11, b"later")), None);
    assert_eq!(class(verified(4, 12, b"older")), Some(Class::Rollback));
    assert_eq!(class(verified(6, 9, b"older head")), Some(Class::Rollback));
    assert_eq!(class(verified(5, 10, b"another")), Some(Class::Manifest));
}

#[test]
fn a_later_epoch_may_have_a_lower_number() {
    let known = verified(5, 10, b"known");
    let mut forked = verified(6, 4, b"forked");
    forked.manifest.head.epoch = 1;
    assert_eq!(check_succession(&forked, &known, "m"), Ok(()));
}
