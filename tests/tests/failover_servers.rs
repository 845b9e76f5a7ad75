//! Failover with lease and chain on a real server: three agents, each behind a gate that can be shut for it alone.
//!
//! `tests/servers/check-failover` starts the server; without one nothing is tested here, unless
//! `SNAPKIT_TEST_SERVERS=required`, which makes its absence a failure.

#![allow(clippy::unwrap_used)]

use std::env;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapkit_tests::gate::{Gate, Passage};
use snapkit_tests::group::{Group, Member, Options, PATIENCE, Remote, longest_takeover};

/// A group on the server, with a gate for each node.
struct Site {
    group: Group,
    gates: Vec<Gate>,
}

/// What leads to the server; `None` when there is none and none is required.
fn server() -> Option<(String, Vec<(String, String)>)> {
    let Ok(url) = env::var("SNAPKIT_TEST_STORE_URL") else {
        let required = env::var("SNAPKIT_TEST_SERVERS").is_ok_and(|value| value == "required");
        assert!(!required, "no server: run this through tests/servers/check-failover");
        eprintln!("skipped: no server, run this through tests/servers/check-failover");
        return None;
    };
    Some((url, env::vars().filter(|(name, _)| name.starts_with("AWS_")).collect()))
}

impl Site {
    /// A group whose chain is under a prefix of its own.
    fn new(name: &str) -> Option<Self> {
        let (url, variables) = server()?;
        let endpoint = variables.iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").map(|(_, value)| value.clone());
        let at: SocketAddr = endpoint.unwrap().strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap();
        let gates: Vec<Gate> = (0..3).map(|_| Gate::before(at)).collect();
        let through = |gate: &Gate| {
            let mut variables = variables.clone();
            variables.retain(|(name, _)| name != "AWS_ENDPOINT_URL");
            variables.push(("AWS_ENDPOINT_URL".to_owned(), format!("http://{}", gate.address())));
            variables
        };
        let nodes = gates.iter().map(through).collect();
        let remote = Remote { url: format!("{url}/{name}"), issuer: variables.clone(), nodes };
        let group = Group::new(Options { remote: Some(remote), ..Options::default() });
        Some(Self { group, gates })
    }

    fn node(&self, number: usize) -> &Member {
        &self.group.nodes[number]
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < end, "{what}\n{}", self.group.story());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the leader wrote more, takes a snapshot, and waits until these have it. How many lines are in it at least.
    #[track_caller]
    fn shared(&self, leader: usize, by: &[usize]) -> usize {
        let before = self.node(leader).lines().len();
        self.until("the leader writes", || self.node(leader).lines().len() > before + 2);
        let lines = self.node(leader).lines().len();
        let taken = self.node(leader).snapshot();
        // The file grows meanwhile, so it may count as torn.
        assert!([0, 20].contains(&taken.code), "{taken:?}");
        let seq = taken.json("snapkit.snapshot/1")["seq"].as_u64().unwrap();
        for other in by {
            self.node(*other).wait("has the snapshot", |state| state["chain"]["applied_seq"].as_u64() >= Some(seq));
        }
        lines
    }

    /// Asserts that a leader began with what was shared in an earlier term.
    #[track_caller]
    fn has(&self, leader: usize, shared: usize) {
        let lines = self.node(leader).lines();
        let numbers: Vec<u64> = lines.iter().map(|line| line["n"].as_u64().unwrap()).collect();
        assert!(lines.len() >= shared, "{shared} were shared: {lines:?}");
        assert!(numbers.iter().copied().eq(1..=numbers.len() as u64), "nothing is missing or twice: {numbers:?}");
    }

    /// The claims of the lease log, as (term, node), oldest first.
    fn claims(&self) -> Vec<(u64, String)> {
        let shown = self.node(0).machine.bootstrap(&["lease", "history", "node", "-n", "10000", "--json"]);
        let shown = shown.expect(0).json("bootstrap.lease-history/1");
        let mut claims: Vec<(u64, String)> = (shown["slots"].as_array().unwrap().iter())
            .filter(|slot| slot["kind"] == "claim")
            .map(|slot| (slot["term"].as_u64().unwrap(), slot["node"].as_str().unwrap().to_owned()))
            .collect();
        claims.sort();
        claims
    }
}

#[test]
fn a_leader_that_is_cut_off_from_the_server_is_followed_by_another_and_the_followers_that_are_cut_off_never_lead() {
    let Some(mut site) = Site::new("cut-off") else { return };
    site.group.lead_by(0);
    let shared = site.shared(0, &[1, 2]);

    // One follower reaches nothing: it is no candidate and not ready, and everybody else goes on.
    site.gates[2].set(Passage::Shut);
    site.node(2).wait("says that it cannot read the chain", |state| {
        state["chain"]["failure"].is_string() && state["mode"] == "follower"
    });

    // Then the leader, too, in the middle of whatever it says: it ends by its own clock, and the one that is left leads.
    site.gates[0].set(Passage::Silent);
    site.until("the cut-off leader ends its service", || site.node(0).service_pid().is_none());
    assert_eq!(site.group.leader(&[0]), 1, "the other one is cut off\n{}", site.group.story());
    assert_eq!(site.node(1).state().unwrap()["term"], 2);
    site.has(1, shared);
    assert!(site.node(0).service_pid().is_none() && site.node(2).service_pid().is_none());
    site.group.no_conflicts();
    site.until("it is not ready", || site.node(2).ask("GET", "/readyz").is_some_and(|answer| answer.0 == 503));
    assert_eq!(site.node(2).state().unwrap()["mode"], "follower");

    // With the server they are followers of who leads now, and what the old leader wrote last lies aside.
    for number in [0, 2] {
        site.gates[number].set(Passage::Open);
    }
    for number in [0, 2] {
        site.node(number).wait("follows again", |state| {
            state["role"] == "standby" && state["holder"]["node"] == "b" && state["chain"]["lag"] == 0
        });
    }
    site.node(0)
        .wait("set it aside", |state| state["orphaned"][0].as_str().is_some_and(|at| at.ends_with("orphaned/1")));

    // A leader that dies, and one that hands over.
    let shared = site.shared(1, &[0, 2]);
    site.group.nodes[1].kill_agent();
    let next = site.group.leader(&[1]);
    assert_eq!(site.node(next).state().unwrap()["term"], 3);
    site.has(next, shared);
    site.group.nodes[1].start();
    site.node(1).wait_standing_by();
    let shared = site.shared(next, &(0..3).filter(|number| *number != next).collect::<Vec<_>>());
    site.node(next).request("handoff").expect(0);
    let last = site.group.leader(&[next]);
    assert_eq!(site.node(last).state().unwrap()["term"], 4);
    site.has(last, shared);
    site.group.no_conflicts();

    // The server says the same: one claim for each term, and a chain in which every record is of who led.
    let name = |number: usize| site.node(number).name.clone();
    let expected: Vec<(u64, String)> = [0, 1, next, last].into_iter().map(name).zip(1..).map(|(n, t)| (t, n)).collect();
    assert_eq!(site.claims(), expected);
    site.group.issuer.machine.ok(&["verify", "--data"]);
}

#[test]
fn a_server_that_is_down_for_everybody_has_no_leader_and_one_again_when_it_is_back() {
    let Some(mut site) = Site::new("down") else { return };
    site.group.lead_by(0);
    for gate in &site.gates {
        gate.set(Passage::Shut);
    }
    site.until("the leader ends its service", || site.node(0).service_pid().is_none());
    for node in &site.group.nodes {
        let state = node.wait("says why", |state| {
            let named = |problem: &Value| problem["name"] == "store_unreachable";
            state["mode"] != "leader" && state["problems"].as_array().is_some_and(|all| all.iter().any(named))
        });
        assert_eq!(node.ask("GET", "/leader").unwrap().0, 503, "{state:#}");
    }
    let written = site.group.writes().len();
    thread::sleep(longest_takeover());
    assert_eq!(site.group.writes().len(), written, "nobody leads without the lease\n{}", site.group.story());
    for gate in &site.gates {
        gate.set(Passage::Open);
    }
    let leader = site.group.leader(&[]);
    site.until("it writes", || site.group.writes().len() > written);
    assert!(site.node(leader).state().unwrap()["term"].as_u64() >= Some(2));
    site.group.no_conflicts();
}
