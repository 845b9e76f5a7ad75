//! Evidence: a good bundle is believed, and nothing else is.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use bootstrap::evidence::event::{CheckStatus, Claim, What};
use bootstrap::evidence::files::Files;
use bootstrap::evidence::policy::Policy;
use bootstrap::evidence::recompute::recompute;
use bootstrap::evidence::result::{Grade, RunResult, Verdict};
use bootstrap::evidence::seal::{INDEX, RESULT_ENV, STATEMENT, TEST_RESULT, tar_of};
use bootstrap::evidence::series::Line;
use bootstrap::evidence::verify::{Outcome, Report, verify};
use jiff::{SignedDuration, Timestamp};
use manifests::document::evidence::PAYLOAD_TYPE;
use manifests::envelope;
use manifests::keys::Signer;
use manifests::refusal::Class;
use serde_json::{Value, json};
use snapkit_tests::evidence::{CHALLENGE, Story, prober_key};
use snapkit_tests::{Run, browser};

/// A run that was changed, and what it amounts to.
fn amounts(mut story: Story) -> RunResult {
    story.write();
    recompute(&story.files()).unwrap()
}

fn judged(story: &Story, files: &Files) -> Report {
    verify(files, &story.root_pin(), None, &Policy::default(), Timestamp::now())
}

/// `bootstrap evidence verify` with these arguments.
fn verified(story: &Story, args: &[&str]) -> Run {
    let (path, pin) = (story.path(), story.pin());
    let all = [&["evidence", "verify", path.to_str().unwrap(), "--pin", &pin, "--json"], args].concat();
    story.issuer.machine.bootstrap(&all)
}

#[test]
fn a_good_bundle_is_believed_and_says_what_it_rests_on() {
    let mut story = Story::new();
    let sealed = story.seal();
    let limits =
        ["--max-failover-seconds", "8", "--max-data-lag-events", "0", "--max-age", "7d", "--challenge", CHALLENGE];
    let answer = verified(&story, &limits).expect(0).json("bootstrap.evidence-verify/1");
    assert_eq!(
        (&answer["outcome"], &answer["rto_ms"], &answer["rpo_events"]),
        (&json!("good"), &json!(7700), &json!(0))
    );
    let of = |claim: &str| {
        let claims = answer["claims"].as_array().unwrap().iter().filter(|one| one["claim"] == claim);
        claims.map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // What only the program that ran it wrote down is its word, though the rules are applied again.
    let by_word = ["health-after", "load-bearing", "no-early-consume", "prerequisites", "teardown", "timeboxes"];
    assert_eq!(of("asserted"), [&by_word[..], &["tool-unchanged"]].concat());
    assert_eq!(of("unproven"), Vec::<String>::new());
    assert_eq!(of("proven").len(), 15);
    assert_eq!((sealed.result.verdict, sealed.result.grade), (Verdict::Passed, Grade::Aaa));

    // The tar is the same bundle, and the same files make the same tar.
    let tar = fs::read(&sealed.tar).unwrap();
    let files = Files::read(&sealed.tar).unwrap();
    assert_eq!(files, story.files());
    let mut again = Vec::new();
    tar_of(&files, &mut again).unwrap();
    assert!(tar == again, "equal files give equal bytes");
    let arguments = ["evidence", "verify", sealed.tar.to_str().unwrap(), "--pin", &story.pin()];
    let text = story.issuer.machine.bootstrap(&arguments).expect(0);
    assert!(text.text().contains("it shows what it says"), "{}", text.text());
    // Without a pin, the chains that this machine believes are enough; another one believes none.
    story.issuer.machine.bootstrap(&arguments[..3]).expect(0);
    snapkit_tests::Machine::new().bootstrap(&arguments[..3]).expect(50).stderr_names("--pin");
}

#[test]
fn a_run_that_is_sealed_is_never_sealed_again() {
    let mut story = Story::new();
    story.seal();
    let error = bootstrap::evidence::seal::seal(&story.run, &story.issuer.node).unwrap_err();
    assert_eq!(error.refusal().unwrap().class(), Class::Evidence);
}

#[test]
fn limits_that_do_not_hold_are_named_with_metric_value_limit_and_file() {
    let mut story = Story::new();
    story.seal();
    for (limit, value, metric, file) in [
        ("--max-failover-seconds", "7", "7.700", "result.json#/measured/rto_ms"),
        ("--min-probers", "3", "2", "result.json#/probers"),
    ] {
        let run = verified(&story, &[limit, value]).expect(1);
        let answer = run.json("bootstrap.evidence-verify/1");
        let no: Vec<&Value> = answer["answers"].as_array().unwrap().iter().filter(|a| a["holds"] == false).collect();
        assert_eq!((&no[0]["value"], &no[0]["file"], no.len()), (&json!(metric), &json!(file), 1));
        assert!(no[0]["limit"].as_str().unwrap().contains(value));
    }
    story.issuer.machine.write("policy.toml", "max_data_lag_events = 0\nproven = [\"rto\", \"load-bearing\"]\n");
    let answer = verified(&story, &["--policy", "policy.toml"]).expect(1).json("bootstrap.evidence-verify/1");
    let no = answer["answers"].as_array().unwrap().iter().find(|a| a["holds"] == false).unwrap();
    assert_eq!((&no["metric"], &no["value"]), (&json!("claim load-bearing"), &json!("asserted")));
    story.issuer.machine.write("policy.toml", "max_failover = 7\n");
    verified(&story, &["--policy", "policy.toml"]).expect(2).stderr_names("policy.toml");
}

/// Every value of a JSON document, with its pointer.
fn leaves(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(&format!("{at}/{name}"), value, found)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| leaves(&format!("{at}/{i}"), value, found))
        }
        _ => found.push(at.to_owned()),
    }
}

/// Another value in the place of one.
fn edit(value: &mut Value) {
    *value = match &*value {
        Value::String(text) if text.len() == 64 => json!(if text.starts_with('0') { "1" } else { "0" }.repeat(64)),
        Value::String(text) => json!(format!("{text}x")),
        Value::Number(number) => json!(number.as_u64().map_or(1, |number| number ^ 1)),
        Value::Bool(yes) => json!(!yes),
        _ => json!(1),
    };
}

/// The same document with one value otherwise.
fn edited(bytes: &[u8], pointer: &str) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(bytes).unwrap();
    edit(value.pointer_mut(pointer).unwrap());
    serde_json::to_vec(&value).unwrap()
}

#[test]
fn every_field_of_every_file_edited_in_turn_is_refused_and_the_file_is_named() {
    let mut story = Story::new();
    story.seal();
    let good = story.files();
    assert_eq!(judged(&story, &good).outcome(), Outcome::Good);
    let mut tried = 0;
    let mut refuses = |name: &str, bytes: Vec<u8>, what: &str| {
        let mut files = good.clone();
        files.set(name, bytes);
        let report = judged(&story, &files);
        let Outcome::Refused(_) = report.outcome() else { panic!("{name} {what} was believed") };
        let named = report.refused.iter().any(|refusal| refusal.object().contains(name));
        assert!(named, "{name} {what}: {:?}", report.refused);
        tried += 1;
    };
    for (name, bytes) in good.iter() {
        if name.ends_with(".json") {
            let value: Value = serde_json::from_slice(bytes).unwrap();
            let mut pointers = Vec::new();
            leaves("", &value, &mut pointers);
            for pointer in pointers {
                let changed = edited(bytes, &pointer);
                // The id of a key is for people and for finding it; the key itself decides.
                if !(name.ends_with(".dsse.json") && pointer.ends_with("/keyid")) {
                    refuses(name, changed, &pointer);
                }
            }
        } else if name.ends_with(".jsonl") {
            let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
            let every = if name == "timeline.jsonl" { 1 } else { lines.len() / 2 };
            for at in (0..lines.len()).step_by(every).chain([lines.len() - 1]) {
                let mut pointers = Vec::new();
                leaves("", &serde_json::from_slice(lines[at]).unwrap(), &mut pointers);
                for pointer in pointers {
                    let changed = edited(lines[at], &pointer);
                    let text = lines.iter().enumerate().map(|(i, line)| if i == at { &changed[..] } else { *line });
                    let text = text.collect::<Vec<_>>().join(&b'\n');
                    refuses(name, [&text[..], b"\n"].concat(), &format!("line {} {pointer}", at + 1));
                }
            }
        } else {
            let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
            for at in 0..lines.len() {
                let changed = lines.iter().enumerate().flat_map(|(i, line)| if i == at { b"edited\n" } else { *line });
                refuses(name, changed.copied().collect(), &format!("line {}", at + 1));
            }
        }
    }
    assert!(tried > 1000, "{tried}");
}

#[test]
fn a_bundle_with_a_file_less_or_more_is_refused() {
    let mut story = Story::new();
    story.seal();
    let good = story.files();
    for (name, _) in good.iter() {
        let mut files = good.clone();
        files.remove(name);
        let report = judged(&story, &files);
        assert!(matches!(report.outcome(), Outcome::Refused(_)), "{name}");
        assert!(report.refused.iter().any(|refusal| refusal.object().contains(name)), "{name}: {:?}", report.refused);
    }
    let mut files = good.clone();
    files.set("collect/later.log", b"all is well\n".to_vec());
    assert_eq!(judged(&story, &files).outcome(), Outcome::Refused(Class::Extra));
    fs::remove_file(story.path().join("restore/c.receipt.json")).unwrap();
    verified(&story, &[]).expect(i32::from(Class::Missing.exit_code()));
}

/// Makes index and statements fit what was edited, as whoever has the key can.
fn sealed_anew(story: &Story, files: &mut Files, statement: impl FnOnce(&mut Value)) {
    let digest = |bytes: &[u8]| manifests::digest::Digest::sha256(bytes);
    let mut index: Value = serde_json::from_slice(files.get(INDEX).unwrap()).unwrap();
    for file in index["files"].as_array_mut().unwrap() {
        let content = files.get(file["path"].as_str().unwrap()).unwrap();
        (file["sha256"], file["bytes"]) = (json!(digest(content)), json!(content.len()));
    }
    let bytes = serde_json::to_vec_pretty(&index).unwrap();
    let bundle = digest(&bytes);
    files.set(INDEX, bytes);
    let env = String::from_utf8(files.get(RESULT_ENV).unwrap().to_vec()).unwrap();
    let (before, _) = env.split_once("BUNDLE_SHA256=").unwrap();
    files.set(RESULT_ENV, format!("{before}BUNDLE_SHA256={bundle}\n").into_bytes());
    let mut change = Some(statement);
    for name in [STATEMENT, TEST_RESULT] {
        let envelope: Value = serde_json::from_slice(files.get(name).unwrap()).unwrap();
        use base64::Engine as _;
        let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let mut payload: Value = serde_json::from_slice(&payload).unwrap();
        payload["subject"][0]["digest"]["sha256"] = json!(bundle);
        if let Some(change) = change.take() {
            change(&mut payload);
        }
        let payload = serde_json::to_vec(&payload).unwrap();
        files.set(name, envelope::sign(PAYLOAD_TYPE, &payload, &[&story.issuer.node]).unwrap());
    }
}

#[test]
fn a_result_that_its_files_do_not_show_is_refused_though_the_right_key_signed_it() {
    let mut story = Story::new();
    story.seal();
    let good = story.files();
    let mut same = good.clone();
    sealed_anew(&story, &mut same, |_| ());
    assert_eq!(judged(&story, &same).outcome(), Outcome::Good, "{:?}", judged(&story, &same).refused);

    let result: Value = serde_json::from_slice(good.get("result.json").unwrap()).unwrap();
    let mut pointers = Vec::new();
    leaves("", &result, &mut pointers);
    for pointer in &pointers {
        let mut files = good.clone();
        files.set("result.json", edited(good.get("result.json").unwrap(), pointer));
        sealed_anew(&story, &mut files, |_| ());
        let report = judged(&story, &files);
        let place = format!("result.json#{pointer}");
        assert!(report.refused.iter().any(|refusal| refusal.object() == place), "{place}: {:?}", report.refused);
    }
    for field in
        ["verdict", "mode", "grade", "rto_ms", "rpo_events", "rpo_ms", "plan", "challenge", "id", "finished", "head"]
    {
        let mut files = good.clone();
        sealed_anew(&story, &mut files, |statement| match field {
            "verdict" => statement["predicate"][field] = json!("failed"),
            "mode" => statement["predicate"][field] = json!("simulated"),
            "head" => edit(&mut statement["predicate"]["head"]["seq"]),
            "finished" => statement["predicate"][field] = json!("2031-01-01T00:00:00Z"),
            _ => edit(&mut statement["predicate"][field]),
        });
        let report = judged(&story, &files);
        let named = |refusal: &manifests::refusal::Refusal| {
            refusal.object().starts_with(&format!("{STATEMENT}#/predicate/{field}"))
        };
        assert!(report.refused.iter().any(named), "{field}: {:?}", report.refused);
    }
    // Texts of another version could say anything: nobody here can compute them.
    let mut files = good.clone();
    let mut index: Value = serde_json::from_slice(files.get(INDEX).unwrap()).unwrap();
    index["rendering"] = json!(2);
    files.set(INDEX, serde_json::to_vec(&index).unwrap());
    files.set("report.html", b"<h1>All is well</h1>".to_vec());
    sealed_anew(&story, &mut files, |_| ());
    assert_eq!(judged(&story, &files).outcome(), Outcome::Refused(Class::Newer));
    for name in ["report.html", "report.md", "junit.xml", "snapshot-head.txt", "sha256.txt"] {
        let mut files = good.clone();
        files.set(name, b"all is well\n".to_vec());
        sealed_anew(&story, &mut files, |_| ());
        assert_eq!(judged(&story, &files).outcome(), Outcome::Refused(Class::Evidence), "{name}");
    }
}

#[test]
fn i01_a_pass_without_its_checks_is_refused() {
    let mut story = Story::new().planned("/checks", json!([]));
    let sealed = story.seal();
    assert_eq!(sealed.result.verdict, Verdict::Passed, "it says so itself");
    let run = verified(&story, &[]).expect(95);
    let answer = run.json("bootstrap.evidence-verify/1");
    let refused = &answer["refused"][0];
    assert_eq!((&refused["class"], &refused["object"]), (&json!("E_EVIDENCE"), &json!("plan.json#/checks")));
    assert!(refused["found"].as_str().unwrap().contains("restored-equals-manifest"), "{refused}");
    // Checks that are there and not required are as hollow.
    let optional = json!([{ "id": "rto", "required": false }]);
    let mut story = Story::new().planned("/checks", optional);
    story.seal();
    verified(&story, &[]).expect(95);
}

#[test]
fn i02_the_bundle_of_another_run_is_refused_by_age_and_by_challenge() {
    let mut story = Story::new();
    story.seal();
    verified(&story, &["--challenge", "of this quarter"]).expect(53);
    let policy = Policy { max_age: Some("7d".parse().unwrap()), ..Policy::default() };
    let later = Timestamp::now() + SignedDuration::from_hours(8 * 24);
    let report = verify(&story.files(), &story.root_pin(), None, &policy, later);
    assert_eq!(report.outcome(), Outcome::Refused(Class::Stale));
    assert!(report.refused[0].object().contains("result.json#/started"), "{:?}", report.refused);
    // Renamed, it is what it was.
    let renamed = story.path().with_file_name("20990101T000000Z-drill-8");
    fs::rename(story.path(), &renamed).unwrap();
    let answer =
        story.issuer.machine.bootstrap(&["evidence", "verify", renamed.to_str().unwrap(), "--pin", &story.pin()]);
    assert!(answer.expect(0).text().contains("drill-7"));
    // Of another chain it is nothing.
    let other = Story::new();
    let report = verify(&Files::read(&renamed).unwrap(), &other.root_pin(), None, &Policy::default(), Timestamp::now());
    assert_eq!(report.outcome(), Outcome::Refused(Class::RootPin));
}

#[test]
fn i03_a_statement_that_was_edited_or_that_another_key_signed_is_refused() {
    let mut story = Story::new();
    story.seal();
    let good = story.files();
    let statement: Value = serde_json::from_slice(good.get(STATEMENT).unwrap()).unwrap();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let payload = engine.decode(statement["payload"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(payload.clone()).unwrap();
    let mut edited = statement.clone();
    edited["payload"] = json!(engine.encode(text.replace("\"rto_ms\":7700", "\"rto_ms\":1400")));
    let mut files = good.clone();
    files.set(STATEMENT, serde_json::to_vec(&edited).unwrap());
    assert_eq!(judged(&story, &files).outcome(), Outcome::Refused(Class::Sig));
    files.set(STATEMENT, envelope::sign(PAYLOAD_TYPE, &payload, &[&story.issuer.owner]).unwrap());
    assert_eq!(judged(&story, &files).outcome(), Outcome::Refused(Class::Role));
    let stranger = manifests::keys::SecretKey::from_seed(&[99; 32]);
    files.set(STATEMENT, envelope::sign(PAYLOAD_TYPE, &payload, &[&stranger]).unwrap());
    assert_eq!(judged(&story, &files).outcome(), Outcome::Refused(Class::SigUntrusted));
}

#[test]
fn i04_a_run_that_nobody_tells_of_leaves_a_gap_in_the_chain() {
    let mut story = Story::new();
    let sealed = story.seal();
    let (machine, issuer) = (&story.issuer.machine, &story.issuer);
    machine.write(
        "node/bootstrap.toml",
        format!(
            "from = \"{}#root=sha256:{}\"\nmanifest = \"app\"\nnode = \"a\"\nhome = \"{}\"\n",
            machine.arg("store"),
            issuer.pin,
            machine.home().display()
        ),
    );
    let record = |file: &std::path::Path| {
        let mut command = machine.bootstrap_command(&["evidence", "record", "--node", "node", "--json"]);
        command.stdin(fs::File::open(file).unwrap());
        Run::of(command)
    };
    issuer.check(&["--last-good-drill", "7d"]).expect(25);
    // Its orchestrator had the chain told already; whoever tells it again finds that.
    let beginning = machine.write("beginning.json", serde_json::to_vec(&story.beginning()).unwrap());
    let begun = record(&beginning).expect(0).json("bootstrap.evidence-record/1");
    assert_eq!((&begun["phase"], &begun["id"], &begun["before"]), (&json!("begun"), &json!("drill-7"), &json!(true)));
    assert_eq!(begun["seq"], json!(story.begun.as_ref().unwrap().seq));
    // A plan alone, of a run that nobody measures, is another record.
    let plain = record(&story.path().join("plan.json")).expect(0).json("bootstrap.evidence-record/1");
    assert_eq!((&plain["phase"], &plain["before"]), (&json!("begun"), &json!(false)));
    let log = machine.ok(&["log"]);
    assert!(log.text().contains("drill-7 (full) began"), "{}", log.text());
    // It began, and that is no drill that passed.
    let open = issuer.check(&["--last-good-drill", "7d"]).expect(25);
    assert_eq!(open.json("snapkit.manifest-check/1")["verdict"], json!("undrilled"));

    let ended = record(&sealed.statement).expect(0).json("bootstrap.evidence-record/1");
    assert_eq!(ended["phase"], json!("ended"));
    let good = issuer.check(&["--last-good-drill", "7d"]).expect(0).json("snapkit.manifest-check/1");
    let last = &good["drills"]["last_good"];
    assert_eq!((&last["bundle"], &last["rto_ms"]), (&json!(sealed.bundle.to_string()), &json!(7700)));
    let without = issuer.check(&[]).expect(0).json("snapkit.manifest-check/1");
    assert_eq!(without["drills"], json!(null));

    // A statement that nobody entitled signed is not recorded.
    let stranger = manifests::keys::SecretKey::from_seed(&[99; 32]);
    let bytes = envelope::sign(PAYLOAD_TYPE, b"{}", &[&stranger]).unwrap();
    record(&machine.write("forged.json", bytes)).expect(41);
    record(&machine.write("nothing.json", "{}")).expect(30);
    // An end names a beginning of the same run: plan, challenge and all.
    let begun = story.begun.as_ref().unwrap();
    for (field, value) in [("challenge", json!("another")), ("plan", json!("0".repeat(64)))] {
        let forged = restated(&story, &sealed.statement, |predicate| predicate[field] = value);
        record(&machine.write("forged.json", forged)).expect(61).stderr_names(&format!("record {}", begun.seq));
    }
    machine.ok(&["verify"]);
}

/// The same statement with something otherwise, signed again.
fn restated(story: &Story, statement: &std::path::Path, change: impl FnOnce(&mut Value)) -> Vec<u8> {
    use base64::Engine as _;
    let envelope: Value = serde_json::from_slice(&fs::read(statement).unwrap()).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    change(&mut payload["predicate"]);
    envelope::sign(PAYLOAD_TYPE, &serde_json::to_vec(&payload).unwrap(), &[&story.issuer.node]).unwrap()
}

#[test]
fn a_run_that_began_long_ago_without_an_end_is_warned_of() {
    use manifests::document::drill::{Begun, Drill};
    let story = Story::new();
    let trust = snapkit::trust::TrustDir::new(&story.issuer.machine.home(), &story.issuer.machine.cache());
    let store =
        snapkit::store::open(&story.issuer.machine.arg("store"), &snapkit::store::OpenOptions::default()).unwrap();
    let pin = snapkit::trust::Pin { root: story.root_pin(), min: None };
    let long_ago = Timestamp::now() - SignedDuration::from_hours(30);
    let chain = snapkit::chain::Chain::open(&*store, pin, &trust, Timestamp::now()).unwrap();
    let body = manifests::document::record::Body::Drill(Drill::Begun(Begun {
        id: "drill-6".into(),
        kind: "drill".into(),
        scenario: "full".into(),
        mode: "execute".into(),
        plan: story.root_pin(),
        challenge: None,
        probers: Vec::new(),
    }));
    let newest = chain.head().unwrap();
    let done = chain.commit(&newest.head, &body, None, &story.issuer.node, "a", long_ago).unwrap();
    assert!(matches!(done, snapkit::chain::Commit::Done(_)));
    let checked = story.issuer.machine.run(&["manifest", "check", "--last-good-drill", "7d"]).expect(25);
    checked.stderr_names("W_GAP").stderr_names("drill-6");
}

#[test]
fn a_run_that_changed_nothing_is_told_from_one_that_did() {
    let mut story = Story::new().planned("/mode", json!("simulated"));
    let sealed = story.seal();
    assert_eq!((sealed.result.grade, sealed.result.verdict), (Grade::Simulated, Verdict::Passed));
    verified(&story, &[]).expect(6);
    verified(&story, &["--allow-simulated"]).expect(0);
    let env = fs::read_to_string(story.path().join(RESULT_ENV)).unwrap();
    assert!(env.contains("MODE=simulated\n"), "{env}");
}

/// What became of a check, and what it rests on.
fn check<'r>(result: &'r RunResult, id: &str) -> (CheckStatus, Claim, &'r str) {
    let check = result.check(id).unwrap();
    (check.status, check.claim, &check.observed)
}

/// A run in which this check alone fails, and says this.
#[track_caller]
fn fails_by(story: Story, id: &str, why: &str) {
    let result = amounts(story);
    let (status, claim, observed) = check(&result, id);
    assert_eq!(status, CheckStatus::Failed, "{id}: {observed}");
    assert_ne!(claim, Claim::Unproven, "{id}: {observed}");
    assert!(observed.contains(why), "{id}: {observed}");
    assert_eq!(result.verdict, Verdict::Failed);
}

#[test]
fn each_thing_that_goes_wrong_fails_the_run_by_its_own_check() {
    let slow = Story::new().planned("/thresholds/max_failover_seconds", json!(7));
    fails_by(slow, "rto", "7700 ms");
    let lossy = Story::new().lines("sentinel", |lines| {
        for line in lines {
            if let Line::Recovered(found) = line {
                found.recovered -= 3;
            }
        }
    });
    fails_by(lossy, "rpo", "3 lost, acknowledged over 600 ms");
    let counted_again = Story::new().lines("sentinel", |lines| {
        lines.retain(|line| !matches!(line, Line::Recovered(_)));
        for line in lines {
            if let Line::Acknowledged(write) = line
                && write.term == 5
            {
                write.n -= 2;
            }
        }
    });
    fails_by(counted_again, "rpo", "2 lost");
    let mut dead = Story::new();
    dead.dead = vec!["edge-2".into()];
    fails_by(dead, "probers-alive", "edge-2");
    let pausing = Story::new().lines("edge-1", |lines| {
        lines.drain(30..60);
        for (i, line) in lines.iter_mut().enumerate() {
            if let Line::Sample(sample) = line {
                sample.i = i as u64;
            }
        }
    });
    fails_by(pausing, "probers-alive", "asked nothing for 6200 ms");
    let late =
        Story::new().lines("edge-1", |lines| drop(lines.drain(..2))).lines("edge-2", |lines| lines.truncate(100));
    let late = renumbered(late, "edge-1");
    fails_by(late, "probers-alive", "none of 2 did");
    let two = Story::new().lines("edge-1", |lines| {
        if let Some(Line::Sample(sample)) = lines.get_mut(40) {
            sample.node = Some("b".into());
        }
    });
    fails_by(two, "one-leader", "term 4 has a and b");
    let back = Story::new().lines("edge-2", |lines| {
        if let Some(Line::Sample(sample)) = lines.last_mut() {
            (sample.node, sample.term) = (Some("a".into()), Some(4));
        }
    });
    fails_by(back, "one-leader", "an answer of term 4 after one of term 5");
    let stepped = Story::new().lines("edge-1", |lines| {
        for line in &mut lines[100..] {
            if let Line::Sample(sample) = line {
                sample.wall += SignedDuration::from_secs(40);
            }
        }
    });
    fails_by(stepped, "clock-steady", "stepped by 40000 ms");
    let still_there = Story::new().lines("node-a", |lines| {
        if let Some(Line::Sample(sample)) = lines.get_mut(70) {
            (sample.ok, sample.term, sample.error) = (true, Some(4), None);
        }
    });
    fails_by(still_there, "old-leader-down", "probes/node-a.jsonl line 72");
    let mut nobody = Story::new();
    nobody.lease.retain(|(_, node, _, _)| *node == "a");
    fails_by(nobody, "lease-flips", "no entry before the claim");
    let mut elsewhere = Story::new();
    for entry in elsewhere.lease.iter_mut().filter(|(_, _, term, _)| *term == 5) {
        entry.1 = "a";
    }
    fails_by(elsewhere, "traffic-at-holder", "which a holds");
    let slow = Story::new().planned("/thresholds/follower_seconds", json!(5));
    fails_by(slow, "timeboxes", "phase follower took 9700 ms of 5000 ms");
    let mut left = Story::new();
    left.environment.nodes[2].temporary.as_mut().unwrap().destroyed = None;
    fails_by(left, "teardown", "left: c");
    let mut changed = Story::new();
    changed.environment.tool_sha256_end = Some(story_digest());
    fails_by(changed, "tool-unchanged", "the program that ran it changed");
    let mut ill = Story::new();
    ill.health[1].status = "down".into();
    fails_by(ill, "health-after", "b agent: down");
}

fn story_digest() -> manifests::digest::Digest {
    manifests::digest::Digest::sha256(b"another program")
}

fn renumbered(story: Story, series: &str) -> Story {
    story.lines(series, |lines| {
        for (i, line) in lines.iter_mut().enumerate() {
            if let Line::Sample(sample) = line {
                sample.i = i as u64;
            }
        }
    })
}

#[test]
fn a_required_check_that_nobody_made_or_that_was_waived_fails_the_run() {
    let mut silent = Story::new();
    silent.events.retain(|(_, _, what)| !matches!(what, What::Check(check) if check.id == "load-bearing"));
    let result = amounts(silent);
    assert_eq!(check(&result, "load-bearing").1, Claim::Unproven);
    assert_eq!(result.verdict, Verdict::Failed);

    let mut waived = Story::new();
    let waive = What::Waive { id: "rpo".into(), who: "J. Doe".into(), reason: "in a hurry".into() };
    let end = waived.events.len() - 1;
    waived.events.insert(end, (47_900, None, waive));
    let result = amounts(waived);
    assert_eq!(check(&result, "rpo").0, CheckStatus::Skipped);
    assert_eq!((result.verdict, result.waivers.len()), (Verdict::Failed, 1));

    // What only somebody says needs the file that shows it.
    let mut bare = Story::new();
    bare.write();
    let mut files = bare.files();
    files.remove("diff/c.json");
    let result = recompute(&files).unwrap();
    let (status, claim, observed) = check(&result, "load-bearing");
    assert_eq!((status, claim), (CheckStatus::Skipped, Claim::Unproven), "{observed}");
}

#[test]
fn a_series_of_another_run_challenge_or_key_is_not_believed() {
    let mut story = Story::new();
    story.series.get_mut("edge-1").unwrap().0.drill = "drill-6".into();
    fails_by(story, "probers-alive", "of the run drill-7");
    let mut story = Story::new();
    story.series.get_mut("edge-1").unwrap().0.challenge = "of last year".into();
    fails_by(story, "probers-alive", "the challenge of the plan");
    let mut story = Story::new();
    for (_, _, what) in &mut story.events {
        if let What::Prober { name, key, .. } = what
            && name == "edge-1"
        {
            *key = prober_key("edge-2").public().to_hex();
        }
    }
    fails_by(story, "probers-alive", "that the timeline was told");
    let mut story = Story::new();
    story.events.retain(|(_, _, what)| !matches!(what, What::Prober { name, .. } if name == "sentinel"));
    fails_by(story, "sentinel", "a prober that the timeline names sentinel");
}

#[test]
fn a_failed_step_an_abort_and_an_emergency_are_told() {
    use bootstrap::evidence::event::{Failure, StepStatus};
    let mut failed = Story::new();
    for (_, step, what) in &mut failed.events {
        if let (Some("restore"), What::StepEnd { status, error, .. }) = (&*step, what) {
            *status = StepStatus::Failed;
            *error = Some(Failure { code: "E_HASH".into(), text: "a pack is damaged".into() });
        }
    }
    failed.events.retain(|(_, step, _)| !matches!(step, Some("compare" | "surfaces")));
    let result = amounts(failed);
    assert_eq!((result.verdict, result.failed_step.as_deref()), (Verdict::Failed, Some("restore")));
    let of = |id: &str| result.steps.iter().find(|step| step.id == id).unwrap();
    assert_eq!((of("restore").duration_ms, of("compare").status), (Some(12_600), StepStatus::NotRun));

    let mut aborted = Story::new();
    let at = aborted.events.len() - 1;
    aborted.events.insert(at, (47_900, None, What::Abort { reason: "enough".into() }));
    assert_eq!(amounts(aborted).verdict, Verdict::Aborted);

    let mut emergency = Story::new().failover("emergency");
    emergency.seal();
    let result = recompute(&emergency.files()).unwrap();
    assert_eq!(check(&result, "after-action").1, Claim::Asserted);
    assert_eq!((result.verdict, result.grade), (Verdict::Passed, Grade::LiveTakeover));
    verified(&emergency, &[]).expect(0);
    let mut untold = Story::new().failover("emergency");
    untold.events.retain(|(_, _, what)| !matches!(what, What::AfterAction(_)));
    let result = amounts(untold);
    assert_eq!((check(&result, "after-action").2, result.verdict), ("nobody said", Verdict::Failed));
}

/// Recovery time and loss, by somebody who never saw our code: docs/format/bundle.md says how.
const PYTHON: &str = r#"
import glob, json, sys
directory = sys.argv[1]
read = lambda file: [json.loads(line) for line in open(file)]
gaps = []
for file in glob.glob(directory + "/probes/*.jsonl"):
    head, *samples, end = read(file)
    good = [s for s in samples if s["ok"] and s["term"]] if head["of"] == "ingress" else []
    gaps += [-((a["done_us"] - b["done_us"]) // 10**3) for a, b in zip(good, good[1:]) if a["term"] < b["term"]]
lost, since = 0, []
for line in read(directory + "/sentinel.jsonl")[1:-1]:
    if "recovered" in line:
        lost += max(0, max(since, default=0) - line["recovered"])
        since = []
    elif "n" in line:
        since.append(line["n"])
print(max(gaps), lost)
"#;

#[test]
fn a_few_lines_of_python_find_the_same_recovery_time_and_loss() {
    let story = Story::new().lines("sentinel", |lines| {
        for line in lines {
            if let Line::Recovered(found) = line {
                found.recovered -= 4;
            }
        }
    });
    for mut story in [Story::new(), story] {
        let result = story.seal().result;
        let output = Command::new("python3").args(["-c", PYTHON]).arg(story.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let ours = format!("{} {}\n", result.measured.rto_ms.unwrap(), result.measured.rpo_events.unwrap());
        assert_eq!(String::from_utf8(output.stdout).unwrap(), ours);
    }
}

#[test]
fn outside_tools_read_the_bundle() {
    let mut story = Story::new();
    let sealed = story.seal();
    let sums = Command::new("sha256sum").args(["--check", "--quiet", "sha256.txt"]).current_dir(story.path()).output();
    assert!(sums.unwrap().status.success());
    let index = Command::new("sha256sum").arg(story.path().join(INDEX)).output().unwrap();
    assert!(String::from_utf8(index.stdout).unwrap().starts_with(&sealed.bundle.to_string()));
    let listed = Command::new("tar").arg("-tf").arg(&sealed.tar).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.lines().is_sorted() && listed.lines().any(|name| name == "probes/edge-1.jsonl"), "{listed}");
    let script = ". ./result.env; echo $FAILOVER_SUCCESS $DATA_SYNC_LAG_EVENTS $RTO_USER_SECONDS $BUNDLE_SHA256";
    let output = Command::new("sh").args(["-c", script]).current_dir(story.path()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("true 0 7.700 {}\n", sealed.bundle));
    let xml = "import sys, xml.etree.ElementTree as t; s = t.parse(sys.argv[1]).getroot(); print(s.get('tests'), s.get('failures'))";
    let output = Command::new("python3").args(["-c", xml]).arg(story.path().join("junit.xml")).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "30 0\n");
    for name in ["primary-pre.json", "follower-post.json", "restore-post.json", "bootstrap.json", "external-proof.txt"]
    {
        assert!(story.path().join(name).exists(), "{name}");
    }
}

#[test]
fn no_secret_is_sealed() {
    let mut story = Story::new();
    story.write();
    let log = "started\nAuthorization: Bearer 0123456789abcdef\n";
    story.run.write("collect/agent-b.log", log.as_bytes()).unwrap();
    bootstrap::evidence::seal::seal(&story.run, &story.issuer.node).unwrap();
    let kept = fs::read_to_string(story.path().join("collect/agent-b.log")).unwrap();
    assert_eq!(kept, "started\nAuthorization: Bearer [redacted]\n");
    let mut story = Story::new();
    story.plan["reason"] = json!("with password=hunter22");
    let error = story.try_seal().unwrap_err();
    assert!(error.refusal().unwrap().object().starts_with("plan.json"), "{error:?}");
}

#[test]
fn export_and_show_print_the_parts() {
    let mut story = Story::new();
    let sealed = story.seal();
    let tar = sealed.tar.to_str().unwrap();
    let part =
        |format: &str| story.issuer.machine.bootstrap(&["evidence", "export", tar, "--format", format]).expect(0);
    for (format, begins) in [
        ("env", "FAILOVER_SUCCESS=true"),
        ("junit", "<?xml"),
        ("md", "# drill full: passed"),
        ("html", "<!doctype html>"),
        ("json", "{"),
        ("intoto", "{"),
        ("test-result", "{"),
    ] {
        assert!(part(format).text().starts_with(begins), "{format}");
    }
    let shown = story.issuer.machine.bootstrap(&["evidence", "show", tar, "--json"]).expect(0);
    assert_eq!(shown.json("bootstrap.result/1")["measured"]["rto_ms"], json!(7700));
    story.issuer.machine.bootstrap(&["evidence", "show", "tree"]).expect(95).stderr_names("plan.json");
    story
        .issuer
        .machine
        .bootstrap(&["evidence", "verify", "nowhere", "--pin", &story.pin()])
        .expect(5)
        .stderr_names("nowhere");
    story.issuer.machine.bootstrap(&["evidence", "verify", tar, "--pin", "md5:1"]).expect(2).stderr_names("--pin");
}

#[test]
fn the_report_draws_who_led_what_answered_and_where_the_gap_was() {
    let mut story = Story::new();
    // A name that wants to be markup stays a name.
    story.plan["reason"] = json!("<script>document.title='owned'</script>");
    story.seal();
    let report = story.path().join("report.html");
    let page = browser::open(&report, "");
    assert_eq!(page.console, Vec::<String>::new());
    assert!(page.dom.contains("<title>drill full: passed</title>"));
    assert!(!page.dom.contains("<script"), "it needs none");
    for part in
        ["7.7 s without an answer", ">a, term 4<", ">b, term 5<", "kill a", "edge-2", "cold-restore", "15 of 22"]
    {
        assert!(page.dom.contains(part), "{part}");
    }
    let text = fs::read_to_string(&report).unwrap();
    assert!(!["http:", "https:", "<link", "src="].into_iter().any(|part| text.contains(part)), "it needs nothing else");
    if let Some(directory) = std::env::var_os("SNAPKIT_PICTURES") {
        let directory = std::path::PathBuf::from(directory);
        browser::picture(&format!("file://{}", report.display()), &directory.join("report.png"));
        fs::copy(&report, directory.join("report.html")).unwrap();
    }
}
