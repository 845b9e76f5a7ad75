//! What runs and how it is configured, before and after: `environment.json`.

use std::fs;
use std::io;

use super::{Drill, check, failed, kept};
use crate::drill::deeds::When;
use crate::drill::facts::NodeFacts;
use crate::evidence::event::{Actor as By, What};
use crate::evidence::facts::{Before, ENVIRONMENT_SCHEMA, Environment, Node};
use crate::evidence::run_dir::ENVIRONMENT;
use crate::scenario::Outcome;
use crate::scenario::begin::this_program;
use crate::scenario::execute::Turn;

impl Drill<'_> {
    /// What the node says of itself.
    pub(super) fn facts_of(&self, node: &str, within: std::time::Duration) -> Result<NodeFacts, String> {
        let directory = self.handles.get(node).map(crate::fleet::node::Handle::directory).unwrap_or_default();
        let said = self.bootstrap(node, &["drill", "facts", &directory], within).map_err(|ran| ran.why)?;
        serde_json::from_value(said).map_err(|error| format!("its facts cannot be read: {error}"))
    }

    pub(super) fn environment(&self) -> io::Result<Environment> {
        serde_json::from_slice(&fs::read(self.run.file(ENVIRONMENT))?).map_err(io::Error::other)
    }

    pub(super) fn keep_environment(&self, environment: &Environment) -> Result<(), Outcome> {
        kept(self.run.write_json(ENVIRONMENT, environment), ENVIRONMENT)
    }

    /// Asks every node, and holds what it says against what it said before.
    pub(super) fn facts(&mut self, when: When, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        let mut found = Vec::new();
        for node in &turn.step.on {
            let facts = self.facts_of(node, turn.within);
            let facts = facts.map_err(|why| Outcome::failed("unreachable", format!("{node}: {why}")));
            let facts = match facts {
                Ok(facts) => facts,
                Err(outcome) if when == When::After => {
                    let expected = "every node says what it runs";
                    let observed = outcome.error.map_or_else(String::new, |error| error.text);
                    return Err(failed("tool-unchanged", "unreachable", &observed, expected, ENVIRONMENT));
                }
                Err(outcome) => return Err(outcome),
            };
            let clock = What::Clock {
                node: node.clone(),
                boot_id: facts.boot_id.clone(),
                mono_us: facts.mono_us,
                wall: facts.wall,
            };
            kept(turn.journal.add(By::Tool, Some(&turn.step.id), clock), "the timeline")?;
            found.push((node.clone(), facts));
        }
        match when {
            When::Before => self.begin_environment(&found),
            When::After => self.end_environment(&found),
        }
    }

    fn begin_environment(&self, found: &[(String, NodeFacts)]) -> Result<Outcome, Outcome> {
        if self.run.file(ENVIRONMENT).exists() {
            return Ok(Outcome::ok("seen before, by an orchestrator that did not end"));
        }
        let tool = this_program().map_err(|error| Outcome::failed("here", error.to_string()))?;
        let nodes = found.iter().map(|(name, facts)| self.node_before(name, facts)).collect();
        let environment = Environment {
            schema: ENVIRONMENT_SCHEMA.to_owned(),
            tool,
            tool_sha256_end: None,
            inventory: Before { start: self.inventory.digest(), end: None },
            nodes,
            clock: found.first().map_or_else(|| "none".to_owned(), |(_, facts)| facts.clock.clone()),
        };
        self.keep_environment(&environment)?;
        let versions = found.iter().map(|(name, facts)| format!("{name} runs {}", facts.version));
        Ok(Outcome::ok(versions.collect::<Vec<_>>().join(", ")).evidence(ENVIRONMENT))
    }

    fn node_before(&self, name: &str, facts: &NodeFacts) -> Node {
        let of_inventory = self.inventory.node(name);
        let addresses = of_inventory.iter().flat_map(|node| {
            let surface = node.surface.as_ref().and_then(|url| url.host_str().map(str::to_owned));
            node.private.map(|ip| ip.to_string()).into_iter().chain(surface)
        });
        Node {
            name: name.to_owned(),
            addresses: addresses.collect(),
            provider_id: of_inventory.and_then(|node| node.host.clone()),
            boot_id: Some(facts.boot_id.clone()),
            instance_start: self.state(name).ok().map(|state| state.view.instance),
            instance_end: None,
            program: Some(Before { start: facts.program_sha256, end: None }),
            // What is not up yet gets its configuration when it comes up.
            configuration: facts.active.is_some().then_some(Before { start: facts.configuration_sha256, end: None }),
            images: Vec::new(),
            temporary: None,
        }
    }

    fn end_environment(&self, found: &[(String, NodeFacts)]) -> Result<Outcome, Outcome> {
        let id = "tool-unchanged";
        let expected = "every program and configuration is what it was when the drill began";
        let mut environment = self
            .environment()
            .map_err(|error| failed(id, "run-directory", &format!("{ENVIRONMENT}: {error}"), expected, ENVIRONMENT))?;
        let tool = this_program().map_err(|error| Outcome::failed("here", error.to_string()))?;
        environment.tool_sha256_end = Some(tool.sha256);
        environment.inventory.end = Some(self.inventory.digest());
        let mut changed = Vec::new();
        if environment.tool.sha256 != tool.sha256 {
            changed.push("the program of the orchestrator".to_owned());
        }
        if environment.inventory.start != self.inventory.digest() {
            changed.push("the inventory".to_owned());
        }
        for node in &mut environment.nodes {
            let Some((_, facts)) = found.iter().find(|(name, _)| *name == node.name) else {
                changed.push(format!("{}, which was not asked", node.name));
                continue;
            };
            node.instance_end = self.state(&node.name).ok().map(|state| state.view.instance);
            if let Some(program) = &mut node.program {
                program.end = Some(facts.program_sha256);
                if program.start != facts.program_sha256 {
                    changed.push(format!("the program of {}", node.name));
                }
            }
            if let Some(configuration) = node.configuration.as_mut().filter(|_| node.temporary.is_none()) {
                configuration.end = Some(facts.configuration_sha256);
                if configuration.start != facts.configuration_sha256 {
                    changed.push(format!("the configuration of {}", node.name));
                }
            }
        }
        self.keep_environment(&environment)?;
        let observed =
            if changed.is_empty() { "nothing changed".to_owned() } else { format!("changed: {}", changed.join(", ")) };
        match changed.is_empty() {
            true => {
                Ok(Outcome::ok(&observed).with(check(id, true, observed, expected, ENVIRONMENT)).evidence(ENVIRONMENT))
            }
            false => Err(failed(id, "changed", &observed, expected, ENVIRONMENT)),
        }
    }
}
