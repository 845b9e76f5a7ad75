use super::*;
use crate::scenario::builtin;
use crate::scenario::moves::Moves;

const SMALL: &str = r#"
schema = "bootstrap.scenario/1"
name = "mine"
title = "My own"
required = []
rollback = []

[[phase]]
id = "precheck"

[[phase.step]]
id = "baseline"
title = "Everything is as it should be"
effect = "read"
action = { kind = "probe", expect = "anybody" }
timeout_seconds = 10
"#;

fn problems(text: &str) -> Vec<String> {
    Scenario::parse("test", text, &Moves).unwrap_err().problems
}

#[test]
fn a_scenario_of_an_operator_is_read() {
    let scenario = Scenario::parse("test", SMALL, &Moves).unwrap();
    assert_eq!(scenario.steps().count(), 1);
}

#[test]
fn each_flaw_is_named_with_its_step() {
    for (from, to, expected) in [
        ("bootstrap.scenario/1", "another form", "expected schema"),
        ("name = \"mine\"", "name = \"My Own\"", "is not one word"),
        ("id = \"precheck\"", "id = \"prechecks\"", "\"prechecks\" is none of precheck, backup-sync-check"),
        ("kind = \"probe\"", "kind = \"prob\"", "precheck/baseline: there is no kind of action \"prob\""),
        ("expect = \"anybody\"", "expect = \"somebody\"", "unknown variant `somebody`"),
        ("expect = \"anybody\"", "expect = \"anybody\", expected = 1", "unknown field `expected`"),
        ("timeout_seconds = 10", "timeout_seconds = 0", "is not between 1 and 86400"),
        ("timeout_seconds = 10", "timeout_seconds = 10\nbogus = 1", "unknown field `bogus`"),
        (
            "kind = \"probe\", expect = \"anybody\"",
            "kind = \"request\", request = \"resume\"",
            "says less than \"request\" does",
        ),
        ("kind = \"probe\", expect = \"anybody\"", "kind = \"wait\", until = \"led\"", "there is no condition \"led\""),
        ("kind = \"probe\", expect = \"anybody\"", "kind = \"command\", argv = []", "argv is empty"),
        ("kind = \"probe\", expect = \"anybody\"", "kind = \"collect\", name = \"../x\"", "is not one word"),
        ("required = []", "required = []\nallowed_effects = [\"mutate\"]", "not among allowed_effects"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let problems = problems(&SMALL.replace(from, to));
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{to}: {problems:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = SMALL.replace("name = \"mine\"", "name = \"\"").replace("timeout_seconds = 10", "timeout_seconds = 0");
    assert_eq!(problems(&text.replace("\"probe\"", "\"prob\"")).len(), 3);
}

#[test]
fn phases_stand_in_their_order_and_step_ids_are_unique() {
    let step = SMALL.split_once("[[phase]]").unwrap().1;
    let twice = format!("{SMALL}[[phase]]{}", step.replace("precheck", "verify"));
    assert_eq!(problems(&twice), ["two steps have the id \"baseline\""]);
    let backwards = format!("{}[[phase]]{}", SMALL.replace("precheck", "verify"), step.replace("baseline", "other"));
    assert!(problems(&backwards)[0].contains("\"precheck\" is none of"), "{:?}", problems(&backwards));
}

/// Any text is a scenario or a list of problems.
#[test]
fn damaged_scenarios_are_refused_and_never_panic() {
    let mut random = fastrand::Rng::with_seed(6);
    for (_, text) in builtin::ALL {
        for _ in 0..300 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..bytes.len());
                bytes[at] = random.u8(b' '..b'~');
            }
            if let Ok(text) = String::from_utf8(bytes) {
                let _ = Scenario::parse("damaged", &text, &Moves);
            }
        }
    }
}
