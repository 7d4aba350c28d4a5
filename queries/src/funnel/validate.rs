//! The question checked: a [`Funnel`] whose parts fit together, with every default filled in.
//!
//! In: a [`FunnelRequest`], the present time and the time until which data are complete. Out: a [`Funnel`], or a
//! [`FunnelError`] that names the field and what is allowed. No clock, no SQL.

use super::matcher::{Condition, Matcher, Scalar, Test, attribute, conditions, matcher, text};
use super::overlap::can_meet;
use super::request::{CohortRequest, FunnelError, FunnelRequest, MatchRequest};
use crate::param::{read_time, zone_name};
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Fewest steps: a funnel of one step is a count.
pub const MIN_STEPS: usize = 2;
/// Most steps: one bit of a 32-bit mask each.
pub const MAX_STEPS: usize = 32;
/// Most exclusions: one bit of a 32-bit mask each.
pub const MAX_EXCLUSIONS: usize = 32;
/// Window when none is given: 14 days, the usual choice of product analytics.
pub const DEFAULT_WINDOW_MS: i64 = 14 * DAY_MS;
/// Longest window: 100 years, which means no window.
pub const MAX_WINDOW_MS: i64 = 36_525 * DAY_MS;
/// Pause that splits sessions when none is given: 30 minutes, the usual choice of web analytics.
pub const DEFAULT_SESSION_GAP_MS: i64 = 30 * 60 * 1000;
/// Range when none is given: the last 30 days.
pub const DEFAULT_RANGE_MS: i64 = 30 * DAY_MS;
/// Breakdown values shown when no limit is given.
pub const DEFAULT_BREAKDOWN_LIMIT: usize = 25;
/// Most breakdown values; chosen: more than anybody reads, and a bound on the answer's size.
pub const MAX_BREAKDOWN_LIMIT: usize = 1000;
/// Most attributes held constant; chosen.
pub const MAX_HOLD: usize = 4;
/// Most bytes of names, keys and values together: they travel in the address line of a request to ClickHouse, whose limit
/// is 1 MiB (`http_max_uri_size`), three bytes to one when escaped.
pub const MAX_TOTAL_TEXT_BYTES: usize = 128 * 1024;
/// Most people of a cohort given by id; bounded for the same reason.
pub const MAX_COHORT_USERS: usize = 1000;
/// Dropped units listed when no limit is given.
pub const DEFAULT_DROPPED_LIMIT: usize = 100;
/// Most dropped units listed: their numbers travel in the address line of a request to ClickHouse.
pub const MAX_DROPPED_LIMIT: usize = 5000;
/// Most periods of a conversion over time; chosen: three years of days.
pub const MAX_PERIODS: usize = 1100;

const DAY_MS: i64 = 86_400_000;

/// How the steps must follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// In order; other events may lie between.
    Ordered,
    /// In order; no other event of the unit between.
    Strict,
    /// In any order.
    Any,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// People, by `user.id` and what is linked to it.
    User,
    /// Sessions.
    Session,
    /// Tenants.
    Tenant,
}

/// At which step the breakdown value is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// The first.
    First,
    /// The last that was reached.
    Last,
    /// This one, from 0.
    Step(usize),
}

/// Length of the periods of a conversion over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interval {
    /// Hours.
    Hour,
    /// Calendar days.
    Day,
    /// Weeks from Monday.
    Week,
    /// Calendar months.
    Month,
}

/// An event that must not happen between two steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Exclusion {
    /// Which events.
    pub matcher: Matcher,
    /// The step after which it counts, from 0.
    pub from_step: usize,
    /// The step before which it counts; larger than `from_step`.
    pub to_step: usize,
}

/// Which units that dropped are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dropped {
    /// The step they reached; there is a next one.
    pub step: usize,
    /// How many, the latest first.
    pub limit: usize,
    /// Whether all who reached the step are listed, also those who went on.
    pub reached: bool,
}

/// A step with the name it has in answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Which events fit it.
    pub matcher: Matcher,
    /// The event as asked for, or `any event`.
    pub label: String,
}

/// A funnel that can be computed: every value lies in its range and all fit together.
#[derive(Debug, Clone)]
pub struct Funnel {
    /// 2 to 32 steps.
    pub steps: Vec<Step>,
    /// How they must follow each other.
    pub order: Order,
    /// Longest time from the first step to the last, inclusive; positive.
    pub window_ms: i64,
    /// Entries lie at or after this, milliseconds since the Unix epoch.
    pub from_ms: i64,
    /// Entries lie before this.
    pub to_ms: i64,
    /// What is counted.
    pub count_by: CountBy,
    /// A longer pause splits events without a session into sessions.
    pub session_gap_ms: i64,
    /// At most 32.
    pub exclusions: Vec<Exclusion>,
    /// Attribute to split by.
    pub breakdown: Option<String>,
    /// Where its value is taken.
    pub attribution: Attribution,
    /// Values shown before `other`.
    pub breakdown_limit: usize,
    /// Every event must meet these to be seen at all.
    pub filter: Vec<Condition>,
    /// Attributes that have one value throughout a chain.
    pub hold: Vec<String>,
    /// Only units whose first entry ever lies in the range.
    pub first_time: bool,
    /// Only people with one of these `user.id`s.
    pub cohort: Option<Vec<String>>,
    /// Zone of the periods.
    pub tz: TimeZone,
    /// Length of the periods, where the conversion over time is asked for.
    pub interval: Option<Interval>,
    /// Where each period begins in the calendar, ascending; the first is at or before `from_ms`. Empty without an
    /// interval.
    pub periods: Vec<i64>,
    /// A unit that has not finished counts as open while a window of its ends after this.
    pub as_of_ms: i64,
    /// Units to be listed.
    pub dropped: Option<Dropped>,
}

impl Funnel {
    /// The same funnel of the tries whose window had ended by `as_of`, so that nothing of it is open; `None` where there are
    /// none. For comparisons: no periods, no list of units, and `by_value` every value of the breakdown, else none.
    pub fn decided(&self, by_value: bool) -> Option<Self> {
        // A try is open while its window ends after `as_of`.
        let to_ms = self.to_ms.min(self.as_of_ms.saturating_sub(self.window_ms).saturating_add(1));
        (to_ms > self.from_ms).then(|| Self {
            to_ms,
            breakdown: self.breakdown.clone().filter(|_| by_value),
            breakdown_limit: MAX_BREAKDOWN_LIMIT,
            interval: None,
            periods: Vec::new(),
            dropped: None,
            ..self.clone()
        })
    }
}

impl FunnelRequest {
    /// Checks the request and fills in what was left out.
    ///
    /// `now_ms` is what `now` means and the end of the range when none is given; `complete_until_ms` is `as_of` when
    /// none is given. Both milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// The first field with a value that cannot be used.
    pub fn validate(&self, now_ms: i64, complete_until_ms: i64) -> Result<Funnel, FunnelError> {
        let steps = self.steps()?;
        let order = one_of(
            "order",
            self.order.as_deref(),
            &[("ordered", Order::Ordered), ("strict", Order::Strict), ("any", Order::Any)],
        )?;
        let tz = zone("tz", self.tz.as_deref())?;
        let now = Timestamp::from_millisecond(now_ms)
            .map_err(|_| FunnelError::new("to", "the present time is out of range"))?;
        let to_ms = time("to", self.to.as_deref(), now, &tz)?.unwrap_or(now_ms);
        let from_ms = time("from", self.from.as_deref(), now, &tz)?.unwrap_or(to_ms.saturating_sub(DEFAULT_RANGE_MS));
        if from_ms >= to_ms {
            return Err(FunnelError::new("from", "must lie before to"));
        }
        let interval = self.interval.as_deref().map(|text| {
            let words = [
                ("day", Interval::Day),
                ("hour", Interval::Hour),
                ("week", Interval::Week),
                ("month", Interval::Month),
            ];
            one_of("interval", Some(text), &words)
        });
        let interval = interval.transpose()?;
        let periods = match interval {
            Some(interval) => super::period::starts(interval, &tz, from_ms, to_ms)?,
            None => Vec::new(),
        };
        let funnel = Funnel {
            order,
            window_ms: number("window_ms", self.window_ms, DEFAULT_WINDOW_MS, 1, MAX_WINDOW_MS)?,
            from_ms,
            to_ms,
            count_by: one_of(
                "count_by",
                self.count_by.as_deref(),
                &[("user", CountBy::User), ("session", CountBy::Session), ("tenant", CountBy::Tenant)],
            )?,
            session_gap_ms: number("session_gap_ms", self.session_gap_ms, DEFAULT_SESSION_GAP_MS, 1, DAY_MS)?,
            exclusions: self.exclusions(&steps, order)?,
            breakdown: self.breakdown.as_deref().map(|key| attribute("breakdown", key)).transpose()?,
            attribution: self.attribution(steps.len())?,
            breakdown_limit: self.breakdown_limit()?,
            filter: conditions("filter", &self.filter)?,
            hold: self.hold()?,
            first_time: self.first_time,
            cohort: self.cohort.as_ref().map(cohort).transpose()?,
            dropped: self.dropped(steps.len())?,
            as_of_ms: time("as_of", self.as_of.as_deref(), now, &tz)?.unwrap_or(complete_until_ms),
            tz,
            interval,
            periods,
            steps,
        };
        funnel.check_size()?;
        Ok(funnel)
    }

    fn steps(&self) -> Result<Vec<Step>, FunnelError> {
        if !(MIN_STEPS..=MAX_STEPS).contains(&self.steps.len()) {
            let problem = format!("must hold {MIN_STEPS} to {MAX_STEPS} steps, given {}", self.steps.len());
            return Err(FunnelError::new("steps", problem));
        }
        let label = |step: &MatchRequest| match &step.event {
            Some(event) => event.clone(),
            None if step.conditions.is_empty() => "any event".to_owned(),
            None => "any event with conditions".to_owned(),
        };
        let step = |(index, step): (usize, &MatchRequest)| {
            Ok(Step { matcher: matcher(&format!("steps[{index}]"), step)?, label: label(step) })
        };
        self.steps.iter().enumerate().map(step).collect()
    }

    fn exclusions(&self, steps: &[Step], order: Order) -> Result<Vec<Exclusion>, FunnelError> {
        if self.exclude.len() > MAX_EXCLUSIONS {
            return Err(FunnelError::new("exclude", format!("must hold at most {MAX_EXCLUSIONS} exclusions")));
        }
        let last = steps.len() - 1;
        let mut exclusions = Vec::new();
        for (index, asked) in self.exclude.iter().enumerate() {
            let path = format!("exclude[{index}]");
            let step_index = |field: &str, value: i64| match usize::try_from(value) {
                Ok(step) if step <= last => Ok(step),
                _ => Err(FunnelError::new(format!("{path}.{field}"), format!("must be 0 to {last}, given {value}"))),
            };
            let from_step = step_index("from_step", asked.from_step)?;
            let to_step = step_index("to_step", asked.to_step)?;
            if from_step >= to_step {
                return Err(FunnelError::new(format!("{path}.from_step"), "must be smaller than to_step"));
            }
            if order == Order::Any && (from_step, to_step) != (0, last) {
                let problem = format!("must span the whole funnel, 0 to {last}, when order is any");
                return Err(FunnelError::new(format!("{path}.from_step"), problem));
            }
            let matcher = matcher(&path, &asked.matcher)?;
            if let Some(step) = (from_step..=to_step).find(|&step| can_meet(&matcher, &steps[step].matcher)) {
                let problem = format!("can fit step {step}, which lies in its range; an excluded event must fit none");
                return Err(FunnelError::new(path, problem));
            }
            exclusions.push(Exclusion { matcher, from_step, to_step });
        }
        Ok(exclusions)
    }

    fn attribution(&self, steps: usize) -> Result<Attribution, FunnelError> {
        match self.attribution.as_deref() {
            None | Some("first") => Ok(Attribution::First),
            Some("last") => Ok(Attribution::Last),
            Some(text) => match text.strip_prefix("step:").and_then(|step| step.parse().ok()) {
                Some(step) if step < steps => Ok(Attribution::Step(step)),
                _ => {
                    let problem = format!("must be first, last or step:0 to step:{}, given {text:?}", steps - 1);
                    Err(FunnelError::new("attribution", problem))
                }
            },
        }
    }

    fn breakdown_limit(&self) -> Result<usize, FunnelError> {
        match self.breakdown_limit {
            None => Ok(DEFAULT_BREAKDOWN_LIMIT),
            Some(limit) => {
                usize::try_from(limit).ok().filter(|limit| (1..=MAX_BREAKDOWN_LIMIT).contains(limit)).ok_or_else(|| {
                    FunnelError::new("breakdown_limit", format!("must be 1 to {MAX_BREAKDOWN_LIMIT}, given {limit}"))
                })
            }
        }
    }

    fn dropped(&self, steps: usize) -> Result<Option<Dropped>, FunnelError> {
        let Some(asked) = self.dropped else { return Ok(None) };
        let last = steps - 2;
        let step = usize::try_from(asked.step)
            .ok()
            .filter(|step| *step <= last)
            .ok_or_else(|| FunnelError::new("dropped.step", format!("must be 0 to {last}, given {}", asked.step)))?;
        let default = i64::try_from(DEFAULT_DROPPED_LIMIT).unwrap_or(i64::MAX);
        let limit = asked.limit.unwrap_or(default);
        let limit =
            usize::try_from(limit).ok().filter(|limit| (1..=MAX_DROPPED_LIMIT).contains(limit)).ok_or_else(|| {
                FunnelError::new("dropped.limit", format!("must be 1 to {MAX_DROPPED_LIMIT}, given {limit}"))
            })?;
        Ok(Some(Dropped { step, limit, reached: false }))
    }

    fn hold(&self) -> Result<Vec<String>, FunnelError> {
        if self.hold.len() > MAX_HOLD {
            return Err(FunnelError::new("hold", format!("must hold at most {MAX_HOLD} attributes")));
        }
        let held = |(index, key): (usize, &String)| {
            let field = format!("hold[{index}]");
            if super::property::is_joined(key) {
                return Err(FunnelError::new(
                    field,
                    "must be an attribute of events: a property is one value throughout anyway",
                ));
            }
            attribute(&field, key)
        };
        self.hold.iter().enumerate().map(held).collect()
    }
}

impl Funnel {
    /// Refuses what would make the request to ClickHouse longer than it takes.
    fn check_size(&self) -> Result<(), FunnelError> {
        let condition = |condition: &Condition| {
            let value = match &condition.test {
                Test::In(values) => values.iter().map(scalar_bytes).sum(),
                Test::NotEqual(value) | Test::Compare(_, value) => scalar_bytes(value),
                Test::Contains(text) => text.len(),
                Test::Present(_) => 0,
            };
            value + condition.attr.len()
        };
        let conditions = |list: &[Condition]| list.iter().map(condition).sum::<usize>();
        let matcher = |matcher: &Matcher| {
            matcher.event.as_ref().map_or(0, |event| event.name.len()) + conditions(&matcher.conditions)
        };
        let total = self.steps.iter().map(|step| matcher(&step.matcher)).sum::<usize>()
            + self.exclusions.iter().map(|exclusion| matcher(&exclusion.matcher)).sum::<usize>()
            + conditions(&self.filter)
            + self.cohort.iter().flatten().map(String::len).sum::<usize>();
        if total > MAX_TOTAL_TEXT_BYTES {
            let problem = format!("names and values hold {total} bytes together; at most {MAX_TOTAL_TEXT_BYTES}");
            return Err(FunnelError::new("request", problem));
        }
        Ok(())
    }
}

fn scalar_bytes(value: &Scalar) -> usize {
    match value {
        Scalar::Text(text) => text.len(),
        Scalar::Number(_) | Scalar::Flag(_) => 20,
    }
}

/// The member of a closed set named `given`; the first when nothing is given.
fn one_of<T: Copy>(field: &str, given: Option<&str>, words: &[(&str, T)]) -> Result<T, FunnelError> {
    let Some(text) = given else { return Ok(words[0].1) };
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        FunnelError::new(field, format!("must be {}, given {text:?}", known.join(", ")))
    })
}

fn number(field: &str, given: Option<i64>, default: i64, low: i64, high: i64) -> Result<i64, FunnelError> {
    match given {
        None => Ok(default),
        Some(number) if (low..=high).contains(&number) => Ok(number),
        Some(number) => Err(FunnelError::new(field, format!("must be {low} to {high}, given {number}"))),
    }
}

fn zone(field: &str, given: Option<&str>) -> Result<TimeZone, FunnelError> {
    let Some(name) = given else { return Ok(TimeZone::UTC) };
    let problem =
        || FunnelError::new(field, format!("must be an IANA time zone such as Europe/Berlin, given {name:?}"));
    let name = zone_name(name).ok_or_else(problem)?;
    TimeZone::get(&name).map_err(|_| problem())
}

fn time(field: &str, given: Option<&str>, now: Timestamp, tz: &TimeZone) -> Result<Option<i64>, FunnelError> {
    let Some(text) = given else { return Ok(None) };
    let problem = || {
        let expected =
            "must be a time between 1970 and 2262 (RFC 3339, a date or date and time in tz, now, or now - 7d)";
        FunnelError::new(field, format!("{expected}, given {:?}", text.chars().take(100).collect::<String>()))
    };
    let ms = read_time(text, now, tz).ok_or_else(problem)?.as_millisecond();
    // Event times on the wire are nanoseconds since 1970 in 64 bits, which end in 2262.
    if (0..=9_214_646_400_000).contains(&ms) { Ok(Some(ms)) } else { Err(problem()) }
}

fn cohort(asked: &CohortRequest) -> Result<Vec<String>, FunnelError> {
    if let Some(name) = &asked.name {
        // Whoever asks looks it up and takes it out; left in, it must not mean everybody.
        return Err(FunnelError::new("cohort", format!("is the name {name:?}, which cannot be looked up here")));
    }
    if !(1..=MAX_COHORT_USERS).contains(&asked.users.len()) {
        let problem = format!("must hold 1 to {MAX_COHORT_USERS} ids, given {}", asked.users.len());
        return Err(FunnelError::new("cohort.users", problem));
    }
    asked.users.iter().enumerate().map(|(index, user)| text(&format!("cohort.users[{index}]"), user)).collect()
}
