//! The root: keys come and go while the owner's key is on another machine, and readers follow.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use snapkit_tests::compare::same_tree;
use snapkit_tests::kept::until;
use snapkit_tests::{Machine, Run};

/// A machine that takes snapshots of `tree` into `store`, whose owner's key was moved to another machine.
struct Two {
    primary: Machine,
    owner: Machine,
    bootstrap: String,
    root: String,
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

impl Two {
    fn new() -> Self {
        let (primary, owner) = (Machine::new(), Machine::new());
        primary.write("tree/file", "x");
        let init = primary.ok(&["init", "store", "--json"]).json("snapkit.init/1");
        primary.ok(&["snapshot", "--store", "store", "tree"]);
        fs::copy(init["owner_key"].as_str().unwrap(), owner.path("owner.key")).unwrap();
        fs::remove_file(init["owner_key"].as_str().unwrap()).unwrap();
        let text = |name: &str| init[name].as_str().unwrap().to_owned();
        Self { bootstrap: text("bootstrap"), root: text("root"), primary, owner }
    }

    /// Runs a command of the root on the primary.
    fn root(&self, args: &[&str]) -> Run {
        let mut all = vec!["--store", "store", "--json", "root"];
        all.extend(args);
        self.primary.run(&all)
    }

    /// Brings a draft to the owner, who looks at it and signs, and back.
    fn sign_elsewhere(&self, draft: &str) -> Value {
        copy(&self.primary.path(draft), &self.owner.path(draft));
        let version: u64 = draft.trim_start_matches("root-").trim_end_matches(".json").parse().unwrap();
        let before = format!("before-{version}.json");
        copy(&self.primary.path(format!("store/root/{}.json", version - 1)), &self.owner.path(&before));
        self.owner.ok(&["root", "show", draft, "--previous", &before]);
        let args = ["root", "sign", draft, "--previous", &before, "--signer", "owner.key", "--json"];
        let signed = self.owner.ok(&args).json("snapkit.root-draft/1");
        copy(&self.owner.path(draft), &self.primary.path(draft));
        assert!(!self.owner.home().join("trust").exists(), "signing needs no trust directory");
        signed
    }

    /// Signs and publishes a draft.
    fn publish(&self, draft: &str) {
        assert_eq!(self.sign_elsewhere(draft)["complete"], true);
        self.root(&["publish", draft]).expect(0);
        fs::remove_file(self.primary.path(draft)).unwrap();
    }

    fn snapshot(&self) -> Run {
        self.primary.run(&["--store", "store", "snapshot", "tree"])
    }

    /// A machine that knows nothing but the bootstrap string reads the newest snapshot.
    fn cold_restore(&self) -> Machine {
        let cold = Machine::new();
        cold.ok(&["--store", &self.bootstrap, "verify"]);
        cold.ok(&["--store", &self.bootstrap, "restore", "latest", "back"]);
        same_tree(&self.primary.path("tree"), &cold.path("back"));
        cold
    }
}

fn key_id(machine: &Machine, file: &str) -> String {
    let shown = machine.ok(&["--json", "key", "show", file]).json("snapkit.key-show/1");
    shown["keys"][0]["key_id"].as_str().unwrap().to_owned()
}

#[test]
fn keys_change_while_the_owners_key_is_elsewhere() {
    let two = Two::new();
    let reader = Machine::new();
    reader.ok(&["trust", "add", &two.bootstrap]);
    two.primary.ok(&["key", "generate", "drill.key"]);
    two.primary.ok(&["key", "export", "drill.key", "--public", "--out", "drill.pub"]);
    let draft = two.root(&["add-key", "drill.pub", "--role", "drill"]).expect(0).json("snapkit.root-draft/1");
    assert_eq!((&draft["version"], &draft["complete"]), (&2.into(), &false.into()));
    assert_eq!(draft["changes"][0]["what"], "key-added");
    assert_eq!(draft["changes"][0]["key"], key_id(&two.primary, "drill.pub"));
    // Nothing has changed for anybody, and without the owner nothing will.
    two.root(&["publish", "root-2.json"]).expect(52).stderr_names("threshold of the old root");
    two.primary.run(&["--store", "store", "root", "sign", "root-2.json"]).expect(2).stderr_names("--signer");
    two.root(&["sign", "root-2.json", "--signer", "drill.key"]).expect(44);
    assert!(!two.primary.path("store/root/2.json").exists());
    two.publish("root-2.json");
    let shown = two.root(&["show"]).expect(0).json("snapkit.root-show/1");
    assert_eq!((&shown["version"], &shown["verified"]), (&2.into(), &true.into()));
    // Those who knew root 1 follow, and so does who begins with the string.
    let store = two.primary.arg("store");
    let seen = reader.ok(&["--store", &store, "root", "show", "--json"]).json("snapkit.root-show/1");
    assert_eq!(seen["digest"], shown["digest"]);
    assert!(reader.home().join("trust").join(&two.root).join("root/2.json").exists());
    two.snapshot().expect(0);
    two.cold_restore();
    // What lies in the store is what was signed.
    let raw = reader.ok(&["--store", &store, "root", "show", "--version", "1", "--raw"]);
    assert_eq!(raw.stdout, fs::read(two.primary.path("store/root/1.json")).unwrap());
    reader.run(&["--store", &store, "root", "show", "--version", "3"]).expect(70);
}

#[test]
fn several_changes_go_into_one_draft_and_signatures_do_not_outlive_a_change() {
    let two = Two::new();
    for name in ["a", "b"] {
        two.primary.ok(&["key", "generate", &format!("{name}.key")]);
    }
    two.root(&["add-key", "a.key", "--role", "drill", "--role", "prune"]).expect(0);
    two.sign_elsewhere("root-2.json");
    two.root(&["add-key", "b.key", "--role", "drill"]).expect(0).stderr_names("signatures are gone");
    two.root(&["add-key", "b.key", "--role", "drill"]).expect(3).stderr_names("already");
    two.root(&["set-threshold", "drill", "2"]).expect(3).stderr_names("signed by one key");
    two.root(&["set-threshold", "root", "2"]).expect(3);
    two.root(&["remove-key", "0123456789", "--role", "drill"]).expect(2);
    let shown = two.root(&["show", "root-2.json"]).expect(0).json("snapkit.root-show/1");
    assert_eq!((&shown["verified"], &shown["draft"]["old"]["missing"]), (&false.into(), &1.into()));
    two.publish("root-2.json");
    // A draft that was overtaken is named as such, and so is who was late.
    two.root(&["renew", "--draft", "mine.json"]).expect(0);
    two.root(&["renew", "--draft", "theirs.json", "--expires", "90d"]).expect(0);
    for draft in ["mine.json", "theirs.json"] {
        copy(&two.owner.path("owner.key"), &two.primary.path("owner.key"));
        two.root(&["sign", draft, "--signer", "owner.key"]).expect(0);
    }
    two.root(&["publish", "mine.json"]).expect(0);
    two.root(&["publish", "mine.json"]).expect(0);
    two.root(&["publish", "theirs.json"]).expect(34).stderr_names("published first");
    two.root(&["renew", "--draft", "theirs.json"]).expect(3).stderr_names("root 3");
    let lint = two.root(&["lint", "theirs.json"]).expect(1).json("snapkit.root-lint/1");
    assert_eq!(lint["findings"][0]["code"], "stale-draft");
}

#[test]
fn the_owner_can_be_replaced_and_nothing_is_lost() {
    let two = Two::new();
    two.owner.ok(&["key", "generate", "next.key"]);
    copy(&two.owner.path("next.key"), &two.primary.path("next.key"));
    let old = key_id(&two.owner, "owner.key");
    two.root(&["add-key", "next.key", "--role", "root", "--role", "release"]).expect(0);
    two.root(&["remove-key", &old[..12]]).expect(0);
    // The old owner alone is not enough, nor is the new one.
    two.sign_elsewhere("root-2.json");
    two.root(&["publish", "root-2.json"]).expect(52).stderr_names("threshold of the new root");
    let signed = two.root(&["sign", "root-2.json", "--signer", "next.key"]).expect(0).json("snapkit.root-draft/1");
    assert_eq!(signed["complete"], true);
    two.root(&["publish", "root-2.json"]).expect(0);
    two.snapshot().expect(0);
    two.cold_restore();
    // The old key counts for nothing any more.
    two.root(&["renew"]).expect(0);
    copy(&two.owner.path("owner.key"), &two.primary.path("owner.key"));
    two.root(&["sign", "root-3.json", "--signer", "owner.key"]).expect(44);
    two.root(&["sign", "root-3.json", "--signer", "next.key"]).expect(0);
    two.root(&["publish", "root-3.json"]).expect(0);
    two.cold_restore();
}

/// A shell command that signs with a key through OpenSSL.
fn openssl(key: &str) -> String {
    format!(
        "cmd:t=$(mktemp) && cat > \"$t\" && openssl pkeyutl -sign -rawin -inkey {key} -in \"$t\"; e=$?; rm -f \"$t\"; exit $e"
    )
}

#[test]
fn two_of_three_owners_sign_with_programs_that_hold_their_keys() {
    let two = Two::new();
    for name in ["b", "c"] {
        let made = Command::new("openssl")
            .args(["genpkey", "-algorithm", "ED25519", "-out"])
            .arg(two.primary.path(format!("{name}.pem")))
            .status();
        assert!(made.unwrap().success());
        fs::set_permissions(two.primary.path(format!("{name}.pem")), fs::Permissions::from_mode(0o600)).unwrap();
        two.root(&["add-key", &format!("{name}.pem"), "--role", "root"]).expect(0);
    }
    two.root(&["set-threshold", "root", "2"]).expect(0);
    let draft = two.sign_elsewhere("root-2.json");
    assert_eq!((&draft["old"]["missing"], &draft["new"]["missing"]), (&0.into(), &1.into()));
    let signed = two.root(&["sign", "root-2.json", "--signer", &openssl("b.pem")]).expect(0);
    assert_eq!(signed.json("snapkit.root-draft/1")["signed_by"], key_id(&two.primary, "b.pem"));
    two.root(&["publish", "root-2.json"]).expect(0);
    // From now on one is not enough, whoever it is; the same one twice is not two.
    two.root(&["renew"]).expect(0);
    for _ in 0..2 {
        two.root(&["sign", "root-3.json", "--signer", &openssl("b.pem")]).expect(0);
    }
    two.root(&["publish", "root-3.json"]).expect(52);
    // A program that fails, or signs with another key, leaves the draft as it is.
    let before = fs::read(two.primary.path("root-3.json")).unwrap();
    for signer in ["cmd:exit 3", "cmd:echo nothing", "cmd:cat", &openssl("missing.pem")] {
        two.root(&["sign", "root-3.json", "--signer", signer]).expect(57).stderr_names("E_SIGNER");
    }
    let named = ["sign", "root-3.json", "--signer", &openssl("b.pem"), "--signer-key", "c.pem"];
    two.root(&named).expect(57);
    assert_eq!(fs::read(two.primary.path("root-3.json")).unwrap(), before);
    // A key in the environment, as CI has it.
    let mut command =
        two.primary.command(&["root", "sign", "root-3.json", "--store", "store", "--signer", "env:KEY_C"]);
    command.env("KEY_C", fs::read_to_string(two.primary.path("c.pem")).unwrap());
    Run::of(command).expect(0);
    two.root(&["publish", "root-3.json"]).expect(0);
    two.cold_restore();
    two.root(&["sign", "root-3.json", "--signer", "env:KEY_D"]).expect(2);
}

/// An `ssh-agent` of its own, ended with the test.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(machine: &Machine) -> Self {
        let socket = machine.path("agent.sock");
        let process = Command::new("ssh-agent").args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        until("the agent listens", || UnixStream::connect(&socket).ok());
        Self { process, socket }
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add").arg(key).env("SSH_AUTH_SOCK", &self.socket).stderr(Stdio::null()).status();
        assert!(added.unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_snapshot_is_signed_by_a_key_that_only_the_ssh_agent_has() {
    let two = Two::new();
    let node = two.primary.home().join("keys").join(&two.root).join("node.key");
    let node_file = node.to_str().unwrap();
    two.primary.ok(&["key", "export", node_file, "--ssh", "--out", "node.ssh"]);
    two.primary.ok(&["key", "generate", "other.key"]);
    two.primary.ok(&["key", "export", "other.key", "--ssh", "--out", "other.ssh"]);
    let agent = Agent::start(&two.primary);
    agent.add(&two.primary.path("other.ssh"));
    agent.add(&two.primary.path("node.ssh"));
    for file in [&node, &two.primary.path("node.ssh")] {
        fs::remove_file(file).unwrap();
    }
    let helper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/ssh-agent-signer");
    let signer = format!("cmd:{}", helper.display());
    let snapshot = |signer: &str| {
        let mut command = two.primary.command(&["snapshot", "--store", "store", "tree", "--signer", signer]);
        command.env("SSH_AUTH_SOCK", &agent.socket);
        Run::of(command)
    };
    snapshot(&signer).expect(0);
    two.cold_restore();
    // A key that may not write is refused before anything is asked of the program.
    two.primary.run(&["snapshot", "--store", "store", "tree", "--signer", "other.key"]).expect(44);
    two.snapshot().expect(5);
    snapshot("cmd:false").expect(57);
}

#[test]
fn a_machine_is_enrolled_and_a_writer_retired() {
    let two = Two::new();
    let store = two.primary.arg("store");
    let second = Machine::new();
    second.ok(&["trust", "add", &two.bootstrap]);
    second.write("tree/file", "from the second machine");
    let enrolled = second.ok(&["--store", &store, "--json", "key", "enroll", "--out", "second.pub"]);
    let enrolled = enrolled.json("snapkit.key-enroll/1");
    assert_eq!(enrolled["roles"], Value::Array(Vec::new()));
    // Asked again it says the same; the secret key stays where it is.
    second.ok(&["--store", &store, "key", "enroll", "--out", "second.pub"]);
    assert!(!fs::read_to_string(second.path("second.pub")).unwrap().contains("PRIVATE"));
    second.run(&["--store", &store, "snapshot", "tree"]).expect(44);
    copy(&second.path("second.pub"), &two.primary.path("second.pub"));
    two.root(&["add-key", "second.pub", "--role", "writer", "--role", "node"]).expect(0);
    two.publish("root-2.json");
    second.ok(&["--store", &store, "snapshot", "tree"]);
    two.snapshot().expect(0);
    let roles = second.ok(&["--store", &store, "--json", "key", "enroll", "--out", "second.pub"]);
    assert_eq!(roles.json("snapkit.key-enroll/1")["roles"], serde_json::json!(["node", "writer"]));

    // Now the first writer goes. A draft that was made before its last snapshot would take that one with it.
    let node = two.primary.home().join("keys").join(&two.root).join("node.key");
    let node = node.to_str().unwrap();
    two.root(&["remove-key", node, "--role", "writer"]).expect(0);
    two.snapshot().expect(0);
    two.sign_elsewhere("root-3.json");
    two.root(&["publish", "root-3.json"]).expect(3).stderr_names("--until 5");
    fs::remove_file(two.primary.path("root-3.json")).unwrap();
    two.root(&["remove-key", node, "--role", "writer", "--until", "5"]).expect(0);
    two.publish("root-3.json");
    two.snapshot().expect(45).stderr_names("E_REVOKED");
    // What it signed before is as good as ever, and the chain goes on.
    let cold = two.cold_restore();
    second.ok(&["--store", &store, "snapshot", "tree"]);
    cold.ok(&["--store", &two.bootstrap, "verify", "--data"]);
    cold.ok(&["--store", &two.bootstrap, "restore", "1", "first"]);
}

#[test]
fn what_a_thief_signed_in_any_role_is_not_kept() {
    let two = Two::new();
    let rollback = |reason: &str| {
        let args = ["rollback", "--to", "1", "--reason", reason, "--store", "store", "--json"];
        two.primary.ok(&args).json("snapkit.rollback/1")["seq"].as_u64().unwrap()
    };
    let next = |number: u32| {
        two.primary.write("tree/file", format!("content {number}"));
        two.snapshot().expect(0);
    };
    next(2);
    assert_eq!(rollback("by the node"), 3);
    next(4);
    assert_eq!(rollback("by a thief of its key"), 5);
    two.primary.ok(&["key", "generate", "other.key"]);
    two.root(&["add-key", "other.key", "--role", "writer", "--role", "manifest"]).expect(0);
    let node = two.primary.home().join("keys").join(&two.root).join("node.key");
    let node = node.to_str().unwrap();
    let kept = |run: Run| {
        let draft = run.expect(0).json("snapkit.root-draft/1");
        draft["changes"].as_array().unwrap().iter().filter(|change| change["what"] == "record-kept").count()
    };
    // What the node signed before that number stays, and what the thief signed goes, also after more changes.
    assert_eq!(kept(two.root(&["remove-key", node, "--until", "5"])), 0);
    assert_eq!(kept(two.root(&["set-threshold", "release", "1"])), 0);
    two.sign_elsewhere("root-2.json");
    two.root(&["publish", "root-2.json"]).expect(3).stderr_names("from record 5 on");
    let done = two.root(&["publish", "root-2.json", "--void-records"]).expect(0).json("snapkit.root-publish/1");
    assert_eq!((&done["voided"][0]["seq"], done["voided"].as_array().unwrap().len()), (&5.into(), 1));
}

#[test]
fn an_expired_root_stops_readers_until_the_owner_renews_it() {
    let two = Two::new();
    two.root(&["renew", "--expires", "45s"]).expect(0);
    let expires = std::time::Instant::now() + std::time::Duration::from_secs(46);
    two.publish("root-2.json");
    let lint = two.root(&["lint"]).expect(1).json("snapkit.root-lint/1");
    assert!(["expiring", "expired"].map(Value::from).contains(&lint["findings"][0]["code"]), "{lint}");
    std::thread::sleep(expires.saturating_duration_since(std::time::Instant::now()));
    two.primary.run(&["--store", "store", "log"]).expect(53);
    two.snapshot().expect(53);
    two.root(&["show"]).expect(0);
    two.root(&["renew", "--expires", "yesterday"]).expect(2);
    two.root(&["renew"]).expect(0);
    two.publish("root-3.json");
    two.snapshot().expect(0);
    two.cold_restore();
    let lint = two.root(&["lint"]).expect(0).json("snapkit.root-lint/1");
    assert_eq!(lint["findings"][0]["code"], "single-owner");
    two.root(&["lint", "--strict"]).expect(1);
    two.root(&["lint", "--within", "2y"]).expect(1);
}
