//! Attacks: stores with real, valid keys and hostile content, and what every command must answer.
//!
//! A [`Forge`] owns a real chain, with the keys that `snapkit init` made, and adds to it whatever a holder of the
//! writer's key, or of nothing but write access to the store, could add. [`Content`] is a tree with its packs, entry by
//! entry, in which every rule of the formats can be broken while all hashes and signatures stay right. A [`Victim`] is
//! another machine that has pinned the chain; it runs commands and holds them to what every refusal must keep.
//! A [`Prebuilt`] store was forged before and is kept in `testdata/attacks/`.
//! [`images`] makes hostile container images, which are kept there too.
//! What is covered: `docs/attacks.md`. Layer: harness; uses the formats of the library, never its checks.

mod content;
mod forge;
pub mod generate;
pub mod images;
mod prebuilt;
mod victim;

pub use content::{Content, forged_frame};
pub use forge::{Forge, resigned, widened};
pub use prebuilt::{Prebuilt, Refuses};
pub use victim::{Everything, Victim};
