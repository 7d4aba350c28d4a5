//! Acknowledged means durable: the log, the cuts and the repeat keys on a disk that loses power at every single operation.
//!
//! The disk keeps, for every file and folder, what was synced and what was only written. A power cut keeps the synced
//! part and, of the rest, whatever a seeded die says: nothing, all, or single sectors; names created, renamed and removed
//! since the last folder sync may or may not be there. What this does not prove: that the kernel and the real disk keep
//! their word about a sync.

use gemba_ingest::identity::ProjectId;
use gemba_ingest::log::cuts::{Cut, CutBlock, CutBook};
use gemba_ingest::log::disk::{Disk, DiskFile};
use gemba_ingest::log::repeats::{RepeatKey, Repeats};
use gemba_ingest::log::{ContentEncoding, EntryHead, Known, Log, LoggedTally, ReadEntry};
use gemba_ingest::otlp::{Encoding, Signal};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk loses or keeps as a whole.
const SECTOR: usize = 512;

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, and the same on every machine.
#[derive(Debug, Clone)]
struct Die(u64);

impl Die {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Link(String, usize),
    Unlink(String),
    Rename { from: String, to: String, inode: usize },
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    unsynced_names: Vec<NameChange>,
    /// Operations left until the power goes.
    operations_left: Option<u64>,
    operations: u64,
}

/// A disk in memory that records what was not synced yet. One folder.
#[derive(Debug, Clone, Default)]
struct RecordingDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct RecordingFile {
    state: Arc<Mutex<State>>,
    inode: usize,
}

fn dark() -> io::Error {
    io::Error::other("the power is gone")
}

impl State {
    /// Counts an operation that changes something; an error once the power is gone.
    fn operate(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.operations_left {
            Some(0) => Err(dark()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn write_into(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

impl RecordingDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn operations(&self) -> u64 {
        self.state().operations
    }

    fn lose_power_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    /// The disk as it is found when the power is back.
    fn after_power_cut(&self, die: &mut Die) -> Self {
        let state = self.state();
        let mut names = state.synced_names.clone();
        for change in &state.unsynced_names {
            if die.roll(2) == 0 {
                continue;
            }
            match change {
                NameChange::Link(name, inode) => drop(names.insert(name.clone(), *inode)),
                NameChange::Unlink(name) => drop(names.remove(name)),
                NameChange::Rename { from, to, inode } => {
                    names.remove(from);
                    names.insert(to.clone(), *inode);
                }
            }
        }
        let inodes = state.inodes.iter().map(|inode| {
            let mut content = inode.synced.clone();
            for change in &inode.unsynced {
                match (change, die.roll(3)) {
                    (_, 0) => {}
                    (Change::Length(length), _) => content.resize(*length, 0),
                    (Change::Write { offset, bytes }, 1) => write_into(&mut content, *offset, bytes),
                    (Change::Write { offset, bytes }, _) => {
                        // Sectors reach the disk in any order, or not at all.
                        let mut at = 0;
                        while at < bytes.len() {
                            let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
                            if die.roll(2) == 0 {
                                write_into(&mut content, offset + at, &bytes[at..end]);
                            }
                            at = end;
                        }
                    }
                }
            }
            Inode { now: content.clone(), synced: content, unsynced: Vec::new() }
        });
        let inodes = inodes.collect();
        let state = State { inodes, synced_names: names.clone(), names, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl Disk for RecordingDisk {
    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _dir: &Path) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.operate()?;
        let name = name_of(path);
        if state.names.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let length = usize::try_from(bytes).unwrap();
        let inode = state.inodes.len();
        state.inodes.push(Inode { now: vec![0; length], synced: Vec::new(), unsynced: vec![Change::Length(length)] });
        state.names.insert(name.clone(), inode);
        state.unsynced_names.push(NameChange::Link(name, inode));
        Ok(Box::new(RecordingFile { state: Arc::clone(&self.state), inode }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.state().names.get(&name_of(path)).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(RecordingFile { state: Arc::clone(&self.state), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let (from, to) = (name_of(from), name_of(to));
        let inode = state.names.remove(&from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.clone(), inode);
        state.unsynced_names.push(NameChange::Rename { from, to, inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        let name = name_of(path);
        state.names.remove(&name).ok_or(io::ErrorKind::NotFound)?;
        state.unsynced_names.push(NameChange::Unlink(name));
        Ok(())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.operate()?;
        state.synced_names = state.names.clone();
        state.unsynced_names.clear();
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

impl DiskFile for RecordingFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let outcome = state.operate();
        let offset = usize::try_from(offset).unwrap();
        let inode = &mut state.inodes[self.inode];
        // The write during which the power goes may have reached the disk, wholly or in part.
        inode.unsynced.push(Change::Write { offset, bytes: bytes.to_vec() });
        write_into(&mut inode.now, offset, bytes);
        outcome
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock().unwrap();
        let content = &state.inodes[self.inode].now;
        let start = usize::try_from(offset).unwrap().min(content.len());
        let end = (start + bytes.len()).min(content.len());
        bytes[..end - start].copy_from_slice(&content[start..end]);
        Ok(end - start)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().inodes[self.inode].now.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.operate()?;
        let length = usize::try_from(bytes).unwrap();
        let inode = &mut state.inodes[self.inode];
        inode.now.resize(length, 0);
        inode.unsynced.push(Change::Length(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        state.operate()?;
        let inode = &mut state.inodes[self.inode];
        inode.synced = inode.now.clone();
        inode.unsynced.clear();
        Ok(())
    }
}

fn head(number: u64) -> EntryHead {
    EntryHead {
        decoder_version: 1,
        project: ProjectId(1),
        retention_class: 0,
        signal: Signal::Logs,
        encoding: Encoding::Protobuf,
        content_encoding: ContentEncoding::Identity,
        received_ms: 1_700_000_000_000,
        inflated_len: 0,
        key: RepeatKey::Sdk { instance: 1, number },
        is_repeat: false,
        tally: LoggedTally { received: 1, others: Vec::new() },
        set_aside_ms: None,
    }
}

/// A body that tells which request it is, of a length that makes groups span sectors and segments.
fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + usize::try_from(number * 37 % 1_400).unwrap(), u8::try_from(number % 256).unwrap());
    body
}

fn number_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().unwrap())
}

/// What the world outside the machine knows and a power cut cannot take back.
#[derive(Default)]
struct Outside {
    /// Requests the server acknowledged.
    acknowledged: HashSet<u64>,
    /// What ClickHouse stored: per number of an insert, the requests in it.
    stored: HashMap<u64, Vec<u64>>,
    next_request: u64,
    /// Starts that found a backlog.
    starts_with_backlog: u64,
}

/// The parts a server keeps on disk, driven the way the pipeline drives them.
struct Server {
    disk: RecordingDisk,
    book: CutBook,
    log: Log,
    repeats: Repeats,
}

impl Server {
    /// Starts as the pipeline does: cuts, keys, log.
    fn start(disk: RecordingDisk) -> Result<Self, gemba_ingest::log::LogError> {
        let dir = Path::new("/log");
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let book = CutBook::open(Arc::clone(&shared), dir)?;
        let (mut repeats, saved_to) = Repeats::load(shared.as_ref(), dir)?.unwrap_or_default();
        let known = Known { stored_before: book.stored_before(), given_before: book.uncut().max(saved_to) };
        let log = Log::open(shared, dir, known, |position, head| {
            if position >= saved_to {
                repeats.note(head.project, head.key, head.received_ms);
            }
        })?
        .with_segment_bytes(8 << 10);
        Ok(Self { disk, book, log, repeats })
    }

    /// The requests at positions, as the log gives them.
    fn read(&self, first: u64, end: u64) -> Vec<u64> {
        let mut reader = self.log.source().reader(first);
        let mut requests = Vec::new();
        while reader.position() < end {
            match reader.read().unwrap().expect("an entry before the durable end") {
                ReadEntry::Entry { body, .. } => requests.push(number_of(&body)),
                ReadEntry::Damaged { position } => panic!("acknowledged entry {position} is damaged"),
            }
        }
        requests
    }

    /// Stores open cuts that are not stored yet, and everything in no cut, what was left behind first: what every start does.
    fn recover(&mut self, outside: &mut Outside) -> Result<(), gemba_ingest::log::LogError> {
        outside.starts_with_backlog += u64::from(!self.book.backlog().is_empty());
        for cut in self.book.open_cuts().cloned().collect::<Vec<_>>() {
            let insert = cut.blocks[0].insert;
            outside.stored.entry(insert).or_insert_with(|| self.read(cut.first, cut.end));
            self.book.done(cut.number)?;
        }
        while !self.book.backlog().is_empty() {
            self.cut_backlog(outside, 7)?;
            self.give_back()?;
        }
        self.cut(outside)
    }

    /// Makes a group of requests durable and acknowledges them.
    fn commit(&mut self, outside: &mut Outside, requests: u64) -> Result<(), gemba_ingest::log::LogError> {
        let mut group = Vec::new();
        for _ in 0..requests {
            let number = outside.next_request;
            outside.next_request += 1;
            self.log.append(&head(number), &body(number))?;
            self.repeats.note(ProjectId(1), head(number).key, 0);
            group.push(number);
        }
        self.log.commit()?;
        outside.acknowledged.extend(group);
        Ok(())
    }

    /// Cuts what is in no cut and was not left behind.
    fn cut(&mut self, outside: &mut Outside) -> Result<(), gemba_ingest::log::LogError> {
        self.cut_range(outside, self.book.uncut(), self.log.durable())
    }

    /// Leaves what is in no cut to the backlog.
    fn fork(&mut self) -> Result<(), gemba_ingest::log::LogError> {
        self.book.fork(self.log.durable())
    }

    /// Cuts and stores up to so many entries from the beginning of the backlog.
    fn cut_backlog(&mut self, outside: &mut Outside, entries: u64) -> Result<(), gemba_ingest::log::LogError> {
        let Some(oldest) = self.book.backlog().first().cloned() else { return Ok(()) };
        self.cut_range(outside, oldest.start, oldest.end.min(oldest.start + entries))
    }

    /// Cuts these entries, inserts them and notes that they are done.
    fn cut_range(&mut self, outside: &mut Outside, first: u64, end: u64) -> Result<(), gemba_ingest::log::LogError> {
        if first == end {
            return Ok(());
        }
        let block =
            CutBlock { table: "events".to_owned(), class: 0, week: 0, insert: 0, rows: end - first, records: 0 };
        let number = self.book.next_cut();
        let (lost, refused) = (Vec::new(), Vec::new());
        let mut cut = Cut { number, first, end, decoder: 1, records: 0, lost, blocks: vec![block], refused };
        self.book.number_blocks(&mut cut.blocks);
        let insert = cut.blocks[0].insert;
        self.book.record(cut)?;
        let previous = outside.stored.insert(insert, self.read(first, end));
        assert!(previous.is_none(), "the number of an insert was given twice");
        self.book.done(number)
    }

    /// Removes what is stored, as the committer does.
    fn give_back(&mut self) -> Result<(), gemba_ingest::log::LogError> {
        let stored = self.book.stored_before();
        if self.log.is_removable_before(stored) {
            self.repeats.save(&self.disk, Path::new("/log"), self.log.durable())?;
            self.log.remove_before(stored)?;
        }
        Ok(())
    }

    fn work(&mut self, outside: &mut Outside, die: &mut Die) -> Result<(), gemba_ingest::log::LogError> {
        for _ in 0..12 {
            self.commit(outside, 1 + die.roll(5))?;
            match die.roll(8) {
                0 | 1 => self.cut(outside)?,
                2 | 3 => self.fork()?,
                4 | 5 => self.cut_backlog(outside, 1 + die.roll(6))?,
                _ => {}
            }
            self.give_back()?;
        }
        Ok(())
    }
}

/// Everything acknowledged is stored exactly once, and every key is remembered.
fn check(server: &Server, outside: &Outside, context: &str) {
    let mut times: HashMap<u64, u32> = HashMap::new();
    for request in outside.stored.values().flatten() {
        *times.entry(*request).or_default() += 1;
    }
    for request in &outside.acknowledged {
        assert_eq!(times.get(request), Some(&1), "{context}: acknowledged request {request}");
        assert!(server.repeats.contains(ProjectId(1), head(*request).key, 0), "{context}: key of request {request}");
    }
    // What was never acknowledged may be stored, since its client comes again with the same key, but not twice.
    assert!(times.values().all(|count| *count == 1), "{context}: stored twice");
    assert_eq!(server.log.damaged(), 0, "{context}");
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_power_goes_at_any_operation() {
    let (mut cuts, mut with_backlog) = (0, 0);
    for seed in 0..6 {
        let whole = {
            let disk = RecordingDisk::default();
            let mut server = Server::start(disk.clone()).unwrap();
            server.work(&mut Outside::default(), &mut Die(seed)).unwrap();
            disk.operations()
        };
        for operation in 0..whole {
            let mut outside = Outside::default();
            let disk = RecordingDisk::default();
            disk.lose_power_after(operation);
            if let Ok(mut server) = Server::start(disk.clone()) {
                assert!(server.work(&mut outside, &mut Die(seed)).is_err(), "the power goes before the end");
            }
            // A second cut soon after the first, in the middle of the recovery.
            let mut die = Die(seed << 32 | operation);
            let disk = disk.after_power_cut(&mut die);
            disk.lose_power_after(die.roll(20));
            if let Ok(mut server) = Server::start(disk.clone())
                && server.recover(&mut outside).is_ok()
            {
                drop(server.work(&mut outside, &mut die));
            }
            let context = format!("seed {seed}, operation {operation}");
            let mut server = Server::start(disk.after_power_cut(&mut die)).expect(&context);
            server.recover(&mut outside).unwrap();
            check(&server, &outside, &context);
            cuts += 1;
            with_backlog += outside.starts_with_backlog;
        }
    }
    assert!(cuts > 500, "{cuts} power cuts are too few to mean anything");
    assert!(with_backlog > 200, "{with_backlog} starts with a backlog are too few to mean anything");
}
