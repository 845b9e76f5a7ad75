//! Cancellation: one flag that says "stop at the next safe place".
//!
//! Whoever is told to stop sets it; long work polls it between steps that leave nothing half done,
//! so a snapshot that was interrupted can be run again and a restore leaves its target untouched.
//! Layer: pure; signals are turned into this flag by `terminal`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A shared request to stop. Clones speak of the same request.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    requested: Arc<AtomicBool>,
}

/// Work ended because it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped on request")]
pub struct Cancelled;

impl Cancel {
    /// Makes a flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks all work that holds this flag to stop.
    pub fn request(&self) {
        self.requested.store(true, Ordering::SeqCst);
    }

    /// Whether work was asked to stop.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Fails once work was asked to stop, for use with `?` between two steps.
    ///
    /// # Errors
    /// [`Cancelled`] after [`Cancel::request`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_requested() { Err(Cancelled) } else { Ok(()) }
    }

    /// The flag itself, for a signal handler, which may do nothing but set it.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.requested)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_one_request() {
        let cancel = Cancel::new();
        let clone = cancel.clone();
        assert_eq!(clone.check(), Ok(()));
        cancel.request();
        assert_eq!(clone.check(), Err(Cancelled));
    }
}
