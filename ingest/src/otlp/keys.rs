//! The attributes that mean something to Gemba, found by comparing bytes: first the length, then the few of that length.

use super::value::Value;
use crate::rows::same;
use gemba_conventions::attribute as name;

macro_rules! keys {
    ($($key:ident = $name:expr),+ $(,)?) => {
        /// An attribute with a meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum Key { $($key),+ }

        const ALL: &[(&str, Key)] = &[$(($name, Key::$key)),+];
    };
}

keys! {
    UserId = name::USER_ID,
    EnduserId = name::ENDUSER_ID,
    EnduserPseudoId = name::ENDUSER_PSEUDO_ID,
    SessionId = name::SESSION_ID,
    AnonymousId = name::ANONYMOUS_ID,
    Tenant = name::TENANT,
    Feature = name::FEATURE_NAME,
    Attempt = name::ATTEMPT_ID,
    Seq = name::SEQ,
    Outcome = name::OUTCOME,
    OutcomeInferred = name::OUTCOME_INFERRED,
    OutcomeReason = name::OUTCOME_REASON,
    DurationNs = name::DURATION_NS,
    StartTime = name::START_TIME,
    Funnel = name::FUNNEL_NAME,
    Step = name::STEP_NAME,
    ErrorType = name::ERROR_TYPE,
    EventNameOld = name::EVENT_NAME_OLD,
    CatalogKind = name::CATALOG_KIND,
    CatalogName = name::CATALOG_NAME,
    CatalogPosition = name::CATALOG_POSITION,
    CatalogWas = name::CATALOG_WAS,
    Fingerprint = name::QUERY_FINGERPRINT,
    FingerprintVersion = name::QUERY_FINGERPRINT_VERSION,
    QueryName = name::QUERY_NAME,
    QuerySample = name::QUERY_SAMPLE,
    UsageFingerprints = name::USAGE_FINGERPRINTS,
    UsageCode = name::USAGE_CODE,
    UsageCalls = name::USAGE_CALLS,
    UsageTotalNs = name::USAGE_TOTAL_NS,
    UsageMaxNs = name::USAGE_MAX_NS,
    UsageRows = name::USAGE_ROWS,
    UsageErrors = name::USAGE_ERRORS,
    Reason = name::REASON,
    Callsite = name::CALLSITE,
    SdkRecorded = name::SDK_RECORDED,
    SdkDelivered = name::SDK_DELIVERED,
    SdkSpooled = name::SDK_SPOOLED,
    SdkUnconfirmed = name::SDK_UNCONFIRMED,
    CodeFile = name::CODE_FILE,
    CodeLine = name::CODE_LINE,
    CodeFunction = name::CODE_FUNCTION,
    CodeFileOld = name::CODE_FILE_OLD,
    CodeLineOld = name::CODE_LINE_OLD,
    DbSystem = name::DB_SYSTEM,
    DbSystemOld = name::DB_SYSTEM_OLD,
    DbQueryText = name::DB_QUERY_TEXT,
    DbStatementOld = name::DB_STATEMENT_OLD,
    DbQuerySummary = name::DB_QUERY_SUMMARY,
    DbNamespace = name::DB_NAMESPACE,
    DbNameOld = name::DB_NAME_OLD,
    DbCollection = name::DB_COLLECTION,
    DbSqlTableOld = name::DB_SQL_TABLE_OLD,
    DbOperation = name::DB_OPERATION,
    DbOperationOld = name::DB_OPERATION_OLD,
    DbReturnedRows = name::DB_RETURNED_ROWS,
    DbStatusCode = name::DB_STATUS_CODE,
    HttpRoute = name::HTTP_ROUTE,
    HttpMethod = name::HTTP_METHOD,
    HttpMethodOld = name::HTTP_METHOD_OLD,
    HttpStatus = name::HTTP_STATUS,
    HttpStatusOld = name::HTTP_STATUS_OLD,
    UrlPath = name::URL_PATH,
    HttpTargetOld = name::HTTP_TARGET_OLD,
    ExceptionType = name::EXCEPTION_TYPE,
    ServiceName = name::SERVICE_NAME,
    ServiceVersion = name::SERVICE_VERSION,
    ServiceNamespace = name::SERVICE_NAMESPACE,
    ServiceInstance = name::SERVICE_INSTANCE,
    Environment = name::ENVIRONMENT,
    EnvironmentOld = name::ENVIRONMENT_OLD,
    SentTime = name::SENT_TIME,
}

/// Longest name, in bytes.
const MAX_LENGTH: usize = 31;

/// The keys ordered by length, and for each length where its keys begin.
const BY_LENGTH: ([(&str, Key); ALL.len()], [usize; MAX_LENGTH + 2]) = {
    let mut ordered = [ALL[0]; ALL.len()];
    let mut starts = [0; MAX_LENGTH + 2];
    let (mut filled, mut length) = (0, 0);
    while length <= MAX_LENGTH {
        starts[length] = filled;
        let mut index = 0;
        while index < ALL.len() {
            assert!(ALL[index].0.len() <= MAX_LENGTH);
            if ALL[index].0.len() == length {
                ordered[filled] = ALL[index];
                filled += 1;
            }
            index += 1;
        }
        length += 1;
    }
    starts[length] = filled;
    (ordered, starts)
};

/// The key of this name.
#[inline]
pub(super) fn lookup(name: &str) -> Option<Key> {
    static ORDERED: [(&str, Key); ALL.len()] = BY_LENGTH.0;
    static STARTS: [usize; MAX_LENGTH + 2] = BY_LENGTH.1;
    let (start, end) = (*STARTS.get(name.len())?, *STARTS.get(name.len() + 1)?);
    ORDERED
        .get(start..end)?
        .iter()
        .find(|(candidate, _)| same(candidate.as_bytes(), name.as_bytes()))
        .map(|(_, key)| *key)
}

/// A set of keys.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct KeySet(u128);

impl KeySet {
    /// The set of these keys.
    pub(super) const fn of(keys: &[Key]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < keys.len() {
            bits |= 1 << keys[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// This and the other set.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the key is in it.
    #[inline]
    pub(super) fn contains(self, key: Key) -> bool {
        self.0 & (1 << key as u8) != 0
    }
}

/// The values of keys found on one record; the last of equal keys holds.
#[derive(Debug, Default)]
pub(super) struct Known<'a> {
    present: KeySet,
    values: Vec<(Key, Value<'a>)>,
}

impl<'a> Known<'a> {
    /// Forgets all, keeping the buffer.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.present = KeySet::default();
        self.values.clear();
    }

    /// Sets a key.
    #[inline]
    pub(super) fn set(&mut self, key: Key, value: Value<'a>) {
        if self.present.contains(key) {
            if let Some((_, old)) = self.values.iter_mut().find(|(known, _)| *known == key) {
                *old = value;
            }
        } else {
            self.present = self.present.and(KeySet::of(&[key]));
            self.values.push((key, value));
        }
    }

    /// The value of a key, [`Value::Empty`] when absent.
    #[inline]
    pub(super) fn get(&self, key: Key) -> Value<'a> {
        if !self.present.contains(key) {
            return Value::Empty;
        }
        self.values.iter().find(|(known, _)| *known == key).map_or(Value::Empty, |(_, value)| *value)
    }

    /// The text of a key, empty when absent or of another type.
    #[inline]
    pub(super) fn text(&self, key: Key) -> &'a str {
        match self.get(key) {
            Value::Text(text) => text,
            _ => "",
        }
    }

    /// The word of a key (see [`Value::word`]), empty when absent.
    #[inline]
    pub(super) fn word(&self, key: Key) -> std::borrow::Cow<'a, str> {
        self.get(key).word().unwrap_or_default()
    }

    /// The text of the first of these keys that has one: the stable name before the old ones.
    pub(super) fn first_text(&self, keys: &[Key]) -> &'a str {
        keys.iter().map(|key| self.text(*key)).find(|text| !text.is_empty()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_name_and_by_no_other() {
        for (name, key) in ALL {
            assert_eq!(lookup(name), Some(*key), "{name}");
            assert_eq!(lookup(&name.to_uppercase()), None);
            assert_eq!(lookup(&format!("{name}.")), None);
        }
        assert_eq!(lookup(""), None);
        assert_eq!(lookup(&"a".repeat(1000)), None);
    }
}
