//! Signers: whatever holds a signing key, a file or a program that is asked for each signature.
//!
//! A program gets the exact bytes to sign on its standard input and prints the signature: that is all an HSM, a key
//! service or an agent needs. Nothing is believed about its answer: a signature that the named key does not verify is
//! never used, so a program that fails, or a pipe of which one half fails, cannot end in a bad document.
//! Documented in `docs/keys.md`. Layer: files and processes; `manifests::keys` knows what a signer is.

use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use manifests::keys::{PublicKey, Signer, signature_in};
use manifests::refusal::{Class, Refusal};

use crate::cancel::Cancel;

/// How long a program may take: somebody may have to find a token and touch it.
pub const DEADLINE: Duration = Duration::from_secs(300);
/// More than any form of a signature, in bytes.
const ANSWER_CAP: u64 = 4096;
/// How often a program that runs is looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// What a signer is named by on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerName {
    /// A secret key file.
    File(PathBuf),
    /// `cmd:` and a command for the shell.
    Command(String),
    /// `env:` and the environment variable that holds a secret key file's text.
    Variable(String),
}

impl FromStr for SignerName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once(':') {
            Some(("cmd", command)) => Self::Command(command.to_owned()),
            Some(("env", variable)) => Self::Variable(variable.to_owned()),
            _ => Self::File(text.into()),
        })
    }
}

/// A program that signs with a key it does not show.
#[derive(Debug)]
pub struct CommandSigner {
    command: String,
    public: PublicKey,
    cancel: Cancel,
    deadline: Duration,
    /// The last signature with what it is over, so that finding out who signs costs no second touch of a token.
    last: Mutex<Option<(Vec<u8>, [u8; 64])>>,
}

impl CommandSigner {
    /// The program that `sh -c COMMAND` runs, which signs with the key `public`.
    pub fn new(command: &str, public: PublicKey, cancel: Cancel) -> Self {
        Self { command: command.to_owned(), public, cancel, deadline: DEADLINE, last: Mutex::default() }
    }

    /// The same with another limit on the time one signature may take.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Has the program sign `message` and finds which of `candidates` it signs with.
    ///
    /// # Errors
    /// [`Class::Signer`] if there is no signature, or one by none of them.
    pub fn identified(
        command: &str,
        candidates: &[PublicKey],
        message: &[u8],
        cancel: Cancel,
    ) -> Result<Self, Refusal> {
        let signature = answer(command, None, message, &cancel, DEADLINE)?;
        let Some(public) = candidates.iter().find(|key| key.verifies(message, &signature)) else {
            let expected = format!("a signature by one of {} keys that may sign this", candidates.len());
            return Err(refused(command, expected, "one that none of them verifies"));
        };
        Ok(Self { last: Mutex::new(Some((message.to_vec(), signature))), ..Self::new(command, *public, cancel) })
    }
}

impl Signer for CommandSigner {
    fn public(&self) -> PublicKey {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Refusal> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((signed, signature)) = &*last
            && signed == message
        {
            return Ok(*signature);
        }
        let signature = answer(&self.command, Some(&self.public), message, &self.cancel, self.deadline)?;
        if !self.public.verifies(message, &signature) {
            let expected = format!("a signature by key {}", self.public.id());
            return Err(refused(&self.command, expected, "one that this key does not verify"));
        }
        *last = Some((message.to_vec(), signature));
        Ok(signature)
    }
}

fn refused(command: &str, expected: impl Into<String>, found: impl Into<String>) -> Refusal {
    let mut shown: String = command.chars().take(120).flat_map(char::escape_debug).collect();
    if shown.len() < command.len() {
        shown.push('…');
    }
    Refusal::new(Class::Signer, format!("the signer `{shown}`"), expected.into(), found.into())
}

/// Runs the program once and takes the signature it prints.
///
/// It stays in the foreground of the terminal and keeps standard error, so that it can ask for a PIN or a touch.
fn answer(
    command: &str,
    key: Option<&PublicKey>,
    message: &[u8],
    cancel: &Cancel,
    deadline: Duration,
) -> Result<[u8; 64], Refusal> {
    let failed = |error: io::Error| refused(command, "a program that runs", error.to_string());
    let mut program = Command::new("/bin/sh");
    program.arg("-c").arg(command).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(key) = key {
        // For a program that holds several keys.
        program.env("SNAPKIT_KEY_ID", key.id().to_string()).env("SNAPKIT_PUBLIC_KEY", key.to_hex());
    }
    let mut child = program.spawn().map_err(failed)?;
    let printed = converse(&mut child, message);
    let ended = wait(&mut child, cancel, Instant::now() + deadline).map_err(failed)?;
    let status = ended.map_err(|why| refused(command, "a signature", why))?;
    if !status.success() {
        return Err(refused(command, "a signature and exit code 0", status.to_string()));
    }
    // A process that the program left behind may keep the pipe open; what counts was printed before the end.
    let printed = printed.recv_timeout(Duration::from_secs(10)).unwrap_or_default();
    signature_in(&printed).ok_or_else(|| {
        let found = format!("{} bytes of something else", printed.len());
        refused(command, "the 64 bytes of an Ed25519 signature, raw or in base64, on standard output", found)
    })
}

/// Gives the program its input and collects its output, each in a thread: it may read late, print early, or never end.
fn converse(child: &mut Child, message: &[u8]) -> Receiver<Vec<u8>> {
    let (sender, printed) = mpsc::channel();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let message = message.to_vec();
    // A program that does not read its input to the end is judged by what it prints.
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&message)));
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = stdout.map(|stdout| stdout.take(ANSWER_CAP).read_to_end(&mut bytes));
        // Nobody listens any more after the deadline.
        let _ = read.is_some_and(|read| read.is_ok() && sender.send(bytes).is_ok());
    });
    printed
}

/// Waits for the end; a program that takes too long, or is no longer wanted, is ended.
fn wait(child: &mut Child, cancel: &Cancel, until: Instant) -> io::Result<Result<ExitStatus, &'static str>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ok(status));
        }
        let why = match () {
            () if cancel.is_requested() => "none, for the run was stopped",
            () if Instant::now() >= until => "none in time",
            () => {
                thread::sleep(PAUSE);
                continue;
            }
        };
        child.kill()?;
        child.wait()?;
        return Ok(Err(why));
    }
}

#[cfg(test)]
mod tests {
    use manifests::keys::SecretKey;

    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    /// A command that prints this, whatever it is asked.
    fn printing(bytes: &[u8]) -> String {
        let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
        format!("cat >/dev/null; printf '{octal}'")
    }

    fn signer(command: &str) -> CommandSigner {
        CommandSigner::new(command, key(1).public(), Cancel::new())
    }

    #[test]
    fn a_signature_is_taken_only_if_it_verifies() {
        let good = key(1).sign(b"bytes").unwrap();
        assert_eq!(signer(&printing(&good)).sign(b"bytes").unwrap(), good);
        for (message, bytes) in
            [(&b"other"[..], &good[..]), (b"bytes", &key(2).sign(b"bytes").unwrap()), (b"bytes", b"")]
        {
            let refusal = signer(&printing(bytes)).sign(message).unwrap_err();
            assert_eq!(refusal.class(), Class::Signer, "{refusal}");
        }
    }

    #[test]
    fn the_program_gets_the_bytes_and_the_name_of_the_key() {
        let directory = tempfile::tempdir().unwrap();
        let seen = directory.path().join("seen");
        let command = format!("cat > {0}; echo $SNAPKIT_KEY_ID >> {0}", seen.display());
        let message = vec![b'x'; 300_000];
        signer(&command).sign(&message).unwrap_err();
        let text = std::fs::read_to_string(seen).unwrap();
        assert_eq!(text.len(), message.len() + 65);
        assert!(text.trim_end().ends_with(&key(1).public().id().to_string()));
    }

    #[test]
    fn a_program_that_fails_or_never_ends_gives_no_signature() {
        let good = printing(&key(1).sign(b"bytes").unwrap());
        let failing = signer(&format!("{good}; exit 7")).sign(b"bytes").unwrap_err();
        assert!(failing.found().contains('7'), "{failing}");
        let began = Instant::now();
        let slow = signer("exec sleep 600").with_deadline(Duration::from_millis(200)).sign(b"bytes").unwrap_err();
        assert!(slow.found().contains("in time"), "{slow}");
        let cancel = Cancel::new();
        cancel.request();
        CommandSigner::new("exec sleep 600", key(1).public(), cancel).sign(b"bytes").unwrap_err();
        // One that leaves something behind that holds the pipe.
        signer("sleep 10 2>&- & echo").sign(b"bytes").unwrap_err();
        // One that prints without end.
        signer("yes").with_deadline(Duration::from_secs(5)).sign(b"bytes").unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn who_signs_is_found_with_one_signature() {
        let directory = tempfile::tempdir().unwrap();
        let count = directory.path().join("count");
        let good = key(2).sign(b"bytes").unwrap();
        let command = format!("echo >> {}; {}", count.display(), printing(&good));
        let candidates = [key(1).public(), key(2).public()];
        let found = CommandSigner::identified(&command, &candidates, b"bytes", Cancel::new()).unwrap();
        assert_eq!(found.public(), key(2).public());
        assert_eq!(found.sign(b"bytes").unwrap(), good);
        assert_eq!(std::fs::read(&count).unwrap(), b"\n");
        let other = CommandSigner::identified(&command, &candidates[..1], b"bytes", Cancel::new()).unwrap_err();
        assert_eq!(other.class(), Class::Signer);
    }

    #[test]
    fn signers_are_named_by_file_command_or_variable() {
        for (text, name) in [
            ("owner.key", SignerName::File("owner.key".into())),
            ("/a:b/owner.key", SignerName::File("/a:b/owner.key".into())),
            ("cmd:sign --key 1", SignerName::Command("sign --key 1".into())),
            ("env:OWNER_KEY", SignerName::Variable("OWNER_KEY".into())),
        ] {
            assert_eq!(text.parse(), Ok(name));
        }
    }
}
