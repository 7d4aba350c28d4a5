//! What can be shown about rows without an engine; the blocks themselves are read back by the engine in `tests/it`.

use super::collection::{Buckets, List};
use super::column::{Column, Fixed, Text};
use super::*;

#[test]
fn every_table_has_the_columns_of_the_schema_in_order_and_type() {
    let schema = include_str!("../../schema/0001_tables.up.sql");
    let added = include_str!("../../schema/0006_retries.up.sql");
    let set = TableSet::default();
    for table in Table::ALL {
        let (_, rest) = schema.split_once(&format!("CREATE TABLE IF NOT EXISTS {table}\n(\n")).expect("in the schema");
        let (body, _) = rest.split_once("\n)\nENGINE").expect("an engine");
        let mut columns: Vec<(&str, String)> = body
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
            .map(|line| {
                let (name, kind) = line.trim_end_matches(',').split_once(' ').expect("name and type");
                (name, kind.split(" CODEC").next().unwrap_or_default().to_owned())
            })
            .collect();
        let alter = format!("ALTER TABLE {table} ADD COLUMN IF NOT EXISTS ");
        for line in added.lines().filter_map(|line| line.strip_prefix(&*alter)) {
            let (name, rest) = line.split_once(' ').expect("name and type");
            let (kind, after) = rest.split_once(" CODEC(ZSTD(1)) AFTER ").expect("type and place");
            let place = columns.iter().position(|(name, _)| *name == after.trim_end_matches(';')).expect("a column");
            columns.insert(place + 1, (name, kind.to_owned()));
        }
        let ours: Vec<_> =
            set.columns(*table).signature().into_iter().map(|(name, kind)| (name, kind.to_owned())).collect();
        assert_eq!(columns, ours, "{table}");
        assert_eq!(table.is_counted(), ours.iter().any(|(name, _)| *name == "batch"), "{table}");
        assert_eq!(Table::parse(table.name()), Some(*table));
    }
}

#[test]
fn a_partition_begins_on_the_monday_of_receipt() {
    let day = 86_400_000;
    // 2024-01-01 was a Monday, day 19723.
    for offset in 0..7 {
        assert_eq!(Partition::new(3, (19_723 + offset) * day), Partition { retention_class: 3, week: 19_723 });
    }
    assert_eq!(Partition::new(0, 19_723 * day - 1).week, 19_716);
    assert_eq!(Partition::new(0, -5).week, 0);
}

#[test]
fn values_are_written_in_an_order_with_all_that_belongs_to_them() {
    fn check<C: Column>(values: [C::Value<'_>; 3], again: [C::Value<'_>; 3]) {
        let (mut pushed, mut expected) = (C::default(), C::default());
        for value in values {
            pushed.push(value);
        }
        // Those of rows 2, 0 and 1.
        for value in again {
            expected.push(value);
        }
        let (mut found, mut wanted) = (Vec::new(), Vec::new());
        pushed.encode(Some(&[2, 0, 1]), &mut found);
        expected.encode(None, &mut wanted);
        assert_eq!(found, wanted);
    }
    check::<Fixed<u64>>([1, 2, 3], [3, 1, 2]);
    check::<Fixed<[u8; 16]>>([[1; 16], [2; 16], [3; 16]], [[3; 16], [1; 16], [2; 16]]);
    let long = [7; 200];
    check::<Text>([b"a", &long, b""], [b"", b"a", &long]);
    check::<List<u32>>([&[1], &[2, 3], &[]], [&[], &[1], &[2, 3]]);
    check::<Buckets>([&[(-1, 5)], &[], &[(2, 6), (3, 7)]], [&[(2, 6), (3, 7)], &[(-1, 5)], &[]]);
}
