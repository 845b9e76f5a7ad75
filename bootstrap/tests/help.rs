//! Every command explains itself, in the terminal and as a manual page.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn bootstrap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bootstrap")).args(args).output().unwrap()
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
        // `bootstrap-ack` documents `bootstrap ack`.
        let mut args: Vec<&str> = name.split('-').skip(1).collect();
        args.push("--help");
        let help = bootstrap(&args);
        assert!(help.status.success(), "{args:?}");
        assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: bootstrap"));
    }
}
