//! Restoring into a node: generations side by side, one switch per restore, undo, and old ones going.

#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use node::{Node, names};
use snapkit_tests::Machine;

#[test]
fn each_restore_becomes_a_generation_and_undo_goes_back_and_forth() {
    let node = Node::new(2);
    let first = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!((&first["restored"], &first["previous"]), (&true.into(), &serde_json::Value::Null), "{first}");
    node.expect_active(0);
    node.undo().expect(3).stderr_names("no generation before");

    let second = node.restore(1, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(second["previous"], node.snapshots[0].as_str());
    node.expect_active(1);

    let undone = node.undo().expect(0).json("bootstrap.undo/1");
    assert_eq!(undone["active"], node.snapshots[0].as_str());
    node.expect_active(0);
    node.undo().expect(0);
    node.expect_active(1);
    let status = node.status();
    assert_eq!(status["previous"], node.snapshots[0].as_str());
    let what: Vec<&str> = status["events"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["switched", "switched", "undone", "undone"]);
    assert!(status["switched"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_generation_holds_nothing_of_ours_and_what_is_ours_is_private() {
    let node = Node::new(1);
    node.restore(0, &[]).expect(0);
    assert_eq!(node.in_generations(), [node.snapshots[0].clone()]);
    assert_eq!(names(&node.path("current")), ["config", "data", "only-0"]);
    assert_eq!(names(&node.path(".node")), ["receipts", "restore.lock", "state.json", "switch.lock"]);
    let mode = |name: &str| fs::metadata(node.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(".node"), mode(".node/state.json")), (0o700, 0o600));
    fs::set_permissions(node.path(".node"), fs::Permissions::from_mode(0o755)).unwrap();
    node.undo().expect(3).stderr_names("chmod 700");
}

#[test]
fn a_generation_that_was_set_aside_is_restored_again_with_a_receipt_of_its_own() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    let receipt = node.path(&format!(".node/receipts/{}.json", node.snapshots[0]));
    let before = fs::read(&receipt).unwrap();
    let name = node.snapshots[0].parse().unwrap();
    let aside = node.path("aside/state");
    snapkit::node::set_aside(&snapkit::node::NodeDir::open(&node.path("")).unwrap(), &name, &aside).unwrap();
    assert!(aside.join("only-0").exists() && !receipt.exists(), "what it proves is somewhere else now");
    let again = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(again["restored"], true);
    node.expect_active(0);
    assert_ne!(fs::read(&receipt).unwrap(), before, "it is of the second restore");
}

#[test]
fn a_generation_is_not_restored_twice_unless_it_changed_or_that_is_asked_for() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    let again = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(again["restored"], false, "it is there, as it was proved");
    node.expect_active(0);
    let active = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!((&active["restored"], &active["switched"]), (&false.into(), &serde_json::Value::Null));

    // Whoever ran from it wrote something: asked for again, the snapshot is what is active.
    fs::write(node.path("current/data"), "written by the service").unwrap();
    let fresh = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(fresh["restored"], true);
    assert_eq!(fresh["generation"], format!("{}.2", node.snapshots[0]));
    node.expect_active(0);
    let asked = node.restore(0, &["--again"]).expect(0).json("snapkit.restore-into/1");
    assert_eq!((&asked["restored"], &asked["generation"]), (&true.into(), &format!("{}.3", node.snapshots[0]).into()));
}

#[test]
fn old_generations_go_by_count_and_size_but_never_the_one_before() {
    let node = Node::new(5);
    node.config("[keep]\ngenerations = 3\n");
    for number in 0..4 {
        node.restore(number, &[]).expect(0);
    }
    assert_eq!(node.in_generations().len(), 3);
    assert!(!node.path("generations").join(&node.snapshots[0]).exists());
    node.undo().expect(0);
    node.expect_active(2);
    node.config("[keep]\nbytes = 1\n");
    let done = node.restore(4, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(done["removed"].as_array().unwrap().len(), 2, "{done}");
    let status = node.status();
    let roles: Vec<&str> =
        status["generations"].as_array().unwrap().iter().map(|g| g["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["active", "previous"]);
    node.undo().expect(0);
    node.expect_active(2);
}

#[test]
fn what_a_killed_removal_left_goes_with_the_next_switch() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    let doomed = node.path("generations/.doomed-old");
    fs::create_dir_all(doomed.join("sub")).unwrap();
    fs::write(doomed.join("sub/file"), "x").unwrap();
    fs::set_permissions(doomed.join("sub"), fs::Permissions::from_mode(0o000)).unwrap();
    node.restore(1, &[]).expect(0);
    assert!(!doomed.exists());
}

#[test]
fn options_that_make_no_sense_with_a_node_are_refused() {
    let node = Node::new(1);
    for wrong in [&["target"][..], &["--path", "data"], &["--include", "*"], &["--map", "tree=x"]] {
        node.restore(0, wrong).expect(2);
    }
    node.machine.run(&["restore", "--store", "store", "latest"]).expect(2);
    node.machine.run(&["restore", "--store", "store", "latest", "x", "--again"]).expect(2);
    assert!(!node.machine.path("node").exists());
}

#[test]
fn a_dry_run_names_the_generation_and_writes_nothing() {
    let node = Node::new(2);
    let run = node.restore(0, &["--dry-run"]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(run["generation"], node.snapshots[0].as_str());
    assert!(!node.machine.path("node").exists());
    node.restore(0, &[]).expect(0);
    let before = fs::read(node.path(".node/state.json")).unwrap();
    node.restore(1, &["--dry-run"]).expect(0);
    node.expect_active(0);
    assert_eq!(fs::read(node.path(".node/state.json")).unwrap(), before);
    assert_eq!(node.in_generations().len(), 1);
}

#[test]
fn a_directory_that_holds_something_else_is_no_node() {
    let node = Node::new(1);
    node.machine.write("node/mine", "precious");
    node.restore(0, &[]).expect(3).stderr_names("is not a node directory");
    assert_eq!(names(&node.path("")), ["mine"]);
    node.machine.bootstrap(&["status", "node"]).expect(3);
    node.machine.bootstrap(&["status", "absent"]).expect(5);
    fs::remove_file(node.path("mine")).unwrap();
    node.config("");
    node.restore(0, &[]).expect(0);
    node.expect_active(0);
}

#[test]
fn a_current_that_somebody_else_set_is_believed_or_refused_by_name() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    let set = |target: &str| {
        fs::remove_file(node.path("current")).unwrap();
        std::os::unix::fs::symlink(target, node.path("current")).unwrap();
    };
    set("/etc");
    node.undo().expect(3).stderr_names("ln -sfn");
    assert_eq!(fs::read_link(node.path("current")).unwrap().to_str(), Some("/etc"));
    set("generations/../../escape");
    node.undo().expect(3).stderr_names("current");
    // Moved by hand to the first: the second is what undo goes back to.
    set(&format!("generations/{}", node.snapshots[0]));
    node.undo().expect(0);
    node.expect_active(1);
}

#[test]
fn one_switch_at_a_time_and_whoever_comes_second_is_told() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    let lock = fs::File::options().write(true).open(node.path(".node/switch.lock")).unwrap();
    lock.lock().unwrap();
    node.undo().expect(3).stderr_names("another process is switching");
    node.restore(1, &[]).expect(3).stderr_names("another process is switching");
    node.status();
    drop(lock);
    // Many at once: each ends with an answer, and the node is whole.
    let node = &node;
    let one = |i: u32| if i.is_multiple_of(2) { node.restore(1, &["--again"]) } else { node.undo() };
    let codes = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..8).map(|i| scope.spawn(move || one(i).code)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<i32>>()
    });
    assert!(codes.iter().all(|code| [0, 3].contains(code)), "{codes:?}");
    let active = fs::read_link(node.path("current")).unwrap();
    assert!(node.path("").join(&active).is_dir());
    assert_eq!(node.status()["interrupted"], serde_json::Value::Null);
    node.restore(1, &["--again"]).expect(0);
    node.expect_active(1);
}

#[test]
fn several_trees_lie_side_by_side_in_a_generation() {
    let machine = Machine::new();
    machine.write("a/one", "1");
    machine.write("b/two", "2");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "a", "b"]);
    machine.write("node/node.toml", "[require]\nfiles = [\"a/one\", \"b/two\"]\n");
    let done = machine.ok(&["restore", "--store", "store", "latest", "--into", "node"]);
    assert!(done.text().contains("holds: file b/two"), "{}", done.text());
    assert_eq!(fs::read(machine.path("node/current/b/two")).unwrap(), b"2");
}

/// H03: interrupted, and `latest` means another snapshot by now.
#[test]
fn an_interrupted_restore_goes_on_with_the_snapshot_it_had_chosen() {
    let mut node = Node::new(1);
    node.machine.write("tree/large", snapkit_tests::every_kind::noise(3_000_000, 1));
    let chosen = node.snapshot();
    node.machine.write("tree/large", snapkit_tests::every_kind::noise(3_000_000, 2));
    let into = ["restore", "--store", "store", "latest", "--into", "node", "--json"];
    // Everything is staged but the last pack cannot be had, so the run stops midway.
    let packs = walkdir::WalkDir::new(node.machine.path("store/packs")).into_iter().map(Result::unwrap);
    let packs = packs.filter(|entry| entry.file_type().is_file());
    let largest = packs.max_by_key(|entry| entry.metadata().unwrap().len()).unwrap().into_path();
    fs::rename(&largest, node.machine.path("aside")).unwrap();
    assert_ne!(node.machine.run(&into).code, 0);
    fs::rename(node.machine.path("aside"), &largest).unwrap();
    node.snapshot();
    let report = node.machine.ok(&into).json("snapkit.restore-into/1");
    assert_eq!((&report["seq"], &report["resumed"]), (&2.into(), &true.into()), "{report}");
    node.expect_active(chosen);
    // Asked again, it is the newest.
    let report = node.machine.ok(&into).json("snapkit.restore-into/1");
    assert_eq!(report["seq"], 3);
}
