//! Leadership under a virtual clock, with everything that networks, stores, clocks, processes and people do to it.
//!
//! Each seed is one history of a group of two to five nodes: minutes or hours of it, in milliseconds. In `world` each node is
//! the machine of the lease: at no instant may two of them have a right to lead; terms never fall; the chain takes no record
//! of a superseded leader; and when the faults end, one leads within the stated bound. In `agents` each node is the machine
//! of the agent, too, with a service, a guard, hooks and an operator: at no instant do two services lead, and none does
//! before its fence stands, beside an older one, on a state that is not the newest or its own, or when its lease was given
//! back. The same nets, cast over protocols from which one rule was taken, must catch something.
//! `SNAPKIT_SIM_SEEDS=N` runs more seeds, `SNAPKIT_SIM_FIRST=N` begins with another one, `SNAPKIT_SIM_TRACE=1` tells every
//! step. Rules: `docs/leadership.md`, `docs/agent.md`.
#![allow(clippy::unwrap_used)]

#[path = "simulation/agents.rs"]
mod agents;
#[path = "simulation/chain.rs"]
mod chain;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/schedule.rs"]
mod schedule;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/tally.rs"]
mod tally;
#[path = "simulation/way.rs"]
mod way;
#[path = "simulation/world.rs"]
mod world;

use agents::Broken;
use bootstrap::lease::machine::Rules;
use history::Totals;
use tally::Tally;

/// The seeds of every run of the tests.
const SEEDS: u64 = 300;
/// A mutated protocol must be caught within this many.
const SEEDS_TO_CATCH: u64 = 4000;

/// What broke, and how to see it again.
fn broke(test: &str, seed: u64, violation: &str) -> ! {
    let run = format!("SNAPKIT_SIM_FIRST={seed} SNAPKIT_SIM_SEEDS=1 cargo test -p bootstrap --test simulation {test}");
    panic!("seed {seed}: {violation}\nagain: {run}\nstep by step: SNAPKIT_SIM_TRACE=1 {run} -- --nocapture");
}

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
            Err(violation) => broke("no_history_has_two_leaders", seed, &violation),
        }
    }
    println!("{seeds} seeds: {totals}");
    // A net that nothing swims into proves nothing.
    if seeds >= SEEDS {
        totals.expect_everything_happened();
    }
}

#[test]
fn no_history_of_agents_has_two_services_that_lead_and_each_ends_with_one() {
    let first = number("SNAPKIT_SIM_FIRST", 0);
    let seeds = number("SNAPKIT_SIM_SEEDS", SEEDS);
    let mut totals = Tally::default();
    for seed in first..first + seeds {
        match agents::run(seed, Broken::Nothing) {
            Ok(tally) => {
                totals.add(&tally);
                if (seed + 1) % 5000 == 0 {
                    println!("up to seed {seed}: {totals}");
                }
            }
            Err(violation) => broke("no_history_of_agents", seed, &violation),
        }
    }
    println!("{seeds} seeds: {totals}");
    if seeds >= SEEDS {
        totals.expect_everything_happened();
    }
}

/// Whether some seed shows that agents without a rule do what they must not, and what.
fn catch_agents(broken: Broken, says: &str) {
    let breaks = |seed| agents::run(seed, broken).err().filter(|why| why.contains(says)).map(|why| (seed, why));
    let (seed, why) = (0..SEEDS_TO_CATCH).find_map(breaks).expect("the simulation catches the mutated agents");
    println!("{broken:?}: seed {seed}: {why}");
}

#[test]
fn a_lease_given_back_before_the_service_is_dead_is_caught() {
    catch_agents(Broken::ReleasedWhileStopping, "while its service lives");
}

#[test]
fn a_start_before_the_fence_is_caught() {
    catch_agents(Broken::StartedBeforeFence, "before the fence");
}

#[test]
fn an_old_service_that_nobody_proved_dead_is_caught() {
    catch_agents(Broken::ReclaimedUnproven, "beside its own");
}

#[test]
fn a_service_that_does_not_die_and_is_taken_for_dead_is_caught() {
    catch_agents(Broken::AliveTakenForDead, "beside its own");
}

#[test]
fn a_guard_without_a_deadline_is_caught() {
    catch_agents(Broken::GuardAsleep, "leads in term");
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
