//! Rules over what probers and the sentinel saw. Layer: pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use manifests::document::lease::Kind;

use super::super::begun::APART;
use super::super::event::What;
use super::super::measure::{Looks, MS};
use super::super::recompute::Run;
use super::super::result::{Change, Measured};
use super::super::run_dir;
use super::super::series::{Head, Line, Sample, Series};
use super::super::timeline;
use super::{Found, found, sources};

/// How far wall clock and clock since boot may part within one boot, beside one in a thousand of the time.
const CLOCK_STEP_MS: i128 = 500;
/// How long a prober may be late beside its interval and timeout.
const PROBER_SLACK_MS: u64 = 1000;

/// A prober asked from before the first step until after the last, without a pause, and signed what it saw.
pub(super) fn probers_alive(run: &Run<'_>) -> Found {
    let expected = "a prober of the ingress that asked from the first step to the last without a pause";
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
    let Some((from, until)) = steps(run) else {
        return found(false, "the timeline has no steps", expected, timeline::FILE);
    };
    let covers = |series: &&Series| {
        let times: Vec<(u64, u64)> = series.lines.iter().map(Line::times).collect();
        times.first().is_some_and(|first| first.0 <= from) && times.last().is_some_and(|last| last.1 >= until)
    };
    let all = run.ingress().count();
    match here.iter().filter(|series| covers(series)).count() {
        0 => found(false, format!("none of {all} did"), expected, sources(run.ingress())),
        good => found(true, format!("{good} of {all} did"), expected, sources(run.ingress())),
    }
}

/// When the first step began and the last one ended, by the clock of the machine that ran them.
fn steps(run: &Run<'_>) -> Option<(u64, u64)> {
    let here = || run.events.iter().filter(|event| event.boot_id == run.boot());
    let from = here().find(|event| matches!(event.what, What::StepBegin { .. }))?;
    let until = here().rfind(|event| matches!(event.what, What::StepEnd { .. }))?;
    Some((from.mono_us, until.mono_us))
}

/// The first pause in a series that is longer than its interval and timeout explain.
fn pause(series: &Series) -> Option<String> {
    let Head { interval_ms, timeout_ms, .. } = series.head;
    let most =
        interval_ms.saturating_mul(2).saturating_add(timeout_ms).saturating_add(PROBER_SLACK_MS).saturating_mul(MS);
    let times: Vec<u64> = series.lines.iter().map(|line| line.times().0).chain([series.end.done_us]).collect();
    let at = times.iter().zip(times.iter().skip(1)).position(|(before, after)| after - before > most)?;
    let ms = (times[at + 1] - times[at]) / MS;
    Some(format!("{} asked nothing for {ms} ms after line {}", series.file, at + 2))
}

pub(super) fn sentinel(run: &Run<'_>) -> Found {
    let expected = "writes from the first step to the last without a pause, acknowledged in two terms, and a look at what is there \
                    after each failure";
    let Some(series) = &run.sentinel else {
        let why = run.problems.iter().find(|problem| problem.file == run_dir::SENTINEL);
        let observed = why.map_or_else(|| "the bundle has no sentinel.jsonl".to_owned(), |problem| problem.why.clone());
        return found(false, observed, expected, run_dir::SENTINEL);
    };
    let looks = Looks::of(series);
    let acknowledged = series.acknowledged().count();
    let terms = &looks.terms;
    let observed = format!("{acknowledged} acknowledged in terms {terms:?}, {} looks", series.recovered().count());
    if !looks.unseen.is_empty() {
        let unseen: Vec<String> = looks.unseen.iter().map(u64::to_string).collect();
        let observed = format!("{observed}, none in term {}", unseen.join(", "));
        return found(false, observed, expected, run_dir::SENTINEL);
    }
    if let Some(gap) = pause(series) {
        return found(false, gap, expected, run_dir::SENTINEL);
    }
    let (Some((from, until)), Some(first)) = (steps(run), series.lines.first()) else {
        return found(false, observed, expected, run_dir::SENTINEL);
    };
    let covers = series.head.boot_id == run.boot() && first.times().0 <= from && series.end.done_us >= until;
    if !covers {
        let observed = format!("{observed}, but not from the first step to the last");
        return found(false, observed, expected, run_dir::SENTINEL);
    }
    found(looks.is_complete(), observed, expected, run_dir::SENTINEL)
}

pub(super) fn rto(run: &Run<'_>, measured: &Measured) -> Found {
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

pub(super) fn rpo(run: &Run<'_>, measured: &Measured) -> Found {
    let limit = run.plan.thresholds.get("max_data_lag_events").copied().unwrap_or(0);
    let expected = format!("at most {limit} acknowledged writes lost");
    let Some(lost) = measured.rpo_events else {
        return found(false, "nothing was measured", expected, run_dir::SENTINEL);
    };
    let observed = format!("{lost} lost, acknowledged over {} ms", measured.rpo_ms.unwrap_or_default());
    found(lost <= limit, observed, expected, run_dir::SENTINEL)
}

/// In no series does a term go back, and no term has two who answer in it.
pub(super) fn one_leader(run: &Run<'_>) -> Option<Found> {
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

/// What both clocks of a machine showed, by its boot, whoever wrote it down: wall clocks by the clock since boot.
fn offsets<'r>(run: &'r Run<'_>) -> BTreeMap<&'r str, Vec<(u64, Timestamp, &'r str)>> {
    let mut moments: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    let mut add = |boot, from, us, wall| moments.entry(boot).or_default().push((us, wall, from));
    for event in &run.events {
        add(event.boot_id.as_str(), timeline::FILE, event.mono_us, event.wall);
        if let What::Clock { node, boot_id, mono_us, wall } = &event.what {
            add(boot_id, node, *mono_us, *wall);
        }
    }
    for series in run.series.iter().chain(&run.sentinel) {
        for line in &series.lines {
            add(&series.head.boot_id, &series.file, line.times().0, line.wall());
        }
    }
    moments.values_mut().for_each(|moments| moments.sort_unstable());
    moments
}

/// Wall clock and clock since boot keep together, on every machine that the bundle has times of.
///
/// All times of one boot are of one machine: the difference of its two clocks is the same in all of them.
pub(super) fn clock_steady(run: &Run<'_>) -> Found {
    let expected = format!("no step of a wall clock of more than {CLOCK_STEP_MS} ms");
    let moments = offsets(run);
    let mut rows = 0;
    for times in moments.values() {
        rows += times.len();
        let Some(&(first, zero, _)) = times.first() else { continue };
        // By how much the wall clock ran ahead of the clock since boot: the least and the most so far.
        let (mut least, mut most) = (0_i128, 0_i128);
        for (us, wall, from) in times {
            let by_boot = i128::from((us - first) / MS);
            let ahead = wall.duration_since(zero).as_millis() - by_boot;
            let parted = (ahead - least).max(most - ahead);
            if parted > CLOCK_STEP_MS + by_boot / 1000 {
                let step = if ahead - least >= most - ahead { ahead - least } else { ahead - most };
                let observed = format!("{from}: the wall clock stepped by {step} ms by {wall}");
                return found(false, observed, expected, timeline::FILE);
            }
            (least, most) = (least.min(ahead), most.max(ahead));
        }
    }
    found(true, format!("none in {rows} times of {} boots", moments.len()), expected, timeline::FILE)
}

/// FM6: whoever answers at the ingress in a term is who holds the lease in it, and at the end it is the last holder.
pub(super) fn traffic_at_holder(run: &Run<'_>) -> Option<Found> {
    let last = run.documents.lease.iter().rev().find(|entry| entry.entry.kind != Kind::Release)?;
    let holders: BTreeMap<u64, &str> =
        run.documents.lease.iter().map(|entry| (entry.entry.term, entry.entry.holder.node.as_str())).collect();
    let expected = format!("answers of each term by its holder, and at the end by {}", last.entry.holder.node);
    let source = format!("{} lease", sources(run.ingress()));
    // Whoever led at the end said so until then: without its last entries, somebody else may have led.
    let ttl = last.entry.ttl_ms.and_then(|ttl| i64::try_from(ttl).ok()).map(SignedDuration::from_millis);
    let ended = run.events.last().map_or(last.entry.time, |event| event.wall);
    let silent = ended.duration_since(last.entry.time);
    if ttl.is_some_and(|ttl| silent > ttl.saturating_add(APART)) {
        let observed = format!("the last entry of the lease is of {}, and the run ended at {ended}", last.entry.time);
        return Some(found(false, observed, expected, source));
    }
    let good = |series: &Series| series.samples().filter(|sample| sample.ok).cloned().collect::<Vec<Sample>>();
    let mut answers = 0;
    for series in run.ingress() {
        let good = good(series);
        for sample in &good {
            let (Some(term), Some(node)) = (sample.term, &sample.node) else {
                continue;
            };
            answers += 1;
            let held = match holders.get(&term) {
                Some(holder) if holder == node => continue,
                Some(holder) => format!("which {holder} holds"),
                None => "of which there is no entry".to_owned(),
            };
            let observed = format!("{}: {node} answered in term {term}, {held}", series.file);
            return Some(found(false, observed, expected, source));
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

/// The first change of who answers after the first fault, or at all where nothing was broken, as seen from the machine that
/// ran it: clocks of other machines count from other boots.
fn first_change<'r>(run: &'r Run<'_>) -> Option<&'r Change> {
    let fault = run.events.iter().find_map(|event| match &event.what {
        What::Fault { at_mono_us, boot_id, .. } if boot_id == run.boot() => Some(*at_mono_us),
        _ => None,
    });
    let here: BTreeSet<&str> = run
        .ingress()
        .filter(|series| series.head.boot_id == run.boot())
        .map(|series| series.head.prober.as_str())
        .collect();
    let mut changes = run.changes.iter().filter(|change| here.contains(change.prober.as_str()));
    changes.find(|change| fault.is_none_or(|fault| change.first_good_us >= fault))
}

pub(super) fn takeover(run: &Run<'_>) -> Option<Found> {
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

pub(super) fn baseline(run: &Run<'_>) -> Option<Found> {
    let series = run.ingress().next()?;
    let mut changes = run.changes.iter().filter(|change| change.prober == series.head.prober);
    let until = changes.next().map_or(u64::MAX, |change| change.last_good_us);
    let good = series.samples().filter(|sample| sample.ok && sample.done_us <= until).count();
    let expected = "good answers before anything is changed";
    Some(found(good > 0, format!("{good} good answers"), expected, &series.file))
}

/// Who answered before does not answer as a leader any more, asked by itself.
pub(super) fn old_leader_down(run: &Run<'_>) -> Option<Found> {
    let change = first_change(run)?;
    let old =
        run.series.iter().filter(|series| series.head.of == change.from_node && series.head.boot_id == run.boot());
    let series: Vec<&Series> = old.collect();
    series.first()?;
    let expected =
        format!("no good answer of {} in term {} after the next term began", change.from_node, change.from_term);
    let after = |sample: &&Sample| {
        sample.ok && sample.sent_us > change.first_good_us && sample.term.is_none_or(|term| term <= change.from_term)
    };
    for one in &series {
        if let Some(sample) = one.samples().find(after) {
            let observed = format!("{} line {}: a good answer", one.file, sample.i + 2);
            return Some(found(false, observed, expected, &one.file));
        }
    }
    Some(found(true, "none", expected, sources(series.into_iter())))
}
