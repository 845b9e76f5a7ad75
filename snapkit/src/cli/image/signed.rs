//! The images of signed pins or of a manifest, for `image check`.
//!
//! Both are verified down from the pin of the root before any image is looked at. Which of the two a file holds is told by
//! what it says of itself, and verified as that. Documented in `docs/images.md`, "Check".

use std::io::Read;
use std::path::Path;

use manifests::document::image::ImagePin;
use manifests::document::manifest::MANIFEST_CAP;
use manifests::document::pins::{PAYLOAD_TYPE, Pins, VerifiedPins};
use manifests::envelope::Nested;
use manifests::freshness;
use manifests::refusal::{Class, Refusal};
use snapkit::manifest::Expiry;
use snapkit::trust::Judge;

use crate::cli::exit_code::CliError;
use crate::cli::manifest::target::TargetArgs;
use crate::cli::opened::Opened;
use crate::cli::pins::explained;
use crate::cli::session::Session;

/// The images of what is named, which must have those called `wanted`; all of them if that is empty.
pub(super) fn images(
    named: &str,
    name: Option<&str>,
    wanted: &[String],
    session: &Session<'_>,
) -> Result<Vec<ImagePin>, CliError> {
    let pins = match signed_pins(Path::new(named))? {
        Some(bytes) => verified(&bytes, name, named, session)?,
        None => TargetArgs::of(named, name).find(session)?.follow(Expiry::RefuseStale).map_err(explained)?.pins,
    };
    let images = pins.pins.images;
    let pinned = || images.iter().map(|image| image.name.as_str()).collect::<Vec<_>>().join(", ");
    // To have compared nothing is not to have found everything right.
    if images.is_empty() {
        return Err(
            CliError::usage(format!("{named} pins no image")).next("`snapkit manifest show` shows what it pins")
        );
    }
    if let Some(absent) = wanted.iter().find(|wanted| images.iter().all(|image| image.name != **wanted)) {
        return Err(CliError::usage(format!("{named} pins no image {absent}")).next(format!("it pins {}", pinned())));
    }
    Ok(images.into_iter().filter(|image| wanted.is_empty() || wanted.contains(&image.name)).collect())
}

/// The bytes of a local file that says it holds pins; nothing is verified.
fn signed_pins(path: &Path) -> Result<Option<Vec<u8>>, CliError> {
    if !path.is_file() {
        return Ok(None);
    }
    let object = path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MANIFEST_CAP as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| CliError::from(error).context(format!("cannot read {object}")))?;
    let (payload_type, _) = Nested::read(&bytes, MANIFEST_CAP, &object)?.unverified(&object)?;
    Ok((payload_type == PAYLOAD_TYPE).then_some(bytes))
}

/// Pins that are believed: by the newest root of the configured store, in turn, and not expired.
fn verified(bytes: &[u8], name: Option<&str>, object: &str, session: &Session<'_>) -> Result<VerifiedPins, CliError> {
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let judge = Judge { pin: &opened.pin.root, root: chain.root(), chain: &chain.id() };
    let pins = Pins::verify(bytes, judge.root, judge.chain, name, object)?;
    if let Some(known) = opened.trust.kept_pins(&judge, &pins.pins.name)? {
        freshness::check_pins_succession(&pins, &known, object)?;
    }
    if pins.pins.expires <= chain.now() {
        let found = format!("pins that expired at {}", pins.pins.expires);
        return Err(Refusal::new(Class::Stale, object, "pins that are valid now", found).into());
    }
    Ok(pins)
}
