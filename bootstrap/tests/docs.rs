//! The pages in `docs/` say what the command does.

#![allow(clippy::unwrap_used)]

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

/// A link whose text is the name of a function leads to a file that has it.
#[test]
fn every_test_that_the_edge_cases_name_exists() {
    let docs = pages::workspace().join("docs");
    let page = std::fs::read_to_string(docs.join("edge-cases.md")).unwrap();
    let mut named = 0;
    for link in page.split("[`").skip(1) {
        let (name, rest) = link.split_once("`](").expect("what is named is linked");
        let (file, _) = rest.split_once(')').unwrap();
        let source = std::fs::read_to_string(docs.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let test = format!("#[test]\nfn {name}()");
        let unindented = source.lines().map(str::trim_start).collect::<Vec<_>>().join("\n");
        assert!(unindented.contains(&test), "{file} has no test {name}");
        named += 1;
    }
    assert!(named > 30, "{named}");
    for case in page.split("\n## ").skip(1) {
        assert!(case.contains("[`"), "no test for: {}", case.lines().next().unwrap());
    }
}
