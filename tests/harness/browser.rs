//! A real browser without a screen: Debian's chromium.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What the browser made of a page.
#[derive(Debug)]
pub struct Page {
    /// The document once scripts have come to rest, as HTML.
    pub html: String,
    /// What scripts and the browser complained about, one line each.
    pub complaints: Vec<String>,
}

/// Chromium, or `None` after saying that it is missing.
pub fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file());
    if found.is_none() {
        crate::data::say_left_out("chromium is not installed: what the dashboard shows is not checked");
    }
    found
}

/// Opens `url` in a new profile and gives what there is to see after `patience` of the page's own time, which stands still
/// while requests are under way. Blocks.
pub fn open(chromium: &Path, url: &str, patience: Duration) -> Page {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .args(["--enable-logging=stderr", "--window-size=1280,1600"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("--virtual-time-budget={}", patience.as_millis()))
        .args(["--dump-dom", url])
        .output()
        .unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "chromium ended with {}: {talk}", output.status);
    Page {
        html: String::from_utf8(output.stdout).unwrap(),
        complaints: talk.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect(),
    }
}
