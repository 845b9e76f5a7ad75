//! How long a store may take, and how often a call is repeated.
//!
//! A transfer is given up when it moves nothing for `grace`, or has moved fewer bytes than `bytes_per_second` times the
//! time beyond `grace`; so a store that drips cannot hold a run for ever, and a big object on a slow line still
//! arrives. How far an upload came cannot be seen, so it gets its time at once. Calls that a repetition
//! can heal are repeated with growing pauses until `retries` or `patience` is used up. Layer: part of `store`.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;

use super::StoreError;

/// Time limits of one store.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long a transfer may take before its rate counts, and how long a request may stay unanswered.
    pub grace: Duration,
    /// The least rate of downloads after `grace`, averaged over the transfer.
    pub bytes_per_second: u64,
    /// The least rate of uploads after `grace`, averaged over the transfer.
    pub upload_bytes_per_second: u64,
    /// How long a connection may take to open.
    pub connect: Duration,
    /// How often a failed read, write, deletion or listing is repeated.
    pub retries: u32,
    /// The first pause before a repetition; it doubles up to 5 s.
    pub pause: Duration,
    /// After this time no repetition is begun.
    pub patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            bytes_per_second: 1 << 10,
            upload_bytes_per_second: 16 << 10,
            connect: Duration::from_secs(5),
            retries: 6,
            pause: Duration::from_millis(200),
            patience: Duration::from_secs(120),
        }
    }
}

/// The longest pause between two repetitions.
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Pace {
    /// Calls `attempt` until it succeeds, fails for good, or repetitions are used up.
    pub(super) fn repeat<T>(&self, mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut repetitions = Repetitions::new(self);
        loop {
            match attempt() {
                Err(error) if error.can_retry() && repetitions.wait() => {}
                done => return done,
            }
        }
    }
}

/// The repetitions one call has left.
pub(super) struct Repetitions<'a> {
    pace: &'a Pace,
    started: Instant,
    done: u32,
}

impl<'a> Repetitions<'a> {
    pub(super) fn new(pace: &'a Pace) -> Self {
        Self { pace, started: Instant::now(), done: 0 }
    }

    /// Pauses before the next repetition; false when there is none left.
    pub(super) fn wait(&mut self) -> bool {
        if self.done >= self.pace.retries || self.started.elapsed() >= self.pace.patience {
            return false;
        }
        let pause = self.pace.pause.saturating_mul(1 << self.done.min(10)).min(PAUSE_MAX);
        self.done += 1;
        // Half fixed, half random, so that many clients do not return in step.
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        std::thread::sleep(pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX)));
        true
    }
}

/// Watches the rate of one transfer.
pub(super) struct Meter<'a> {
    pace: &'a Pace,
    started: Instant,
    moved_bytes: u64,
}

/// The transfer fell below its least rate.
#[derive(Debug)]
pub(super) struct TooSlow {
    pub(super) moved_bytes: u64,
    pub(super) seconds: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn start(pace: &'a Pace) -> Self {
        Self { pace, started: Instant::now(), moved_bytes: 0 }
    }

    /// Records bytes that arrived, which extends the time allowed.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.moved_bytes += bytes;
    }

    /// Waits for the next piece of a download.
    pub(super) async fn wait<F: Future>(&self, step: F) -> Result<F::Output, TooSlow> {
        let by_rate = self.started + self.pace.grace + time_for(self.moved_bytes, self.pace.bytes_per_second);
        self.until(by_rate.min(Instant::now() + self.pace.grace), step).await
    }

    /// Waits for an upload of `bytes`.
    pub(super) async fn wait_to_send<F: Future>(&self, bytes: u64, step: F) -> Result<F::Output, TooSlow> {
        let by_rate = self.started + self.pace.grace + time_for(bytes, self.pace.upload_bytes_per_second);
        self.until(by_rate, step).await
    }

    async fn until<F: Future>(&self, deadline: Instant, step: F) -> Result<F::Output, TooSlow> {
        timeout_at(deadline.into(), step)
            .await
            .map_err(|_| TooSlow { moved_bytes: self.moved_bytes, seconds: self.started.elapsed().as_secs() })
    }
}

fn time_for(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second.max(1) as f64)
}
