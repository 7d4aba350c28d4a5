//! What can go wrong between Gemba and ClickHouse, and whether trying the same again can help.
//!
//! In: an error of the `clickhouse` crate. Out: a [`StoreError`]. Knows nothing of HTTP answers to clients.

use thiserror::Error;

/// Why ClickHouse did not do what it was asked.
///
/// For an insert every variant leaves the outcome open: the block may be stored. Only counting tells.
#[derive(Debug, Error)]
pub enum StoreError {
    /// No answer: refused, reset, cut off in the middle.
    #[error("clickhouse cannot be reached")]
    Unreachable(#[source] clickhouse::error::Error),
    /// No answer in time.
    #[error("clickhouse did not answer in time")]
    Timeout,
    /// ClickHouse answered with an error.
    #[error("clickhouse refused: {message}")]
    Refused {
        /// ClickHouse's error code; 0 where the answer names none.
        code: u32,
        /// ClickHouse's text, cut to 2,000 bytes.
        message: String,
    },
    /// A read query came to one of its own limits; asking the same again cannot help.
    #[error("the question came to its limit of {limit}")]
    TooHeavy {
        /// ClickHouse's error code.
        code: u32,
        /// Of what.
        limit: &'static str,
    },
    /// The answer could not be read, or the request could not be built: a mistake on our side.
    #[error("the answer of clickhouse does not fit the question")]
    Unexpected(#[source] clickhouse::error::Error),
    /// The rows of a read query are not the JSON they should be.
    #[error("the rows clickhouse sent cannot be read: {0}")]
    Answer(String),
    /// A block was not encoded to its end.
    #[error("a block broke off while it was encoded")]
    BrokeOff,
    /// Rows are stored, but not on so many servers of a cluster that a disk may be lost.
    #[error("{having} of {replicas} replicas have what was inserted, which is not most of them")]
    FewReplicas {
        /// How many have it.
        having: u64,
        /// How many there are.
        replicas: u64,
    },
    /// A statement that was to be stopped still ran when the time was up.
    #[error("statement {query_id} still runs after it was told to stop")]
    StillRunning {
        /// The statement's id.
        query_id: String,
    },
}

/// ClickHouse's codes (src/Common/ErrorCodes.cpp) for states that pass by themselves or by an operator's hand without
/// the statement being wrong.
const PASSING_CODES: &[u32] = &[
    3,   // UNEXPECTED_END_OF_FILE: the request was cut off
    32,  // ATTEMPT_TO_READ_AFTER_EOF: the same, seen by another parser
    74,  // CANNOT_READ_FROM_FILE_DESCRIPTOR
    75,  // CANNOT_WRITE_TO_FILE_DESCRIPTOR: a full disk among others
    76,  // CANNOT_OPEN_FILE
    95,  // CANNOT_READ_FROM_SOCKET
    96,  // CANNOT_WRITE_TO_SOCKET
    99,  // UNKNOWN_PACKET_FROM_CLIENT
    159, // TIMEOUT_EXCEEDED
    160, // TOO_SLOW
    164, // READONLY
    173, // CANNOT_ALLOCATE_MEMORY
    198, // DNS_ERROR
    201, // QUOTA_EXCEEDED
    202, // TOO_MANY_SIMULTANEOUS_QUERIES
    203, // NO_FREE_CONNECTION
    209, // SOCKET_TIMEOUT
    210, // NETWORK_ERROR
    225, // NO_ZOOKEEPER
    236, // ABORTED
    241, // MEMORY_LIMIT_EXCEEDED
    242, // TABLE_IS_READ_ONLY
    243, // NOT_ENOUGH_SPACE
    252, // TOO_MANY_PARTS
    254, // NO_ACTIVE_REPLICAS
    279, // ALL_CONNECTION_TRIES_FAILED
    285, // TOO_FEW_LIVE_REPLICAS
    286, // UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
    289, // REPLICA_IS_NOT_IN_QUORUM
    305, // STALE_REPLICA_DISALLOWED_FOR_QUORUM
    319, // UNKNOWN_STATUS_OF_INSERT
    335, // CANNOT_STAT: the disk failed a read
    394, // QUERY_WAS_CANCELLED
    397, // CANNOT_SCHEDULE_FILE_REQUEST
    415, // ALL_REPLICAS_LOST
    439, // CANNOT_SCHEDULE_TASK
    473, // DEADLOCK_AVOIDED
    574, // DISTRIBUTED_TOO_MANY_PENDING_BYTES
    700, // USER_EXPIRED: an operator can mend it while the statement stays right
    733, // TABLE_IS_BEING_RESTARTED
    999, // KEEPER_EXCEPTION
];

/// Codes that say that nothing can be stored until somebody acts, whatever the table.
const STORE_CODES: &[u32] = &[
    81,  // UNKNOWN_DATABASE
    192, // UNKNOWN_USER
    193, // WRONG_PASSWORD
    194, // REQUIRED_PASSWORD
    291, // DATABASE_ACCESS_DENIED
    497, // ACCESS_DENIED
    516, // AUTHENTICATION_FAILED
];

/// Codes that say that one table is not as it should be: whatever rows are sent, they are refused.
const TABLE_CODES: &[u32] = &[
    8,   // THERE_IS_NO_COLUMN
    10,  // NOT_FOUND_COLUMN_IN_BLOCK
    16,  // NO_SUCH_COLUMN_IN_TABLE
    46,  // UNKNOWN_FUNCTION
    47,  // UNKNOWN_IDENTIFIER
    48,  // NOT_IMPLEMENTED
    50,  // UNKNOWN_TYPE
    53,  // TYPE_MISMATCH
    60,  // UNKNOWN_TABLE
    62,  // SYNTAX_ERROR
    115, // UNKNOWN_SETTING
    218, // TABLE_IS_DROPPED
];

/// What stands in the way of a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Something that passes by itself: the same statement may succeed later.
    Passing,
    /// The whole store, until somebody acts: a wrong password, no such database.
    Store,
    /// One table, until somebody acts: it is missing, or a column is of another type.
    Table,
    /// The rows, as far as the code tells.
    Rows,
}

impl StoreError {
    /// What stands in the way.
    pub fn obstacle(&self) -> Obstacle {
        match self {
            Self::Unreachable(_)
            | Self::Timeout
            | Self::BrokeOff
            | Self::StillRunning { .. }
            | Self::FewReplicas { .. } => Obstacle::Passing,
            Self::Refused { code, .. } if PASSING_CODES.contains(code) => Obstacle::Passing,
            Self::Refused { code, .. } if STORE_CODES.contains(code) => Obstacle::Store,
            Self::Refused { code, .. } if TABLE_CODES.contains(code) => Obstacle::Table,
            Self::Refused { .. } | Self::TooHeavy { .. } => Obstacle::Rows,
            Self::Unexpected(_) | Self::Answer(_) => Obstacle::Store,
        }
    }

    /// Whether the same statement may succeed later without anybody changing it.
    ///
    /// False means that somebody must act (a table is missing, a type differs, a password is wrong) or that rows are
    /// refused for good; the pipeline still keeps such a block.
    pub fn is_retryable(&self) -> bool {
        self.obstacle() == Obstacle::Passing
    }

    /// The same, of a read query: a limit that passes for an insert, since another moment may be better, is the query's own.
    #[must_use]
    pub(super) fn of_question(self) -> Self {
        let Self::Refused { code, ref message } = self else { return self };
        let limit = match code {
            159 => "time",
            // Where it is the memory of the whole server, others take it, and another moment may be better.
            241 if !message.contains("(total)") => "memory",
            396 if message.contains("temporary files") => "room on disk for what does not fit into memory",
            396 => "rows in the answer",
            _ => return self,
        };
        Self::TooHeavy { code, limit }
    }

    /// ClickHouse's error code, where it answered with one.
    pub fn code(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } | Self::TooHeavy { code, .. } => Some(*code),
            _ => None,
        }
    }
}

impl From<clickhouse::error::Error> for StoreError {
    fn from(error: clickhouse::error::Error) -> Self {
        use clickhouse::error::Error;
        match error {
            Error::TimedOut => Self::Timeout,
            Error::BadResponse(text) => refused(&text),
            Error::Network(_) => Self::Unreachable(error),
            other => Self::Unexpected(other),
        }
    }
}

/// The answer `Code: 60. DB::Exception: ...` taken apart.
///
/// A text without a code comes from something in between (a proxy's 502, a server going down): code 0 would not be
/// retryable, so those become code 210, network error.
fn refused(text: &str) -> StoreError {
    const NETWORK_ERROR: u32 = 210;
    let code = text
        .find("Code: ")
        .map(|at| text[at + 6..].bytes().take_while(u8::is_ascii_digit).collect::<Vec<u8>>())
        .and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok())
        .unwrap_or(NETWORK_ERROR);
    let end = text.floor_char_boundary(2_000);
    StoreError::Refused { code, message: text[..end].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clickhouse::error::Error;

    #[test]
    fn whether_a_retry_can_help_follows_from_the_kind_of_error() {
        let table: &[(Error, bool)] = &[
            (Error::Network("connection refused".into()), true),
            (Error::TimedOut, true),
            (Error::BadResponse("Code: 252. DB::Exception: Too many parts".to_owned()), true),
            (Error::BadResponse("Code: 241. DB::Exception: memory limit".to_owned()), true),
            (Error::BadResponse("Code: 242. DB::Exception: Table is in readonly mode".to_owned()), true),
            (Error::BadResponse("Code: 243. DB::Exception: Cannot reserve 1 MiB".to_owned()), true),
            (Error::BadResponse("Code: 394. DB::Exception: Query was cancelled".to_owned()), true),
            (Error::BadResponse("502 Bad Gateway".to_owned()), true),
            (Error::BadResponse("Code: 60. DB::Exception: Table does not exist".to_owned()), false),
            (Error::BadResponse("Code: 16. DB::Exception: No such column".to_owned()), false),
            (Error::BadResponse("Code: 53. DB::Exception: Type mismatch".to_owned()), false),
            (Error::BadResponse("Code: 516. DB::Exception: Authentication failed".to_owned()), false),
            (Error::RowNotFound, false),
        ];
        for (error, retryable) in table {
            let text = error.to_string();
            let mapped = match error {
                Error::Network(_) => StoreError::from(Error::Network(text.clone().into())),
                Error::TimedOut => StoreError::from(Error::TimedOut),
                Error::BadResponse(text) => StoreError::from(Error::BadResponse(text.clone())),
                _ => StoreError::from(Error::RowNotFound),
            };
            assert_eq!(mapped.is_retryable(), *retryable, "{text}");
        }
    }

    #[test]
    fn a_refusal_tells_what_stands_in_the_way() {
        for (code, obstacle) in [
            (252, Obstacle::Passing),
            (516, Obstacle::Store),
            (81, Obstacle::Store),
            (60, Obstacle::Table),
            (16, Obstacle::Table),
            (469, Obstacle::Rows),
            (131, Obstacle::Rows),
        ] {
            let error = StoreError::from(Error::BadResponse(format!("Code: {code}. DB::Exception: no")));
            assert_eq!(error.obstacle(), obstacle, "{code}");
        }
        assert_eq!(StoreError::from(Error::RowNotFound).obstacle(), Obstacle::Store);
    }

    #[test]
    fn the_code_is_read_from_clickhouse_s_text() {
        let error = StoreError::from(Error::BadResponse("Code: 60. DB::Exception: gone".to_owned()));
        assert_eq!(error.code(), Some(60));
    }
}
