//! The Python with the packages that `tests/tools/install-python` installs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A command of that Python, which writes nothing beside the sources it runs.
///
/// # Panics
/// Without the environment: what is not tested must be said, so `SNAPKIT_TEST_WITHOUT_PYTHON` has to leave it out.
pub fn python() -> Command {
    let path = environment().join("bin/python");
    assert!(path.exists(), "{} is not there: run tests/tools/install-python", path.display());
    let mut command = Command::new(path);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The second reader with these arguments, at work in `directory`.
pub fn second_reader(directory: &Path, args: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("second_reader/reader.py");
    python().arg(program).args(args).current_dir(directory).output().unwrap()
}

/// Whether these tests are left out, which is said aloud.
pub fn is_left_out() -> bool {
    let left_out = env::var_os("SNAPKIT_TEST_WITHOUT_PYTHON").is_some();
    if left_out {
        eprintln!("NOT TESTED HERE: what needs tests/tools/install-python");
    }
    left_out
}

/// Where `tests/tools/install-python` puts it.
fn environment() -> PathBuf {
    let named = |variable: &str| env::var_os(variable).map(PathBuf::from);
    let cache = named("SNAPKIT_TEST_CACHE").or_else(|| Some(named("XDG_CACHE_HOME")?.join("snapkit-test-servers")));
    let cache = cache.or_else(|| Some(named("HOME")?.join(".cache/snapkit-test-servers")));
    cache.unwrap_or_default().join("python")
}
