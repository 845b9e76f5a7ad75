//! What `--explain` prints: how a stranger checks a record or a receipt with openssl and coreutils, without this program.
//!
//! The commands begin with the pin and take nothing else on trust: root 1 by its digest, each next root by the keys of the
//! one before and its own, the document by a key to which the newest root gives the role.

use std::fmt::Write;

use manifests::digest::Digest;
use manifests::document::root::Root;
use manifests::keys::PublicKey;
use manifests::refusal::Refusal;

/// Shell functions, and what they rest on. They read JSON as snapkit writes it: without white space, fields in order.
const FUNCTIONS: &str = r#"set -eu

# An envelope NAME.json: its payload, and the bytes that were signed (DSSE: type and payload, each with its length).
unpack() { # NAME
    sed -n 's/.*"payload":"\([^"]*\)".*/\1/p' "$1.json" | base64 -d > "$1.payload"
    type=$(sed -n 's/.*"payloadType":"\([^"]*\)".*/\1/p' "$1.json")
    { printf 'DSSEv1 %d %s %d ' "${#type}" "$type" "$(wc -c < "$1.payload")"; cat "$1.payload"; } > "$1.pae"
    echo "$1 is $type, SHA-256 $(sha256sum < "$1.payload" | cut -c -64)"
}
# A key is in the file KEYID.pem, and its id is made from it.
key() { # KEYID, BASE64 OF THE PUBLIC KEY (SPKI)
    printf -- '-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n' "$2" > "$1.pem"
    hex=$(openssl pkey -pubin -in "$1.pem" -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \n')
    id=$(printf '{"keytype":"ed25519","keyval":{"public":"%s"},"scheme":"ed25519"}' "$hex" | sha256sum | cut -c -64)
    [ "$id" = "$1" ]
}
# A root lists the key, and gives it the role.
has_role() { # NAME OF THE ROOT, ROLE, KEYID
    grep -q "\"id\":\"$3\"" "$1.payload"
    grep -o "{\"name\":\"$2\",\"keys\":\[[^]]*\]" "$1.payload" | grep -q "\"$3\""
}
# The signature of the key is over those bytes.
signed() { # NAME, KEYID
    grep -o "{\"keyid\":\"$2\",\"sig\":\"[^\"]*\"}" "$1.json" | head -n 1 | sed 's/.*"sig":"//; s/"}$//' | base64 -d > sig
    openssl pkeyutl -verify -rawin -pubin -inkey "$2.pem" -in "$1.pae" -sigfile sig
}
"#;

/// A document to be explained: an envelope that was verified under the newest of the roots.
pub(super) struct Document<'a> {
    /// What it is, for the reader.
    pub(super) what: String,
    /// The command that gets it into `document.json`.
    pub(super) get: String,
    /// SHA-256 of its payload: its name.
    pub(super) digest: Digest,
    /// The roles of which one signed.
    pub(super) roles: &'a [&'a str],
    /// Keys that signed.
    pub(super) signers: Vec<PublicKey>,
}

/// The script for a document under these roots, the envelopes of which begin with that of root 1.
///
/// `get` gives the command that gets root n into a file.
pub(super) fn script(
    pin: &Digest,
    roots: &[Vec<u8>],
    get: &dyn Fn(u64, &str) -> String,
    document: &Document<'_>,
) -> Result<String, Refusal> {
    let mut text = format!(
        "# Checks {} with openssl and coreutils. Run it with sh in an empty directory.\n# Each check prints what it \
         found, and the first that fails ends the run.\n{FUNCTIONS}",
        document.what
    );
    let mut newest: Option<Root> = None;
    for envelope in roots {
        newest = Some(root(&mut text, pin, newest, envelope, get)?);
    }
    let newest = newest.ok_or_else(|| no_root(pin))?;
    let named = format!("root-{}", newest.version());
    let _ = writeln!(text, "\n# The document.\n{}\nunpack document", document.get);
    let digest = document.digest;
    let _ = writeln!(
        text,
        "# Its name is the SHA-256 of its payload.\necho \"{digest}  document.payload\" | sha256sum --check"
    );
    if document.signers.is_empty() {
        let _ = writeln!(text, "# No signature is asked for: the root keeps this record by name.");
        let _ = writeln!(text, "grep -o '\"sha256\":\"{digest}\"' {named}.payload");
    }
    for key in &document.signers {
        let held = |role: &&&str| newest.signers(role).allowed.contains(key);
        if let Some(role) = document.roles.iter().find(held) {
            signature(&mut text, "document", key, &[(&named, role)]);
            if *role == "writer" {
                let _ = writeln!(text, "# A writer signs within these numbers alone.");
                let _ = writeln!(text, "grep -o '{{\"key\":\"{}\",\"from_seq\":[^}}]*}}' {named}.payload", key.id());
            }
        }
    }
    text.push_str("echo 'everything holds'\n");
    Ok(text)
}

/// The part for one root, which comes after `before`.
fn root(
    text: &mut String,
    pin: &Digest,
    before: Option<Root>,
    envelope: &[u8],
    get: &dyn Fn(u64, &str) -> String,
) -> Result<Root, Refusal> {
    let root = match &before {
        None => Root::parse_first(envelope, pin)?,
        Some(before) => before.parse_next(envelope)?,
    };
    let (version, name) = (root.version(), format!("root-{}", root.version()));
    let _ = writeln!(text, "\n# Root {version}.\n{}\nunpack {name}", get(version, &format!("{name}.json")));
    if before.is_none() {
        let _ = writeln!(text, "# Its payload must hash to the pin you were given.");
        let _ = writeln!(text, "echo \"{pin}  {name}.payload\" | sha256sum --check");
    }
    let mut judges = vec![(name.clone(), root.signers("root"))];
    if let Some(before) = &before {
        judges.insert(0, (format!("root-{}", before.version()), before.signers("root")));
    }
    for (judge, signers) in judges {
        let _ = writeln!(text, "# {} of the keys of {judge} for the role root must have signed.", signers.threshold);
        for key in signers.allowed.iter().filter(|key| names(envelope, key)) {
            signature(text, &name, key, &[(&judge, "root")]);
        }
    }
    Ok(root)
}

/// The lines that check one signature, by a key that has a role in each of these roots.
fn signature(text: &mut String, name: &str, key: &PublicKey, held: &[(&str, &str)]) {
    let id = key.id();
    let pem = key.to_pem();
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let _ = writeln!(text, "key {id} {body}");
    for (root, role) in held {
        let _ = writeln!(text, "has_role {root} {role} {id}");
    }
    let _ = writeln!(text, "signed {name} {id}");
}

/// Whether the envelope has a signature under the id of that key.
fn names(envelope: &[u8], key: &PublicKey) -> bool {
    let wanted = format!("\"keyid\":\"{}\"", key.id());
    envelope.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

fn no_root(pin: &Digest) -> Refusal {
    Refusal::new(
        manifests::refusal::Class::NoPin,
        format!("root sha256:{pin}"),
        "a root that was verified here",
        "none",
    )
}

/// The command that gets an object of a store into a file.
pub(super) fn get(url: &str, key: &str, file: &str) -> String {
    if url.starts_with('/') {
        return copy(&format!("{url}/{key}"), file);
    }
    if url.starts_with("http://") || url.starts_with("https://") {
        return format!("curl -fsS -o {file} {}", quoted(&format!("{url}/{key}")));
    }
    if let Some(bucket) = url.strip_prefix("s3://") {
        return format!("aws s3 cp {} {file}", quoted(&format!("s3://{bucket}/{key}")));
    }
    format!("test -f {file} # fetch {url}/{key} into {file} first")
}

/// The command that copies a file of this machine.
pub(super) fn copy(from: &str, file: &str) -> String {
    format!("cp {} {file}", quoted(from))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
