//! The bytes of an answer give the same rows however they are cut.

use super::funnel;
use crate::funnel::{Fetch, FunnelAnswer, FunnelScan, NativeError, NativeReader};
use serde_json::json;

/// A block in Native form with these rows: unit, time, step mask, breakdown value.
fn block(rows: &[(u64, i64, u8, &str)]) -> Vec<u8> {
    let mut bytes = vec![4, u8::try_from(rows.len()).unwrap()];
    let mut column = |name: &str, kind: &str, cells: Vec<u8>| {
        for text in [name, kind] {
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend(text.bytes());
        }
        bytes.extend(cells);
    };
    column("unit_id", "UInt64", rows.iter().flat_map(|row| row.0.to_le_bytes()).collect());
    column("time_ms", "Int64", rows.iter().flat_map(|row| row.1.to_le_bytes()).collect());
    column("step_mask", "UInt8", rows.iter().map(|row| row.2).collect());
    let text = |row: &(u64, i64, u8, &str)| {
        // A length beyond 127 takes two bytes.
        let length = row.3.len();
        let mut cell = if length < 128 {
            vec![u8::try_from(length).unwrap()]
        } else {
            vec![u8::try_from(length % 128).unwrap() | 0x80, u8::try_from(length / 128).unwrap()]
        };
        cell.extend(row.3.bytes());
        cell
    };
    column("value", "String", rows.iter().flat_map(text).collect());
    bytes
}

fn read(bytes: &[u8], piece: usize) -> Result<FunnelAnswer, NativeError> {
    let funnel = funnel(json!({
        "steps": [{"event": "a"}, {"event": "b"}], "from": "1970-01-01", "to": "1970-01-02", "breakdown": "plan",
    }));
    let plan = funnel.plan_part(1, &Fetch { order: false, ..Fetch::default() });
    let mut scan = FunnelScan::new(funnel);
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
    let mut bytes = block(&[(1, 5, 1, "sfree"), (1, 6, 2, ""), (2, 5, 1, &long)]);
    bytes.extend(block(&[]));
    bytes.extend(block(&[(2, 7, 2, "n5"), (0, 7, 1, "")]));
    let whole = read(&bytes, bytes.len()).unwrap();
    assert_eq!((whole.steps[0].count, whole.steps[1].count, whole.without_unit), (2, 2, 1));
    assert_eq!(whole.breakdown.len(), 2);
    for piece in [1, 2, 3, 7, 50, 400] {
        assert_eq!(read(&bytes, piece).unwrap(), whole, "pieces of {piece}");
    }
}

#[test]
fn an_answer_that_ends_early_is_refused() {
    let bytes = block(&[(1, 5, 1, "sfree"), (1, 6, 2, "")]);
    for length in 1..bytes.len() {
        assert_eq!(read(&bytes[..length], 64), Err(NativeError::Truncated), "{length} bytes");
    }
}

#[test]
fn another_column_is_refused_by_name() {
    let mut bytes = block(&[(1, 5, 1, "")]);
    let at = bytes.windows(7).position(|window| window == b"time_ms").unwrap();
    bytes[at] = b'd';
    let error = read(&bytes, 1000).unwrap_err();
    assert_eq!(error.to_string(), "column dime_ms Int64 where time_ms Int64 was asked for");
    // An exception in the place of a block is no block.
    assert!(read(b"Code: 60. DB::Exception: no such table", 1000).is_err());
}
