//! A plan for a person: a list of numbered steps, each with the commands that do it.
//!
//! It is made from the steps that are executed, so the text cannot drift from the code. No secret is known here; what a
//! person must fill in is `REPLACE_ME`. Layer: pure.

use std::fmt::Write as _;

use serde::Serialize;

use super::grammar::{Vocabulary, word};
use super::plan::{Plan, Step};
use super::site::{At, Line, REPLACE_ME, Site};
use crate::fleet::quote;

/// The name of the JSON form.
pub const SCHEMA: &str = "bootstrap.runbook/1";

/// A runbook.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Runbook {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The scenario.
    pub scenario: String,
    /// What it does.
    pub title: String,
    /// The digest of the plan.
    pub plan_sha256: String,
    /// What a person must know or fill in.
    pub variables: Vec<Variable>,
    /// The steps, in order.
    pub steps: Vec<Entry>,
    /// The way back.
    pub rollback: Vec<Entry>,
    /// What is done at the end in any case.
    pub always: Vec<Entry>,
}

/// Something that commands stand on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value, or `REPLACE_ME`.
    pub value: String,
}

/// A step for a person.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its phase.
    pub phase: String,
    /// What it does.
    pub title: String,
    /// `read`, `plan` or `mutate`.
    pub effect: &'static str,
    /// The nodes.
    pub on: Vec<String>,
    /// How long it may take.
    pub timeout_seconds: u64,
    /// The check that it decides.
    pub check: Option<String>,
    /// When it has nothing to do.
    pub unless: Option<String>,
    /// What to type, quoted for a POSIX shell.
    pub commands: Vec<Typed>,
    /// What to do if it fails.
    pub next: Option<String>,
}

/// A command line for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Typed {
    /// Where it is run: `here`, a node's name, or `ingress`. What is typed reaches there from here.
    pub at: String,
    /// The line; absent for a remark alone.
    pub line: Option<String>,
    /// What to look for, or what to do by hand.
    pub remark: Option<String>,
}

impl Runbook {
    /// The runbook of a plan.
    pub fn of(plan: &Plan, vocabulary: &dyn Vocabulary, site: &Site) -> Self {
        let entries = |steps: &[Step]| steps.iter().map(|step| entry(plan, step, vocabulary, site)).collect();
        let known = |value: &Option<String>| value.clone().unwrap_or_else(|| REPLACE_ME.to_owned());
        let variable = |name: &str, value: String| Variable { name: name.to_owned(), value };
        let variables = vec![
            variable("FLEET", known(&site.fleet)),
            variable("OLD_LEADER", known(&plan.old_leader)),
            variable("TARGET", known(&plan.target)),
            variable("REASON", known(&site.reason)),
        ];
        Self {
            schema: SCHEMA.to_owned(),
            scenario: plan.scenario.clone(),
            title: plan.title.clone(),
            plan_sha256: plan.plan_sha256.clone(),
            variables,
            steps: entries(&plan.steps),
            rollback: entries(&plan.rollback),
            always: entries(&plan.always),
        }
    }

    /// As text for a terminal.
    pub fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.scenario, self.title);
        for variable in &self.variables {
            let _ = writeln!(text, "  {}={}", variable.name, quote::word(&variable.value));
        }
        self.each_part(|heading, entries| {
            let _ = writeln!(text, "\n{heading}");
            for (number, entry) in entries.iter().enumerate() {
                let _ = writeln!(text, "\n{}. [{}] {} ({})", number + 1, entry.id, entry.title, entry.facts());
                for typed in &entry.commands {
                    text.push_str(&typed.lines("   "));
                }
                if let Some(next) = &entry.next {
                    let _ = writeln!(text, "   if it fails: {next}");
                }
            }
        });
        text
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}.\n\n", capital(&self.scenario), self.title);
        for variable in &self.variables {
            let _ = writeln!(text, "- {}: `{}`", variable.name, variable.value);
        }
        self.each_part(|heading, entries| {
            let _ = writeln!(text, "\n## {heading}");
            for (number, entry) in entries.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "\n### {}. {}\n\n{}. Step `{}`, {}.",
                    number + 1,
                    entry.id,
                    entry.title,
                    entry.id,
                    entry.facts()
                );
                if !entry.commands.is_empty() {
                    text.push_str("\n```sh\n");
                    entry.commands.iter().for_each(|typed| text.push_str(&typed.lines("")));
                    text.push_str("```\n");
                }
                if let Some(next) = &entry.next {
                    let _ = writeln!(text, "\nIf it fails: {next}");
                }
            }
        });
        text
    }

    fn each_part(&self, mut part: impl FnMut(&str, &[Entry])) {
        let mut rest = self.steps.as_slice();
        while let Some(first) = rest.first() {
            let len = rest.iter().take_while(|entry| entry.phase == first.phase).count();
            part(&first.phase, &rest[..len]);
            rest = &rest[len..];
        }
        if !self.always.is_empty() {
            part("always, whatever happened", &self.always);
        }
        if !self.rollback.is_empty() {
            part("the way back", &self.rollback);
        }
    }
}

fn entry(plan: &Plan, step: &Step, vocabulary: &dyn Vocabulary, site: &Site) -> Entry {
    Entry {
        id: step.id.clone(),
        phase: step.phase.clone(),
        title: step.title.clone(),
        effect: word(step.effect),
        on: step.on.clone(),
        timeout_seconds: step.timeout_seconds,
        check: step.check.clone(),
        unless: step.unless.as_ref().map(|unless| format!("{} {} already", unless.on, unless.is)),
        commands: vocabulary.commands(plan, step, site).iter().map(|line| Typed::of(line, site)).collect(),
        next: step.next.clone(),
    }
}

impl Entry {
    fn facts(&self) -> String {
        let mut facts = vec![self.effect.to_owned()];
        facts.extend((!self.on.is_empty()).then(|| format!("on {}", self.on.join(", "))));
        facts.push(format!("at most {} s", self.timeout_seconds));
        facts.extend(self.check.as_ref().map(|check| format!("decides {check}")));
        facts.extend(self.unless.as_ref().map(|unless| format!("not if {unless}")));
        facts.join(", ")
    }
}

impl Typed {
    fn of(line: &Line, site: &Site) -> Self {
        let at = match &line.at {
            At::Here => "here".to_owned(),
            At::Node(node) => node.clone(),
            At::Ingress => "ingress".to_owned(),
        };
        let typed = (!line.words.is_empty()).then(|| quote::words(&site.typed(line)));
        Self { at, line: typed, remark: line.remark.clone() }
    }

    fn lines(&self, indent: &str) -> String {
        let mut text = String::new();
        // A remark may hold what a person wrote; none of its lines may be read as a command.
        for remark in self.remark.iter().flat_map(|remark| remark.lines()) {
            let _ = writeln!(text, "{indent}# {remark}");
        }
        if let Some(line) = &self.line {
            let _ = writeln!(text, "{indent}{line}");
        }
        text
    }
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests;
