//! The rules of the checks that follow from the files of a bundle: what each looks at, and when it holds.
//!
//! A rule says nothing when the bundle has nothing to say it with; then the check is only somebody's word, or unproven.
//! The list is in `docs/evidence.md`, "Checks". Layer: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use manifests::document::lease::Kind;
use manifests::document::receipt::{Digests, Receipt};
use manifests::document::record::Body;
use manifests::freshness::{self, Facts};

use super::event::{StepStatus, What};
use super::measure::MS;
use super::recompute::Run;
use super::result::{Change, Measured, Step};
use super::run_dir;
use super::series::{Head, Sample, Series};
use super::timeline;

/// How far wall clock and clock since boot may part between two moments, beside one in a thousand of the time between.
const CLOCK_STEP_MS: i128 = 500;
/// How long a prober may be late beside its interval and timeout.
const PROBER_SLACK_MS: u64 = 1000;

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub holds: bool,
    pub observed: String,
    pub expected: String,
    pub source: String,
}

fn found(holds: bool, observed: impl Into<String>, expected: impl Into<String>, source: impl Into<String>) -> Found {
    Found { holds, observed: observed.into(), expected: expected.into(), source: source.into() }
}

/// Judges a check by what the bundle holds; nothing where it holds nothing that speaks of it.
pub(super) fn judge(id: &str, run: &Run<'_>, measured: &Measured, steps: &[Step]) -> Option<Found> {
    match id {
        "probers-alive" => Some(probers_alive(run)),
        "sentinel" => Some(sentinel(run)),
        "rto" => Some(rto(run, measured)),
        "rpo" => Some(rpo(run, measured)),
        "one-leader" => one_leader(run),
        "clock-steady" => Some(clock_steady(run)),
        "timeboxes" => Some(timeboxes(run, steps)),
        "signatures" => signatures(run),
        "manifest-fresh" => manifest_fresh(run),
        "lease-flips" => lease_flips(run),
        "traffic-at-holder" => traffic_at_holder(run),
        "takeover" => takeover(run),
        "baseline" => baseline(run),
        "old-leader-down" => old_leader_down(run),
        "follower-from-manifest" => follower_from_manifest(run),
        "cold-restore" => cold_restore(run),
        "restored-equals-manifest" => restored_equals_manifest(run),
        "teardown" => teardown(run),
        "tool-unchanged" => tool_unchanged(run),
        "health-after" => health_after(run),
        "debts-closed" => debts_closed(run),
        "no-skips" => Some(no_skips(run, steps)),
        "after-action" => Some(after_action(run)),
        _ => None,
    }
}

/// The files of these series.
fn sources<'s>(series: impl Iterator<Item = &'s Series>) -> String {
    series.map(|series| series.file.as_str()).collect::<Vec<_>>().join(" ")
}

/// A prober asked from before the first step until after the last, without a pause, and signed what it saw.
fn probers_alive(run: &Run<'_>) -> Found {
    let expected = "a prober of the ingress that asked from the first step to the last without a pause";
    let at = |pick: fn(&What) -> bool, last: bool| {
        let mut events = run.events.iter().filter(|event| pick(&event.what) && event.boot_id == run.boot());
        let event = if last { events.next_back() } else { events.next() };
        event.map(|event| event.mono_ns)
    };
    let from = at(|what| matches!(what, What::StepBegin { .. }), false);
    let until = at(|what| matches!(what, What::StepEnd { .. }), true);
    let broken: Vec<String> = run
        .problems
        .iter()
        .filter(|problem| problem.file.starts_with("probes/"))
        .map(|problem| problem.why.clone())
        .collect();
    if !broken.is_empty() {
        return found(false, broken.join("; "), expected, "probes");
    }
    // Fixed clocks of one machine: those of another cannot be compared with the steps.
    let here: Vec<&Series> = run.ingress().filter(|series| series.head.boot_id == run.boot()).collect();
    let gaps: Vec<String> = run.ingress().filter_map(pause).collect();
    if let Some(gap) = gaps.first() {
        return found(false, gap, expected, sources(run.ingress()));
    }
    let (Some(from), Some(until)) = (from, until) else {
        return found(false, "the timeline has no steps", expected, timeline::FILE);
    };
    let covers = |series: &&Series| {
        let times: Vec<(u64, u64)> = series.lines.iter().map(super::series::Line::times).collect();
        times.first().is_some_and(|first| first.0 <= from) && times.last().is_some_and(|last| last.1 >= until)
    };
    let all = run.ingress().count();
    match here.iter().filter(|series| covers(series)).count() {
        0 => found(false, format!("none of {all} did"), expected, sources(run.ingress())),
        good => found(true, format!("{good} of {all} did"), expected, sources(run.ingress())),
    }
}

/// The first pause in a series that is longer than its interval and timeout explain.
fn pause(series: &Series) -> Option<String> {
    let Head { interval_ms, timeout_ms, .. } = series.head;
    let most =
        interval_ms.saturating_mul(2).saturating_add(timeout_ms).saturating_add(PROBER_SLACK_MS).saturating_mul(MS);
    let times: Vec<u64> = series.lines.iter().map(|line| line.times().0).chain([series.end.done_ns]).collect();
    let at = times.iter().zip(times.iter().skip(1)).position(|(before, after)| after - before > most)?;
    let ms = (times[at + 1] - times[at]) / MS;
    Some(format!("{} asked nothing for {ms} ms after line {}", series.file, at + 2))
}

fn sentinel(run: &Run<'_>) -> Found {
    let expected = "writes that were acknowledged before and after, and a look at what is there after each failure";
    let Some(series) = &run.sentinel else {
        let why = run.problems.iter().find(|problem| problem.file == run_dir::SENTINEL);
        let observed = why.map_or_else(|| "the bundle has no sentinel.jsonl".to_owned(), |problem| problem.why.clone());
        return found(false, observed, expected, run_dir::SENTINEL);
    };
    let terms: BTreeSet<u64> = series.acknowledged().map(|write| write.term).collect();
    let looked: BTreeSet<u64> = series.recovered().map(|found| found.term).collect();
    let unseen: Vec<String> = terms.iter().skip(1).filter(|term| !looked.contains(term)).map(u64::to_string).collect();
    let acknowledged = series.acknowledged().count();
    let observed = format!("{acknowledged} acknowledged in terms {terms:?}, {} looks", series.recovered().count());
    if !unseen.is_empty() {
        let observed = format!("{observed}, none in term {}", unseen.join(", "));
        return found(false, observed, expected, run_dir::SENTINEL);
    }
    found(terms.len() >= 2, observed, expected, run_dir::SENTINEL)
}

fn rto(run: &Run<'_>, measured: &Measured) -> Found {
    let limit = run.plan.thresholds.get("max_failover_seconds");
    let expected = match limit {
        Some(limit) => format!("at most {limit} s from the last good answer of a term to the first of the next"),
        None => "a good answer of a newer term".to_owned(),
    };
    let source = sources(run.ingress());
    let Some(ms) = measured.rto_ms else {
        return found(false, "no good answer of a newer term", expected, source);
    };
    let error = measured.rto_error_ms.unwrap_or_default();
    let observed = format!("{ms} ms, within {error} ms, over {} changes", measured.changes.len());
    found(limit.is_none_or(|limit| ms <= limit.saturating_mul(1000)), observed, expected, source)
}

fn rpo(run: &Run<'_>, measured: &Measured) -> Found {
    let limit = run.plan.thresholds.get("max_data_lag_events").copied().unwrap_or(0);
    let expected = format!("at most {limit} acknowledged writes lost");
    let Some(lost) = measured.rpo_events else {
        return found(false, "nothing was measured", expected, run_dir::SENTINEL);
    };
    let observed = format!("{lost} lost, acknowledged over {} ms", measured.rpo_ms.unwrap_or_default());
    found(lost <= limit, observed, expected, run_dir::SENTINEL)
}

/// In no series does a term go back, and no term has two who answer in it.
fn one_leader(run: &Run<'_>) -> Option<Found> {
    let expected = "one node in each term, and terms that do not go back";
    let mut holders: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let mut back = Vec::new();
    let mut answers = 0;
    let mut look = |file: &str, seen: &mut dyn Iterator<Item = (u64, String)>| {
        let mut highest = 0;
        for (term, who) in seen {
            answers += 1;
            if term < highest {
                back.push(format!("{file}: an answer of term {term} after one of term {highest}"));
            }
            highest = highest.max(term);
            holders.entry(term).or_default().insert(who);
        }
    };
    for series in run.ingress() {
        let good = series.samples().filter(|sample| sample.ok);
        look(
            &series.file,
            &mut good.filter_map(|sample| Some((sample.term?, sample.node.clone().unwrap_or_default()))),
        );
    }
    if let Some(series) = &run.sentinel {
        look(&series.file, &mut series.acknowledged().map(|write| (write.term, write.node.clone())));
    }
    for entry in run.documents.lease.iter().filter(|entry| entry.entry.kind != Kind::Release) {
        holders.entry(entry.entry.term).or_default().insert(entry.entry.holder.node.clone());
    }
    if answers == 0 {
        return None;
    }
    let two: Vec<String> = holders
        .iter()
        .filter(|(_, who)| who.len() > 1)
        .map(|(term, who)| format!("term {term} has {}", who.iter().cloned().collect::<Vec<_>>().join(" and ")))
        .collect();
    let source = sources(run.ingress().chain(&run.sentinel));
    let wrong = [two, back].concat();
    if !wrong.is_empty() {
        return Some(found(false, wrong.join("; "), expected, source));
    }
    Some(found(true, format!("{answers} answers in {} terms, one node in each", holders.len()), expected, source))
}

/// Wall clock and clock since boot keep together, on every machine that the bundle has times of.
fn clock_steady(run: &Run<'_>) -> Found {
    let expected = format!("no step of a wall clock of more than {CLOCK_STEP_MS} ms");
    let mut moments: BTreeMap<(String, String), Vec<(u64, Timestamp)>> = BTreeMap::new();
    let mut add = |boot: &str, from: &str, ns: u64, wall: Timestamp| {
        moments.entry((boot.to_owned(), from.to_owned())).or_default().push((ns, wall));
    };
    for event in &run.events {
        add(&event.boot_id, timeline::FILE, event.mono_ns, event.wall);
        if let What::Clock { node, boot_id, mono_ns, wall } = &event.what {
            add(boot_id, node, *mono_ns, *wall);
        }
    }
    for series in run.series.iter().chain(&run.sentinel) {
        for line in &series.lines {
            add(&series.head.boot_id, &series.file, line.times().0, line.wall());
        }
    }
    let mut steps = Vec::new();
    for ((_, from), times) in &moments {
        for (before, after) in times.iter().zip(times.iter().skip(1)) {
            if after.0 < before.0 {
                steps.push(format!("{from}: the clock since boot goes back from {} ns", before.0));
                continue;
            }
            let by_boot = i128::from(after.0 - before.0) / i128::from(MS);
            let by_wall = after.1.duration_since(before.1).as_millis();
            if (by_wall - by_boot).abs() > CLOCK_STEP_MS + by_boot / 1000 {
                steps.push(format!("{from}: the wall clock stepped by {} ms at {}", by_wall - by_boot, before.1));
            }
        }
    }
    match steps.first() {
        Some(first) => found(false, first, expected, timeline::FILE),
        None => found(true, format!("none in {} rows of times", moments.len()), expected, timeline::FILE),
    }
}

fn timeboxes(run: &Run<'_>, steps: &[Step]) -> Found {
    let over = |what: &str, id: &str, took: Option<u64>, limit: Option<u64>| match (took, limit) {
        (Some(took), Some(limit)) if took > limit => Some(format!("{what} {id} took {took} ms of {limit} ms")),
        _ => None,
    };
    let late: Vec<String> =
        steps.iter().filter_map(|step| over("step", &step.id, step.duration_ms, Some(step.timebox_ms))).collect();
    // A phase is all of its steps, one after the other.
    let mut phases: BTreeMap<&str, u64> = BTreeMap::new();
    for step in steps {
        *phases.entry(&step.phase).or_default() += step.duration_ms.unwrap_or(0);
    }
    let limit =
        |phase: &str| run.plan.thresholds.get(&format!("{phase}_seconds")).map(|seconds| seconds.saturating_mul(1000));
    let late_phases: Vec<String> =
        phases.iter().filter_map(|(phase, took)| over("phase", phase, Some(*took), limit(phase))).collect();
    let late = [late, late_phases].concat();
    let expected = "every step and phase within its timebox";
    if !late.is_empty() {
        return found(false, late.join("; "), expected, timeline::FILE);
    }
    found(true, format!("{} steps within theirs", steps.len()), expected, timeline::FILE)
}

fn signatures(run: &Run<'_>) -> Option<Found> {
    let expected = "every signed document of the bundle to verify from the pinned root";
    let signed = |file: &str| ["chain/", "lease/", "restore/"].iter().any(|directory| file.starts_with(directory));
    if let Some(problem) = run.problems.iter().find(|problem| signed(&problem.file)) {
        return Some(found(false, &problem.why, expected, &problem.file));
    }
    run.documents.root.as_ref()?;
    let documents = &run.documents;
    let observed = format!(
        "{} records, {} lease entries, {} receipts and {} manifest do",
        documents.records.len(),
        documents.lease.len(),
        documents.receipts.len(),
        usize::from(documents.manifest.is_some()),
    );
    Some(found(true, observed, expected, "chain lease restore"))
}

/// FM1: when the run began, the manifest held and the chain had not moved on too far.
fn manifest_fresh(run: &Run<'_>) -> Option<Found> {
    let (manifest, pins) = run.documents.manifest.as_ref()?;
    let root = run.documents.root.as_ref()?;
    let now = run.events[0].wall;
    let before = |record: &&manifests::document::record::Record| record.header.time <= now;
    let named = manifest.manifest.head.seq;
    let head_seq = run.documents.records.iter().filter(before).map(|record| record.header.seq).max().unwrap_or(named);
    let captured = run.documents.captured_by(now)?;
    let facts = Facts { now, root_expires: root.document().expires, head_seq, captured };
    let judged = freshness::judge(&manifest.manifest, &pins.pins, &facts);
    let age = judged.age.as_secs();
    let observed = format!(
        "version {} expires at {}, {} slots behind, the newest snapshot is {age} s old",
        manifest.manifest.version, judged.expires, judged.lag
    );
    let holds = judged.check(run_dir::CHAIN).is_ok();
    Some(found(holds, observed, "a manifest that is fresh when the run begins", "chain/manifest.json"))
}

/// The last claim of the lease that was made in the run.
fn claim<'r>(run: &'r Run<'_>) -> Option<&'r manifests::document::lease::Entry> {
    let began = run.events[0].wall;
    let entries = run.documents.lease.iter().map(|entry| &entry.entry);
    entries.rev().find(|entry| entry.kind == Kind::Claim && entry.time >= began)
}

/// FM3: another node claimed the lease, in a newer term, and serves in it.
fn lease_flips(run: &Run<'_>) -> Option<Found> {
    run.documents.lease.first()?;
    let expected = "a claim of a newer term by another node";
    // Where a leader was lost, another one may have claimed before anybody began to act.
    let lost = (run.plan.scenario == "emergency").then_some(run.plan.old_leader.as_ref()).flatten();
    let newest = || {
        let mut entries = run.documents.lease.iter().rev().map(|entry| &entry.entry);
        entries.find(|entry| entry.kind == Kind::Claim && lost.is_some_and(|lost| *lost != entry.holder.node))
    };
    let Some(claim) = claim(run).or_else(newest) else {
        let observed = format!("{} entries, no claim since the run began", run.documents.lease.len());
        return Some(found(false, observed, expected, run_dir::LEASE));
    };
    let earlier = run.documents.lease.iter().rev().map(|entry| &entry.entry).find(|entry| entry.seq < claim.seq);
    let Some(earlier) = earlier else {
        return Some(found(false, "no entry before the claim", expected, run_dir::LEASE));
    };
    let (before, after) = (&earlier.holder.node, &claim.holder.node);
    let observed = format!("{before} in term {}, then {after} in term {}", earlier.term, claim.term);
    let mut flips = before != after && earlier.term < claim.term;
    if let Some(target) = &run.plan.target {
        flips &= target == after;
    }
    Some(found(flips, observed, expected, format!("lease/{:020}.json", claim.seq)))
}

/// FM6: whoever answers at the ingress in a term is who holds the lease in it, and at the end it is the last holder.
fn traffic_at_holder(run: &Run<'_>) -> Option<Found> {
    let last = run.documents.lease.iter().rev().find(|entry| entry.entry.kind != Kind::Release)?;
    let holders: BTreeMap<u64, &str> =
        run.documents.lease.iter().map(|entry| (entry.entry.term, entry.entry.holder.node.as_str())).collect();
    let expected = format!("answers of each term by its holder, and at the end by {}", last.entry.holder.node);
    let source = format!("{} lease", sources(run.ingress()));
    let good = |series: &Series| series.samples().filter(|sample| sample.ok).cloned().collect::<Vec<Sample>>();
    let mut answers = 0;
    for series in run.ingress() {
        let good = good(series);
        for sample in &good {
            let (Some(term), Some(node)) = (sample.term, &sample.node) else {
                continue;
            };
            answers += 1;
            if let Some(holder) = holders.get(&term).filter(|holder| *holder != node) {
                let observed = format!("{}: {node} answered in term {term}, which {holder} holds", series.file);
                return Some(found(false, observed, expected, source));
            }
        }
        let end = good.last()?;
        if end.node.as_deref() != Some(&last.entry.holder.node) || end.term != Some(last.entry.term) {
            let who = end.node.clone().unwrap_or_default();
            let observed = format!("{}: the last answer is by {who} in term {:?}", series.file, end.term);
            return Some(found(false, observed, expected, source));
        }
    }
    Some(found(answers > 0, format!("{answers} answers, each by the holder"), expected, source))
}

/// The first change of who answers after the first fault, or at all where nothing was broken.
fn first_change<'r>(run: &'r Run<'_>) -> Option<&'r Change> {
    let fault = run.events.iter().find_map(|event| match &event.what {
        What::Fault { at_mono_ns, boot_id, .. } if boot_id == run.boot() => Some(*at_mono_ns),
        _ => None,
    });
    run.changes.iter().find(|change| fault.is_none_or(|fault| change.first_good_ns >= fault))
}

fn takeover(run: &Run<'_>) -> Option<Found> {
    let expected = "after the leader was lost, good answers by another node in a newer term";
    let source = sources(run.ingress());
    let Some((_, lost)) = run.fault() else {
        return Some(found(false, "nothing was broken", expected, timeline::FILE));
    };
    let Some(change) = first_change(run) else {
        return Some(found(false, format!("{lost} was lost, and no newer term answered"), expected, source));
    };
    let observed = format!(
        "{} in term {}, then {} in term {} after {} ms",
        change.from_node, change.from_term, change.to_node, change.to_term, change.gap_ms
    );
    let other = change.to_node != lost && change.from_node == lost;
    Some(found(other, observed, expected, source))
}

fn baseline(run: &Run<'_>) -> Option<Found> {
    let series = run.ingress().next()?;
    let until = run.changes.first().map_or(u64::MAX, |change| change.last_good_ns);
    let good = series.samples().filter(|sample| sample.ok && sample.done_ns <= until).count();
    let expected = "good answers before anything is changed";
    Some(found(good > 0, format!("{good} good answers"), expected, &series.file))
}

/// Who answered before does not answer as a leader any more, asked by itself.
fn old_leader_down(run: &Run<'_>) -> Option<Found> {
    let change = first_change(run)?;
    let old =
        run.series.iter().filter(|series| series.head.of == change.from_node && series.head.boot_id == run.boot());
    let series: Vec<&Series> = old.collect();
    series.first()?;
    let expected =
        format!("no good answer of {} in term {} after the next term began", change.from_node, change.from_term);
    let after = |sample: &&Sample| {
        sample.ok && sample.sent_ns > change.first_good_ns && sample.term.is_none_or(|term| term <= change.from_term)
    };
    for one in &series {
        if let Some(sample) = one.samples().find(after) {
            let observed = format!("{} line {}: a good answer", one.file, sample.i + 2);
            return Some(found(false, observed, expected, &one.file));
        }
    }
    Some(found(true, "none", expected, sources(series.into_iter())))
}

/// The receipts of restores that began in the run, by the time they ended.
fn receipts<'r>(run: &'r Run<'_>) -> Vec<(&'r String, &'r Receipt)> {
    let mut receipts: Vec<(&String, &Receipt)> = run.documents.receipts.iter().collect();
    receipts.sort_by_key(|(_, receipt)| receipt.finished);
    receipts
}

fn place(node: &str) -> String {
    format!("restore/{node}.receipt.json")
}

fn follower_from_manifest(run: &Run<'_>) -> Option<Found> {
    let (manifest, _) = run.documents.manifest.as_ref()?;
    let receipts = receipts(run);
    let (node, receipt) = receipts.first()?;
    let named = &manifest.manifest.snapshot;
    let fault = run.fault().map(|(event, _)| event.wall);
    let in_time = fault.is_none_or(|fault| receipt.finished <= fault);
    let from = receipt.record.digest == named.digest || receipt.record.seq >= named.seq;
    let observed =
        format!("{node} restored {} of record {}, exact: {}", receipt.record.name, receipt.record.seq, receipt.exact);
    let expected = format!("a follower restored from {} or later before the leader was lost", named.name);
    Some(found(in_time && from && receipt.exact, observed, expected, place(node)))
}

/// A restore that began after the fault, of everything, with every byte from the store.
fn cold<'r>(run: &'r Run<'_>) -> Option<(&'r String, &'r Receipt)> {
    let after = run.fault().map_or(run.events[0].wall, |(event, _)| event.wall);
    receipts(run).into_iter().rev().find(|(_, receipt)| receipt.started >= after)
}

fn cold_restore(run: &Run<'_>) -> Option<Found> {
    let expected = "a restore of everything, of bytes from the store alone, after the leader was lost";
    if run.documents.receipts.is_empty() {
        return None;
    }
    let Some((node, receipt)) = cold(run) else {
        return Some(found(false, "no receipt of one", expected, run_dir::RESTORE));
    };
    let observed = format!(
        "{node}: {} files, {} bytes, {} of them from files that were there, exact: {}, read back: {}",
        receipt.restored.files, receipt.restored.bytes, receipt.transfer.reused_bytes, receipt.exact, receipt.proof
    );
    let holds = receipt.exact && receipt.transfer.reused_bytes == 0 && receipt.break_glass.is_none();
    Some(found(holds, observed, expected, place(node)))
}

/// What was restored has the digests of the manifest's snapshot, or of a later one of the chain.
fn restored_equals_manifest(run: &Run<'_>) -> Option<Found> {
    let (manifest, _) = run.documents.manifest.as_ref()?;
    let (node, receipt) = cold(run).or_else(|| receipts(run).pop())?;
    let named = &manifest.manifest.snapshot;
    let signed = if receipt.record.digest == named.digest {
        Some(Digests { content_digest: named.content_digest, full_digest: named.full_digest })
    } else {
        run.documents.snapshot(&receipt.record.digest).and_then(|record| match &record.body {
            Body::Snapshot(snapshot) => Some(Digests {
                content_digest: snapshot.private.content_digest,
                full_digest: snapshot.private.full_digest,
            }),
            _ => None,
        })
    };
    let expected = match &signed {
        Some(signed) => format!("content {} and metadata {}", signed.content_digest, signed.full_digest),
        None => "a snapshot that the manifest names, or a record of the bundle".to_owned(),
    };
    let state = receipt.state.found;
    let observed = format!("content {} and metadata {}", state.content_digest, state.full_digest);
    let holds = signed.is_some_and(|signed| state == signed) && receipt.record.seq >= named.seq;
    Some(found(holds, observed, expected, format!("{} chain", place(node))))
}

fn teardown(run: &Run<'_>) -> Option<Found> {
    let environment = run.environment.as_ref()?;
    let made: Vec<_> =
        environment.nodes.iter().filter_map(|node| Some((&node.name, node.temporary.as_ref()?))).collect();
    let left: Vec<&str> = made
        .iter()
        .filter(|(_, life)| life.destroyed.is_none() && life.kept.as_ref().is_none_or(|why| why.trim().is_empty()))
        .map(|(name, _)| name.as_str())
        .collect();
    let healed = |event: &timeline::Event| match &event.what {
        What::Fault { fault, node, .. } => run.events.iter().any(
            |later| matches!(&later.what, What::Heal { fault: healed, node: at, .. } if (healed, at) == (fault, node)),
        ),
        _ => true,
    };
    let broken = run.events.iter().filter(|event| !healed(event)).count();
    let expected = "every node that was made removed or kept on purpose, and every fault healed";
    let observed = match (left.is_empty(), broken) {
        (true, 0) => format!("{} nodes made, none left", made.len()),
        (true, broken) => format!("{broken} faults are not healed"),
        (false, _) => format!("left: {}", left.join(", ")),
    };
    Some(found(left.is_empty() && broken == 0, observed, expected, run_dir::ENVIRONMENT))
}

fn tool_unchanged(run: &Run<'_>) -> Option<Found> {
    let environment = run.environment.as_ref()?;
    let expected = "the same programs and configuration at the beginning and at the end";
    let mut pairs = vec![
        ("the program that ran it".to_owned(), environment.tool.sha256, environment.tool_sha256_end),
        ("the inventory".to_owned(), environment.inventory.start, environment.inventory.end),
    ];
    for node in &environment.nodes {
        for (what, digests) in [("program", node.program), ("configuration", node.configuration)] {
            pairs.extend(digests.map(|digests| (format!("the {what} of {}", node.name), digests.start, digests.end)));
        }
    }
    let wrong: Vec<String> = pairs
        .iter()
        .filter(|(_, start, end)| Some(*start) != *end)
        .map(|(what, _, end)| match end {
            None => format!("{what} was not looked at in the end"),
            Some(_) => format!("{what} changed"),
        })
        .collect();
    if !wrong.is_empty() {
        return Some(found(false, wrong.join("; "), expected, run_dir::ENVIRONMENT));
    }
    Some(found(true, format!("{} digests are the same", pairs.len()), expected, run_dir::ENVIRONMENT))
}

fn health_after(run: &Run<'_>) -> Option<Found> {
    let file = "collect/health-after.json";
    let health = run.health_after.as_ref()?;
    let ill: Vec<String> = health
        .rows
        .iter()
        .filter(|row| row.status != "ok")
        .map(|row| format!("{} {}: {}", row.host, row.service, row.status))
        .collect();
    let expected = "every row ok";
    if !ill.is_empty() {
        return Some(found(false, ill.join("; "), expected, file));
    }
    Some(found(!health.rows.is_empty(), format!("{} rows ok", health.rows.len()), expected, file))
}

fn debts_closed(run: &Run<'_>) -> Option<Found> {
    let mut debts: BTreeMap<&str, bool> = BTreeMap::new();
    for event in &run.events {
        if let What::Debt { id, open, .. } = &event.what {
            debts.insert(id, *open);
        }
    }
    let open: Vec<&str> = debts.iter().filter(|(_, open)| **open).map(|(id, _)| *id).collect();
    if debts.is_empty() {
        return None;
    }
    let observed =
        if open.is_empty() { format!("{} closed", debts.len()) } else { format!("open: {}", open.join(", ")) };
    Some(found(open.is_empty(), observed, "no open debt", timeline::FILE))
}

fn no_skips(run: &Run<'_>, steps: &[Step]) -> Found {
    let waived = steps.iter().filter(|step| step.status == StepStatus::Waived).map(|step| step.id.as_str());
    let let_off = run.events.iter().filter_map(|event| match &event.what {
        What::Waive { id, .. } => Some(id.as_str()),
        _ => None,
    });
    let all: BTreeSet<&str> = waived.chain(let_off).collect();
    let observed = match all.is_empty() {
        true => "none".to_owned(),
        false => all.into_iter().collect::<Vec<_>>().join(", "),
    };
    found(observed == "none", observed, "nothing waived", timeline::FILE)
}

fn after_action(run: &Run<'_>) -> Found {
    let expected = "what was wrong, whether somebody reloaded or repaired by hand, and which stored state was used";
    let said = run.events.iter().rev().find_map(|event| match &event.what {
        What::AfterAction(said) => Some(said),
        _ => None,
    });
    match said {
        None => found(false, "nobody said", expected, timeline::FILE),
        Some(said) => {
            let complete =
                ["unreachable", "wrong-role"].contains(&said.trouble.as_str()) && !said.backup_file.trim().is_empty();
            let observed = format!(
                "{}, reloaded by hand: {}, hotfix: {}, stored state: {}",
                said.trouble, said.manual_reload, said.hotfix, said.backup_file
            );
            found(complete, observed, expected, timeline::FILE)
        }
    }
}
