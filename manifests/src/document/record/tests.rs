//! The rules of docs/format/record.md that need no neighbour.

use super::*;
use crate::document::is_name;
use crate::fixture::{first, genesis_body, header_after, node, replaced, snapshot_body, text, writer};

fn parse_text(text: &str) -> Option<Class> {
    let read = Tree::read(text.as_bytes(), RECORD_CAP, "record");
    read.and_then(|tree| parse(tree, snapshot::PAYLOAD_TYPE, "record")).err().map(|refusal| refusal.class())
}

fn header() -> Header {
    header_after(&first().1, &[])
}

fn snapshot_with(change: impl FnOnce(&mut Snapshot)) -> Option<Class> {
    let mut body = snapshot_body();
    change(&mut body);
    payload(&header(), &Body::Snapshot(Box::new(body))).err().map(|refusal| refusal.class())
}

fn header_with(change: impl FnOnce(&mut Header)) -> Option<Class> {
    let mut header = header();
    change(&mut header);
    payload(&header, &Body::Snapshot(Box::new(snapshot_body()))).err().map(|refusal| refusal.class())
}

fn genesis_with(change: impl FnOnce(&mut Genesis)) -> Option<Class> {
    let mut body = genesis_body();
    change(&mut body);
    let header = Header::genesis(header().time, Nonce([1; 16]), writer(&node()));
    payload(&header, &Body::Genesis(body)).err().map(|refusal| refusal.class())
}

#[test]
fn equal_arguments_give_equal_bytes_in_the_order_of_the_format() {
    let payload = text(&header(), &Body::Snapshot(Box::new(snapshot_body())));
    assert_eq!(payload, text(&header(), &Body::Snapshot(Box::new(snapshot_body()))));
    let names = ["format", "chain", "epoch", "seq", "previous", "term", "nonce", "time", "log", "writer", "body"];
    let places: Vec<usize> = names.iter().map(|name| payload.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted());
    for absent in ["void", "segments", "critical", "ext"] {
        assert!(!payload.contains(&format!("\"{absent}\"")), "{absent}");
    }
}

#[test]
fn a_missing_or_an_unknown_field_is_refused_in_header_and_body() {
    let payload = text(&header(), &Body::Snapshot(Box::new(snapshot_body())));
    assert_eq!(parse_text(&payload), None);
    for (from, to) in [
        (r#""epoch":0,"#, ""),
        (r#""epoch":0,"#, r#""epoch":0,"note":1,"#),
        (r#""complete":true,"#, ""),
        (r#""complete":true,"#, r#""complete":1,"#),
        (r#""complete":true,"#, r#""complete":true,"Complete":true,"#),
        (r#","body":{"#, r#","bodies":{"#),
        (r#""node":"node-a","#, r#""node":"node-a","site":"x","#),
        (r#""2026-11-20T12:00:03Z""#, r#""2026-11-20T13:00:03+01:00""#),
        (r#""nonce":"01010101"#, r#""nonce":"0101010"#),
    ] {
        assert_eq!(parse_text(&replaced(&payload, from, to)), Some(Class::Json), "{from} -> {to}");
    }
}

#[test]
fn what_needs_a_newer_snapkit_is_told_from_damage() {
    assert_eq!(header_with(|header| header.format = "1".into()), Some(Class::Newer));
    assert_eq!(header_with(|header| header.critical = Some(vec!["dedup-v2".into()])), Some(Class::Newer));
    assert_eq!(header_with(|header| header.critical = Some(vec![])), Some(Class::Json));
    assert_eq!(genesis_with(|body| body.cutter.name = "fastcdc-2030".into()), Some(Class::Newer));
    assert_eq!(genesis_with(|body| body.protection.cipher = "aes-256-gcm".into()), Some(Class::Newer));
    assert_eq!(genesis_with(|body| body.protection.chunk_name = "keyed".into()), Some(Class::Newer));
    assert_eq!(genesis_with(|body| body.protection.cutter_seed = "secret".into()), Some(Class::Newer));
    assert_eq!(genesis_with(|body| body.protection.keys = "wrapped".into()), Some(Class::Newer));
    assert_eq!(genesis_with(|_| ()), None);
}

#[test]
fn ext_is_signed_and_ignored() {
    assert_eq!(header_with(|header| drop(header.ext.insert("note".into(), "any".into()))), None);
}

#[test]
fn every_rule_for_the_header_is_checked() {
    let digest = Digest::sha256(b"");
    assert_eq!(header_with(|header| header.seq = 0), Some(Class::Seq));
    assert_eq!(header_with(|header| header.seq = 2), Some(Class::Inconsistent));
    assert_eq!(header_with(|header| header.previous = None), Some(Class::Json));
    assert_eq!(header_with(|header| header.chain = None), Some(Class::Json));
    assert_eq!(header_with(|header| header.log.root = digest), Some(Class::Inconsistent));
    assert_eq!(header_with(|header| header.log.frontier.push(digest)), Some(Class::Inconsistent));
    assert_eq!(header_with(|header| header.log.size = 0), Some(Class::Inconsistent));
    let void = |seq| Void { seq, sha256: digest };
    assert_eq!(header_with(|header| header.void = (0..65).map(void).collect()), Some(Class::TooMany));
    assert_eq!(header_with(|header| header.writer.node = String::new()), Some(Class::Json));
    assert_eq!(header_with(|header| header.writer.node = "a\nb".into()), Some(Class::Json));
    assert_eq!(header_with(|header| header.writer.tool = "x".repeat(256)), Some(Class::Json));
    let segment = |number: u32| SegmentRef { id: Digest::sha256(&number.to_le_bytes()), bytes: 1 };
    assert_eq!(header_with(|header| header.segments = Some(vec![segment(1), segment(0)])), None);
    assert_eq!(header_with(|header| header.segments = Some(vec![])), None);
    assert_eq!(header_with(|header| header.segments = Some(vec![segment(1), segment(1)])), Some(Class::Json));
    assert_eq!(header_with(|header| header.segments = Some((0..1025).map(segment).collect())), Some(Class::TooMany));
}

#[test]
fn genesis_is_in_slot_zero_and_names_nothing_before_it() {
    let refused = |change: fn(&mut Header)| {
        let mut header = Header::genesis(header().time, Nonce([1; 16]), writer(&node()));
        change(&mut header);
        payload(&header, &Body::Genesis(genesis_body())).err().map(|refusal| refusal.class())
    };
    assert_eq!(refused(|_| ()), None);
    assert_eq!(refused(|header| header.seq = 1), Some(Class::Seq));
    assert_eq!(refused(|header| header.chain = Some(Digest::sha256(b""))), Some(Class::Json));
    assert_eq!(refused(|header| header.previous = Some(Digest::sha256(b""))), Some(Class::Json));
    assert_eq!(refused(|header| header.segments = Some(vec![])), Some(Class::Json));
    assert_eq!(genesis_with(|body| body.cutter.min = 0), Some(Class::Json));
    assert_eq!(genesis_with(|body| body.cutter.min = body.cutter.max), Some(Class::Json));
}

#[test]
fn every_rule_for_trees_is_checked() {
    assert_eq!(snapshot_with(|body| body.private.trees.clear()), Some(Class::Json));
    assert_eq!(snapshot_with(|body| body.private.trees.swap(0, 1)), Some(Class::Json));
    assert_eq!(snapshot_with(|body| body.private.trees[1] = body.private.trees[0].clone()), Some(Class::Json));
    assert_eq!(snapshot_with(|body| body.private.trees[0].name = "Config".into()), Some(Class::Json));
    assert_eq!(snapshot_with(|body| body.public.files += 1), Some(Class::Json));
    assert_eq!(snapshot_with(|body| body.private.trees[0].bytes = 1 << 53), Some(Class::Json));
    let many = vec![snapshot_body().private.trees[0].clone(); 65];
    assert_eq!(snapshot_with(|body| body.private.trees = many), Some(Class::TooMany));
    assert!(["a", "0", "etc.d_x-1", &"a".repeat(64)].into_iter().all(is_name));
    assert!(!["", ".", "-a", "_a", "A", "a/b", "a b", "ä", &"a".repeat(65)].into_iter().any(is_name));
}

#[test]
fn a_record_that_would_not_fit_its_envelope_is_not_written() {
    assert_eq!(snapshot_with(|body| body.private.trees[0].path = "x".repeat(800 * 1024)), Some(Class::TooBig));
}

#[test]
fn a_body_of_an_unknown_kind_is_not_written() {
    let refusal = payload(&header(), &Body::Unknown { kind: "fence".into() }).unwrap_err();
    assert_eq!(refusal.class(), Class::Type);
}

#[test]
fn only_well_formed_kinds_are_records() {
    assert_eq!(kind_of(&payload_type("fence")), Some("fence"));
    for kind in ["", "root", "lease", "pins", "Fence", "1st", "a/b", "a b", "ä", &"a".repeat(33)] {
        assert_eq!(kind_of(&payload_type(kind)), None, "{kind}");
    }
    assert_eq!(kind_of("application/vnd.in-toto+json"), None);
}

#[test]
fn a_term_names_the_fence_that_began_it() {
    let with = |term: u64, fence: Option<u64>| {
        let place = |seq| FencePlace { seq, key: header().writer.key };
        header_with(|header| (header.term, header.fence) = (term, fence.map(place)))
    };
    assert_eq!(with(1, Some(0)), None);
    // Only a fence begins a term itself; none begins later than its records, and none is there in term 0.
    for (term, fence) in [(1, None), (0, Some(0)), (1, Some(header().seq)), (1, Some(header().seq + 1))] {
        assert_eq!(with(term, fence), Some(Class::Inconsistent), "{term} {fence:?}");
    }
}

#[test]
fn an_epoch_names_the_fork_that_began_it() {
    assert_eq!(header_with(|header| header.epoch = 1), Some(Class::Inconsistent));
    assert_eq!(header_with(|header| header.fork = Some(0)), Some(Class::Inconsistent));
    assert_eq!(header_with(|header| (header.epoch, header.fork) = (1, Some(0))), None);
    // Only a fork begins an epoch itself.
    assert_eq!(header_with(|header| (header.epoch, header.fork) = (1, Some(header.seq))), Some(Class::Inconsistent));
    assert_eq!(
        header_with(|header| (header.epoch, header.fork) = (1, Some(header.seq + 1))),
        Some(Class::Inconsistent)
    );
}

#[test]
fn forks_and_rollbacks_point_back_and_give_a_reason() {
    let (_, head) = first();
    let pointer = |seq| Pointer { seq, digest: head.digest };
    let rollback = |seq, reason: &str| {
        let body = Rollback { target: pointer(seq), reason: reason.to_owned() };
        payload(&header(), &Body::Rollback(body)).err().map(|refusal| refusal.class())
    };
    assert_eq!(rollback(0, "the release was bad"), None);
    assert_eq!(rollback(1, "itself"), Some(Class::Seq));
    for reason in ["", "  ", "two\nlines", &"x".repeat(REASON_CAP + 1)] {
        assert_eq!(rollback(0, reason), Some(Class::Json), "{reason:?}");
    }
}

#[test]
fn an_image_record_has_one_complete_tree_and_does_not_name_itself() {
    let image = |change: fn(&mut Archive)| {
        let mut body = crate::fixture::archive_body();
        change(&mut body);
        payload(&header(), &Body::Image(Box::new(body))).err().map(|refusal| refusal.class())
    };
    assert_eq!(image(|_| {}), None);
    assert_eq!(image(|body| body.state.public.torn = 1), Some(Class::Json));
    assert_eq!(image(|body| body.state.private.trees[0].name = "other".into()), Some(Class::Json));
    assert_eq!(image(|body| body.state = snapshot_body()), Some(Class::Json));
    assert_eq!(image(|body| body.image.diff_ids.clear()), Some(Class::Manifest));
    let named = |body: &mut Archive| {
        body.image.archive = Some(crate::document::image::ArchiveRecord { seq: 1, digest: body.image.config });
    };
    assert_eq!(image(named), Some(Class::Json));
}
