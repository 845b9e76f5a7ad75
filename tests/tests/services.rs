//! Real services under the agent: what a leader had in its last snapshot is there after its death, and what came after is
//! stated.
//!
//! Redis with its append-only file, as a cold standby; PowerDNS with SQLite, whose follower answers, too.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bootstrap::agent::view::Mode;
use serde_json::Value;
use snapkit_tests::Run;
use snapkit_tests::kept::{Kept, Pair, free_port, until};

/// A service on two nodes, `a` leading.
struct Service {
    name: &'static str,
    /// Its part of the pins.
    pins: String,
    /// Whether the follower answers.
    follows: bool,
}

fn variables(port: u16) -> Vec<(&'static str, String)> {
    vec![("APP_PORT", port.to_string())]
}

/// Brings both nodes up from the string, the first of which is to lead.
fn both<'a>(pair: &'a Pair, service: &Service, ports: [u16; 2]) -> [Kept<'a>; 2] {
    let (mut a, mut b) = (pair.node_a(&variables(ports[0])), pair.node_b(&variables(ports[1])));
    a.start(&pair.from);
    let led = a.wait("a leads", |state| state.leader.ok);
    assert_eq!((led.view.term, led.view.service.running_as.as_deref()), (1, Some("leader")));
    b.start(&pair.from);
    b.wait("b follows", |state| {
        let is_ready = state.ready.ok && state.view.holder.as_ref().is_some_and(|holder| holder.node == "a");
        is_ready && state.view.service.running_as.is_some() == service.follows
    });
    [a, b]
}

/// Takes a snapshot of the leader, and waits until the follower has it.
fn share(pair: &Pair, b: &Kept<'_>) -> Value {
    let taken = pair.snapshot_of_a().expect(0).json("snapkit.snapshot/1");
    let seq = taken["seq"].as_u64().unwrap();
    b.wait("the snapshot is here", |state| state.view.chain.applied_seq == Some(seq));
    taken
}

/// Kills the leader as a power cut would, and waits for the other node; gives the snapshot that it began from.
fn lose(a: &mut Kept<'_>, b: &Kept<'_>) -> String {
    a.kill();
    let state = b.wait("b leads", |state| state.leader.ok);
    assert_eq!((state.view.mode, state.view.term, state.view.conflicts), (Mode::Leader, 2, 0));
    let takeover = state.view.takeover.unwrap();
    assert!(takeover.ready.is_some());
    let between = takeover.claimed.duration_since(takeover.captured).as_secs();
    assert_eq!(takeover.lost_seconds, u64::try_from(between).unwrap(), "the loss is what lies between");
    takeover.snapshot
}

/// Starts the old leader again, which follows, with what it alone had kept aside; gives the report on that.
fn returns(pair: &Pair, a: &mut Kept<'_>) -> String {
    a.start(&pair.from);
    let state = a.wait("a is back, behind b", |state| {
        let holder = state.view.holder.as_ref().is_some_and(|holder| holder.node == "b");
        let follows = matches!(state.view.mode, Mode::Follower | Mode::Candidate);
        holder && follows && !state.view.orphaned.is_empty()
    });
    assert_eq!(state.view.orphaned.len(), 1);
    pair.snapshot_of_a().expect(7);
    fs::read_to_string(a.path().join("orphaned/1/diff.txt")).unwrap()
}

fn redis(port: u16, words: &[&str]) -> Option<String> {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    (output.status.success() && !text.starts_with("LOADING")).then_some(text)
}

#[test]
fn redis_comes_back_with_what_the_last_snapshot_had() {
    let service = Service {
        name: "redis",
        pins: r#"
[pins.service]
driver = "process"
argv = ["/bin/sh", "-c", 'exec redis-server --bind 127.0.0.1 --port "$APP_PORT" --dir "$SNAPKIT_NODE_DIR/current" --save "" --appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0 "$@"', "redis"]
leader_args = ["--loglevel", "notice"]
ready = { kind = "exec", argv = ["/bin/sh", "-c", 'test "$(redis-cli -p "$APP_PORT" ping)" = PONG'], timeout_seconds = 5 }
[pins.needs]
environment = ["APP_PORT"]
capabilities = ["redis-server", "redis-cli"]
"#
        .to_owned(),
        follows: false,
    };
    let pair = Pair::new("auto", &service.pins, |tree| fs::write(tree.join("readme"), service.name).unwrap());
    let ports = [free_port(), free_port()];
    let [mut a, b] = both(&pair, &service, ports);
    for order in 1..=300 {
        assert_eq!(redis(ports[0], &["set", &format!("order:{order}"), "paid"]).as_deref(), Some("OK"));
    }
    let shared = share(&pair, &b);
    // 41 orders come in that no snapshot has.
    for order in 301..=341 {
        assert_eq!(redis(ports[0], &["set", &format!("order:{order}"), "paid"]).as_deref(), Some("OK"));
    }
    assert_eq!(redis(ports[0], &["dbsize"]).as_deref(), Some("341"));
    assert_eq!(redis(ports[1], &["ping"]), None, "a cold standby runs nothing");
    let taken = lose(&mut a, &b);
    assert_eq!(redis(ports[0], &["ping"]), None, "the service of a dead leader is dead");
    assert_eq!(redis(ports[1], &["dbsize"]).as_deref(), Some("300"), "what the snapshot had, and nothing else");
    assert_eq!(redis(ports[1], &["get", "order:300"]).as_deref(), Some("paid"));
    assert_eq!(taken, shared["name"].as_str().unwrap());
    assert_eq!(redis(ports[1], &["set", "order:342", "paid"]).as_deref(), Some("OK"));
    // The old leader comes back with its 41 orders, which are kept aside, and told.
    let told = returns(&pair, &mut a);
    assert!(told.contains("appendonlydir/appendonly.aof.1.incr.aof"), "{told}");
    let aside = a.path().join("orphaned/1/state");
    assert_eq!(orders_in(&aside), 341);
    assert_eq!(redis(ports[0], &["ping"]), None);
    assert_eq!(redis(ports[1], &["dbsize"]).as_deref(), Some("301"));
}

/// Orders in the append-only file of a state.
fn orders_in(state: &Path) -> usize {
    let name = "appendonlydir/appendonly.aof.1.incr.aof";
    let found = walkdir::WalkDir::new(state).into_iter().map(|entry| entry.unwrap());
    let file = found.map(|entry| entry.into_path()).find(|path| path.ends_with(name)).expect("an append-only file");
    fs::read_to_string(file).unwrap().matches("order:").count()
}

/// The answers to a question for addresses, over UDP; `None` if nobody answers.
fn addresses(port: u16, name: &str) -> Option<usize> {
    let mut question = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).unwrap());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // A port that nobody has answers at once, with an error.
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.send(&question).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    assert!(length > 12 && answer[..2] == question[..2]);
    Some(usize::from(u16::from_be_bytes([answer[6], answer[7]])))
}

/// `pdnsutil` as an operator runs it on the state of a node.
fn pdnsutil(node: &Kept<'_>, args: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let database = node.path().join("current/pdns.sqlite3");
    let config = format!("launch=gsqlite3\ngsqlite3-database={}\n", database.display());
    fs::write(directory.path().join("pdns.conf"), config).unwrap();
    let mut command = Command::new("pdnsutil");
    command.arg("--config-dir").arg(directory.path()).args(args);
    Run::of(command).expect(0);
}

#[test]
fn powerdns_with_sqlite_answers_with_what_the_last_snapshot_had() {
    let service = Service {
        name: "powerdns",
        pins: r#"
[pins.service]
driver = "process"
argv = ["/bin/sh", "-c", 'exec pdns_server --no-config --launch=gsqlite3 --gsqlite3-database="$SNAPKIT_NODE_DIR/current/pdns.sqlite3" --local-address=127.0.0.1 --local-port="$APP_PORT" --socket-dir="$SNAPKIT_NODE_DIR" --daemon=no --guardian=no --disable-syslog --cache-ttl=0 --query-cache-ttl=0 --negquery-cache-ttl=0 --zone-cache-refresh-interval=0 "$@"', "powerdns"]
leader_args = ["--server-id=leader"]
follower_args = ["--server-id=follower"]
ready = { kind = "exec", argv = ["/bin/sh", "-c", 'test "$(pdns_control --socket-dir="$SNAPKIT_NODE_DIR" rping)" = PONG'], timeout_seconds = 5 }
[pins.needs]
environment = ["APP_PORT"]
capabilities = ["pdns_server", "pdns_control"]
"#
        .to_owned(),
        follows: true,
    };
    let pair = Pair::new("auto", &service.pins, |tree| {
        fs::write(tree.join("readme"), service.name).unwrap();
        let make = "import sqlite3,sys; sqlite3.connect(sys.argv[1]).executescript(open(sys.argv[2]).read())";
        let schema = "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql";
        let mut command = Command::new("python3");
        command.args(["-c", make]).arg(tree.join("pdns.sqlite3")).arg(schema);
        Run::of(command).expect(0);
    });
    let ports = [free_port(), free_port()];
    let [mut a, b] = both(&pair, &service, ports);
    pdnsutil(&a, &["create-zone", "example.org", "ns.example.org"]);
    pdnsutil(&a, &["add-record", "example.org", "shared", "A", "192.0.2.1"]);
    assert_eq!(addresses(ports[0], "shared.example.org"), Some(1));
    let shared = share(&pair, &b);
    for host in 1..=7 {
        pdnsutil(&a, &["add-record", "example.org", &format!("late{host}"), "A", "192.0.2.7"]);
    }
    assert_eq!(addresses(ports[0], "late7.example.org"), Some(1));
    let taken = lose(&mut a, &b);
    assert_eq!(addresses(ports[0], "shared.example.org"), None, "the service of a dead leader is dead");
    until("the leader answers", || addresses(ports[1], "shared.example.org").filter(|count| *count == 1));
    for host in 1..=7 {
        assert_eq!(addresses(ports[1], &format!("late{host}.example.org")), Some(0), "no snapshot had it");
    }
    assert_eq!(taken, shared["name"].as_str().unwrap());
    pdnsutil(&b, &["check-zone", "example.org"]);
    pdnsutil(&b, &["add-record", "example.org", "next", "A", "192.0.2.9"]);
    until("it is written to", || addresses(ports[1], "next.example.org").filter(|count| *count == 1));
    // What only the old leader had lies aside; itself it follows, and answers with what the chain has.
    let told = returns(&pair, &mut a);
    assert!(told.contains("pdns.sqlite3"), "{told}");
    a.wait("the follower is ready", |state| state.ready.ok && state.view.service.running_as.is_some());
    until("it answers", || addresses(ports[0], "shared.example.org").filter(|count| *count == 1));
    assert_eq!(addresses(ports[0], "late7.example.org"), Some(0));
}
