//! The log on a real file system: what is read back after torn ends and damage.

use super::disk::{Disk, DiskFile, OsDisk};
use super::repeats::{RepeatKey, Repeats};
use super::*;
use crate::identity::ProjectId;
use crate::otlp::{Encoding, Signal};
use crate::outcome::Fate;
use proptest::prelude::*;
use std::sync::atomic::AtomicBool;

fn head(number: u64) -> EntryHead {
    EntryHead {
        decoder_version: 1,
        project: ProjectId(3),
        retention_class: 2,
        signal: Signal::Traces,
        encoding: Encoding::Json,
        content_encoding: ContentEncoding::Zstd,
        received_ms: 1_700_000_000_000,
        inflated_len: 77,
        key: RepeatKey::Sdk { instance: 9, number },
        is_repeat: false,
        tally: LoggedTally { received: 5, others: vec![(Fate::Rejected, "too_deep".to_owned(), 2)] },
        set_aside_ms: None,
    }
}

fn body(number: u64, length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from((usize::try_from(number).unwrap() * 31 + index * 7) % 251).unwrap()).collect()
}

fn open(dir: &Path) -> Log {
    Log::open(Arc::new(OsDisk), dir, Known::default(), |_, _| {}).unwrap().with_segment_bytes(4 << 10)
}

/// Positions and bodies of everything that can be read, `None` for damaged ones.
fn read_all(log: &Log) -> Vec<(u64, Option<Vec<u8>>)> {
    let mut reader = log.source().reader(0);
    let mut all = Vec::new();
    while let Some(entry) = reader.read().unwrap() {
        all.push(match entry {
            ReadEntry::Entry { position, body, head: read } => {
                assert_eq!(read, head(position));
                (position, Some(body.to_vec()))
            }
            ReadEntry::Damaged { position } => (position, None),
        });
    }
    all
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    paths
}

#[test]
fn what_was_committed_is_read_back_after_a_new_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    let lengths = [0, 1, 7, 8, 500, 3_000, 5_000, 20];
    for (number, length) in lengths.into_iter().enumerate() {
        let number = number as u64;
        assert_eq!(log.append(&head(number), &body(number, length)).unwrap(), number);
        if number % 3 == 2 {
            log.commit().unwrap();
        }
    }
    log.commit().unwrap();
    let id = log.id();
    drop(log);
    let log = open(dir.path());
    assert_eq!(log.id(), id);
    assert_eq!(log.next(), lengths.len() as u64);
    let expected: Vec<_> =
        lengths.into_iter().enumerate().map(|(n, length)| (n as u64, Some(body(n as u64, length)))).collect();
    assert_eq!(read_all(&log), expected);
}

#[test]
fn a_reader_never_sees_what_is_not_durable_yet() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    log.append(&head(0), b"a").unwrap();
    assert!(read_all(&log).is_empty());
    log.commit().unwrap();
    log.append(&head(1), b"b").unwrap();
    assert_eq!(read_all(&log), [(0, Some(b"a".to_vec()))]);
}

/// Cuts the file at every byte of the last group: the earlier groups stay, the rest is a prefix of the last.
#[test]
fn a_log_torn_at_any_byte_ends_before_the_tear() {
    let origin = tempfile::tempdir().unwrap();
    let mut log = open(origin.path());
    for number in 0..3 {
        log.append(&head(number), &body(number, 40)).unwrap();
    }
    log.commit().unwrap();
    let before = frame_bytes(3, 40);
    for number in 3..5 {
        log.append(&head(number), &body(number, 40)).unwrap();
    }
    log.commit().unwrap();
    drop(log);
    let path = segments(origin.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    for cut in before..=frame_bytes(5, 40) {
        for fill in [0u8, 0xa5] {
            let dir = tempfile::tempdir().unwrap();
            let mut torn = whole.clone();
            torn[cut..].fill(fill);
            std::fs::write(dir.path().join(path.file_name().unwrap()), &torn).unwrap();
            let log = open(dir.path());
            let kept = read_all(&log);
            assert!(kept.len() >= 3, "torn at {cut}: {} entries", kept.len());
            for (number, entry) in kept.iter().enumerate() {
                assert_eq!(entry, &(number as u64, Some(body(number as u64, 40))), "torn at {cut}");
            }
            assert_eq!(log.damaged(), 0);
            assert_eq!(log.next(), kept.len() as u64);
        }
    }
}

fn frame_bytes(entries: u64, length: usize) -> usize {
    let mut bytes = Vec::new();
    for number in 0..entries {
        let mut encoded = Vec::new();
        head(number).encode(&mut encoded);
        frame::append(&mut bytes, number, 0, &encoded, &body(number, length)).unwrap();
    }
    bytes.len()
}

/// Changes one byte anywhere in what was durable: exactly that entry is lost, told, and set aside; never another one.
#[test]
fn damage_costs_the_entry_it_hits_and_is_told() {
    let origin = tempfile::tempdir().unwrap();
    let mut log = open(origin.path());
    for number in 0..4 {
        log.append(&head(number), &body(number, 64)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    let path = segments(origin.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    let one = frame_bytes(1, 64);
    for at in (0..3 * one).step_by(5) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        std::fs::write(dir.path().join(path.file_name().unwrap()), &bytes).unwrap();
        let log = open(dir.path());
        let read = read_all(&log);
        let hit = (at / one) as u64;
        // Bytes nobody reads: the four spare ones of the prefix and the padding.
        let is_spare = (36..40).contains(&(at % one)) || read.iter().all(|(_, body)| body.is_some());
        let expected: Vec<_> =
            (0..4).map(|number| (number, (number != hit || is_spare).then(|| body(number, 64)))).collect();
        assert_eq!(read, expected, "byte {at}");
        if !is_spare {
            assert!(log.damaged() >= 1, "byte {at}");
            let aside = std::fs::read_dir(dir.path())
                .unwrap()
                .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("damaged-"));
            assert_eq!(aside.count(), 1, "byte {at}");
        }
    }
}

#[test]
fn damage_in_a_full_segment_is_told_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for number in 0..6 {
        log.append(&head(number), &body(number, 1_500)).unwrap();
        log.commit().unwrap();
    }
    drop(log);
    let paths = segments(dir.path());
    assert!(paths.len() >= 3);
    // The head of the second entry: nothing of it can be trusted, not even its length.
    let mut bytes = std::fs::read(&paths[0]).unwrap();
    bytes[frame_bytes(1, 1_500) + 8] ^= 0xff;
    std::fs::write(&paths[0], bytes).unwrap();
    let log = open(dir.path());
    let lost: Vec<_> = read_all(&log).into_iter().filter(|(_, body)| body.is_none()).map(|(n, _)| n).collect();
    assert_eq!(lost, [1]);
    assert_eq!(log.next(), 6);
}

/// A disk whose syncs fail when told so.
#[derive(Debug, Default)]
struct Failing {
    fails: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FailingFile {
    fails: Arc<AtomicBool>,
    file: Box<dyn DiskFile>,
}

impl Disk for Failing {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(dir)
    }
    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FailingFile { fails: Arc::clone(&self.fails), file: OsDisk.create(path, bytes)? }))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FailingFile { fails: Arc::clone(&self.fails), file: OsDisk.open(path)? }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        OsDisk.free_bytes(dir)
    }
}

impl DiskFile for FailingFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        // What a disk that cannot sync usually cannot do either.
        if self.fails.load(Ordering::Relaxed) { Err(io::ErrorKind::Other.into()) } else { self.file.set_len(bytes) }
    }
    fn sync(&self) -> io::Result<()> {
        if self.fails.load(Ordering::Relaxed) { Err(io::ErrorKind::Other.into()) } else { self.file.sync() }
    }
}

#[test]
fn after_a_failed_sync_the_group_is_gone_and_its_positions_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let fails = Arc::new(AtomicBool::new(false));
    let disk = Arc::new(Failing { fails: Arc::clone(&fails) });
    let mut log = Log::open(disk, dir.path(), Known::default(), |_, _| {}).unwrap();
    log.append(&head(0), b"kept").unwrap();
    log.commit().unwrap();
    fails.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        log.append(&head(1), b"never acknowledged").unwrap();
        log.append(&head(2), b"never acknowledged").unwrap();
        assert!(log.commit().is_err());
    }
    fails.store(false, Ordering::Relaxed);
    assert_eq!(log.append(&head(1), b"second try").unwrap(), 1);
    log.commit().unwrap();
    let expected = vec![(0, Some(b"kept".to_vec())), (1, Some(b"second try".to_vec()))];
    assert_eq!(read_all(&log), expected);
    drop(log);
    // The bytes of the failed groups are still in their segments, unread.
    let log = open(dir.path());
    assert_eq!(read_all(&log), expected);
    assert_eq!(log.damaged(), 0);
}

#[test]
fn only_segments_that_lie_wholly_before_a_position_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path());
    for number in 0..9 {
        log.append(&head(number), &body(number, 1_000)).unwrap();
        log.commit().unwrap();
    }
    let count = segments(dir.path()).len();
    assert!(!log.is_removable_before(2));
    log.remove_before(2).unwrap();
    assert_eq!(segments(dir.path()).len(), count);
    log.remove_before(5).unwrap();
    let mut reader = log.source().reader(5);
    assert!(matches!(reader.read().unwrap(), Some(ReadEntry::Entry { position: 5, .. })));
    log.seal_active();
    log.remove_before(9).unwrap();
    assert_eq!(segments(dir.path()).len(), 0);
    drop(log);
    // Positions are not given again though no entry is left to tell them.
    let known = Known { stored_before: 9, given_before: 9 };
    assert_eq!(Log::open(Arc::new(OsDisk), dir.path(), known, |_, _| {}).unwrap().next(), 9);
}

#[test]
fn saved_keys_come_back_with_their_position() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Repeats::load(&OsDisk, dir.path()).unwrap().is_none());
    let mut repeats = Repeats::default();
    let key = RepeatKey::Sdk { instance: 1, number: 2 };
    repeats.note(ProjectId(1), key, 0);
    repeats.save(&OsDisk, dir.path(), 17).unwrap();
    let (loaded, position) = Repeats::load(&OsDisk, dir.path()).unwrap().unwrap();
    assert_eq!(position, 17);
    assert!(loaded.contains(ProjectId(1), key, 0));
}

proptest! {
    /// Any bytes as a segment: opening never panics, never asks for much memory, and the log goes on.
    #[test]
    fn a_segment_of_any_bytes_can_be_opened(bytes in proptest::collection::vec(any::<u8>(), 0..2_000), at in 0usize..1_000) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path());
        log.append(&head(0), &body(0, 200)).unwrap();
        log.append(&head(1), &body(1, 200)).unwrap();
        log.commit().unwrap();
        drop(log);
        let path = segments(dir.path()).remove(0);
        let mut content = std::fs::read(&path).unwrap();
        content.splice(at.min(content.len()).., bytes);
        std::fs::write(&path, content).unwrap();
        let mut log = open(dir.path());
        let next = log.next();
        log.append(&head(next), b"goes on").unwrap();
        log.commit().unwrap();
        let last = read_all(&log).pop();
        prop_assert_eq!(last, Some((next, Some(b"goes on".to_vec()))));
    }
}
