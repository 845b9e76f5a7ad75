//! What OpenSSL and OpenSSH say about our keys, signatures and files.
//!
//! Needs `openssl` (1.1.1 or newer) and `ssh-keygen` (Debian: `openssl`, `openssh-client`).
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use manifests::digest::Digest;
use manifests::keys::{PublicKey, SecretKey, Signer};
use manifests::pae::pae;

/// A directory for one test, empty at its start.
fn scratch(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn run(directory: &Path, command: &str) -> Output {
    let output = Command::new("sh").args(["-c", command]).current_dir(directory).output().unwrap();
    assert_ne!(output.status.code(), Some(127), "`{command}` needs a program that is not installed");
    output
}

fn stdout(directory: &Path, command: &str) -> String {
    let output = run(directory, command);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    fs::write(directory.join(name), bytes).unwrap();
    fs::set_permissions(directory.join(name), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn openssl_and_this_crate_write_the_same_key_files() {
    let directory = scratch("openssl-files");
    let made = stdout(&directory, "openssl genpkey -algorithm ED25519 | tee secret");
    let key = SecretKey::parse(&made).unwrap();
    assert_eq!(*key.to_pem(), made);
    assert_eq!(key.public().to_pem(), stdout(&directory, "openssl pkey -in secret -pubout"));
    write(&directory, "ours", key.to_pem().as_bytes());
    assert_eq!(stdout(&directory, "openssl pkey -in ours"), made);
    let digest = stdout(&directory, "openssl pkey -in ours -pubout -outform DER | sha256sum");
    assert!(digest.starts_with(&key.public().spki_sha256().to_string()));
}

#[test]
fn openssl_verifies_what_is_signed_here_and_refuses_a_changed_byte() {
    let directory = scratch("openssl-verify");
    let key = SecretKey::from_seed(&[7; 32]);
    let mut message = pae("application/vnd.snapkit.snapshot+json", br#"{"a":1}"#);
    write(&directory, "sig", &key.sign(&message).unwrap());
    write(&directory, "pub", key.public().to_pem().as_bytes());
    write(&directory, "pae", &message);
    let verify = "openssl pkeyutl -verify -rawin -pubin -inkey pub -in pae -sigfile sig";
    assert!(run(&directory, verify).status.success());
    *message.last_mut().unwrap() ^= 1;
    write(&directory, "pae", &message);
    assert!(!run(&directory, verify).status.success());
}

#[test]
fn what_openssl_signs_verifies_here() {
    let directory = scratch("openssl-sign");
    let key = SecretKey::from_seed(&[7; 32]);
    write(&directory, "secret", key.to_pem().as_bytes());
    write(&directory, "message", b"hello");
    stdout(&directory, "openssl pkeyutl -sign -rawin -inkey secret -in message -out sig");
    let signature: [u8; 64] = fs::read(directory.join("sig")).unwrap().try_into().unwrap();
    assert!(key.public().verifies(b"hello", &signature));
}

#[test]
fn ssh_keygen_reads_the_keys_exported_here() {
    let directory = scratch("ssh-export");
    let key = SecretKey::from_seed(&[7; 32]);
    write(&directory, "secret", key.to_openssh("node-a").as_bytes());
    let line = stdout(&directory, "ssh-keygen -y -f secret");
    assert_eq!(PublicKey::parse(&line).unwrap(), key.public());
    write(&directory, "public", key.public().to_openssh("node-a").as_bytes());
    let listed = stdout(&directory, "ssh-keygen -l -f public");
    assert_eq!(listed.split(' ').nth(1), Some(key.public().openssh_fingerprint().as_str()));
}

#[test]
fn keys_made_by_ssh_keygen_are_read_and_encrypted_ones_refused_with_advice() {
    let directory = scratch("ssh-import");
    stdout(&directory, "ssh-keygen -q -t ed25519 -N '' -C 'a comment' -f plain");
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let key = SecretKey::parse(&read("plain")).unwrap();
    assert_eq!(PublicKey::parse(&read("plain.pub")).unwrap(), key.public());
    stdout(&directory, "ssh-keygen -q -t ed25519 -N secret -f locked");
    let refusal = SecretKey::parse(&read("locked")).unwrap_err();
    assert!(refusal.hint().contains("ssh-keygen -p"), "{refusal}");
    stdout(&directory, "ssh-keygen -q -p -P secret -N '' -f locked");
    assert!(SecretKey::parse(&read("locked")).is_ok());
}

#[test]
fn a_shell_makes_the_same_key_id() {
    let directory = scratch("key-id");
    let public = SecretKey::from_seed(&[7; 32]).public();
    let json = r#"{"keytype":"ed25519","keyval":{"public":"%s"},"scheme":"ed25519"}"#;
    let id = stdout(&directory, &format!("printf '{json}' {} | sha256sum", public.to_hex()));
    assert_eq!(id[..64].parse::<Digest>(), Ok(public.id()));
}
