//! `snapkit image export` and `load`: an image out of the chain, into a file or into an engine.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use manifests::document::image::ImagePin;
use serde::Serialize;
use snapkit::image::keep::{self, Found};
use snapkit::image::scratch::Scratch;
use snapkit::image::{ImageError, export as write_archive};

use super::{engine, not_found, read_pin, refused};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::session::Session;

/// Which image of the chain.
#[derive(Debug, Args)]
struct Which {
    /// Record of the chain: number, name of the image (the newest of it), or digest
    #[arg(required_unless_present = "pin")]
    image: Option<String>,
    /// The image of this pin, from the record that it names
    #[arg(long, value_name = "PIN-FILE", conflicts_with = "image")]
    pin: Option<PathBuf>,
    /// Name it gets in the archive, and in an engine [default: the reference it was pinned under]
    #[arg(long, value_name = "REFERENCE")]
    tag: Option<String>,
}

/// Write an image of the chain to a file that engines load
///
/// The file is an OCI archive and what `docker save` writes at the same time.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    which: Which,
    /// File to make
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Load an image of the chain into an engine, and check what the engine made of it
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    which: Which,
    /// The engine: docker, podman, or the path of such a command [default: docker, else podman]
    #[arg(long, value_name = "COMMAND")]
    engine: Option<String>,
}

#[derive(Debug, Serialize)]
struct Fetched {
    pin: ImagePin,
    tag: Option<String>,
    file: Option<PathBuf>,
    engine: Option<String>,
}

impl Report for Fetched {
    const SCHEMA: &'static str = "snapkit.image-fetch/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = self.tag.as_deref().unwrap_or("an image without a name");
        match (&self.file, &self.engine) {
            (Some(file), _) => writeln!(out, "wrote {name} to {}", file.display())?,
            (None, Some(engine)) => writeln!(out, "loaded {name} into {engine} and checked it")?,
            (None, None) => {}
        }
        super::show::write_pin(&self.pin, out)
    }
}

pub(super) fn export(args: &ExportArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    if args.out.exists() {
        let sentence = format!("{} is there already", args.out.display());
        return Err(CliError::refused(sentence).next("name another file, or remove it"));
    }
    let beside = args.out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (found, tag, file) = archive_file(&args.which, beside, session)?;
    // It appears whole or not at all.
    file.as_file().sync_all()?;
    file.persist_noclobber(&args.out)
        .map_err(|error| CliError::from(error.error).context(format!("cannot write {}", args.out.display())))?;
    session.out.report(&Fetched { pin: found.pin(), tag, file: Some(args.out.clone()), engine: None })?;
    Ok(Exit::DONE)
}

pub(super) fn load(args: &LoadArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let engine = engine(args.engine.as_deref(), session)?;
    let scratch = session.config.cache.value.join("scratch");
    let directory = Scratch::new(&scratch)?;
    let (found, tag, file) = archive_file(&args.which, directory.path(), session)?;
    engine.load(file.path())?;
    drop((file, directory));
    let pin = found.pin();
    // Whatever the engine says it did: what it has now is looked at.
    let name = tag.clone().unwrap_or_else(|| format!("sha256:{}", pin.config));
    let object = format!("{name} in {}", engine.program());
    let identity = engine.identify(&name, Some(&pin), &scratch).map_err(not_found)?;
    identity.must_be(&pin, &object)?;
    session.out.report(&Fetched { pin, tag, file: None, engine: Some(engine.program().to_owned()) })?;
    Ok(Exit::DONE)
}

/// Brings an image back and writes its archive to a file in `directory` that lasts until it is dropped.
fn archive_file(
    which: &Which,
    directory: &Path,
    session: &mut Session<'_>,
) -> Result<(Found, Option<String>, tempfile::NamedTempFile), CliError> {
    let pin = which.pin.as_deref().map(read_pin).transpose()?;
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let found = match (&pin, &which.image) {
        (Some(pin), _) => keep::of_pin(&chain, pin),
        (None, Some(image)) => keep::find(&chain, image),
        (None, None) => return Err(CliError::usage("no image is named")),
    };
    let found = found.map_err(refused)?;
    let tag = tag(which, &found.body.image.reference)?;
    let (progress, reporter) = session.show_progress();
    let scratch = opened.cache().join("scratch");
    let (kept, layout, image) =
        keep::bring_back(&chain, &found, &scratch, &session.cancel, &progress).map_err(refused)?;
    let mut file = tempfile::Builder::new()
        .prefix(".snapkit-image-")
        .tempfile_in(directory)
        .map_err(|error| CliError::from(error).context(format!("cannot make a file in {}", directory.display())))?;
    write_archive(&layout, &image, tag.as_deref(), file.as_file_mut(), &session.cancel)?;
    drop((kept, reporter));
    Ok((found, tag, file))
}

/// The name to load it under. A digest is no name that an image can be given.
fn tag(which: &Which, reference: &str) -> Result<Option<String>, CliError> {
    if let Some(tag) = &which.tag {
        return match snapkit::image::registry::tag_of(tag) {
            Ok(Some(tag)) => Ok(Some(tag)),
            Ok(None) => Err(CliError::usage(format!("--tag {tag} names a digest, not a tag"))),
            Err(error @ ImageError::Reference { .. }) => Err(not_found(error)),
            Err(error) => Err(error.into()),
        };
    }
    Ok(snapkit::image::registry::tag_of(reference).unwrap_or_default())
}
