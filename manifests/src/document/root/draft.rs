//! Drafts: a next root on its way from one signer to another, in the envelope that will be published.
//!
//! A draft is believed by nobody; [`Root::parse_next`] decides whether it became a root. Here it is read so that people
//! see what they sign and what is still missing. Documented in `docs/format/root.md`, "Drafts". Layer: pure.

use super::{PAYLOAD_TYPE, ROOT_CAP, Root, RootDocument, rules};
use crate::digest::Digest;
use crate::envelope::{Envelope, Signers};
use crate::keys::PublicKey;
use crate::pae::pae;
use crate::refusal::Refusal;

/// A root document in an envelope, signed by anybody or nobody.
pub struct Draft {
    root: Root,
    envelope: Envelope,
}

/// How far one side has signed a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// The keys whose signatures count.
    pub allowed: Vec<PublicKey>,
    /// Those of them that signed.
    pub signed: Vec<PublicKey>,
    /// How many it takes.
    pub threshold: u32,
}

impl Approval {
    /// Whether enough have signed.
    pub fn is_complete(&self) -> bool {
        self.missing() == 0
    }

    /// How many signatures are missing.
    pub fn missing(&self) -> usize {
        (self.threshold as usize).saturating_sub(self.signed.len())
    }
}

impl Draft {
    /// Reads a draft: every rule for roots holds, whoever signed it. `object` names it in refusals.
    ///
    /// # Errors
    /// What breaks a rule of the format.
    pub fn parse(bytes: &[u8], object: &str) -> Result<Draft, Refusal> {
        let envelope = Envelope::decode(bytes, ROOT_CAP, object)?;
        rules::check_type(envelope.payload_type(), object)?;
        let root = Root::check(envelope.unsigned_payload(), ROOT_CAP, object)?;
        Ok(Draft { root, envelope })
    }

    /// What it says.
    pub fn document(&self) -> &RootDocument {
        self.root.document()
    }

    /// SHA-256 of the payload: what its signers may compare over the telephone.
    pub fn digest(&self) -> Digest {
        self.root.digest()
    }

    /// The exact bytes that are signed.
    pub fn message(&self) -> Vec<u8> {
        pae(PAYLOAD_TYPE, self.envelope.unsigned_payload())
    }

    /// How far the holders of the role root in the draft itself have signed it.
    pub fn own_approval(&self) -> Approval {
        self.approval(self.root.signers("root"))
    }

    /// How far the holders of the role root in another root, such as the one before it, have signed it.
    pub fn approval_by(&self, root: &RootDocument) -> Result<Approval, Refusal> {
        let bytes = serde_json::to_vec(root).expect("a root document always encodes");
        Ok(self.approval(Root::check(&bytes, ROOT_CAP, "root")?.signers("root")))
    }

    fn approval(&self, signers: Signers) -> Approval {
        let signed = self.envelope.signed_by(&signers.allowed);
        Approval { allowed: signers.allowed, signed, threshold: signers.threshold }
    }
}
