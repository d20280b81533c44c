//! The bounded queue of frames between the gateway and one connection's socket.
//!
//! It has two lanes. *Replies*: they are bounded in number and in bytes. The capacity for each is reserved before its
//! request is read, so they are never dropped; if the client does not read its replies, the gateway stops reading its
//! requests. A request with a large reply reserves its bytes, too ([`ReplyTo::connection_bytes`]). *Pushes*: they are bounded in bytes;
//! if the client reads too slowly they are dropped, and the client gets a resync.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::traces::Span;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::wire::close::Close;
use crate::wire::name::ConversationName;
use crate::wire::reply::{self, Event};

/// Conversations with dropped pushes that are remembered by name; with more, one resync covers all conversations.
const MISSED_MAX: usize = 8;

/// Capacity in frames that an empty lane keeps.
const CAPACITY_KEPT: usize = 16;

/// The outbox of one connection. Any task adds frames; only the connection task removes them.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    limits: OutboxLimits,
    /// The bytes that large replies may have; most connections have none.
    large_reply_bytes: OnceLock<Arc<Semaphore>>,
    /// When the connection's token was issued; `i64::MAX` before the login, which no revocation reaches.
    token_issued_at_ms: AtomicI64,
    /// When the client last sent a frame, in milliseconds since the first outbox of this process.
    heard_at_ms: AtomicU64,
    /// The user whose connection this is.
    reader: OnceLock<UserId>,
}

/// Milliseconds since the first outbox of this process.
fn ms_of(now: Instant) -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(now.saturating_duration_since(*start).as_millis()).unwrap_or(u64::MAX)
}

/// What an outbox holds at most.
#[derive(Debug, Clone, Copy)]
pub struct OutboxLimits {
    /// Replies that are due or wait.
    pub replies: usize,
    /// Bytes of replies that wait; with as many, no further request is read.
    pub reply_bytes: usize,
    /// Bytes of pushes that wait.
    pub push_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Utf8Bytes>,
    /// The bytes of `replies`.
    reply_bytes: usize,
    /// Requests that were read and have no reply yet.
    reserved: usize,
    pushes: VecDeque<Utf8Bytes>,
    push_bytes: usize,
    /// A push whose way to the socket is traced; of several ones, the last.
    traced: Option<Box<Traced>>,
    missed: Missed,
    close: Option<Close>,
    /// The connection has ended: frames are discarded.
    ended: bool,
}

/// A push, and the spans that end when it is taken out.
#[derive(Debug)]
struct Traced {
    frame: Utf8Bytes,
    spans: Vec<Span>,
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
    /// An outbox within `limits`. Allocates memory on first use.
    #[must_use]
    pub fn new(limits: OutboxLimits) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            limits,
            large_reply_bytes: OnceLock::new(),
            token_issued_at_ms: AtomicI64::new(i64::MAX),
            heard_at_ms: AtomicU64::new(ms_of(Instant::now())),
            reader: OnceLock::new(),
        })
    }

    /// An outbox for tests in which little is written.
    #[cfg(test)]
    pub(crate) fn for_test() -> Arc<Self> {
        Self::new(OutboxLimits { replies: 8, reply_bytes: 1_000, push_bytes: 1_000 })
    }

    /// The client sent a frame.
    pub fn heard(&self, now: Instant) {
        self.heard_at(ms_of(now));
    }

    pub(crate) fn heard_at(&self, at_ms: u64) {
        self.heard_at_ms.store(at_ms, Ordering::Relaxed);
    }

    /// When the client last sent a frame: of two connections, the one that was silent longer has a lower number.
    #[must_use]
    pub fn heard_at_ms(&self) -> u64 {
        self.heard_at_ms.load(Ordering::Relaxed)
    }

    /// Whether there is capacity for another reply. If not, the next request is not read.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let state = self.state.lock();
        state.reserved + state.replies.len() < self.limits.replies
            && state.reply_bytes < self.limits.reply_bytes
    }

    /// Reserves the capacity for one reply, after [`has_room`](Self::has_room).
    #[must_use]
    pub fn reserve(self: &Arc<Self>) -> ReplyTo {
        self.state.lock().reserved += 1;
        ReplyTo { outbox: Some(Arc::clone(self)) }
    }

    /// Adds a frame to the reply lane that answers no request: a corrected reply, a small event. If the lane is full, a
    /// resync replaces it.
    pub fn notify(&self, frame: Utf8Bytes) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        if state.replies.len() >= self.limits.replies {
            state.missed = Missed::All;
        } else {
            state.add_reply(frame);
        }
        drop(state);
        self.waker.wake();
    }

    /// Adds a push; if it does not fit, it is dropped and followed by a resync.
    pub fn push(&self, frame: Utf8Bytes, conversation: &Conversation) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        if state.push_bytes + frame.len() > self.limits.push_bytes {
            metrics::counter!(shared::metrics::PUSH_DROPPED).increment(1);
            if matches!(state.missed, Missed::None) {
                metrics::counter!(shared::metrics::PUSH_SLOW_CONSUMERS).increment(1);
            }
            state.missed.add(conversation);
        } else {
            state.push_bytes += frame.len();
            state.pushes.push_back(frame);
        }
        drop(state);
        self.waker.wake();
    }

    /// The spans end when `frame`, which is pushed next, is taken out for the socket. If it is dropped, they are too.
    pub(crate) fn trace(&self, frame: &Utf8Bytes, spans: Vec<Span>) {
        self.state.lock().traced = Some(Box::new(Traced { frame: frame.clone(), spans }));
    }

    /// Adds a frame that may be lost; it is dropped if it does not fit.
    pub fn hint(&self, frame: Utf8Bytes) {
        let mut state = self.state.lock();
        if state.ended || state.push_bytes + frame.len() > self.limits.push_bytes {
            return;
        }
        state.push_bytes += frame.len();
        state.pushes.push_back(frame);
        drop(state);
        self.waker.wake();
    }

    /// Sends a resync for all conversations: pushes may be lost before they reached this outbox.
    pub fn resync(&self) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        state.missed = Missed::All;
        drop(state);
        self.waker.wake();
    }

    /// Asks the connection to close. The first reason wins.
    pub fn close(&self, why: Close) {
        self.state.lock().close.get_or_insert(why);
        self.waker.wake();
    }

    /// Sets the user whose frames these are.
    pub fn belongs_to(&self, user: &UserId) {
        self.reader.get_or_init(|| user.clone());
    }

    /// Sets when the connection's token was issued, in milliseconds since 1970.
    pub fn token_issued(&self, at_ms: i64) {
        self.token_issued_at_ms.store(at_ms, Ordering::Relaxed);
    }

    /// Asks the connection to close if its token was issued at or before `not_before_ms`.
    pub fn revoke(&self, not_before_ms: i64) {
        if self.token_issued_at_ms.load(Ordering::Relaxed) <= not_before_ms {
            self.close(Close::TokenRevoked);
        }
    }

    /// Registers `cx` to be woken by changes.
    pub fn watch(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// The next frame to write: replies first, then pushes, then a resync for dropped pushes.
    pub fn pop(&self) -> Option<Utf8Bytes> {
        let mut state = self.state.lock();
        if let Some(frame) = state.take_reply() {
            return Some(frame);
        }
        if let Some(frame) = state.pushes.pop_front() {
            state.push_bytes -= frame.len();
            if state.traced.is_some() {
                state.end_trace(&frame);
            }
            return Some(frame);
        }
        let resync = state.missed.take_one(self.reader.get().map(UserId::as_str));
        if resync.is_none() {
            state.shrink();
        }
        resync
    }

    /// The next frame of the reply lane.
    pub fn pop_reply(&self) -> Option<Utf8Bytes> {
        self.state.lock().take_reply()
    }

    /// The one reply of an outbox without a connection. It comes by the deadline of the message.
    pub async fn one_reply(&self) -> Utf8Bytes {
        poll_fn(|cx| {
            self.watch(cx);
            self.pop_reply().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// The reason to close, if the connection has to close.
    #[must_use]
    pub fn close_reason(&self) -> Option<Close> {
        self.state.lock().close
    }

    /// Whether replies are due or wait to be written.
    #[must_use]
    pub fn owes_replies(&self) -> bool {
        let state = self.state.lock();
        state.reserved > 0 || !state.replies.is_empty()
    }

    /// The connection has ended: discards all frames, now and later.
    pub fn end(&self) {
        let mut state = self.state.lock();
        *state = State { ended: true, reserved: state.reserved, ..State::default() };
    }
}

impl State {
    fn add_reply(&mut self, frame: Utf8Bytes) {
        self.reply_bytes += frame.len();
        self.replies.push_back(frame);
    }

    fn take_reply(&mut self) -> Option<Utf8Bytes> {
        let frame = self.replies.pop_front()?;
        self.reply_bytes -= frame.len();
        Some(frame)
    }

    #[cold]
    fn end_trace(&mut self, frame: &Utf8Bytes) {
        // The same bytes, not equal ones: those of the traced frame are kept until then.
        let is_it = |traced: &mut Box<Traced>| traced.frame.as_ptr() == frame.as_ptr();
        let traced = self.traced.take_if(is_it);
        traced.into_iter().flat_map(|traced| traced.spans).for_each(Span::record);
    }

    /// Frees the memory of a burst, so that an idle connection does not hold it.
    fn shrink(&mut self) {
        if self.pushes.capacity() > CAPACITY_KEPT {
            self.pushes = VecDeque::new();
        }
        if self.replies.capacity() > CAPACITY_KEPT {
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

    fn take_one(&mut self, reader: Option<&str>) -> Option<Utf8Bytes> {
        let frame = match self {
            Self::None => return None,
            Self::Some(some) => some.pop().map(|one| {
                reply::event(Some(&ConversationName::of(&one, reader.unwrap_or_default())), Event::Resync)
            }),
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

/// The reserved capacity for one reply, released on drop.
#[derive(Debug)]
pub struct ReplyTo {
    outbox: Option<Arc<Outbox>>,
}

impl ReplyTo {
    /// The bytes that large replies of this connection may have, of which a request reserves those of its reply.
    #[must_use]
    pub fn connection_bytes(&self) -> Option<&Arc<Semaphore>> {
        let outbox = self.outbox.as_ref()?;
        let new = || Arc::new(Semaphore::new(outbox.limits.reply_bytes));
        Some(outbox.large_reply_bytes.get_or_init(new))
    }

    /// Adds the reply.
    pub fn send(mut self, frame: Utf8Bytes) {
        if let Some(outbox) = self.outbox.take() {
            let mut state = outbox.state.lock();
            state.reserved -= 1;
            if !state.ended {
                state.add_reply(frame);
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

    fn outbox(replies: usize, push_bytes: usize) -> Arc<Outbox> {
        Outbox::new(OutboxLimits { replies, reply_bytes: 100, push_bytes })
    }

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
    fn replies_are_written_first_and_have_reserved_capacity() {
        let outbox = outbox(2, 100);
        let (first, second) = (outbox.reserve(), outbox.reserve());
        assert!(!outbox.has_room());
        outbox.push(frame("push"), &group(1));
        second.send(frame("second"));
        assert!(!outbox.has_room(), "an unread reply uses capacity");
        drop(first);
        assert!(outbox.has_room(), "an unused reservation is released");
        assert_eq!(drain(&outbox), ["second", "push"]);
        assert!(!outbox.owes_replies());
    }

    #[test]
    fn replies_that_are_not_read_use_capacity_in_bytes() {
        let outbox = outbox(9, 0);
        let (first, second) = (outbox.reserve(), outbox.reserve());
        first.send("x".repeat(99).into());
        assert!(outbox.has_room());
        second.send(frame("x"));
        assert!(!outbox.has_room(), "100 bytes wait");
        outbox.pop();
        assert!(outbox.has_room());
        let bytes = outbox.reserve().connection_bytes().map(|bytes| bytes.available_permits());
        assert_eq!(bytes, Some(100));
    }

    #[test]
    fn a_slow_consumer_loses_pushes_and_gets_a_resync_after_the_others() {
        let outbox = outbox(2, 10);
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
    fn many_dropped_conversations_become_one_resync_of_all() {
        let outbox = outbox(2, 0);
        for n in 0..=MISSED_MAX {
            outbox.push(frame("x"), &group(n));
        }
        let told = drain(&outbox);
        assert!(told.len() == 1 && !told[0].contains("conversation_id"), "{told:?}");
    }

    #[test]
    fn a_revocation_closes_connections_with_older_tokens() {
        let outbox = outbox(2, 100);
        outbox.revoke(5);
        assert_eq!(outbox.close_reason(), None, "no user is logged in");
        outbox.token_issued(5);
        outbox.revoke(4);
        assert_eq!(outbox.close_reason(), None);
        outbox.revoke(5);
        assert_eq!(outbox.close_reason(), Some(Close::TokenRevoked));
    }

    #[test]
    fn an_ended_outbox_discards_frames() {
        let outbox = outbox(2, 100);
        let reply_to = outbox.reserve();
        outbox.push(frame("x"), &group(1));
        outbox.end();
        reply_to.send(frame("late"));
        outbox.push(frame("y"), &group(1));
        outbox.resync();
        assert!(drain(&outbox).is_empty());
    }
}
