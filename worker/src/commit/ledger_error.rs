//! The error of a commit.

use shared::conversation::Conversation;

/// Why a transaction failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// A message that was not looked up is stored already. Nothing was changed.
    #[error("a message is stored already")]
    Duplicate,
    /// A conversation is not as the last commit left it. Nothing was changed.
    #[error("a conversation was changed by another transaction")]
    Stale,
    /// Another transaction has locked these conversations. Nothing was changed.
    #[error("{} conversations are locked by other transactions", .0.len())]
    Locked(Vec<Conversation>),
    /// The store failed. Retry: messages were checked, so the batch is not the cause.
    #[error("{0}")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}
