//! Stores: named opaque bytes in a directory, a bucket or behind a web server.
//!
//! A store knows keys, lengths and bytes, and nothing about chunks or records. Calls block; the callers are plain
//! threads. Two promises carry the chain: a `put` that returned is durable, and of all concurrent `create`s of one key
//! at most one succeeds. [`probe`] proves whether a given store keeps them.
//! Layout and commit protocol: `docs/format/store.md`. Layer: below everything else, it knows no format.

pub mod conformance;
pub mod counting;
mod error;
pub mod faulty;
mod http;
mod http_cache;
pub mod mirrored;
mod object;
mod object_error;
mod open;
mod pace;
mod place;
pub mod probe;
pub mod rights;
pub(crate) mod runtime;
mod settings;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use error::{Created, OpenError, Source, StoreError};
pub use open::{OpenOptions, known_address, open};
pub use pace::{DOCUMENT_BYTES, Pace};

/// Whether a store can do something, as far as is known without trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ability {
    /// It can.
    Yes,
    /// It cannot; calls that need it answer [`StoreError::Unsupported`].
    No,
    /// Only trying tells.
    Unknown,
}

/// What a store can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `put`, `create` and `delete`. [`Ability::Unknown`] where permissions decide.
    pub can_write: Ability,
    /// `list`.
    pub can_list: Ability,
    /// Whether `get_range` moves only the bytes asked for. It gives the right bytes either way.
    pub ranges: Ability,
}

/// A place that keeps objects: named, immutable in use, opaque.
///
/// Keys are `/`-separated names of `A-Z a-z 0-9 . _ -`, without empty, `.` or `..` parts; others are refused with
/// [`StoreError::Unsupported`]. Reads repeat what a repetition can heal (see [`Pace`]); `create` never does. Must not
/// be called from an async task.
pub trait Store: Send + Sync {
    /// Where this is, for messages: without user names, passwords or keys.
    fn url(&self) -> &str;

    /// What is known of the store's abilities.
    fn abilities(&self) -> Abilities;

    /// Reads a whole object of at most `cap_bytes` bytes.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::TooBig`] for a longer object, found before it is read to its end.
    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError>;

    /// Reads exactly the bytes `range` of an object. An empty range asks the store nothing.
    ///
    /// # Errors
    /// [`StoreError::Missing`]; [`StoreError::Short`] when the object ends before `range.end`.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError>;

    /// The length of an object in bytes.
    ///
    /// # Errors
    /// [`StoreError::Missing`].
    fn size(&self, key: &str) -> Result<u64, StoreError>;

    /// Writes an object, replacing one of the same key. It is durable when this returns.
    ///
    /// # Errors
    /// Whatever the store says. The old object, if any, is whole; the new one may or may not be there.
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// Writes an object unless the key exists, in one request that is never repeated.
    ///
    /// # Errors
    /// Only when certainly nothing was written: no permission, no such bucket, not supported. Everything doubtful is
    /// [`Created::Unknown`], after which the caller reads the key back.
    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError>;

    /// Deletes an object. Deleting a missing one succeeds.
    ///
    /// # Errors
    /// Whatever the store says.
    fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Visits the key and the length of every object whose key starts with `prefix` and, if given, is greater than
    /// `after` in byte order. The order of visits is not specified. `visit` may call the store.
    ///
    /// # Errors
    /// [`StoreError::Unsupported`] without listing. Objects may have been visited before an error.
    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError>;

    /// How many copies of its objects can be asked.
    fn copies(&self) -> usize {
        1
    }

    /// Says that the bytes last given for `key` do not hash to what was signed; true if another copy will be asked next.
    ///
    /// A caller reads and verifies again for as long as this is true, which is at most once for each copy.
    fn blame(&self, key: &str, why: &str) -> bool {
        let _ = (key, why);
        false
    }

    /// After the bytes given for `key` turned out to be nothing that anybody entitled signed: those of another copy that
    /// `accept` takes, if there is one. Copies whose bytes were refused are blamed only then: where no copy is better,
    /// the object is simply like that.
    fn another(&self, key: &str, cap_bytes: u64, accept: &mut dyn FnMut(&Bytes) -> bool) -> Option<Bytes> {
        let _ = (key, cap_bytes, accept);
        None
    }
}

macro_rules! forward {
    ($($shared:ty),*) => {$(
        impl<S: Store + ?Sized> Store for $shared {
            fn url(&self) -> &str {
                (**self).url()
            }
            fn abilities(&self) -> Abilities {
                (**self).abilities()
            }
            fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
                (**self).get(key, cap_bytes)
            }
            fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
                (**self).get_range(key, range)
            }
            fn size(&self, key: &str) -> Result<u64, StoreError> {
                (**self).size(key)
            }
            fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
                (**self).put(key, bytes)
            }
            fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
                (**self).create(key, bytes)
            }
            fn delete(&self, key: &str) -> Result<(), StoreError> {
                (**self).delete(key)
            }
            fn list(
                &self,
                prefix: &str,
                after: Option<&str>,
                visit: &mut dyn FnMut(&str, u64),
            ) -> Result<(), StoreError> {
                (**self).list(prefix, after, visit)
            }
            fn copies(&self) -> usize {
                (**self).copies()
            }
            fn blame(&self, key: &str, why: &str) -> bool {
                (**self).blame(key, why)
            }
            fn another(&self, key: &str, cap_bytes: u64, accept: &mut dyn FnMut(&Bytes) -> bool) -> Option<Bytes> {
                (**self).another(key, cap_bytes, accept)
            }
        }
    )*};
}

forward!(&S, Arc<S>, Box<S>);

/// Refuses keys that could mean different objects in different stores.
fn check_key(store: &str, key: &str) -> Result<(), StoreError> {
    let part_is_plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    };
    if key.split('/').all(part_is_plain) {
        return Ok(());
    }
    Err(StoreError::Unsupported { key: key.to_owned(), store: store.to_owned(), what: "use this as a key".to_owned() })
}

#[cfg(test)]
mod tests {
    use super::check_key;

    #[test]
    fn keys_that_could_leave_the_store_are_refused() {
        for key in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a b", "a#1", "a%2f", "ä", "a\\b"] {
            assert!(check_key("memory://t", key).is_err(), "{key:?}");
        }
        for key in ["a", "chain/00000000000000000000.json", "tile/0/x001/234.p/5", "packs/ab/abcd", ".x"] {
            assert!(check_key("memory://t", key).is_ok(), "{key:?}");
        }
    }
}
