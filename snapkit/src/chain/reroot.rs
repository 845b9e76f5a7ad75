//! What another root would do to the records that are there.
//!
//! Records are judged under the newest root, so one that takes a role from a key may make void what that key signed.
//! Layer: part of `chain`.

use manifests::chain;
use manifests::digest::Digest;
use manifests::document::record::Record;
use manifests::document::root::Root;
use manifests::keys::KeyId;

use super::{Chain, ChainError, Newest};

/// A record that counts under one root and not under another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voided {
    /// Its slot.
    pub seq: u64,
    /// Its kind.
    pub kind: String,
    /// The digest of its payload.
    pub digest: Digest,
    /// The key that it says signed it.
    pub key: KeyId,
}

impl Voided {
    fn of(record: &Record) -> Self {
        let Record { header, body, digest, .. } = record;
        Self { seq: header.seq, kind: body.kind().to_owned(), digest: *digest, key: header.writer.key }
    }
}

impl Chain<'_> {
    /// The records from `first_seq` up to `newest` that the next root would make void. Reads every one of those slots.
    ///
    /// # Errors
    /// [`ChainError::Store`] when a slot cannot be read.
    pub fn voided_by(&self, next: &Root, first_seq: u64, newest: &Newest) -> Result<Vec<Voided>, ChainError> {
        let lineage = self.lineage(newest)?;
        let (mut voided, mut at, last) = (Vec::new(), first_seq, newest.head.seq);
        while at <= last {
            let end = self.batch_end(at, last);
            for (seq, bytes) in self.read_slots(at, end)? {
                let Some(bytes) = bytes.filter(|_| lineage.left_behind(seq).is_none()) else { continue };
                let Ok((record, _)) = chain::trusted(&bytes, &self.id, seq, &self.root) else { continue };
                if chain::trusted(&bytes, &self.id, seq, next).is_err() {
                    voided.push(Voided::of(&record));
                }
            }
            at = end + 1;
        }
        Ok(voided)
    }
}
