//! The page of a comparison, as a browser sees it.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use snapkit_tests::every_kind::noise;
use snapkit_tests::{Machine, browser};

fn page_of(machine: &Machine, args: &[&str]) -> std::path::PathBuf {
    let page = machine.path("page.html");
    let all = [&["diff", "--html", page.to_str().unwrap()], args].concat();
    machine.run(&all).expect(1);
    page
}

fn changed_tree() -> Machine {
    let machine = Machine::new();
    for name in ["etc/service.conf", "etc/other.conf", "db/old-name", "db/gone"] {
        machine.write(&format!("a/{name}"), noise(3000, name.len() as u64));
    }
    machine.write("b/etc/other.conf", noise(3000, "etc/other.conf".len() as u64));
    machine.write("b/db/new-name", noise(3000, "db/old-name".len() as u64));
    let mut changed = noise(3000, "etc/service.conf".len() as u64);
    changed[1234..1240].copy_from_slice(b"<b>&'\"");
    machine.write("b/etc/service.conf", changed);
    machine.write("b/db/come", "new");
    machine
}

#[test]
fn the_page_shows_every_difference_and_filters_by_its_address() {
    let machine = changed_tree();
    let page = page_of(&machine, &["--content", "--hex", "./a", "./b"]);
    let all = browser::open(&page, "");
    assert_eq!(all.console, Vec::<String>::new());
    assert_eq!(all.shown_paths(), ["db/come", "db/gone", "db/old-name → db/new-name", "etc/service.conf"]);
    assert!(all.dom.contains("4 shown"), "the script ran");
    assert!(all.dom.contains("<title>snapkit diff: differs</title>"));
    assert!(all.dom.contains("class=\"picture\""), "a picture of where bytes differ");
    assert!(all.dom.contains("<mark>3c</mark>"), "a hex dump");
    assert!(all.dom.contains("<td>1234</td>"), "the list of ranges");

    for (fragment, shown) in [
        ("q=service", &["etc/service.conf"][..]),
        ("q=CONTENT%20etc", &["etc/service.conf"]),
        ("q=nothing-like-it", &[]),
        ("hide=added,removed", &["db/old-name → db/new-name", "etc/service.conf"]),
        ("q=db&hide=renamed", &["db/come", "db/gone"]),
    ] {
        let filtered = browser::open(&page, fragment);
        assert_eq!(filtered.shown_paths(), shown, "{fragment}");
        assert_eq!(filtered.console, Vec::<String>::new(), "{fragment}");
    }
}

#[test]
fn what_the_policy_allows_can_be_hidden() {
    let machine = changed_tree();
    machine.write("policy.toml", "[[rule]]\npaths = [\"/etc/\"]\nclass = \"may-advance\"\n");
    let page = page_of(&machine, &["--content", "--policy", "policy.toml", "./a", "./b"]);
    assert_eq!(browser::open(&page, "").shown_paths().len(), 4);
    let filtered = browser::open(&page, "allowed=no");
    assert!(!filtered.shown_paths().contains(&"etc/service.conf".to_owned()), "{:?}", filtered.shown_paths());
    assert_eq!(filtered.shown_paths().len(), 3);
}

#[test]
fn no_name_becomes_markup_script_or_another_name() {
    let machine = Machine::new();
    let names: [&[u8]; 9] = [
        b"<img src=x onerror=document.title='owned'>",
        b"\"><script>document.title='owned'<",
        b"close<",
        b"&lt;b&gt;",
        b"'quoted' \"twice\"",
        "picture\u{202e}gpj.exe".as_bytes(),
        "zero\u{200b}width".as_bytes(),
        b"line\nbreak \x1b[31mred",
        b"\xff\xfe not text",
    ];
    fs::create_dir(machine.path("a")).unwrap();
    fs::create_dir(machine.path("b")).unwrap();
    for name in names {
        fs::write(machine.path("b").join(OsStr::from_bytes(name)), name).unwrap();
    }
    // Together with the slash between them: a tag that ends a script.
    fs::create_dir(machine.path("b/x<")).unwrap();
    fs::write(machine.path("b/x<").join("script><script>document.title='owned'<"), "x").unwrap();
    std::os::unix::fs::symlink("<u>\u{202e}target", machine.path("b/link")).unwrap();
    for name in ["a/changed", "b/changed"] {
        machine.write(name, format!("</pre><script>document.title='owned'</script>{name}"));
    }
    rustix::fs::setxattr(
        machine.path("b/changed"),
        "user.<i>",
        b"<script>document.title='owned'</script>",
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let page = page_of(&machine, &["--hex", "./a", "./b"]);
    let seen = browser::open(&page, "");
    assert_eq!(seen.console, Vec::<String>::new());
    assert!(seen.dom.contains("<title>snapkit diff: differs</title>"));
    assert_eq!(seen.dom.matches("<script").count(), 1, "the page's own script alone");
    for tag in ["<img", "<b>", "<u>", "<i>"] {
        assert!(!seen.dom.contains(tag), "{tag} became markup");
    }
    let paths = seen.shown_paths();
    for path in [
        "<img src=x onerror=document.title='owned'>",
        "x</script><script>document.title='owned'<",
        "&lt;b&gt;",
        "picture%E2%80%AEgpj.exe",
        "zero%E2%80%8Bwidth",
        "line%0Abreak %1B[31mred",
        "%FF%FE not text",
    ] {
        assert!(paths.iter().any(|shown| shown == path), "{path} is not in {paths:?}");
    }
    // The text form cannot turn a terminal around either.
    let text = machine.run(&["diff", "./a", "./b"]).expect(1);
    assert!(!text.text().contains(['\u{202e}', '\u{200b}', '\u{1b}']), "{}", text.text());
}

#[test]
fn a_page_of_too_many_differences_says_so() {
    let machine = Machine::new();
    fs::create_dir_all(machine.path("a")).unwrap();
    for index in 0..6_000 {
        machine.write(&format!("b/{index:05}"), "");
    }
    let page = page_of(&machine, &["--content", "./a", "./b"]);
    let text = fs::read_to_string(&page).unwrap();
    assert_eq!(text.matches("<details ").count(), 5_000);
    assert!(text.contains("Only the first 5000 of 6000 differences"));
    let reference = |kind: &str| text.contains(kind);
    assert!(!["http:", "https:", "<link", "src="].into_iter().any(reference), "the page needs nothing else");
}
