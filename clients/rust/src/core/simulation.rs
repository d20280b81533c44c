//! The machine against a server that loses pushes, answers and connections, with a program that is slow and crashes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Start;
use super::machine::Login;
use super::state::{Core, Meta};
use crate::event::Event;
use crate::message::{Delivery, Draft};
use crate::protocol::Packet;
use crate::queue::{Queue, Taken};
use crate::store::Records;

const GROUP: &str = "group_1";
const CASES: u64 = 300;
const STEPS: usize = 400;
/// Longer than any delay of the client.
const END: Duration = Duration::from_secs(600);

/// A server with one group, of which `me` and `bob` are members.
#[derive(Default)]
struct Server {
    /// Committed messages: sequence number, id, sender.
    log: Vec<(u64, String, String)>,
    /// Accepted ones, by id, and those that are not committed yet.
    numbers: BTreeMap<String, u64>,
    uncommitted: VecDeque<(u64, String)>,
    /// Ids whose sender waits for the commit.
    waiting: Vec<String>,
    last_number: u64,
    version: u64,
    acked: u64,
    /// On the way to the client.
    frames: VecDeque<Value>,
    /// Answers of cmd 2 on the way to the client. A server works on sends and reads at the same time, so that these come
    /// before or after other frames.
    chat_replies: VecDeque<Value>,
}

fn shown((seq, msg_id, sender): &(u64, String, String)) -> Value {
    json!({"msg_id": msg_id, "seq": seq, "sender_id": sender, "content": "c", "msg_type": 1, "send_time": 0})
}

impl Server {
    fn commit(&mut self, seq: u64, msg_id: String, sender: &str) {
        self.log.push((seq, msg_id, sender.to_owned()));
        self.version += 1;
    }

    /// Bob sends: what is accepted is committed first, in the order of numbers.
    fn bob_sends(&mut self, is_pushed: bool) {
        self.commit_all();
        self.last_number += 1;
        let seq = self.last_number;
        self.commit(seq, format!("bob{seq}"), "bob");
        if is_pushed && let Some(entry) = self.log.last() {
            let push = json!({"cmd": 5, "code": 0, "conversation_id": GROUP, "payload": [shown(entry)], "next_cursor_seq": seq});
            self.frames.push_back(push);
        }
    }

    fn commit_all(&mut self) {
        while let Some((seq, msg_id)) = self.uncommitted.pop_front() {
            if let Some(place) = self.waiting.iter().position(|id| *id == msg_id) {
                self.waiting.remove(place);
                self.chat_replies.push_back(accepted(&msg_id, seq));
            }
            self.commit(seq, msg_id, "me");
        }
    }

    fn answer(&mut self, frame: &Value, refuses: bool) {
        let cmd = frame["cmd"].as_u64().unwrap();
        let mut reply = json!({"cmd": cmd, "code": 0, "conversation_id": GROUP});
        if cmd == 2 {
            reply["msg_id"] = frame["msg_id"].clone();
        }
        if refuses && cmd != 0 {
            reply["code"] = 503.into();
            reply["payload"] = json!({"message": "overloaded", "retry_after_ms": 40});
            let frames = if cmd == 2 { &mut self.chat_replies } else { &mut self.frames };
            frames.push_back(reply);
            return;
        }
        let cursor = frame["cursor_seq"].as_u64().unwrap_or(0);
        match cmd {
            0 => reply["next_cursor_seq"] = self.version.into(),
            2 => return self.chat(frame),
            3 => {
                let limit = usize::try_from(frame["payload"]["limit"].as_u64().unwrap().min(7)).unwrap();
                let rest: Vec<_> = self.log.iter().filter(|(seq, ..)| *seq > cursor).collect();
                let page = &rest[..rest.len().min(limit)];
                reply["next_cursor_seq"] = page.last().map_or(cursor, |(seq, ..)| *seq).into();
                reply["has_more"] = (rest.len() > limit).into();
                reply["payload"] = page.iter().map(|entry| shown(entry)).collect();
            }
            4 => {
                self.acked = self.acked.max(cursor);
                reply["seq"] = self.acked.into();
            }
            6 => {
                let last = self.log.last().map_or(0, |(seq, ..)| *seq);
                let unread =
                    self.log.iter().filter(|(seq, _, sender)| *seq > self.acked && sender == "bob").count();
                reply["payload"] = json!([{
                    "conversation_id": GROUP, "last_seq": last, "last_ack_seq": self.acked, "unread": unread
                }]);
                reply["next_cursor_seq"] = self.version.into();
                reply["has_more"] = false.into();
            }
            _ => return,
        }
        self.frames.push_back(reply);
    }

    fn chat(&mut self, frame: &Value) {
        let msg_id = frame["msg_id"].as_str().unwrap().to_owned();
        let known = self.numbers.get(&msg_id).copied();
        let seq = known.unwrap_or_else(|| {
            self.last_number += 1;
            self.numbers.insert(msg_id.clone(), self.last_number);
            self.uncommitted.push_back((self.last_number, msg_id.clone()));
            self.last_number
        });
        let is_committed = self.log.iter().any(|(_, id, _)| *id == msg_id);
        if frame["payload"]["ack"] == "stored" && !is_committed {
            self.waiting.push(msg_id);
        } else {
            self.chat_replies.push_back(accepted(&msg_id, seq));
        }
    }

    /// The next frame that arrives at the client.
    fn next_frame(&mut self, rng: &mut StdRng) -> Option<Value> {
        let reply_first = rng.random_bool(0.1);
        let reply = if reply_first { self.chat_replies.pop_front() } else { None };
        reply.or_else(|| self.frames.pop_front()).or_else(|| self.chat_replies.pop_front())
    }

    fn is_silent(&self) -> bool {
        self.frames.is_empty() && self.chat_replies.is_empty()
    }
}

fn accepted(msg_id: &str, seq: u64) -> Value {
    json!({"cmd": 2, "code": 0, "conversation_id": GROUP, "msg_id": msg_id, "seq": seq})
}

/// The client, its program and its store.
struct World {
    rng: StdRng,
    server: Server,
    core: Core,
    queue: Arc<Queue>,
    store: Records,
    now: Instant,
    is_online: bool,
    /// Sequence numbers that the program was told in this life of the client.
    told: Vec<u64>,
    /// The newest one of all lives.
    newest_told: u64,
    /// Messages that were handed over in this life.
    sent: Vec<(String, watch::Receiver<Delivery>)>,
    ids: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let meta = Meta { user_id: Some("me".into()), device_id: "d".into(), position: None };
        let queue = Arc::new(Queue::new(5));
        let core = Core::restore(meta, &Records::new(), Start::Oldest, Arc::clone(&queue)).unwrap();
        let (rng, server) = (StdRng::seed_from_u64(seed), Server::default());
        let (store, now) = (Records::new(), Instant::now());
        let (told, sent) = (Vec::new(), Vec::new());
        Self { rng, server, core, queue, store, now, is_online: false, told, newest_told: 0, sent, ids: 0 }
    }

    fn write(&mut self) {
        for (key, value) in self.core.take_writes() {
            match value {
                Some(value) => self.store.insert(key, value),
                None => self.store.remove(&key),
            };
        }
    }

    /// The process of the client dies, and another one begins with the store.
    fn crash(&mut self) {
        self.disconnect();
        self.queue = Arc::new(Queue::new(5));
        let meta = self.store.get("meta").map(|meta| serde_json::from_str(meta).unwrap());
        let meta = meta.unwrap_or_else(|| self.core.meta.clone());
        self.core = Core::restore(meta, &self.store, Start::Oldest, Arc::clone(&self.queue)).unwrap();
        self.sent.clear();
        self.check_order();
        self.told.clear();
    }

    fn disconnect(&mut self) {
        self.is_online = false;
        self.core.offline();
        self.server.frames.clear();
        self.server.chat_replies.clear();
        self.server.waiting.clear();
    }

    fn send(&mut self) {
        self.ids += 1;
        let draft = Draft::text("c").with_id(format!("me{}", self.ids));
        let (order, msg_id, delivery) = self.core.add(GROUP, draft).unwrap();
        self.write();
        self.core.kept(GROUP, order);
        self.sent.push((msg_id, delivery));
    }

    fn take(&mut self) -> bool {
        let taken = self.queue.take();
        self.core.processed();
        match taken {
            Taken::Event(Event::Message(message)) => self.told.push(message.message.seq),
            Taken::Event(_) => {}
            Taken::Nothing | Taken::End => return false,
        }
        true
    }

    fn pump(&mut self, refuse: f64) {
        for frame in self.core.pump(self.now) {
            let refuses = self.rng.random_bool(refuse);
            self.server.answer(&serde_json::from_str(&frame).unwrap(), refuses);
        }
    }

    fn deliver(&mut self) {
        if let Some(frame) = self.server.next_frame(&mut self.rng) {
            let packet: Packet = serde_json::from_value(frame).unwrap();
            self.core.frame(&packet, self.now);
        }
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..=1 => self.crash(),
            2..=4 => self.disconnect(),
            5..=24 => {
                let is_pushed = self.is_online && self.rng.random_bool(0.6);
                self.server.bob_sends(is_pushed);
            }
            25..=34 => self.send(),
            35..=44 => self.server.commit_all(),
            45..=54 => self.write(),
            55..=64 => drop(self.take()),
            65..=69 => {
                let seq = self.told.last().copied();
                self.core.mark_read(GROUP, seq, self.now);
            }
            70..=74 => self.now += Duration::from_millis(self.rng.random_range(0..3_000)),
            75..=79 if !self.is_online => {
                self.is_online = true;
                self.core.online(&Login::default(), self.now);
            }
            _ => self.deliver(),
        }
        self.pump(0.1);
    }

    /// What the program is told in one life has no gaps and no repetitions, and nothing is left out between lives.
    fn check_order(&mut self) {
        let Some(first) = self.told.first() else { return };
        let all: Vec<u64> = self.server.log.iter().map(|(seq, ..)| *seq).collect();
        let from = all.iter().position(|seq| seq == first).unwrap();
        assert_eq!(self.told, all[from..from + self.told.len()]);
        let left_out = all.iter().find(|seq| **seq > self.newest_told && seq < &first);
        assert_eq!(left_out, None, "after {}", self.newest_told);
        self.newest_told = self.told.last().copied().max(Some(self.newest_told)).unwrap_or(0);
    }

    /// Without further faults everything arrives.
    fn end(&mut self) {
        if !self.is_online {
            self.is_online = true;
            self.core.online(&Login::default(), self.now);
        }
        let end = self.now + END;
        while self.now < end {
            self.pump(0.0);
            self.server.commit_all();
            while !self.server.is_silent() {
                self.deliver();
                self.pump(0.0);
                while self.take() {}
            }
            while self.take() {}
            assert!(!self.core.is_overdue(self.now), "the server answers everything");
            self.pump(0.0);
            if self.server.is_silent() {
                self.now = self.core.wake_at(self.now).unwrap_or(end);
            }
        }
        self.write();
        self.check_order();
    }
}

#[test]
fn every_message_is_told_once_in_order_and_every_message_sent_is_stored_once() {
    for seed in 0..CASES {
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
        world.end();
        let last = world.server.log.last().map_or(0, |(seq, ..)| *seq);
        assert_eq!(world.newest_told, last, "seed {seed}");
        let stored: BTreeMap<&str, u64> =
            world.server.log.iter().map(|(seq, id, _)| (id.as_str(), *seq)).collect();
        assert_eq!(stored.len(), world.server.log.len(), "seed {seed}");
        for n in 1..=world.ids {
            assert!(stored.contains_key(format!("me{n}").as_str()), "seed {seed}: me{n} was handed over");
        }
        for (msg_id, delivery) in &world.sent {
            let seq = stored[msg_id.as_str()];
            assert_eq!(*delivery.borrow(), Delivery::Stored { seq }, "seed {seed}: {msg_id}");
        }
        assert_eq!(world.core.outbox(), [], "seed {seed}");
        let info = world.core.info(GROUP);
        assert_eq!(info.processed.unwrap_or(last), last, "seed {seed}");
        assert!(!world.store.keys().any(|key| key.starts_with("o ")), "seed {seed}");
    }
}
