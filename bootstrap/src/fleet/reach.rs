//! Commands on nodes: here, or behind a prefix such as `ssh host`.
//!
//! Where words pass through a shell on the way, they are quoted for it. Standard input is given whole; what is not used of it
//! is no error. Layer: the edge.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::inventory::{Ingress, Node};
use super::quote;
use crate::command::{self, Finished, Leftovers};

/// How a command gets to where it is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    prefix: Vec<String>,
    quote: bool,
}

/// Why a command was not run.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The inventory does not say how.
    #[error("no command can be run on {0}: the inventory gives it no `reach` ([] for this machine)")]
    Nowhere(String),
    /// There is nothing to run.
    #[error("a command without a program")]
    Empty,
    /// It cannot be started here.
    #[error("{program} cannot be run")]
    Run {
        /// The program, of this machine.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Reach {
    /// This machine.
    pub fn local() -> Self {
        Self { prefix: Vec::new(), quote: false }
    }

    /// To a node.
    ///
    /// # Errors
    /// [`ReachError::Nowhere`] where the inventory does not say how.
    pub fn of_node(node: &Node) -> Result<Self, ReachError> {
        Self::new(node.reach.as_deref(), node.quote).ok_or_else(|| ReachError::Nowhere(node.name.clone()))
    }

    /// To the machine of the ingress.
    ///
    /// # Errors
    /// [`ReachError::Nowhere`] where the inventory does not say how.
    pub fn of_ingress(ingress: &Ingress) -> Result<Self, ReachError> {
        Self::new(ingress.reach.as_deref(), ingress.quote).ok_or_else(|| ReachError::Nowhere("the ingress".to_owned()))
    }

    fn new(prefix: Option<&[String]>, quote: Option<bool>) -> Option<Self> {
        let prefix = prefix?.to_vec();
        let program = prefix.first().and_then(|program| Path::new(program).file_name());
        let is_ssh = program.is_some_and(|program| program == "ssh");
        Some(Self { quote: quote.unwrap_or(is_ssh) && !prefix.is_empty(), prefix })
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        self.prefix.is_empty()
    }

    /// The words that are put before a command.
    pub fn prefix(&self) -> &[String] {
        &self.prefix
    }

    /// Whether the words behind them pass through a shell.
    pub fn quotes(&self) -> bool {
        self.quote
    }

    /// The words that are run on this machine so that these run there.
    pub fn argv<S: AsRef<str>>(&self, argv: &[S]) -> Vec<String> {
        let behind = |word: &S| if self.quote { quote::word(word.as_ref()) } else { word.as_ref().to_owned() };
        self.prefix.iter().cloned().chain(argv.iter().map(behind)).collect()
    }

    /// The command line that a person would type on this machine.
    pub fn text<S: AsRef<str>>(&self, argv: &[S]) -> String {
        quote::words(&self.argv(argv))
    }

    /// Runs a command there, at most for `limit`. That it failed is no error: look at what it gives.
    ///
    /// # Errors
    /// [`ReachError`] when nothing was run.
    pub fn run<S: AsRef<str>>(&self, argv: &[S], stdin: &[u8], limit: Duration) -> Result<Finished, ReachError> {
        if argv.is_empty() {
            return Err(ReachError::Empty);
        }
        let words = self.argv(argv);
        let (program, arguments) = words.split_first().ok_or(ReachError::Empty)?;
        let mut command = Command::new(program);
        command.args(arguments);
        command::run_with(command, stdin, limit, Leftovers::Kill)
            .map_err(|source| ReachError::Run { program: program.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(prefix: &[&str], quote: Option<bool>) -> Reach {
        let prefix: Vec<String> = prefix.iter().map(|&word| word.to_owned()).collect();
        Reach::new(Some(&prefix), quote).unwrap()
    }

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn what_passes_through_a_shell_arrives_as_it_was() {
        // As ssh does it: all words in one line, for a shell.
        let shell = reach(&["sh", "-c", "exec sh -c \"$*\"", "far"], Some(true));
        let words = ["printf", "%s|", "it's", "two words", "$HOME", "", "a\nb"];
        let ended = shell.run(&words, b"", LIMIT).unwrap();
        assert_eq!(ended.stdout, "it's|two words|$HOME||a\nb|");
        let direct = reach(&["env"], None);
        assert_eq!(direct.run(&words, b"", LIMIT).unwrap().stdout, ended.stdout);
        assert_eq!(Reach::local().run(&words, b"", LIMIT).unwrap().stdout, ended.stdout);
    }

    #[test]
    fn words_behind_ssh_are_quoted_and_others_are_not() {
        assert_eq!(reach(&["/usr/bin/ssh", "a"], None).argv(&["echo", "a b"]), ["/usr/bin/ssh", "a", "echo", "'a b'"]);
        assert_eq!(reach(&["sudo", "-n"], None).argv(&["echo", "a b"]), ["sudo", "-n", "echo", "a b"]);
        assert_eq!(reach(&["sudo", "-n"], None).text(&["echo", "a b"]), "sudo -n echo 'a b'");
    }

    #[test]
    fn standard_input_arrives_and_need_not_be_read() {
        assert_eq!(Reach::local().run(&["cat"], b"all of it", LIMIT).unwrap().stdout, "all of it");
        let much = vec![b'x'; 1 << 20];
        assert!(Reach::local().run(&["true"], &much, LIMIT).unwrap().is_good());
    }

    #[test]
    fn a_command_without_a_program_and_a_program_that_is_not_there_are_errors() {
        assert!(matches!(Reach::local().run::<&str>(&[], b"", LIMIT), Err(ReachError::Empty)));
        assert!(matches!(Reach::local().run(&["/no/such/program"], b"", LIMIT), Err(ReachError::Run { .. })));
    }
}
