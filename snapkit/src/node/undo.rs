//! Going back to the generation before, and acknowledging a degraded node.

use jiff::Timestamp;

use super::config::NodeConfig;
use super::dir::{NodeDir, Work};
use super::require::{Check, check, first_problem};
use super::state::{Degraded, Event, EventKind, How};
use super::switch::{Recovered, Switched, Switcher};
use super::{GenerationName, NodeError};

/// What an undo did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// It switched to the generation before.
    Switched(Switched),
    /// The last switch had been interrupted and was taken back, which is all that was asked for.
    TakenBack(Option<GenerationName>),
}

/// Goes back to the generation that was active before, the way every switch goes.
///
/// # Errors
/// [`NodeError::NothingToUndo`]; as [`Switcher::begin`] and [`Switcher::switch`].
pub fn undo(node: &NodeDir) -> Result<Undone, NodeError> {
    let mut switcher = Switcher::begin(node)?;
    if let Some(Recovered::TakenBack { to, .. }) = &switcher.recovered {
        return Ok(Undone::TakenBack(to.clone()));
    }
    let previous = switcher.state.previous.clone().filter(|previous| switcher.active() != Some(previous));
    let previous = previous.ok_or_else(|| NodeError::NothingToUndo { node: node.path().to_owned() })?;
    switcher.switch(&previous, How::Undo).map(Undone::Switched)
}

/// What must hold now, for whatever generation is active, and which that is.
///
/// # Errors
/// [`NodeError::Io`] and the like; a requirement that does not hold is no error.
pub fn check_now(node: &NodeDir) -> Result<(Option<GenerationName>, Vec<Check>), NodeError> {
    let config = NodeConfig::read(node.path())?;
    let state = node.state()?;
    let not = |what: &str, problem: String| vec![Check { what: what.to_owned(), problem: Some(problem) }];
    let current = match node.current() {
        Ok(Some(current)) => current,
        Ok(None) => return Ok((None, not("current", "no generation is active".to_owned()))),
        Err(error @ NodeError::ForeignCurrent { .. }) => return Ok((None, not("current", error.to_string()))),
        Err(error) => return Err(error),
    };
    let mut checks = vec![Check {
        what: format!("current leads to {current}"),
        problem: (!node.generation(&current).is_dir()).then(|| "the generation is not there".to_owned()),
    }];
    match state.generations.get(&current) {
        Some(generation) => {
            for tree in generation.trees.iter().filter(|tree| tree.fixed.is_some()) {
                let inside = node.generation(&current).join(&tree.name);
                checks.push(Check {
                    what: format!("tree {} of {current} is at its fixed path", tree.name),
                    problem: inside.exists().then(|| format!("it is at {}", inside.display())),
                });
            }
            checks.extend(check(node, generation, &config.require));
        }
        None => checks.extend(not("current", format!("{current} is not a generation that was restored here"))),
    }
    Ok((Some(current), checks))
}

/// Takes the degraded mark away, for a reason that is kept, once everything that must hold does.
///
/// # Errors
/// [`NodeError::NotDegraded`]; [`NodeError::CheckFailed`], and the mark stays.
pub fn acknowledge(node: &NodeDir, reason: &str) -> Result<(Degraded, Vec<Check>), NodeError> {
    let _lock = node.lock(Work::Switch)?;
    let mark = node.degraded()?.ok_or_else(|| NodeError::NotDegraded { node: node.path().to_owned() })?;
    let (current, checks) = check_now(node)?;
    if let Some(problem) = first_problem(&checks) {
        return Err(NodeError::CheckFailed { problem });
    }
    let mut state = node.state()?;
    if state.active != current {
        state.previous = state.active.take();
        state.active.clone_from(&current);
    }
    let why = Some(reason.to_owned());
    let time = Timestamp::now();
    state.note(Event { time, what: EventKind::Acknowledged, from: mark.from.clone(), to: current, why });
    node.save_state(&state)?;
    // The mark goes last: until then the node stays degraded.
    node.clear_intent()?;
    node.clear_degraded()?;
    Ok((mark, checks))
}
