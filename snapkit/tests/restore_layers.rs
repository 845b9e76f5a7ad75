//! A file system that does not do what it says makes a restore refuse: the layer between is `strace`, which answers
//! system calls in its place.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// Exit code of a restore whose result is not what was signed.
const HASH: i32 = 71;

/// A store with a snapshot of two files.
fn store() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    // Its first bytes stay as they are while the layer flips one: it must know them to hide what it did.
    fs::write(state.join("file"), "AAAA is how this file begins").unwrap();
    fs::write(state.join("secret"), "AAAA too").unwrap();
    fs::set_permissions(state.join("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(code(&run(snapkit(directory.path(), &["init", "store"]))), 0);
    assert_eq!(code(&run(snapkit(directory.path(), &["snapshot", "--store", "store", "state"]))), 0);
    directory
}

fn environment(command: &mut Command, directory: &Path) {
    command
        .current_dir(directory)
        .env("SNAPKIT_HOME", directory.join("home"))
        .env("XDG_CACHE_HOME", directory.join("cache"))
        .env_remove("SNAPKIT_STORE");
}

fn snapkit(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapkit"));
    environment(command.args(args), directory);
    command
}

fn run(mut command: Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} starts: {error}"))
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("it was killed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Restores through a layer that does something to a system call. Gives the output and the target.
fn restore(directory: &Path, call: &str, what: &str, proof: &str) -> (Output, PathBuf) {
    let target = directory.join("back");
    let mut command = Command::new("strace");
    command
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "signal=none", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:{what}"))
        .arg(env!("CARGO_BIN_EXE_snapkit"))
        .args(["restore", "--store", "store", "latest", "back", "--proof", proof]);
    environment(&mut command, directory);
    (run(command), target)
}

#[track_caller]
fn expect_refused(output: &Output, target: &Path, named: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(output), HASH, "{told}");
    assert!(told.contains(named), "{told}");
    assert!(!target.exists(), "nothing appears at the target");
    let left: Vec<_> = fs::read_dir(target.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".snapkit-restore"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_layer_that_drops_a_chmod_makes_the_restore_refuse() {
    let directory = store();
    for proof in ["written", "reread"] {
        let (output, target) = restore(directory.path(), "fchmod", "retval=0", proof);
        expect_refused(&output, &target, "mode");
    }
}

/// Each file loses a bit on its way into the file system; the program's own memory is as before.
const FLIP: &str = "poke_enter=@arg2=40414141:poke_exit=@arg2=41414141";

#[test]
fn a_layer_that_flips_a_bit_between_write_and_close_makes_a_proof_that_rereads_refuse() {
    let directory = store();
    let (output, target) = restore(directory.path(), "pwrite64", FLIP, "reread");
    expect_refused(&output, &target, "content");
}

#[test]
fn the_layer_that_flips_a_bit_is_seen_by_a_proof_that_rereads_alone() {
    // This is what `--proof written` does not promise; and it shows that the layer does what it says.
    let directory = store();
    let (output, target) = restore(directory.path(), "pwrite64", FLIP, "written");
    assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(target.join("file")).unwrap(), b"@AAA is how this file begins");
}

#[test]
fn a_layer_that_does_nothing_lets_the_restore_through() {
    let directory = store();
    for (call, proof) in [("fchmod", "written"), ("pwrite64", "reread")] {
        let (output, target) = restore(directory.path(), call, "delay_enter=0", proof);
        assert_eq!(code(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
        fs::remove_dir_all(target).unwrap();
    }
}
