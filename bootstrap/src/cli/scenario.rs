//! What commands about scenarios share: which one, seen on which fleet, and where its commands are run.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::thread;

use bootstrap::fleet::inventory::{Inventory, Preferred};
use bootstrap::fleet::node::Handle;
use bootstrap::fleet::reach::Reach;
use bootstrap::scenario::grammar::{GrammarError, Scenario, Vocabulary};
use bootstrap::scenario::resolve::{ResolveError, Seen, Sight};
use bootstrap::scenario::site::{At, Deployed, Installed, Prefix, Site};
use bootstrap::scenario::{builtin, field};
use clap::Args;
use snapkit::terminal::exit_code::{CliError, Exit};

/// The largest scenario in bytes.
const SCENARIO_CAP: u64 = 1 << 20;

/// Whose lead, and to whom.
#[derive(Debug, Clone, Args)]
pub(super) struct CastArgs {
    /// The node that the lead is taken from, where that is not who leads or last led
    #[arg(long, value_name = "NODE")]
    pub(super) old_leader: Option<String>,
    /// The node that is to lead; default: as the scenario says
    #[arg(long, value_name = "NODE")]
    pub(super) target: Option<String>,
}

/// A scenario and its text.
pub(super) struct Chosen {
    pub(super) scenario: Scenario,
    pub(super) text: String,
}

impl Chosen {
    /// The scenario with this name, or the one in a file.
    pub(super) fn of(
        name: Option<&str>,
        file: Option<&PathBuf>,
        vocabulary: &dyn Vocabulary,
    ) -> Result<Self, CliError> {
        let wrong = |error: GrammarError| {
            CliError::usage(error.to_string())
                .next("docs/scenarios.md has the grammar; `bootstrap runbook print` shows one")
        };
        if let Some(file) = file {
            let name = file.display().to_string();
            let mut text = String::new();
            let read = fs::File::open(file).and_then(|file| file.take(SCENARIO_CAP + 1).read_to_string(&mut text));
            read.map_err(|error| CliError::from(error).context(format!("cannot read {name}")).with_exit(Exit::USAGE))?;
            if text.len() as u64 > SCENARIO_CAP {
                return Err(CliError::usage(format!("{name} has more than {SCENARIO_CAP} bytes")));
            }
            let scenario = Scenario::parse(&name, &text, vocabulary).map_err(wrong)?;
            return Ok(Self { scenario, text });
        }
        let name = name.unwrap_or_default();
        match (builtin::scenario(name, vocabulary), builtin::text(name)) {
            (Some(scenario), Some(text)) => Ok(Self { scenario: scenario.map_err(wrong)?, text: text.to_owned() }),
            _ => Err(CliError::usage(format!("there is no scenario {name:?}; expected {}", builtin::names()))
                .next("an own one is named with --scenario-file")),
        }
    }
}

/// What the inventory says, without asking anybody.
pub(super) fn unseen(inventory: Option<&Inventory>) -> Sight {
    let Some(inventory) = inventory else {
        return Sight {
            nodes: Vec::new(),
            ingress: true,
            ingress_driver: true,
            inventory: manifests::digest::Digest([0; 32]),
            thresholds: [].into(),
            scope_stop: Vec::new(),
        };
    };
    let ingress = inventory.ingress.as_ref();
    let nodes = inventory.nodes.iter().map(|node| Seen {
        name: node.name.clone(),
        preferred: node.preferred == Preferred::Leader,
        state: None,
        silence: None,
    });
    Sight {
        nodes: nodes.collect(),
        ingress: ingress.is_some(),
        ingress_driver: ingress.is_some_and(|ingress| ingress.config.is_some() && ingress.reload.is_some()),
        inventory: inventory.digest(),
        thresholds: inventory.limits(),
        scope_stop: inventory.scope.stop.clone(),
    }
}

/// The same, with what every agent says of itself.
pub(super) fn seen(inventory: &Inventory) -> Sight {
    let mut sight = unseen(Some(inventory));
    let handles = Handle::all(inventory);
    thread::scope(|scope| {
        let ask = |handle: &Handle| handle.state(inventory.patience()).map_err(|error| field::chain(&error));
        let asked: Vec<_> = handles.iter().map(|handle| scope.spawn(move || ask(handle))).collect();
        for (node, asked) in sight.nodes.iter_mut().zip(asked) {
            match asked.join() {
                Ok(Ok(state)) => node.state = Some(state),
                Ok(Err(why)) => node.silence = Some(why),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    sight
}

/// Where things are, for commands that a person types.
pub(super) fn site(inventory: Option<&Inventory>, file: &str, reason: Option<&str>) -> Site {
    let reason = reason.map(str::to_owned);
    let Some(inventory) = inventory else { return Site { reason, ..Site::default() } };
    let mut site = Site { fleet: Some(file.to_owned()), reason, ..Site::default() };
    for node in &inventory.nodes {
        let directory = node.directory.display().to_string();
        let work = inventory.work.as_ref().zip(node.service.as_ref());
        let work =
            work.and_then(|(work, service)| Some((service.join(&work.path).ok()?.to_string(), work.pointer.clone())));
        site.nodes.insert(node.name.clone(), Installed { program: node.program.clone(), directory, work });
        if let Ok(reach) = Reach::of_node(node) {
            site.prefixes.insert(At::Node(node.name.clone()), prefix(&reach));
        }
    }
    if let Some(ingress) = &inventory.ingress {
        site.ingress = Some(Deployed {
            url: {
                let identity = ingress.identity.as_ref().unwrap_or(&inventory.identity);
                let url = ingress.url.join(identity.path.trim_start_matches('/'));
                url.unwrap_or_else(|_| ingress.url.clone()).to_string()
            },
            config: ingress.config.as_ref().map(|config| config.display().to_string()),
            validate: ingress.validate.clone(),
            reload: ingress.reload.clone(),
        });
        if let Ok(reach) = Reach::of_ingress(ingress) {
            site.prefixes.insert(At::Ingress, prefix(&reach));
        }
    }
    site
}

fn prefix(reach: &Reach) -> Prefix {
    Prefix { words: reach.prefix().to_vec(), quote: reach.quotes() }
}

/// A scenario that does not fit the fleet is refused; a name that is no node is a matter of the command line.
pub(super) fn unfit(error: ResolveError) -> CliError {
    match &error {
        ResolveError::NoNode { .. } => CliError::usage(error.to_string()),
        ResolveError::NotNow { next, .. } => {
            let next = next.clone();
            CliError::refused(error.to_string()).next(next)
        }
    }
}
