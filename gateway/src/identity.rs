//! The identity of a connection.

use shared::ids::{ConnectionId, DeviceId, UserId};

/// The user, device and id of a connection that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// The id of the connection, the origin of its messages and changes.
    pub origin: ConnectionId,
}
