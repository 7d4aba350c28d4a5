//! What the operator copies: the systemd unit is one that systemd takes, and every setting named in the files exists.

use gemba_tests::binary;
use std::path::{Path, PathBuf};
use std::process::Command;

fn deploy(file: &str) -> (PathBuf, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("ingest/deploy").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    (path, text)
}

#[test]
fn the_systemd_unit_is_one_that_systemd_takes() {
    let (_, unit) = deploy("gemba.service");
    let folder = tempfile::tempdir().unwrap();
    let installed = folder.path().join("gemba.service");
    let program = binary::gemba().to_str().unwrap();
    assert_eq!(unit.matches("=/usr/local/bin/gemba ").count(), 1);
    std::fs::write(&installed, unit.replace("=/usr/local/bin/gemba ", &format!("={program} "))).unwrap();
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&installed).output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && talk.is_empty(), "{talk}");
}

#[test]
fn every_setting_named_in_the_deployment_files_exists() {
    let output = Command::new(binary::gemba()).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // No settings of `serve`: where the engine is kept is asked before there is a command, whom to trust and what to show by clients.
    let elsewhere = ["GEMBA_CACHE", "GEMBA_CA", "GEMBA_CLIENT_CERTIFICATE", "GEMBA_CLIENT_KEY", "GEMBA_"];
    for file in ["gemba.service", "Dockerfile", "../DEPLOYMENT.md"] {
        let (path, text) = deploy(file);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
        let mut found = 0;
        for word in words.filter(|word| word.starts_with("GEMBA_")) {
            found += 1;
            assert!(elsewhere.contains(&word) || help.contains(word), "{}: {word} is no setting", path.display());
        }
        assert!(found > 0, "{} names no setting", path.display());
        let arguments =
            text.lines().filter(|line| line.contains("gemba serve") || line.contains("\"gemba\", \"serve\""));
        for word in arguments.flat_map(|line| line.split([' ', '"', '`', ','])).filter(|word| word.starts_with("--")) {
            assert!(help.contains(word), "{}: serve takes no {word}", path.display());
        }
    }
}
