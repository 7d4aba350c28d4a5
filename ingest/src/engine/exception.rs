//! Errors as a ClickHouse server words them. Pure.

use http::StatusCode;

/// 16 letters no result holds by chance.
pub(super) fn exception_tag() -> String {
    let mut bytes = [0; 16];
    // Without randomness the tag can be guessed, which only matters to who writes it into their own data.
    getrandom::fill(&mut bytes).ok();
    bytes.iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

/// The number in `Code: N. ...`; 1001 (`STD_EXCEPTION`) when there is none.
pub(super) fn exception_code(message: &str) -> i32 {
    message
        .strip_prefix("Code: ")
        .and_then(|rest| rest.split('.').next())
        .and_then(|code| code.trim().parse().ok())
        .unwrap_or(1001)
}

/// The engine's message in the words of a server: with its version, and a line end.
pub(super) fn exception_text(message: &str, version: &str) -> String {
    let message = message.trim_end();
    let message = message.strip_suffix(&format!(" (version {version})")).unwrap_or(message);
    format!("{message} (version {version} (official build))\n")
}

/// Status of an error, as ClickHouse maps its codes (`exceptionCodeToHTTPStatus`).
pub(super) fn status_of(code: i32) -> StatusCode {
    match code {
        // Cannot parse, bad types, syntax.
        6 | 25 | 26 | 27 | 36 | 38 | 41 | 43 | 44 | 51 | 53 | 62 | 70 | 72 | 117 | 167 | 168 | 321 | 427 | 441
        | 457 | 467 => StatusCode::BAD_REQUEST,
        // Unknown names.
        16 | 46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 336 | 372 => StatusCode::NOT_FOUND,
        159 => StatusCode::REQUEST_TIMEOUT,
        192 | 193 | 497 | 516 => StatusCode::FORBIDDEN,
        194 => StatusCode::UNAUTHORIZED,
        48 | 344 => StatusCode::NOT_IMPLEMENTED,
        202 | 209 | 252 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_like_a_servers() {
        let text = exception_text("Code: 60. DB::Exception: Unknown table x. (UNKNOWN_TABLE)", "26.7.2.1");
        assert_eq!(
            text,
            "Code: 60. DB::Exception: Unknown table x. (UNKNOWN_TABLE) (version 26.7.2.1 (official build))\n"
        );
        let text = exception_text("Code: 27. DB::Exception: y. (Z) (version 26.7.2.1)", "26.7.2.1");
        assert_eq!(text, "Code: 27. DB::Exception: y. (Z) (version 26.7.2.1 (official build))\n");
        assert_eq!(exception_code(&text), 27);
        assert_eq!(exception_code("odd"), 1001);
        assert_eq!(status_of(60), StatusCode::NOT_FOUND);
    }
}
