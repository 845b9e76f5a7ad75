//! The FUSE file system with one file, the image of a disk.

use std::ffi::OsStr;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, MountOption,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};

/// The name of the file.
pub(super) const FILE: &str = "disk";
/// Its number.
const DISK: INodeNo = INodeNo(2);
/// Nothing changes but through the kernel itself.
const FOREVER: Duration = Duration::from_secs(1 << 30);

pub(super) fn config() -> Config {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("snapkit-test-disk".to_owned())];
    config
}

/// Something the disk was told.
#[derive(Debug, Clone)]
pub enum Event {
    /// Bytes at a place.
    Write {
        /// Where they begin.
        offset: usize,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Everything before is to be durable.
    Flush,
}

/// What the disk can no longer do: anything with blocks that hold these bytes.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Reading them gives an I/O error.
    Read(Vec<u8>),
    /// Writing them does.
    Write(Vec<u8>),
}

/// The content of the disk and what was noted.
#[derive(Debug)]
pub(super) struct Image(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Vec<u8>,
    base: Vec<u8>,
    events: Vec<Event>,
    fault: Option<Fault>,
}

impl Image {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(Inner { bytes, base: Vec::new(), events: Vec::new(), fault: None }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self) {
        let mut inner = self.lock();
        inner.base = inner.bytes.clone();
        inner.events.clear();
    }

    pub(super) fn noted(&self) -> usize {
        self.lock().events.len()
    }

    pub(super) fn fail(&self, fault: Option<Fault>) {
        self.lock().fault = fault;
    }

    pub(super) fn recording(&self) -> (Vec<u8>, Vec<Event>) {
        let mut inner = self.lock();
        (inner.base.clone(), mem::take(&mut inner.events))
    }
}

fn holds(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.windows(mark.len()).any(|part| part == mark)
}

/// Answers the kernel.
pub(super) struct Server(pub(super) Arc<Image>);

impl Server {
    fn attributes(&self, number: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match number {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            DISK => (FileType::RegularFile, 0o600, self.0.lock().bytes.len() as u64),
            _ => return None,
        };
        Some(FileAttr {
            ino: number,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Server {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(DISK).filter(|_| parent == INodeNo::ROOT && name == FILE) {
            Some(attributes) => reply.entry(&FOREVER, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(number) {
            Some(attributes) => reply.attr(&FOREVER, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Every read and write of the loop driver comes here; the kernel keeps no copy of its own.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let inner = self.0.lock();
        let begin = (offset as usize).min(inner.bytes.len());
        let end = (begin + size as usize).min(inner.bytes.len());
        let bytes = &inner.bytes[begin..end];
        match &inner.fault {
            Some(Fault::Read(mark)) if holds(bytes, mark) => reply.error(Errno::EIO),
            _ => reply.data(bytes),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut inner = self.0.lock();
        if matches!(&inner.fault, Some(Fault::Write(mark)) if holds(data, mark)) {
            return reply.error(Errno::EIO);
        }
        let offset = offset as usize;
        let Some(place) = inner.bytes.get_mut(offset..offset + data.len()) else {
            return reply.error(Errno::ENOSPC);
        };
        place.copy_from_slice(data);
        inner.events.push(Event::Write { offset, data: data.to_vec() });
        reply.written(data.len() as u32);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // A file handle is closed; nothing becomes durable by that.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.0.lock().events.push(Event::Flush);
        reply.ok();
    }
}
