//! Another time for one command: a library that is loaded before libc and moves the real-time clock.
//!
//! Prebuilt stores are judged at the time they were made for, whatever the day on which the tests run. The clock goes
//! on from there; the monotonic clock is left alone. Needs `cc`.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use jiff::Timestamp;
use tempfile::TempDir;

const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
    static long seconds, known;
    if (!known) {
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
