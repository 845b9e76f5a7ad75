//! The machine: whether a port is free, a program there, a user known, a capability given.
//!
//! Each question is answered by trying, in seconds, and leaves nothing behind. What cannot be told counts as not there.
//! Layer: the edge.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use manifests::document::service::Port;

/// How long a program may take to say whether something is there.
const PATIENCE: Duration = Duration::from_secs(20);

/// Capabilities that are looked for in a way of their own; any other name is that of a program.
pub const CAPABILITIES: &[&str] = &["compose", "docker", "podman", "root", "systemd", "xattrs"];

/// Whether a port can be listened on, by every address of this machine.
///
/// # Errors
/// What the system says about the first address that it refuses.
pub fn port_is_free(port: &Port) -> io::Result<()> {
    let try_one = |result: io::Result<()>| match result {
        // A machine without this family of addresses has nobody on it.
        Err(error) if matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported) => Ok(()),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => Ok(()),
        result => result,
    };
    let bind = |v4: bool| match (port.protocol.as_str(), v4) {
        ("udp", true) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port.port)).map(drop),
        ("udp", false) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port.port)).map(drop),
        (_, true) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.port)).map(drop),
        (_, false) => TcpListener::bind((Ipv6Addr::UNSPECIFIED, port.port)).map(drop),
    };
    try_one(bind(true))?;
    try_one(bind(false))
}

/// The program that `name` would start: a path, or found in `path`, the value of `PATH`.
pub fn program(name: &str, path: Option<&OsString>) -> Option<PathBuf> {
    let can_run = |file: &Path| file.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|file| can_run(file));
    }
    let path = path?;
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| can_run(file))
}

/// The command of a container engine: the one that is named, else docker or podman, whichever is there.
pub fn engine(named: Option<&str>, path: Option<&OsString>) -> Option<String> {
    match named {
        Some(named) => program(named, path).map(|_| named.to_owned()),
        None => ["docker", "podman"].iter().find(|name| program(name, path).is_some()).map(|name| (*name).to_owned()),
    }
}

/// Whether the service can run as `user`.
///
/// # Errors
/// Why not, in words.
pub fn can_be(user: &str) -> Result<(), String> {
    let found = match user.parse::<u32>() {
        Ok(uid) => nix::unistd::User::from_uid(uid.into()),
        Err(_) => nix::unistd::User::from_name(user),
    };
    let uid = match (found, user.parse::<u32>()) {
        (Ok(Some(user)), _) => user.uid.as_raw(),
        // A number needs no name.
        (_, Ok(uid)) => uid,
        (Ok(None), _) => return Err(format!("this machine knows no user {user}")),
        (Err(error), _) => return Err(error.to_string()),
    };
    let me = rustix::process::geteuid().as_raw();
    if me == 0 || me == uid {
        return Ok(());
    }
    Err(format!("only root can start something as {user}, and this is uid {me}"))
}

/// Whether this machine has a capability that pins name.
///
/// # Errors
/// Why not, in words.
pub fn capability(name: &str, engine: Option<&str>, node: &Path, path: Option<&OsString>) -> Result<(), String> {
    match name {
        "docker" | "podman" => answers(name, &["info"], path),
        "compose" => match engine {
            // The engine's own, or the program beside it.
            Some(engine) => answers(engine, &["compose", "version"], path)
                .or_else(|why| answers(&format!("{engine}-compose"), &["version"], path).map_err(|_| why)),
            None => Err("there is neither docker nor podman".to_owned()),
        },
        "systemd" => match Path::new("/run/systemd/system").is_dir() {
            true => answers("systemctl", &["list-units", "--no-pager", "--type=target"], path),
            false => Err("this machine was not started by systemd".to_owned()),
        },
        "root" if rustix::process::geteuid().is_root() => Ok(()),
        "root" => Err(format!("this is uid {}", rustix::process::geteuid().as_raw())),
        "xattrs" => xattrs(node),
        other => match program(other, path) {
            Some(_) => Ok(()),
            None => Err(format!("there is no program {other}")),
        },
    }
}

/// Whether the file system below `node` has extended attributes.
fn xattrs(node: &Path) -> Result<(), String> {
    let above = existing(node);
    let trial = tempfile::Builder::new().prefix(".snapkit-trial-").tempfile_in(&above);
    let trial = trial.map_err(|error| format!("nothing can be written to {}: {error}", above.display()))?;
    rustix::fs::fsetxattr(&trial, "user.snapkit", b"1", rustix::fs::XattrFlags::empty())
        .map_err(|error| format!("the file system of {} has none: {error}", above.display()))
}

/// Whether a program ends well within `PATIENCE`.
///
/// # Errors
/// What it said last, or that it said nothing.
pub fn answers(name: &str, args: &[&str], path: Option<&OsString>) -> Result<(), String> {
    let Some(file) = program(name, path) else { return Err(format!("there is no program {name}")) };
    let mut child = Command::new(file)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{name} does not start: {error}"))?;
    let began = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("`{name} {}` ended with {status}", args.join(" "))),
            Ok(None) if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(20)),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                let why = other.err().map_or_else(|| "does not answer".to_owned(), |error| error.to_string());
                return Err(format!("`{name} {}` {why}", args.join(" ")));
            }
        }
    }
}

/// The directory itself, or the nearest one above it that exists.
pub fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_somebody_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let port = |protocol: &str| Port { name: "p".into(), port, protocol: protocol.into() };
        assert_eq!(port_is_free(&port("tcp")).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        port_is_free(&port("tcp")).unwrap();
    }

    #[test]
    fn a_program_is_found_as_a_shell_would_find_it() {
        let path = Some(OsString::from("/nowhere:/usr/bin:/bin"));
        assert!(program("sh", path.as_ref()).is_some_and(|file| file.is_absolute()));
        assert_eq!(program("/bin/sh", None), Some("/bin/sh".into()));
        assert_eq!(program("/etc/passwd", None), None);
        assert_eq!(program("no-such-program", path.as_ref()), None);
    }

    #[test]
    fn a_capability_without_a_way_of_its_own_is_a_program() {
        let path = Some(OsString::from("/usr/bin:/bin"));
        let has = |name: &str| capability(name, None, Path::new("/tmp"), path.as_ref());
        has("sh").unwrap();
        assert!(has("no-such-program").unwrap_err().contains("no program"));
        assert!(has("compose").unwrap_err().contains("neither"));
        assert!(answers("false", &[], path.as_ref()).unwrap_err().contains("exit status: 1"));
    }
}
