use std::cell::{Cell, RefCell};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::command::{self, Finished, Leftovers};
use crate::evidence::event::StepStatus;
use crate::fleet::inventory::{self, Inventory};
use crate::fleet::probe::ProbeReport;
use crate::scenario::execute::Journal;
use crate::scenario::field::Port;
use crate::scenario::ingress::File;
use crate::scenario::resolve::tests::{seen, sight, wish};
use crate::scenario::resolve::{Wish, resolve};
use crate::scenario::{Action, builtin};

/// A fleet of three that says what it is told to say.
struct Told {
    inventory: Inventory,
    states: RefCell<BTreeMap<&'static str, Option<&'static str>>>,
    port: Port,
    at_ingress: Result<String, String>,
    asked: Cell<u32>,
    /// Requests whose answer is lost; what was asked is done all the same.
    lost: Cell<u32>,
    validates: bool,
}

impl Told {
    fn new(config: &Path) -> Self {
        let node = |name: &str, number: u8| {
            format!("[[node]]\nname = \"{name}\"\nservice = \"http://10.0.0.{number}:8080/\"\nreach = []\n")
        };
        let text = format!(
            "name = \"test\"\n[ingress]\nurl = \"http://app.example/\"\nconfig = \"{}\"\nvalidate = [\"validate\"]\n\
             reload = [\"reload\"]\nreach = []\n{}{}{}",
            config.display(),
            node("a", 1),
            node("b", 2),
            node("c", 3),
        );
        Self {
            inventory: inventory::parse(&text).unwrap(),
            states: RefCell::new([("a", None), ("b", Some("leader")), ("c", Some("candidate"))].into()),
            port: Port::Closed("refused".to_owned()),
            at_ingress: Ok("b".to_owned()),
            asked: Cell::new(0),
            lost: Cell::new(0),
            validates: true,
        }
    }
}

fn finished(good: bool, stdout: String) -> Finished {
    let command = Command::new(if good { "true" } else { "false" });
    let ended = command::run(command, Duration::from_secs(60), Leftovers::Kill).unwrap();
    Finished { stdout, ..ended }
}

impl Field for Told {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn state(&self, node: &str) -> Result<State, String> {
        let example = self.states.borrow().get(node).copied().flatten();
        let mut state = seen(node, example).state.ok_or("no answer")?;
        if self.asked.get() > 0 {
            state.view.paused = Some("test".to_owned());
        }
        Ok(state)
    }

    fn request(&self, _: &str, _: RequestKind, _: &str) -> Result<Asked, String> {
        self.asked.set(self.asked.get() + 1);
        if self.lost.get() > 0 {
            self.lost.set(self.lost.get() - 1);
            return Err("the answer was lost".to_owned());
        }
        Ok(Asked::Accepted("done".to_owned()))
    }

    fn run(&self, _: Option<&str>, _: &[String], _: Duration) -> Result<Finished, String> {
        Ok(finished(true, String::new()))
    }

    fn at_ingress(&self, args: &[String], stdin: &[u8], _: Duration) -> Result<Finished, String> {
        let path = Path::new(&args[2]);
        let said = match args[1].as_str() {
            "read" => serde_json::to_string(&File::read(path).map_err(|error| error.to_string())?),
            _ => {
                let text = std::str::from_utf8(stdin).map_err(|error| error.to_string())?;
                let expected = args[4].parse().map_err(|_| "no digest")?;
                let now = jiff::Timestamp::now();
                serde_json::to_string(&File::replace(path, expected, text, now).map_err(|error| error.to_string())?)
            }
        };
        Ok(finished(true, said.unwrap()))
    }

    fn run_at_ingress(&self, argv: &[String], _: Duration) -> Result<Finished, String> {
        // What was there before validates again.
        let text = std::fs::read_to_string(self.inventory.ingress.as_ref().unwrap().config.as_ref().unwrap()).unwrap();
        let is_first = text.starts_with("server 10.0.0.1:8080");
        Ok(finished(argv[0] != "validate" || self.validates || is_first, String::new()))
    }

    fn probe(&self, _: Option<&str>, _: &[&str]) -> Result<ProbeReport, String> {
        Err("nothing is asked".to_owned())
    }

    fn ingress(&self) -> Result<String, String> {
        self.at_ingress.clone()
    }

    fn port(&self, _: &str) -> Port {
        self.port.clone()
    }

    fn work(&self, _: &str) -> Result<Option<u64>, String> {
        Ok(None)
    }

    fn up(&self, _: &str, _: Duration) -> Result<String, String> {
        Err("nothing is started".to_owned())
    }

    fn down(&self, _: &str, _: Duration) -> Result<String, String> {
        Err("nothing is ended".to_owned())
    }

    fn pause(&self) {}
}

#[derive(Default)]
struct Memory(Vec<What>);

impl Journal for Memory {
    fn add(&mut self, _: By, _: Option<&str>, what: What) -> std::io::Result<()> {
        self.0.push(what);
        Ok(())
    }

    fn past(&self) -> Vec<(Option<&str>, &What)> {
        self.0.iter().map(|what| (None, what)).collect()
    }
}

fn plan() -> Plan {
    let scenario = builtin::scenario("emergency", &crate::drill::deeds::Deeds).unwrap().unwrap();
    let nodes = vec![seen("a", None), seen("b", Some("candidate")), seen("c", Some("candidate"))];
    let wish = Wish { id: "emergency-1".to_owned(), ..wish() };
    resolve(&scenario, builtin::text("emergency").unwrap(), &sight(nodes), &wish).unwrap()
}

/// An act that has no time to wait for anything.
fn act(told: &Told, runs: &Path, on: &[&str], action: serde_json::Value) -> (Outcome, Memory) {
    act_within(Duration::from_millis(50), told, runs, on, action)
}

fn act_within(within: Duration, told: &Told, runs: &Path, on: &[&str], action: serde_json::Value) -> (Outcome, Memory) {
    let plan = plan();
    let action: Action = serde_json::from_value(action).unwrap();
    let on = on.iter().map(|&node| node.to_owned()).collect();
    let step = Step { on, place: None, unless: None, action, timeout_seconds: 1, ..plan.steps[0].clone() };
    let mut journal = Memory::default();
    let mut turn = Turn { plan: &plan, step: &step, attempt: Attempt::First, within, journal: &mut journal };
    let outcome = Mover::new(told, None, runs).act(&mut turn);
    (outcome, journal)
}

#[test]
fn a_silent_node_is_down_only_if_another_one_leads_and_nothing_answers_for_it() {
    let place = tempfile::tempdir().unwrap();
    let down = || serde_json::json!({ "kind": "down", "unreachable_is_fine": true });
    let status = |told: &Told| act(told, place.path(), &["a"], down()).0.status;
    let told = || Told::new(&place.path().join("app.conf"));
    assert_eq!(status(&told()), StepStatus::Ok);
    assert_eq!(status(&Told { port: Port::Open, ..told() }), StepStatus::Failed, "something answers at its address");
    assert_eq!(status(&Told { at_ingress: Ok("a".to_owned()), ..told() }), StepStatus::Failed, "clients are led there");
    let nobody = told();
    nobody.states.borrow_mut().insert("b", Some("candidate"));
    assert_eq!(status(&nobody), StepStatus::Failed, "nobody else leads");
    let strict = serde_json::json!({ "kind": "down" });
    assert_eq!(act(&told(), place.path(), &["a"], strict).0.status, StepStatus::Failed);
}

#[test]
fn a_request_whose_answer_was_lost_is_not_made_again_once_it_is_so() {
    let place = tempfile::tempdir().unwrap();
    let told = Told { lost: Cell::new(1), ..Told::new(&place.path().join("app.conf")) };
    let pause = serde_json::json!({ "kind": "request", "request": "pause" });
    let (outcome, _) = act_within(Duration::from_secs(60), &told, place.path(), &["c"], pause);
    assert_eq!((outcome.status, told.asked.get()), (StepStatus::Ok, 1), "{outcome:?}");
    assert!(outcome.note.contains("it is paused"), "{}", outcome.note);
}

#[test]
fn a_configuration_that_does_not_validate_is_taken_back_and_leaves_no_debt_open() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("app.conf");
    let canonical = "server 10.0.0.1:8080;\nserver 10.0.0.2:8080;\nserver 10.0.0.3:8080;\n";
    std::fs::write(&config, canonical).unwrap();
    let told = Told { validates: false, at_ingress: Err("status 503".to_owned()), ..Told::new(&config) };
    let (outcome, journal) = act(&told, place.path(), &[], serde_json::json!({ "kind": "ingress-swap" }));
    assert_eq!(outcome.status, StepStatus::Failed);
    assert!(outcome.error.unwrap().text.contains("what was there before is there again"));
    assert_eq!(std::fs::read_to_string(&config).unwrap(), canonical);
    let debts = Debts::below(place.path());
    assert_eq!((debts.all().unwrap().len(), debts.open().unwrap().len()), (1, 0));
    let told: Vec<bool> = (journal.0.iter())
        .filter_map(|what| match what {
            What::Debt { open, .. } => Some(*open),
            _ => None,
        })
        .collect();
    assert_eq!(told, [true, false]);
}

#[test]
fn what_a_person_does_wants_a_persons_word() {
    let place = tempfile::tempdir().unwrap();
    let told = Told::new(&place.path().join("app.conf"));
    let manual = serde_json::json!({ "kind": "manual", "text": "call the provider" });
    let (outcome, _) = act(&told, place.path(), &[], manual);
    assert_eq!(outcome.error.unwrap().code, "not-attested");
}

/// A debt is put right when the canonical file leads to whoever leads, and not before.
#[test]
fn a_hotfix_is_undone_only_where_that_leads_clients_to_the_leader() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("app.conf");
    let canonical = "server 10.0.0.1:8080;\nserver 10.0.0.2:8080;\nserver 10.0.0.3:8080;\n";
    std::fs::write(&config, canonical).unwrap();
    let told = Told { at_ingress: Err("status 502".to_owned()), ..Told::new(&config) };
    let does = |told: &Told, kind: &str| act(told, place.path(), &[], serde_json::json!({ "kind": kind })).0;
    // The hotfix puts b first; what it says afterwards is that nobody is reached, so only the file counts here.
    does(&told, "ingress-swap");
    let hotfix = std::fs::read_to_string(&config).unwrap();
    assert!(hotfix.starts_with("server 10.0.0.2:8080"), "{hotfix}");
    let debts = Debts::below(place.path());
    let debt = || debts.all().unwrap().remove(0);
    let restored = does(&told, "ingress-restore");
    assert_eq!((restored.status, debt().closed.is_none()), (StepStatus::Ok, true), "{restored:?}");
    assert!(restored.note.contains("b leads, and the canonical"), "{}", restored.note);
    // Nothing was left to this run yet.
    assert_eq!(does(&told, "ingress-settle").status, StepStatus::Ok);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), hotfix);
    let left = crate::scenario::debts::Left {
        at: jiff::Timestamp::UNIX_EPOCH,
        by: "test".to_owned(),
        reason: "test".to_owned(),
    };
    debts.put(&crate::scenario::debts::Debt { left_to_switchback: Some(left), ..debt() }).unwrap();
    assert_eq!(does(&told, "ingress-settle").status, StepStatus::Failed, "b leads still");
    told.states.borrow_mut().extend([("a", Some("leader")), ("b", Some("candidate"))]);
    let settled = does(&told, "ingress-settle");
    assert_eq!((settled.status, debt().closed.is_some()), (StepStatus::Ok, true), "{settled:?}");
    assert_eq!(std::fs::read_to_string(&config).unwrap(), canonical);
}
