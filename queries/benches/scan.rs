//! What one row of a funnel costs from ClickHouse's bytes to the answer.
//!
//! Four million rows of four steps among 200,000 people by a power law, as ClickHouse sends them: in blocks of 65,409, each of one
//! event name, by time. `read` is taking the bytes in, `look` sorting the rows of each person and following them; both
//! together are what the scan costs beside ClickHouse. With `value` each row carries one of 60 breakdown values.
//!
//! Run: `cargo bench -p gemba-queries --bench scan`.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gemba_queries::funnel::{Columns, Fetch, Funnel, FunnelRequest, FunnelScan, NativeReader};
use serde_json::json;
use std::hint::black_box;

const PEOPLE: f64 = 200_000.0;
const BLOCK_ROWS: u64 = 65_409;
const BLOCKS_A_STEP: u64 = 15;
const START_MS: i64 = 1_767_225_600_000;
const RANGE_MS: u64 = 60 * 86_400_000;
/// What one read of the connection gives.
const PIECE_BYTES: usize = 128 << 10;

fn funnel(breakdown: bool) -> Funnel {
    let steps: Vec<_> = (0..4).map(|step| json!({ "event": format!("step.n{step}") })).collect();
    let mut request = json!({
        "steps": steps, "window_ms": 7 * 86_400_000, "from": "2026-01-01T00:00:00Z", "to": "2026-03-02T00:00:00Z",
    });
    if breakdown {
        request["breakdown"] = "country".into();
    }
    let now = START_MS + RANGE_MS.cast_signed() + 30 * 86_400_000;
    FunnelRequest::parse(request).and_then(|request| request.validate(now, now)).expect("the funnel is valid")
}

/// A number that looks random, the same for the same input (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn column(out: &mut Vec<u8>, name: &str, kind: &str) {
    for text in [name, kind] {
        varint(out, text.len() as u64);
        out.extend_from_slice(text.as_bytes());
    }
}

fn answer(columns: Columns) -> Vec<u8> {
    let mut out = Vec::new();
    for block in 0..4 * BLOCKS_A_STEP {
        let step = block / BLOCKS_A_STEP;
        let rows = || block * BLOCK_ROWS..(block + 1) * BLOCK_ROWS;
        varint(&mut out, if columns.value { 4 } else { 3 });
        varint(&mut out, BLOCK_ROWS);
        column(&mut out, "unit_id", "UInt64");
        for row in rows() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a person's number")]
            let person = ((mix(row) as f64 / u64::MAX as f64).powf(1.3) * PEOPLE) as u64;
            out.extend_from_slice(&(mix(person ^ 0x5555) | 1).to_le_bytes());
        }
        column(&mut out, "time_ms", "Int64");
        let width = RANGE_MS / (BLOCKS_A_STEP * BLOCK_ROWS);
        for row in rows() {
            let at = row % (BLOCKS_A_STEP * BLOCK_ROWS) * width + mix(row + 7) % width;
            out.extend_from_slice(&(START_MS + at.cast_signed()).to_le_bytes());
        }
        column(&mut out, "step_mask", "UInt8");
        out.extend(std::iter::repeat_n(1u8 << step, usize::try_from(BLOCK_ROWS).unwrap_or(0)));
        if columns.value {
            column(&mut out, "value", "String");
            for row in rows() {
                let value = format!("sc{}", mix(row + 11) % 60);
                varint(&mut out, value.len() as u64);
                out.extend_from_slice(value.as_bytes());
            }
        }
    }
    out
}

fn read(funnel: &Funnel, columns: Columns, bytes: &[u8]) -> FunnelScan {
    let mut scan = FunnelScan::new(funnel.clone());
    scan.expect(columns);
    let mut reader = NativeReader::new(columns);
    for piece in bytes.chunks(PIECE_BYTES) {
        reader.push(piece, &mut scan).expect("the bytes are whole");
    }
    reader.finish(&mut scan).expect("the bytes are whole");
    scan
}

fn scan(criterion: &mut Criterion) {
    for (name, breakdown) in [("plain", false), ("value", true)] {
        let funnel = funnel(breakdown);
        let order = funnel.fetches_order_at_once();
        let columns = funnel.plan_part(1, &Fetch { order, ..Fetch::default() }).columns;
        let bytes = answer(columns);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Elements(4 * BLOCKS_A_STEP * BLOCK_ROWS));
        group.bench_function("read", |bencher| {
            bencher.iter_with_large_drop(|| read(&funnel, columns, black_box(&bytes)));
        });
        group.bench_function("look", |bencher| {
            bencher.iter_batched(|| read(&funnel, columns, &bytes), FunnelScan::finish, BatchSize::PerIteration);
        });
        group.finish();
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
