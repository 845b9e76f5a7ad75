//! The `snapkit` command.
fn main() {}
