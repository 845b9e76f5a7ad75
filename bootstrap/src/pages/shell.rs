//! As much of the POSIX shell as finds the simple commands of a script: quoting, operators, redirections, here-documents.
//!
//! Nothing is expanded: a variable stays what it is called. Commands inside `$(…)` are found, too.
//! Layer: pure.

use std::iter::Peekable;
use std::str::Chars;

/// A simple command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The line it begins on, counted from 1.
    pub line: usize,
    /// Its words, without quotes, without what sets variables before it.
    pub words: Vec<String>,
}

/// Why a script cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line.
    pub line: usize,
    /// What is wrong there.
    pub what: String,
}

/// The simple commands of a script, in order.
pub(super) fn commands(script: &str) -> Result<Vec<Command>, Problem> {
    let mut reader = Reader { rest: script.chars().peekable(), line: 1, ..Reader::default() };
    reader.read()?;
    Ok(reader.found)
}

/// Words that begin or end a part of a script, where a command could begin.
const KEYWORDS: [&str; 12] = ["if", "then", "elif", "else", "fi", "while", "until", "do", "done", "esac", "{", "!"];
/// Words after which what follows up to the end of the command is none.
const HEADS: [&str; 4] = ["for", "case", "select", "function"];

struct Reader<'s> {
    rest: Peekable<Chars<'s>>,
    line: usize,
    found: Vec<Command>,
    words: Vec<String>,
    /// The word that is being read, and whether a part of it was quoted.
    word: Option<(String, bool)>,
    begins: usize,
    /// Subshells that are open.
    open: usize,
    /// The next word is the target of a redirection.
    target: Target,
    /// Ends of here-documents that follow the line.
    documents: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    No,
    File,
    Document,
}

impl Default for Reader<'_> {
    fn default() -> Self {
        Self {
            rest: "".chars().peekable(),
            line: 1,
            found: Vec::new(),
            words: Vec::new(),
            word: None,
            begins: 1,
            open: 0,
            target: Target::No,
            documents: Vec::new(),
        }
    }
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn put(&mut self, part: &str, quoted: bool) {
        let (word, was) = self.word.get_or_insert_with(Default::default);
        word.push_str(part);
        *was |= quoted;
    }

    fn read(&mut self) -> Result<(), Problem> {
        loop {
            let line = self.line;
            let Some(next) = self.next() else { break };
            match next {
                '\\' => match self.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.put(&escaped.to_string(), true),
                },
                '\'' => {
                    let text = self.until('\'', line)?;
                    self.put(&text, true);
                }
                '"' => self.double(line)?,
                '$' if self.rest.peek() == Some(&'(') => {
                    let text = self.substitution(line)?;
                    self.put(&text, false);
                }
                '`' => {
                    let inner = self.until('`', line)?;
                    self.inner(&inner, line)?;
                    self.put("`…`", false);
                }
                '#' if self.word.is_none() => {
                    while self.rest.peek().is_some_and(|c| *c != '\n') {
                        self.next();
                    }
                }
                '\n' => {
                    self.end_command();
                    self.skip_documents()?;
                }
                ' ' | '\t' | '\r' => self.end_word(),
                ';' | '&' | '|' => self.end_command(),
                '(' => {
                    self.end_command();
                    self.open += 1;
                }
                // The end of a pattern of `case`, which is no command.
                ')' if self.open == 0 => {
                    self.word = None;
                    self.words.clear();
                }
                ')' => {
                    self.end_command();
                    self.open -= 1;
                }
                '<' | '>' => self.redirect(next),
                other => self.put(&other.to_string(), false),
            }
        }
        self.end_command();
        Ok(())
    }

    fn until(&mut self, end: char, line: usize) -> Result<String, Problem> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return problem(line, &format!("a quote {end} is not closed")),
                Some(c) if c == end => return Ok(text),
                Some(c) => text.push(c),
            }
        }
    }

    fn double(&mut self, line: usize) -> Result<(), Problem> {
        self.put("", true);
        loop {
            match self.next() {
                None => return problem(line, "a quote \" is not closed"),
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some('\n') | None => {}
                    Some(c @ ('"' | '\\' | '$' | '`')) => self.put(&c.to_string(), true),
                    Some(c) => self.put(&format!("\\{c}"), true),
                },
                Some('$') if self.rest.peek() == Some(&'(') => {
                    let text = self.substitution(line)?;
                    self.put(&text, true);
                }
                Some(c) => self.put(&c.to_string(), true),
            }
        }
    }

    /// `$(…)`, whose opening parenthesis is next; its commands are commands.
    fn substitution(&mut self, line: usize) -> Result<String, Problem> {
        self.next();
        let (mut text, mut open) = (String::new(), 1);
        loop {
            match self.next() {
                None => return problem(line, "$( is not closed"),
                Some('\'') => {
                    let quoted = self.until('\'', line)?;
                    text.push_str(&format!("'{quoted}'"));
                }
                Some(c) => {
                    open += i32::from(c == '(') - i32::from(c == ')');
                    if open == 0 {
                        break;
                    }
                    text.push(c);
                }
            }
        }
        // Arithmetic has no commands.
        if !text.starts_with('(') {
            self.inner(&text, line)?;
        }
        Ok(format!("$({text})"))
    }

    fn inner(&mut self, script: &str, line: usize) -> Result<(), Problem> {
        let moved = |inner: usize| line + inner - 1;
        let inner = commands(script).map_err(|problem| Problem { line: moved(problem.line), ..problem })?;
        self.found.extend(inner.into_iter().map(|command| Command { line: moved(command.line), ..command }));
        Ok(())
    }

    fn redirect(&mut self, first: char) {
        // What is redirected is a number, and no word of the command.
        if self.word.as_ref().is_some_and(|(word, quoted)| !quoted && word.bytes().all(|b| b.is_ascii_digit())) {
            self.word = None;
        }
        self.end_word();
        let mut operator = String::from(first);
        while let Some(c) = self.rest.next_if(|c| matches!(c, '<' | '>' | '&' | '-' | '|')) {
            operator.push(c);
        }
        self.target = match operator.as_str() {
            "<<" | "<<-" => Target::Document,
            "<&-" | ">&-" => Target::No,
            _ => Target::File,
        };
    }

    fn end_word(&mut self) {
        let Some((word, quoted)) = self.word.take() else { return };
        match std::mem::replace(&mut self.target, Target::No) {
            Target::File => return,
            Target::Document => return self.documents.push(word),
            Target::No => {}
        }
        if self.words.is_empty() {
            self.begins = self.line;
            let is_assignment = word.split_once('=').is_some_and(|(name, _)| is_name(name));
            if is_assignment || !quoted && KEYWORDS.contains(&word.as_str()) || word == "}" {
                return;
            }
        }
        self.words.push(word);
    }

    fn end_command(&mut self) {
        self.end_word();
        let words = std::mem::take(&mut self.words);
        if words.first().is_some_and(|first| !HEADS.contains(&first.as_str())) {
            self.found.push(Command { line: self.begins, words });
        }
    }

    fn skip_documents(&mut self) -> Result<(), Problem> {
        for end in std::mem::take(&mut self.documents) {
            let began = self.line;
            loop {
                let mut line = String::new();
                let mut read = false;
                while let Some(c) = self.next() {
                    read = true;
                    if c == '\n' {
                        break;
                    }
                    line.push(c);
                }
                if line.trim_start_matches('\t') == end {
                    break;
                }
                if !read {
                    return problem(began, &format!("a here-document does not end with {end}"));
                }
            }
        }
        Ok(())
    }
}

fn problem<T>(line: usize, what: &str) -> Result<T, Problem> {
    Err(Problem { line, what: what.to_owned() })
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(script: &str) -> Vec<String> {
        commands(script).unwrap().into_iter().map(|command| command.words.join("|")).collect()
    }

    #[test]
    fn words_are_split_and_unquoted_as_a_shell_does() {
        assert_eq!(words(r##"a 'b c' "d \"e" f\ g 'h'"i"# j"##), ["a|b c|d \"e|f g|hi#|j"]);
        assert_eq!(words("a \\\n  b"), ["a|b"]);
        assert_eq!(words("a # b 'c"), ["a"]);
        assert_eq!(words("a 'URL#root=sha256:…'"), ["a|URL#root=sha256:…"]);
    }

    #[test]
    fn every_command_of_a_line_is_found() {
        assert_eq!(words("cd x && A=1 B='2 3' b c | d; e & f >out 2>&1 <in g"), ["cd|x", "b|c", "d", "e", "f|g"]);
        assert_eq!(words("for n in 1 2; do a $n; done"), ["a|$n"]);
        assert_eq!(words("if a; then b; else ! c; fi"), ["a", "b", "c"]);
        assert_eq!(words("case $1 in\nstart) a b ;;\nstop)  c ;;\nesac"), ["a|b", "c"]);
        assert_eq!(words("(a; b)\nf() { c; }"), ["a", "b", "f", "c"]);
    }

    #[test]
    fn what_is_run_inside_of_a_word_is_found() {
        assert_eq!(words("a \"$(b 'c)' d)\" e"), ["b|c)|d", "a|$(b 'c)' d)|e"]);
        assert_eq!(words("n=$((1 + 2)) a"), ["a"]);
    }

    #[test]
    fn a_here_document_is_no_command() {
        assert_eq!(words("a <<END b\nnot 'this\nEND\nc"), ["a|b", "c"]);
        assert_eq!(commands("a <<END\nb").unwrap_err().what, "a here-document does not end with END");
    }
}
