//! Answers of S3, Azure and Google Cloud Storage that real servers rarely give, and what each must come to.
#![allow(clippy::unwrap_used)]

mod scripted;

use std::sync::Arc;
use std::time::{Duration, Instant};

use scripted::{Reply, Request, Scripted};
use snapkit::store::{Created, OpenOptions, Pace, Store, StoreError, open};

const OBJECT: [(&str, &str); 2] = [("ETag", "\"e\""), ("Last-Modified", "Sat, 21 Nov 2026 00:00:00 GMT")];

fn options(settings: &[(&str, &str)]) -> OpenOptions {
    OpenOptions {
        settings: settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
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

fn s3(server: &Scripted) -> Arc<dyn Store> {
    s3_with_grace(server, Duration::from_secs(10))
}

fn s3_with_grace(server: &Scripted, grace: Duration) -> Arc<dyn Store> {
    let settings = [
        ("endpoint", server.url().as_str()),
        ("allow_http", "true"),
        ("access_key_id", "AKID"),
        ("secret_access_key", "SECRET"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut options = options(&settings);
    options.pace.grace = grace;
    open("s3://bucket/pre", &options).unwrap()
}

/// What a `create` comes to when the server gives this answer, and how many requests it took.
fn created(reply: Reply, store: impl Fn(&Scripted) -> Arc<dyn Store>) -> (Result<Created, StoreError>, Vec<Request>) {
    let server = Scripted::start(move |_, _| reply.clone());
    let answer = store(&server).create("chain/0", "record".into());
    (answer, server.requests_noticed(1))
}

#[test]
fn create_on_s3_is_one_conditional_request_whatever_the_answer() {
    let ok = Reply::new(200, &OBJECT, b"");
    let cases = [
        (ok, "yes"),
        (Reply::status(412), "exists"),
        (Reply::status(409), "unknown"),
        (Reply::new(409, &[], b"<Code>BlobAlreadyExists</Code>"), "unknown"),
        (Reply::status(500), "unknown"),
        (Reply::new(503, &[], b"<Code>SlowDown</Code>"), "unknown"),
        (Reply::status(429), "unknown"),
        (Reply::status(408), "unknown"),
        (Reply::nothing(), "unknown"),
        (Reply::raw("HTTP/1.1 200 O"), "unknown"),
        (Reply::raw("rubbish\r\n\r\n"), "unknown"),
        (Reply::status(403), "denied"),
        (Reply::status(401), "denied"),
        (Reply::status(404), "other"),
        (Reply::status(400), "other"),
    ];
    for (number, (reply, expected)) in cases.into_iter().enumerate() {
        let (answer, requests) = created(reply, s3);
        let came_to = match &answer {
            Ok(Created::Yes) => "yes",
            Ok(Created::Exists) => "exists",
            Ok(Created::Unknown(_)) => "unknown",
            Err(StoreError::Denied { .. }) => "denied",
            Err(_) => "other",
        };
        assert_eq!(came_to, expected, "case {number}: {answer:?}");
        assert_eq!(requests.len(), 1, "case {number}");
        assert_eq!(requests[0].method, "PUT");
        assert_eq!(requests[0].target, "/bucket/pre/chain/0");
        assert_eq!(requests[0].header("if-none-match"), Some("*"));
    }
}

#[test]
fn create_without_an_answer_in_time_stays_open() {
    let silent = Reply::raw("").then(Duration::from_secs(10), b"");
    let (answer, requests) = created(silent, |server| s3_with_grace(server, Duration::from_millis(300)));
    assert!(matches!(answer, Ok(Created::Unknown(StoreError::Slow { .. }))), "{answer:?}");
    assert_eq!(requests.len(), 1);
}

#[test]
fn create_on_azure_takes_its_own_conflict_as_existing() {
    let azure = |server: &Scripted| {
        let settings = [("account_name", "acc"), ("access_key", "a2V5"), ("endpoint", &server.url())];
        open("az://box/pre", &options(&settings)).unwrap()
    };
    let (answer, requests) = created(Reply::new(409, &[], b"<Code>BlobAlreadyExists</Code>"), azure);
    assert!(matches!(answer, Ok(Created::Exists)), "{answer:?}");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("if-none-match"), Some("*"));
    let (answer, _) = created(Reply::new(409, &[], b"<Code>ContainerBeingDeleted</Code>"), azure);
    assert!(matches!(answer, Ok(Created::Unknown(_))), "{answer:?}");
    let (answer, _) = created(Reply::status(412), azure);
    assert!(matches!(answer, Ok(Created::Exists)), "{answer:?}");
}

#[test]
fn create_on_google_asks_for_generation_zero() {
    let gcs = |server: &Scripted| {
        let settings = [("bearer_token", "x"), ("base_url", &server.url()), ("allow_http", "true")];
        open("gs://bucket/pre", &options(&settings)).unwrap()
    };
    let (answer, requests) = created(Reply::status(412), gcs);
    assert!(matches!(answer, Ok(Created::Exists)), "{answer:?}");
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].header("x-goog-if-generation-match"), Some("0"));
    let (answer, requests) = created(Reply::status(503), gcs);
    assert!(matches!(answer, Ok(Created::Unknown(_))), "{answer:?}");
    assert_eq!(requests.len(), 1);
    let (answer, _) = created(Reply::new(200, &OBJECT, b""), gcs);
    assert!(matches!(answer, Ok(Created::Yes)), "{answer:?}");
}

#[test]
fn reads_and_writes_are_repeated_until_the_server_recovers() {
    let server = Scripted::start(|request, number| match (request.method.as_str(), number % 3) {
        (_, 0) => Reply::status(503),
        (_, 1) => Reply::nothing(),
        ("GET", _) => Reply::new(200, &OBJECT, b"bytes"),
        ("DELETE", _) => Reply::status(204),
        _ => Reply::new(200, &OBJECT, b""),
    });
    let store = s3(&server);
    assert_eq!(store.get("a", 5).unwrap().as_ref(), b"bytes");
    store.put("a", "bytes".into()).unwrap();
    assert_eq!(store.size("a").unwrap(), 0);
    store.delete("a").unwrap();
    assert_eq!(server.requests().len(), 12);
}

#[test]
fn repetitions_end() {
    let server = Scripted::start(|_, _| Reply::status(500));
    let error = s3(&server).get("a", 5).unwrap_err();
    assert!(error.can_retry());
    assert!(error.to_string().contains("cannot read a in the store s3://bucket/pre"), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn answers_that_cannot_change_are_not_repeated() {
    for (status, missing) in [(404, true), (403, false), (400, false), (301, false)] {
        let server = Scripted::start(move |_, _| Reply::status(status));
        let error = s3(&server).get("a", 5).unwrap_err();
        assert_eq!(error.is_missing(), missing, "{status}: {error:?}");
        assert!(!error.can_retry(), "{status}: {error:?}");
        assert_eq!(server.requests().len(), 1, "{status}");
    }
}

#[test]
fn a_broken_transfer_is_repeated_and_never_taken_for_the_object() {
    let broken = [OBJECT[0], OBJECT[1], ("Content-Length", "100")];
    let server = Scripted::start(move |_, number| match number {
        0 => Reply::new(200, &broken, b"only a part"),
        _ => Reply::new(200, &OBJECT, &[7; 100]),
    });
    assert_eq!(s3(&server).get("a", 100).unwrap().as_ref(), [7; 100]);
    let server = Scripted::start(move |_, _| Reply::new(200, &broken, b"only a part"));
    let error = s3(&server).get("a", 100).unwrap_err();
    assert!(error.can_retry() && error.to_string().contains("broke off"), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[test]
fn an_object_longer_than_allowed_is_not_read() {
    let huge = [OBJECT[0], OBJECT[1], ("Content-Length", "1099511627776")];
    let server = Scripted::start(move |_, _| Reply::new(200, &huge, b"begin"));
    let started = Instant::now();
    assert!(matches!(s3(&server).get("a", 1 << 30), Err(StoreError::TooBig { cap_bytes: 0x4000_0000, .. })));
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn ranges_beyond_the_end_are_short() {
    let partial = [OBJECT[0], OBJECT[1], ("Content-Range", "bytes 10-14/15")];
    for reply in [Reply::new(206, &partial, b"abcde"), Reply::status(416)] {
        let server = Scripted::start(move |_, _| reply.clone());
        let answer = s3(&server).get_range("a", 10..20);
        assert!(matches!(answer, Err(StoreError::Short { wanted_end: 20, .. })), "{answer:?}");
    }
    let server = Scripted::start(move |_, _| Reply::new(206, &partial, b"abcde"));
    assert_eq!(s3(&server).get_range("a", 10..15).unwrap().as_ref(), b"abcde");
    assert_eq!(server.requests()[0].header("range"), Some("bytes=10-14"));
}

#[test]
fn a_dripping_or_silent_server_is_given_up_in_bounded_time() {
    let length = [OBJECT[0], OBJECT[1], ("Content-Length", "1000000")];
    let head = Reply::raw(&Reply::head(200, &length));
    let dripping = (0..100).fold(head.clone(), |reply, _| reply.then(Duration::from_millis(50), b"drip"));
    // Its average would allow a hundred seconds.
    let stalling = head.then(Duration::ZERO, &[0; 999_999]).then(Duration::from_secs(10), b"0");
    let silent = Reply::raw("").then(Duration::from_secs(10), b"");
    for reply in [dripping, stalling, silent] {
        let server = Scripted::start(move |_, _| reply.clone());
        let started = Instant::now();
        let error = s3_with_grace(&server, Duration::from_millis(300)).get("a", 1_000_000).unwrap_err();
        assert!(matches!(error, StoreError::Slow { .. }), "{error:?}");
        // Four attempts of 0.3 s and the little that dripped.
        assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
        assert_eq!(server.requests_noticed(4).len(), 4);
    }
}

#[test]
fn a_slow_line_that_keeps_the_rate_is_waited_for() {
    let length = [OBJECT[0], OBJECT[1], ("Content-Length", "20000")];
    let slow = (0..20)
        .fold(Reply::raw(&Reply::head(200, &length)), |reply, _| reply.then(Duration::from_millis(50), &[1; 1000]));
    let server = Scripted::start(move |_, _| slow.clone());
    assert_eq!(s3(&server).get("a", 20_000).unwrap().len(), 20_000);
    assert_eq!(server.requests().len(), 1);
}

fn page(keys: &[&str], more: Option<&str>) -> Reply {
    let contents: String = keys
        .iter()
        .map(|key| {
            format!(
                "<Contents><Key>pre/{key}</Key><LastModified>2026-11-21T00:00:00.000Z</LastModified>\
                 <ETag>e</ETag><Size>3</Size></Contents>"
            )
        })
        .collect();
    let more = more.map(|token| format!("<NextContinuationToken>{token}</NextContinuationToken>")).unwrap_or_default();
    let body = format!(
        "<ListBucketResult><Name>bucket</Name><KeyCount>{}</KeyCount>{more}<IsTruncated>{}</IsTruncated>\
         {contents}</ListBucketResult>",
        keys.len(),
        !more.is_empty()
    );
    Reply::new(200, &[], body.as_bytes())
}

#[test]
fn a_listing_that_breaks_continues_after_the_last_key() {
    let server = Scripted::start(|request, number| match number {
        0 => page(&["a/1", "a/2"], Some("next")),
        1 => Reply::status(503),
        _ => {
            assert!(request.target.contains("start-after=pre%2Fa%2F2"), "{}", request.target);
            // A server that ignores the start must not lead to a second visit.
            page(&["a/1", "a/2", "a/3"], None)
        }
    });
    let mut seen = Vec::new();
    s3(&server).list("a/", None, &mut |key, bytes| seen.push((key.to_owned(), bytes))).unwrap();
    assert_eq!(seen, [("a/1".to_owned(), 3), ("a/2".to_owned(), 3), ("a/3".to_owned(), 3)]);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn secrets_are_in_no_message() {
    let server = Scripted::start(|_, _| Reply::status(403));
    let settings = [("account_name", "acc"), ("sas_token", "sv=2021&sig=VERYSECRET"), ("endpoint", &server.url())];
    let azure = open("az://box/pre", &options(&settings)).unwrap();
    for error in
        [azure.get("a", 9).unwrap_err(), azure.put("a", "x".into()).unwrap_err(), s3(&server).get("a", 9).unwrap_err()]
    {
        let text = format!("{error:?} {error}");
        assert!(!text.contains("SECRET"), "{text}");
    }
}
