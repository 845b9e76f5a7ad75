//! Several named directories in one snapshot.

#![allow(clippy::unwrap_used)]

use snapkit_tests::Machine;
use snapkit_tests::compare::{b3sum_check, same_tree};

fn two_trees() -> Machine {
    let machine = Machine::new();
    machine.write("srv/database/table", "rows");
    machine.write("etc/service.conf", "port = 1");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "db=srv/database", "conf=etc"]);
    machine
}

#[test]
fn trees_are_restored_under_their_names() {
    let machine = two_trees();
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("srv/database"), &machine.path("back/db"));
    same_tree(&machine.path("etc"), &machine.path("back/conf"));
    let list = machine.ok(&["ls", "--store", "store", "latest", "--b3sum"]);
    b3sum_check(&list.stdout, &machine.path("back"));
    assert_eq!(list.text().lines().count(), 2);
}

#[test]
fn a_map_says_where_a_tree_goes() {
    let machine = two_trees();
    let elsewhere = format!("db={}", machine.arg("elsewhere"));
    machine.ok(&["restore", "--store", "store", "latest", "back", "--map", &elsewhere]);
    same_tree(&machine.path("srv/database"), &machine.path("elsewhere"));
    same_tree(&machine.path("etc"), &machine.path("back/conf"));
    assert!(!machine.path("back/db").exists());

    let unknown = format!("nope={}", machine.arg("x"));
    machine.run(&["restore", "--store", "store", "latest", "y", "--map", &unknown]).expect(2);
    assert!(!machine.path("x").exists() && !machine.path("y").exists());
}

#[test]
fn two_trees_of_one_name_are_refused() {
    let machine = two_trees();
    machine.run(&["snapshot", "--store", "store", "a=srv", "a=etc"]).expect(2);
    machine.run(&["snapshot", "--store", "store", "Not Allowed=srv"]).expect(2);
}
