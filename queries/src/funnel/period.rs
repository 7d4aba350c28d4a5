//! Periods of a conversion over time: hours, days, weeks and months of a time zone.
//!
//! In: an interval, a zone and a range. Out: the start of each period, in milliseconds since the Unix epoch. No clock.

use super::request::FunnelError;
use super::validate::{Interval, MAX_PERIODS};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Unit, Zoned, ZonedRound};

/// Starts of the periods that share time with `[from_ms, to_ms)`, ascending. The first start is where its period begins in
/// the calendar, at or before `from_ms`. Weeks begin on Monday; days follow the zone's clock, so that one may last 23 or
/// 25 hours.
///
/// # Errors
/// More than [`MAX_PERIODS`] of them, or dates the calendar does not hold.
pub(crate) fn starts(interval: Interval, tz: &TimeZone, from_ms: i64, to_ms: i64) -> Result<Vec<i64>, FunnelError> {
    let beyond = |_| FunnelError::new("interval", "the range lies outside the calendar");
    let mut at =
        first(interval, &Timestamp::from_millisecond(from_ms).map_err(beyond)?.to_zoned(tz.clone())).map_err(beyond)?;
    let mut starts = Vec::new();
    while at.timestamp().as_millisecond() < to_ms {
        if starts.len() == MAX_PERIODS {
            let problem = format!("gives more than {MAX_PERIODS} periods; take a longer one or a shorter range");
            return Err(FunnelError::new("interval", problem));
        }
        starts.push(at.timestamp().as_millisecond());
        at = match interval {
            Interval::Hour => at.checked_add(1.hour()),
            // Adding calendar units keeps the time of day; where midnight does not exist the day begins later.
            Interval::Day => at.checked_add(1.day()).and_then(|day| day.start_of_day()),
            Interval::Week => at.checked_add(1.week()).and_then(|day| day.start_of_day()),
            Interval::Month => at.checked_add(1.month()).and_then(|day| day.start_of_day()),
        }
        .map_err(beyond)?;
    }
    Ok(starts)
}

fn first(interval: Interval, at: &Zoned) -> Result<Zoned, jiff::Error> {
    match interval {
        Interval::Hour => at.round(ZonedRound::new().smallest(Unit::Hour).mode(jiff::RoundMode::Floor)),
        Interval::Day => at.start_of_day(),
        Interval::Week => {
            let since_monday = at.weekday().to_monday_zero_offset();
            at.checked_sub(i64::from(since_monday).days())?.start_of_day()
        }
        Interval::Month => at.first_of_month()?.start_of_day(),
    }
}
