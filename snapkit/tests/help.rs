//! Every command explains itself, in the terminal and as a manual page.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn snapkit(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_snapkit")).args(args).output().unwrap()
}

#[test]
fn every_command_with_a_manual_page_has_a_help_text() {
    let pages = tempfile::tempdir().unwrap();
    let written = snapkit(&["man", "--dir", pages.path().to_str().unwrap()]);
    assert!(written.status.success());
    let written = String::from_utf8(written.stdout).unwrap();
    assert!(written.lines().count() > 5, "{written}");
    for page in written.lines() {
        let page = std::fs::read_to_string(page).unwrap();
        // The synopsis names the command as it is typed, which the file's name does not: `root add-key` has a dash.
        let synopsis =
            page.split(".SH SYNOPSIS\n\\fB").nth(1).unwrap().split("\\fR").next().unwrap().replace("\\-", "-");
        let mut args: Vec<&str> = synopsis.split(' ').skip(1).collect();
        args.push("--help");
        let help = snapkit(&args);
        assert!(help.status.success(), "{args:?}");
        assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: snapkit"));
    }
}
