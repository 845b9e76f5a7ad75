//! The lanes of the drawing: who answered from when until when, as each series saw it.

use std::collections::BTreeSet;

use super::super::measure::MS;
use super::super::recompute::Run;
use super::super::result::RunResult;
use super::super::series::{Line, Series};

/// Two bars of one state closer than this are one.
const JOIN_INTERVALS: u64 = 3;

/// Everything that is drawn, in milliseconds after the beginning.
#[derive(Debug)]
pub(super) struct Lanes {
    /// The nodes, in the order of their colours.
    pub nodes: Vec<String>,
    /// One lane for each series.
    pub lanes: Vec<Lane>,
    /// The longest time without an answer over a change of who leads: from, until.
    pub gap: Option<(u64, u64)>,
}

/// What one series saw.
#[derive(Debug)]
pub(super) struct Lane {
    pub name: String,
    pub of: String,
    pub is_ingress: bool,
    pub bars: Vec<Bar>,
}

/// The same answer for a while.
#[derive(Debug)]
pub(super) struct Bar {
    pub from_ms: u64,
    pub until_ms: u64,
    /// Who answered, and in which term; nobody where no answer was good.
    pub who: Option<(String, Option<u64>)>,
    pub count: u64,
}

impl Lanes {
    pub(super) fn of(run: &Run<'_>, result: &RunResult) -> Lanes {
        let mut lanes: Vec<Lane> = run.series.iter().chain(&run.sentinel).map(|series| lane(run, series)).collect();
        // What users see comes first.
        lanes.sort_by_key(|lane| (!lane.is_ingress, lane.of.clone(), lane.name.clone()));
        let answered = lanes.iter().flat_map(|lane| &lane.bars).filter_map(|bar| bar.who.as_ref());
        let mut nodes: BTreeSet<&str> = answered.map(|(node, _)| node.as_str()).collect();
        nodes.extend(result.leaders.iter().map(|leader| leader.node.as_str()));
        let nodes = nodes.into_iter().map(str::to_owned).collect();
        let worst = result.measured.changes.iter().max_by_key(|change| change.gap_ms);
        let gap = worst.and_then(|change| {
            let series = run.series.iter().find(|series| series.head.prober == change.prober)?;
            let zero = zero(run, series);
            Some((after(zero, change.last_good_us), after(zero, change.first_good_us)))
        });
        Lanes { nodes, lanes, gap }
    }
}

/// The beginning of the run by the clock of a series.
///
/// Series of another boot are placed by their wall clock; they are drawn, and nothing is measured between the two.
fn zero(run: &Run<'_>, series: &Series) -> i128 {
    let begin = &run.events[0];
    let first = series.lines.first().map_or(series.end.done_us, |line| line.times().0);
    match series.head.boot_id == run.boot() {
        true => i128::from(begin.mono_us),
        false => i128::from(first) - series.head.started.duration_since(begin.wall).as_micros(),
    }
}

fn after(zero: i128, us: u64) -> u64 {
    u64::try_from((i128::from(us) - zero).max(0)).unwrap_or(0) / MS
}

fn lane(run: &Run<'_>, series: &Series) -> Lane {
    let zero = zero(run, series);
    let at = |us: u64| after(zero, us);
    let mut bars: Vec<Bar> = Vec::new();
    for line in &series.lines {
        let (sent, done) = line.times();
        let who = match line {
            Line::Sample(sample) if sample.ok => Some((sample.node.clone().unwrap_or_default(), sample.term)),
            Line::Acknowledged(write) => Some((write.node.clone(), Some(write.term))),
            Line::Recovered(_) => continue,
            _ => None,
        };
        let near = (JOIN_INTERVALS * series.head.interval_ms).max(50);
        match bars.last_mut() {
            Some(bar) if bar.who == who && at(sent) <= bar.until_ms + near => {
                bar.until_ms = bar.until_ms.max(at(done));
                bar.count += 1;
            }
            _ => bars.push(Bar { from_ms: at(sent), until_ms: at(done), who, count: 1 }),
        }
    }
    Lane { name: series.head.prober.clone(), of: series.head.of.clone(), is_ingress: series.head.of == "ingress", bars }
}
