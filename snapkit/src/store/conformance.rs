//! The contract of a store as named checks, for the tests of every back end and for [`super::probe`].
//!
//! Each check works under a prefix of its own and says what was wrong in one sentence. Layer: uses any store.

use std::collections::BTreeMap;
use std::sync::Barrier;

use bytes::Bytes;

use super::{Created, Store, StoreError};

/// One rule of the contract.
#[derive(Clone, Copy)]
pub struct Check {
    /// The rule.
    pub name: &'static str,
    /// Tries it under a prefix that ends with `/` and holds nothing.
    pub run: fn(&dyn Store, &str) -> Result<(), String>,
}

/// Every rule, cheap ones first.
pub const CHECKS: [Check; 13] = [
    Check { name: "what was written is read back", run: read_after_write },
    Check { name: "a write replaces", run: write_replaces },
    Check { name: "an empty object is an object", run: empty_object },
    Check { name: "ranges give exactly the bytes asked for", run: ranges },
    Check { name: "a longer object than allowed is refused", run: cap },
    Check { name: "a missing object is told as missing", run: missing },
    Check { name: "create refuses an existing key", run: create_once },
    Check { name: "what was written is listed", run: list_after_write },
    Check { name: "a listing starts after a given key", run: list_after_key },
    Check { name: "what was deleted is gone", run: delete },
    Check { name: "keys of 64 hex digits work", run: long_keys },
    Check { name: "a 12 MiB object comes back whole", run: large_object },
    Check { name: "of concurrent creates exactly one wins", run: create_race_briefly },
];

/// Runs every check below `prefix`, which must be empty or end with `/`, and returns the ones that failed.
///
/// What the checks wrote is deleted again, as far as the store allows.
pub fn run(store: &dyn Store, prefix: &str) -> Vec<(&'static str, String)> {
    let mut failed = Vec::new();
    for (number, check) in CHECKS.iter().enumerate() {
        if let Err(why) = (check.run)(store, &format!("{prefix}check-{number}/")) {
            failed.push((check.name, why));
        }
    }
    let mut left = Vec::new();
    let listed = store.list(&format!("{prefix}check-"), None, &mut |key, _| left.push(key.to_owned()));
    if let Err(error) = listed {
        failed.push(("what the checks wrote is listed", tell(error)));
    }
    for key in left {
        if let Err(error) = store.delete(&key) {
            failed.push(("what the checks wrote is deleted", tell(error)));
        }
    }
    failed
}

/// An error with its causes, in one line.
pub(super) fn tell(error: StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn expect(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// Bytes that differ at every offset a mistake could confuse.
fn sample(length: usize) -> Bytes {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn listed(store: &dyn Store, prefix: &str, after: Option<&str>) -> Result<BTreeMap<String, u64>, String> {
    let mut found = BTreeMap::new();
    let mut twice = false;
    store
        .list(prefix, after, &mut |key, bytes| twice |= found.insert(key.to_owned(), bytes).is_some())
        .map_err(tell)?;
    expect(!twice, "a key was listed twice")?;
    Ok(found)
}

pub(super) fn read_after_write(store: &dyn Store, prefix: &str) -> Result<(), String> {
    for number in 0..8 {
        let key = format!("{prefix}object-{number}");
        let bytes = sample(1000 + number);
        store.put(&key, bytes.clone()).map_err(tell)?;
        expect(store.get(&key, 2000).map_err(tell)? == bytes, "other bytes came back")?;
        expect(store.size(&key).map_err(tell)? == bytes.len() as u64, "the length is wrong")?;
    }
    Ok(())
}

fn write_replaces(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}object");
    for length in [3000, 10, 2000] {
        store.put(&key, sample(length)).map_err(tell)?;
        expect(store.get(&key, 3000).map_err(tell)? == sample(length), "the old bytes came back")?;
    }
    Ok(())
}

fn empty_object(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}empty");
    store.put(&key, Bytes::new()).map_err(tell)?;
    expect(store.get(&key, 0).map_err(tell)?.is_empty(), "bytes came from an empty object")?;
    expect(store.size(&key).map_err(tell)? == 0, "its length is not 0")?;
    expect(listed(store, prefix, None)?.get(&key) == Some(&0), "it is not listed with length 0")
}

pub(super) fn ranges(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}object");
    let bytes = sample(70_000);
    store.put(&key, bytes.clone()).map_err(tell)?;
    for range in [0..1, 0..70_000, 1..65_537, 69_999..70_000, 40_000..40_000] {
        let got = store.get_range(&key, range.start as u64..range.end as u64).map_err(tell)?;
        expect(got == bytes.slice(range.clone()), &format!("wrong bytes for {range:?}"))?;
    }
    for range in [69_999..70_001, 70_000..70_001, 80_000..80_010] {
        let answer = store.get_range(&key, range.clone());
        expect(
            matches!(answer, Err(StoreError::Short { .. })),
            &format!("{range:?} lies beyond the end of 70000 bytes and was answered with {answer:?}"),
        )?;
    }
    Ok(())
}

fn cap(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}object");
    store.put(&key, sample(100)).map_err(tell)?;
    expect(store.get(&key, 100).is_ok(), "an object of just the allowed length is refused")?;
    expect(matches!(store.get(&key, 99), Err(StoreError::TooBig { .. })), "100 bytes were given where 99 are allowed")
}

pub(super) fn missing(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}nothing");
    expect(matches!(store.get(&key, 9), Err(StoreError::Missing { .. })), "get found something")?;
    expect(matches!(store.get_range(&key, 0..1), Err(StoreError::Missing { .. })), "a range found something")?;
    expect(matches!(store.size(&key), Err(StoreError::Missing { .. })), "size found something")?;
    expect(listed(store, prefix, None)?.is_empty(), "the listing found something")
}

pub(super) fn create_once(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}object");
    let first = store.create(&key, sample(100)).map_err(tell)?;
    expect(matches!(first, Created::Yes), &format!("a new key was answered with {first:?}"))?;
    for bytes in [sample(90), sample(100)] {
        let second = store.create(&key, bytes).map_err(tell)?;
        expect(matches!(second, Created::Exists), &format!("an existing key was answered with {second:?}"))?;
    }
    expect(store.get(&key, 100).map_err(tell)? == sample(100), "the first object was replaced")
}

pub(super) fn list_after_write(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let mut expected = BTreeMap::new();
    for (number, name) in ["a/1", "a/2", "a/b/c", "ab", "b/00", "b/01"].into_iter().enumerate() {
        let key = format!("{prefix}{name}");
        store.put(&key, sample(number)).map_err(tell)?;
        expected.insert(key, number as u64);
        expect(listed(store, prefix, None)? == expected, "the listing differs from what was written")?;
    }
    for part in ["a/", "a", "b/0", "c", "a/b/"] {
        let part = format!("{prefix}{part}");
        let matching = expected.iter().filter(|(key, _)| key.starts_with(&part));
        let matching: BTreeMap<_, _> = matching.map(|(key, bytes)| (key.clone(), *bytes)).collect();
        expect(listed(store, &part, None)? == matching, &format!("the listing of {part} is wrong"))?;
    }
    Ok(())
}

pub(super) fn list_after_key(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let keys: Vec<String> = (0..12).map(|number| format!("{prefix}{number:020}.json")).collect();
    for key in &keys {
        store.put(key, sample(1)).map_err(tell)?;
    }
    // A start need not exist, and may lie between two keys.
    let between = format!("{prefix}{:020}.json0", 6);
    for (start, first) in [(&keys[0], 1), (&keys[4], 5), (&between, 7), (&keys[11], 12)] {
        let found: Vec<String> = listed(store, prefix, Some(start))?.into_keys().collect();
        expect(found == keys[first..], &format!("the listing after {start} is wrong"))?;
    }
    Ok(())
}

pub(super) fn delete(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}object");
    store.put(&key, sample(10)).map_err(tell)?;
    store.delete(&key).map_err(tell)?;
    expect(matches!(store.get(&key, 10), Err(StoreError::Missing { .. })), "it can still be read")?;
    expect(listed(store, prefix, None)?.is_empty(), "it is still listed")?;
    store.delete(&key).map_err(|error| format!("deleting it again failed: {}", tell(error)))?;
    let again = store.create(&key, sample(10)).map_err(tell)?;
    expect(matches!(again, Created::Yes), "it cannot be created again")
}

fn long_keys(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let keys = [0_u8, 0x5a, 0xff].map(|byte| format!("{prefix}packs/{byte:02x}/{}", format!("{byte:02x}").repeat(32)));
    for key in &keys {
        store.put(key, sample(64)).map_err(tell)?;
        expect(store.get_range(key, 60..64).map_err(tell)? == sample(64).slice(60..), "wrong bytes came back")?;
    }
    let found: Vec<String> = listed(store, prefix, None)?.into_keys().collect();
    expect(found == keys, "the listing differs from what was written")
}

fn large_object(store: &dyn Store, prefix: &str) -> Result<(), String> {
    let key = format!("{prefix}object");
    let bytes = sample(12 << 20);
    store.put(&key, bytes.clone()).map_err(tell)?;
    expect(store.get(&key, bytes.len() as u64).map_err(tell)? == bytes, "other bytes came back")?;
    let middle = 5 << 20..6 << 20;
    let got = store.get_range(&key, middle.start as u64..middle.end as u64).map_err(tell)?;
    expect(got == bytes.slice(middle), "a part of it is wrong")
}

fn create_race_briefly(store: &dyn Store, prefix: &str) -> Result<(), String> {
    (0..4).try_for_each(|round| create_race(store, &format!("{prefix}round-{round}"), 16))
}

/// Lets `writers` threads create `key` at the same moment, each with bytes of its own.
///
/// Exactly one may win, and its bytes must be what is stored. A writer without a clear answer may have won if nobody
/// else did.
pub(super) fn create_race(store: &dyn Store, key: &str, writers: usize) -> Result<(), String> {
    // Large enough that writing takes time, and of different lengths so that a mixture is seen.
    let body = |writer: usize| -> Bytes {
        let line = format!("writer {writer} of {key}\n");
        line.repeat(200 + writer).into()
    };
    let start = Barrier::new(writers);
    let answers: Vec<Result<Created, StoreError>> = std::thread::scope(|scope| {
        let start = &start;
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                scope.spawn(move || {
                    let bytes = body(writer);
                    start.wait();
                    store.create(key, bytes)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("create does not panic")).collect()
    });
    let mut winners = Vec::new();
    let mut doubtful = Vec::new();
    for (writer, answer) in answers.into_iter().enumerate() {
        match answer.map_err(tell)? {
            Created::Yes => winners.push(writer),
            Created::Exists => {}
            Created::Unknown(_) => doubtful.push(writer),
        }
    }
    if winners.len() > 1 {
        return Err(format!("{} of {writers} writers were told that they created the same key", winners.len()));
    }
    let possible = if winners.is_empty() { &doubtful } else { &winners };
    expect(!possible.is_empty(), "no writer won")?;
    let stored = store.get(key, 1 << 20).map_err(tell)?;
    expect(possible.iter().any(|writer| body(*writer) == stored), "the stored bytes are not the winner's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::faulty::{Damage, Fault, FaultyStore};
    use crate::store::{OpenOptions, open};

    fn memory(name: &str) -> impl Store {
        open(&format!("memory://conformance-{name}"), &OpenOptions::default()).unwrap()
    }

    #[test]
    fn memory_keeps_the_contract() {
        assert_eq!(run(&memory("good"), ""), []);
        assert_eq!(run(&memory("good"), "below/this/"), []);
        assert!(listed(&memory("good"), "", None).unwrap().is_empty());
    }

    #[test]
    fn damaged_reads_and_lost_answers_break_it() {
        let flipping = FaultyStore::new(memory("flip")).damage("check-0", Damage::FlipBit(3));
        assert!(read_after_write(&flipping, "check-0/").is_err());
        let losing = FaultyStore::new(memory("lose")).fault_at(1, Fault::DenyOwn);
        assert!(create_once(&losing, "").is_err());
    }
}
