//! How roots, drafts and what is missing from them are shown.

use std::io::{self, Write};
use std::path::PathBuf;

use jiff::Timestamp;
use manifests::document::root::{Approval, Change, Draft, RootDocument, WriterRange};
use manifests::keys::{KeyId, PublicKey};
use manifests::refusal::Refusal;
use serde::Serialize;

use crate::cli::output::{Report, write_table};

/// A root document.
#[derive(Debug, Serialize)]
pub(super) struct RootView {
    version: u64,
    digest: String,
    issued: Timestamp,
    expires: Timestamp,
    keys: Vec<KeyView>,
    roles: Vec<RoleView>,
    writers: Vec<RangeView>,
    kept: Vec<KeptView>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    key_id: String,
    public: String,
    openssh_fingerprint: String,
    roles: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RoleView {
    role: String,
    threshold: u32,
    keys: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RangeView {
    key: String,
    from_seq: u64,
    until_seq: Option<u64>,
}

#[derive(Debug, Serialize)]
struct KeptView {
    seq: u64,
    kind: String,
    sha256: String,
}

impl RootView {
    pub(super) fn of(document: &RootDocument, digest: String) -> Self {
        let roles_of = |id: &KeyId| {
            let holds = document.roles.iter().filter(|role| role.keys.contains(id));
            holds.map(|role| role.name.clone()).collect()
        };
        let key = |key: &manifests::document::root::Key| KeyView {
            key_id: key.id.to_string(),
            public: key.public.clone(),
            openssh_fingerprint: PublicKey::from_hex(&key.public)
                .map_or_else(|refusal| refusal.to_string(), |key| key.openssh_fingerprint()),
            roles: roles_of(&key.id),
        };
        let kept = document.kept.iter().flatten();
        Self {
            version: document.version,
            digest,
            issued: document.issued,
            expires: document.expires,
            keys: document.keys.iter().map(key).collect(),
            roles: document
                .roles
                .iter()
                .map(|role| RoleView {
                    role: role.name.clone(),
                    threshold: role.threshold,
                    keys: role.keys.iter().map(KeyId::to_string).collect(),
                })
                .collect(),
            writers: document.writers.iter().map(RangeView::of).collect(),
            kept: kept
                .map(|kept| KeptView { seq: kept.seq, kind: kept.kind.clone(), sha256: kept.sha256.to_string() })
                .collect(),
        }
    }

    pub(super) fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "root {}  sha256:{}", self.version, self.digest)?;
        writeln!(out, "  issued  {}", self.issued)?;
        writeln!(out, "  expires {}", self.expires)?;
        writeln!(out, "Roles:")?;
        let mut rows = Vec::new();
        for role in &self.roles {
            let takes = format!("{} of {}", role.threshold, role.keys.len());
            let keys: Vec<&str> = role.keys.iter().map(|key| short(key)).collect();
            rows.push([format!("  {}", role.role), takes, keys.join(" ")]);
        }
        write_table(out, &rows)?;
        writeln!(out, "Writers:")?;
        let rows: Vec<[String; 2]> =
            self.writers.iter().map(|range| [format!("  {}", short(&range.key)), range.words()]).collect();
        write_table(out, &rows)?;
        for kept in &self.kept {
            writeln!(out, "Kept: record {} ({})", kept.seq, kept.kind)?;
        }
        writeln!(out, "Keys:")?;
        let rows: Vec<[String; 2]> =
            self.keys.iter().map(|key| [format!("  {}", key.key_id), key.openssh_fingerprint.clone()]).collect();
        write_table(out, &rows)
    }
}

impl RangeView {
    fn of(range: &WriterRange) -> Self {
        Self { key: range.key.to_string(), from_seq: range.from_seq, until_seq: range.until_seq }
    }

    fn words(&self) -> String {
        match self.until_seq {
            Some(until) => format!("records {} to {}", self.from_seq, until.saturating_sub(1)),
            None => format!("records from {} on", self.from_seq),
        }
    }
}

/// The beginning of a key id, as people compare it.
pub(super) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// How far one side has signed.
#[derive(Debug, Serialize)]
pub(super) struct ApprovalView {
    threshold: u32,
    missing: usize,
    signed: Vec<String>,
    unsigned: Vec<String>,
}

impl ApprovalView {
    pub(super) fn of(approval: &Approval) -> Self {
        let ids = |signed: bool| {
            let side = approval.allowed.iter().filter(|key| approval.signed.contains(key) == signed);
            side.map(|key| key.id().to_string()).collect()
        };
        Self { threshold: approval.threshold, missing: approval.missing(), signed: ids(true), unsigned: ids(false) }
    }

    fn write_text(&self, whose: &str, out: &mut dyn Write) -> io::Result<()> {
        let have = self.signed.len();
        write!(out, "  {whose}: {have} of the {} signatures it takes", self.threshold)?;
        if self.missing == 0 {
            return writeln!(out);
        }
        let who: Vec<&str> = self.unsigned.iter().map(|id| short(id)).collect();
        writeln!(out, "; {} more of {}", self.missing, who.join(" "))
    }
}

/// One change.
#[derive(Debug, Serialize)]
struct ChangeView {
    what: &'static str,
    key: Option<String>,
    role: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

impl ChangeView {
    fn of(change: &Change) -> Self {
        let of = |what, key: Option<&KeyId>, role: Option<&String>, from: Option<String>, to: Option<String>| Self {
            what,
            key: key.map(KeyId::to_string),
            role: role.cloned(),
            from,
            to,
        };
        let until = |range: &WriterRange| range.until_seq.map(|until| until.to_string());
        match change {
            Change::Added { key, role } => of("key-added", Some(key), Some(role), None, None),
            Change::Removed { key, role } => of("key-removed", Some(key), Some(role), None, None),
            Change::Threshold { role, from, to } => {
                of("threshold", None, Some(role), Some(from.to_string()), Some(to.to_string()))
            }
            Change::Range(range) => {
                of("range-added", Some(&range.key), None, Some(range.from_seq.to_string()), until(range))
            }
            Change::NoRange(range) => {
                of("range-removed", Some(&range.key), None, Some(range.from_seq.to_string()), until(range))
            }
            Change::Kept(record) => of("record-kept", None, None, Some(record.seq.to_string()), None),
            Change::NotKept(record) => of("record-not-kept", None, None, Some(record.seq.to_string()), None),
            Change::Expires { from, to } => of("expires", None, None, Some(from.to_string()), Some(to.to_string())),
        }
    }

    fn words(&self) -> String {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let (key, role, from, to) = (part(&self.key), part(&self.role), part(&self.from), part(&self.to));
        let key = short(&key);
        let range = || match &self.to {
            Some(to) => format!("from record {from} up to and without {to}"),
            None => format!("from record {from} on"),
        };
        match self.what {
            "key-added" => format!("+ key {key} has the role {role}"),
            "key-removed" => format!("- key {key} has no longer the role {role}"),
            "threshold" => format!("~ role {role} takes {to} signatures, not {from}"),
            "range-added" => format!("+ writer {key} {}", range()),
            "range-removed" => format!("- writer {key} {}", range()),
            "record-kept" => format!("+ record {from} stays valid whoever signed it"),
            "record-not-kept" => format!("- record {from} is judged by its signatures again"),
            _ => format!("~ expires {to}, not {from}"),
        }
    }
}

/// A draft: what it changes and what is missing before it can be published.
#[derive(Debug, Serialize)]
pub(super) struct DraftReport {
    pub(super) draft: PathBuf,
    version: u64,
    digest: String,
    expires: Timestamp,
    changes: Option<Vec<ChangeView>>,
    old: Option<ApprovalView>,
    new: ApprovalView,
    complete: Option<bool>,
    pub(super) signed_by: Option<String>,
}

impl DraftReport {
    /// The draft in a file, beside the root before it as far as that is known.
    pub(super) fn of(path: PathBuf, draft: &Draft, previous: Option<&RootDocument>) -> Result<Self, Refusal> {
        let own = draft.own_approval();
        let old = previous.map(|previous| draft.approval_by(previous)).transpose()?;
        Ok(Self {
            draft: path,
            version: draft.document().version,
            digest: draft.digest().to_string(),
            expires: draft.document().expires,
            changes: previous.map(|previous| previous.changes(draft.document()).iter().map(ChangeView::of).collect()),
            complete: old.as_ref().map(|old| old.is_complete() && own.is_complete()),
            old: old.as_ref().map(ApprovalView::of),
            new: ApprovalView::of(&own),
            signed_by: None,
        })
    }

    pub(super) fn write_body(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "draft of root {}  sha256:{}", self.version, self.digest)?;
        for change in self.changes.iter().flatten() {
            writeln!(out, "  {}", change.words())?;
        }
        writeln!(out, "Signatures:")?;
        let before = self.version.saturating_sub(1);
        match &self.old {
            Some(old) => old.write_text(&format!("role root of root {before}"), out)?,
            None => writeln!(out, "  role root of root {before}: unknown here; name that root with --previous FILE")?,
        }
        self.new.write_text(&format!("role root of root {}", self.version), out)
    }
}

impl Report for DraftReport {
    const SCHEMA: &'static str = "snapkit.root-draft/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.write_body(out)?;
        let file = self.draft.display();
        match self.complete {
            Some(true) => writeln!(out, "Publish it: snapkit root publish {file}"),
            // Whether the root before it agrees is not known here, and is looked at when it is published.
            None if self.new.missing == 0 => writeln!(
                out,
                "Its own signatures are complete; the root before it has its say when it is published: snapkit root publish {file}"
            ),
            _ => writeln!(out, "Have it signed, here or elsewhere: snapkit root sign {file} --signer owner.key"),
        }
    }
}
