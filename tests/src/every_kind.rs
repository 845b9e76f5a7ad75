//! A tree that holds every kind of entry and every attribute a snapshot keeps.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, XattrFlags, makedev, mkdirat, mknodat, openat,
    setxattr, utimensat,
};

/// A tree with every kind of entry.
#[derive(Debug)]
pub struct EveryKind {
    /// Its top directory.
    pub path: PathBuf,
    /// Whether it holds fifos and devices, which only root can make.
    pub has_devices: bool,
}

impl EveryKind {
    /// Builds the tree in a directory that does not exist yet.
    pub fn create(path: &Path) -> Self {
        fs::create_dir(path).unwrap();
        contents(path);
        names(path);
        links(path);
        attributes(path);
        let has_devices = crate::is_root();
        if has_devices {
            owners(path);
            devices(path);
        }
        permissions(path);
        // Last, because making an entry changes the time of its directory.
        times(path);
        Self { path: path.to_owned(), has_devices }
    }
}

fn contents(top: &Path) {
    fs::write(top.join("empty"), "").unwrap();
    fs::write(top.join("one-byte"), "x").unwrap();
    fs::write(top.join("text"), "a line\nanother line\n").unwrap();
    fs::write(top.join("several-chunks"), noise(5 << 20, 7)).unwrap();
    fs::write(top.join("zeros"), vec![0; 3 << 20]).unwrap();
    for index in 0..50 {
        let small = noise(40 * index, index as u64);
        fs::create_dir_all(top.join("small")).unwrap();
        fs::write(top.join(format!("small/{index:03}")), small).unwrap();
    }
    fs::create_dir_all(top.join("empty-directory/empty-below")).unwrap();

    let mut sparse = File::create(top.join("sparse")).unwrap();
    sparse.write_all(&noise(4096, 1)).unwrap();
    sparse.seek(SeekFrom::Start(8 << 20)).unwrap();
    sparse.write_all(&noise(4096, 2)).unwrap();
    sparse.set_len(16 << 20).unwrap();
    File::create(top.join("only-a-hole")).unwrap().set_len(1 << 20).unwrap();
}

fn names(top: &Path) {
    let directory = top.join("names");
    fs::create_dir(&directory).unwrap();
    let odd: [&[u8]; 12] = [
        b"with space",
        b"-dash",
        b".hidden",
        b"back\\slash",
        b"new\nline",
        b"tab\tquote\"'",
        b"*?[a-z]",
        b"%41",
        "\u{e9}-composed".as_bytes(),
        "e\u{301}-decomposed".as_bytes(),
        b"latin1-\xe9",
        b"\xff\xfe\x80",
    ];
    for name in odd {
        fs::write(directory.join(OsStr::from_bytes(name)), name).unwrap();
    }
    fs::write(directory.join("n".repeat(255)), "longest name").unwrap();
    // Byte order and path order are different things: `a.b` sorts between `a` and `a/b` by bytes.
    fs::create_dir(directory.join("order")).unwrap();
    fs::write(directory.join("order/a.b"), "file").unwrap();
    fs::create_dir(directory.join("order/a")).unwrap();
    fs::write(directory.join("order/a/b"), "below").unwrap();
    fs::write(directory.join("order/a-b"), "file").unwrap();
    // As long as rsync can still compare.
    deep(&directory, 15, b"the deepest file");
}

/// Makes `depth` directories of 220-byte names in each other and a file in the last.
///
/// It goes by handles, so the path may be longer than any system call takes at once.
pub fn deep(top: &Path, depth: usize, contents: &[u8]) {
    let mut at = open_directory(CWD, top);
    for level in 0..depth {
        let name = deep_name(level);
        mkdirat(&at, &name, Mode::from_raw_mode(0o755)).unwrap();
        at = open_directory(&at, &name);
    }
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(&at, "deepest", flags, Mode::from_raw_mode(0o644)).unwrap();
    File::from(file).write_all(contents).unwrap();
}

/// Reads the file that [`deep`] made.
pub fn read_deep(top: &Path, depth: usize) -> Vec<u8> {
    let mut at = open_directory(CWD, top);
    for level in 0..depth {
        at = open_directory(&at, deep_name(level));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = openat(&at, "deepest", flags, Mode::empty()).unwrap();
    let mut contents = Vec::new();
    std::io::Read::read_to_end(&mut File::from(file), &mut contents).unwrap();
    contents
}

fn deep_name(level: usize) -> String {
    format!("{level:03}{}", "d".repeat(217))
}

fn open_directory(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).unwrap()
}

fn links(top: &Path) {
    symlink("text", top.join("link")).unwrap();
    symlink("/nonexistent/target", top.join("link-dangling")).unwrap();
    symlink(OsStr::from_bytes(b"\xff\xfe"), top.join("link-not-utf8")).unwrap();
    symlink("t".repeat(4000), top.join("link-long")).unwrap();
    symlink(".", top.join("link-to-itself")).unwrap();
    fs::create_dir(top.join("linked")).unwrap();
    fs::write(top.join("hard-1"), "linked three times").unwrap();
    fs::hard_link(top.join("hard-1"), top.join("hard-2")).unwrap();
    fs::hard_link(top.join("hard-1"), top.join("linked/hard-3")).unwrap();
    fs::hard_link(top.join("link"), top.join("hard-linked-symlink")).unwrap();
}

fn attributes(top: &Path) {
    let file = top.join("with-attributes");
    fs::write(&file, "attributes").unwrap();
    let set = |path: &Path, name: &str, value: &[u8]| {
        setxattr(path, name, value, XattrFlags::empty()).unwrap();
    };
    set(&file, "user.comment", b"a value");
    set(&file, "user.empty", b"");
    set(&file, "user.bytes", &[0, 255, 10, 0]);
    let directory = top.join("with-acl");
    fs::create_dir(&directory).unwrap();
    set(&directory, "user.on-directory", b"too");
    setfacl(&["-m", "u:12345:r-x,g:54321:rwx"], &directory);
    setfacl(&["-d", "-m", "u:12345:rwx"], &directory);
    fs::write(top.join("file-acl"), "acl").unwrap();
    setfacl(&["-m", "u:12345:r--"], &top.join("file-acl"));
    if crate::is_root() {
        fs::write(top.join("capable"), "#!/bin/sh\n").unwrap();
        // A version 2 capability set: cap_net_bind_service, permitted and effective.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        set(&top.join("capable"), "security.capability", &capability);
    }
}

fn setfacl(args: &[&str], path: &Path) {
    let mut command = Command::new("setfacl");
    let status = command.args(args).arg(path).status();
    assert!(status.expect("setfacl is installed").success());
}

fn permissions(top: &Path) {
    let modes = [
        ("mode-setuid", 0o4755),
        ("mode-setgid", 0o2755),
        ("mode-000", 0o000),
        ("mode-read-only", 0o444),
        ("mode-777", 0o777),
    ];
    for (name, mode) in modes {
        // Only root can read a file of mode 000 back.
        if mode == 0 && !crate::is_root() {
            continue;
        }
        fs::write(top.join(name), name).unwrap();
        fs::set_permissions(top.join(name), Permissions::from_mode(mode)).unwrap();
    }
    fs::create_dir(top.join("sticky")).unwrap();
    fs::set_permissions(top.join("sticky"), Permissions::from_mode(0o1777)).unwrap();
    fs::create_dir(top.join("closed")).unwrap();
    fs::write(top.join("closed/inside"), "inside").unwrap();
    fs::set_permissions(top.join("closed"), Permissions::from_mode(0o500)).unwrap();
}

fn owners(top: &Path) {
    for (name, user, group) in [("owner-unnamed", 12345, 54321), ("owner-daemon", 1, 1)] {
        fs::write(top.join(name), name).unwrap();
        lchown(top.join(name), Some(user), Some(group)).unwrap();
    }
    symlink("nowhere", top.join("owner-link")).unwrap();
    lchown(top.join("owner-link"), Some(12345), Some(54321)).unwrap();
}

fn devices(top: &Path) {
    let directory = top.join("devices");
    fs::create_dir(&directory).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    for (name, kind, device) in [
        ("fifo", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("high-minor", FileType::CharacterDevice, makedev(240, 300)),
        ("loop", FileType::BlockDevice, makedev(7, 0)),
    ] {
        mknodat(CWD, directory.join(name), kind, mode, device).unwrap();
    }
}

fn times(top: &Path) {
    for (name, seconds, nanoseconds) in [
        ("text", 1_700_000_000, 123_456_789),
        ("empty", 0, 0),
        ("one-byte", -1, 999_999_999),
        ("zeros", -86_400 * 365 * 20, 1),
        ("link", 1_000_000_000, 7),
        ("empty-directory", 4_000_000_000, 5),
        ("small", -5, 500_000_000),
    ] {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, top.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// Bytes that do not compress, the same for the same seed (xorshift64*).
pub fn noise(len_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len_bytes + 8);
    while bytes.len() < len_bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend(state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len_bytes);
    bytes
}
