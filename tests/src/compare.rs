//! Comparisons by tools that are not ours: `rsync` for trees, `b3sum` for contents.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

/// A restored sparse file may use this much more room than the original: one large block.
const SPARSE_SLACK_BYTES: u64 = 64 * 1024;

/// Expects that two trees are the same: bytes, names, types, permissions, owners, times, hard
/// links, ACLs and extended attributes by rsync; nanoseconds and holes, which rsync does not
/// compare, by looking.
#[track_caller]
pub fn same_tree(original: &Path, restored: &Path) {
    let found = differences(original, restored);
    assert!(found.is_empty(), "{} and {} differ:\n{}", original.display(), restored.display(), shortened(&found));
    same_times(original, restored);
    same_holes(original, restored);
}

/// The first lines of a list, each cut to a readable length.
fn shortened(list: &str) -> String {
    let lines = list.lines().take(30);
    let cut = lines.map(|line| line.chars().take(160).collect::<String>());
    cut.collect::<Vec<_>>().join("\n")
}

/// What rsync would change to turn `restored` into `original`, one itemized line each.
#[track_caller]
pub fn differences(original: &Path, restored: &Path) -> String {
    let output = Command::new("rsync")
        .args(["-aHAXn", "--checksum", "--delete", "--itemize-changes"])
        .arg(original.join(""))
        .arg(restored.join(""))
        .output()
        .expect("rsync is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "rsync failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Expects that times are the same to the nanosecond, where rsync compares whole seconds.
#[track_caller]
fn same_times(original: &Path, restored: &Path) {
    for entry in walkdir::WalkDir::new(original) {
        let entry = entry.unwrap();
        let relative = entry.path().strip_prefix(original).unwrap();
        let time = |metadata: fs::Metadata| (metadata.mtime(), metadata.mtime_nsec());
        let before = time(entry.metadata().unwrap());
        let after = time(fs::symlink_metadata(restored.join(relative)).unwrap());
        let shown = relative.to_string_lossy();
        assert!(before == after, "time of {}: {before:?} became {after:?}", shortened(&shown));
    }
}

/// Expects that files with holes still have them.
#[track_caller]
fn same_holes(original: &Path, restored: &Path) {
    for entry in walkdir::WalkDir::new(original) {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        let has_holes = metadata.is_file() && metadata.blocks() * 512 < metadata.len();
        if !has_holes {
            continue;
        }
        let relative = entry.path().strip_prefix(original).unwrap();
        let blocks = fs::symlink_metadata(restored.join(relative)).unwrap().blocks();
        assert!(
            blocks * 512 <= metadata.blocks() * 512 + SPARSE_SLACK_BYTES,
            "{} lost its holes: {} blocks before, {blocks} now",
            relative.display(),
            metadata.blocks()
        );
    }
}

/// Expects that `b3sum --check` accepts the list in that directory.
#[track_caller]
pub fn b3sum_check(list: &[u8], directory: &Path) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), list).unwrap();
    let output = Command::new("b3sum")
        .arg("--check")
        .arg(file.path())
        .current_dir(directory)
        .output()
        .expect("b3sum is installed");
    assert!(
        output.status.success(),
        "b3sum does not agree: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
