//! Questions about people on random streams: what the statements answer is what a plain walk through the events answers.

use crate::people_case::{Case, Did, NAMES, OUTCOMES, random_case};
use gemba_conventions::EventKind;
use gemba_ingest::store::select::{Limits, Selection, select};
use gemba_ingest::store::{Client, StoreError};
use gemba_ingest::store::{people, rollups};
use gemba_queries::{BoundQuery, Catalog, Population, Presence, ServerParams};
use gemba_tests::server::Server;
use gemba_tests::stored::{Random, link_row, store};
use jiff::Span;
use jiff::civil::Date;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

impl Case {
    /// How many people there are in each cohort and how many of them came back after so many periods.
    fn retention(&self) -> Vec<Value> {
        let asked = &self.asked;
        let mut cells: BTreeMap<(Date, u32), (u64, u64)> = BTreeMap::new();
        for mut did in self.people_known().into_values() {
            did.retain(|did| asked.cohort_by == "first_ever" || did.time_ms >= asked.from_ms);
            let is_start = |did: &Did| (asked.start.is_empty() || did.name == asked.start) && did.time_ms < asked.to_ms;
            let is_return = |did: &Did| asked.returns.is_empty() || asked.returns.contains(&did.name.as_str());
            let starts: Vec<&Did> = did.iter().filter(|did| is_start(did)).collect();
            let mut cohorts: Vec<Date> = starts.iter().map(|did| asked.period_of(did.time_ms)).collect();
            cohorts.sort_unstable();
            cohorts.dedup();
            cohorts.truncate(if asked.cohort_by == "recurring" { usize::MAX } else { 1 });
            for cohort in cohorts {
                let own = |did: &&Did| asked.period_of(did.time_ms) == cohort;
                let first = starts.iter().filter(|did| own(did)).map(|did| (did.time_ms, did.seq)).min().unwrap();
                if first.0 < asked.from_ms {
                    continue;
                }
                // A return in the own period is another event than the start; which of several starts at once is the
                // start does not matter unless one of them is a return, which then is taken.
                let returns = did.iter().filter(|did| own(did) && is_return(did)).count();
                let is_first = |did: &&&Did| (did.time_ms, did.seq) == first;
                let is_start_a_return = starts.iter().filter(is_first).any(|did| is_return(did));
                let came_back_at_once = returns > usize::from(is_start_a_return);
                let mut later: BTreeSet<Date> =
                    did.iter().filter(|did| is_return(did)).map(|did| asked.period_of(did.time_ms)).collect();
                later.retain(|period| *period > cohort || (*period == cohort && came_back_at_once));
                for ahead in 0..=asked.periods {
                    let period = asked.period_after(cohort, ahead);
                    if asked.begins_ms(period) >= asked.now_ms {
                        break;
                    }
                    let is_back = match asked.mode {
                        "on" => later.contains(&period),
                        _ => later.range(period..).next().is_some(),
                    };
                    let (users, returned) = cells.entry((cohort, ahead)).or_default();
                    *users += 1;
                    *returned += u64::from(is_back);
                }
            }
        }
        let row = |((cohort, ahead), (users, returned)): (&(Date, u32), &(u64, u64))| {
            let ends = asked.begins_ms(asked.period_after(*cohort, ahead + 1));
            json!([
                cohort.to_string(),
                ahead,
                users,
                returned,
                rounded(*returned, *users),
                u8::from(ends > asked.now_ms)
            ])
        };
        cells.iter().map(row).collect()
    }

    fn active_users(&self) -> Vec<Value> {
        let did = self.in_range();
        let row = |day: Date| {
            let that_day: Vec<&Did> = did.iter().filter(|did| self.asked.day(did.time_ms) == day).collect();
            let people: BTreeSet<u64> = that_day.iter().map(|did| did.person).filter(|person| *person != 0).collect();
            let sessions: BTreeSet<u64> = that_day.iter().map(|did| did.session).filter(|one| *one != 0).collect();
            let nobody = that_day.iter().filter(|did| did.person == 0).count();
            json!([day.to_string(), people.len(), sessions.len(), that_day.len(), nobody])
        };
        self.asked.days().map(row).collect()
    }

    fn stickiness(&self) -> Vec<Value> {
        let days = |did: Vec<Did>| did.iter().map(|did| self.asked.day(did.time_ms)).collect::<BTreeSet<Date>>();
        let people: Vec<BTreeSet<Date>> = self.people_known().into_values().map(days).collect();
        let row = |day: Date| {
            let within = |width: i64| {
                let first = day.saturating_sub(Span::new().days(width - 1));
                people.iter().filter(|active| active.range(first..=day).next().is_some()).count()
            };
            let (daily, monthly) = (within(1), within(30));
            json!([day.to_string(), daily, within(7), monthly, rounded(daily as u64, monthly as u64)])
        };
        self.asked.days().map(row).collect()
    }

    fn lifecycle(&self) -> Vec<Value> {
        let asked = &self.asked;
        let (first, last) = (asked.period_of(asked.from_ms), asked.period_of(asked.to_ms - 1));
        let periods = |did: Vec<Did>| did.iter().map(|did| asked.period_of(did.time_ms)).collect::<BTreeSet<Date>>();
        let people: Vec<BTreeSet<Date>> = self.people_known().into_values().map(periods).collect();
        let row = |period: Date| {
            let before = asked.period_of(asked.begins_ms(period) - 1);
            let active = |people: &BTreeSet<Date>, at: Date| people.contains(&at);
            let count = |test: &dyn Fn(&BTreeSet<Date>) -> bool| people.iter().filter(|one| test(one)).count();
            let new = count(&|one| one.first() == Some(&period));
            let returning = count(&|one| active(one, period) && active(one, before));
            let all = count(&|one| active(one, period));
            let dormant = count(&|one| active(one, before) && !active(one, period));
            let is_open = asked.begins_ms(asked.period_after(period, 1)) > asked.now_ms;
            json!([period.to_string(), all, new, returning, all - new - returning, dormant, u8::from(is_open)])
        };
        let all = std::iter::successors(Some(first), |period| Some(asked.period_after(*period, 1)));
        all.take_while(|period| *period <= last).map(row).collect()
    }

    /// What became of the attempts begun in the time looked at.
    fn feature_completion(&self) -> Vec<Value> {
        /// When and by whom it was begun or ended first.
        type First = Option<(i64, u64)>;
        /// The first end: when, outcome, whether it says nothing of its person, duration.
        type End = Option<(i64, usize, u8, i64)>;
        /// Name and id; without an id, when, in which place and by whom.
        type Attempt<'a> = (&'a str, u64, i64, u64, u64);
        let asked = &self.asked;
        let mut attempts: BTreeMap<Attempt<'_>, (First, First, End)> = BTreeMap::new();
        for (event, attempted) in self.events.iter().zip(&self.attempted) {
            let is_end = event.kind == EventKind::Ended;
            if event.time_ms < asked.from_ms - 1_000
                || !(is_end || (event.kind == EventKind::Started && event.time_ms < asked.to_ms))
            {
                continue;
            }
            let unit = event.unit.unwrap_or(0);
            // Without an id each stands for itself.
            let own = if attempted.attempt == 0 {
                (event.time_ms, event.seq.map_or(0, |(seq, _)| seq), unit)
            } else {
                (0, 0, 0)
            };
            let found = attempts.entry((&event.name, attempted.attempt, own.0, own.1, own.2)).or_default();
            let first = if is_end { &mut found.1 } else { &mut found.0 };
            *first = Some(first.map_or((event.time_ms, unit), |known| known.min((event.time_ms, unit))));
            if is_end {
                let why = match (OUTCOMES[attempted.outcome], attempted.reason) {
                    ("cancelled", "shutdown") => 1,
                    ("abandoned", "ignored") => 2,
                    _ => 0,
                };
                let end = (event.time_ms, attempted.outcome, why, attempted.duration_ms);
                found.2 = Some(found.2.map_or(end, |known| known.min(end)));
            }
        }
        let mut by_name: BTreeMap<&str, Vec<(i64, u64, End)>> = BTreeMap::new();
        for ((name, ..), (begun, ended, end)) in attempts {
            let begun_ms = begun.map_or_else(|| end.map_or(0, |(at, .., took)| at - took), |(at, _)| at);
            if (asked.from_ms..asked.to_ms).contains(&begun_ms) {
                let unit = begun.or(ended).map_or(0, |(_, unit)| unit);
                by_name.entry(name).or_default().push((begun_ms, self.person(unit), end));
            }
        }
        let row = |(name, attempts): (&str, Vec<(i64, u64, End)>)| {
            let ended = |wanted: &str| {
                attempts.iter().filter(|(.., end)| end.is_some_and(|end| OUTCOMES[end.1] == wanted)).count() as u64
            };
            let nobodys =
                |why: u8| attempts.iter().filter(|(.., end)| end.is_some_and(|end| end.2 == why)).count() as u64;
            let is_expired = |begun_ms: i64, end: &End| end.is_none() && begun_ms < asked.now_ms - 1_800_000;
            let is_unfinished = |(begun_ms, _, end): &&(i64, u64, End)| {
                is_expired(*begun_ms, end) || end.is_some_and(|end| OUTCOMES[end.1] != "completed" && end.2 == 0)
            };
            let open = attempts.iter().filter(|(.., end)| end.is_none()).count();
            let expired = attempts.iter().filter(|(begun_ms, _, end)| is_expired(*begun_ms, end)).count();
            let (completed, unfinished) = (ended("completed"), attempts.iter().filter(is_unfinished).count() as u64);
            let people = |of: Vec<&(i64, u64, End)>| {
                of.iter().map(|(_, person, _)| *person).filter(|person| *person != 0).collect::<BTreeSet<u64>>().len()
            };
            let mut took: Vec<i64> = attempts
                .iter()
                .filter_map(|(.., end)| end.filter(|end| OUTCOMES[end.1] == "completed").map(|end| end.3))
                .collect();
            took.sort_unstable();
            let median = took.get(took.len().saturating_sub(1) / 2).map_or(Value::Null, |took| json!(took));
            json!([
                name,
                attempts.len(),
                completed,
                ended("failed"),
                ended("abandoned"),
                ended("cancelled"),
                ended("panicked"),
                open,
                expired,
                nobodys(1),
                nobodys(2),
                unfinished,
                rounded(completed, completed + unfinished),
                rounded(unfinished, completed + unfinished),
                people(attempts.iter().collect()),
                people(attempts.iter().filter(is_unfinished).collect()),
                median
            ])
        };
        let mut rows: Vec<Value> = by_name.into_iter().map(row).collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row[11].as_u64(), row[1].as_u64())));
        rows
    }

    /// What people did before they first did the first of the names.
    fn before_first(&self) -> Vec<Value> {
        let mut people: BTreeMap<u64, Vec<Did>> = BTreeMap::new();
        for did in self.did() {
            if did.person != 0 && did.time_ms < self.asked.to_ms {
                people.entry(did.person).or_default().push(did);
            }
        }
        let mut of_users = 0;
        // By name, and empty for anything: for each person how often, and how long before.
        let mut before: BTreeMap<String, Vec<(u64, i64)>> = BTreeMap::new();
        for did in people.into_values() {
            let first = did.iter().filter(|did| did.name == NAMES[0]).map(|did| did.time_ms).min();
            let Some(first) = first.filter(|first| *first >= self.asked.from_ms) else { continue };
            of_users += 1;
            for name in ["", NAMES[1], NAMES[2]] {
                let fits =
                    |did: &&Did| did.time_ms < first && did.name != NAMES[0] && (name.is_empty() || did.name == name);
                let times: Vec<i64> = did.iter().filter(fits).map(|did| did.time_ms).collect();
                if let Some(began) = times.iter().min() {
                    before.entry(name.to_owned()).or_default().push((times.len() as u64, first - began));
                }
            }
        }
        let row = |(name, mut found): (String, Vec<(u64, i64)>)| {
            found.sort_unstable_by_key(|(_, ahead_ms)| *ahead_ms);
            let hours = found[(found.len() - 1) / 2].1 as f64 / 3_600_000.0;
            let events: u64 = found.iter().map(|(times, _)| times).sum();
            let users = found.len() as u64;
            json!([name, users, of_users, rounded(users, of_users), events, (hours * 1e3).round() / 1e3])
        };
        let mut rows: Vec<Value> = before.into_iter().map(row).collect();
        rows.sort_by_key(|row| (row[0] != "", std::cmp::Reverse(row[1].as_u64())));
        rows
    }

    /// Uses and named events, without their last moment.
    fn feature_usage(&self) -> Vec<Value> {
        let mut by_name: BTreeMap<(String, &str), Vec<Did>> = BTreeMap::new();
        for did in self.in_range().into_iter().filter(|did| did.kind != EventKind::Step) {
            let kind = if did.kind == EventKind::Event { "event" } else { "feature" };
            by_name.entry((did.name.clone(), kind)).or_default().push(did);
        }
        let row = |((name, kind), did): ((String, &str), Vec<Did>)| {
            let people: BTreeSet<u64> = did.iter().map(|did| did.person).filter(|person| *person != 0).collect();
            let sessions: BTreeSet<u64> = did.iter().map(|did| did.session).filter(|one| *one != 0).collect();
            let nobody = did.iter().filter(|did| did.person == 0).count();
            json!([name, kind, "", did.len(), people.len(), sessions.len(), nobody])
        };
        let mut rows: Vec<Value> = by_name.into_iter().map(row).collect();
        // Most used first, then by name.
        rows.sort_by_key(|row| std::cmp::Reverse(row[3].as_u64()));
        rows
    }
}

/// Holds rows against those expected, as text and numbers of one kind, and tells of the first that differ.
fn assert_rows(found: Vec<Value>, expected: Vec<Value>, said: impl Fn() -> String) {
    let plain = |rows: Vec<Value>| -> Vec<Vec<String>> {
        let cell = |cell: &Value| cell.as_f64().map_or_else(|| cell.to_string(), |number| number.to_string());
        rows.iter().map(|row| row.as_array().unwrap().iter().map(cell).collect()).collect()
    };
    let (found, expected) = (plain(found), plain(expected));
    if let Some(place) = (0..found.len().max(expected.len())).find(|&place| found.get(place) != expected.get(place)) {
        panic!("row {place} is {:?} instead of {:?}: {}", found.get(place), expected.get(place), said());
    }
}

/// A rate as answers tell it; null of nobody.
fn rounded(part: u64, of: u64) -> Value {
    if of == 0 { Value::Null } else { json!((part as f64 / of as f64 * 1e6).round() / 1e6) }
}

/// What everybody's answer is when who was there is read from here.
async fn read_from(presence: Presence, client: &Client, bound: &BoundQuery) -> Result<Selection, StoreError> {
    let mut bound = bound.clone();
    Population::default().apply_with(&mut bound, presence);
    select(client, &bound, Limits::default()).await
}

/// The answer; a question that the roll-up can answer is asked of it and of the events, which must say the same.
async fn ask(client: &Client, catalog: &Catalog, name: &str, case: &Case, params: &[&str]) -> Vec<Value> {
    let server =
        ServerParams { project: case.project, now_ms: case.asked.now_ms, pending_records: 0, booked_records: 0 };
    let bound = catalog.get(name).unwrap().bind(&case.asked.values(params), &server).unwrap();
    let read =
        async |presence| read_from(presence, client, &bound).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let found = read(Presence::Events).await;
    if Population::default().may_be_rolled_up(&bound) {
        assert_eq!(read(Presence::RolledUp).await.rows, found.rows, "{name} of {}: {:?}", case.project, case.asked);
    }
    found.rows.into_iter().map(Value::Array).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_about_people_are_answered_as_by_a_plain_walk() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let catalog = Catalog::builtin().unwrap();
    let mut random = Random(11);
    let cases: Vec<Case> = (2000..2160).map(|project| random_case(project, &mut random)).collect();
    store(client, "events", cases.iter().flat_map(Case::rows)).await;
    let links = cases.iter().flat_map(|case| case.links.iter().map(|one| link_row(case.project, one)));
    store(client, "identity_links", links).await;
    let mut came_back = 0;
    for case in &cases {
        let said = |name: &str| {
            format!(
                "{name} of {}: {:?}\n{:?}\n{:?}\n{:?}",
                case.project, case.asked, case.events, case.attempted, case.links
            )
        };
        let common = ["from", "to", "tz"];
        let retention = ["from", "to", "tz", "period", "cohort_by", "mode", "periods", "start", "returns"];
        let rows = ask(client, &catalog, "retention", case, &retention).await;
        came_back += rows.iter().filter_map(|row| row[3].as_u64()).sum::<u64>();
        assert_rows(rows, case.retention(), || said("retention"));
        let rows = ask(client, &catalog, "active_users", case, &common).await;
        assert_rows(rows, case.active_users(), || said("active_users"));
        let rows = ask(client, &catalog, "stickiness", case, &common).await;
        assert_rows(rows, case.stickiness(), || said("stickiness"));
        let rows = ask(client, &catalog, "lifecycle", case, &["from", "to", "tz", "period"]).await;
        assert_rows(rows, case.lifecycle(), || said("lifecycle"));
        let rows = ask(client, &catalog, "feature_completion", case, &["from", "to"]).await;
        assert_rows(rows, case.feature_completion(), || said("feature_completion"));
        let rows = ask(client, &catalog, "before_first", case, &["from", "to", "event"]).await;
        assert_rows(rows, case.before_first(), || said("before_first"));
        let mut rows = ask(client, &catalog, "feature_usage", case, &common).await;
        for row in &mut rows {
            drop(row.as_array_mut().unwrap().pop());
        }
        assert_rows(rows, case.feature_usage(), || said("feature_usage"));
    }
    assert!(came_back > 300, "people must come back, {came_back} did");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_there_is_read_from_the_events_while_a_part_is_without_the_roll_up() {
    let server = Server::start().await;
    let client = &server.running.app().store;
    let case = random_case(2000, &mut Random(12));
    store(client, "events", case.rows()).await;
    let catalog = Catalog::builtin().unwrap();
    let at = ServerParams { project: case.project, now_ms: case.asked.now_ms, pending_records: 0, booked_records: 0 };
    let bound = catalog.get("active_users").unwrap().bind(&case.asked.values(&["from", "to", "tz"]), &at).unwrap();
    let asked = async || -> Vec<Value> {
        let found = people::ask(client, &bound, &Population::default(), Limits::default()).await.unwrap();
        found.rows.into_iter().map(Value::Array).collect()
    };
    let rolled_up = async || -> Vec<Value> {
        read_from(Presence::RolledUp, client, &bound).await.unwrap().rows.into_iter().map(Value::Array).collect()
    };
    let expected = || case.active_users();
    let said = || format!("{:?}", case.events);
    assert_rows(rolled_up().await, expected(), said);
    let from_rollup = async || {
        people::from_rollup(client, &bound, &Population::default(), Limits::default()).await.unwrap().is_some()
    };
    assert!(from_rollup().await);
    client.execute("ALTER TABLE events CLEAR PROJECTION activity SETTINGS mutations_sync = 2").await.unwrap();
    assert_rows(asked().await, expected(), said);
    assert!(!from_rollup().await);
    assert_ne!(rolled_up().await, asked().await, "a part without it is left out");
    assert!(rollups::make_up(client).await.unwrap());
    let until = Instant::now() + Duration::from_mins(1);
    while !from_rollup().await {
        assert!(Instant::now() < until, "the projection is not made");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_rows(rolled_up().await, expected(), said);
    assert!(!rollups::make_up(client).await.unwrap(), "nothing is lacking");
    assert!(server.running.stop().await);
}
