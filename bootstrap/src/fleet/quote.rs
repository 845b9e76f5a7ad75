//! Words for a POSIX shell: what is printed to be copied, and what passes through a shell on another machine.
//!
//! Layer: pure.

/// One word, so that a POSIX shell reads it as it is.
pub fn word(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=@%+,".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A command line of these words.
pub fn words<S: AsRef<str>>(words: &[S]) -> String {
    // `A=b` as the first word would set a variable instead of naming a program.
    let first = |(number, text): (usize, &S)| match text.as_ref() {
        text if number == 0 && text.contains('=') => format!("'{}'", text.replace('\'', r"'\''")),
        text => word(text),
    };
    words.iter().enumerate().map(first).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_exactly_the_words() {
        let given = [
            "printf",
            "%s\\n",
            "",
            "plain",
            "two words",
            "it's",
            "$HOME",
            "`id`",
            "a\nb",
            "*",
            "~",
            "!x",
            "\\",
            "\"",
            "é",
            "#",
            "-",
            "--",
            "a=b",
            ";",
            "&&",
            "\t",
            "'",
            "''",
            "{a,b}",
            "=x",
        ];
        let script = words(&given);
        let script = script.replacen("'%s\\n'", "'%s\\0'", 1);
        for shell in ["sh", "bash"] {
            let output = Command::new(shell).args(["-c", &script]).env("HOME", "/nowhere").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let read: Vec<&str> = text.strip_suffix('\0').unwrap().split('\0').collect();
            assert_eq!(read, given[2..], "{shell}: {script}");
        }
    }

    #[test]
    fn a_program_with_an_equals_sign_is_run_and_not_set() {
        assert_eq!(words(&["A=b", "c=d"]), "'A=b' c=d");
    }
}
