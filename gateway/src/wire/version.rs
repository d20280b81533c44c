//! The version of the protocol.

/// The version that replies to a login and `GET /api` have. Within one version, commands, fields, message types, event types
/// and error situations are only added.
pub(crate) const PROTOCOL: u32 = 1;
