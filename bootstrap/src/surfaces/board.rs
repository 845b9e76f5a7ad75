//! The board: where the loop posts what it says of itself, and where surfaces read it.
//!
//! What is read is as old as the last post, and says so: times in it go on by the clock since boot, so a lease that runs
//! out is seen to run out even when the loop hangs. Layer: shared by the loop and the surfaces; knows neither.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::agent::view::View;
use crate::clock::BootTime;

/// The newest view, and when the loop was last alive.
#[derive(Debug)]
pub struct Board(Mutex<Posted>);

#[derive(Debug)]
struct Posted {
    view: View,
    posted: BootTime,
    ticked: BootTime,
}

/// What the board says at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The newest view, with the times in it as of now.
    pub view: View,
    /// How long ago the loop was last alive.
    pub ticked_ago: Duration,
}

impl Board {
    /// A board with a first view.
    pub fn new(view: View) -> Self {
        let now = BootTime::now();
        Self(Mutex::new(Posted { view, posted: now, ticked: now }))
    }

    /// Replaces the view. Times in it count from this moment.
    pub fn post(&self, view: View) {
        let now = BootTime::now();
        *self.lock() = Posted { view, posted: now, ticked: now };
    }

    /// Says that the loop is alive and has nothing new to say.
    pub fn tick(&self) {
        self.lock().ticked = BootTime::now();
    }

    /// What it says now.
    pub fn read(&self) -> Reading {
        let now = BootTime::now();
        let posted = self.lock();
        Reading { view: aged(posted.view.clone(), now.since(posted.posted)), ticked_ago: now.since(posted.ticked) }
    }

    fn lock(&self) -> MutexGuard<'_, Posted> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The view as it is `elapsed` after it was posted.
fn aged(mut view: View, elapsed: Duration) -> View {
    let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    view.remaining_ms = view.remaining_ms.map(|remaining| remaining.saturating_sub(ms));
    view.holder_seen_ms_ago = view.holder_seen_ms_ago.map(|ago| ago.saturating_add(ms));
    view.chain.age_seconds = view.chain.age_seconds.map(|age| age.saturating_add(elapsed.as_secs()));
    view
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Board, aged};
    use crate::surfaces::examples;

    #[test]
    fn validity_runs_out_even_when_nothing_is_posted() {
        let mut view = examples::leader();
        view.remaining_ms = Some(5_000);
        assert_eq!(aged(view.clone(), Duration::from_millis(4_999)).remaining_ms, Some(1));
        assert_eq!(aged(view.clone(), Duration::from_secs(60)).remaining_ms, Some(0));
        view.remaining_ms = None;
        assert_eq!(aged(view, Duration::from_secs(60)).remaining_ms, None, "static leadership does not run out");
    }

    #[test]
    fn a_post_is_a_sign_of_life() {
        let board = Board::new(examples::follower());
        board.post(examples::leader());
        let reading = board.read();
        assert_eq!(reading.view.node, examples::leader().node);
        assert!(reading.ticked_ago < Duration::from_secs(60));
    }
}
