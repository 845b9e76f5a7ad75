//! What an agent shows: its paths over both doors, the commands that ask it, and the page in a real browser.
//!
//! The surfaces are real and so are the commands; the loop behind them is this test, which posts views of
//! `bootstrap/src/surfaces/examples.json` and answers requests.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bootstrap::agent::view::{Reply, Request, RequestKind, View};
use bootstrap::surfaces::{Board, Config, Limits, SurfaceError, Surfaces, Tcp, TlsFiles};
use crossbeam_channel::{Receiver, Sender};
use serde_json::Value;
use snapkit_tests::{browser, machine::Machine};

const TOKEN: &str = "correct-horse-battery-staple";
const PATIENCE: Duration = Duration::from_secs(60);

/// An agent whose loop is the test.
struct Agent {
    machine: Machine,
    node: PathBuf,
    board: Arc<Board>,
    requests: Receiver<(Request, Sender<Reply>)>,
    surfaces: Surfaces,
}

fn example(name: &str) -> View {
    let examples: Value = serde_json::from_str(include_str!("../../bootstrap/src/surfaces/examples.json")).unwrap();
    let mut view = examples["base"].clone();
    merge(&mut view, &examples["cases"][name]);
    // The chain of the examples was verified long ago.
    view["chain"]["verified"] = jiff::Timestamp::now().to_string().into();
    view["chain"]["manifest_expires"] = "2999-01-01T00:00:00Z".into();
    serde_json::from_value(view).unwrap()
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn loopback() -> Tcp {
    Tcp { listen: "127.0.0.1:0".parse().unwrap(), token: None, tls: None }
}

impl Agent {
    fn showing(view: View) -> Self {
        Self::with(view, loopback(), "node")
    }

    fn with(view: View, tcp: Tcp, node: &str) -> Self {
        let machine = Machine::new();
        let node = machine.path(node);
        fs::create_dir_all(node.join(".node/agent")).unwrap();
        fs::set_permissions(node.join(".node"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(node.join("generations")).unwrap();
        let (sender, requests) = crossbeam_channel::bounded(4);
        let board = Arc::new(Board::new(view));
        let config = Config {
            directory: node.clone(),
            socket: node.join(bootstrap::client::SOCKET),
            tcp: Some(tcp),
            limits: Limits { stalled_after: Duration::from_secs(3600), ..Limits::default() },
        };
        let surfaces = Surfaces::start(config, Arc::clone(&board), sender).unwrap();
        Self { machine, node, board, requests, surfaces }
    }

    fn node(&self) -> &str {
        self.node.to_str().unwrap()
    }

    fn tcp(&self) -> SocketAddr {
        self.surfaces.tcp().unwrap()
    }

    /// Status and body.
    fn get(&self, path: &str) -> (u16, String) {
        ask(self.tcp(), "GET", path, "", "")
    }

    fn post(&self, path: &str, head: &str, body: &str) -> (u16, String) {
        ask(self.tcp(), "POST", path, head, body)
    }

    /// Answers the next request.
    fn answer(&self, reply: Reply) -> Request {
        let (request, to) = self.requests.recv_timeout(PATIENCE).unwrap();
        to.send(reply).unwrap();
        request
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: agent\r\n{head}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("cache-control: no-store"), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[track_caller]
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn status_codes_are_the_answer_for_load_balancers() {
    let agent = Agent::showing(example("leader"));
    let codes = || ["/healthz", "/readyz", "/leader", "/replica", "/rolez"].map(|path| agent.get(path).0);
    assert_eq!(codes(), [200, 200, 200, 503, 200]);
    assert_eq!(agent.get("/rolez").1, "leader\n");
    agent.board.post(example("follower"));
    assert_eq!(codes(), [200, 200, 503, 200, 200]);
    assert_eq!(agent.get("/rolez").1, "standby\n");
    agent.board.post(example("leader_not_ready"));
    assert_eq!(codes(), [200, 503, 503, 503, 200], "holding the lease is not enough");
    agent.board.post(example("follower_behind"));
    assert_eq!(agent.get("/replica").0, 503);
    assert_eq!(agent.get("/replica?max_lag=6").0, 200);
    assert_eq!(agent.get("/replica?max_lag=many").0, 400);
    assert_eq!(agent.get("/nothing").0, 404);
    assert_eq!(agent.get("/v1/drain").0, 405);
}

#[test]
fn the_lease_gate_tells_programs_whether_they_may_go_on() {
    let agent = Agent::showing(example("leader"));
    let (status, body) = agent.get("/v1/lease?min_remaining_ms=1000");
    let held: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &held["term"], &held["node"]), (200, &8.into(), &"node-a".into()));
    assert!(held["remaining_ms"].as_u64().unwrap() <= 51_900);
    assert_eq!(agent.get("/v1/lease?min_remaining_ms=60000").0, 409);
    assert_eq!(agent.get("/v1/lease?min_remaining_ms=-1").0, 400);
    agent.board.post(example("follower"));
    let (status, body) = agent.get("/v1/lease");
    let other: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &other["holder"]["node"], &other["mode"]), (409, &"node-b".into(), &"follower".into()));
}

#[test]
fn the_socket_is_for_its_owner_alone_however_deep_the_node_lies() {
    let deep = "d".repeat(120);
    let agent = Agent::with(example("leader"), loopback(), &deep);
    let mode = fs::metadata(agent.node.join(bootstrap::client::SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let status = agent.machine.bootstrap(&["status", agent.node()]).expect(0);
    assert!(String::from_utf8_lossy(&status.stdout).contains("node-a leads"), "{status:?}");
}

#[test]
fn status_shows_what_the_agent_says() {
    let agent = Agent::showing(example("follower_behind"));
    let text = agent.machine.bootstrap(&["status", agent.node()]).expect(0);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for said in ["WATCH: node-b leads; node-a follows", "PROBLEM behind: 6 snapshots behind", "do this: free 3.2 GB"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let json = agent.machine.bootstrap(&["--json", "status", agent.node()]).expect(0);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["agent"]["mode"], "follower");
    assert_eq!(json["agent"]["schema"], "bootstrap.state/1");

    agent.board.post(example("degraded"));
    agent.machine.bootstrap(&["status", agent.node()]).expect(4);
    let Agent { machine, node, surfaces, .. } = agent;
    drop(surfaces);
    let text = machine.bootstrap(&["status", node.to_str().unwrap()]).expect(0);
    assert!(String::from_utf8_lossy(&text.stdout).contains("no agent runs for this node"));
}

#[test]
fn requests_of_commands_reach_the_loop_with_their_reason() {
    let agent = Agent::showing(example("leader"));
    for kind in RequestKind::ALL {
        let words = match kind {
            RequestKind::ForceClaim => vec!["lease", kind.as_str()],
            kind => vec![kind.as_str()],
        };
        let command = [&["--json"], &*words, &[agent.node(), "--reason", "kernel update"]].concat();
        let asking = agent.machine.bootstrap_command(&command).stdout(Stdio::piped()).spawn().unwrap();
        let request = agent.answer(Reply::Accepted(format!("it does {}", kind.as_str())));
        assert_eq!((request.kind, request.reason.as_str()), (kind, "kernel update"));
        assert!(request.by.starts_with("uid ") && request.by.ends_with(" on the socket"), "{}", request.by);
        let output = asking.wait_with_output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&json["schema"], &json["request"]), (&"bootstrap.request/1".into(), &kind.as_str().into()));
    }
    let asking = agent.machine.bootstrap_command(&["handoff", agent.node(), "--reason", "x"]).spawn().unwrap();
    agent.answer(Reply::Refused("no other member is close behind".to_owned()));
    assert_eq!(asking.wait_with_output().unwrap().status.code(), Some(3));
    agent.machine.bootstrap(&["drain", agent.node(), "--reason", " "]).expect(3);
    agent.machine.bootstrap(&["drain", agent.node()]).expect(2);
}

#[test]
fn without_an_agent_a_request_could_not_run() {
    let machine = Machine::new();
    machine.bootstrap(&["drain", &machine.arg("none"), "--reason", "x"]).expect(5);
    machine.bootstrap(&["run-if-leader", &machine.arg("none"), "--", "true"]).expect(5);
}

#[test]
fn on_tcp_a_request_needs_the_token_and_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let agent = Agent::with(example("leader"), Tcp { token: Some(token), ..loopback() }, "node");
    let right = format!("authorization: Bearer {TOKEN}\r\n");
    assert_eq!(agent.post("/v1/drain", "", "").0, 401);
    assert_eq!(agent.post("/v1/drain", &right, "").0, 400, "without a reason");
    assert_eq!(agent.post("/v1/explode", &right, "").0, 404);
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| agent.post("/v1/drain", &right, r#"{"reason": "kernel update"}"#));
        let request = agent.answer(Reply::Accepted("drains".to_owned()));
        assert_eq!((request.reason.as_str(), request.by.as_str()), ("kernel update", "127.0.0.1 with the token"));
        assert_eq!(asked.join().unwrap().0, 202);
        let asked = scope.spawn(|| agent.post("/v1/resume?reason=done", &right, ""));
        assert_eq!(agent.answer(Reply::Refused("not drained".to_owned())).reason, "done");
        assert_eq!(asked.join().unwrap().0, 409);
    });
    let wrong = "authorization: Bearer correct-horse-battery-stapl3\r\n";
    let codes: Vec<u16> = (0..6).map(|_| agent.post("/v1/drain?reason=x", wrong, "").0).collect();
    assert_eq!(codes, [401, 401, 401, 401, 401, 429]);
    assert_eq!(agent.post("/v1/drain?reason=x", &right, "").0, 429, "a guess is not confirmed while locked out");
    assert!(agent.requests.is_empty());

    let closed = Agent::showing(example("leader"));
    assert_eq!(closed.post("/v1/drain?reason=x", &right, "").0, 403, "no token is configured");
    assert_eq!(closed.post("/v1/drain?reason=x", "", &"x".repeat(5000)).0, 413);
}

#[test]
fn what_others_could_read_is_not_served_without_tls() {
    let start = |tcp| {
        let directory = tempfile::tempdir().unwrap();
        let (sender, _requests) = crossbeam_channel::bounded(1);
        let socket = directory.path().join("agent.sock");
        let config = Config { directory: directory.path().into(), socket, tcp: Some(tcp), limits: Limits::default() };
        Surfaces::start(config, Arc::new(Board::new(example("leader"))), sender).map(drop)
    };
    let open = Tcp { listen: "0.0.0.0:0".parse().unwrap(), ..loopback() };
    assert!(matches!(start(open), Err(SurfaceError::Plain { .. })));
    let missing = TlsFiles { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
    assert!(matches!(start(Tcp { tls: Some(missing), ..loopback() }), Err(SurfaceError::Tls { .. })));
    assert!(matches!(start(Tcp { token: Some("/nowhere".into()), ..loopback() }), Err(SurfaceError::Token { .. })));
}

/// A certificate for `127.0.0.1` that signed itself.
fn certificate(directory: &Path) -> TlsFiles {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=agent", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    TlsFiles { certificate, key }
}

#[test]
fn tls_is_spoken_where_a_certificate_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificate(directory.path());
    let agent = Agent::with(example("leader"), Tcp { tls: Some(files.clone()), ..loopback() }, "node");
    let curl = |address: String| {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--max-time", "30", "--cacert"])
            .arg(&files.certificate)
            .arg(address)
            .output()
            .unwrap()
    };
    let answered = curl(format!("https://{}/leader", agent.tcp()));
    assert!(answered.status.success(), "{answered:?}");
    assert_eq!(answered.stdout, b"leads in term 8\n");
    assert!(!curl(format!("http://{}/leader", agent.tcp())).status.success(), "plain text is not answered");
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
    let (sender, _requests) = crossbeam_channel::bounded(1);
    let config = Config {
        directory: directory.path().into(),
        socket: directory.path().join("agent.sock"),
        tcp: Some(Tcp { tls: Some(files), ..loopback() }),
        limits: Limits::default(),
    };
    let refused = Surfaces::start(config, Arc::new(Board::new(example("leader"))), sender).unwrap_err().to_string();
    assert!(refused.contains("others may use it"), "{refused}");
}

/// The certificate that is served, in PEM.
fn served(address: SocketAddr) -> String {
    let shown = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string()])
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let begin = text.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{shown:?}"));
    let end = text.find("-----END CERTIFICATE-----").unwrap();
    text[begin..end].to_owned()
}

#[test]
fn a_renewed_certificate_is_served_without_a_restart_and_a_bad_one_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let files = certificate(directory.path());
    let pem = |files: &TlsFiles| {
        let text = fs::read_to_string(&files.certificate).unwrap();
        text.split("-----END").next().unwrap().trim_start().to_owned()
    };
    let first = pem(&files);
    let agent = Agent::with(example("leader"), Tcp { tls: Some(files.clone()), ..loopback() }, "node");
    assert_eq!(served(agent.tcp()), first);
    let other = tempfile::tempdir().unwrap();
    let renewed = certificate(other.path());
    let second = pem(&renewed);
    assert_ne!(first, second);
    // One file after the other, as tools that renew them do: between the two they do not go together.
    let put = |from: &Path, to: &Path| {
        let new = to.with_extension("new");
        fs::copy(from, &new).unwrap();
        fs::rename(&new, to).unwrap();
    };
    let end = Instant::now() + Duration::from_secs(120);
    put(&renewed.certificate, &files.certificate);
    let looks = Instant::now() + Duration::from_secs(12);
    while Instant::now() < looks {
        assert_eq!(served(agent.tcp()), first, "a certificate without its key is not served");
        std::thread::sleep(Duration::from_millis(500));
    }
    put(&renewed.key, &files.key);
    while served(agent.tcp()) != second {
        assert!(Instant::now() < end, "the new certificate is not served");
        std::thread::sleep(Duration::from_millis(200));
    }
    // What a client that trusts the new one gets is an answer.
    let curl = ["--silent", "--max-time", "30", "--cacert", files.certificate.to_str().unwrap()];
    let answered = Command::new("curl").args(curl).arg(format!("https://{}/leader", agent.tcp())).output().unwrap();
    assert_eq!(answered.stdout, b"leads in term 8\n", "{answered:?}");
}

#[test]
fn slow_clients_on_tcp_do_not_keep_the_operator_out() {
    let agent = Agent::showing(example("leader"));
    let _idle: Vec<TcpStream> = (0..100).filter_map(|_| TcpStream::connect(agent.tcp()).ok()).collect();
    agent.machine.bootstrap(&["status", agent.node()]).expect(0);
}

#[test]
fn a_command_runs_only_on_the_leader_and_learns_its_term() {
    let agent = Agent::showing(example("leader"));
    let run = |command: &[&str]| {
        let mut args = vec!["run-if-leader", agent.node(), "--"];
        args.extend(command);
        agent.machine.bootstrap(&args)
    };
    let ran = run(&["sh", "-c", "echo $SNAPKIT_NODE $SNAPKIT_TERM; exit 42"]).expect(42);
    assert_eq!(ran.stdout, b"node-a 8\n");
    run(&["sh", "-c", "kill -KILL $$"]).expect(137);
    run(&["/nowhere/program"]).expect(127);
    agent.board.post(example("follower"));
    let skipped = run(&["sh", "-c", "echo ran"]).expect(7);
    assert!(skipped.stdout.is_empty() && skipped.stderr.contains("node-b leads in term 7"), "{skipped:?}");
}

/// Starts a command that says its process ids, its own and that of a child, in a file, and would go on for long.
fn run_long(agent: &Agent) -> (std::process::Child, Vec<u32>) {
    let pids = agent.machine.path("pids");
    let script = "sleep 600 & echo $$ $! > pids.new; mv pids.new pids; trap '' TERM; wait; sleep 600";
    let running = agent.machine.bootstrap_command(&["run-if-leader", agent.node(), "--", "sh", "-c", script]);
    let running = { running }.stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the command runs", || pids.exists());
    let pids = fs::read_to_string(pids).unwrap();
    (running, pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
}

fn is_gone(pid: &u32) -> bool {
    // A zombie runs nothing any more, whoever will ask for its status.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn a_command_is_killed_when_the_lease_is_lost() {
    let agent = Agent::showing(example("leader"));
    for lost in ["fenced", "another term"] {
        agent.board.post(example("leader"));
        let _ = fs::remove_file(agent.machine.path("pids"));
        let (running, pids) = run_long(&agent);
        agent.board.post(match lost {
            "fenced" => example("fenced"),
            _ => {
                let mut view = example("leader");
                (view.term, view.holder.as_mut().unwrap().term) = (10, 10);
                view
            }
        });
        let output = running.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(8), "{lost}: {output:?}");
        assert!(pids.iter().all(is_gone), "{lost}");
    }
}

#[test]
fn a_command_is_killed_by_the_last_answer_when_the_agent_falls_silent() {
    let agent = Agent::showing(example("leader"));
    let (running, pids) = run_long(&agent);
    // The next answer is the last one.
    let mut view = example("leader");
    view.remaining_ms = Some(1_500);
    agent.board.post(view);
    std::thread::sleep(Duration::from_millis(1_000));
    let Agent { surfaces, machine: _machine, .. } = agent;
    drop(surfaces);
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(pids.iter().all(is_gone));
}

#[test]
fn a_command_does_not_outlive_who_watches_the_lease_for_it() {
    let agent = Agent::showing(example("leader"));
    let (mut running, pids) = run_long(&agent);
    running.kill().unwrap();
    running.wait().unwrap();
    wait_for("the command dies", || is_gone(&pids[0]));
    let _ = Command::new("kill").args(["-KILL", &pids[1].to_string()]).status();
}

#[test]
fn the_page_works_in_a_browser_and_runs_nothing_of_others() {
    let agent = Agent::showing(example("follower"));
    let address = format!("http://{}/", agent.tcp());
    let page = browser::visit(&address, &["--virtual-time-budget=5000"]);
    assert!(page.console.is_empty(), "{:?}", page.console);
    assert!(page.dom.contains("<h1>node-b leads; node-a follows</h1>"), "{}", page.dom);
    assert!(page.dom.contains(">live</span>"), "the script ran: {}", page.dom);
    agent.board.post(example("hostile"));
    let page = browser::visit(&address, &["--virtual-time-budget=5000"]);
    assert!(page.console.is_empty(), "nothing was refused, because nothing was tried: {:?}", page.console);
    assert!(!page.dom.contains("<img src"), "{}", page.dom);
}

#[test]
fn metrics_are_what_the_other_paths_say() {
    let agent = Agent::showing(example("leader"));
    let (status, text) = agent.get("/metrics");
    assert_eq!(status, 200);
    for series in ["snapkit_leader 1", "snapkit_term 8", "snapkit_mode{mode=\"leader\"} 1", "snapkit_problems 0"] {
        assert!(text.lines().any(|line| line == series), "{series}: {text}");
    }
}
