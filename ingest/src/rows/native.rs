//! Reads Native blocks back, for tests: written from ClickHouse's description of the format and sharing nothing with the
//! columns that write it.

use serde_json::{Map, Value, json};

/// The rows of a block, each column by name. Enums read as their words, fixed strings as hexadecimal, floats that JSON
/// lacks as text.
pub(crate) fn read(mut block: &[u8]) -> Vec<Map<String, Value>> {
    let input = &mut block;
    let columns = varint(input);
    let rows = varint(input);
    let mut out = vec![Map::new(); rows];
    for _ in 0..columns {
        let name = string(input);
        let kind = string(input);
        prefix(&kind, input);
        for (row, value) in out.iter_mut().zip(column(&kind, rows, input)) {
            assert!(row.insert(name.clone(), value).is_none(), "column {name} twice");
        }
    }
    assert!(input.is_empty(), "{} bytes after the block", input.len());
    out
}

fn take<'a>(count: usize, input: &mut &'a [u8]) -> &'a [u8] {
    let (head, tail) = input.split_at(count);
    *input = tail;
    head
}

fn varint(input: &mut &[u8]) -> usize {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(1, input)[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn string(input: &mut &[u8]) -> String {
    let length = varint(input);
    String::from_utf8_lossy(take(length, input)).into_owned()
}

fn word(input: &mut &[u8]) -> u64 {
    u64::from_le_bytes(take(8, input).try_into().expect("8 bytes"))
}

fn inner<'a>(kind: &'a str, wrapper: &str) -> Option<&'a str> {
    kind.strip_prefix(wrapper)?.strip_prefix('(')?.strip_suffix(')')
}

fn prefix(kind: &str, input: &mut &[u8]) {
    if inner(kind, "LowCardinality").is_some() {
        assert_eq!(word(input), 1, "version of {kind}");
    } else if let Some((key, value)) = inner(kind, "Map").and_then(split) {
        prefix(key, input);
        prefix(value, input);
    }
}

/// Splits `K, V` at the comma outside parentheses.
fn split(pair: &str) -> Option<(&str, &str)> {
    let mut depth = 0;
    let at = pair.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0 && c == ','
    })?;
    Some((&pair[..at], pair[at + 1..].trim_start()))
}

fn float(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

fn offsets(rows: usize, input: &mut &[u8]) -> Vec<usize> {
    (0..rows).map(|_| usize::try_from(word(input)).expect("fits")).collect()
}

/// Reads the `rows` values of a column.
fn column(kind: &str, rows: usize, input: &mut &[u8]) -> Vec<Value> {
    if let Some(key) = inner(kind, "LowCardinality") {
        return low_cardinality(key, rows, input);
    }
    if let Some((key, value)) = inner(kind, "Map").and_then(split) {
        let offsets = offsets(rows, input);
        let total = offsets.last().copied().unwrap_or(0);
        let keys = column(key, total, input);
        let values = column(value, total, input);
        let text = |key: &Value| key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        let pairs: Vec<_> = keys.iter().map(text).zip(values).collect();
        return slices(&offsets)
            .map(|range| {
                let map: Map<String, Value> = pairs[range.clone()].iter().cloned().collect();
                assert_eq!(map.len(), range.len(), "keys of a map are unique");
                Value::Object(map)
            })
            .collect();
    }
    if let Some(element) = inner(kind, "Array") {
        let offsets = offsets(rows, input);
        let values = column(element, offsets.last().copied().unwrap_or(0), input);
        return slices(&offsets).map(|range| Value::Array(values[range].to_vec())).collect();
    }
    if let Some(members) = inner(kind, "Enum8") {
        let word = |code: u8| {
            members
                .split(", ")
                .find_map(|member| member.strip_suffix(&format!(" = {code}")))
                .map(|member| json!(member.trim_matches('\'')))
                .expect("a member of the enum")
        };
        return (0..rows).map(|_| word(take(1, input)[0])).collect();
    }
    let hex = |bytes: &[u8]| json!(format!("{:032x}", u128::from_be_bytes(bytes.try_into().expect("16"))));
    let base = kind.split('(').next().unwrap_or_default();
    (0..rows)
        .map(|_| match base {
            "UInt8" => json!(take(1, input)[0]),
            "Bool" => match take(1, input)[0] {
                0 => json!(false),
                1 => json!(true),
                other => panic!("{other} is no Bool"),
            },
            "UInt16" | "Date" => json!(u16::from_le_bytes(take(2, input).try_into().expect("2"))),
            "UInt32" => json!(u32::from_le_bytes(take(4, input).try_into().expect("4"))),
            "Int32" => json!(i32::from_le_bytes(take(4, input).try_into().expect("4"))),
            "Float32" => float(f32::from_le_bytes(take(4, input).try_into().expect("4")).into()),
            "UInt64" => json!(word(input)),
            "Int64" | "DateTime64" => json!(word(input).cast_signed()),
            "Float64" => float(f64::from_bits(word(input))),
            "FixedString" => hex(take(16, input)),
            "String" => json!(string(input)),
            other => panic!("type {other}"),
        })
        .collect()
}

fn slices(offsets: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> {
    let starts = std::iter::once(0).chain(offsets.iter().copied());
    starts.zip(offsets.iter().copied()).map(|(start, end)| start..end)
}

fn low_cardinality(key: &str, rows: usize, input: &mut &[u8]) -> Vec<Value> {
    if rows == 0 {
        return Vec::new();
    }
    let flags = word(input);
    assert_eq!(flags & !0xff, 0x600, "additional keys, and an update");
    let distinct = usize::try_from(word(input)).expect("fits");
    let dictionary = column(key, distinct, input);
    assert_eq!(word(input), rows as u64, "indexes");
    let mut seen = vec![false; distinct];
    let values = (0..rows)
        .map(|_| {
            let mut bytes = [0; 8];
            let width = 1 << (flags & 0xff);
            bytes[..width].copy_from_slice(take(width, input));
            let index = usize::try_from(u64::from_le_bytes(bytes)).expect("fits");
            seen[index] = true;
            dictionary[index].clone()
        })
        .collect();
    assert!(seen.iter().all(|seen| *seen), "every word of the dictionary is used");
    values
}
