//! Pushes and events of the server.

use serde_json::Value;
use tokio::time::Instant;

use super::reads::SYNC_SOON;
use super::state::Core;
use crate::event::{Event, MembershipChange};
use crate::protocol::Packet;

impl Core {
    /// Cmd 5.
    pub(super) fn push(&mut self, push: &Packet, now: Instant) {
        let (Some(id), Ok(page)) = (&push.conversation_id, push.messages()) else {
            return self.trouble("a push is malformed");
        };
        let (me, room, has_reader) = (self.me().to_owned(), self.queue.room(), self.queue.has_reader());
        self.name_peer(id, push.peer.as_deref());
        let conversation = self.conversation(id);
        if !conversation.info.is_member {
            // The entry of a sync says where to begin.
            self.sync_at(now);
        }
        if page.len() + self.reserved() > room {
            let conversation = self.conversation(id);
            let is_stale = conversation.is_stale;
            conversation.put_off(&page, &me);
            // Nobody waits for what is missing.
            conversation.is_stale &= has_reader || is_stale;
            return self.changed(id);
        }
        let conversation = self.conversation(id);
        let told = conversation.push(page, &me);
        self.changed(id);
        self.tell(id, told);
    }

    /// Cmd 7.
    pub(super) fn event(&mut self, event: &Packet, now: Instant) {
        let payload = &event.payload;
        let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |name: &str| payload.get(name).and_then(Value::as_u64);
        let conversation_id = event.conversation_id.clone().unwrap_or_default();
        if let Some(id) = &event.conversation_id {
            self.name_peer(id, event.peer.as_deref());
        }
        match event.event().unwrap_or_default() {
            "token_expiring" => {}
            "resync" => self.resync(event.conversation_id.as_deref(), now),
            "ack" => {
                let seq = number("seq").unwrap_or(0);
                self.conversation(&conversation_id).read(seq, number("unread"));
                self.changed(&conversation_id);
            }
            "read" => {
                let (user_id, seq) = (text("user_id"), number("seq").unwrap_or(0));
                let info = &mut self.conversation(&conversation_id).info;
                info.peer_read_seq = info.peer_read_seq.max(seq);
                self.changed(&conversation_id);
                self.queue.put(Event::Read { conversation_id, user_id, seq });
            }
            "typing" => self.queue.put(Event::Typing { conversation_id, user_id: text("user_id") }),
            "joined" => {
                // The entry of a sync says where to begin.
                self.sync_at(now + SYNC_SOON / 10);
                self.membership(conversation_id, MembershipChange::Joined);
            }
            "left" => self.membership(conversation_id, MembershipChange::Left),
            "dismissed" => self.membership(conversation_id, MembershipChange::Dismissed),
            "group_updated" => self.queue.put(Event::Group { conversation_id }),
            "invited" => self.queue.put(Event::Invited { conversation_id, by: text("by") }),
            _ => {
                let conversation_id = event.conversation_id.clone();
                self.queue.put(Event::Other { conversation_id, payload: payload.clone() });
            }
        }
    }

    fn membership(&mut self, conversation_id: String, change: MembershipChange) {
        if change != MembershipChange::Joined {
            self.conversation(&conversation_id).gone();
        }
        self.changed(&conversation_id);
        self.queue.put(Event::Membership { conversation_id, change });
    }

    /// Pushes may have been lost: of one conversation, or of all.
    fn resync(&mut self, id: Option<&str>, now: Instant) {
        if !self.queue.has_reader() {
            return self.sync_at(now);
        }
        match id {
            Some(id) if self.conversation(id).cursor.is_some() => self.conversation(id).is_stale = true,
            Some(_) => self.sync_at(now),
            None => {
                self.sync_at(now);
                for (id, one) in &mut self.conversations {
                    if one.info.is_member && one.cursor.is_some() {
                        one.is_stale = true;
                        self.work.insert(id.clone());
                    }
                }
            }
        }
    }
}
