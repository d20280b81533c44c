//! Errors of the client.

use crate::message::Refusal;
use crate::store::StoreError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server refused it for good, or asks for a longer wait than a call has.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server was not reached. A call that changes something may have been done.
    #[error("the server was not reached: {0}")]
    Unreachable(String),
    /// The store failed.
    #[error("the store failed: {0}")]
    Store(StoreError),
    /// The store belongs to another user.
    #[error("the store belongs to {kept}, not to {user}: give each user a store of its own")]
    OtherUser {
        /// The user of the store.
        kept: String,
        /// The user who logged in.
        user: String,
    },
    /// The client's settings make no sense.
    #[error("{0}")]
    Settings(String),
    /// The client was stopped.
    #[error("the client was stopped")]
    Stopped,
}
