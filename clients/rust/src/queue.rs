//! The events between a client and its program: bounded, and with a memory of what the program is done with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event::Event;

/// Shared by the client's task and the stream of events.
#[derive(Debug)]
pub(crate) struct Queue {
    inner: Mutex<Inner>,
    /// Something to read, or the end.
    pub(crate) readable: Notify,
    /// Something was read, or the reader is gone.
    pub(crate) read: Notify,
}

#[derive(Debug)]
struct Inner {
    events: VecDeque<Event>,
    /// Of messages, and of other events: each has this much room.
    capacity: usize,
    messages: usize,
    has_reader: bool,
    /// Conversations of which a change waits to be told: once is enough.
    changed: BTreeSet<String>,
    missed: bool,
    ended: bool,
    /// The message that the program works on.
    in_hand: Option<(String, u64)>,
    /// By conversation: the last message that the program is done with.
    done: BTreeMap<String, u64>,
}

impl Queue {
    pub(crate) fn new(capacity: usize) -> Self {
        let inner = Inner {
            events: VecDeque::new(),
            capacity: capacity.max(1),
            messages: 0,
            has_reader: true,
            changed: BTreeSet::new(),
            missed: false,
            ended: false,
            in_hand: None,
            done: BTreeMap::new(),
        };
        Self { inner: Mutex::new(inner), readable: Notify::new(), read: Notify::new() }
    }

    /// How many messages there is room for; none without a reader.
    pub(crate) fn room(&self) -> usize {
        let inner = self.inner.lock();
        if inner.has_reader { inner.capacity.saturating_sub(inner.messages) } else { 0 }
    }

    /// Whether the program still reads events.
    pub(crate) fn has_reader(&self) -> bool {
        self.inner.lock().has_reader
    }

    /// Adds an event. One other than a message is dropped if the program is too far behind.
    pub(crate) fn put(&self, event: Event) {
        let mut inner = self.inner.lock();
        if !inner.has_reader || inner.ended {
            return;
        }
        if let Event::Conversation { conversation_id } = &event
            && inner.changed.contains(conversation_id)
        {
            return;
        }
        if matches!(event, Event::Message(_)) {
            inner.messages += 1;
        } else if inner.events.len() - inner.messages >= inner.capacity {
            inner.missed = true;
            return;
        }
        if let Event::Conversation { conversation_id } = &event {
            inner.changed.insert(conversation_id.clone());
        }
        inner.events.push_back(event);
        drop(inner);
        self.readable.notify_one();
    }

    /// The next event. Asking for it says that the program is done with the one before it.
    pub(crate) fn take(&self) -> Taken {
        let mut inner = self.inner.lock();
        let released = inner.release();
        let taken = if std::mem::take(&mut inner.missed) {
            Taken::Event(Event::Missed)
        } else if let Some(event) = inner.events.pop_front() {
            match &event {
                Event::Message(message) => {
                    inner.messages -= 1;
                    inner.in_hand = Some((message.conversation_id.clone(), message.message.seq));
                }
                Event::Conversation { conversation_id } => {
                    inner.changed.remove(conversation_id);
                }
                _ => {}
            }
            Taken::Event(event)
        } else if inner.ended {
            Taken::End
        } else {
            Taken::Nothing
        };
        let notify = released || matches!(taken, Taken::Event(_));
        drop(inner);
        if notify {
            self.read.notify_one();
        }
        taken
    }

    /// What the program is done with since the last call.
    pub(crate) fn take_done(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.inner.lock().done)
    }

    /// The program reads no further events. The one in its hand counts as done; others are told again by a later client.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.release();
        inner.has_reader = false;
        (inner.events, inner.messages) = (VecDeque::new(), 0);
        drop(inner);
        self.read.notify_one();
    }

    /// The client stops: messages that were not taken are told by a later client. The one in the program's hand is done
    /// if the program itself stops the client.
    pub(crate) fn give_back(&self, in_hand_is_done: bool) {
        let mut inner = self.inner.lock();
        inner.events.retain(|event| !matches!(event, Event::Message(_)));
        inner.messages = 0;
        if in_hand_is_done {
            inner.release();
        } else {
            inner.in_hand = None;
        }
    }

    /// There will be no further events.
    pub(crate) fn end(&self) {
        self.inner.lock().ended = true;
        self.readable.notify_one();
    }
}

/// What [`Queue::take`] found.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are messages")]
pub(crate) enum Taken {
    Event(Event),
    Nothing,
    End,
}

impl Inner {
    fn release(&mut self) -> bool {
        let Some((conversation, seq)) = self.in_hand.take() else { return false };
        let done = self.done.entry(conversation).or_default();
        *done = seq.max(*done);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::protocol::StoredMessage;

    fn message(seq: u64) -> Event {
        let message = StoredMessage {
            msg_id: format!("m{seq}"),
            seq,
            sender_id: "a".into(),
            content: String::new(),
            msg_type: 1,
            ..StoredMessage::default()
        };
        Event::Message(Message { conversation_id: "group_1".into(), peer: None, mine: false, message })
    }

    fn seq(taken: Taken) -> Option<u64> {
        match taken {
            Taken::Event(Event::Message(message)) => Some(message.message.seq),
            _ => None,
        }
    }

    #[test]
    fn a_message_is_done_when_the_next_event_is_asked_for() {
        let queue = Queue::new(8);
        (1..=2).for_each(|n| queue.put(message(n)));
        assert_eq!(seq(queue.take()), Some(1));
        assert!(queue.take_done().is_empty(), "the program works on it");
        assert_eq!(seq(queue.take()), Some(2));
        assert_eq!(queue.take_done(), [("group_1".to_owned(), 1)].into());
        assert!(matches!(queue.take(), Taken::Nothing));
        assert_eq!(queue.take_done(), [("group_1".to_owned(), 2)].into());
    }

    #[test]
    fn messages_take_room_and_other_events_are_dropped_with_a_word() {
        let queue = Queue::new(2);
        let typing = || Event::Typing { conversation_id: "group_1".into(), user_id: "a".into() };
        queue.put(message(1));
        assert_eq!(queue.room(), 1);
        (0..3).for_each(|_| queue.put(typing()));
        queue.put(message(2));
        assert_eq!(queue.room(), 0);
        assert!(matches!(queue.take(), Taken::Event(Event::Missed)));
        assert_eq!(seq(queue.take()), Some(1));
        assert_eq!(queue.room(), 1);
        queue.end();
        let rest = std::iter::from_fn(|| match queue.take() {
            Taken::Event(event) => Some(event),
            Taken::Nothing | Taken::End => None,
        });
        assert_eq!(rest.count(), 3);
        assert!(matches!(queue.take(), Taken::End));
    }

    #[test]
    fn what_was_not_taken_is_left_to_a_later_client() {
        for (by_the_program, done) in [(true, vec![("group_1".to_owned(), 1)]), (false, Vec::new())] {
            let queue = Queue::new(8);
            (1..=3).for_each(|n| queue.put(message(n)));
            queue.put(Event::CaughtUp);
            assert_eq!(seq(queue.take()), Some(1));
            queue.give_back(by_the_program);
            queue.end();
            assert_eq!(queue.take_done().into_iter().collect::<Vec<_>>(), done);
            assert!(matches!(queue.take(), Taken::Event(Event::CaughtUp)));
            assert!(matches!(queue.take(), Taken::End));
        }
    }

    #[test]
    fn without_a_reader_there_is_no_room() {
        let queue = Queue::new(2);
        queue.put(message(1));
        queue.close();
        assert_eq!(queue.room(), 0);
        assert!(queue.take_done().is_empty(), "it was not read");
    }
}
