//! Policies: which paths must match, which may advance, and which do not matter.
//!
//! Documented in `docs/diff.md`. Layer: pure, but for reading the file.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use serde::{Deserialize, Serialize};

/// What a path may do between two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Nothing of it may differ.
    MustMatch,
    /// It may have been written to, and B may have more of its kind; it may not be gone.
    MayAdvance,
    /// It is not looked at.
    Ignore,
}

impl Class {
    /// All of them.
    const ALL: [Self; 3] = [Self::MustMatch, Self::MayAdvance, Self::Ignore];

    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::MustMatch => "must-match",
            Self::MayAdvance => "may-advance",
            Self::Ignore => "ignore",
        }
    }

    pub(super) fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// What is to be said of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing differs that counts.
    Identical,
    /// It differs as its class allows.
    Advanced,
    /// It differs.
    Differs,
    /// It is only in A.
    Missing,
    /// It is only in B.
    Extra,
}

impl Verdict {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Advanced => "advanced",
            Self::Differs => "differs",
            Self::Missing => "missing",
            Self::Extra => "extra",
        }
    }

    /// Whether a path of this class may be found so.
    pub fn is_allowed(self, class: Class) -> bool {
        match class {
            Class::MustMatch => self == Self::Identical,
            Class::MayAdvance => !matches!(self, Self::Differs | Self::Missing),
            Class::Ignore => true,
        }
    }
}

/// Ordered rules; the first that matches a path decides.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<(Gitignore, Class)>,
    /// Whether the policy asks for what the content digest covers alone.
    pub content_only: bool,
    /// Whether paths begin with the name of their tree.
    pub sees_tree_names: bool,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("cannot read the policy {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is not the TOML that is asked for.
    #[error("the policy {} is not as docs/diff.md says", .path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// A pattern is not gitignore syntax.
    #[error("cannot use the pattern {pattern:?} of the policy {}", .path.display())]
    Pattern {
        /// The file.
        path: PathBuf,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: ignore::Error,
    },
    /// A pattern takes something back, which means nothing in ordered rules.
    #[error("the pattern {pattern:?} of the policy {} begins with !; put a rule for these paths before it", .path.display())]
    Negated {
        /// The file.
        path: PathBuf,
        /// The pattern.
        pattern: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    compare: Compare,
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Compare {
    #[default]
    Full,
    Content,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    paths: Vec<String>,
    class: Class,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the file.
    pub fn load(path: &Path) -> Result<Self, PolicyError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| PolicyError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        let file: File = toml::from_str(text).map_err(|source| PolicyError::Form { path: path.to_owned(), source })?;
        let mut rules = Vec::new();
        for rule in file.rule {
            let mut builder = GitignoreBuilder::new("");
            let wrong = |pattern: &str, source| PolicyError::Pattern {
                path: path.to_owned(),
                pattern: pattern.to_owned(),
                source,
            };
            for pattern in &rule.paths {
                if pattern.starts_with('!') {
                    return Err(PolicyError::Negated { path: path.to_owned(), pattern: pattern.clone() });
                }
                builder.add_line(None, pattern).map_err(|source| wrong(pattern, source))?;
            }
            let matcher = builder.build().map_err(|source| wrong("", source))?;
            rules.push((matcher, rule.class));
        }
        Ok(Self { rules, content_only: matches!(file.compare, Compare::Content), sees_tree_names: false })
    }

    /// Whether it has no rule, so that every path must match.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The class of a path; a rule for a directory covers what is below it.
    pub fn class_of(&self, path: &[u8], is_directory: bool) -> Class {
        if self.rules.is_empty() || path.is_empty() {
            return Class::MustMatch;
        }
        let path = Path::new(OsStr::from_bytes(path));
        let decides = |rule: &&(Gitignore, Class)| rule.0.matched_path_or_any_parents(path, is_directory).is_ignore();
        self.rules.iter().find(decides).map_or(Class::MustMatch, |(_, class)| *class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(text, Path::new("policy.toml")).unwrap()
    }

    #[test]
    fn the_first_rule_that_matches_decides_and_a_directory_covers_what_is_below() {
        let policy = policy(
            "[[rule]]\npaths = [\"/data/CURRENT\"]\nclass = \"must-match\"\n\
             [[rule]]\npaths = [\"/data\", \"*.log\"]\nclass = \"may-advance\"\n\
             [[rule]]\npaths = [\"/tmp/\"]\nclass = \"ignore\"\n",
        );
        let class = |path: &str, is_directory| policy.class_of(path.as_bytes(), is_directory);
        assert_eq!(class("data/CURRENT", false), Class::MustMatch);
        assert_eq!(class("data", true), Class::MayAdvance);
        assert_eq!(class("data/deep/below", false), Class::MayAdvance);
        assert_eq!(class("var/x.log", false), Class::MayAdvance);
        assert_eq!(class("other", false), Class::MustMatch);
        assert_eq!(class("tmp", true), Class::Ignore);
        assert_eq!(class("tmp", false), Class::MustMatch, "a pattern with a slash at its end is for directories");
        assert_eq!(class("tmp/x", false), Class::Ignore);
        assert_eq!(class("", true), Class::MustMatch);
    }

    #[test]
    fn what_a_policy_cannot_say_is_refused() {
        for text in [
            "[[rule]]\npaths = [\"!x\"]\nclass = \"ignore\"\n",
            "[[rule]]\npaths = [\"x\"]\nclass = \"whatever\"\n",
            "[[rule]]\npaths = [\"x\"]\n",
            "[[rules]]\npaths = [\"x\"]\nclass = \"ignore\"\n",
            "compare = \"some\"\n",
        ] {
            assert!(Policy::parse(text, Path::new("p")).is_err(), "{text}");
        }
    }

    #[test]
    fn what_may_advance_may_not_be_gone() {
        assert!(Verdict::Advanced.is_allowed(Class::MayAdvance));
        assert!(Verdict::Extra.is_allowed(Class::MayAdvance));
        assert!(!Verdict::Missing.is_allowed(Class::MayAdvance));
        assert!(!Verdict::Differs.is_allowed(Class::MayAdvance));
        assert!(!Verdict::Extra.is_allowed(Class::MustMatch));
    }
}
