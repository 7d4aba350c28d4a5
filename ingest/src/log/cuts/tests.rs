//! The file of cuts on a real file system: after starts, torn ends and damage, and as other builds read it.

use super::*;
use crate::log::disk::OsDisk;

fn cut(number: u64, first: u64, end: u64) -> Cut {
    let block = CutBlock { table: "events".to_owned(), class: 0, week: 20_000, insert: 0, rows: 3, records: 3 };
    let (lost, refused) = (Vec::new(), Vec::new());
    Cut { number, first, end, decoder: 1, records: 3, lost, blocks: vec![block.clone(), block], refused }
}

#[test]
fn cuts_not_done_are_there_after_a_start_and_numbers_are_never_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    let mut given = std::collections::HashSet::new();
    for number in 0..4 {
        assert_eq!(book.next_cut(), number);
        let mut made = cut(number, number * 10, number * 10 + 10);
        book.number_blocks(&mut made.blocks);
        assert!(made.blocks.iter().all(|block| given.insert(block.insert)));
        book.record(made).unwrap();
    }
    book.done(0).unwrap();
    book.done(2).unwrap();
    for _ in 0..2 {
        book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
        assert_eq!(book.open_cuts().map(|cut| cut.number).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((book.stored_before(), book.uncut(), book.next_cut()), (10, 40, 4));
    }
    let mut again = book.open_cuts().next().unwrap().clone();
    let replaced = again.blocks[1].clone();
    book.number_blocks(&mut again.blocks[1..]);
    assert!(given.insert(again.blocks[1].insert));
    book.replace(again.clone(), vec![Ghost { block: replaced.clone(), since_ms: 5 }]).unwrap();
    let mut book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    assert_eq!(book.open_cuts().next(), Some(&again));
    assert_eq!(book.ghosts(), [Ghost { block: replaced.clone(), since_ms: 5 }]);
    book.lay(replaced.insert).unwrap();
    book.done(1).unwrap();
    book.done(3).unwrap();
    let book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    assert_eq!((book.stored_before(), book.ghosts().len()), (40, 0));
}

#[test]
fn a_backlog_shrinks_with_its_cuts_and_is_known_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let open = || CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    let told = |book: &CutBook| {
        let backlog: Vec<_> = book.backlog().iter().map(|stretch| (stretch.start, stretch.end)).collect();
        (backlog, book.uncut(), book.stored_before())
    };
    let stored = |book: &mut CutBook, number, first, end| {
        book.record(cut(number, first, end)).unwrap();
        book.done(number).unwrap();
    };
    let mut book = open();
    stored(&mut book, 0, 0, 10);
    book.fork(50).unwrap();
    assert_eq!(told(&book), (vec![(10, 50)], 50, 10));
    // Newer entries are cut and stored, then others are left behind as well.
    stored(&mut book, 1, 50, 70);
    book.fork(90).unwrap();
    assert_eq!(told(&open()), (vec![(10, 50), (70, 90)], 90, 10));
    book = open();
    book.record(cut(2, 10, 30)).unwrap();
    assert_eq!(told(&open()), (vec![(30, 50), (70, 90)], 90, 10));
    book = open();
    book.done(2).unwrap();
    assert_eq!(told(&book), (vec![(30, 50), (70, 90)], 90, 30));
    stored(&mut book, 3, 70, 90);
    assert_eq!(told(&open()), (vec![(30, 50)], 90, 30));
    book = open();
    book.record(cut(4, 30, 50)).unwrap();
    // A cut of the backlog that is written down anew moves nothing.
    book.record(cut(4, 30, 50)).unwrap();
    assert_eq!(told(&open()), (vec![], 90, 30));
    book = open();
    book.done(4).unwrap();
    // Nothing was left behind.
    book.fork(90).unwrap();
    assert_eq!(told(&open()), (vec![], 90, 90));
}

/// What the builds before the first with a backlog knew of the file of cuts: other kinds of records stop them, other fields do not.
#[derive(Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "only whether the records can be read is of interest")]
enum EarlierRecord {
    Base { version: u32, next_cut: u64, next_insert: u64, uncut: u64 },
    Cut(Cut),
    Done { number: u64 },
    Replaced { cut: Cut, ghosts: Vec<Ghost> },
    Ghost(Ghost),
    Laid { insert: u64 },
}

/// Reads the file of cuts in `dir` as those builds do.
fn earlier_build_reads(dir: &Path) -> Result<Vec<EarlierRecord>, String> {
    let file = OsDisk.open(&dir.join("cuts")).unwrap();
    let (mut offset, mut records) = (0, Vec::new());
    while let Some(frame) = frame::read(file.as_ref(), offset).unwrap() {
        records.push(serde_json::from_slice(&frame.head).map_err(|error| error.to_string())?);
        offset = frame.end();
    }
    Ok(records)
}

#[test]
fn an_earlier_build_refuses_a_backlog_and_reads_the_file_once_it_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let open = || CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    let mut book = open();
    book.record(cut(0, 0, 10)).unwrap();
    book.fork(50).unwrap();
    assert!(earlier_build_reads(dir.path()).unwrap_err().contains("unknown variant `fork`"));
    for _ in 0..2 {
        book = open();
        assert!(earlier_build_reads(dir.path()).unwrap_err().contains("unknown variant `backlog`"));
    }
    book.record(cut(1, 10, 50)).unwrap();
    book.done(1).unwrap();
    let records = earlier_build_reads(dir.path()).unwrap();
    assert!(matches!(records.as_slice(), [EarlierRecord::Base { uncut: 50, .. }, ..]), "{records:?}");
    assert_eq!(open().stored_before(), 0, "the first cut is open still");
}

#[test]
fn a_file_of_cuts_from_a_newer_build_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cuts");
    for (base, is_newer) in [
        (r#"{"base":{"version":2,"next_cut":0,"next_insert":1,"uncut":0}}"#, true),
        (r#"{"base":{"version":1,"next_cut":0,"next_insert":1,"uncut":0,"later":[]}}"#, false),
    ] {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, 0, 0, base.as_bytes(), &[]).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let refused = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap_err();
        match refused {
            LogError::Newer { version: 2, known: 1, .. } => assert!(is_newer),
            LogError::Cuts { .. } => assert!(!is_newer),
            other => panic!("{other:?}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

/// The file of cuts, cut off at every byte: the records before stay, nothing else appears.
#[test]
fn cuts_torn_at_any_byte_keep_what_was_durable() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    book.record(cut(0, 0, 10)).unwrap();
    let path = dir.path().join("cuts");
    let durable = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
    book.record(cut(1, 10, 20)).unwrap();
    drop(book);
    let whole = std::fs::read(&path).unwrap();
    for end in durable..=whole.len() {
        std::fs::write(&path, &whole[..end]).unwrap();
        let book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
        let numbers: Vec<_> = book.open_cuts().map(|cut| cut.number).collect();
        assert!(numbers == [0] || numbers == [0, 1], "cut at {end}: {numbers:?}");
    }
}

#[test]
fn a_cut_broken_before_later_ones_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut book = CutBook::open(Arc::new(OsDisk), dir.path()).unwrap();
    let path = dir.path().join("cuts");
    let at = usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap() + 50;
    book.record(cut(0, 0, 10)).unwrap();
    book.record(cut(1, 10, 20)).unwrap();
    drop(book);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(matches!(CutBook::open(Arc::new(OsDisk), dir.path()), Err(LogError::Cuts { .. })));
}
