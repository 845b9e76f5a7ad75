//! The pages in `docs/` say what the command does.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
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
    for directory in ["snapkit/src/cli", "snapkit/src/terminal"] {
        for entry in fs::read_dir(workspace().join(directory)).unwrap() {
            let source = fs::read_to_string(entry.unwrap().path()).unwrap();
            written.extend(schemas(&source));
        }
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

/// Every page of documentation.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![workspace().join("README.md"), workspace().join("CHANGELOG.md")];
    for directory in ["docs", "docs/decisions", "docs/format", "testdata", "tests/servers"] {
        let entries = fs::read_dir(workspace().join(directory)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page| page.extension().is_some_and(|e| e == "md"));
    pages
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

/// Bytes of formats that begin like a command.
const BYTES: [&str; 2] = ["snapkit gear table 0", "snapkit store, format"];

/// The commands that a page shows: lines of fenced blocks, and code in the text.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        let codes: Vec<&str> = match i % 2 {
            0 => part.split('`').skip(1).step_by(2).collect(),
            _ => part.lines().map(|line| line.trim_start_matches("$ ")).collect(),
        };
        let is_command =
            |code: &&str| code.starts_with("snapkit ") && !BYTES.iter().any(|bytes| code.starts_with(bytes));
        let starts = |code: &&str| is_command(code) || code.contains("--bin snapkit -- ");
        found.extend(codes.into_iter().filter(starts).map(|code| code.split(" #").next().unwrap().to_owned()));
    }
    found
}

#[test]
fn every_command_and_option_in_the_pages_exists() {
    let mut known: HashMap<Vec<String>, String> = HashMap::new();
    let mut help = |path: &[String]| {
        let run = || Command::new(env!("CARGO_BIN_EXE_snapkit")).args(path).arg("--help").output().unwrap();
        known.entry(path.to_vec()).or_insert_with(|| String::from_utf8(run().stdout).unwrap()).clone()
    };
    let lists =
        |text: &str, command: &str| text.lines().any(|line| line.trim_start().split(' ').next() == Some(command));
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).unwrap()) {
            let after = command.split_once("snapkit -- ").map_or(&command[8..], |(_, after)| after);
            let mut path: Vec<String> = Vec::new();
            for word in after.split_whitespace() {
                let commands = help(&path).split_once("Commands:").map(|(_, rest)| rest.to_owned());
                if let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) {
                    let option = option.split('=').next().unwrap();
                    let exists = help(&path).contains(&format!("--{option}"));
                    assert!(exists, "{}: `{command}`: no option --{option}", page.display());
                } else if let Some(commands) = commands.filter(|_| word.bytes().all(|b| b.is_ascii_lowercase())) {
                    assert!(lists(&commands, word), "{}: `{command}`: no command {word}", page.display());
                    path.push(word.to_owned());
                }
            }
        }
    }
}
