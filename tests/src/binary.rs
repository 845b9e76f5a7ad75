//! The binaries under test: those cargo built beside this test, or those `SNAPKIT_BIN` and `BOOTSTRAP_BIN` name.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The path of the `snapkit` binary that belongs to the sources of this test.
pub fn snapkit() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| named("SNAPKIT_BIN").unwrap_or_else(|| beside_this_test("snapkit")))
}

/// The path of the `bootstrap` binary that belongs to the sources of this test.
pub fn bootstrap() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| named("BOOTSTRAP_BIN").unwrap_or_else(|| beside_this_test("bootstrap")))
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// `cargo test --workspace` builds the binaries, because their packages have integration tests of their own.
/// A run of this crate's tests alone finds one missing or older than its sources, and builds it.
fn beside_this_test(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    // target/PROFILE/deps/TEST
    let profile_directory = test.ancestors().nth(2).unwrap();
    let binary = profile_directory.join(name);
    let built = fs::metadata(&binary).and_then(|metadata| metadata.modified());
    if built.is_ok_and(|built| built >= newest_source()) {
        return binary;
    }
    let profile = match profile_directory.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        other => other,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // What describes this package would make build scripts of dependencies run again, and half of everything with them.
    let of_this_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_package)) {
        build.env_remove(name);
    }
    // Cargo itself serialises test processes that come here at the same time.
    let status = build
        .args(["build", "--quiet"])
        .arg(format!("--package={name}"))
        .arg(format!("--bin={name}"))
        .arg(format!("--profile={profile}"))
        .arg("--target-dir")
        .arg(profile_directory.parent().unwrap())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "building the {name} binary failed");
    binary
}

fn newest_source() -> SystemTime {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources = ["bootstrap/src", "snapkit/src", "manifests/src"].map(|name| workspace.join(name));
    (sources.iter())
        .flat_map(walkdir::WalkDir::new)
        .map(|entry| entry.unwrap().metadata().unwrap())
        .filter(|metadata| metadata.is_file())
        .map(|metadata| metadata.modified().unwrap())
        .max()
        .expect("the sources are there")
}
