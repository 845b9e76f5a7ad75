//! How a command ends: its exit code, and the problem it prints.
//!
//! The codes are constants of `manifests::refusal`, listed in `docs/exit-codes.md`. An error's code
//! follows from what its chain of causes holds, so commands use `?` on errors of every module.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::cancel::Cancelled;
use crate::config::ConfigError;
use crate::node::NodeError;
use crate::store::{OpenError, StoreError};
use manifests::refusal::{Class, Refusal, exit};
use serde::Serialize;

use super::output::Output;

/// The exit code of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(u8);

impl Exit {
    /// Done.
    pub const DONE: Self = Self(exit::DONE);
    /// The answer is no.
    pub const NO: Self = Self(exit::NO);
    /// Refused; nothing was touched.
    pub const REFUSED: Self = Self(exit::REFUSED);
    /// The command line is wrong.
    pub const USAGE: Self = Self(exit::USAGE);
    /// The node is degraded.
    pub const DEGRADED: Self = Self(exit::DEGRADED);
    /// Ended by `SIGINT`.
    pub const INTERRUPTED: Self = Self(exit::INTERRUPTED);
    /// Ended by `SIGTERM`.
    pub const TERMINATED: Self = Self(exit::TERMINATED);
    /// Whoever read the output stopped reading: what `SIGPIPE` gives other tools.
    const BROKEN_PIPE: Self = Self(128 + 13);

    /// The exit code with this number.
    pub const fn of_code(code: u8) -> Self {
        Self(code)
    }

    /// The number.
    pub const fn code(self) -> u8 {
        self.0
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.0.into()
    }
}

/// A command that did not do what it was asked to.
///
/// Made with `?` from any error: the exit code follows from what the error's chain of causes holds.
#[derive(Debug)]
pub struct CliError {
    exit: Exit,
    /// The class of an error that holds no refusal itself.
    class: Option<Class>,
    error: Box<dyn Error + Send + Sync>,
    next: Option<String>,
}

/// The JSON form of a problem, one line on stderr.
#[derive(Debug, Serialize)]
struct Problem {
    schema: &'static str,
    exit_code: u8,
    class: Option<&'static str>,
    error: String,
    causes: Vec<String>,
    next: Option<String>,
}

/// A sentence put before the error that explains it.
#[derive(Debug)]
struct Context {
    sentence: String,
    source: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Error for Context {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CliError {
    fn from(error: E) -> Self {
        let (exit, next) = classify(&error);
        let class = slow(&error);
        Self { exit, class, error: Box::new(error), next }
    }
}

/// The class of a store that was given up because it was too slow. Nothing about its documents is known then, so
/// there is no refusal of one.
fn slow(error: &(dyn Error + 'static)) -> Option<Class> {
    let is_slow = |cause: &(dyn Error + 'static)| matches!(cause.downcast_ref(), Some(StoreError::Slow { .. }));
    chain(error).any(is_slow).then_some(Class::Slow)
}

/// The exit code and the next step that an error's chain calls for.
fn classify(error: &(dyn Error + 'static)) -> (Exit, Option<String>) {
    for cause in chain(error) {
        if let Some(refusal) = as_refusal(cause) {
            let exit = Exit(refusal.class().exit_code());
            return (exit, Some(refusal.hint().to_owned()));
        }
        let unusable_address = matches!(
            cause.downcast_ref(),
            Some(OpenError::Address { .. } | OpenError::Credentials { .. } | OpenError::Setting { .. })
        );
        if unusable_address || cause.is::<ConfigError>() {
            return (Exit(exit::USAGE), None);
        }
        if let Some(error) = cause.downcast_ref::<NodeError>() {
            return (Exit(error.exit_code()), error.next());
        }
        if cause.is::<Cancelled>() {
            return (Exit::INTERRUPTED, None);
        }
    }
    match slow(error) {
        Some(class) => (Exit(class.exit_code()), Some(class.remedy().to_owned())),
        None => (Exit(exit::COULD_NOT_RUN), None),
    }
}

/// The refusal that an error is. Errors hold it as a source of its own, boxed or not; one that
/// forwards to it transparently would hide its class from this search.
fn as_refusal<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Refusal> {
    let boxed = || error.downcast_ref::<Box<Refusal>>().map(|refusal| &**refusal);
    error.downcast_ref::<Refusal>().or_else(boxed)
}

fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The problem in one line, with the sentence that says most: the refusal, else the error and its causes.
impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(refusal) = self.refusal() {
            return write!(f, "{refusal}");
        }
        f.write_str(&self.error.to_string())?;
        chain(&*self.error).skip(1).try_for_each(|cause| write!(f, ": {cause}"))?;
        self.class.map_or(Ok(()), |class| write!(f, " ({class})"))
    }
}

impl CliError {
    fn of_sentence(exit: u8, sentence: impl Into<String>) -> Self {
        Self { exit: Exit(exit), class: None, error: sentence.into().into(), next: None }
    }

    /// The command line or the configuration is wrong.
    pub fn usage(sentence: impl Into<String>) -> Self {
        Self::of_sentence(exit::USAGE, sentence)
    }

    /// Refused, and nothing was touched.
    pub fn refused(sentence: impl Into<String>) -> Self {
        Self::of_sentence(exit::REFUSED, sentence)
    }

    /// The answer is no.
    pub fn no(sentence: impl Into<String>) -> Self {
        Self::of_sentence(exit::NO, sentence)
    }

    /// Refused with a class that the error itself does not hold.
    pub fn of_class(error: impl Error + Send + Sync + 'static, class: Class) -> Self {
        let error = Self::from(error).with_exit(Exit(class.exit_code())).next(class.remedy());
        Self { class: Some(class), ..error }
    }

    /// Puts a sentence before this error; the error becomes its cause.
    pub fn context(self, sentence: impl Into<String>) -> Self {
        Self { error: Box::new(Context { sentence: sentence.into(), source: self.error }), ..self }
    }

    /// Says what to do about it.
    pub fn next(self, step: impl Into<String>) -> Self {
        Self { next: Some(step.into()), ..self }
    }

    /// Ends with another exit code.
    pub fn with_exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }

    /// Prints the problem to stderr and gives the exit code.
    pub fn report(&self, out: &mut Output) -> Exit {
        if self.is_broken_pipe() {
            return Exit::BROKEN_PIPE;
        }
        let mut sentences = chain(&*self.error).map(sentence);
        let mut error = sentences.next().unwrap_or_default();
        let class = self.refusal().map(Refusal::class).or(self.class);
        if let Some(class) = self.class {
            // As with a refusal, the message ends with the name of the class.
            error = format!("{error} ({class})");
        }
        // Some libraries repeat their cause in their own message; it is said once.
        let mut said = error.clone();
        let mut causes = Vec::new();
        for cause in sentences {
            if !said.contains(&cause) {
                said.clone_from(&cause);
                causes.push(cause);
            }
        }
        if out.is_json() {
            out.problem_json(&Problem {
                schema: "snapkit.error/1",
                exit_code: self.exit.code(),
                class: class.map(Class::name),
                error,
                causes,
                next: self.next.clone(),
            });
        } else {
            out.problem(format_args!("error: {error}"));
            for cause in causes {
                out.problem(format_args!("  cause: {cause}"));
            }
            if let Some(next) = &self.next {
                out.problem(format_args!("  next: {next}"));
            }
        }
        self.exit
    }

    /// The class of the refusal that this is.
    pub fn class(&self) -> Option<Class> {
        self.refusal().map(Refusal::class).or(self.class)
    }

    fn refusal(&self) -> Option<&Refusal> {
        chain(&*self.error).find_map(as_refusal)
    }

    fn is_broken_pipe(&self) -> bool {
        chain(&*self.error)
            .filter_map(|cause| cause.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// One error of a chain as a sentence. A refusal's advice is printed as the next step instead.
fn sentence(error: &(dyn Error + 'static)) -> String {
    match as_refusal(error) {
        Some(refusal) => format!(
            "{}: expected {}, found {} ({})",
            refusal.object(),
            refusal.expected(),
            refusal.found(),
            refusal.class(),
        ),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::refusal::Class;

    #[test]
    fn a_refusal_anywhere_in_the_chain_gives_the_exit_code_and_the_next_step() {
        let refusal = Refusal::new(Class::NoPin, "store /srv", "a pin", "none");
        let error = CliError::from(Context { sentence: "cannot read the chain".to_owned(), source: Box::new(refusal) });
        assert_eq!(error.exit.code(), Class::NoPin.exit_code());
        assert_eq!(error.next.as_deref(), Some(Class::NoPin.remedy()));
    }

    #[test]
    fn a_slow_store_has_its_class_wherever_it_was_met() {
        let (key, store) = ("root/1.json".to_owned(), "https://s".to_owned());
        let slow = StoreError::Slow { key, store, moved_bytes: 1, seconds: 120 };
        let error = CliError::from(crate::trust::TrustError::Store(slow));
        assert_eq!((error.exit.code(), error.class), (Class::Slow.exit_code(), Some(Class::Slow)));
    }

    #[test]
    fn an_unclassified_error_means_could_not_run() {
        let error = CliError::from(io::Error::other("no")).context("cannot open");
        assert_eq!(error.exit.code(), exit::COULD_NOT_RUN);
        assert!(!error.is_broken_pipe());
        let pipe = CliError::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(pipe.is_broken_pipe());
    }
}
