//! The operator's key.

use shared::config::Secret;
use subtle::ConstantTimeEq as _;

/// Recognizes the operator by its key, which is compared in constant time and never shown.
#[derive(Debug)]
pub(crate) struct OperatorKey(Secret);

impl OperatorKey {
    /// An empty `key` matches no key.
    #[must_use]
    pub(crate) fn new(key: Secret) -> Self {
        Self(key)
    }

    /// Whether `given` is the key.
    #[must_use]
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        !self.0.is_empty() && bool::from(self.0.expose().as_bytes().ct_eq(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_key_matches_and_an_empty_one_never() {
        let key = OperatorKey::new("0123456789".into());
        assert!(key.matches(b"0123456789"));
        for wrong in [&b""[..], b"012345678", b"01234567890", b"0123456780"] {
            assert!(!key.matches(wrong));
        }
        assert!(!OperatorKey::new(Secret::default()).matches(b""));
    }
}
