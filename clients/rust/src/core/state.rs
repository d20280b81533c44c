//! The state of a client, and what its parts share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::conversation::{Conversation, Info, Start};
use super::outbox::Item;
use crate::backoff::Backoff;
use crate::event::Event;
use crate::message::{Message, Outgoing, Refusal};
use crate::protocol::StoredMessage;
use crate::queue::Queue;
use crate::store::Records;

/// The server answers within 5 s; a connection that does not is dead.
pub(super) const REPLY_TIMEOUT: Duration = Duration::from_secs(12);
/// The server serves four reads of a user at once; more would wait there.
pub(super) const READS_AT_ONCE: usize = 4;
/// The largest page of a pull or sync.
pub(super) const PAGE_MAX: usize = 500;
/// Until the login's answer says otherwise.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A request that waits for its reply. Replies of one command and conversation carry no id: one is in flight at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Heartbeat,
    Sync,
    Pull(String),
    Ack(String),
    Chat(String),
}

/// A page of older messages that the program asked for.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) conversation_id: String,
    /// Messages below this one; the newest ones without it.
    pub(crate) before: Option<u64>,
    pub(crate) limit: usize,
    pub(crate) reply: oneshot::Sender<Result<(Vec<StoredMessage>, bool), Refusal>>,
    pub(crate) not_before: Option<Instant>,
}

/// The sync in progress, and when the next one begins.
#[derive(Debug, Default)]
pub(super) struct Sync {
    pub(super) is_running: bool,
    pub(super) cursor: u64,
    /// The conversations of a complete list so far.
    pub(super) seen: Option<BTreeSet<String>>,
    /// `Core::touches` when it began.
    pub(super) began: u64,
    pub(super) wanted_at: Option<Instant>,
    pub(super) not_before: Option<Instant>,
    pub(super) backoff: Backoff,
    /// One was completed on this connection.
    pub(super) is_done: bool,
}

/// What is kept beside conversations and outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) user_id: Option<String>,
    pub(crate) device_id: String,
    /// Where the last sync ended.
    pub(crate) position: Option<u64>,
}

/// What has to be written to the store.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    pub(super) meta: bool,
    pub(super) conversations: BTreeSet<String>,
    pub(super) items: BTreeMap<String, Option<String>>,
}

/// The state of a client.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) meta: Meta,
    pub(super) start: Start,
    pub(super) queue: Arc<Queue>,
    pub(super) is_online: bool,
    pub(super) conversations: BTreeMap<String, Conversation>,
    /// Conversations that may have something to do.
    pub(super) work: BTreeSet<String>,
    pub(super) sync: Sync,
    pub(super) heartbeat_every: Duration,
    pub(super) heartbeat_at: Option<Instant>,
    /// By request: when its reply is overdue.
    pub(super) in_flight: BTreeMap<Key, Instant>,
    pub(super) histories: VecDeque<History>,
    pub(super) history_in_flight: BTreeMap<String, History>,
    /// No message is sent before this time: the limit is the user's.
    pub(super) hold_until: Option<Instant>,
    pub(super) typed_at: BTreeMap<String, Instant>,
    pub(super) order: u64,
    pub(super) touches: u64,
    pub(super) caught_up: bool,
    pub(super) out: Vec<String>,
    pub(super) dirty: Dirty,
}

impl Core {
    /// From the records of a store.
    ///
    /// # Errors
    /// If a record is not one of these.
    pub(crate) fn restore(
        meta: Meta,
        records: &Records,
        start: Start,
        queue: Arc<Queue>,
    ) -> serde_json::Result<Self> {
        let mut core = Self {
            meta,
            start,
            queue,
            is_online: false,
            conversations: BTreeMap::new(),
            work: BTreeSet::new(),
            sync: Sync::default(),
            heartbeat_every: HEARTBEAT,
            heartbeat_at: None,
            in_flight: BTreeMap::new(),
            histories: VecDeque::new(),
            history_in_flight: BTreeMap::new(),
            hold_until: None,
            typed_at: BTreeMap::new(),
            order: 0,
            touches: 0,
            caught_up: false,
            out: Vec::new(),
            dirty: Dirty { meta: true, ..Dirty::default() },
        };
        for (key, value) in records {
            if let Some(id) = key.strip_prefix("c ") {
                let info: Info = serde_json::from_str(value)?;
                core.conversations.insert(id.to_owned(), Conversation::restored(info));
                core.work.insert(id.to_owned());
            }
        }
        for (_, value) in records.iter().filter(|(key, _)| key.starts_with("o ")) {
            let item: Item = serde_json::from_str(value)?;
            core.order = core.order.max(item.order);
            let conversation = core.conversation(&item.conversation_id.clone());
            conversation.info.peer = item.peer.clone().or(conversation.info.peer.take());
            conversation.outbox.add(item, true);
        }
        Ok(core)
    }

    /// The user; empty before the first login.
    pub(crate) fn me(&self) -> &str {
        self.meta.user_id.as_deref().unwrap_or_default()
    }

    /// A conversation, which may have something to do from now on.
    pub(super) fn conversation(&mut self, id: &str) -> &mut Conversation {
        if !self.work.contains(id) {
            self.work.insert(id.to_owned());
        }
        self.conversations.entry(id.to_owned()).or_default()
    }

    /// The same for a private chat, whose other user is `peer`.
    pub(crate) fn name_peer(&mut self, id: &str, peer: Option<&str>) {
        let conversation = self.conversation(id);
        if let Some(peer) = peer {
            conversation.info.peer = Some(peer.to_owned());
        }
    }

    /// What the list shows of a conversation changed.
    pub(super) fn changed(&mut self, id: &str) {
        self.touches += 1;
        let touches = self.touches;
        self.conversation(id).touched = touches;
        self.dirty.conversations.insert(id.to_owned());
        self.queue.put(Event::Conversation { conversation_id: id.to_owned() });
    }

    /// An item of the outbox changed; it is removed if `item` is `None`.
    pub(super) fn keep_item(&mut self, key: String, item: Option<&Item>) {
        let record = item.and_then(|item| serde_json::to_string(item).ok());
        self.dirty.items.insert(key, record);
    }

    /// Messages that come next in a conversation. Those of the user that were in the outbox are stored.
    pub(super) fn tell(&mut self, id: &str, messages: Vec<StoredMessage>) {
        for message in messages {
            let mine = message.sender_id == self.me();
            let own = mine.then(|| (message.msg_id.clone(), message.seq));
            let peer = self.conversations.get(id).and_then(|one| one.info.peer.clone());
            self.queue.put(Event::Message(Message { conversation_id: id.to_owned(), peer, mine, message }));
            if let Some((msg_id, seq)) = own {
                self.settle(id, &msg_id, seq);
            }
        }
    }

    /// Sends a request and waits for its reply.
    pub(super) fn request(&mut self, key: Key, frame: String, now: Instant) {
        self.in_flight.insert(key, now + REPLY_TIMEOUT);
        self.out.push(frame);
    }

    /// A request about a conversation: a private chat is named by its other user.
    pub(super) fn frame_about(&self, id: &str, mut frame: Value) -> String {
        match self.conversations.get(id).and_then(|one| one.info.peer.as_deref()) {
            Some(peer) => frame["to"] = peer.into(),
            None => frame["conversation_id"] = id.into(),
        }
        frame.to_string()
    }

    /// Syncs at this time, or earlier if that was wanted before.
    pub(super) fn sync_at(&mut self, at: Instant) {
        let wanted = self.sync.wanted_at.get_or_insert(at);
        *wanted = at.min(*wanted);
    }

    /// Pulls, history and syncs in flight.
    pub(super) fn reads_in_flight(&self) -> usize {
        self.in_flight.keys().filter(|key| matches!(key, Key::Pull(_) | Key::Sync)).count()
    }

    /// The messages of the outbox, in the order of sending within each conversation.
    pub(crate) fn outbox(&self) -> Vec<Outgoing> {
        let entries = self.conversations.values().flat_map(|one| one.outbox.entries.values());
        entries.map(|entry| entry.item.outgoing()).collect()
    }

    /// The conversations of the user.
    pub(crate) fn list(&self) -> Vec<(String, Info)> {
        let listed = self.conversations.iter().filter(|(_, one)| one.info.is_member);
        listed.map(|(id, one)| (id.clone(), one.info.clone())).collect()
    }

    /// One conversation as the list shows it, whether it is one of the user's or not.
    pub(crate) fn info(&self, id: &str) -> Info {
        self.conversations.get(id).map(|one| one.info.clone()).unwrap_or_default()
    }

    /// Whether anything is to be written.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.meta || !self.dirty.conversations.is_empty() || !self.dirty.items.is_empty()
    }

    /// What is to be written. Nothing is kept of conversations that the user is not in.
    pub(crate) fn take_writes(&mut self) -> BTreeMap<String, Option<String>> {
        let Dirty { meta, conversations, items } = std::mem::take(&mut self.dirty);
        let mut writes = items;
        if meta {
            writes.insert("meta".to_owned(), serde_json::to_string(&self.meta).ok());
        }
        for id in conversations {
            let kept = self.conversations.get(&id).filter(|one| one.info.is_member);
            let record = kept.and_then(|one| serde_json::to_string(&one.info).ok());
            writes.insert(format!("c {id}"), record);
        }
        writes
    }

    /// A write failed: it is to be written again, unless something newer is.
    pub(crate) fn put_back(&mut self, writes: BTreeMap<String, Option<String>>) {
        for (key, value) in writes {
            if key == "meta" {
                self.dirty.meta = true;
            } else if let Some(id) = key.strip_prefix("c ") {
                self.dirty.conversations.insert(id.to_owned());
            } else {
                self.dirty.items.entry(key).or_insert(value);
            }
        }
    }
}

/// The position of a heartbeat is that of the last sync.
pub(super) fn heartbeat_frame(position: Option<u64>) -> String {
    match position {
        Some(position) => json!({"cmd": 0, "cursor_seq": position}).to_string(),
        None => json!({"cmd": 0}).to_string(),
    }
}
