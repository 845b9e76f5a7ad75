//! The hostile stores of `testdata/attacks/`: every one is answered as it says, and leaves everything as it was.

#![allow(clippy::unwrap_used)]

use std::fs;

use manifests::refusal::Class;
use snapkit_tests::attack::{Prebuilt, Refuses, Victim, generate};

/// One table for all rows: class, exit code, untouched target, untouched trust, and how much was read at most.
///
/// What holds for each refusal is in `Victim::refuses`; the bytes are counted in `Victim::run`.
#[test]
fn every_kept_store_is_answered_as_it_says() {
    for recipe in generate::all() {
        recipe.write_if_missing();
    }
    let all = Prebuilt::all();
    assert!(all.len() >= 80, "only {} are there", all.len());
    let only = std::env::var("SNAPKIT_TEST_ATTACK").unwrap_or_default();
    for attack in all.iter().filter(|attack| attack.name().starts_with(&only)) {
        println!("{}", attack.name());
        let mut victim = Victim::of_prebuilt(attack);
        if let (Some(roots), Some(class)) = (attack.roots_kept(), attack.class()) {
            victim.keeps_roots(roots, class, attack.object());
        }
        if attack.class() == Some(Class::Fork) {
            victim.keeps_proof_of_a_fork(attack);
        }
        match (attack.refuses(), attack.class()) {
            (Refuses::Everything, Some(class)) => victim.every_command_refuses(class, attack.object()),
            // It was the one that kept the roots.
            (Refuses::Once, Some(_)) => assert!(attack.roots_kept().is_some()),
            (Refuses::Trees, Some(class)) => {
                victim.remembers();
                victim.records_are_accepted();
                victim.refuses(&["restore", "latest", "missing"], class, attack.object());
                victim.refuses(&["restore", "latest", "empty"], class, attack.object());
                victim.verify_finds(class);
            }
            (Refuses::Nothing, None) if attack.is_from() => {
                victim.accepts(&["verify", "--data"]);
            }
            (Refuses::Nothing, None) => {
                let restored = victim.accepts(&["restore", "latest", "missing"]);
                let file = fs::read(victim.machine.path("missing/file")).unwrap();
                assert_eq!(file, b"honest\n");
                let warned = restored.stderr.contains("W_");
                assert_eq!(warned, attack.warning().is_some(), "{}", restored.stderr);
                restored.stderr_names(attack.warning().unwrap_or_default());
            }
            (_, class) => panic!("{}: {class:?} does not go with {:?}", attack.name(), attack.refuses()),
        }
        if attack.was_seen() && !attack.moves_on() {
            victim.recovers(attack);
        }
    }
}

#[test]
fn the_honest_snapshot_before_a_hostile_tree_is_as_good_as_ever() {
    // Where stored bytes rot or end, it is the only snapshot there is.
    let forged = |attack: &Prebuilt| attack.refuses() == Refuses::Trees && attack.has_honest_snapshot();
    for attack in Prebuilt::all().iter().filter(|attack| forged(attack)) {
        println!("{}", attack.name());
        let victim = Victim::of_prebuilt(attack);
        assert_eq!(fs::read(victim.restores("1").join("file")).unwrap(), b"honest\n");
    }
}
