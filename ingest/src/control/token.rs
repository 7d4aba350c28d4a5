//! Keys: random 256-bit tokens, of which only the SHA-256 is kept.
//!
//! In: nothing, or a token somebody presents. Out: a new token, or its hash. Does not know which project a key belongs
//! to. A hash without stretching is enough here, because a token is random in all its 256 bits and cannot be guessed
//! from a list.

use super::{ControlError, Role};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use subtle::ConstantTimeEq;

/// SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of `token`. Never blocks.
    pub(crate) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// The hash written as 64 hexadecimal digits, or `None`.
    pub(crate) fn from_hex(hex: &str) -> Option<Self> {
        Some(Self(bytes_of_hex(hex)?))
    }

    /// 64 hexadecimal digits.
    pub(crate) fn to_hex(self) -> String {
        to_hex(&self.0)
    }

    /// Whether both are equal, in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// A new token whose prefix tells its role: `gi_` ingest, `gr_` read, `ga_` admin, then 64 hexadecimal digits.
pub(crate) fn generate(role: Role) -> Result<String, ControlError> {
    let prefix = match role {
        Role::Ingest => "gi_",
        Role::Read => "gr_",
        Role::Admin => "ga_",
    };
    Ok(format!("{prefix}{}", to_hex(&random::<32>()?)))
}

/// Random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], ControlError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(ControlError::Random)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits, two a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
    }
    text
}

/// The bytes behind exactly `2 * N` hexadecimal digits, or `None`.
pub(crate) fn bytes_of_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_shows_its_role_and_hashes_to_what_its_hex_reads_back() {
        let token = generate(Role::Read).unwrap();
        assert!(token.starts_with("gr_"));
        assert_eq!(token.len(), 3 + 64);
        let hash = TokenHash::of(&token);
        assert_eq!(TokenHash::from_hex(&hash.to_hex()), Some(hash));
        assert!(hash.matches(&TokenHash::of(&token)));
        assert!(!hash.matches(&TokenHash::of("gr_")));
    }

    #[test]
    fn two_tokens_differ() {
        assert_ne!(generate(Role::Ingest).unwrap(), generate(Role::Ingest).unwrap());
    }

    #[test]
    fn text_that_is_not_hex_of_the_length_is_refused() {
        assert_eq!(bytes_of_hex::<2>("0aFF"), Some([0x0a, 0xff]));
        for bad in ["", "0a", "0aF", "0aFF0", "0aFg", "+a-f", "äö"] {
            assert_eq!(bytes_of_hex::<2>(bad), None, "{bad}");
        }
    }
}
