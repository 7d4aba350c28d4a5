//! The table of one thread: every query that ran on it since the last drain, added up.
//!
//! In: one [`Measured`] per query. Out: series, lines of usage and samples, for the drain. How a table goes from its thread
//! to the drain and back is `cell`'s.
//!
//! Invariant: every query is counted in exactly one series; what finds no room is counted as [`OTHER`].

mod cell;
mod room;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use room::Room;

pub(crate) use cell::{collect, record};

use super::histogram::Histogram;
use super::known::{Known, OTHER};
use super::sample::{self, Sample};
use super::status::StatusCode;
use crate::callsite::{Callsite, StepDeclaration};
use crate::context::{self, ContextId};
use crate::pipeline;

/// Series one table keeps between two drains; the rest is [`OTHER`]. The process's limit on fingerprints, and a little.
const MAX_SERIES: usize = 2048;
/// Lines of usage one table keeps between two drains; from half of it on the drain is woken. Chosen: 500 requests of
/// eight queries in a quarter of a second, on one thread.
const MAX_USAGE: usize = 4096;
/// Lines of usage and series of all tables together, between two drains; from half of it on the drain is woken. With 250
/// bytes each that is 2 MiB, however many threads there are.
const MAX_LINES: usize = 8192;
/// Room beyond [`MAX_LINES`], and in one table beyond [`MAX_USAGE`], for the line `other` of contexts that met the limit.
const MAX_USAGE_OTHER: usize = 1024;
/// Samples one table keeps between two drains; the rates of [`sample`] are far below.
const MAX_SAMPLES: usize = 64;

/// The room of all tables.
static ROOM: Room = Room::new(MAX_LINES);

/// Queries that were counted without their scope, because a table was full.
static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Calls counted in the histograms but in no usage record, because a thread ran queries in more than 5,000 scopes between
/// two drains, or all threads together in more than 9,000.
pub(crate) fn refused() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// A line of code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Code {
    /// Empty: unknown.
    pub(crate) file: &'static str,
    pub(crate) line: u32,
}

/// One query that ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) query: &'static Known,
    pub(crate) code: Code,
    pub(crate) context: ContextId,
    /// Of the clock, when it ended.
    pub(crate) end_ticks: u64,
    /// The same as wall time, nanoseconds since the Unix epoch.
    pub(crate) end_ns: u64,
    pub(crate) elapsed_ns: u64,
    /// Rows returned or affected, if they are known.
    pub(crate) rows: Option<u64>,
    /// Kind of the failure; empty when it went well.
    pub(crate) error: &'static str,
    /// The database's own code for the failure, if it gave one.
    pub(crate) status: Option<StatusCode>,
}

/// What makes a series: compared by address, so that no text is looked at per query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SeriesKey {
    query: usize,
    error: usize,
    status: u64,
    feature: usize,
    step: usize,
    file: usize,
    line: u32,
}

impl Hash for SeriesKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64((self.query as u64) ^ (self.error as u64).rotate_left(32) ^ self.status);
        state.write_u64((self.feature as u64) ^ (self.step as u64).rotate_left(32));
        state.write_u64((self.file as u64) ^ u64::from(self.line).rotate_left(40));
    }
}

/// What a series of the metric is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeriesOf {
    pub(crate) query: &'static Known,
    pub(crate) error: &'static str,
    pub(crate) status: Option<StatusCode>,
    pub(crate) feature: Option<&'static Callsite>,
    pub(crate) step: Option<&'static StepDeclaration>,
    pub(crate) code: Code,
}

impl SeriesOf {
    /// All that finds no room.
    pub(crate) const OTHER: Self =
        Self { query: &OTHER, error: "", status: None, feature: None, step: None, code: Code { file: "", line: 0 } };

    fn new(measured: &Measured, feature: Option<&'static Callsite>, step: Option<&'static StepDeclaration>) -> Self {
        let Measured { query, error, status, code, .. } = *measured;
        Self { query, error, status, feature, step, code }
    }

    fn key(&self) -> SeriesKey {
        SeriesKey {
            query: ptr::from_ref(self.query) as usize,
            error: if self.error.is_empty() { 0 } else { self.error.as_ptr() as usize },
            status: self.status.map_or(0, StatusCode::word),
            feature: self.feature.map_or(0, |feature| ptr::from_ref(feature) as usize),
            step: self.step.map_or(0, |step| ptr::from_ref(step) as usize),
            file: if self.code.file.is_empty() { 0 } else { self.code.file.as_ptr() as usize },
            line: self.code.line,
        }
    }
}

/// One series of the metric.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) of: SeriesOf,
    pub(crate) histogram: Histogram,
}

/// What makes a line of usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct UsageKey {
    context: ContextId,
    step: usize,
    query: usize,
    file: usize,
    line: u32,
}

impl Hash for UsageKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64((self.query as u64) ^ (self.step as u64).rotate_left(32));
        state.write_u64(
            (self.file as u64) ^ u64::from(self.line).rotate_left(40) ^ u64::from(self.context.0).rotate_left(20),
        );
    }
}

/// One query in one context and step, from one line of code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) context: ContextId,
    pub(crate) step: Option<&'static StepDeclaration>,
    pub(crate) query: &'static Known,
    pub(crate) code: Code,
    pub(crate) counts: Counts,
    /// Of the clock, when the last call ended.
    pub(crate) last_ticks: u64,
    /// Place of the series of its successful calls; none for a test's capture, whose queries are not sent.
    series: Option<usize>,
}

impl Usage {
    /// False for what belongs to a test's capture.
    pub(crate) fn is_sent(&self) -> bool {
        self.series.is_some()
    }

    #[cfg(test)]
    pub(crate) fn of(context: ContextId, query: &'static Known, counts: Counts) -> Self {
        Self { context, step: None, query, code: Code::default(), counts, last_ticks: 0, series: Some(0) }
    }
}

/// What usage adds up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) total_ns: u64,
    pub(crate) max_ns: u64,
    pub(crate) rows: u64,
    pub(crate) errors: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.rows = self.rows.saturating_add(other.rows);
        self.errors += other.errors;
    }
}

/// Mixes words with one multiplication each; the keys are addresses, nobody chooses them.
#[derive(Debug, Default)]
pub(crate) struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        // The golden ratio in 64 bits; the rotation brings the product's good upper half down.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(26);
    }
}

type Places<K> = HashMap<K, usize, BuildHasherDefault<AddressHasher>>;

/// Everything one thread measured since the last drain.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) series: Vec<Series>,
    pub(crate) usage: Vec<Usage>,
    pub(crate) samples: Vec<Sample>,
    /// Of the clock, when the first and the last query ended.
    pub(crate) ticks: Option<(u64, u64)>,
    series_places: Places<SeriesKey>,
    usage_places: Places<UsageKey>,
    /// The series and the line of usage hit last: in a loop they are the next ones too.
    last_series: Option<(SeriesKey, usize)>,
    last_usage: Option<(UsageKey, usize)>,
    room: &'static Room,
    /// Lines it has taken room for.
    taken: usize,
}

impl Default for Table {
    fn default() -> Self {
        Self::within(&ROOM)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.room.give_back(self.taken);
    }
}

impl Table {
    fn within(room: &'static Room) -> Self {
        Self {
            series: Vec::new(),
            usage: Vec::new(),
            samples: Vec::new(),
            ticks: None,
            series_places: Places::default(),
            usage_places: Places::default(),
            last_series: None,
            last_usage: None,
            room,
            taken: 0,
        }
    }

    /// Takes room for one more line; false: there is none.
    fn take_room(&mut self, beyond: usize) -> bool {
        let Some(is_half_full) = self.room.take(beyond) else { return false };
        self.taken += 1;
        if is_half_full {
            pipeline::wake();
        }
        true
    }

    fn add(&mut self, measured: &Measured) {
        let step = context::current_step(measured.context);
        let (first, last) = self.ticks.unwrap_or((measured.end_ticks, measured.end_ticks));
        self.ticks = Some((first, last.max(measured.end_ticks)));
        let is_captured = if measured.context == ContextId::NONE {
            self.add_series(measured, None, None);
            false
        } else {
            self.add_usage(measured, step)
        };
        if !is_captured {
            self.add_sample(measured, step);
        }
    }

    /// Adds to the usage of the context and to the series; true when the context belongs to a test's capture.
    fn add_usage(&mut self, measured: &Measured, step: Option<&'static StepDeclaration>) -> bool {
        let key = usage_key(measured, step);
        let found = match self.last_usage {
            Some((last, place)) if last == key => Some(place),
            _ => self.usage_places.get(&key).copied(),
        };
        let place = found.or_else(|| self.new_usage(measured, step, key));
        let counts = Counts {
            calls: 1,
            total_ns: measured.elapsed_ns,
            max_ns: measured.elapsed_ns,
            rows: measured.rows.unwrap_or(0),
            errors: u64::from(!measured.error.is_empty()),
        };
        let Some((place, line)) = place.and_then(|place| Some((place, self.usage.get_mut(place)?))) else {
            REFUSED.fetch_add(1, Ordering::Relaxed);
            let is_captured = context::capture(measured.context) != 0;
            if !is_captured {
                self.add_series(measured, context::current_feature(measured.context), step);
            }
            return is_captured;
        };
        line.counts.add(counts);
        line.last_ticks = measured.end_ticks;
        let series = line.series;
        let is_other = line.query.fingerprint == 0 && measured.query.fingerprint != 0;
        if !is_other {
            self.last_usage = Some((key, place));
        }
        let Some(series) = series else { return true };
        if measured.error.is_empty() && !is_other {
            if let Some(series) = self.series.get_mut(series) {
                series.histogram.record(measured.elapsed_ns);
            }
        } else {
            self.add_series(measured, context::current_feature(measured.context), step);
        }
        false
    }

    /// Makes a line of usage, or finds the context's line `other` when there are too many.
    fn new_usage(
        &mut self,
        measured: &Measured,
        step: Option<&'static StepDeclaration>,
        mut key: UsageKey,
    ) -> Option<usize> {
        let mut line = Usage {
            context: measured.context,
            step,
            query: measured.query,
            code: measured.code,
            counts: Counts::default(),
            last_ticks: measured.end_ticks,
            series: None,
        };
        if self.usage.len() >= MAX_USAGE || !self.take_room(0) {
            line = Usage { step: None, query: &OTHER, code: Code::default(), ..line };
            key = UsageKey {
                context: measured.context,
                step: 0,
                query: ptr::from_ref(&OTHER) as usize,
                file: 0,
                line: 0,
            };
            if let Some(place) = self.usage_places.get(&key) {
                return Some(*place);
            }
            if self.usage.len() >= MAX_USAGE + MAX_USAGE_OTHER || !self.take_room(MAX_USAGE_OTHER) {
                return None;
            }
        } else if self.usage.len() == MAX_USAGE / 2 {
            pipeline::wake();
        }
        if context::capture(measured.context) == 0 {
            let feature = context::current_feature(measured.context);
            let of = SeriesOf { error: "", status: None, ..SeriesOf::new(measured, feature, step) };
            line.series = Some(self.series_place(of));
        }
        let place = self.usage.len();
        self.usage.push(line);
        self.usage_places.insert(key, place);
        Some(place)
    }

    fn add_series(
        &mut self,
        measured: &Measured,
        feature: Option<&'static Callsite>,
        step: Option<&'static StepDeclaration>,
    ) {
        let of = SeriesOf::new(measured, feature, step);
        let key = of.key();
        let place = match self.last_series {
            Some((last, place)) if last == key => place,
            _ => {
                let place = self.series_place(of);
                self.last_series = Some((key, place));
                place
            }
        };
        if let Some(series) = self.series.get_mut(place) {
            series.histogram.record(measured.elapsed_ns);
        }
    }

    /// The place of a series, made if need be; that of `other` when there are too many.
    fn series_place(&mut self, of: SeriesOf) -> usize {
        let key = of.key();
        if let Some(place) = self.series_places.get(&key) {
            return *place;
        }
        // A table's series `other` has its room by itself.
        if key != SeriesOf::OTHER.key() && (self.series.len() >= MAX_SERIES || !self.take_room(0)) {
            return self.series_place(SeriesOf::OTHER);
        }
        let place = self.series.len();
        self.series.push(Series { of, histogram: Histogram::new() });
        self.series_places.insert(key, place);
        place
    }

    fn add_sample(&mut self, measured: &Measured, step: Option<&'static StepDeclaration>) {
        if let Some(kind) = sample::due(measured)
            && self.samples.len() < MAX_SAMPLES
        {
            self.samples.push(Sample::new(kind, measured, step));
        }
    }

    fn is_empty(&self) -> bool {
        self.series.is_empty() && self.usage.is_empty() && self.samples.is_empty()
    }

    /// Empties the table and keeps its memory for the next thread, unless it has grown beyond `kept` lines.
    fn clear(&mut self, kept: usize) {
        if self.usage.capacity() > kept || self.series.capacity() > kept {
            *self = Self::within(self.room);
            return;
        }
        self.room.give_back(std::mem::take(&mut self.taken));
        self.series.clear();
        self.usage.clear();
        self.samples.clear();
        self.series_places.clear();
        self.usage_places.clear();
        self.last_series = None;
        self.last_usage = None;
        self.ticks = None;
    }
}

fn usage_key(measured: &Measured, step: Option<&'static StepDeclaration>) -> UsageKey {
    UsageKey {
        context: measured.context,
        step: step.map_or(0, |step| ptr::from_ref(step) as usize),
        query: ptr::from_ref(measured.query) as usize,
        file: if measured.code.file.is_empty() { 0 } else { measured.code.file.as_ptr() as usize },
        line: measured.code.line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::{Dialect, known};

    pub(super) fn measured(query: &'static Known) -> Measured {
        Measured {
            query,
            code: Code::default(),
            context: ContextId::NONE,
            end_ticks: 1,
            end_ns: 1,
            elapsed_ns: 1000,
            rows: Some(1),
            error: "",
            status: None,
        }
    }

    /// Calls of a query in a table.
    pub(super) fn calls(table: &Table, query: &'static Known) -> u64 {
        table
            .series
            .iter()
            .filter(|series| ptr::eq(series.of.query, query))
            .map(|series| series.histogram.count())
            .sum()
    }

    #[test]
    #[cfg_attr(miri, ignore = "thousands of queries and no unsafe code")]
    fn what_finds_no_room_is_counted_as_other() {
        static ENOUGH: Room = Room::new(usize::MAX / 2);
        let mut table = Table::within(&ENOUGH);
        let query = known::by_name(Dialect::Generic, "table.room");
        for line in 0..u32::try_from(MAX_SERIES).unwrap() + 500 {
            table.add(&Measured { code: Code { file: "f.rs", line }, ..measured(query) });
        }
        assert_eq!(table.series.len(), MAX_SERIES + 1);
        assert_eq!(calls(&table, &OTHER), 500);
        let total: u64 = table.series.iter().map(|series| series.histogram.count()).sum();
        assert_eq!(total, MAX_SERIES as u64 + 500);
    }

    #[test]
    fn tables_share_their_room_and_a_cleared_or_dropped_one_gives_its_own_back() {
        static ROOM: Room = Room::new(10);
        let query = known::by_name(Dialect::Generic, "table.shared");
        let fill = |table: &mut Table, lines| {
            for line in 0..lines {
                table.add(&Measured { code: Code { file: "f.rs", line }, ..measured(query) });
            }
        };
        let [mut one, mut two] = [(); 2].map(|()| Table::within(&ROOM));
        fill(&mut one, 8);
        fill(&mut two, 8);
        assert_eq!((calls(&one, &OTHER), calls(&two, query), calls(&two, &OTHER)), (0, 2, 6));
        one.clear(usize::MAX);
        fill(&mut two, 12);
        assert_eq!((calls(&two, query), calls(&two, &OTHER)), (2 + 10, 6 + 2), "eight lines more");
        drop(two);
        fill(&mut one, 12);
        assert_eq!((calls(&one, query), calls(&one, &OTHER)), (10, 2));
    }

    #[test]
    fn a_cleared_table_is_empty_and_counts_anew() {
        let query = known::by_name(Dialect::Generic, "table.clear");
        let mut table = Table::default();
        table.add(&measured(query));
        table.clear(usize::MAX);
        assert!(table.is_empty() && table.ticks.is_none());
        table.add(&measured(query));
        assert_eq!(calls(&table, query), 1);
    }

    proptest::proptest! {
        #[test]
        fn a_table_adds_up_what_a_map_does(calls in proptest::collection::vec((0..5_u32, 0..3_u32, 0..2_usize, 1..1_000_000_u64), 0..300)) {
            const NAMES: [&str; 5] = ["table.a", "table.b", "table.c", "table.d", "table.e"];
            let mut table = Table::default();
            let mut model: HashMap<(u64, u32, &str), (u64, u64)> = HashMap::new();
            for (name, line, error, elapsed_ns) in calls {
                let query = known::by_name(Dialect::Generic, NAMES[name as usize]);
                let (code, error) = (Code { file: "f.rs", line }, ["", "refused"][error]);
                table.add(&Measured { code, elapsed_ns, error, ..measured(query) });
                let (count, sum_ns) = model.entry((query.fingerprint, line, error)).or_default();
                (*count, *sum_ns) = (*count + 1, *sum_ns + elapsed_ns);
            }
            let series = |series: &Series| {
                let key = (series.of.query.fingerprint, series.of.code.line, series.of.error);
                (key, (series.histogram.count(), series.histogram.sum_ns()))
            };
            proptest::prop_assert_eq!(table.series.len(), model.len());
            proptest::prop_assert_eq!(table.series.iter().map(series).collect::<HashMap<_, _>>(), model);
        }
    }
}
