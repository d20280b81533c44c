//! A short hash of a message, to tell a retry from another message with the same id.

use xxhash_rust::xxh64::xxh64;

/// The kind of a message and a short hash of its content, nine decimal digits: enough to tell a retry from another message with
/// the same id. Not for security, and the same in all versions, because Redis stores it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u32);

/// The part of a fingerprint below its kind.
const HASHES: u32 = 1_000_000;
pub(super) const FINGERPRINTS: u32 = 1_000 * HASHES;

impl Fingerprint {
    /// Reads a fingerprint; `None` if the number is not one.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| *number < FINGERPRINTS).map(Self)
    }

    /// The fingerprint of a message of this kind with this text.
    pub(super) fn new(msg_type: u32, text: &str) -> Self {
        let hash = xxh64(text.as_bytes(), 0) % u64::from(HASHES);
        #[expect(clippy::cast_possible_truncation, reason = "it is below 10^6")]
        Self(msg_type.min(999) * HASHES + hash as u32)
    }

    /// The kind, at most 999.
    pub(super) fn msg_type(self) -> u32 {
        self.0 / HASHES
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:09}", self.0)
    }
}
