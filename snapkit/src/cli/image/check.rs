//! `snapkit image check`: is what is here, and what runs here, what was pinned?

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use manifests::document::image::ImagePin;
use manifests::refusal::{Class, Refusal};
use serde::Serialize;
use snapkit::image::ImageError;
use snapkit::image::archive::Archive;
use snapkit::image::engine::{Container, Engine};
use snapkit::image::registry::{Registry, is_same_name};

use super::{RegistryArgs, engine, not_found, read_pin, signed};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::manifest::target::TargetArgs;
use crate::cli::output::Report;
use crate::cli::session::Session;

/// Compare what an engine has and runs with pins
///
/// The image is looked up under the reference of its pin. Of every running container that was created from that
/// reference, or is named with --container, the image it was created from is compared, not what the name means now.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// Files with pins, as `image pin --out` writes them
    #[arg(required_unless_present = "signed", value_name = "PIN-FILE")]
    pins: Vec<PathBuf>,
    /// Check every image of this: a file with signed pins, or a manifest's file, URL or store; can be repeated. It is
    /// verified first, and a manifest must be fresh
    #[arg(long, value_name = "FILE-OR-URL")]
    signed: Vec<String>,
    /// Name of the manifest, or of the pins, with --signed
    #[arg(long, value_name = "NAME", requires = "signed")]
    name: Option<String>,
    /// Of --signed only the image with this name; can be repeated
    #[arg(long, value_name = "IMAGE", requires = "signed")]
    image: Vec<String>,
    /// The engine: docker, podman, or the path of such a command [default: docker, else podman]
    #[arg(long, value_name = "COMMAND")]
    engine: Option<String>,
    /// This container must be created from the pinned image and run; can be repeated. With one pin only
    #[arg(long, value_name = "NAME")]
    container: Vec<String>,
    /// Containers must be started as the image says: command, environment, user, directory
    #[arg(long)]
    as_built: bool,
    /// Ask no engine: compare with this archive or layout
    #[arg(long, value_name = "PATH", conflicts_with_all = ["engine", "container", "as_built"])]
    archive: Option<PathBuf>,
    /// Ask no engine: compare with what the registry gives for the reference now
    #[arg(long, conflicts_with_all = ["engine", "container", "as_built", "archive"])]
    registry: bool,
    #[command(flatten)]
    access: RegistryArgs,
}

#[derive(Debug, Serialize)]
struct Checked {
    all_match: bool,
    checks: Vec<Check>,
}

/// One thing that was compared with one pin.
#[derive(Debug, Serialize)]
struct Check {
    image: String,
    what: String,
    matches: bool,
    class: Option<&'static str>,
    detail: Option<String>,
}

impl Report for Checked {
    const SCHEMA: &'static str = "snapkit.image-check/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for check in &self.checks {
            let verdict = check.class.unwrap_or("ok");
            writeln!(out, "{}: {}: {verdict}", check.image, check.what)?;
            check.detail.iter().try_for_each(|detail| writeln!(out, "  {detail}"))?;
        }
        Ok(())
    }
}

impl CheckArgs {
    /// The store that a signed document is named by.
    pub(super) fn place(&self) -> Option<String> {
        TargetArgs::of(self.signed.first()?, None).named_store()
    }
}

pub(super) fn run(args: &CheckArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let mut pins = args.pins.iter().map(|file| read_pin(file)).collect::<Result<Vec<_>, _>>()?;
    for named in &args.signed {
        pins.extend(signed::images(named, args.name.as_deref(), &args.image, session)?);
    }
    if !args.container.is_empty() && pins.len() > 1 {
        return Err(CliError::usage("a container is created from one image, and several pins were given"));
    }
    let mut results = Vec::new();
    for pin in &pins {
        session.cancel.check()?;
        if let Some(path) = &args.archive {
            let archive = Archive::open(path)?;
            let checked = of_archive(&archive, pin, session);
            results.push((pin, path.display().to_string(), settle(checked)?));
        } else if args.registry {
            let place = format!("{} in its registry", pin.reference);
            let registry = Registry::open(&pin.reference, &args.access.access(&pin.reference)?).map_err(not_found)?;
            let platform = super::platform_of(pin)?;
            let checked =
                registry.image(Some(&platform)).and_then(|image| Ok(image.identity().must_be(pin, &place)?));
            results.push((pin, place, settle(checked)?));
        } else {
            of_engine(args, pin, session, &mut results)?;
        }
    }
    let first = results.iter().find_map(|(_, _, result)| result.clone().err());
    let checks = results.into_iter().map(|(pin, what, result)| Check {
        image: pin.name.clone(),
        what,
        matches: result.is_ok(),
        class: result.as_ref().err().map(|refusal| refusal.class().name()),
        detail: result.err().map(|refusal| format!("expected {}, found {}", refusal.expected(), refusal.found())),
    });
    session.out.report(&Checked { all_match: first.is_none(), checks: checks.collect() })?;
    first.map_or(Ok(Exit::DONE), |refusal| Err(refusal.into()))
}

type Results<'p> = Vec<(&'p ImagePin, String, Result<(), Refusal>)>;

/// A refusal is an answer, everything else stops the run.
fn settle(checked: Result<(), ImageError>) -> Result<Result<(), Refusal>, CliError> {
    match checked {
        Ok(()) => Ok(Ok(())),
        Err(ImageError::Refused(refusal)) => Ok(Err(*refusal)),
        Err(ImageError::NotFound { image, place }) => {
            let found = format!("no image {image}");
            Ok(Err(Refusal::new(Class::Image, place, "the pinned image", found)))
        }
        Err(error) => Err(not_found(error)),
    }
}

fn of_archive(archive: &Archive, pin: &ImagePin, session: &Session<'_>) -> Result<(), ImageError> {
    let platform = super::platform_of(pin)?;
    let image = match archive.image(Some(&pin.reference), Some(&platform)) {
        Err(ImageError::NotFound { .. }) => archive.image(None, Some(&platform))?,
        found => found?,
    };
    image.identity().must_be(pin, &format!("the image in {}", snapkit::image::resolve::Source::place(archive)))?;
    archive.check_layers(&image, &session.cancel).map(drop)
}

fn of_engine<'p>(
    args: &CheckArgs,
    pin: &'p ImagePin,
    session: &Session<'_>,
    results: &mut Results<'p>,
) -> Result<(), CliError> {
    let engine = engine(args.engine.as_deref(), session)?;
    let scratch = session.config.cache.value.join("scratch");
    let object = format!("{} in {}", pin.reference, engine.program());
    let checked =
        engine.identify(&pin.reference, Some(pin), &scratch).and_then(|identity| Ok(identity.must_be(pin, &object)?));
    results.push((pin, object, settle(checked)?));
    let containers = if args.container.is_empty() {
        engine.running()?.into_iter().filter(|one| is_same_name(&one.reference, &pin.reference)).collect()
    } else {
        let named = args.container.iter().map(|name| engine.container(name));
        named.collect::<Result<Vec<_>, _>>().map_err(not_found)?
    };
    for container in containers {
        let object = format!("container {}", container.name);
        let checked = of_container(args, pin, &engine, &container, &object, &scratch);
        results.push((pin, object, settle(checked)?));
    }
    Ok(())
}

fn of_container(
    args: &CheckArgs,
    pin: &ImagePin,
    engine: &Engine,
    container: &Container,
    object: &str,
    scratch: &std::path::Path,
) -> Result<(), ImageError> {
    let another = |found: String| {
        let expected = format!("to be created from config sha256:{}", pin.config);
        ImageError::from(Refusal::new(Class::ImageRunning, object, expected, found))
    };
    // The image's own id says it where the engine calls images by their config; else the image is looked at.
    if container.image != pin.config {
        let image = format!("sha256:{}", container.image);
        match engine.identify(&image, Some(pin), scratch) {
            Ok(identity) => identity.must_be(pin, object).map_err(|refusal| another(refusal.found().to_owned()))?,
            Err(ImageError::NotFound { .. }) => return Err(another(format!("{image}, which is no longer there"))),
            Err(error) => return Err(error),
        }
    }
    if !container.running && !args.container.is_empty() {
        return Err(Refusal::new(Class::ImageRunning, object, "to run", "it does not").into());
    }
    if args.as_built {
        let image = engine.inspect(&format!("sha256:{}", container.image))?;
        container.launch.must_be(&image.launch, object)?;
    }
    Ok(())
}
