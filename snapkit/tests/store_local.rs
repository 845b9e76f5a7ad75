//! A directory as a store: the contract, what a killed writer leaves, and errors a person can read.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use snapkit::store::probe::{Verdict, probe};
use snapkit::store::{Created, OpenError, OpenOptions, Store, StoreError, conformance, open};

fn store_in(path: &Path) -> Arc<dyn Store> {
    open(path.to_str().unwrap(), &OpenOptions::default()).unwrap()
}

fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(conformance::run(&store_in(directory.path()), ""), []);
}

#[test]
fn the_probe_accepts_a_directory_and_leaves_no_object() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    let report = probe(&store, "");
    assert!(report.fit_for_writing, "{report:#?}");
    assert!(report.checks.iter().all(|check| check.verdict == Verdict::Passed), "{report:#?}");
    store.list("", None, &mut |key, _| panic!("{key} is left")).unwrap();
}

#[test]
fn the_probe_accepts_memory_and_finds_a_lying_store_in_any_round() {
    let memory = open("memory://local-probe", &OpenOptions::default()).unwrap();
    let report = probe(&memory, "below/");
    assert!(report.fit_for_writing, "{report:#?}");

    use snapkit::store::faulty::{Call, Damage, FaultyStore};
    let lying = FaultyStore::new(&memory).damage("race/00000000000000000030", Damage::FlipBit(9));
    let report = probe(&lying, "");
    assert!(!report.fit_for_writing);
    let race = report.checks.iter().find(|check| check.name == "create race").unwrap();
    assert!(race.reason.contains("round 31"), "{race:?}");
    assert!(lying.operations().iter().all(|operation| operation.key.starts_with("probe/")));
    assert!(lying.operations().iter().filter(|operation| operation.call == Call::Create).count() > 700);
}

#[test]
fn directories_are_created_only_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("some/where");
    let address = path.to_str().unwrap();
    let refused = open(address, &OpenOptions::default()).err().unwrap();
    assert!(matches!(refused, OpenError::NoDirectory { .. }));
    assert!(refused.to_string().contains("some/where"));
    assert!(!directory.path().join("some").exists());

    let create = OpenOptions { create_directory: true, ..OpenOptions::default() };
    open(address, &create).unwrap().put("a/b", "x".into()).unwrap();
    let by_url = open(&format!("file://{address}"), &OpenOptions::default()).unwrap();
    assert_eq!(by_url.get("a/b", 1).unwrap().as_ref(), b"x");
}

#[test]
fn what_a_killed_writer_leaves_is_invisible() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    store.put("chain/0.json", "0".into()).unwrap();
    for staged in ["chain/0.json#1", "chain/1.json#1", "chain/1.json#17"] {
        fs::write(directory.path().join(staged), "half").unwrap();
    }
    let mut seen = Vec::new();
    store.list("", None, &mut |key, _| seen.push(key.to_owned())).unwrap();
    assert_eq!(seen, ["chain/0.json"]);
    assert!(store.get("chain/1.json", 9).unwrap_err().is_missing());
    assert!(matches!(store.create("chain/1.json", "1".into()), Ok(Created::Yes)));
    assert_eq!(store.get("chain/1.json", 9).unwrap().as_ref(), b"1");
}

#[test]
fn visits_of_a_listing_may_use_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    store.put("a/1", "x".into()).unwrap();
    let mut read = 0;
    store.list("a/", None, &mut |key, _| read += store.get(key, 9).unwrap().len()).unwrap();
    assert_eq!(read, 1);
}

#[test]
fn objects_that_shrink_or_are_directories_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = store_in(directory.path());
    fs::write(directory.path().join("pack"), "12345").unwrap();
    assert!(matches!(store.get_range("pack", 0..6), Err(StoreError::Short { wanted_end: 6, .. })));
    fs::create_dir(directory.path().join("dir")).unwrap();
    assert!(store.get("dir", 9).is_err());
    assert!(store.put("dir", "x".into()).is_err());
    assert!(store.get("pack/below", 9).is_err());
    let error = store.put("pack/below", "x".into()).unwrap_err();
    assert!(told(&error).contains("something else is in its place"), "{}", told(&error));
}

/// Runs `test` of this binary below `directory` as a user without special rights; root passes every permission check.
fn as_nobody(test: &str, directory: &Path) {
    // A copy, because the way to the original may be closed to that user. Not by this process: what another test starts
    // meanwhile would hold it open for writing.
    let copy = directory.join("test");
    assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    let status = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["--exact", test])
        .env("SNAPKIT_TEST_NOBODY_DIRECTORY", directory)
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn missing_permission_is_told_as_such() {
    let path = match std::env::var_os("SNAPKIT_TEST_NOBODY_DIRECTORY") {
        Some(path) => path.into(),
        None if !rustix::process::geteuid().is_root() => std::env::temp_dir(),
        None => {
            let directory = tempfile::tempdir().unwrap();
            return as_nobody("missing_permission_is_told_as_such", directory.path());
        }
    };
    let directory = tempfile::tempdir_in(path).unwrap();
    let store = store_in(directory.path());
    store.put("here/a", "x".into()).unwrap();
    let here = directory.path().join("here");
    fs::set_permissions(&here, fs::Permissions::from_mode(0o555)).unwrap();
    for error in [store.put("here/b", "x".into()).unwrap_err(), store.create("here/b", "x".into()).unwrap_err()] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(told(&error).contains("Permission denied"), "{}", told(&error));
    }
    // May be written, may not be read: the object lands, its directory cannot be synced.
    fs::set_permissions(&here, fs::Permissions::from_mode(0o333)).unwrap();
    assert!(matches!(store.create("here/c", "x".into()), Ok(Created::Unknown(StoreError::Denied { .. }))));
    fs::set_permissions(&here, fs::Permissions::from_mode(0o000)).unwrap();
    assert!(matches!(store.get("here/a", 9), Err(StoreError::Denied { .. })));
    assert!(matches!(store.list("here/", None, &mut |_, _| {}), Err(StoreError::Denied { .. })));
    fs::set_permissions(&here, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Mounts a file system in a mount namespace of its own and runs `test` of this binary there; true inside.
///
/// Where mounting is not allowed the test is left out, unless SNAPKIT_TEST_SERVERS=required.
fn in_mount(test: &str, mount: &str) -> bool {
    if std::env::var_os("SNAPKIT_TEST_MOUNT").is_some() {
        return true;
    }
    let directory = tempfile::tempdir().unwrap();
    let script = format!("{mount} && exec \"$1\" --exact \"$2\"");
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-ec", &script, "sh"])
        .args([exe.as_os_str(), test.as_ref()])
        .env("SNAPKIT_TEST_MOUNT", directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let required = std::env::var("SNAPKIT_TEST_SERVERS").is_ok_and(|value| value == "required");
    let cannot = !required && (said.contains("unshare failed") || said.contains("permission denied"));
    assert!(output.status.success() || cannot, "{said}");
    false
}

#[test]
fn a_full_disk_is_told_as_such_and_leaves_nothing_visible() {
    if !in_mount(
        "a_full_disk_is_told_as_such_and_leaves_nothing_visible",
        "mount -t tmpfs -o size=1m none \"$SNAPKIT_TEST_MOUNT\"",
    ) {
        return;
    }
    let path = std::env::var("SNAPKIT_TEST_MOUNT").unwrap();
    let store = store_in(Path::new(&path));
    store.put("fits", vec![0; 500_000].into()).unwrap();
    let error = store.put("packs/aa", vec![0; 900_000].into()).unwrap_err();
    assert!(!error.can_retry());
    assert!(told(&error).contains("free some space") && told(&error).contains("No space left"), "{}", told(&error));
    let created = store.create("chain/0", vec![0; 900_000].into()).unwrap();
    assert!(matches!(created, Created::Unknown(_)), "{created:?}");
    let mut seen = Vec::new();
    store.list("", None, &mut |key, _| seen.push(key.to_owned())).unwrap();
    assert_eq!(seen, ["fits"]);
    store.put("packs/aa", vec![0; 300_000].into()).unwrap();
}

#[test]
fn a_read_only_mount_is_told_as_such() {
    let mount = "mount -t tmpfs none \"$SNAPKIT_TEST_MOUNT\" && echo x > \"$SNAPKIT_TEST_MOUNT/a\" && \
                 mount -o remount,ro \"$SNAPKIT_TEST_MOUNT\"";
    if !in_mount("a_read_only_mount_is_told_as_such", mount) {
        return;
    }
    let store = store_in(Path::new(&std::env::var("SNAPKIT_TEST_MOUNT").unwrap()));
    assert_eq!(store.get("a", 9).unwrap().as_ref(), b"x\n");
    for error in [store.put("b", "x".into()).unwrap_err(), store.create("b", "x".into()).unwrap_err()] {
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(told(&error).contains("Read-only file system"), "{}", told(&error));
    }
    assert!(!probe(&store, "").fit_for_writing);
}

#[test]
fn addresses_that_are_not_stores_are_refused_without_their_secrets() {
    for address in ["ftp://user:secret@host/x", "s3:///prefix", "s3://b/p?sig=secret", "s3://user:secret@b/p"] {
        let error = told(&open(address, &OpenOptions::default()).err().unwrap());
        assert!(!error.contains("secret"), "{error}");
    }
    let error = open("http://169.254.169.254/latest", &OpenOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Address { .. }));
}

#[test]
fn clouds_without_explicit_credentials_are_refused_with_the_names_to_set() {
    for (address, name) in [
        ("s3://bucket/p", "AWS_ACCESS_KEY_ID"),
        ("gs://bucket", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://container", "AZURE_STORAGE_ACCOUNT_KEY"),
    ] {
        let error = open(address, &OpenOptions::default()).err().unwrap();
        assert!(matches!(&error, OpenError::Credentials { .. }), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
    }
    let settings = [("access_key_id", "a"), ("secret_access_key", "b"), ("regoin", "c")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let error = open("s3://bucket", &OpenOptions { settings, ..OpenOptions::default() }).err().unwrap();
    assert!(matches!(&error, OpenError::Setting { name, .. } if name == "regoin"), "{error:?}");
}

#[test]
fn a_fifo_in_the_place_of_an_object_holds_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let made = Command::new("mkfifo").arg(directory.path().join("checkpoint")).status().unwrap();
    assert!(made.success());
    let store = open(directory.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    let error = store.get("checkpoint", 256).unwrap_err();
    assert!(!error.can_retry() && !error.is_missing(), "{error:?}");
    assert!(store.get_range("checkpoint", 0..1).is_err());
}
