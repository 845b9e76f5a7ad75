//! The kinds of actions by which the lead is moved: what each accepts, what it does to the world, and what a person would
//! type instead.
//!
//! `act` does them. Kinds: `docs/scenarios.md`, "Kinds". Layer: pure.

use serde::Deserialize;

use super::condition::Condition;
use super::grammar::{Action, Effect, Vocabulary};
use super::plan::{Plan, Step};
use super::site::{Line, Site};
use crate::agent::view::RequestKind;

/// An action of a kind that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Every surface is asked, and the answers are held against what is expected.
    Probe(Probe),
    /// Something is asked of the agent.
    Request(Request),
    /// A condition is waited for.
    Wait(Wait),
    /// The old leader is proven not to lead.
    Down(Down),
    /// A program is run.
    Command(Command),
    /// The agent of a node is started.
    NodeUp,
    /// The agent of a node is ended.
    NodeDown,
    /// The chain is read by everybody, and what they go by has not expired.
    ChainFresh(ChainFresh),
    /// Whoever took over began from the last state of whoever led before.
    NothingLost(NothingLost),
    /// A snapshot is taken.
    Snapshot(Snapshot),
    /// Who answers at the ingress is asked.
    IngressCheck(IngressCheck),
    /// The ingress is led to whoever leads.
    IngressSwap,
    /// The ingress gets back what it had.
    IngressRestore,
    /// Hotfixes that were left to this run are put right.
    IngressSettle,
    /// No hotfix is open, but those that a later step puts right.
    DebtsClosed,
    /// A person does something, and says so.
    Manual(Manual),
    /// What everybody says is kept.
    Collect(Collect),
    /// What was found after an emergency is written down.
    AfterAction,
}

/// Of `probe`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Who must lead: `old-leader`, `target`, `not-old-leader`, or `anybody`.
    pub expect: Expected,
    /// The old leader is not asked: it is known to be gone.
    #[serde(default)]
    pub without_old_leader: bool,
}

/// Who must lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// Who led before.
    OldLeader,
    /// Who is to lead.
    Target,
    /// Anybody but who led before.
    NotOldLeader,
    /// Anybody.
    Anybody,
}

/// Of `request`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// `drain`, `pause`, `resume`, `handoff`, `demote`, `promote`, `force-claim`.
    pub request: String,
    /// A node that does not answer is left out, instead of failing the step.
    #[serde(default)]
    pub unreachable_is_fine: bool,
}

/// Of `wait`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// The condition.
    pub until: String,
    /// Snapshots that a node may be behind.
    #[serde(default = "one")]
    pub max_lag: u64,
    /// One of the nodes is enough.
    #[serde(default)]
    pub any: bool,
}

fn one() -> u64 {
    1
}

/// Of `down`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Down {
    /// A node that does not answer counts as down once another one leads in a later term, its service's port is closed or
    /// does not answer, and the ingress does not lead there.
    #[serde(default)]
    pub unreachable_is_fine: bool,
}

/// Of `command`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its words; no shell.
    pub argv: Vec<String>,
    /// It changes nothing.
    #[serde(default)]
    pub reads: bool,
}

/// Of `chain-fresh`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainFresh {
    /// Snapshots that the nodes of the step may be behind.
    #[serde(default = "one")]
    pub max_lag: u64,
}

/// Of `snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The program that takes it on the node, and its words; no shell.
    pub argv: Vec<String>,
}

/// Of `ingress-check`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IngressCheck {
    /// Who must answer there.
    pub reaches: Expected,
}

/// Of `nothing-lost`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NothingLost {
    /// Whose last state it is.
    pub from: Led,
    /// It may never have led: then there is nothing to lose.
    #[serde(default)]
    pub may_not_have_led: bool,
}

/// Who led.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Led {
    /// Who led before the run.
    OldLeader,
    /// Who was to lead.
    Target,
}

/// Of `manual`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manual {
    /// What a person does.
    pub text: String,
}

/// Of `collect`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collect {
    /// The name of what is kept: `before`, `after`.
    pub name: String,
    /// The health report leaves the old leader out: it is known to be gone.
    #[serde(default)]
    pub without_old_leader: bool,
}

/// Of a kind that accepts nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

impl Move {
    /// The action, if its kind is known here.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence.
    pub fn of(action: &Action) -> Result<Option<Self>, String> {
        let plain = |one: Self| action.with::<Nothing>().map(|Nothing {}| one);
        let known = match action.kind.as_str() {
            "probe" => Self::Probe(action.with()?),
            "request" => Self::Request(Request::checked(action)?),
            "wait" => Self::Wait(Wait::checked(action)?),
            "down" => Self::Down(action.with()?),
            "command" => Self::Command(Command::checked(action)?),
            "node-up" => plain(Self::NodeUp)?,
            "node-down" => plain(Self::NodeDown)?,
            "chain-fresh" => Self::ChainFresh(action.with()?),
            "nothing-lost" => Self::NothingLost(action.with()?),
            "snapshot" => Self::Snapshot(Snapshot::checked(action)?),
            "ingress-check" => Self::IngressCheck(action.with()?),
            "ingress-swap" => plain(Self::IngressSwap)?,
            "ingress-restore" => plain(Self::IngressRestore)?,
            "ingress-settle" => plain(Self::IngressSettle)?,
            "debts-closed" => plain(Self::DebtsClosed)?,
            "manual" => Self::Manual(action.with()?),
            "collect" => Self::Collect(Collect::checked(action)?),
            "after-action" => plain(Self::AfterAction)?,
            _ => return Ok(None),
        };
        Ok(Some(known))
    }

    /// The least effect of a step with it.
    pub fn effect(&self) -> Effect {
        match self {
            Self::Command(command) if command.reads => Effect::Read,
            Self::Request(_)
            | Self::Command(_)
            | Self::NodeUp
            | Self::NodeDown
            | Self::Snapshot(_)
            | Self::IngressSwap
            | Self::IngressRestore
            | Self::IngressSettle => Effect::Mutate,
            Self::Manual(_) => Effect::Plan,
            Self::Probe(_)
            | Self::Wait(_)
            | Self::Down(_)
            | Self::ChainFresh(_)
            | Self::NothingLost(_)
            | Self::IngressCheck(_)
            | Self::DebtsClosed
            | Self::Collect(_)
            | Self::AfterAction => Effect::Read,
        }
    }

    fn commands(&self, plan: &Plan, step: &Step, site: &Site) -> Vec<Line> {
        let on_each = |command: &[&str], options: &[&str]| -> Vec<Line> {
            step.on.iter().map(|node| site.on_node(node, command, options)).collect()
        };
        match self {
            Self::Probe(probe) => vec![probe.line(plan, site)],
            Self::Request(request) if request.request == "force-claim" => {
                on_each(&["lease", "force-claim"], &["--reason", site.reason()])
            }
            Self::Request(request) => on_each(&[&request.request], &["--reason", site.reason()]),
            Self::Wait(wait) => {
                let enough = if wait.any && step.on.len() > 1 { "one of them is enough; " } else { "" };
                let within = format!("{enough}repeat until: {}; give up after {} s", wait.until, step.timeout_seconds);
                let mut lines: Vec<Line> =
                    on_each(&["status"], &[]).into_iter().map(|line| line.noting(&within)).collect();
                if wait.condition() == Condition::Drained {
                    lines.extend(step.on.iter().filter_map(|node| site.work(node)));
                }
                lines
            }
            Self::Down(_) => {
                let what = "must show: no lease held, no service that runs as leader; and nothing answers at its service's \
                            address as leader, nor at the ingress";
                on_each(&["status"], &[]).into_iter().map(|line| line.noting(what)).collect()
            }
            Self::Command(command) if step.on.is_empty() => vec![Line::here(&command.argv)],
            Self::Command(Command { argv, .. }) | Self::Snapshot(Snapshot { argv }) => {
                step.on.iter().map(|node| Line::on(node, argv)).collect()
            }
            Self::NodeUp => step.on.iter().map(|node| site.bootstrap(&["node", "up", node, "--execute"])).collect(),
            Self::NodeDown => step.on.iter().map(|node| site.bootstrap(&["node", "down", node, "--execute"])).collect(),
            Self::ChainFresh(fresh) => {
                let what = format!("must show: chain read, at most {} snapshots behind, manifest valid", fresh.max_lag);
                on_each(&["status"], &[]).into_iter().map(|line| line.noting(&what)).collect()
            }
            Self::NothingLost(lost) => {
                let what = "`takeover.captured` of the new leader must not be before `ended.stopped` of the old one";
                let both = step.on.iter().chain(lost.from.of(plan)).map(String::as_str);
                both.map(|node| site.on_node(node, &["status"], &["--json"]).noting(what)).collect()
            }
            Self::IngressCheck(_) => match &site.ingress {
                Some(ingress) => {
                    vec![Line::here(["curl", "--fail", "--silent", "--show-error", "--max-time", "5", &ingress.url])]
                }
                None => vec![Line::remark("the inventory names no ingress: look by hand where clients are led")],
            },
            Self::IngressSwap => ingress_swap(site),
            Self::IngressRestore => {
                vec![site.bootstrap(&["debt", "list"]).noting("each open one: `bootstrap debt close ID --restore`")]
            }
            Self::IngressSettle => {
                let what = "each open one: `bootstrap debt close ID --restore --reason TEXT`, now that the canonical file leads to the leader";
                vec![site.bootstrap(&["debt", "list"]).noting(what)]
            }
            Self::DebtsClosed => vec![site.bootstrap(&["debt", "list"]).noting("must show none that is open")],
            Self::Manual(manual) => vec![Line::remark(&manual.text)],
            Self::Collect(_) => vec![site.bootstrap(&["health", "--json"]), site.bootstrap(&["topology", "--json"])],
            Self::AfterAction => vec![site.bootstrap(&["debt", "list"]).noting(
                "write down: was it unreachable or in the wrong role, was the ingress reloaded by hand, was \
                             something repaired by hand, which file is the backup",
            )],
        }
    }
}

/// What changing the ingress by hand takes.
fn ingress_swap(site: &Site) -> Vec<Line> {
    let Some(ingress) = &site.ingress else {
        return vec![Line::remark("the inventory names no ingress: lead clients to the new leader by hand")];
    };
    let config = ingress.config.as_deref().unwrap_or(super::site::REPLACE_ME);
    let mut lines = vec![
        Line::at_ingress([
            "cp",
            "--preserve",
            "--no-clobber",
            config,
            &format!("{config}.{}", super::site::REPLACE_ME),
        ])
        .noting("a backup with the time in its name"),
        Line::remark(format!("put the new leader first among the upstreams of {config}")),
    ];
    lines.extend(ingress.validate.iter().map(Line::at_ingress));
    lines.extend(ingress.reload.iter().map(Line::at_ingress));
    lines
}

impl Probe {
    fn line(&self, plan: &Plan, site: &Site) -> Line {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| super::site::REPLACE_ME.to_owned());
        let (old, target) = (name(&plan.old_leader), name(&plan.target));
        let mut words = vec!["probe"];
        let expected = match self.expect {
            Expected::OldLeader => Some(old.as_str()),
            Expected::Target => Some(target.as_str()),
            Expected::NotOldLeader | Expected::Anybody => None,
        };
        words.extend(expected.into_iter().flat_map(|node| ["--expect-leader", node]));
        words.extend(self.without_old_leader.then_some(["--skip-node", old.as_str()]).into_iter().flatten());
        words.push("--explain");
        let line = site.bootstrap(&words);
        match self.expect {
            Expected::NotOldLeader => line.noting(format!("exactly one must lead, and not {old}")),
            _ => line,
        }
    }
}

impl Request {
    fn checked(action: &Action) -> Result<Self, String> {
        let request: Self = action.with()?;
        match RequestKind::of(&request.request) {
            Some(_) => Ok(request),
            None => {
                let known: Vec<&str> = RequestKind::ALL.into_iter().map(RequestKind::as_str).collect();
                Err(format!("request: there is no request {:?}; expected one of {}", request.request, known.join(", ")))
            }
        }
    }

    /// What is asked.
    pub fn kind(&self) -> RequestKind {
        RequestKind::of(&self.request).expect("a request is read only if its kind is known")
    }
}

impl Wait {
    fn checked(action: &Action) -> Result<Self, String> {
        let wait: Self = action.with()?;
        wait.until.parse::<Condition>().map(|_| wait).map_err(|why| format!("wait: {why}"))
    }

    /// What is waited for.
    pub fn condition(&self) -> Condition {
        self.until.parse().expect("a wait is read only if its condition is known")
    }
}

impl Command {
    fn checked(action: &Action) -> Result<Self, String> {
        let command: Self = action.with()?;
        if command.argv.is_empty() { Err("command: argv is empty".to_owned()) } else { Ok(command) }
    }
}

impl Snapshot {
    fn checked(action: &Action) -> Result<Self, String> {
        let snapshot: Self = action.with()?;
        if snapshot.argv.is_empty() { Err("snapshot: argv is empty".to_owned()) } else { Ok(snapshot) }
    }
}

impl Led {
    /// The node.
    pub fn of(self, plan: &Plan) -> Option<&String> {
        match self {
            Self::OldLeader => plan.old_leader.as_ref(),
            Self::Target => plan.target.as_ref(),
        }
    }
}

impl Collect {
    fn checked(action: &Action) -> Result<Self, String> {
        let collect: Self = action.with()?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let is_word = !collect.name.is_empty() && collect.name.len() <= 32 && collect.name.bytes().all(plain);
        if is_word { Ok(collect) } else { Err(format!("collect: the name {:?} is not one word", collect.name)) }
    }
}

/// The kinds of this module.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moves;

impl Vocabulary for Moves {
    fn effect(&self, action: &Action) -> Result<Option<Effect>, String> {
        Ok(Move::of(action)?.map(|known| known.effect()))
    }

    fn commands(&self, plan: &Plan, step: &Step, site: &Site) -> Vec<Line> {
        match Move::of(&step.action) {
            Ok(Some(known)) => known.commands(plan, step, site),
            _ => Vec::new(),
        }
    }
}
