//! Scenarios: moving the lead from one node to another as data, printed, rehearsed and executed from the same steps.
//!
//! `grammar` reads a scenario, `plan` resolves it against a fleet, `render` prints it for a person, and `execute` does it:
//! each step's begin and end are on disk before and after it is acted, so an orchestrator that is killed anywhere can be
//! resumed or taken back. What a kind of step means is a [`Vocabulary`], who does it an [`Actor`]; `act` is the one that
//! moves leads. Grammar and meaning: `docs/scenarios.md`. Layer: `grammar`, `plan`, `render` and `condition` are pure;
//! `execute` acts through what it is given.

pub mod act;
pub mod begin;
pub mod builtin;
pub mod condition;
pub mod debts;
pub mod execute;
pub mod field;
pub mod grammar;
pub mod ingress;
pub mod moves;
pub mod plan;
pub mod render;
pub mod resolve;
pub mod runs;
pub mod site;

pub use execute::{Actor, Attempt, Journal, Kept, Outcome, Turn};
pub use grammar::{Action, Effect, Scenario, StepSpec, Vocabulary};
pub use plan::{Plan, Step};
