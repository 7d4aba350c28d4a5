//! Backups that are not what they were: every damage is seen at the restore and told, on the real engine.

use gemba_ingest::store::archive::{self, ArchiveError};
use gemba_ingest::store::{Client, migrations};
use gemba_tests::database::Engine;
use std::path::{Path, PathBuf};

/// The database empty again, as a restore needs it.
async fn empty(store: &Client) {
    let outside = store.with_database("default");
    outside.execute("DROP DATABASE kept SYNC").await.unwrap();
    outside.execute("CREATE DATABASE kept").await.unwrap();
}

/// The largest file of data below a folder whose path names the table.
fn largest(folder: &Path, table: &str) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    let mut found: Option<(u64, PathBuf)> = None;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let is_data = path.extension().is_some_and(|extension| extension == "bin");
            if is_data && path.components().any(|part| part.as_os_str() == table) {
                let size = std::fs::metadata(&path).unwrap().len();
                found = found.max(Some((size, path)));
            }
        }
    }
    found.unwrap_or_else(|| panic!("no data of {table} in {}", folder.display())).1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_backup_holds_every_value_and_whatever_was_changed_in_it_is_refused() {
    let engine = Engine::start();
    let store = engine.database("kept").await;
    migrations::up(&store).await.unwrap();
    let rows = "INSERT INTO set_aside (project, time, signal, reason, detail, body, received, record, batch) SELECT 1, \
                '2026-03-05 00:00:00', 'logs', 'too_large', toString(number), 'x', '2026-03-05 00:00:00', 1, number \
                FROM numbers(1000)";
    store.execute(rows).await.unwrap();
    let events = "INSERT INTO events (project, name, kind, day, unit, time, received, record, strings) SELECT 1, 'a', \
                  'used', '2026-03-05', number, '2026-03-05 00:00:00', '2026-03-05 00:00:00', 1, map('k', toString(number)) \
                  FROM numbers(20000)";
    store.execute(events).await.unwrap();
    let saved = archive::backup(&store, "whole").await.unwrap();
    assert_eq!((saved.rows["set_aside"], saved.rows["events"]), (1_000, 20_000));

    empty(&store).await;
    assert_eq!(archive::restore(&store, "whole").await.unwrap(), saved);
    let read_back = "SELECT count() FROM events WHERE strings['k'] = toString(unit)";
    assert_eq!(store.number(read_back).await.unwrap(), 20_000);

    // One value of one row differs, no row is missing; the manifest is the one of the whole backup.
    let change = "ALTER TABLE set_aside UPDATE detail = 'another' WHERE batch = 7 SETTINGS mutations_sync = 2";
    store.execute(change).await.unwrap();
    store.execute("BACKUP DATABASE kept TO File('changed')").await.unwrap();
    empty(&store).await;
    let error = archive::restore(&store, "changed").await.unwrap_err();
    assert!(matches!(&error, ArchiveError::Altered { table, rows: 1_000 } if table == "set_aside"), "{error:?}");
    assert!(error.hint().contains("take another"));

    store.execute("ALTER TABLE set_aside DELETE WHERE batch = 8 SETTINGS mutations_sync = 2").await.unwrap();
    // Parts come back with the numbers of mutations of before: the first removal after a restore must find them.
    assert_eq!(store.number("SELECT count() FROM set_aside").await.unwrap(), 999);
    store.execute("BACKUP DATABASE kept TO File('short')").await.unwrap();
    empty(&store).await;
    let error = archive::restore(&store, "short").await.unwrap_err();
    let expected = ArchiveError::Incomplete { table: "set_aside".into(), saved: 1_000, restored: 999 };
    assert_eq!(error.to_string(), expected.to_string());

    // A disk that changed one byte.
    let file = largest(&engine.backups().join("whole"), "events");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    empty(&store).await;
    let error = archive::restore(&store, "whole").await.unwrap_err();
    let is_told = matches!(&error, ArchiveError::Unreadable { table, .. } if table == "events");
    assert!(is_told || matches!(&error, ArchiveError::Store(_)), "{error:?}");
    assert!(std::error::Error::source(&error).is_some(), "what ClickHouse says is told as well: {error:?}");
    engine.stop().await;
}
