//! Random choices that can be made again: the same seed gives the same numbers.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers from a seed (splitmix64).
#[derive(Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// Begins with the seed of `SNAPKIT_TEST_SEED`, else with the clock, and prints it.
    pub fn seeded() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = setting("SNAPKIT_TEST_SEED").unwrap_or(clock);
        println!("SNAPKIT_TEST_SEED={seed}");
        Self(seed)
    }

    /// The next number, from 0 up to but not `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// A number from the environment.
pub fn setting(name: &str) -> Option<u64> {
    env::var(name).ok().map(|value| value.parse().unwrap())
}
