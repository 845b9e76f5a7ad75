use super::*;
use crate::fixture::{first, lease_after, lease_bytes, lease_claim, node, root_one};
use crate::keys::Signer;

fn with_group<T>(with: impl FnOnce(&Group<'_>) -> T) -> T {
    let (chain, root) = (first().1.chain, root_one());
    let members = [Member { node: "node-a".into(), key: node().public().id() }];
    with(&Group { chain: &chain, name: "app", members: &members, root: &root })
}

#[test]
fn keys_of_slots_are_read_as_they_are_made() {
    assert_eq!(key("app", 7), "lease/app/00000000000000000007.json");
    assert_eq!(slot_of("app", &key("app", 7)), Some(7));
    for other in [
        "lease/app/7.json",
        "lease/web/00000000000000000007.json",
        "lease/app/00000000000000000000.json",
        "lease/app/x",
    ] {
        assert_eq!(slot_of("app", other), None, "{other}");
    }
}

#[test]
fn what_does_not_follow_is_void_and_does_not_end_the_log() {
    with_group(|group| {
        let mut position = Position::default();
        position.step(&lease_bytes(&lease_claim()), group).unwrap();
        let mut bad = lease_after(&lease_claim(), &[], Kind::Renew);
        bad.previous = Some(Digest::sha256(b"other"));
        let Step::Void(why) = position.step(&lease_bytes(&bad), group).unwrap() else { panic!("it does not follow") };
        assert_eq!((why.class(), position.voids.len()), (Class::Inconsistent, 1));
        let next = lease_after(&lease_claim(), &position.voids, Kind::Renew);
        assert_eq!(position.step(&lease_bytes(&next), group).unwrap(), Step::Entry);
    });
}

#[test]
fn what_a_member_signed_wrongly_leaves_the_position_as_it_was() {
    with_group(|group| {
        let mut position = Position::default();
        position.step(&lease_bytes(&lease_claim()), group).unwrap();
        let before = position.clone();
        let mut bad = lease_after(&lease_claim(), &[], Kind::Renew);
        bad.ttl_ms = Some(1);
        assert_eq!(position.step(&lease_bytes(&bad), group).unwrap_err().class(), Class::Lease);
        assert_eq!(position, before);
    });
}

#[test]
fn a_flood_of_void_slots_stops_the_reader() {
    with_group(|group| {
        let mut position = Position::default();
        for _ in 0..64 {
            assert!(matches!(position.step(b"torn", group).unwrap(), Step::Void(_)));
        }
        let after = Entry { seq: 65, void: position.voids.clone(), ..lease_claim() };
        let refusal = position.clone().step(b"torn", group).unwrap_err();
        assert_eq!(refusal.class(), Class::TooMany);
        assert_eq!(position.step(&lease_bytes(&after), group).unwrap(), Step::Entry);
    });
}

#[test]
fn nothing_but_a_claim_follows_a_release() {
    with_group(|group| {
        let claim = lease_claim();
        let release = lease_after(&claim, &[], Kind::Release);
        let mut position = Position::default();
        for entry in [&claim, &release] {
            position.step(&lease_bytes(entry), group).unwrap();
        }
        for kind in [Kind::Renew, Kind::Release] {
            let step = position.clone().step(&lease_bytes(&lease_after(&release, &[], kind)), group).unwrap();
            assert!(matches!(step, Step::Void(why) if why.class() == Class::Inconsistent));
        }
        position.step(&lease_bytes(&lease_after(&release, &[], Kind::Claim)), group).unwrap();
        assert_eq!(position.term(), 2);
    });
}

#[test]
fn an_entry_in_a_slot_of_the_chain_makes_that_slot_void() {
    let (_, head) = first();
    let bytes = lease_bytes(&lease_claim());
    assert!(crate::chain::is_void(&bytes, &head.chain, 1, &root_one()).unwrap().is_some());
}
