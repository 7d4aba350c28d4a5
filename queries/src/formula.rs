//! Formulas over named series: `A / B`, `100 * (A - B) / A`.
//!
//! In: text. Out: an [`Expression`], or where it goes wrong; then values for the names, and a number. It knows numbers,
//! names of one capital letter, `+ - * /`, a sign and parentheses, and nothing else: a formula is never given to ClickHouse.

/// Longest formula, in bytes, which also bounds how deep it nests. Chosen: more than anybody reads.
pub(crate) const MAX_BYTES: usize = 256;

/// What is wrong with a formula.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {at}")]
pub(crate) struct FormulaError {
    /// Counted from 1.
    pub(crate) at: usize,
    pub(crate) problem: String,
}

/// A formula, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expression {
    Number(f64),
    /// The series of this place: A is 0.
    Series(usize),
    Negative(Box<Expression>),
    Binary(Box<Expression>, char, Box<Expression>),
}

impl Expression {
    /// Reads a formula over `series` series.
    pub(crate) fn parse(text: &str, series: usize) -> Result<Self, FormulaError> {
        if text.len() > MAX_BYTES {
            return Err(FormulaError { at: MAX_BYTES, problem: format!("longer than {MAX_BYTES} bytes") });
        }
        let mut parser = Parser { characters: text.chars().collect(), at: 0, series };
        let parsed = parser.sum()?;
        match parser.peek() {
            None => Ok(parsed),
            Some(found) => Err(parser.wrong(format!("{found:?} is not expected"))),
        }
    }

    /// The value; `None` where something is divided by 0 or grows beyond all bounds.
    pub(crate) fn value(&self, series: &[f64]) -> Option<f64> {
        let value = match self {
            Self::Number(number) => *number,
            Self::Series(place) => *series.get(*place)?,
            Self::Negative(inner) => -inner.value(series)?,
            Self::Binary(left, sign, right) => {
                let (left, right) = (left.value(series)?, right.value(series)?);
                match sign {
                    '+' => left + right,
                    '-' => left - right,
                    '*' => left * right,
                    _ => left / right,
                }
            }
        };
        value.is_finite().then_some(value)
    }
}

struct Parser {
    characters: Vec<char>,
    at: usize,
    series: usize,
}

impl Parser {
    fn peek(&mut self) -> Option<char> {
        while self.characters.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.characters.get(self.at).copied()
    }

    fn wrong(&self, problem: impl Into<String>) -> FormulaError {
        FormulaError { at: self.at + 1, problem: problem.into() }
    }

    fn sum(&mut self) -> Result<Expression, FormulaError> {
        let mut left = self.product()?;
        while let Some(sign @ ('+' | '-')) = self.peek() {
            self.at += 1;
            left = Expression::Binary(Box::new(left), sign, Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expression, FormulaError> {
        let mut left = self.factor()?;
        while let Some(sign @ ('*' | '/')) = self.peek() {
            self.at += 1;
            left = Expression::Binary(Box::new(left), sign, Box::new(self.factor()?));
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Expression, FormulaError> {
        match self.peek() {
            Some('-') => {
                self.at += 1;
                Ok(Expression::Negative(Box::new(self.factor()?)))
            }
            Some('(') => {
                self.at += 1;
                let inner = self.sum()?;
                if self.peek() != Some(')') {
                    return Err(self.wrong("a closing parenthesis is missing"));
                }
                self.at += 1;
                Ok(inner)
            }
            Some(letter @ 'A'..='Z') => {
                let place = letter as usize - 'A' as usize;
                if place >= self.series {
                    return Err(self.wrong(format!("{letter} names no series, there are {}", self.series)));
                }
                self.at += 1;
                Ok(Expression::Series(place))
            }
            Some(digit) if digit.is_ascii_digit() || digit == '.' => self.number(),
            Some(found) => Err(self.wrong(format!("{found:?} is not expected"))),
            None => Err(self.wrong("something is missing")),
        }
    }

    fn number(&mut self) -> Result<Expression, FormulaError> {
        let rest = self.characters.get(self.at..).unwrap_or_default();
        let digits: String = rest.iter().take_while(|c| c.is_ascii_digit() || **c == '.').collect();
        let number = digits.parse().map_err(|_| self.wrong(format!("{digits:?} is no number")))?;
        self.at += digits.len();
        Ok(Expression::Number(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<f64>) {
        let value =
            Expression::parse(text, 3).unwrap_or_else(|error| panic!("{text}: {error}")).value(&[8.0, 2.0, 0.0]);
        assert_eq!(value, expected, "{text}");
    }

    #[test]
    fn signs_bind_as_everybody_is_used_to() {
        check("A / B", Some(4.0));
        check("A - B - 1", Some(5.0));
        check("A / B / 2", Some(2.0));
        check("1 + 2 * A", Some(17.0));
        check("100 * (A - B) / A", Some(75.0));
        check("--A * -B", Some(-16.0));
        check(" .5*A ", Some(4.0));
        check("A / C", None);
        check("(A) + C / A", Some(8.0));
    }

    #[test]
    fn what_is_no_formula_is_refused_with_its_place() {
        for (text, at) in [
            ("", 1),
            ("A /", 4),
            ("A B", 3),
            ("D", 1),
            ("(A", 3),
            ("A)", 2),
            ("a", 1),
            ("1.2.3", 1),
            ("A; DROP TABLE events", 2),
            ("sleep(3)", 1),
            ("A / \u{2215}", 5),
            ("1e9", 2),
        ] {
            assert_eq!(Expression::parse(text, 3).unwrap_err().at, at, "{text}");
        }
        assert!(Expression::parse(&"(".repeat(300), 1).is_err());
        assert!(Expression::parse(&"-".repeat(256), 1).is_err());
    }
}
