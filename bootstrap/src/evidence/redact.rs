//! Secrets in what is kept as evidence: found by their shape, and taken out of what was collected.
//!
//! Best effort: it knows keys, tokens and passwords by how they are written, not by what they open. What a program
//! collects goes through [`clean`]; everything else is looked through with [`find`] before it is sealed and when it is
//! verified. Layer: pure.

/// What stands in the place of a secret.
pub const REDACTED: &str = "[redacted]";
/// Words whose value is a secret, when it is written `WORD=VALUE` or `"WORD": "VALUE"`.
const WORDS: &[&str] =
    &["password", "passwd", "secret", "secret_access_key", "token", "api_key", "apikey", "client_secret"];
/// The shortest value that is taken for a secret.
const LEAST: usize = 6;

/// The text without secrets, and how many there were.
pub fn clean(text: &str) -> (String, usize) {
    let mut count = 0;
    let mut in_key = false;
    let mut cleaned = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let (body, end) = line.strip_suffix('\n').map_or((line, ""), |body| (body, "\n"));
        if is_key_border(body, "BEGIN") {
            (in_key, count) = (true, count + 1);
            cleaned += REDACTED;
            cleaned += end;
        } else if !in_key {
            let mut body = body.to_owned();
            while let Some((from, to)) = secret_in(&body) {
                body.replace_range(from..to, REDACTED);
                count += 1;
            }
            cleaned += &body;
            cleaned += end;
        }
        if in_key && (is_key_border(body, "END") || body.contains("END ") && body.contains("PRIVATE KEY")) {
            in_key = false;
        }
    }
    (cleaned, count)
}

/// The number of the first line with a secret, from 1; nothing for what is no text.
pub fn find(bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).ok()?;
    let hit = |line: &str| is_key_border(line, "BEGIN") || secret_in(line).is_some();
    text.lines().position(hit).map(|at| at + 1)
}

fn is_key_border(line: &str, which: &str) -> bool {
    line.contains(&format!("-----{which} ")) && line.contains("PRIVATE KEY-----")
}

/// Where the first secret of a line is.
fn secret_in(line: &str) -> Option<(usize, usize)> {
    [bearer, userinfo, access_key, bot_token, word].into_iter().find_map(|look| look(line))
}

/// `Authorization: Bearer VALUE`
fn bearer(line: &str) -> Option<(usize, usize)> {
    let lower = line.to_ascii_lowercase();
    let from = lower.find("bearer ")? + "bearer ".len();
    value_at(line, from)
}

/// `scheme://user:VALUE@host`
fn userinfo(line: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    while let Some(found) = line[at..].find("://") {
        let start = at + found + 3;
        let end = line[start..].find(['/', ' ', '"', '\'', '?']).map_or(line.len(), |end| start + end);
        if let Some(host) = line[start..end].rfind('@')
            && let Some(colon) = line[start..start + host].find(':')
        {
            let (from, to) = (start + colon + 1, start + host);
            if to > from && &line[from..to] != REDACTED {
                return Some((from, to));
            }
        }
        at = start;
    }
    None
}

/// An access key of a cloud: `AKIA` or `ASIA` and 16 letters and digits.
fn access_key(line: &str) -> Option<(usize, usize)> {
    let fits = |from: usize| {
        let rest = line.as_bytes().get(from + 4..from + 20)?;
        let alone = line.as_bytes().get(from + 20).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        (alone && rest.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()))
            .then_some((from, from + 20))
    };
    ["AKIA", "ASIA"].into_iter().find_map(|start| line.match_indices(start).find_map(|(from, _)| fits(from)))
}

/// A token of a messenger's bot: 8 to 10 digits, a colon, 35 letters, digits, `_` and `-`.
fn bot_token(line: &str) -> Option<(usize, usize)> {
    for (colon, _) in line.match_indices(':') {
        let digits = line[..colon].bytes().rev().take_while(u8::is_ascii_digit).count();
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let rest = line.as_bytes()[colon + 1..].iter().take_while(|byte| fits(byte)).count();
        if (8..=10).contains(&digits) && rest == 35 {
            return Some((colon - digits, colon + 1 + rest));
        }
    }
    None
}

/// `WORD=VALUE`, `WORD: VALUE` or `"WORD": "VALUE"`.
fn word(line: &str) -> Option<(usize, usize)> {
    let lower = line.to_ascii_lowercase();
    for word in WORDS {
        for (at, _) in lower.match_indices(word) {
            let after = &line[at + word.len()..];
            let marks = after.len() - after.trim_start_matches('"').len();
            let rest = &after[marks..];
            let spaces = rest.len() - rest.trim_start_matches(' ').len();
            let Some(sign) = rest[spaces..].chars().next().filter(|sign| matches!(sign, '=' | ':')) else {
                continue;
            };
            // Prose after a colon is no value; JSON has quotes, configurations an equals sign.
            let from = at + word.len() + marks + spaces + 1;
            let value = line[from..].trim_start_matches(' ');
            let quoted = value.starts_with(['"', '\'']);
            if sign == ':' && !quoted {
                continue;
            }
            let from = line.len() - value.len() + usize::from(quoted);
            if let Some(found) = value_at(line, from) {
                return Some(found);
            }
        }
    }
    None
}

/// The value that begins here, unless it only says where a secret is.
fn value_at(line: &str, from: usize) -> Option<(usize, usize)> {
    let value = line.get(from..)?;
    let end = value.find([' ', '"', '\'', ',', ';', '&', '\\', '}']).unwrap_or(value.len());
    let value = &value[..end];
    let is_reference =
        ["file:", "env:", "REPLACE_ME", REDACTED, "$", "*", "<", "/"].iter().any(|start| value.starts_with(start));
    (value.len() >= LEAST && !is_reference).then_some((from, from + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_their_shape_and_taken_out() {
        for (text, cleaned) in [
            ("Authorization: Bearer abcdef0123", "Authorization: Bearer [redacted]"),
            ("GET https://me:hunter22@host/x", "GET https://me:[redacted]@host/x"),
            ("key AKIAABCDEFGHIJKLMNOP used", "key [redacted] used"),
            ("bot 123456789:AAabcdefghijklmnopqrstuvwxyz1234567 runs", "bot [redacted] runs"),
            (r#"{"token": "abcdef0123"}"#, r#"{"token": "[redacted]"}"#),
            ("DB_PASSWORD=hunter22", "DB_PASSWORD=[redacted]"),
            ("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\nafter", "[redacted]\nafter"),
        ] {
            assert_eq!(clean(text), (cleaned.to_owned(), 1), "{text}");
            assert_eq!(find(text.as_bytes()), Some(1), "{text}");
            assert_eq!(find(cleaned.as_bytes()), None, "{cleaned}");
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
            assert_eq!(clean(text), (text.to_owned(), 0), "{text}");
        }
        assert_eq!(find(&[0xff, b'\n', b'A']), None);
    }
}
