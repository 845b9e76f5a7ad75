//! Who is there, what decides where traffic goes, what decides who leads, and where the two differ.
//!
//! The lease decides who leads; the ingress decides where traffic goes, by what it can reach. Nothing keeps the two together, so
//! both are always shown and a difference is an alarm of its own. Layer: pure; a probe is its input.

use std::io::{self, Write};
use std::net::IpAddr;

use serde::Serialize;
use snapkit::terminal::output::{Report, write_table};

use super::inventory::{Inventory, Preferred};
use super::probe::{self, ProbeReport, Role, Verdict};
use super::quote;

/// Everything there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Topology {
    /// The name of the fleet.
    pub fleet: String,
    /// Where nodes come from.
    pub from: Option<String>,
    /// The nodes.
    pub nodes: Vec<Place>,
    /// What clients reach.
    pub ingress: Option<Entrance>,
    /// What says who leads.
    pub control: Option<String>,
    /// Who holds the lease, and what says so.
    pub lease_holder: Decided,
    /// Who gets the traffic, and what says so.
    pub ingress_target: Decided,
    /// Whether both are the same; `None` where one is not known.
    pub agree: Option<bool>,
    /// Whether anything was asked, and what came of it; `None` where nothing was.
    pub probed: Option<Verdict>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// The machine.
    pub host: String,
    /// What it is to be when nothing is wrong.
    pub preferred: Preferred,
    /// What it says it is.
    pub is: Option<Role>,
    /// The run of its agent.
    pub instance: Option<String>,
    /// The term it is in.
    pub term: Option<u64>,
    /// Where its agent answers.
    pub surface: Option<String>,
    /// Where its service answers.
    pub service: Option<String>,
    /// Its private address.
    pub private: Option<IpAddr>,
    /// How commands get there; `None`: they do not.
    pub reach: Option<String>,
    /// The node directory.
    pub directory: String,
}

/// What clients reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entrance {
    /// Its address.
    pub url: String,
    /// The nodes behind it, in its order.
    pub upstreams: Vec<String>,
    /// How long it may take to see that one is gone.
    pub detection_seconds: Option<u64>,
}

/// A decision and where it is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decided {
    /// The node.
    pub node: Option<String>,
    /// What decides.
    pub by: String,
}

impl Topology {
    /// What the inventory says, and what a probe found, where there was one.
    pub fn of(inventory: &Inventory, probed: Option<&ProbeReport>) -> Self {
        let place = |node: &super::inventory::Node| {
            let surface = probed.and_then(|report| report.node(&node.name));
            let here = |words: &Vec<String>| if words.is_empty() { "here".to_owned() } else { quote::words(words) };
            Place {
                name: node.name.clone(),
                host: node.host.clone().unwrap_or_else(|| node.name.clone()),
                preferred: node.preferred,
                is: surface.and_then(|surface| surface.is.clone()),
                instance: surface.and_then(|surface| surface.who.instance.clone()),
                term: surface.and_then(|surface| surface.who.term),
                surface: node.surface.as_ref().map(ToString::to_string),
                service: node.service.as_ref().map(ToString::to_string),
                private: node.private,
                reach: node.reach.as_ref().map(here),
                directory: node.directory.display().to_string(),
            }
        };
        let lease_holder = Decided {
            node: probed.and_then(ProbeReport::lease_holder).map(str::to_owned),
            by: match &inventory.control {
                Some(control) => format!("the lease, as {} has it", control.url),
                None => "the lease, as the node that leads says itself".to_owned(),
            },
        };
        let ingress_target = Decided {
            node: probed.and_then(ProbeReport::ingress_target).map(str::to_owned),
            by: match &inventory.ingress {
                Some(ingress) => {
                    format!("{}, by whom it can reach of {}", ingress.url, ingress.upstreams.join(", "))
                }
                None => "nothing that the inventory names".to_owned(),
            },
        };
        let both = lease_holder.node.as_ref().zip(ingress_target.node.as_ref());
        let agree = both.map(|(holder, target)| holder == target);
        Self {
            fleet: inventory.name.clone(),
            from: inventory.from.clone(),
            nodes: inventory.nodes.iter().map(place).collect(),
            ingress: inventory.ingress.as_ref().map(|ingress| Entrance {
                url: ingress.url.to_string(),
                upstreams: ingress.upstreams.clone(),
                detection_seconds: ingress.detection().map(|detection| detection.as_secs()),
            }),
            control: inventory.control.as_ref().map(|control| control.url.to_string()),
            notes: notes(inventory, lease_holder.node.as_deref(), ingress_target.node.as_deref()),
            lease_holder,
            ingress_target,
            agree,
            probed: probed.map(|report| report.verdict),
        }
    }

    /// The graph for Graphviz: ingress to its upstreams in order, control plane to the holder.
    pub fn dot(&self) -> String {
        let id = |name: &str| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        let mut text = format!("digraph {} {{\n  rankdir=LR;\n", id(&self.fleet));
        for node in &self.nodes {
            let role = node.is.as_ref().map_or("not known", word);
            let label = format!("{}\\n{}, prefers {}", node.name, role, node.preferred.as_str());
            let style = if node.is == Some(Role::Leader) { ", style=bold" } else { "" };
            text += &format!("  {} [label=\"{}\"{style}];\n", id(&node.name), label.replace('"', "\\\""));
        }
        if let Some(ingress) = &self.ingress {
            text += &format!("  {} [shape=box, label=\"ingress\\n{}\"];\n", id("(ingress)"), ingress.url);
            for (number, upstream) in ingress.upstreams.iter().enumerate() {
                let target = self.ingress_target.node.as_ref() == Some(upstream);
                let style = if target { ", style=bold" } else { ", style=dashed" };
                text += &format!("  {} -> {} [label=\"{}\"{style}];\n", id("(ingress)"), id(upstream), number + 1);
            }
        }
        if let (Some(control), Some(holder)) = (&self.control, &self.lease_holder.node) {
            text += &format!("  {} [shape=diamond, label=\"control\\n{control}\"];\n", id("(control)"));
            text += &format!("  {} -> {} [label=\"lease\"];\n", id("(control)"), id(holder));
        }
        text + "}\n"
    }
}

/// A role in one word.
pub(super) fn word(role: &Role) -> &str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Degraded => "degraded",
        Role::Other(other) => other,
    }
}

fn notes(inventory: &Inventory, holder: Option<&str>, target: Option<&str>) -> Vec<String> {
    let mut notes = vec![
        "the lease decides who leads; a preferred role decides nothing".to_owned(),
        "the ingress decides where traffic goes, by whom it can reach; it does not know the lease unless it asks /leader".to_owned(),
    ];
    if let (Some(holder), Some(target)) = (holder, target)
        && holder != target
    {
        notes.insert(0, format!("ALARM: {holder} holds the lease and {target} gets the traffic"));
    }
    notes.extend(probe::remarks(inventory));
    let unreachable: Vec<&str> =
        inventory.nodes.iter().filter(|node| node.reach.is_none()).map(|node| node.name.as_str()).collect();
    if !unreachable.is_empty() {
        notes.push(format!("no command can be run on {}: the inventory gives no reach", unreachable.join(", ")));
    }
    notes
}

impl Report for Topology {
    const SCHEMA: &'static str = "bootstrap.topology/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "fleet {}", self.fleet)?;
        let shown = |value: Option<&str>| value.unwrap_or("-").to_owned();
        let mut rows =
            vec![["node", "host", "prefers", "is", "term", "surface", "service", "reach"].map(str::to_owned)];
        rows.extend(self.nodes.iter().map(|node| {
            [
                node.name.clone(),
                node.host.clone(),
                node.preferred.as_str().to_owned(),
                node.is.as_ref().map_or("-", word).to_owned(),
                node.term.map_or_else(|| "-".to_owned(), |term| term.to_string()),
                shown(node.surface.as_deref()),
                shown(node.service.as_deref()),
                shown(node.reach.as_deref()),
            ]
        }));
        write_table(out, &rows)?;
        if let Some(ingress) = &self.ingress {
            let detection = ingress
                .detection_seconds
                .map_or_else(String::new, |seconds| format!("; it may take {seconds} s to see that one is gone"));
            writeln!(out, "ingress {} -> {}{detection}", ingress.url, ingress.upstreams.join(", then "))?;
        }
        if let Some(control) = &self.control {
            writeln!(out, "control {control}")?;
        }
        let node = |decided: &Decided| decided.node.clone().unwrap_or_else(|| "not known".to_owned());
        writeln!(out, "lease holder:   {} ({})", node(&self.lease_holder), self.lease_holder.by)?;
        writeln!(out, "ingress target: {} ({})", node(&self.ingress_target), self.ingress_target.by)?;
        self.notes.iter().try_for_each(|note| writeln!(out, "- {note}"))
    }
}
