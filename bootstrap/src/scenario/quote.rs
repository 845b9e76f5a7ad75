//! Quoting for a POSIX shell: words that a person copies, or that a shell on another host reads, mean what they were.
//!
//! Layer: pure.

/// A word as a shell reads it back unchanged; left alone where it needs no quotes.
pub fn word(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./:=@%+,".contains(character);
    // A shell takes `a=b` in front of a command for a variable, so an equals sign is quoted unless an option holds it.
    let assigns = word.contains('=') && !word.starts_with('-');
    if !word.is_empty() && word.chars().all(plain) && !assigns {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A command line.
pub fn line<'w>(words: impl IntoIterator<Item = &'w (impl AsRef<str> + ?Sized + 'w)>) -> String {
    words.into_iter().map(|one| word(one.as_ref())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_word_back_as_it_was() {
        let words = [
            "",
            "plain",
            "two words",
            "it's",
            "''",
            "$HOME",
            "`id`",
            "a\nb",
            "\\",
            "\"",
            "*",
            "~",
            "a=b",
            "--a=b",
            "!x",
            "ünïcode",
            "#no",
            ";ls",
            "-n",
            "%s\\n",
            "a\tb",
            "{a,b}",
            "<x>",
            "\u{1}",
        ];
        for shell in ["sh", "bash"] {
            let script = format!("printf '%s\\0' {}", line(&words));
            let Ok(read) = Command::new(shell).args(["-c", &script]).output() else {
                assert_ne!(shell, "sh", "there is a shell");
                continue;
            };
            let read = String::from_utf8(read.stdout).unwrap();
            let read: Vec<&str> = read.strip_suffix('\0').unwrap().split('\0').collect();
            assert_eq!(read, words, "{shell}: {script}");
        }
    }

    #[test]
    fn what_needs_no_quotes_stays_readable() {
        assert_eq!(
            line(&["bootstrap", "drain", "/srv/node", "--reason", "it's time"]),
            r"bootstrap drain /srv/node --reason 'it'\''s time'"
        );
    }
}
