//! What whoever holds a run and the key that seals it may make of it, and what a verifier says to that.
//!
//! Each case is sealed by the product itself, so that every digest, every result and every signature fits.

#![allow(clippy::unwrap_used)]

use std::fs;

use bootstrap::evidence::event::{AfterAction, CheckResult, CheckStatus, Claim, What};
use bootstrap::evidence::files::Files;
use bootstrap::evidence::policy::Policy;
use bootstrap::evidence::recompute::recompute;
use bootstrap::evidence::result::{Grade, Verdict};
use bootstrap::evidence::seal::tar_of;
use bootstrap::evidence::verify::{Outcome, Report, verify};
use jiff::{SignedDuration, Timestamp};
use manifests::document::receipt::{BreakGlass, Lifted, Receipt};
use manifests::refusal::Class;
use serde_json::{Value, json};
use snapkit_tests::evidence::{CHALLENGE, Forger, Story, node_key, prober_key};

/// A good run, and what it left.
struct Bench {
    story: Story,
    good: Files,
}

impl Bench {
    fn new() -> Self {
        Self::of(Story::new())
    }

    fn of(mut story: Story) -> Self {
        story.write();
        let good = story.files();
        Self { story, good }
    }

    fn forged(&self, change: impl FnOnce(&mut Forger<'_>)) -> Forger<'_> {
        let mut forger = Forger::of(&self.story, &self.good);
        change(&mut forger);
        forger
    }

    fn judged(&self, files: &Files, policy: &Policy) -> Report {
        verify(files, &self.story.root_pin(), None, policy, Timestamp::now())
    }

    /// A forgery is refused or not enough, and somebody reads why.
    #[track_caller]
    fn catches(&self, why: &str, change: impl FnOnce(&mut Forger<'_>)) {
        self.catches_under(&Policy::default(), why, change);
    }

    #[track_caller]
    fn catches_under(&self, policy: &Policy, why: &str, change: impl FnOnce(&mut Forger<'_>)) {
        let said = match self.forged(change).seal() {
            Err(error) => format!("{error:?}"),
            Ok(files) => {
                let report = self.judged(&files, policy);
                assert!(!matches!(report.outcome(), Outcome::Good | Outcome::Simulated), "it was believed: {why}");
                said(&report)
            }
        };
        assert!(said.contains(why), "`{why}` is not in {said}");
    }
}

/// Everything that speaks against it.
fn said(report: &Report) -> String {
    let refused = report.refused.iter().map(ToString::to_string);
    let answers = report.answers.iter().filter(|answer| !answer.holds);
    let answers = answers.map(|answer| format!("{}: {} ({})", answer.metric, answer.value, answer.file));
    refused.chain(answers).collect::<Vec<_>>().join("\n")
}

/// As the shared bundle is, it is believed: what is caught below is caught for what was changed.
#[test]
fn what_is_forged_below_was_good_and_so_is_a_run_on_a_machine_that_was_up_for_four_months() {
    let bench = Bench::new();
    let report = bench.judged(&bench.forged(|_| ()).seal().unwrap(), &Policy::default());
    assert_eq!(report.outcome(), Outcome::Good, "{}", said(&report));
    // 2^53 nanoseconds are 104 days: a number that strict readers of JSON refuse.
    let later = |value: &mut Value| *value = json!(value.as_u64().unwrap() + 120 * 86_400 * 1_000_000);
    let files = bench.forged(|forger| {
        forger.events(|events| {
            for event in events {
                later(&mut event["mono_us"]);
                event["data"].get_mut("at_mono_us").into_iter().for_each(later);
            }
        });
        for name in ["edge-1", "edge-2", "node-a", "node-b", "sentinel"] {
            let file = if name == "sentinel" { "sentinel.jsonl".to_owned() } else { format!("probes/{name}.jsonl") };
            forger.series_by(&file, &prober_key(name), |lines| {
                for line in lines {
                    for field in ["sent_us", "done_us"] {
                        line.get_mut(field).into_iter().for_each(later);
                    }
                }
            });
        }
    });
    let report = bench.judged(&files.seal().unwrap(), &Policy::default());
    assert_eq!(report.outcome(), Outcome::Good, "{}", said(&report));
    assert_eq!(report.result.unwrap().measured.rto_ms, Some(7700));
}

#[test]
fn i02_a_run_that_is_sealed_again_under_another_id_and_challenge_is_caught_by_the_chain() {
    let bench = Bench::new();
    let asked = Policy { challenge: Some("of this quarter".into()), ..Policy::default() };
    let renamed = |forger: &mut Forger<'_>| {
        forger.plan(|plan| (plan["id"], plan["challenge"]) = (json!("full-20991231"), json!("of this quarter")));
        for name in ["edge-1", "edge-2", "node-a", "node-b", "sentinel"] {
            let file = if name == "sentinel" { "sentinel.jsonl".to_owned() } else { format!("probes/{name}.jsonl") };
            forger.series(&file, |lines| {
                (lines[0]["drill"], lines[0]["challenge"]) = (json!("full-20991231"), json!("of this quarter"));
            });
        }
    };
    bench.catches_under(&asked, "is of another run: its id is `drill-7`, not `full-20991231`", renamed);
    bench.catches_under(&asked, "no record of the chain says that it began", |forger| {
        renamed(forger);
        forger.without("recorded");
    });
    bench.catches("record 424242 of the chain, with which it began, is not in the bundle", |forger| {
        forger.each("recorded", |event| event["data"]["seq"] = json!(424_242));
    });
    bench.catches("does not say that a run began", |forger| {
        let begun = bench.story.begun.clone().unwrap();
        let earlier = begun.seq - 1;
        let file = format!("chain/{earlier:020}.json");
        let envelope: Value = serde_json::from_slice(forger.files.get(&file).unwrap()).unwrap();
        use base64::Engine as _;
        let engine = base64::engine::general_purpose::STANDARD;
        let payload = engine.decode(envelope["payload"].as_str().unwrap()).unwrap();
        let digest = manifests::digest::Digest::sha256(&payload);
        forger.each("recorded", |event| {
            (event["data"]["seq"], event["data"]["digest"]) = (json!(earlier), json!(digest));
        });
    });
    let newest = format!("chain/{:020}.json", bench.story.begun.as_ref().unwrap().seq);
    bench.catches("is not in the bundle", |forger| forger.remove(&newest));
    // Dated years back, it is not the run that the chain was told of then.
    bench.catches("and the run began at 2020-01-01", |forger| {
        forger.events(|events| events.iter_mut().for_each(|event| event["wall"] = json!("2020-01-01T00:00:00Z")));
    });
    // A scenario that needs no record answers no challenge without one.
    let mut story = Story::new().failover("emergency");
    story.recorded = false;
    let bench = Bench::of(story);
    let files = bench.forged(|_| ()).seal().unwrap();
    let report = bench.judged(&files, &Policy::default());
    assert_eq!(report.outcome(), Outcome::Good, "{}", said(&report));
    let claim = |id: &str| report.result.as_ref().unwrap().check(id).unwrap().claim;
    assert_eq!((claim("one-leader"), claim("lease-flips")), (Claim::Asserted, Claim::Proven), "keys nobody was told");
    let asked = Policy { challenge: Some(CHALLENGE.into()), ..Policy::default() };
    let report = bench.judged(&files, &asked);
    assert_eq!(report.outcome(), Outcome::Refused(Class::Stale), "{}", said(&report));
}

#[test]
fn an_end_of_another_boot_makes_no_run_younger() {
    let bench = Bench::new();
    let now = Timestamp::now() + SignedDuration::from_hours(2);
    let dated = |event: &mut Value| (event["wall"], event["mono_us"]) = (json!(now.to_string()), json!(5));
    bench.catches("`resume` as the first event of another boot", |forger| {
        forger.each("end", |event| {
            dated(event);
            event["boot_id"] = json!("11111111-1111-4111-8111-111111111111");
        });
    });
    bench.catches("`mono_us` from", |forger| forger.each("end", |event| event["mono_us"] = json!(5)));
    // As a run that somebody went on with, it is as old as its beginning.
    let mut forger = Forger::of(&bench.story, &bench.good);
    forger.events(|events| {
        let end = events.len() - 1;
        let mut resume = events[end].clone();
        (resume["kind"], resume["data"]) = (json!("resume"), json!({ "torn_bytes": 0 }));
        events.insert(end, resume);
        for event in &mut events[end..] {
            dated(event);
            event["boot_id"] = json!("11111111-1111-4111-8111-111111111111");
        }
    });
    let files = forger.seal().unwrap();
    let policy = Policy { max_age: Some("1h".parse().unwrap()), ..Policy::default() };
    let report = verify(&files, &bench.story.root_pin(), None, &policy, now);
    assert_eq!(report.outcome(), Outcome::Refused(Class::Stale), "{}", said(&report));
    assert!(said(&report).contains("result.json#/started"), "{}", said(&report));
}

#[test]
fn a_series_that_is_made_up_left_out_or_moved_is_caught() {
    let bench = Bench::new();
    // Made up: no gap, nothing lost, by a key of its own that the timeline announces.
    bench.catches("the prober edge-1 of the timeline is not one that it names", |forger| {
        forger.series("probes/edge-1.jsonl", |lines| {
            for line in lines.iter_mut().filter(|line| line["ok"] == false) {
                for (field, value) in
                    [("ok", json!(true)), ("node", json!("b")), ("term", json!(5)), ("status", json!(200))]
                {
                    line[field] = value;
                }
            }
        });
    });
    bench.catches("the timeline names the prober node-a, and its series is not there", |forger| {
        forger.remove("probes/node-a");
    });
    bench.catches("the prober node-a of the timeline is not one that it names", |forger| {
        forger.remove("probes/node-a");
        forger.events(|events| events.retain(|event| event["data"]["name"] != "node-a"));
    });
    bench.catches("names the prober edge-1 twice", |forger| {
        forger.events(|events| {
            let at = events.iter().position(|event| event["kind"] == "prober").unwrap();
            let mut again = events[at].clone();
            again["data"]["of"] = json!("a");
            events.insert(at, again);
        });
    });
    bench.catches("as announced", |forger| {
        forger.each("prober", |event| {
            if event["data"]["name"] == "edge-2" {
                event["data"]["of"] = json!("a");
            }
        });
    });
    bench.catches("expected the prober edge-2, found the prober edge-1", |forger| {
        forger.series_by("probes/edge-2.jsonl", &prober_key("edge-2"), |lines| lines[0]["prober"] = json!("edge-1"));
    });
    // An answer of the far future makes the time without one short.
    bench.catches("times that go on from", |forger| {
        forger.series_by("probes/edge-1.jsonl", &prober_key("edge-1"), |lines| {
            let last = lines.iter().rposition(|line| line["term"] == 4).unwrap();
            lines[last]["done_us"] = json!(9_007_199_254_740_991_u64);
        });
    });
    bench.catches("an end after", |forger| {
        forger.series_by("probes/edge-1.jsonl", &prober_key("edge-1"), |lines| {
            let end = lines.len() - 1;
            lines[end]["done_us"] = lines[end - 1]["sent_us"].clone();
        });
    });
    // All of a series an hour later: its two clocks fit each other, and those of nobody else on the machine.
    bench.catches("the wall clock stepped by 3600000 ms", |forger| {
        forger.series_by("probes/edge-1.jsonl", &prober_key("edge-1"), |lines| {
            for line in lines.iter_mut().skip(1) {
                if let Some(wall) = line.get_mut("wall") {
                    let later = wall.as_str().unwrap().parse::<Timestamp>().unwrap() + SignedDuration::from_hours(1);
                    *wall = json!(later.to_string());
                }
            }
        });
    });
    // More changes than anybody reads.
    bench.catches("changes of who answers", |forger| {
        forger.series_by("probes/edge-1.jsonl", &prober_key("edge-1"), |lines| {
            let (head, sample, end) = (lines[0].clone(), lines[1].clone(), lines.last().unwrap().clone());
            let at = sample["sent_us"].as_u64().unwrap();
            let one = |i: u64| {
                let mut line = sample.clone();
                (line["i"], line["term"]) = (json!(i), json!(i + 1));
                (line["sent_us"], line["done_us"]) = (json!(at + i), json!(at + i));
                line
            };
            *lines = [head].into_iter().chain((0..10_100).map(one)).chain([end]).collect();
        });
    });
}

#[test]
fn nothing_lost_counts_only_after_a_look_and_losses_do_not_overflow() {
    let bench = Bench::new();
    let sentinel = prober_key("sentinel");
    bench.catches("check rpo: failed: nothing was measured", |forger| {
        forger.series_by("sentinel.jsonl", &sentinel, |lines| drop(lines.drain(1..lines.len() - 1)));
    });
    bench.catches("check rpo: failed: nothing was measured", |forger| {
        forger.series_by("sentinel.jsonl", &sentinel, |lines| lines.retain(|line| line.get("recovered").is_none()));
    });
    bench.catches("check sentinel: failed: sentinel.jsonl asked nothing for", |forger| {
        forger.series_by("sentinel.jsonl", &sentinel, |lines| drop(lines.drain(20..60)));
    });
    bench.catches("not from the first step to the last", |forger| {
        forger.series_by("sentinel.jsonl", &sentinel, |lines| drop(lines.drain(1..4)));
    });
    let many = bench.forged(|forger| {
        forger.series_by("sentinel.jsonl", &sentinel, |lines| {
            let recovered = lines.iter().position(|line| line.get("recovered").is_some()).unwrap();
            let (mut write, mut look) = (lines[1].clone(), lines[recovered].clone());
            (write["n"], look["recovered"]) = (json!(9_007_199_254_740_991_u64), json!(0));
            for line in [&mut write, &mut look] {
                (line["sent_us"], line["done_us"]) = (lines[1]["sent_us"].clone(), lines[1]["sent_us"].clone());
            }
            let pairs = (0..2100).flat_map(|_| [write.clone(), look.clone()]);
            *lines = [lines[0].clone()].into_iter().chain(pairs).chain([lines.last().unwrap().clone()]).collect();
        });
    });
    let result = recompute(&many.files).unwrap();
    assert_eq!(result.measured.rpo_events, Some(u64::MAX));
    // Such a number is in no bundle.
    assert!(format!("{:?}", many.seal().unwrap_err()).contains("result.json"));
}

#[test]
fn steps_that_were_skipped_waived_or_never_begun_are_no_run() {
    let bench = Bench::new();
    let all = |status: &'static str| move |event: &mut Value| event["data"] = json!({ "status": status });
    bench.catches("verdict: failed", |forger| forger.each("step-end", all("skipped")));
    bench.catches("step restore: waived", |forger| forger.each("step-end", all("waived")));
    bench.catches("plan.json#/steps", |forger| {
        forger.plan(|plan| (plan["steps"], plan["always"]) = (json!([]), json!([])));
    });
    bench.catches("each step once", |forger| {
        forger.plan(|plan| plan["steps"][1]["id"] = plan["steps"][0]["id"].clone());
    });
    bench.catches("step wait: failed: it ended before it began", |forger| {
        forger.events(|events| {
            let of = |kind: &str| {
                let is_it = |event: &Value| event["step"] == "wait" && event["kind"] == kind;
                events.iter().position(is_it).unwrap()
            };
            let (begin, end) = (of("step-begin"), of("step-end"));
            for field in ["kind", "data"] {
                let (first, last) = (events[begin][field].take(), events[end][field].take());
                (events[begin][field], events[end][field]) = (last, first);
            }
        });
    });
    // A step that has nothing to do where the plan says so is done, and one that somebody let off is told.
    let waive = What::Waive { id: "compare".into(), who: "J. Doe".into(), reason: "in a hurry".into() };
    let waived = bench.forged(|forger| {
        forger.told(&waive);
        forger.events(|events| {
            let is_it = |event: &&mut Value| event["step"] == "compare" && event["kind"] == "step-end";
            events.iter_mut().filter(is_it).for_each(all("waived"));
        });
    });
    let result = recompute(&waived.files).unwrap();
    assert_eq!((result.verdict, result.grade), (Verdict::Passed, Grade::Full));
}

#[test]
fn a_receipt_counts_where_the_nodes_own_key_signed_it_in_the_run() {
    let bench = Bench::new();
    let (desk, b, c) = (&bench.story.issuer.node, node_key("b"), node_key("c"));
    bench.catches("the key of a signed the receipt of c", |forger| forger.receipt("c", desk, |_| ()));
    bench.catches("the key of b signed the receipt of c", |forger| forger.receipt("c", &b, |_| ()));
    bench.catches("the key of a signed the receipt of b", |forger| {
        forger.receipt("b", desk, |receipt| {
            let long_ago = receipt.started - SignedDuration::from_hours(24 * 365);
            (receipt.started, receipt.finished) = (long_ago, long_ago);
        });
    });
    bench.catches("check cold-restore: failed: no receipt of one", |forger| {
        forger.receipt("c", &c, |receipt| {
            receipt.started += SignedDuration::from_hours(1);
            receipt.finished += SignedDuration::from_hours(1);
        });
    });
    bench.catches("check cold-restore: failed: no receipt of one", |forger| {
        forger.receipt("c", &c, |receipt| {
            let before = &bench.story.issuer.manifest().head;
            (receipt.head.seq, receipt.head.digest) = (before.seq, before.digest);
        });
    });
    let glass = |receipt: &mut Receipt| {
        let lifted = Lifted { class: "E_STALE".into(), object: "the root".into() };
        receipt.break_glass = Some(BreakGlass { lifted: vec![lifted], reason: "in a hurry".into() });
    };
    bench.catches("check follower-from-manifest: failed", |forger| forger.receipt("b", &b, glass));
    bench.catches("check cold-restore: failed", |forger| forger.receipt("c", &c, glass));
    // Another node came up, and b took over.
    bench.catches("b took over", |forger| {
        let bytes = forger.files.get("restore/c.receipt.json").unwrap().to_vec();
        forger.remove("restore/b.receipt.json");
        forger.files.set("restore/c.receipt.json", bytes);
    });
    // Whoever sealed it restored it, too: then that is its own word.
    let files = bench.forged(|_| ()).seal_with(&c).unwrap();
    let report = bench.judged(&files, &Policy::default());
    let result = report.result.as_ref().unwrap();
    let claim = |id: &str| result.check(id).unwrap().claim;
    assert_eq!((claim("cold-restore"), claim("follower-from-manifest")), (Claim::Asserted, Claim::Proven));
    assert_eq!(result.grade, Grade::LiveTakeover);
}

#[test]
fn what_was_cut_off_or_healed_too_early_is_missed() {
    let bench = Bench::new();
    bench.catches("answered in term 5, of which there is no entry", |forger| {
        let claims =
            forger.files.iter().filter(|(name, _)| name.starts_with("lease/")).map(|(name, _)| name.to_owned());
        let claims: Vec<String> = claims.collect();
        // The first 8 are of term 4.
        claims[8..].iter().for_each(|name| forger.remove(name));
    });
    bench.catches("check teardown: failed: 1 faults are not healed", |forger| {
        forger.events(|events| {
            let heal = events.iter().position(|event| event["kind"] == "heal").unwrap();
            let mut heal = events.remove(heal);
            let fault = events.iter().position(|event| event["kind"] == "fault").unwrap();
            (heal["mono_us"], heal["wall"]) = (events[fault]["mono_us"].clone(), events[fault]["wall"].clone());
            events.insert(fault, heal);
        });
    });
    bench.catches("nothing is said of a, b, c", |forger| forger.environment(|it| it["nodes"] = json!([])));
    bench.catches("nothing is said of the program of a", |forger| {
        forger.environment(|it| drop(it["nodes"][0].as_object_mut().unwrap().remove("program")));
    });
    bench.catches("c was restored for it, and nothing is said of its end", |forger| {
        forger.environment(|it| drop(it["nodes"][2].as_object_mut().unwrap().remove("temporary")));
    });
    bench.catches("check tool-unchanged: failed: there is none", |forger| forger.remove("environment.json"));
}

#[test]
fn i01_a_scenario_of_ones_own_needs_all_checks_unless_the_verifier_names_it() {
    let few = json!(["tool-unchanged", "timeboxes", "teardown"].map(|id| json!({ "id": id, "required": true })));
    let story = Story::new().planned("/scenario", json!("full-quarterly")).planned("/checks", few);
    let bench = Bench::of(story);
    bench.catches("none of clock-steady, cold-restore", |_| ());
    let policy = Policy { scenarios: vec!["full-quarterly".into()], ..Policy::default() };
    let files = bench.forged(|_| ()).seal().unwrap();
    let report = bench.judged(&files, &policy);
    assert_eq!(report.outcome(), Outcome::Good, "{}", said(&report));
    // Nothing that nobody asked for has a grade: its checks are not even made.
    assert_eq!(report.result.unwrap().grade, Grade::None);
    bench.catches("plan.json#/kind", |forger| forger.plan(|plan| plan["kind"] = json!("exercise")));
    for (field, name) in [("id", "drill-7: good\n\u{1b}[8m"), ("group", "")] {
        bench.catches(&format!("plan.json#/{field}"), |forger| forger.plan(|plan| plan[field] = json!(name)));
    }
}

#[test]
fn a_grade_is_what_others_saw() {
    let bench = Bench::new();
    let grade = |change: fn(&mut Forger<'_>)| recompute(&bench.forged(change).files).unwrap().grade;
    assert_eq!(grade(|_| ()), Grade::Aaa);
    let by_hand = |forger: &mut Forger<'_>| forger.told(&What::Manual { text: "a nudge".into() });
    assert_eq!(grade(by_hand), Grade::Full);
    // The word of whoever ran it that something was restored, without a receipt; and a run that did not pass.
    assert_eq!(grade(|forger| forger.remove("restore/")), Grade::None);
    assert_eq!(grade(|forger| forger.remove("environment.json")), Grade::None);
}

/// What is printed for people: a check that failed is in no list of what is shown, and nothing plays tricks on a terminal.
#[test]
fn a_check_that_failed_is_listed_as_failed_and_no_text_reaches_the_terminal_raw() {
    let mut story = Story::new().failover("planned").lines("sentinel", |lines| {
        for line in lines {
            if let bootstrap::evidence::series::Line::Recovered(found) = line {
                found.recovered -= 3;
            }
        }
    });
    let mut checks = story.plan["checks"].as_array().unwrap().clone();
    checks.push(json!({ "id": "rpo", "required": false }));
    story.plan["checks"] = json!(checks);
    let told = |id: &str, observed: &str| {
        What::Check(CheckResult {
            id: id.into(),
            status: CheckStatus::Passed,
            claim: Claim::Proven,
            observed: observed.into(),
            expected: "as planned".into(),
            source: String::new(),
        })
    };
    let end = story.events.len() - 1;
    story.events.insert(
        end,
        (47_900, None, told("nothing-lost", "b began from a snapshot that was taken after a had stopped")),
    );
    story.events.insert(end, (47_900, None, told("drained", "nothing was under way")));
    story.events.insert(end, (47_900, None, told("\u{1b}[8mhidden", "\u{1b}[2J")));
    // An id that is no name is refused when it is sealed; what else is said is shown harmlessly.
    assert!(story.try_seal().is_err());
    story.events.remove(end);
    story.plan["operator"] = json!("x");
    story.seal();
    let (path, pin) = (story.path(), story.pin());
    let verified = |args: &[&str]| {
        let all = [&["evidence", "verify", path.to_str().unwrap(), "--pin", &pin], args].concat();
        story.issuer.machine.bootstrap(&all)
    };
    let text = verified(&[]).expect(0).text().to_owned();
    let list =
        |word: &str| text.lines().find(|line| line.trim_start().starts_with(word)).unwrap_or_default().to_owned();
    assert!(list("failed:").contains("rpo"), "{text}");
    assert!(!list("proven:").contains("rpo") && list("proven:").contains("rto"), "{text}");
    assert!(list("asserted:").contains("tool-unchanged") && list("bundle").contains("root version 2"), "{text}");
    story.issuer.machine.write("policy.toml", "proven = [\"rpo\"]\n");
    let text = verified(&["--policy", "policy.toml"]).expect(1).text().to_owned();
    assert!(text.contains("DOES NOT HOLD: claim rpo is unproven"), "{text}");
    // Keys may have left since: whoever verifies says which root is the least.
    verified(&["--root-min-version", "2"]).expect(0);
    let text = verified(&["--root-min-version", "3"]).expect(i32::from(Class::Rollback.exit_code())).text().to_owned();
    assert!(text.contains("version 3 or newer"), "{text}");
    // A root that is known here and was damaged is no reason to go by the one that the bundle brings.
    let known = story.issuer.machine.home().join(format!("trust/{}/root/2.json", story.root_pin()));
    fs::write(&known, "{}").unwrap();
    verified(&[]).expect(5).stderr_names("2.json is damaged");
}

#[test]
fn what_a_holder_says_is_shown_without_its_escapes() {
    let bench = Bench::new();
    let escape = AfterAction {
        trouble: "\u{1b}[8munreachable".into(),
        manual_reload: false,
        hotfix: false,
        backup_file: "none".into(),
    };
    let forger = bench.forged(|forger| {
        forger.plan(|plan| {
            plan["checks"].as_array_mut().unwrap().push(json!({ "id": "after-action", "required": true }))
        });
        forger.told(&What::AfterAction(escape));
    });
    let files = forger.seal().unwrap();
    let place = tempfile::tempdir().unwrap();
    let tar = place.path().join("run.tar");
    tar_of(&files, fs::File::create(&tar).unwrap()).unwrap();
    for args in [vec!["verify"], vec!["show"]] {
        let all = [&["evidence"], &args[..], &[tar.to_str().unwrap()]].concat();
        let shown = bench.story.issuer.machine.bootstrap(&all);
        assert!(shown.text().contains("unreachable") && !shown.text().contains('\u{1b}'), "{}", shown.text());
    }
    // Bytes behind the end of a tar are read by nobody, and passed on by everybody.
    let mut bytes = fs::read(&tar).unwrap();
    bytes.extend_from_slice(b"#!/bin/sh\n");
    fs::write(&tar, bytes).unwrap();
    let error = Files::read(&tar).unwrap_err();
    assert_eq!(error.refusal().unwrap().class(), Class::Extra);
    // A byte that is no text hides no secret, and no limit makes a result that nobody can read.
    let mut forger = Forger::of(&bench.story, &bench.good);
    forger.files.set("attest/x.txt", b"\xff\npassword=hunter22\n".to_vec());
    assert!(format!("{:?}", forger.seal().unwrap_err()).contains("attest/x.txt line 2"));
    bench.catches("limits up to", |forger| {
        forger.plan(|plan| plan["thresholds"]["max_data_lag_events"] = json!(9_007_199_254_740_991_u64));
    });
}
