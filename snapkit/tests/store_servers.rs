//! The contract of a store and the verdict of the probe, against the server that `tests/servers/start-*` started.
//!
//! `tests/servers/start-moto WORKDIR 'cargo test -p snapkit --test store_servers'`. Without a server the tests do
//! nothing, unless SNAPKIT_TEST_SERVERS=required, which makes its absence a failure.
#![allow(clippy::unwrap_used)]

use std::env;
use std::sync::Arc;

use snapkit::store::probe::{Verdict, probe};
use snapkit::store::rights::{Due, Found, Role, TRIAL, rights};
use snapkit::store::{Created, OpenOptions, Pace, Store, StoreError, conformance, open};

/// The server under test and whether it must be fit for writing; `None` when there is none and none is required.
fn server() -> Option<(String, bool)> {
    let Ok(url) = env::var("SNAPKIT_TEST_STORE_URL") else {
        let required = env::var("SNAPKIT_TEST_SERVERS").is_ok_and(|value| value == "required");
        assert!(!required, "no server: run this through tests/servers/start-*");
        eprintln!("skipped: no server, run this through tests/servers/start-*");
        return None;
    };
    match env::var("SNAPKIT_TEST_STORE_VERDICT").unwrap().as_str() {
        "fit" => Some((url, true)),
        "unfit" => Some((url, false)),
        other => panic!("SNAPKIT_TEST_STORE_VERDICT is {other}"),
    }
}

fn options() -> OpenOptions {
    OpenOptions { environment: env::vars().collect(), ..OpenOptions::default() }
}

fn opened(url: &str) -> Arc<dyn Store> {
    open(url, &options()).unwrap()
}

#[test]
fn a_fit_server_keeps_the_contract() {
    let Some((url, true)) = server() else { return };
    assert_eq!(conformance::run(&opened(&url), "contract/"), []);
}

#[test]
fn the_probe_gives_the_right_verdict_and_leaves_nothing() {
    let Some((url, fit)) = server() else { return };
    let store = opened(&url);
    let report = probe(&store, "");
    eprintln!("{report:#?}");
    assert_eq!(report.fit_for_writing, fit);
    if fit {
        assert!(report.checks.iter().all(|check| check.verdict == Verdict::Passed));
    }
    let mut left = 0;
    if store.list("probe/", None, &mut |_, _| left += 1).is_ok() {
        assert_eq!(left, 0);
    }
}

#[test]
fn the_rights_of_an_administrator_are_all_found_and_nothing_is_left() {
    let Some((url, true)) = server() else { return };
    let store = opened(&format!("{url}/rights"));
    for key in ["checkpoint", "format"] {
        store.put(key, "as it was".into()).unwrap();
    }
    let report = rights(&store, Role::Reader);
    assert!(report.checks.iter().all(|check| check.found == Found::Yes), "{report:#?}");
    assert!(report.checks.iter().any(|check| check.due == Due::Beyond) && !report.fits && report.left.is_empty());
    store.list("", None, &mut |key, _| assert!(!key.contains(TRIAL), "{key} is left")).unwrap();
    for key in ["checkpoint", "format"] {
        assert_eq!(store.get(key, 99).unwrap().as_ref(), b"as it was");
        store.delete(key).unwrap();
    }
}

#[test]
fn prefixes_in_one_bucket_do_not_see_each_other() {
    let Some((url, true)) = server() else { return };
    let (one, two) = (opened(&format!("{url}/one")), opened(&format!("{url}/one-more")));
    one.put("a", "1".into()).unwrap();
    assert!(matches!(two.get("a", 9), Err(StoreError::Missing { .. })));
    two.list("", None, &mut |key, _| panic!("{key} is visible")).unwrap();
    assert_eq!(opened(&url).get("one/a", 9).unwrap().as_ref(), b"1");
    one.delete("a").unwrap();
}

#[test]
fn listings_of_several_pages_are_complete() {
    let Some((url, true)) = server() else { return };
    let store = opened(&format!("{url}/pages"));
    let count = 2105;
    std::thread::scope(|scope| {
        for part in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for number in (part..count).step_by(8) {
                    store.put(&format!("chain/{number:020}.json"), "x".into()).unwrap();
                }
            });
        }
    });
    let mut seen = Vec::new();
    store.list("chain/", None, &mut |key, _| seen.push(key.to_owned())).unwrap();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), count);
    let mut beyond = Vec::new();
    store.list("chain/", Some(&seen[2099]), &mut |key, _| beyond.push(key.to_owned())).unwrap();
    assert_eq!(beyond.len(), 5);
}

#[test]
fn wrong_keys_and_missing_buckets_are_told_apart() {
    let Some((url, true)) = server() else { return };
    if !url.starts_with("s3://") {
        return;
    }
    let store = open("s3://no-such-bucket/p", &options()).unwrap();
    for error in [store.put("a", "x".into()).unwrap_err(), store.create("a", "x".into()).unwrap_err()] {
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
    assert!(store.list("", None, &mut |_, _| {}).is_err());
    // moto checks no signatures.
    if env::var("AWS_ENDPOINT_URL").unwrap().ends_with(":7480") {
        let mut wrong = options();
        wrong.settings.push(("secret_access_key".to_owned(), "WRONG".to_owned()));
        let store = open(&url, &wrong).unwrap();
        for error in [
            store.get("a", 9).unwrap_err(),
            store.put("a", "x".into()).unwrap_err(),
            store.create("a", "x".into()).unwrap_err(),
        ] {
            assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
            assert!(!format!("{error:?}").contains("WRONG"));
        }
    }
}

#[test]
fn a_store_that_is_down_is_reported_and_a_create_stays_open() {
    let Some((url, true)) = server() else { return };
    if !url.starts_with("s3://") {
        return;
    }
    let mut down = options();
    // The discard port of a network in which only the test server listens.
    down.settings.push(("endpoint".to_owned(), "http://127.0.0.1:9".to_owned()));
    down.pace = Pace { retries: 2, pause: std::time::Duration::from_millis(1), ..Pace::default() };
    let store = open(&url, &down).unwrap();
    assert!(store.get("a", 9).unwrap_err().can_retry());
    assert!(matches!(store.create("a", "x".into()), Ok(Created::Unknown(_))));
}
