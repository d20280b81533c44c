//! The message that another one recalls, edits, answers, or reacts to, checked before it is queued.
//!
//! What a message may change is checked again at the commit; the age of a message to recall or edit, whether its sender may
//! see it, and a message to answer only here. A message that was accepted and is not stored yet is waited for: its sender
//! may recall it as soon as it has its code 0. Reactions and pins are many, and cost no query here: their senders are
//! answered at the commit.

use std::time::Duration;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId, unix_millis};
use shared::message::{Body, Mentions, Message, MessageKind};
use shared::mysql::timeline::Facts;
use shared::mysql::{Pool, conversations, timeline};
use shared::permission::{Action, ChangeTarget, Denied, EditTarget, Permissions, RecallTarget};
use shared::redis::sequence::Sequence;

use super::in_flight::try_again;
use super::reseed::RESEED_MARGIN;
use crate::config::Limits;
use crate::wire::api_error::ApiError;

/// Pauses between two looks for a message that is not stored yet.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// When a user may recall and edit its own messages. A group's owner and admins may recall any, at any time.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangePolicy {
    /// The greatest age of a message to recall.
    pub(super) recall_within: Duration,
    /// The greatest age of a message to edit; `None`: any.
    pub(super) edit_within: Option<Duration>,
}

/// What a message refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference {
    /// Nothing.
    None,
    /// The message that it recalls.
    Recall(Seq),
    /// The message that it edits.
    Edit(Seq),
    /// The message that it answers.
    Reply(Seq),
    /// The message that it reacts to.
    Reaction(Seq),
    /// The message that it pins or unpins.
    Pin(Seq),
}

impl Reference {
    pub(super) fn of(message: &Message) -> Self {
        match message.kind {
            MessageKind::Recall(seq) => Self::Recall(seq),
            MessageKind::Edit { target, .. } => Self::Edit(target),
            MessageKind::Reaction { target, .. } => Self::Reaction(target),
            MessageKind::Pin { target, .. } => Self::Pin(target),
            _ => message
                .details
                .as_deref()
                .and_then(|details| details.reply_to)
                .map_or(Self::None, Self::Reply),
        }
    }

    /// The message that has to be looked up.
    pub(super) fn looked_up(self) -> Option<Seq> {
        match self {
            Self::Recall(seq) | Self::Edit(seq) | Self::Reply(seq) => Some(seq),
            Self::None | Self::Reaction(_) | Self::Pin(_) => None,
        }
    }

    /// Whether a retry is to be found before the rest is checked: the age of the message does not matter to it, and a reused
    /// id is told at once.
    pub(super) fn is_change(self) -> bool {
        matches!(self, Self::Recall(_) | Self::Edit(_))
    }

    /// What can be checked without a lookup.
    ///
    /// # Errors
    /// Why the user may not refer to the message.
    pub(super) fn check_known(self, permissions: &Permissions) -> Result<(), Denied> {
        let (seq, action) = match self {
            Self::Reaction(seq) => (seq, Action::React as fn(_) -> _),
            Self::Pin(seq) => (seq, Action::Pin as fn(_) -> _),
            Self::None | Self::Recall(_) | Self::Edit(_) | Self::Reply(_) => return Ok(()),
        };
        let target = (seq > permissions.floor()).then_some(ChangeTarget { is_recalled: false });
        permissions.check(action(target), unix_millis)
    }
}

/// Whether the answer to a message depends on what is only known at its commit.
pub(super) fn is_decided_at_commit(message: &Message) -> bool {
    let mentions = message.details.as_deref().and_then(|details| details.mentions.as_ref());
    message.kind.may_change_nothing() || matches!(mentions, Some(Mentions::Everyone))
}

/// A message that refers to another one.
#[derive(Debug)]
pub(super) struct Referring<'a> {
    pub(super) conversation: &'a Conversation,
    pub(super) user: &'a UserId,
    /// What the user may do in the conversation.
    pub(super) permissions: &'a Permissions,
    pub(super) kind: &'a MessageKind,
    pub(super) reference: Reference,
}

impl ChangePolicy {
    /// That of `limits`.
    pub(super) fn of(limits: &Limits) -> Self {
        let edit_within = (limits.edit_within_ms > 0).then(|| Duration::from_millis(limits.edit_within_ms));
        Self { recall_within: Duration::from_millis(limits.recall_within_ms), edit_within }
    }

    /// Looks the message up, and checks that it may be recalled, edited or answered. Waits without a limit for a message
    /// that is not stored yet: the caller has a deadline.
    ///
    /// # Errors
    /// 400, 403, 404, or 503 while a store is unavailable.
    pub(super) async fn check(
        &self,
        pool: &Pool,
        sequence: &Sequence,
        referring: &Referring<'_>,
    ) -> Result<(), ApiError> {
        referring.reference.check_known(referring.permissions)?;
        let Some(seq) = referring.reference.looked_up() else { return Ok(()) };
        let found = find(pool, sequence, referring.conversation, seq).await?;
        let found = found.filter(|_| seq > referring.permissions.floor());
        let action = match (referring.reference, referring.kind) {
            (Reference::Edit(_), MessageKind::Edit { content, .. }) => {
                require_content(found.as_ref(), content.as_ref())?;
                Action::Edit(self.edit_target(referring, found, content.as_ref(), unix_millis()))
            }
            (Reference::Reply(_), _) => {
                Action::Reply(found.filter(|found| found.message.kind.changes().is_none()).map(|_| ()))
            }
            _ => Action::Recall(self.recall_target(referring, found, unix_millis())),
        };
        Ok(referring.permissions.check(action, unix_millis)?)
    }

    /// What the rule of permissions has to know about a message to recall; `None` if the user sees no such message.
    fn recall_target(
        &self,
        referring: &Referring<'_>,
        found: Option<Facts>,
        now_ms: i64,
    ) -> Option<RecallTarget> {
        let Facts { message, stored_at } = found?;
        // A change entry or a system entry is nothing to recall, except that a recall has its own sentence.
        if !message.kind.counts() && message.kind.recalls().is_none() {
            return None;
        }
        Some(RecallTarget {
            is_recall: message.kind.recalls().is_some(),
            is_own: message.sender == *referring.user,
            expired_after_ms: expired(Some(self.recall_within), stored_at, now_ms),
        })
    }

    /// The same of a message to edit.
    fn edit_target(
        &self,
        referring: &Referring<'_>,
        found: Option<Facts>,
        content: Option<&Body>,
        now_ms: i64,
    ) -> Option<EditTarget> {
        let Facts { message, stored_at } = found.filter(|found| found.message.kind.changes().is_none())?;
        Some(EditTarget {
            is_editable: message.accepts(content),
            is_own: message.sender == *referring.user,
            is_recalled: message.is_recalled,
            expired_after_ms: expired(self.edit_within, stored_at, now_ms),
        })
    }
}

/// Refuses an edit without content of a message that must have one.
fn require_content(found: Option<&Facts>, content: Option<&Body>) -> Result<(), ApiError> {
    let needs =
        found.is_some_and(|found| found.message.kind.is_editable() && !found.message.accepts(content));
    if needs {
        return Err(ApiError::malformed(
            "payload.content is missing: a message of this type must have content",
        ));
    }
    Ok(())
}

/// The limit, if a message that was stored at that time is older.
fn expired(within: Option<Duration>, stored_at: i64, now_ms: i64) -> Option<u64> {
    let limit_ms = u64::try_from(within?.as_millis()).unwrap_or(u64::MAX);
    // Negative if the clock was set back: then the message is new.
    let age_ms = u64::try_from(now_ms.saturating_sub(stored_at)).unwrap_or(0);
    (age_ms > limit_ms).then_some(limit_ms)
}

/// The message with this number, as soon as it is stored; `None` if no message has or will get its number.
async fn find(
    pool: &Pool,
    sequence: &Sequence,
    conversation: &Conversation,
    seq: Seq,
) -> Result<Option<Facts>, ApiError> {
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
                "Cannot read the sequence counter of {conversation} from Redis; a message that refers to another one is refused with 503"
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
    use shared::message::{Stored, fixture};

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

    fn facts(sender: &str, kind: MessageKind, stored_at: i64) -> Facts {
        let message = fixture::with_kind(fixture::numbered("group_1", 7, sender, "m"), kind).message;
        Facts { message: Stored::new(message, Seq(7)), stored_at }
    }

    const POLICY: ChangePolicy =
        ChangePolicy { recall_within: Duration::from_secs(120), edit_within: Some(Duration::from_secs(60)) };

    fn with_referring<T>(run: impl FnOnce(&Referring<'_>) -> T) -> T {
        let permissions = Permissions::of_participant(false);
        run(&Referring {
            conversation: &Conversation::from_key("group_1").unwrap(),
            user: &UserId::parse("alice").unwrap(),
            permissions: &permissions,
            kind: &fixture::text("x"),
            reference: Reference::None,
        })
    }

    #[test]
    fn a_message_to_recall_is_own_and_recent_or_not() {
        let target = |sender: &str, kind, stored_at| {
            with_referring(|by| POLICY.recall_target(by, Some(facts(sender, kind, stored_at)), 1_000_000))
        };
        let found =
            |is_recall, is_own, expired_after_ms| Some(RecallTarget { is_recall, is_own, expired_after_ms });
        let text = || fixture::text("x");
        assert_eq!(target("alice", text(), 880_000), found(false, true, None));
        assert_eq!(target("alice", text(), 879_999), found(false, true, Some(120_000)));
        assert_eq!(target("alice", text(), 2_000_000), found(false, true, None), "the clock was set back");
        assert_eq!(target("bob", text(), 1_000_000), found(false, false, None));
        assert_eq!(target("alice", MessageKind::Recall(Seq(1)), 1_000_000), found(true, true, None));
        assert_eq!(target("alice", MessageKind::Pin { target: Seq(1), removes: false }, 1_000_000), None);
    }

    #[test]
    fn a_message_to_edit_is_own_recent_and_of_a_kind_with_content_or_not() {
        let body = Body::new("new".to_owned()).unwrap();
        let target = |sender: &str, kind, stored_at| {
            let facts = Some(facts(sender, kind, stored_at));
            with_referring(|by| POLICY.edit_target(by, facts, Some(&body), 1_000_000))
        };
        let own = EditTarget { is_editable: true, is_own: true, is_recalled: false, expired_after_ms: None };
        let text = || fixture::text("x");
        assert_eq!(target("alice", text(), 940_000), Some(own));
        let expired = Some(60_000);
        assert_eq!(target("alice", text(), 939_999), Some(EditTarget { expired_after_ms: expired, ..own }));
        assert_eq!(target("bob", text(), 940_000), Some(EditTarget { is_own: false, ..own }));
        assert_eq!(target("alice", MessageKind::Recall(Seq(1)), 940_000), None);
        let forever = ChangePolicy { edit_within: None, ..POLICY };
        let old = Some(facts("alice", text(), 0));
        let kept = with_referring(|by| forever.edit_target(by, old, Some(&body), i64::MAX));
        assert_eq!(kept, Some(own));
        let of_text = facts("alice", text(), 0);
        assert_eq!(require_content(Some(&of_text), None).unwrap_err().code(), 400);
        assert_eq!(require_content(Some(&of_text), Some(&Body::default())).unwrap_err().code(), 400);
        assert_eq!(require_content(Some(&of_text), Some(&body)), Ok(()));
        let of_app = facts("alice", MessageKind::App { msg_type: 100, content: body.clone() }, 0);
        assert_eq!(require_content(Some(&of_app), None), Ok(()));
    }

    #[test]
    fn reactions_and_pins_are_checked_without_a_lookup_and_answered_at_the_commit() {
        let mut permissions = Permissions::of_participant(false);
        permissions.history.floor = Seq(6);
        for reference in [Reference::Reaction as fn(Seq) -> _, Reference::Pin] {
            assert_eq!(reference(Seq(7)).check_known(&permissions), Ok(()));
            assert_eq!(reference(Seq(6)).check_known(&permissions), Err(Denied::NoTarget));
            assert_eq!(reference(Seq(7)).looked_up(), None);
        }
        let message = |kind| fixture::with_kind(fixture::numbered("group_1", 7, "alice", "m"), kind).message;
        assert!(is_decided_at_commit(&message(MessageKind::Pin { target: Seq(1), removes: true })));
        assert!(!is_decided_at_commit(&message(fixture::text("x"))));
        assert!(!is_decided_at_commit(&message(MessageKind::Recall(Seq(1)))));
    }
}
