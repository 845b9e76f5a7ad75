//! Pages with commands in them: the fenced blocks of a runbook, and the commands that are in those.
//!
//! A page that names a command which does not exist any more is found when it is needed most. Blocks called `console` hold
//! what was typed behind `$ ` and what came back; `sh`, `bash` and `shell` are scripts. Other blocks are no commands.
//! Layer: pure.

mod shell;

pub use shell::{Command, Problem};

/// A fenced block of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of its first line in the page, counted from 1.
    pub line: usize,
    /// What a shell would get; the answers in a `console` block are empty lines.
    pub script: String,
}

impl Block {
    /// Its simple commands, with the lines of the page that they begin on.
    ///
    /// # Errors
    /// What a shell could not read, and its line in the page.
    pub fn commands(&self) -> Result<Vec<Command>, Problem> {
        let moved = |line: usize| line + self.line - 1;
        let commands = shell::commands(&self.script);
        let commands = commands.map_err(|problem| Problem { line: moved(problem.line), ..problem })?;
        Ok(commands.into_iter().map(|command| Command { line: moved(command.line), ..command }).collect())
    }
}

/// The blocks of commands in a Markdown page.
pub fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let fence: String = line.trim_start().chars().take_while(|c| *c == '`').collect();
        if fence.len() < 3 {
            continue;
        }
        let language = line.trim_start().trim_start_matches('`').split_whitespace().next().unwrap_or_default();
        let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != fence);
        let inside: Vec<&str> = inside.map(|line| line.get(indent.min(line.len())..).unwrap_or(line)).collect();
        let script = match language {
            "console" => typed(&inside),
            "sh" | "bash" | "shell" => inside.join("\n"),
            _ => continue,
        };
        found.push(Block { line: number + 2, script });
    }
    found
}

/// What stands behind a prompt, with the lines that continue it.
fn typed(lines: &[&str]) -> String {
    let mut continues = false;
    let typed = lines.iter().map(|line| {
        let command = if continues { Some(*line) } else { line.strip_prefix("$ ").or(line.strip_prefix("# ")) };
        continues = command.is_some_and(|command| command.ends_with('\\'));
        command.unwrap_or_default()
    });
    typed.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(page: &str) -> Vec<(usize, Vec<String>)> {
        let commands = blocks(page).into_iter().flat_map(|block| block.commands().unwrap());
        commands.map(|command| (command.line, command.words)).collect()
    }

    fn line(number: usize, words: &str) -> (usize, Vec<String>) {
        (number, words.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn what_was_typed_is_told_from_what_came_back() {
        let page = "# Page\n\n```console\n$ a b \\\n  c\nan answer\n# d\n```\n\n```text\ne\n```\n";
        assert_eq!(words(page), [line(4, "a b c"), line(7, "d")]);
    }

    #[test]
    fn a_script_may_be_indented_and_its_comments_are_none() {
        let page = "1. so\n\n   ```sh\n   # first\n   a b   # why\n\n   c\n   ```\n";
        assert_eq!(words(page), [line(5, "a b"), line(7, "c")]);
    }

    #[test]
    fn what_a_shell_could_not_read_has_its_line() {
        let blocks = blocks("```sh\ntrue\necho 'it\n```\n");
        let problem = blocks[0].commands().unwrap_err();
        assert_eq!((problem.line, problem.what.as_str()), (3, "a quote ' is not closed"));
    }
}
