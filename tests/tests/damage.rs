//! Damage: found by verify, named, and healed by the next snapshot.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use snapkit_tests::Machine;
use snapkit_tests::compare::same_tree;

fn chain() -> Machine {
    let machine = Machine::new();
    machine.write("tree/file", snapkit_tests::every_kind::noise(2 << 20, 9));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

fn largest_pack(machine: &Machine) -> PathBuf {
    walkdir::WalkDir::new(machine.path("store/packs"))
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .max_by_key(|entry| entry.metadata().unwrap().len())
        .unwrap()
        .into_path()
}

#[test]
fn a_flipped_bit_is_found_named_and_healed() {
    let machine = chain();
    let pack = largest_pack(&machine);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();

    // Structure and presence are right, so only reading the data finds it.
    machine.ok(&["verify", "--store", "store"]);
    let name = pack.file_name().unwrap().to_str().unwrap();
    let found = machine.run(&["verify", "--store", "store", "--data"]).expect(1);
    assert!(found.text().contains(name) || found.stderr.contains(name));
    machine.run(&["restore", "--store", "store", "latest", "back"]).expect(71);
    assert!(!machine.path("back").exists());

    // Verify noted the damage, so the same data is stored again.
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("tree"), &machine.path("back"));
}

#[test]
fn a_missing_pack_is_found_without_reading_data() {
    let machine = chain();
    fs::remove_file(largest_pack(&machine)).unwrap();
    machine.run(&["verify", "--store", "store"]).expect(1);
    machine.run(&["restore", "--store", "store", "latest", "back"]).expect(70);
    assert!(!machine.path("back").exists());
}

#[test]
fn explain_prints_commands_that_check_the_head_by_hand() {
    let machine = chain();
    let explained = machine.ok(&["verify", "--store", "store", "--explain"]);
    for word in ["openssl", "sha256sum", "base64"] {
        assert!(explained.text().contains(word), "{word}");
    }
}

#[test]
fn a_sample_is_accepted_as_a_percentage() {
    let machine = chain();
    machine.ok(&["verify", "--store", "store", "--sample", "5%"]);
    machine.run(&["verify", "--store", "store", "--sample", "500%"]).expect(2);
}

#[test]
fn hints_that_were_damaged_are_named_and_written_again_on_demand() {
    for hint in ["checkpoint", "format", "tile/0/000.p/2"] {
        let machine = chain();
        fs::write(machine.path("store").join(hint), "x").unwrap();
        let found = machine.run(&["verify", "--store", "store"]).expect(1);
        assert!(found.text().contains(hint), "{}", found.text());
        machine.ok(&["restore", "--store", "store", "latest", "back"]);
        let healed = machine.ok(&["verify", "--store", "store", "--heal"]);
        assert!(healed.text().contains("written again"), "{}", healed.text());
        machine.ok(&["verify", "--store", "store"]);
    }
}

#[test]
fn a_root_that_is_gone_is_named_and_stops_no_machine_that_knows_the_chain() {
    let machine = chain();
    fs::remove_file(machine.path("store/root/1.json")).unwrap();
    let found = machine.run(&["verify", "--store", "store"]).expect(1);
    assert!(found.text().contains("root/1.json"), "{}", found.text());
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
}

#[test]
fn a_damaged_record_hides_neither_newer_nor_older_snapshots() {
    let machine = chain();
    for change in ["second", "third"] {
        machine.write("tree/small", change);
        machine.ok(&["snapshot", "--store", "store", "tree"]);
    }
    let record = machine.path("store/chain/00000000000000000002.json");
    let mut bytes = fs::read(&record).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&record, bytes).unwrap();
    let found = machine.run(&["verify", "--store", "store"]).expect(1);
    assert!(found.text().contains("00000000000000000002"), "{}", found.text());
    machine.ok(&["restore", "--store", "store", "latest", "newest"]);
    same_tree(&machine.path("tree"), &machine.path("newest"));
    machine.ok(&["restore", "--store", "store", "#1", "oldest"]);
    assert!(!machine.path("oldest/small").exists());
}
