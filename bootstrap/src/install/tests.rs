//! What is made, for a node whose every path holds what each of the formats takes for something else.

use std::path::Path;

use super::*;

fn node() -> Installation {
    Installation {
        name: "app".into(),
        node: "/srv/a b%c$d'e\"f".into(),
        node_name: Some("node-a".into()),
        store: Some(format!("s3://bucket/app#root=sha256:{}", "a".repeat(64))),
        trees: vec![("state".into(), "/srv/a b%c$d'e\"f/current".into())],
        home: "/var/lib/snapkit".into(),
        cache: "/var/cache".into(),
        config: Some("/etc/snapkit/snapkit.toml".into()),
        bootstrap: "/usr/bin/bootstrap".into(),
        snapkit: "/usr/bin/snapkit".into(),
        user: None,
        grace_seconds: 30,
        every: Every::Minutes(15),
        image: Some(format!("registry.example/snapkit@sha256:{}", "b".repeat(64))),
    }
}

/// The words that a shell makes of a command.
fn words(command: &str) -> Vec<String> {
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("for word in {command}; do printf '%s\\n' \"$word\"; done")])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn systemd_gets_every_path_as_it_is() {
    let files = node().files(Starter::Systemd);
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["snapkit-agent-app.service", "snapkit-snapshot-app.service", "snapkit-snapshot-app.timer"]);
    let agent = &files[0].text;
    assert!(agent.contains("ExecStart=\"/usr/bin/bootstrap\" agent \"/srv/a b%%c$$d'e\\\"f\"\n"), "{agent}");
    assert!(agent.contains("KillMode=mixed\n") && agent.contains("TimeoutStopSec=120\n"), "{agent}");
    let snapshot = &files[1].text;
    assert!(snapshot.contains("\"--node\" \"node-a\" \"state=/srv/a b%%c$$d'e\\\"f/current\""), "{snapshot}");
    assert!(snapshot.contains("SuccessExitStatus=7\n") && snapshot.contains("/agent.sock\"\n"), "{snapshot}");
    assert!(files[2].text.contains("OnCalendar=*:0/15\n"));
}

#[test]
fn a_node_that_takes_no_snapshots_gets_an_agent_alone() {
    let node = Installation { store: None, ..node() };
    assert_eq!(node.files(Starter::Systemd).len(), 1);
    assert!(!node.files(Starter::Cron)[0].text.contains("snapshot"));
    assert!(!node.files(Starter::Compose)[0].text.contains("\"snapshot\""));
}

#[test]
fn cron_gives_the_shell_every_path_as_it_is() {
    let file = &node().files(Starter::Cron)[0];
    assert_eq!(file.name, "snapkit-app");
    let line = file.text.lines().find(|line| line.starts_with("*/15 * * * * root ")).unwrap();
    let command = line.strip_prefix("*/15 * * * * root ").unwrap();
    // What cron does to a command before a shell sees it.
    assert!(!command.replace("\\%", "").contains('%'), "{command}");
    let command = command.replace("\\%", "%");
    let (_, command) = command.split_once("exec env ").or_else(|| command.split_once("; env ")).unwrap();
    let words = words(command.split(" || ").next().unwrap());
    assert_eq!(words.last().unwrap(), "state=/srv/a b%c$d'e\"f/current");
    assert!(words.contains(&"SNAPKIT_AGENT=/srv/a b%c$d'e\"f/.node/agent/agent.sock".to_owned()), "{words:?}");
}

#[test]
fn compose_names_the_image_by_digest_and_binds_what_lies_outside() {
    let mut node = node();
    node.trees.push(("fixed".into(), Path::new("/var/lib/database").into()));
    let text = node.files(Starter::Compose).remove(0).text;
    let json: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let document: serde_json::Value = serde_json::from_str(&json).unwrap();
    let agent = &document["services"]["agent"];
    assert!(agent["image"].as_str().unwrap().contains("@sha256:"));
    assert_eq!(agent["entrypoint"][2], "/srv/a b%c$$d'e\"f");
    let sources: Vec<_> = agent["volumes"].as_array().unwrap().iter().map(|volume| &volume["source"]).collect();
    assert!(sources.contains(&&serde_json::Value::from("/var/lib/database")), "{sources:?}");
    assert_eq!(document["services"]["snapshot"]["profiles"][0], "snapshot");
}
