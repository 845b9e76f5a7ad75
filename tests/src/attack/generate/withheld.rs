//! Objects without end, and objects that are not given: A15, A18.

use manifests::refusal::Class;

use super::{Making, Recipe};

/// So much is never read.
const ENDLESS_BYTES: u64 = 1 << 30;

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "a15-a-next-root-without-end", make: endless_root },
    Recipe { name: "a15-a-first-root-without-end", make: endless_first_root },
    Recipe { name: "a15-a-genesis-without-end", make: endless_genesis },
    Recipe { name: "a15-a-slot-without-end-counts-for-nothing", make: endless_slot },
    Recipe { name: "a15-hints-without-end-count-for-nothing", make: endless_hints },
    Recipe { name: "a15-packs-without-end", make: endless_packs },
    Recipe { name: "a18-no-first-root", make: |making| withheld(making, "root/1.json") },
    Recipe { name: "a18-no-genesis", make: |making| withheld(making, "chain/00000000000000000000.json") },
    Recipe { name: "a18-no-record-between-two-others", make: hole },
    Recipe { name: "a18-no-packs", make: no_packs },
];

fn endless_root(making: &mut Making) {
    making.seen();
    making.zeros("root/2.json", ENDLESS_BYTES);
    making.refused(Class::TooBig, "root/2.json");
}

fn endless_first_root(making: &mut Making) {
    making.zeros("root/1.json", ENDLESS_BYTES);
    making.refused(Class::TooBig, "root/1.json");
}

fn endless_genesis(making: &mut Making) {
    making.zeros("chain/00000000000000000000.json", ENDLESS_BYTES);
    making.withhold("checkpoint");
    making.refused(Class::TooBig, "record 0");
}

fn endless_slot(making: &mut Making) {
    making.seen();
    making.zeros("chain/00000000000000000002.json", ENDLESS_BYTES);
}

fn endless_hints(making: &mut Making) {
    for key in ["checkpoint", "format"] {
        making.zeros(key, ENDLESS_BYTES);
    }
}

fn endless_packs(making: &mut Making) {
    for key in making.packs() {
        making.zeros(&key, ENDLESS_BYTES);
    }
    making.trees_refused(Class::Size, "packs/");
}

fn withheld(making: &mut Making, key: &str) {
    making.withhold(key);
    // Nobody is led past it.
    making.withhold("checkpoint");
    making.refused(Class::Missing, key);
}

fn hole(making: &mut Making) {
    making.seen();
    making.grow();
    making.grow();
    making.withhold("chain/00000000000000000002.json");
    making.refused(Class::Missing, "chain/00000000000000000002.json");
}

fn no_packs(making: &mut Making) {
    for key in making.packs() {
        making.withhold(&key);
    }
    making.trees_refused(Class::Missing, "packs/");
}
