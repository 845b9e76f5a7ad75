//! Manual pages, made from the same texts as `--help`.

use std::io;
use std::path::Path;

/// The manual page of a command.
///
/// # Errors
/// When it cannot be rendered.
pub fn page(command: clap::Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}

/// Writes one page per command into a directory, which is made, and names them.
///
/// # Errors
/// When a page cannot be written.
pub fn write_pages(command: clap::Command, dir: &Path) -> io::Result<Vec<String>> {
    let program = command.get_name().to_owned();
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(command, dir)?;
    let mut pages = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(&program) && name.ends_with(".1") {
            pages.push(name);
        }
    }
    pages.sort();
    Ok(pages)
}
