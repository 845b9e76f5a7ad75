//! Frames on their way from the store to the writers, within a budget of bytes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;

use super::RestoreError;
use crate::cancel::Cancel;
use crate::fetch::{FetchError, Fetcher, OpenPack};
use crate::pack::FrameDecoder;

/// Decoded bytes on their way at once.
const BUDGET_BYTES: u64 = 40 << 20;
/// How often a wait looks whether the run has ended.
const LOOK_EVERY: Duration = Duration::from_millis(100);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes that may be on their way.
struct Budget {
    left: Mutex<i64>,
    freed: Condvar,
}

/// What the threads of a run share.
pub(super) struct Shared {
    budget: Budget,
    failed: Mutex<Option<RestoreError>>,
    fetched_bytes: AtomicU64,
    cancel: Cancel,
}

impl Shared {
    pub(super) fn new(cancel: &Cancel) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget { left: Mutex::new(BUDGET_BYTES as i64), freed: Condvar::new() },
            failed: Mutex::new(None),
            fetched_bytes: AtomicU64::new(0),
            cancel: cancel.clone(),
        })
    }

    /// Ends the run for this reason, unless it has one.
    pub(super) fn fail(&self, error: RestoreError) {
        lock(&self.failed).get_or_insert(error);
    }

    /// Whether there is a reason to stop.
    pub(super) fn has_ended(&self) -> bool {
        self.cancel.is_requested() || lock(&self.failed).is_some()
    }

    /// How the run ended: the bytes fetched, or why it stopped.
    pub(super) fn outcome(&self) -> Result<u64, RestoreError> {
        if let Some(error) = lock(&self.failed).take() {
            return Err(error);
        }
        if self.cancel.is_requested() {
            return Err(RestoreError::Cancelled);
        }
        Ok(self.fetched_bytes.load(Ordering::Relaxed))
    }

    /// Whether a frame of this length must wait for others to be used up.
    pub(super) fn is_short_of(&self, raw_len: u64) -> bool {
        *lock(&self.budget.left) < raw_len as i64
    }

    /// A new frame, once the budget allows it.
    pub(super) fn new_frame(self: &Arc<Self>, raw_len: u64) -> Arc<Frame> {
        let mut left = lock(&self.budget.left);
        while *left < raw_len as i64 && *left < BUDGET_BYTES as i64 && !self.has_ended() {
            left = self.budget.freed.wait_timeout(left, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
        *left -= raw_len as i64;
        drop(left);
        Arc::new(Frame { data: Mutex::new(None), ready: Condvar::new(), raw_len, run: self.clone() })
    }
}

/// A frame that was asked for.
pub(super) struct Frame {
    data: Mutex<Option<Arc<Vec<u8>>>>,
    ready: Condvar,
    /// Length decoded, in bytes.
    pub(super) raw_len: u64,
    run: Arc<Shared>,
}

impl Frame {
    /// The decoded bytes, once they are there; `None` when the run has ended before.
    pub(super) fn wait(&self) -> Option<Arc<Vec<u8>>> {
        let mut data = lock(&self.data);
        loop {
            if let Some(data) = &*data {
                return Some(data.clone());
            }
            if self.run.has_ended() {
                return None;
            }
            data = self.ready.wait_timeout(data, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        *lock(&self.run.budget.left) += self.raw_len as i64;
        self.run.budget.freed.notify_all();
    }
}

/// A run of neighbouring frames to fetch with one request.
pub(super) struct Order {
    pub(super) pack: Arc<OpenPack>,
    /// Index of the first of them in the pack.
    pub(super) first: u32,
    pub(super) frames: Vec<Arc<Frame>>,
}

/// Fetches, verifies and decodes what is ordered until no more orders come.
pub(super) fn fetch(orders: &Receiver<Order>, fetcher: &Fetcher<'_>, run: &Shared) {
    let mut decoder = FrameDecoder::default();
    for order in orders {
        if run.has_ended() {
            continue;
        }
        if let Err(error) = fetch_run(&order, fetcher, run, &mut decoder) {
            run.fail(error.into());
        }
    }
}

fn fetch_run(order: &Order, fetcher: &Fetcher<'_>, run: &Shared, decoder: &mut FrameDecoder) -> Result<(), FetchError> {
    let end = order.first + order.frames.len() as u32;
    fetcher.stored(&order.pack, order.first..end, |stored| {
        run.fetched_bytes.fetch_add(stored.len() as u64, Ordering::Relaxed);
        let mut at = 0;
        for (i, frame) in order.frames.iter().enumerate() {
            let index = order.first + i as u32;
            let row = &order.pack.table.rows[index as usize];
            let bytes = &stored[at..at + row.stored_len as usize];
            at += row.stored_len as usize;
            // Those before a damaged one were good, and may be in use.
            if lock(&frame.data).is_some() {
                continue;
            }
            let mut raw = Vec::new();
            decoder.decode(&order.pack.info.id, index, row, bytes, &mut raw)?;
            *lock(&frame.data) = Some(Arc::new(raw));
            frame.ready.notify_all();
        }
        Ok(())
    })
}
