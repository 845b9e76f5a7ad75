//! Whole objects of web servers without ranges, kept in unnamed temporary files.
//!
//! Each object is fetched once, by the first reader, while others wait for it. The total is bounded: the object not
//! used for the longest time goes first. Layer: part of `store`.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StoreError;

/// One object on local disk.
#[derive(Clone)]
pub(super) struct CachedObject {
    pub(super) file: Arc<File>,
    pub(super) len_bytes: u64,
}

#[derive(Default)]
struct Slot {
    object: Mutex<Option<CachedObject>>,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<String, (Arc<Slot>, u64)>,
    /// Counts uses, to know the oldest.
    clock: u64,
}

/// See the module.
pub(super) struct ObjectCache {
    slots: Mutex<Slots>,
    pub(super) room_bytes: u64,
}

impl ObjectCache {
    pub(super) fn new(room_bytes: u64) -> Self {
        Self { slots: Mutex::default(), room_bytes }
    }

    /// The object `key`, fetched by `fetch` unless it is here.
    pub(super) fn get(
        &self,
        key: &str,
        fetch: impl FnOnce() -> Result<CachedObject, StoreError>,
    ) -> Result<CachedObject, StoreError> {
        let slot = self.slot(key);
        let mut object = lock(&slot.object);
        if let Some(object) = &*object {
            return Ok(object.clone());
        }
        let fetched = object.insert(fetch()?).clone();
        drop(object);
        self.make_room(key);
        Ok(fetched)
    }

    fn slot(&self, key: &str) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        slots.clock += 1;
        let clock = slots.clock;
        let (slot, used) = slots.by_key.entry(key.to_owned()).or_default();
        *used = clock;
        Arc::clone(slot)
    }

    /// Drops the oldest objects until the rest fits; readers of a dropped one keep its file open.
    fn make_room(&self, newest: &str) {
        let mut slots = lock(&self.slots);
        // A slot that is locked is being fetched; its length is not known and it is not dropped.
        let mut held: Vec<(u64, String, u64)> = slots
            .by_key
            .iter()
            .filter_map(|(key, (slot, used))| {
                let len_bytes = slot.object.try_lock().ok()?.as_ref()?.len_bytes;
                Some((*used, key.clone(), len_bytes))
            })
            .collect();
        held.sort_unstable();
        let mut total: u64 = held.iter().map(|(_, _, len_bytes)| len_bytes).sum();
        for (_, key, len_bytes) in held {
            if total <= self.room_bytes {
                break;
            }
            if key != newest {
                slots.by_key.remove(&key);
                total -= len_bytes;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(len_bytes: u64) -> Result<CachedObject, StoreError> {
        Ok(CachedObject { file: Arc::new(tempfile::tempfile().unwrap()), len_bytes })
    }

    #[test]
    fn the_longest_unused_object_is_dropped_first() {
        let cache = ObjectCache::new(100);
        for key in ["a", "b"] {
            cache.get(key, || object(50)).unwrap();
        }
        cache.get("a", || panic!("a is here")).unwrap();
        cache.get("c", || object(50)).unwrap();
        cache.get("a", || panic!("a is still here")).unwrap();
        let mut fetched = false;
        cache
            .get("b", || {
                fetched = true;
                object(50)
            })
            .unwrap();
        assert!(fetched);
    }
}
