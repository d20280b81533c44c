//! Sending: the outbox of each conversation, and what replies do to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use super::outbox::{Item, Look, Verdict};
use super::state::{Core, Key};
use crate::event::Event;
use crate::message::{Delivery, Draft, Refusal};
use crate::protocol::Packet;

/// Messages of the outbox; further ones are refused.
const OUTBOX_MAX: usize = 10_000;
/// Accepted messages of a conversation that are sent again at once.
const RESENT_AT_ONCE: usize = 64;
/// The server takes frames of 64 KiB.
const FRAME_BYTES_MAX: usize = 65_536;

impl Core {
    /// Hands a message over. It is sent when [`kept`](Self::kept) has said that it is in the store. A message whose id is
    /// in the outbox is that one. Returns its order.
    ///
    /// # Errors
    /// If it cannot be sent at all.
    pub(crate) fn add(
        &mut self,
        id: &str,
        draft: Draft,
    ) -> Result<(u64, String, watch::Receiver<Delivery>), Refusal> {
        let waiting: usize = self.conversations.values().map(|one| one.outbox.entries.len()).sum();
        if waiting >= OUTBOX_MAX {
            let message = format!("{OUTBOX_MAX} messages are in the outbox");
            return Err(Refusal { code: 429, message });
        }
        let msg_id = draft.msg_id.unwrap_or_else(|| uuid::Uuid::now_v7().simple().to_string());
        if let Some(entry) = self.conversation(id).outbox.by_id(&msg_id) {
            return Ok((entry.item.order, msg_id, entry.delivery.subscribe()));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let order = u64::try_from(since.as_micros()).unwrap_or_default().max(self.order + 1);
        let item = Item {
            conversation_id: id.to_owned(),
            peer: self.conversation(id).info.peer.clone(),
            msg_id: msg_id.clone(),
            order,
            content: draft.content,
            msg_type: draft.msg_type,
            send_time: order / 1_000,
            recall_seq: draft.recall_seq,
            delivery: Delivery::Sending,
            content_differs: false,
        };
        if item.frame(true).len() > FRAME_BYTES_MAX {
            let message = "the message is larger than a frame of 64 KiB".to_owned();
            return Err(Refusal { code: 413, message });
        }
        self.order = order;
        self.keep_item(item.key(), Some(&item));
        Ok((order, msg_id, self.conversation(id).outbox.add(item, false)))
    }

    /// A message is in the store: it may be sent.
    pub(crate) fn kept(&mut self, id: &str, order: u64) {
        if let Some(entry) = self.conversation(id).outbox.entries.get_mut(&order) {
            entry.is_kept = true;
        }
    }

    /// Removes a message that was never sent, or that failed. False if there is no such message.
    pub(crate) fn discard(&mut self, id: &str, msg_id: &str) -> bool {
        let outbox = &mut self.conversation(id).outbox;
        let discarded = outbox.entries.values().find(|entry| {
            let is_over = !entry.is_kept || matches!(entry.item.delivery, Delivery::Failed(_));
            is_over && entry.item.msg_id == msg_id
        });
        let Some(order) = discarded.map(|entry| entry.item.order) else { return false };
        self.remove(id, order);
        true
    }

    fn remove(&mut self, id: &str, order: u64) {
        if let Some(entry) = self.conversation(id).outbox.remove(order) {
            self.keep_item(entry.item.key(), None);
        }
    }

    /// The conversation has this message of the user.
    pub(super) fn settle(&mut self, id: &str, msg_id: &str, seq: u64) {
        let Some(entry) = self.conversation(id).outbox.by_id(msg_id) else { return };
        entry.item.delivery = Delivery::Stored { seq };
        let (order, outgoing) = (entry.item.order, entry.item.outgoing());
        entry.delivery.send_replace(outgoing.delivery.clone());
        self.queue.put(Event::Sent(outgoing));
        self.remove(id, order);
    }

    /// A reply of cmd 2, the first one or a later one.
    pub(super) fn chat_reply(&mut self, reply: &Packet, now: Instant) {
        let Some(msg_id) = reply.msg_id.as_deref() else { return };
        self.in_flight.remove(&Key::Chat(msg_id.to_owned()));
        let named = reply.conversation_id.clone().filter(|id| self.conversations.contains_key(id));
        let has = |one: &super::conversation::Conversation| {
            one.outbox.entries.values().any(|entry| entry.item.msg_id == msg_id)
        };
        let holder = || self.conversations.iter().find(|(_, one)| has(one)).map(|(id, _)| id.clone());
        let Some(id) = named.or_else(holder) else { return };
        let outbox = &mut self.conversation(&id).outbox;
        // Another client of the user sent it: it comes as a push.
        let Some(entry) = outbox.by_id(msg_id) else { return };
        let committed = std::mem::take(&mut entry.stored_asked);
        let before = entry.item.delivery.clone();
        let verdict = entry.item.apply(reply, committed);
        let item = entry.item.clone();
        if item.delivery != before {
            entry.delivery.send_replace(item.delivery.clone());
        }
        if outbox.in_flight == Some(item.order) {
            outbox.in_flight = None;
        }
        match verdict {
            Verdict::Accepted => outbox.accepted(now),
            Verdict::Stored | Verdict::Failed => {}
            Verdict::Retry => {
                let delay = outbox.backoff.after(reply.retry_after_ms().map(Duration::from_millis));
                outbox.not_before = Some(now + delay);
                if reply.code == 429 {
                    // The limit is the user's: its other messages would be refused too.
                    self.hold_until = self.hold_until.max(Some(now + delay));
                }
                return;
            }
        }
        self.told_delivery(&id, &item, verdict, item.delivery != before, now);
    }

    fn told_delivery(&mut self, id: &str, item: &Item, verdict: Verdict, is_new: bool, now: Instant) {
        if verdict == Verdict::Stored || (verdict == Verdict::Failed && item.is_hidden()) {
            self.remove(id, item.order);
        } else if is_new {
            self.keep_item(item.key(), Some(item));
        }
        if is_new {
            self.queue.put(Event::Sent(item.outgoing()));
        }
        // The first message to a user or to an open group puts the conversation into the list.
        if verdict == Verdict::Accepted && !self.conversation(id).info.is_member {
            self.sync_at(now);
        }
    }

    /// Sends the next message of a conversation, and looks what became of accepted ones.
    pub(super) fn pump_chats(&mut self, id: &str, now: Instant) {
        let has_reader = self.queue.has_reader();
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        if conversation.outbox.confirm_at.is_some_and(|at| at <= now) {
            let look = conversation.outbox.look(now);
            let cursor = conversation.cursor.filter(|_| has_reader && conversation.info.is_member);
            let unseen = |entry: &super::outbox::Entry| match entry.item.delivery {
                Delivery::Accepted { seq } => cursor.is_some_and(|cursor| seq > cursor),
                _ => true,
            };
            let can_see = conversation.outbox.unconfirmed().all(unseen);
            match look {
                Look::Done => {}
                Look::Pull if can_see => conversation.is_stale = true,
                Look::Pull | Look::Resend => self.resend(id, now),
            }
        }
        if self.hold_until.is_some_and(|until| until > now) {
            return;
        }
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let Some(entry) = conversation.outbox.next(now) else { return };
        let (order, key) = (entry.item.order, Key::Chat(entry.item.msg_id.clone()));
        let frame = entry.item.frame(false);
        conversation.outbox.in_flight = Some(order);
        self.request(key, frame, now);
    }

    /// Retries are free: the answer says where the message is stored, or why it is not.
    fn resend(&mut self, id: &str, now: Instant) {
        let entries = self.conversation(id).outbox.entries.values_mut();
        let asked = |entry: &&mut super::outbox::Entry| {
            matches!(entry.item.delivery, Delivery::Accepted { .. }) && !entry.stored_asked
        };
        let frames: Vec<_> = entries
            .filter(asked)
            .take(RESENT_AT_ONCE)
            .map(|entry| {
                entry.stored_asked = true;
                (Key::Chat(entry.item.msg_id.clone()), entry.item.frame(true))
            })
            .collect();
        for (key, frame) in frames {
            self.request(key, frame, now);
        }
    }
}
