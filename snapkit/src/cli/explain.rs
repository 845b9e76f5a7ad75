//! The commands of `verify --explain`: how a stranger checks the newest record without this program.

use manifests::document::record::payload_type;
use snapkit::chain::{Chain, ChainError};
use snapkit::store::Store;

/// A shell script that checks record `seq` with openssl and coreutils alone.
pub(super) fn script(chain: &Chain<'_>, store: &dyn Store, seq: u64) -> Result<String, ChainError> {
    let record = chain.record(seq)?;
    let kind = payload_type(record.body.kind());
    let pem = record.signers.first().map(|key| key.to_pem()).unwrap_or_default();
    let pin = chain.pin().root;
    let digest = record.digest;
    let key = format!("chain/{seq:020}.json");
    let (get_record, get_root) = (get(store.url(), &key, "record.json"), get(store.url(), "root/1.json", "root.json"));
    let type_len = kind.len();
    Ok(format!(
        r#"# Checks record {seq} of the store {url} with openssl and coreutils.
# Run it in an empty directory. Each check prints what it found; the comments say what must come out.
set -eu

# 1. The root of trust: its payload must hash to the pin you were given.
{get_root}
sed -n 's/.*"payload" *: *"\([^"]*\)".*/\1/p' root.json | base64 -d > root.payload
echo "{pin}  root.payload" | sha256sum --check
# The keys of the root stand in it; the one below signed the record.
grep -o '"public":"[0-9a-f]*"' root.payload

# 2. The record: its payload and the signature over it.
{get_record}
sed -n 's/.*"payload" *: *"\([^"]*\)".*/\1/p' record.json | base64 -d > record.payload
sed -n 's/.*"sig" *: *"\([^"]*\)".*/\1/p' record.json | base64 -d > record.sig

# 3. The bytes that were signed (DSSE: type and payload, each with its length).
{{ printf 'DSSEv1 {type_len} {kind} %d ' "$(stat -c %s record.payload)"; cat record.payload; }} > record.pae

# 4. The key, and the signature.
cat > key.pem <<'PEM'
{pem}PEM
openssl pkey -pubin -in key.pem -outform DER | tail -c 32 | od -An -v -tx1 | tr -d ' \n'; echo " is the key"
openssl pkeyutl -verify -rawin -pubin -inkey key.pem -in record.pae -sigfile record.sig

# 5. The name of the record.
echo "{digest}  record.payload" | sha256sum --check
"#,
        url = store.url(),
    ))
}

/// The command that gets an object of a store into a file.
fn get(url: &str, key: &str, file: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    if url.starts_with('/') {
        return format!("cp {} {file}", quoted(&format!("{url}/{key}")));
    }
    if url.starts_with("http://") || url.starts_with("https://") {
        return format!("curl -fsS -o {file} {}", quoted(&format!("{url}/{key}")));
    }
    if let Some(bucket) = url.strip_prefix("s3://") {
        return format!("aws s3 cp {} {file}", quoted(&format!("s3://{bucket}/{key}")));
    }
    format!("test -f {file} # fetch {url}/{key} into {file} first")
}
