//! What the operator's tools read: whole tables in steps, and single rows that no process needs.
//!
//! Nothing here is on the message path. Keys are returned as text, because one that is ill-formed is a finding.

mod conversations;
mod messages;
mod server;
mod users;

pub use conversations::{
    ConversationRow, GroupCounts, conversation, conversations_after, group_counts, group_readers, listed_for,
    owners, readers_among, unknown_keys, without_row,
};
pub use messages::{
    DuplicateId, StoredMessage, duplicate_ids, keys_with_messages_after, messages_with_id, seqs_after,
};
pub use server::{has_unique_ids, server_version};
pub use users::{account_created_at_ms, blocked_by, conversation_counts, revoked_before_ms};
