//! The pages in `docs/` say what the command does.

#![allow(clippy::unwrap_used)]

mod pages;

use std::fs;
use std::process::Command;

use pages::{expect_commands_exist, expect_schemas_documented, pages, workspace};

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
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
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

#[test]
fn every_json_schema_is_documented_and_every_documented_one_exists() {
    expect_schemas_documented("snapkit", &["snapkit/src/cli", "snapkit/src/terminal"]);
}

#[test]
fn every_command_and_option_in_the_pages_exists() {
    expect_commands_exist("snapkit", env!("CARGO_BIN_EXE_snapkit"));
}
