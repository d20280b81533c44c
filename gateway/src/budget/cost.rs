//! What requests cost, in units of about 10 microseconds of processor time.

/// A pull, whatever it finds: one statement, and perhaps one for the permission.
pub(crate) const PULL: u32 = 50;
/// A moved read position: four statements and a call to Redis.
pub(crate) const ACK: u32 = 100;
/// A list of read positions.
pub(crate) const POSITIONS: u32 = 60;
/// Profiles of users: two statements.
pub(crate) const PROFILES: u32 = 50;
/// A sync or a list of conversations: four statements and three calls to Redis.
pub(crate) const LIST: u32 = 100;
/// A heartbeat with a cursor: a call to Redis.
pub(crate) const HEARTBEAT: u32 = 5;
/// A login: its part of a statement for many users.
pub(crate) const LOGIN: u32 = 50;
/// An HTTP call, beside the read that it asks for.
pub(crate) const CALL: u32 = 50;
/// One entry of a list: an unread count, and perhaps the tail of its conversation.
const ENTRY: u32 = 5;
/// Messages that the database counts for one unit.
const ROWS: u64 = 20;
/// Bytes of a reply for one unit.
const BYTES: usize = 1_024;

/// A reply of this size.
pub(crate) fn of_bytes(bytes: usize) -> u32 {
    u32::try_from(bytes / BYTES).unwrap_or(u32::MAX)
}

/// The conversations or groups that had to be looked at, one unit each.
pub(crate) fn of_count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Messages that the database counts.
pub(crate) fn of_rows(count: u64) -> u32 {
    u32::try_from(count / ROWS).unwrap_or(u32::MAX)
}

/// The entries of a list.
pub(crate) fn of_entries(count: usize) -> u32 {
    of_count(count).saturating_mul(ENTRY)
}
