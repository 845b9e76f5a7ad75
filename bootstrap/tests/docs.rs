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

/// Expects that each link of a page whose text is a name in code leads to a file with a test of that name; how many there are.
fn expect_named_tests_exist(page: &str) -> usize {
    let docs = pages::workspace().join("docs");
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
    named
}

#[test]
fn every_test_that_the_edge_cases_name_exists() {
    let page = std::fs::read_to_string(pages::workspace().join("docs/edge-cases.md")).unwrap();
    let named = expect_named_tests_exist(&page);
    assert!(named > 30, "{named}");
    for case in page.split("\n## ").skip(1) {
        assert!(case.contains("[`"), "no test for: {}", case.lines().next().unwrap());
    }
}

/// The rows that may be left undone, for a reason: launchd and etcd.
fn may_be_left(row: usize) -> bool {
    matches!(row, 41 | 117..=129 | 141)
}

#[test]
fn every_row_of_the_contract_is_shown_by_a_test_or_says_why_not() {
    let page = std::fs::read_to_string(pages::workspace().join("docs/contract.md")).unwrap();
    expect_named_tests_exist(&page);
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| C"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    for (at, row) in rows.iter().enumerate() {
        let [number, what, shown] = row[..] else { panic!("three cells: {row:?}") };
        assert_eq!(number, format!("C{}", at + 1), "each row once, in order");
        assert!(!what.is_empty(), "{number} demands something");
        let reason = shown.starts_with("Not honoured");
        assert!(!reason || may_be_left(at + 1), "{number}: {shown}");
        assert!(reason || shown.starts_with("[`"), "{number} is shown by a test: {shown}");
    }
    assert_eq!(rows.len(), 141);
}
