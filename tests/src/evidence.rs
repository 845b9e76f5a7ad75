//! A run directory as a full drill leaves it, written by hand: every part can be made otherwise before it is sealed.
//!
//! Chain, manifest, lease log and receipts are real and signed; the timeline and the series are written as the programs
//! write them, with times of a run of 48 seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bootstrap::evidence::EvidenceError;
use bootstrap::evidence::collect;
use bootstrap::evidence::event::{
    AfterAction, Begin, CheckResult, CheckStatus, Claim, Mode, Program, StepStatus, What,
};
use bootstrap::evidence::facts::{Before, Environment, Health, HealthRow, Node, Temporary, plan_digest};
use bootstrap::evidence::files::Files;
use bootstrap::evidence::record::{BEGINNING_SCHEMA, Beginning};
use bootstrap::evidence::run_dir::RunDir;
use bootstrap::evidence::seal::{Sealed, seal};
use bootstrap::evidence::series::{self, Acknowledged, Head, Line, Recovered, Refused, Sample, Signed, Tail};
use bootstrap::evidence::timeline::{START, boot_id, mono_us};
use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use manifests::document::drill::{Begun, Drill, Prober};
use manifests::document::lease::{self, ChainHead, Entry, Holder, Kind};
use manifests::document::receipt::{Authority, HeadName, PAYLOAD_TYPE, Receipt};
use manifests::document::record::{Body, Nonce};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use serde_json::{Value, json};
use snapkit::chain::{Chain, Commit};
use snapkit::store::OpenOptions;
use snapkit::trust::{Pin, TrustDir};

use crate::Issuer;

mod forge;

pub use forge::Forger;

/// What an auditor asked for.
pub const CHALLENGE: &str = "auditor 7f3a";

/// An event before it is written: milliseconds after the beginning, its step, and what happened.
pub type Told = (u64, Option<&'static str>, What);

/// A run that can be changed and sealed.
pub struct Story {
    /// Chain and keys.
    pub issuer: Issuer,
    /// The directory.
    pub run: RunDir,
    /// The plan; its digest is set when it is written.
    pub plan: Value,
    /// The timeline.
    pub events: Vec<Told>,
    /// The series by the name of their file, with how their clock is wrong in milliseconds from a moment on.
    pub series: BTreeMap<String, (Head, Vec<Line>)>,
    /// Series whose prober died: they are written without an end and a signature.
    pub dead: Vec<String>,
    /// The lease log: when, who, in which term.
    pub lease: Vec<(u64, &'static str, u64, Kind)>,
    /// The environment.
    pub environment: Environment,
    /// The health in the end.
    pub health: Vec<HealthRow>,
    /// Whether the chain is told that it begins.
    pub recorded: bool,
    /// The record that says so, once it was written.
    pub begun: Option<HeadName>,
    /// When it began.
    pub start: Timestamp,
    start_us: u64,
    boot: String,
    pin: Digest,
    chain: Digest,
}

const PINS: &str = r#"
[manifest]
name = "app"
file = "deploy/manifest.json"
pins = "deploy/pins.json"
[pins]
max_head_age = "26h"
max_head_lag = 100
[[pins.trees]]
name = "tree"
path = "/srv/state"
[pins.lease]
mode = "auto"
back_end = "store"
group = "app"
ttl_seconds = 6
members = [{ node = "a", key = "A" }, { node = "b", key = "B" }, { node = "c", key = "C" }]
"#;

/// The key of node b; node a has the node key of the issuer.
fn key_b() -> SecretKey {
    SecretKey::from_seed(&[77; 32])
}

/// The key of node c.
fn key_c() -> SecretKey {
    SecretKey::from_seed(&[78; 32])
}

const STEPS: &[(&str, &str, &str, u64, u64, u64)] = &[
    ("precheck", "look", "Everybody answers, and one node leads", 0, 3_800, 30),
    ("follower", "bring-up", "Node b follows from the manifest", 4_000, 9_700, 60),
    ("takeover", "kill", "Kill the leader and its guard", 14_000, 1_100, 10),
    ("takeover", "wait", "Another node leads and answers", 15_200, 8_300, 60),
    ("cold-restore", "restore", "Node c is restored from the store alone", 24_000, 12_600, 120),
    ("cold-restore", "compare", "What was restored is what was signed", 36_700, 3_100, 60),
    ("verify", "surfaces", "All surfaces agree on who leads", 40_000, 5_700, 30),
    ("always", "teardown", "Node c is removed, node a is healed", 46_000, 1_400, 60),
];

impl Default for Story {
    fn default() -> Self {
        Self::new()
    }
}

impl Story {
    /// A full drill in which everything went well.
    pub fn new() -> Self {
        let issuer = Issuer::without_pins("");
        issuer.next_root(|document| {
            for key in [key_b().public(), key_c().public()] {
                document.keys.push((&key).into());
                for role in document.roles.iter_mut().filter(|role| role.name == "node") {
                    role.keys.push(key.id());
                    role.keys.sort();
                }
            }
            document.keys.sort_by_key(|key| key.id);
        });
        let key = |key: &SecretKey| format!("\"{}\"", key.public().id());
        let pins = PINS.replace("\"A\"", &key(&issuer.node)).replace("\"B\"", &key(&key_b()));
        let pins = pins.replace("\"C\"", &key(&key_c()));
        issuer.machine.write("snapkit.toml", format!("store = \"{}\"\n{pins}", issuer.bootstrap));
        for command in [&["pins", "edit"][..], &["pins", "sign"], &["manifest", "generate"]] {
            issuer.machine.ok(command);
        }
        for name in ["b", "c"] {
            let receipt = format!("{name}.json");
            issuer.machine.ok(&["restore", "latest", name, "--receipt", &receipt]);
        }
        let manifest = issuer.manifest();
        let start = Timestamp::now();
        let run = RunDir::create(&issuer.machine.path("drills"), "drill-7", start).unwrap();
        let (chain, pin) = (manifest.chain, issuer.pin);
        let mut story = Self {
            issuer,
            run,
            plan: plan(),
            events: Vec::new(),
            series: BTreeMap::new(),
            dead: Vec::new(),
            lease: Vec::new(),
            environment: environment(start),
            health: ["a", "b"].map(|host| row(host, "agent")).into_iter().chain([row("b", "app")]).collect(),
            recorded: true,
            begun: None,
            start,
            start_us: mono_us(),
            boot: boot_id().unwrap(),
            pin,
            chain,
        };
        story.tell();
        story.watch();
        story
    }

    fn tell(&mut self) {
        let text = |text: &str| text.to_owned();
        let check = |id: &str, observed: &str, source: &str| {
            What::Check(CheckResult {
                id: text(id),
                status: CheckStatus::Passed,
                claim: Claim::Proven,
                observed: text(observed),
                expected: text("as planned"),
                source: text(source),
            })
        };
        let mut events: Vec<Told> = Vec::new();
        for prober in ["edge-1", "edge-2", "node-a", "node-b"] {
            let of = prober.strip_prefix("node-").unwrap_or("ingress");
            let key = prober_key(prober).public().to_hex();
            events.push((0, None, What::Prober { name: text(prober), of: text(of), key }));
        }
        let key = prober_key("sentinel").public().to_hex();
        events.push((0, None, What::Prober { name: text("sentinel"), of: text("ingress"), key }));
        for &(phase, id, title, at, took, timebox) in STEPS {
            let timebox_ms = Some(timebox * 1000);
            events.push((at + 300, Some(id), What::StepBegin { phase: text(phase), title: text(title), timebox_ms }));
            let end = What::StepEnd { status: StepStatus::Ok, error: None, evidence: vec![] };
            events.push((at + 300 + took, Some(id), end));
        }
        let boot_id = self.boot.clone();
        let at = |ms: u64| self.start_us + ms * 1000;
        let fault = |heal: bool, ms: u64| {
            let (fault, node, at_mono_us, boot_id) = (text("kill"), text("a"), at(ms), boot_id.clone());
            match heal {
                true => What::Heal { fault, node, at_mono_us, boot_id },
                false => What::Fault { fault, node, at_mono_us, boot_id },
            }
        };
        events.push((2_000, Some("look"), check("prerequisites", "nothing is missing", "collect/prerequisites.json")));
        events.push((15_020, Some("kill"), fault(false, 15_000)));
        events.push((39_000, Some("compare"), check("load-bearing", "2 files are there and equal", "diff/c.json")));
        events.push((
            44_000,
            Some("surfaces"),
            check("no-early-consume", "no conflict was counted", "collect/conflicts.json"),
        ));
        events.push((47_000, Some("teardown"), fault(true, 47_000)));
        let said = "The page of the shop showed the order of 12:00 again";
        events.push((45_000, None, What::Attest { who: text("J. Doe"), text: text(said), file: None }));
        events.sort_by_key(|(at, _, _)| *at);
        events.push((48_000, None, What::End { passed: true }));
        self.events = events;
    }

    fn watch(&mut self) {
        let walls = |ms: u64| self.start + SignedDuration::from_millis(ms as i64);
        let us = |ms: u64| self.start_us + ms * 1000;
        let who = |ms: u64| {
            if ms < 15_000 {
                Some(("a", 4))
            } else if ms >= 22_140 {
                Some(("b", 5))
            } else {
                None
            }
        };
        for (prober, of, interval) in
            [("edge-1", "ingress", 200), ("edge-2", "ingress", 350), ("node-a", "a", 500), ("node-b", "b", 500)]
        {
            let mut lines = Vec::new();
            for (i, ms) in (0..47_900).step_by(interval).enumerate() {
                let ms = ms as u64;
                let answer = who(ms).filter(|(node, _)| of == "ingress" || of == *node);
                lines.push(Line::Sample(Sample {
                    i: i as u64,
                    sent_us: us(ms),
                    done_us: us(ms) + 3100,
                    wall: walls(ms),
                    ok: answer.is_some(),
                    status: answer.map(|_| 200),
                    node: answer.map(|(node, _)| node.to_owned()),
                    instance: answer.map(|(node, term)| format!("{node}-{term}")),
                    term: answer.map(|(_, term)| term),
                    n: answer.map(|_| ms / 200 + 1),
                    error: answer.is_none().then(|| "connection refused".to_owned()),
                }));
            }
            self.series.insert(prober.to_owned(), (self.head("prober", prober, of, interval as u64), lines));
        }
        let mut lines = Vec::new();
        let (mut n, mut term_before) = (100, 4);
        for ms in (0..47_900).step_by(200) {
            let (sent_us, done_us, wall) = (us(ms), us(ms) + 4000, walls(ms));
            match who(ms) {
                Some((node, term)) => {
                    let (node, instance) = (node.to_owned(), Some(format!("{node}-{term}")));
                    if term != term_before {
                        term_before = term;
                        lines.push(Line::Recovered(Recovered {
                            recovered: n,
                            sent_us,
                            done_us,
                            wall,
                            node,
                            instance,
                            term,
                        }));
                    } else {
                        n += 1;
                        lines.push(Line::Acknowledged(Acknowledged {
                            n,
                            sent_us,
                            done_us,
                            wall,
                            node,
                            instance,
                            term,
                        }));
                    }
                }
                None => {
                    lines.push(Line::Refused(Refused { error: "connection refused".into(), sent_us, done_us, wall }))
                }
            }
        }
        self.series.insert("sentinel".into(), (self.head("sentinel", "sentinel", "ingress", 200), lines));
        self.lease = vec![(0, "a", 4, Kind::Claim)];
        self.lease.extend((1..8).map(|i| (i * 2000, "a", 4, Kind::Renew)));
        self.lease.push((21_300, "b", 5, Kind::Claim));
        self.lease.extend((0..12).map(|i| (23_400 + i * 2000, "b", 5, Kind::Renew)));
    }

    fn head(&self, kind: &str, prober: &str, of: &str, interval_ms: u64) -> Head {
        Head {
            schema: series::SCHEMA.into(),
            kind: kind.into(),
            prober: prober.into(),
            target: if kind == "sentinel" { "write" } else { "who" }.into(),
            url: format!("http://{of}.example/who"),
            of: of.into(),
            interval_ms,
            timeout_ms: 1000,
            boot_id: self.boot.clone(),
            key: prober_key(prober).public().to_hex(),
            drill: "drill-7".into(),
            challenge: CHALLENGE.into(),
            started: self.start,
        }
    }

    /// Sets a field of the plan.
    pub fn planned(mut self, pointer: &str, value: Value) -> Self {
        let parent = pointer.rfind('/').unwrap();
        self.plan.pointer_mut(&pointer[..parent]).unwrap()[&pointer[parent + 1..]] = value;
        self
    }

    /// Changes each line of a series.
    pub fn lines(mut self, series: &str, change: impl FnOnce(&mut Vec<Line>)) -> Self {
        change(&mut self.series.get_mut(series).unwrap().1);
        self
    }

    /// The same run as a failover scenario, with the checks of one.
    pub fn failover(mut self, scenario: &str) -> Self {
        self.plan["kind"] = json!("failover");
        self.plan["scenario"] = json!(scenario);
        let required = bootstrap::evidence::policy::required("failover", scenario);
        let checks: Vec<Value> = required.iter().map(|id| json!({ "id": id, "required": true })).collect();
        self.plan["checks"] = json!(checks);
        self.plan["target"] = json!("b");
        if scenario == "emergency" {
            let found = AfterAction {
                trouble: "unreachable".into(),
                manual_reload: false,
                hotfix: false,
                backup_file: "none".into(),
            };
            let end = self.events.len() - 1;
            self.events.insert(end, (47_900, None, What::AfterAction(found)));
        }
        self
    }

    /// Writes all files; nothing is sealed.
    pub fn write(&mut self) {
        self.plan["plan_sha256"] = json!(plan_digest(&self.plan));
        if self.recorded {
            self.begun = Some(self.record());
        }
        let (run, machine) = (&self.run, &self.issuer.machine);
        run.write_json("plan.json", &self.plan).unwrap();
        run.write("timeline.jsonl", &self.timeline()).unwrap();
        for (name, (head, lines)) in &self.series {
            let file = if name == "sentinel" { "sentinel.jsonl".to_owned() } else { format!("probes/{name}.jsonl") };
            let end = lines.last().map_or(self.start_us, |line| line.times().1);
            let tail = Tail { end: true, count: lines.len() as u64, done_us: end, why: "asked to".into() };
            let mut text = format!("{}\n", serde_json::to_string(head).unwrap());
            lines.iter().for_each(|line| text += &format!("{}\n", serde_json::to_string(line).unwrap()));
            if self.dead.contains(name) {
                run.write(&file, text.as_bytes()).unwrap();
                continue;
            }
            text += &format!("{}\n", serde_json::to_string(&tail).unwrap());
            let signed = Signed {
                schema: series::SIGNED_SCHEMA.into(),
                file: format!("{name}.jsonl"),
                sha256: Digest::sha256(text.as_bytes()),
                count: tail.count,
                drill: head.drill.clone(),
                challenge: head.challenge.clone(),
            };
            run.write(&file, text.as_bytes()).unwrap();
            run.write(&series::signature_of(&file), &series::sign(&signed, &prober_key(name)).unwrap()).unwrap();
        }
        let store = snapkit::store::open(&machine.arg("store"), &OpenOptions::default()).unwrap();
        collect::chain(run, &*store, 0).unwrap();
        let manifest = fs::read(self.issuer.file()).unwrap();
        run.write("chain/manifest.json", &manifest).unwrap();
        for (seq, bytes) in self.lease_log() {
            run.write(&format!("lease/{seq:020}.json"), &bytes).unwrap();
        }
        for (node, from, until) in [("b", 4_500, 13_000), ("c", 25_000, 36_000)] {
            run.write(&format!("restore/{node}.receipt.json"), &self.receipt(node, from, until)).unwrap();
        }
        run.write_json("environment.json", &self.environment).unwrap();
        let health = Health { schema: "bootstrap.health/1".into(), rows: self.health.clone() };
        run.write_json("collect/health-after.json", &health).unwrap();
        run.write_json("collect/prerequisites.json", &json!({ "missing": [] })).unwrap();
        run.write_json("collect/conflicts.json", &json!({ "conflicts_total": 0 })).unwrap();
        run.write_json("diff/c.json", &json!({ "identical": 2, "differs": 0 })).unwrap();
        run.write("collect/agent-a.log", b"leads in term 4\nkilled\n").unwrap();
    }

    /// What is given to whoever tells the chain that it begins.
    pub fn beginning(&self) -> Beginning {
        let probers = self.events.iter().filter_map(|(_, _, what)| match what {
            What::Prober { name, of, key } => Some(Prober { name: name.clone(), of: of.clone(), key: key.clone() }),
            _ => None,
        });
        let mut probers: Vec<Prober> = probers.collect();
        probers.sort();
        Beginning { schema: BEGINNING_SCHEMA.into(), plan: self.plan.clone(), probers }
    }

    /// Tells the chain that it begins.
    fn record(&self) -> HeadName {
        let text = |name: &str| self.plan[name].as_str().unwrap_or_default().to_owned();
        let body = Body::Drill(Drill::Begun(Begun {
            id: text("id"),
            kind: text("kind"),
            scenario: text("scenario"),
            mode: text("mode"),
            plan: plan_digest(&self.plan),
            challenge: Some(text("challenge")).filter(|challenge| !challenge.is_empty()),
            probers: self.beginning().probers,
        }));
        let machine = &self.issuer.machine;
        let trust = TrustDir::new(&machine.home(), &machine.cache());
        let store = snapkit::store::open(&machine.arg("store"), &OpenOptions::default()).unwrap();
        let chain = Chain::open(&*store, Pin { root: self.pin, min: None }, &trust, Timestamp::now()).unwrap();
        let newest = chain.head().unwrap();
        let time = self.start + SignedDuration::from_millis(50);
        let done = chain.commit(&newest.head, &body, None, &self.issuer.node, "a", time).unwrap();
        let Commit::Done(done) = done else { panic!("nobody else writes") };
        HeadName { seq: done.seq, epoch: newest.head.epoch, digest: done.digest, time }
    }

    /// Writes and seals it.
    pub fn seal(&mut self) -> Sealed {
        self.try_seal().unwrap()
    }

    /// Writes it, and seals it if that can be done.
    pub fn try_seal(&mut self) -> Result<Sealed, EvidenceError> {
        self.write();
        seal(&self.run, &self.issuer.node)
    }

    /// The files of the bundle.
    pub fn files(&self) -> Files {
        Files::read(self.run.path()).unwrap()
    }

    /// The directory, for a command line.
    pub fn path(&self) -> PathBuf {
        self.run.path().to_owned()
    }

    /// The pin, for a command line.
    pub fn pin(&self) -> String {
        format!("sha256:{}", self.pin)
    }

    /// The pin.
    pub fn root_pin(&self) -> Digest {
        self.pin
    }

    fn timeline(&self) -> Vec<u8> {
        let text = |name: &str| self.plan[name].as_str().unwrap_or_default().to_owned();
        let begin = Begin {
            id: text("id"),
            run: text("kind"),
            scenario: text("scenario"),
            mode: if text("mode") == "simulated" { Mode::Simulated } else { Mode::Execute },
            group: text("group"),
            challenge: text("challenge"),
            plan: plan_digest(&self.plan),
            root: self.pin,
            chain: self.chain,
            operator: text("actor"),
            approver: "K. Roe".into(),
            reason: text("reason"),
            tool: program(),
        };
        let first = [(0, None, What::Begin(Box::new(begin)))];
        let recorded =
            self.begun.as_ref().filter(|_| self.recorded).map(|begun| {
                (100, None, What::Recorded { phase: "begun".into(), seq: begun.seq, digest: begun.digest })
            });
        let (before, after) = self.events.split_at(self.events.partition_point(|(ms, _, _)| *ms <= 100));
        let (mut prev, mut bytes) = (START, Vec::new());
        for (i, (ms, step, what)) in first.iter().chain(before).chain(&recorded).chain(after).enumerate() {
            let mut told = serde_json::to_value(what).unwrap();
            let mut line = json!({
                "i": i, "prev": prev, "mono_us": self.start_us + ms * 1000, "boot_id": self.boot,
                "wall": self.start + SignedDuration::from_millis(*ms as i64), "node": "desk",
                "actor": if matches!(what, What::Attest { .. }) { "human" } else { "tool" },
                "kind": told["kind"].take(), "data": told["data"].take(),
            });
            if let Some(step) = step {
                line["step"] = json!(step);
            }
            let line = serde_json::to_vec(&line).unwrap();
            prev = Digest::sha256(&line);
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
        }
        bytes
    }

    fn lease_log(&self) -> Vec<(u64, Vec<u8>)> {
        let (mut last, mut log): (Option<Entry>, _) = (None, Vec::new());
        let key_b = key_b();
        for (at, (ms, node, term, kind)) in self.lease.iter().enumerate() {
            let seq = at as u64 + 31;
            let key: &dyn Signer = if *node == "b" { &key_b } else { &self.issuer.node };
            let entry = Entry {
                format: "0-draft".into(),
                chain: self.chain,
                group: "app".into(),
                seq,
                term: *term,
                kind: *kind,
                previous: Some(last.as_ref().map_or(Digest([9; 32]), |last| Digest::sha256(&last.payload().unwrap()))),
                void: Vec::new(),
                holder: Holder {
                    node: (*node).into(),
                    instance: Nonce([*term as u8; 16]),
                    key: key.public().id(),
                    writer: None,
                    api: None,
                },
                ttl_ms: (*kind != Kind::Release).then_some(6000),
                nonce: Nonce([seq as u8; 16]),
                head: match &self.begun {
                    Some(begun) => ChainHead { epoch: begun.epoch, seq: begun.seq, digest: begun.digest, term: 0 },
                    None => ChainHead { epoch: 0, seq: 1, digest: Digest([8; 32]), term: 0 },
                },
                time: self.start + SignedDuration::from_millis(*ms as i64),
                reason: None,
                critical: None,
                ext: serde_json::Map::new(),
            };
            log.push((seq, envelope::sign(lease::PAYLOAD_TYPE, &entry.payload().unwrap(), &[key]).unwrap()));
            last = Some(entry);
        }
        log
    }

    /// The receipt of a real restore, with times of this run, by the key of the node.
    fn receipt(&self, node: &str, from_ms: u64, until_ms: u64) -> Vec<u8> {
        let bytes = fs::read(self.issuer.machine.path(format!("{node}.json"))).unwrap();
        let key = self.issuer.node.public();
        let mut receipt = Receipt::verify(&bytes, &Authority::Key(&key), node).unwrap().receipt;
        let at = |ms: u64| self.start + SignedDuration::from_millis(ms as i64);
        (receipt.started, receipt.finished) = (at(from_ms), at(until_ms));
        if let Some(begun) = &self.begun {
            receipt.head = begun.clone();
        }
        signed_receipt(receipt, &node_key(node))
    }
}

/// The key of node b or c.
pub fn node_key(node: &str) -> SecretKey {
    if node == "b" { key_b() } else { key_c() }
}

/// A receipt by this key.
pub fn signed_receipt(mut receipt: Receipt, key: &SecretKey) -> Vec<u8> {
    receipt.node = key.public().id();
    envelope::sign(PAYLOAD_TYPE, &receipt.payload().unwrap(), &[key]).unwrap()
}

/// The key that a prober made.
pub fn prober_key(name: &str) -> SecretKey {
    SecretKey::from_seed(&Digest::sha256(name.as_bytes()).0)
}

fn program() -> Program {
    Program { name: "bootstrap".into(), version: "0.1.0".into(), sha256: Digest([6; 32]) }
}

fn row(host: &str, service: &str) -> HealthRow {
    HealthRow { host: host.into(), role: "member".into(), service: service.into(), status: "ok".into() }
}

fn environment(start: Timestamp) -> Environment {
    let same = || Before { start: Digest([5; 32]), end: Some(Digest([5; 32])) };
    let node = |name: &str| Node {
        name: name.into(),
        addresses: vec!["100.64.0.7".into()],
        provider_id: None,
        boot_id: None,
        instance_start: None,
        instance_end: None,
        program: Some(same()),
        configuration: Some(same()),
        images: vec![],
        temporary: None,
    };
    let (created, destroyed) = (start, Some(start + SignedDuration::from_secs(47)));
    let made = Node { temporary: Some(Temporary { created, destroyed, kept: None }), ..node("c") };
    Environment {
        schema: "bootstrap.environment/1".into(),
        tool: program(),
        tool_sha256_end: Some(program().sha256),
        inventory: same(),
        nodes: vec![node("a"), node("b"), made],
        clock: "chrony".into(),
    }
}

fn plan() -> Value {
    let step = |(phase, id, title, _, _, timebox): &(&str, &str, &str, u64, u64, u64)| json!({ "id": id, "phase": phase, "title": title, "timeout_seconds": timebox });
    let (always, steps): (Vec<_>, Vec<_>) = STEPS.iter().partition(|step| step.0 == "always");
    let required = bootstrap::evidence::policy::required("drill", "full");
    let checks: Vec<Value> = required.iter().map(|id| json!({ "id": id, "required": true })).collect();
    json!({
        "schema": "bootstrap.plan/1", "id": "drill-7", "mode": "execute", "challenge": CHALLENGE,
        "made": Timestamp::UNIX_EPOCH, "actor": "J. Doe", "reason": "the quarterly drill", "kind": "drill",
        "scenario": "full", "group": "app", "old_leader": "a", "target": "b", "nodes": ["a", "b", "c"],
        "steps": steps.into_iter().map(step).collect::<Vec<_>>(),
        "always": always.into_iter().map(step).collect::<Vec<_>>(),
        "checks": checks,
        "thresholds": {
            "max_failover_seconds": 30, "max_data_lag_events": 0, "precheck_seconds": 30, "follower_seconds": 45,
            "takeover_seconds": 30, "cold-restore_seconds": 45, "verify_seconds": 30,
        },
    })
}
