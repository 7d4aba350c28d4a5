//! The question as somebody asks it: the JSON of `POST /api/v1/funnel`, read field by field.
//!
//! In: JSON. Out: a [`FunnelRequest`] of plain types, or a [`FunnelError`] that names the field and what it takes. Whether
//! the values make sense together is decided by [`FunnelRequest::validate`]; nothing here knows SQL.
//!
//! JSON is taken apart by hand and not by a derived reader, because "invalid type at line 1 column 73" does not name the
//! field and an unknown field must be refused by name at every depth.

use serde::de::{Deserialize, Deserializer, Error as _};
use serde_json::{Map, Value};

/// A value of a field that a funnel cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FunnelError {
    /// The field as a path, such as `steps[1].where[0].op`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub problem: String,
    /// Whether the field itself is unknown, in contrast to its value.
    pub unknown_field: bool,
}

impl FunnelError {
    /// A value of `field` that cannot be used, found by whoever asks.
    pub fn of(field: &str, problem: &str) -> Self {
        Self::new(field, problem)
    }

    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into(), unknown_field: false }
    }
}

/// A funnel as asked for. Only types are checked here.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FunnelRequest {
    /// The steps in order; 2 to 32.
    pub steps: Vec<MatchRequest>,
    /// `ordered` (default), `strict` or `any`.
    pub order: Option<String>,
    /// Time from the first step to the last, inclusive, in milliseconds; 14 days when absent.
    pub window_ms: Option<i64>,
    /// Beginning of the range in which entries lie, inclusive: RFC 3339, or a date (and time) in `tz`.
    pub from: Option<String>,
    /// End of that range, exclusive.
    pub to: Option<String>,
    /// `user` (default), `session` or `tenant`.
    pub count_by: Option<String>,
    /// A pause longer than this splits events without a session into sessions, in milliseconds; 30 minutes when absent.
    pub session_gap_ms: Option<i64>,
    /// Events that must not happen between two steps.
    pub exclude: Vec<ExclusionRequest>,
    /// Attribute to split the answer by.
    pub breakdown: Option<String>,
    /// At which step its value is taken: `first` (default), `last` or `step:N`.
    pub attribution: Option<String>,
    /// Values shown before the rest becomes `other`; 25 when absent.
    pub breakdown_limit: Option<i64>,
    /// Conditions every event must meet to be seen at all.
    pub filter: Vec<ConditionRequest>,
    /// Attributes that must have one value throughout a chain.
    pub hold: Vec<String>,
    /// Only units whose first fitting entry ever lies in the range.
    pub first_time: bool,
    /// Only these people.
    pub cohort: Option<CohortRequest>,
    /// IANA time zone of dates and periods; UTC when absent.
    pub tz: Option<String>,
    /// `hour`, `day`, `week` or `month`: adds the conversion over time.
    pub interval: Option<String>,
    /// The time until which data are complete: RFC 3339, or a date (and time) in `tz`.
    pub as_of: Option<String>,
    /// Asks for the units that dropped at a step.
    pub dropped: Option<DroppedRequest>,
    /// Asks how the answer differs from that of another range, cohort, filter or breakdown value, and whether by more than
    /// chance.
    pub compare: Option<CompareRequest>,
}

/// The base a funnel is compared with: the same question with these fields instead, or two values of the breakdown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CompareRequest {
    /// Beginning of the range.
    pub from: Option<String>,
    /// End of the range.
    pub to: Option<String>,
    /// Conditions instead of `filter`.
    pub filter: Option<Vec<ConditionRequest>>,
    /// People instead of `cohort`.
    pub cohort: Option<CohortRequest>,
    /// Two values of the breakdown: the base and the one compared with it.
    pub values: Option<(Value, Value)>,
    /// Whether the base has a population of its own: a stored cohort that has been taken out.
    pub has_population: bool,
}

/// Which events fit a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MatchRequest {
    /// Event name, possibly with a prefix; absent: any event.
    pub event: Option<String>,
    /// Conditions on its attributes, all of which must hold.
    pub conditions: Vec<ConditionRequest>,
}

/// An event that must not happen between two steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExclusionRequest {
    /// Which events.
    pub matcher: MatchRequest,
    /// Index from 0 of the step after which it counts.
    pub from_step: i64,
    /// Index of the step up to which it counts.
    pub to_step: i64,
}

/// A condition on one attribute.
#[derive(Debug, Clone, PartialEq)]
pub struct ConditionRequest {
    /// The attribute's key.
    pub attr: String,
    /// `eq`, `ne`, `in`, `contains`, `lt`, `le`, `gt`, `ge` or `set`.
    pub op: String,
    /// What it is compared with; null where absent.
    pub value: Value,
}

/// Units that reached a step and not the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DroppedRequest {
    /// Index of the step they reached, from 0.
    pub step: i64,
    /// How many, the latest first; 100 when absent.
    pub limit: Option<i64>,
}

/// A set of people: given by their ids, or a cohort of the project by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CohortRequest {
    /// Their `user.id`s.
    pub users: Vec<String>,
    /// Name of a stored cohort, which whoever asks looks up; `users` is then empty.
    pub name: Option<String>,
}

impl<'de> Deserialize<'de> for FunnelRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl FunnelRequest {
    /// Reads the JSON of a request.
    ///
    /// # Errors
    /// The first field that is unknown or of a wrong type.
    pub fn parse(json: Value) -> Result<Self, FunnelError> {
        let mut fields = Fields::open(json, "")?;
        let request = Self {
            steps: fields.list("steps", MatchRequest::parse)?,
            order: fields.text("order")?,
            window_ms: fields.whole("window_ms")?,
            from: fields.text("from")?,
            to: fields.text("to")?,
            count_by: fields.text("count_by")?,
            session_gap_ms: fields.whole("session_gap_ms")?,
            exclude: fields.list("exclude", ExclusionRequest::parse)?,
            breakdown: fields.text("breakdown")?,
            attribution: fields.text("attribution")?,
            breakdown_limit: fields.whole("breakdown_limit")?,
            filter: fields.conditions("filter")?,
            hold: fields.list("hold", text_item)?,
            first_time: fields.flag("first_time")?,
            cohort: fields.take("cohort").map(CohortRequest::parse).transpose()?,
            tz: fields.text("tz")?,
            interval: fields.text("interval")?,
            as_of: fields.text("as_of")?,
            dropped: fields.take("dropped").map(DroppedRequest::parse).transpose()?,
            compare: fields.take("compare").map(CompareRequest::parse).transpose()?,
        };
        fields.close()?;
        Ok(request)
    }

    /// Takes out the names of stored cohorts, that of the question and that of its base; what is left can be validated.
    pub fn take_cohorts(&mut self) -> (Option<String>, Option<String>) {
        let take = |cohort: &mut Option<CohortRequest>| {
            let name = cohort.as_mut().and_then(|cohort| cohort.name.take());
            if name.is_some() {
                *cohort = None;
            }
            name
        };
        let own = take(&mut self.cohort);
        let base = self.compare.as_mut().and_then(|compare| {
            let name = take(&mut compare.cohort);
            compare.has_population |= name.is_some();
            name
        });
        (own, base)
    }

    /// The question whose answer is the base of the comparison, where one of another question is asked for. It has no list
    /// of dropped units, no breakdown and no periods.
    ///
    /// # Errors
    /// A comparison that names nothing to compare with, or two things.
    pub fn base(&self) -> Result<Option<Self>, FunnelError> {
        let Some(compare) = &self.compare else { return Ok(None) };
        let another = compare.from.is_some() || compare.to.is_some() || compare.filter.is_some();
        let another = another || compare.cohort.is_some() || compare.has_population;
        match (&compare.values, another) {
            (Some(_), true) => {
                Err(FunnelError::new("compare.values", "cannot stand beside another range, filter or cohort"))
            }
            (Some(_), false) if self.breakdown.is_none() => {
                Err(FunnelError::new("compare.values", "must be values of breakdown, which is not given"))
            }
            (Some(_), false) => Ok(None),
            (None, false) => Err(FunnelError::new("compare", "must name from and to, filter, cohort or values")),
            (None, true) => Ok(Some(Self {
                from: compare.from.clone().or_else(|| self.from.clone()),
                to: compare.to.clone().or_else(|| self.to.clone()),
                filter: compare.filter.clone().unwrap_or_else(|| self.filter.clone()),
                cohort: compare.cohort.clone().or_else(|| self.cohort.clone()),
                breakdown: None,
                attribution: None,
                interval: None,
                dropped: None,
                compare: None,
                ..self.clone()
            })),
        }
    }
}

impl MatchRequest {
    /// Reads `{"event","where"}`; fields are named below `path`.
    ///
    /// # Errors
    /// The first field that is unknown or of a wrong type.
    pub fn parse(json: Value, path: &str) -> Result<Self, FunnelError> {
        let mut fields = Fields::open(json, path)?;
        let matcher = Self { event: fields.text("event")?, conditions: fields.conditions("where")? };
        fields.close()?;
        Ok(matcher)
    }
}

impl ExclusionRequest {
    fn parse(json: Value, path: &str) -> Result<Self, FunnelError> {
        let mut fields = Fields::open(json, path)?;
        let matcher = MatchRequest { event: fields.text("event")?, conditions: fields.conditions("where")? };
        let missing =
            |name: &str| FunnelError::new(format!("{path}.{name}"), "must be given: the index of a step, from 0");
        let from_step = fields.whole("from_step")?.ok_or_else(|| missing("from_step"))?;
        let to_step = fields.whole("to_step")?.ok_or_else(|| missing("to_step"))?;
        fields.close()?;
        Ok(Self { matcher, from_step, to_step })
    }
}

impl ConditionRequest {
    fn parse(json: Value, path: &str) -> Result<Self, FunnelError> {
        let mut fields = Fields::open(json, path)?;
        let attr =
            fields.text("attr")?.ok_or_else(|| FunnelError::new(format!("{path}.attr"), "must be given: a key"))?;
        let op = fields.text("op")?.unwrap_or_else(|| "eq".to_owned());
        let value = fields.take("value").unwrap_or(Value::Null);
        fields.close()?;
        Ok(Self { attr, op, value })
    }
}

impl DroppedRequest {
    fn parse(json: Value) -> Result<Self, FunnelError> {
        let mut fields = Fields::open(json, "dropped")?;
        let step = fields.whole("step")?;
        let step =
            step.ok_or_else(|| FunnelError::new("dropped.step", "must be given: the index of a step, from 0"))?;
        let limit = fields.whole("limit")?;
        fields.close()?;
        Ok(Self { step, limit })
    }
}

impl CompareRequest {
    fn parse(json: Value) -> Result<Self, FunnelError> {
        let mut fields = Fields::open(json, "compare")?;
        let filter = fields.is_given("filter").then(|| fields.conditions("filter")).transpose()?;
        let values = match fields.take("values") {
            None => None,
            Some(Value::Array(values)) if values.len() == 2 => {
                let mut values = values.into_iter();
                values.next().zip(values.next())
            }
            Some(other) => return Err(fields.wrong("values", "a list of two values of the breakdown", &other)),
        };
        let compare = Self {
            from: fields.text("from")?,
            to: fields.text("to")?,
            filter,
            cohort: fields.take("cohort").map(CohortRequest::parse).transpose()?,
            values,
            has_population: false,
        };
        fields.close()?;
        Ok(compare)
    }
}

impl CohortRequest {
    fn parse(json: Value) -> Result<Self, FunnelError> {
        if let Value::String(name) = json {
            return Ok(Self { users: Vec::new(), name: Some(name) });
        }
        let mut fields = Fields::open(json, "cohort")?;
        let users = fields.list("users", text_item)?;
        fields.close()?;
        Ok(Self { users, name: None })
    }
}

/// Conditions that stand by themselves: an object (equality) or a list of `{attr, op, value}`.
pub(crate) fn parse_conditions(json: Value, field: &str) -> Result<Vec<ConditionRequest>, FunnelError> {
    match json {
        Value::Object(map) => {
            Ok(map.into_iter().map(|(attr, value)| ConditionRequest { attr, op: "eq".to_owned(), value }).collect())
        }
        Value::Array(list) => {
            let item = |(index, value)| ConditionRequest::parse(value, &format!("{field}[{index}]"));
            list.into_iter().enumerate().map(item).collect()
        }
        other => {
            let problem =
                format!("must be an object (equality) or a list of {{attr, op, value}}, given {}", shown(&other));
            Err(FunnelError::new(field, problem))
        }
    }
}

fn text_item(json: Value, path: &str) -> Result<String, FunnelError> {
    match json {
        Value::String(text) => Ok(text),
        other => Err(FunnelError::new(path, format!("must be text, given {}", shown(&other)))),
    }
}

/// A value as given, cut to what a message can hold.
pub(crate) fn shown(value: &Value) -> String {
    value.to_string().chars().take(100).collect()
}

/// A JSON object whose fields are taken out one by one; what is left over was unknown.
struct Fields {
    path: String,
    map: Map<String, Value>,
    known: Vec<&'static str>,
}

impl Fields {
    fn open(json: Value, path: &str) -> Result<Self, FunnelError> {
        match json {
            Value::Object(map) => Ok(Self { path: path.to_owned(), map, known: Vec::new() }),
            other => {
                let field = if path.is_empty() { "request" } else { path };
                Err(FunnelError::new(field, format!("must be an object, given {}", shown(&other))))
            }
        }
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn wrong(&self, name: &str, expected: &str, given: &Value) -> FunnelError {
        FunnelError::new(self.at(name), format!("must be {expected}, given {}", shown(given)))
    }

    /// The field, unless it is absent or null.
    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.map.remove(name).filter(|value| !value.is_null())
    }

    fn is_given(&self, name: &str) -> bool {
        self.map.get(name).is_some_and(|value| !value.is_null())
    }

    fn text(&mut self, name: &'static str) -> Result<Option<String>, FunnelError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "text", &other)),
        }
    }

    fn whole(&mut self, name: &'static str) -> Result<Option<i64>, FunnelError> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(name, "a whole number", &value)),
            },
        }
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, FunnelError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(self.wrong(name, "true or false", &other)),
        }
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        item: impl Fn(Value, &str) -> Result<T, FunnelError>,
    ) -> Result<Vec<T>, FunnelError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values
                .into_iter()
                .enumerate()
                .map(|(index, value)| item(value, &format!("{}[{index}]", self.at(name))))
                .collect(),
            Some(other) => Err(self.wrong(name, "a list", &other)),
        }
    }

    /// Conditions: an object means equality of each of its fields, a list holds `{attr, op, value}`.
    fn conditions(&mut self, name: &'static str) -> Result<Vec<ConditionRequest>, FunnelError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Object(map)) => {
                Ok(map.into_iter().map(|(attr, value)| ConditionRequest { attr, op: "eq".to_owned(), value }).collect())
            }
            Some(list @ Value::Array(_)) => {
                self.map.insert(name.to_owned(), list);
                self.list(name, ConditionRequest::parse)
            }
            Some(other) => Err(self.wrong(name, "an object (equality) or a list of {attr, op, value}", &other)),
        }
    }

    fn close(self) -> Result<(), FunnelError> {
        match self.map.keys().next() {
            None => Ok(()),
            Some(name) => Err(FunnelError {
                field: self.at(name),
                problem: format!("is unknown; known here: {}", self.known.join(", ")),
                unknown_field: true,
            }),
        }
    }
}
