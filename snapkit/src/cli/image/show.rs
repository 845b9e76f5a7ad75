//! `snapkit image show`: what a pin, an archive or a record says.

use std::io::{self, Write};
use std::path::Path;

use clap::Args;
use jiff::Timestamp;
use manifests::document::image::ImagePin;
use serde::Serialize;
use snapkit::image::archive::Archive;
use snapkit::image::identity::Platform;
use snapkit::image::keep;

use super::{not_found, read_pin, refused};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::{Bytes, Report};
use crate::cli::session::Session;

/// Show the images of the chain, or one of them, or what is in a pin file or an archive
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// A record of the chain: number, name of the image, or digest; or the path of a pin file, archive or layout
    #[arg(value_name = "IMAGE|PATH")]
    which: Option<String>,
    /// Of an archive for several platforms, show this one
    #[arg(long)]
    platform: Option<Platform>,
}

#[derive(Debug, Serialize)]
struct Shown {
    images: Vec<One>,
}

#[derive(Debug, Serialize)]
struct One {
    pin: ImagePin,
    /// Of a record alone.
    time: Option<Timestamp>,
    bytes: Option<u64>,
    packs: Option<u64>,
    pack_bytes: Option<u64>,
}

impl One {
    fn of_pin(pin: ImagePin) -> Self {
        Self { pin, time: None, bytes: None, packs: None, pack_bytes: None }
    }

    fn of_record(found: &keep::Found) -> Self {
        let public = &found.body.state.public;
        Self {
            pin: found.pin(),
            time: Some(found.time),
            bytes: Some(public.bytes),
            packs: Some(public.packs.count),
            pack_bytes: Some(public.packs.bytes),
        }
    }
}

impl Report for Shown {
    const SCHEMA: &'static str = "snapkit.image-show/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for one in &self.images {
            write_pin(&one.pin, out)?;
            if let (Some(time), Some(bytes), Some(packs)) = (one.time, one.bytes, one.packs) {
                writeln!(out, "  kept {time}, {} in {packs} packs", Bytes(bytes))?;
            }
        }
        Ok(())
    }
}

/// Everything a pin says, for people.
pub(super) fn write_pin(pin: &ImagePin, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} {} for {}", pin.name, pin.reference, pin.platform)?;
    for (what, digest) in [("index", pin.index), ("manifest", pin.manifest), ("config", Some(pin.config))] {
        digest.iter().try_for_each(|digest| writeln!(out, "  {what:<8} sha256:{digest}"))?;
    }
    pin.diff_ids.iter().try_for_each(|id| writeln!(out, "  layer    sha256:{id}"))?;
    match &pin.archive {
        Some(record) => writeln!(out, "  archive  record {} {}", record.seq, record.digest),
        None => Ok(()),
    }
}

pub(super) fn run(args: &ShowArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let path = args.which.as_deref().map(Path::new).filter(|path| path.exists());
    let images = match (&args.which, path) {
        (_, Some(path)) if is_pin(path) => vec![One::of_pin(read_pin(path)?)],
        (_, Some(path)) => {
            let image = Archive::open(path)?.image(None, args.platform.as_ref()).map_err(not_found)?;
            vec![One::of_pin(image.pin("image", &path.display().to_string()))]
        }
        (Some(which), None) => {
            let opened = Opened::new(session)?;
            vec![One::of_record(&keep::find(&opened.chain()?, which).map_err(refused)?)]
        }
        (None, None) => {
            let opened = Opened::new(session)?;
            let all = keep::list(&opened.chain()?, &session.cancel).map_err(refused)?;
            if all.is_empty() {
                session.out.note(format_args!("the chain holds no image; `snapkit image pin --keep` puts one there"));
            }
            all.iter().map(One::of_record).collect()
        }
    };
    session.out.report(&Shown { images })?;
    Ok(Exit::DONE)
}

/// Whether a file is JSON, which no archive begins as.
fn is_pin(path: &Path) -> bool {
    use std::io::Read;
    let mut first = [0; 64];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut first));
    let is_brace = |byte: &&u8| !byte.is_ascii_whitespace();
    path.is_file() && read.is_ok_and(|count| first[..count].iter().find(is_brace) == Some(&b'{'))
}
