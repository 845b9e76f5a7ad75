//! The bootstrap string: `URL#root=sha256:<64 hex>`, optionally with `&min=<seq>:<64 hex>`.
//!
//! It is all that a machine without any state needs to believe a store. Documented in `docs/trust.md`. Layer: pure.

use std::fmt;
use std::str::FromStr;

use manifests::digest::Digest;

/// What starts the pin in a bootstrap string.
const ROOT: &str = "#root=";
/// What starts the minimum in a bootstrap string.
const MIN: &str = "&min=";

/// What a reader believes before it asks the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// SHA-256 of the payload of `root/1.json`.
    pub root: Digest,
    /// The least that the store must show.
    pub min: Option<Minimum>,
}

/// A record that the chain must hold: an older head is a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimum {
    /// Its slot.
    pub seq: u64,
    /// The digest of its payload.
    pub digest: Digest,
}

/// A store and the pin for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The store's address.
    pub url: String,
    /// The pin.
    pub pin: Pin,
}

/// A store as a person names it, with or without a pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The store's address.
    pub url: String,
    /// The pin, if it was given.
    pub pin: Option<Pin>,
}

/// The text is no bootstrap string.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a bootstrap string: {why}; expected URL#root=sha256:<64 hex digits>, perhaps with &min=<number>:<64 hex digits>"
)]
pub struct NotABootstrap {
    text: String,
    why: &'static str,
}

impl FromStr for Location {
    type Err = NotABootstrap;

    fn from_str(text: &str) -> Result<Self, NotABootstrap> {
        let wrong = |why| NotABootstrap { text: text.to_owned(), why };
        // The address of a store has no fragment, and a directory may have `#` in its name.
        let Some((url, fragment)) = text.rsplit_once(ROOT) else {
            return Ok(Self { url: text.to_owned(), pin: None });
        };
        if url.is_empty() {
            return Err(wrong("the address is missing"));
        }
        let (root, min) = match fragment.split_once(MIN) {
            None => (fragment, None),
            Some((root, min)) => (root, Some(min)),
        };
        let root = root.strip_prefix("sha256:").ok_or_else(|| wrong("the pin does not start with sha256:"))?;
        let root = root.parse().map_err(|_| wrong("the pin is not 64 lowercase hex digits"))?;
        let min = match min {
            None => None,
            Some(min) => Some(parse_minimum(min).ok_or_else(|| wrong("the minimum is not a number and a digest"))?),
        };
        Ok(Self { url: url.to_owned(), pin: Some(Pin { root, min }) })
    }
}

fn parse_minimum(text: &str) -> Option<Minimum> {
    let (seq, digest) = text.split_once(':')?;
    let plain = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
    Some(Minimum { seq: seq.parse().ok().filter(|_| plain)?, digest: digest.parse().ok()? })
}

impl FromStr for Bootstrap {
    type Err = NotABootstrap;

    fn from_str(text: &str) -> Result<Self, NotABootstrap> {
        let Location { url, pin } = text.parse()?;
        match pin {
            Some(pin) => Ok(Self { url, pin }),
            None => Err(NotABootstrap { text: text.to_owned(), why: "it has no #root=" }),
        }
    }
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{ROOT}sha256:{}", self.url, self.pin.root)?;
        match &self.pin.min {
            None => Ok(()),
            Some(Minimum { seq, digest }) => write!(f, "{MIN}{seq}:{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_bootstrap_string_prints_as_it_was_read() {
        for text in [
            format!("https://example.org/store#root=sha256:{HEX}"),
            format!("/srv/a#b#root=sha256:{HEX}"),
            format!("s3://bucket/prefix#root=sha256:{HEX}&min=17:{HEX}"),
        ] {
            assert_eq!(text.parse::<Bootstrap>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_plain_address_has_no_pin() {
        let location: Location = "/srv/store".parse().unwrap();
        assert_eq!(location, Location { url: "/srv/store".into(), pin: None });
        assert!("/srv/store".parse::<Bootstrap>().is_err());
    }

    #[test]
    fn anything_but_a_whole_pin_is_refused() {
        for text in [
            format!("#root=sha256:{HEX}"),
            format!("/s#root={HEX}"),
            format!("/s#root=sha256:{}", HEX.to_uppercase()),
            "/s#root=sha256:".into(),
            format!("/s#root=sha256:{HEX}&min="),
            format!("/s#root=sha256:{HEX}&min=+1:{HEX}"),
            format!("/s#root=sha256:{HEX}&max=1:{HEX}"),
            format!("/s#root=sha256:{HEX}&min=1:{HEX}&min=2:{HEX}"),
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".*", tail in "(#root=(sha256:)?[0-9a-f]{0,65}(&min=.{0,9})?)?") {
            let _ = format!("{text}{tail}").parse::<Location>();
        }

        #[test]
        fn every_bootstrap_string_reads_back(url in "[a-z0-9/#:]{1,20}", root: [u8; 32], min: Option<(u64, [u8; 32])>) {
            let min = min.map(|(seq, digest)| Minimum { seq, digest: Digest(digest) });
            let bootstrap = Bootstrap { url, pin: Pin { root: Digest(root), min } };
            prop_assert_eq!(bootstrap.to_string().parse::<Bootstrap>().unwrap(), bootstrap);
        }
    }
}
