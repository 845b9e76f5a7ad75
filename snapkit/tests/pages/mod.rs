//! What the pages in `docs/` say of a program, held against the program. Both programs have tests that use this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Every `PROGRAM.NAME/VERSION` in a text.
fn schemas(text: &str, program: &str) -> BTreeSet<String> {
    let prefix = format!("{program}.");
    let name = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "./-".contains(c)));
        rest[..end.unwrap_or(rest.len())].trim_end_matches('.').to_owned()
    };
    let starts = text.match_indices(&prefix).map(|(start, _)| name(&text[start..]));
    let versioned = |name: &String| name.rsplit_once('/').is_some_and(|(_, v)| v.parse::<u32>().is_ok());
    starts.filter(versioned).collect()
}

/// The text of every source file below a directory.
fn sources(directory: &Path, visit: &mut impl FnMut(&str)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, visit);
        } else {
            visit(&fs::read_to_string(path).unwrap());
        }
    }
}

/// Expects that `docs/json.md` lists exactly the schemas of `program` that its sources write.
pub fn expect_schemas_documented(program: &str, directories: &[&str]) {
    let page = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let mut written = BTreeSet::new();
    for directory in directories {
        sources(&workspace().join(directory), &mut |source| written.extend(schemas(source, program)));
    }
    assert_eq!(schemas(&page, program), written);
}

/// Every page of documentation.
pub fn pages() -> Vec<PathBuf> {
    let mut pages = vec![workspace().join("README.md"), workspace().join("CHANGELOG.md")];
    for directory in ["docs", "docs/decisions", "docs/format", "testdata", "tests/servers"] {
        let entries = fs::read_dir(workspace().join(directory)).unwrap();
        pages.extend(entries.map(|entry| entry.unwrap().path()));
    }
    pages.retain(|page| page.extension().is_some_and(|e| e == "md"));
    pages
}

/// Bytes of formats that begin like a command.
const BYTES: [&str; 3] = ["snapkit gear table 0", "snapkit store, format", "snapkit fork proof 0"];

/// The commands that a page shows: lines of fenced blocks, and code in the text.
fn commands(text: &str, program: &str) -> Vec<String> {
    let (start, inner) = (format!("{program} "), format!("--bin {program} -- "));
    let mut found = Vec::new();
    for (i, part) in text.split("```").enumerate() {
        let codes: Vec<&str> = match i % 2 {
            0 => part.split('`').skip(1).step_by(2).collect(),
            _ => part.lines().map(|line| line.trim_start_matches("$ ")).collect(),
        };
        let is_command = |code: &&str| code.starts_with(&start) && !BYTES.iter().any(|bytes| code.starts_with(bytes));
        let starts = |code: &&str| is_command(code) || code.contains(&inner);
        found.extend(codes.into_iter().filter(starts).map(|code| code.split(" #").next().unwrap().to_owned()));
    }
    found
}

/// Expects that every command and option of `program` that a page shows is in its help.
pub fn expect_commands_exist(program: &str, binary: &str) {
    let mut known: HashMap<Vec<String>, String> = HashMap::new();
    let mut help = |path: &[String]| {
        let run = || Command::new(binary).args(path).arg("--help").output().unwrap();
        known.entry(path.to_vec()).or_insert_with(|| String::from_utf8(run().stdout).unwrap()).clone()
    };
    let lists =
        |text: &str, command: &str| text.lines().any(|line| line.trim_start().split(' ').next() == Some(command));
    let is_name = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase()) && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
    };
    let inner = format!("{program} -- ");
    for page in pages() {
        for command in commands(&fs::read_to_string(&page).unwrap(), program) {
            let after = command.split_once(&inner).map_or(&command[program.len() + 1..], |(_, after)| after);
            let mut path: Vec<String> = Vec::new();
            let mut words = after.split_whitespace();
            while let Some(word) = words.next() {
                let commands = help(&path).split_once("Commands:").map(|(_, rest)| rest.to_owned());
                if let Some(option) = word.strip_prefix("--").filter(|option| !option.is_empty()) {
                    let (option, value) = option.split_once('=').map_or((option, None), |(o, v)| (o, Some(v)));
                    let exists = help(&path).contains(&format!("--{option}"));
                    assert!(exists, "{}: `{command}`: no option --{option}", page.display());
                    // The word behind it is its value, and no command.
                    if value.is_none() && help(&path).contains(&format!("--{option} <")) {
                        words.next();
                    }
                } else if let Some(commands) = commands.filter(|_| is_name(word)) {
                    assert!(lists(&commands, word), "{}: `{command}`: no command {word}", page.display());
                    path.push(word.to_owned());
                }
            }
        }
    }
}
