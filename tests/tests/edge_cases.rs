//! Edge cases of a group, with everything real but what stands outside of it. All of them: `docs/edge-cases.md`.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::agent::view::Mode;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use snapkit_tests::group::longest_takeover;
use snapkit_tests::kept::{Kept, Pair, until};

/// What the bot's provider saw.
#[derive(Debug, Default)]
struct Seen {
    /// Who has a request open now.
    polling: Option<String>,
    /// Who ever polled.
    pollers: BTreeSet<String>,
    /// Polls that were answered.
    answered: u64,
    /// Polls while somebody else's was open: the provider answers 409, and one of the two loses messages.
    conflicts: u64,
}

/// A provider that holds each poll open for a while, as providers of bots do, and allows one at a time.
fn provider() -> (u16, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Seen::default())));
    let shared = Arc::clone(&seen);
    // It ends with the test's process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || answer(stream.unwrap(), &shared));
        }
    });
    (port, seen)
}

fn answer(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let Some(who) = path(&mut stream) else { return };
    {
        let mut seen = seen.lock().unwrap();
        if seen.polling.is_some() {
            seen.conflicts += 1;
            return say(&mut stream, "409 Conflict", "");
        }
        seen.pollers.insert(who.clone());
        seen.polling = Some(who);
    }
    // Who dies meanwhile polls no longer.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let waited = matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    let mut seen = seen.lock().unwrap();
    seen.polling = None;
    if waited {
        seen.answered += 1;
        say(&mut stream, "200 OK", "[]");
    }
}

/// The path of a request, without its first slash.
fn path(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut part).ok()? {
            0 => return None,
            read => request.extend(&part[..read]),
        }
    }
    let line = String::from_utf8(request).ok()?;
    Some(line.split_whitespace().nth(1)?.trim_start_matches('/').to_owned())
}

fn say(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
}

/// Both nodes, with `a` leading and `b` standing by; each has this more in its `bootstrap.toml`.
fn both<'a>(pair: &'a Pair, more: &str) -> [Kept<'a>; 2] {
    let nodes = [pair.node_a(&[]), pair.node_b(&[])];
    for node in &nodes {
        node.up(&pair.from, &["--no-agent"]).expect(0);
        let file = node.path().join("bootstrap.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}{more}")).unwrap();
    }
    let [mut a, mut b] = nodes;
    a.start(&pair.from);
    a.wait("a leads", |state| state.leader.ok);
    b.start(&pair.from);
    b.wait("b stands by", |state| state.ready.ok && holder(state).as_deref() == Some("a"));
    [a, b]
}

fn holder(state: &bootstrap::surfaces::state::State) -> Option<String> {
    state.view.holder.as_ref().map(|holder| holder.node.clone())
}

/// Its follower has all the code of the bot and none of the right to poll: that is what `exclusive` is for.
#[test]
fn a_bot_is_polled_by_one_node_at_a_time_whoever_leads() {
    let (port, seen) = provider();
    let bot = r#"
import os, time, urllib.request
while "bot" not in os.environ["SNAPKIT_EXCLUSIVE"].split(","):
    time.sleep(1)
while True:
    try:
        urllib.request.urlopen("http://127.0.0.1:PORT/" + os.environ["SNAPKIT_NODE"], timeout=10).read()
    except OSError:
        time.sleep(0.05)
"#
    .replace("PORT", &port.to_string());
    let service = "[pins.service]\ndriver = \"process\"\nargv = [\"/usr/bin/env\", \"python3\", \"current/bot.py\"]\n\
                   leader_args = [\"leader\"]\nfollower_args = [\"follower\"]\nexclusive = [\"bot\"]\n";
    let pair = Pair::new("auto", service, |tree| fs::write(tree.join("bot.py"), bot).unwrap());
    let [a, mut b] = both(&pair, "");
    let answered = || seen.lock().unwrap().answered;
    let polls_on = |what: &str| {
        let before = answered();
        until(what, || (answered() > before + 3).then_some(()));
    };
    polls_on("the leader polls");
    assert_eq!(seen.lock().unwrap().pollers, BTreeSet::from(["a".to_owned()]), "the follower, which runs, does not");
    assert_eq!(b.state().unwrap().view.service.running_as.as_deref(), Some("follower"));
    // In order, and by a death.
    pair.issuer.machine.bootstrap(&["handoff", "node", "--reason", "a move"]).expect(0);
    b.wait("b leads", |state| state.leader.ok);
    polls_on("b polls");
    a.wait("a stands by", |state| state.ready.ok && holder(state).as_deref() == Some("b"));
    polls_on("b polls beside a");
    b.kill();
    a.wait("a leads again", |state| state.leader.ok);
    polls_on("a polls again");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.pollers.len(), 2);
    assert_eq!(seen.conflicts, 0, "{seen:?}");
}

const SLEEPS: &str = "[pins.service]\ndriver = \"process\"\nargv = [\"/bin/sh\", \"-c\", \"exec sleep 100000\"]\n";

fn sleeps() -> Pair {
    Pair::new("auto", SLEEPS, |tree| fs::write(tree.join("file"), "honest\n").unwrap())
}

/// A proxy goes on sending traffic to a node that is dead, while everything of ours is green.
#[test]
fn traffic_that_goes_to_a_dead_node_is_seen_and_reconciled() {
    let upstream = tempfile::NamedTempFile::new().unwrap();
    fs::write(upstream.path(), "a").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let at = upstream.path().to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            if path(&mut stream).is_some() {
                say(&mut stream, "200 OK", &format!("{{\"node\":\"{}\"}}", fs::read_to_string(&at).unwrap()));
            }
        }
    });
    let gate = tempfile::tempdir().unwrap();
    let hook = format!(
        "[ingress]\nurl = \"http://127.0.0.1:{port}/who\"\nfield = \"node\"\nevery_seconds = 1\n\
         [hooks.reconcile]\nargv = [\"/bin/sh\", \"-c\", 'test -e {} && printf %s \"$SNAPKIT_NODE\" > {}']\n",
        gate.path().join("open").display(),
        upstream.path().display()
    );
    let pair = sleeps();
    let [mut a, b] = both(&pair, &hook);
    a.wait("the ingress agrees", |state| state.view.ingress.as_ref().is_some_and(|ingress| ingress.agrees));
    a.kill();
    let state = b.wait("b leads, and says where traffic goes", |state| {
        state.leader.ok && state.view.problems.iter().any(|problem| problem.name == "ingress_mismatch")
    });
    let ingress = state.view.ingress.unwrap();
    assert_eq!((ingress.answers.as_deref(), ingress.agrees), (Some("a"), false));
    // The hook fails for as long as it cannot reach the proxy, and is run until what is there is right.
    b.wait("it is tried", |state| state.view.hooks.iter().any(|run| run.hook == "reconcile" && run.exit == Some(1)));
    fs::write(gate.path().join("open"), "").unwrap();
    b.wait("the ingress agrees again", |state| state.view.ingress.as_ref().is_some_and(|ingress| ingress.agrees));
    assert_eq!(fs::read_to_string(upstream.path()).unwrap(), "b");
}

/// Nobody reaches the store: the leader is gone by its own clock, nobody follows it, and with the store one leader is back.
#[test]
fn without_a_store_nobody_leads_and_with_it_one_does_again() {
    let pair = sleeps();
    let [a, b] = both(&pair, "");
    let (store, away) = (pair.issuer.machine.path("store"), pair.issuer.machine.path("away"));
    // Whoever looks goes round in circles.
    std::os::unix::fs::symlink("store", &away).unwrap();
    let exchange = || renameat_with(CWD, &store, CWD, &away, RenameFlags::EXCHANGE).unwrap();
    exchange();
    a.wait("a stops by its own clock", |state| {
        state.view.service.running_as.is_none() && !state.leader.ok && state.view.remaining_ms.is_none()
    });
    let end = Instant::now() + longest_takeover();
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(500));
        for node in [&a, &b] {
            let state = node.state().unwrap();
            assert!(!state.holds && !state.leader.ok, "{state:#?}");
            assert_ne!(state.view.service.running_as.as_deref(), Some("leader"));
        }
    }
    b.wait("b says why", |state| state.view.problems.iter().any(|problem| problem.name == "store_unreachable"));
    exchange();
    let leader = until("somebody leads again", || {
        [&a, &b].into_iter().filter_map(Kept::state).find(|state| state.leader.ok).map(|state| state.view)
    });
    assert_eq!((leader.mode, leader.conflicts), (Mode::Leader, 0));
    assert!(leader.term > 1);
}
