//! Images: whether the engine has what the pins name, and bringing it from the chain or a registry where it has not.
//!
//! A name proves nothing: whatever the engine has, loads or pulls is compared by config digest and diff ids afterwards.
//! The chain is asked before a registry, because it is what was verified. Documented in `docs/bring-up.md`, "Images".
//! Layer: joins `snapkit::image` with the pins.

use std::path::{Path, PathBuf};

use manifests::document::image::ImagePin;
use manifests::document::pins::Pins;
use snapkit::cancel::Cancel;
use snapkit::chain::Chain;
use snapkit::image::engine::Engine;
use snapkit::image::identity::{Identity, Platform};
use snapkit::image::keep::{self, Found, KeepError};
use snapkit::image::registry::{Access, Registry, login_of, tag_of};
use snapkit::image::scratch::Scratch;
use snapkit::image::{ImageError, export};
use snapkit::progress::Progress;

use super::BringUpError;
use super::prerequisites::Prerequisite;

/// A pinned image that the service runs, and where it can be had.
#[derive(Debug)]
pub struct Pinned {
    /// The pin.
    pub pin: ImagePin,
    /// Where it is; or why it is nowhere.
    pub place: Result<Place, String>,
}

/// Where an image is.
#[derive(Debug)]
pub enum Place {
    /// The engine has it, under this name.
    Engine(String),
    /// A record of the chain holds its archive.
    Chain(Box<Found>),
    /// Its registry has it, under this name.
    Registry(String),
}

impl Place {
    /// Where, in words.
    pub fn describe(&self) -> String {
        match self {
            Self::Engine(name) => format!("in the engine, as {name}"),
            Self::Chain(found) => format!("in the chain, record {}", found.seq),
            Self::Registry(name) => format!("in its registry, as {name}"),
        }
    }
}

impl Pinned {
    /// The line of the list.
    pub fn prerequisite(&self) -> Prerequisite {
        let what = format!("the image {}, config sha256:{}", self.pin.name, self.pin.config);
        match &self.place {
            Ok(place) => Prerequisite::found("image", what, place.describe()),
            Err(why) => {
                let next = "install docker or podman, or put the image into the chain with `snapkit image pin --keep`";
                Prerequisite::lacking("image", what, why.clone(), next)
            }
        }
    }
}

/// Where images are looked for.
pub struct Places<'a> {
    /// The engine, if there is one.
    pub engine: Option<Engine>,
    /// The chain.
    pub chain: &'a Chain<'a>,
    /// A directory for what is unpacked.
    pub scratch: PathBuf,
    /// Files with logins for registries.
    pub logins: &'a [PathBuf],
    /// The request to stop.
    pub cancel: &'a Cancel,
}

impl Places<'_> {
    /// Looks for every image that the service runs.
    pub fn look(&self, pins: &Pins) -> Vec<Pinned> {
        let named = pins.service.iter().flat_map(|service| &service.images);
        let pinned = named.filter_map(|name| pins.images.iter().find(|image| image.name == *name));
        pinned.map(|pin| Pinned { pin: pin.clone(), place: self.find(pin).map_err(|why| why.join("; ")) }).collect()
    }

    fn find(&self, pin: &ImagePin) -> Result<Place, Vec<String>> {
        let Some(engine) = &self.engine else {
            return Err(vec!["there is neither docker nor podman to run it".to_owned()]);
        };
        let mut problems = Vec::new();
        for name in names(pin) {
            match self.identified(engine, &name, pin) {
                Ok(()) => return Ok(Place::Engine(name)),
                Err(ImageError::NotFound { .. }) => {}
                Err(error) => problems.push(said(&error)),
            }
        }
        match pin.archive.as_ref().map(|_| keep::of_pin(self.chain, pin)) {
            Some(Ok(found)) => return Ok(Place::Chain(Box::new(found))),
            Some(Err(error)) => problems.push(said(&error)),
            None => problems.push("its pin names no record of the chain".to_owned()),
        }
        match self.in_registry(pin) {
            Ok(name) => return Ok(Place::Registry(name)),
            Err(error) => problems.push(said(&error)),
        }
        Err(problems)
    }

    fn identified(&self, engine: &Engine, name: &str, pin: &ImagePin) -> Result<(), ImageError> {
        let object = format!("{name} in {}", engine.program());
        Ok(engine.identify(name, Some(pin), &self.scratch)?.must_be(pin, &object)?)
    }

    /// The name under which a registry has the image now.
    fn in_registry(&self, pin: &ImagePin) -> Result<String, ImageError> {
        let name = by_digest(pin).unwrap_or_else(|| pin.reference.clone());
        let login = self.logins.iter().find_map(|file| login_of(file, &name).ok().flatten());
        let registry = Registry::open(&name, &Access { plain_http: is_loopback(&name), login })?;
        let platform: Platform = Identity::of_pin(pin)?.platform;
        registry.image(Some(&platform))?.identity().must_be(pin, &name)?;
        Ok(name)
    }

    /// Has the engine hold an image, and looks at what it then has. Gives the name by which it has it.
    ///
    /// # Errors
    /// [`BringUpError::Image`], [`BringUpError::Keep`].
    pub fn bring(&self, image: &Pinned, progress: &Progress) -> Result<String, BringUpError> {
        let failed = |source| BringUpError::Image { image: image.pin.name.clone(), source };
        let (Some(engine), Ok(place)) = (&self.engine, &image.place) else {
            unreachable!("whatever is nowhere was listed as missing");
        };
        let name = match place {
            Place::Engine(name) => return Ok(name.clone()),
            Place::Registry(name) => {
                progress.start_phase("pulling images");
                engine.pull(name).map_err(failed)?;
                name.clone()
            }
            Place::Chain(found) => {
                let kept = |source| BringUpError::Keep { image: image.pin.name.clone(), source: Box::new(source) };
                self.load(engine, found, &image.pin, progress).map_err(kept)?
            }
        };
        // Whatever the engine says it did: what it has now is looked at.
        self.identified(engine, &name, &image.pin).map_err(failed)?;
        Ok(name)
    }

    fn load(&self, engine: &Engine, found: &Found, pin: &ImagePin, progress: &Progress) -> Result<String, KeepError> {
        progress.start_phase("loading images");
        let directory = Scratch::new(&self.scratch)?;
        let (_kept, layout, image) = keep::bring_back(self.chain, found, &self.scratch, self.cancel, progress)?;
        let tag = tag_of(&found.body.image.reference).unwrap_or_default();
        let path = directory.path().join("archive.tar");
        write_to(&path, |file| export(&layout, &image, tag.as_deref(), file, self.cancel).map(drop))?;
        engine.load(&path)?;
        Ok(tag.unwrap_or_else(|| format!("sha256:{}", pin.config)))
    }
}

fn write_to(path: &Path, write: impl FnOnce(&mut std::fs::File) -> Result<(), ImageError>) -> Result<(), ImageError> {
    let failed = |source| ImageError::File { path: path.to_owned(), source };
    write(&mut std::fs::File::create_new(path).map_err(failed)?)
}

/// Names under which an engine may have an image, the surest first.
fn names(pin: &ImagePin) -> Vec<String> {
    by_digest(pin).into_iter().chain([format!("sha256:{}", pin.config), pin.reference.clone()]).collect()
}

/// The reference by the digest of the index or manifest that was pinned.
fn by_digest(pin: &ImagePin) -> Option<String> {
    let digest = pin.index.or(pin.manifest)?;
    Some(format!("{}@sha256:{digest}", repository(&pin.reference)))
}

/// A reference without tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or(reference);
    match name.rsplit_once(':') {
        // A colon before the last slash is that of a port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// Whether the registry is on this machine: engines ask such a one without TLS, too.
fn is_loopback(reference: &str) -> bool {
    let host = reference.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    host == "localhost" || host.starts_with("127.")
}

/// An error with its causes, in one line.
fn said(error: &dyn std::error::Error) -> String {
    let causes: Vec<String> =
        std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_told_from_its_tag_and_port() {
        for (reference, name) in [
            ("registry.example/app:prod", "registry.example/app"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app"),
            ("127.0.0.1:5000/app:1@sha256:00", "127.0.0.1:5000/app"),
            ("app", "app"),
        ] {
            assert_eq!(repository(reference), name, "{reference}");
        }
        assert!(is_loopback("127.0.0.1:5000/app") && is_loopback("localhost/app"));
        assert!(!is_loopback("registry.example:5000/app"));
    }
}
