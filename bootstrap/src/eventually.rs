//! What becomes true by itself, for tests.

use std::thread;
use std::time::{Duration, Instant};

/// Waits until it is so. A lock that was let go is held on for a moment by what another test starts just then: each new
/// process has copies of all descriptors until it becomes another program.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}
