//! Public keys on the curve P-256.

use std::fmt;

use aws_lc_rs::agreement::{ECDH_P256, ParsedPublicKey, ParsedPublicKeyFormat, UnparsedPublicKey};

use crate::base64url;

/// Bytes of a point on P-256 in the uncompressed form (SEC 1 §2.3.3): 4, x, y.
pub(crate) const POINT_BYTES: usize = 65;

/// A public key on the curve P-256: the key of a subscription, or the public part of a VAPID key. It is written as the
/// base64url of its 65 bytes, as a browser's `applicationServerKey` and `p256dh` are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct P256PublicKey([u8; POINT_BYTES]);

impl P256PublicKey {
    /// The key with these bytes, if they are a point on the curve in the uncompressed form.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let point: [u8; POINT_BYTES] = bytes.try_into().ok()?;
        let parsed = ParsedPublicKey::try_from(UnparsedPublicKey::new(&ECDH_P256, point)).ok()?;
        let is_point = parsed.format() == ParsedPublicKeyFormat::Uncompressed && *parsed.alg() == ECDH_P256;
        is_point.then_some(Self(point))
    }

    /// The key in base64url.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_bytes(&base64url::decode(text)?)
    }

    /// Its 65 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; POINT_BYTES] {
        &self.0
    }
}

impl fmt::Display for P256PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url::encode(self.0))
    }
}

impl fmt::Debug for P256PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
