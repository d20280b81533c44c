//! Whether a message may be recalled, checked before the recall is queued.
//!
//! That the message exists, and who sent it, is checked again at the commit; its age only here. A message that was accepted
//! and is not stored yet is waited for: its sender may recall it as soon as it has its code 0.

use std::time::Duration;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::timeline::Facts;
use shared::mysql::{Pool, conversations, timeline};
use shared::permission::{Action, Permissions, RecallTarget};
use shared::redis::sequence::Sequence;

use super::in_flight::try_again;
use super::reseed::RESEED_MARGIN;
use crate::wire::api_error::ApiError;

/// Pauses between two looks for a message that is not stored yet.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

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
    /// Looks the message up, and checks that it may be recalled. Waits without a limit for a message that is not stored yet:
    /// the caller has a deadline.
    ///
    /// # Errors
    /// 400, 403, 404, or 503 while a store is unavailable.
    pub(super) async fn check(
        &self,
        pool: &Pool,
        sequence: &Sequence,
        recall: &Recall<'_>,
    ) -> Result<(), ApiError> {
        let found = find(pool, sequence, recall).await?;
        let target = self.target(recall, found, unix_millis());
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

/// The message to recall, as soon as it is stored; `None` if no message has or will get its number.
async fn find(pool: &Pool, sequence: &Sequence, recall: &Recall<'_>) -> Result<Option<Facts>, ApiError> {
    let Recall { conversation, seq, .. } = *recall;
    let mut pause = PAUSE_MIN;
    loop {
        let found =
            timeline::facts(pool, conversation, seq).await.map_err(|error| ApiError::database(&error))?;
        if found.is_some() {
            return Ok(found);
        }
        let last = conversations::last_seqs(pool, &[conversation]).await;
        let last = last.map_err(|error| ApiError::database(&error))?.first().copied().unwrap_or(Seq::ZERO);
        if seq <= last {
            // It may have been stored between the two statements.
            return timeline::facts(pool, conversation, seq)
                .await
                .map_err(|error| ApiError::database(&error));
        }
        let assigned = sequence.last_assigned(conversation).await.map_err(|error| {
            tracing::warn!(
                conversation.id = %conversation, %error,
                "Cannot read the sequence counter of {conversation} from Redis; a recall is refused with 503"
            );
            try_again("message numbers are not available")
        })?;
        if !may_be_in_flight(seq, last, assigned) {
            return Ok(None);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Whether a message with this number, above the last stored one, may be on its way to the database.
fn may_be_in_flight(seq: Seq, last: Seq, assigned: Option<Seq>) -> bool {
    match assigned {
        Some(assigned) => seq <= assigned,
        // Redis lost its data after it had assigned the number, or the number was never assigned.
        None => last > Seq::ZERO && seq.0 <= last.0 + RESEED_MARGIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_assigned_and_is_not_stored_may_be_in_flight() {
        for (seq, last, assigned, expected) in [
            (8, 7, Some(9), true),
            (9, 7, Some(9), true),
            (10, 7, Some(9), false),
            (8, 7, None, true),
            (1_007, 7, None, true),
            (1_008, 7, None, false),
            (1, 0, None, false),
        ] {
            let found = may_be_in_flight(Seq(seq), Seq(last), assigned.map(Seq));
            assert_eq!(found, expected, "{seq} {last} {assigned:?}");
        }
    }

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
