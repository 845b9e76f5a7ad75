//! The pages in `docs/` say what the command does.

#[path = "../../snapkit/tests/pages/mod.rs"]
mod pages;

#[test]
fn every_json_schema_is_documented_and_every_documented_one_exists() {
    pages::expect_schemas_documented("bootstrap", &["bootstrap/src"]);
}

#[test]
fn every_command_and_option_in_the_pages_exists() {
    pages::expect_commands_exist("bootstrap", env!("CARGO_BIN_EXE_bootstrap"));
}
