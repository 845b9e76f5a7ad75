//! `/metrics`: the state in the text form of Prometheus.
//!
//! Every number follows from the state that the other surfaces show. Names and meaning: `docs/surfaces.md`, "Metrics".
//! Layer: pure.
//! Source: Prometheus, "Exposition formats", text format 0.0.4.

use std::fmt::{Display, Write};

use crate::agent::view::Mode;

use super::state::State;
use super::story::word;

/// The type of the answer.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every mode, so that a series exists for each and reads 0 or 1.
const MODES: [Mode; 11] = [
    Mode::Starting,
    Mode::Follower,
    Mode::Candidate,
    Mode::Promoting,
    Mode::Leader,
    Mode::Draining,
    Mode::Demoting,
    Mode::Fenced,
    Mode::Degraded,
    Mode::Refused,
    Mode::Paused,
];

/// All series.
pub(super) fn text(state: &State) -> String {
    let view = &state.view;
    let (chain, lease, service) = (&view.chain, &view.lease, &view.service);
    let mut page = Page { text: String::new() };
    page.gauge("info", "The agent, in labels; always 1.").one(
        &[
            ("group", view.group.as_deref().unwrap_or_default()),
            ("node", &view.node),
            ("instance", &view.instance),
            ("version", &view.version),
        ],
        1,
    );
    let mut modes = page.gauge("mode", "1 for the mode that the agent is in.");
    for mode in MODES {
        modes.one(&[("mode", &word(mode))], u8::from(mode == view.mode));
    }
    page.gauge("mode_since_seconds", "When it came into that mode, in seconds since 1970.")
        .value(view.since.as_second());
    page.gauge("tick_age_seconds", "Seconds since the agent's loop was last alive.")
        .value(seconds(state.ticked_ms_ago));
    for (name, help, answer) in [
        ("healthy", "1 if /healthz says yes.", &state.health),
        ("ready", "1 if /readyz says yes.", &state.ready),
        ("leader", "1 if /leader says yes.", &state.leader),
        ("replica", "1 if /replica says yes.", &state.replica),
    ] {
        page.gauge(name, help).value(u8::from(answer.ok));
    }

    page.gauge("lease_held", "1 if this agent holds the lease.").value(u8::from(state.holds));
    page.gauge("term", "The highest term seen.").value(view.term);
    page.gauge("lease_remaining_seconds", "Seconds until the service must be dead, unless the lease is renewed.")
        .some(view.remaining_ms.map(seconds));
    page.gauge("holder_seen_seconds", "Seconds since the holder of the lease was last seen to write.")
        .some(view.holder_seen_ms_ago.map(seconds));
    page.gauge("lease_seq", "Number of the newest entry of the lease log.").some(lease.seq);
    page.gauge("lease_ttl_seconds", "How long a claim holds.").some(lease.ttl_ms.map(seconds));
    page.gauge("lease_worst_case_seconds", "The longest time without a leader that follows from the timing.")
        .some(lease.worst_case_ms.map(seconds));
    page.counter("lease_renewals_total", "Renewals that worked.").value(lease.renewals);
    page.counter("lease_failures_total", "Requests to the lease's store that failed.").value(lease.failures);
    page.gauge("lease_renewal_seconds", "How long the last renewal took.").some(lease.last_renewal_ms.map(seconds));

    page.gauge("chain_head", "Slot of the newest record that was verified.").some(chain.head);
    page.gauge("chain_snapshot", "Slot of the newest complete snapshot.").some(chain.snapshot_seq);
    page.gauge("chain_applied", "Slot of the snapshot that is ready or active here.").some(chain.applied_seq);
    page.gauge("chain_lag_snapshots", "Snapshots that this node is behind.").some(chain.lag);
    page.gauge("chain_age_seconds", "Seconds since the newest state was captured.").some(chain.age_seconds);
    page.gauge("chain_verified_seconds", "When the chain was last read and verified, in seconds since 1970.")
        .some(chain.verified.map(|time| time.as_second()));
    page.gauge("chain_reachable", "1 if the last attempt to read the chain worked.")
        .value(u8::from(chain.failure.is_none()));
    page.gauge("manifest_expires_seconds", "When the manifest expires, in seconds since 1970.")
        .some(chain.manifest_expires.map(|time| time.as_second()));

    page.gauge("service_running", "1 for the role that the service runs as.")
        .one(&[("role", "leader")], u8::from(service.running_as.as_deref() == Some("leader")))
        .one(&[("role", "follower")], u8::from(service.running_as.as_deref() == Some("follower")));
    page.gauge("service_healthy", "1 if the service's health probe holds.").some(service.healthy.map(u8::from));
    page.gauge("service_ready", "1 if the service may be asked.").some(service.ready.map(u8::from));
    page.counter("service_starts_total", "Times the service was started by this agent.").value(service.starts);

    page.counter("takeover_attempts_total", "Times this node tried to take over.").value(view.takeover_attempts);
    page.counter("takeovers_total", "Takeovers that ended with a running leader.").value(view.takeovers);
    page.counter(
        "conflicts_total",
        "Times another leader in this node's term, or a service beside the lease, was seen.",
    )
    .value(view.conflicts);
    if let Some(takeover) = &view.takeover {
        page.gauge(
            "takeover_lost_seconds",
            "Seconds between the last captured state and the claim of the last takeover.",
        )
        .value(takeover.lost_seconds);
        let mut phases = page.gauge("takeover_phase_seconds", "How long each phase of the last takeover took.");
        for (phase, ms) in &takeover.phases {
            phases.one(&[("phase", phase)], seconds(*ms));
        }
    }
    page.gauge("degraded", "1 if the node directory is half switched.").value(u8::from(view.degraded.is_some()));
    page.gauge("ingress_agrees", "1 if what ingress points at is the holder.")
        .some(view.ingress.as_ref().map(|ingress| u8::from(ingress.agrees)));
    page.gauge("orphaned_states", "States of earlier leaderships that are kept aside.").value(view.orphaned.len());
    page.gauge("problems", "How many things are wrong now.").value(view.problems.len());
    let mut problems = page.gauge("problem", "1 for each thing that is wrong now.");
    let mut said: Vec<&str> = Vec::new();
    for problem in &view.problems {
        // Two series of one name and labels would make the whole page invalid.
        if !said.contains(&problem.name.as_str()) {
            said.push(&problem.name);
            problems.one(&[("name", &problem.name)], 1);
        }
    }
    page.text
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

struct Page {
    text: String,
}

/// One metric; its head is written before its first series.
struct Metric<'p> {
    page: &'p mut Page,
    name: String,
    head: Option<String>,
}

impl Page {
    fn gauge(&mut self, name: &str, help: &str) -> Metric<'_> {
        self.metric(name, help, "gauge")
    }

    fn counter(&mut self, name: &str, help: &str) -> Metric<'_> {
        self.metric(name, help, "counter")
    }

    fn metric(&mut self, name: &str, help: &str, kind: &str) -> Metric<'_> {
        let name = format!("snapkit_{name}");
        let head = Some(format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Metric { page: self, name, head }
    }
}

impl Metric<'_> {
    fn value(&mut self, value: impl Display) {
        self.one(&[], value);
    }

    /// Nothing is written for what is not known: a made-up 0 would be believed.
    fn some(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.one(&[], value);
        }
    }

    fn one(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        let text = &mut self.page.text;
        text.push_str(&self.head.take().unwrap_or_default());
        text.push_str(&self.name);
        for (position, (label, value)) in labels.iter().enumerate() {
            let begin = if position == 0 { '{' } else { ',' };
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(text, "{begin}{label}=\"{value}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(text, "{end} {value}");
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::surfaces::board::Reading;
    use crate::surfaces::examples;
    use crate::surfaces::state::Limits;

    fn page(name: &str) -> String {
        let reading = Reading { view: examples::named(name), ticked_ago: Duration::from_millis(300) };
        text(&State::of(reading, &Limits::default(), "/srv/orders", examples::now()))
    }

    #[test]
    fn a_leader_shows_all_series() {
        insta::assert_snapshot!(page("leader"));
    }

    #[test]
    fn what_is_not_known_has_no_series() {
        let page = page("starting");
        for name in ["snapkit_chain_lag_snapshots ", "snapkit_lease_remaining_seconds ", "snapkit_ingress_agrees "] {
            assert!(!page.contains(name), "{name}");
        }
        assert!(page.contains("snapkit_mode{mode=\"starting\"} 1\n"));
    }

    #[test]
    fn every_page_is_well_formed() {
        for (name, _) in examples::all() {
            let page = page(&name);
            let mut series: Vec<&str> = Vec::new();
            for line in page.lines().filter(|line| !line.starts_with('#')) {
                let (key, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{name}: {line}");
                assert!(!series.contains(&key), "{name}: {key} twice");
                series.push(key);
            }
        }
        assert!(page("hostile").contains(r#"snapkit_problem{name="x\"y\\z\n"} 1"#));
    }
}
