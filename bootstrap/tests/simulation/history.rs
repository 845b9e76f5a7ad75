//! What happened in a history, counted, so that a quiet simulation is not taken for a safe protocol.

use std::fmt;

#[derive(Default, Clone, Debug)]
pub(crate) struct History {
    pub(crate) claims: u64,
    pub(crate) renewals: u64,
    pub(crate) expiries: u64,
    pub(crate) superseded: u64,
    pub(crate) releases: u64,
    pub(crate) unfit: u64,
    pub(crate) lost_answers: u64,
    pub(crate) late_landings: u64,
    pub(crate) stops: u64,
    pub(crate) crashes: u64,
    pub(crate) cuts: u64,
    pub(crate) voids: u64,
    pub(crate) emptied: u64,
    pub(crate) collected: u64,
    pub(crate) records: u64,
    pub(crate) fenced_off: u64,
    /// From the end of the faults to a leader, in thousandths of the bound.
    pub(crate) recovery: u64,
}

#[derive(Default)]
pub(crate) struct Totals {
    sum: History,
    slowest: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, history: &History) {
        let sum = &mut self.sum;
        for (sum, one) in [
            (&mut sum.claims, history.claims),
            (&mut sum.renewals, history.renewals),
            (&mut sum.expiries, history.expiries),
            (&mut sum.superseded, history.superseded),
            (&mut sum.releases, history.releases),
            (&mut sum.unfit, history.unfit),
            (&mut sum.lost_answers, history.lost_answers),
            (&mut sum.late_landings, history.late_landings),
            (&mut sum.stops, history.stops),
            (&mut sum.crashes, history.crashes),
            (&mut sum.cuts, history.cuts),
            (&mut sum.voids, history.voids),
            (&mut sum.emptied, history.emptied),
            (&mut sum.collected, history.collected),
            (&mut sum.records, history.records),
            (&mut sum.fenced_off, history.fenced_off),
        ] {
            *sum += one;
        }
        self.slowest = self.slowest.max(history.recovery);
    }

    pub(crate) fn expect_everything_happened(&self) {
        let sum = &self.sum;
        // Superseded and fenced off are rare here, where no operator forces a claim.
        let all = [
            sum.claims,
            sum.renewals,
            sum.expiries,
            sum.releases,
            sum.unfit,
            sum.lost_answers,
            sum.late_landings,
            sum.stops,
            sum.crashes,
            sum.cuts,
            sum.voids,
            sum.emptied,
            sum.collected,
            sum.records,
        ];
        assert!(all.iter().all(|count| *count > 0), "{self}");
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}; slowest recovery {} thousandths of the bound", self.sum, self.slowest)
    }
}
