//! Commands that need no store: keys, doctor, help texts, configuration.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use snapkit_tests::Machine;

fn tool(machine: &Machine, program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .current_dir(machine.path(""))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_generated_key_is_private_and_openssl_and_openssh_read_it() {
    let machine = Machine::new();
    let made = machine.ok(&["key", "generate", "node.key", "--json"]);
    let made = made.json("snapkit.key-written/1");
    let mode = fs::metadata(machine.path("node.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let public = machine.ok(&["key", "export", "node.key", "--public"]);
    let by_openssl = tool(&machine, "openssl", &["pkey", "-in", "node.key", "-pubout"]);
    assert_eq!(public.text(), by_openssl);

    machine.ok(&["key", "export", "node.key", "--ssh", "--public", "--out", "node.pub"]);
    let fingerprint = made["openssh_fingerprint"].as_str().unwrap();
    let by_openssh = tool(&machine, "ssh-keygen", &["-l", "-f", "node.pub"]);
    assert!(by_openssh.contains(fingerprint), "{by_openssh}");
}

#[test]
fn keys_made_by_openssl_and_openssh_can_be_imported() {
    let machine = Machine::new();
    tool(&machine, "openssl", &["genpkey", "-algorithm", "ED25519", "-out", "ssl.pem"]);
    tool(&machine, "chmod", &["600", "ssl.pem"]);
    tool(&machine, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", "ssh"]);
    for (from, to) in [("ssl.pem", "from-ssl.key"), ("ssh", "from-ssh.key")] {
        machine.ok(&["key", "import", from, to]);
        let ids = |file: &str| {
            let shown = machine.ok(&["--json", "key", "show", file]);
            shown.json("snapkit.key-show/1")["keys"][0]["key_id"].clone()
        };
        assert_eq!(ids(from), ids(to));
    }
    tool(&machine, "ssh-keygen", &["-q", "-t", "rsa", "-N", "", "-f", "rsa"]);
    machine.run(&["key", "import", "rsa", "x.key"]).expect(47);
    tool(&machine, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "secret", "-f", "locked"]);
    let locked = machine.run(&["key", "import", "locked", "x.key"]);
    locked.expect(49).stderr_names("ssh-keygen -p");
}

#[test]
fn a_key_is_never_overwritten_and_an_open_one_never_used() {
    let machine = Machine::new();
    machine.ok(&["key", "generate", "node.key"]);
    let before = fs::read(machine.path("node.key")).unwrap();
    let again = machine.run(&["key", "generate", "node.key"]);
    again.expect(3).stderr_names("already exists");
    assert_eq!(fs::read(machine.path("node.key")).unwrap(), before);

    tool(&machine, "chmod", &["640", "node.key"]);
    let open = machine.run(&["key", "show", "node.key"]);
    open.expect(49).stderr_names("node.key").stderr_names("chmod 600");
}

#[test]
fn doctor_says_where_every_value_comes_from() {
    let machine = Machine::new();
    machine.write("snapkit.toml", "store = \"beside\"\n[snapshot]\ndevices = true\n");
    let settings = |args: &[&str]| {
        let report = machine.ok(args).json("snapkit.doctor/1");
        let settings = report["settings"].as_array().unwrap().clone();
        move |name: &str| {
            let found = settings.iter().find(|setting| setting["name"] == name).unwrap();
            (found["value"].clone(), found["source"].as_str().unwrap().to_owned())
        }
    };
    let of = settings(&["doctor", "--json"]);
    let (store, source) = of("store");
    assert_eq!(store, machine.arg("beside"));
    assert!(source.ends_with("snapkit.toml, line 1"), "{source}");
    assert_eq!(of("snapshot.devices").0, true);
    assert_eq!(of("home").1, "environment variable SNAPKIT_HOME");
    assert_eq!(of("restore.proof").1, "default");
    let of = settings(&["doctor", "--json", "--store", "s3://bucket"]);
    assert_eq!(of("store"), ("s3://bucket".into(), "flag --store".to_owned()));
}

#[test]
fn a_misspelt_key_in_the_configuration_is_refused_with_its_line() {
    let machine = Machine::new();
    machine.write("snapkit.toml", "[snapshot]\nexclude = [\"*.tmp\"]\n");
    let run = machine.run(&["doctor"]).expect(2);
    run.stderr_names("snapkit.toml, line 2").stderr_names("exclude");
}

#[test]
fn completions_and_manual_pages_are_written_for_every_command() {
    let machine = Machine::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = machine.ok(&["completions", shell]);
        assert!(script.text().contains("doctor"));
    }
    machine.ok(&["man", "--dir", "pages"]);
    assert!(machine.path("pages/snapkit-key-generate.1").exists());
    let page = machine.ok(&["man"]);
    assert!(page.text().contains("snapkit"));
}

#[test]
fn wrong_use_ends_with_2_and_help_with_0() {
    let machine = Machine::new();
    machine.run(&["frobnicate"]).expect(2);
    machine.run(&["doctor", "--no-such-option"]).expect(2);
    machine.ok(&["--help"]);
    machine.ok(&["--version"]);
}

#[test]
fn a_problem_has_a_json_form() {
    let machine = Machine::new();
    let run = machine.run(&["--json", "key", "show", "absent.key"]).expect(5);
    assert!(run.stdout.is_empty());
    let problem: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(problem["schema"], "snapkit.error/1");
    assert_eq!(problem["exit_code"], 5);
    assert!(problem["error"].as_str().unwrap().contains("absent.key"));
}

#[test]
fn a_directory_store_passes_the_probe_and_keeps_nothing_of_it() {
    let machine = Machine::new();
    fs::create_dir(machine.path("store")).unwrap();
    let run = machine.ok(&["store", "probe", "--store", "store", "--json"]);
    let report = run.json("snapkit.store-probe/1");
    assert_eq!(report["fit_for_writing"], true, "{report}");
    let files = walkdir::WalkDir::new(machine.path("store")).into_iter();
    let left = files.filter(|entry| entry.as_ref().unwrap().file_type().is_file());
    assert_eq!(left.count(), 0);
    machine.run(&["store", "probe", "--store", "absent"]).expect(5).stderr_names("absent");
}
