//! Whether a message may be recalled, looked up before the recall is sent. That it is there, and whose it is, is checked
//! again where the recall is committed; how old it may be, only here.

use std::time::Duration;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::{Pool, timeline};
use shared::permission::{Action, Permissions, RecallTarget};

use crate::wire::refusal::{Refusal, database_away};
use crate::wire::request::RECALL;

/// Lets `user` recall its own message for a while, and a group's owner and admins any message of the group.
///
/// # Errors
/// 400, 403, 404, 503.
pub(super) async fn check(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    permissions: &Permissions,
    seq: Seq,
    within: Duration,
) -> Result<(), Refusal> {
    let found = timeline::facts(pool, conversation, seq).await.map_err(|e| database_away(&e))?;
    let target = found.filter(|_| seq > permissions.floor()).map(|facts| {
        let limit_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let age_ms = u64::try_from(unix_millis().saturating_sub(facts.stored_at)).unwrap_or(0);
        RecallTarget {
            is_recall: facts.msg_type == RECALL,
            is_own: facts.sender_id == user.as_str(),
            expired_after_ms: (age_ms > limit_ms).then_some(limit_ms),
        }
    });
    Ok(permissions.check(Action::Recall(target), unix_millis)?)
}
