//! Whether a message may be recalled, looked up before the recall is sent. That it is there, and whose it is, is checked
//! again where the recall is committed; how old it may be, only here.

use std::time::Duration;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::members::Role;
use shared::mysql::{Pool, timeline};

use crate::membership::{Standing, database_away};
use crate::wire::refusal::Refusal;
use crate::wire::request::RECALL;

/// Lets `user` recall its own message for a while, and a group's owner and admins any message of the group.
///
/// # Errors
/// 400, 403, 404, 503.
pub(super) async fn check(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    standing: &Standing,
    seq: Seq,
    within: Duration,
) -> Result<(), Refusal> {
    let found = timeline::facts(pool, conversation, seq).await.map_err(|e| database_away(&e))?;
    let Some(facts) = found.filter(|_| seq > standing.floor()) else {
        return Err(Refusal::NotFound(
            "there is no message of this number: check payload.recall_seq".to_owned(),
        ));
    };
    if facts.msg_type == RECALL {
        return Err(Refusal::malformed("a recall cannot be recalled"));
    }
    if standing.access.is_some_and(|access| access.role >= Role::Admin) {
        return Ok(());
    }
    if facts.sender_id != user.as_str() {
        return Err(Refusal::Forbidden("this message is not yours".to_owned()));
    }
    let age = unix_millis().saturating_sub(facts.stored_at);
    if u128::from(age.unsigned_abs()) > within.as_millis() && age > 0 {
        let minutes = within.as_secs() / 60;
        return Err(Refusal::Forbidden(format!("messages can be recalled for {minutes} minutes only")));
    }
    Ok(())
}
