//! What is due, in the order of its time; at one time, in the order in which it was planned.

use std::cmp::Ordering;

/// Microseconds of true time, which no node knows.
pub(crate) type Time = u64;

pub(crate) struct Due<What> {
    pub(crate) at: Time,
    pub(crate) order: u64,
    pub(crate) node: usize,
    /// The run of the node's agent that it belongs to.
    pub(crate) run: u64,
    pub(crate) what: What,
}

impl<What> PartialEq for Due<What> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}
impl<What> Eq for Due<What> {}
impl<What> PartialOrd for Due<What> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<What> Ord for Due<What> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
