//! Switching: from one generation to another, checked, and back if it does not hold.
//!
//! What will be done is written down before the first step and taken away after the last, so a switch that was
//! interrupted anywhere is finished or taken back by whoever takes the lock next. While the degraded mark is there,
//! nobody gets to switch. The order of the durable steps: `docs/node.md`. Layer: operations.

use std::io;

use jiff::Timestamp;

use super::config::NodeConfig;
use super::dir::{Lock, NodeDir, Work};
use super::exchange::{Goal, arrange, check_path, inode, is_at};
use super::require::{Check, check, first_problem};
use super::state::{Degraded, Event, EventKind, Generation, GenerationTree, How, Intent, Move, State, VERSION};
use super::{GenerationName, NodeError};

/// Why a switch is taken back that a process did not finish.
const INTERRUPTED: &str = "the switch was interrupted";

/// A node that may be switched: the lock is held, nothing is left of an interrupted switch, and it is not degraded.
pub struct Switcher<'n> {
    pub(super) node: &'n NodeDir,
    /// What the operator declares.
    pub config: NodeConfig,
    pub(super) state: State,
    /// What became of a switch that had been interrupted.
    pub recovered: Option<Recovered>,
    _lock: Lock,
}

/// What became of a switch that had been interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// It was complete and holds.
    Finished(GenerationName),
    /// It was taken back; to nothing, if nothing was active before.
    TakenBack {
        /// The generation that is active.
        to: Option<GenerationName>,
        /// The requirement that did not hold, if it was complete.
        cause: Option<String>,
    },
}

/// A switch that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switched {
    /// The generation that was active before.
    pub from: Option<GenerationName>,
    /// The generation that is active.
    pub to: GenerationName,
    /// When the switch was finished.
    pub time: Timestamp,
    /// What must hold, all of which does.
    pub checks: Vec<Check>,
}

impl<'n> Switcher<'n> {
    /// Takes the lock, refuses a degraded node, and finishes or takes back what was interrupted.
    ///
    /// # Errors
    /// [`NodeError::Busy`], [`NodeError::Degraded`], and whatever recovering gives.
    pub fn begin(node: &'n NodeDir) -> Result<Self, NodeError> {
        let lock = node.lock(Work::Switch)?;
        super::refuse_degraded(node)?;
        node.sweep()?;
        let config = NodeConfig::read(node.path())?;
        let mut switcher = Self { node, config, state: node.state()?, recovered: None, _lock: lock };
        switcher.recovered = switcher.recover()?;
        switcher.follow_current()?;
        Ok(switcher)
    }

    /// The generation that is active.
    pub fn active(&self) -> Option<&GenerationName> {
        self.state.active.as_ref()
    }

    /// What must hold while a generation is active, with what is found now.
    ///
    /// # Errors
    /// [`NodeError::Unknown`] for a generation that the state does not list.
    pub fn check(&self, name: &GenerationName) -> Result<Vec<Check>, NodeError> {
        Ok(check(self.node, self.known(name)?, &self.config.require))
    }

    pub(super) fn known(&self, name: &GenerationName) -> Result<&Generation, NodeError> {
        self.state.generations.get(name).ok_or_else(|| NodeError::Unknown { name: name.clone() })
    }

    /// Switches to a generation. What must hold is checked after the flip; if it does not, the flip is taken back.
    ///
    /// # Errors
    /// [`NodeError::Flip`] and [`NodeError::SwitchedBack`]: the old generation is active, as before.
    /// [`NodeError::NowDegraded`]: neither could be had, and the node refuses further switches.
    pub fn switch(&mut self, to: &GenerationName, how: How) -> Result<Switched, NodeError> {
        let intent = self.intend(to, how)?;
        if let Err(source) = self.flip(&intent, Goal::Forward) {
            // Nothing is checked that was not switched to.
            return Err(match self.flip(&intent, Goal::Back) {
                Ok(()) => {
                    self.taken_back(&intent, Some(&source.to_string()))?;
                    NodeError::Flip { to: to.clone(), source }
                }
                Err(rollback) => self.degrade(&intent, &source.to_string(), &rollback.to_string())?,
            });
        }
        let checks = self.check(to)?;
        match first_problem(&checks) {
            None => self.commit(&intent, checks),
            Some(cause) => {
                self.flip_back(&intent, &cause)?;
                Err(NodeError::SwitchedBack { to: to.clone(), from: intent.from, cause })
            }
        }
    }

    /// Writes down what will be done.
    fn intend(&mut self, to: &GenerationName, how: How) -> Result<Intent, NodeError> {
        let target = self.known(to)?.clone();
        if !self.node.generation(to).is_dir() {
            return Err(NodeError::Unknown { name: to.clone() });
        }
        self.check_fixed(&target.trees)?;
        let failed = |source| NodeError::Io { what: "look at the trees to switch".to_owned(), source };
        let mut from = self.state.active.clone();
        let mut found = None;
        let mut moves = Vec::new();
        for tree in &target.trees {
            let Some(path) = &tree.fixed else { continue };
            let incoming = inode(&self.node.generation(to).join(&tree.name)).map_err(failed)?.ok_or_else(|| {
                NodeError::Fixed { tree: tree.name.clone(), path: path.clone(), why: format!("{to} does not hold it") }
            })?;
            let outgoing = inode(path).map_err(failed)?;
            let aside = match self.owner_of(&from, &tree.name).map_err(failed)? {
                Some(owner) => owner,
                None if outgoing.is_none() => to.clone(),
                // Somebody had it before us: it is kept as a generation of its own.
                None => found.get_or_insert(self.name_for_found()?).clone(),
            };
            moves.push(Move { tree: tree.name.clone(), path: path.clone(), incoming, outgoing, aside });
        }
        if let Some(name) = found {
            self.keep_found(&name, &moves)?;
            from = from.or(Some(name));
        }
        let intent = Intent { version: VERSION, started: Timestamp::now(), how, from, to: to.clone(), moves };
        self.node.save_intent(&intent)?;
        Ok(intent)
    }

    /// The generation whose tree is at its fixed path now: the active one, if its own place is empty.
    fn owner_of(&self, from: &Option<GenerationName>, tree: &str) -> io::Result<Option<GenerationName>> {
        let Some(from) = from else { return Ok(None) };
        let holds = self.state.generations.get(from).is_some_and(|g| g.trees.iter().any(|t| t.name == tree));
        let is_out = inode(&self.node.generation(from).join(tree))?.is_none();
        Ok((holds && is_out).then(|| from.clone()))
    }

    fn name_for_found(&self) -> Result<GenerationName, NodeError> {
        let stem = format!("found-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        let is_taken = |name: &GenerationName| {
            self.state.generations.contains_key(name) || self.node.generation(name).symlink_metadata().is_ok()
        };
        GenerationName::first_free(&stem, is_taken).map_err(NodeError::Name)
    }

    /// Makes a generation of what lay at fixed paths before the first switch.
    fn keep_found(&mut self, name: &GenerationName, moves: &[Move]) -> Result<(), NodeError> {
        let directory = self.node.generation(name);
        let made = std::fs::create_dir(&directory).and_then(|()| super::dir::sync(&self.node.generations()));
        made.map_err(|source| NodeError::Io { what: format!("make {}", directory.display()), source })?;
        let trees = moves.iter().filter(|moved| moved.aside == *name).map(|moved| GenerationTree {
            name: moved.tree.clone(),
            inside: true,
            fixed: Some(moved.path.clone()),
            full_digest: None,
        });
        let generation = Generation {
            record: None,
            made: Timestamp::now(),
            trees: trees.collect(),
            entries: 0,
            files: 0,
            bytes: 0,
            exact: false,
            manner: "found".to_owned(),
            required: Vec::new(),
        };
        self.state.generations.insert(name.clone(), generation);
        self.node.save_state(&self.state)
    }

    /// Refuses fixed paths that cannot be had, or that are not those of the active generation.
    pub(super) fn check_fixed(&self, trees: &[GenerationTree]) -> Result<(), NodeError> {
        for tree in trees {
            if let Some(path) = &tree.fixed {
                check_path(self.node, &tree.name, path)?;
            }
        }
        let active = self.state.active.as_ref().and_then(|name| self.state.generations.get(name));
        for tree in active.iter().flat_map(|active| &active.trees) {
            let Some(path) = &tree.fixed else { continue };
            if !trees.iter().any(|other| other.name == tree.name && other.fixed == tree.fixed) {
                let why = "the active generation is activated there, and the other one would not be".to_owned();
                return Err(NodeError::Fixed { tree: tree.name.clone(), path: path.clone(), why });
            }
        }
        Ok(())
    }

    /// Takes every step to `goal`, and reads back that it is reached. `current` changes last on the way there, and first
    /// on the way back.
    fn flip(&self, intent: &Intent, goal: Goal) -> io::Result<()> {
        let current = || self.node.current().map_err(io::Error::other);
        match goal {
            Goal::Forward => {
                for moved in &intent.moves {
                    arrange(self.node, moved, &intent.to, goal)?;
                }
                self.node.point_current(&intent.to)
            }
            Goal::Back => {
                match &intent.from {
                    from if current()? == *from => {}
                    None => {
                        return Err(io::Error::other(
                            "no generation was active before, so there is none to go back to",
                        ));
                    }
                    Some(from) if !self.node.generation(from).is_dir() => {
                        return Err(io::Error::other(format!("the generation before, {from}, is not there any more")));
                    }
                    Some(from) => self.node.point_current(from)?,
                }
                for moved in intent.moves.iter().rev() {
                    arrange(self.node, moved, &intent.to, goal)?;
                }
                Ok(())
            }
        }
    }

    fn is_flipped(&self, intent: &Intent) -> io::Result<bool> {
        if self.node.current().map_err(io::Error::other)?.as_ref() != Some(&intent.to) {
            return Ok(false);
        }
        for moved in &intent.moves {
            if !is_at(self.node, moved, &intent.to, Goal::Forward)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The switch holds: the state says so, and nothing is under way any more.
    fn commit(&mut self, intent: &Intent, checks: Vec<Check>) -> Result<Switched, NodeError> {
        let time = Timestamp::now();
        let what = if intent.how == How::Undo { EventKind::Undone } else { EventKind::Switched };
        if intent.from.as_ref() != Some(&intent.to) {
            self.state.previous.clone_from(&intent.from);
        }
        self.state.active = Some(intent.to.clone());
        self.state.switched = Some(time);
        self.state.note(Event { time, what, from: intent.from.clone(), to: Some(intent.to.clone()), why: None });
        self.node.save_state(&self.state)?;
        self.node.clear_intent()?;
        Ok(Switched { from: intent.from.clone(), to: intent.to.clone(), time, checks })
    }

    /// Takes a switch back that does not hold, or marks the node degraded.
    fn flip_back(&mut self, intent: &Intent, cause: &str) -> Result<(), NodeError> {
        if let Err(rollback) = self.flip(intent, Goal::Back) {
            return Err(self.degrade(intent, cause, &rollback.to_string())?);
        }
        self.taken_back(intent, Some(cause))
    }

    /// The old generation is active again, and nothing is under way any more.
    fn taken_back(&mut self, intent: &Intent, cause: Option<&str>) -> Result<(), NodeError> {
        self.state.active.clone_from(&intent.from);
        self.state.note(Event {
            time: Timestamp::now(),
            what: EventKind::SwitchedBack,
            from: Some(intent.to.clone()),
            to: intent.from.clone(),
            why: Some(cause.unwrap_or(INTERRUPTED).to_owned()),
        });
        self.node.save_state(&self.state)?;
        self.node.clear_intent()
    }

    /// Marks the node degraded, with both causes. The mark is durable before the intent goes.
    fn degrade(&mut self, intent: &Intent, failure: &str, rollback: &str) -> Result<NodeError, NodeError> {
        let mark = Degraded {
            version: VERSION,
            since: Timestamp::now(),
            from: intent.from.clone(),
            to: intent.to.clone(),
            failure: failure.to_owned(),
            rollback: rollback.to_owned(),
        };
        self.node.save_degraded(&mark)?;
        self.state.note(Event {
            time: mark.since,
            what: EventKind::Degraded,
            from: mark.from.clone(),
            to: Some(mark.to.clone()),
            why: Some(format!("{failure}; {rollback}")),
        });
        self.node.save_state(&self.state)?;
        self.node.clear_intent()?;
        Ok(NodeError::NowDegraded { node: self.node.path().to_owned(), mark: Box::new(mark) })
    }

    /// Finishes or takes back a switch that was interrupted.
    fn recover(&mut self) -> Result<Option<Recovered>, NodeError> {
        let Some(intent) = self.node.intent()? else { return Ok(None) };
        if self.state.active.as_ref() == Some(&intent.to) && self.state.switched.is_some_and(|at| at >= intent.started)
        {
            // Only the last step was missing: the state says already that the switch holds.
            self.node.clear_intent()?;
            return Ok(Some(Recovered::Finished(intent.to)));
        }
        if self.is_flipped(&intent).unwrap_or(false) {
            let checks = self.check(&intent.to)?;
            let Some(cause) = first_problem(&checks) else {
                self.commit(&intent, checks)?;
                return Ok(Some(Recovered::Finished(intent.to)));
            };
            self.flip_back(&intent, &cause)?;
            return Ok(Some(Recovered::TakenBack { to: intent.from, cause: Some(cause) }));
        }
        if let Err(rollback) = self.flip(&intent, Goal::Back) {
            return Err(self.degrade(&intent, INTERRUPTED, &rollback.to_string())?);
        }
        self.taken_back(&intent, None)?;
        Ok(Some(Recovered::TakenBack { to: intent.from, cause: None }))
    }

    /// Believes `current` where it and the state disagree: somebody moved it by hand.
    fn follow_current(&mut self) -> Result<(), NodeError> {
        let current = self.node.current()?;
        if current == self.state.active {
            return Ok(());
        }
        let fixed = |name: &Option<GenerationName>| {
            let generation = name.as_ref().and_then(|name| self.state.generations.get(name));
            generation.is_some_and(|generation| generation.trees.iter().any(|tree| tree.fixed.is_some()))
        };
        if fixed(&current) || fixed(&self.state.active) {
            // The trees at fixed paths did not move with it.
            let active = self.state.active.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
            let found = format!("moved by hand while the trees at fixed paths are those of {active}");
            return Err(NodeError::ForeignCurrent { path: self.node.path().join("current"), found });
        }
        let from = std::mem::replace(&mut self.state.active, current.clone());
        self.state.previous = from.clone();
        self.state.note(Event { time: Timestamp::now(), what: EventKind::Moved, from, to: current, why: None });
        self.node.save_state(&self.state)
    }
}
