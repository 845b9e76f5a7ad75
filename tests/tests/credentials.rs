//! Credentials: `store probe --role` says what a user may do in a store, by trying it, and harms nothing.

#![allow(clippy::unwrap_used)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use serde_json::Value;
use snapkit_tests::{Machine, Run, is_root};

const NOBODY: u32 = 65_534;

/// A store with one snapshot, outside of the machine's own directory.
struct Served {
    machine: Machine,
    directory: tempfile::TempDir,
}

impl Served {
    fn new() -> Self {
        let machine = Machine::new();
        let directory = tempfile::tempdir().unwrap();
        mode(directory.path(), 0o755);
        let served = Self { machine, directory };
        served.machine.write("tree/file", "content");
        served.machine.ok(&["init", &served.store()]);
        served.machine.ok(&["snapshot", "--store", &served.store(), "tree"]);
        served
    }

    fn store(&self) -> String {
        self.directory.path().join("store").to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join("store").join(name)
    }

    fn probe(&self, role: &str) -> Run {
        self.machine.run_as_nobody(&["store", "probe", "--store", &self.store(), "--role", role, "--json"])
    }

    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let files = walkdir::WalkDir::new(self.path("")).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        files.map(|file| (file.path().display().to_string(), fs::read(file.path()).unwrap())).collect()
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn everywhere(path: &Path, file: u32, directory: u32) {
    for entry in walkdir::WalkDir::new(path).contents_first(true) {
        let entry = entry.unwrap();
        mode(entry.path(), if entry.file_type().is_dir() { directory } else { file });
    }
}

fn found<'a>(report: &'a Value, place: &str, right: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    &checks.iter().find(|check| check["place"] == place && check["right"] == right).unwrap()["found"]
}

#[test]
fn who_may_only_read_a_directory_is_a_reader_and_no_writer() {
    let served = Served::new();
    everywhere(&served.path(""), 0o444, 0o555);
    let before = served.files();
    for role in ["reader", "follower"] {
        let report = served.probe(role).expect(0).json("snapkit.store-rights/1");
        assert_eq!((&report["fits"], found(&report, "packs/", "read")), (&true.into(), &"yes".into()), "{report}");
    }
    let report = served.probe("writer").expect(1).json("snapkit.store-rights/1");
    assert_eq!(found(&report, "chain/", "create"), "no");
    let text = served.machine.run_as_nobody(&["store", "probe", "--store", &served.store(), "--role", "writer"]);
    let text = String::from_utf8(text.expect(1).stdout).unwrap();
    assert!(text.contains("lacking: may not create in chain/") && text.contains("NOT fit"), "{text}");
    assert_eq!(served.files(), before);
    everywhere(&served.path(""), 0o644, 0o755);
}

#[test]
fn rights_beyond_the_role_are_named_by_place() {
    let served = Served::new();
    everywhere(&served.path(""), 0o666, 0o777);
    let before = served.files();
    let run = served.machine.run_as_nobody(&["store", "probe", "--store", &served.store(), "--role", "reader"]);
    let text = String::from_utf8(run.expect(1).stdout).unwrap();
    for place in ["chain/", "packs/", "root/"] {
        assert!(text.contains(&format!("beyond the role: may create, replace, delete in {place}\n")), "{text}");
    }
    assert!(text.contains("beyond the role: may replace in checkpoint\n"), "{text}");
    assert_eq!(served.files(), before, "what was tried left nothing behind");
    served.machine.ok(&["verify", "--store", &served.store(), "--data"]);
}

/// The layout of `docs/credentials.md`, "Directories".
#[test]
fn a_writer_in_a_directory_is_kept_from_roots_by_the_sticky_bit() {
    if !is_root() {
        return eprintln!("skipped: only root can give files to two users");
    }
    let served = Served::new();
    everywhere(&served.path(""), 0o644, 0o755);
    mode(&served.path(""), 0o1777);
    fs::create_dir_all(served.path("manifests")).unwrap();
    for name in ["chain", "packs", "segments", "tile", "checkpoint"] {
        for entry in walkdir::WalkDir::new(served.path(name)) {
            chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    let report = served.probe("writer").expect(0).json("snapkit.store-rights/1");
    assert_eq!(found(&report, "root/", "create"), "no");
    assert_eq!(found(&report, "format", "replace"), "no");
    assert_eq!(found(&report, "checkpoint", "replace"), "yes");
    assert_eq!(found(&report, "chain/", "delete"), "yes", "a directory cannot withhold it");
    served.probe("reader").expect(1);
    // And these rights are enough to write.
    fs::write(served.machine.path("tree/file"), "changed").unwrap();
    served.machine.run_as_nobody(&["snapshot", "--store", &served.store(), "tree"]).expect(0);
    served.machine.ok(&["verify", "--store", &served.store(), "--data"]);
}

/// What a probe may have to leave behind is nothing to readers and writers.
#[test]
fn what_a_probe_left_behind_does_no_harm() {
    let served = Served::new();
    for place in ["chain", "manifests", "packs", "root", "segments", "tile"] {
        fs::create_dir_all(served.path(place)).unwrap();
        fs::write(served.path(place).join(".probe-rights"), "snapkit store probe tried here …").unwrap();
    }
    let store = served.store();
    served.machine.ok(&["verify", "--store", &store, "--data"]);
    fs::write(served.machine.path("tree/file"), "changed").unwrap();
    served.machine.ok(&["snapshot", "--store", &store, "tree"]);
    served.machine.ok(&["log", "--store", &store]);
    served.machine.ok(&["restore", "--store", &store, "latest", "back"]);
    assert_eq!(fs::read(served.machine.path("back/file")).unwrap(), b"changed");
    served.machine.ok(&["verify", "--store", &store, "--data"]);
}

#[test]
fn a_store_that_is_not_there_proves_nothing() {
    Machine::new().run(&["store", "probe", "--store", "absent", "--role", "reader"]).expect(5);
}
