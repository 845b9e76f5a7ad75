//! What a real group shows while it lives through a takeover: page, terminal, metrics, paths and state say the same, and it
//! is so.
//!
//! With `SNAPKIT_SCREENSHOTS` set to a directory, what was seen at each stage is kept there as pictures.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::agent::view::Mode;
use bootstrap::surfaces::state::State;
use bootstrap::surfaces::story::{Story, Tone};
use rustix::process::{Signal, kill_process};
use snapkit_tests::browser;
use snapkit_tests::group::{Group, Member, Options, PATIENCE};
use snapkit_tests::kept::{free_port, until};

/// A group whose agents answer over TCP, too, and the addresses of their pages.
fn served(options: Options) -> (Group, Vec<String>) {
    let group = Group::new(options);
    let pages = (group.nodes.iter())
        .map(|node| {
            let free = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let file = node.machine.path("node/bootstrap.toml");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, format!("{text}\n[surface]\nlisten = \"{free}\"\n")).unwrap();
            format!("http://{free}/")
        })
        .collect();
    (group, pages)
}

fn state(node: &Member) -> State {
    serde_json::from_value(node.wait("answers", |_| true)).unwrap()
}

/// What does not change from one moment to the next while nothing happens.
fn settled(state: &State) -> String {
    let view = &state.view;
    let story = Story::of(state);
    let problems: Vec<&String> = story.problems.iter().map(|problem| &problem.name).collect();
    let answers = [&state.health, &state.ready, &state.leader, &state.replica].map(|answer| answer.ok);
    format!(
        "{:?} {} {:?} {answers:?} {problems:?} {} {:?} {:?} {:?} {}",
        view.mode,
        view.term,
        view.holder,
        story.headline,
        view.service,
        view.chain.lag,
        view.chain.applied_seq,
        state.holds
    )
}

/// What a node shows at one moment. If that was the same before and after, everything between must say the same.
#[track_caller]
fn told(node: &Member) -> State {
    let end = Instant::now() + PATIENCE;
    loop {
        let before = state(node);
        let said = Said::of(node);
        let after = state(node);
        if settled(&before) == settled(&after) {
            said.agrees_with(&after);
            return after;
        }
        assert!(Instant::now() < end, "{}: never twice the same\n{}", node.name, node.log());
    }
}

struct Said {
    page: String,
    metrics: String,
    role: String,
    codes: [u16; 5],
    status: String,
}

impl Said {
    fn of(node: &Member) -> Self {
        let get = |path: &str| node.ask("GET", path).expect("its agent answers");
        let codes = ["/healthz", "/readyz", "/leader", "/replica", "/v1/lease"].map(|path| get(path).0);
        let status = node.machine.bootstrap(&["status", "node"]);
        let status = String::from_utf8(status.stdout).unwrap();
        Self { page: get("/").1, metrics: get("/metrics").1, role: get("/rolez").1, codes, status }
    }

    #[track_caller]
    fn agrees_with(&self, state: &State) {
        let (view, story) = (&state.view, Story::of(state));
        let code = |ok: bool| if ok { 200 } else { 503 };
        let [health, ready, leader, replica, lease] = self.codes;
        let answers = [&state.health, &state.ready, &state.leader, &state.replica].map(|answer| code(answer.ok));
        assert_eq!([health, ready, leader, replica], answers, "{state:#?}");
        let keeps = matches!(view.mode, Mode::Leader | Mode::Draining | Mode::Demoting) && state.holds;
        assert_eq!(lease == 200, keeps, "{state:#?}");
        assert_eq!(self.role.trim_end(), state.role);

        assert!(self.page.contains(&format!("<h1>{}</h1>", story.headline)), "{}\n{}", story.headline, self.page);
        assert!(self.status.contains(&story.headline), "{}\n{}", story.headline, self.status);
        assert_eq!(self.page.matches("<div class=problem>").count(), story.problems.len(), "{}", self.page);
        for problem in &story.problems {
            assert!(self.page.contains(&format!("<span class=name>{}</span>", problem.name)), "{}", self.page);
            assert!(self.status.contains(&format!("PROBLEM {}: {}", problem.name, problem.what)), "{}", self.status);
        }
        for fact in &story.facts {
            assert!(self.page.contains(&format!("<dt>{}</dt>", fact.label)), "{}: {}", fact.label, self.page);
            assert!(self.status.contains(&fact.label.to_lowercase()), "{}: {}", fact.label, self.status);
        }

        let word = serde_json::to_value(view.mode).unwrap();
        let runs = |role: &str| u8::from(view.service.running_as.as_deref() == Some(role));
        for series in [
            format!("mode{{mode={word}}} 1"),
            format!("healthy {}", u8::from(state.health.ok)),
            format!("ready {}", u8::from(state.ready.ok)),
            format!("leader {}", u8::from(state.leader.ok)),
            format!("replica {}", u8::from(state.replica.ok)),
            format!("lease_held {}", u8::from(state.holds)),
            format!("term {}", view.term),
            format!("takeovers_total {}", view.takeovers),
            format!("conflicts_total {}", view.conflicts),
            format!("problems {}", view.problems.len()),
            format!("orphaned_states {}", view.orphaned.len()),
            format!("chain_reachable {}", u8::from(view.chain.failure.is_none())),
            format!("service_running{{role=\"leader\"}} {}", runs("leader")),
            format!("service_running{{role=\"follower\"}} {}", runs("follower")),
        ] {
            let series = format!("snapkit_{series}");
            assert!(self.metrics.lines().any(|line| line == series), "{series}\n{}", self.metrics);
        }
    }
}

/// Waits until what a node shows is so, and gives it.
#[track_caller]
fn told_when(node: &Member, what: &str, is_so: impl Fn(&State) -> bool) -> State {
    let end = Instant::now() + PATIENCE;
    loop {
        let state = told(node);
        if is_so(&state) {
            return state;
        }
        assert!(Instant::now() < end, "{}: {what}: {state:#?}\n{}", node.name, node.log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// The page as a browser shows it after its script ran.
#[track_caller]
fn look(address: &str, name: &str, headline: &str) {
    let page = browser::visit(address, &["--virtual-time-budget=4000"]);
    assert!(page.console.is_empty(), "{:?}", page.console);
    assert!(page.dom.contains(">live</span>"), "the script ran: {}", page.dom);
    assert!(page.dom.contains(&format!("<h1>{headline}")), "{headline}: {}", page.dom);
    if let Some(directory) = std::env::var_os("SNAPKIT_SCREENSHOTS") {
        browser::picture(address, &Path::new(&directory).join(format!("{name}.png")));
    }
}

/// The nodes that say that they lead are those whose service leads, as it says itself.
#[track_caller]
fn leaders_are(group: &Group, expected: &[usize]) {
    let serves = |node: &Member| node.service("/role").as_deref() == Some("leader");
    let of = |is: &dyn Fn(&Member) -> bool| -> Vec<usize> {
        (0..group.nodes.len()).filter(|number| is(&group.nodes[*number])).collect()
    };
    assert_eq!(of(&serves), expected, "services\n{}", group.story());
    let says = |node: &Member| node.agent.is_some() && told(node).leader.ok;
    assert_eq!(of(&says), expected, "surfaces\n{}", group.story());
}

#[test]
fn everything_that_is_shown_agrees_and_is_true_through_a_takeover() {
    let (mut group, pages) = served(Options { nodes: 2, follower_runs: true, ..Options::default() });
    group.lead_by(0);
    let leads = told_when(&group.nodes[0], "leads", |state| Story::of(state).tone == Tone::Good);
    assert_eq!(Story::of(&leads).headline, "a leads");
    let stands = told_when(&group.nodes[1], "stands by", |state| Story::of(state).tone == Tone::Good);
    assert_eq!(Story::of(&stands).headline, "a leads; b stands by to take over");
    assert!(stands.view.holder_seen_ms_ago.is_some_and(|ago| ago < 60_000), "{stands:#?}");
    // Also who comes in the middle of a term knows since when it is led.
    let since = |state: &State| state.view.holder.as_ref().unwrap().since;
    assert!(since(&leads).is_some(), "{leads:#?}");
    assert_eq!(since(&stands), since(&leads), "{stands:#?}");
    leaders_are(&group, &[0]);
    look(&pages[0], "1-leader", "a leads");
    look(&pages[1], "1-follower", "a leads; b stands by to take over");

    // A leader whose service does not serve is none, and holds the lease all the same.
    fs::write(group.nodes[0].file("not-ready"), "").unwrap();
    let state = told_when(&group.nodes[0], "does not serve", |state| !state.leader.ok);
    assert!(state.holds, "{state:#?}");
    look(&pages[0], "2-not-ready", "a leads, and its service does not serve");
    fs::remove_file(group.nodes[0].file("not-ready")).unwrap();
    told_when(&group.nodes[0], "serves again", |state| state.leader.ok);

    // What a person asked for is said, with the reason, until it is taken back.
    group.nodes[0].request("drain").expect(0);
    let state = told_when(&group.nodes[0], "drained", |state| state.view.mode == Mode::Draining);
    assert_eq!((state.view.drained.as_deref(), state.leader.ok), (Some("test"), false));
    look(&pages[0], "3-draining", "a leads, and takes no new work");
    group.nodes[0].request("resume").expect(0);
    for (request, shown) in
        [("pause", "paused: test"), ("drain", "drained: test"), ("demote", "demoted, and no candidate: test")]
    {
        group.nodes[1].request(request).expect(0);
        let state = told_when(&group.nodes[1], request, |state| state.view.problems.len() == 1);
        assert_eq!(state.view.problems[0].name, "no_candidate");
        assert!(Story::of(&state).facts.iter().any(|fact| fact.notes.iter().any(|note| note == shown)), "{state:#?}");
        let page = group.nodes[1].ask("GET", "/").unwrap().1;
        assert!(page.contains("bootstrap resume"), "{page}");
        look(&pages[1], &format!("4-{request}"), "a leads; b ");
        group.nodes[1].request("resume").expect(0);
        told_when(&group.nodes[1], "resumed", |state| state.view.problems.is_empty());
    }

    // The leader is gone: who is left says so, takes over, and says what it cost.
    let service = group.nodes[0].service_pid().unwrap();
    group.nodes[0].kill_agent();
    snapkit_tests::kept::gone(service);
    let state = told_when(&group.nodes[1], "leads", |state| state.leader.ok);
    assert_eq!(Story::of(&state).headline, "b leads");
    let takeover = state.view.takeover.as_ref().unwrap();
    assert_eq!((takeover.term, state.view.takeovers), (state.view.term, 1));
    let phases: Vec<&str> = takeover.phases.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(phases, ["fence", "restore", "start", "ready"]);
    assert_eq!(takeover.captured, state.view.chain.captured.unwrap(), "what it began from is the last snapshot");
    leaders_are(&group, &[1]);
    look(&pages[1], "5-took-over", "b leads");

    // The old leader comes back: it follows, and says what only it has.
    group.nodes[0].start();
    let state = told_when(&group.nodes[0], "its state is aside", |state| !state.view.orphaned.is_empty());
    assert!(state.view.problems.iter().any(|problem| problem.name == "orphaned"), "{state:#?}");
    let kept = group.nodes[0].machine.path("node").join(&state.view.orphaned[0]);
    assert!(kept.join("diff.txt").is_file(), "{}", kept.display());
    let state = told_when(&group.nodes[0], "stands by", |state| state.view.mode == Mode::Candidate && state.ready.ok);
    assert_eq!(Story::of(&state).headline, "b leads; a stands by to take over");
    leaders_are(&group, &[1]);
    look(&pages[0], "6-returned", "b leads; a stands by to take over");
    group.no_conflicts();
}

/// A way to a page on which the second request for it finds the agent dead: `kill` is called first.
fn deadly(page: &str, kill: impl Fn() + Send + 'static) -> String {
    let agent: SocketAddr = page.strip_prefix("http://").unwrap().trim_end_matches('/').parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let way = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let mut pages = 0;
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut head = String::new();
            while stream.read_line(&mut head).is_ok_and(|read| read > 2) {}
            if head.starts_with("GET / ") {
                pages += 1;
                if pages == 2 {
                    kill();
                }
            }
            let Ok(mut there) = TcpStream::connect(agent) else { continue };
            let asked = head.trim_end().replace("keep-alive", "close");
            let _ = there.write_all(format!("{asked}\r\n\r\n").as_bytes());
            let _ = std::io::copy(&mut there, &mut stream.into_inner());
        }
    });
    way
}

#[test]
fn a_page_whose_agent_was_killed_says_that_what_it_shows_is_old() {
    let (mut group, pages) = served(Options { nodes: 1, ..Options::default() });
    group.lead_by(0);
    told_when(&group.nodes[0], "leads", |state| Story::of(state).tone == Tone::Good);
    let agent = group.nodes[0].agent_pid();
    let way = deadly(&pages[0], move || {
        let _ = kill_process(agent, Signal::KILL);
    });
    // It asks again every two seconds, and is looked at a while after the agent died.
    let page = browser::visit(&way, &["--virtual-time-budget=30000"]);
    assert!(page.dom.contains("<h1>a leads</h1>"), "what was there is still there: {}", page.dom);
    let (_, banner) = page.dom.split_once("id=\"lost\"").unwrap();
    let (attributes, banner) = banner.split_once('>').unwrap();
    assert!(!attributes.contains("hidden"), "{attributes}");
    let banner = banner.split('<').next().unwrap();
    assert!(banner.starts_with("No answer from this agent for ") && banner.contains("was true at"), "{banner}");
    assert!(page.dom.contains(">not live</span>"), "{}", page.dom);
    assert!(page.dom.contains("<title>? "), "{}", page.dom);
    group.nodes[0].kill_agent();
}

#[test]
fn a_store_that_is_gone_is_said_by_everybody_and_nobody_leads() {
    let (mut group, pages) = served(Options { nodes: 2, follower_runs: true, ..Options::default() });
    group.lead_by(0);
    let before = told_when(&group.nodes[1], "stands by", |state| state.view.mode == Mode::Candidate);
    let (store, away) = (group.issuer.machine.path("store"), group.issuer.machine.path("away"));
    fs::rename(&store, &away).unwrap();
    let state = told_when(&group.nodes[1], "the follower says so", |state| state.view.chain.failure.is_some());
    assert!(state.view.problems.iter().any(|problem| problem.name == "store_unreachable"), "{state:#?}");
    look(&pages[1], "1-follower", "");
    let state = told_when(&group.nodes[0], "the leader stops", |state| !state.holds);
    assert!(!state.leader.ok, "{state:#?}");
    look(&pages[0], "2-leader", "");
    for node in &group.nodes {
        told_when(node, "nobody is seen to lead", |state| {
            !state.holds && Story::of(state).tone == Tone::Bad && !state.view.problems.is_empty()
        });
    }
    let state =
        told_when(&group.nodes[1], "the holder is silent", |state| Story::of(state).headline.contains("cannot see"));
    assert!(state.view.chain.age_seconds >= before.view.chain.age_seconds, "it grows old meanwhile: {state:#?}");
    assert!(!state.view.problems.is_empty(), "{state:#?}");
    leaders_are(&group, &[]);
    look(&pages[1], "3-follower", "b cannot see who leads");
    look(&pages[0], "3-leader", "");
    // What was under way when the store went may have made a directory of that name; nobody leads by it.
    until("the store is back", || {
        let _ = fs::remove_dir_all(&store);
        fs::rename(&away, &store).ok()
    });
    let leader = group.leader(&[]);
    told_when(&group.nodes[leader], "leads", |state| Story::of(state).tone == Tone::Good);
    group.no_conflicts();
}

#[test]
fn static_leadership_says_when_an_operator_is_waited_for() {
    let (mut group, pages) = served(Options { nodes: 2, mode: "static", follower_runs: true, ..Options::default() });
    group.start();
    let state = told_when(&group.nodes[0], "nobody leads", |state| {
        state.view.problems.iter().any(|p| p.name == "nobody_leads")
    });
    assert!(Story::of(&state).headline.starts_with("Nobody leads"), "{state:#?}");
    look(&pages[0], "1-nobody", "Nobody leads");
    group.nodes[0].request("promote").expect(0);
    let state = told_when(&group.nodes[0], "leads", |state| state.leader.ok);
    assert_eq!((Story::of(&state).headline.as_str(), Story::of(&state).tone), ("a leads", Tone::Good));
    let state = told_when(&group.nodes[1], "follows", |state| Story::of(state).tone == Tone::Good);
    assert_eq!(Story::of(&state).headline, "a leads; b follows");
    leaders_are(&group, &[0]);
    look(&pages[0], "2-leader", "a leads");
    look(&pages[1], "2-follower", "a leads; b follows");
    // The other one is promoted: the first one stops when it sees that.
    group.nodes[1].request("promote").expect(0);
    told_when(&group.nodes[1], "leads", |state| state.leader.ok);
    let state = told_when(&group.nodes[0], "follows", |state| state.view.mode == Mode::Follower && state.ready.ok);
    assert_eq!(Story::of(&state).headline, "b leads; a follows");
    leaders_are(&group, &[1]);
    look(&pages[0], "3-superseded", "b leads; a follows");
}

#[test]
fn what_is_not_to_be_believed_and_what_is_half_switched_is_told() {
    let (mut group, pages) = served(Options { nodes: 2, follower_runs: true, ..Options::default() });
    group.lead_by(0);
    let good = fs::read(group.issuer.machine.path("store/manifests/app.json")).unwrap();
    group.issuer.serve(&group.issuer.forged_by(&group.issuer.owner, |manifest| manifest.version += 1));
    let state = told_when(&group.nodes[1], "refuses", |state| state.view.mode == Mode::Refused);
    assert_eq!(Story::of(&state).headline, "b needs you: it refuses to go on");
    look(&pages[1], "1-refused", "b needs you");
    // The leader goes on, and says so.
    let state = told_when(&group.nodes[0], "the leader says it", |state| !state.view.problems.is_empty());
    assert!(state.leader.ok && Story::of(&state).tone == Tone::Warn, "{state:#?}");
    look(&pages[0], "1-leader", "a leads");
    group.issuer.serve(&good);
    told_when(&group.nodes[1], "believes again", |state| state.view.mode == Mode::Candidate);
}

#[test]
fn a_command_that_only_the_leader_may_run_dies_before_another_leads() {
    let (mut group, _) = served(Options { nodes: 2, ..Options::default() });
    group.lead_by(0);
    let run = |node: &Member, script: &str| {
        node.machine.bootstrap_command(&["run-if-leader", "node", "--", "/bin/sh", "-c", script])
    };
    let skipped = snapkit_tests::Run::of(run(&group.nodes[1], "echo ran")).expect(7);
    assert!(skipped.stdout.is_empty() && skipped.stderr.contains("a leads"), "{skipped:?}");
    let ran = snapkit_tests::Run::of(run(&group.nodes[0], "echo $SNAPKIT_NODE $SNAPKIT_TERM")).expect(0);
    assert_eq!(ran.text(), format!("a {}\n", state(&group.nodes[0]).view.term));

    // Each line is written by the command, which knows nothing of leases.
    let beats = group.shared("beats");
    let script = format!("trap '' TERM; while :; do date +%s%N >> {}; sleep 0.05; done", beats.display());
    let started = |node: &Member| {
        let _ = fs::remove_file(&beats);
        let running = run(node, &script).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let end = Instant::now() + PATIENCE;
        while !beats.exists() {
            assert!(Instant::now() < end, "the command does not run");
            thread::sleep(Duration::from_millis(20));
        }
        running
    };
    let is_silent = || {
        let before = fs::read(&beats).unwrap();
        thread::sleep(Duration::from_millis(500));
        fs::read(&beats).unwrap() == before
    };
    // The agent is stopped: the command dies by what the agent said last, before another node may lead.
    let running = started(&group.nodes[0]);
    let agent = group.nodes[0].agent_pid();
    kill_process(agent, Signal::STOP).unwrap();
    group.nodes[1].wait("promotes", |state| state["mode"] == "promoting" || state["mode"] == "leader");
    assert!(is_silent(), "it beats while another node leads");
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    kill_process(agent, Signal::CONT).unwrap();
    group.nodes[0].wait_standing_by();
    group.nodes[1].wait_mode("leader");
    // The lease is given away in order: the agent says so, and the command dies at once.
    let running = started(&group.nodes[1]);
    group.nodes[1].request("handoff").expect(0);
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(8), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("lease was lost"), "{output:?}");
    assert!(is_silent());
    group.leader(&[1]);
    group.no_conflicts();
}
