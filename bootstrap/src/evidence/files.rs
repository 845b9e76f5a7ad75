//! The files of a bundle, from a run directory or from its tar, all in memory: names to bytes.
//!
//! Names are those of the bundle: relative, with `/`, nothing that could lead elsewhere. Everything is bounded.
//! Layer: the edge reads; what comes out is plain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use manifests::refusal::{Class, Refusal};

use super::{EvidenceError, excerpt};

/// The most files of a bundle.
pub const FILES_CAP: usize = 10_000;
/// The most bytes of all files together.
pub const BYTES_CAP: u64 = 1 << 30;

/// Names and contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Reads a run directory, or a bundle that is a directory or a tar.
    ///
    /// # Errors
    /// What cannot be read; [`Class::Path`], [`Class::Kind`], [`Class::TooMany`] and [`Class::TooBig`] for what no bundle has.
    pub fn read(path: &Path) -> Result<Files, EvidenceError> {
        let failed = |source| EvidenceError::Read { path: path.to_owned(), source };
        let kind = fs::metadata(path).map_err(failed)?;
        if kind.is_dir() {
            return Files::of_directory(path);
        }
        // Names and padding take little beside what is allowed for contents.
        if kind.len() > BYTES_CAP + (FILES_CAP as u64) * 2048 {
            let expected = format!("at most {BYTES_CAP} bytes in all");
            return Err(Refusal::new(Class::TooBig, path.display().to_string(), expected, kind.len()).into());
        }
        Files::of_tar(File::open(path).map_err(failed)?, path)
    }

    fn of_directory(path: &Path) -> Result<Files, EvidenceError> {
        let mut files = Files::default();
        let mut left = vec![(path.to_owned(), String::new())];
        let mut bytes = 0;
        while let Some((directory, prefix)) = left.pop() {
            let failed = |source| EvidenceError::Read { path: directory.clone(), source };
            for entry in fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().into_string().map_err(|name| refuse_name(&name.to_string_lossy()))?;
                // What a run keeps for itself while it goes on is no part of what it leaves.
                if name.starts_with('.') {
                    continue;
                }
                let name = format!("{prefix}{name}");
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() {
                    left.push((entry.path(), format!("{name}/")));
                } else if kind.is_file() {
                    let file = File::open(entry.path()).map_err(failed)?;
                    files.add(name, file, &mut bytes).map_err(|error| error.at(&entry.path()))?;
                } else {
                    return Err(Refusal::new(Class::Kind, name, "a regular file", "a link or special file").into());
                }
            }
        }
        Ok(files)
    }

    /// Reads a tar; names below the one directory that all names begin with.
    fn of_tar(tar: impl Read, path: &Path) -> Result<Files, EvidenceError> {
        let failed = |source: io::Error| EvidenceError::Read { path: path.to_owned(), source };
        let mut files = Files::default();
        let mut bytes = 0;
        let mut archive = tar::Archive::new(tar);
        for entry in archive.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|error| refuse_name(&String::from_utf8_lossy(error.as_bytes())))?;
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(Refusal::new(Class::Kind, name, "a regular file", "another kind of entry").into());
            }
            if files.0.contains_key(&name) {
                return Err(Refusal::new(Class::Extra, name, "each file once", "two of this name").into());
            }
            files.add(name, entry, &mut bytes).map_err(|error| error.at(path))?;
        }
        // Behind its end a tar is padded with zeroes: anything else would be read by nobody and passed on by everybody.
        let mut rest = archive.into_inner();
        let mut padding = [0; 4096];
        loop {
            match rest.read(&mut padding).map_err(failed)? {
                0 => return Ok(files),
                read if padding[..read].iter().all(|byte| *byte == 0) => {}
                _ => {
                    let object = path.display().to_string();
                    return Err(
                        Refusal::new(Class::Extra, object, "nothing behind the end of the tar", "other bytes").into()
                    );
                }
            }
        }
    }

    fn add(&mut self, name: String, from: impl Read, bytes: &mut u64) -> Result<(), EvidenceError> {
        if !is_name(&name) {
            return Err(refuse_name(&name).into());
        }
        if self.0.len() == FILES_CAP {
            return Err(Refusal::new(Class::TooMany, name, format!("at most {FILES_CAP} files"), "more").into());
        }
        let mut content = Vec::new();
        let failed = |source| EvidenceError::Read { path: name.clone().into(), source };
        from.take(BYTES_CAP - *bytes + 1).read_to_end(&mut content).map_err(failed)?;
        *bytes += content.len() as u64;
        if *bytes > BYTES_CAP {
            return Err(Refusal::new(Class::TooBig, name, format!("at most {BYTES_CAP} bytes in all"), "more").into());
        }
        self.0.insert(name, content);
        Ok(())
    }

    /// The content of a file.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(Vec::as_slice)
    }

    /// Puts a file there, or another content into it.
    pub fn set(&mut self, name: &str, bytes: Vec<u8>) {
        self.0.insert(name.to_owned(), bytes);
    }

    /// Takes a file out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// Those directly below a directory whose names end so, by name.
    pub fn below<'f>(&'f self, directory: &str, end: &str) -> impl Iterator<Item = (&'f str, &'f [u8])> {
        let (prefix, end) = (format!("{directory}/"), end.to_owned());
        let is_there = move |name: &str| {
            name.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/') && rest.ends_with(&end))
        };
        self.iter().filter(move |(name, _)| is_there(name))
    }
}

/// Whether a file of a bundle may have this name.
fn is_name(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.len() <= 255 && name.split('/').all(part) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

fn refuse_name(name: &str) -> Refusal {
    Refusal::new(Class::Path, "a file of the bundle", "a relative name of graphic ASCII", excerpt(name))
}
