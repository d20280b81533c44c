//! Reading: pulls, history, read positions, syncs and heartbeats.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::conversation::Pull;
use super::state::{Core, History, Key, PAGE_MAX, READS_AT_ONCE, heartbeat_frame};
use crate::event::Event;
use crate::message::Refusal;
use crate::protocol::Packet;

/// Requests to sync at about the same time become one.
pub(super) const SYNC_SOON: Duration = Duration::from_secs(1);
/// After a sync that the server refuses for good, as no server should.
const SYNC_REFUSED: Duration = Duration::from_secs(60);
/// History requests that wait; further ones are refused.
const HISTORIES_MAX: usize = 1_000;

fn may_retry(reply: &Packet) -> bool {
    matches!(reply.code, 429 | 500 | 503)
}

fn retry_after(reply: &Packet) -> Option<Duration> {
    reply.retry_after_ms().map(Duration::from_millis)
}

impl Core {
    /// Room for messages that pulls in flight will fill.
    pub(super) fn reserved(&self) -> usize {
        let pulls = self.work.iter().filter_map(|id| self.conversations.get(id)?.pull);
        pulls.map(|pull| pull.limit).sum()
    }

    /// Pulls what is missing at the new end of a conversation.
    pub(super) fn pump_pull(&mut self, id: &str, now: Instant) {
        let room = self.queue.room().saturating_sub(self.reserved()).min(PAGE_MAX);
        let is_free =
            self.reads_in_flight() < READS_AT_ONCE && !self.in_flight.contains_key(&Key::Pull(id.to_owned()));
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let is_due = conversation.is_stale && conversation.not_before.is_none_or(|at| at <= now);
        let Some(from) = conversation.cursor.filter(|_| is_due && is_free && room > 0) else { return };
        conversation.is_stale = false;
        conversation.pull = Some(Pull { from, limit: room });
        let payload = json!({"limit": room});
        let frame = self.frame_about(id, json!({"cmd": 3, "cursor_seq": from, "payload": payload}));
        self.request(Key::Pull(id.to_owned()), frame, now);
    }

    /// A reply of cmd 3.
    pub(super) fn pull_reply(&mut self, reply: &Packet, now: Instant) {
        let Some(id) = self.id_of(reply, |key| matches!(key, Key::Pull(_))) else { return };
        self.in_flight.remove(&Key::Pull(id.clone()));
        if let Some(history) = self.history_in_flight.remove(&id) {
            self.answer_history(history, reply, now);
            return;
        }
        let me = self.me().to_owned();
        let conversation = self.conversation(&id);
        let Some(Pull { from, .. }) = conversation.pull.take() else { return };
        if reply.code != 0 {
            if may_retry(reply) {
                conversation.is_stale = true;
                conversation.not_before = Some(now + conversation.backoff.after(retry_after(reply)));
            } else {
                // Not a member any more: an event or the next sync says so as well.
                conversation.gone();
                self.changed(&id);
            }
            return;
        }
        conversation.backoff.reset();
        let Ok(page) = reply.messages() else { return self.trouble("a pull's answer is malformed") };
        conversation.is_stale |= reply.has_more == Some(true);
        let told = conversation.pulled(from, page, reply.next_cursor_seq.unwrap_or(from), &me);
        if !told.is_empty() {
            self.changed(&id);
            self.tell(&id, told);
        }
    }

    /// Asks for older messages.
    pub(crate) fn history(&mut self, history: History) {
        if self.histories.len() >= HISTORIES_MAX {
            let message = format!("{HISTORIES_MAX} requests for history wait");
            // Without a receiver nobody waits for it.
            let _ = history.reply.send(Err(Refusal { code: 429, message }));
            return;
        }
        self.conversation(&history.conversation_id);
        self.histories.push_back(history);
    }

    pub(super) fn pump_histories(&mut self, now: Instant) {
        for _ in 0..self.histories.len() {
            let Some(history) = self.histories.pop_front() else { return };
            let id = history.conversation_id.clone();
            let is_free = self.reads_in_flight() < READS_AT_ONCE
                && !self.in_flight.contains_key(&Key::Pull(id.clone()))
                && history.not_before.is_none_or(|at| at <= now);
            if history.reply.is_closed() {
                continue;
            }
            if !is_free {
                self.histories.push_back(history);
                continue;
            }
            let payload = json!({"limit": history.limit.clamp(1, PAGE_MAX), "direction": "backward"});
            let mut frame = json!({"cmd": 3, "payload": payload});
            if let Some(before) = history.before {
                frame["cursor_seq"] = before.into();
            }
            let frame = self.frame_about(&id, frame);
            self.history_in_flight.insert(id.clone(), history);
            self.request(Key::Pull(id), frame, now);
        }
    }

    fn answer_history(&mut self, mut history: History, reply: &Packet, now: Instant) {
        if may_retry(reply) {
            let delay = self.conversation(&history.conversation_id).backoff.after(retry_after(reply));
            history.not_before = Some(now + delay);
            self.histories.push_front(history);
            return;
        }
        let answer = match reply.messages() {
            Ok(page) if reply.code == 0 => Ok((page, reply.has_more == Some(true))),
            _ => Err(Refusal::of(reply.code, &reply.payload)),
        };
        // Without a receiver nobody waits for it.
        let _ = history.reply.send(answer);
    }

    /// Moves the read position to `seq`, or to the newest message.
    pub(crate) fn mark_read(&mut self, id: &str, seq: Option<u64>, now: Instant) {
        let conversation = self.conversation(id);
        let newest = conversation.info.last_seq;
        let to = seq.map_or(newest, |seq| seq.min(newest));
        if to <= conversation.info.read_seq {
            return;
        }
        conversation.info.read_pending = Some(to);
        if !conversation.read(to, None) {
            self.sync_at(now + SYNC_SOON);
        }
        self.changed(id);
    }

    pub(super) fn pump_ack(&mut self, id: &str, now: Instant) {
        let Some(conversation) = self.conversations.get_mut(id) else { return };
        let is_due = !conversation.is_acking && conversation.not_before.is_none_or(|at| at <= now);
        let Some(seq) = conversation.info.read_pending.filter(|_| is_due) else { return };
        conversation.is_acking = true;
        let frame = self.frame_about(id, json!({"cmd": 4, "cursor_seq": seq}));
        self.request(Key::Ack(id.to_owned()), frame, now);
    }

    /// A reply of cmd 4.
    pub(super) fn ack_reply(&mut self, reply: &Packet, now: Instant) {
        let Some(id) = self.id_of(reply, |key| matches!(key, Key::Ack(_))) else { return };
        self.in_flight.remove(&Key::Ack(id.clone()));
        let conversation = self.conversation(&id);
        conversation.is_acking = false;
        if may_retry(reply) {
            conversation.not_before = Some(now + conversation.backoff.after(retry_after(reply)));
            return;
        }
        let stored = reply.seq.filter(|_| reply.code == 0);
        let is_reached =
            conversation.info.read_pending.is_none_or(|pending| stored.is_none_or(|seq| seq >= pending));
        if is_reached {
            conversation.info.read_pending = None;
        }
        self.dirty.conversations.insert(id);
    }

    pub(super) fn pump_sync(&mut self, now: Instant) {
        if self.in_flight.contains_key(&Key::Sync) || self.sync.not_before.is_some_and(|at| at > now) {
            return;
        }
        if !self.sync.is_running {
            if self.sync.wanted_at.is_none_or(|at| at > now) {
                return;
            }
            self.sync.wanted_at = None;
            self.sync.is_running = true;
            self.sync.cursor = self.meta.position.unwrap_or(0);
            self.sync.seen = None;
            self.sync.began = self.touches;
        }
        let payload = json!({"limit": PAGE_MAX});
        let frame = json!({"cmd": 6, "cursor_seq": self.sync.cursor, "payload": payload}).to_string();
        self.request(Key::Sync, frame, now);
    }

    /// A reply of cmd 6.
    pub(super) fn sync_reply(&mut self, reply: &Packet, now: Instant) {
        self.in_flight.remove(&Key::Sync);
        if !self.sync.is_running {
            return;
        }
        if reply.code != 0 {
            if may_retry(reply) {
                self.sync.not_before = Some(now + self.sync.backoff.after(retry_after(reply)));
            } else {
                self.sync.is_running = false;
                self.sync_at(now + SYNC_REFUSED);
                self.trouble(&format!("a sync was refused: {}", Refusal::of(reply.code, &reply.payload)));
            }
            return;
        }
        self.sync.backoff.reset();
        if reply.reset {
            self.sync.seen = Some(BTreeSet::new());
        }
        let start = self.start;
        for entry in reply.entries().unwrap_or_default() {
            let id = entry.conversation_id.clone();
            self.conversation(&id).entry(&entry, start);
            self.changed(&id);
            if let Some(seen) = &mut self.sync.seen {
                seen.insert(id);
            }
        }
        self.sync.cursor = reply.next_cursor_seq.unwrap_or(self.sync.cursor);
        let is_last = reply.has_more != Some(true);
        if is_last && let Some(seen) = self.sync.seen.take() {
            self.forget_all_but(&seen);
            self.move_to(self.sync.cursor);
        } else if self.sync.seen.is_none() {
            // A complete list counts when it is complete.
            self.move_to(self.sync.cursor);
        }
        self.sync.is_running = !is_last;
        self.sync.is_done |= is_last;
    }

    fn move_to(&mut self, position: u64) {
        self.meta.position = Some(position);
        self.dirty.meta = true;
    }

    /// A complete list has come: what is not in it is no more, unless it changed meanwhile or is being sent to.
    fn forget_all_but(&mut self, seen: &BTreeSet<String>) {
        let began = self.sync.began;
        let mut forgotten = Vec::new();
        for (id, one) in &mut self.conversations {
            if !seen.contains(id) && one.touched <= began && one.outbox.entries.is_empty() {
                one.forget();
                forgotten.push(id.clone());
            }
        }
        for id in forgotten {
            self.changed(&id);
        }
    }

    pub(super) fn pump_heartbeat(&mut self, now: Instant) {
        let is_due = self.heartbeat_at.is_some_and(|at| at <= now);
        if !is_due || self.in_flight.contains_key(&Key::Heartbeat) {
            return;
        }
        self.heartbeat_at = Some(now + self.heartbeat_every);
        // During a sync the position moves: a comparison would say nothing.
        let position = self.meta.position.filter(|_| !self.sync.is_running);
        self.request(Key::Heartbeat, heartbeat_frame(position), now);
    }

    /// A reply of cmd 0: another position means that something was missed.
    pub(super) fn heartbeat_reply(&mut self, reply: &Packet, now: Instant) {
        self.in_flight.remove(&Key::Heartbeat);
        let answered = reply.next_cursor_seq;
        if answered.is_some() && answered != self.meta.position && !self.sync.is_running {
            self.sync_at(now);
        }
    }

    /// The conversation of a reply: the one that it names, or the only one with such a request in flight.
    fn id_of(&self, reply: &Packet, is_kind: impl Fn(&Key) -> bool) -> Option<String> {
        if let Some(id) = &reply.conversation_id {
            return Some(id.clone());
        }
        let mut keys = self.in_flight.keys().filter(|key| is_kind(key));
        match (keys.next(), keys.next()) {
            (Some(Key::Pull(id) | Key::Ack(id)), None) => Some(id.clone()),
            _ => None,
        }
    }

    pub(super) fn trouble(&self, sentence: &str) {
        self.queue.put(Event::Trouble(sentence.to_owned()));
    }
}
