//! Paths of entries: bytes, compared component by component, and what no path may be.

use std::cmp::Ordering;

/// Longest path in bytes.
const MAX_PATH_BYTES: usize = 65_535;
/// Longest component in bytes.
const MAX_COMPONENT_BYTES: usize = 255;

/// Why a path is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("path {path:?} {why}")]
pub struct PathError {
    /// The path, printable.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Checks the rules of `docs/format/tree.md`. The empty path is the tree's own directory.
///
/// # Errors
/// [`PathError`] for a path that leaves the tree or that no file system holds.
pub fn check(path: &[u8]) -> Result<(), PathError> {
    let refuse = |why| Err(PathError { path: printable(path), why });
    if path.is_empty() {
        return Ok(());
    }
    if path.len() > MAX_PATH_BYTES {
        return refuse("is longer than 65,535 bytes");
    }
    for component in path.split(|b| *b == b'/') {
        match component {
            b"" => return refuse("is absolute or has an empty component"),
            b"." | b".." => return refuse("has a component . or .."),
            c if c.len() > MAX_COMPONENT_BYTES => return refuse("has a component longer than 255 bytes"),
            c if c.contains(&0) => return refuse("holds a NUL byte"),
            _ => {}
        }
    }
    Ok(())
}

/// The order of a tree: component by component, so a directory comes right before what it holds.
pub fn compare(a: &[u8], b: &[u8]) -> Ordering {
    // A slash ends a component and so sorts before every other byte.
    let rank = |byte: u8| if byte == b'/' { 0 } else { u16::from(byte) + 1 };
    match a.iter().zip(b).position(|(x, y)| x != y) {
        Some(at) => rank(a[at]).cmp(&rank(b[at])),
        None => a.len().cmp(&b.len()),
    }
}

/// The path of the directory that holds `path`; `None` for the tree's own directory.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    Some(path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at]))
}

/// `name` inside `directory`.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, b"/", name].concat()
}

/// The path as text for people and JSON: UTF-8 as it is; `%`, control characters and other bytes as `%XX`.
pub fn printable(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for part in path.utf8_chunks() {
        for c in part.valid().chars() {
            if c == '%' || c.is_control() {
                let mut utf8 = [0; 4];
                c.encode_utf8(&mut utf8).bytes().for_each(|b| text.push_str(&format!("%{b:02X}")));
            } else {
                text.push(c);
            }
        }
        part.invalid().iter().for_each(|b| text.push_str(&format!("%{b:02X}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for bad in [&b"/etc"[..], b"..", b"a/../b", b"a//b", b"a/", b".", b"./a", b"a\0b", &[b'x'; 256]] {
            assert!(check(bad).is_err(), "{}", printable(bad));
        }
        for good in [&b""[..], b"a", b"a/b", b"...", b"..a/.b", b"\xff\xfe", &[b'x'; 255]] {
            assert!(check(good).is_ok(), "{}", printable(good));
        }
    }

    #[test]
    fn a_directory_comes_right_before_what_it_holds() {
        let mut paths = [&b"a-b"[..], b"a", b"a/b", b"", b"a/b/c", b"a0", b"a/b-"];
        paths.sort_by(|a, b| compare(a, b));
        assert_eq!(paths, [&b""[..], b"a", b"a/b", b"a/b/c", b"a/b-", b"a-b", b"a0"]);
    }

    #[test]
    fn odd_bytes_are_printed_as_percent_and_hex() {
        assert_eq!(printable(b"a%\n\xff\xc3\xa9"), "a%25%0A%FF\u{e9}");
    }

    proptest! {
        #[test]
        fn order_is_that_of_component_lists(a in "[a/-]{0,8}", b in "[a/-]{0,8}") {
            let list = |p: &str| if p.is_empty() { vec![] } else { p.split('/').map(str::to_owned).collect() };
            prop_assert_eq!(compare(a.as_bytes(), b.as_bytes()), list(&a).cmp(&list(&b)));
        }
    }
}
