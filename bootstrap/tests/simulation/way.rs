//! The way of a request of the lease to the store and of its answer back, and all that is lost on it.

use bootstrap::lease::machine::Answer;
use fastrand::Rng;

use crate::schedule::Time;

/// Something that becomes of a request, so long after it was sent.
pub(crate) enum Leg {
    /// It arrives; the answer takes a time of its own, or is lost.
    Arrive { after: Time, answers_after: Option<Time>, denies: bool },
    /// The network answers.
    Tell { after: Time, answer: Answer },
}

pub(crate) struct Conditions {
    pub(crate) ttl: Time,
    pub(crate) is_cut: bool,
    /// Nothing breaks any more.
    pub(crate) healed: bool,
    /// Whether requests may land long after.
    pub(crate) may_hang: bool,
}

/// How a request ends whose answer does not come.
pub(crate) fn gave_up(creates: bool, why: &str) -> Answer {
    if creates { Answer::Unknown(why.into()) } else { Answer::Failed(why.into()) }
}

/// What becomes of a request, and whether something was lost.
pub(crate) fn of(creates: bool, conditions: &Conditions, rng: &mut Rng) -> (Vec<Leg>, bool) {
    let &Conditions { ttl, is_cut, healed, may_hang } = conditions;
    let (there, back) = (rng.u64(1_000..100_000), rng.u64(1_000..100_000));
    let arrive = |after, answers_after, denies| Leg::Arrive { after, answers_after, denies };
    if is_cut {
        let no_route = || Leg::Tell { after: back, answer: gave_up(creates, "no route") };
        return (rng.bool().then(no_route).into_iter().collect(), false);
    }
    if healed || rng.u8(..100) >= 12 {
        return (vec![arrive(there, Some(back), false)], false);
    }
    let legs = match rng.u8(..7) {
        // Lost on the way there; on the way back; an error after it was written.
        0 => vec![],
        1 => vec![arrive(there, None, false)],
        2 => {
            let answer = gave_up(creates, "500");
            vec![arrive(there, None, false), Leg::Tell { after: there + back, answer }]
        }
        // Slow, hung, and landing when nobody waits any more.
        3 => vec![arrive(rng.u64(..ttl), Some(back), false)],
        4 if may_hang => vec![arrive(rng.u64(..ttl * 30), None, false)],
        // Twice, by something on the way that repeats; the second answer is the one that comes.
        5 => vec![arrive(there, None, false), arrive(there + 1, Some(back), true)],
        // 409: try again, nothing was written; told like "it exists".
        4 => vec![],
        _ if creates => vec![Leg::Tell { after: there + back, answer: Answer::Exists }],
        // One answer twice.
        _ => vec![arrive(there, Some(back), false), arrive(there + 1, Some(back * 2), false)],
    };
    (legs, true)
}
