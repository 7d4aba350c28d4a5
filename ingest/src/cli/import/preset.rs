//! Rows of what other products export, as log records: PostHog's events and Segment's calls.
//!
//! Pure: a row in, OTLP JSON or a problem out. People, links between people and the anonymous visitors they were, and
//! properties go where Gemba keeps them; everything else keeps its names as attributes. An anonymous visitor is known by the
//! anonymous id and not by the session, so that later sessions of the same browser are the same visitor.

use super::exported::pairs;
use super::record::{Row, time_ns};
use gemba_conventions::{attribute, event};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Whose export a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Events exported from PostHog: event, distinct_id, timestamp, properties.
    Posthog,
    /// Raw calls of Segment as its storage destinations write them: type, userId, anonymousId, timestamp.
    Segment,
}

impl Preset {
    /// The records of a row; none for a call that says nothing about anybody.
    ///
    /// # Errors
    /// What is wrong with which column.
    pub fn records(self, row: &Row) -> Result<Vec<Value>, String> {
        match self {
            Self::Posthog => posthog(row),
            Self::Segment => segment(row),
        }
    }
}

/// Who did something.
#[derive(Debug, Default, Clone)]
struct Person {
    user: String,
    anonymous: String,
    session: String,
    tenant: String,
}

impl Person {
    /// A record of this person.
    fn record(&self, time_ns: i64, name: &str, attributes: &Map<String, Value>) -> Value {
        let mut attributes = pairs(attributes);
        for (key, id) in [
            (attribute::USER_ID, &self.user),
            (attribute::ANONYMOUS_ID, &self.anonymous),
            (attribute::SESSION_ID, &self.session),
            (attribute::TENANT, &self.tenant),
        ] {
            if !id.is_empty() {
                attributes.push(json!({"key": key, "value": {"stringValue": id}}));
            }
        }
        json!({"timeUnixNano": time_ns.to_string(), "eventName": name, "attributes": attributes})
    }

    /// What was learned about a known user: the link to the visitor it was, and properties.
    fn learned(&self, time_ns: i64, properties: &Map<String, Value>) -> Vec<Value> {
        let mut records = Vec::new();
        if !self.user.is_empty() && !self.anonymous.is_empty() && self.user != self.anonymous {
            records.push(self.record(time_ns, event::IDENTIFY, &Map::new()));
        }
        if !self.user.is_empty() && !properties.is_empty() {
            let user = Self { user: self.user.clone(), ..Self::default() };
            records.push(user.record(time_ns, event::USER_SET, properties));
        }
        records
    }

    /// Properties of a tenant.
    fn of_tenant(tenant: String, time_ns: i64, properties: &Map<String, Value>) -> Vec<Value> {
        if tenant.is_empty() || properties.is_empty() {
            return Vec::new();
        }
        vec![Self { tenant, ..Self::default() }.record(time_ns, event::TENANT_SET, properties)]
    }
}

/// The object in a column: as it is, or as text in a cell; empty where there is none.
fn object(row: &Row, column: &str) -> Result<Map<String, Value>, String> {
    match row.0.get(column) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(Value::String(text)) if text.is_empty() => Ok(Map::new()),
        Some(Value::String(text)) => {
            serde_json::from_str(text).map_err(|error| format!("column {column:?} holds no JSON object: {error}"))
        }
        Some(_) => Err(format!("column {column:?} holds no JSON object")),
    }
}

/// An id: text or a number, empty where there is none.
fn id(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn take(properties: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match properties.remove(name) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

fn time(row: &Row, columns: &[&str]) -> Result<i64, String> {
    let found = columns.iter().find_map(|column| Some((column, row.0.get(*column).filter(|cell| !cell.is_null())?)));
    let (column, cell) = found.ok_or_else(|| format!("there is no column {:?}", columns[0]))?;
    time_ns(cell).ok_or_else(|| format!("column {column:?} holds no time: {cell}"))
}

fn posthog(row: &Row) -> Result<Vec<Value>, String> {
    let time_ns = time(row, &["timestamp"])?;
    let name = row.text("event")?;
    if name.is_empty() {
        return Err("column \"event\" is empty: an event needs a name".to_owned());
    }
    let distinct_id = row.text("distinct_id")?;
    let mut properties = object(row, "properties")?;
    let mut learned = take(&mut properties, "$set_once");
    learned.extend(take(&mut properties, "$set"));
    if name == "$groupidentify" {
        let tenant = id(properties.get("$group_key"));
        return Ok(Person::of_tenant(tenant, time_ns, &take(&mut properties, "$group_set")));
    }
    let was = match name.as_str() {
        "$identify" => id(properties.get("$anon_distinct_id")),
        "$create_alias" | "$merge_dangerously" => id(properties.get("alias")),
        _ => String::new(),
    };
    let is_anonymous = was.is_empty()
        && (properties.get("$is_identified") == Some(&json!(false))
            || properties.get("$process_person_profile") == Some(&json!(false))
            || id(properties.get("$device_id")) == distinct_id);
    let groups = properties.get("$groups").and_then(Value::as_object);
    // With several kinds of groups there is no telling which one is the customer.
    let tenant = groups.filter(|groups| groups.len() == 1).map(|groups| id(groups.values().next())).unwrap_or_default();
    let person = if is_anonymous {
        Person { anonymous: distinct_id, tenant, ..Person::default() }
    } else {
        Person { user: distinct_id, anonymous: was, session: id(properties.get("$session_id")), tenant }
    };
    let mut records = person.learned(time_ns, &learned);
    if !matches!(name.as_str(), "$identify" | "$create_alias" | "$merge_dangerously" | "$set") {
        records.push(person.record(time_ns, &name, &properties));
    }
    Ok(records)
}

fn segment(row: &Row) -> Result<Vec<Value>, String> {
    let time_ns = time(row, &["timestamp", "originalTimestamp", "receivedAt"])?;
    let cell = |column: &str| id(row.0.get(column));
    let mut properties = object(row, "properties")?;
    let traits = object(row, "traits")?;
    let context = object(row, "context")?;
    let (user, anonymous) = (cell("userId"), cell("anonymousId"));
    let tenant = id(context.get("groupId"));
    let kind = cell("type");
    let name = match kind.as_str() {
        "track" => row.text("event")?,
        "page" | "screen" => {
            for column in ["name", "category"] {
                let text = cell(column);
                if !text.is_empty() {
                    properties.insert(column.to_owned(), json!(text));
                }
            }
            kind
        }
        "identify" => return Ok(Person { user, anonymous, ..Person::default() }.learned(time_ns, &traits)),
        "alias" => {
            let person = Person { user, anonymous: cell("previousId"), ..Person::default() };
            return Ok(person.learned(time_ns, &Map::new()));
        }
        "group" => return Ok(Person::of_tenant(cell("groupId"), time_ns, &traits)),
        other => return Err(format!("column \"type\" is no call of Segment: {other:?}")),
    };
    if name.is_empty() {
        return Err("column \"event\" is empty: an event needs a name".to_owned());
    }
    let person = if user.is_empty() {
        Person { anonymous, tenant, ..Person::default() }
    } else {
        Person { user, tenant, ..Person::default() }
    };
    Ok(vec![person.record(time_ns, &name, &properties)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names of the records of a row, each with its texts by key; keys have no order.
    fn check(preset: Preset, row: &Value, expected: &[(&str, &[(&str, &str)])]) {
        let Value::Object(cells) = row.clone() else { panic!("{row}") };
        let records = preset.records(&Row(cells)).unwrap();
        let found: Vec<(String, Vec<(String, String)>)> = records
            .iter()
            .map(|record| {
                let pair = |pair: &Value| {
                    let text = &pair["value"]["stringValue"];
                    (pair["key"].as_str().unwrap().to_owned(), text.as_str().unwrap_or("..").to_owned())
                };
                let mut pairs: Vec<_> = record["attributes"].as_array().unwrap().iter().map(pair).collect();
                pairs.sort();
                (record["eventName"].as_str().unwrap().to_owned(), pairs)
            })
            .collect();
        let text = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let sorted = |pairs: &[(&str, &str)]| {
            let mut pairs: Vec<_> = pairs.iter().map(text).collect();
            pairs.sort();
            pairs
        };
        let expected: Vec<_> = expected.iter().map(|(name, pairs)| ((*name).to_owned(), sorted(pairs))).collect();
        assert_eq!(found, expected, "{row}");
    }

    #[test]
    fn posthog_tells_people_visitors_links_and_properties() {
        let time = "2024-01-02 03:04:05.678000+00:00";
        let of = |event: &str, id: &str, properties: Value| json!({"uuid": "u", "event": event, "timestamp": time, "distinct_id": id, "properties": properties});
        let check = |row: &Value, expected: &[(&str, &[(&str, &str)])]| check(Preset::Posthog, row, expected);
        check(
            &of("cart", "v", json!({"$device_id": "v"})),
            &[("cart", &[("$device_id", "v"), (attribute::ANONYMOUS_ID, "v")])],
        );
        // As text in a cell of a table.
        let cells = of("pay", "ann", json!(r#"{"$session_id": "s", "$groups": {"company": "acme"}, "plan": "pro"}"#));
        check(
            &cells,
            &[(
                "pay",
                &[
                    ("$session_id", "s"),
                    ("$groups", r#"{"company":"acme"}"#),
                    ("plan", "pro"),
                    (attribute::USER_ID, "ann"),
                    (attribute::SESSION_ID, "s"),
                    (attribute::TENANT, "acme"),
                ],
            )],
        );
        check(
            &of("$identify", "ann", json!({"$anon_distinct_id": "v", "$set": {"plan": "pro"}})),
            &[
                (event::IDENTIFY, &[(attribute::USER_ID, "ann"), (attribute::ANONYMOUS_ID, "v")]),
                (event::USER_SET, &[("plan", "pro"), (attribute::USER_ID, "ann")]),
            ],
        );
        check(
            &of("$groupidentify", "ann", json!({"$group_key": "acme", "$group_set": {"size": "9"}})),
            &[(event::TENANT_SET, &[("size", "9"), (attribute::TENANT, "acme")])],
        );
    }

    #[test]
    fn segment_s_calls_become_what_they_mean() {
        let of = |more: Value| {
            let mut row = json!({"messageId": "m", "timestamp": "2024-01-02T03:04:05.678Z", "anonymousId": "v"});
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            row
        };
        let check = |row: &Value, expected: &[(&str, &[(&str, &str)])]| check(Preset::Segment, row, expected);
        check(
            &of(json!({"type": "track", "event": "cart", "userId": null, "properties": {"plan": "pro"}})),
            &[("cart", &[("plan", "pro"), (attribute::ANONYMOUS_ID, "v")])],
        );
        check(
            &of(json!({"type": "page", "name": "Home", "userId": "ann", "context": {"groupId": "acme"}})),
            &[("page", &[("name", "Home"), (attribute::USER_ID, "ann"), (attribute::TENANT, "acme")])],
        );
        check(
            &of(json!({"type": "identify", "userId": "ann", "traits": {"plan": "pro"}})),
            &[
                (event::IDENTIFY, &[(attribute::USER_ID, "ann"), (attribute::ANONYMOUS_ID, "v")]),
                (event::USER_SET, &[("plan", "pro"), (attribute::USER_ID, "ann")]),
            ],
        );
        check(&of(json!({"type": "identify", "traits": {"plan": "pro"}})), &[]);
        check(
            &of(json!({"type": "alias", "userId": "ann", "previousId": "w"})),
            &[(event::IDENTIFY, &[(attribute::USER_ID, "ann"), (attribute::ANONYMOUS_ID, "w")])],
        );
        check(
            &of(json!({"type": "group", "userId": "ann", "groupId": "acme", "traits": {"size": "9"}})),
            &[(event::TENANT_SET, &[("size", "9"), (attribute::TENANT, "acme")])],
        );
    }

    #[test]
    fn a_row_of_another_kind_is_named() {
        let problem = |preset: Preset, row: Value| {
            let Value::Object(cells) = row else { panic!() };
            preset.records(&Row(cells)).unwrap_err()
        };
        assert!(problem(Preset::Segment, json!({"type": "x", "timestamp": 1_700_000_000})).contains("\"x\""));
        assert!(problem(Preset::Segment, json!({"type": "track"})).contains("timestamp"));
        let row = json!({"event": "a", "timestamp": 1_700_000_000, "distinct_id": "v", "properties": [1]});
        assert!(problem(Preset::Posthog, row).contains("properties"));
        assert!(problem(Preset::Posthog, json!({"timestamp": 1_700_000_000})).contains("event"));
    }
}
