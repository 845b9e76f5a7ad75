//! Live nodes: from a URL to a running service, who leads, and what a person sees of it.
//!
//! `bringup` makes a node of a blank machine, and `agent` then keeps it: it follows the chain, asks `lease` who leads,
//! runs the service through a `driver`, and shows itself through `surfaces`. Deciding is pure (`lease::machine`,
//! `agent::machine`: state, event and time in, state and actions out); acting sits at the edge.
//! For who looks after many nodes, `fleet` reads an inventory and asks them all, `scenario` moves the lead by steps that are
//! data, `drill` rehearses the worst with the same steps, and `evidence` is what a stranger can check of it.
//! Protocol and reasons: `docs/leadership.md`. Layer: above `snapkit`, which knows nothing of who leads.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod bringup;
pub mod client;
pub mod clock;
pub mod command;
pub mod config;
pub mod drill;
pub mod driver;
#[cfg(test)]
mod eventually;
pub mod evidence;
pub mod fleet;
pub mod install;
pub mod leading;
pub mod lease;
pub mod origin;
pub mod pages;
pub mod probe;
pub mod scenario;
pub mod surfaces;
