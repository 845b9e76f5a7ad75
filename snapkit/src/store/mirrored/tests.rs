use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::store::faulty::FaultyStore;

type Told = Arc<Mutex<Vec<Notice>>>;

fn memory() -> Arc<dyn Store> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    open(&format!("memory://mirrored{number}"), &OpenOptions::default()).unwrap()
}

fn mirrored(copies: &[Arc<dyn Store>]) -> (Mirrored, Told) {
    let told = Told::default();
    let listener = {
        let told = Arc::clone(&told);
        Arc::new(move |notice: &Notice| told.lock().unwrap().push(notice.clone()))
    };
    let pace = Pace { pause: Duration::from_millis(1), ..Pace::default() };
    (Mirrored::new("memory://first".to_owned(), copies.to_vec(), pace, listener), told)
}

fn faults(told: &Told) -> Vec<Fault> {
    told.lock().unwrap().iter().map(|notice| notice.fault).collect()
}

fn text(read: Result<Bytes, StoreError>) -> String {
    String::from_utf8(read.unwrap().to_vec()).unwrap()
}

/// A store that nothing can be read from.
fn dead() -> Arc<dyn Store> {
    Arc::new(FaultyStore::new(memory()).stop_after(0))
}

#[test]
fn an_object_comes_from_the_first_copy_that_has_it() {
    let (first, second) = (memory(), memory());
    first.put("both", "1".into()).unwrap();
    second.put("both", "2".into()).unwrap();
    second.put("second", "two".into()).unwrap();
    let (store, told) = mirrored(&[first, second]);
    assert_eq!(text(store.get("both", 9)), "1");
    assert_eq!(text(store.get_range("second", 1..3)), "wo");
    assert_eq!(store.size("second").unwrap(), 3);
    assert!(store.get("neither", 9).unwrap_err().is_missing());
    assert_eq!(faults(&told), [Fault::Missing; 2]);
}

#[test]
fn wrong_bytes_are_blamed_on_who_gave_them_and_another_copy_is_asked() {
    let (first, second) = (memory(), memory());
    first.put("a", "bad".into()).unwrap();
    second.put("a", "good".into()).unwrap();
    let (store, told) = mirrored(&[first.clone(), second]);
    assert_eq!(text(store.get("a", 9)), "bad");
    assert!(store.blame("a", "its hash is another"));
    assert_eq!(text(store.get("a", 9)), "good");
    let notice = told.lock().unwrap()[0].clone();
    assert_eq!((&*notice.store, &*notice.key, notice.fault), (first.url(), "a", Fault::Wrong));
    // When that one is bad as well, nobody is left.
    assert!(!store.blame("a", "its hash is another, too"));
    assert!(store.get("a", 9).is_ok());
    assert!(!store.blame("a", "again"));
}

#[test]
fn the_last_copy_that_is_left_is_not_asked_twice() {
    let (first, second) = (memory(), memory());
    first.put("a", "bad".into()).unwrap();
    let (store, _) = mirrored(&[first, second]);
    assert_eq!(text(store.get("a", 9)), "bad");
    assert!(store.blame("a", "hash"));
    // The other one does not have it, so the same bytes come again; blaming them again ends the matter.
    assert_eq!(text(store.get("a", 9)), "bad");
    assert!(!store.blame("a", "hash"));
}

#[test]
fn blame_meets_the_copy_that_this_thread_read_from() {
    let (first, second) = (memory(), memory());
    first.put("a", "good".into()).unwrap();
    second.put("a", "bad".into()).unwrap();
    let (store, told) = mirrored(&[first.clone(), second.clone()]);
    store.rest(0, Duration::ZERO);
    assert_eq!(text(store.get("a", 9)), "bad");
    thread::scope(|scope| {
        scope.spawn(|| {
            store.state().rests_until.clear();
            assert_eq!(text(store.get("a", 9)), "good");
        });
    });
    assert!(store.blame("a", "hash"));
    assert_eq!(told.lock().unwrap()[0].store, second.url());
    assert_eq!(text(store.get("a", 9)), "good");
}

#[test]
fn two_who_read_the_same_wrong_bytes_are_both_led_to_another_copy() {
    let (first, second) = (memory(), memory());
    first.put("a", "bad".into()).unwrap();
    second.put("a", "good".into()).unwrap();
    let (store, told) = mirrored(&[first, second]);
    assert_eq!(text(store.get("a", 9)), "bad");
    thread::scope(|scope| {
        let other = scope.spawn(|| {
            assert_eq!(text(store.get_range("a", 0..3)), "bad");
            thread::park();
            assert!(store.blame("a", "hash"));
            assert_eq!(text(store.get("a", 9)), "good");
        });
        while store.state().answered.len() < 2 {
            thread::yield_now();
        }
        assert!(store.blame("a", "hash"));
        other.thread().unpark();
    });
    assert_eq!(told.lock().unwrap().len(), 1);
}

#[test]
fn objects_that_are_too_long_or_too_short_come_from_another_copy() {
    let (first, second) = (memory(), memory());
    for key in ["long", "short"] {
        second.put(key, "12345".into()).unwrap();
    }
    first.put("long", "123456789".into()).unwrap();
    first.put("short", "123".into()).unwrap();
    let (store, told) = mirrored(&[first, second]);
    assert_eq!(text(store.get("long", 5)), "12345");
    assert_eq!(text(store.get_range("short", 2..5)), "345");
    assert_eq!(faults(&told), [Fault::Wrong; 2]);
}

#[test]
fn a_dead_copy_rests_and_is_told_of_once() {
    let second = memory();
    for key in ["a", "b", "chain/1"] {
        second.put(key, "x".into()).unwrap();
    }
    let (store, told) = mirrored(&[dead(), second]);
    assert_eq!(text(store.get("a", 9)), "x");
    assert_eq!(text(store.get("b", 9)), "x");
    // That something is not there is an answer, too.
    assert!(store.size("c").unwrap_err().is_missing());
    let mut listed = Vec::new();
    store.list("chain/", None, &mut |key, _| listed.push(key.to_owned())).unwrap();
    assert_eq!(listed, ["chain/1"]);
    assert_eq!(faults(&told), [Fault::Unavailable]);
    let (store, _) = mirrored(&[dead(), dead()]);
    assert!(!store.get("a", 9).unwrap_err().is_missing());
}

#[test]
fn a_listing_shows_what_any_copy_has_once_and_in_order() {
    let (first, second) = (memory(), memory());
    for (store, keys) in [(&first, ["chain/1", "chain/3"]), (&second, ["chain/1", "chain/2"])] {
        keys.iter().for_each(|key| store.put(key, "x".into()).unwrap());
    }
    let (store, _) = mirrored(&[first, second]);
    let mut listed = Vec::new();
    store.list("chain/", None, &mut |key, _| listed.push(key.to_owned())).unwrap();
    assert_eq!(listed, ["chain/1", "chain/2", "chain/3"]);
}

#[test]
fn another_copy_is_judged_and_nobody_is_blamed_when_all_are_alike() {
    let (first, second) = (memory(), memory());
    first.put("slot", "garbage".into()).unwrap();
    second.put("slot", "record".into()).unwrap();
    let (store, told) = mirrored(&[first, second]);
    store.get("slot", 9).unwrap();
    assert!(store.another("slot", 9, &mut |_| false).is_none());
    assert!(told.lock().unwrap().is_empty());
    let better = store.another("slot", 9, &mut |bytes| &bytes[..] == b"record");
    assert_eq!(better.as_deref(), Some(&b"record"[..]));
    assert_eq!(faults(&told), [Fault::Wrong]);
    assert_eq!(text(store.get("slot", 9)), "record", "the better copy is asked first from now on");
}

#[test]
fn a_copy_that_was_blamed_often_is_asked_last_and_not_told_of_without_end() {
    let (first, second) = (memory(), memory());
    for n in 0..100 {
        first.put(&format!("k{n}"), "bad".into()).unwrap();
        second.put(&format!("k{n}"), "good".into()).unwrap();
    }
    let (store, told) = mirrored(&[first, second]);
    let bad = (0..100).filter(|n| {
        let key = format!("k{n}");
        let is_bad = text(store.get(&key, 9)) == "bad";
        if is_bad {
            assert!(store.blame(&key, "hash"));
        }
        is_bad
    });
    assert_eq!(bad.count() as u32, PATIENCE_OBJECTS);
    let told = told.lock().unwrap();
    assert_eq!((told.len() as u32, told.last().unwrap().last), (NOTICES, true));
}

#[test]
fn a_copy_that_cannot_be_opened_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let there = directory.path().to_str().unwrap().to_owned();
    let gone = format!("{there}/gone");
    let told = Told::default();
    let listener: Listener = {
        let told = Arc::clone(&told);
        Arc::new(move |notice: &Notice| told.lock().unwrap().push(notice.clone()))
    };
    let options = OpenOptions::default();
    let store = open_mirrored(&gone, &options, &[(there, options.clone())], Arc::clone(&listener)).unwrap();
    assert_eq!(store.url(), known_address(&gone), "it is still the store that was named");
    assert_eq!(faults(&told), [Fault::Unavailable]);
    assert!(open_mirrored(&gone, &options, &[(gone.clone(), options.clone())], listener).is_err());
}
