//! Time in the units of tokens.

/// Seconds since 1970 by this machine's clock.
pub(crate) fn unix_s() -> u64 {
    u64::try_from(shared::ids::unix_millis() / 1_000).unwrap_or(0)
}
