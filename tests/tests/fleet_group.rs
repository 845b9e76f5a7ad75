//! A real pair of agents as its operator sees and moves it: over TCP, and through commands on its machines.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use bootstrap::agent::view::RequestKind;
use bootstrap::client::Asked;
use bootstrap::fleet::inventory::{Inventory, Place, load};
use bootstrap::fleet::node::{Handle, HandleError};
use serde_json::{Value, json};
use snapkit_tests::group::{Group, Member, Options};
use snapkit_tests::kept::free_port;
use snapkit_tests::{Machine, Run, binary};

/// Longer than any agent needs to answer, shorter than a test may hang.
const LIMIT: Duration = Duration::from_secs(30);

/// A pair, and a machine from which somebody looks after it.
struct Fleet {
    group: Group,
    operator: Machine,
}

impl Fleet {
    fn new() -> Self {
        let group = Group::new(Options { nodes: 2, ..Options::default() });
        let operator = Machine::new();
        for name in ["admin.token", "wrong.token"] {
            let token = operator.write(name, format!("{name}-correct-horse-battery"));
            fs::set_permissions(token, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut text = "name = \"app\"\n[credentials]\nadmin = { file = \"admin.token\" }\n".to_owned();
        for (number, node) in group.nodes.iter().enumerate() {
            let free = format!("127.0.0.1:{}", free_port());
            let file = node.machine.path("node/bootstrap.toml");
            let own = fs::read_to_string(&file).unwrap();
            let token = operator.arg("admin.token");
            fs::write(&file, format!("{own}\n[surface]\nlisten = \"{free}\"\ntoken = \"{token}\"\n")).unwrap();
            let (name, directory, program) = (&node.name, node.machine.arg("node"), binary::bootstrap().display());
            let preferred = if number == 0 { "preferred = \"leader\"\n" } else { "" };
            // The machine of the node is this one, in its own environment.
            let reach = reach(node);
            text += &format!(
                "[[node]]\nname = \"{name}\"\n{preferred}surface = \"http://{free}/\"\ndirectory = \"{directory}\"\nprogram = \"{program}\"\n\
                 reach = [{reach}]\nstart = [\"setsid\", \"-f\", \"sh\", \"-c\", \"exec \\\"$0\\\" agent node >>log 2>&1\", \"{program}\"]\n"
            );
            if number == 0 {
                text =
                    text.replacen("[credentials]", &format!("[control]\nurl = \"http://{free}/\"\n[credentials]"), 1);
            }
        }
        operator.write("fleet.toml", text);
        Self { group, operator }
    }

    fn run(&self, args: &[&str]) -> Run {
        self.operator.bootstrap(&[args, &["--inventory", "fleet.toml"]].concat())
    }

    /// The inventory with other lines for those keys of its nodes.
    fn inventory(&self, changed: &[(&str, &str)]) -> Inventory {
        let text = fs::read_to_string(self.operator.path("fleet.toml")).unwrap();
        let keep = |line: &&str| !changed.iter().any(|(key, _)| line.starts_with(&format!("{key} = ")));
        let mut text: String = text.lines().filter(keep).map(|line| format!("{line}\n")).collect();
        for (_, line) in changed {
            text = text.replace("[[node]]\n", &format!("[[node]]\n{line}\n"));
        }
        load(&self.operator.write("changed.toml", text), Place::Anywhere).unwrap()
    }
}

/// Agents that were started by commands are no children of the test.
impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &self.group.nodes {
            node.machine.bootstrap(&["node", "down", "--directory", "node", "--leading", "--execute"]);
        }
    }
}

/// What is put before a command so that it runs as on the machine of a node.
fn reach(node: &Member) -> String {
    let command = node.machine.command::<&str>(&[]);
    let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    let words = ["env".to_owned(), "-C".to_owned(), node.machine.arg("")].into_iter();
    let words = words.chain(variables.map(|(name, value)| format!("{name}={value}")));
    words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}

fn statuses(report: &Value) -> Vec<(&str, &str)> {
    report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["service"].as_str().unwrap(), row["status"].as_str().unwrap()))
        .collect()
}

#[test]
fn a_real_pair_is_seen_taken_down_and_brought_up() {
    let mut fleet = Fleet::new();
    fleet.group.lead_by(0);
    fleet.group.nodes[1].wait_standing_by();

    let report = fleet.run(&["probe", "--json", "--expect-leader", "a"]).expect(0).json("bootstrap.probe/1");
    assert_eq!(report["surfaces"][0]["ready"]["body"], "ready");
    assert_eq!((&report["control"]["node"], &report["control"]["inferred"]), (&json!("a"), &json!(false)));
    let terms = report["assertions"].as_array().unwrap().iter().find(|one| one["id"] == "terms_agree").unwrap();
    assert_eq!(terms["status"], "passed");
    fleet.run(&["probe", "--expect-leader", "b"]).expect(1);
    // From the machine of a node, by the `bootstrap` there.
    let from = fleet.run(&["probe", "--json", "--vantage", "b"]).expect(0).json("bootstrap.probe/1");
    assert_eq!(from["vantages"][0]["report"]["vantage"], "b");

    let triage = fleet.run(&["triage", "--json"]).expect(0).json("bootstrap.triage/1");
    assert_eq!((&triage["class"], &triage["candidates"][0]["fit"]), (&json!("healthy"), &json!(true)));
    let health = fleet.run(&["health", "--json"]).expect(0).json("bootstrap.health/1");
    let expected = [("agent", "ok"), ("service", "ok"), ("agent", "ok"), ("service", "standby"), ("control", "ok")];
    assert_eq!(statuses(&health), expected);
    let shown = fleet.run(&["node", "status"]).expect(0);
    assert!(shown.text().contains("leader") && shown.text().contains("standby"), "{}", shown.text());

    // A leader is left alone, and a plan changes nothing.
    fleet.run(&["node", "down", "a", "--execute"]).expect(3).stderr_names("a leads in term");
    let here = ["node", "down", "--directory", "node", "--execute"];
    fleet.group.nodes[0].machine.bootstrap(&here).expect(3).stderr_names("a leads in term");
    let plan = fleet.run(&["node", "down", "b", "--json"]).expect(0).json("bootstrap.node-plan/1");
    assert_eq!((&plan["executed"], plan["steps"].as_array().unwrap().len()), (&json!(false), 1));
    fleet.group.nodes[1].wait_standing_by();

    let done = fleet.run(&["node", "down", "b", "--execute", "--json"]).expect(0).json("bootstrap.node-plan/1");
    let holds: Vec<&Value> = done["proofs"].as_array().unwrap().iter().map(|proof| &proof["holds"]).collect();
    assert_eq!(holds, [&json!(true), &json!(true), &Value::Null], "{done:#}");
    assert!(fleet.group.nodes[1].state().is_none());
    let status = fleet.group.nodes[1].agent.take().unwrap().wait().unwrap();
    assert!(status.success(), "it ended in order: {status}");
    fleet.run(&["node", "status"]).expect(1);
    fleet.run(&["node", "status", "b"]).expect(5);
    fleet.run(&["probe"]).expect(1);
    assert_eq!(statuses(&fleet.run(&["health", "--json"]).expect(1).json("bootstrap.health/1"))[2], ("agent", "down"));

    let plan = fleet.run(&["node", "up", "b"]).expect(0);
    assert!(plan.text().contains("nothing was changed"), "{}", plan.text());
    assert!(fleet.group.nodes[1].state().is_none());
    fleet.run(&["node", "up", "b", "--execute"]).expect(0);
    fleet.group.nodes[1].wait_standing_by();
    let again = fleet.run(&["node", "up", "b", "--execute", "--json"]).expect(0).json("bootstrap.node-plan/1");
    assert_eq!((&again["executed"], &again["steps"]), (&json!(false), &json!([])));

    // Its cron file is somebody's edit, and becomes what it is meant to be.
    let file = fleet.operator.path("fleet.toml");
    let units = fleet.operator.arg("units");
    let text = fs::read_to_string(&file).unwrap();
    let install =
        format!("name = \"b\"\ninstall = [\"--for\", \"cron\", \"--no-snapshots\", \"--into\", \"{units}\"]\n");
    fs::write(&file, text.replace("name = \"b\"\n", &install)).unwrap();
    fs::create_dir(&units).unwrap();
    let missing = fleet.run(&["node", "repair", "b", "--json"]).expect(1).json("bootstrap.node-repair/1");
    assert_eq!((&missing["drift"][0]["missing"], &missing["executed"]), (&json!(true), &json!(false)));
    assert_eq!(fs::read_dir(&units).unwrap().count(), 0, "a plan changes nothing");
    fleet.run(&["node", "repair", "b", "--execute"]).expect(0);
    let deployed = fs::read_dir(&units).unwrap().next().unwrap().unwrap().path();
    let meant = fs::read_to_string(&deployed).unwrap();
    fs::write(&deployed, format!("{meant}* * * * * root reboot\n")).unwrap();
    let drifted = fleet.run(&["node", "repair", "b"]).expect(1);
    assert!(drifted.text().contains("  -* * * * * root reboot\n"), "{}", drifted.text());
    fleet.run(&["node", "repair", "b", "--execute"]).expect(0);
    assert_eq!(fs::read_to_string(&deployed).unwrap(), meant);
    assert!(fleet.run(&["node", "repair", "b"]).expect(0).text().contains("nothing is wrong"));

    // The leader is lost: the other one leads already.
    fleet.group.nodes[0].kill_agent();
    fleet.group.leader(&[0]);
    let triage = fleet.run(&["triage", "--json"]).expect(1).json("bootstrap.triage/1");
    assert_eq!((&triage["class"], &triage["leader"]), (&json!("A"), &json!("b")));
    fleet.group.no_conflicts();
}

#[test]
fn a_node_is_asked_by_whatever_way_there_is_and_must_be_itself() {
    let mut fleet = Fleet::new();
    fleet.group.lead_by(0);
    fleet.group.nodes[1].wait_standing_by();
    let handle = |inventory: &Inventory| Handle::new(inventory, inventory.node("b").unwrap());

    // Over TCP with the admin credential.
    let whole = fleet.inventory(&[]);
    assert_eq!(handle(&whole).state(LIMIT).unwrap().view.node, "b");
    assert!(matches!(handle(&whole).request(RequestKind::Pause, "over TCP").unwrap(), Asked::Accepted(_)));
    fleet.group.nodes[1].wait("paused", |state| state["paused"] == "over TCP");
    // By a command on its machine, where the surface is not known.
    let commands = fleet.inventory(&[("surface", "")]);
    assert_eq!(handle(&commands).state(LIMIT).unwrap().view.node, "b");
    assert!(matches!(handle(&commands).request(RequestKind::Resume, "it's me, $HOME").unwrap(), Asked::Accepted(_)));
    fleet.group.nodes[1].wait("goes on", |state| state["paused"].is_null());
    // By its socket, where that is on this machine.
    let here = fleet.inventory(&[("surface", ""), ("reach", "reach = []")]);
    assert_eq!(handle(&here).state(LIMIT).unwrap().view.node, "b");
    assert!(matches!(handle(&here).request(RequestKind::Handoff, "not its to give").unwrap(), Asked::Refused(_)));

    // Nobody else's answer is taken for it.
    let mut crossed = fleet.inventory(&[]);
    crossed.nodes[1].surface = crossed.nodes[0].surface.clone();
    let error = handle(&crossed).state(LIMIT).unwrap_err();
    assert!(matches!(&error, HandleError::Another { by, .. } if by == "a"), "{error}");
    let nowhere = fleet.inventory(&[("surface", ""), ("reach", "")]);
    assert!(matches!(handle(&nowhere).state(LIMIT), Err(HandleError::NoWay(_))));
    // A token that is not the right one is refused, and nothing is done.
    let wrong = fleet.inventory(&[]);
    let mut wrong = wrong;
    wrong.credentials.admin = Some(bootstrap::fleet::inventory::Reference::File(fleet.operator.path("wrong.token")));
    assert!(matches!(handle(&wrong).request(RequestKind::Pause, "with another token").unwrap(), Asked::Refused(_)));
    assert!(fleet.group.nodes[1].state().unwrap()["paused"].is_null());
}
