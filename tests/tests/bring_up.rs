//! `bootstrap --from`: one string, a machine that has nothing, and a node that is what the pins say.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;
use snapkit_tests::compare::same_tree;
use snapkit_tests::{Issuer, Machine, Run};

/// A configuration with one tree whose path is `state` on the machine of the node.
fn config(machine: &Machine, more: &str, activation: &str) -> String {
    format!(
        "[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
         [pins]\nmax_head_age = \"26h\"\nmax_head_lag = 100\n{more}\n\
         [[pins.trees]]\nname = \"tree\"\npath = \"{}\"\nactivation = \"{activation}\"\n\
         must_match = [\"etc/app.conf\"]\nmay_advance = [\"file\"]\n",
        machine.arg("state")
    )
}

/// A chain with a manifest, and a machine that knows nothing of it.
struct Cold {
    issuer: Issuer,
    machine: Machine,
}

impl Cold {
    fn new(more: &str) -> Self {
        Self::with(more, "current")
    }

    fn with(more: &str, activation: &str) -> Self {
        let machine = Machine::new();
        let issuer = Issuer::without_pins(&config(&machine, more, activation));
        for command in [&["pins", "edit"][..], &["pins", "sign"]] {
            issuer.machine.ok(command);
        }
        let mut all = vec!["manifest", "generate"];
        if more.contains("[pins.needs]") {
            all.extend(["--accept", "unset=the issuer is another machine"]);
        }
        issuer.machine.ok(&all);
        Self { issuer, machine }
    }

    fn args(&self, more: &[&str]) -> Vec<String> {
        let from = ["--from", &self.issuer.bootstrap, "--manifest", "app", "node", "--json"];
        let from = self.absolute(&from);
        from.into_iter().chain(more.iter().map(|arg| (*arg).to_owned())).collect()
    }

    /// The string names the store of another machine.
    fn absolute(&self, args: &[&str]) -> Vec<String> {
        let store = self.issuer.machine.arg("store");
        args.iter()
            .map(|arg| arg.replacen(&self.issuer.bootstrap, &with_store(&self.issuer.bootstrap, &store), 1))
            .collect()
    }

    fn up(&self, more: &[&str]) -> Run {
        self.machine.bootstrap(&self.args(more))
    }

    #[track_caller]
    fn brought(&self, more: &[&str]) -> Value {
        self.up(more).expect(0).json("bootstrap.bring-up/1")
    }

    /// Takes a snapshot of what the issuer has, with this in `file`.
    fn snapshot(&self, text: &str) -> String {
        self.issuer.machine.write("tree/file", text);
        let taken = self.issuer.machine.ok(&["snapshot", "tree", "--json"]);
        taken.json("snapkit.snapshot/1")["name"].as_str().unwrap().to_owned()
    }
}

fn with_store(bootstrap: &str, store: &str) -> String {
    format!("{store}#root={}", bootstrap.split_once("#root=").unwrap().1)
}

/// The prerequisites of a report that stop it, as `kind: what`.
fn missing(report: &Value) -> Vec<String> {
    let all = report["prerequisites"].as_array().unwrap().iter();
    let stops = all.filter(|one| one["required"] == true && one["holds"] == false);
    stops.map(|one| format!("{}: {}", one["kind"].as_str().unwrap(), one["what"].as_str().unwrap())).collect()
}

/// Everything in a directory, by path, with lengths.
fn listing(directory: &Path) -> Vec<(String, u64)> {
    let mut all: Vec<_> = walkdir::WalkDir::new(directory)
        .into_iter()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path().display().to_string(), entry.path().symlink_metadata().unwrap().len()))
        .collect();
    all.sort();
    all
}

#[test]
fn one_string_makes_a_node_of_a_machine_that_has_nothing() {
    let cold = Cold::new("");
    let report = cold.brought(&[]);
    assert_eq!(report["stage"], "restored", "{report}");
    assert_eq!((&report["generation"]["restored"], &report["generation"]["exact"]), (&true.into(), &true.into()));
    same_tree(&cold.issuer.machine.path("tree"), &cold.machine.path("node/current"));
    // The path of the pins leads into the node, and what must match is declared.
    assert_eq!(fs::read_link(cold.machine.path("state")).unwrap(), cold.machine.path("node/current"));
    assert_eq!(fs::read_to_string(cold.machine.path("state/file")).unwrap(), "honest\n");
    let requirements = report["generation"]["requirements"].to_string();
    assert!(requirements.contains("file etc/app.conf"), "{requirements}");
    cold.machine.bootstrap(&["check", "node"]).expect(0);
    let kept = fs::read_to_string(cold.machine.path("node/bootstrap.toml")).unwrap();
    assert!(kept.contains(&with_store(&cold.issuer.bootstrap, &cold.issuer.machine.arg("store"))), "{kept}");
    // Given again, it finds everything in place.
    let again = cold.brought(&[]);
    assert_eq!(again["generation"]["restored"], false, "{again}");
    assert_eq!(again["files"]["written"], serde_json::json!([]), "{again}");
}

#[test]
fn a_dry_run_says_whether_it_would_succeed_and_touches_nothing() {
    let cold = Cold::new("[pins.needs]\nenvironment = [\"APP_REGION\"]\n");
    let before = listing(&cold.machine.path(""));
    let run = cold.up(&["--dry-run"]).expect(58);
    let report = run.json("bootstrap.bring-up/1");
    assert_eq!((&report["ready"], &report["stage"]), (&false.into(), &"looked".into()));
    assert_eq!(missing(&report), ["environment: the variable APP_REGION"]);
    assert!(run.stderr.contains("E_PREREQ") && run.stderr.contains("APP_REGION"), "{}", run.stderr);
    assert_eq!(listing(&cold.machine.path("")), before);
    let mut set = cold.machine.bootstrap_command(&cold.args(&["--dry-run"]));
    set.env("APP_REGION", "eu");
    let report = Run::of(set).expect(0).json("bootstrap.bring-up/1");
    assert_eq!((&report["ready"], &report["dry_run"]), (&true.into(), &true.into()));
    assert_eq!(listing(&cold.machine.path("")), before);
}

/// H05: whatever cannot be restored is asked for before anything is moved, all of it at once.
#[test]
fn h05_everything_that_is_missing_is_listed_before_anything_is_touched() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let machine = Machine::new();
    let secret = machine.write("secret", "another one\n");
    let more = format!(
        "[pins.needs]\nenvironment = [\"APP_REGION\"]\nfree_bytes = 900000000000000\ncapabilities = [\"no-such-program\"]\n\
         secrets = [{{ name = \"APP_TOKEN\" }}, {{ name = \"TLS_KEY\", path = \"{}\" }}]\n\
         [pins.service]\ndriver = \"process\"\nargv = [\"/no/such/service\"]\nfollower_args = [\"--follow\"]\n\
         user = \"no-such-user\"\nports = [{{ name = \"api\", port = {port}, protocol = \"tcp\" }}]\n\
         health = {{ kind = \"exec\", argv = [\"/no/such/probe\"], timeout_seconds = 5 }}\n",
        secret.display()
    );
    let cold = Cold::new(&more);
    fs::create_dir(cold.machine.path("state")).unwrap();
    cold.machine.write("state/precious", "mine");
    let before = listing(&cold.machine.path(""));
    let report = cold.up(&[]).expect(58).json("bootstrap.bring-up/1");
    let missing = missing(&report);
    for part in [
        "environment: the variable APP_REGION",
        "secret: the secret APP_TOKEN in the environment",
        "space: ",
        "capability: the machine can do no-such-program",
        "path: ",
        "program: the program /no/such/service",
        "program: the program /no/such/probe",
        "user: the service can run as no-such-user",
        "port: port ",
    ] {
        assert!(missing.iter().any(|found| found.starts_with(part)), "{part:?} is not in {missing:#?}");
    }
    assert_eq!(missing.len(), 9, "{missing:#?}");
    assert_eq!(listing(&cold.machine.path("")), before);
    // In words, each with what to do.
    let text = cold.machine.bootstrap(&cold.args(&[])[..5]).expect(58);
    assert_eq!(text.text().matches("MISSING").count(), 9, "{}", text.text());
    assert_eq!(text.text().matches("next: ").count(), 9, "{}", text.text());
}

/// A secret is told by its fingerprint, and never shown.
#[test]
fn h05_a_wrong_secret_is_missing_and_not_shown() {
    let machine = Machine::new();
    let issuer = Issuer::without_pins(&config(
        &machine,
        "[pins.needs]\nsecrets = [{ name = \"APP_TOKEN\", fingerprint = true }]\n",
        "current",
    ));
    let mut edit = issuer.machine.command(&["pins", "edit"]);
    edit.env("APP_TOKEN", "correct horse battery staple");
    Run::of(edit).expect(0);
    issuer.machine.ok(&["pins", "sign"]);
    issuer.machine.ok(&["manifest", "generate", "--accept", "unset=another machine"]);
    let cold = Cold { issuer, machine };
    let with = |secret: &str| {
        let mut command = cold.machine.bootstrap_command(&cold.args(&[]));
        command.env("APP_TOKEN", secret);
        Run::of(command)
    };
    let run = with("wrong horse");
    assert!(!run.stderr.contains("horse") && !run.text().contains("horse"), "{run:?}");
    let report = run.expect(58).json("bootstrap.bring-up/1");
    assert_eq!(missing(&report), ["secret: the secret APP_TOKEN in the environment"]);
    assert!(!cold.machine.path("node").exists());
    with("correct horse battery staple").expect(0);
}

/// H06: what ran before is not given up for a snapshot that turns out to be damaged.
#[test]
fn h06_nothing_is_moved_for_a_snapshot_that_is_not_whole() {
    let cold = Cold::with("", "fixed");
    cold.machine.write("state/old", "what ran before");
    let packs: Vec<_> = walkdir::WalkDir::new(cold.issuer.machine.path("store/packs"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file())
        .collect();
    let before = listing(&cold.machine.path("state"));
    for pack in &packs {
        let good = fs::read(pack).unwrap();
        // Missing: seen before anything is made.
        fs::remove_file(pack).unwrap();
        let run = cold.up(&[]);
        assert!(run.code != 0, "{run:?}");
        assert!(!cold.machine.path("node").exists());
        // Damaged: seen before anything is switched.
        let mut bad = good.clone();
        let at = bad.len() / 2;
        bad[at] ^= 1;
        fs::write(pack, &bad).unwrap();
        let run = cold.up(&[]);
        assert_eq!(listing(&cold.machine.path("state")), before, "{run:?}");
        assert!(run.code != 0 || fs::read(pack).unwrap() == good, "{run:?}");
        fs::write(pack, &good).unwrap();
        let _ = fs::remove_dir_all(cold.machine.path("node"));
    }
    let report = cold.brought(&[]);
    assert_eq!(report["generation"]["restored"], true, "{report}");
    assert_eq!(fs::read_to_string(cold.machine.path("state/file")).unwrap(), "honest\n");
    let generations = fs::read_dir(cold.machine.path("node/generations")).unwrap().map(|entry| entry.unwrap().path());
    let found = generations.into_iter().find(|path| path.to_str().unwrap().contains("/found-")).unwrap();
    assert_eq!(fs::read_to_string(found.join("tree/old")).unwrap(), "what ran before");
}

/// DESIGN: the newest complete snapshot that extends the pin, or exactly the pin.
#[test]
fn the_newest_snapshot_is_restored_unless_the_pinned_one_is_asked_for() {
    let cold = Cold::new("");
    let pinned = cold.issuer.manifest().snapshot.name;
    let newest = cold.snapshot("newer\n");
    let report = cold.brought(&["--pinned"]);
    assert_eq!((&report["snapshot"]["name"], &report["snapshot"]["pinned"]), (&pinned.clone().into(), &true.into()));
    assert_eq!(fs::read_to_string(cold.machine.path("state/file")).unwrap(), "honest\n");
    let report = cold.brought(&[]);
    assert_eq!((&report["snapshot"]["name"], &report["snapshot"]["pinned"]), (&newest.clone().into(), &false.into()));
    assert_eq!(fs::read_to_string(cold.machine.path("state/file")).unwrap(), "newer\n");
    assert_eq!(report["generation"]["previous"], pinned.clone());
    // A rollback makes an older one the newest, until the next snapshot.
    cold.issuer.machine.ok(&["rollback", "--to", &pinned, "--reason", "newer is broken"]);
    assert_eq!(cold.brought(&[])["snapshot"]["name"], pinned);
}

/// An interrupted bring-up goes on with the snapshot it chose.
#[test]
fn h03_a_bring_up_goes_on_with_the_snapshot_it_chose() {
    let cold = Cold::new("");
    // Enough data that a run can be stopped in the middle of it.
    for number in 0..400 {
        cold.issuer.machine.write(&format!("tree/data/{number}"), snapkit_tests::every_kind::noise(40_000, number));
    }
    let chosen = cold.snapshot("chosen\n");
    let generations = cold.machine.path("node/generations");
    let staged = || !snapkit::restore::interrupted_in(&generations).is_empty();
    for _ in 0..200 {
        let mut child = cold
            .machine
            .bootstrap_command(&cold.args(&[]))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while !staged() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = child.kill();
        child.wait().unwrap();
        if staged() {
            break;
        }
        let _ = fs::remove_dir_all(cold.machine.path("node"));
        let _ = fs::remove_file(cold.machine.path("state"));
    }
    assert!(staged(), "no run was stopped in the middle");
    let newest = cold.snapshot("newest\n");
    let report = cold.brought(&[]);
    assert_eq!((&report["snapshot"]["name"], &report["snapshot"]["resumes"]), (&chosen.into(), &true.into()));
    assert_eq!(cold.brought(&[])["snapshot"]["name"], newest);
}

#[test]
fn a_directory_of_something_else_or_of_another_chain_is_refused() {
    let cold = Cold::new("");
    cold.machine.write("node/precious", "mine");
    let report = cold.up(&[]).expect(58).json("bootstrap.bring-up/1");
    assert_eq!(missing(&report).len(), 1, "{report}");
    assert_eq!(fs::read_to_string(cold.machine.path("node/precious")).unwrap(), "mine");
    fs::remove_dir_all(cold.machine.path("node")).unwrap();
    cold.brought(&[]);
    let other = Cold { issuer: Cold::new("").issuer, machine: Machine::new() };
    cold.machine.bootstrap(&other.args(&[])).expect(60).stderr_names("E_ORIGIN");
}

#[test]
fn what_the_operator_wrote_is_kept() {
    let cold = Cold::new("");
    cold.machine.write("node/bootstrap.toml", "# mine\npoll_seconds = 7\n");
    cold.machine.write("node/node.toml", "[keep]\ngenerations = 5\n");
    let report = cold.brought(&[]);
    assert!(report["files"]["kept"][0].as_str().unwrap().ends_with("node.toml"), "{report}");
    let text = fs::read_to_string(cold.machine.path("node/bootstrap.toml")).unwrap();
    assert!(text.starts_with("from = ") && text.contains("# mine\npoll_seconds = 7\n"), "{text}");
    assert_eq!(fs::read_to_string(cold.machine.path("node/node.toml")).unwrap(), "[keep]\ngenerations = 5\n");
    // The same chain elsewhere: only the line that says where follows.
    let copy = cold.machine.arg("copy");
    assert!(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(cold.issuer.machine.path("store"))
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    let from = with_store(&cold.issuer.bootstrap, &copy);
    cold.machine.bootstrap(&["--from", &from, "--manifest", "app", "node"]).expect(0);
    let text = fs::read_to_string(cold.machine.path("node/bootstrap.toml")).unwrap();
    assert!(text.contains(&format!("from = \"{from}\"")) && text.contains("poll_seconds = 7"), "{text}");
}

#[test]
fn paths_can_be_left_alone_for_several_nodes_on_one_machine() {
    let cold = Cold::new("");
    cold.machine.write("state/mine", "of another node");
    cold.up(&[]).expect(58);
    cold.brought(&["--leave-paths"]);
    assert_eq!(fs::read_to_string(cold.machine.path("state/mine")).unwrap(), "of another node");
    assert_eq!(fs::read_to_string(cold.machine.path("node/current/file")).unwrap(), "honest\n");
}

#[test]
fn a_stale_or_forged_manifest_stops_everything() {
    let cold = Cold::new("");
    let expired = cold.issuer.forged(|manifest| {
        (manifest.issued, manifest.expires) = (Issuer::hours(-200), Issuer::hours(-1));
    });
    cold.issuer.serve(&expired);
    cold.up(&[]).expect(53);
    let stranger = snapkit::keyfile::generate().unwrap();
    cold.issuer.serve(&cold.issuer.forged_by(&stranger, |manifest| manifest.version += 1));
    cold.up(&[]).expect(41);
    assert!(!cold.machine.path("node").exists());
    let wrong = cold.args(&[]).iter().map(|arg| arg.replace("#root=sha256:", "#root=sha256:0")).collect::<Vec<_>>();
    let wrong: Vec<String> = wrong
        .iter()
        .map(|arg| if arg.contains("#root") { arg[..arg.len() - 1].to_owned() } else { arg.clone() })
        .collect();
    cold.machine.bootstrap(&wrong).expect(51);
}

#[test]
fn who_cannot_lead_is_told_all_that_is_missing() {
    let cold = Cold::new("");
    let report = cold.up(&["--role", "leader"]).expect(58).json("bootstrap.bring-up/1");
    assert_eq!(missing(&report), ["lead: the pins say who may lead"]);
    let other = snapkit::keyfile::generate().unwrap();
    let id = manifests::keys::Signer::public(&other).id();
    let lease = format!(
        "[pins.lease]\nmode = \"static\"\nback_end = \"store\"\ngroup = \"app\"\nttl_seconds = 60\n\
         members = [{{ node = \"node-a\", key = \"{id}\" }}]\n"
    );
    let cold = Cold::new(&lease);
    let run = cold.up(&["--role", "leader"]).expect(58);
    assert!(run.text().contains("snapkit key enroll"), "{}", run.text());
    assert_eq!(missing(&run.json("bootstrap.bring-up/1")), ["lead: a node key, to lead the group app"]);
    assert!(!cold.machine.path("node").exists());
    // With a key of its own that nobody lists: root and pins are named too.
    let store = with_store(&cold.issuer.bootstrap, &cold.issuer.machine.arg("store"));
    cold.machine.ok(&["key", "enroll", "--store", &store]);
    let report = cold.up(&["--role", "leader"]).expect(58).json("bootstrap.bring-up/1");
    assert_eq!(
        missing(&report),
        [
            "lead: the key is a member of the lease",
            "lead: the root lists the key for the role node",
            "lead: the root lists the key for the role writer"
        ]
    );
    // A follower needs none of it, and is told.
    let mut args = cold.args(&["--no-agent"]);
    args.retain(|arg| arg != "--json");
    let run = cold.machine.bootstrap(&args).expect(0);
    assert_eq!(run.text().matches("  lacking  ").count(), 3, "{}", run.text());
}

/// H04: a leader is not brought up beside another one.
#[test]
fn h04_nobody_is_brought_up_to_lead_while_another_node_holds_the_lease() {
    use manifests::document::lease::{ChainHead, Entry, Holder, Kind, PAYLOAD_TYPE};
    let other = snapkit::keyfile::generate().unwrap();
    let other_id = manifests::keys::Signer::public(&other).id();
    let machine = Machine::new();
    let issuer = Issuer::without_pins("");
    let own = issuer.node_id();
    issuer.next_root(|root| {
        root.keys.push((&manifests::keys::Signer::public(&other)).into());
        root.keys.sort_by_key(|key| key.id);
        let role = root.roles.iter_mut().find(|role| role.name == "node").unwrap();
        role.keys.push(other_id);
        role.keys.sort();
    });
    let lease = |mode: &str| {
        let mut members = [("a", own.clone()), ("b", other_id.to_string())];
        members.sort();
        let members = members.map(|(node, key)| format!("{{ node = \"{node}\", key = \"{key}\" }}")).join(", ");
        format!(
            "[pins.lease]\nmode = \"{mode}\"\nback_end = \"store\"\ngroup = \"app\"\nttl_seconds = 60\nmembers = [{members}]\n"
        )
    };
    let kept = fs::read_to_string(issuer.machine.path("snapkit.toml")).unwrap();
    issuer.machine.write("snapkit.toml", format!("{kept}{}", config(&machine, &lease("static"), "current")));
    for command in [&["pins", "edit"][..], &["pins", "sign"], &["manifest", "generate"]] {
        issuer.machine.ok(command);
    }
    let chain = issuer.manifest().chain;
    let keys = (issuer.machine.home().join("keys"), machine.home());
    fs::create_dir_all(&keys.1).unwrap();
    assert!(std::process::Command::new("cp").arg("-a").arg(keys.0).arg(keys.1).status().unwrap().success());
    let cold = Cold { issuer, machine };
    let claim = |kind: Kind, seq: u64, previous| Entry {
        format: "0-draft".into(),
        chain,
        group: "app".into(),
        seq,
        term: 1,
        kind,
        previous,
        void: Vec::new(),
        holder: Holder {
            node: "b".into(),
            instance: manifests::document::record::Nonce([7; 16]),
            key: other_id,
            writer: None,
            api: None,
        },
        ttl_ms: None,
        nonce: manifests::document::record::Nonce([seq as u8; 16]),
        head: ChainHead { epoch: 0, seq: 1, digest: chain, term: 0 },
        time: jiff::Timestamp::now().round(jiff::Unit::Second).unwrap(),
        reason: None,
        critical: None,
        ext: serde_json::Map::new(),
    };
    let write = |entry: &Entry| {
        let payload = entry.payload().unwrap();
        let bytes = manifests::envelope::sign(PAYLOAD_TYPE, &payload, &[&other]).unwrap();
        let key = manifests::lease::key("app", entry.seq);
        cold.issuer.machine.write(&format!("store/{key}"), bytes);
        manifests::digest::Digest::sha256(&payload)
    };
    let first = write(&claim(Kind::Claim, 1, None));
    // What nobody entitled wrote after it hides nothing.
    cold.issuer.machine.write(&format!("store/{}", manifests::lease::key("app", 2)), "{}");
    let report = cold.up(&["--role", "leader"]).expect(58).json("bootstrap.bring-up/1");
    assert_eq!(missing(&report), ["lead: nobody else leads the group app"], "{report}");
    assert!(!cold.machine.path("node").exists());
    fs::remove_file(cold.issuer.machine.path(format!("store/{}", manifests::lease::key("app", 2)))).unwrap();
    write(&claim(Kind::Release, 2, Some(first)));
    cold.up(&["--role", "leader", "--dry-run"]).expect(0);
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let machine = Machine::new();
    machine.bootstrap::<&str>(&[]).expect(2).stderr_names("nothing is asked for");
    machine.bootstrap(&["statsu"]).expect(2).stderr_names("no command `statsu`");
    machine.bootstrap(&["statsu", "node"]).expect(2).stderr_names("no command `statsu`");
    machine.bootstrap(&["leese", "status", "node"]).expect(2).stderr_names("no command `leese`");
    machine.bootstrap(&["./node"]).expect(2).stderr_names("without --from");
    machine.bootstrap(&["--from", "store", "node"]).expect(2).stderr_names("#root=");
    let from = format!("store#root=sha256:{}", "a".repeat(64));
    machine.bootstrap(&["--from", &from]).expect(2);
    machine.bootstrap(&["--from", &from, "node", "status", "node"]).expect(2).stderr_names("stands alone");
}
