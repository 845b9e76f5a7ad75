//! Old states, clocks and numbers: A03, A04, A09, A14.

use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use manifests::document::record::LogState;
use manifests::document::snapshot;
use manifests::envelope;
use manifests::log::Frontier;
use manifests::refusal::Class;

use super::super::Content;
use super::{Making, Recipe};

const SECOND: &str = "chain/00000000000000000002.json";

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "a03-an-older-head-than-the-one-that-was-seen", make: rolled_back },
    Recipe { name: "a03-an-older-head-than-the-pin-asks-for", make: below_the_minimum },
    Recipe { name: "a04-an-older-head-when-what-was-seen-has-expired", make: rolled_back_after_expiry },
    Recipe { name: "a09-a-record-with-a-number-far-ahead", make: far_ahead },
    Recipe { name: "a14-a-clock-set-back-to-2000", make: |making| clock(making, "2000-01-01T00:00:00Z", Class::Clock) },
    Recipe {
        name: "a14-a-clock-set-ahead-to-2200",
        make: |making| clock(making, "2200-01-01T00:00:00Z", Class::Stale),
    },
    Recipe { name: "a14-a-clock-of-2000-on-a-cold-reader", make: cold_clock },
];

fn forget_newest(making: &mut Making) {
    making.withhold(SECOND);
    making.forge.put("checkpoint", b"");
}

fn rolled_back(making: &mut Making) {
    making.grow();
    making.seen();
    forget_newest(making);
    making.refused(Class::Rollback, SECOND);
}

fn below_the_minimum(making: &mut Making) {
    let seq = making.grow();
    let digest = making.forge.digest_of(seq);
    making.at_least(seq, &digest);
    forget_newest(making);
    making.refused(Class::Rollback, SECOND);
}

/// The root that was seen has expired meanwhile; the store has a fresh one, and an older head.
fn rolled_back_after_expiry(making: &mut Making) {
    making.grow();
    making.seen();
    let later = making.now() + SignedDuration::from_hours(24 * 500);
    let expires = later + SignedDuration::from_hours(24 * 500);
    let root = making.root(1, |root| root.expires = expires, &[&making.forge.owner]);
    making.forge.put("root/2.json", &root);
    forget_newest(making);
    making.judged_at(later);
    making.keeps_roots(2);
    making.refused(Class::Rollback, SECOND);
}

/// A stolen writer key signs a record with a number that no chain reaches, so that nothing could follow it.
fn far_ahead(making: &mut Making) {
    making.seen();
    let mut content = Content::new();
    content.file("file", b"evil\n");
    let body = serde_json::to_string(&making.forge.store(content)).unwrap();
    let mut header = making.forge.header();
    let seq = 1 << 52;
    let log = Frontier::from_parts(seq, vec![Digest::sha256(b"a tree that nobody has")]).unwrap();
    (header.seq, header.log) = (seq, LogState::from(&log));
    let header = serde_json::to_string(&header).unwrap();
    let payload = format!(r#"{},"body":{body}}}"#, header.strip_suffix('}').unwrap());
    let bytes = envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[&making.forge.node]).unwrap();
    making.forge.replace_slot(seq, &bytes);
    making.forge.put("checkpoint", format!("{seq} {}\n", Digest::sha256(payload.as_bytes())).as_bytes());
    making.refused(Class::Missing, SECOND);
}

fn clock(making: &mut Making, now: &str, class: Class) {
    making.seen();
    making.judged_at(now.parse::<Timestamp>().unwrap());
    making.refused(class, if class == Class::Clock { "clock" } else { "root/1.json" });
}

fn cold_clock(making: &mut Making) {
    making.judged_at("2000-01-01T00:00:00Z".parse().unwrap());
    making.refused(Class::Clock, "clock");
}
