//! Random projects that are asked about their people: few names, people and instants, so that all kinds of ties come about.

use gemba_conventions::EventKind;
use gemba_queries::funnel::reference::{PlainEvent, PlainLink};
use gemba_tests::stored::{Random, event_row};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Few, so that all kinds of ties come about.
pub(crate) const NAMES: [&str; 3] = ["a", "it's, \\b", "c"];
/// Clocks that go forward and back, and one that is off by three quarters of an hour.
const ZONES: [&str; 4] = ["UTC", "Asia/Kathmandu", "America/New_York", "Europe/Berlin"];
pub(crate) const DAY_MS: i64 = 86_400_000;

/// What somebody did, as the questions see it: the person behind the unit, 0 where there is none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Did {
    pub(crate) person: u64,
    /// Moments and names tell events apart; a missing sequence number is 0.
    pub(crate) time_ms: i64,
    pub(crate) seq: u64,
    pub(crate) name: String,
    pub(crate) session: u64,
    pub(crate) kind: EventKind,
}

/// What the events of attempts say beside the rest; one for each event, heeded where it is one of an attempt.
#[derive(Debug)]
pub(crate) struct Attempted {
    pub(crate) attempt: u64,
    /// Place in [`OUTCOMES`].
    pub(crate) outcome: usize,
    pub(crate) reason: &'static str,
    pub(crate) duration_ms: i64,
}

pub(crate) const OUTCOMES: [&str; 6] = ["", "completed", "failed", "abandoned", "cancelled", "panicked"];
/// The last one is beyond what a signed number holds.
const UNITS: [u64; 6] = [1, 2, 3, 4, 5, u64::MAX - 1];

/// A project with its events and the parameters it is asked with.
pub(crate) struct Case {
    pub(crate) project: u32,
    pub(crate) events: Vec<PlainEvent>,
    pub(crate) attempted: Vec<Attempted>,
    pub(crate) links: Vec<PlainLink>,
    pub(crate) asked: Asked,
}

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) from_ms: i64,
    pub(crate) to_ms: i64,
    pub(crate) now_ms: i64,
    pub(crate) zone: &'static str,
    pub(crate) period: &'static str,
    pub(crate) cohort_by: &'static str,
    pub(crate) mode: &'static str,
    pub(crate) periods: u32,
    pub(crate) start: &'static str,
    pub(crate) returns: Vec<&'static str>,
}

impl Asked {
    /// Instants lie near the boundaries of days and in the weeks around a change of the clock.
    pub(crate) fn random(random: &mut Random) -> Self {
        // Before all that was done, or among it.
        let from_ms = moment(random) - random.pick(&[20, 20, 0]) * DAY_MS;
        Self {
            from_ms,
            to_ms: from_ms + 1 + random.time(40) * DAY_MS,
            now_ms: from_ms + 30 * DAY_MS + random.time(40) * DAY_MS,
            zone: random.pick(&ZONES),
            period: random.pick(&["day", "week", "month"]),
            cohort_by: random.pick(&["first_ever", "first_in_range", "recurring"]),
            mode: random.pick(&["on", "on_or_after"]),
            periods: 1 + u32::try_from(random.below(12)).unwrap(),
            start: random.pick(&["", "", NAMES[0], NAMES[1]]),
            returns: random.pick(&[vec![], vec![], vec![NAMES[0]], vec![NAMES[1], NAMES[2]]]),
        }
    }

    /// The values of these parameters.
    pub(crate) fn values(&self, names: &[&str]) -> BTreeMap<String, String> {
        let time = |ms: i64| Timestamp::from_millisecond(ms).unwrap().to_string();
        let value = |name: &str| match name {
            "from" => time(self.from_ms),
            "to" => time(self.to_ms),
            "tz" => self.zone.to_owned(),
            "period" => self.period.to_owned(),
            "cohort_by" => self.cohort_by.to_owned(),
            "mode" => self.mode.to_owned(),
            "periods" => self.periods.to_string(),
            "start" => self.start.to_owned(),
            "returns" if self.returns.is_empty() => String::new(),
            "returns" => json!(self.returns).to_string(),
            "event" => NAMES[0].to_owned(),
            other => panic!("{other} has no value"),
        };
        names.iter().map(|name| ((*name).to_owned(), value(name))).collect()
    }

    pub(crate) fn day(&self, time_ms: i64) -> Date {
        let zone = TimeZone::get(self.zone).unwrap();
        Timestamp::from_millisecond(time_ms).unwrap().to_zoned(zone).date()
    }

    /// The first day of the period an instant lies in.
    pub(crate) fn period_of(&self, time_ms: i64) -> Date {
        let day = self.day(time_ms);
        match self.period {
            "day" => day,
            "week" => day.saturating_sub(Span::new().days(i64::from(day.weekday().to_monday_zero_offset()))),
            _ => day.first_of_month(),
        }
    }

    pub(crate) fn period_after(&self, period: Date, n: u32) -> Date {
        let n = i64::from(n);
        match self.period {
            "day" => period.saturating_add(Span::new().days(n)),
            "week" => period.saturating_add(Span::new().weeks(n)),
            _ => period.saturating_add(Span::new().months(n)),
        }
    }

    pub(crate) fn begins_ms(&self, day: Date) -> i64 {
        let zone = TimeZone::get(self.zone).unwrap();
        day.to_zoned(zone).unwrap().timestamp().as_millisecond()
    }

    pub(crate) fn days(&self) -> impl Iterator<Item = Date> {
        let last = self.day(self.to_ms - 1);
        std::iter::successors(Some(self.day(self.from_ms)), |day| day.tomorrow().ok())
            .take_while(move |day| *day <= last)
    }
}

/// 16 days, of which many instants share a millisecond, lie on a boundary or just before one.
fn moment(random: &mut Random) -> i64 {
    /// 2026-03-26T18:15:00Z, midnight in Kathmandu.
    const MIDNIGHT_MS: i64 = 1_774_548_900_000;
    MIDNIGHT_MS
        + random.time(30) * DAY_MS / 2
        + random.pick(&[-1, 0, 0, 1, 20_700_000, 20_699_999, 7_200_000, 400_000, 400_001, 500_000])
}

fn random_event(random: &mut Random) -> PlainEvent {
    let kinds = [EventKind::Used, EventKind::Started, EventKind::Ended, EventKind::Step, EventKind::Event];
    PlainEvent {
        unit: (!random.one_in(10)).then(|| random.pick(&UNITS)),
        session: random.one_in(2).then(|| 100 + random.below(5)),
        tenant: String::new(),
        time_ms: moment(random),
        seq: random.one_in(2).then(|| (1 + random.below(2), 7)),
        kind: random.pick(&kinds),
        name: random.pick(&NAMES).to_owned(),
        attributes: BTreeMap::new(),
    }
}

pub(crate) fn random_case(project: u32, random: &mut Random) -> Case {
    let links = (0..random.below(3)).map(|_| PlainLink {
        anonymous: random.pick(&UNITS[3..]),
        person: 1 + random.below(3),
        time_ms: moment(random),
    });
    let links = links.collect();
    let events: Vec<PlainEvent> = (0..4 + random.below(30)).map(|_| random_event(random)).collect();
    let attempted = events.iter().map(|_| Attempted {
        attempt: random.below(7),
        outcome: 1 + usize::try_from(random.below(5)).unwrap(),
        reason: random.pick(&["", "", "shutdown", "ignored"]),
        duration_ms: random.pick(&[0, 1, 999, 5_000, DAY_MS]),
    });
    let attempted = attempted.collect();
    Case { project, events, attempted, links, asked: Asked::random(random) }
}

impl Case {
    /// The events as rows of the table, with what those of attempts say.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Value> {
        self.events.iter().zip(&self.attempted).map(|(event, attempted)| {
            let mut row = event_row(self.project, event);
            if [EventKind::Started, EventKind::Ended].contains(&event.kind) {
                row["attempt"] = json!(attempted.attempt);
            }
            if event.kind == EventKind::Ended {
                row["outcome"] = json!(OUTCOMES[attempted.outcome]);
                row["outcome_reason"] = json!(attempted.reason);
                row["duration_ns"] = json!(attempted.duration_ms * 1_000_000);
            }
            row
        })
    }

    pub(crate) fn person(&self, unit: u64) -> u64 {
        let links = self.links.iter().filter(|link| link.anonymous == unit);
        links.min_by_key(|link| (link.time_ms, link.person)).map_or(unit, |link| link.person)
    }

    /// Everything that was done, but for the ends of attempts.
    pub(crate) fn did(&self) -> Vec<Did> {
        let plain = |event: &PlainEvent| Did {
            person: event.unit.map_or(0, |unit| self.person(unit)),
            time_ms: event.time_ms,
            seq: event.seq.map_or(0, |(seq, _)| seq),
            name: event.name.clone(),
            session: event.session.unwrap_or(0),
            kind: event.kind,
        };
        self.events.iter().filter(|event| event.kind != EventKind::Ended).map(plain).collect()
    }

    pub(crate) fn in_range(&self) -> Vec<Did> {
        let range = self.asked.from_ms..self.asked.to_ms;
        self.did().into_iter().filter(|did| range.contains(&did.time_ms)).collect()
    }

    pub(crate) fn people_known(&self) -> BTreeMap<u64, Vec<Did>> {
        let mut people: BTreeMap<u64, Vec<Did>> = BTreeMap::new();
        for did in self.did() {
            if did.person != 0 && did.time_ms < self.asked.now_ms {
                people.entry(did.person).or_default().push(did);
            }
        }
        people
    }
}
