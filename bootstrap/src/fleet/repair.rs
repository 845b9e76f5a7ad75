//! A node made again what it is meant to be: what drifted is shown line by line, and only that is put right.
//!
//! Looked at are the files and links that must hold there, the units that `bootstrap install` makes against those that are
//! deployed, and whether the agent answers. Layer: the edge; the comparison is pure.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::inventory::{Inventory, Node};
use super::node::Handle;
use super::updown::{self, Plan, Step, UpDownError};

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(60);

/// What was found on a node, and what would put it right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// Files and links that must hold and do not; each with what is wrong. No command mends those: a bring-up or a person does.
    pub broken: Vec<String>,
    /// Deployed files that are not what `bootstrap install` makes.
    pub drift: Vec<Drift>,
    /// What would be run.
    #[serde(flatten)]
    pub plan: Plan,
}

/// One deployed file that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The file, there.
    pub file: String,
    /// Whether it is not there at all.
    pub missing: bool,
    /// Lines that are there and should not be (`-`), and lines that are not (`+`), in order.
    pub diff: Vec<String>,
}

#[derive(Deserialize)]
struct Installed {
    directory: String,
    files: Vec<File>,
    next: Vec<String>,
}

#[derive(Deserialize)]
struct File {
    name: String,
    text: String,
}

#[derive(Deserialize)]
struct Checked {
    requirements: Vec<Requirement>,
}

#[derive(Deserialize)]
struct Requirement {
    what: String,
    problem: Option<String>,
}

/// Looks at a node, and plans what puts it right.
///
/// # Errors
/// [`UpDownError`] when it cannot be looked at.
pub fn look(inventory: &Inventory, node: &Node, patience: Duration) -> Result<Repair, UpDownError> {
    let handle = Handle::new(inventory, node);
    let up = updown::plan_up(inventory, node, patience)?;
    let directory = handle.directory();
    let checked: Checked = said(&handle, &["check", &directory, "--json"])?;
    let broken = checked.requirements.into_iter();
    let broken = broken.filter_map(|one| Some(format!("{}: {}", one.what, one.problem?))).collect();
    let mut steps = Vec::new();
    let mut drift = Vec::new();
    if let Some(options) = &node.install {
        let args = |verb: &str| {
            let own = ["install".to_owned(), directory.clone(), verb.to_owned()];
            own.into_iter().chain(options.iter().cloned()).collect::<Vec<_>>()
        };
        let printed: Installed = said(&handle, &[args("--print"), vec!["--json".to_owned()]].concat())?;
        for file in printed.files {
            let path = Path::new(&printed.directory).join(&file.name).display().to_string();
            let deployed = handle.run(&["cat", &path], b"", LOOK)?;
            let missing = !deployed.is_good();
            let diff = compare(if missing { "" } else { &deployed.stdout }, &file.text);
            if missing || !diff.is_empty() {
                drift.push(Drift { file: path, missing, diff });
            }
        }
        if !drift.is_empty() {
            let reach = handle.reach()?;
            let mut step = |what: &str, argv: Vec<String>| {
                steps.push(Step { what: what.to_owned(), command: reach.text(&argv), argv, limit: patience });
            };
            step("put the files right", handle.bootstrap_argv(&args("--apply")));
            for next in printed.next {
                step("bring them into force", next.split_whitespace().map(str::to_owned).collect());
            }
        }
    }
    // What was just installed may have started it.
    if node.install.is_none() || steps.is_empty() {
        steps.extend(up.steps);
    }
    let plan = Plan { node: node.name.clone(), to: "repaired", now: up.now, steps };
    Ok(Repair { broken, drift, plan })
}

/// The report of a `bootstrap` command there.
fn said<T: for<'de> Deserialize<'de>, S: AsRef<str>>(handle: &Handle, args: &[S]) -> Result<T, UpDownError> {
    let ended = handle.bootstrap(args, b"", LOOK)?;
    serde_json::from_str(&ended.stdout).map_err(|_| UpDownError::Step {
        command: handle.reach().map(|reach| reach.text(&handle.bootstrap_argv(args))).unwrap_or_default(),
        why: super::node::problem(&ended),
    })
}

/// The lines by which two texts differ: a longest common part is left out.
fn compare(deployed: &str, meant: &str) -> Vec<String> {
    let (old, new): (Vec<&str>, Vec<&str>) = (deployed.lines().collect(), meant.lines().collect());
    // Units have a few dozen lines, so a whole table of lengths is small.
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for at in (0..old.len()).rev() {
        for to in (0..new.len()).rev() {
            longest[at][to] = match old[at] == new[to] {
                true => longest[at + 1][to + 1] + 1,
                false => longest[at + 1][to].max(longest[at][to + 1]),
            };
        }
    }
    let (mut at, mut to, mut diff) = (0, 0, Vec::new());
    while at < old.len() || to < new.len() {
        if at < old.len() && to < new.len() && old[at] == new[to] {
            (at, to) = (at + 1, to + 1);
        } else if to == new.len() || (at < old.len() && longest[at + 1][to] >= longest[at][to + 1]) {
            diff.push(format!("-{}", old[at]));
            at += 1;
        } else {
            diff.push(format!("+{}", new[to]));
            to += 1;
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_the_lines_that_differ() {
        assert_eq!(compare("a\nb\nc\n", "a\nb\nc\n"), Vec::<String>::new());
        assert_eq!(compare("a\nb\nc\n", "a\nx\nc\nd\n"), ["-b", "+x", "+d"]);
        assert_eq!(compare("", "a\n"), ["+a"]);
        assert_eq!(compare("a\n", ""), ["-a"]);
    }
}
