//! What a page of the change feed says to users: which of them are to be notified of what. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use shared::conversation::Conversation;
use shared::feed::{Cursor, Event, EventKind, Page};
use shared::ids::{Seq, UserId};
use shared::message::{Mentions, Stored};
use shared::mysql::notifications::{Candidate, Planned};

use super::rules::{GIVEN_UP_AFTER, is_muted, millis};

/// Messages that come within this time after the first one are in the same notification.
const GATHERED_FOR: Duration = Duration::from_secs(1);

/// A message that calls for notifications.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calling {
    pub(super) seq: Seq,
    pub(super) sender: UserId,
    pub(super) mentions: Option<Mentions>,
    /// When it was stored, in milliseconds since 1970.
    pub(super) stored_at: i64,
}

impl Calling {
    fn mentions(&self, user: &UserId) -> bool {
        match &self.mentions {
            Some(Mentions::Everyone) => true,
            Some(Mentions::Users(users)) => users.contains(user),
            None => false,
        }
    }
}

/// What a page has for notifications.
#[derive(Debug, Default)]
pub(super) struct Noted {
    /// Messages of each conversation, in their order.
    pub(super) calling: BTreeMap<Conversation, Vec<Calling>>,
    /// Conversations with the numbers of a recalled message and of its recall.
    pub(super) recalls: Vec<(Conversation, Seq, Seq)>,
    /// Users who have left conversations.
    pub(super) left: Vec<(Conversation, Vec<UserId>)>,
    /// Conversations whose members have changed in another way.
    pub(super) changed: Vec<Conversation>,
    /// Where the next page begins.
    pub(super) next: Cursor,
    /// When the last event was stored, in milliseconds since 1970; 0 if the page has none.
    pub(super) last_at: i64,
}

impl Noted {
    /// What is in `page`, at `now`.
    pub(super) fn of(page: &Page<'_>, now: i64) -> Self {
        let mut noted = Self { next: page.next, ..Self::default() };
        for Event { written_at, kind, .. } in &page.events {
            noted.last_at = *written_at;
            match kind {
                EventKind::Message(stored) => noted.message(stored, *written_at, now),
                EventKind::Group(change) if change.is_cut || change.change == "dismiss group" => {
                    noted.changed.push(change.group.clone());
                }
                EventKind::Group(change) if !change.left.is_empty() => {
                    noted.left.push((change.group.clone(), change.left.clone()));
                }
                _ => {}
            }
        }
        noted
    }

    fn message(&mut self, stored: &Stored, stored_at: i64, now: i64) {
        let message = &stored.message;
        if let Some(target) = message.kind.recalls() {
            self.recalls.push((message.conversation.clone(), target, stored.seq));
        }
        // After a long time without notifications, devices are not told what happened days ago.
        let is_old = now - stored_at > millis(GIVEN_UP_AFTER);
        if !message.kind.counts() || stored.is_recalled || is_old {
            return;
        }
        let mentions = message.details.as_ref().and_then(|details| details.mentions.clone());
        let calling = Calling { seq: stored.seq, sender: message.sender.clone(), mentions, stored_at };
        self.calling.entry(message.conversation.clone()).or_default().push(calling);
    }

    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.calling.is_empty() && self.recalls.is_empty() && self.left.is_empty() && self.changed.is_empty()
    }
}

/// The notification of `candidate` for `calling` messages of `conversation`; `None` if none is for it. It is due soon, as for
/// a user without a connection.
pub(super) fn planned(
    conversation: &Conversation,
    calling: &[Calling],
    candidate: &Candidate,
    now: i64,
) -> Option<Planned> {
    let Candidate { user, read, muted_until } = candidate;
    let is_muted = is_muted(*muted_until, now);
    let is_for_user = |message: &&Calling| {
        message.sender != *user && message.seq > *read && (!is_muted || message.mentions(user))
    };
    let mut for_user = calling.iter().filter(is_for_user);
    let first = for_user.next()?;
    let mut planned = Planned {
        user: user.clone(),
        conversation: conversation.clone(),
        last_seq: first.seq,
        mention_seq: Seq::ZERO,
        since_ms: first.stored_at,
        due_at: now + millis(GATHERED_FOR),
    };
    for message in std::iter::once(first).chain(for_user) {
        planned.last_seq = planned.last_seq.max(message.seq);
        planned.since_ms = planned.since_ms.min(message.stored_at);
        if message.mentions(user) {
            planned.mention_seq = planned.mention_seq.max(message.seq);
        }
    }
    Some(planned)
}

/// Lets a user with a connection read first. The clock of the worker that stored the message may be ahead.
pub(super) fn delayed(planned: &mut Planned, delay: Duration, now: i64) {
    let after_delay = (planned.since_ms.saturating_add(millis(delay))).min(now + millis(delay));
    planned.due_at = planned.due_at.max(after_delay);
}

#[cfg(test)]
mod tests {
    use shared::message::{MessageKind, fixture};

    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn group() -> Conversation {
        Conversation::from_key("group_1").unwrap()
    }

    fn calling(seq: u64, sender: &str, mentions: Option<Mentions>) -> Calling {
        Calling { seq: Seq(seq), sender: user(sender), mentions, stored_at: NOW - 100 + seq.cast_signed() }
    }

    fn candidate(id: &str, read: u64, muted_until: i64) -> Candidate {
        Candidate { user: user(id), read: Seq(read), muted_until }
    }

    #[test]
    fn users_are_notified_of_the_messages_of_others_that_they_have_not_read() {
        let messages = [calling(3, "ann", None), calling(4, "bob", None), calling(5, "ann", None)];
        let of = |candidate: &Candidate| planned(&group(), &messages, candidate, NOW);
        let for_bob = of(&candidate("bob", 0, 0)).unwrap();
        assert_eq!((for_bob.last_seq, for_bob.since_ms, for_bob.due_at), (Seq(5), NOW - 97, NOW + 1_000));
        let for_ann = of(&candidate("ann", 0, 0)).unwrap();
        assert_eq!(for_ann.last_seq, Seq(4));
        assert_eq!(of(&candidate("ann", 4, 0)), None);
        assert_eq!(of(&candidate("eve", 5, 0)), None);
    }

    #[test]
    fn a_muted_conversation_calls_only_by_mentions() {
        let of_bob = Some(Mentions::Users(vec![user("bob")]));
        let messages =
            [calling(3, "ann", of_bob), calling(4, "ann", Some(Mentions::Everyone)), calling(5, "ann", None)];
        let of = |candidate: &Candidate| planned(&group(), &messages, candidate, NOW);
        let last = |planned: Option<Planned>| planned.map(|one| (one.last_seq, one.mention_seq));
        assert_eq!(last(of(&candidate("bob", 0, -1))), Some((Seq(4), Seq(4))));
        assert_eq!(last(of(&candidate("bob", 0, 0))), Some((Seq(5), Seq(4))));
        assert_eq!(last(of(&candidate("eve", 4, NOW + 1))), None);
        assert_eq!(last(of(&candidate("eve", 4, NOW - 1))), Some((Seq(5), Seq::ZERO)));
    }

    fn stored(seq: u64, kind: MessageKind) -> Stored {
        let numbered = fixture::with_kind(fixture::numbered("group_1", seq, "ann", "m"), kind);
        Stored::new(numbered.message, Seq(seq))
    }

    #[test]
    fn change_entries_system_entries_and_recalled_messages_call_for_nothing() {
        let mut noted = Noted::default();
        let recalled = Stored { is_recalled: true, ..stored(5, fixture::text("x")) };
        let pin = MessageKind::Pin { target: Seq(1), removes: false };
        for stored in [stored(1, MessageKind::System), stored(2, pin), recalled] {
            noted.message(&stored, NOW, NOW);
        }
        assert!(noted.is_empty(), "{noted:?}");
        noted.message(&stored(6, MessageKind::Recall(Seq(5))), NOW, NOW);
        assert_eq!(noted.recalls, [(group(), Seq(5), Seq(6))]);
        assert!(noted.calling.is_empty());
        noted.message(&stored(7, fixture::text("x")), NOW - millis(GIVEN_UP_AFTER) - 1, NOW);
        assert!(noted.calling.is_empty(), "too old");
        noted.message(&stored(8, fixture::text("x")), NOW, NOW);
        assert_eq!(noted.calling[&group()].len(), 1);
    }
}
