//! Going back on purpose: on record, for everybody who follows, and until the next snapshot.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use snapkit_tests::Machine;
use snapkit_tests::every_kind::noise;

/// A chain whose snapshots 1, 2 and 3 hold one file with that number.
fn three() -> (Machine, String) {
    let machine = Machine::new();
    let init = machine.ok(&["init", "store", "--json"]).json("snapkit.init/1");
    machine.write("tree/large", noise(1 << 20, 1));
    for number in 1..=3 {
        machine.write("tree/file", format!("{number}\n"));
        machine.ok(&["snapshot", "--store", "store", "tree"]);
    }
    (machine, init["bootstrap"].as_str().unwrap().to_owned())
}

fn latest(machine: &Machine, store: &str) -> String {
    machine.ok(&["cat", "--store", store, "latest", "file"]).text().to_owned()
}

#[test]
fn a_rollback_moves_the_latest_snapshot_until_the_next_one() {
    let (machine, bootstrap) = three();
    let store = machine.arg("store");
    let follower = Machine::new();
    follower.ok(&["trust", "add", &bootstrap]);
    assert_eq!(latest(&follower, &store), "3\n");

    let args = ["rollback", "--store", "store", "--to", "#1", "--reason", "release 3 is bad", "--json"];
    let before = machine.ok(&[&args[..], &["--dry-run"]].concat()).json("snapkit.rollback/1");
    assert_eq!((&before["seq"], &before["target"]["seq"]), (&Value::Null, &Value::from(1)));
    assert_eq!(latest(&follower, &store), "3\n");

    let done = machine.ok(&args).json("snapkit.rollback/1");
    assert_eq!((&done["seq"], &done["before"]["seq"]), (&Value::from(4), &Value::from(3)));
    assert_eq!(latest(&follower, &store), "1\n");
    let cold = Machine::new();
    assert_eq!(latest(&cold, &bootstrap), "1\n");
    let log = follower.ok(&["log", "--store", &store, "--json"]).json("snapkit.log/1");
    assert_eq!((&log["latest"], &log["events"][0]["kind"]), (&Value::from(1), &Value::from("rollback")));
    assert!(log["events"][0]["about"].as_str().unwrap().contains("release 3 is bad"));
    assert!(follower.ok(&["log", "--store", &store]).text().contains("LATEST"));
    follower.ok(&["verify", "--store", &store, "--data"]);
    // Again is nothing to do, and what was taken later is still there.
    assert_eq!(machine.ok(&args).json("snapkit.rollback/1")["seq"], Value::Null);
    assert_eq!(follower.ok(&["cat", "--store", &store, "#3", "file"]).text(), "3\n");

    machine.write("tree/file", "4\n");
    let taken = machine.ok(&["snapshot", "--store", "store", "tree", "--json"]).json("snapkit.snapshot/1");
    assert_eq!(latest(&follower, &store), "4\n");
    // What was captured before the rollback is not captured anew.
    assert!(taken["new_bytes"].as_u64().unwrap() < 10_000, "{taken}");
    assert!(!follower.ok(&["log", "--store", &store]).text().contains("LATEST"));
}

#[test]
fn the_receipt_of_an_old_snapshot_names_the_head_it_lies_under() {
    let (machine, _) = three();
    machine.ok(&["rollback", "--store", "store", "--to", "#1", "--reason", "release 3 is bad"]);
    machine.ok(&["restore", "--store", "store", "latest", "back", "--receipt", "receipt.json"]);
    assert_eq!(fs::read(machine.path("back/file")).unwrap(), b"1\n");
    let payload = payload(&machine.path("receipt.json"));
    let (record, head) = (&payload["predicate"]["record"], &payload["predicate"]["head"]);
    assert_eq!((&record["seq"], &head["seq"]), (&Value::from(1), &Value::from(4)));
    machine.ok(&["receipt", "verify", "--store", "store", "receipt.json"]);
}

#[test]
fn an_old_head_that_is_only_served_is_refused() {
    let (machine, _) = three();
    let follower = Machine::new();
    let copy = machine.path("copy");
    let status = Command::new("cp").arg("-a").arg(machine.path("store")).arg(&copy).status().unwrap();
    assert!(status.success());
    machine.ok(&["rollback", "--store", "store", "--to", "#1", "--reason", "release 3 is bad"]);
    let root = machine.ok(&["trust", "show", "--json"]).json("snapkit.trust-show/1")["stores"][0]["root"].clone();
    let pin = |store: &Path| format!("{}#root=sha256:{}", store.display(), root.as_str().unwrap());
    assert_eq!(latest(&follower, &pin(&machine.path("store"))), "1\n");
    // The mirror still shows 3 as the newest record; that is going back, whatever it holds.
    follower.run(&["cat", "--store", &pin(&copy), "latest", "file"]).expect(55);
}

#[test]
fn what_cannot_be_gone_back_to_is_said() {
    let (machine, _) = three();
    let rollback =
        |to: &str, reason: &str| machine.run(&["rollback", "--store", "store", "--to", to, "--reason", reason]);
    rollback("#0", "no snapshot").expect(5).stderr_names("genesis");
    rollback("#9", "not there").expect(5);
    rollback("#1", " ").expect(30).stderr_names("reason");
    // A follower has no key for it.
    let follower = Machine::new();
    let store = machine.arg("store");
    let root = machine.ok(&["trust", "show", "--json"]).json("snapkit.trust-show/1")["stores"][0]["root"].clone();
    follower.ok(&["trust", "add", &format!("{store}#root=sha256:{}", root.as_str().unwrap())]);
    let run = follower.run(&["rollback", "--store", &store, "--to", "#1", "--reason", "because"]);
    assert_ne!(run.code, 0, "{}", run.text());
    assert_eq!(latest(&follower, &store), "3\n");
}

#[test]
fn a_split_chain_is_written_down_and_anybody_can_check_it() {
    let (machine, bootstrap) = three();
    let status = Command::new("cp").arg("-a").arg(machine.path("store")).arg(machine.path("other")).status().unwrap();
    assert!(status.success());
    let other = bootstrap.replacen("/store#", "/other#", 1);
    // The same key writes two different fourth records.
    let twin = Machine::new();
    assert!(Command::new("cp").arg("-a").arg(machine.home()).arg(twin.home()).status().unwrap().success());
    machine.write("tree/file", "4 here\n");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    twin.write("tree/file", "4 there\n");
    twin.ok(&["snapshot", "--store", &other, "tree"]);

    let reader = Machine::new();
    assert_eq!(latest(&reader, &bootstrap), "4 here\n");
    let run = reader.run(&["cat", "--store", &other, "latest", "file"]).expect(64);
    let forks = fs::read_dir(reader.home().join("trust")).unwrap().map(|entry| entry.unwrap().path().join("forks"));
    let proofs: Vec<_> =
        forks.filter_map(|forks| fs::read_dir(forks).ok()).flatten().map(|e| e.unwrap().path()).collect();
    let [proof] = &proofs[..] else { panic!("one proof in {proofs:?}") };
    run.stderr_names(&proof.display().to_string());

    // A stranger has the file and the digest, and nothing else.
    let stranger = Machine::new();
    let file = proof.display().to_string();
    stranger.run(&["verify", "--fork-proof", &file]).expect(50).stderr_names("sha256:");
    let root = bootstrap.rsplit_once("#root=").unwrap().1;
    let shown = stranger.ok(&["verify", "--fork-proof", &file, "--root", root, "--json"]).json("snapkit.fork-proof/1");
    assert_eq!(shown["contradiction"], "both are signed for slot 4");
    let wrong = format!("sha256:{}", "0".repeat(64));
    stranger.run(&["verify", "--fork-proof", &file, "--root", &wrong]).expect(51);
    // An edited proof proves nothing.
    let text = fs::read_to_string(proof).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let records = value["records"].as_array().unwrap();
    let twice = text.replace(records[1].as_str().unwrap(), records[0].as_str().unwrap());
    stranger.write("twice.json", twice);
    stranger.run(&["verify", "--fork-proof", "twice.json", "--root", root]).expect(65);
    stranger.write("none.json", "{}");
    stranger.run(&["verify", "--fork-proof", "none.json", "--root", root]).expect(30);
}

fn payload(envelope: &Path) -> Value {
    use base64::Engine as _;
    let envelope: Value = serde_json::from_slice(&fs::read(envelope).unwrap()).unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}
