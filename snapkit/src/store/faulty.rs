//! A store for tests that breaks on purpose: it stops after the n-th operation, fails one, loses answers, or damages
//! what is read.
//!
//! Operations are numbered from 1 in the order in which they arrive, and recorded, so that a test can run once without
//! faults, look at the [`Operation`]s, and then break each of them in turn. Nothing outside tests uses this module.
//! Layer: a wrapper around any store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{Abilities, Created, Store, StoreError};

/// One call of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// `get`.
    Get,
    /// `get_range`.
    GetRange,
    /// `size`.
    Size,
    /// `put`.
    Put,
    /// `create`.
    Create,
    /// `delete`.
    Delete,
    /// `list`.
    List,
}

/// What was asked, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which call.
    pub call: Call,
    /// The object, or the prefix of a listing.
    pub key: String,
}

/// What happens to one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out and answers with an error that a repetition can heal.
    Fail,
    /// It is carried out, and the answer is lost: a `create` answers [`Created::Unknown`], others an error.
    LoseAnswer,
    /// It is carried out, and a `create` answers [`Created::Exists`] for its own object. Others: as `LoseAnswer`.
    DenyOwn,
    /// It is carried out, and no later operation is: the process was stopped right after it.
    LandAndStop,
}

/// How the bytes of an object are damaged when they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The bit with this number is flipped, counted from the object's start (modulo its length).
    FlipBit(u64),
    /// Only this many bytes are left.
    Truncate(u64),
    /// These bytes follow the object's own.
    Append(Vec<u8>),
    /// Another object's bytes are given.
    SwapWith(String),
    /// The object is missing.
    Delete,
}

#[derive(Default)]
struct State {
    operations: Vec<Operation>,
    faults: BTreeMap<u64, Fault>,
    stop_after: Option<u64>,
    damage: Vec<(String, Damage)>,
}

/// See the module.
pub struct FaultyStore<S> {
    inner: S,
    state: Mutex<State>,
}

impl<S: Store> FaultyStore<S> {
    /// Wraps `inner`; without further calls it only records.
    pub fn new(inner: S) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Carries out the first `operations` operations and fails all later ones without carrying them out.
    pub fn stop_after(self, operations: u64) -> Self {
        self.state().stop_after = Some(operations);
        self
    }

    /// Applies `fault` to operation `number`, counted from 1.
    pub fn fault_at(self, number: u64, fault: Fault) -> Self {
        self.state().faults.insert(number, fault);
        self
    }

    /// Damages what is read of every object whose key contains `key_part`.
    pub fn damage(self, key_part: &str, damage: Damage) -> Self {
        self.state().damage.push((key_part.to_owned(), damage));
        self
    }

    /// Everything asked so far.
    pub fn operations(&self) -> Vec<Operation> {
        self.state().operations.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an operation and says what is to happen to it.
    fn arrive(&self, call: Call, key: &str) -> Option<Fault> {
        let mut state = self.state();
        state.operations.push(Operation { call, key: key.to_owned() });
        let number = state.operations.len() as u64;
        if state.stop_after.is_some_and(|last| number > last) {
            return Some(Fault::Fail);
        }
        let fault = state.faults.get(&number).copied();
        if fault == Some(Fault::LandAndStop) {
            state.stop_after = Some(number);
        }
        fault
    }

    fn lost(&self, action: &'static str, key: &str) -> StoreError {
        StoreError::Other {
            action,
            key: key.to_owned(),
            store: self.inner.url().to_owned(),
            advice: "",
            retry: true,
            source: "a fault was injected".into(),
        }
    }

    /// Carries out `operation` as far as the fault allows.
    fn run<T>(
        &self,
        call: Call,
        action: &'static str,
        key: &str,
        operation: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.arrive(call, key) {
            None | Some(Fault::LandAndStop) => operation(),
            Some(Fault::Fail) => Err(self.lost(action, key)),
            Some(Fault::LoseAnswer | Fault::DenyOwn) => operation().and_then(|_| Err(self.lost(action, key))),
        }
    }

    fn damage_of(&self, key: &str) -> Option<Damage> {
        let state = self.state();
        state.damage.iter().find(|(part, _)| key.contains(part)).map(|(_, damage)| damage.clone())
    }

    /// The whole object after damage, or `None` when its key is not damaged.
    fn damaged(&self, key: &str) -> Option<Result<Bytes, StoreError>> {
        let damage = self.damage_of(key)?;
        let read = |key: &str| self.inner.get(key, u64::MAX);
        Some(match damage {
            Damage::Delete => Err(StoreError::Missing { key: key.to_owned(), store: self.inner.url().to_owned() }),
            Damage::SwapWith(other) => read(&other),
            Damage::Truncate(length) => read(key).map(|bytes| bytes.slice(..bytes.len().min(length as usize))),
            Damage::Append(more) => read(key).map(|bytes| [bytes.as_ref(), &more].concat().into()),
            Damage::FlipBit(bit) => read(key).map(|bytes| {
                let mut bytes = bytes.to_vec();
                if !bytes.is_empty() {
                    let bit = bit % (bytes.len() as u64 * 8);
                    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                }
                bytes.into()
            }),
        })
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn url(&self) -> &str {
        self.inner.url()
    }

    fn abilities(&self) -> Abilities {
        self.inner.abilities()
    }

    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        self.run(Call::Get, "read", key, || match self.damaged(key) {
            None => self.inner.get(key, cap_bytes),
            Some(damaged) => {
                let bytes = damaged?;
                if bytes.len() as u64 > cap_bytes {
                    let store = self.inner.url().to_owned();
                    return Err(StoreError::TooBig { key: key.to_owned(), store, cap_bytes });
                }
                Ok(bytes)
            }
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.run(Call::GetRange, "read", key, || match self.damaged(key) {
            None => self.inner.get_range(key, range),
            Some(damaged) => {
                let bytes = damaged?;
                if (bytes.len() as u64) < range.end {
                    let store = self.inner.url().to_owned();
                    return Err(StoreError::Short { key: key.to_owned(), store, wanted_end: range.end });
                }
                Ok(bytes.slice(range.start as usize..range.end as usize))
            }
        })
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.run(Call::Size, "read", key, || match self.damaged(key) {
            None => self.inner.size(key),
            Some(damaged) => damaged.map(|bytes| bytes.len() as u64),
        })
    }

    fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.run(Call::Put, "write", key, || self.inner.put(key, bytes))
    }

    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        match self.arrive(Call::Create, key) {
            None | Some(Fault::LandAndStop) => self.inner.create(key, bytes),
            Some(Fault::Fail) => Ok(Created::Unknown(self.lost("create", key))),
            Some(Fault::LoseAnswer) => {
                let _ = self.inner.create(key, bytes)?;
                Ok(Created::Unknown(self.lost("create", key)))
            }
            Some(Fault::DenyOwn) => {
                let _ = self.inner.create(key, bytes)?;
                Ok(Created::Exists)
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.run(Call::Delete, "delete", key, || self.inner.delete(key))
    }

    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        self.run(Call::List, "list", prefix, || {
            self.inner.list(prefix, after, &mut |key, bytes| match self.damage_of(key) {
                Some(Damage::Delete) => {}
                _ => visit(key, bytes),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{OpenOptions, open};

    fn memory(name: &str) -> impl Store {
        let store = open(&format!("memory://faulty-{name}"), &OpenOptions::default()).unwrap();
        store.put("a", Bytes::from_static(b"aaaa")).unwrap();
        store.put("b", Bytes::from_static(b"bb")).unwrap();
        store
    }

    #[test]
    fn nothing_is_carried_out_after_the_stop() {
        let store = FaultyStore::new(memory("stop")).stop_after(1);
        store.put("c", Bytes::new()).unwrap();
        assert!(store.put("d", Bytes::new()).unwrap_err().can_retry());
        assert!(matches!(store.create("e", Bytes::new()), Ok(Created::Unknown(_))));
        assert!(store.inner.get("d", 0).unwrap_err().is_missing());
        assert!(store.inner.get("e", 0).unwrap_err().is_missing());
        assert_eq!(store.operations().len(), 3);
        assert_eq!(store.operations()[2], Operation { call: Call::Create, key: "e".to_owned() });
    }

    #[test]
    fn a_lost_answer_hides_an_object_that_is_there() {
        let store = FaultyStore::new(memory("lost"))
            .fault_at(1, Fault::LoseAnswer)
            .fault_at(2, Fault::DenyOwn)
            .fault_at(3, Fault::LandAndStop);
        assert!(matches!(store.create("c", Bytes::new()), Ok(Created::Unknown(_))));
        assert!(matches!(store.create("d", Bytes::new()), Ok(Created::Exists)));
        assert!(matches!(store.create("e", Bytes::new()), Ok(Created::Yes)));
        assert!(store.put("f", Bytes::new()).is_err());
        for key in ["c", "d", "e"] {
            assert!(store.inner.get(key, 0).is_ok());
        }
    }

    #[test]
    fn reads_of_matching_keys_are_damaged() {
        let read = |damage| {
            let store = FaultyStore::new(memory("damage")).damage("a", damage);
            assert_eq!(store.get("b", 9).unwrap().as_ref(), b"bb");
            (store.get("a", 9), store.get_range("a", 1..3), store.size("a").ok())
        };
        let (whole, part, size) = read(Damage::FlipBit(8));
        assert_eq!((whole.unwrap().as_ref(), part.unwrap().as_ref(), size), (&b"a`aa"[..], &b"`a"[..], Some(4)));
        let (whole, part, size) = read(Damage::Truncate(2));
        assert_eq!((whole.unwrap().as_ref(), size), (&b"aa"[..], Some(2)));
        assert!(matches!(part, Err(StoreError::Short { .. })));
        assert_eq!(read(Damage::SwapWith("b".to_owned())).0.unwrap().as_ref(), b"bb");
        assert_eq!(read(Damage::Append(b"c".to_vec())).0.unwrap().as_ref(), b"aaaac");
        assert!(read(Damage::Delete).0.unwrap_err().is_missing());
    }
}
