//! Whoever holds a run directory and the key that seals it, and makes of it what it likes.
//!
//! It keeps every rule that it can: chained hashes, digests of plans, signatures by keys that it may use. What it cannot
//! have are the keys of other nodes and those that the probers made and forgot.

use std::fs;

use bootstrap::evidence::EvidenceError;
use bootstrap::evidence::event::What;
use bootstrap::evidence::facts::plan_digest;
use bootstrap::evidence::files::Files;
use bootstrap::evidence::run_dir::RunDir;
use bootstrap::evidence::seal::seal;
use bootstrap::evidence::series::{self, Signed};
use bootstrap::evidence::timeline::START;
use manifests::digest::Digest;
use manifests::document::receipt::{Authority, Receipt};
use manifests::keys::{SecretKey, Signer};
use serde_json::{Value, json};

use super::{Story, node_key, signed_receipt};

/// A run directory in such hands.
pub struct Forger<'s> {
    story: &'s Story,
    /// The files; what is computed is computed again when it is sealed.
    pub files: Files,
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn joined(lines: &[Value]) -> Vec<u8> {
    lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect()
}

impl<'s> Forger<'s> {
    /// One that has what this story left.
    pub fn of(story: &'s Story, good: &Files) -> Self {
        Self { story, files: good.clone() }
    }

    /// Changes the timeline, and chains it again.
    pub fn events(&mut self, change: impl FnOnce(&mut Vec<Value>)) {
        let mut events = lines(self.files.get("timeline.jsonl").unwrap());
        change(&mut events);
        let mut prev = START;
        for (i, event) in events.iter_mut().enumerate() {
            (event["i"], event["prev"]) = (json!(i), json!(prev));
            prev = Digest::sha256(event.to_string().as_bytes());
        }
        self.files.set("timeline.jsonl", joined(&events));
    }

    /// Changes each event of a kind.
    pub fn each(&mut self, kind: &str, change: impl Fn(&mut Value)) {
        self.events(|events| events.iter_mut().filter(|event| event["kind"] == kind).for_each(change));
    }

    /// Takes all events of a kind out.
    pub fn without(&mut self, kind: &str) {
        self.events(|events| events.retain(|event| event["kind"] != kind));
    }

    /// Adds an event just before the last one, at its time.
    pub fn told(&mut self, what: &What) {
        let mut told = serde_json::to_value(what).unwrap();
        self.events(|events| {
            let end = events.len() - 1;
            let mut event = events[end].clone();
            (event["kind"], event["data"]) = (told["kind"].take(), told["data"].take());
            events.insert(end, event);
        });
    }

    /// Changes the plan, its digest, and what the timeline repeats of it.
    pub fn plan(&mut self, change: impl FnOnce(&mut Value)) {
        let mut plan: Value = serde_json::from_slice(self.files.get("plan.json").unwrap()).unwrap();
        change(&mut plan);
        plan["plan_sha256"] = json!(plan_digest(&plan));
        self.files.set("plan.json", plan.to_string().into_bytes());
        let run = [("id", "id"), ("run", "kind"), ("scenario", "scenario"), ("group", "group"), ("mode", "mode")];
        self.each("begin", |begin| {
            for (told, planned) in run.into_iter().chain([("challenge", "challenge"), ("plan", "plan_sha256")]) {
                begin["data"][told] = plan[planned].clone();
            }
        });
    }

    /// Changes a series, signs it with a key of its own making, and announces that.
    pub fn series(&mut self, file: &str, change: impl FnOnce(&mut Vec<Value>)) {
        self.series_by(file, &SecretKey::from_seed(&[123; 32]), change);
    }

    /// The same with this key.
    pub fn series_by(&mut self, file: &str, key: &SecretKey, change: impl FnOnce(&mut Vec<Value>)) {
        let mut all = lines(self.files.get(file).unwrap());
        change(&mut all);
        let count = all.len() as u64 - 2;
        all[0]["key"] = json!(key.public().to_hex());
        all.last_mut().unwrap()["count"] = json!(count);
        let bytes = joined(&all);
        let text = |field: &str| all[0][field].as_str().unwrap().to_owned();
        let base = file.rsplit('/').next().unwrap().to_owned();
        let signed = Signed {
            schema: series::SIGNED_SCHEMA.into(),
            file: base.clone(),
            sha256: Digest::sha256(&bytes),
            count,
            drill: text("drill"),
            challenge: text("challenge"),
        };
        self.files.set(&series::signature_of(file), series::sign(&signed, key).unwrap());
        self.files.set(file, bytes);
        let (name, key) = (base.trim_end_matches(".jsonl").to_owned(), key.public().to_hex());
        self.each("prober", |event| {
            if event["data"]["name"] == name.as_str() {
                event["data"]["key"] = json!(key);
            }
        });
    }

    /// Changes the receipt of a node; it is signed again with `key`.
    pub fn receipt(&mut self, node: &str, key: &SecretKey, change: impl FnOnce(&mut Receipt)) {
        let file = format!("restore/{node}.receipt.json");
        let by = node_key(node).public();
        let bytes = self.files.get(&file).unwrap();
        let mut receipt = Receipt::verify(bytes, &Authority::Key(&by), &file).unwrap().receipt;
        change(&mut receipt);
        self.files.set(&file, signed_receipt(receipt, key));
    }

    /// Changes the environment.
    pub fn environment(&mut self, change: impl FnOnce(&mut Value)) {
        let mut environment: Value = serde_json::from_slice(self.files.get("environment.json").unwrap()).unwrap();
        change(&mut environment);
        self.files.set("environment.json", environment.to_string().into_bytes());
    }

    /// Takes out every file whose name begins so.
    pub fn remove(&mut self, prefix: &str) {
        let all: Vec<String> = self.files.iter().map(|(name, _)| name.to_owned()).collect();
        all.iter().filter(|name| name.starts_with(prefix)).for_each(|name| self.files.remove(name));
    }

    /// Seals it with the key of the holder.
    ///
    /// # Errors
    /// Where even that is refused.
    pub fn seal(&self) -> Result<Files, EvidenceError> {
        self.seal_with(&self.story.issuer.node)
    }

    /// Seals it with this key.
    ///
    /// # Errors
    /// As [`Forger::seal`].
    pub fn seal_with(&self, key: &dyn Signer) -> Result<Files, EvidenceError> {
        let place = tempfile::tempdir().unwrap();
        let run = RunDir::at(&place.path().join("run"));
        for (name, bytes) in self.files.iter() {
            let path = run.file(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        // What was sealed before is sealed anew.
        for name in ["bundle.dsse.json", "bundle.json", "test-result.dsse.json"] {
            let _ = fs::remove_file(run.file(name));
        }
        seal(&run, key)?;
        Files::read(run.path())
    }
}
