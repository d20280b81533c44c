//! The name under which a device and its push service replace one message by the next.

use aws_lc_rs::digest::{SHA256, digest};

use crate::base64url;

/// 24 bytes are 32 characters of base64url, the longest `Topic` (RFC 8030 §5.4). APNs allows 64 bytes.
const HASH_BYTES: usize = 24;

/// A newer message with the same key replaces an older one: at the push service while it is not delivered, and on the
/// screen afterwards. 32 characters that are allowed in a `Topic` of Web Push, an `apns-collapse-id` and a `collapse_key`
/// of FCM.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CollapseKey(String);

impl CollapseKey {
    /// The key for what `name` names, such as a conversation: a part of its SHA-256, so that its length is fixed and the
    /// push service does not see the name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = digest(&SHA256, name.as_bytes());
        Self(base64url::encode(&hash.as_ref()[..HASH_BYTES]))
    }

    /// Its characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_32_characters_of_base64url() {
        for name in ["", "private_alice_bob", &"x".repeat(10_000)] {
            let key = CollapseKey::of(name);
            assert_eq!(key.as_str().len(), 32);
            assert!(key.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        }
        assert_eq!(CollapseKey::of("a"), CollapseKey::of("a"));
        assert_ne!(CollapseKey::of("a"), CollapseKey::of("b"));
    }
}
