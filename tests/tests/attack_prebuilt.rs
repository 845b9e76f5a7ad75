//! The hostile stores of `testdata/attacks/`: every one is refused with its class, and leaves everything as it was.

#![allow(clippy::unwrap_used)]

use std::fs;

use snapkit_tests::attack::{Prebuilt, Victim};

#[test]
fn every_kept_store_is_refused_as_it_says() {
    let all = Prebuilt::all();
    assert!(all.len() >= 10, "only {} are there", all.len());
    for attack in &all {
        println!("{}", attack.name());
        let victim = Victim::of_prebuilt(attack);
        victim.records_are_accepted();
        victim.refuses(&["restore", "latest", "missing"], attack.class(), "");
        victim.refuses(&["restore", "latest", "empty"], attack.class(), "");
        victim.verify_finds(attack.class());
    }
}

#[test]
fn the_honest_snapshot_before_it_is_as_good_as_ever() {
    // Where stored bytes rot, it is the only snapshot there is.
    for attack in Prebuilt::all().into_iter().filter(|attack| !attack.name().starts_with("e01")) {
        println!("{}", attack.name());
        let victim = Victim::of_prebuilt(&attack);
        assert_eq!(fs::read(victim.restores("1").join("file")).unwrap(), b"honest\n");
    }
}
