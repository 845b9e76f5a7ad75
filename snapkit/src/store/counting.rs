//! A store that counts what is asked of another one: for `--json` statistics and for tests of request budgets.
//!
//! Counted are calls as the caller made them; repetitions after a failure are not seen. A listing counts one request
//! per thousand objects begun, the page size of the big clouds. Layer: a wrapper around any store.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use super::{Abilities, Created, Store, StoreError};

/// Objects per page of a listing.
const PAGE: u64 = 1000;

/// Requests of one operation, and the bytes of objects they moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Requests made, whether they succeeded or not.
    pub requests: u64,
    /// Bytes received, or offered for writing.
    pub bytes: u64,
}

/// Requests by operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Whole objects read.
    pub get: Count,
    /// Parts of objects read.
    pub get_range: Count,
    /// Lengths asked.
    pub size: Count,
    /// Objects written.
    pub put: Count,
    /// Objects created.
    pub create: Count,
    /// Objects deleted.
    pub delete: Count,
    /// Pages listed.
    pub list: Count,
}

impl Counts {
    fn all(&self) -> [Count; 7] {
        [self.get, self.get_range, self.size, self.put, self.create, self.delete, self.list]
    }

    /// Requests of all operations.
    pub fn requests(&self) -> u64 {
        self.all().iter().map(|count| count.requests).sum()
    }

    /// Bytes received.
    pub fn received_bytes(&self) -> u64 {
        self.get.bytes + self.get_range.bytes
    }

    /// Bytes offered for writing.
    pub fn sent_bytes(&self) -> u64 {
        self.put.bytes + self.create.bytes
    }
}

/// See the module.
pub struct CountingStore<S> {
    inner: S,
    counts: Mutex<Counts>,
}

impl<S: Store> CountingStore<S> {
    /// Counts from zero what is asked of `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner, counts: Mutex::default() }
    }

    /// The store that is counted.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, choose: impl FnOnce(&mut Counts) -> &mut Count, requests: u64, bytes: u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = choose(&mut counts);
        count.requests += requests;
        count.bytes += bytes;
    }
}

fn length(read: &Result<Bytes, StoreError>) -> u64 {
    read.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

impl<S: Store> Store for CountingStore<S> {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        let read = self.inner.get(key, cap_bytes);
        self.count(|counts| &mut counts.get, 1, length(&read));
        read
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        let asked = u64::from(!range.is_empty());
        let read = self.inner.get_range(key, range);
        self.count(|counts| &mut counts.get_range, asked, length(&read));
        read
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.count(|counts| &mut counts.size, 1, 0);
        self.inner.size(key)
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.count(|counts| &mut counts.put, 1, bytes.len() as u64);
        self.inner.put(key, bytes)
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.count(|counts| &mut counts.create, 1, bytes.len() as u64);
        self.inner.create(key, bytes)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.count(|counts| &mut counts.delete, 1, 0);
        self.inner.delete(key)
    }

    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        let mut visited: u64 = 0;
        let listed = self.inner.list(prefix, after, &mut |key, bytes| {
            visited += 1;
            visit(key, bytes);
        });
        self.count(|counts| &mut counts.list, visited.div_ceil(PAGE).max(1), 0);
        listed
    }

    fn copies(&self) -> usize {
        self.inner.copies()
    }

    fn blame(&self, key: &str, why: &str) -> bool {
        self.inner.blame(key, why)
    }

    fn another(&self, key: &str, cap_bytes: u64, accept: &mut dyn FnMut(&Bytes) -> bool) -> Option<Bytes> {
        self.inner.another(key, cap_bytes, accept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{OpenOptions, open};

    #[test]
    fn requests_and_bytes_are_counted_by_operation() {
        let store = CountingStore::new(open("memory://counting", &OpenOptions::default()).unwrap());
        store.put("a", Bytes::from_static(b"12345")).unwrap();
        let _ = store.create("a", Bytes::from_static(b"1")).unwrap();
        store.get("a", 9).unwrap();
        store.get_range("a", 1..3).unwrap();
        store.get_range("a", 3..3).unwrap();
        assert!(store.get("missing", 9).is_err());
        store.list("", None, &mut |_, _| {}).unwrap();
        let counts = store.counts();
        assert_eq!(counts.get, Count { requests: 2, bytes: 5 });
        assert_eq!(counts.get_range, Count { requests: 1, bytes: 2 });
        assert_eq!((counts.requests(), counts.sent_bytes(), counts.received_bytes()), (6, 6, 7));
    }
}
