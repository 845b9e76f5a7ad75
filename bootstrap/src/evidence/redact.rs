//! Secrets in what is kept as evidence: found by their shape, and taken out of what was collected.
//!
//! Best effort: it knows keys, tokens and passwords by how they are written, not by what they open. What a program
//! collects goes through [`clean`]; everything else is looked through with [`find`] before it is sealed and when it is
//! verified. Bytes are looked at one after the other, whatever they are: neither a byte that is no text nor a line of a
//! gigabyte hides anything or takes longer. Layer: pure.

use std::ops::Range;

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";
/// Words whose value is a secret, when it is written `WORD=VALUE` or `"WORD": "VALUE"`.
const WORDS: &[&[u8]] =
    &[b"password", b"passwd", b"secret", b"secret_access_key", b"token", b"api_key", b"apikey", b"client_secret"];
/// The shortest value that is taken for a secret.
const LEAST: usize = 6;
/// What ends a value.
const ENDS: &[u8] = b" \"',;&\\}\r";
/// What ends the part of an address that names user and host.
const ADDRESS_ENDS: &[u8] = b"/ \"'?";

/// The bytes without secrets; [`find`] finds none in them.
pub fn clean(bytes: &[u8]) -> Vec<u8> {
    let mut in_key = false;
    let mut cleaned = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (body, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |body| (body, &b"\n"[..]));
        if is_key_border(body, b"-----BEGIN ") {
            in_key = true;
            cleaned.extend_from_slice(REDACTED.as_bytes());
            cleaned.extend_from_slice(end);
        } else if !in_key {
            cleaned.extend_from_slice(&clean_line(body));
            cleaned.extend_from_slice(end);
        }
        in_key = in_key && !is_key_border(body, b"END ");
    }
    cleaned
}

fn clean_line(line: &[u8]) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(line.len());
    let mut at = 0;
    for Range { start, end } in secrets(line) {
        cleaned.extend_from_slice(&line[at..start]);
        cleaned.extend_from_slice(REDACTED.as_bytes());
        at = end;
    }
    cleaned.extend_from_slice(&line[at..]);
    // What is left could have become a secret by what was taken out.
    if secrets(&cleaned).is_empty() { cleaned } else { REDACTED.as_bytes().to_vec() }
}

/// The number of the first line with a secret, from 1.
pub fn find(bytes: &[u8]) -> Option<usize> {
    let hit = |line: &[u8]| is_key_border(line, b"-----BEGIN ") || !secrets(line).is_empty();
    bytes.split(|byte| *byte == b'\n').position(hit).map(|at| at + 1)
}

fn is_key_border(line: &[u8], which: &[u8]) -> bool {
    let contains = |part: &[u8]| line.windows(part.len()).any(|window| window == part);
    contains(which) && contains(b"PRIVATE KEY-----")
}

/// The secrets of a line, in order, none within another.
fn secrets(line: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    // Where the value ends that was looked at last, so that no byte is looked at for each value that it may belong to.
    let mut ends = Ends { line, marks: ENDS, known: 0 };
    let mut address_ends = Ends { line, marks: ADDRESS_ENDS, known: 0 };
    for (at, byte) in line.iter().enumerate() {
        let one = match byte {
            b' ' => bearer(line, at, &mut ends),
            b'=' => word(line, at, &mut ends),
            b':' => word(line, at, &mut ends)
                .or_else(|| userinfo(line, at, &mut address_ends))
                .or_else(|| bot_token(line, at)),
            b'A' => access_key(line, at),
            _ => None,
        };
        found.extend(one);
    }
    found.sort_unstable_by_key(|range: &Range<usize>| range.start);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for range in found {
        match joined.last_mut().filter(|last| range.start < last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => joined.push(range),
        }
    }
    joined
}

/// Where a value ends. Asked from left to right.
struct Ends<'l> {
    line: &'l [u8],
    marks: &'static [u8],
    known: usize,
}

impl Ends<'_> {
    /// The first mark from here on, or the end of the line.
    fn after(&mut self, from: usize) -> usize {
        if from >= self.known {
            let rest = &self.line[from..];
            let end = rest.iter().position(|byte| self.marks.contains(byte)).unwrap_or(rest.len());
            self.known = from + end;
        }
        self.known
    }
}

/// `Authorization: Bearer VALUE`, at its space.
fn bearer(line: &[u8], space: usize, ends: &mut Ends<'_>) -> Option<Range<usize>> {
    line[..space].ends_like(b"bearer").then(|| value_at(line, space + 1, ends)).flatten()
}

/// `scheme://user:VALUE@host`, at its first colon.
fn userinfo(line: &[u8], colon: usize, ends: &mut Ends<'_>) -> Option<Range<usize>> {
    let start = colon + 3;
    if line.get(colon..start) != Some(b"://") {
        return None;
    }
    let part = &line[start..ends.after(start)];
    let host = part.iter().rposition(|byte| *byte == b'@')?;
    let colon = part[..host].iter().position(|byte| *byte == b':')?;
    let (value, is_text) = (&part[colon + 1..host], part[..host].iter().all(u8::is_ascii_graphic));
    let is_secret = is_text && !value.is_empty() && value != REDACTED.as_bytes();
    is_secret.then_some(start + colon + 1..start + host)
}

/// An access key of a cloud: `AKIA` or `ASIA` and 16 letters and digits.
fn access_key(line: &[u8], from: usize) -> Option<Range<usize>> {
    let (start, rest) = (line.get(from..from + 4)?, line.get(from + 4..from + 20)?);
    let alone = line.get(from + 20).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let fits = rest.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    (matches!(start, b"AKIA" | b"ASIA") && alone && fits).then_some(from..from + 20)
}

/// A token of a messenger's bot: 8 to 10 digits, a colon, 35 letters, digits, `_` and `-`.
fn bot_token(line: &[u8], colon: usize) -> Option<Range<usize>> {
    let digits = line[..colon].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let fits = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let rest = line[colon + 1..].iter().take(36).take_while(fits).count();
    ((8..=10).contains(&digits) && rest == 35).then(|| colon - digits..colon + 1 + rest)
}

/// `WORD=VALUE`, `WORD = "VALUE"` or `"WORD": "VALUE"`, at its sign.
fn word(line: &[u8], sign: usize, ends: &mut Ends<'_>) -> Option<Range<usize>> {
    let before = line[..sign].trim_end_of(b' ').trim_end_of(b'"');
    if !WORDS.iter().any(|word| before.ends_like(word)) {
        return None;
    }
    let spaces = line[sign + 1..].iter().take_while(|byte| **byte == b' ').count();
    let from = sign + 1 + spaces;
    let quoted = matches!(line.get(from), Some(b'"' | b'\''));
    // Prose after a colon is no value; JSON has quotes, configurations an equals sign.
    if line[sign] == b':' && !quoted {
        return None;
    }
    value_at(line, from + usize::from(quoted), ends)
}

/// The value that begins here, unless it only says where a secret is.
fn value_at(line: &[u8], from: usize, ends: &mut Ends<'_>) -> Option<Range<usize>> {
    let end = ends.after(from.min(line.len()));
    let value = line.get(from..end)?;
    let is_reference = ["file:", "env:", "REPLACE_ME", REDACTED, "$", "*", "<", "/"]
        .iter()
        .any(|start| value.starts_with(start.as_bytes()));
    (value.len() >= LEAST && !is_reference).then_some(from..end)
}

/// What a text of bytes ends with.
trait Bytes {
    fn ends_like(&self, with: &[u8]) -> bool;
    fn trim_end_of(&self, byte: u8) -> &[u8];
}

impl Bytes for [u8] {
    /// Whether it ends with this, in capitals or not.
    fn ends_like(&self, with: &[u8]) -> bool {
        self.len() >= with.len() && self[self.len() - with.len()..].eq_ignore_ascii_case(with)
    }

    /// The same without this byte at its end, however often it stands there.
    fn trim_end_of(&self, byte: u8) -> &[u8] {
        let end = self.iter().rposition(|one| *one != byte).map_or(0, |at| at + 1);
        &self[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        String::from_utf8(clean(text.as_bytes())).unwrap()
    }

    #[test]
    fn secrets_are_found_by_their_shape_and_taken_out() {
        for (text, expected) in [
            ("Authorization: Bearer abcdef0123", "Authorization: Bearer [redacted]"),
            ("GET https://me:hunter22@host/x", "GET https://me:[redacted]@host/x"),
            ("key AKIAABCDEFGHIJKLMNOP used", "key [redacted] used"),
            ("bot 123456789:AAabcdefghijklmnopqrstuvwxyz1234567 runs", "bot [redacted] runs"),
            (r#"{"token": "abcdef0123"}"#, r#"{"token": "[redacted]"}"#),
            ("DB_PASSWORD=hunter22", "DB_PASSWORD=[redacted]"),
            ("SECRET_ACCESS_KEY = 'hunter22'", "SECRET_ACCESS_KEY = '[redacted]'"),
            ("bearer $TOKEN, bearer abcdef0123", "bearer $TOKEN, bearer [redacted]"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\nafter", "[redacted]\nafter"),
        ] {
            assert_eq!(cleaned(text), expected, "{text}");
            assert_eq!(find(text.as_bytes()), Some(1), "{text}");
            assert_eq!(find(expected.as_bytes()), None, "{expected}");
        }
    }

    #[test]
    fn references_to_secrets_and_prose_stay() {
        for text in [
            "token = \"file:/etc/token\"",
            "PASSWORD=REPLACE_ME",
            "the token: without one nothing is changed",
            "http://127.0.0.1:8480/v1/state",
            "Bearer $TOKEN",
            "secret_file=/run/secrets/x",
        ] {
            assert_eq!(cleaned(text), text, "{text}");
        }
    }

    #[test]
    fn a_byte_that_is_no_text_hides_no_secret() {
        assert_eq!(find(b"\xff\nname \xfe password=hunter22\n"), Some(2));
        assert_eq!(clean(b"\xff password=hunter22 \xfe"), b"\xff password=[redacted] \xfe");
        assert_eq!(find(&[0xff, b'\n', b'A', b':']), None);
        // A picture may hold anything; an address with a password is text.
        assert_eq!(find(b"://\x00\x81:\x93@x"), None);
    }

    #[test]
    fn what_is_looked_through_takes_as_long_as_it_is_long() {
        // Each of these took minutes when every value was looked at to its end, and each hit from the beginning again.
        for part in ["token=$", "token=abcdef ", "bearer ", "://", "1:", "\"token\": \"abcdef\"", "= "] {
            let text = part.repeat(300_000);
            let cleaned = clean(text.as_bytes());
            assert_eq!(find(&cleaned), None, "{part}");
        }
    }

    #[test]
    fn nothing_is_found_in_what_was_cleaned() {
        for text in
            ["a://u:pw:x@h", "token=[redactedtoken=abcdef0", "token=to\"token=abcdef\"ken", "password=a:b://c:defghi@j"]
        {
            assert_eq!(find(&clean(text.as_bytes())), None, "{text}");
        }
    }
}
