//! The agent: keeps one node what it is meant to be, a follower close behind or the one leader.
//!
//! One thread owns the state; everything slow (store, restores, hooks, drivers) runs in threads of its own and comes back
//! as an event. Documented in `docs/agent.md`. Layer: `machine` decides and is pure; the loop acts.

pub mod view;
