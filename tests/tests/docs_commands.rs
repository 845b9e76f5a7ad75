//! The commands in README and docs are commands: a shell reads them, the programs understand them, and what they name in this
//! repository is there.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bootstrap::pages::blocks;
use snapkit_tests::Machine;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Where pages with commands are.
const PLACES: [&str; 5] = ["README.md", "CHANGELOG.md", "docs", "testdata", "tests/servers"];

/// Every page, with its text.
fn pages() -> Vec<(PathBuf, String)> {
    let all = PLACES.iter().flat_map(|place| walkdir::WalkDir::new(workspace().join(place)));
    let pages = all.map(|entry| entry.unwrap().into_path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    pages.map(|page| (page.clone(), fs::read_to_string(page).unwrap())).collect()
}

#[test]
fn every_command_in_a_fenced_block_is_understood_by_its_program() {
    let places: Vec<_> = PLACES.iter().map(|place| workspace().join(place).display().to_string()).collect();
    let mut args = vec!["docs", "check", "--json"];
    args.extend(places.iter().map(String::as_str));
    let checked = Machine::new().bootstrap(&args);
    assert_eq!(checked.code, 0, "{}", checked.text());
    let checked = checked.json("bootstrap.docs-check/1");
    // Counted in another way: the fences of those languages, and the pages.
    let fences = |text: &str| {
        let languages = text.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
        languages.filter(|language| ["sh", "bash", "shell", "console"].contains(language)).count()
    };
    let all = pages();
    assert_eq!(checked["blocks"], all.iter().map(|(_, text)| fences(text)).sum::<usize>());
    assert!(checked["commands"].as_u64() > Some(60), "{checked}");
}

#[test]
fn every_fenced_block_of_commands_can_be_read_by_a_shell() {
    for (page, text) in pages() {
        for block in blocks(&text) {
            let mut shell =
                Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            std::io::Write::write_all(&mut shell.stdin.take().unwrap(), block.script.as_bytes()).unwrap();
            let output = shell.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}:{}: {said}", page.display(), block.line);
        }
    }
}

#[test]
fn what_commands_name_in_this_repository_is_there() {
    let here = |word: &str| ["tests/", ".ci/", "docs/", "testdata/"].iter().any(|place| word.starts_with(place));
    let mut named = BTreeSet::new();
    for (page, text) in pages() {
        for block in blocks(&text) {
            for command in block.commands().unwrap() {
                for word in command.words.iter().filter(|word| here(word) && !word.contains(['*', '$', '…'])) {
                    assert!(workspace().join(word).exists(), "{}:{}: {word}", page.display(), command.line);
                    named.insert(word.clone());
                }
            }
        }
        // `cargo test -p PACKAGE --test NAME`, also in the text.
        for code in text.split('`').filter(|code| code.starts_with("cargo test ")) {
            let words: Vec<&str> = code.split_whitespace().collect();
            let behind = |option: &str| -> Vec<&str> {
                let at = words.windows(2).filter(|two| two[0] == option);
                at.map(|two| two[1]).collect()
            };
            let directory = match behind("-p").first() {
                Some(&"snapkit-tests") => "tests",
                Some(package) => package,
                None => continue,
            };
            for test in behind("--test") {
                let tests = workspace().join(directory).join("tests");
                let exists = tests.join(format!("{test}.rs")).exists() || tests.join(test).join("main.rs").exists();
                assert!(exists, "{}: `{code}`: no {test} in {}", page.display(), tests.display());
                named.insert(test.to_owned());
            }
        }
    }
    assert!(named.len() > 30, "{named:?}");
}

#[test]
fn a_page_with_a_command_that_is_none_is_told_with_its_line() {
    let machine = Machine::new();
    let page = "# Runbook\n\n```sh\nsnapkit snapshot --store REPLACE_ME state\nsnapkit snapshott state   # typo\nsudo -u app \
                bootstrap handoff /srv/node\n```\n\n```console\n$ bootstrap lease history /srv/node -n many\n```\n";
    machine.write("runbooks/one.md", page);
    machine.write("runbooks/more/two.md", "```sh\necho 'open\n```\n");
    let checked = machine.bootstrap(&["docs", "check", "runbooks"]).expect(1);
    let lines: Vec<&str> = checked.text().lines().collect();
    for (line, expected) in [
        "runbooks/more/two.md:2: a quote ' is not closed",
        "runbooks/one.md:5: `snapkit snapshott state`: unrecognized subcommand 'snapshott'",
        "runbooks/one.md:6: `sudo -u app bootstrap handoff /srv/node`: the following required arguments were not provided",
        "runbooks/one.md:10: `bootstrap lease history /srv/node -n many`: invalid value 'many'",
        "4 commands in 3 blocks of 2 pages: 4 are wrong",
    ]
    .iter()
    .enumerate()
    {
        assert!(lines[line].starts_with(expected), "{expected}\n{lines:#?}");
    }
    // A page without commands was not checked, whatever its name promises.
    machine.write("empty.md", "# Nothing\n\n```text\nsnapkit snapshott\n```\n");
    machine.bootstrap(&["docs", "check", "empty.md"]).expect(5);
    machine.bootstrap(&["docs", "check", "missing.md"]).expect(5).stderr_names("missing.md");
    machine.write("right.md", "```sh\nbootstrap --from STRING /srv/node\n```\n");
    machine.bootstrap(&["docs", "check", "right.md"]).expect(0);
}
