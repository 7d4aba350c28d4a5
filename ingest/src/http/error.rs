//! Errors of the API: the only place that turns an error of the core into a status, a code word and advice.
//!
//! The client gets an external message and a hint; the log gets the whole chain. The core's errors know nothing of HTTP.

use super::{Response, json_response};
use crate::answer::{Format, UnknownFormat};
use crate::control::{ControlError, MAX_NAME_BYTES};
use crate::http::body::BodyError;
use crate::nodes::NodesError;
use crate::store::StoreError;
use crate::store::archive::ArchiveError;
use crate::store::funnel::SavedError;
use crate::store::leases::LeaseError;
use crate::throttle::Throttle;
use gemba_queries::ParamError;
use gemba_queries::funnel::FunnelError;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// ClickHouse's code (src/Common/ErrorCodes.cpp).
const BACKUP_ALREADY_EXISTS: u32 = 598;
/// Seconds after which a client is asked to try again when nothing better is known.
pub const RETRY_AFTER_SECONDS: u64 = 1;

/// An error as the API tells it: `{"error":{"code","message","hint"}}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Status of the answer.
    pub status: StatusCode,
    /// A word that programs can rely on, `snake_case`.
    pub code: &'static str,
    /// What was wrong, for a person.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl ApiError {
    /// An error with all its parts.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), hint: hint.into() }
    }

    /// 404 for a path that names nothing.
    pub fn not_found(path: &str) -> Self {
        let hint = "data goes to /v1/logs, /v1/traces and /v1/metrics; questions to /api/v1/queries";
        Self::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {path}"), hint)
    }

    /// 405 for a path that exists; `allowed` as in the header `Allow`.
    pub fn method_not_allowed(allowed: &str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not take that method",
            format!("use {allowed}"),
        )
    }

    /// 400 for a request that cannot be understood.
    pub fn bad_request(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message, hint)
    }

    /// 500: something only the operator can mend. The details go to the log.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        internal(error)
    }

    /// The answer.
    pub fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code, "message": self.message, "hint": self.hint}});
        let mut response = json_response(self.status, &body);
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                if let Ok(allowed) = HeaderValue::from_str(self.hint.trim_start_matches("use ")) {
                    headers.insert(header::ALLOW, allowed);
                }
            }
            _ => {}
        }
        response
    }
}

/// The chain of an error in one line, outermost first.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let (status, code, hint) = match &error {
            BodyError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "send smaller batches"),
            BodyError::TooSlow => (StatusCode::SERVICE_UNAVAILABLE, "body_too_slow", "send it again"),
            BodyError::NoRoom => (StatusCode::SERVICE_UNAVAILABLE, "busy", "send it again a little later"),
            BodyError::BrokeOff(_) => (StatusCode::BAD_REQUEST, "body_cut", "send it again"),
            BodyError::UnknownEncoding(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unknown_encoding", "use gzip, zstd or none")
            }
            BodyError::Damaged(_) => {
                (StatusCode::BAD_REQUEST, "damaged_body", "check that Content-Encoding says what was sent")
            }
        };
        Self::new(status, code, chain(&error), hint)
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let (status, code, hint) = match &error {
            ControlError::InvalidName(_) => (
                StatusCode::BAD_REQUEST,
                "invalid_name",
                format!(
                    "a name is lower-case letters, digits, _ and -, begins with a letter or digit, at most {MAX_NAME_BYTES} characters"
                ),
            ),
            ControlError::NameTaken(_) => (StatusCode::CONFLICT, "name_taken", "choose another name".to_owned()),
            ControlError::NoSuchProject(_) => {
                (StatusCode::NOT_FOUND, "unknown_project", "GET /api/v1/projects lists them".to_owned())
            }
            ControlError::NoClass => {
                (StatusCode::CONFLICT, "no_class", "use a length that another project has already".to_owned())
            }
            ControlError::Protected(_) => {
                (StatusCode::CONFLICT, "protected_project", "Gemba records its own use in it".to_owned())
            }
            ControlError::Store(_) | ControlError::NothingToStartFrom(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "store_away", "ClickHouse does not answer; try again".to_owned())
            }
            _ => return internal(&error),
        };
        Self::new(status, code, error.to_string(), hint)
    }
}

impl From<ParamError> for ApiError {
    fn from(error: ParamError) -> Self {
        let hint = "GET /api/v1/queries tells every parameter with its meaning, default and range";
        Self::new(StatusCode::BAD_REQUEST, error.code(), error.to_string(), hint)
    }
}

impl From<FunnelError> for ApiError {
    fn from(error: FunnelError) -> Self {
        let code = if error.unknown_field { "unknown_field" } else { "invalid_field" };
        let hint = format!("mend {} and ask again", error.field);
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string(), hint)
    }
}

impl From<SavedError> for ApiError {
    fn from(error: SavedError) -> Self {
        match error {
            SavedError::Question(error) => error.into(),
            SavedError::Store(error) => error.into(),
        }
    }
}

impl From<UnknownFormat> for ApiError {
    fn from(error: UnknownFormat) -> Self {
        let hint = format!("formats: {}", Format::WORDS.join(", "));
        Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", error.to_string(), hint)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if let StoreError::TooHeavy { .. } = error {
            let hint = "ask about a shorter range, or for fewer groups or rows";
            return Self::new(StatusCode::UNPROCESSABLE_ENTITY, "question_too_heavy", error.to_string(), hint);
        }
        if error.is_retryable() {
            let hint = "ClickHouse does not answer or is busy; try again";
            return Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", error.to_string(), hint);
        }
        internal(&error)
    }
}

impl From<LeaseError> for ApiError {
    fn from(error: LeaseError) -> Self {
        let message = error.to_string();
        let (code, hint) = match error {
            LeaseError::Store(error) => return error.into(),
            LeaseError::Held(_) => ("busy_elsewhere", "nothing was begun; send it again when the other node is done"),
            LeaseError::Lost(_) => ("store_away", "send it again: what was begun is finished then"),
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message, hint)
    }
}

impl From<NodesError> for ApiError {
    fn from(error: NodesError) -> Self {
        match error {
            NodesError::Lease(error) => error.into(),
            NodesError::Silent(_) => {
                let hint = "send it again when all nodes store; a node that was killed counts as gone after a minute";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "other_nodes_behind", error.to_string(), hint)
            }
        }
    }
}

impl From<ArchiveError> for ApiError {
    fn from(error: ArchiveError) -> Self {
        let (status, code) = match &error {
            ArchiveError::Name(_) => (StatusCode::BAD_REQUEST, "invalid_name"),
            ArchiveError::Cluster => (StatusCode::BAD_REQUEST, "not_on_a_cluster"),
            ArchiveError::Changed { .. } => (StatusCode::CONFLICT, "changed_meanwhile"),
            ArchiveError::Store(StoreError::Refused { code: BACKUP_ALREADY_EXISTS, .. }) => {
                return Self::new(
                    StatusCode::CONFLICT,
                    "name_taken",
                    "there is a backup of this name",
                    "choose another name",
                );
            }
            _ => return internal(&error),
        };
        Self::new(status, code, error.to_string(), error.hint())
    }
}

/// 500: something only the operator can mend. The details go to the log.
fn internal(error: &(dyn std::error::Error + 'static)) -> ApiError {
    static LINES: Throttle = Throttle::new();
    if let Some(left_out) = LINES.pass() {
        tracing::error!(error = chain(error), left_out, "a request of the API failed");
    }
    let status = StatusCode::INTERNAL_SERVER_ERROR;
    ApiError::new(status, "internal", "the server could not do it", "its log says why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passing_faults_can_be_retried_and_say_when() {
        for error in [ApiError::from(BodyError::NoRoom), ApiError::from(StoreError::Timeout)] {
            let response = error.into_response();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        }
    }

    #[test]
    fn what_somebody_must_mend_is_internal_and_keeps_its_details_in_the_log() {
        let error = ApiError::from(StoreError::Refused { code: 60, message: "secret table".into() });
        assert_eq!((error.status, error.code), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
        assert!(!error.message.contains("secret"));
    }

    #[test]
    fn a_wrong_method_names_the_right_ones_in_the_header_too() {
        let response = ApiError::method_not_allowed("GET, POST").into_response();
        assert_eq!(response.headers()[header::ALLOW], "GET, POST");
    }
}
