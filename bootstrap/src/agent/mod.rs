//! The agent: keeps one node what it is meant to be, a follower close behind or the one leader.
//!
//! One thread owns the state; everything slow (store, restores, hooks, drivers) runs in threads of its own and comes back
//! as an event. Documented in `docs/agent.md`. Layer: `machine` decides and is pure; the loop acts.

pub mod begin;
pub mod environment;
pub mod follow;
pub mod hooks;
mod keeper;
pub mod machine;
pub mod notify;
pub mod orphan;
pub mod persist;
pub mod reconcile;
pub mod run;
mod shown;
pub mod view;
