use std::collections::BTreeMap;

use super::*;
use crate::drill::deeds::Deeds;
use crate::scenario::builtin;
use crate::scenario::resolve::tests::{seen, sight, wish};
use crate::scenario::resolve::{Wish, resolve, sketch};
use crate::scenario::site::{Deployed, Installed, Prefix};

fn work(name: &str) -> Option<(String, String)> {
    Some((format!("http://{name}.example:8080/work"), "/open".to_owned()))
}

fn site() -> Site {
    let node = |name: &str| {
        let installed =
            Installed { program: "bootstrap".to_owned(), directory: "/srv/it's here".to_owned(), work: work(name) };
        (name.to_owned(), installed)
    };
    let ssh = |name: &str| {
        let words = ["ssh", &format!("root@{name}")].map(str::to_owned).to_vec();
        (At::Node(name.to_owned()), Prefix { words, quote: true })
    };
    Site {
        fleet: Some("fleet.toml".to_owned()),
        nodes: ["a", "b", "c"].map(node).into(),
        ingress: Some(Deployed {
            url: "https://app.example/who".to_owned(),
            config: None,
            validate: None,
            reload: None,
        }),
        reason: Some("it's $HOME; rm -rf /".to_owned()),
        prefixes: BTreeMap::from(["a", "b", "c"].map(ssh)),
    }
}

fn runbook(name: &str) -> Runbook {
    let scenario = builtin::scenario(name, &Deeds).unwrap().unwrap();
    let states = match name {
        "planned" => [Some("leader"), Some("candidate"), Some("candidate")],
        "emergency" => [None, Some("candidate"), Some("candidate")],
        _ => [Some("candidate"), Some("leader"), Some("candidate")],
    };
    let nodes = ["a", "b", "c"].into_iter().zip(states).map(|(name, state)| seen(name, state)).collect();
    let plan = resolve(&scenario, builtin::text(name).unwrap(), &sight(nodes), &wish()).unwrap();
    Runbook::of(&plan, &Deeds, &site())
}

#[test]
fn what_is_printed_is_kept() {
    for (name, _) in builtin::ALL {
        insta::assert_snapshot!(format!("{name}.txt"), runbook(name).text());
    }
    insta::assert_snapshot!("planned.md", runbook("planned").markdown());
}

/// Every printed command, read by a shell and, behind `ssh`, by the shell there, has the words that were meant.
#[test]
fn every_printed_command_is_read_by_a_shell_as_it_was_meant() {
    let read = |line: &str| -> Vec<String> {
        let script = format!("set -- {line}\nprintf '%s\\0' \"$@\"");
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.strip_suffix('\0').unwrap().split('\0').map(str::to_owned).collect()
    };
    let mut quoted = 0;
    for (name, _) in builtin::ALL {
        for entry in runbook(name).steps {
            for typed in entry.commands.iter().filter(|typed| typed.line.is_some()) {
                let words = read(typed.line.as_ref().unwrap());
                let words = if words[0] == "ssh" { read(&words[2..].join(" ")) } else { words };
                if let Some(at) = words.iter().position(|word| word == "--reason") {
                    assert_eq!(words[at + 1], "it's $HOME; rm -rf /");
                    assert_eq!(words[at - 1], "/srv/it's here");
                    quoted += 1;
                }
            }
        }
    }
    assert!(quoted >= 10, "{quoted} commands with a reason were read");
}

#[test]
fn every_step_says_what_to_do() {
    for (name, _) in builtin::ALL {
        let runbook = runbook(name);
        for entry in runbook.steps.iter().chain(&runbook.rollback) {
            assert!(!entry.commands.is_empty(), "{name}/{}", entry.id);
        }
    }
}

#[test]
fn what_is_not_known_is_to_be_replaced() {
    for (name, text) in builtin::ALL {
        let scenario = builtin::scenario(name, &Deeds).unwrap().unwrap();
        let plan = sketch(&scenario, text, &sight(Vec::new()), &Wish { reason: String::new(), ..wish() }).unwrap();
        let text = Runbook::of(&plan, &Deeds, &Site::default()).text();
        assert!(text.contains("OLD_LEADER=REPLACE_ME") && text.contains("TARGET=REPLACE_ME"), "{text}");
    }
}

#[test]
fn a_remark_with_a_line_feed_does_not_become_a_command() {
    let typed = Typed { at: "here".to_owned(), line: None, remark: Some("look\nrm -rf /".to_owned()) };
    assert_eq!(typed.lines("   "), "   # look\n   # rm -rf /\n");
}
