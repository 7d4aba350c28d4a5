//! Claims about one spool, and about several on one folder.

use super::*;
use crate::pipeline::ledger::Ledger;
use crate::pipeline::queue::{Signal, Waited};
use tempfile::TempDir;

const INSTANCES: [&str; 3] = [
    "00000000-0000-4000-8000-000000000001",
    "00000000-0000-4000-8000-000000000002",
    "00000000-0000-4000-8000-000000000003",
];

/// A spool with the queue and the books it reports to.
struct Desk {
    spool: Spool,
    queue: Arc<Queue>,
    ledger: &'static Ledger,
}

fn settings(folder: &TempDir) -> SpoolSettings {
    let folder = folder.path().join("shop");
    SpoolSettings { folder, max_bytes: 1 << 20, max_age: Duration::from_hours(1) }
}

fn desk(settings: SpoolSettings, instance: &str) -> Desk {
    let ledger: &'static Ledger = Box::leak(Box::default());
    let queue = Arc::new(Queue::new(1 << 20, ledger, Some(Arc::new(|_| {}))));
    let mut spool = Spool::open(settings, instance, Arc::clone(&queue)).unwrap();
    spool.look_around().unwrap();
    Desk { spool, queue, ledger }
}

impl Desk {
    /// Records a batch of 3 whose only byte is `content`, and puts it on disk.
    fn put(&mut self, content: u8) {
        self.ledger.record(3);
        self.queue.push(Batch::new(Signal::Logs, vec![content], 3, None));
        let Waited::Batch(batch) = self.queue.next(Duration::ZERO) else { panic!("the batch is gone") };
        self.spool.put(batch, &[("service.name".to_owned(), "shop".to_owned())]).unwrap();
    }

    /// Takes everything out, oldest first: number and content.
    fn taken(&mut self, whose: Whose) -> Vec<(u64, u8)> {
        let mut taken = Vec::new();
        while let Some(Spooled { contents, .. }) = self.spool.front(whose).unwrap() {
            taken.push((contents.number, contents.items[0]));
            self.spool.delivered(whose, 0).unwrap();
        }
        taken
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.ledger.dropped(reason)
    }

    fn assert_balanced(&self) {
        let books = self.ledger.stats();
        let placed =
            books.delivered + self.dropped(DropReason::SpoolFull) + self.dropped(DropReason::SpoolTorn) + books.spooled;
        assert_eq!(books.recorded + books.adopted, placed, "{books:?}");
    }
}

/// Files of batches of an instance.
fn files(settings: &SpoolSettings, instance: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(settings.folder.join(instance)).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some());
    files.sort();
    files
}

#[test]
fn batches_come_back_in_order_and_leave_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(settings(&folder), INSTANCES[0]);
    (b'a'..=b'e').for_each(|content| desk.put(content));
    desk.spool.sync().unwrap();
    let taken = desk.taken(Whose::Own);
    assert_eq!(taken, [(0, b'a'), (1, b'b'), (2, b'c'), (3, b'd'), (4, b'e')]);
    desk.assert_balanced();
    assert_eq!(desk.spool.bytes, 0);
    let own = settings(&folder).folder.join(INSTANCES[0]);
    desk.spool.leave().unwrap();
    assert!(!own.exists());
}

#[test]
fn what_a_live_process_holds_is_left_alone_and_what_a_dead_one_left_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = desk(settings(&folder), INSTANCES[0]);
    first.put(b'a');
    let mut second = desk(settings(&folder), INSTANCES[1]);
    assert_eq!(second.taken(Whose::Earlier), []);
    // Dropped without a word, as when it is killed: the lock goes with it.
    drop(first.spool);
    let mut third = desk(settings(&folder), INSTANCES[2]);
    assert_eq!(third.ledger.stats().adopted, 3);
    // Now the third holds it.
    second.spool.looked = None;
    second.spool.look_around().unwrap();
    assert_eq!(second.taken(Whose::Earlier), []);
    assert_eq!(third.taken(Whose::Earlier), [(0, b'a')]);
    third.assert_balanced();
    assert!(!settings(&folder).folder.join(INSTANCES[0]).exists());
}

#[test]
fn the_oldest_make_room_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let one = {
        let mut desk = desk(settings(&folder), INSTANCES[0]);
        desk.put(b'a');
        desk.put(b'b');
        desk.spool.bytes / 2
    };
    let settings = SpoolSettings { max_bytes: one * 4, ..settings(&folder) };
    let mut desk = desk(settings.clone(), INSTANCES[1]);
    (b'c'..=b'e').for_each(|content| desk.put(content));
    assert_eq!(desk.dropped(DropReason::SpoolFull), 3, "the oldest of the earlier process");
    desk.assert_balanced();
    assert_eq!(desk.taken(Whose::Earlier), [(1, b'b')]);
    (b'f'..=b'z').for_each(|content| desk.put(content));
    desk.assert_balanced();
    assert_eq!(files(&settings, INSTANCES[1]).len(), 4);
    assert_eq!(desk.taken(Whose::Own).iter().map(|(_, content)| *content).collect::<Vec<_>>(), *b"wxyz");
    desk.assert_balanced();
}

#[test]
fn a_torn_damaged_or_missing_file_is_counted_and_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut first = desk(settings.clone(), INSTANCES[0]);
    (b'a'..=b'e').for_each(|content| first.put(content));
    drop(first.spool);
    let files = files(&settings, INSTANCES[0]);
    let content = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &content[..content.len() - 1]).unwrap();
    let mut content = fs::read(&files[2]).unwrap();
    content[30] ^= 4;
    fs::write(&files[2], content).unwrap();
    fs::write(&files[4], "").unwrap();
    let mut second = desk(settings, INSTANCES[1]);
    fs::remove_file(&files[3]).unwrap();
    assert_eq!(second.taken(Whose::Earlier), [(1, b'b')]);
    assert_eq!(second.dropped(DropReason::SpoolTorn), 4 * 3);
    second.assert_balanced();
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let mut desk = desk(SpoolSettings { max_age: Duration::ZERO, ..settings(&folder) }, INSTANCES[0]);
    desk.put(b'a');
    assert_eq!(desk.taken(Whose::Own), []);
    assert_eq!(desk.dropped(DropReason::SpoolFull), 3);
    desk.assert_balanced();
}

#[test]
fn a_batch_that_cannot_be_written_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut desk = desk(settings.clone(), INSTANCES[0]);
    fs::remove_dir_all(&settings.folder).unwrap();
    let (batch, problem) = desk.spool.put(Batch::new(Signal::Logs, vec![1], 3, None), &[]).unwrap_err();
    assert_eq!((batch.records, problem.kind()), (3, io::ErrorKind::NotFound));
}

#[cfg(unix)]
#[test]
fn files_and_folders_are_for_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder);
    let mut desk = desk(settings.clone(), INSTANCES[0]);
    desk.put(b'a');
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&settings.folder.join(INSTANCES[0])), 0o700);
    assert_eq!(mode(&files(&settings, INSTANCES[0])[0]), 0o600);
}
