//! A headless Chromium: what it makes of a page, and what it complains about.

use std::path::Path;
use std::process::Command;

/// A page after its script ran.
#[derive(Debug)]
pub struct Page {
    /// The document as it is then.
    pub dom: String,
    /// Messages of the page to the console: errors, refused loads, warnings.
    pub console: Vec<String>,
}

/// Opens a page from a file; `fragment` is what comes behind the `#`.
pub fn open(page: &Path, fragment: &str) -> Page {
    visit(&format!("file://{}#{fragment}", page.display()), &[])
}

/// Opens what an address shows; `more` are further arguments of the browser.
pub fn visit(address: &str, more: &[&str]) -> Page {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0", "--timeout=120000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(more)
        .arg(address)
        .env("HOME", profile.path())
        .output()
        .expect("chromium is installed");
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "chromium failed: {log}");
    let console = log.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned).collect();
    Page { dom: String::from_utf8(output.stdout).unwrap(), console }
}

impl Page {
    /// The paths of the rows that show, with what is markup in them undone.
    pub fn shown_paths(&self) -> Vec<String> {
        let rows = self.dom.split("<details ").skip(1);
        let shown = rows.filter(|row| !row.split('>').next().unwrap().contains("hidden"));
        shown
            .map(|row| {
                let (_, rest) = row.split_once("<bdi class=\"path\">").unwrap();
                let text = rest.split("</bdi>").next().unwrap();
                text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
            })
            .collect()
    }
}

/// Keeps a picture of what an address shows: as on a laptop, and beside it as on a phone.
pub fn picture(address: &str, file: &Path) {
    let phone = file.with_extension("phone.png");
    for (file, size) in [(file, "1200,1500"), (phone.as_path(), "500,1800")] {
        let profile = tempfile::tempdir().unwrap();
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--virtual-time-budget=4000"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(format!("--window-size={size}"))
            .arg(format!("--screenshot={}", file.display()))
            .arg(address)
            .env("HOME", profile.path())
            .output()
            .expect("chromium is installed");
        assert!(output.status.success(), "chromium failed: {}", String::from_utf8_lossy(&output.stderr));
    }
}
