//! Measuring: recovery time and loss from the raw series, and nothing but them.
//!
//! All differences are of one prober's clock since boot, so no two clocks have to agree. The same in a few lines of
//! Python: `docs/format/bundle.md`, "Recovery time and loss". Layer: pure.

use std::collections::BTreeSet;

use super::result::Change;
use super::series::{Acknowledged, Line, Sample, Series};

/// Microseconds in a millisecond.
pub(super) const MS: u64 = 1000;

/// A difference in milliseconds, rounded up, so that nothing looks shorter than it was.
pub(super) fn ms(from_us: u64, to_us: u64) -> u64 {
    to_us.saturating_sub(from_us).div_ceil(MS)
}

/// Every rise of the term between one good answer and the next, in a prober's series.
pub(super) fn changes(series: &Series) -> Vec<Change> {
    let good: Vec<(&Sample, u64)> =
        series.samples().filter(|sample| sample.ok).filter_map(|sample| Some((sample, sample.term?))).collect();
    let node = |sample: &Sample| sample.node.clone().unwrap_or_default();
    let change = |(before, after): (&(&Sample, u64), &(&Sample, u64))| Change {
        prober: series.head.prober.clone(),
        from_term: before.1,
        from_node: node(before.0),
        last_good_us: before.0.done_us,
        to_term: after.1,
        to_node: node(after.0),
        first_good_us: after.0.done_us,
        gap_ms: ms(before.0.done_us, after.0.done_us),
    };
    good.iter().zip(good.iter().skip(1)).filter(|(before, after)| before.1 < after.1).map(change).collect()
}

/// The longest time between two good answers, or between two acknowledged writes.
pub(super) fn longest_gap_ms(series: &Series) -> u64 {
    let good: Vec<u64> = series
        .lines
        .iter()
        .filter(|line| matches!(line, Line::Acknowledged(_)) || matches!(line, Line::Sample(sample) if sample.ok))
        .map(|line| line.times().1)
        .collect();
    good.iter().zip(good.iter().skip(1)).map(|(before, after)| ms(*before, *after)).max().unwrap_or(0)
}

/// What a sentinel wrote and looked for.
pub(super) struct Looks {
    /// The terms in which writes were acknowledged.
    pub terms: BTreeSet<u64>,
    /// Those after the first in which nobody looked what was still there.
    pub unseen: Vec<u64>,
}

impl Looks {
    pub(super) fn of(series: &Series) -> Looks {
        let terms: BTreeSet<u64> = series.acknowledged().map(|write| write.term).collect();
        let looked: BTreeSet<u64> = series.recovered().map(|found| found.term).collect();
        let unseen = terms.iter().skip(1).filter(|term| !looked.contains(term)).copied().collect();
        Looks { terms, unseen }
    }

    /// Whether it could have noticed a loss: writes before and after a change of who leads, and a look after it.
    pub(super) fn is_complete(&self) -> bool {
        self.terms.len() >= 2 && self.unseen.is_empty()
    }
}

/// What a sentinel found to be lost, where it was able to: nothing lost counts only after a look.
pub(super) fn loss(series: &Series) -> Option<(u64, u64)> {
    let lost = lost(series);
    (lost.0 > 0 || Looks::of(series).is_complete()).then_some(lost)
}

/// What a sentinel lost: how many acknowledged writes, and over which time they had been acknowledged.
///
/// After each failure the sentinel asks what is there. What was acknowledged since it asked last, and is above that, is
/// lost; and so it is when a later write gets a number that was given before.
fn lost(series: &Series) -> (u64, u64) {
    let (mut events, mut time) = (0, 0);
    let mut since: Vec<&Acknowledged> = Vec::new();
    let mut lose = |since: &mut Vec<&Acknowledged>, kept: u64| {
        let newest = since.iter().map(|write| write.n).max().unwrap_or(kept);
        if newest > kept {
            events = u64::saturating_add(events, newest - kept);
            let last_kept = since.iter().filter(|write| write.n <= kept).map(|write| write.done_us).max();
            let first = since.iter().map(|write| write.done_us).min().unwrap_or(0);
            let last = since.iter().map(|write| write.done_us).max().unwrap_or(0);
            time = u64::saturating_add(time, ms(last_kept.unwrap_or(first), last));
        }
        since.clear();
    };
    for line in &series.lines {
        match line {
            Line::Acknowledged(write) => {
                if since.iter().any(|earlier| earlier.n >= write.n) {
                    lose(&mut since, write.n.saturating_sub(1));
                }
                since.push(write);
            }
            Line::Recovered(found) => lose(&mut since, found.recovered),
            Line::Sample(_) | Line::Refused(_) => {}
        }
    }
    (events, time)
}
