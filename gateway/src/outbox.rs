//! What waits to be written to one connection.
//!
//! Two lanes. *Replies* have a place reserved for each before its request is read, so they are never dropped: a client
//! that does not take its replies is simply not read any further. *Pushes* are bounded in bytes: when a reader is too
//! slow for them they are dropped, and it is told to pull.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::Context;

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::wire::close::Close;
use crate::wire::reply::{self, Event};

/// With more conversations than these concerned, a resync is about all of them.
const MISSED_MAX: usize = 8;

/// Frames that an empty lane keeps room for.
const ROOM_KEPT: usize = 16;

/// The outbox of one connection. Everyone may put frames in; only the connection's task takes them out.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    replies_max: usize,
    push_bytes_max: usize,
    /// When the token that opened the connection was made; no revocation is of interest before the login.
    token_issued_at_ms: AtomicI64,
}

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Utf8Bytes>,
    /// Requests that were read and not answered yet.
    reserved: usize,
    pushes: VecDeque<Utf8Bytes>,
    push_bytes: usize,
    missed: Missed,
    close: Option<Close>,
    /// The connection has ended: nothing is kept any more.
    ended: bool,
}

/// Conversations with dropped pushes.
#[derive(Debug, Default)]
enum Missed {
    #[default]
    None,
    Some(Vec<Conversation>),
    All,
}

impl Outbox {
    /// Room for `replies_max` replies and `push_bytes_max` bytes of pushes. Allocates nothing yet.
    #[must_use]
    pub fn new(replies_max: usize, push_bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            replies_max,
            push_bytes_max,
            token_issued_at_ms: AtomicI64::new(i64::MAX),
        })
    }

    /// Whether one more reply has a place; if not, the client has to take some before more of it is read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.reserved + state.replies.len() < self.replies_max
    }

    /// Reserves the place of one reply, after [`has_room`](Self::has_room).
    #[must_use]
    pub fn reserve(self: &Arc<Self>) -> ReplyTo {
        self.state.lock().reserved += 1;
        ReplyTo { outbox: Some(Arc::clone(self)) }
    }

    /// Puts in a frame that every client gets however slow it is: a corrected reply, a small event. Falls back to a
    /// resync when the lane is full.
    pub fn notify(&self, frame: Utf8Bytes) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        if state.replies.len() >= self.replies_max {
            state.missed = Missed::All;
        } else {
            state.replies.push_back(frame);
        }
        drop(state);
        self.waker.wake();
    }

    /// Puts in a push, or notes that it was missed.
    pub fn push(&self, frame: Utf8Bytes, conversation: &Conversation) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        if state.push_bytes + frame.len() > self.push_bytes_max {
            metrics::counter!(shared::metrics::PUSH_DROPPED).increment(1);
            state.missed.add(conversation);
        } else {
            state.push_bytes += frame.len();
            state.pushes.push_back(frame);
        }
        drop(state);
        self.waker.wake();
    }

    /// Puts in something that nobody misses; it is dropped if there is no room.
    pub fn hint(&self, frame: Utf8Bytes) {
        let mut state = self.state.lock();
        if state.ended || state.push_bytes + frame.len() > self.push_bytes_max {
            return;
        }
        state.push_bytes += frame.len();
        state.pushes.push_back(frame);
        drop(state);
        self.waker.wake();
    }

    /// Pushes may have been lost on the way here.
    pub fn resync(&self) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        state.missed = Missed::All;
        drop(state);
        self.waker.wake();
    }

    /// Asks the connection to close. The first reason stays.
    pub fn close(&self, why: Close) {
        self.state.lock().close.get_or_insert(why);
        self.waker.wake();
    }

    /// From here on the connection lives by a token that was made then.
    pub fn token_issued(&self, at_ms: i64) {
        self.token_issued_at_ms.store(at_ms, Ordering::Relaxed);
    }

    /// Asks the connection to close if it lives by a token that was made up to then.
    pub fn revoke(&self, not_before_ms: i64) {
        if self.token_issued_at_ms.load(Ordering::Relaxed) <= not_before_ms {
            self.close(Close::TokenRevoked);
        }
    }

    /// Has `cx` woken by every change from here on.
    pub fn watch(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// The next frame to write: replies first, then pushes, then, when both are out, what was missed.
    pub fn pop(&self) -> Option<Utf8Bytes> {
        let mut state = self.state.lock();
        if let Some(frame) = state.replies.pop_front() {
            return Some(frame);
        }
        if let Some(frame) = state.pushes.pop_front() {
            state.push_bytes -= frame.len();
            return Some(frame);
        }
        let resync = state.missed.take_one();
        if resync.is_none() {
            state.give_back_room();
        }
        resync
    }

    /// The next reply alone.
    pub fn pop_reply(&self) -> Option<Utf8Bytes> {
        self.state.lock().replies.pop_front()
    }

    /// Why the connection is to close, if it is.
    #[must_use]
    pub fn close_reason(&self) -> Option<Close> {
        self.state.lock().close
    }

    /// Whether requests were read that are not answered yet.
    #[must_use]
    pub fn owes_replies(&self) -> bool {
        let state = self.state.lock();
        state.reserved > 0 || !state.replies.is_empty()
    }

    /// The connection is gone: drops what waits, and whatever comes later.
    pub fn end(&self) {
        let mut state = self.state.lock();
        *state = State { ended: true, reserved: state.reserved, ..State::default() };
    }
}

impl State {
    /// A burst's room is not kept by an idle connection.
    fn give_back_room(&mut self) {
        if self.pushes.capacity() > ROOM_KEPT {
            self.pushes = VecDeque::new();
        }
        if self.replies.capacity() > ROOM_KEPT {
            self.replies = VecDeque::new();
        }
    }
}

impl Missed {
    fn add(&mut self, conversation: &Conversation) {
        match self {
            Self::None => *self = Self::Some(vec![conversation.clone()]),
            Self::Some(some) if some.contains(conversation) => {}
            Self::Some(some) if some.len() < MISSED_MAX => some.push(conversation.clone()),
            Self::Some(_) => *self = Self::All,
            Self::All => {}
        }
    }

    fn take_one(&mut self) -> Option<Utf8Bytes> {
        let frame = match self {
            Self::None => return None,
            Self::Some(some) => some.pop().map(|one| reply::event(Some(&one.wire()), Event::Resync)),
            Self::All => {
                *self = Self::None;
                Some(reply::event(None, Event::Resync))
            }
        };
        if frame.is_none() {
            *self = Self::None;
        } else {
            metrics::counter!(shared::metrics::PUSH_RESYNCS).increment(1);
        }
        frame
    }
}

/// The reserved place of one reply. Given back when dropped.
#[derive(Debug)]
pub struct ReplyTo {
    outbox: Option<Arc<Outbox>>,
}

impl ReplyTo {
    /// Puts the reply in.
    pub fn send(mut self, frame: Utf8Bytes) {
        if let Some(outbox) = self.outbox.take() {
            let mut state = outbox.state.lock();
            state.reserved -= 1;
            if !state.ended {
                state.replies.push_back(frame);
            }
            drop(state);
            outbox.waker.wake();
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.state.lock().reserved -= 1;
            outbox.waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &'static str) -> Utf8Bytes {
        Utf8Bytes::from_static(text)
    }

    fn group(n: usize) -> Conversation {
        Conversation::from_key(&format!("group_{n}")).unwrap()
    }

    fn drain(outbox: &Outbox) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop().map(|frame| frame.to_string())).collect()
    }

    #[test]
    fn replies_go_first_and_have_their_places_reserved() {
        let outbox = Outbox::new(2, 100);
        let (first, second) = (outbox.reserve(), outbox.reserve());
        assert!(!outbox.has_room());
        outbox.push(frame("push"), &group(1));
        second.send(frame("second"));
        assert!(!outbox.has_room(), "a reply that is not taken keeps its place");
        drop(first);
        assert!(outbox.has_room(), "a place that was not used is free again");
        assert_eq!(drain(&outbox), ["second", "push"]);
        assert!(!outbox.owes_replies());
    }

    #[test]
    fn a_slow_reader_loses_pushes_and_is_told_which_after_the_rest() {
        let outbox = Outbox::new(2, 10);
        outbox.push(frame("0123456789"), &group(1));
        outbox.push(frame("x"), &group(2));
        outbox.push(frame("y"), &group(2));
        let told = drain(&outbox);
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], "0123456789");
        assert!(told[1].contains("resync") && told[1].contains("group_2"), "{}", told[1]);
        outbox.push(frame("fits again"), &group(2));
        assert_eq!(drain(&outbox), ["fits again"]);
    }

    #[test]
    fn many_missed_conversations_become_one_resync_of_all() {
        let outbox = Outbox::new(2, 0);
        for n in 0..=MISSED_MAX {
            outbox.push(frame("x"), &group(n));
        }
        let told = drain(&outbox);
        assert!(told.len() == 1 && !told[0].contains("conversation_id"), "{told:?}");
    }

    #[test]
    fn a_revocation_closes_what_an_older_token_opened() {
        let outbox = Outbox::new(2, 100);
        outbox.revoke(5);
        assert_eq!(outbox.close_reason(), None, "nobody is logged in");
        outbox.token_issued(5);
        outbox.revoke(4);
        assert_eq!(outbox.close_reason(), None);
        outbox.revoke(5);
        assert_eq!(outbox.close_reason(), Some(Close::TokenRevoked));
    }

    #[test]
    fn an_ended_outbox_keeps_nothing() {
        let outbox = Outbox::new(2, 100);
        let reply_to = outbox.reserve();
        outbox.push(frame("x"), &group(1));
        outbox.end();
        reply_to.send(frame("late"));
        outbox.push(frame("y"), &group(1));
        outbox.resync();
        assert!(drain(&outbox).is_empty());
    }
}
