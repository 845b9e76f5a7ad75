//! What lies where in a tar file, so that members can be read in any order.
//!
//! A member that comes twice, a path that leaves the archive and a link to nothing are refused: engines differ on which
//! of two members counts. Layer: operations.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use manifests::refusal::{Class, Refusal};
use tar::EntryType;

use super::{ImageError, ambiguous};

/// The most members of one archive.
const MEMBERS_CAP: usize = 65_536;
/// The longest header about a header.
const EXTENSION_CAP: u64 = 64 << 10;

/// A tar file and its members.
pub(super) struct TarIndex {
    file: File,
    members: BTreeMap<String, Member>,
}

#[derive(Clone)]
enum Member {
    File { offset: u64, bytes: u64 },
    Link { target: String },
}

impl TarIndex {
    /// Reads all headers.
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        let object = path.display().to_string();
        let file = File::open(path).map_err(ImageError::file(path))?;
        let mut magic = [0; 4];
        let compressed = file.read_exact_at(&mut magic, 0).is_ok()
            && (magic.starts_with(&[0x1f, 0x8b]) || magic == [0x28, 0xb5, 0x2f, 0xfd]);
        if compressed {
            let hint = "decompress the archive first";
            return Err(ambiguous(object, "a tar file that is not compressed", "a compressed one")
                .with_hint(hint)
                .into());
        }
        check_extensions(&file, path)?;
        let mut members = BTreeMap::new();
        let mut reading = file.try_clone().map_err(ImageError::file(path))?;
        // The position is that of the file, wherever it was read before.
        reading.rewind().map_err(ImageError::file(path))?;
        let mut archive = tar::Archive::new(reading);
        let not_tar = |error: io::Error| ambiguous(&object, "a directory or a tar file that holds an image", error);
        for entry in archive.entries_with_seek().map_err(not_tar)? {
            let entry = entry.map_err(not_tar)?;
            let name = member_name(&entry.path_bytes(), &object)?;
            let member = match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {
                    Member::File { offset: entry.raw_file_position(), bytes: entry.size() }
                }
                EntryType::Symlink => {
                    let target = entry.link_name_bytes().unwrap_or_default();
                    let beside = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                    Member::Link { target: linked(beside, &target, &object)? }
                }
                EntryType::Directory | EntryType::XGlobalHeader => continue,
                other => {
                    let found = format!("{name} of type {other:?}");
                    return Err(ambiguous(&object, "files, directories and links", found).into());
                }
            };
            if members.len() == MEMBERS_CAP {
                return Err(
                    Refusal::new(Class::TooMany, object, format!("at most {MEMBERS_CAP} members"), "more").into()
                );
            }
            if members.insert(name.clone(), member).is_some() {
                return Err(ambiguous(object, "each member once", format!("{name} twice")).into());
            }
        }
        Ok(Self { file, members })
    }

    /// Where a file is, if there is one of this name.
    fn find(&self, name: &str) -> Option<(u64, u64)> {
        match self.members.get(name)? {
            Member::File { offset, bytes } => Some((*offset, *bytes)),
            // One step: no tool makes links to links.
            Member::Link { target } => match self.members.get(target)? {
                Member::File { offset, bytes } => Some((*offset, *bytes)),
                Member::Link { .. } => None,
            },
        }
    }

    pub(super) fn bytes(&self, name: &str) -> Option<u64> {
        self.find(name).map(|(_, bytes)| bytes)
    }

    pub(super) fn reader(&self, name: &str) -> Option<impl Read + '_> {
        let (offset, bytes) = self.find(name)?;
        Some(Part { file: &self.file, at: offset, end: offset.saturating_add(bytes) })
    }
}

/// Refuses headers about headers that are long, or that give a member another length than its own header: readers differ
/// on which counts, and a reader that takes them for granted holds them in memory.
fn check_extensions(file: &File, path: &Path) -> Result<(), ImageError> {
    let object = path.display().to_string();
    let not_tar = |error: io::Error| ambiguous(&object, "a directory or a tar file that holds an image", error);
    let reading = file.try_clone().map_err(ImageError::file(path))?;
    let mut archive = tar::Archive::new(reading);
    for entry in archive.entries_with_seek().map_err(not_tar)?.raw(true) {
        let mut entry = entry.map_err(not_tar)?;
        let kind = entry.header().entry_type();
        let is_pax = kind.is_pax_local_extensions() || kind.is_pax_global_extensions();
        if !(is_pax || kind.is_gnu_longname() || kind.is_gnu_longlink()) {
            continue;
        }
        if entry.size() > EXTENSION_CAP {
            let expected = format!("tar headers of at most {EXTENSION_CAP} bytes");
            return Err(Refusal::new(Class::TooBig, object, expected, entry.size()).into());
        }
        if is_pax {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(not_tar)?;
            for extension in tar::PaxExtensions::new(&bytes) {
                let extension = extension.map_err(not_tar)?;
                let key = String::from_utf8_lossy(extension.key_bytes()).into_owned();
                if key == "size" || key.starts_with("GNU.sparse") {
                    let hint = "unpack the archive and name the directory";
                    return Err(ambiguous(object, "members with one length each", format!("the header `{key}`"))
                        .with_hint(hint)
                        .into());
                }
            }
        }
    }
    Ok(())
}

/// A part of a file, read without moving its position.
struct Part<'f> {
    file: &'f File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..room], self.at)?;
        if count == 0 && room > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a member"));
        }
        self.at += count as u64;
        Ok(count)
    }
}

/// The path of a member without `./` and slashes at the end.
fn member_name(bytes: &[u8], object: &str) -> Result<String, Refusal> {
    let refuse =
        || ambiguous(object, "members with plain relative paths", format!("{:?}", String::from_utf8_lossy(bytes)));
    let text = std::str::from_utf8(bytes).map_err(|_| refuse())?;
    let text = text.strip_prefix("./").unwrap_or(text).trim_end_matches('/');
    let plain = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    if text.is_empty() || text == "." || text.split('/').all(plain) { Ok(text.to_owned()) } else { Err(refuse()) }
}

/// The member that a link in `directory` leads to.
fn linked(directory: &str, target: &[u8], object: &str) -> Result<String, Refusal> {
    let refuse = || ambiguous(object, "links within the archive", format!("{:?}", String::from_utf8_lossy(target)));
    let target = std::str::from_utf8(target).map_err(|_| refuse())?;
    if target.starts_with('/') {
        return Err(refuse());
    }
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(refuse)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}
