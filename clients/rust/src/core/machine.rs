//! What happens to a client, and what it does then.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::state::Core;
use crate::event::Event;
use crate::message::Delivery;
use crate::protocol::Packet;

/// A push that was lost just before the login is noticed by a heartbeat soon after it.
const FIRST_HEARTBEAT: Duration = Duration::from_secs(2);
/// The shortest time between two typing events of a conversation; the server takes two a second.
const TYPING_EVERY: Duration = Duration::from_secs(2);

/// What the answer to a login says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Login {
    pub(crate) user_id: Option<String>,
    pub(crate) heartbeat_ms: Option<u64>,
    pub(crate) features: Vec<String>,
}

/// What the owner of the connection has to do after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing.
    GoOn,
    /// The token of this connection ends: exchange it.
    Renew,
    /// Nothing is answered any more without a new login.
    LogIn,
}

impl Core {
    /// The first login has said who the user is.
    pub(crate) fn be(&mut self, user: String) {
        self.meta.user_id = Some(user);
        self.dirty.meta = true;
    }

    /// Logged in: catches up.
    pub(crate) fn online(&mut self, login: &Login, now: Instant) {
        self.is_online = true;
        self.caught_up = false;
        self.sync.is_done = false;
        if let Some(every) = login.heartbeat_ms.filter(|every| *every > 0) {
            self.heartbeat_every = Duration::from_millis(every);
        }
        self.heartbeat_at = Some(now + FIRST_HEARTBEAT.min(self.heartbeat_every));
        self.sync_at(now);
        for (id, one) in &mut self.conversations {
            if one.outbox.unconfirmed().next().is_some() {
                one.outbox.accepted(now);
            }
            self.work.insert(id.clone());
        }
    }

    /// The connection is lost. What is unanswered is done again on the next one.
    pub(crate) fn offline(&mut self) {
        self.is_online = false;
        self.in_flight.clear();
        self.out.clear();
        (self.sync.is_running, self.sync.not_before, self.hold_until) = (false, None, None);
        self.heartbeat_at = None;
        let histories = std::mem::take(&mut self.history_in_flight);
        self.histories.extend(histories.into_values());
        self.conversations.values_mut().for_each(super::conversation::Conversation::offline);
    }

    /// A frame of the server.
    pub(crate) fn frame(&mut self, frame: &Packet, now: Instant) -> Then {
        if frame.code == 401 && frame.cmd != 1 {
            return Then::LogIn;
        }
        match frame.cmd {
            0 => self.heartbeat_reply(frame, now),
            2 => self.chat_reply(frame, now),
            3 => self.pull_reply(frame, now),
            4 => self.ack_reply(frame, now),
            5 => self.push(frame, now),
            6 => self.sync_reply(frame, now),
            7 => {
                self.event(frame, now);
                if frame.event() == Some("token_expiring") {
                    return Then::Renew;
                }
            }
            _ => {}
        }
        Then::GoOn
    }

    /// The program is done with messages, or there is room for more.
    pub(crate) fn processed(&mut self) {
        for (id, seq) in self.queue.take_done() {
            self.conversation(&id).processed(seq);
            self.dirty.conversations.insert(id);
        }
    }

    /// Tells the others that the user is writing. Nothing is lost if nobody is told.
    pub(crate) fn typing(&mut self, id: &str, now: Instant) {
        self.typed_at.retain(|_, at| *at + TYPING_EVERY > now);
        if self.is_online && !self.typed_at.contains_key(id) {
            self.typed_at.insert(id.to_owned(), now);
            let frame = self.frame_about(id, json!({"cmd": 8}));
            self.out.push(frame);
        }
    }

    /// Does what is due. Returns the frames to send, in order.
    pub(crate) fn pump(&mut self, now: Instant) -> Vec<String> {
        if self.is_online {
            self.pump_heartbeat(now);
            self.pump_sync(now);
            let work: Vec<String> = self.work.iter().cloned().collect();
            for id in work {
                self.pump_chats(&id, now);
                self.pump_pull(&id, now);
                self.pump_ack(&id, now);
                if !self.has_work(&id) {
                    self.work.remove(&id);
                }
            }
            self.pump_histories(now);
            self.tell_caught_up();
        }
        std::mem::take(&mut self.out)
    }

    fn has_work(&self, id: &str) -> bool {
        let Some(one) = self.conversations.get(id) else { return false };
        let sends =
            one.outbox.entries.values().any(|entry| !matches!(entry.item.delivery, Delivery::Failed(_)));
        one.is_stale || one.pull.is_some() || one.info.read_pending.is_some() || sends
    }

    /// When it has something to do although nothing happens.
    pub(crate) fn wake_at(&self, now: Instant) -> Option<Instant> {
        if !self.is_online {
            return None;
        }
        let in_future = |at: &Instant| *at > now;
        let conversations = self.work.iter().filter_map(|id| self.conversations.get(id));
        let waits = conversations.flat_map(|one| {
            let reads = one.not_before.filter(|_| one.is_stale || one.info.read_pending.is_some());
            [reads, one.outbox.wake_at()]
        });
        let histories = self.histories.iter().map(|history| history.not_before);
        let sync = if self.sync.is_running { self.sync.not_before } else { self.sync.wanted_at };
        let others = [self.heartbeat_at, sync, self.hold_until, self.overdue_at()];
        waits.chain(histories).chain(others).flatten().filter(in_future).min()
    }

    fn overdue_at(&self) -> Option<Instant> {
        self.in_flight.values().min().copied()
    }

    /// Whether a request was not answered in time: the connection is dead.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.overdue_at().is_some_and(|at| at <= now)
    }

    fn tell_caught_up(&mut self) {
        let is_behind = |id: &String| {
            let one = self.conversations.get(id);
            one.is_some_and(|one| one.info.is_member && (one.is_stale || one.pull.is_some()))
        };
        if !self.caught_up && self.sync.is_done && !self.work.iter().any(is_behind) {
            self.caught_up = true;
            self.queue.put(Event::CaughtUp);
        }
    }
}
