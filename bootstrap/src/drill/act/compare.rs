//! Whether what was restored is what was signed.

use serde_json::Value;

use super::{Drill, check, failed, kept};
use crate::evidence::run_dir::{DIFF, RESTORE};
use crate::scenario::Outcome;
use crate::scenario::execute::Turn;

impl Drill<'_> {
    /// Compares the restored state with the snapshot that it was restored from, byte by byte, on the node; then looks whether
    /// the files are there that carry the load.
    pub(super) fn compare(&mut self, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let id = "restored-equals-manifest";
        let expected = "the restored state is the snapshot, byte for byte";
        let node = turn.step.on.first().cloned().unwrap_or_default();
        let report = std::fs::read(self.run.file(&format!("{RESTORE}/{node}.bring-up.json")));
        let report: Option<Value> = report.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let snapshot = report.as_ref().and_then(|report| report.pointer("/snapshot/name")?.as_str().map(str::to_owned));
        let Some(snapshot) = snapshot else {
            return Err(failed(id, "nothing-restored", &format!("{node} was not restored"), expected, ""));
        };
        let handle = self.handle(&node)?;
        let current = format!("{}/current/", handle.directory());
        let program = super::snapkit_beside(&handle.node().program);
        let argv = [program.as_str(), "diff", &snapshot, &current, "--json"];
        let ended = handle.run(&argv, b"", turn.within);
        let ended = ended.map_err(|error| failed(id, "unreachable", &error.to_string(), expected, ""))?;
        let name = format!("{DIFF}/{node}-{snapshot}.json");
        let differs = ended.status.and_then(|status| status.code()) == Some(1);
        let Some(diff) = serde_json::from_str::<Value>(&ended.stdout).ok().filter(|_| ended.is_good() || differs)
        else {
            return Err(failed(id, "command", &format!("{program} diff on {node}: {}", ended.why()), expected, ""));
        };
        kept(self.run.write_json(&name, &diff), &name)?;
        let word = diff.pointer("/summary/answer").and_then(Value::as_str).unwrap_or("?").to_owned();
        if differs {
            return Err(failed(id, "differs", &format!("{node}/current and {snapshot}: {word}"), expected, &name));
        }
        let same = format!("{node}/current and {snapshot}: {word}");
        let outcome = Outcome::ok(&same).with(check(id, true, same, expected, &name)).evidence(&name);
        self.load_bearing(&node, outcome, turn)
    }

    fn load_bearing(&self, node: &str, outcome: Outcome, turn: &Turn<'_>) -> Result<Outcome, Outcome> {
        let (id, expected) = ("load-bearing", "every file that the pins call load-bearing is there and as it must be");
        let directory = self.handle(node)?.directory();
        let name = format!("{RESTORE}/{node}.check.json");
        match self.bootstrap(node, &["check", &directory], turn.within) {
            Ok(report) => {
                kept(self.run.write_json(&name, &report), &name)?;
                let held = report.get("requirements").and_then(Value::as_array).map_or(0, Vec::len);
                let observed = format!("{held} requirements hold");
                Ok(outcome.with(check(id, true, observed, expected, &name)).evidence(name))
            }
            Err(ran) => {
                let mut failure = failed(id, ran.word(), &format!("{node}: {}", ran.why), expected, "");
                failure.checks.splice(0..0, outcome.checks);
                Err(failure)
            }
        }
    }
}
