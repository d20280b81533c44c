//! One conversation: its cursor, and what the list shows of it. Pure rules.
//!
//! All messages up to the cursor were told, in order. A push is told as far as it continues the cursor without a gap;
//! pulls close gaps.

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::outbox::Outbox;
use crate::backoff::Backoff;
use crate::protocol::{Entry, StoredMessage};

/// Where a client begins in a conversation that its store does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// After the read position.
    #[default]
    Unread,
    /// With messages that come from now on.
    New,
    /// At the oldest message that the user may see.
    Oldest,
}

/// What the list shows of a conversation, as it is kept in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Info {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer: Option<String>,
    /// The newest sequence number that is known.
    pub(crate) last_seq: u64,
    /// The read position, never behind the server's.
    pub(crate) read_seq: u64,
    /// A read position that the server has not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) read_pending: Option<u64>,
    pub(crate) unread: u64,
    /// How far the other user of a private chat has read, as far as it is known.
    #[serde(default)]
    pub(crate) peer_read_seq: u64,
    /// Messages up to this one were processed by the program. Absent until a sync has said where to begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) processed: Option<u64>,
    /// The server named it as one of the user's.
    #[serde(default)]
    pub(crate) is_member: bool,
}

/// A pull in flight.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pull {
    pub(crate) from: u64,
    pub(crate) limit: usize,
}

/// A conversation.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    pub(crate) info: Info,
    pub(crate) outbox: Outbox,
    /// Everything up to here was told. Absent until a sync has said where to begin.
    pub(crate) cursor: Option<u64>,
    /// The first message that was pushed while there was no cursor.
    first_pushed: Option<u64>,
    /// Messages may be missing above the cursor: a pull is due.
    pub(crate) is_stale: bool,
    pub(crate) pull: Option<Pull>,
    /// No pull and no read position is sent before this time.
    pub(crate) not_before: Option<Instant>,
    pub(crate) backoff: Backoff,
    pub(crate) is_acking: bool,
    /// When the list last changed here, for complete lists.
    pub(crate) touched: u64,
}

impl Conversation {
    pub(crate) fn restored(info: Info) -> Self {
        let cursor = info.processed;
        let is_stale = cursor.is_some_and(|cursor| info.last_seq > cursor);
        Self { info, cursor, is_stale, ..Self::default() }
    }

    /// An entry of a sync. Pushes may have gone further than the entry: what they said stays.
    pub(crate) fn entry(&mut self, entry: &Entry, start: Start) {
        if let Some(peer) = &entry.peer {
            self.info.peer = Some(peer.clone());
        }
        if entry.removed {
            self.gone();
            return;
        }
        self.info.is_member = true;
        let (last_seq, read_seq) = (entry.last_seq.unwrap_or(0), entry.last_ack_seq.unwrap_or(0));
        let unread = entry.unread.unwrap_or(0);
        if last_seq >= self.info.last_seq {
            self.info.last_seq = last_seq;
            // A position that was moved here, and that the server does not know yet, counts.
            if read_seq >= self.info.read_seq {
                (self.info.read_seq, self.info.unread) = (read_seq, unread);
            }
        }
        if self.cursor.is_none() {
            let from = match start {
                // Without unread messages, what is before the newest one is history from before the user joined.
                Start::Unread if unread > 0 => read_seq,
                Start::Unread | Start::New => last_seq,
                Start::Oldest => 0,
            };
            let cursor = self.first_pushed.take().map_or(from, |first| from.min(first.saturating_sub(1)));
            (self.cursor, self.info.processed) = (Some(cursor), Some(cursor));
        }
        self.is_stale |= self.cursor.is_some_and(|cursor| self.info.last_seq > cursor);
    }

    /// The part of a push that continues the cursor without a gap, and whether a pull is needed. A push leaves out what
    /// its receiver sent, also in the middle, so that each step counts, not only the first one.
    pub(crate) fn push(&mut self, page: Vec<StoredMessage>, me: &str) -> Vec<StoredMessage> {
        self.news(&page, me);
        let Some(cursor) = self.cursor else {
            self.pushed_early(&page);
            return Vec::new();
        };
        let mut next = cursor;
        let mut told: Vec<StoredMessage> = Vec::new();
        for message in page.into_iter().filter(|message| message.seq > cursor) {
            if message.seq != next + 1 {
                self.is_stale = true;
                break;
            }
            next = message.seq;
            told.push(message);
        }
        self.cursor = Some(next);
        told
    }

    /// A push before a sync has said where to begin.
    fn pushed_early(&mut self, page: &[StoredMessage]) {
        let first = page.first().map(|message| message.seq);
        self.first_pushed = self.first_pushed.into_iter().chain(first).min();
    }

    /// There is no room for this push: it is pulled later.
    pub(crate) fn put_off(&mut self, page: &[StoredMessage], me: &str) {
        self.news(page, me);
        if self.cursor.is_none() {
            self.pushed_early(page);
        }
        self.is_stale |= self.cursor.is_some_and(|cursor| self.info.last_seq > cursor);
    }

    /// The new part of the answer to a pull from `from`: everything up to `next` is in it.
    pub(crate) fn pulled(
        &mut self,
        from: u64,
        page: Vec<StoredMessage>,
        next: u64,
        me: &str,
    ) -> Vec<StoredMessage> {
        self.news(&page, me);
        let Some(cursor) = self.cursor.filter(|cursor| from <= *cursor) else { return Vec::new() };
        self.cursor = Some(cursor.max(next));
        page.into_iter().filter(|message| message.seq > cursor).collect()
    }

    /// Counts what is newer than everything known.
    fn news(&mut self, page: &[StoredMessage], me: &str) {
        let news = page.iter().filter(|message| message.seq > self.info.last_seq);
        let unread = news.filter(|message| {
            let counts = crate::message::counts(message.msg_type) && !message.recalled;
            counts && message.sender_id != me && message.seq > self.info.read_seq
        });
        self.info.unread += unread.count() as u64;
        let newest = page.last().map_or(0, |message| message.seq);
        self.info.last_seq = self.info.last_seq.max(newest);
    }

    /// The read position is at `seq`; `unread` messages are above it, if the server said so. False if that is unknown.
    pub(crate) fn read(&mut self, seq: u64, unread: Option<u64>) -> bool {
        if seq < self.info.read_seq {
            return true;
        }
        self.info.read_seq = seq;
        let unread = if seq >= self.info.last_seq { Some(0) } else { unread };
        self.info.unread = unread.unwrap_or(self.info.unread);
        unread.is_some()
    }

    /// The program is done with the messages up to `seq`.
    pub(crate) fn processed(&mut self, seq: u64) {
        self.info.processed = self.info.processed.max(Some(seq));
    }

    /// The user is not in this group any more.
    pub(crate) fn gone(&mut self) {
        (self.info.is_member, self.is_stale, self.info.read_pending) = (false, false, None);
    }

    /// The server does not list it any more. What comes later begins where it then says.
    pub(crate) fn forget(&mut self) {
        let peer = self.info.peer.take();
        self.info = Info { peer, ..Info::default() };
        (self.cursor, self.first_pushed, self.is_stale) = (None, None, false);
    }

    /// The connection is lost.
    pub(crate) fn offline(&mut self) {
        self.is_stale |= self.pull.take().is_some();
        (self.is_acking, self.not_before) = (false, None);
        self.outbox.offline();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(seqs: &[u64]) -> Vec<StoredMessage> {
        let message = |seq: &u64| StoredMessage {
            msg_id: format!("m{seq}"),
            seq: *seq,
            sender_id: "bob".into(),
            content: "c".into(),
            msg_type: 1,
            ..StoredMessage::default()
        };
        seqs.iter().map(message).collect()
    }

    fn seqs(page: &[StoredMessage]) -> Vec<u64> {
        page.iter().map(|message| message.seq).collect()
    }

    fn entry(last_seq: u64, last_ack_seq: u64, unread: u64) -> Entry {
        let entry = serde_json::json!({
            "conversation_id": "group_1", "last_seq": last_seq, "last_ack_seq": last_ack_seq, "unread": unread
        });
        serde_json::from_value(entry).unwrap()
    }

    fn at(cursor: u64) -> Conversation {
        Conversation { cursor: Some(cursor), ..Conversation::default() }
    }

    #[test]
    fn a_push_is_told_as_far_as_it_continues_the_cursor() {
        let mut one = at(3);
        assert_eq!(seqs(&one.push(page(&[4, 5]), "me")), [4, 5]);
        assert!(!one.is_stale);
        assert!(one.push(page(&[4, 5]), "me").is_empty(), "known");
        assert_eq!(seqs(&one.push(page(&[6, 8, 9]), "me")), [6], "7 was sent by this connection");
        assert!(one.is_stale);
        assert_eq!(one.cursor, Some(6));
        assert_eq!(one.info.last_seq, 9);
    }

    #[test]
    fn a_pull_closes_the_gap_and_repeats_nothing() {
        let mut one = at(3);
        one.push(page(&[4]), "me");
        assert_eq!(seqs(&one.pulled(3, page(&[4, 7]), 7, "me")), [7]);
        assert_eq!(one.cursor, Some(7));
        assert!(one.pulled(9, page(&[10]), 10, "me").is_empty(), "it began above the cursor");
        assert_eq!(one.cursor, Some(7));
        assert!(one.pulled(7, Vec::new(), 7, "me").is_empty());
    }

    #[test]
    fn a_new_conversation_begins_where_the_program_wants() {
        for (start, entry, cursor) in [
            (Start::Unread, entry(9, 4, 3), 4),
            (Start::Unread, entry(9, 0, 0), 9),
            (Start::New, entry(9, 4, 3), 9),
            (Start::Oldest, entry(9, 4, 3), 0),
        ] {
            let mut one = Conversation::default();
            one.entry(&entry, start);
            assert_eq!(one.cursor, Some(cursor), "{start:?}");
            assert_eq!(one.is_stale, cursor < 9, "{start:?}");
        }
    }

    #[test]
    fn a_push_before_the_first_entry_is_not_left_out() {
        let mut one = Conversation::default();
        assert!(one.push(page(&[5, 6]), "me").is_empty());
        one.entry(&entry(6, 6, 0), Start::New);
        assert_eq!(one.cursor, Some(4));
        assert!(one.is_stale);
    }

    #[test]
    fn unread_messages_are_counted_between_syncs() {
        let mut one = Conversation::default();
        one.entry(&entry(4, 2, 2), Start::New);
        one.push(page(&[5, 6]), "me");
        assert_eq!(one.info.unread, 4);
        assert!(one.read(6, None));
        assert_eq!(one.info.unread, 0);
        one.entry(&entry(6, 2, 4), Start::New);
        assert_eq!((one.info.read_seq, one.info.unread), (6, 0), "the position moved here counts");
        one.push(page(&[7, 8]), "bob");
        assert_eq!(one.info.unread, 0, "own messages");
        assert!(!one.read(7, None), "how many are left is not known");
    }
}
