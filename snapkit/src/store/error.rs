//! What can go wrong with a store, told so that a caller can act on it.
//!
//! Each variant exists because some caller does something different with it. Messages name the object and the store;
//! the cause is left to the chain of sources. Layer: part of `store`.

use std::error::Error;

/// The cause below a [`StoreError`].
pub type Source = Box<dyn Error + Send + Sync + 'static>;

/// Why a store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object. Asking again does not help.
    #[error("{key} is not in the store {store}")]
    Missing {
        /// The object.
        key: String,
        /// The store's address.
        store: String,
    },
    /// The object is longer than the caller allows; it was not read to its end. Asking again does not help.
    #[error("{key} in the store {store} is longer than the {cap_bytes} bytes it may have")]
    TooBig {
        /// The object.
        key: String,
        /// The store's address.
        store: String,
        /// The most bytes the caller would have taken.
        cap_bytes: u64,
    },
    /// The object ends before the bytes asked for: it is damaged. Asking again does not help.
    #[error("{key} in the store {store} is too short: it should reach to byte {wanted_end} and ends before")]
    Short {
        /// The object.
        key: String,
        /// The store's address.
        store: String,
        /// The end of the bytes asked for, counted from the start of the object.
        wanted_end: u64,
    },
    /// The store refuses access. Asking again does not help before permissions or credentials change.
    #[error("the store {store} refuses access to {key}; check the credentials and their permissions")]
    Denied {
        /// The object.
        key: String,
        /// The store's address.
        store: String,
        /// What the store said.
        source: Source,
    },
    /// The store cannot do this at all. Asking again does not help.
    #[error("the store {store} cannot {what} ({key})")]
    Unsupported {
        /// The object, or the prefix of a listing.
        key: String,
        /// The store's address.
        store: String,
        /// What was asked for, as the end of the sentence "the store cannot".
        what: String,
    },
    /// The store answers, but too slowly or not to the end. Asking again can help.
    #[error(
        "the store {store} is too slow: {moved_bytes} bytes of {key} in {seconds} s; check the connection, then retry"
    )]
    Slow {
        /// The object, or the prefix of a listing.
        key: String,
        /// The store's address.
        store: String,
        /// Bytes received before giving up.
        moved_bytes: u64,
        /// Seconds waited.
        seconds: u64,
    },
    /// Anything else; `retry` says whether asking again can help.
    #[error("cannot {action} {key} in the store {store}{advice}")]
    Other {
        /// What was tried: read, write, create, delete, list.
        action: &'static str,
        /// The object, or the prefix of a listing.
        key: String,
        /// The store's address.
        store: String,
        /// What to do, as the end of the sentence; may be empty.
        advice: &'static str,
        /// Whether asking again can help.
        retry: bool,
        /// What the store, the network or the operating system said.
        source: Source,
    },
}

impl StoreError {
    /// Whether the same call can succeed when it is simply made again.
    pub fn can_retry(&self) -> bool {
        match self {
            Self::Slow { .. } => true,
            Self::Other { retry, .. } => *retry,
            _ => false,
        }
    }

    /// Whether the object is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }

    /// The object, or the prefix of a listing, that this is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Missing { key, .. }
            | Self::TooBig { key, .. }
            | Self::Short { key, .. }
            | Self::Denied { key, .. }
            | Self::Unsupported { key, .. }
            | Self::Slow { key, .. }
            | Self::Other { key, .. } => key,
        }
    }
}

/// What became of a `create`.
#[derive(Debug)]
#[must_use]
pub enum Created {
    /// This call wrote the object.
    Yes,
    /// The key existed; this call wrote nothing. After a lost answer of an earlier call the object may be one's own.
    Exists,
    /// No clear answer: the object may have been written, may be written yet, or not. Read it back.
    Unknown(StoreError),
}

/// Why a store cannot be opened. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address is not one of a store.
    #[error("{url} is not the address of a store: {why}")]
    Address {
        /// The address, without secrets.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The directory is missing.
    #[error("there is no directory {path}; create it, or check whether it is mounted")]
    NoDirectory {
        /// The directory.
        path: String,
    },
    /// Credentials are missing or incomplete.
    #[error("no credentials for {url}: {what_to_set}")]
    Credentials {
        /// The address, without secrets.
        url: String,
        /// What to set.
        what_to_set: String,
    },
    /// An option is unknown or does not fit the store.
    #[error("the option {name} does not fit the store {url}")]
    Setting {
        /// The option's name; never its value, which may be secret.
        name: String,
        /// The address, without secrets.
        url: String,
    },
    /// The directory or the client could not be prepared.
    #[error("cannot open the store {url}")]
    Other {
        /// The address, without secrets.
        url: String,
        /// The cause.
        source: Source,
    },
}
