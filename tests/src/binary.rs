//! The binary under test: the one cargo built beside this test, or the one `SNAPKIT_BIN` names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The path of the `snapkit` binary that belongs to the sources of this test.
pub fn snapkit() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("SNAPKIT_BIN") {
        Some(path) => path.into(),
        None => beside_this_test(),
    })
}

/// `cargo test --workspace` builds the binary, because `snapkit` has integration tests of its own.
/// A run of this crate's tests alone finds it missing or older than its sources, and builds it.
fn beside_this_test() -> PathBuf {
    let test = env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    let profile_directory = test.ancestors().nth(2).unwrap();
    let binary = profile_directory.join("snapkit");
    let built = fs::metadata(&binary).and_then(|metadata| metadata.modified());
    if built.is_ok_and(|built| built >= newest_source()) {
        return binary;
    }
    let profile = match profile_directory.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Cargo itself serialises test processes that come here at the same time.
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package=snapkit", "--bin=snapkit"])
        .arg(format!("--profile={profile}"))
        .arg("--target-dir")
        .arg(profile_directory.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "building the snapkit binary failed");
    binary
}

fn newest_source() -> SystemTime {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources = ["snapkit/src", "manifests/src"].map(|name| workspace.join(name));
    (sources.iter())
        .flat_map(walkdir::WalkDir::new)
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.modified().unwrap())
        .max()
        .expect("the sources are there")
}
