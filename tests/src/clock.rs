//! Another time for one command: a library that is loaded before libc and moves the real-time clock.
//!
//! Prebuilt stores are judged at the time they were made for, whatever the day on which the tests run. The clock goes
//! on from there; the monotonic clock is left alone. A [`Stepped`] clock can be moved while the command runs. Needs `cc`.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use jiff::Timestamp;
use tempfile::{NamedTempFile, TempDir};

use crate::Machine;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    static long seconds, known, file = -1;
    if (file >= 0) {
        char text[32] = {0};
        return pread(file, text, sizeof text - 1, 0) > 0 ? atol(text) : 0;
    }
    if (!known) {
        const char *stepped = getenv("SNAPKIT_TEST_CLOCK_STEPS");
        if (stepped && (file = open(stepped, O_RDONLY | O_CLOEXEC)) >= 0) return shift();
        struct timespec now;
        const char *wanted = getenv("SNAPKIT_TEST_CLOCK");
        syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
        seconds = wanted ? atol(wanted) - now.tv_sec : 0;
        known = 1;
    }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int done = syscall(SYS_clock_gettime, clock, time);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) time->tv_sec += shift();
    return done;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
"#;

/// Lets `command` begin at this time.
pub fn set(command: &mut Command, now: Timestamp) {
    command.env("LD_PRELOAD", library()).env("SNAPKIT_TEST_CLOCK", now.as_second().to_string());
}

/// A clock that everything on a machine sees, and that can be stepped while it runs.
#[derive(Debug)]
pub struct Stepped {
    file: NamedTempFile,
}

impl Stepped {
    /// The clock of a machine, for everything that is started there from now on; it is right at first.
    pub fn of(machine: &mut Machine) -> Self {
        let clock = Self::new();
        for (name, value) in clock.variables() {
            machine.set(name, &value);
        }
        clock
    }

    /// A clock that nobody sees yet; it is right at first.
    #[expect(clippy::new_without_default, reason = "it is made on purpose, or not at all")]
    pub fn new() -> Self {
        Self { file: NamedTempFile::new().unwrap() }
    }

    /// Whatever has these in its environment sees this clock.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
        [("LD_PRELOAD", path(library())), ("SNAPKIT_TEST_CLOCK_STEPS", path(self.file.path()))]
    }

    /// Sets it so many seconds beside the true time.
    pub fn step(&self, seconds: i64) {
        // In one write over the old value: whoever reads meanwhile reads that or the new one.
        self.file.as_file().write_all_at(format!("{seconds:+020}").as_bytes(), 0).unwrap();
    }
}

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let (source, library) = (directory.path().join("clock.c"), directory.path().join("clock.so"));
        std::fs::write(&source, SOURCE).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        assert!(built.expect("cc is installed").success());
        (directory, library)
    });
    library
}
