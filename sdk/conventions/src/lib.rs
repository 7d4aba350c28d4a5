//! The names Gemba uses on the wire, and the closed sets behind them.
//!
//! This crate is the only place that spells an attribute, an event name or a reason of loss; the SDK writes them, the
//! server reads them, the saved queries and the tests quote them. It holds constants and small closed enums, no logic,
//! no I/O and no dependencies.
//!
//! Names under `gemba.` are ours. All others belong to OpenTelemetry's semantic conventions (1.44 line) and are
//! spelled here only so that an unstable one has a single home.

/// Names of the log records the SDK sends; they travel as `event_name` of an OTLP log record.
pub mod event {
    /// A feature was used once.
    pub const FEATURE_USED: &str = "gemba.feature.used";
    /// An attempt at a feature began.
    pub const FEATURE_STARTED: &str = "gemba.feature.started";
    /// An attempt at a feature ended, with an [`Outcome`](crate::Outcome).
    pub const FEATURE_ENDED: &str = "gemba.feature.ended";
    /// A step of a funnel was reached.
    pub const FUNNEL_STEP: &str = "gemba.funnel.step";
    /// An anonymous session or device turned out to be a user.
    pub const IDENTIFY: &str = "gemba.identify";
    /// Properties of a user; every other attribute of the record is one.
    pub const USER_SET: &str = "gemba.user.set";
    /// Properties of a tenant; every other attribute of the record is one.
    pub const TENANT_SET: &str = "gemba.tenant.set";
    /// One thing the build declares: one record per feature, funnel step and named query.
    pub const CATALOG: &str = "gemba.catalog";
    /// The text behind a query fingerprint.
    pub const QUERY_DECLARED: &str = "gemba.query.declared";
    /// The queries that ran inside one scope, attempt or step.
    pub const QUERY_USAGE: &str = "gemba.query.usage";
    /// The SDK stopped in an orderly way; carries its totals.
    pub const SDK_STOPPED: &str = "gemba.sdk.stopped";
    /// OpenTelemetry, in development: a feature flag was evaluated; the exposure of an experiment.
    pub const FLAG_EVALUATION: &str = "feature_flag.evaluation";
}

/// Names of metrics.
pub mod metric {
    /// Duration of every database query, in seconds; an exponential histogram, delta, scale 6.
    pub const QUERY_DURATION: &str = "db.client.operation.duration";
    /// Records the SDK dropped, a monotonic delta sum by [`REASON`](crate::attribute::REASON) and call site.
    pub const SDK_DROPPED: &str = "gemba.sdk.dropped";
}

/// Keys of attributes, on records, data points, spans and resources.
pub mod attribute {
    /// Name of the feature: on feature events, and on queries that ran inside a feature.
    pub const FEATURE_NAME: &str = "gemba.feature.name";
    /// Identity of one attempt; the same on its started and ended records. At most 32 characters.
    pub const ATTEMPT_ID: &str = "gemba.attempt.id";
    /// How the attempt ended: a value of [`Outcome`](crate::Outcome).
    pub const OUTCOME: &str = "gemba.outcome";
    /// True when the guard was dropped without a verdict, so that the outcome was inferred.
    pub const OUTCOME_INFERRED: &str = "gemba.outcome.inferred";
    /// Why the attempt ended so, where the outcome alone does not say: `shutdown`, `timeout`.
    pub const OUTCOME_REASON: &str = "gemba.outcome.reason";
    /// Time from the beginning to the end of an attempt, in nanoseconds.
    pub const DURATION_NS: &str = "gemba.duration_ns";
    /// When the attempt began, nanoseconds since the Unix epoch; on the ended record.
    pub const START_TIME: &str = "gemba.start_time_unix_nano";
    /// Name of the funnel.
    pub const FUNNEL_NAME: &str = "gemba.funnel.name";
    /// Name of the step inside its funnel.
    pub const STEP_NAME: &str = "gemba.step.name";
    /// The tenant (customer account) the record belongs to.
    pub const TENANT: &str = "gemba.tenant";
    /// An identifier of the same person used before sign-in; on `gemba.identify` beside `user.id`.
    pub const ANONYMOUS_ID: &str = "gemba.anonymous.id";
    /// Nanoseconds since the process started, strictly rising per thread; comparable inside one `service.instance.id`.
    pub const SEQ: &str = "gemba.seq";
    /// When the sender sent the batch, nanoseconds since the Unix epoch; a resource attribute, tells the clock skew.
    pub const SENT_TIME: &str = "gemba.sent_time";
    /// The `service.instance.id` that the host was told; a resource attribute. The SDK's own is one process start's, as
    /// [`SEQ`] wants it, and a name such as that of a pod outlives the process.
    pub const GIVEN_INSTANCE: &str = "gemba.given_instance_id";
    /// Share of the persons that are recorded, in (0, 1]; a resource attribute, absent means 1.
    pub const SAMPLE_RATE: &str = "gemba.sample_rate";

    /// What a catalogue record declares: a value of [`CatalogKind`](crate::CatalogKind).
    pub const CATALOG_KIND: &str = "gemba.catalog.kind";
    /// Name of what is declared; a step's is `FUNNEL.STEP`.
    pub const CATALOG_NAME: &str = "gemba.catalog.name";
    /// Position of a step inside its funnel, from 0.
    pub const CATALOG_POSITION: &str = "gemba.catalog.position";
    /// Earlier name of what is declared.
    pub const CATALOG_WAS: &str = "gemba.catalog.was";

    /// Fingerprint of a query: 16 lower-case hexadecimal digits, or [`OTHER`](crate::OTHER).
    pub const QUERY_FINGERPRINT: &str = "gemba.query.fingerprint";
    /// Version of the rules that made the fingerprint, an integer.
    pub const QUERY_FINGERPRINT_VERSION: &str = "gemba.query.fingerprint.version";
    /// Name the application gave a query.
    pub const QUERY_NAME: &str = "gemba.query.name";
    /// Why a span was kept as a sample: `slow`, `failed` or `ordinary`.
    pub const QUERY_SAMPLE: &str = "gemba.query.sample";

    /// On `gemba.query.usage`: fingerprints, one entry a line of the record; the arrays below run parallel to it.
    pub const USAGE_FINGERPRINTS: &str = "gemba.query.usage.fingerprints";
    /// Code line (`file:line`) that ran the query, or an empty string.
    pub const USAGE_CODE: &str = "gemba.query.usage.code";
    /// Calls.
    pub const USAGE_CALLS: &str = "gemba.query.usage.calls";
    /// Total time, nanoseconds.
    pub const USAGE_TOTAL_NS: &str = "gemba.query.usage.total_ns";
    /// Longest call, nanoseconds.
    pub const USAGE_MAX_NS: &str = "gemba.query.usage.max_ns";
    /// Rows returned or affected.
    pub const USAGE_ROWS: &str = "gemba.query.usage.rows";
    /// Calls that failed.
    pub const USAGE_ERRORS: &str = "gemba.query.usage.errors";

    /// Why a record was dropped: a value of [`DropReason`](crate::DropReason).
    pub const REASON: &str = "gemba.reason";
    /// Call site of what was dropped: `file:line name`.
    pub const CALLSITE: &str = "gemba.callsite";
    /// On `gemba.sdk.stopped`: records offered since the start.
    pub const SDK_RECORDED: &str = "gemba.sdk.recorded";
    /// On `gemba.sdk.stopped`: records the server acknowledged.
    pub const SDK_DELIVERED: &str = "gemba.sdk.delivered";
    /// On `gemba.sdk.stopped`: records written to the spool and not yet acknowledged.
    pub const SDK_SPOOLED: &str = "gemba.sdk.spooled";
    /// On `gemba.sdk.stopped`: records sent whose answer never came.
    pub const SDK_UNCONFIRMED: &str = "gemba.sdk.unconfirmed";

    /// OpenTelemetry, stable: logical name of the service.
    pub const SERVICE_NAME: &str = "service.name";
    /// OpenTelemetry, stable: version of the service; Gemba's release.
    pub const SERVICE_VERSION: &str = "service.version";
    /// OpenTelemetry, stable: namespace of the service.
    pub const SERVICE_NAMESPACE: &str = "service.namespace";
    /// OpenTelemetry, stable: one running process.
    pub const SERVICE_INSTANCE: &str = "service.instance.id";
    /// OpenTelemetry, stable: production, staging and so on.
    pub const ENVIRONMENT: &str = "deployment.environment.name";
    /// Deprecated name of [`ENVIRONMENT`], still sent.
    pub const ENVIRONMENT_OLD: &str = "deployment.environment";
    /// OpenTelemetry, development: the user.
    pub const USER_ID: &str = "user.id";
    /// OpenTelemetry, development: the user as seen by an authentication layer; second choice after `user.id`.
    pub const ENDUSER_ID: &str = "enduser.id";
    /// OpenTelemetry, development: a pseudonym of the user; third choice.
    pub const ENDUSER_PSEUDO_ID: &str = "enduser.pseudo.id";
    /// OpenTelemetry, development: the session.
    pub const SESSION_ID: &str = "session.id";
    /// OpenTelemetry, deprecated: name of an event before `event_name` was a field.
    pub const EVENT_NAME_OLD: &str = "event.name";
    /// OpenTelemetry, stable: type of the error.
    pub const ERROR_TYPE: &str = "error.type";
    /// OpenTelemetry, stable: file of the code.
    pub const CODE_FILE: &str = "code.file.path";
    /// OpenTelemetry, stable: line of the code.
    pub const CODE_LINE: &str = "code.line.number";
    /// OpenTelemetry, stable: function of the code.
    pub const CODE_FUNCTION: &str = "code.function.name";
    /// Deprecated name of [`CODE_FILE`].
    pub const CODE_FILE_OLD: &str = "code.filepath";
    /// Deprecated name of [`CODE_LINE`].
    pub const CODE_LINE_OLD: &str = "code.lineno";
    /// OpenTelemetry, in development: key of a feature flag, on the event [`super::event::FLAG_EVALUATION`].
    pub const FLAG_KEY: &str = "feature_flag.key";
    /// OpenTelemetry, in development: the variant a flag was evaluated to.
    pub const FLAG_VARIANT: &str = "feature_flag.result.variant";
    /// OpenTelemetry, in development: why a flag was evaluated so: `static`, `targeting_match`, `split`, `default`, ...
    pub const FLAG_REASON: &str = "feature_flag.result.reason";
    /// OpenTelemetry, in development: who evaluates the flag.
    pub const FLAG_PROVIDER: &str = "feature_flag.provider.name";
    /// OpenTelemetry, in development: whom or what the flag was evaluated for; often a user.
    pub const FLAG_CONTEXT: &str = "feature_flag.context.id";
    /// OpenTelemetry, in development: the set of flags it belongs to.
    pub const FLAG_SET: &str = "feature_flag.set.id";
    /// OpenTelemetry, in development: version of the rules it was evaluated by.
    pub const FLAG_VERSION: &str = "feature_flag.version";
    /// Deprecated name of [`FLAG_VARIANT`].
    pub const FLAG_VARIANT_OLD: &str = "feature_flag.variant";
    /// OpenTelemetry, stable: type of an exception, on the span event or log record `exception`.
    pub const EXCEPTION_TYPE: &str = "exception.type";
    /// OpenTelemetry, stable: database system.
    pub const DB_SYSTEM: &str = "db.system.name";
    /// Deprecated name of [`DB_SYSTEM`].
    pub const DB_SYSTEM_OLD: &str = "db.system";
    /// OpenTelemetry, stable: text of the query.
    pub const DB_QUERY_TEXT: &str = "db.query.text";
    /// Deprecated name of [`DB_QUERY_TEXT`].
    pub const DB_STATEMENT_OLD: &str = "db.statement";
    /// OpenTelemetry, stable: short form of the query.
    pub const DB_QUERY_SUMMARY: &str = "db.query.summary";
    /// OpenTelemetry, stable: database (and schema).
    pub const DB_NAMESPACE: &str = "db.namespace";
    /// Deprecated name of [`DB_NAMESPACE`].
    pub const DB_NAME_OLD: &str = "db.name";
    /// OpenTelemetry, stable: table or collection.
    pub const DB_COLLECTION: &str = "db.collection.name";
    /// Deprecated name of [`DB_COLLECTION`].
    pub const DB_SQL_TABLE_OLD: &str = "db.sql.table";
    /// OpenTelemetry, stable: operation.
    pub const DB_OPERATION: &str = "db.operation.name";
    /// Deprecated name of [`DB_OPERATION`].
    pub const DB_OPERATION_OLD: &str = "db.operation";
    /// OpenTelemetry, opt-in: rows a query returned.
    pub const DB_RETURNED_ROWS: &str = "db.response.returned_rows";
    /// OpenTelemetry, stable: the database's status code.
    pub const DB_STATUS_CODE: &str = "db.response.status_code";
    /// OpenTelemetry, stable: host of the server.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// OpenTelemetry, stable: route template of a request.
    pub const HTTP_ROUTE: &str = "http.route";
    /// OpenTelemetry, stable: method of a request.
    pub const HTTP_METHOD: &str = "http.request.method";
    /// Deprecated name of [`HTTP_METHOD`].
    pub const HTTP_METHOD_OLD: &str = "http.method";
    /// OpenTelemetry, stable: path of a request.
    pub const URL_PATH: &str = "url.path";
    /// Deprecated: path and query of a request.
    pub const HTTP_TARGET_OLD: &str = "http.target";
    /// OpenTelemetry, stable: status code of a response.
    pub const HTTP_STATUS: &str = "http.response.status_code";
    /// Deprecated name of [`HTTP_STATUS`].
    pub const HTTP_STATUS_OLD: &str = "http.status_code";
}

/// Header that makes a repeated batch recognisable: `<instance uuid>-<u64>` from our SDK, anything up to 128 visible
/// ASCII characters from others.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Series and fingerprint that collects what did not fit a bound.
pub const OTHER: &str = "other";

/// Scale of the exponential histograms the SDK sends: bucket width 2^(1/64), 1.09 %.
pub const HISTOGRAM_SCALE: i8 = 6;

/// An attempt open longer than this counts as unfinished, in milliseconds (30 minutes; design section 5).
pub const ATTEMPT_TIMEOUT_MS: u64 = 30 * 60 * 1000;

macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal => $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }

        impl $name {
            /// All members, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The member of this word, or `None`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

closed_set! {
    /// How an attempt ended. The code is the value of the column `outcome` (0 there: no outcome).
    Outcome {
        /// It did what the user wanted.
        Completed = 1 => "completed",
        /// It answered with an error.
        Failed = 2 => "failed",
        /// The user gave it up, or the guard was dropped without a verdict.
        Abandoned = 3 => "abandoned",
        /// Its future was dropped before it was ready, or the process was stopping.
        Cancelled = 4 => "cancelled",
        /// It panicked.
        Panicked = 5 => "panicked",
    }
}

closed_set! {
    /// What a row of the table `events` is. The code is the value of the column `kind`.
    EventKind {
        /// A feature was used.
        Used = 1 => "used",
        /// An attempt at a feature began.
        Started = 2 => "started",
        /// An attempt at a feature ended.
        Ended = 3 => "ended",
        /// A funnel step was reached; its name is `FUNNEL.STEP`.
        Step = 4 => "step",
        /// A named event of any other origin.
        Event = 5 => "event",
    }
}

closed_set! {
    /// What a catalogue record declares.
    CatalogKind {
        /// A feature.
        Feature = 1 => "feature",
        /// A step of a funnel.
        Step = 2 => "step",
        /// A named query.
        Query = 3 => "query",
    }
}

closed_set! {
    /// Why the SDK dropped a record. Every reason is counted by call site and travels with the data.
    DropReason {
        /// The thread's ring was full; the newest record was dropped.
        RingFull = 1 => "ring_full",
        /// No ring could be had for the thread: the limit on rings was reached.
        NoRing = 2 => "no_ring",
        /// The table of contexts was full; the record was kept without identity, this counts the missing identity.
        NoContext = 3 => "no_context",
        /// The record was larger than a ring takes.
        TooLarge = 4 => "too_large",
        /// The queue of batches was full while the server was away, and no spool took it.
        QueueFull = 5 => "queue_full",
        /// The server refused the batch for good (400, 401, 403, 413 and the like).
        Refused = 6 => "refused",
        /// The server took the batch and rejected this many of its records (partial success).
        Rejected = 7 => "rejected",
        /// The process ended before the batch could be delivered or spooled.
        Shutdown = 8 => "shutdown",
        /// The spool was full or its records too old.
        SpoolFull = 9 => "spool_full",
        /// Recorded by a parent process before a fork; the child discards what it inherited.
        Forked = 10 => "forked",
        /// A guard was bound to `_` and so ended at once.
        GuardIgnored = 11 => "guard_ignored",
        /// A spooled batch was cut short by a kill or damaged on disk; it was never sent.
        SpoolTorn = 12 => "spool_torn",
        /// Consent was withdrawn while the record waited to be sent.
        Consent = 13 => "consent",
    }
}

/// Whether `name` is a valid name of a feature, funnel or step: `[a-z0-9_]+(\.[a-z0-9_]+)*`, at most 128 bytes.
///
/// A `const fn`, so that the macros check it at compile time.
pub const fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > 128 {
        return false;
    }
    let mut index = 0;
    let mut segment_is_empty = true;
    while index < bytes.len() {
        match bytes[index] {
            b'a'..=b'z' | b'0'..=b'9' | b'_' => segment_is_empty = false,
            b'.' => {
                if segment_is_empty {
                    return false;
                }
                segment_is_empty = true;
            }
            _ => return false,
        }
        index += 1;
    }
    !segment_is_empty
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dotted_lower_case_words() {
        for good in ["a", "search.filter", "v2_checkout.step_1", "0"] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "A", "a-b", "a b", "ä"] {
            assert!(!is_valid_name(bad), "{bad}");
        }
        assert!(!is_valid_name(&"a".repeat(129)));
    }

    #[test]
    fn words_of_closed_sets_read_back() {
        for outcome in Outcome::ALL {
            assert_eq!(Outcome::parse(outcome.as_str()), Some(*outcome));
        }
        for reason in DropReason::ALL {
            assert_eq!(DropReason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Outcome::parse("Completed"), None);
    }
}
