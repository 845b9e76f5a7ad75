//! Names of stored data: BLAKE3 of bytes, parsed and printed only here.
//!
//! A name is 32 bytes, written as 64 lowercase hexadecimal characters.
//! Documented in `docs/format/pack.md`. Layer: pure.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a name: expected 64 lowercase hexadecimal characters")]
pub struct NotAName(String);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The name of `bytes`.
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = NotAName;

            fn from_str(text: &str) -> Result<Self, NotAName> {
                unhex(text).map(Self).ok_or_else(|| NotAName(text.to_owned()))
            }
        }
    };
}

name! {
    /// Name of a chunk: the BLAKE3 of its raw bytes.
    ChunkId
}
name! {
    /// Name of a pack: the BLAKE3 of its table and footer.
    PackId
}
name! {
    /// Name of a segment: the BLAKE3 of all its bytes.
    SegmentId
}
name! {
    /// BLAKE3 of a whole file, of a tree's rows or of a state: what digests compare.
    ContentHash
}

impl PackId {
    /// The key of the pack in a store.
    pub fn key(&self) -> String {
        let name = self.to_string();
        format!("packs/{}/{name}", &name[..2])
    }
}

impl SegmentId {
    /// The key of the segment in a store.
    pub fn key(&self) -> String {
        format!("segments/{self}")
    }
}

/// Lowercase hexadecimal characters of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The 32 bytes that 64 lowercase hexadecimal characters stand for.
pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(c: u8) -> Option<u8> {
    match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_printed_and_parsed_as_lowercase_hex() {
        let id = ChunkId::of(b"");
        let text = id.to_string();
        assert_eq!(text, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
        assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn name_refuses_uppercase_short_and_long_text() {
        let text = ChunkId::of(b"x").to_string();
        assert!(text.to_uppercase().parse::<ChunkId>().is_err());
        assert!(text[1..].parse::<ChunkId>().is_err());
        assert!(format!("{text}0").parse::<ChunkId>().is_err());
    }
}
