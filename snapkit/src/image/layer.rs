//! Layers: unpacked and hashed on the way, as stored and as unpacked.
//!
//! Layer: operations.

use std::io::{self, Read, Write};

use manifests::digest::Digest;
use manifests::refusal::{Class, Refusal};
use sha2::{Digest as _, Sha256};

use super::document::Compression;
use super::resolve::{Layer, Place, Source};
use super::{ImageError, LAYERS_CAP_BYTES, ambiguous};
use crate::cancel::Cancel;

const BUFFER_BYTES: usize = 1 << 20;
/// The largest window of zstd that is decoded: 128 MiB, what its command line accepts too.
const WINDOW_LOG_MAX: u32 = 27;

/// Writes a layer as it is unpacked and returns its length, if both of its digests hold.
///
/// # Errors
/// [`Class::Hash`] and [`Class::Size`] for other bytes, [`Class::TooBig`] beyond `room` bytes, and what `out` gives.
pub(super) fn unpack(
    source: &dyn Source,
    layer: &Layer,
    room: u64,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<u64, ImageError> {
    let object = match &layer.place {
        Place::Blob { digest, .. } => format!("layer sha256:{digest} of {}", source.place()),
        Place::Name(name) => format!("layer {name} of {}", source.place()),
    };
    let mut raw = Hashing::new(source.layer(&layer.place)?);
    let copied = match layer.compression {
        Compression::None => copy(&mut raw, room, out, cancel),
        Compression::Gzip => copy(&mut flate2::read::MultiGzDecoder::new(&mut raw), room, out, cancel),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(&mut raw).map_err(ImageError::file(source.place()))?;
            decoder.window_log_max(WINDOW_LOG_MAX).map_err(ImageError::file(source.place()))?;
            copy(&mut decoder, room, out, cancel)
        }
    };
    if let Err(stop @ (Stop::TooBig | Stop::Cancelled(_) | Stop::Write(_))) = copied {
        return Err(stop.told(&object, &source.place()));
    }
    // What follows the compressed data is hashed too: the stored bytes as a whole have the digest.
    if let Place::Blob { digest, bytes } = &layer.place {
        let cap = bytes.saturating_add(1).saturating_sub(raw.bytes);
        io::copy(&mut (&mut raw).take(cap), &mut io::sink()).map_err(ImageError::file(source.place()))?;
        if raw.bytes != *bytes {
            let found = if raw.bytes > *bytes { "more".to_owned() } else { raw.bytes.to_string() };
            return Err(Refusal::new(Class::Size, object, format!("{bytes} bytes"), found).into());
        }
        let found = raw.digest();
        if found != *digest {
            return Err(Refusal::new(Class::Hash, object, "bytes that hash to this", format!("sha256:{found}")).into());
        }
    }
    let (diff_id, bytes) = copied.map_err(|stop| stop.told(&object, &source.place()))?;
    if diff_id != layer.diff_id {
        let expected = format!("a layer that unpacks to sha256:{}", layer.diff_id);
        return Err(Refusal::new(Class::Hash, object, expected, format!("sha256:{diff_id}")).into());
    }
    Ok(bytes)
}

/// Hashes every layer and keeps none.
///
/// # Errors
/// As [`unpack`].
pub(super) fn check(source: &dyn Source, layers: &[Layer], cancel: &Cancel) -> Result<u64, ImageError> {
    let mut total = 0;
    for layer in layers {
        total += unpack(source, layer, LAYERS_CAP_BYTES - total, &mut io::sink(), cancel)?;
    }
    Ok(total)
}

/// Why copying stopped.
enum Stop {
    TooBig,
    Cancelled(crate::cancel::Cancelled),
    Read(io::Error),
    Write(io::Error),
}

impl Stop {
    fn told(self, object: &str, place: &str) -> ImageError {
        match self {
            Self::TooBig => {
                let expected = format!("layers of at most {LAYERS_CAP_BYTES} bytes in one image");
                Refusal::new(Class::TooBig, object, expected, "more").into()
            }
            Self::Cancelled(cancelled) => cancelled.into(),
            Self::Read(error) => ambiguous(object, "a layer that can be unpacked as its type says", error).into(),
            Self::Write(source) => ImageError::File { path: place.into(), source },
        }
    }
}

fn copy(from: &mut dyn Read, room: u64, out: &mut dyn Write, cancel: &Cancel) -> Result<(Digest, u64), Stop> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    loop {
        cancel.check().map_err(Stop::Cancelled)?;
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok((Digest(hasher.finalize().into()), bytes)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::Read(error)),
        };
        bytes += count as u64;
        if bytes > room {
            return Err(Stop::TooBig);
        }
        hasher.update(&buffer[..count]);
        out.write_all(&buffer[..count]).map_err(Stop::Write)?;
    }
}

/// Hashes and counts what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new(), bytes: 0 }
    }

    fn digest(&mut self) -> Digest {
        Digest(self.hasher.finalize_reset().into())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
