//! What was handed over to be sent and is not known to be in its conversation. Pure rules.
//!
//! One message of a conversation is in flight at a time, so that refusals for overload do not change the order. Its id
//! never changes, so that it may be sent again at any time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::message::{Delivery, Outgoing, RECALL, Refusal};
use crate::protocol::Packet;

/// Pulls that do not show an accepted message before it is sent again; the answer has its state.
const PULLS_BEFORE_RESEND: u32 = 5;
/// An accepted message is stored within moments; a pull shows it.
const CONFIRM_AFTER: Duration = Duration::from_millis(150);

/// A message of the outbox, as it is kept in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) conversation_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    pub(crate) msg_id: String,
    /// Rises: the order of sending.
    pub(crate) order: u64,
    pub(crate) content: String,
    pub(crate) msg_type: u32,
    pub(crate) send_time: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recall_seq: Option<u64>,
    pub(crate) delivery: Delivery,
    #[serde(default)]
    pub(crate) content_differs: bool,
}

impl Item {
    /// The frame of cmd 2; `stored` asks for the answer at the commit.
    pub(crate) fn frame(&self, stored: bool) -> String {
        let mut payload = json!({"msg_type": self.msg_type, "send_time": self.send_time});
        match self.recall_seq {
            Some(seq) => payload["recall_seq"] = seq.into(),
            None => payload["content"] = self.content.as_str().into(),
        }
        if stored {
            payload["ack"] = "stored".into();
        }
        let mut frame = json!({"cmd": 2, "msg_id": self.msg_id, "payload": payload});
        match &self.peer {
            Some(peer) => frame["to"] = peer.as_str().into(),
            None => frame["conversation_id"] = self.conversation_id.as_str().into(),
        }
        frame.to_string()
    }

    /// Its key in the store.
    pub(crate) fn key(&self) -> String {
        format!("o {} {}", self.conversation_id, self.msg_id)
    }

    pub(crate) fn outgoing(&self) -> Outgoing {
        Outgoing {
            conversation_id: self.conversation_id.clone(),
            msg_id: self.msg_id.clone(),
            delivery: self.delivery.clone(),
            content_differs: self.content_differs,
        }
    }

    /// Recalls are not shown as messages: one that fails is told and forgotten.
    pub(crate) fn is_hidden(&self) -> bool {
        self.msg_type == RECALL
    }

    /// A reply of cmd 2, the first one or a later one. The last one counts: it may give another sequence number, or take
    /// a promise back. `committed`: the request asked for the answer at the commit.
    pub(crate) fn apply(&mut self, reply: &Packet, committed: bool) -> Verdict {
        match reply.code {
            0 => {
                let seq = reply.seq.unwrap_or_default();
                self.content_differs |= reply.payload.get("content_differs") == Some(&Value::Bool(true));
                self.delivery = if committed { Delivery::Stored { seq } } else { Delivery::Accepted { seq } };
                if committed { Verdict::Stored } else { Verdict::Accepted }
            }
            400 | 403 | 404 | 409 | 413 => {
                self.delivery = Delivery::Failed(Refusal::of(reply.code, &reply.payload));
                Verdict::Failed
            }
            _ => Verdict::Retry,
        }
    }
}

/// What a reply means for its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    Stored,
    Failed,
    Retry,
}

/// A message, and what is remembered of it while the process runs.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) item: Item,
    pub(crate) delivery: watch::Sender<Delivery>,
    /// It is in the store, so that it may be sent.
    pub(crate) is_kept: bool,
    /// A request for the answer at the commit is in flight.
    pub(crate) stored_asked: bool,
}

/// The messages of one conversation, by the order of sending.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) entries: BTreeMap<u64, Entry>,
    /// The order of the one in flight.
    pub(crate) in_flight: Option<u64>,
    /// Nothing is sent before this time.
    pub(crate) not_before: Option<Instant>,
    pub(crate) backoff: Backoff,
    /// When to look whether accepted messages are stored.
    pub(crate) confirm_at: Option<Instant>,
    looks: u32,
    /// The oldest accepted message at the last look.
    looked_at: Option<u64>,
}

impl Outbox {
    pub(crate) fn add(&mut self, item: Item, is_kept: bool) -> watch::Receiver<Delivery> {
        let (delivery, receiver) = watch::channel(item.delivery.clone());
        self.entries.insert(item.order, Entry { item, delivery, is_kept, stored_asked: false });
        receiver
    }

    pub(crate) fn by_id(&mut self, msg_id: &str) -> Option<&mut Entry> {
        self.entries.values_mut().find(|entry| entry.item.msg_id == msg_id)
    }

    /// The next one to send, if nothing is in flight.
    pub(crate) fn next(&mut self, now: Instant) -> Option<&mut Entry> {
        if self.in_flight.is_some() || self.not_before.is_some_and(|at| at > now) {
            return None;
        }
        let next = self.entries.values_mut().find(|entry| entry.item.delivery == Delivery::Sending)?;
        next.is_kept.then_some(next)
    }

    /// When the next one may be sent, if it waits for a time.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        let waits = self.entries.values().any(|entry| entry.item.delivery == Delivery::Sending);
        let send = self.not_before.filter(|_| waits && self.in_flight.is_none());
        [send, self.confirm_at].into_iter().flatten().min()
    }

    /// Orders of accepted messages that the conversation has not shown yet.
    pub(crate) fn unconfirmed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| matches!(entry.item.delivery, Delivery::Accepted { .. }))
    }

    /// Something was accepted: when to look.
    pub(crate) fn accepted(&mut self, now: Instant) {
        self.backoff.reset();
        self.confirm_at.get_or_insert(now + CONFIRM_AFTER);
    }

    /// How to look now; the next look is later.
    pub(crate) fn look(&mut self, now: Instant) -> Look {
        let Some(oldest) = self.unconfirmed().next().map(|entry| entry.item.order) else {
            (self.confirm_at, self.looks) = (None, 0);
            return Look::Done;
        };
        if self.looked_at.replace(oldest) != Some(oldest) {
            // The last look has found something.
            self.looks = 0;
        }
        self.looks += 1;
        self.confirm_at = Some(now + CONFIRM_AFTER * (1 << self.looks.min(PULLS_BEFORE_RESEND)));
        if self.looks <= PULLS_BEFORE_RESEND { Look::Pull } else { Look::Resend }
    }

    /// Removes what is in the conversation. A pull can show the message in flight before its answer comes: the next one
    /// does not wait for that answer, which finds no entry any more.
    pub(crate) fn remove(&mut self, order: u64) -> Option<Entry> {
        self.in_flight.take_if(|in_flight| *in_flight == order);
        self.entries.remove(&order)
    }

    /// The connection is lost: what is unanswered is sent again.
    pub(crate) fn offline(&mut self) {
        (self.in_flight, self.not_before) = (None, None);
        self.entries.values_mut().for_each(|entry| entry.stored_asked = false);
    }
}

/// How to find out whether accepted messages are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    Done,
    Pull,
    Resend,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(order: u64) -> Item {
        Item {
            conversation_id: "group_1".into(),
            peer: None,
            msg_id: format!("m{order}"),
            order,
            content: "hi".into(),
            msg_type: 1,
            send_time: 1,
            recall_seq: None,
            delivery: Delivery::Sending,
            content_differs: false,
        }
    }

    fn reply(code: u16, seq: u64) -> Packet {
        let payload = if code == 0 { Value::Null } else { json!("no") };
        serde_json::from_value(
            json!({"cmd": 2, "code": code, "msg_id": "m1", "seq": seq, "payload": payload}),
        )
        .unwrap()
    }

    #[test]
    fn the_last_answer_counts_and_may_take_a_promise_back() {
        let mut item = item(1);
        assert_eq!(item.apply(&reply(503, 0), false), Verdict::Retry);
        assert_eq!(item.delivery, Delivery::Sending);
        assert_eq!(item.apply(&reply(0, 7), false), Verdict::Accepted);
        assert_eq!(item.apply(&reply(0, 9), false), Verdict::Accepted);
        assert_eq!(item.delivery, Delivery::Accepted { seq: 9 });
        assert_eq!(item.apply(&reply(403, 0), false), Verdict::Failed);
        let refusal = Refusal { code: 403, message: "no".into() };
        assert_eq!(item.delivery, Delivery::Failed(refusal));
    }

    #[test]
    fn one_message_is_in_flight_at_a_time_and_only_if_it_is_kept() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.add(item(1), false);
        outbox.add(item(2), true);
        assert!(outbox.next(now).is_none(), "the first one is not in the store yet");
        outbox.entries.get_mut(&1).unwrap().is_kept = true;
        assert_eq!(outbox.next(now).unwrap().item.order, 1);
        outbox.in_flight = Some(1);
        assert!(outbox.next(now).is_none());
        outbox.offline();
        outbox.not_before = Some(now + CONFIRM_AFTER);
        assert!(outbox.next(now).is_none());
        assert_eq!(outbox.next(now + CONFIRM_AFTER).unwrap().item.order, 1);
    }

    #[test]
    fn a_message_that_a_pull_shows_before_its_answer_holds_up_no_other() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        (1..=2).for_each(|n| drop(outbox.add(item(n), true)));
        outbox.in_flight = Some(2);
        outbox.remove(1);
        assert!(outbox.next(now).is_none(), "another one is in flight");
        outbox.remove(2);
        outbox.add(item(3), true);
        assert_eq!(outbox.next(now).unwrap().item.order, 3);
    }

    #[test]
    fn what_pulls_do_not_show_is_sent_again() {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        outbox.add(Item { delivery: Delivery::Accepted { seq: 3 }, ..item(1) }, true);
        outbox.accepted(now);
        let looks: Vec<Look> = (0..7).map(|_| outbox.look(now)).collect();
        assert_eq!(looks[..5], [Look::Pull; 5]);
        assert_eq!(looks[5..], [Look::Resend; 2]);
        outbox.add(Item { delivery: Delivery::Accepted { seq: 4 }, ..item(2) }, true);
        outbox.remove(1);
        assert_eq!(outbox.look(now), Look::Pull, "the last look has found something");
        outbox.remove(2);
        assert_eq!(outbox.look(now), Look::Done);
        assert_eq!(outbox.wake_at(), None);
    }
}
