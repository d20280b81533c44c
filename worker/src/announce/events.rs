//! The events of one commit.
//!
//! Pure. Events are hints: what they say can be read from the database, so a pull repairs the loss of one.

use proto::v1;
use proto::v1::event::Kind;
use shared::ids::Seq;
use shared::message::Numbered;

use crate::commit::facts::{Facts, FinalSeq, Refused, Stored};

/// The events of a commit; one for all messages of a conversation.
#[derive(Debug, Default)]
pub struct Events {
    committed: Vec<v1::Committed>,
    corrected: Vec<v1::Corrected>,
    refused: Vec<v1::Refused>,
}

impl Events {
    /// Adds that `message` is stored under `seq`. To be called in the order of conversations and sequence numbers; a
    /// sequence number is announced once.
    pub fn committed(&mut self, message: Numbered, seq: Seq) {
        let same = self.committed.last_mut().filter(|last| last.conversation == message.conversation.key());
        let last = same.as_ref().and_then(|event| event.messages.last()).map_or(0, |stored| stored.seq);
        if seq.0 <= last {
            return;
        }
        match same {
            Some(event) => event.messages.push(message.into_event(seq)),
            None => {
                let conversation = message.conversation.key().to_owned();
                self.committed.push(v1::Committed { conversation, messages: vec![message.into_event(seq)] });
            }
        }
    }

    fn corrected(&mut self, FinalSeq { id, seq, changed }: FinalSeq) {
        self.corrected.push(v1::Corrected {
            conversation: id.conversation.key().to_owned(),
            sender_id: id.sender.as_str().to_owned(),
            msg_id: id.msg_id.as_str().to_owned(),
            seq: seq.0,
            changed,
        });
    }

    fn refused(&mut self, Refused { message, denied }: Refused) {
        let mut refused = v1::Refused {
            conversation: message.conversation.key().to_owned(),
            sender_id: message.sender.as_str().to_owned(),
            msg_id: message.msg_id.as_str().to_owned(),
            ..v1::Refused::default()
        };
        denied.write_to(&mut refused);
        self.refused.push(refused);
    }

    /// Whether there are no events.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.committed.is_empty() && self.corrected.is_empty() && self.refused.is_empty()
    }

    /// In the form and order in which they are published: a correction follows its message.
    #[must_use]
    pub fn into_wire(self) -> Vec<v1::Event> {
        let committed = self.committed.into_iter().map(Kind::Committed);
        let corrected = self.corrected.into_iter().map(Kind::Corrected);
        let refused = self.refused.into_iter().map(Kind::Refused);
        committed.chain(corrected).chain(refused).map(|kind| v1::Event { kind: Some(kind) }).collect()
    }
}

impl From<Facts> for Events {
    fn from(facts: Facts) -> Self {
        let mut events = Self::default();
        facts.stored.into_iter().for_each(|Stored { message, seq }| events.committed(message, seq));
        facts.final_seqs.into_iter().for_each(|final_seq| events.corrected(final_seq));
        facts.refused.into_iter().for_each(|refused| events.refused(refused));
        events
    }
}

#[cfg(test)]
mod tests {
    use shared::ids::ConnectionId;
    use shared::message::fixture::numbered;
    use shared::permission::Denied;

    use super::*;

    fn message(group: &str, id: &str) -> Numbered {
        Numbered {
            origin: Some(ConnectionId { gateway: 3, connection: 4 }),
            reply_when_stored: true,
            ..numbered(group, 1, "alice", id)
        }
    }

    #[test]
    fn messages_of_one_conversation_are_one_event_and_corrections_come_last() {
        assert!(Events::from(Facts::default()).is_empty());
        let stored = [("group_a", "m1", 5), ("group_a", "m2", 6), ("group_a", "m2", 6), ("group_b", "m3", 1)];
        let stored = stored.map(|(group, id, seq)| Stored { message: message(group, id), seq: Seq(seq) });
        let id = message("group_a", "m1").id();
        let events = Events::from(Facts {
            stored: stored.into(),
            final_seqs: vec![FinalSeq { id, seq: Seq(5), changed: true }],
            refused: vec![Refused { message: message("group_a", "m4"), denied: Denied::NotMember }],
        });
        assert!(!events.is_empty());
        let kinds: Vec<Kind> = events.into_wire().into_iter().filter_map(|event| event.kind).collect();
        let [Kind::Committed(a), Kind::Committed(b), Kind::Corrected(c), Kind::Refused(d)] = &kinds[..]
        else {
            panic!("{kinds:?}")
        };
        assert_eq!((a.conversation.as_str(), b.conversation.as_str()), ("group_a", "group_b"));
        assert_eq!(a.messages.iter().map(|m| m.seq).collect::<Vec<_>>(), [5, 6]);
        let first = &a.messages[0];
        assert_eq!((first.sender_id.as_str(), first.content.as_str()), ("alice", "content of m1"));
        assert_eq!(
            (first.msg_type, first.send_time_ms, first.reply_when_stored),
            (1, 1_700_000_000_000, true)
        );
        assert_eq!(first.origin, Some(v1::Origin { gateway: 3, connection: 4 }));
        assert_eq!((c.msg_id.as_str(), c.seq, c.changed), ("m1", 5, true));
        let why = "you are not a member of this conversation";
        assert_eq!((d.msg_id.as_str(), d.code, d.message.as_str()), ("m4", 403, why));
    }
}
