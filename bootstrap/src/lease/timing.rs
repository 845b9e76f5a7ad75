//! How long everything about a lease takes, from the one number in the pins: its ttl.
//!
//! A holder stops `drift` before its time is over and a candidate waits `drift` longer, so that clocks may run apart by a
//! tenth. Reasons: `docs/leadership.md`. Layer: pure.

use std::time::Duration;

/// The times of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How long a claim or a renewal holds.
    pub ttl: Duration,
    /// The least age at which an entry may be collected, on the clock of who collects.
    pub gc_min_age: Duration,
}

/// The least drift, and the least time to kill a service.
const LEAST: Duration = Duration::from_millis(500);
/// The most time that is kept to kill a service.
const KILL_MOST: Duration = Duration::from_secs(2);
/// How old entries must be to be collected.
pub const GC_MIN_AGE: Duration = Duration::from_secs(24 * 3600);

impl Timing {
    /// The times for a ttl.
    pub fn new(ttl: Duration) -> Timing {
        Timing { ttl, gc_min_age: GC_MIN_AGE }
    }

    /// What is allowed for clocks that run at different rates while a ttl passes.
    pub fn drift(ttl: Duration) -> Duration {
        (ttl / 10).max(LEAST)
    }

    /// How long before the end of its validity a service must be killed, so that it is dead then.
    pub fn kill_budget(&self) -> Duration {
        (self.ttl / 10).clamp(LEAST, KILL_MOST)
    }

    /// How long an entry is valid for its holder, from before it was sent.
    pub fn validity(&self) -> Duration {
        self.ttl - Timing::drift(self.ttl)
    }

    /// How long the service may live, from before the entry was sent.
    pub fn service(&self) -> Duration {
        self.validity() - self.kill_budget()
    }

    /// When the next renewal is due, from before the last one was sent.
    pub fn renew(&self) -> Duration {
        self.ttl / 3
    }

    /// When the service begins to be stopped in order because nothing was renewed.
    pub fn late(&self) -> Duration {
        self.ttl * 2 / 3
    }

    /// How long a candidate leaves an entry of this ttl alone, from when it first saw it.
    pub fn patience(&self, of_head: Option<Duration>) -> Duration {
        let ttl = of_head.map_or(self.ttl, |of_head| of_head.max(self.ttl));
        ttl + Timing::drift(ttl)
    }

    /// How often the next slot is looked at.
    pub fn poll(&self) -> Duration {
        self.ttl / 5
    }

    /// How long one request to the store may take. Several fit between a renewal and its deadline.
    pub fn request(&self) -> Duration {
        self.ttl / 6
    }

    /// The pause after a request that failed.
    pub fn pause(&self) -> Duration {
        self.ttl / 20
    }

    /// The longest time without a leader after one dies, if a candidate is fit and reaches the store, until the new one is
    /// allowed to start; what the service itself takes comes on top.
    pub fn worst_case(&self) -> Duration {
        // Patience begins when the last entry is seen: a poll with its jitter later, or one request that was lost. Then
        // the claim, perhaps read back and written again, and one look beyond.
        let spread = self.poll() * 5 / 4 + self.request() + self.pause();
        let claim = (self.request() + self.pause()) * 4;
        self.patience(Some(self.ttl)) + spread + claim
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_may_follow_waits_longer_than_whoever_holds_may_act() {
        for seconds in [5, 15, 60, 3600, 86400] {
            let timing = Timing::new(Duration::from_secs(seconds));
            let drift = Timing::drift(timing.ttl);
            // The slowest permitted clock of a holder against the fastest of a candidate.
            let rate = drift.as_secs_f64() / timing.ttl.as_secs_f64();
            let held = timing.validity().as_secs_f64() / (1.0 - rate);
            let waited = timing.patience(None).as_secs_f64() / (1.0 + rate);
            assert!(held <= waited + 1e-6, "{seconds}: {held} {waited}");
            assert!(timing.renew() + timing.request() * 2 <= timing.late(), "{seconds}");
            assert!(timing.late() < timing.service(), "{seconds}");
        }
    }

    #[test]
    fn a_candidate_honours_the_longer_of_two_ttls() {
        let timing = Timing::new(Duration::from_secs(10));
        assert_eq!(timing.patience(Some(Duration::from_secs(60))), Duration::from_secs(66));
        assert_eq!(timing.patience(Some(Duration::from_secs(5))), Duration::from_secs(11));
    }
}
