//! One bad copy among good ones: A19. The store that was named is the bad one, the mirror is good; and the other way round.

use super::super::{Content, Forge};
use super::{Making, Recipe};

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "a19-a-store-whose-packs-rot-with-a-good-mirror", make: rotten_packs },
    Recipe { name: "a19-a-store-that-withholds-packs-with-a-good-mirror", make: withheld_packs },
    Recipe { name: "a19-a-store-that-lost-its-tail-with-a-good-mirror", make: lost_tail },
    Recipe { name: "a19-a-store-with-garbage-in-a-slot-and-a-good-mirror", make: garbage_slot },
    Recipe { name: "a19-a-store-with-a-bad-root-and-a-good-mirror", make: bad_root },
    Recipe { name: "a19-a-mirror-that-is-another-store", make: foreign_mirror },
];

const WARNING: &str = "W_MIRROR";

fn rotten_packs(making: &mut Making) {
    making.mirrored();
    for (i, key) in making.packs().iter().enumerate() {
        let mut bytes = std::fs::read(making.forge.object(key)).unwrap();
        // In the first frame, or in the table.
        let at = if i % 2 == 0 { 20 } else { bytes.len() - 1 };
        bytes[at] ^= 1;
        making.forge.put(key, &bytes);
    }
    making.warns(WARNING);
}

fn withheld_packs(making: &mut Making) {
    making.mirrored();
    for key in making.packs() {
        making.withhold(&key);
    }
    making.warns(WARNING);
}

/// What was seen before is only in the mirror.
fn lost_tail(making: &mut Making) {
    making.grow();
    making.seen();
    making.mirrored();
    making.withhold("chain/00000000000000000002.json");
    making.warns(WARNING);
}

fn garbage_slot(making: &mut Making) {
    making.grow();
    making.mirrored();
    making.forge.replace_slot(2, b"garbage");
    making.warns(WARNING);
}

fn bad_root(making: &mut Making) {
    let next = making.root(1, |_| {}, &[&making.forge.owner]);
    making.forge.put("root/2.json", &next);
    making.mirrored();
    making.forge.put("root/1.json", &Forge::new().slot(0));
    making.forge.put("root/2.json", b"garbage");
    making.warns(WARNING);
}

/// Every object of the mirror is signed by strangers, and it shows more of them.
fn foreign_mirror(making: &mut Making) {
    let honest = making.forge.object("");
    let mut other = Forge::new();
    let mut content = Content::new();
    content.file("file", b"evil\n");
    other.commit(content);
    let kept = tempfile::tempdir().unwrap();
    super::copy(&honest, &kept.path().join("honest"));
    making.replace_by(&other);
    making.mirrored();
    std::fs::remove_dir_all(making.store()).unwrap();
    super::copy(&kept.path().join("honest"), &making.store());
    // That the store lacks a slot which only the mirror shows is told, although the slot is worth nothing.
    making.warns(WARNING);
}
