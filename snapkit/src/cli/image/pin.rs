//! `snapkit image pin`: from a name to what the image is.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use manifests::document::image::ImagePin;
use manifests::document::is_name;
use serde::Serialize;
use snapkit::image::ImageError;
use snapkit::image::archive::Archive;
use snapkit::image::identity::Platform;
use snapkit::image::keep::{Keeper, Kept};
use snapkit::image::registry::Registry;
use snapkit::image::resolve::{Resolved, Source};

use super::{RegistryArgs, engine, not_found, refused};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::{Bytes, Report};
use crate::cli::session::Session;
use crate::cli::signer_options::SignerOptions;
use crate::cli::snapshot::host_name;

/// Find out what an image is, and pin it
///
/// The reference is asked of its registry; with --engine of a running engine, with --archive of a file or directory. An
/// image that comes from no registry is kept in the chain too, so that every node can get it.
#[derive(Debug, Args)]
pub(super) struct PinArgs {
    /// How the service calls the image
    name: String,
    /// Reference of the image, such as registry.example/app:prod
    reference: String,
    /// Take it from this OCI layout or archive, or file of `docker save`
    #[arg(long, value_name = "PATH", conflicts_with = "engine")]
    archive: Option<PathBuf>,
    /// Take it from this engine: docker, podman, or the path of such a command
    #[arg(long, value_name = "COMMAND")]
    engine: Option<String>,
    /// Platform as OS/ARCHITECTURE[/VARIANT] [default: that of the only image, or of this machine]
    #[arg(long)]
    platform: Option<Platform>,
    /// Keep the image's archive in the chain [default: if it comes from no registry]
    #[arg(long, overrides_with = "no_keep")]
    keep: bool,
    /// Keep nothing in the chain
    #[arg(long, overrides_with = "keep")]
    no_keep: bool,
    /// Write the pin to this new file, as `image check` reads it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name of this node in the record; default: the host name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    #[command(flatten)]
    signer: SignerOptions,
    #[command(flatten)]
    registry: RegistryArgs,
}

#[derive(Debug, Serialize)]
struct Pinned {
    pin: ImagePin,
    /// As it was found; an archive's manifest is not that of a registry.
    packed: Packed,
    kept: Option<KeptShown>,
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Packed {
    index: Option<String>,
    manifest: Option<String>,
}

#[derive(Debug, Serialize)]
struct KeptShown {
    seq: u64,
    id: String,
    layer_bytes: u64,
    stored_bytes: u64,
    new_objects: u64,
}

impl Report for Pinned {
    const SCHEMA: &'static str = "snapkit.image-pin/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        super::show::write_pin(&self.pin, out)?;
        if let Some(kept) = &self.kept {
            let (all, stored) = (Bytes(kept.layer_bytes), Bytes(kept.stored_bytes));
            writeln!(
                out,
                "  kept in record {}: {all} of layers, stored as {stored} in {} objects",
                kept.seq, kept.new_objects
            )?;
        }
        self.out.iter().try_for_each(|file| writeln!(out, "  written to {}", file.display()))
    }
}

pub(super) fn run(args: &PinArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    if !is_name(&args.name) {
        return Err(CliError::usage(format!("{:?} is no name for an image", args.name))
            .next("a name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit"));
    }
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        return Err(
            CliError::refused(format!("{} is there already", out.display())).next("name another file, or remove it")
        );
    }
    let is_local = args.archive.is_some() || args.engine.is_some();
    let keeps = args.keep || is_local && !args.no_keep;
    // A store that cannot be used stops the run before anything is fetched.
    let opened = keeps.then(|| Opened::new(session)).transpose()?;
    let scratch = session.config.cache.value.join("scratch");
    let mut saved = None;
    let registry;
    let archive;
    let (source, image): (&dyn Source, Resolved) = match (&args.archive, &args.engine) {
        (Some(path), _) => {
            archive = Archive::open(path)?;
            let image = of_archive(&archive, &args.reference, args.platform.as_ref()).map_err(not_found)?;
            archive.check_layers(&image, &session.cancel)?;
            (&archive, image)
        }
        (None, Some(program)) => {
            let engine = engine(Some(program), session)?;
            let (directory, image, file) = engine.save(&args.reference, &scratch).map_err(not_found)?;
            archive = file;
            saved = Some(directory);
            if let Some(asked) = args.platform.as_ref().filter(|asked| !asked.takes(&image.config.platform)) {
                let found = &image.config.platform;
                return Err(CliError::no(format!("{} of {program} is for {found}, not for {asked}", args.reference)));
            }
            archive.check_layers(&image, &session.cancel)?;
            (&archive, image)
        }
        (None, None) => {
            registry = Registry::open(&args.reference, &args.registry.access(&args.reference)?).map_err(not_found)?;
            let image = registry.image(args.platform.as_ref()).map_err(not_found)?;
            (&registry, image)
        }
    };
    let packed = Packed { index: image.index.map(|d| d.to_string()), manifest: image.manifest.map(|d| d.to_string()) };
    let mut pin = image.pin(&args.name, &args.reference);
    if is_local {
        (pin.index, pin.manifest) = (None, None);
    }
    pin.check("the new pin")?;
    let kept = opened.map(|opened| keep(args, session, &opened, source, &image, &pin)).transpose()?;
    drop(saved);
    if let Some(kept) = &kept {
        pin = kept.pin.clone();
    }
    if let Some(out) = &args.out {
        let text = serde_json::to_string_pretty(&pin)? + "\n";
        let write = |mut file: std::fs::File| file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        std::fs::File::create_new(out)
            .and_then(write)
            .map_err(|error| CliError::from(error).context(format!("cannot write {}", out.display())))?;
    }
    let kept = kept.map(|kept| KeptShown {
        seq: kept.committed.seq,
        id: kept.committed.digest.to_string(),
        layer_bytes: kept.layer_bytes,
        stored_bytes: kept.stored_bytes,
        new_objects: kept.new_objects,
    });
    session.out.report(&Pinned { pin, packed, kept, out: args.out.clone() })?;
    Ok(Exit::DONE)
}

/// The image of that name, or the only one there is under whatever name.
fn of_archive(archive: &Archive, reference: &str, platform: Option<&Platform>) -> Result<Resolved, ImageError> {
    match archive.image(Some(reference), platform) {
        Err(ImageError::NotFound { .. }) => archive.image(None, platform),
        found => found,
    }
}

fn keep(
    args: &PinArgs,
    session: &mut Session<'_>,
    opened: &Opened,
    source: &dyn Source,
    image: &Resolved,
    pin: &ImagePin,
) -> Result<Kept, CliError> {
    let node = args.node.clone().unwrap_or_else(host_name);
    let chain = opened.chain()?;
    let signer = args.signer.for_role("writer", chain.root(), &opened.trust, &opened.pin.root, &session.cancel)?;
    let (progress, reporter) = session.show_progress();
    let keeper = Keeper {
        chain: &chain,
        cache: opened.cache(),
        signer: &*signer,
        node: &node,
        level: session.config.snapshot.compression_level.value,
        cancel: &session.cancel,
        progress: &progress,
    };
    let kept = keeper.keep(source, image, pin).map_err(refused)?;
    drop(reporter);
    for warning in &kept.committed.warnings {
        session.out.warn(format_args!("{warning}"));
    }
    Ok(kept)
}
