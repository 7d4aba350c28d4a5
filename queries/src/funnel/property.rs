//! What is known of people and tenants beside their events: their properties, and which variant of an experiment they saw.
//!
//! In: a key with a prefix: `user:KEY` and `tenant:KEY` are the latest value that `gemba.user.set` or `gemba.tenant.set` gave,
//! `flag:KEY` is the variant of a feature flag at a person's first exposure (an event `feature_flag.evaluation`), from that
//! moment on. Out: conditions on rows of `events`, and joins that give each row its value. An attribute of an event cannot
//! be asked for under such a key.
//!
//! Of several values said at one instant the one received last counts, then the greatest in writing; of several exposures in
//! one millisecond the one with the least sequence number, then the least variant. So conditions and breakdowns agree.

use super::conditions::{Params, property_value};
use super::sql::PERSON;
use gemba_conventions::{attribute, event};

/// Prefix of the properties of people.
pub(crate) const USER: &str = "user:";
/// Prefix of the properties of tenants.
pub(crate) const TENANT: &str = "tenant:";
/// Prefix of the variants of feature flags.
pub(crate) const FLAG: &str = "flag:";

/// A property as the placeholder of its key.
pub(crate) enum Property {
    User(String),
    Tenant(String),
}

impl Property {
    /// The property a key names, or `None` when it is an attribute of events.
    pub(crate) fn of(key: &str, params: &mut Params) -> Option<Self> {
        match (key.strip_prefix(USER), key.strip_prefix(TENANT)) {
            (Some(key), _) => Some(Self::User(params.text(key))),
            (_, Some(key)) => Some(Self::Tenant(params.text(key))),
            _ => None,
        }
    }

    /// Whether a key names one.
    pub(crate) fn is_named_by(key: &str) -> bool {
        key.starts_with(USER) || key.starts_with(TENANT)
    }

    /// Whether the latest value has the type of this map and passes.
    pub(crate) fn test(&self, map: &str, test: impl Fn(&str) -> String) -> String {
        let key = self.key();
        let test = test(&format!("{map}[{key}]"));
        self.holders(&format!("argMax(mapContains({map}, {key}) AND {test}, {}) = 1", last_said(key)))
    }

    /// Whether there is a value, of any type.
    pub(crate) fn present(&self) -> String {
        self.holders("1")
    }

    fn key(&self) -> &str {
        match self {
            Self::User(key) | Self::Tenant(key) => key,
        }
    }

    /// Rows of those whose records of the property meet a condition.
    fn holders(&self, having: &str) -> String {
        let known = has(self.key());
        match self {
            Self::User(_) => of_people(&format!(
                "SELECT unit FROM properties WHERE project = {{project:UInt32}} AND subject = 'user' AND {known} \
                 GROUP BY unit HAVING {having}"
            )),
            Self::Tenant(_) => format!(
                "(tenant IN (SELECT tenant FROM properties WHERE project = {{project:UInt32}} AND subject = 'tenant' \
                 AND {known} GROUP BY tenant HAVING {having}))"
            ),
        }
    }
}

/// Whether a row of `properties` says something of the key.
fn has(key: &str) -> String {
    format!("(mapContains(strings, {key}) OR mapContains(numbers, {key}) OR mapContains(bools, {key}))")
}

/// What orders the rows of `properties` that say something of the key.
fn last_said(key: &str) -> String {
    format!("(time, received, {})", property_value(key))
}

/// Whether the unit of a row is one of these people, or an anonymous one that turned out to be one of them. `people` is a
/// statement with one column, `unit`.
pub(crate) fn of_people(people: &str) -> String {
    format!(
        "(unit IN ({people}) OR unit IN (SELECT anonymous FROM (SELECT anonymous, argMin(person, (time, person)) AS person \
         FROM identity_links WHERE project = {{project:UInt32}} GROUP BY anonymous) AS linked WHERE person IN ({people})))"
    )
}

/// Whether the value of this key is joined to rows and not computed from them.
pub(crate) fn is_joined(key: &str) -> bool {
    [USER, TENANT, FLAG].iter().any(|prefix| key.starts_with(prefix))
}

/// A value that is joined.
pub(crate) struct Joined {
    /// The JOIN, onto `fitting` (with `unit`, `tenant`, `time_ms`) joined with `links`.
    pub(crate) join: String,
    /// The value as the plan's column `value` has it.
    pub(crate) value: String,
}

/// How rows get the value of a key with a prefix; `None` for an attribute of events.
pub(crate) fn joined(key: &str, params: &mut Params) -> Option<Joined> {
    if let Some(flag) = key.strip_prefix(FLAG) {
        return Some(exposure(flag, params));
    }
    let property = Property::of(key, params)?;
    let (subject, column, on) = match &property {
        Property::User(_) => ("user", "unit", format!("{PERSON} = property.holder")),
        Property::Tenant(_) => ("tenant", "tenant", "fitting.tenant = property.holder".to_owned()),
    };
    let (known, value, last_said) = (has(property.key()), property_value(property.key()), last_said(property.key()));
    let join = format!(
        "LEFT ANY JOIN (SELECT {column} AS holder, argMax({value}, {last_said}) AS latest FROM properties \
         WHERE project = {{project:UInt32}} AND subject = '{subject}' AND {known} GROUP BY {column}) AS property ON {on}"
    );
    Some(Joined { join, value: "property.latest".to_owned() })
}

fn exposure(flag: &str, params: &mut Params) -> Joined {
    let name = params.text(event::FLAG_EVALUATION);
    let key = params.text(attribute::FLAG_KEY);
    let [variant, old] = [attribute::FLAG_VARIANT, attribute::FLAG_VARIANT_OLD].map(|key| params.text(key));
    let flag = params.text(flag);
    let join = format!(
        "LEFT ANY JOIN (SELECT if(first_link.person = 0, seen.unit, first_link.person) AS unit, \
         argMin(seen.variant, (seen.at_ms, seen.seq, seen.variant)) AS variant, min(seen.at_ms) AS at_ms FROM \
         (SELECT unit, seq, toUnixTimestamp64Milli(time) AS at_ms, \
         if(strings[{variant}] = '', strings[{old}], strings[{variant}]) AS variant FROM events AS exposures \
         WHERE project = {{project:UInt32}} AND name = {name} AND kind = 'event' AND unit != 0 \
         AND strings[{key}] = {flag} AND (strings[{variant}] != '' OR strings[{old}] != '')) AS seen \
         LEFT ANY JOIN (SELECT anonymous, argMin(person, (time, person)) AS person FROM identity_links \
         WHERE project = {{project:UInt32}} GROUP BY anonymous) AS first_link ON seen.unit = first_link.anonymous \
         GROUP BY unit) AS exposure ON {PERSON} = exposure.unit"
    );
    // An exposure of the same millisecond counts as before.
    let value = "if(exposure.unit != 0 AND fitting.time_ms >= exposure.at_ms, concat('s', exposure.variant), '')";
    Joined { join, value: value.to_owned() }
}
