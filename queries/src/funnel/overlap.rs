//! Whether two descriptions of events can be met by one and the same event.
//!
//! In: two [`Matcher`]s. Out: false only when no event can fit both. Used to refuse an exclusion that could fit a step.
//! Conservative: what is not plainly contradictory counts as possible.

use super::matcher::{Comparison, Condition, Matcher, NameKind, Scalar, Test};
use gemba_conventions::EventKind;

/// The kinds of events a name, or the absence of one, means.
pub(crate) fn kinds(matcher: &Matcher) -> &'static [EventKind] {
    match matcher.event.as_ref().map(|event| event.kind) {
        None => &[EventKind::Used, EventKind::Step, EventKind::Event],
        Some(NameKind::Plain) => &[EventKind::Used, EventKind::Started, EventKind::Step, EventKind::Event],
        Some(NameKind::Feature) => &[EventKind::Used, EventKind::Started],
        Some(NameKind::Completed) => &[EventKind::Ended],
        Some(NameKind::Step) => &[EventKind::Step],
        Some(NameKind::Event) => &[EventKind::Event],
    }
}

/// Whether an event may exist that fits both.
pub(crate) fn can_meet(a: &Matcher, b: &Matcher) -> bool {
    let share_kind = kinds(a).iter().any(|kind| kinds(b).contains(kind));
    let share_name = match (&a.event, &b.event) {
        (Some(a), Some(b)) => a.name == b.name,
        _ => true,
    };
    let conditions_agree = a
        .conditions
        .iter()
        .all(|left| b.conditions.iter().filter(|right| left.attr == right.attr).all(|right| can_agree(left, right)));
    share_kind && share_name && conditions_agree
}

/// Whether one value (or absence) of the attribute both speak of can meet both.
fn can_agree(a: &Condition, b: &Condition) -> bool {
    match (&a.test, &b.test) {
        (Test::In(values), other) | (other, Test::In(values)) => values.iter().any(|value| meets(value, other)),
        (Test::Present(false), other) | (other, Test::Present(false)) => {
            matches!(other, Test::Present(false) | Test::NotEqual(_))
        }
        (Test::Compare(left, low), Test::Compare(right, high)) => ranges_meet(*left, low, *right, high),
        (Test::Contains(_), Test::Compare(_, Scalar::Number(_)))
        | (Test::Compare(_, Scalar::Number(_)), Test::Contains(_)) => false,
        _ => true,
    }
}

/// Whether a present attribute of this value meets the test.
fn meets(value: &Scalar, wanted: &Test) -> bool {
    match wanted {
        Test::In(values) => values.contains(value),
        Test::NotEqual(other) => value != other,
        Test::Contains(part) => matches!(value, Scalar::Text(text) if text.contains(part.as_str())),
        Test::Compare(comparison, bound) => match (value, bound) {
            (Scalar::Number(number), Scalar::Number(bound)) => holds(*comparison, number.partial_cmp(bound)),
            (Scalar::Text(text), Scalar::Text(bound)) => {
                holds(*comparison, Some(text.as_bytes().cmp(bound.as_bytes())))
            }
            _ => false,
        },
        Test::Present(present) => *present,
    }
}

fn holds(comparison: Comparison, ordering: Option<std::cmp::Ordering>) -> bool {
    ordering.is_some_and(|ordering| match comparison {
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    })
}

fn ranges_meet(left: Comparison, a: &Scalar, right: Comparison, b: &Scalar) -> bool {
    let is_upper = |comparison| matches!(comparison, Comparison::Less | Comparison::LessOrEqual);
    let is_closed = |comparison| matches!(comparison, Comparison::LessOrEqual | Comparison::GreaterOrEqual);
    let ordering = match (a, b) {
        (Scalar::Number(a), Scalar::Number(b)) => a.partial_cmp(b),
        (Scalar::Text(a), Scalar::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        // A number against text: no value compares with both.
        _ => return false,
    };
    if is_upper(left) == is_upper(right) {
        return true;
    }
    let lower_to_upper = if is_upper(left) { ordering.map(std::cmp::Ordering::reverse) } else { ordering };
    match lower_to_upper {
        Some(std::cmp::Ordering::Less) => true,
        Some(std::cmp::Ordering::Equal) => is_closed(left) && is_closed(right),
        _ => false,
    }
}
