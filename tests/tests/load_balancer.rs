//! The configuration of `docs/surfaces.md` in a real HAProxy, in front of a real group that loses its leader.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapkit_tests::Machine;
use snapkit_tests::group::{Group, Options, PATIENCE};
use snapkit_tests::kept::free_port;

/// Every node has an address of its own, as machines have, and all of them the same ports.
const NODES: [&str; 2] = ["127.0.0.2", "127.0.0.3"];

/// A port that is free on the addresses of all nodes.
fn port() -> u16 {
    loop {
        let port = free_port();
        if NODES.iter().all(|node| TcpListener::bind((*node, port)).is_ok()) {
            return port;
        }
    }
}

/// Gives a service that listens where the system likes a fixed address: whoever connects is led to where it listens now.
fn forward(from: SocketAddr, to: PathBuf) {
    let listener = TcpListener::bind(from).unwrap();
    thread::spawn(move || {
        for client in listener.incoming().filter_map(Result::ok) {
            let port = fs::read_to_string(&to).ok().and_then(|text| text.parse::<u16>().ok());
            let Some(service) = port.and_then(|port| TcpStream::connect(("127.0.0.1", port)).ok()) else { continue };
            for (from, to) in [(&client, &service), (&service, &client)] {
                let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
}

/// A certificate that signed itself, and its key.
fn certificate(machine: &Machine) -> (PathBuf, PathBuf) {
    let (certificate, key) = (machine.path("agents.pem"), machine.path("agents.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=agents", "-addext", "subjectAltName=IP:127.0.0.2,IP:127.0.0.3"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{made:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (certificate, key)
}

/// The example of the page, with the addresses of this group for those that stand there.
fn documented(changes: &[(&str, String)]) -> String {
    let page = include_str!("../../docs/surfaces.md");
    let (_, rest) = page.split_once("HAProxy;").unwrap();
    let (_, rest) = rest.split_once("```text\n").unwrap();
    let mut config = rest.split_once("```").unwrap().0.to_owned();
    for (there, here) in changes {
        assert!(config.contains(there), "{there}: {config}");
        config = config.replace(there, here);
    }
    config
}

struct HaProxy(Child);

impl HaProxy {
    fn start(config: &Path) -> Self {
        let haproxy = || Command::new("haproxy");
        let checked = haproxy().arg("-c").arg("-f").arg(config).output().expect("haproxy is installed");
        assert!(checked.status.success(), "{checked:?}");
        let log = fs::File::create(config.with_extension("log")).unwrap();
        Self(haproxy().arg("-db").arg("-f").arg(config).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Who answers behind an address: node and role; `None` if it is nobody.
fn asked(port: u16) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(b"GET /instance HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let instance: Value = serde_json::from_str(body).ok().filter(|_| head.contains(" 200 "))?;
    Some((instance["node"].as_str()?.to_owned(), instance["role"].as_str()?.to_owned()))
}

/// Waits until HAProxy says that a server is down.
#[track_caller]
fn wait_down(control: &Path, server: &str) {
    let state = || -> io::Result<String> {
        let mut socket = UnixStream::connect(control)?;
        socket.write_all(b"show stat\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    };
    let end = Instant::now() + PATIENCE;
    loop {
        let state = state().unwrap_or_default();
        if state.lines().any(|line| line.starts_with(&format!("{server},")) && line.contains(",DOWN,")) {
            return;
        }
        assert!(Instant::now() < end, "{server} is not down: {state}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn wait_for(group: &Group, port: u16, node: &str) -> Vec<(String, String)> {
    let end = Instant::now() + PATIENCE;
    let mut all = Vec::new();
    loop {
        let answer = asked(port);
        all.extend(answer.clone());
        if answer.is_some_and(|(by, _)| by == node) {
            return all;
        }
        assert!(Instant::now() < end, "{node} does not answer: {all:?}\n{}", group.story());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn haproxy_as_documented_sends_writes_to_the_leader_alone() {
    let mut group = Group::new(Options { nodes: 2, follower_runs: true, ..Options::default() });
    let (of_agent, of_service, writes, reads) = (port(), port(), port(), port());
    let (certificate, key) = certificate(&group.issuer.machine);
    for (node, address) in group.nodes.iter().zip(NODES) {
        let file = node.machine.path("node/bootstrap.toml");
        let text = fs::read_to_string(&file).unwrap();
        let (certificate, key) = (certificate.display(), key.display());
        let surface =
            format!("[surface]\nlisten = \"{address}:{of_agent}\"\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
        fs::write(&file, format!("{text}\n{surface}")).unwrap();
        forward(format!("{address}:{of_service}").parse().unwrap(), node.file("port"));
    }
    let backends = documented(&[
        ("10.0.0.1", NODES[0].to_owned()),
        ("10.0.0.2", NODES[1].to_owned()),
        (":8080", format!(":{of_service}")),
        ("port 8480", format!("port {of_agent}")),
        ("/etc/ssl/agents.pem", certificate.display().to_string()),
    ]);
    let control = group.issuer.machine.path("haproxy.sock");
    let config = format!(
        "global\n    stats socket {}\ndefaults\n    mode http\n    timeout connect 5s\n    timeout client 10s\n    timeout server 10s\n\
         frontend writes\n    bind 127.0.0.1:{writes}\n    default_backend orders-write\n\
         frontend reads\n    bind 127.0.0.1:{reads}\n    default_backend orders-read\n{backends}",
        control.display()
    );
    let config = group.issuer.machine.write("haproxy.cfg", config);
    group.lead_by(0);
    group.nodes[1].wait_standing_by();
    let _haproxy = HaProxy::start(&config);
    // Until its first check HAProxy takes every server for good, as the page says.
    wait_down(&control, "orders-write,node-b");
    wait_down(&control, "orders-read,node-a");
    wait_for(&group, writes, "a");
    wait_for(&group, reads, "b");
    for _ in 0..20 {
        assert_eq!(asked(writes).unwrap(), ("a".to_owned(), "leader".to_owned()));
        assert_eq!(asked(reads).unwrap(), ("b".to_owned(), "follower".to_owned()));
    }
    // A drained leader gets nothing new, though it leads.
    group.nodes[0].request("drain").expect(0);
    let end = Instant::now() + PATIENCE;
    while asked(writes).is_some() {
        assert!(Instant::now() < end, "a drained leader is still asked\n{}", group.story());
        thread::sleep(Duration::from_millis(50));
    }
    group.nodes[0].request("resume").expect(0);
    wait_for(&group, writes, "a");
    group.nodes[0].kill_agent();
    let answers = wait_for(&group, writes, "b");
    assert!(answers.iter().all(|(_, role)| role == "leader"), "{answers:?}");
    let first = answers.iter().position(|(node, _)| node == "b").unwrap();
    assert!(answers[..first].iter().all(|(node, _)| node == "a"), "{answers:?}");
    group.no_conflicts();
}
