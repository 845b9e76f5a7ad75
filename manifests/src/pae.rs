//! The exact bytes that are signed: DSSE's pre-authentication encoding.
//!
//! Type and payload are both inside, each with its length in bytes, so a signature can never be read
//! as one over another type. Documented in `docs/format/envelope.md`. Layer: pure.
//! Source: Dead Simple Signing Envelope, protocol version 1.0.0.

/// `DSSEv1 SP len(type) SP type SP len(payload) SP payload`, lengths in decimal bytes.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

#[cfg(test)]
mod tests {
    use super::pae;

    #[test]
    fn the_example_of_the_specification_encodes_as_it_says() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn lengths_count_bytes_not_characters() {
        assert_eq!(pae("é", "ü".as_bytes()), "DSSEv1 2 é 2 ü".as_bytes());
    }
}
