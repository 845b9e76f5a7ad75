//! Reading a store from web servers: with and without ranges, honest and not.
#![allow(clippy::unwrap_used)]

mod scripted;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use scripted::{Reply, Scripted};
use snapkit::store::mirrored::{Fault, Notice, open_mirrored};
use snapkit::store::probe::probe;
use snapkit::store::{Ability, OpenOptions, Pace, Store, StoreError, open};

fn options() -> OpenOptions {
    OpenOptions {
        pace: Pace {
            grace: Duration::from_secs(10),
            bytes_per_second: 10_000,
            retries: 3,
            pause: Duration::from_millis(1),
            ..Pace::default()
        },
        ..OpenOptions::default()
    }
}

fn web(server: &Scripted) -> Arc<dyn Store> {
    open(&format!("{}/store", server.url()), &options()).unwrap()
}

/// `python3 -m http.server`, stopped when dropped.
struct Python(Child);

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn python(directory: &std::path::Path) -> (Python, String) {
    let mut child = Command::new("python3")
        .args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"])
        .arg(directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3 is installed");
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.split_whitespace().skip_while(|word| *word != "port").nth(1).unwrap().parse().unwrap();
    (Python(child), format!("http://127.0.0.1:{port}/"))
}

#[test]
fn a_store_is_read_from_a_server_without_ranges_and_listing() {
    let directory = tempfile::tempdir().unwrap();
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i ^ (i >> 8)) as u8).collect();
    fs::create_dir_all(directory.path().join("packs/ab")).unwrap();
    fs::write(directory.path().join("packs/ab/abcd"), &big).unwrap();
    fs::write(directory.path().join("empty"), "").unwrap();
    let (_server, url) = python(directory.path());
    let store = open(&url, &OpenOptions::default()).unwrap();
    assert_eq!(store.abilities().ranges, Ability::Unknown);
    for range in [0..1, 2_999_999..3_000_000, 1_000..2_000_000] {
        let got = store.get_range("packs/ab/abcd", range.clone()).unwrap();
        assert!(got == big[range.start as usize..range.end as usize]);
    }
    assert_eq!(store.abilities().ranges, Ability::No);
    assert!(matches!(store.get_range("packs/ab/abcd", 0..3_000_001), Err(StoreError::Short { .. })));
    assert!(store.get("packs/ab/abcd", 3_000_000).unwrap() == big);
    assert!(matches!(store.get("packs/ab/abcd", 2_999_999), Err(StoreError::TooBig { .. })));
    assert_eq!(store.size("packs/ab/abcd").unwrap(), 3_000_000);
    assert!(store.get("empty", 0).unwrap().is_empty());
    assert_eq!(store.size("empty").unwrap(), 0);
    for error in [
        store.get("missing", 9).unwrap_err(),
        store.get_range("missing", 0..1).unwrap_err(),
        store.size("missing").unwrap_err(),
    ] {
        assert!(error.is_missing(), "{error:?}");
    }
    for error in [
        store.put("a", "x".into()).unwrap_err(),
        store.create("a", "x".into()).unwrap_err(),
        store.delete("a").unwrap_err(),
        store.list("", None, &mut |_, _| {}).unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Unsupported { .. }), "{error:?}");
    }
    assert!(!probe(&store, "").fit_for_writing);
}

#[test]
fn without_ranges_each_object_is_fetched_once() {
    let server = Scripted::start(|_, _| Reply::new(200, &[], b"0123456789"));
    let store = web(&server);
    assert_eq!(store.get_range("one", 2..4).unwrap().as_ref(), b"23");
    assert_eq!(store.get_range("one", 4..10).unwrap().as_ref(), b"456789");
    std::thread::scope(|scope| {
        for start in 0..8 {
            let store = &store;
            scope.spawn(move || assert_eq!(store.get_range("two", start..start + 1).unwrap().len(), 1));
        }
    });
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn with_ranges_only_the_part_is_moved() {
    let server = Scripted::start(|request, _| {
        assert_eq!(request.header("range"), Some("bytes=2-3"));
        Reply::new(206, &[("Content-Range", "bytes 2-3/10")], b"23")
    });
    let store = web(&server);
    assert_eq!(store.get_range("one", 2..4).unwrap().as_ref(), b"23");
    assert_eq!(store.abilities().ranges, Ability::Yes);
}

#[test]
fn wrong_parts_are_refused() {
    let cases: [(&str, &[u8], bool); 4] = [
        ("bytes 2-3/4", b"23", true),
        ("bytes 0-7/10", b"01234567", false),
        ("pages 2-9/10", b"23456789", false),
        ("bytes 2-9/10", b"2345", true),
    ];
    for (range, body, short) in cases {
        let server = Scripted::start(move |_, _| Reply::new(206, &[("Content-Range", range)], body));
        let error = web(&server).get_range("one", 2..10).unwrap_err();
        assert_eq!(matches!(error, StoreError::Short { .. }), short, "{range}: {error:?}");
        assert!(!error.can_retry());
    }
    let server = Scripted::start(|_, _| Reply::new(206, &[("Content-Range", "bytes 2-3/10")], b"2345678"));
    assert!(matches!(web(&server).get_range("one", 2..4), Err(StoreError::TooBig { .. })));
    let server = Scripted::start(|_, _| Reply::status(416));
    assert!(matches!(web(&server).get_range("one", 2..4), Err(StoreError::Short { wanted_end: 4, .. })));
}

#[test]
fn an_endless_body_is_cut_off_at_the_cap() {
    let endless =
        (0..1000).fold(Reply::raw(&Reply::head(200, &[])), |reply, _| reply.then(Duration::ZERO, &[0; 65536]));
    let server = Scripted::start(move |_, _| endless.clone());
    let started = Instant::now();
    assert!(matches!(web(&server).get("one", 100_000), Err(StoreError::TooBig { .. })));
    assert!(started.elapsed() < Duration::from_secs(5));
    // The same without ranges: the room of the cache is the cap.
    let small = OpenOptions { http_cache_bytes: 100_000, ..options() };
    let store = open(&server.url(), &small).unwrap();
    assert!(matches!(store.get_range("one", 0..10), Err(StoreError::TooBig { .. })));
}

#[test]
fn failures_are_repeated_and_slowness_is_bounded() {
    let server = Scripted::start(|_, number| match number {
        0 => Reply::status(503),
        1 => Reply::nothing(),
        2 => Reply::new(200, &[("Content-Length", "10")], b"01"),
        _ => Reply::new(200, &[], b"0123456789"),
    });
    assert_eq!(web(&server).get("one", 10).unwrap().len(), 10);
    let dripping = (0..200).fold(Reply::raw(&Reply::head(200, &[("Content-Length", "1000")])), |reply, _| {
        reply.then(Duration::from_millis(20), b".")
    });
    let server = Scripted::start(move |_, _| dripping.clone());
    let started = Instant::now();
    let mut hasty = options();
    hasty.pace.grace = Duration::from_millis(300);
    let store = open(&server.url(), &hasty).unwrap();
    assert!(matches!(store.get("one", 1000), Err(StoreError::Slow { .. })));
    assert!(started.elapsed() < Duration::from_secs(6));
}

/// A body that keeps the least rate, and never comes to its end.
fn just_fast_enough() -> Scripted {
    let head = Reply::head(200, &[("Content-Length", "1000000")]);
    let reply = (0..5_000).fold(Reply::raw(&head), |reply, _| reply.then(Duration::from_millis(5), &[b'x'; 200]));
    Scripted::start(move |_, _| reply.clone())
}

#[test]
fn a_document_has_an_end_that_no_dripping_moves() {
    let server = just_fast_enough();
    let pace = Pace { document: Duration::from_secs(2), ..options().pace };
    let store = open(&server.url(), &OpenOptions { pace, ..options() }).unwrap();
    let started = Instant::now();
    let slow = store.get("chain/00000000000000000000.json", 1 << 20).unwrap_err();
    assert!(matches!(slow, StoreError::Slow { moved_bytes: 1.., .. }), "{slow:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "it would have taken 25 s");
    assert_eq!(server.requests_noticed(1).len(), 1, "what ended for good is not asked again");
}

#[test]
fn a_mirror_serves_while_the_store_drips() {
    let (server, directory) = (just_fast_enough(), tempfile::tempdir().unwrap());
    fs::write(directory.path().join("checkpoint"), "here").unwrap();
    let pace = Pace { document: Duration::from_millis(300), ..options().pace };
    let options = OpenOptions { pace, ..options() };
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let told = Arc::clone(&told);
        Arc::new(move |notice: &Notice| told.lock().unwrap().push(notice.fault))
    };
    let mirrors = [(directory.path().to_str().unwrap().to_owned(), options.clone())];
    let store = open_mirrored(&server.url(), &options, &mirrors, listener).unwrap();
    for _ in 0..3 {
        assert_eq!(store.get("checkpoint", 1 << 20).unwrap().as_ref(), b"here");
    }
    assert_eq!(*told.lock().unwrap(), [Fault::Unavailable]);
    assert_eq!(server.requests_noticed(1).len(), 1, "a copy that failed rests");
}

#[test]
fn objects_that_the_server_encodes_are_refused() {
    let server = Scripted::start(|request, _| {
        assert_eq!(request.header("accept-encoding"), Some("identity"));
        Reply::new(200, &[("Content-Encoding", "gzip")], b"xx")
    });
    assert!(matches!(web(&server).get("one", 9), Err(StoreError::Unsupported { .. })));
}

#[test]
fn redirects_are_followed_but_never_to_a_metadata_address() {
    let server = Scripted::start(|request, _| match request.target.as_str() {
        "/store/moved" => Reply::new(302, &[("Location", "/elsewhere")], b""),
        "/elsewhere" => Reply::new(200, &[], b"here"),
        "/store/loop" => Reply::new(302, &[("Location", "/store/loop")], b""),
        _ => Reply::new(302, &[("Location", "http://169.254.169.254/latest/meta-data/")], b""),
    });
    let store = web(&server);
    assert_eq!(store.get("moved", 9).unwrap().as_ref(), b"here");
    for key in ["loop", "metadata"] {
        let error = store.get(key, 9).unwrap_err();
        assert!(matches!(error, StoreError::Other { retry: false, .. }), "{key}: {error:?}");
    }
}

#[test]
fn a_password_in_the_address_is_sent_and_never_shown() {
    let server = Scripted::start(|request, _| match request.header("authorization") {
        Some("Basic dXNlcjpzZWNyZXQ=") => Reply::new(200, &[], b"ok"),
        _ => Reply::status(401),
    });
    let store = open(&format!("http://user:secret@127.0.0.1:{}/s", server.port), &options()).unwrap();
    assert_eq!(store.get("one", 9).unwrap().as_ref(), b"ok");
    assert!(!store.url().contains("secret"));
    let down = open("http://user:secret@127.0.0.1:1/s", &options()).unwrap();
    let error = down.get("one", 9).unwrap_err();
    assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    let wrong = open(&format!("http://user:wrong@127.0.0.1:{}/s", server.port), &options()).unwrap();
    assert!(matches!(wrong.get("one", 9), Err(StoreError::Denied { .. })));
}

#[test]
fn addresses_with_tls_open_and_fail_only_when_asked() {
    let store = open("https://127.0.0.1:1/s", &options()).unwrap();
    assert!(store.get("one", 9).unwrap_err().can_retry());
    let settings = [("access_key_id", "a"), ("secret_access_key", "b"), ("endpoint", "https://127.0.0.1:1")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let store = open("s3://bucket", &OpenOptions { settings, ..options() }).unwrap();
    assert!(store.get("one", 9).unwrap_err().can_retry());
}
