//! Every command explains itself, in the terminal and as a manual page.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn bootstrap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bootstrap")).args(args).output().unwrap()
}

/// `bootstrap-ack` documents `bootstrap ack`, and `bootstrap-run-if-leader` documents `bootstrap run-if-leader`: which of the
/// dashes part commands, the help knows.
fn command_of(page: &str) -> Vec<&str> {
    let mut rest = page.strip_prefix("bootstrap").unwrap();
    let mut path: Vec<&str> = Vec::new();
    while let Some(name) = rest.strip_prefix('-') {
        let help = bootstrap(&[&path[..], &["--help"]].concat()).stdout;
        let help = String::from_utf8(help).unwrap();
        let listed = |end: &usize| {
            let is_it = |line: &str| line.trim_start().split(' ').next() == Some(&name[..*end]);
            help.split_once("Commands:").is_some_and(|(_, list)| list.lines().any(is_it))
        };
        let ends = name.match_indices('-').map(|(end, _)| end).chain([name.len()]);
        let end = ends.filter(listed).max().unwrap_or_else(|| panic!("{page}: no such command"));
        path.push(&name[..end]);
        rest = &name[end..];
    }
    path
}

#[test]
fn every_command_with_a_manual_page_has_a_help_text() {
    let pages = tempfile::tempdir().unwrap();
    let written = bootstrap(&["man", "--dir", pages.path().to_str().unwrap()]);
    assert!(written.status.success());
    let written = String::from_utf8(written.stdout).unwrap();
    assert!(written.lines().count() > 3, "{written}");
    for page in written.lines() {
        let name = page.rsplit('/').next().unwrap().trim_end_matches(".1");
        let mut args = command_of(name);
        args.push("--help");
        let help = bootstrap(&args);
        assert!(help.status.success(), "{args:?}");
        assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: bootstrap"));
    }
}
