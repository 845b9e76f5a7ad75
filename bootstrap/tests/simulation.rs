//! The lease protocol under a virtual clock, with everything that networks, stores, clocks and processes do to it.
//!
//! Each seed is one history of a group of two to five nodes: hours of it, in milliseconds. At no instant may two of them
//! have a right to lead; terms never fall; the chain takes no record of a superseded leader; and when the faults end, one
//! leads within the stated bound. The same net, cast over protocols from which one rule was taken, must catch something.
//! `SNAPKIT_SIM_SEEDS=N` runs more seeds, `SNAPKIT_SIM_FIRST=N` begins with another one. Rules: `docs/leadership.md`.
#![allow(clippy::unwrap_used)]

#[path = "simulation/chain.rs"]
mod chain;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/world.rs"]
mod world;

use bootstrap::lease::machine::Rules;
use history::Totals;

/// The seeds of every run of the tests.
const SEEDS: u64 = 300;
/// A mutated protocol must be caught within this many.
const SEEDS_TO_CATCH: u64 = 4000;

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn no_history_has_two_leaders_and_each_ends_with_one() {
    let first = number("SNAPKIT_SIM_FIRST", 0);
    let seeds = number("SNAPKIT_SIM_SEEDS", SEEDS);
    let mut totals = Totals::default();
    for seed in first..first + seeds {
        match world::run(seed, Rules::ALL) {
            Ok(history) => {
                totals.add(&history);
                if (seed + 1) % 5000 == 0 {
                    println!("up to seed {seed}: {totals}");
                }
            }
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    println!("{seeds} seeds: {totals}");
    // A net that nothing swims into proves nothing.
    if seeds >= SEEDS {
        totals.expect_everything_happened();
    }
}

/// Whether some seed shows that the protocol without a rule is unsafe.
fn catch(rules: Rules) {
    let caught = (0..SEEDS_TO_CATCH).find_map(|seed| world::run(seed, rules).err().map(|why| (seed, why)));
    let (seed, why) = caught.expect("the simulation catches the mutated protocol");
    println!("{rules:?}: seed {seed}: {why}");
    // By what it does to safety, not by nobody leading.
    assert!(why.starts_with("two leaders") || why.starts_with("the term"), "{why}");
}

#[test]
fn validity_counted_from_the_answer_is_caught() {
    catch(Rules { from_before_sent: false, ..Rules::ALL });
}

#[test]
fn an_unclear_answer_taken_for_a_yes_is_caught() {
    catch(Rules { read_back: false, ..Rules::ALL });
}

#[test]
fn a_claim_without_a_look_beyond_is_caught() {
    catch(Rules { look_beyond: false, ..Rules::ALL });
}

#[test]
fn an_impatient_candidate_is_caught() {
    catch(Rules { whole_patience: false, ..Rules::ALL });
}

#[test]
fn a_void_slot_taken_for_an_expired_lease_is_caught() {
    catch(Rules { void_waits: false, ..Rules::ALL });
}
