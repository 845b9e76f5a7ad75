//! Fleets: the nodes of a group as their operator sees them, from wherever that is.
//!
//! One file, the inventory, says which nodes there are, how they are reached and what they must answer. [`inventory`] reads
//! and checks it, [`reach`] runs commands on nodes, [`node`] asks their agents. [`probe`] puts questions to every surface
//! and holds the answers against what is expected; [`topology`], [`triage`] and [`health`] say what follows from them. [`updown`]
//! brings nodes up and down, [`repair`] makes one again what it is meant to be. What is asked is done at the edge (`http`, `reach`, `node`); what it means is decided by pure
//! functions. Meaning and file: `docs/fleet.md`. Layer: above `client`, `command` and `surfaces::state`.

pub mod health;
pub mod http;
pub mod inventory;
pub mod node;
pub mod probe;
pub mod quote;
pub mod reach;
pub mod repair;
pub mod topology;
pub mod triage;
pub mod updown;
