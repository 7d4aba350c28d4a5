//! The bytes of an answer give the same rows however they are cut.

use super::{Row, funnel};
use crate::funnel::sql::{mask_bits, mask_type};
use crate::funnel::unit::Event;
use crate::funnel::{Columns, Fetch, Funnel, FunnelAnswer, FunnelPlan, FunnelScan, NativeError, NativeReader};
use serde_json::json;

/// Rows in a block, so that an answer of some rows has several.
const BLOCK_ROWS: usize = 5;

fn varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 127 {
        bytes.push(u8::try_from(number % 128).unwrap() | 0x80);
        number /= 128;
    }
    bytes.push(u8::try_from(number).unwrap());
}

/// These rows in Native form, as ClickHouse sends the columns.
pub(super) fn answer(columns: Columns, rows: &[&Row]) -> Vec<u8> {
    // A long answer in one block: it then goes through every step of reading.
    let block_rows = if rows.len() > 1000 { rows.len() } else { BLOCK_ROWS };
    let mut bytes = Vec::new();
    for rows in rows.chunks(block_rows) {
        block(&mut bytes, columns, rows);
    }
    bytes
}

fn block(bytes: &mut Vec<u8>, columns: Columns, rows: &[&Row]) {
    let cells = |cell: &dyn Fn(&Row) -> Vec<u8>| rows.iter().flat_map(|row| cell(row)).collect::<Vec<u8>>();
    let word = |word: u64| word.to_le_bytes().to_vec();
    let mask = |mask: u32, bits: usize| mask.to_le_bytes()[..mask_bits(bits) / 8].to_vec();
    let text = |text: &str| {
        let mut cell = Vec::new();
        varint(&mut cell, text.len());
        cell.extend(text.bytes());
        cell
    };
    let Columns { steps, exclusions, .. } = columns;
    let all = [
        (true, "unit_id", "UInt64", cells(&|row| word(row.unit))),
        (true, "time_ms", "Int64", cells(&|row| word(row.event.time_ms.cast_unsigned()))),
        (true, "step_mask", mask_type(steps), cells(&|row| mask(row.event.steps, steps))),
        (exclusions > 0, "exclusion_mask", mask_type(exclusions), cells(&|row| mask(row.event.exclusions, exclusions))),
        (columns.order, "seq", "UInt64", cells(&|row| word(row.event.seq))),
        (columns.order, "instance_id", "UInt64", cells(&|row| word(row.event.instance))),
        (columns.derived, "derived", "UInt8", cells(&|row| vec![u8::from(row.derived)])),
        (columns.visible, "visible", "UInt8", cells(&|row| vec![u8::from(row.event.visible)])),
        (columns.hold, "hold_key", "UInt64", cells(&|row| word(row.event.hold))),
        (columns.value, "value", "String", cells(&|row| text(&row.value))),
    ];
    let sent: Vec<_> = all.into_iter().filter(|(is_sent, ..)| *is_sent).collect();
    varint(bytes, sent.len());
    varint(bytes, rows.len());
    for (_, name, kind, cells) in sent {
        bytes.extend(text(name));
        bytes.extend(text(kind));
        bytes.extend(cells);
    }
}

/// Rows of unit, time, step mask and breakdown value.
fn plain(rows: &[(u64, i64, u8, &str)]) -> Vec<u8> {
    let row = |&(unit, time_ms, steps, value): &(u64, i64, u8, &str)| {
        let event = Event {
            time_ms,
            seq: 0,
            instance: 0,
            steps: steps.into(),
            exclusions: 0,
            hold: 0,
            value: 0,
            visible: false,
        };
        Row { unit, derived: false, event, value: value.to_owned() }
    };
    let rows: Vec<Row> = rows.iter().map(row).collect();
    let mut bytes = Vec::new();
    block(&mut bytes, plan().columns, &rows.iter().collect::<Vec<_>>());
    bytes
}

fn question() -> Funnel {
    funnel(json!({
        "steps": [{"event": "a"}, {"event": "b"}], "from": "1970-01-01", "to": "1970-01-02", "breakdown": "plan",
    }))
}

fn plan() -> FunnelPlan {
    question().plan_part(1, &Fetch { order: false, ..Fetch::default() })
}

fn read(bytes: &[u8], piece: usize) -> Result<FunnelAnswer, NativeError> {
    let plan = plan();
    let mut scan = FunnelScan::new(question());
    scan.expect(plan.columns);
    let mut reader = NativeReader::new(plan.columns);
    for piece in bytes.chunks(piece) {
        reader.push(piece, &mut scan)?;
    }
    reader.finish(&mut scan)?;
    Ok(scan.finish())
}

#[test]
fn pieces_may_be_cut_anywhere() {
    let long = format!("s{}", "x".repeat(300));
    let mut bytes = plain(&[(1, 5, 1, "sfree"), (1, 6, 2, ""), (2, 5, 1, &long)]);
    bytes.extend(plain(&[]));
    bytes.extend(plain(&[(2, 7, 2, "n5"), (0, 7, 1, "")]));
    let whole = read(&bytes, bytes.len()).unwrap();
    assert_eq!((whole.steps[0].count, whole.steps[1].count, whole.without_unit), (2, 2, 1));
    assert_eq!(whole.breakdown.len(), 2);
    for piece in [1, 2, 3, 7, 50, 400] {
        assert_eq!(read(&bytes, piece).unwrap(), whole, "pieces of {piece}");
    }
}

#[test]
fn an_answer_that_ends_early_is_refused() {
    let bytes = plain(&[(1, 5, 1, "sfree"), (1, 6, 2, "")]);
    for length in 1..bytes.len() {
        assert_eq!(read(&bytes[..length], 64), Err(NativeError::Truncated), "{length} bytes");
    }
}

#[test]
fn another_column_is_refused_by_name() {
    let mut bytes = plain(&[(1, 5, 1, "")]);
    let at = bytes.windows(7).position(|window| window == b"time_ms").unwrap();
    bytes[at] = b'd';
    let error = read(&bytes, 1000).unwrap_err();
    assert_eq!(error.to_string(), "column dime_ms Int64 where time_ms Int64 was asked for");
    // An exception in the place of a block is no block.
    assert!(read(b"Code: 60. DB::Exception: no such table", 1000).is_err());
}
