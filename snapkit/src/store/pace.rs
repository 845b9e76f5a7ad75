//! How long a store may take, and how often a call is repeated.
//!
//! A transfer is given up when it moves nothing for `grace`, or has moved fewer bytes than `bytes_per_second` times the
//! time beyond `grace`; so a store that drips cannot hold a run for ever, and a big object on a slow line still
//! arrives. How far an upload came cannot be seen, so it gets its time at once. Calls that a repetition
//! can heal are repeated with growing pauses until `retries` or `patience` is used up. And every download has an end
//! that no repetition moves ([`Pace::end_of`]): the rate alone would let a store that says how long a document may be
//! hold a reader for most of an hour with each. Layer: part of `store`.

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
    /// How long reading a document may take, with all repetitions: a whole object that may have at most
    /// [`DOCUMENT_BYTES`].
    pub document: Duration,
}

/// The longest object that counts as a document, in bytes: a record with its signatures.
pub const DOCUMENT_BYTES: u64 = 1 << 20;
/// No length that somebody states makes a wait longer than this length does.
const LONGEST_BYTES: u64 = 1 << 44;

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
            document: Duration::from_secs(120),
        }
    }
}

/// The longest pause between two repetitions.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long one listing may take, and anything else that moves no object.
pub(super) const LISTING: Duration = Duration::from_secs(3600);

impl Pace {
    /// When a download of a `whole` object of at most `cap_bytes`, or of a part of this length, has to have ended.
    pub(super) fn end_of(&self, cap_bytes: u64, whole: bool) -> Instant {
        let slowest = self.patience + self.grace + time_for(cap_bytes, self.bytes_per_second);
        Instant::now() + if whole && cap_bytes <= DOCUMENT_BYTES { self.document.min(slowest) } else { slowest }
    }

    /// Calls `attempt` until it succeeds, fails for good, or repetitions are used up.
    pub(super) fn repeat<T>(&self, mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.repeat_until(Instant::now() + LISTING, |_| attempt())
    }

    /// As [`Pace::repeat`], until `end` at the latest, which each attempt is told.
    pub(super) fn repeat_until<T>(
        &self,
        end: Instant,
        mut attempt: impl FnMut(Instant) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut repetitions = Repetitions::new(self, end);
        loop {
            match attempt(end) {
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
    end: Instant,
    done: u32,
}

impl<'a> Repetitions<'a> {
    pub(super) fn new(pace: &'a Pace, end: Instant) -> Self {
        Self { pace, started: Instant::now(), end, done: 0 }
    }

    /// Pauses before the next repetition; false when there is none left.
    pub(super) fn wait(&mut self) -> bool {
        let is_over = self.started.elapsed() >= self.pace.patience || Instant::now() >= self.end;
        if self.done >= self.pace.retries || is_over {
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
    end: Option<Instant>,
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
        Self { pace, started: Instant::now(), end: None, moved_bytes: 0 }
    }

    /// As [`Meter::start`], for a transfer that has to have ended at `end`.
    pub(super) fn start_until(pace: &'a Pace, end: Instant) -> Self {
        Self { end: Some(end), ..Self::start(pace) }
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
        let deadline = self.end.map_or(deadline, |end| end.min(deadline));
        timeout_at(deadline.into(), step)
            .await
            .map_err(|_| TooSlow { moved_bytes: self.moved_bytes, seconds: self.started.elapsed().as_secs() })
    }
}

fn time_for(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes.min(LONGEST_BYTES) as f64 / bytes_per_second.max(1) as f64)
}
