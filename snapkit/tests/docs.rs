//! The pages in `docs/` say what the command does.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every `snapkit.NAME/VERSION` in a text.
fn schemas(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "./-".contains(c)));
        rest[..end.unwrap_or(rest.len())].trim_end_matches('.').to_owned()
    };
    let starts = text.match_indices("snapkit.").map(|(start, _)| name(&text[start..]));
    let versioned = |name: &String| name.rsplit_once('/').is_some_and(|(_, v)| v.parse::<u32>().is_ok());
    starts.filter(versioned).collect()
}

#[test]
fn every_json_schema_is_documented_and_every_documented_one_exists() {
    let page = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let mut written = BTreeSet::new();
    for entry in fs::read_dir(workspace().join("snapkit/src/cli")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        written.extend(schemas(&source));
    }
    assert_eq!(schemas(&page), written);
}

#[test]
fn the_documented_configuration_is_accepted_and_names_every_key() {
    let page = fs::read_to_string(workspace().join("docs/cli.md")).unwrap();
    let (_, rest) = page.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let home = tempfile::tempdir().unwrap();
    let secret = home.path().join("secret");
    fs::write(&secret, "hush").unwrap();
    let example = example.replace("/etc/snapkit/secret", secret.to_str().unwrap());
    fs::write(home.path().join("snapkit.toml"), example).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_snapkit"))
        .args(["doctor", "--json"])
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let from_default: Vec<_> =
        report["settings"].as_array().unwrap().iter().filter(|setting| setting["source"] == "default").collect();
    assert!(from_default.is_empty(), "not in docs/cli.md: {from_default:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages: Vec<PathBuf> = vec![workspace().join("README.md"), workspace().join("CHANGELOG.md")];
    for directory in ["docs", "docs/format", "testdata"] {
        let entries = fs::read_dir(workspace().join(directory)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    for page in pages.iter().filter(|page| page.extension().is_some_and(|e| e == "md")) {
        let text = fs::read_to_string(page).unwrap();
        for (start, _) in text.match_indices("](") {
            let target = text[start + 2..].split(')').next().unwrap();
            let path = target.split('#').next().unwrap();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            let leads = page.parent().unwrap().join(path).exists();
            assert!(leads, "{}: link to {target}", page.display());
        }
    }
}
