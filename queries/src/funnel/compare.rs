//! Whether two funnels differ by more than chance, step by step.
//!
//! In: the steps of two answers. Out: for each step the two rates, their difference and its 95 % confidence interval by
//! Newcombe's method (Statistics in Medicine 17, 1998, method 10: two Wilson intervals put together), and the verdict in
//! words. Each step is judged by itself. Both sides must be answers of which nothing is open any more
//! ([`Funnel::decided`](super::Funnel::decided)): to leave out who is still open would be to keep those who were quick, and make a
//! younger range look better.

use super::answer::{GroupAnswer, StepAnswer};
use super::request::FunnelError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Standard normal quantile of 0.975: both sides of a 95 % interval together leave 5 %.
const Z: f64 = 1.959_963_984_540_054;

/// What a difference that chance does not explain is called.
pub const MORE_THAN_CHANCE: &str = "more than chance";
/// What a difference that chance can explain is called.
pub const COULD_BE_CHANCE: &str = "could be chance";
/// What is said where one side has nobody.
pub const NOTHING_TO_COMPARE: &str = "nothing to compare";

/// Part of a whole.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// Units that got this far.
    pub reached: u64,
    /// Units that could have.
    pub of: u64,
    /// `reached / of`, 0..1; null of nobody.
    pub rate: Option<f64>,
}

impl Proportion {
    fn new(reached: u64, of: u64) -> Self {
        Self { reached, of, rate: (of > 0).then(|| reached as f64 / of as f64) }
    }
}

/// Two proportions and how they differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// What is compared with.
    pub base: Proportion,
    /// What is compared.
    pub head: Proportion,
    /// Rate of the head minus rate of the base; null where one has nobody.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// [`MORE_THAN_CHANCE`] where the interval does not hold 0, else [`COULD_BE_CHANCE`], or [`NOTHING_TO_COMPARE`].
    pub verdict: String,
}

/// One step of two funnels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepComparison {
    /// Index from 0.
    pub step: usize,
    /// The event as asked for.
    pub label: String,
    /// Of those who entered.
    pub from_first: Difference,
    /// Of those who reached the previous step.
    pub from_previous: Difference,
}

/// Compares `reached` of `of` with the base. No part may exceed its whole.
pub fn difference(base: (u64, u64), head: (u64, u64)) -> Difference {
    let (base, head) = (Proportion::new(base.0, base.1), Proportion::new(head.0, head.1));
    let (Some(from), Some(to)) = (base.rate, head.rate) else {
        let verdict = NOTHING_TO_COMPARE.to_owned();
        return Difference { base, head, difference: None, low: None, high: None, verdict };
    };
    let (base_low, base_high) = wilson(from, base.of);
    let (head_low, head_high) = wilson(to, head.of);
    let difference = to - from;
    let low = difference - (to - head_low).hypot(base_high - from);
    let high = difference + (head_high - to).hypot(from - base_low);
    let verdict = if low > 0.0 || high < 0.0 { MORE_THAN_CHANCE } else { COULD_BE_CHANCE };
    Difference {
        base,
        head,
        difference: Some(difference),
        low: Some(low),
        high: Some(high),
        verdict: verdict.to_owned(),
    }
}

/// Wilson's 95 % interval of a proportion of `of`, which is not 0.
pub fn wilson(rate: f64, of: u64) -> (f64, f64) {
    let n = of as f64;
    let z2 = Z * Z;
    let middle = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
    ((middle - half).max(0.0), (middle + half).min(1.0))
}

/// Compares two funnels of the same steps, decided ones; `None` stands for one nobody entered. The labels are those of `asked`.
pub fn steps(asked: &[StepAnswer], base: Option<&[StepAnswer]>, head: Option<&[StepAnswer]>) -> Vec<StepComparison> {
    let count = |steps: Option<&[StepAnswer]>, step: usize| {
        steps.and_then(|steps| steps.get(step)).map_or(0, |step| step.count)
    };
    let compare = |step: usize, since: usize| {
        difference((count(base, step), count(base, since)), (count(head, step), count(head, since)))
    };
    let labels = asked.iter().enumerate();
    labels
        .map(|(step, asked)| StepComparison {
            step,
            label: asked.label.clone(),
            from_first: compare(step, 0),
            from_previous: compare(step, step.saturating_sub(1)),
        })
        .collect()
}

/// The steps of the group of this value in a breakdown of what is decided; `None` where nobody of it is. `field` is what the value
/// was given as.
///
/// # Errors
/// A value that is no group there and none of those `shown` either.
pub fn group<'a>(
    field: &str,
    value: &Value,
    decided: &'a [GroupAnswer],
    shown: &[GroupAnswer],
) -> Result<Option<&'a [StepAnswer]>, FunnelError> {
    if let Some(group) = find(decided, value) {
        return Ok(Some(&group.steps));
    }
    let has_rest = |breakdown: &[GroupAnswer]| breakdown.iter().any(|group| group.group == "other");
    if has_rest(decided) {
        let problem = format!("is {value}, which is none of the {} largest groups", values(decided).count());
        return Err(FunnelError::new(field, problem));
    }
    // In the rest of those shown may be anybody, whose time is not over then.
    if find(shown, value).is_some() || has_rest(shown) {
        return Ok(None);
    }
    let known: Vec<String> = values(shown).map(|group| group.value.to_string()).collect();
    let problem = format!("is {value}, which is none of the groups: {}", known.join(", "));
    Err(FunnelError::new(field, problem))
}

fn values(breakdown: &[GroupAnswer]) -> impl Iterator<Item = &GroupAnswer> {
    breakdown.iter().filter(|group| group.group == "value")
}

fn find<'a>(breakdown: &'a [GroupAnswer], value: &Value) -> Option<&'a GroupAnswer> {
    let exact = values(breakdown).find(|group| same(&group.value, value));
    // A caller that has only text, such as a saved question, means the group that is written so.
    exact.or_else(|| values(breakdown).find(|group| value.as_str() == Some(group.value.to_string().as_str())))
}

/// Whether two values are the same, 5 and 5.0 included.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one.total_cmp(&other).is_eq(),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base: (u64, u64), head: (u64, u64), low: f64, high: f64, verdict: &str) {
        let found = difference(base, head);
        let near = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 0.000_05;
        assert!(near(found.low, low) && near(found.high, high), "{found:?}");
        assert_eq!(found.verdict, verdict);
    }

    /// Table II of Newcombe's article, method 10.
    #[test]
    fn intervals_are_those_of_the_article() {
        check((48, 80), (56, 70), 0.0524, 0.3339, MORE_THAN_CHANCE);
        check((3, 10), (9, 10), 0.1705, 0.8090, MORE_THAN_CHANCE);
        check((2, 7), (6, 7), 0.0582, 0.8062, MORE_THAN_CHANCE);
        check((0, 29), (5, 56), -0.0381, 0.1926, COULD_BE_CHANCE);
        check((0, 20), (0, 10), -0.1611, 0.2775, COULD_BE_CHANCE);
        check((0, 10), (10, 10), 0.6075, 1.0000, MORE_THAN_CHANCE);
    }

    #[test]
    fn nobody_cannot_be_compared() {
        let found = difference((0, 0), (1, 2));
        assert_eq!((found.difference, found.low, found.verdict.as_str()), (None, None, NOTHING_TO_COMPARE));
    }

    #[test]
    fn shares_are_of_those_who_entered_and_of_those_at_the_step_before() {
        let step = |step: usize, count: u64| StepAnswer {
            step,
            label: step.to_string(),
            count,
            rate_from_first: None,
            rate_from_previous: None,
            lost: 0,
            open: 0,
            time_from_previous_ms: None,
            times_histogram: Vec::new(),
        };
        let base = [step(0, 100), step(1, 50), step(2, 25)];
        let head = [step(0, 60), step(1, 30), step(2, 20)];
        let found = steps(&base, Some(&base), Some(&head));
        assert_eq!((found[1].from_previous.head.of, found[1].from_previous.head.rate), (60, Some(0.5)));
        assert_eq!((found[2].from_first.head.of, found[2].from_previous.head.of), (60, 30));
        assert_eq!(found[0].from_first.head.rate, Some(1.0));
        let alone = steps(&base, Some(&base), None);
        assert_eq!((alone[1].from_first.verdict.as_str(), alone[1].from_first.head.of), (NOTHING_TO_COMPARE, 0));
    }
}
