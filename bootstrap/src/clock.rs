//! Time since boot: the only clock by which validity is judged.
//!
//! It goes on while the machine sleeps, is the same for all processes of one boot, and cannot be set. It says nothing
//! about other machines. `std::time::Instant` stops in suspend and is not used for leases.
//! Layer: the edge; the machines get their time as an argument.

use std::ops::{Add, Sub};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A moment, as the time since this machine was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(Duration);

impl BootTime {
    /// The present moment.
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).expect("no machine was started in the future");
        Self(Duration::new(seconds, u32::try_from(now.tv_nsec).expect("less than a second")))
    }

    /// The moment this long after the start of the machine.
    pub const fn after_boot(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// The time between the start of the machine and this moment.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time since `earlier`; zero if that is not in the past.
    pub fn since(self, earlier: BootTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// The time left until `later`; zero if that is not in the future.
    pub fn until(self, later: BootTime) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for BootTime {
    type Output = BootTime;

    fn add(self, elapsed: Duration) -> BootTime {
        Self(self.0.saturating_add(elapsed))
    }
}

impl Sub<Duration> for BootTime {
    type Output = BootTime;

    /// Never before the start of the machine.
    fn sub(self, elapsed: Duration) -> BootTime {
        Self(self.0.saturating_sub(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::BootTime;

    #[test]
    fn it_does_not_go_back() {
        let first = BootTime::now();
        assert!(BootTime::now() >= first);
    }
}
