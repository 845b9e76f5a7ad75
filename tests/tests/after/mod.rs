//! What must hold after a process was killed, and the means to see it.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use snapkit_tests::Machine;

/// Snapshots by the number of their slot, with the digest of the directory that each holds.
pub type Noted = BTreeMap<u64, String>;

/// The full digest of a directory.
pub fn digest(machine: &Machine, directory: &str) -> String {
    let json = machine.ok(&["digest", directory, "--json"]).json("snapkit.digest/1");
    json["full_digest"].as_str().unwrap().to_owned()
}

/// The slots that `log` lists.
pub fn listed(machine: &Machine) -> Vec<u64> {
    let log = machine.ok(&["log", "--store", "store", "-n", "0", "--json"]).json("snapkit.log/1");
    let mut slots: Vec<u64> = log["snapshots"].as_array().unwrap().iter().map(|s| s["seq"].as_u64().unwrap()).collect();
    slots.sort_unstable();
    slots
}

/// Takes a snapshot and notes it.
#[track_caller]
pub fn snapshot(machine: &Machine, noted: &mut Noted) {
    let now = digest(machine, "tree");
    let json = machine.ok(&["snapshot", "--store", "store", "tree", "--json"]).json("snapkit.snapshot/1");
    noted.insert(json["seq"].as_u64().unwrap(), now);
}

/// Notes the snapshot of a run that was killed, if it was committed before; nothing else may be there.
#[track_caller]
pub fn note_what_landed(machine: &Machine, noted: &mut Noted, state: &str) -> bool {
    let slots = listed(machine);
    let known: Vec<u64> = noted.keys().copied().collect();
    if slots == known {
        return false;
    }
    let (last, before) = slots.split_last().unwrap();
    assert_eq!(before, known, "at most one snapshot was added");
    noted.insert(*last, state.to_owned());
    true
}

/// Expects that this snapshot restores as it was noted.
#[track_caller]
pub fn expect_restores(machine: &Machine, noted: &Noted, seq: u64) {
    let target = machine.path("restored");
    machine.ok(&["restore", "--store", "store", &format!("#{seq}"), "restored"]);
    assert_eq!(digest(machine, "restored"), noted[&seq], "snapshot {seq}");
    fs::remove_dir_all(target).unwrap();
}

/// Copies a directory with everything that `cp -a` keeps.
pub fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}
