//! Attacks F01 to F09 and the growth of entries: trees that a valid key signed and that must not be restored.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use manifests::refusal::Class;
use snapkit::entry::{ChunkList, Extent, Kind};
use snapkit::id::ContentHash;
use snapkit_tests::attack::{Content, Forge, Victim};

/// A chain whose newest snapshot is this tree, and a machine that has pinned it before.
fn forged(content: Content) -> (Forge, Victim) {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    forge.commit(content);
    (forge, victim)
}

#[track_caller]
fn refused(content: Content, class: Class, object: &str) {
    let (_forge, victim) = forged(content);
    victim.every_tree_command_refuses(class, object);
    // The honest snapshot before it is as good as ever.
    assert_eq!(fs::read(victim.restores("1").join("file")).unwrap(), b"honest\n");
}

/// What the forge makes is right where nothing was made wrong on purpose.
#[test]
fn a_forged_tree_without_a_flaw_is_restored() {
    let mut content = Content::new();
    content.directory("d");
    content.file("d/a", b"a");
    content.file("d/b", b"b").mode = 0o600;
    content.file("d/one", b"linked");
    content.linked_to("d/one");
    content.file("d/two", b"linked");
    content.linked_to("d/one");
    content.symlink("link", "d/a");
    content.first_leaf = Some(3);
    let (_forge, victim) = forged(content);
    let restored = victim.restores("latest");
    assert_eq!(fs::read(restored.join("link")).unwrap(), b"a");
    assert_eq!(fs::metadata(restored.join("d/two")).unwrap().nlink(), 2);
    assert_eq!(victim.accepts(&["cat", "latest", "d/b"]).stdout, b"b");
    victim.accepts(&["ls", "latest"]);
    victim.verify_is_clean();
}

#[test]
fn f01_paths_that_leave_the_tree_are_refused() {
    for path in ["..", "../outside/x", "d/../../x", "/outside/x", "d//x", "d/", ".", "./x", "d/./x", "nul\0x"] {
        let mut content = Content::new();
        content.directory("d");
        content.file(path, b"x");
        let (_forge, victim) = forged(content);
        victim.every_tree_command_refuses(Class::Path, "path");
        victim.refuses(
            &["cat", "latest", path.trim_end_matches('\0').split('\0').next().unwrap()],
            Class::Path,
            "path",
        );
    }
}

#[test]
fn f01_names_that_no_file_system_holds_are_refused() {
    let mut content = Content::new();
    content.file("n".repeat(256), b"x");
    refused(content, Class::Path, "255 bytes");
    let mut content = Content::new();
    content.file("component/".repeat(7000), b"x");
    refused(content, Class::Path, "65,535");
}

#[test]
fn f02_nothing_is_written_through_a_symlink_of_the_tree() {
    let mut content = Content::new();
    content.symlink("a", "../outside");
    content.file("a/precious", b"overwritten");
    refused(content, Class::Link, "a/precious");

    // The other order: the file comes first, then the link in the place of its directory.
    let mut content = Content::new();
    content.directory("a");
    content.file("a/precious", b"overwritten");
    content.symlink("a", "../outside");
    refused(content, Class::Path, "a/precious");

    // And with the link in another leaf, where only the first one is needed to read the file.
    let mut content = Content::new();
    content.symlink("a", "../outside");
    content.file("a/precious", b"overwritten");
    content.first_leaf = Some(2);
    refused(content, Class::Link, "a/precious");
}

#[test]
fn f02_links_to_anywhere_are_restored_as_links_and_never_followed() {
    let mut content = Content::new();
    content.symlink("absolute", "/etc/passwd");
    content.symlink("directory", "../outside");
    content.symlink("self", ".");
    content.symlink("up", "../../../../../../../..");
    let (_forge, victim) = forged(content);
    let restored = victim.restores("latest");
    assert_eq!(fs::read_link(restored.join("directory")).unwrap().to_str(), Some("../outside"));
    assert_eq!(fs::read(victim.machine.path("outside/precious")).unwrap(), b"precious\n");
    assert_eq!(fs::read_dir(victim.machine.path("outside")).unwrap().count(), 1);
}

#[test]
fn f03_a_link_planted_in_the_place_of_the_target_is_refused() {
    let forge = Forge::new();
    let victim = Victim::of(&forge);
    symlink("outside", victim.machine.path("link")).unwrap();
    symlink("nowhere", victim.machine.path("dangling")).unwrap();
    symlink("empty", victim.machine.path("link-to-empty")).unwrap();
    fs::create_dir(victim.machine.path("planted")).unwrap();
    symlink("../outside/precious", victim.machine.path("planted/file")).unwrap();
    for target in ["link", "dangling", "link-to-empty", "planted"] {
        victim.refuses(&["restore", "latest", target], Class::Target, target);
    }
}

#[test]
fn f04_a_hard_link_to_nothing_is_refused() {
    let mut content = Content::new();
    content.file("a", b"a");
    content.linked_to("somewhere-else");
    refused(content, Class::Link, "a");
    // To what comes later.
    let mut content = Content::new();
    content.file("a", b"same");
    content.linked_to("b");
    content.file("b", b"same");
    content.linked_to("b");
    refused(content, Class::Link, "a");
}

#[test]
fn f04_a_hard_link_to_another_type_is_refused() {
    let kinds = [
        (Kind::Symlink { target: b"/etc/passwd".to_vec() }, Class::Link, "b"),
        (Kind::Fifo, Class::Link, "b"),
        // A directory belongs to no group at all.
        (Kind::Directory, Class::Kind, "a"),
    ];
    for (kind, class, named) in kinds {
        let mut content = Content::new();
        content.push("a", kind);
        content.linked_to("a");
        content.file("b", b"b");
        content.linked_to("a");
        refused(content, class, named);
    }
}

#[test]
fn f04_members_of_a_hard_link_group_that_differ_are_refused() {
    let differ: [fn(&mut Content); 4] = [
        |content| content.file("b", b"bbb").mode = 0o644,
        |content| content.file("b", b"longer").mode = 0o644,
        |content| content.file("b", b"aaa").mode = 0o4755,
        |content| content.file("b", b"aaa").mtime_s = 7,
    ];
    for change in differ {
        let mut content = Content::new();
        content.file("a", b"aaa");
        content.linked_to("a");
        change(&mut content);
        content.linked_to("a");
        refused(content, Class::Link, "b");
    }
}

#[test]
fn f05_devices_and_fifos_come_only_when_asked_for() {
    let mut content = Content::new();
    content.push("fifo", Kind::Fifo);
    content.push("memory", Kind::CharDevice { rdev: (1, 1) });
    content.push("disk", Kind::BlockDevice { rdev: (8, 0) });
    content.entries.sort_by(|a, b| a.path.cmp(&b.path));
    let (_forge, victim) = forged(content);
    let report = victim.accepts(&["restore", "latest", "plain"]).json("snapkit.restore/1");
    assert_eq!(fs::read_dir(victim.machine.path("plain")).unwrap().count(), 0);
    assert_eq!(report["changes"][0]["count"], 3, "what is left out is listed: {report}");
    assert_eq!(report["exact"], false);
    if snapkit_tests::is_root() {
        victim.accepts(&["restore", "latest", "asked", "--devices"]);
        let mode =
            |name: &str| fs::symlink_metadata(victim.machine.path("asked").join(name)).unwrap().mode() & 0o170_000;
        assert_eq!([mode("fifo"), mode("memory"), mode("disk")], [0o010_000, 0o020_000, 0o060_000]);
    }
}

#[test]
fn f05_setuid_is_kept_only_with_its_owner() {
    if !snapkit_tests::is_root() {
        return;
    }
    let mut content = Content::new();
    let file = content.file("tool", b"#!/bin/sh\n");
    (file.mode, file.uid, file.gid) = (0o6755, 12345, 54321);
    let (_forge, victim) = forged(content);
    let restored = victim.restores("latest");
    let found = fs::metadata(restored.join("tool")).unwrap();
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (12345, 54321, 0o6755));

    // Given to whoever restores, it would run with rights that nobody meant it to have.
    let report = victim.accepts(&["restore", "latest", "mine", "--owner", "me"]).json("snapkit.restore/1");
    let found = fs::metadata(victim.machine.path("mine/tool")).unwrap();
    assert_eq!((found.uid(), found.mode() & 0o7777), (0, 0o755));
    assert!(report["changes"].to_string().contains("setuid"), "{report}");
}

#[test]
fn f06_a_directory_with_the_name_of_a_link_is_refused() {
    let mut content = Content::new();
    content.symlink("a", "../outside");
    content.directory("a").mode = 0o777;
    refused(content, Class::Path, "a");
}

#[test]
fn f08_a_path_that_comes_twice_is_refused() {
    let pairs: [fn(&mut Content); 4] = [
        |content| {
            content.file("a", b"first");
            content.file("a", b"second");
        },
        |content| {
            content.directory("a");
            content.file("a", b"file");
        },
        |content| {
            content.file("a", b"file");
            content.directory("a");
        },
        |content| {
            content.directory("");
        },
    ];
    for pair in pairs {
        for leaves in [None, Some(2)] {
            let mut content = Content::new();
            pair(&mut content);
            content.first_leaf = leaves.filter(|cut| *cut < content.entries.len());
            refused(content, Class::Path, "comes after");
        }
    }
}

#[test]
fn f08_what_lies_below_a_file_is_refused() {
    let mut content = Content::new();
    content.file("a", b"file");
    content.file("a/x", b"below");
    refused(content, Class::Link, "a/x");
}

#[test]
fn f08_paths_out_of_order_or_without_their_directory_are_refused() {
    let mut content = Content::new();
    content.file("b", b"b");
    content.file("a", b"a");
    refused(content, Class::Path, "a comes after b");
    let mut content = Content::new();
    content.file("absent/x", b"x");
    refused(content, Class::Path, "absent/x");
    let mut content = Content::without_root();
    content.file("a", b"a");
    refused(content, Class::Path, "a");
    // Also where a single file is asked for, whose leaf is the only one that is read.
    let mut content = Content::new();
    content.file("b", b"first");
    content.file("b", b"second");
    let (_forge, victim) = forged(content);
    victim.records_are_accepted();
    victim.refuses(&["cat", "latest", "b"], Class::Path, "b");
}

#[test]
fn an_index_that_hides_a_path_is_refused() {
    let mut content = Content::new();
    content.file("a", b"a");
    content.file("m", b"hidden from whoever asks for it");
    content.first_leaf = Some(2);
    content.claimed_first = Some(b"n".to_vec());
    let (_forge, victim) = forged(content);
    victim.every_tree_command_refuses(Class::Path, "m");
}

#[test]
fn f09_counts_that_do_not_add_up_are_refused() {
    for claimed in [1, 3, 1 << 52] {
        let mut content = Content::new();
        content.file("a", b"a");
        content.claimed_entries = Some(claimed);
        refused(content, Class::Size, &claimed.to_string());
    }
}

#[test]
fn f11_holes_and_sizes_that_do_not_add_up_are_refused() {
    let hole = |offset, bytes| Extent { offset, bytes };
    let cases = [
        (1 << 40, vec![]),
        (3, vec![hole(0, 1 << 40)]),
        (1 << 40, vec![hole(3, (1 << 40) - 4)]),
        (13, vec![hole(3, 5), hole(8, 5)]),
        (13, vec![hole(3, u64::MAX)]),
    ];
    for (size, holes) in cases {
        let mut content = Content::new();
        let chunk = content.chunk(b"abc");
        let chunks = ChunkList::Inline(vec![chunk]);
        let content_hash = ContentHash::of(b"abc");
        content.push("a", Kind::File { size, content: content_hash, chunks, holes });
        refused(content, Class::Size, "a");
    }
}

#[test]
fn an_unknown_entry_key_below_64_means_newer_and_others_are_ignored() {
    for key in [17, 23, 24, 63] {
        let mut content = Content::new();
        content.file("file", b"x");
        content.field(key, &[1]);
        let (_forge, victim) = forged(content);
        victim.every_tree_command_refuses(Class::Newer, "newer");
        victim.refuses(&["cat", "latest", "file"], Class::Newer, "newer");
        assert_eq!(fs::read(victim.restores("1").join("file")).unwrap(), b"honest\n");
    }
    let mut content = Content::new();
    content.file("file", b"x");
    content.field(64, b"\x82\x01\x61a").field(255, &[0xf6]);
    let (_forge, victim) = forged(content);
    assert_eq!(fs::read(victim.restores("latest").join("file")).unwrap(), b"x");
    victim.verify_is_clean();
}

#[test]
fn what_is_not_the_cbor_of_a_leaf_is_refused() {
    let edits: [fn(&mut Vec<u8>); 5] = [
        |leaf| leaf.truncate(leaf.len() - 1),
        |leaf| leaf.push(0x80),
        |leaf| leaf.clear(),
        |leaf| leaf[0] = 0xbf,
        |leaf| leaf.extend([0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
    ];
    for edit in edits {
        let mut content = Content::new();
        content.file("file", b"x");
        content.edit_leaf(edit);
        refused(content, Class::Kind, "malformed");
    }
}

#[test]
fn a_leaf_longer_than_the_format_allows_is_refused() {
    let mut content = Content::new();
    let target = vec![b't'; 100 << 10];
    for n in 0..11 {
        content.symlink(format!("l{n:02}"), &target);
    }
    refused(content, Class::Kind, "bytes");
}
