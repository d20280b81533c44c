//! Whether a message may be recalled, checked before the recall is queued.
//!
//! That the message exists, and who sent it, is checked again at the commit; its age only here.

use std::time::Duration;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::timeline::Facts;
use shared::mysql::{Pool, timeline};
use shared::permission::{Action, Permissions, RecallTarget};

use crate::wire::api_error::ApiError;

/// When a user may recall its own message. A group's owner and admins may recall any, at any time.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecallPolicy {
    /// The greatest age of the message.
    pub(super) within: Duration,
}

/// A request to recall a message.
#[derive(Debug)]
pub(super) struct Recall<'a> {
    pub(super) conversation: &'a Conversation,
    pub(super) user: &'a UserId,
    /// What the user may do in the conversation.
    pub(super) permissions: &'a Permissions,
    /// The message to recall.
    pub(super) seq: Seq,
}

impl RecallPolicy {
    /// Looks the message up, and checks that it may be recalled.
    ///
    /// # Errors
    /// 400, 403, 404, or 503 while the database is away.
    pub(super) async fn check(&self, pool: &Pool, recall: &Recall<'_>) -> Result<(), ApiError> {
        let found = timeline::facts(pool, recall.conversation, recall.seq).await;
        let target = self.target(recall, found.map_err(|error| ApiError::database(&error))?, unix_millis());
        Ok(recall.permissions.check(Action::Recall(target), unix_millis)?)
    }

    /// What the rule of permissions has to know about the message; `None` if the user sees no such message.
    fn target(&self, recall: &Recall<'_>, found: Option<Facts>, now_ms: i64) -> Option<RecallTarget> {
        let facts = found.filter(|_| recall.seq > recall.permissions.floor())?;
        let limit_ms = u64::try_from(self.within.as_millis()).unwrap_or(u64::MAX);
        // Negative if the clock was set back: then the message is new.
        let age_ms = u64::try_from(now_ms.saturating_sub(facts.stored_at)).unwrap_or(0);
        Some(RecallTarget {
            is_recall: facts.is_recall,
            is_own: facts.sender_id == recall.user.as_str(),
            expired_after_ms: (age_ms > limit_ms).then_some(limit_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_to_recall_is_visible_own_and_recent_or_not() {
        let target = |floor: u64, sender: &str, is_recall, stored_at| {
            let mut permissions = Permissions::of_participant(false);
            permissions.history.floor = Seq(floor);
            let recall = Recall {
                conversation: &Conversation::from_key("group_1").unwrap(),
                user: &UserId::parse("alice").unwrap(),
                permissions: &permissions,
                seq: Seq(7),
            };
            let facts = Facts { sender_id: sender.to_owned(), is_recall, stored_at };
            RecallPolicy { within: Duration::from_secs(120) }.target(&recall, Some(facts), 1_000_000)
        };
        let found =
            |is_recall, is_own, expired_after_ms| Some(RecallTarget { is_recall, is_own, expired_after_ms });
        assert_eq!(target(0, "alice", false, 880_000), found(false, true, None));
        assert_eq!(target(0, "alice", false, 879_999), found(false, true, Some(120_000)));
        assert_eq!(target(0, "alice", false, 2_000_000), found(false, true, None), "the clock was set back");
        assert_eq!(target(6, "bob", false, 1_000_000), found(false, false, None));
        assert_eq!(target(7, "alice", false, 1_000_000), None);
        assert_eq!(target(0, "alice", true, 1_000_000), found(true, true, None));
    }
}
