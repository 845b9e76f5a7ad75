//! Identity: what makes two images the same, and whether one is the pinned one.
//!
//! Config digest and diff ids decide. A manifest or index digest says how an image was packed, and is never enough.
//! Layer: pure.

use std::fmt;
use std::str::FromStr;

use manifests::digest::Digest;
use manifests::document::image::{ImagePin, is_platform};
use manifests::refusal::{Class, Refusal};

use super::document::{Blob, Launch};

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`.
    pub variant: Option<String>,
}

/// An image, whatever it is called and however it is packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What it runs on.
    pub platform: Platform,
    /// SHA-256 of the config.
    pub config: Digest,
    /// SHA-256 of each layer as it is unpacked, lowest first.
    pub diff_ids: Vec<Digest>,
}

impl fmt::Display for Platform {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(out, "/{variant}"))
    }
}

/// The text is no platform.
#[derive(Debug, thiserror::Error)]
#[error("not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm/v7")]
pub struct NotAPlatform;

impl FromStr for Platform {
    type Err = NotAPlatform;

    fn from_str(text: &str) -> Result<Self, NotAPlatform> {
        let mut parts = text.split('/').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None) if is_platform(text) => {
                Ok(Self { os, architecture, variant })
            }
            _ => Err(NotAPlatform),
        }
    }
}

impl Platform {
    /// That of this machine, as OCI names it.
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        // Containers run Linux, also where the machine does not.
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    pub(super) fn check(&self, object: &str) -> Result<(), Refusal> {
        // A part with a slash in it would be written like another platform.
        if self.to_string().parse().is_ok_and(|read: Self| read == *self) {
            return Ok(());
        }
        Err(super::ambiguous(object, "a platform such as linux/amd64", format!("{self:?}")))
    }

    /// Whether an image for `other` is one for this platform. A variant counts if this platform names one.
    pub fn takes(&self, other: &Self) -> bool {
        self.os == other.os
            && self.architecture == other.architecture
            && (self.variant.is_none() || self.plain_variant() == other.plain_variant())
    }

    /// The first variant of ARM 64 is the only one there is, and half of the tools leave it out.
    fn plain_variant(&self) -> Option<&str> {
        let variant = self.variant.as_deref();
        if self.architecture == "arm64" { variant.filter(|variant| *variant != "v8") } else { variant }
    }

    /// The manifest for this platform.
    ///
    /// # Errors
    /// [`Class::Platform`] if there is none, [`Class::ImageType`] if there are two.
    pub fn choose<'b>(&self, manifests: &'b [Blob], object: &str) -> Result<&'b Blob, Refusal> {
        let named: Vec<(&Blob, &Self)> =
            manifests.iter().filter_map(|blob| Some((blob, blob.platform.as_ref()?))).collect();
        // The variant that was asked for, or none where none was, before any other that would do.
        let is_exact = |found: &Self| self.takes(found) && self.plain_variant() == found.plain_variant();
        let has_exact = named.iter().any(|(_, found)| is_exact(found));
        let mut fitting = named
            .iter()
            .filter(|(_, found)| if has_exact { is_exact(found) } else { self.takes(found) })
            .map(|(blob, _)| *blob);
        let Some(first) = fitting.next() else {
            let there: Vec<String> = named.iter().take(16).map(|(_, found)| found.to_string()).collect();
            return Err(Refusal::new(Class::Platform, object, format!("a manifest for {self}"), there.join(", ")));
        };
        match fitting.find(|other| other.digest != first.digest) {
            None => Ok(first),
            Some(_) => Err(super::ambiguous(object, format!("one manifest for {self}"), "several")
                .with_hint("name the variant: --platform OS/ARCHITECTURE/VARIANT")),
        }
    }
}

impl Identity {
    /// What a pin asks for.
    ///
    /// # Errors
    /// [`Class::Manifest`] if the pin's platform is none.
    pub fn of_pin(pin: &ImagePin) -> Result<Self, Refusal> {
        let platform = pin.platform.parse().map_err(|error| {
            Refusal::new(
                Class::Manifest,
                format!("pin {}", pin.name),
                "a platform",
                format!("{}: {error}", pin.platform),
            )
        })?;
        Ok(Self { platform, config: pin.config, diff_ids: pin.diff_ids.clone() })
    }

    /// Whether this is the pinned image. `object` says where it was found.
    ///
    /// # Errors
    /// [`Class::Platform`] if it is for another platform, [`Class::Image`] if it is another image.
    pub fn must_be(&self, pin: &ImagePin, object: &str) -> Result<(), Refusal> {
        let pinned = Self::of_pin(pin)?;
        if !pinned.platform.takes(&self.platform) {
            return Err(Refusal::new(Class::Platform, object, pinned.platform, &self.platform));
        }
        if self.config != pinned.config {
            let expected = format!("config sha256:{}", pinned.config);
            return Err(Refusal::new(Class::Image, object, expected, format!("sha256:{}", self.config)));
        }
        if self.diff_ids != pinned.diff_ids {
            let same = self.diff_ids.iter().zip(&pinned.diff_ids).take_while(|(a, b)| a == b).count();
            let layers = format!("{} layers of which {same} are those, from the lowest on", self.diff_ids.len());
            let expected = format!("the {} pinned layers", pinned.diff_ids.len());
            return Err(Refusal::new(Class::Image, object, expected, layers));
        }
        Ok(())
    }
}

impl Launch {
    /// Whether a container is started as this image says, with nothing added and nothing replaced.
    ///
    /// # Errors
    /// [`Class::Launch`], naming the first difference.
    pub fn must_be(&self, expected: &Self, object: &str) -> Result<(), Refusal> {
        let list = |items: &[String]| format!("{items:?}").chars().take(300).collect::<String>();
        // The engine adds a search path where the image has none; everything else that was added counts.
        let added = self.env.iter().find(|item| !expected.env.contains(item) && !is_engine_default(item, expected));
        let lost = expected.env.iter().find(|item| !self.env.contains(item));
        let differs = if self.argv != expected.argv {
            Some(("command", list(&expected.argv), list(&self.argv)))
        } else if let Some(item) = added.or(lost) {
            // Values may be secrets: the name is enough to find it.
            let name = item.split('=').next().unwrap_or_default();
            Some(("environment", "that of the image".to_owned(), format!("another `{name}`")))
        } else if self.user != expected.user {
            Some(("user", format!("`{}`", expected.user), format!("`{}`", self.user)))
        } else if plain(&self.directory) != plain(&expected.directory) {
            Some(("working directory", format!("`{}`", expected.directory), format!("`{}`", self.directory)))
        } else {
            None
        };
        match differs {
            Some((what, expected, found)) => {
                Err(Refusal::new(Class::Launch, object, format!("the {what} {expected}"), found))
            }
            None => Ok(()),
        }
    }
}

fn plain(directory: &str) -> &str {
    if directory.is_empty() { "/" } else { directory }
}

fn is_engine_default(item: &str, image: &Launch) -> bool {
    let name = item.split('=').next().unwrap_or_default();
    let is_set = image.env.iter().any(|set| set.split('=').next() == Some(name));
    !is_set
        && matches!(name, "PATH" | "HOSTNAME" | "HOME" | "TERM" | "container")
        && (name != "PATH" || item == "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}
