//! The columns of every table that decoding fills, in the order and with the types of `schema/0001_tables.up.sql`.
//!
//! Each table has a row type (what a record says) and a columns type (what an insert sends). `batch` is in no row: it is
//! known only when a cut is encoded.

use super::collection::{AttributeMap, Buckets, List};
use super::column::{Column, Fixed, LowCardinality, LowCardinalityNumber, Order, Text, put_string, put_varint};
use super::order;
use std::fmt::Debug;

type Strings = AttributeMap<Text>;
type Numbers = AttributeMap<Fixed<f64>>;
type Bools = AttributeMap<Fixed<bool>>;

/// What all tables' columns can do, whatever their rows are.
pub(super) trait Columns: Debug {
    /// Rows held.
    fn rows(&self) -> usize;
    /// Records held: rows whose `record` is 1. Equals the rows in tables without that column.
    fn records(&self) -> u64;
    /// Bytes held, approximately.
    fn bytes(&self) -> usize;
    /// Appends one Native block; `batch` fills the column of that name where there is one. `between` is called after every
    /// column and may take away what is there.
    fn encode(&self, batch: u64, out: &mut Vec<u8>, between: &mut dyn FnMut(&mut Vec<u8>));
    /// Remembers the present end.
    fn mark(&mut self);
    /// Forgets everything since the mark.
    fn rollback(&mut self);
    /// Forgets everything, keeping capped capacity.
    fn clear(&mut self);
    /// Names and types, in order.
    #[cfg(test)]
    fn signature(&self) -> Vec<(&'static str, &'static str)>;
}

fn head(name: &str, kind: &str, out: &mut Vec<u8>) {
    put_string(name.as_bytes(), out);
    put_string(kind.as_bytes(), out);
}

/// How many rows and records a table holds, and its columns `record` and `batch`.
#[derive(Debug, Default)]
struct Pushed {
    rows: usize,
    records: u64,
    marked: (usize, u64),
    record: Fixed<u8>,
}

impl Pushed {
    #[inline]
    fn push(&mut self, first: bool) {
        self.rows += 1;
        self.records += u64::from(first);
        self.record.push(u8::from(first));
    }

    fn bytes(&self) -> usize {
        self.rows * (size_of::<u8>() + size_of::<u64>())
    }

    fn encode(&self, batch: u64, order: Order<'_>, out: &mut Vec<u8>) {
        head("record", "UInt8", out);
        self.record.encode(order, out);
        head("batch", "UInt64", out);
        out.extend_from_slice(&batch.to_le_bytes().repeat(self.rows));
    }

    fn mark(&mut self) {
        self.marked = (self.rows, self.records);
        self.record.mark();
    }

    fn rollback(&mut self) {
        (self.rows, self.records) = self.marked;
        self.record.rollback();
    }

    fn clear(&mut self) {
        (self.rows, self.records, self.marked) = (0, 0, (0, 0));
        self.record.clear();
    }
}

/// Declares a table's columns and its row. `counted` tables end with `record UInt8, batch UInt64`; those `ordered` as well are written
/// by their sorting key.
macro_rules! table {
    ($(#[$meta:meta])* $columns:ident $row:ident $counted:ident { $($field:ident : $column:ty = $type:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $columns {
            pushed: Pushed,
            $($field: $column,)+
        }

        /// One row; the fields are the columns of the same name.
        #[derive(Debug)]
        pub(crate) struct $row<'a> {
            $(pub(crate) $field: <$column as Column>::Value<'a>,)+
        }

        impl $columns {
            /// Appends a row; `first` on the first row of a record, so that records can be counted.
            #[inline]
            pub(crate) fn push(&mut self, first: bool, row: $row<'_>) {
                self.pushed.push(first);
                $(self.$field.push(row.$field);)+
            }
        }

        impl Columns for $columns {
            fn rows(&self) -> usize {
                self.pushed.rows
            }

            fn records(&self) -> u64 {
                self.pushed.records
            }

            fn bytes(&self) -> usize {
                self.pushed.bytes() $(+ self.$field.bytes())+
            }

            fn encode(&self, batch: u64, out: &mut Vec<u8>, between: &mut dyn FnMut(&mut Vec<u8>)) {
                const FIELDS: usize = [$(stringify!($field)),+].len();
                put_varint(FIELDS + table!(@extra $counted), out);
                put_varint(self.pushed.rows, out);
                let order = table!(@order $counted self);
                let order = order.as_deref();
                $(
                    head(stringify!($field), $type, out);
                    self.$field.encode(order, out);
                    between(out);
                )+
                table!(@tail $counted self batch order out);
                between(out);
            }

            fn mark(&mut self) {
                self.pushed.mark();
                $(self.$field.mark();)+
            }

            fn rollback(&mut self) {
                self.pushed.rollback();
                $(self.$field.rollback();)+
            }

            fn clear(&mut self) {
                self.pushed.clear();
                $(self.$field.clear();)+
            }

            #[cfg(test)]
            fn signature(&self) -> Vec<(&'static str, &'static str)> {
                let mut columns = vec![$((stringify!($field), $type)),+];
                columns.extend_from_slice(&[("record", "UInt8"), ("batch", "UInt64")][..table!(@extra $counted)]);
                columns
            }
        }
    };
    (@extra plain) => { 0 };
    (@extra $counted:ident) => { 2 };
    (@order ordered $self:ident) => { $self.order() };
    (@order $counted:ident $self:ident) => { None::<Vec<u32>> };
    (@tail plain $self:ident $batch:ident $order:ident $out:ident) => { let _: (u64, Order<'_>) = ($batch, $order); };
    (@tail $counted:ident $self:ident $batch:ident $order:ident $out:ident) => {
        $self.pushed.encode($batch, $order, $out);
    };
}

table! {
    /// Table `events`.
    Events EventRow ordered {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        name: LowCardinality = "LowCardinality(String)",
        kind: Fixed<u8> = "Enum8('used' = 1, 'started' = 2, 'ended' = 3, 'step' = 4, 'event' = 5)",
        day: Fixed<u16> = "Date",
        unit: Fixed<u64> = "UInt64",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        seq: Fixed<u64> = "UInt64",
        instance: LowCardinalityNumber = "LowCardinality(UInt64)",
        resource: LowCardinalityNumber = "LowCardinality(UInt64)",
        session: Fixed<u64> = "UInt64",
        tenant: LowCardinality = "LowCardinality(String)",
        feature: LowCardinality = "LowCardinality(String)",
        attempt: Fixed<u64> = "UInt64",
        outcome: Fixed<u8> = "Enum8('' = 0, 'completed' = 1, 'failed' = 2, 'abandoned' = 3, 'cancelled' = 4, 'panicked' = 5)",
        outcome_inferred: Fixed<bool> = "Bool",
        outcome_reason: LowCardinality = "LowCardinality(String)",
        duration_ns: Fixed<u64> = "UInt64",
        error_type: LowCardinality = "LowCardinality(String)",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        trace_id: Fixed<[u8; 16]> = "FixedString(16)",
        span_id: Fixed<u64> = "UInt64",
        strings: Strings = "Map(LowCardinality(String), String)",
        numbers: Numbers = "Map(LowCardinality(String), Float64)",
        bools: Bools = "Map(LowCardinality(String), Bool)",
        flags: Fixed<u8> = "UInt8",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

impl Events {
    /// The rows by the table's sorting key, those of a minute as they were pushed.
    fn order(&self) -> Option<Vec<u32>> {
        let (words, names) = self.name.parts();
        order::by_name_and_minute(self.project.words(), (words, names), self.time.words())
    }
}

table! {
    /// Table `query_usage`.
    QueryUsage QueryUsageRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        fingerprint: Fixed<u64> = "UInt64",
        day: Fixed<u16> = "Date",
        unit: Fixed<u64> = "UInt64",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        session: Fixed<u64> = "UInt64",
        tenant: LowCardinality = "LowCardinality(String)",
        feature: LowCardinality = "LowCardinality(String)",
        funnel_step: LowCardinality = "LowCardinality(String)",
        attempt: Fixed<u64> = "UInt64",
        route: LowCardinality = "LowCardinality(String)",
        code: LowCardinality = "LowCardinality(String)",
        calls: Fixed<u32> = "UInt32",
        total_ns: Fixed<u64> = "UInt64",
        max_ns: Fixed<u64> = "UInt64",
        rows: Fixed<u64> = "UInt64",
        errors: Fixed<u32> = "UInt32",
        instance: LowCardinalityNumber = "LowCardinality(UInt64)",
        resource: LowCardinalityNumber = "LowCardinality(UInt64)",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `query_histograms`.
    QueryHistograms QueryHistogramRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        fingerprint: Fixed<u64> = "UInt64",
        day: Fixed<u16> = "Date",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        start: Fixed<i64> = "DateTime64(3, 'UTC')",
        stream: Fixed<u64> = "UInt64",
        source: Fixed<u8> = "Enum8('sdk' = 1, 'metric' = 2)",
        temporality: Fixed<u8> = "Enum8('delta' = 1, 'cumulative' = 2)",
        feature: LowCardinality = "LowCardinality(String)",
        funnel_step: LowCardinality = "LowCardinality(String)",
        route: LowCardinality = "LowCardinality(String)",
        code: LowCardinality = "LowCardinality(String)",
        system: LowCardinality = "LowCardinality(String)",
        namespace: LowCardinality = "LowCardinality(String)",
        error_type: LowCardinality = "LowCardinality(String)",
        count: Fixed<u64> = "UInt64",
        sum_ns: Fixed<f64> = "Float64",
        min_ns: Fixed<f64> = "Float64",
        max_ns: Fixed<f64> = "Float64",
        buckets: Buckets = "Map(Int32, UInt64)",
        bounds: List<f64> = "Array(Float64)",
        bound_counts: List<u64> = "Array(UInt64)",
        instance: LowCardinalityNumber = "LowCardinality(UInt64)",
        resource: LowCardinalityNumber = "LowCardinality(UInt64)",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `query_texts`.
    QueryTexts QueryTextRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        fingerprint: Fixed<u64> = "UInt64",
        version: Fixed<u16> = "UInt16",
        system: LowCardinality = "LowCardinality(String)",
        name: LowCardinality = "LowCardinality(String)",
        summary: Text = "String",
        text: Text = "String",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `query_samples`.
    QuerySamples QuerySampleRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        fingerprint: Fixed<u64> = "UInt64",
        day: Fixed<u16> = "Date",
        time: Fixed<i64> = "DateTime64(9, 'UTC')",
        duration_ns: Fixed<u64> = "UInt64",
        source: Fixed<u8> = "Enum8('sdk' = 1, 'span' = 2)",
        weight: Fixed<f32> = "Float32",
        sample: LowCardinality = "LowCardinality(String)",
        unit: Fixed<u64> = "UInt64",
        session: Fixed<u64> = "UInt64",
        tenant: LowCardinality = "LowCardinality(String)",
        feature: LowCardinality = "LowCardinality(String)",
        funnel_step: LowCardinality = "LowCardinality(String)",
        attempt: Fixed<u64> = "UInt64",
        route: LowCardinality = "LowCardinality(String)",
        code: LowCardinality = "LowCardinality(String)",
        system: LowCardinality = "LowCardinality(String)",
        namespace: LowCardinality = "LowCardinality(String)",
        rows: Fixed<i64> = "Int64",
        failed: Fixed<bool> = "Bool",
        error_type: LowCardinality = "LowCardinality(String)",
        trace_id: Fixed<[u8; 16]> = "FixedString(16)",
        span_id: Fixed<u64> = "UInt64",
        parent_span_id: Fixed<u64> = "UInt64",
        instance: LowCardinalityNumber = "LowCardinality(UInt64)",
        resource: LowCardinalityNumber = "LowCardinality(UInt64)",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `requests`.
    Requests RequestRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        route: LowCardinality = "LowCardinality(String)",
        method: LowCardinality = "LowCardinality(String)",
        day: Fixed<u16> = "Date",
        time: Fixed<i64> = "DateTime64(9, 'UTC')",
        duration_ns: Fixed<u64> = "UInt64",
        status_code: Fixed<u16> = "UInt16",
        failed: Fixed<bool> = "Bool",
        error_type: LowCardinality = "LowCardinality(String)",
        weight: Fixed<f32> = "Float32",
        unit: Fixed<u64> = "UInt64",
        session: Fixed<u64> = "UInt64",
        tenant: LowCardinality = "LowCardinality(String)",
        feature: LowCardinality = "LowCardinality(String)",
        trace_id: Fixed<[u8; 16]> = "FixedString(16)",
        span_id: Fixed<u64> = "UInt64",
        parent_span_id: Fixed<u64> = "UInt64",
        instance: LowCardinalityNumber = "LowCardinality(UInt64)",
        resource: LowCardinalityNumber = "LowCardinality(UInt64)",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `identity_links`.
    IdentityLinks IdentityLinkRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        anonymous: Fixed<u64> = "UInt64",
        person: Fixed<u64> = "UInt64",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `properties`.
    Properties PropertyRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        subject: Fixed<u8> = "Enum8('user' = 1, 'tenant' = 2)",
        unit: Fixed<u64> = "UInt64",
        tenant: LowCardinality = "LowCardinality(String)",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        strings: Strings = "Map(LowCardinality(String), String)",
        numbers: Numbers = "Map(LowCardinality(String), Float64)",
        bools: Bools = "Map(LowCardinality(String), Bool)",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `catalog`.
    Catalog CatalogRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        kind: Fixed<u8> = "Enum8('feature' = 1, 'step' = 2, 'query' = 3)",
        name: Text = "String",
        funnel: LowCardinality = "LowCardinality(String)",
        position: Fixed<u16> = "UInt16",
        was: Text = "String",
        code: LowCardinality = "LowCardinality(String)",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `sdk_reports`.
    SdkReports SdkReportRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        kind: Fixed<u8> = "Enum8('dropped' = 1, 'stopped' = 2)",
        reason: LowCardinality = "LowCardinality(String)",
        callsite: LowCardinality = "LowCardinality(String)",
        records: Fixed<u64> = "UInt64",
        delivered: Fixed<u64> = "UInt64",
        spooled: Fixed<u64> = "UInt64",
        unconfirmed: Fixed<u64> = "UInt64",
        instance: Fixed<u64> = "UInt64",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `set_aside`.
    SetAside SetAsideRow counted {
        project: Fixed<u32> = "UInt32",
        retention_class: Fixed<u8> = "UInt8",
        time: Fixed<i64> = "DateTime64(3, 'UTC')",
        signal: LowCardinality = "LowCardinality(String)",
        reason: LowCardinality = "LowCardinality(String)",
        detail: Text = "String",
        body: Text = "String",
        context: Text = "String",
        received: Fixed<i64> = "DateTime64(3, 'UTC')",
    }
}

table! {
    /// Table `units`.
    Units UnitRow plain {
        project: Fixed<u32> = "UInt32",
        unit: Fixed<u64> = "UInt64",
        kind: Fixed<u8> = "Enum8('user' = 1, 'session' = 2, 'anonymous' = 3)",
        id: Text = "String",
    }
}

table! {
    /// Table `resources`.
    Resources ResourceRow plain {
        project: Fixed<u32> = "UInt32",
        resource: Fixed<u64> = "UInt64",
        service: LowCardinality = "LowCardinality(String)",
        release: LowCardinality = "LowCardinality(String)",
        environment: LowCardinality = "LowCardinality(String)",
        instance: Text = "String",
        attributes: Strings = "Map(LowCardinality(String), String)",
        last_seen: Fixed<u16> = "Date",
    }
}
