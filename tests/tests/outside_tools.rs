//! What tools that are not ours, unmodified, say of what snapkit signed and exported.
//!
//! Needs `openssl`, `ssh-keygen`, and the Python that `tests/tools/install-python` installs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use snapkit_tests::Machine;
use snapkit_tests::python::{is_left_out, python};

/// A chain of three snapshots, one of them restored with a receipt.
fn chain() -> Machine {
    let machine = Machine::new();
    machine.ok(&["init", "store"]);
    for change in ["one", "two", "three"] {
        machine.write("tree/file", change);
        machine.ok(&["snapshot", "--store", "store", "tree"]);
    }
    machine.ok(&["restore", "--store", "store", "latest", "back", "--receipt", "receipt.json"]);
    machine
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a shell script in a new directory of the machine.
fn sh(machine: &Machine, directory: &str, script: &str) -> Output {
    fs::create_dir(machine.path(directory)).unwrap();
    Command::new("sh").args(["-c", script]).current_dir(machine.path(directory)).output().unwrap()
}

/// Runs a Python program in the machine's directory and expects it to end well.
#[track_caller]
fn py(machine: &Machine, program: &str) -> String {
    let output = python().args(["-c", program]).current_dir(machine.path("")).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The one directory of keys below the machine's home.
fn keys(machine: &Machine) -> std::path::PathBuf {
    let mut found = fs::read_dir(machine.home().join("keys")).unwrap();
    found.next().unwrap().unwrap().path()
}

/// Changes a byte in the middle of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn openssl_and_coreutils_run_what_explain_prints() {
    let machine = chain();
    let record = machine.ok(&["verify", "--store", "store", "--explain"]).text().to_owned();
    let receipt = machine.ok(&["receipt", "verify", "receipt.json", "--explain"]).text().to_owned();
    for (what, script, file) in
        [("record", record, "store/chain/00000000000000000003.json"), ("receipt", receipt, "receipt.json")]
    {
        let good = sh(&machine, what, &script);
        assert!(good.status.success(), "{what}: {}\n{script}", said(&good));
        // Two signatures: of the root over itself, and over the document.
        assert_eq!(said(&good).matches("Signature Verified Successfully").count(), 2, "{}", said(&good));
        assert!(said(&good).ends_with("everything holds\n"), "{}", said(&good));
        damage(&machine.path(file));
        let bad = sh(&machine, &format!("{what}-damaged"), &script);
        assert!(!bad.status.success(), "{what}: {}", said(&bad));
    }
}

#[test]
fn what_explain_prints_goes_over_every_root() {
    let machine = chain();
    machine.ok(&["key", "generate", "second.key"]);
    machine.ok(&["root", "add-key", "--store", "store", "second.key", "--role", "root", "--draft", "draft.json"]);
    machine.ok(&["root", "sign", "--store", "store", "draft.json"]);
    machine.ok(&["root", "publish", "--store", "store", "draft.json"]);
    let script = machine.ok(&["verify", "--store", "store", "--explain"]).text().to_owned();
    let good = sh(&machine, "run", &script);
    // Root 1 over itself, root 2 by the keys of root 1 and by its own, the record.
    assert_eq!(said(&good).matches("Signature Verified Successfully").count(), 4, "{}\n{script}", said(&good));
    assert!(said(&good).ends_with("everything holds\n"), "{}", said(&good));
    damage(&machine.path("store/root/2.json"));
    assert!(!sh(&machine, "run-damaged", &script).status.success());
}

#[test]
fn what_explain_prints_refuses_another_root() {
    let machine = chain();
    let script = machine.ok(&["verify", "--store", "store", "--explain"]).text().to_owned();
    let other = Machine::new();
    other.ok(&["init", "store"]);
    fs::copy(other.path("store/root/1.json"), machine.path("store/root/1.json")).unwrap();
    let bad = sh(&machine, "run", &script);
    assert!(!bad.status.success() && said(&bad).contains("FAILED"), "{}", said(&bad));
}

#[test]
fn securesystemslib_verifies_roots_records_and_receipts() {
    if is_left_out() {
        return;
    }
    let machine = chain();
    for name in ["owner", "node"] {
        let key = keys(&machine).join(format!("{name}.key"));
        machine.ok(&["key", "export", key.to_str().unwrap(), "--public", "--out", &format!("{name}.pem")]);
    }
    let verified = py(
        &machine,
        r#"
import glob, json
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

keys = {name: SSlibKey.from_crypto(load_pem_public_key(open(name + ".pem", "rb").read())) for name in ("owner", "node")}
signed_by_owner = ["store/root/1.json", "store/chain/00000000000000000000.json"]
for path in sorted(glob.glob("store/root/*.json") + glob.glob("store/chain/*.json")) + ["receipt.json"]:
    text = open(path).read()
    signer, other = ("owner", "node") if path in signed_by_owner else ("node", "owner")
    accepted = Envelope.from_dict(json.loads(text)).verify([keys[signer]], 1)
    assert list(accepted) == [keys[signer].keyid], "the key ids are those of TUF"
    try:
        Envelope.from_dict(json.loads(text)).verify([keys[other]], 1)
        raise AssertionError("verified by a key that did not sign")
    except VerificationError:
        print(path)
"#,
    );
    assert_eq!(verified.lines().count(), 6, "{verified}");
}

#[test]
fn in_toto_attestation_validates_a_receipt_by_the_lines_in_its_page() {
    if is_left_out() {
        return;
    }
    let machine = chain();
    let key = keys(&machine).join("node.key");
    machine.ok(&["key", "export", key.to_str().unwrap(), "--public", "--out", "node.pem"]);
    let page = include_str!("../../docs/format/receipt.md");
    let (_, rest) = page.split_once("```python\n").unwrap();
    let program = rest.split_once("```").unwrap().0.replace("RECEIPT", "receipt.json").replace("NODE.pem", "node.pem");
    py(&machine, &program);
}

#[test]
fn ssh_keygen_signs_and_verifies_with_an_exported_key() {
    let machine = chain();
    let key = keys(&machine).join("node.key");
    let key = key.to_str().unwrap();
    machine.ok(&["key", "export", key, "--ssh", "--out", "id"]);
    let line = machine.ok(&["key", "export", key, "--ssh", "--public"]).text().to_owned();
    machine.write("allowed", format!("node@example namespaces=\"snapkit\" {line}"));
    machine.write("message", "a message");
    let run = |script: &str| Command::new("sh").args(["-c", script]).current_dir(machine.path("")).output().unwrap();
    let signed = run("ssh-keygen -Y sign -q -f id -n snapkit message");
    assert!(signed.status.success(), "{}", said(&signed));
    let verify = "ssh-keygen -Y verify -f allowed -I node@example -n snapkit -s message.sig < message";
    let good = run(verify);
    assert!(good.status.success() && said(&good).contains("Good \"snapkit\" signature"), "{}", said(&good));
    machine.write("message", "another message");
    assert!(!run(verify).status.success());
}

#[test]
fn pymerkle_agrees_on_the_log_and_on_its_tiles() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    machine.write("tree/file", "content");
    machine.ok(&["init", "store"]);
    for seq in 1..12 {
        // A slot that nobody entitled filled counts in the log too.
        if seq == 4 {
            machine.write(&format!("store/chain/{seq:020}.json"), "garbage");
        } else {
            machine.ok(&["snapshot", "--store", "store", "tree"]);
        }
    }
    let sizes = py(
        &machine,
        r#"
import base64, glob, hashlib, json
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

payloads = {}
for number, path in enumerate(sorted(glob.glob("store/chain/*.json"))):
    try:
        payloads[number] = base64.b64decode(json.load(open(path))["payload"])
    except ValueError:
        payloads[number] = b""
tree = InmemoryTree(algorithm="sha256")
for number in sorted(payloads):
    tree.append_entry(hashlib.sha256(payloads[number]).digest())
roots = {}
for number, payload in payloads.items():
    if payload:
        log = json.loads(payload)["log"]
        assert log["size"] == number
        if number:
            assert tree.get_root(number).hex() == log["root"], number
            roots[number] = bytes.fromhex(log["root"])
for size, root in roots.items():
    for index in range(1, size + 1):
        verify_inclusion(tree.get_leaf(index), root, tree.prove_inclusion(index, size))
    for before in roots:
        if before <= size:
            verify_consistency(roots[before], root, tree.prove_consistency(before, size))
tile = open("store/tile/0/000.p/12", "rb").read()
assert [tile[at:at + 32] for at in range(0, len(tile), 32)] == [tree.get_leaf(index) for index in range(1, 13)]
print(len(payloads), len(roots))
"#,
    );
    assert_eq!(sizes, "12 10\n");
}
