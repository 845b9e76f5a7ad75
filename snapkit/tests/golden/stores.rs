//! The draft store: a small chain with every kind of entry, read, verified and restored from its pin alone.

use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use manifests::document::record::{Body, Nonce, Record, Writer, payload_type};
use manifests::document::snapshot::Snapshot;
use manifests::envelope;
use manifests::keys::Signer;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};
use snapkit::backup::back_up;
use snapkit::browse;
use snapkit::cancel::Cancel;
use snapkit::chain::{Chain, TOOL, TilePolicy};
use snapkit::entry::{Entry, Kind, OwnerNames, PackSet, printable};
use snapkit::fetch::Fetcher;
use snapkit::id::hex;
use snapkit::init::init;
use snapkit::progress::Progress;
use snapkit::restore::{self, Chosen, Destination, Owners, Proof, Selection};
use snapkit::scan::inspect::digest_directory;
use snapkit::scan::walk::WalkOptions;
use snapkit::snapshot::{Options, Source};
use snapkit::store::{Created, OpenOptions, Store, open};
use snapkit::trust::{Pin, TrustDir};
use snapkit::verify::{Depth, Inventory, Report, check_data, take_inventory};

fn draft() -> PathBuf {
    crate::testdata("stores/draft")
}

fn expected(name: &str) -> String {
    fs::read_to_string(draft().join("expected").join(name)).unwrap()
}

fn open_store(path: &Path, create: bool) -> Arc<dyn Store> {
    let options = OpenOptions { create_directory: create, ..OpenOptions::default() };
    open(path.to_str().unwrap(), &options).unwrap()
}

/// A machine that knows nothing but the pin.
struct Stranger {
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    trust: TrustDir,
    pin: Pin,
    now: Timestamp,
}

impl Stranger {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDir::new(&directory.path().join("home"), &directory.path().join("cache"));
        let pin = Pin { root: expected("pin").trim_end().parse().unwrap(), min: None };
        // The root expires; what was valid when the store was made stays readable at that time.
        let now = expected("time").trim_end().parse().unwrap();
        Self { directory, store: open_store(&draft().join("store"), false), trust, pin, now }
    }

    fn chain(&self) -> Chain<'_> {
        Chain::open(&*self.store, self.pin, &self.trust, self.now).unwrap()
    }
}

fn snapshots(chain: &Chain<'_>) -> Vec<(u64, Snapshot)> {
    let newest = chain.head().unwrap();
    let mut all = Vec::new();
    let mut visit = |record: &Record| {
        if let Body::Snapshot(snapshot) = &record.body {
            all.push((record.header.seq, (**snapshot).clone()));
        }
        ControlFlow::Continue(())
    };
    let walk = chain.walk_all(&newest, TilePolicy::Check, &mut visit).unwrap();
    assert!(walk.problems.is_empty(), "{:?}", walk.problems);
    assert_eq!((walk.records, walk.snapshots, walk.voids), (5, 3, 1));
    all
}

/// One line for each entry, with everything that is kept of it.
fn listing(fetcher: &Fetcher<'_>, snapshot: &Snapshot) -> String {
    let private = &snapshot.private;
    let mut text = format!("content {}\nfull {}\n", private.content_digest, private.full_digest);
    let (mut packs, mut names) = (PackSet::default(), OwnerNames::default());
    browse::list(fetcher, snapshot, b"", &mut packs, &mut names, &mut |item| {
        text.push_str(&line(&item.path, &item.entry));
    })
    .unwrap();
    text
}

fn line(path: &[u8], entry: &Entry) -> String {
    let Entry { mode, uid, gid, mtime_s, mtime_ns, .. } = entry;
    let mut line = format!("{} {mode:04o} {uid}:{gid} {mtime_s}+{mtime_ns:09}", entry.kind.word());
    line.push_str(&format!(" {}", printable(path)));
    match &entry.kind {
        Kind::File { size, content, holes, .. } => {
            line.push_str(&format!(" bytes={size} content={content}"));
            holes.iter().for_each(|hole| line.push_str(&format!(" hole={}+{}", hole.offset, hole.bytes)));
        }
        Kind::Symlink { target } => line.push_str(&format!(" target={}", printable(target))),
        Kind::CharDevice { rdev } | Kind::BlockDevice { rdev } => {
            line.push_str(&format!(" rdev={}:{}", rdev.0, rdev.1))
        }
        Kind::Directory | Kind::Fifo => {}
    }
    for (name, value) in &entry.xattrs {
        line.push_str(&format!(" {}={}", printable(name), hex(value)));
    }
    if let Some(group) = entry.group {
        line.push_str(&format!(" group={}", hex(&group)));
    }
    line + "\n"
}

#[test]
fn the_draft_store_is_read_as_it_was_made() {
    let stranger = Stranger::new();
    let chain = stranger.chain();
    let fetcher = Fetcher::new(&*stranger.store);
    let snapshots = snapshots(&chain);
    assert_eq!(snapshots.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 4, 5]);
    for (seq, snapshot) in &snapshots {
        assert_eq!(listing(&fetcher, snapshot), expected(&format!("{seq}.txt")), "record {seq}");
    }
}

#[test]
fn all_data_of_the_draft_store_verifies() {
    let stranger = Stranger::new();
    let chain = stranger.chain();
    let fetcher = Fetcher::new(&*stranger.store);
    let named: Vec<_> = snapshots(&chain).into_iter().map(|(seq, snapshot)| (seq.to_string(), snapshot)).collect();
    let mut inventory = Inventory::default();
    named.iter().for_each(|(name, snapshot)| inventory.add(&fetcher, name, snapshot).unwrap());
    let segments = chain.segments(&chain.head().unwrap()).unwrap();
    let mut report = Report::default();
    take_inventory(&*stranger.store, &inventory, &segments, &mut report).unwrap();
    let scratch = stranger.directory.path().join("scratch");
    let (cancel, progress) = (Cancel::new(), Progress::new());
    let named = named.into_iter();
    check_data(&fetcher, named, &inventory, &segments, Depth::All, &scratch, &mut report, &cancel, &progress).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert!(report.packs > 0 && report.segments > 0 && report.read_bytes > 0, "{report:?}");
}

#[test]
fn the_draft_store_is_restored_as_it_was_captured() {
    let stranger = Stranger::new();
    let chain = stranger.chain();
    let fetcher = Fetcher::new(&*stranger.store);
    let is_root = rustix::process::geteuid().is_root();
    for (seq, snapshot) in snapshots(&chain) {
        let target = stranger.directory.path().join(format!("restored-{seq}"));
        let names = snapshot.private.trees.iter().map(|tree| (tree.name.clone(), Some(tree.name.clone())));
        let destination = Destination::prepare(
            &target,
            names.collect(),
            &Chosen::new(String::new(), String::new(), (seq, seq.to_string()), Vec::new()),
        )
        .unwrap();
        let has_xattrs = destination.has_xattrs();
        // Without root there are no devices, no foreign owners, and no proof of what nobody but root may read; the plan
        // says what the result must be then.
        let without_root = ["*", "!/no-access", "!/no-access/**"].map(str::to_owned).to_vec();
        let include = if is_root { Vec::new() } else { without_root };
        let selection = Selection { include, ..Selection::default() };
        let options = restore::Options {
            owners: Owners::Ids,
            devices: is_root,
            proof: Proof::Reread,
            fetchers: 2,
            seeds: Vec::new(),
        };
        let scratch = stranger.directory.path().join("scratch");
        let cancel = Cancel::new();
        let plan = restore::plan(&fetcher, &snapshot, &selection, &options, &scratch, has_xattrs, &cancel).unwrap();
        assert!(plan.exact || !is_root || !has_xattrs);
        let wanted = plan.expected();
        restore::apply(&fetcher, &plan, vec![destination], &options, &cancel, &Progress::new()).unwrap();
        let found = snapshot.private.trees.iter().map(|tree| {
            let directory = target.join(&tree.name);
            (tree.name.as_str(), digest_directory(&directory, WalkOptions::default(), is_root).unwrap())
        });
        let found = snapkit::digest::of_state(found);
        assert_eq!(found, wanted, "record {seq}");
        if plan.exact {
            assert_eq!(found.content.0, snapshot.private.content_digest.0);
            assert_eq!(found.full.0, snapshot.private.full_digest.0);
        }
    }
}

#[test]
#[ignore = "makes the draft store anew, as root: SNAPKIT_WRITE_TESTDATA=1 cargo test -p snapkit --test golden -- --ignored"]
fn make_the_draft_store() {
    assert!(std::env::var_os("SNAPKIT_WRITE_TESTDATA").is_some(), "the store is made only when it is asked for");
    let _ = fs::remove_dir_all(draft());
    fs::create_dir_all(draft().join("expected")).unwrap();
    let directory = tempfile::Builder::new().prefix("snapkit-draft-").tempdir().unwrap();
    let (store, trust) = {
        let trust = TrustDir::new(&directory.path().join("home"), &directory.path().join("cache"));
        (open_store(&draft().join("store"), true), trust)
    };
    let made = init(&*store, &trust, "draft-node", Timestamp::now()).unwrap();
    let state = directory.path().join("state");
    let pin = made.bootstrap.pin;
    let signer = trust.read_node_key(&pin.root).unwrap();
    let sources = |names: &[&str]| {
        let source = |name: &&str| Source { name: (*name).to_owned(), directory: state.join(name) };
        names.iter().map(source).collect::<Vec<_>>()
    };
    let take = |names: &[&str]| {
        let chain = Chain::open(&*store, pin, &trust, Timestamp::now()).unwrap();
        let options = Options { devices: true, ..Options::default() };
        let cache = trust.cache_of(&pin.root);
        let (cancel, progress) = (Cancel::new(), Progress::new());
        let taken =
            back_up(&chain, &sources(names), &options, cache, &signer, "draft-node", &cancel, &progress).unwrap();
        assert_eq!(taken.outcome.problems, []);
        taken.committed.seq
    };

    first_state(&state);
    assert_eq!(take(&["config", "data"]), 1);
    add_unknown_kind(&Chain::open(&*store, pin, &trust, Timestamp::now()).unwrap(), &signer);
    create(&*store, 3, b"no record\n".to_vec());
    second_state(&state);
    assert_eq!(take(&["config", "data", "other.tree"]), 4);
    assert_eq!(take(&["config"]), 5);

    for (name, path) in [("owner.key", made.owner_key), ("node.key", made.node_key)] {
        fs::create_dir_all(draft().join("test-keys")).unwrap();
        fs::copy(path, draft().join("test-keys").join(name)).unwrap();
    }
    let write = |name: &str, text: String| fs::write(draft().join("expected").join(name), text).unwrap();
    let chain = Chain::open(&*store, pin, &trust, Timestamp::now()).unwrap();
    write("pin", format!("{}\n", pin.root));
    write("time", format!("{}\n", chain.head().unwrap().head.time));
    let fetcher = Fetcher::new(&*store);
    for (seq, snapshot) in snapshots(&chain) {
        write(&format!("{seq}.txt"), listing(&fetcher, &snapshot));
    }
    fs::write(draft().join("README.md"), readme(&pin)).unwrap();
}

fn readme(pin: &Pin) -> String {
    format!(
        "# The draft store

A small store of format `0-draft`, made by `make_the_draft_store` in `snapkit/tests/golden/stores.rs`, with every kind
of entry and attribute. Its pin, which is all that a reader needs to know:

```text
URL#root=sha256:{}
```

| slot | what it holds |
|---:|---|
| 0 | genesis |
| 1 | a snapshot of the trees `config` and `data` |
| 2 | a record of the kind `hold`, which readers of this format do not know and skip |
| 3 | void: bytes that are no record |
| 4 | a snapshot after changes, with the tree `other.tree` |
| 5 | a snapshot of `config` alone, in which nothing is new |

`store/` is the store. `expected/` has what a reader must find: `pin`, `time` (the root is judged at this time; it
expires a year later), and for each snapshot the two digests and a line for every entry: type, mode, owner,
modification time as seconds and nanoseconds, path, and what else the type has. `test-keys/` has the keys that signed
it. They are for tests only, and everybody knows them.
",
        pin.root
    )
}

/// A record of a kind that does not exist, signed as one that will.
fn add_unknown_kind(chain: &Chain<'_>, signer: &dyn Signer) {
    let newest = chain.head().unwrap();
    let writer = Writer { key: signer.public().id(), node: "draft-node".to_owned(), tool: TOOL.to_owned() };
    let header = newest.head.next_header(&[], Timestamp::now(), Nonce([2; 16]), writer).unwrap();
    let header = serde_json::to_string(&header).unwrap();
    let payload = format!(r#"{},"body":{{"reason":"an example"}}}}"#, header.strip_suffix('}').unwrap());
    let envelope = envelope::sign(&payload_type("hold"), payload.as_bytes(), &[signer]).unwrap();
    create(chain.store(), 2, envelope);
}

fn create(store: &dyn Store, slot: u64, bytes: Vec<u8>) {
    let created = store.create(&format!("chain/{slot:020}.json"), bytes.into()).unwrap();
    assert!(matches!(created, Created::Yes));
}

fn numbers(count: u32) -> String {
    (0..count).map(|n| format!("line {n} of a file with several chunks\n")).collect()
}

fn first_state(state: &Path) {
    let (config, data) = (state.join("config"), state.join("data"));
    for path in ["config", "data/directory/empty", "data/sticky", "data/no-access"] {
        fs::create_dir_all(state.join(path)).unwrap();
    }
    fs::write(config.join("app.toml"), "name = \"draft\"\n").unwrap();
    symlink("app.toml", config.join("current")).unwrap();
    fs::write(data.join("empty"), "").unwrap();
    fs::write(data.join("several-chunks"), numbers(12_000)).unwrap();
    fs::write(data.join("directory/first-name"), "one file with two names\n").unwrap();
    fs::hard_link(data.join("directory/first-name"), data.join("second-name")).unwrap();
    fs::write(data.join(std::ffi::OsStr::from_bytes(b"latin-\xe9")), "a name that is not UTF-8\n").unwrap();
    fs::write(data.join("100%\n"), "percent sign and line feed\n").unwrap();
    symlink("nowhere/at/all", data.join("dangling")).unwrap();
    let mut sparse = File::create(data.join("sparse")).unwrap();
    sparse.seek(SeekFrom::Start(1 << 20)).unwrap();
    sparse.write_all(&[7; 4096]).unwrap();
    sparse.set_len(3 << 20).unwrap();
    for (name, kind, rdev) in [("fifo", FileType::Fifo, 0), ("null", FileType::CharacterDevice, 0x103)] {
        rustix::fs::mknodat(CWD, data.join(name), kind, Mode::RUSR | Mode::WUSR, rdev).unwrap();
    }
    fs::write(data.join("setuid"), "#!/bin/sh\n").unwrap();
    chown(data.join("setuid"), Some(1234), Some(5678)).unwrap();
    fs::set_permissions(data.join("setuid"), Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(data.join("sticky"), Permissions::from_mode(0o1777)).unwrap();
    fs::write(data.join("attributes"), "attributes and an access list\n").unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(data.join("attributes"), name, value, XattrFlags::empty()).unwrap();
    };
    set("user.comment", b"kept");
    set("user.empty", b"");
    // Version 2; owner rw-, user 1234 r--, group r--, mask r--, others nothing.
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1, 6, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        acl.extend(u16::to_le_bytes(tag));
        acl.extend(u16::to_le_bytes(permissions));
        acl.extend(id.to_le_bytes());
    }
    set("system.posix_acl_access", &acl);
    let old = Timespec { tv_sec: -1_000_000_000, tv_nsec: 123_456_789 };
    let times = Timestamps { last_access: old, last_modification: old };
    rustix::fs::utimensat(CWD, data.join("attributes"), &times, AtFlags::empty()).unwrap();
    fs::write(data.join("no-access/secret"), "nobody may read this\n").unwrap();
    for path in ["no-access/secret", "no-access"] {
        fs::set_permissions(data.join(path), Permissions::from_mode(0o000)).unwrap();
    }
    assert_eq!(fs::metadata(data.join("sparse")).unwrap().blocks(), 8, "the file system has no holes");
}

fn second_state(state: &Path) {
    let data = state.join("data");
    let text = numbers(12_000);
    let (before, after) = text.split_at(text.len() / 2);
    fs::write(data.join("several-chunks"), format!("{before}a line that was added\n{after}")).unwrap();
    fs::remove_file(data.join("empty")).unwrap();
    fs::rename(data.join("dangling"), data.join("directory/moved")).unwrap();
    fs::create_dir_all(state.join("other.tree")).unwrap();
    fs::write(state.join("other.tree/note"), "a third tree\n").unwrap();
}
