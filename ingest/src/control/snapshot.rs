//! Files of the control data in the data folder: the snapshot a node can start from while ClickHouse is away, and the
//! credentials of the first start.
//!
//! Both are replaced by writing beside, fsync, rename, fsync of the folder: after a power cut there is the old file or
//! the new one, never a part of one. All functions block on the disk.

use super::ControlError;
use super::state::Entry;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Name of the snapshot in the data folder.
const SNAPSHOT: &str = "control.json";
/// Name of the credentials in the data folder.
const CREDENTIALS: &str = "credentials.json";
/// Form of the snapshot this version writes and the highest it reads.
const FORMAT: u32 = 2;
/// Owner only: the snapshot holds the key of the ids, the credentials hold tokens.
const MODE: u32 = 0o600;

/// The snapshot's content.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    format: u32,
    entries: Vec<Entry>,
}

/// Tokens of the first start, as the file `credentials.json` holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Credentials {
    pub(crate) admin_token: String,
    pub(crate) projects: BTreeMap<String, ProjectCredentials>,
}

/// Keys of one project in [`Credentials`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProjectCredentials {
    pub(crate) ingest_key: String,
    pub(crate) read_key: String,
}

/// Reads the snapshot; `None` when there is none.
pub(crate) fn read_snapshot(data: &Path) -> Result<Option<Vec<Entry>>, ControlError> {
    let Some(snapshot) = read::<Snapshot>(data, SNAPSHOT)? else { return Ok(None) };
    if snapshot.format > FORMAT {
        return Err(ControlError::NewerSnapshot { found: snapshot.format, known: FORMAT });
    }
    Ok(Some(snapshot.entries))
}

/// Replaces the snapshot.
pub(crate) fn write_snapshot(data: &Path, entries: Vec<Entry>) -> Result<(), ControlError> {
    replace(data, SNAPSHOT, &Snapshot { format: FORMAT, entries })
}

/// Reads the credentials; `None` when there are none.
pub(crate) fn read_credentials(data: &Path) -> Result<Option<Credentials>, ControlError> {
    read(data, CREDENTIALS)
}

/// Replaces the credentials.
pub(crate) fn write_credentials(data: &Path, credentials: &Credentials) -> Result<(), ControlError> {
    replace(data, CREDENTIALS, credentials)
}

fn read<T: for<'de> Deserialize<'de>>(data: &Path, name: &str) -> Result<Option<T>, ControlError> {
    let path = data.join(name);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ControlError::File { path, source }),
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| ControlError::Unreadable { path, source })
}

fn replace<T: Serialize>(data: &Path, name: &str, content: &T) -> Result<(), ControlError> {
    let path = data.join(name);
    let beside = data.join(format!("{name}.new"));
    let mut text =
        serde_json::to_vec_pretty(content).map_err(|source| ControlError::Unreadable { path: path.clone(), source })?;
    text.push(b'\n');
    write_synced(&beside, &path, data, &text).map_err(|source| ControlError::File { path, source })
}

fn write_synced(beside: &Path, path: &Path, folder: &Path, text: &[u8]) -> std::io::Result<()> {
    // A file left over from a cut start could have another mode; `mode` applies to new files only.
    match fs::remove_file(beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(beside)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(beside, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::state::Kind;
    use std::os::unix::fs::PermissionsExt as _;

    fn entry() -> Entry {
        Entry { kind: Kind::Project, id: "1".into(), version: 3, payload: r#"{"name":"a"}"#.into(), at_ms: 9 }
    }

    #[test]
    fn a_snapshot_reads_back_and_only_its_owner_may_read_it() {
        let data = tempfile::tempdir().unwrap();
        assert!(read_snapshot(data.path()).unwrap().is_none());
        fs::write(data.path().join("control.json.new"), "left over").unwrap();
        write_snapshot(data.path(), vec![entry()]).unwrap();
        assert_eq!(read_snapshot(data.path()).unwrap().unwrap(), [entry()]);
        let mode = fs::metadata(data.path().join(SNAPSHOT)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_snapshot_of_a_newer_form_is_refused_by_name() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(SNAPSHOT), r#"{"format":3,"entries":[]}"#).unwrap();
        assert!(matches!(read_snapshot(data.path()), Err(ControlError::NewerSnapshot { found: 3, known: 2 })));
    }

    #[test]
    fn a_damaged_snapshot_is_an_error_and_not_an_empty_one() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(SNAPSHOT), r#"{"format":1,"entr"#).unwrap();
        assert!(matches!(read_snapshot(data.path()), Err(ControlError::Unreadable { .. })));
    }
}
