//! Refusals: every reason a document or an object is not accepted, in one list.
//!
//! A refusal never changes a target or the trust state. Each class has a name (`E_…`) that is stable
//! for scripts and logs, and an exit code of its own from 30 to 99. The other exit codes of the
//! commands are constants in [`exit`], so that this file holds every number a caller can see.
//! Documented in `docs/exit-codes.md`, which a test holds equal to this list. Layer: pure.

use std::fmt;

/// Exit codes of the commands that are not refusals.
pub mod exit {
    /// Done.
    pub const DONE: u8 = 0;
    /// The answer is no: it differs, damage was found, an assertion failed.
    pub const NO: u8 = 1;
    /// The command line or the configuration is wrong.
    pub const USAGE: u8 = 2;
    /// Refused for a reason without a class of its own; nothing was touched.
    pub const REFUSED: u8 = 3;
    /// Degraded: done with less assurance than was asked for, or a node that refuses to be switched until it is
    /// acknowledged.
    pub const DEGRADED: u8 = 4;
    /// Could not run, or verified nothing.
    pub const COULD_NOT_RUN: u8 = 5;
    /// What was asked for was only gone through: nothing was done, and nothing is shown by it.
    pub const SIMULATED: u8 = 6;
    /// Skipped: this node does not lead.
    pub const NOT_LEADER: u8 = 7;
    /// The lease was lost while a command ran that needs it; the command was killed.
    pub const LEASE_LOST: u8 = 8;
    /// Done, but files changed while they were read.
    pub const TORN: u8 = 10;
    /// Done, but something could not be read or restored.
    pub const INCOMPLETE: u8 = 11;
    /// Done, but the scan cache did not agree with the files.
    pub const CACHE_MISMATCH: u8 = 12;
    /// Switched, and switched back, because what must hold afterwards did not.
    pub const SWITCHED_BACK: u8 = 13;
    /// The manifest is sound, and the chain has moved on farther than it allows.
    pub const MANIFEST_LAGS: u8 = 20;
    /// The manifest is sound, and the newest snapshot is older than it allows.
    pub const SNAPSHOT_OLD: u8 = 21;
    /// The manifest is sound and fresh, and will not be for as long as was asked.
    pub const MANIFEST_EXPIRING: u8 = 22;
    /// The manifest is sound and has expired.
    pub const MANIFEST_EXPIRED: u8 = 23;
    /// The manifest could not be verified.
    pub const MANIFEST_UNVERIFIABLE: u8 = 24;
    /// The manifest is sound and fresh, and the last good drill is longer ago than was asked for, or there is none.
    pub const DRILLS_OLD: u8 = 25;
    /// Ended by `SIGINT`.
    pub const INTERRUPTED: u8 = 130;
    /// Ended by `SIGTERM`.
    pub const TERMINATED: u8 = 143;

    /// Every code above with its meaning, as `docs/exit-codes.md` lists them.
    pub const ALL: &[(u8, &str)] = &[
        (DONE, "done"),
        (NO, "the answer is no: it differs, damage was found, an assertion failed"),
        (USAGE, "the command line or the configuration is wrong"),
        (REFUSED, "refused for a reason without a class of its own; nothing was touched"),
        (
            DEGRADED,
            "degraded: less assurance than was asked for, or a node that refuses switches until `bootstrap ack`",
        ),
        (COULD_NOT_RUN, "could not run, or verified nothing"),
        (SIMULATED, "simulated only: nothing was done, and nothing is shown by it"),
        (NOT_LEADER, "skipped: this node does not lead"),
        (LEASE_LOST, "the lease was lost while the command ran, and it was killed"),
        (TORN, "done, but files changed while they were read"),
        (INCOMPLETE, "done, but something could not be read or restored"),
        (CACHE_MISMATCH, "done, but the scan cache did not agree with the files"),
        (SWITCHED_BACK, "switched back: what must hold after the switch did not, and the old generation is active"),
        (MANIFEST_LAGS, "manifest check: the chain has moved on farther than the manifest allows"),
        (SNAPSHOT_OLD, "manifest check: the newest snapshot is older than the manifest allows"),
        (MANIFEST_EXPIRING, "manifest check: fresh now, and expiring within the time asked for"),
        (MANIFEST_EXPIRED, "manifest check: expired"),
        (MANIFEST_UNVERIFIABLE, "manifest check: not to be verified"),
        (DRILLS_OLD, "manifest check: fresh, and no good drill within the time asked for"),
        (INTERRUPTED, "ended by SIGINT"),
        (TERMINATED, "ended by SIGTERM"),
    ];
}

macro_rules! classes {
    ($($variant:ident = $code:literal, $name:literal, $meaning:literal, $remedy:literal;)+) => {
        /// The class of a refusal. Scripts match on its name or its exit code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Class {
            $(#[doc = $meaning] $variant,)+
        }

        impl Class {
            /// Every class, in the order of exit codes.
            pub const ALL: &[Class] = &[$(Class::$variant,)+];

            /// The exit code of a command that ends with this refusal.
            pub const fn exit_code(self) -> u8 {
                match self { $(Class::$variant => $code,)+ }
            }

            /// The stable name, such as `E_ROLLBACK`.
            pub const fn name(self) -> &'static str {
                match self { $(Class::$variant => $name,)+ }
            }

            /// One sentence that says what was refused.
            pub const fn meaning(self) -> &'static str {
                match self { $(Class::$variant => $meaning,)+ }
            }

            /// What to do about it, unless the refusal carries a better hint.
            pub const fn remedy(self) -> &'static str {
                match self { $(Class::$variant => $remedy,)+ }
            }
        }
    };
}

classes! {
    Json = 30, "E_JSON", "The document is not the strict JSON its format asks for.",
        "get an unchanged copy of it";
    Type = 31, "E_TYPE", "The document is of another type than the one expected here.",
        "get the right object from the store";
    TooBig = 32, "E_TOO_BIG", "The object is larger than its kind may be.",
        "get an unchanged copy of it";
    TooMany = 33, "E_TOO_MANY", "There are more parts than a reader accepts.",
        "get an unchanged copy of it";
    Version = 34, "E_VERSION", "The document has another version than the one expected here.",
        "get the right object from the store";
    Newer = 35, "E_NEWER", "The document needs a newer snapkit; it is not damaged.",
        "update snapkit";
    SigMissing = 40, "E_SIG_MISSING", "The document carries no signature at all.",
        "get a signed copy of it";
    SigUntrusted = 41, "E_SIG_UNTRUSTED", "No signature is by a key that the trusted root lists.",
        "check that the store is the one you pinned";
    Sig = 42, "E_SIG", "A signature by a listed key does not fit the signed bytes.",
        "get an unchanged copy of it";
    Threshold = 43, "E_THRESHOLD", "Fewer distinct keys signed than the role asks for.",
        "have more holders of the role sign it";
    Role = 44, "E_ROLE", "The key that signed may not sign documents of this type.",
        "sign it with a key of the right role";
    Revoked = 45, "E_REVOKED", "The writer key was not valid at this sequence number.",
        "sign it with a writer key that is valid there";
    KeyId = 46, "E_KEYID", "A key id is not the one that follows from the key.",
        "do not use this document";
    Alg = 47, "E_ALG", "A key is of another algorithm than Ed25519.",
        "use an ed25519 key";
    WeakKey = 48, "E_WEAK_KEY", "A public key is weak or not encoded canonically.",
        "never use this key; make another";
    KeyFile = 49, "E_KEYFILE", "A key file cannot be used.",
        "make one with `snapkit key generate`";
    NoPin = 50, "E_NO_PIN", "There is no pin for this store, and a store is never believed about itself.",
        "compare the digest with its owner, then run `snapkit trust add URL#root=sha256:DIGEST`";
    RootPin = 51, "E_ROOT_PIN", "The first root of the store is not the pinned one.",
        "check the address and the pin";
    Root = 52, "E_ROOT", "A root document breaks a rule for roots.",
        "do not use this root; ask its owner";
    Stale = 53, "E_STALE", "The document has expired.",
        "have its owner sign a fresh one";
    Clock = 54, "E_CLOCK", "The clock of this machine is behind what it has already verified.",
        "set the clock";
    Rollback = 55, "E_ROLLBACK", "The store shows an older state than the one already verified here.",
        "look for the newer state, or have the owner sign a fork";
    Manifest = 56, "E_MANIFEST", "A pins or manifest document breaks a rule for it.",
        "do not use this document; ask whoever signed it";
    Signer = 57, "E_SIGNER", "An external signer gave no signature, or one that does not fit.",
        "run the signer's command by hand and look at what it prints";
    Prereq = 58, "E_PREREQ", "A node lacks something that it must have before it is brought up.",
        "provide what is listed, and run the same command again";
    Origin = 60, "E_ORIGIN", "The document belongs to another chain.",
        "check that the store is the one you pinned";
    Mix = 61, "E_MIX", "The record does not follow the record before it.",
        "run `snapkit verify`";
    Seq = 62, "E_SEQ", "The record has another sequence number than its slot.",
        "run `snapkit verify`";
    Inconsistent = 63, "E_INCONSISTENT", "The record contradicts the slots before it.",
        "run `snapkit verify`; the store was changed or its tail was lost";
    Fork = 64, "E_FORK", "Two valid records claim the same place in the chain.",
        "keep both as proof and ask the owner of the root which one to keep";
    Proof = 65, "E_PROOF", "A proof of the log is malformed or does not hold.",
        "run `snapkit verify`";
    Fenced = 66, "E_FENCED", "Another node leads: a later term has begun, or somebody else signed in this one.",
        "do not write from this node; `bootstrap status NODE-DIR` shows who leads";
    Lease = 67, "E_LEASE", "A lease entry breaks a rule for it, or the lease log does not allow what was asked.",
        "look at `bootstrap lease history NODE-DIR`";
    Missing = 70, "E_MISSING", "An object that a verified document names is not in the store.",
        "look for it in a copy of the store";
    Hash = 71, "E_HASH", "The bytes of an object do not hash to its name.",
        "look for it in a copy of the store";
    Size = 72, "E_SIZE", "An object has another length than a verified document says.",
        "look for it in a copy of the store";
    Store = 73, "E_STORE", "The store does not enforce what snapkit relies on.",
        "run `snapkit store probe` and use another store";
    Slow = 74, "E_SLOW", "The store delivers slower than the accepted floor.",
        "try again, or use another copy of the store";
    Path = 80, "E_PATH", "A path in a tree is not one that may be restored, or not in order.",
        "do not restore this tree";
    PathCollide = 81, "E_PATH_COLLIDE", "Two paths are one on the target's file system.",
        "restore to a file system that keeps them apart";
    Link = 82, "E_LINK", "A link would lead out of the target or through another entry.",
        "do not restore this tree";
    Kind = 83, "E_KIND", "An entry, or a list of entries, is not of a kind that its format names.",
        "do not restore this tree";
    Extra = 84, "E_EXTRA", "There is something that no verified document names.",
        "look at it, then remove it";
    Target = 85, "E_TARGET", "The target of a restore is not a place that may be written.",
        "name a directory that is missing or empty";
    Image = 90, "E_IMAGE", "An image is not the one that was pinned.",
        "get the pinned image, and do not run this one";
    ImageType = 91, "E_IMAGE_TYPE", "An image document can be read in more than one way, or is of another type.",
        "do not use this image";
    Platform = 92, "E_PLATFORM", "An image is for another platform than the pinned one.",
        "pin the image of this platform, or use a machine of the pinned one";
    ImageRunning = 93, "E_IMAGE_RUNNING", "A container runs that was created from another image than the pinned one.",
        "stop it, and create it anew from the pinned image";
    Launch = 94, "E_LAUNCH", "Something is started otherwise than it was pinned.",
        "start it as the pins say, or have new pins signed";
    Evidence = 95, "E_EVIDENCE", "A bundle of evidence breaks a rule for it, or does not show what it says.",
        "do not rely on it; run the drill again";
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Why something was not accepted: its class, the object, what was expected, what was found, what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    class: Class,
    object: String,
    expected: String,
    found: String,
    hint: Option<String>,
}

impl Refusal {
    /// Refuses `object` because `found` stands where `expected` should.
    pub fn new(
        class: Class,
        object: impl Into<String>,
        expected: impl fmt::Display,
        found: impl fmt::Display,
    ) -> Refusal {
        Refusal { class, object: object.into(), expected: expected.to_string(), found: found.to_string(), hint: None }
    }

    /// Replaces the advice that the class gives.
    #[must_use]
    pub fn with_hint(mut self, hint: impl fmt::Display) -> Refusal {
        self.hint = Some(hint.to_string());
        self
    }

    /// Names the object as the caller knows it, such as its store key.
    #[must_use]
    pub fn named(mut self, object: impl Into<String>) -> Refusal {
        self.object = object.into();
        self
    }

    /// The class, which gives name and exit code.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The object that was refused.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What should have been there.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// What was there.
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What to do about it.
    pub fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.class.remedy())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { class, object, expected, found, .. } = self;
        write!(out, "{object}: expected {expected}, found {found}; {} ({class})", self.hint())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_and_names_are_distinct_and_within_their_range() {
        let mut codes: Vec<u8> = Class::ALL.iter().map(|class| class.exit_code()).collect();
        assert!(codes.iter().all(|code| (30..=99).contains(code)));
        assert!(codes.is_sorted());
        codes.dedup();
        assert_eq!(codes.len(), Class::ALL.len());
        let mut names: Vec<&str> = Class::ALL.iter().map(|class| class.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Class::ALL.len());
    }

    #[test]
    fn the_page_lists_exactly_these_exit_codes() {
        let page = include_str!("../../docs/exit-codes.md");
        let rows: Vec<String> = page.lines().filter(|line| line.starts_with("| ")).map(str::to_owned).collect();
        let codes = exit::ALL.iter().map(|(code, meaning)| format!("| {code} | {meaning} |"));
        let classes = Class::ALL.iter().map(|class| {
            format!("| {} | `{}` | {} | {} |", class.exit_code(), class.name(), class.meaning(), class.remedy())
        });
        let header = |line: &String| line.starts_with("| code ");
        let listed: Vec<String> = rows.into_iter().filter(|line| !header(line)).collect();
        assert_eq!(listed, codes.chain(classes).collect::<Vec<_>>());
    }

    #[test]
    fn a_message_names_object_expectation_finding_and_remedy() {
        let refusal = Refusal::new(Class::Seq, "record 12", "sequence number 12", "13");
        assert_eq!(
            refusal.to_string(),
            "record 12: expected sequence number 12, found 13; run `snapkit verify` (E_SEQ)"
        );
    }
}
