//! Text that people carry from one machine to another: bootstrap strings, selectors, key files, configuration.

use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::path::Path;

use manifests::keys::{PublicKey, SecretKey, Signer};
use snapkit::config::{Config, Environment, Flags};
use snapkit::selector::Selector;
use snapkit::trust::{Bootstrap, Location};

/// A bootstrap string, and the name of a snapshot.
pub(super) fn bootstrap(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(location) = text.parse::<Location>() {
        assert!(text.starts_with(&location.url));
    }
    if let Ok(bootstrap) = text.parse::<Bootstrap>() {
        assert_eq!(bootstrap.to_string().parse::<Bootstrap>().unwrap(), bootstrap);
    }
    let _ = text.parse::<Selector>();
}

/// A key file of any form.
pub(super) fn key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = SecretKey::parse(text) {
        assert_eq!(SecretKey::parse(&key.to_pem()).unwrap().public(), key.public());
        assert_eq!(SecretKey::parse(&key.to_openssh("a comment")).unwrap().public(), key.public());
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }
    for key in [PublicKey::parse(text), PublicKey::from_hex(text)].into_iter().flatten() {
        assert_eq!(PublicKey::parse(&key.to_pem()).unwrap(), key);
        assert_eq!(PublicKey::parse(&key.to_openssh("a comment")).unwrap(), key);
        assert_eq!(PublicKey::from_hex(&key.to_hex()).unwrap(), key);
        let _ = key.verifies(b"message", &[7; 64]);
    }
}

/// A configuration file, which is only in memory.
pub(super) fn config(bytes: &[u8]) {
    // It may name files whose content becomes a setting. Here it must not, on whatever machine this runs.
    if bytes.windows(4).any(|part| part == b"file") || bytes.contains(&b'\\') {
        return;
    }
    let file = super::in_memory(bytes);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let home = [(OsString::from("HOME"), OsString::from("/home/nobody"))];
    let flags = Flags { config: Some(path.into()), ..Flags::default() };
    match Config::load(Path::new("/"), &Environment::new(home), &flags) {
        Ok(config) => {
            assert!((1..=19).contains(&config.snapshot.compression_level.value));
            assert!((1..=3650).contains(&config.snapshot.reread_cycle_days.value));
            let _ = config.open_options();
        }
        Err(error) => assert!(error.to_string().len() < 4 * bytes.len() + 1000, "a message of reasonable length"),
    }
}
