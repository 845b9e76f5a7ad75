//! Who may change something, how often, and with which reason.
//!
//! On the Unix socket the file mode was the check. On TCP a token is asked for; it is read from its file each time, so that
//! replacing the file replaces the token, and compared in a time that does not tell how much of it was right. Wrong tokens
//! are counted per address and requests over all; who has none left waits. Documented in `docs/surfaces.md`, "Requests".
//! Layer: `admit` reads the token file; the counting is pure.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use subtle::ConstantTimeEq;

use super::door::Peer;
use super::{SurfaceError, Tcp};
use crate::clock::BootTime;

/// The shortest token in bytes, and the longest file.
const TOKEN_MIN: usize = 16;
const TOKEN_CAP: usize = 4096;
/// The longest reason in characters.
const REASON_CAP: usize = 500;

/// Wrong tokens that one address may send at once, and how long it takes to get one back.
const WRONG: Allowance = Allowance { burst: 5, each: Duration::from_secs(10) };
/// Requests that are passed to the loop at once, and how long it takes to get one back.
const ASKED: Allowance = Allowance { burst: 10, each: Duration::from_secs(2) };
/// Addresses whose wrong tokens are counted; beyond them, all others share one count.
const ADDRESSES_CAP: usize = 1024;

/// Why a request was not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no token by which anybody could ask here.
    NoToken(String),
    /// The token is missing.
    Missing,
    /// The token is not the right one.
    Wrong,
    /// Too often; how many seconds to wait.
    TooOften(u64),
}

/// A number of tries that fills up again.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    burst: u32,
    each: Duration,
}

/// What is used up of an allowance: the moment from which on everything is there again.
#[derive(Debug, Clone, Copy)]
struct Used(BootTime);

impl Allowance {
    /// How long to wait for the next try, or `None` if there is one.
    fn wait(&self, used: Used, now: BootTime) -> Option<Duration> {
        let full = self.each * self.burst;
        (now.until(used.0) + self.each).checked_sub(full).filter(|wait| !wait.is_zero())
    }

    fn take(&self, used: Used, now: BootTime) -> Used {
        Used(now + now.until(used.0) + self.each)
    }
}

/// What was tried so far.
#[derive(Debug)]
pub(super) struct Admission {
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    wrong: HashMap<IpAddr, Used>,
    others: Used,
    asked: Used,
}

impl Admission {
    pub(super) fn new() -> Self {
        let never = Used(BootTime::after_boot(Duration::ZERO));
        Self { counts: Mutex::new(Counts { wrong: HashMap::new(), others: never, asked: never }) }
    }

    /// Lets a request pass, or says why not. Who asks is named for the record.
    pub(super) fn admit(
        &self,
        peer: Peer,
        tcp: Option<&Tcp>,
        token: Option<&[u8]>,
        now: BootTime,
    ) -> Result<String, Denied> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let by = match peer {
            Peer::Local { uid: Some(uid) } => format!("uid {uid} on the socket"),
            Peer::Local { uid: None } => "a local user on the socket".to_owned(),
            Peer::Remote(address) => {
                let file = tcp.and_then(|tcp| tcp.token.as_deref());
                counts.check(address, file, token, now)?;
                format!("{address} with the token")
            }
        };
        if let Some(wait) = ASKED.wait(counts.asked, now) {
            return Err(Denied::TooOften(whole_seconds(wait)));
        }
        counts.asked = ASKED.take(counts.asked, now);
        Ok(by)
    }
}

impl Counts {
    /// Checks the token of a request from an address that has tries left.
    fn check(
        &mut self,
        address: IpAddr,
        file: Option<&Path>,
        given: Option<&[u8]>,
        now: BootTime,
    ) -> Result<(), Denied> {
        let file = file.ok_or_else(|| Denied::NoToken("no token is configured".to_owned()))?;
        let given = given.ok_or(Denied::Missing)?;
        self.wrong.retain(|_, used| now < used.0);
        let known = self.wrong.contains_key(&address) || self.wrong.len() < ADDRESSES_CAP;
        let used = if known { self.wrong.get(&address).copied().unwrap_or(Used(now)) } else { self.others };
        // Before the token is looked at: whoever guesses must not learn which guess was right.
        if let Some(wait) = WRONG.wait(used, now) {
            return Err(Denied::TooOften(whole_seconds(wait)));
        }
        let right = read_token(file).map_err(|error| Denied::NoToken(error.to_string()))?;
        if bool::from(right.as_slice().ct_eq(given)) {
            return Ok(());
        }
        let used = WRONG.take(used, now);
        if known {
            self.wrong.insert(address, used);
        } else {
            self.others = used;
        }
        Err(Denied::Wrong)
    }
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)
}

/// The token in a file that only its owner can use.
pub(super) fn read_token(file: &Path) -> Result<Vec<u8>, SurfaceError> {
    let bad = |why: String| SurfaceError::Token { file: file.to_owned(), why };
    let open = || {
        // A fifo in its place must not hold up anybody.
        let flags = (OFlags::CLOEXEC | OFlags::NONBLOCK).bits();
        let opened = fs::OpenOptions::new().read(true).custom_flags(flags.cast_signed()).open(file)?;
        let metadata = opened.metadata()?;
        let mut text = Vec::new();
        opened.take(TOKEN_CAP as u64 + 1).read_to_end(&mut text)?;
        Ok::<_, std::io::Error>((metadata, text))
    };
    let (metadata, mut text) = open().map_err(|error| bad(error.to_string()))?;
    if !metadata.is_file() {
        return Err(bad("expected a file".to_owned()));
    }
    let owner = rustix::process::geteuid().as_raw();
    if metadata.uid() != owner && metadata.uid() != 0 {
        return Err(bad(format!("expected a file of uid {owner} or root, found one of uid {}", metadata.uid())));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(bad(format!("others may use it (mode {:o}); chmod 600 it", metadata.mode() & 0o777)));
    }
    text.truncate(text.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |last| last + 1));
    if text.len() < TOKEN_MIN || text.len() > TOKEN_CAP {
        return Err(bad(format!("expected {TOKEN_MIN} to {TOKEN_CAP} bytes, found {}", text.len())));
    }
    if !text.iter().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("expected one line of printable characters".to_owned()));
    }
    Ok(text)
}

/// The reason as it is kept, if it is one.
pub(super) fn reason(text: Option<&str>) -> Result<String, &'static str> {
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    let text = text.ok_or("a reason is required: `?reason=TEXT`, or `{\"reason\": \"TEXT\"}` as JSON")?;
    if text.chars().count() > REASON_CAP {
        return Err("the reason is longer than 500 characters");
    }
    if text.chars().any(char::is_control) {
        return Err("the reason holds control characters; it is one line");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::*;

    const RIGHT: &[u8] = b"correct-horse-battery-staple";

    fn at(seconds: u64) -> BootTime {
        BootTime::after_boot(Duration::from_secs(seconds))
    }

    fn token(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        (directory, file)
    }

    fn tcp(token: Option<PathBuf>) -> Tcp {
        Tcp { listen: "127.0.0.1:0".parse().unwrap(), token, tls: None }
    }

    fn peer(last: u8) -> Peer {
        Peer::Remote(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn on_tcp_only_the_token_lets_a_request_pass() {
        let (_directory, file) = token(b"correct-horse-battery-staple\n", 0o600);
        let tcp = tcp(Some(file));
        let ask = |token| Admission::new().admit(peer(1), Some(&tcp), token, at(100));
        assert_eq!(ask(Some(RIGHT)), Ok("192.0.2.1 with the token".to_owned()));
        assert_eq!(ask(None), Err(Denied::Missing));
        assert_eq!(ask(Some(b"correct-horse-battery-stapl")), Err(Denied::Wrong));
        assert_eq!(ask(Some(b"correct-horse-battery-staplf")), Err(Denied::Wrong));
    }

    #[test]
    fn without_a_token_file_nobody_passes_on_tcp_and_the_socket_is_enough() {
        let admission = Admission::new();
        let answer = admission.admit(peer(1), Some(&tcp(None)), Some(RIGHT), at(100));
        assert!(matches!(answer, Err(Denied::NoToken(_))), "{answer:?}");
        let local = Peer::Local { uid: Some(7) };
        assert_eq!(admission.admit(local, None, None, at(100)), Ok("uid 7 on the socket".to_owned()));
    }

    #[test]
    fn wrong_tokens_lock_their_address_out_for_a_while_and_nobody_else() {
        let (_directory, file) = token(RIGHT, 0o600);
        let tcp = tcp(Some(file));
        let admission = Admission::new();
        let ask = |from, token, now| admission.admit(peer(from), Some(&tcp), Some(token), at(now));
        for _ in 0..5 {
            assert_eq!(ask(1, b"wrong", 100), Err(Denied::Wrong));
        }
        assert_eq!(ask(1, RIGHT, 100), Err(Denied::TooOften(10)), "the right one is not looked at");
        assert!(ask(2, RIGHT, 100).is_ok());
        assert!(ask(1, RIGHT, 110).is_ok());
    }

    #[test]
    fn requests_are_passed_on_at_a_limited_rate() {
        let admission = Admission::new();
        let ask = |now| admission.admit(Peer::Local { uid: Some(0) }, None, None, at(now));
        for _ in 0..10 {
            assert!(ask(100).is_ok());
        }
        assert_eq!(ask(100), Err(Denied::TooOften(2)));
        assert!(ask(102).is_ok());
    }

    #[test]
    fn a_token_that_others_can_read_or_that_is_short_is_none() {
        for (text, mode, why) in [
            (RIGHT, 0o640, "others may use it"),
            (b"short".as_slice(), 0o600, "16 to 4096 bytes"),
            (b"two words are not printable\x07", 0o600, "printable"),
        ] {
            let (_directory, file) = token(text, mode);
            let error = read_token(&file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_reason_is_one_short_line() {
        assert_eq!(reason(Some(" kernel update ")), Ok("kernel update".to_owned()));
        assert!(reason(None).is_err());
        assert!(reason(Some("  ")).is_err());
        assert!(reason(Some("a\nb")).is_err());
        assert!(reason(Some(&"x".repeat(501))).is_err());
    }
}
