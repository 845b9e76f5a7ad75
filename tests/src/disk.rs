//! A disk that can lose its power or break: a file system on a loop device whose file this process serves.
//!
//! ```text
//! ext4  ->  loop device  ->  one file in a FUSE file system  ->  this process, which notes every write and flush
//! ```
//!
//! The loop driver turns each flush of the block layer into an fsync of its file. So what is noted is what a disk sees:
//! writes, and the moments up to which all of them are safe. [`Recording::cut`] makes the image that a power cut leaves:
//! what was flushed, and of the writes since none, all, or any, in any order. Mounted afresh, the file system replays its
//! journal as after a real one. Nothing of this is known to the program under test.
//!
//! It needs root, `/dev/fuse` and loop devices; [`can_run`] says so.

mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use fuser::BackgroundSession;
use tempfile::TempDir;

use crate::Numbers;
pub use server::{Event, Fault};
use server::{Image, Server};

/// The block in which a disk writes all or nothing.
const BLOCK_BYTES: usize = 4096;
/// Seldom commits by the clock: only what the program asks for is made durable while a test records.
const OPTIONS: &str = "commit=300,nodiscard";

/// Whether disks can be made here.
///
/// Without root they cannot, and the test says so and is left out, as all that need root. With root it must run, unless
/// `SNAPKIT_TEST_WITHOUT_DISKS` is set, as it must be in containers that may not mount.
pub fn can_run(test: &str) -> bool {
    let reason = match crate::is_root() {
        false => "it mounts file systems, which needs root",
        true if std::env::var_os("SNAPKIT_TEST_WITHOUT_DISKS").is_some() => "SNAPKIT_TEST_WITHOUT_DISKS is set",
        true => {
            for device in ["/dev/fuse", "/dev/loop-control"] {
                let hint = "load the kernel modules fuse and loop, or set SNAPKIT_TEST_WITHOUT_DISKS=1 to leave it out";
                assert!(Path::new(device).exists(), "{test} needs {device}; {hint}");
            }
            return true;
        }
    };
    eprintln!("LEFT OUT: {test}: {reason}");
    false
}

/// An empty ext4 file system of this size, as an image.
pub fn ext4(bytes: u64) -> Vec<u8> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("image");
    fs::File::create(&file).unwrap().set_len(bytes).unwrap();
    let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-b", "4096", "-J", "size=4", "-E", options]).arg(&file));
    fs::read(file).unwrap()
}

/// A mounted image in a plain file.
#[derive(Debug)]
pub struct Mounted {
    directory: TempDir,
}

impl Mounted {
    /// Mounts a copy of the image; the file system repairs itself as after a power cut.
    pub fn new(image: &[u8]) -> Self {
        let directory = TempDir::new().unwrap();
        let (file, point) = (directory.path().join("image"), directory.path().join("mnt"));
        fs::write(&file, image).unwrap();
        fs::create_dir(&point).unwrap();
        mount(&file, &point);
        Self { directory }
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.path());
    }
}

/// A file system in memory, with options that limit it.
#[derive(Debug)]
pub struct Filesystem {
    directory: TempDir,
}

impl Filesystem {
    /// Mounts a tmpfs with these options.
    pub fn tmpfs(options: &str) -> Self {
        Self::try_tmpfs(options).unwrap_or_else(|| panic!("tmpfs mounts with {options}"))
    }

    /// The same, or nothing where the kernel does not know the options.
    pub fn try_tmpfs(options: &str) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "snapkit-test"]).arg(directory.path());
        command.output().unwrap().status.success().then_some(Self { directory })
    }

    /// Mounts it again with other options.
    pub fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.directory.path()));
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        unmount(self.directory.path());
    }
}

/// A mounted image whose every write and flush is noted.
#[derive(Debug)]
pub struct Disk {
    directory: TempDir,
    image: Arc<Image>,
    session: Option<BackgroundSession>,
}

impl Disk {
    /// Serves the image and mounts it.
    pub fn new(image: Vec<u8>) -> Self {
        let directory = TempDir::new().unwrap();
        for name in ["fuse", "mnt"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let image = Arc::new(Image::new(image));
        let served = directory.path().join("fuse");
        let session = fuser::spawn_mount(Server(Arc::clone(&image)), &served, &server::config()).expect("FUSE mounts");
        let disk = Self { directory, image, session: Some(session) };
        mount(&served.join(server::FILE), &disk.path());
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// Makes everything durable and forgets what was noted: recording begins here.
    pub fn settle(&self) {
        run(Command::new("sync").arg("-f").arg(self.path()));
        self.image.begin();
    }

    /// How many events were noted since [`Disk::settle`].
    pub fn now(&self) -> usize {
        self.image.noted()
    }

    /// Lets reads or writes fail from now on.
    pub fn fail(&self, fault: Option<Fault>) {
        self.image.fail(fault);
    }

    /// Everything that was noted since [`Disk::settle`].
    pub fn recording(&self) -> Recording {
        let (base, events) = self.image.recording();
        Recording { base, events }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.image.fail(None);
        unmount(&self.path());
        if let Some(session) = self.session.take() {
            let _ = session.umount_and_join();
        }
    }
}

/// What a disk was told: its content at first, then writes and flushes in order.
#[derive(Debug)]
pub struct Recording {
    base: Vec<u8>,
    events: Vec<Event>,
}

/// What becomes of the writes since the last flush.
#[derive(Debug)]
pub enum Since<'n> {
    /// All are lost.
    Lost,
    /// All had reached the disk.
    Kept,
    /// Any of them had, in any order, block by block.
    Some(&'n mut Numbers),
}

impl Recording {
    /// How many events there are.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The numbers of the events that are flushes.
    pub fn flushes(&self) -> Vec<usize> {
        let flush = |(at, event): (usize, &Event)| matches!(event, Event::Flush).then_some(at);
        self.events.iter().enumerate().filter_map(flush).collect()
    }

    /// The image that a power cut before event number `at` leaves.
    pub fn cut(&self, at: usize, since: Since<'_>) -> Vec<u8> {
        let before = &self.events[..at];
        let flushed = before.iter().rposition(|event| matches!(event, Event::Flush)).map_or(0, |flush| flush + 1);
        let mut image = self.base.clone();
        let mut apply = |offset: usize, data: &[u8]| image[offset..offset + data.len()].copy_from_slice(data);
        let writes = |events: &'_ [Event]| -> Vec<(usize, Vec<u8>)> {
            let write = |event: &Event| match event {
                Event::Write { offset, data } => Some((*offset, data.clone())),
                Event::Flush => None,
            };
            events.iter().filter_map(write).collect()
        };
        for (offset, data) in writes(&before[..flushed]) {
            apply(offset, &data);
        }
        let open = writes(&before[flushed..]);
        match since {
            Since::Lost => {}
            Since::Kept => open.iter().for_each(|(offset, data)| apply(*offset, data)),
            Since::Some(numbers) => {
                let mut blocks: Vec<(usize, &[u8])> = Vec::new();
                for (offset, data) in &open {
                    let parts = data.chunks(BLOCK_BYTES).enumerate();
                    blocks.extend(parts.map(|(part, bytes)| (offset + part * BLOCK_BYTES, bytes)));
                }
                for at in (1..blocks.len()).rev() {
                    blocks.swap(at, numbers.below(at as u64 + 1) as usize);
                }
                let kept = numbers.below(blocks.len() as u64 + 1) as usize;
                blocks[..kept].iter().for_each(|(offset, data)| apply(*offset, data));
            }
        }
        image
    }
}

fn mount(file: &Path, point: &Path) {
    run(Command::new("mount").args(["-t", "ext4", "-o", &format!("loop,{OPTIONS}")]).arg(file).arg(point));
}

/// Unmounts, however long the last user takes to go away.
fn unmount(point: &Path) {
    for _ in 0..50 {
        if Command::new("umount").arg("-q").arg(point).status().is_ok_and(|status| status.success()) {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let _ = Command::new("umount").args(["-q", "-l"]).arg(point).status();
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
