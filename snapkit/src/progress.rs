//! Progress: counters that long work raises and whoever watches reads.
//!
//! Counting is a relaxed atomic addition, cheap enough for every file and every block. Nothing here
//! prints or knows a clock; `terminal` turns the counters into lines.
//! Layer: pure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// How far one operation has come. Totals are 0 while they are unknown.
#[derive(Debug, Default)]
pub struct Progress {
    done_items: AtomicU64,
    done_bytes: AtomicU64,
    total_items: AtomicU64,
    total_bytes: AtomicU64,
    phase: Mutex<&'static str>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgressReading {
    /// What is being done, such as `reading`; empty before the first phase.
    pub phase: &'static str,
    /// Entries, objects or whatever the phase counts.
    pub done_items: u64,
    /// Bytes of those.
    pub done_bytes: u64,
    /// All items there will be, 0 when unknown.
    pub total_items: u64,
    /// All bytes there will be, 0 when unknown.
    pub total_bytes: u64,
}

impl Progress {
    /// Makes counters that stand at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a phase: counters and totals go back to zero.
    pub fn start_phase(&self, phase: &'static str) {
        *self.lock_phase() = phase;
        for counter in [&self.done_items, &self.done_bytes, &self.total_items, &self.total_bytes] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Sets what the current phase will come to.
    pub fn expect_total(&self, items: u64, bytes: u64) {
        self.total_items.store(items, Ordering::Relaxed);
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Counts finished items.
    pub fn add_items(&self, items: u64) {
        self.done_items.fetch_add(items, Ordering::Relaxed);
    }

    /// Counts finished bytes.
    pub fn add_bytes(&self, bytes: u64) {
        self.done_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reads all counters. They are not read at one instant, which a display does not need.
    pub fn read(&self) -> ProgressReading {
        ProgressReading {
            phase: *self.lock_phase(),
            done_items: self.done_items.load(Ordering::Relaxed),
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_items: self.total_items.load(Ordering::Relaxed),
            total_bytes: self.total_bytes.load(Ordering::Relaxed),
        }
    }

    fn lock_phase(&self) -> std::sync::MutexGuard<'_, &'static str> {
        // A panic elsewhere cannot leave a word half written.
        self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_phase_starts_from_zero() {
        let progress = Progress::new();
        progress.start_phase("reading");
        progress.expect_total(3, 30);
        progress.add_items(1);
        progress.add_bytes(10);
        assert_eq!(
            progress.read(),
            ProgressReading { phase: "reading", done_items: 1, done_bytes: 10, total_items: 3, total_bytes: 30 }
        );
        progress.start_phase("proving");
        assert_eq!(progress.read(), ProgressReading { phase: "proving", ..ProgressReading::default() });
    }
}
