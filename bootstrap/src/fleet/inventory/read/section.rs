//! One table of an inventory, read key by key: what is missing, unknown or not what it should be is noted with its line.
//!
//! Every key that is read stands in `schema`. A value that may be a secret is never shown. Layer: pure.

use std::cell::RefCell;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use manifests::document::is_name;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use url::Url;

use super::super::{Reference, schema};
use super::Problem;

/// The text, and what is wrong with it.
pub(super) struct Reader<'t> {
    pub(super) text: &'t str,
    pub(super) problems: RefCell<Vec<Problem>>,
}

impl Reader<'_> {
    pub(super) fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }
}

/// One table of the file.
pub(super) struct Section<'r> {
    pub(super) reader: &'r Reader<'r>,
    /// Its name in `schema`.
    pub(super) form: &'static str,
    /// Its name for people.
    pub(super) name: String,
    pub(super) line: Option<usize>,
    table: &'r DeTable<'r>,
}

impl<'r> Section<'r> {
    pub(super) fn new(
        reader: &'r Reader<'r>,
        form: &'static str,
        name: impl Into<String>,
        line: Option<usize>,
        table: &'r DeTable<'r>,
    ) -> Self {
        let section = Self { reader, form, name: name.into(), line, table };
        let known: Vec<&str> = schema::keys(form).chain(schema::sections(form)).collect();
        for key in table.keys().filter(|key| !known.contains(&&**key.get_ref()) && !known.contains(&"NAME")) {
            let what = format!("there is no key {}; there are {}", key.get_ref(), known.join(", "));
            section.problem(Some(reader.line(key.span().start)), what);
        }
        section
    }

    pub(super) fn problem(&self, line: Option<usize>, what: impl Into<String>) {
        let problem = Problem { line, section: self.name.clone(), what: what.into() };
        self.reader.problems.borrow_mut().push(problem);
    }

    pub(super) fn problem_at(&self, key: &str, what: impl Into<String>) {
        self.problem(self.line_of(key), what);
    }

    pub(super) fn missing(&self, key: &str) {
        self.problem(self.line, format!("{key} is missing"));
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn value(&self, key: &str) -> Option<&'r Spanned<DeValue<'r>>> {
        debug_assert!(
            schema::keys(self.form).chain(schema::sections(self.form)).any(|known| known == key),
            "[{}] {key} is read and stands in no schema",
            self.form
        );
        self.table.iter().find(|(name, _)| **name.get_ref() == *key).map(|(_, value)| value)
    }

    pub(super) fn wrong(&self, key: &str, expected: &str, found: &Spanned<DeValue<'_>>) {
        let found = match found.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            other => format!("a value of the type {}", other.type_str()),
        };
        self.problem_at(key, format!("{key} must be {expected}, found {found}"));
    }

    /// A text as it stands there, without a judgement.
    pub(super) fn given(&self, key: &str) -> Option<&'r str> {
        self.value(key)?.get_ref().as_str()
    }

    /// The line of a key.
    pub(super) fn line_of(&self, key: &str) -> Option<usize> {
        let at = self.table.iter().find(|(name, _)| **name.get_ref() == *key);
        at.map(|(name, _)| self.reader.line(name.span().start)).or(self.line)
    }

    /// Names of nodes that there are, each once.
    pub(super) fn nodes(&self, key: &str, known: &[String]) -> Option<Vec<String>> {
        let names = self.texts(key)?;
        for (number, name) in names.iter().enumerate() {
            if !known.contains(name) {
                let what = format!("{key} names {name}, which is no node; there are {}", known.join(", "));
                self.problem_at(key, what);
            } else if names[..number].contains(name) {
                self.problem_at(key, format!("{key} names {name} twice"));
            }
        }
        Some(names)
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref().as_str() {
            Some(text) if !text.trim().is_empty() => Some(text.to_owned()),
            _ => {
                self.wrong(key, "text that is not empty", value);
                None
            }
        }
    }

    pub(super) fn name_if_given(&self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if !is_name(&text) {
            let what = format!("{key} must be of a-z, 0-9, dots, dashes and underscores, found {text:?}");
            self.problem_at(key, what);
            return None;
        }
        Some(text)
    }

    pub(super) fn name(&self, key: &str) -> Option<String> {
        if !self.has(key) {
            self.missing(key);
        }
        self.name_if_given(key)
    }

    pub(super) fn parsed<T: FromStr>(&self, key: &str, expected: &str) -> Option<T> {
        let value = self.value(key)?;
        let parsed = value.get_ref().as_str().and_then(|text| text.parse().ok());
        if parsed.is_none() {
            self.wrong(key, expected, value);
        }
        parsed
    }

    pub(super) fn parsed_list(&self, key: &str, expected: &str) -> Vec<IpAddr> {
        let all = self.texts(key).unwrap_or_default();
        let parse = |text: &String| {
            let parsed = text.parse().ok();
            if parsed.is_none() {
                self.problem_at(key, format!("{key} must be {expected} each, found {text:?}"));
            }
            parsed
        };
        all.iter().filter_map(parse).collect()
    }

    /// An address that paths are put behind.
    pub(super) fn url(&self, key: &str) -> Option<Url> {
        self.exact_url(key).map(with_slash)
    }

    pub(super) fn exact_url(&self, key: &str) -> Option<Url> {
        let url: Url = self.parsed(key, "an address such as https://a.example/")?;
        let problem = match &url {
            url if !["http", "https"].contains(&url.scheme()) => "must be of http or https",
            url if !url.username().is_empty() || url.password().is_some() => {
                "holds a credential; name it under [credentials] instead"
            }
            url if url.query().is_some() || url.fragment().is_some() => "must end with its path",
            _ => return Some(url),
        };
        // Not shown: it may hold a credential.
        self.problem_at(key, format!("{key} {problem}"));
        None
    }

    pub(super) fn path(&self, key: &str) -> Option<String> {
        let path = self.text(key)?;
        if !path.starts_with('/') || path.starts_with("//") {
            self.problem_at(key, format!("{key} must be a path that begins with one slash, found {path:?}"));
            return None;
        }
        Some(path)
    }

    pub(super) fn pointer(&self, key: &str) -> Option<String> {
        let pointer = self.text(key)?;
        if !pointer.starts_with('/') {
            self.problem_at(key, format!("{key} must be a JSON pointer such as /lease/term, found {pointer:?}"));
            return None;
        }
        Some(pointer)
    }

    /// One pointer, or several.
    pub(super) fn pointers(&self, key: &str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let pointers = match value.get_ref().as_str() {
            Some(one) => vec![one.to_owned()],
            None => self.texts(key)?,
        };
        match pointers.iter().find(|pointer| !pointer.starts_with('/')) {
            Some(bad) => {
                self.problem_at(key, format!("{key} must be JSON pointers such as /lease/term, found {bad:?}"));
                None
            }
            None => Some(pointers),
        }
    }

    pub(super) fn absolute(&self, key: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(key)?);
        if !path.is_absolute() {
            self.problem_at(key, format!("{key} must be an absolute path, found {:?}", path.display().to_string()));
            return None;
        }
        Some(path)
    }

    pub(super) fn number(&self, key: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.value(key)?;
        let number = value.get_ref().as_integer().and_then(|number| {
            u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|number| (least..=most).contains(number))
        });
        if number.is_none() {
            let most = if most == u64::MAX { "any more".to_owned() } else { most.to_string() };
            let found = value.get_ref().as_integer().map(ToString::to_string);
            match found {
                Some(found) => self.problem_at(key, format!("{key} must be {least} to {most}, found {found}")),
                None => self.wrong(key, &format!("a number from {least} to {most}"), value),
            }
        }
        number
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, "true or false", value);
        }
        flag
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let one = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str().map(str::to_owned);
        let texts = value.get_ref().as_array().and_then(|list| list.iter().map(one).collect());
        if texts.is_none() {
            self.wrong(key, "a list of texts", value);
        }
        texts
    }

    pub(super) fn reach(&self) -> Option<Vec<String>> {
        let words = self.texts("reach")?;
        if words.iter().any(String::is_empty) {
            self.problem_at("reach", "reach has an empty word");
        }
        Some(words)
    }

    pub(super) fn argv(&self, key: &str) -> Option<Vec<String>> {
        let words = self.texts(key)?;
        if words.first().is_none_or(String::is_empty) {
            self.problem_at(key, format!("{key} must name a program and its arguments, found nothing"));
            return None;
        }
        Some(words)
    }

    pub(super) fn one_of<T: Clone>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.value(key)?;
        let found = value.get_ref().as_str();
        let chosen = choices.iter().find(|(word, _)| Some(*word) == found).map(|(_, chosen)| chosen.clone());
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.wrong(key, &words.join(" or "), value);
        }
        chosen
    }

    pub(super) fn reference(&self, key: &str) -> Option<Reference> {
        let value = self.value(key)?;
        let table = value.get_ref().as_table();
        let only = table.filter(|table| table.len() == 1).and_then(|table| table.iter().next());
        let text = only.and_then(|(kind, text)| Some((&**kind.get_ref(), text.get_ref().as_str()?)));
        match text {
            Some(("file", path)) if !path.is_empty() => Some(Reference::File(path.into())),
            Some(("env", name)) if !name.is_empty() => Some(Reference::Env(name.to_owned())),
            _ => {
                // What stands there may be the secret itself, so it is not shown.
                let what = format!("{key} must be {{ file = \"PATH\" }} or {{ env = \"NAME\" }}, found something else");
                self.problem_at(key, what);
                None
            }
        }
    }

    pub(super) fn inner(
        &self,
        key: &str,
        form: &'static str,
        value: &'r Spanned<DeValue<'r>>,
        name: String,
    ) -> Option<Section<'r>> {
        match value.get_ref().as_table() {
            Some(table) => {
                let line = Some(self.reader.line(value.span().start));
                Some(Section::new(self.reader, form, name, line, table))
            }
            None => {
                self.wrong(key, "a table", value);
                None
            }
        }
    }

    pub(super) fn section(&self, key: &str, form: &'static str) -> Option<Section<'r>> {
        let value = self.value(key)?;
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        self.inner(key, form, value, name)
    }

    pub(super) fn sections(&self, key: &str, form: &'static str) -> Vec<Section<'r>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong(key, "a list of tables", value);
            return Vec::new();
        };
        let prefix = if self.name.is_empty() { String::new() } else { format!("{}.", self.name) };
        let one = |(number, value): (usize, &'r Spanned<DeValue<'r>>)| {
            let called = value.get_ref().as_table().and_then(|table| table.get("name")?.get_ref().as_str());
            let called = called.map_or_else(|| format!("{}", number + 1), str::to_owned);
            self.inner(key, form, value, format!("{prefix}{key} {called}"))
        };
        list.iter().enumerate().filter_map(one).collect()
    }

    /// Tables under names of the file's choice.
    pub(super) fn named(&self, form: &'static str) -> Vec<(String, Section<'r>)> {
        let one = |(name, value): (&'r Spanned<std::borrow::Cow<'r, str>>, &'r Spanned<DeValue<'r>>)| {
            let key = name.get_ref().to_string();
            Some((key.clone(), self.inner(&key, form, value, format!("{}.{key}", self.name))?))
        };
        self.table.iter().filter_map(one).collect()
    }
}

/// Paths are put behind it.
fn with_slash(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
}
