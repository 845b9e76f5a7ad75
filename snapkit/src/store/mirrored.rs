//! Several copies of one store, read as one: every object comes from a copy that has it right.
//!
//! A store moves opaque bytes, so only its caller can tell that bytes are wrong. Two calls say so: [`Store::blame`] for
//! what is named by its hash, [`Store::another`] for what only a signature can judge. A copy that fails rests for a
//! while, one that was blamed often is asked last. Nothing is believed because two copies agree: what is verified is the
//! same as with one. Reading only. Documented in `docs/mirrors.md`. Layer: part of `store`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Abilities, Ability, Created, OpenError, OpenOptions, Pace, Store, StoreError, known_address, open};

/// The most copies of one store.
pub const COPIES_CAP: usize = 16;
/// How long a copy that failed is asked last, at least; and as a multiple of the time the failure took.
const REST: Duration = Duration::from_secs(60);
const REST_FACTOR: u32 = 10;
/// After so many wrong objects a copy is asked last for every object.
const PATIENCE_OBJECTS: u32 = 64;
/// Reads that are remembered with the copy that answered, to know whom to blame.
const REMEMBERED: usize = 1024;
/// Notices of one kind about one copy.
const NOTICES: u32 = 10;

/// What was wrong with a copy, while another one served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It gave bytes that are not what was signed.
    Wrong,
    /// It lacks an object that another copy has.
    Missing,
    /// It could not be asked, or was too slow.
    Unavailable,
}

/// Something to tell about a copy. The operation went on with another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The copy's address.
    pub store: String,
    /// The object; empty when it is about the copy as a whole.
    pub key: String,
    /// What was wrong.
    pub fault: Fault,
    /// More about it.
    pub why: String,
    /// Whether this is the last notice of its kind about this copy.
    pub last: bool,
}

/// Told of every [`Notice`], from any thread.
pub type Listener = Arc<dyn Fn(&Notice) + Send + Sync>;

impl Fault {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Missing => "missing",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, key, why, .. } = self;
        match self.fault {
            Fault::Wrong => write!(f, "{store} gave wrong bytes for {key} ({why}); took another copy")?,
            Fault::Missing => write!(f, "{store} does not have {key}; took another copy")?,
            Fault::Unavailable => write!(f, "{store} cannot be used ({why}); asking other copies")?,
        }
        if self.last { write!(f, "; more of this kind is not told") } else { Ok(()) }
    }
}

/// Opens a store and its mirrors as one. A copy that cannot be opened now is left out and told of.
///
/// # Errors
/// [`OpenError`] for an address that is none, for missing credentials, or when no copy can be opened.
pub fn open_mirrored(
    address: &str,
    options: &OpenOptions,
    mirrors: &[(String, OpenOptions)],
    listener: Listener,
) -> Result<Arc<dyn Store>, OpenError> {
    if mirrors.is_empty() {
        return open(address, options);
    }
    if mirrors.len() >= COPIES_CAP {
        let why = format!("a store has at most {} mirrors", COPIES_CAP - 1);
        return Err(OpenError::Address { url: known_address(address), why });
    }
    let mut copies = Vec::new();
    let mut first_error = None;
    let all = std::iter::once((address, options)).chain(mirrors.iter().map(|(mirror, options)| (&**mirror, options)));
    for (address, options) in all {
        // Another copy is asked before any is asked again.
        let pace = Pace { retries: 0, ..options.pace.clone() };
        match open(address, &OpenOptions { pace, ..options.clone() }) {
            Ok(store) => copies.push(store),
            Err(error @ (OpenError::NoDirectory { .. } | OpenError::Other { .. })) => {
                let (store, why) = (known_address(address), error.to_string());
                listener(&Notice { store, key: String::new(), fault: Fault::Unavailable, why, last: false });
                first_error.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    match first_error {
        Some(error) if copies.is_empty() => Err(error),
        _ => Ok(Arc::new(Mirrored::new(known_address(address), copies, options.pace.clone(), listener))),
    }
}

/// See the module.
pub struct Mirrored {
    url: String,
    copies: Vec<Arc<dyn Store>>,
    pace: Pace,
    listener: Listener,
    state: Mutex<State>,
}

/// What is known of the copies, each by its index.
#[derive(Default)]
struct State {
    rests_until: HashMap<usize, Instant>,
    /// For each object, the copies that gave it wrong.
    wrong: HashMap<String, Vec<usize>>,
    blamed: HashMap<usize, u32>,
    answered: VecDeque<Answer>,
    told: HashMap<(usize, Fault), u32>,
}

/// A read that a copy answered.
struct Answer {
    key: String,
    thread: ThreadId,
    copy: usize,
    /// The copy was known to have the object wrong, and was asked because no other had it.
    last_resort: bool,
}

impl State {
    fn rests(&self, copy: usize) -> bool {
        self.rests_until.get(&copy).is_some_and(|until| Instant::now() < *until)
    }

    fn is_distrusted(&self, copy: usize) -> bool {
        self.blamed.get(&copy).is_some_and(|times| *times >= PATIENCE_OBJECTS)
    }

    fn is_wrong(&self, key: &str, copy: usize) -> bool {
        self.wrong.get(key).is_some_and(|copies| copies.contains(&copy))
    }

    /// Notes that a copy gave an object wrong; false when that was known.
    fn mark_wrong(&mut self, key: &str, copy: usize) -> bool {
        let known = self.is_wrong(key, copy);
        if !known {
            self.wrong.entry(key.to_owned()).or_default().push(copy);
            *self.blamed.entry(copy).or_default() += 1;
        }
        !known
    }

    /// The last answer for an object: to this thread, else to any.
    fn answer(&self, key: &str) -> Option<&Answer> {
        let here = thread::current().id();
        let answers = || self.answered.iter().rev().filter(|answer| answer.key == key);
        answers().find(|answer| answer.thread == here).or_else(|| answers().next())
    }
}

impl Mirrored {
    /// Copies of the store at `url`, the preferred one first.
    pub fn new(url: String, copies: Vec<Arc<dyn Store>>, pace: Pace, listener: Listener) -> Self {
        Self { url, copies, pace, listener, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copies in the order they are asked for an object.
    fn order(&self, key: &str) -> Vec<usize> {
        let state = self.state();
        let mut order: Vec<usize> = (0..self.copies.len()).collect();
        order.sort_by_key(|&copy| (state.is_wrong(key, copy), state.is_distrusted(copy), state.rests(copy)));
        order
    }

    fn tell(&self, copy: usize, key: &str, fault: Fault, why: &str) {
        let times = {
            let mut state = self.state();
            let times = state.told.entry((copy, fault)).or_default();
            *times += 1;
            *times
        };
        if times <= NOTICES {
            let (store, key, why) = (self.copies[copy].url().to_owned(), key.to_owned(), why.to_owned());
            (self.listener)(&Notice { store, key, fault, why, last: times == NOTICES });
        }
    }

    fn rest(&self, copy: usize, took: Duration) {
        let until = Instant::now() + REST.max(took.saturating_mul(REST_FACTOR));
        self.state().rests_until.insert(copy, until);
    }

    /// Asks each copy once, until one answers.
    fn ask<T>(&self, key: &str, read: &impl Fn(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut wrong: Vec<(usize, StoreError)> = Vec::new();
        let mut missing: Vec<(usize, StoreError)> = Vec::new();
        let mut failed = None;
        for copy in self.order(key) {
            // That an object is not there is an answer: nobody waits for a copy that failed a moment ago to say so too.
            if !missing.is_empty() && self.state().rests(copy) {
                continue;
            }
            let started = Instant::now();
            match read(&*self.copies[copy]) {
                Ok(answer) => {
                    for (copy, error) in &wrong {
                        self.state().mark_wrong(key, *copy);
                        self.tell(*copy, key, Fault::Wrong, &told(error));
                    }
                    for (copy, _) in &missing {
                        self.tell(*copy, key, Fault::Missing, "");
                    }
                    let mut state = self.state();
                    let last_resort = state.is_wrong(key, copy);
                    let (key, thread) = (key.to_owned(), thread::current().id());
                    state.answered.push_back(Answer { key, thread, copy, last_resort });
                    if state.answered.len() > REMEMBERED {
                        state.answered.pop_front();
                    }
                    return Ok(answer);
                }
                Err(error @ StoreError::Missing { .. }) => missing.push((copy, error)),
                Err(error @ (StoreError::Short { .. } | StoreError::TooBig { .. })) => wrong.push((copy, error)),
                Err(error) => {
                    self.rest(copy, started.elapsed());
                    self.tell(copy, key, Fault::Unavailable, &told(&error));
                    failed.get_or_insert(error);
                }
            }
        }
        let first = |list: Vec<(usize, StoreError)>| list.into_iter().next().map(|(_, error)| error);
        let error = first(wrong).or_else(|| first(missing)).or(failed);
        Err(error.expect("there is at least one copy"))
    }

    fn read<T>(&self, key: &str, read: impl Fn(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        self.pace.repeat(|| self.ask(key, &read))
    }

    fn read_only<T>(&self, key: &str) -> Result<T, StoreError> {
        let what = "be written to through its mirrors".to_owned();
        Err(StoreError::Unsupported { key: key.to_owned(), store: self.url.clone(), what })
    }
}

/// An error with its causes, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

impl Store for Mirrored {
    fn url(&self) -> &str {
        &self.url
    }

    fn abilities(&self) -> Abilities {
        // A copy that cannot list may still have what no listing of another shows.
        let lists = self.copies.iter().all(|copy| copy.abilities().can_list != Ability::No);
        let can_list = if lists { Ability::Yes } else { Ability::No };
        Abilities { can_write: Ability::No, can_list, ranges: self.copies[0].abilities().ranges }
    }

    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        self.read(key, |copy| copy.get(key, cap_bytes))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.read(key, |copy| copy.get_range(key, range.clone()))
    }

    fn size(&self, key: &str) -> Result<u64, StoreError> {
        self.read(key, |copy| copy.size(key))
    }

    fn put(&self, key: &str, _bytes: Bytes) -> Result<(), StoreError> {
        self.read_only(key)
    }

    fn create(&self, key: &str, _bytes: Bytes) -> Result<Created, StoreError> {
        self.read_only(key)
    }

    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.read_only(key)
    }

    /// Visits what any copy lists, once each and in order; the keys are held in memory meanwhile.
    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        let mut found = BTreeMap::new();
        let (mut answered, mut failed) = (false, None);
        for copy in self.order("") {
            let skip = answered && (self.state().rests(copy) || self.state().is_distrusted(copy));
            if skip {
                continue;
            }
            let started = Instant::now();
            let listed = self.copies[copy].list(prefix, after, &mut |key, bytes| {
                found.entry(key.to_owned()).or_insert(bytes);
            });
            match listed {
                Ok(()) => answered = true,
                Err(error) => {
                    self.rest(copy, started.elapsed());
                    self.tell(copy, prefix, Fault::Unavailable, &told(&error));
                    failed.get_or_insert(error);
                }
            }
        }
        if let Some(error) = failed.filter(|_| !answered) {
            return Err(error);
        }
        found.iter().for_each(|(key, bytes)| visit(key, *bytes));
        Ok(())
    }

    fn copies(&self) -> usize {
        self.copies.len()
    }

    fn blame(&self, key: &str, why: &str) -> bool {
        let (copy, others) = {
            let mut state = self.state();
            let mut copies = 0..self.copies.len();
            let copy = match state.answer(key) {
                // Nobody else had it, or the others have it wrong as well.
                Some(answer) if answer.last_resort => return false,
                Some(answer) => Some(answer.copy),
                None => copies.clone().find(|copy| !state.is_wrong(key, *copy)),
            };
            let Some(copy) = copy else { return false };
            // Another thread may have blamed it meanwhile; this one has still to read again.
            let is_new = state.mark_wrong(key, copy);
            (is_new.then_some(copy), copies.any(|copy| !state.is_wrong(key, copy)))
        };
        if let Some(copy) = copy.filter(|_| others) {
            self.tell(copy, key, Fault::Wrong, why);
        }
        others
    }

    fn another(&self, key: &str, cap_bytes: u64, accept: &mut dyn FnMut(&Bytes) -> bool) -> Option<Bytes> {
        let giver = self.state().answer(key).map(|answer| answer.copy);
        let mut refused: Vec<usize> = giver.into_iter().collect();
        for copy in self.order(key).into_iter().filter(|copy| Some(*copy) != giver) {
            if self.state().rests(copy) {
                continue;
            }
            match self.copies[copy].get(key, cap_bytes) {
                Ok(bytes) if accept(&bytes) => {
                    for copy in refused {
                        self.state().mark_wrong(key, copy);
                        self.tell(copy, key, Fault::Wrong, "nobody entitled signed them");
                    }
                    return Some(bytes);
                }
                Ok(_) | Err(StoreError::Short { .. } | StoreError::TooBig { .. }) => refused.push(copy),
                Err(_) => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
