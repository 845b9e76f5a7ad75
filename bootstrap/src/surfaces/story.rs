//! The story: a state as a person reads it who was just woken up.
//!
//! One sentence that is true, how bad it is, what is wrong and what to do, and the few facts that are asked for first:
//! who leads and since when, what this node does, how far behind it is, what the last verified snapshot is, and what would
//! be lost now. The page and `bootstrap status` show the same story. Layer: pure.

use jiff::Timestamp;

use super::state::State;
use crate::agent::view::{Mode, Problem, View};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// Nothing is to be done.
    Good,
    /// Something is under way or not as it should be.
    Warn,
    /// Somebody must act.
    Bad,
}

impl Tone {
    /// One word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "watch",
            Self::Bad => "act",
        }
    }
}

/// What a person reads first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// How bad it is.
    pub tone: Tone,
    /// The one sentence.
    pub headline: String,
    /// Why it is so.
    pub why: String,
    /// What is wrong, the worst first, each with what to do.
    pub problems: Vec<Problem>,
    /// The facts, always in the same order.
    pub facts: Vec<Fact>,
}

/// One thing that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The question, in a few words.
    pub label: &'static str,
    /// The answer.
    pub value: String,
    /// More about it, one line each.
    pub notes: Vec<String>,
    /// How bad that is.
    pub tone: Tone,
}

impl Story {
    /// The story of a state.
    pub fn of(state: &State) -> Self {
        let facts = vec![who_leads(state), this_node(state), behind(state), snapshot(state), if_lost(state)];
        let facts: Vec<Fact> = facts.into_iter().chain(ingress(state)).collect();
        let (tone, headline) = headline(state);
        let worst_fact = facts.iter().map(|fact| fact.tone).max().unwrap_or(Tone::Good);
        let problems = problems(state);
        // Green means that nobody needs to look further.
        let at_least = if problems.is_empty() { Tone::Good } else { Tone::Warn };
        let why = if state.health.ok { why(state) } else { state.health.why.clone() };
        Self { tone: tone.max(at_least).max(worst_fact.min(Tone::Warn)), headline, why, problems, facts }
    }
}

/// What the agent says is wrong, and what it cannot say itself.
fn problems(state: &State) -> Vec<Problem> {
    let view = &state.view;
    let mut problems = view.problems.clone();
    if !state.health.ok {
        let problem = Problem {
            name: "stalled".to_owned(),
            what: format!("{}; everything else here may be as old", state.health.why),
            next: "restart the agent; if its lease is limited, its service is dead by the end of it".to_owned(),
        };
        problems.insert(0, problem);
    }
    // A mode in which a person must act says what to do, even where no problem repeats it.
    if let (Mode::Degraded | Mode::Refused, Some(next)) = (view.mode, &view.next)
        && !problems.iter().any(|problem| &problem.next == next)
    {
        problems.insert(0, Problem { name: word(view.mode), what: view.why.clone(), next: next.clone() });
    }
    // A command is there to be pasted.
    for problem in &mut problems {
        problem.next = problem.next.replace("NODE-DIR", &quoted(&state.directory));
    }
    problems
}

/// Whether a problem says it already.
fn is_said(view: &View, what: &str) -> bool {
    view.problems.iter().any(|problem| problem.what.contains(what))
}

/// The holder of the lease, unless it gave it back.
fn holder(view: &View) -> Option<&str> {
    view.holder.as_ref().filter(|holder| !holder.released).map(|holder| holder.node.as_str())
}

/// Whether this run of the agent held the lease last, and it is over: who leads now, is not known.
fn lost_it(state: &State) -> bool {
    let own =
        state.view.holder.as_ref().is_some_and(|holder| holder.instance == state.view.instance && !holder.released);
    own && !state.holds && state.view.group.is_some()
}

/// Whether the holder was silent for longer than its lease can last.
fn holder_is_silent(state: &State) -> bool {
    let view = &state.view;
    let limited = is_auto(view);
    let silent = view.holder_seen_ms_ago.zip(view.lease.ttl_ms).is_some_and(|(ago, ttl)| ago > ttl);
    limited && silent && !state.holds
}

/// Whether nobody holds the lease, as far as this node knows the log.
fn nobody_leads(view: &View) -> bool {
    holder(view).is_none() && view.lease.seq.is_some()
}

fn is_auto(view: &View) -> bool {
    view.lease.mode.as_deref() == Some("auto")
}

/// The sentence under the headline. How a follower became one is told with it; what it would do now is asked first.
fn why(state: &State) -> String {
    let view = &state.view;
    match view.mode {
        Mode::Follower | Mode::Candidate => {}
        // What it was is said below, with what to do.
        Mode::Refused if !view.problems.is_empty() => {
            return "it is given what is not to be believed; it keeps what it has, and takes nothing over".to_owned();
        }
        _ => return view.why.clone(),
    }
    if let Some(reason) = &view.drained {
        return format!("it is drained, and asked by nobody: {reason}");
    }
    let free = nobody_leads(view) || holder_is_silent(state) || lost_it(state);
    match (view.mode, holder(view)) {
        _ if view.group.is_none() => "its pins name no lease: it never leads".to_owned(),
        (Mode::Candidate, _) if free => "it takes the lease as soon as it may".to_owned(),
        (Mode::Candidate, Some(holder)) => format!("if {holder} falls silent, this node takes over by itself"),
        (Mode::Candidate, None) => "it finds out who leads, and takes the lease if it is free".to_owned(),
        (_, _) if is_auto(view) && view.problems.is_empty() => view.why.clone(),
        (_, _) if is_auto(view) => "as things are, it would not take over by itself".to_owned(),
        (_, _) => "an operator decides who leads; this node keeps a copy close behind".to_owned(),
    }
}

/// Who leads, as a node sees it that does not.
fn following(state: &State) -> (Tone, String) {
    let view = &state.view;
    let node = &view.node;
    let what = match view.mode {
        Mode::Fenced => "lost the lease and follows",
        Mode::Paused => "is paused",
        _ if view.drained.is_some() => "is drained",
        Mode::Candidate => "stands by to take over",
        _ => "follows",
    };
    let takes_it = view.mode == Mode::Candidate;
    let tone = if takes_it { Tone::Warn } else { Tone::Bad };
    let done = if takes_it { "is about to take over" } else { what };
    match holder(view) {
        _ if view.group.is_none() => {
            (if state.ready.ok { Tone::Good } else { Tone::Warn }, format!("{node} {what} the chain"))
        }
        Some(_) if lost_it(state) => (tone, format!("Nobody is known to lead; {node} lost the lease")),
        Some(_) if holder_is_silent(state) && (view.chain.failure.is_some() || view.lease.failure.is_some()) => {
            (Tone::Bad, format!("{node} cannot see who leads"))
        }
        Some(holder) if holder_is_silent(state) => (tone, format!("{holder} is silent; {node} {done}")),
        Some(holder) => {
            let calm = matches!(view.mode, Mode::Follower | Mode::Candidate) && view.drained.is_none();
            let tone = if calm && state.ready.ok { Tone::Good } else { Tone::Warn };
            (tone, format!("{holder} leads; {node} {what}"))
        }
        None if nobody_leads(view) => (tone, format!("Nobody leads; {node} {done}")),
        None => (Tone::Warn, format!("{node} does not know yet who leads")),
    }
}

fn headline(state: &State) -> (Tone, String) {
    let view = &state.view;
    let node = &view.node;
    if !state.health.ok {
        return (Tone::Bad, format!("The agent on {node} hangs"));
    }
    if view.problems.iter().any(|problem| problem.name == "dual_leader") {
        return (Tone::Bad, "More than one node answers as leader".to_owned());
    }
    match view.mode {
        Mode::Degraded if view.degraded.is_some() => (Tone::Bad, format!("{node} needs you: it is half switched")),
        Mode::Degraded => (Tone::Bad, format!("{node} needs you: its service may still be alive")),
        Mode::Refused => (Tone::Bad, format!("{node} needs you: it refuses to go on")),
        Mode::Leader if state.leader.ok => (Tone::Good, format!("{node} leads")),
        Mode::Leader if state.holds => (Tone::Bad, format!("{node} leads, and its service does not serve")),
        Mode::Leader => (Tone::Bad, format!("{node} was the leader, and its lease has run out")),
        Mode::Draining => (Tone::Warn, format!("{node} leads, and takes no new work")),
        Mode::Promoting => (Tone::Warn, format!("{node} is taking over")),
        Mode::Demoting => (Tone::Warn, format!("{node} is stepping down")),
        Mode::Starting => (Tone::Warn, format!("{node} is starting")),
        Mode::Paused if state.holds => (Tone::Warn, format!("{node} leads, and is paused")),
        Mode::Candidate | Mode::Fenced | Mode::Follower | Mode::Paused => following(state),
    }
}

fn who_leads(state: &State) -> Fact {
    let view = &state.view;
    let mut notes = Vec::new();
    let (value, tone) = match &view.holder {
        _ if view.group.is_none() => ("no lease".to_owned(), Tone::Good),
        None if nobody_leads(view) => {
            notes.push("the lease was never claimed".to_owned());
            ("nobody".to_owned(), Tone::Bad)
        }
        None => ("not known yet".to_owned(), Tone::Warn),
        Some(holder) if holder.released => {
            notes.push(format!("{} gave the lease of term {} back", holder.node, holder.term));
            ("nobody".to_owned(), Tone::Bad)
        }
        Some(holder) if lost_it(state) => {
            notes.push(format!("{} led in term {}, and its lease has run out", holder.node, holder.term));
            ("not known".to_owned(), Tone::Bad)
        }
        Some(holder) => {
            notes.push(match holder.since {
                Some(since) => format!("term {}, since {}", holder.term, moment(since, state.now)),
                None => format!("term {}", holder.term),
            });
            let silent = holder_is_silent(state);
            (holder.node.clone(), if silent { Tone::Bad } else { Tone::Good })
        }
    };
    if view.group.is_none() {
        notes.push("the pins name no lease group".to_owned());
    }
    if state.holds {
        if let Some(remaining) = view.remaining_ms {
            notes.push(format!("its lease holds for {} more, unless renewed", lasting(remaining / 1000)));
        }
    } else if let Some(ago) = view.holder_seen_ms_ago {
        notes.push(format!("last seen to write {} ago", lasting(ago / 1000)));
    }
    if let Some(failure) = &view.lease.failure {
        let what = if is_said(view, failure) { "see above" } else { failure };
        notes.push(format!("the lease cannot be followed: {what}"));
    }
    Fact { label: "Who leads", value, notes, tone }
}

fn this_node(state: &State) -> Fact {
    let view = &state.view;
    let service = &view.service;
    let since = moment(view.since, state.now);
    let mut notes = vec![match view.mode {
        Mode::Follower | Mode::Candidate => format!("since {since}: {}", view.why),
        _ => format!("since {since}"),
    }];
    let mut bad = false;
    notes.push(match (&service.driver, service.running_as.as_deref()) {
        (None, _) => "no service: only data is kept here".to_owned(),
        (Some(_), None) => "service: not running".to_owned(),
        (Some(_), Some(role)) => {
            let says = |what: Option<bool>, yes: &str, no: &str| match what {
                None => String::new(),
                Some(true) => format!(", {yes}"),
                Some(false) => format!(", {no}"),
            };
            // While it is started or stopped, a service need not answer.
            let steady = matches!(view.mode, Mode::Leader | Mode::Follower | Mode::Candidate | Mode::Paused);
            bad = steady && view.drained.is_none() && (service.healthy == Some(false) || service.ready == Some(false));
            let healthy = says(service.healthy, "healthy", "NOT HEALTHY");
            let ready = says(service.ready, "ready", "NOT READY");
            format!("service: runs as {role}{healthy}{ready}")
        }
    });
    if let Some(paused) = &view.paused {
        notes.push(format!("paused: {paused}"));
    }
    if let Some(drained) = &view.drained {
        notes.push(format!("drained: {drained}"));
    }
    if let Some(demoted) = &view.demoted {
        notes.push(format!("demoted, and no candidate: {demoted}"));
    }
    if !state.ready.ok && !is_said(view, &state.ready.why) && view.mode != Mode::Refused {
        notes.push(format!("not ready: {}", state.ready.why));
    }
    let tone = match (view.mode, bad) {
        (Mode::Degraded | Mode::Refused, _) | (_, true) => Tone::Bad,
        (Mode::Leader | Mode::Follower | Mode::Candidate, _) if state.ready.ok => Tone::Good,
        _ => Tone::Warn,
    };
    Fact { label: "This node", value: format!("{}: {}", view.node, word(view.mode)), notes, tone }
}

fn behind(state: &State) -> Fact {
    let chain = &state.view.chain;
    let (value, tone) = match (&chain.applied, chain.lag) {
        _ if state.holds && state.view.service.running_as.as_deref() == Some("leader") => {
            ("not: it leads".to_owned(), Tone::Good)
        }
        (None, _) => ("nothing restored yet".to_owned(), Tone::Warn),
        (_, None) => ("not known".to_owned(), Tone::Warn),
        (_, Some(_)) if chain.failure.is_some() => ("not known".to_owned(), Tone::Warn),
        (_, Some(0)) => ("up to date".to_owned(), Tone::Good),
        (_, Some(1)) => ("1 snapshot behind".to_owned(), Tone::Good),
        (_, Some(lag)) => (format!("{lag} snapshots behind"), Tone::Warn),
    };
    let mut notes = Vec::new();
    if let Some(applied) = &chain.applied {
        notes.push(format!("restored here: {applied}{}", slot(chain.applied_seq)));
    }
    if let Some(failure) = &chain.failure {
        let what = if is_said(&state.view, failure) { "see above" } else { failure };
        notes.push(format!("the chain cannot be followed: {what}"));
        if let (Some(verified), Some(lag)) = (chain.verified, chain.lag) {
            notes.push(format!("when it last could, {}: {lag} snapshots behind", moment(verified, state.now)));
        }
    }
    Fact { label: "How far behind", value, notes, tone }
}

fn snapshot(state: &State) -> Fact {
    let chain = &state.view.chain;
    let value = chain.snapshot.clone().unwrap_or_else(|| "none seen yet".to_owned());
    let mut notes = Vec::new();
    if let Some(captured) = chain.captured {
        notes.push(format!("captured {}{}", moment(captured, state.now), slot(chain.snapshot_seq)));
    }
    notes.push(match chain.verified {
        Some(verified) => format!("verified {}", moment(verified, state.now)),
        None => "the chain was not verified yet".to_owned(),
    });
    let mut tone = if chain.snapshot.is_some() { Tone::Good } else { Tone::Warn };
    if let Some(expires) = chain.manifest_expires {
        let over = expires <= state.now;
        let what = if over { "the manifest EXPIRED" } else { "the manifest holds until" };
        notes.push(format!("{what} {}", moment(expires, state.now)));
        tone = if over { Tone::Bad } else { tone };
    }
    Fact { label: "Last verified snapshot", value, notes, tone }
}

/// What a takeover now would cost.
fn if_lost(state: &State) -> Fact {
    let view = &state.view;
    let value = match view.chain.age_seconds {
        Some(age) => format!("up to {} of work", lasting(age)),
        None => "not known".to_owned(),
    };
    let mut notes = vec!["what was written after the last snapshot is only on the leader".to_owned()];
    notes.push(match (view.lease.mode.as_deref(), view.lease.worst_case_ms) {
        (Some("auto"), Some(worst)) => format!("a candidate leads within {} at worst", lasting(worst.div_ceil(1000))),
        (Some("auto"), None) => "a candidate takes over by itself".to_owned(),
        (Some(_), _) => "nobody takes over by itself: `bootstrap promote` on the node that is to lead".to_owned(),
        (None, _) => "no other node can take over".to_owned(),
    });
    Fact { label: "If the leader is lost now", value, notes, tone: Tone::Good }
}

fn ingress(state: &State) -> Option<Fact> {
    let ingress = state.view.ingress.as_ref()?;
    let answers = ingress.answers.as_deref();
    let (value, tone) = match (answers, ingress.agrees) {
        (Some(node), true) => (format!("{node}, which leads"), Tone::Good),
        (Some(node), false) => (format!("{node}, which does not lead"), Tone::Bad),
        (None, _) => ("nobody answers there".to_owned(), Tone::Bad),
    };
    let notes = vec![format!("asked {}", moment(ingress.checked, state.now))];
    Some(Fact { label: "Traffic goes to", value, notes, tone })
}

fn slot(seq: Option<u64>) -> String {
    seq.map_or_else(String::new, |seq| format!(", slot {seq}"))
}

/// The word of a mode, as in the JSON form.
pub(super) fn word(mode: Mode) -> String {
    serde_json::to_value(mode).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A length of time as a person says it.
pub(super) fn lasting(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// A moment, and how far it is from now: `03:05:00 UTC (5 min 12 s ago)`, with its date unless that is today's.
pub(super) fn moment(time: Timestamp, now: Timestamp) -> String {
    let away = time.duration_since(now).as_secs();
    let distance = match away {
        1.. => format!("in {}", lasting(away.unsigned_abs())),
        _ => format!("{} ago", lasting(away.unsigned_abs())),
    };
    format!("{} ({distance})", clock(time, now))
}

/// A moment in UTC, with its date unless that is today's.
pub(super) fn clock(time: Timestamp, now: Timestamp) -> String {
    let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
    let format = if day(time) == day(now) { "%H:%M:%S UTC" } else { "%Y-%m-%d %H:%M:%S UTC" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::Duration;

    use super::*;
    use crate::surfaces::board::Reading;
    use crate::surfaces::examples;
    use crate::surfaces::state::Limits;

    fn state(view: View, ticked_ago: Duration) -> State {
        State::of(Reading { view, ticked_ago }, &Limits::default(), "/srv/orders", examples::now())
    }

    fn told(story: &Story) -> String {
        let mut text = format!("{}: {}\n  {}\n", story.tone.word(), story.headline, story.why);
        for problem in &story.problems {
            writeln!(text, "! {}: {}\n  -> {}", problem.name, problem.what, problem.next).unwrap();
        }
        for fact in &story.facts {
            writeln!(text, "{} = {} [{}]\n  {}", fact.label, fact.value, fact.tone.word(), fact.notes.join("\n  "))
                .unwrap();
        }
        text
    }

    #[test]
    fn each_mode_has_its_story() {
        let stories: Vec<String> = (examples::all().into_iter())
            .map(|(name, view)| format!("== {name}\n{}", told(&Story::of(&state(view, Duration::from_millis(300))))))
            .collect();
        insta::assert_snapshot!(stories.join("\n"));
    }

    #[test]
    fn a_hanging_loop_is_the_first_thing_said() {
        let story = Story::of(&state(examples::leader(), Duration::from_secs(34)));
        assert_eq!((story.tone, story.headline.as_str()), (Tone::Bad, "The agent on node-a hangs"));
        assert_eq!(story.problems[0].name, "stalled");
    }

    #[test]
    fn only_what_needs_nobody_is_green() {
        let green = ["follower", "candidate", "leader", "leader_static", "cold_standby", "no_group", "no_lease"];
        for (name, view) in examples::all() {
            let story = Story::of(&state(view, Duration::ZERO));
            assert_eq!(story.tone == Tone::Good, green.contains(&name.as_str()), "{name}: {story:#?}");
        }
    }

    #[test]
    fn lengths_of_time_are_said_as_people_say_them() {
        for (seconds, said) in [
            (0, "0 s"),
            (119, "119 s"),
            (312, "5 min 12 s"),
            (7_087, "1 h 58 min"),
            (16_202, "4 h 30 min"),
            (259_200, "3 days 0 h"),
        ] {
            assert_eq!(lasting(seconds), said);
        }
    }
}
