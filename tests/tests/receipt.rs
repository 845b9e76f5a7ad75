//! Receipts: what a restore proved, checked without the store and by tools that are not ours.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::digest::Digest;
use manifests::document::receipt::PAYLOAD_TYPE;
use manifests::envelope;
use manifests::keys::{PublicKey, SecretKey, Signer};
use serde_json::Value;
use snapkit_tests::{EveryKind, Machine};

/// A machine whose snapshot 1 was restored to `back`, with the receipt in `receipt.json`.
fn restored() -> Machine {
    let machine = Machine::new();
    EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back", "--receipt", "receipt.json"]);
    machine
}

/// The directory of this machine's keys.
fn keys(machine: &Machine) -> PathBuf {
    let directory = fs::read_dir(machine.home().join("keys")).unwrap().next().unwrap();
    directory.unwrap().path()
}

/// Reads one of this machine's keys.
fn key(machine: &Machine, name: &str) -> SecretKey {
    SecretKey::parse(&fs::read_to_string(keys(machine).join(name)).unwrap()).unwrap()
}

/// Writes a public key where `--key` finds it.
fn public(machine: &Machine, key: &PublicKey) -> String {
    machine.write("node.pem", key.to_pem());
    "node.pem".to_owned()
}

/// The envelope in the receipt's file.
fn envelope_of(machine: &Machine) -> Value {
    serde_json::from_slice(&fs::read(machine.path("receipt.json")).unwrap()).unwrap()
}

/// The statement in the receipt's file, as text.
fn statement(machine: &Machine) -> String {
    let payload = STANDARD.decode(envelope_of(machine)["payload"].as_str().unwrap()).unwrap();
    String::from_utf8(payload).unwrap()
}

/// Replaces the receipt by this statement, signed with `key`.
fn sign(machine: &Machine, payload: &str, key: &SecretKey) {
    let bytes = envelope::sign(PAYLOAD_TYPE, payload.as_bytes(), &[key]).unwrap();
    machine.write("receipt.json", bytes);
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "`{from}` once in {text}");
    text.replace(from, to)
}

#[test]
fn a_restore_writes_a_receipt_that_holds_without_the_store() {
    let machine = restored();
    let shown = machine.ok(&["show", "--store", "store", "latest", "--json"]).json("snapkit.show/1");
    fs::remove_dir_all(machine.path("store")).unwrap();
    for args in [&["--store", "store"][..], &[]] {
        let verify = [args, &["receipt", "verify", "receipt.json", "--json"]].concat();
        let judged = machine.ok(&verify).json("snapkit.receipt-verify/1");
        assert_eq!(judged["believed_by"], "root");
        assert_eq!(judged["exact"], true);
        for field in ["id", "chain", "content_digest", "full_digest"] {
            assert_eq!(judged[field], shown[field], "{field}");
        }
    }
    let receipt = machine.ok(&["receipt", "show", "receipt.json", "--json"]).json("snapkit.receipt-show/1");
    assert_eq!(receipt["restored"]["entries"], shown["entries"]);
    assert_eq!(receipt["restored"]["bytes"], shown["bytes"]);
    assert_eq!(receipt["proof"], "written");
    assert_eq!(receipt["trees"][0]["path"], machine.arg("back").as_str());
    assert_eq!(receipt["trees"][0]["signed"], receipt["trees"][0]["found"]);
    // The executable that it names is the one that ran.
    let sum = Command::new("sha256sum").arg(snapkit_tests::binary::snapkit()).output().unwrap();
    assert_eq!(receipt["tool"]["sha256"].as_str().unwrap().as_bytes(), &sum.stdout[..64]);
    assert!(machine.ok(&["receipt", "show", "receipt.json"]).text().contains("exact"));
    machine.ok(&["receipt", "verify", "receipt.json", "--of", "#1"]);
    machine.ok(&["receipt", "verify", "receipt.json", "--of", shown["name"].as_str().unwrap()]);
}

#[test]
fn a_machine_that_believes_nothing_needs_the_nodes_key_and_says_what_it_does_not_know() {
    let machine = restored();
    let cold = Machine::new();
    fs::copy(machine.path("receipt.json"), cold.path("receipt.json")).unwrap();
    cold.run(&["receipt", "verify", "receipt.json"]).expect(50).stderr_names("--key");
    cold.run(&["--store", "elsewhere", "receipt", "verify", "receipt.json"]).expect(50);
    let file = public(&cold, &key(&machine, "node.key").public());
    let text = cold.ok(&["receipt", "verify", "receipt.json", "--key", &file]);
    assert!(text.text().contains("not known"), "{}", text.text());
    assert!(!cold.home().join("trust").exists());
}

#[test]
fn openssl_and_python_read_what_was_signed() {
    let machine = restored();
    public(&machine, &key(&machine, "node.key").public());
    // The commands of docs/format/receipt.md.
    let page = include_str!("../../docs/format/receipt.md");
    let (_, rest) = page.split_once("```sh\n").unwrap();
    let script = rest.split_once("```").unwrap().0.replace("RECEIPT", "receipt.json").replace("NODE.pem", "node.pem");
    let run = || Command::new("sh").args(["-ec", &script]).current_dir(machine.path("")).output().unwrap();
    let output = run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let python = r#"
import json
statement = json.load(open("payload"))
assert statement["_type"] == "https://in-toto.io/Statement/v1", statement
(subject,) = statement["subject"]
assert list(subject["digest"]) == ["sha256"], subject
assert subject["digest"]["sha256"] == statement["predicate"]["record"]["digest"]
assert statement["predicateType"] == "urn:snapkit:receipt:0-draft"
print(subject["name"])
"#;
    let output = Command::new("python3").args(["-c", python]).current_dir(machine.path("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.starts_with(b"snap-"));
    // The same commands refuse another byte.
    let edited = replaced(&statement(&machine), r#""proof":"written""#, r#""proof":"reread""#);
    let good = fs::read_to_string(machine.path("receipt.json")).unwrap();
    let payload = envelope_of(&machine)["payload"].as_str().unwrap().to_owned();
    machine.write("receipt.json", replaced(&good, &payload, &STANDARD.encode(edited)));
    assert!(!run().status.success());
}

#[test]
fn a_receipt_that_was_changed_anywhere_is_refused() {
    let machine = restored();
    let good = fs::read(machine.path("receipt.json")).unwrap();
    let file = public(&machine, &key(&machine, "node.key").public());
    for at in (0..good.len() - 1).step_by(good.len() / 40) {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        machine.write("receipt.json", &flipped);
        for key in [&[][..], &["--key", &file]] {
            let run = machine.run(&[&["receipt", "verify", "receipt.json"], key].concat());
            assert!((30..100).contains(&run.code), "byte {at}: exit code {}", run.code);
        }
    }
    machine.write("receipt.json", &good);
    let text = String::from_utf8(good).unwrap();
    let payload = envelope_of(&machine)["payload"].as_str().unwrap().to_owned();
    let edited = replaced(&statement(&machine), r#""exact":true"#, r#""exact":false"#);
    machine.write("receipt.json", replaced(&text, &payload, &STANDARD.encode(edited)));
    machine.run(&["receipt", "verify", "receipt.json"]).expect(42).stderr_names("E_SIG");
    machine.write("receipt.json", "");
    machine.run(&["receipt", "verify", "receipt.json"]).expect(30);
    machine.run(&["receipt", "verify", "missing.json"]).expect(5).stderr_names("missing.json");
}

#[test]
fn a_key_of_another_role_of_another_chain_or_of_nobody_is_refused() {
    let machine = restored();
    let payload = statement(&machine);
    let verify = || machine.run(&["receipt", "verify", "receipt.json"]);
    let node = key(&machine, "node.key");
    let owner = key(&machine, "owner.key");
    let as_signer = |key: &SecretKey| {
        let ids = [&node, key].map(|key| key.public().id().to_string());
        replaced(&payload, &format!(r#""node":"{}""#, ids[0]), &format!(r#""node":"{}""#, ids[1]))
    };
    sign(&machine, &as_signer(&owner), &owner);
    verify().expect(44).stderr_names("E_ROLE");
    let other = restored();
    let stranger = key(&other, "node.key");
    sign(&machine, &as_signer(&stranger), &stranger);
    verify().expect(41).stderr_names("E_SIG_UNTRUSTED");
    // The right key over a receipt of another chain.
    sign(&machine, &replaced_node(&statement(&other), &node), &node);
    verify().expect(60).stderr_names("E_ORIGIN");
    // The right key, and another node named.
    sign(&machine, &as_signer(&owner), &node);
    verify().expect(46);
}

/// A statement of another machine that names this key.
fn replaced_node(statement: &str, key: &SecretKey) -> String {
    let (before, rest) = statement.split_once(r#""node":""#).unwrap();
    format!(r#"{before}"node":"{}{}"#, key.public().id(), &rest[64..])
}

#[test]
fn the_receipt_of_another_record_is_not_the_one_asked_for() {
    let machine = restored();
    machine.write("tree/new", "more");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let verify = |of: &str| machine.run(&["receipt", "verify", "receipt.json", "--of", of]);
    verify("#1").expect(0);
    verify("#2").expect(1).stderr_names("record 1");
    verify("latest").expect(2);
    // Signed by the right key, with a subject that is not the record.
    let payload = statement(&machine);
    let (before, rest) = payload.split_once(r#""sha256":""#).unwrap();
    let other = format!(r#"{before}"sha256":"{}{}"#, Digest::sha256(b"other"), &rest[64..]);
    sign(&machine, &other, &key(&machine, "node.key"));
    verify("#1").expect(63);
    // A state that is not that of the trees it lists.
    let (before, rest) = payload.split_once(r#""state":{"signed":{"content_digest":""#).unwrap();
    let edited = format!(r#"{before}"state":{{"signed":{{"content_digest":"{}{}"#, Digest::sha256(b"x"), &rest[64..]);
    let edited = replaced(&edited, r#""exact":true"#, r#""exact":false"#);
    let (before, rest) = edited.split_once(r#""found":{"content_digest":""#).unwrap();
    let edited = format!(r#"{before}"found":{{"content_digest":"{}{}"#, Digest::sha256(b"x"), &rest[64..]);
    sign(&machine, &edited, &key(&machine, "node.key"));
    verify("#1").expect(63);
}

#[test]
fn a_directory_that_changed_since_is_told_from_one_that_did_not() {
    let machine = restored();
    let against = || machine.run(&["receipt", "verify", "receipt.json", "--against", "back", "--json"]);
    let same = against().expect(0).json("snapkit.receipt-verify/1");
    assert_eq!((&same["trees"][0]["same_content"], &same["trees"][0]["same_metadata"]), (&true.into(), &true.into()));
    let file = fs::File::open(machine.path("back/text")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.set_modified(time + std::time::Duration::from_nanos(1)).unwrap();
    let touched = against().expect(1).json("snapkit.receipt-verify/1");
    assert_eq!(touched["trees"][0]["same_content"], true);
    assert_eq!(touched["trees"][0]["same_metadata"], false);
    fs::write(machine.path("back/text"), "another").unwrap();
    assert_eq!(against().expect(1).json("snapkit.receipt-verify/1")["trees"][0]["same_content"], false);
    let text = machine.run(&["receipt", "verify", "receipt.json", "--against", "back"]).expect(1);
    assert!(text.text().contains("NOT as it was restored"), "{}", text.text());
    machine.run(&["receipt", "verify", "receipt.json", "--against", "nowhere"]).expect(5).stderr_names("nowhere");
}

#[test]
fn a_restore_of_a_part_or_with_changes_says_so_in_its_receipt() {
    let machine = Machine::new();
    machine.write("one/a/file", "a");
    machine.write("one/b/file", "b");
    machine.write("two/file", "2");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "one", "two"]);
    let restore = ["restore", "--store", "store", "latest", "back", "--path", "one/a", "--owner", "me"];
    machine.ok(&[&restore[..], &["--receipt", "receipt.json", "--proof", "reread"]].concat());
    let receipt = machine.ok(&["receipt", "show", "receipt.json", "--json"]).json("snapkit.receipt-show/1");
    assert_eq!(receipt["exact"], false);
    assert_eq!(receipt["selection"]["path"], "a");
    assert_eq!(receipt["left_out"], serde_json::json!({"trees": 1, "entries": 4}));
    assert_eq!(receipt["restored"]["files"], 1);
    assert_eq!(receipt["proof"], "reread");
    assert_eq!(receipt["trees"].as_array().unwrap().len(), 1);
    assert_ne!(receipt["trees"][0]["signed"], receipt["trees"][0]["found"]);
    machine.ok(&["receipt", "verify", "receipt.json", "--against", "back"]);
    assert!(machine.ok(&["receipt", "verify", "receipt.json"]).text().contains("not all of the snapshot"));
}

#[test]
fn what_is_missing_for_a_receipt_stops_the_restore_before_anything_is_written() {
    let machine = Machine::new();
    machine.write("tree/file", "x");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let restore =
        |receipt: &[&str]| machine.run(&[&["restore", "--store", "store", "latest", "back"], receipt].concat());
    machine.write("taken.json", "precious");
    restore(&["--receipt", "taken.json"]).expect(3).stderr_names("not overwritten");
    restore(&["--receipt", "no/such/r.json"]).expect(3).stderr_names("no/such/r.json");
    restore(&["--key", "x"]).expect(2);
    restore(&["--receipt", "r.json", "--key", "no.key"]).expect(3).stderr_names("--key");
    fs::create_dir(machine.path("back")).unwrap();
    restore(&["--receipt", "back/r.json"]).expect(3).stderr_names("target");
    assert_eq!(fs::read_dir(machine.path("back")).unwrap().count(), 0);
    let node = keys(&machine).join("node.key");
    fs::rename(&node, machine.path("moved.key")).unwrap();
    restore(&["--receipt", "r.json"]).expect(3).stderr_names("node.key");
    // A dry run writes none, and a restore without one needs no key.
    let dry = restore(&["--dry-run", "--json"]).expect(0).json("snapkit.restore/1");
    assert_eq!(dry["receipt"], Value::Null);
    let names = || {
        let entries = fs::read_dir(machine.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["back", "moved.key", "store", "taken.json", "tree"]);
    assert_eq!(fs::read_to_string(machine.path("taken.json")).unwrap(), "precious");
    // A key that the chain does not know signs, and says what that is worth.
    machine.ok(&["key", "generate", "own.key"]);
    restore(&["--receipt", "r.json", "--key", "own.key"]).expect(0).stderr_names("role node");
    machine.run(&["receipt", "verify", "r.json"]).expect(41);
    machine.ok(&["receipt", "verify", "r.json", "--key", "own.key"]);
}
