//! Fleets seen from outside, with endpoints that are not ours: nginx as the ingress, Python as nodes and control plane.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::{Value, json};
use snapkit_tests::fleet::StandIns;
use snapkit_tests::{Machine, Run};

const NODES: [&str; 2] = ["node-a", "node-b"];

/// A healthy pair: node-a leads, and the ingress leads there.
fn pair() -> StandIns {
    let fleet = StandIns::start(&NODES);
    fleet.node("node-a", "leader");
    fleet.node("node-b", "standby");
    fleet.control(&control("node-a"));
    fleet.ingress(&NODES);
    fleet
}

/// A control plane with the field names of others.
fn control(holder: &str) -> Value {
    json!({"mode": "normal", "holder_id": holder, "term": 7, "lease_expires_at": "2026-11-21T16:00:00Z"})
}

struct Operator<'f> {
    fleet: &'f StandIns,
    machine: Machine,
}

impl<'f> Operator<'f> {
    fn of(fleet: &'f StandIns) -> Self {
        Self::with(fleet, "")
    }

    fn with(fleet: &'f StandIns, more: &str) -> Self {
        let machine = Machine::new();
        machine.write("fleet.toml", fleet.inventory(&NODES, more));
        Self { fleet, machine }
    }

    fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.machine.bootstrap_command(args);
        command.env("SNAPKIT_INVENTORY", self.machine.path("fleet.toml"));
        command
    }

    /// Standard output, without what differs from run to run.
    fn text(&self, run: &Run) -> String {
        self.fleet.stable(run.text())
    }

    fn probe(&self, args: &[&str], code: i32) -> Value {
        self.run(&[&["probe", "--json"], args].concat()).expect(code).json("bootstrap.probe/1")
    }
}

/// The assertion with this id, of this.
#[track_caller]
fn assertion<'r>(report: &'r Value, id: &str, of: &str) -> &'r Value {
    let all = report["assertions"].as_array().unwrap();
    let found = all.iter().find(|one| one["id"] == id && one["of"] == of);
    found.unwrap_or_else(|| panic!("no assertion {id} of {of}: {all:#?}"))
}

#[track_caller]
fn expect(report: &Value, id: &str, of: &str, status: &str, code: Option<&str>) {
    let found = assertion(report, id, of);
    assert_eq!((found["status"].as_str(), found["code"].as_str()), (Some(status), code), "{found:#}");
}

#[test]
fn a_healthy_pair_behind_nginx_passes() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let run = operator.run(&["probe"]).expect(0);
    insta::assert_snapshot!(operator.text(&run), @r"
    surface  health   ready       role          answered by
    ingress  200(ok)  200(ready)  200(leader)   node-a, instance node-a-1, term 7
    node-a   200(ok)  200(ready)  200(leader)   node-a, instance node-a-1, term 7
    node-b   200(ok)  200(ready)  200(standby)  node-b, instance node-b-1, term 7
    control  mode=normal holder=node-a term=7 expires=2026-11-21T16:00:00Z
    lease holder: node-a; ingress target: node-a
    warning: the control plane 127.0.0.1 is on the machine of node-a, node-b, and is lost together with it
    warning: the control plane 127.0.0.1 is behind the ingress, and cannot be asked when that fails
    passed: 17 passed, 0 failed, 0 skipped, asked from here
    ");
    let report = operator.probe(&[], 0);
    assert_eq!(report["surfaces"][0]["ips"], json!(["127.0.0.1"]));
    assert_eq!(report["surfaces"][0]["who"]["source"], "/v1/state#/node");
    assert_eq!(report["verdict"], "passed");
}

#[test]
fn every_answer_has_its_form_in_the_table() {
    let fleet = pair();
    fleet.set("node-b", "/healthz", json!({"body": ""}));
    fleet.set("node-b", "/readyz", json!({"status": 503, "body": "behind"}));
    fleet.set("node-b", "/rolez", json!({"body": "promoting"}));
    fleet.control(&control("node-a-4711"));
    fleet.stop_ingress();
    let operator = Operator::of(&fleet);
    let run = operator.run(&["probe", "--skip-node", "node-a"]).expect(1);
    insta::assert_snapshot!(operator.text(&run), @r#"
    surface  health                                                       ready                                                        role                                                         answered by
    ingress  ERROR(tcp connect error: Connection refused (os error 111))  ERROR(tcp connect error: Connection refused (os error 111))  ERROR(tcp connect error: Connection refused (os error 111))  not known
    node-a   skipped                                                      skipped                                                      skipped                                                      -
    node-b   200(<empty>)                                                 503(behind)                                                  200(promoting)                                               node-b, instance node-b-1, term 7
    control  mode=normal holder=node-a-4711 (node node-a by its prefix) term=7 expires=2026-11-21T16:00:00Z
    lease holder: node-a; ingress target: not known
    FAILED ingress health (no_answer): expected 200(ok), found ERROR(tcp connect error: Connection refused (os error 111))
    FAILED ingress ready (no_answer): expected 200(ready), found ERROR(tcp connect error: Connection refused (os error 111))
    FAILED ingress role (no_answer): expected leader, found ERROR(tcp connect error: Connection refused (os error 111))
    FAILED node-b health (unexpected): expected 200(ok), found 200(<empty>)
    FAILED node-b ready (unexpected): expected 200(ready), found 503(behind)
    FAILED node-b role (unknown_role): expected leader or standby, found 200(promoting)
    FAILED fleet exactly_one_leader (no_leader): expected one node that leads, found no leader among node-b, node-a not asked
    skipped node-a health: left out by --skip-node
    skipped node-a ready: left out by --skip-node
    skipped node-a role: left out by --skip-node
    skipped control lease_agrees: no one node that says it leads
    skipped ingress ingress_leads_to_leader: it is not known which node answers: tcp connect error: Connection refused (os error 111)
    warning: the control plane 127.0.0.1 is on the machine of node-a, node-b, and is lost together with it
    warning: the control plane 127.0.0.1 is behind the ingress, and cannot be asked when that fails
    7 FAILED: 2 passed, 7 failed, 5 skipped, asked from here
    "#);
}

#[test]
fn what_other_control_planes_say_is_understood() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let ours = json!({"mode": "leader", "holder": {"node": "node-a", "instance": "i"}, "term": 7, "lease": {"seq": 1}});
    let nested = json!({"lease": {"mode": "auto", "holder_id": "node-a", "term": "7", "lease_expires_at": 1763740800}});
    let plain = json!({"state": {"mode": "normal"}, "leader": "node-a", "term": 7, "expires_at": "soon"});
    for (shape, expires) in [
        (ours, Value::Null),
        (nested, json!("1763740800")),
        (plain, json!("soon")),
        (control("node-a"), json!("2026-11-21T16:00:00Z")),
    ] {
        fleet.control(&shape);
        let report = operator.probe(&[], 0);
        let said = &report["control"];
        assert_eq!((&said["node"], &said["term"]), (&json!("node-a"), &json!(7)), "{shape}");
        assert_eq!((&said["expires"], &said["inferred"]), (&expires, &json!(false)), "{shape}");
        assert!(said["mode"].is_string(), "{shape}");
    }
}

#[test]
fn a_holder_is_inferred_from_its_prefix_only_where_no_node_has_its_name() {
    let fleet = pair();
    fleet.control(&control("node-a-4711"));
    let report = Operator::of(&fleet).probe(&[], 0);
    assert_eq!((&report["control"]["node"], &report["control"]["inferred"]), (&json!("node-a"), &json!(true)));
    // `node-ab` is no `node-a`.
    fleet.control(&control("node-ab"));
    expect(&Operator::of(&fleet).probe(&[], 1), "holder_known", "control", "failed", Some("unknown_holder"));
    fleet.control(&control("node-a-4711"));
    let forbidden = format!("[control]\nurl = \"{}\"\nholder_prefix = false", fleet.url("control"));
    let report = Operator::with(&fleet, &forbidden).probe(&[], 1);
    expect(&report, "holder_known", "control", "failed", Some("unknown_holder"));
}

#[test]
fn a_control_plane_can_fail_in_four_ways_that_are_told_apart() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let said = |code: &str| {
        let report = operator.probe(&[], 1);
        expect(&report, "control_answers", "control", "failed", Some(code));
        assert_eq!(report["control"]["problem"]["kind"], code);
        // Nothing that it did not say counts as agreement.
        expect(&report, "lease_agrees", "control", "skipped", None);
    };
    fleet.set("control", "/v1/state", json!({"status": 503, "body": "{}"}));
    said("status");
    fleet.set("control", "/v1/state", json!({"body": "<html>"}));
    said("unparsable");
    fleet.set("control", "/v1/state", json!({"body": ""}));
    said("unparsable");
    fleet.control(&json!({"hello": "world"}));
    said("unmapped");
    let nowhere = Operator::with(&fleet, "[control]\nurl = \"http://127.0.0.1:9/\"");
    let report = nowhere.probe(&[], 1);
    expect(&report, "control_answers", "control", "failed", Some("transport"));
}

#[test]
fn no_leader_and_two_leaders_are_different_failures() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    fleet.node("node-b", "leader");
    let report = operator.probe(&["--explain"], 1);
    expect(&report, "exactly_one_leader", "fleet", "failed", Some("several_leaders"));
    assert_eq!(report["explanations"][0]["cause"], "several_leaders");
    fleet.node("node-a", "standby");
    fleet.node("node-b", "standby");
    let report = operator.probe(&["--explain"], 1);
    expect(&report, "exactly_one_leader", "fleet", "failed", Some("no_leader"));
    expect(&report, "role", "ingress", "failed", Some("wrong_role"));
    assert_eq!(report["explanations"][0]["cause"], "no_leader");
}

#[test]
fn an_expected_leader_leads_and_every_other_node_follows() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let report = operator.probe(&["--expect-leader", "node-a"], 0);
    expect(&report, "expected_leader", "node-a", "passed", None);
    let report = operator.probe(&["--expect-leader", "node-b"], 1);
    expect(&report, "expected_leader", "node-b", "failed", Some("not_leading"));
    expect(&report, "role", "node-b", "failed", Some("wrong_role"));
    expect(&report, "role", "node-a", "failed", Some("wrong_role"));
    operator.run(&["probe", "--expect-leader", "node-x"]).expect(2).stderr_names("there are node-a, node-b");
    operator.run(&["probe", "--skip-node", "node-x"]).expect(2).stderr_names("there are node-a, node-b");
    // By variable, too.
    let mut command = operator.command(&["probe", "--json"]);
    command.env("SNAPKIT_EXPECT_LEADER", "node-b");
    Run::of(command).expect(1);
}

#[test]
fn an_expectation_that_nothing_can_show_is_refused_and_never_passes() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let all = ["--skip-node", "node-a", "--skip-public", "--skip-control-api", "--expect-leader", "node-a"];
    operator.run(&[&["probe"], &all[..]].concat()).expect(3).stderr_names("nothing can show that node-a leads");
    assert_eq!(fleet.requests("node-b"), "", "nothing was asked");
    // The ingress could have shown it, and does not say who answers.
    fleet.set("node-a", "/v1/state", json!({"status": 404}));
    fleet.set("node-b", "/v1/state", json!({"status": 404}));
    let report = operator.probe(&["--skip-node", "node-a", "--skip-control-api", "--expect-leader", "node-a"], 1);
    expect(&report, "expected_leader", "node-a", "failed", Some("no_evidence"));
}

#[test]
fn a_probe_that_verified_nothing_does_not_pass() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let all = ["probe", "--skip-node", "node-a,node-b", "--skip-public", "--skip-control-api"];
    let run = operator.run(&all).expect(5);
    insta::assert_snapshot!(operator.text(&run), @r"
    surface  health   ready    role     answered by
    ingress  skipped  skipped  skipped  -
    node-a   skipped  skipped  skipped  -
    node-b   skipped  skipped  skipped  -
    control  skipped
    lease holder: not known; ingress target: not known
    skipped ingress health: left out by --skip-public
    skipped ingress ready: left out by --skip-public
    skipped ingress role: left out by --skip-public
    skipped node-a health: left out by --skip-node
    skipped node-a ready: left out by --skip-node
    skipped node-a role: left out by --skip-node
    skipped node-b health: left out by --skip-node
    skipped node-b ready: left out by --skip-node
    skipped node-b role: left out by --skip-node
    skipped fleet exactly_one_leader: no node was asked directly
    skipped control control_answers: left out by --skip-control-api
    skipped control lease_agrees: the control plane says nothing
    skipped ingress ingress_leads_to_leader: left out by --skip-public
    warning: the control plane 127.0.0.1 is on the machine of node-a, node-b, and is lost together with it
    warning: the control plane 127.0.0.1 is behind the ingress, and cannot be asked when that fails
    NOTHING VERIFIED: 0 passed, 0 failed, 13 skipped, asked from here
    ");
    for name in ["node-a", "node-b", "control"] {
        assert_eq!(fleet.requests(name), "", "{name}");
    }
}

#[test]
fn the_word_leader_does_not_tell_which_node_answers() {
    let fleet = pair();
    // A page of the old leader that still says what it said: node-b behind the ingress, node-a leads.
    fleet.node("node-b", "leader");
    fleet.ingress(&["node-b", "node-a"]);
    let by_word = Operator::of(&fleet);
    let report = by_word.probe(&["--skip-node", "node-b", "--explain"], 1);
    expect(&report, "role", "ingress", "passed", None);
    expect(&report, "ingress_leads_to_leader", "ingress", "failed", Some("ingress_elsewhere"));
    assert_eq!(report["explanations"][0]["cause"], "dead_node_answers");
    // A run of node-a that is not the one that answers directly.
    fleet.ingress(&["node-b"]);
    let other = json!({"node": "node-a", "instance": "node-a-0", "term": 6}).to_string();
    fleet.set("node-b", "/v1/state", json!({"body": other}));
    let report = by_word.probe(&["--skip-node", "node-b", "--explain"], 1);
    expect(&report, "ingress_leads_to_leader", "ingress", "passed", None);
    expect(&report, "ingress_instance", "ingress", "failed", Some("other_instance"));
    assert_eq!(report["explanations"][0]["cause"], "old_process");
    // Where it is not said who answers, that is not verified.
    fleet.set("node-b", "/v1/state", json!({"status": 404}));
    let report = by_word.probe(&["--skip-node", "node-b", "--explain"], 0);
    expect(&report, "ingress_leads_to_leader", "ingress", "skipped", None);
    assert_eq!(report["explanations"][0]["cause"], "who_unknown");
}

#[test]
fn a_service_behind_the_ingress_is_held_against_the_service_and_not_against_its_agent() {
    let fleet = pair();
    let who = |instance: &str| json!({"body": json!({"node": "node-a", "instance": instance, "term": 7}).to_string()});
    fleet.set("node-a", "/who", who("service-1"));
    let ingress = format!("[ingress]\nurl = \"{}\"\n[ingress.identity]\npath = \"/who\"\n", fleet.url("ingress"));
    let operator = Operator::with(&fleet, &ingress);
    let inventory = operator.machine.path("fleet.toml");
    let text = fs::read_to_string(&inventory).unwrap();
    let node = format!("name = \"node-a\"\nservice = \"{}\"\n", fleet.url("node-a"));
    fs::write(&inventory, text.replace("name = \"node-a\"\n", &node)).unwrap();
    let report = operator.probe(&["--explain"], 0);
    expect(&report, "ingress_instance", "ingress", "passed", None);
    assert_eq!(assertion(&report, "ingress_instance", "ingress")["observed"], "service-1");
    // What is left of an old service answers behind the ingress.
    fleet.set("node-b", "/who", who("service-0"));
    fleet.node("node-b", "leader");
    fleet.ingress(&["node-b"]);
    let report = operator.probe(&["--explain", "--skip-node", "node-b"], 1);
    expect(&report, "ingress_instance", "ingress", "failed", Some("other_instance"));
    assert_eq!(report["explanations"][0]["cause"], "old_process");
}

#[test]
fn a_header_can_say_who_answers() {
    let fleet = pair();
    fleet.set("node-a", "/v1/state", json!({"status": 404}));
    fleet.set("node-b", "/v1/state", json!({"status": 404}));
    fleet.set("node-a", "/rolez", json!({"body": "leader", "headers": {"X-Served-By": "node-a"}}));
    let operator = Operator::with(&fleet, "[identity]\nheader = \"x-served-by\"");
    let report = operator.probe(&[], 0);
    expect(&report, "ingress_leads_to_leader", "ingress", "passed", None);
    assert_eq!(report["surfaces"][0]["who"]["source"], "header x-served-by");
}

#[test]
fn a_degraded_node_has_a_code_of_its_own_unless_something_else_is_wrong() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    fleet.set("node-b", "/readyz", json!({"status": 503, "body": "degraded"}));
    fleet.set("node-b", "/rolez", json!({"body": "degraded"}));
    assert_eq!(operator.probe(&[], 4)["verdict"], "degraded");
    fleet.control(&control("node-b"));
    assert_eq!(operator.probe(&[], 1)["verdict"], "failed");
}

#[test]
fn without_their_credential_nodes_are_left_out_with_a_warning() {
    let fleet = pair();
    let operator = Operator::with(&fleet, "[credentials]\nbasic = { env = \"DIRECT_AUTH\" }");
    let report = operator.probe(&[], 0);
    expect(&report, "health", "node-a", "skipped", None);
    expect(&report, "role", "ingress", "passed", None);
    assert!(report["warnings"][0].as_str().unwrap().contains("its credential $DIRECT_AUTH is not set"), "{report:#}");
    // The ingress asked node-a; nobody asked node-b.
    assert_eq!(fleet.requests("node-b"), "");
    let mut command = operator.command(&["probe", "--json"]);
    command.env("DIRECT_AUTH", "probe:s3cret");
    let run = Run::of(command).expect(0);
    assert!(fleet.requests("node-b").contains("GET /rolez Basic cHJvYmU6czNjcmV0"), "{}", fleet.requests("node-b"));
    assert!(!run.text().contains("s3cret") && !run.stderr.contains("s3cret"));
}

#[test]
fn a_token_goes_to_whom_it_is_for_and_nowhere_else() {
    let fleet = pair();
    // What answers repeats the token, as a bad error page does, and then sends the client elsewhere.
    fleet.set("node-b", "/healthz", json!({"body": "you sent s3cret-token"}));
    let elsewhere = format!("{}readyz", fleet.url("control"));
    fleet.set("node-b", "/readyz", json!({"status": 302, "headers": {"Location": elsewhere}}));
    fleet.set("control", "/readyz", json!({"body": "ready"}));
    let token = fleet.write("token", "s3cret-token\r\n");
    let operator = Operator::of(&fleet);
    let run = operator.run(&["probe", "--json", "--token-file", token.to_str().unwrap()]).expect(1);
    let report = run.json("bootstrap.probe/1");
    assert!(fleet.requests("node-b").contains("GET /readyz Bearer s3cret-token\n"), "{}", fleet.requests("node-b"));
    assert!(fleet.requests("control").contains("GET /readyz -\n"), "{}", fleet.requests("control"));
    assert!(!run.text().contains("s3cret-token"));
    assert_eq!(report["surfaces"][2]["health"]["body"], "you sent [redacted]");
    // Where it came from in the end is told.
    let ready = &report["surfaces"][2]["ready"];
    assert_eq!((&ready["url"], &ready["redirects"]), (&json!(elsewhere), &json!(1)));
    operator.run(&["probe", "--token-file", "no-such-file"]).expect(2).stderr_names("no-such-file");
}

#[test]
fn redirections_have_an_end() {
    let fleet = pair();
    let again = format!("{}healthz", fleet.url("node-b"));
    fleet.set("node-b", "/healthz", json!({"status": 302, "headers": {"Location": again}}));
    let report = Operator::of(&fleet).probe(&[], 1);
    expect(&report, "health", "node-b", "failed", Some("no_answer"));
    assert!(assertion(&report, "health", "node-b")["observed"].as_str().unwrap().contains("more than 5 redirections"));
}

#[test]
fn what_is_expected_can_be_said_in_other_words() {
    let fleet = pair();
    fleet.set("node-a", "/healthz", json!({"body": "alive since 9"}));
    fleet.set("node-b", "/healthz", json!({"body": "alive since 12"}));
    for (name, role) in [("node-a", "MASTER"), ("node-b", "replica")] {
        fleet.set(name, "/role", json!({"body": json!({"role": {"is": role}, "lag": 0}).to_string()}));
    }
    let words = "[expect]\nhealth = { pattern = \"^alive\" }\nready = { path = \"/role\", pointer = \"/lag\", value = \"0\" }\n\
                 role = { path = \"/role\", pointer = \"/role/is\", leader = \"MASTER\", follower = \"replica\" }\n";
    Operator::with(&fleet, words).probe(&["--expect-leader", "node-a"], 0);
    let report = Operator::with(&fleet, &words.replace("\"0\"", "\"1\"")).probe(&[], 1);
    expect(&report, "ready", "node-a", "failed", Some("unexpected"));
    assert_eq!(assertion(&report, "ready", "node-a")["expected"], "200 with \"1\" at /lag");
}

#[test]
fn further_questions_are_put_by_http_by_port_and_by_command() {
    let fleet = pair();
    fleet.set("node-a", "/queue", json!({"body": "{\"depth\": 0}"}));
    let port: u64 = fleet.url("node-a").trim_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    let more = format!(
        "[[expect.also]]\nname = \"queue\"\non = [\"node-a\"]\nhttp = {{ path = \"/queue\", pointer = \"/depth\", value = \"0\" }}\n\
         [[expect.also]]\nname = \"port\"\non = [\"node-a\"]\ntcp = {port}\n\
         [[expect.also]]\nname = \"tool\"\non = [\"node-a\"]\nexec = [\"test\", \"it's\", \"=\", \"it's\"]\n"
    );
    let operator = Operator::with(&fleet, &more);
    let inventory = operator.machine.path("fleet.toml");
    let text = fs::read_to_string(&inventory).unwrap();
    let node =
        format!("name = \"node-a\"\nprivate = \"127.0.0.1\"\nservice = \"{}\"\nreach = []\n", fleet.url("node-a"));
    fs::write(&inventory, text.replace("name = \"node-a\"\n", &node)).unwrap();
    let report = operator.probe(&[], 0);
    for id in ["also_queue", "also_port", "also_tool"] {
        expect(&report, id, "node-a", "passed", None);
    }
    fleet.set("node-a", "/queue", json!({"body": "{\"depth\": 3}"}));
    expect(&operator.probe(&[], 1), "also_queue", "node-a", "failed", Some("not_so"));
}

#[test]
fn the_ingress_is_asked_from_its_own_machine_with_its_configuration_test() {
    let fleet = pair();
    let config = fleet.path("nginx.conf").display().to_string();
    let program = snapkit_tests::binary::bootstrap().display().to_string();
    let ingress = |reach: &str| {
        format!(
            "[ingress]\nurl = \"{}\"\nreach = {reach}\nprogram = \"{program}\"\nvalidate = [\"/usr/sbin/nginx\", \"-t\", \"-c\", \"{config}\"]",
            fleet.url("ingress")
        )
    };
    let operator = Operator::with(&fleet, &ingress("[\"env\"]"));
    let report = operator.probe(&["--vantage", "ingress"], 0);
    expect(&report, "vantage", "ingress", "passed", None);
    expect(&report, "ingress_config", "ingress", "passed", None);
    assert_eq!(report["vantages"][0]["report"]["vantage"], "ingress");
    assert_eq!(report["vantages"][0]["report"]["inventory"], report["inventory"]);
    // A configuration that nginx does not take.
    fleet.write("nginx.conf", "events {}\nhttp { upstream app { } }\n");
    expect(&operator.probe(&["--vantage", "ingress"], 1), "ingress_config", "ingress", "failed", Some("invalid"));
    let without = operator.run(&["probe", "--vantage", "node-a"]).expect(1);
    assert!(without.text().contains("no command can be run on node-a"), "{}", without.text());
    operator.run(&["probe", "--vantage", "moon"]).expect(2).stderr_names("there are node-a, node-b");
}

/// In a network namespace of its own nothing is reached: what a broken route between ingress and node looks like.
#[test]
fn a_path_that_is_broken_from_the_ingress_alone_is_named() {
    let unshare = Command::new("unshare").args(["-n", "true"]).status();
    if !unshare.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED HERE: network namespaces");
        return;
    }
    let fleet = pair();
    fleet.dead("node-a");
    fleet.node("node-b", "leader");
    fleet.control(&control("node-b"));
    fleet.ingress(&["node-a"]);
    let program = snapkit_tests::binary::bootstrap().display();
    let ingress = format!(
        "[ingress]\nurl = \"{}\"\nreach = [\"unshare\", \"-n\"]\nprogram = \"{program}\"",
        fleet.url("ingress")
    );
    let report = Operator::with(&fleet, &ingress).probe(&["--vantage", "ingress", "--explain"], 1);
    expect(&report, "vantage", "ingress", "failed", Some("failed_there"));
    let causes: Vec<&str> =
        report["explanations"].as_array().unwrap().iter().map(|one| one["cause"].as_str().unwrap()).collect();
    assert!(causes.contains(&"path_broken"), "{causes:?}");
    assert!(!report["explanations"].to_string().to_lowercase().contains("change dns"));
}

#[test]
fn topology_shows_who_decides_what_and_where_the_two_differ() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    // Addresses are of different lengths, so the columns are not of the same width every time.
    let columns = |text: String| {
        let line = |line: &str| {
            let words = line.split("  ").map(str::trim).filter(|words| !words.is_empty());
            words.collect::<Vec<_>>().join("  ")
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    let run = operator.run(&["topology"]).expect(0);
    insta::assert_snapshot!(columns(operator.text(&run)), @r"
    fleet orders
    node  host  prefers  is  term  surface  service  reach
    node-a  node-a  leader  leader  7  http://NODE-A/  -  -
    node-b  node-b  follower  follower  7  http://NODE-B/  -  -
    ingress http://INGRESS/ -> node-a, then node-b
    control http://CONTROL/
    lease holder:  node-a (the lease, as http://CONTROL/ has it)
    ingress target: node-a (http://INGRESS/, by whom it can reach of node-a, node-b)
    - the lease decides who leads; a preferred role decides nothing
    - the ingress decides where traffic goes, by whom it can reach; it does not know the lease unless it asks /leader
    - the control plane 127.0.0.1 is on the machine of node-a, node-b, and is lost together with it
    - the control plane 127.0.0.1 is behind the ingress, and cannot be asked when that fails
    - no command can be run on node-a, node-b: the inventory gives no reach
    ");
    let dot = operator.run(&["topology", "--dot"]).expect(0);
    insta::assert_snapshot!(operator.text(&dot), @r#"
    digraph "orders" {
      rankdir=LR;
      "node-a" [label="node-a\nleader, prefers leader", style=bold];
      "node-b" [label="node-b\nfollower, prefers follower"];
      "(ingress)" [shape=box, label="ingress\nhttp://INGRESS/"];
      "(ingress)" -> "node-a" [label="1", style=bold];
      "(ingress)" -> "node-b" [label="2", style=dashed];
      "(control)" [shape=diamond, label="control\nhttp://CONTROL/"];
      "(control)" -> "node-a" [label="lease"];
    }
    "#);
    fleet.ingress(&["node-b"]);
    let shown = operator.run(&["topology", "--json"]).expect(1).json("bootstrap.topology/1");
    assert_eq!((&shown["agree"], &shown["ingress_target"]["node"]), (&json!(false), &json!("node-b")));
    assert_eq!(shown["notes"][0], "ALARM: node-a holds the lease and node-b gets the traffic");
    let before = fleet.requests("node-a");
    operator.run(&["topology", "--offline"]).expect(0);
    assert_eq!(fleet.requests("node-a"), before, "--offline asks nothing");
    // A node leads, and clients get nowhere.
    fleet.stop_ingress();
    operator.run(&["topology", "--skip-public"]).expect(0);
    let lost = operator.run(&["topology", "--json"]).expect(1).json("bootstrap.topology/1");
    assert_eq!((&lost["lease_holder"]["node"], &lost["ingress_target"]["node"]), (&json!("node-a"), &Value::Null));
}

#[test]
fn triage_names_the_class_and_the_next_command() {
    let fleet = pair();
    let triaged = |fleet: &StandIns, args: &[&str], code: i32| {
        let operator = Operator::of(fleet);
        let found = operator.run(&[&["triage", "--json"], args].concat()).expect(code).json("bootstrap.triage/1");
        (found["class"].as_str().unwrap().to_owned(), found["next"].as_str().unwrap().to_owned())
    };
    let both = |class: &str, next: &str| (class.to_owned(), next.to_owned());
    assert_eq!(triaged(&fleet, &[], 0), both("healthy", "nothing to do"));
    // The follower is gone, which concerns no client yet.
    fleet.dead("node-b");
    assert_eq!(triaged(&fleet, &[], 4), both("impaired", "bootstrap probe --explain"));
    let by_option = Operator::of(&fleet).machine.bootstrap(&["triage", "--inventory", "fleet.toml"]).expect(4);
    assert!(
        by_option.text().ends_with("next: bootstrap probe --explain --inventory fleet.toml\n"),
        "{}",
        by_option.text()
    );
    // Another one leads already, and clients get to it.
    fleet.node("node-b", "leader");
    fleet.control(&control("node-b"));
    fleet.dead("node-a");
    assert_eq!(triaged(&fleet, &[], 1), both("A", "bootstrap node status node-a"));
    // It leads, and clients still get to the old one.
    fleet.node("node-a", "standby");
    assert_eq!(triaged(&fleet, &[], 1), both("C", "bootstrap probe --vantage ingress --explain"));
    // Nobody leads, and the one that is left is not ready.
    fleet.dead("node-a");
    fleet.node("node-b", "standby");
    fleet.set("node-b", "/readyz", json!({"status": 503, "body": "9 snapshots behind"}));
    assert_eq!(triaged(&fleet, &[], 1), both("B", "bootstrap node status node-b"));
    fleet.node("node-b", "standby");
    assert_eq!(triaged(&fleet, &[], 1), both("fit", "bootstrap failover emergency"));
    fleet.node("node-a", "leader");
    fleet.node("node-b", "leader");
    fleet.set("node-b", "/v1/state", json!({"body": json!({"node": "node-b", "term": 8}).to_string()}));
    assert_eq!(triaged(&fleet, &[], 1), both("split", "bootstrap node down node-a --leading --execute"));
    fleet.stop_ingress();
    assert_eq!(triaged(&fleet, &["--skip-node", "node-a,node-b"], 5).0, "unknown");
}

#[test]
fn health_has_a_row_for_every_service_and_is_unknown_where_nothing_was_seen() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let inventory = operator.machine.path("fleet.toml");
    // Stands in for systemctl and docker: what they print is kept in files.
    let tools = operator.machine.path("tools");
    for (name, prints) in [
        ("systemctl", "LoadState=loaded\nActiveState=failed\nSubState=failed\n"),
        ("docker", "{\"Name\":\"proxy-1\",\"State\":\"running\",\"Health\":\"healthy\"}\n"),
    ] {
        let said = operator.machine.write(&format!("{name}.said"), prints);
        let tool = operator.machine.write(&format!("tools/{name}"), format!("#!/bin/sh\ncat '{}'\n", said.display()));
        fs::set_permissions(tool, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text = fs::read_to_string(&inventory).unwrap();
    let path = format!("PATH={}:/usr/bin:/bin", tools.display());
    let node = format!(
        "name = \"node-a\"\nhost = \"a.example\"\nreach = [\"env\", \"{path}\"]\nunit = [{{ name = \"queue\", kind = \"systemd\" }}, \
         {{ name = \"proxy\", kind = \"compose\", file = \"/srv/compose.yaml\" }}, {{ name = \"web\", kind = \"http\", url = \"{}healthz\" }}]\n",
        fleet.url("node-a")
    );
    fs::write(&inventory, text.replace("name = \"node-a\"\n", &node)).unwrap();
    let shown = operator.run(&["health", "--json"]).expect(1).json("bootstrap.health/1");
    let rows: Vec<(&str, &str, &str)> = (shown["rows"].as_array().unwrap().iter())
        .map(|row| {
            let field = |name: &str| row[name].as_str().unwrap();
            assert!(!field("evidence").is_empty() && !field("role").is_empty(), "{row}");
            (field("host"), field("service"), field("status"))
        })
        .collect();
    assert_eq!(
        rows,
        [
            // They answer /v1/state, and not as an agent of ours does.
            ("a.example", "agent", "down"),
            ("a.example", "queue", "down"),
            ("a.example", "proxy", "ok"),
            ("a.example", "web", "ok"),
            ("node-b", "agent", "down"),
            ("127.0.0.1", "ingress", "ok"),
            ("127.0.0.1", "control", "ok"),
        ]
    );
}

#[test]
fn a_real_inventory_in_a_git_work_tree_is_refused() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    let repository = operator.machine.path("repository");
    fs::create_dir_all(repository.join("deploy")).unwrap();
    let git = Command::new("git").args(["init", "-q"]).arg(&repository).status().unwrap();
    assert!(git.success());
    for name in ["fleet.toml", "fleet.example.toml"] {
        fs::copy(operator.machine.path("fleet.toml"), repository.join("deploy").join(name)).unwrap();
    }
    let check = |args: &[&str]| operator.machine.bootstrap(&[&["inventory", "check", "--inventory"], args].concat());
    let refused = check(&["repository/deploy/fleet.toml"]).expect(3);
    assert!(refused.stderr.contains("lies in the git work tree"), "{}", refused.stderr);
    check(&["repository/deploy/fleet.toml", "--allow-in-repo"]).expect(0);
    check(&["repository/deploy/fleet.example.toml"]).expect(0);
    // Also by a link from outside, and for whatever else reads it.
    std::os::unix::fs::symlink(repository.join("deploy/fleet.toml"), operator.machine.path("link.toml")).unwrap();
    check(&["link.toml"]).expect(3);
    operator.machine.bootstrap(&["probe", "--inventory", "link.toml"]).expect(3);
    assert!(!fleet.requests("node-a").contains("GET"), "nothing was asked");
}

#[test]
fn an_inventory_that_is_missing_or_wrong_is_said_as_a_whole() {
    let machine = Machine::new();
    let missing = machine.bootstrap(&["probe", "--inventory", "nowhere.toml"]).expect(2);
    assert!(missing.stderr.contains("inventory file not found: nowhere.toml"), "{}", missing.stderr);
    machine.write("fleet.toml", "app = 1\n[ingress]\n[[node]]\nprivate = \"100.999.1.1\"\n");
    let checked = machine.bootstrap(&["inventory", "check", "--inventory", "fleet.toml"]).expect(2);
    insta::assert_snapshot!(checked.text(), @r#"
    fleet.toml: name is missing
    fleet.toml: line 1: there is no key app; there are name, from, manifest, ca, networks, credentials, expect, identity, thresholds, timeboxes, work, scope, ingress, control, drill, node
    fleet.toml: line 2: [ingress] url is missing
    fleet.toml: line 3: [node 1] name is missing
    fleet.toml: line 4: [node 1] private must be an address, found "100.999.1.1"
    5 wrong
    "#);
    let problems = machine.bootstrap(&["inventory", "check", "--json", "--inventory", "fleet.toml"]).expect(2);
    assert_eq!(problems.json("bootstrap.inventory-check/1")["problems"].as_array().unwrap().len(), 5);
    machine.bootstrap(&["probe", "--inventory", "fleet.toml"]).expect(2).stderr_names("line 4");
    machine.write("gone.toml", "name = \"f\"\n[credentials]\nread = { file = \"gone\" }\n[[node]]\nname = \"a\"\n");
    let gone = machine.bootstrap(&["inventory", "check", "--inventory", "gone.toml"]).expect(2);
    assert!(gone.text().contains("[credentials] a file with a credential"), "{}", gone.text());
    machine.write("origin", "no such string\n");
    machine.write("from.toml", "name = \"f\"\nfrom = \"file:origin\"\n[[node]]\nname = \"a\"\n");
    let checked = machine.bootstrap(&["inventory", "check", "--inventory", "from.toml"]).expect(2);
    assert!(checked.text().contains("from"), "{}", checked.text());
}

#[test]
fn what_is_not_there_is_named_with_what_comes_next() {
    let fleet = pair();
    let operator = Operator::of(&fleet);
    operator.run(&["node", "down", "node-x"]).expect(2).stderr_names("`bootstrap inventory show`");
    operator.run(&["docs", "check", "no-such-page.md"]).expect(5).stderr_names("name Markdown files");
    let here = operator.machine.arg("");
    operator.run(&["drill", "demo", "--into", &here]).expect(3).stderr_names("name a new one with --into");
    // A sentinel writes to production: it must be said where.
    let wants = operator.run(&["failover", "planned", "--sentinel"]);
    assert_ne!(wants.code, 0);
    operator.run(&["failover", "planned", "--sentinel", "--resume"]).expect(2);
}

#[test]
fn env_files_become_inventories_that_can_be_read_again() {
    let machine = Machine::new();
    machine.write(
        "pair.env",
        "APP_NAME=orders\nPUBLIC_HOST=orders.example\nMINI_MAIN_DIRECT_HOST=main.example\nMINI_MAIN_PRIVATE_IP=100.64.0.1\n\
         MINI_MAIN_ROLE=primary\nMINI_BACK_DIRECT_HOST=back.example\nMINI_BACK_PRIVATE_IP=100.64.0.2\nMINI_BACK_ROLE=standby\n\
         CONTROL_API_BASE=https://control.example\nREAD_TOKEN_FILE=read.token\n",
    );
    let show = |file: &str| machine.bootstrap(&["inventory", "show", "--inventory", file]).expect(0);
    let shown = show("pair.env");
    machine.write("fleet.toml", shown.text());
    assert_eq!(show("fleet.toml").text(), shown.text());
    let inventory = machine.bootstrap(&["inventory", "show", "--json", "--inventory", "pair.env"]).expect(0);
    let inventory = inventory.json("bootstrap.inventory/1");
    assert_eq!(
        (&inventory["node"][0]["name"], &inventory["node"][0]["preferred"]),
        (&json!("mini-main"), &json!("leader"))
    );
    assert_eq!(inventory["node"][1]["service"], "http://100.64.0.2:4317/");
    assert_eq!(inventory["credentials"]["read"]["file"], machine.arg("read.token"));
    machine.write("bad.env", "APP_NAME=orders\nREAD_TOKEN=s3cret\n");
    let bad = machine.bootstrap(&["inventory", "check", "--inventory", "bad.env"]).expect(2);
    assert!(bad.text().contains("there is no name READ_TOKEN") && !bad.text().contains("s3cret"), "{}", bad.text());
    assert!(bad.text().contains("PUBLIC_HOST is missing"), "{}", bad.text());
}

/// Watched from outside: nothing is opened for writing but files without a name, and nothing looks at the admin credential.
#[test]
fn commands_that_read_open_nothing_for_writing_and_no_admin_credential() {
    let fleet = pair();
    let (admin, read) = (fleet.write("admin.token", "adm1n\n"), fleet.write("read.token", "r3ad\n"));
    let credentials = format!(
        "[credentials]\nread = {{ file = \"{}\" }}\nadmin = {{ file = \"{}\" }}\n",
        read.display(),
        admin.display()
    );
    let operator = Operator::with(&fleet, &credentials);
    for args in [
        &["inventory", "check"][..],
        &["inventory", "show"],
        &["inventory", "schema"],
        &["topology"],
        &["probe", "--explain"],
        &["triage"],
        &["health"],
        &["node", "status"],
    ] {
        let trace = operator.machine.path("trace");
        let own = operator.command(args);
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-e",
            "trace=open,openat,openat2,creat,mkdir,rename,renameat2,unlink,unlinkat",
            "-o",
        ]);
        command.arg(&trace).arg(own.get_program()).args(own.get_args()).current_dir(own.get_current_dir().unwrap());
        command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let run = Run::from_output(format!("{args:?}"), command.output().expect("strace is installed"));
        assert!(run.code < 6, "{args:?}: {}", run.stderr);
        let trace = fs::read_to_string(trace).unwrap();
        assert!(trace.contains("fleet.toml") || args.contains(&"schema"), "nothing was watched: {trace}");
        let writes = |line: &&str| {
            let opens = line.contains("O_WRONLY") || line.contains("O_RDWR") || line.contains("O_CREAT");
            let other = ["creat(", "mkdir(", "rename", "unlink"].iter().any(|call| line.contains(call));
            (opens || other) && !line.contains("O_TMPFILE") && !line.contains("/dev/")
        };
        let written: Vec<&str> = trace.lines().filter(writes).collect();
        assert!(written.is_empty(), "{args:?}: {written:#?}");
        assert!(!trace.contains("admin.token\", O_"), "{args:?} opened the admin credential");
    }
    assert!(fleet.requests("node-a").contains("Bearer r3ad"), "the read credential was used");
    assert!(!fleet.requests("node-a").contains("adm1n"));
}
