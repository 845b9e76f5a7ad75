//! What happened to agents, counted, so that a quiet simulation is not taken for a safe one.

use std::fmt;

macro_rules! tally {
    ($($name:ident),* $(,)?) => {
        #[derive(Default, Clone, Debug)]
        pub(crate) struct Tally {
            $(pub(crate) $name: u64,)*
            /// From the end of the faults to a leader that is ready.
            pub(crate) recovery_ms: u64,
        }

        impl Tally {
            pub(crate) fn add(&mut self, one: &Self) {
                $(self.$name += one.$name;)*
                self.recovery_ms = self.recovery_ms.max(one.recovery_ms);
            }

            pub(crate) fn expect_everything_happened(&self) {
                // It takes a leader that is overruled on its way up to be fenced off.
                $(assert!(self.$name > 0 || stringify!($name) == "fenced_off", "{self}: never {}", stringify!($name));)*
            }
        }
    };
}

tally!(
    claims, expiries, superseded, releases, starts, ended, unproven, guarded, records, fenced_off, set_aside, stops,
    suspends, crashes, power_offs, cuts, shutdowns, other_pins, unwritten, accepted, appointed, overruled,
);

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}
