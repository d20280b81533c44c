//! What `imctl trace --json` prints.

use serde::Serialize;

/// All messages with one id.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) msg_id: String,
    /// Where the id was looked for.
    pub(super) searched: &'static str,
    /// What it means that nothing was found; empty otherwise.
    pub(super) unknown: String,
    /// One for each conversation and sender.
    pub(super) messages: Vec<Message>,
}

/// Where a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// In MySQL.
    Stored,
    /// In MySQL, and its content was removed.
    Recalled,
    /// It has a number that is still to be committed: in a queue, with a worker, or never published.
    Pending,
    /// In the dead-letter queue.
    DeadLetter,
    /// It had a number that has passed, and is not stored.
    NotStored,
}

/// What is known about one message.
#[derive(Debug, Serialize)]
pub(super) struct Message {
    pub(super) conversation: String,
    pub(super) sender: String,
    pub(super) shard: u16,
    pub(super) state: State,
    /// What that means, as a sentence.
    pub(super) conclusion: String,
    /// `None`: Redis does not remember the id.
    pub(super) numbered: Option<Numbered>,
    pub(super) stored: Option<Stored>,
    /// `None`: unknown.
    pub(super) is_renumbered: Option<bool>,
    pub(super) last_seq: u64,
    pub(super) queue: Queue,
    /// Ids of the dead letters that contain it.
    pub(super) dead_letters: Vec<String>,
    /// An inbox has it, which happens after the gateways were told. `None`: unknown, since nobody who syncs is among the users
    /// that were looked at.
    pub(super) is_announced: Option<bool>,
    /// Users whose read position is at or past it, the sender left out, at most 100.
    pub(super) read_by: Vec<Reader>,
    /// The id of its trace, if that was recorded.
    pub(super) trace_id: String,
    /// What no store knows.
    pub(super) not_known: Vec<&'static str>,
}

/// What Redis remembers: the message was given this number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Numbered {
    pub(super) seq: u64,
    /// Kind and hash of the content; `None` after a renumbering.
    pub(super) fingerprint: Option<String>,
    /// When it was numbered, or renumbered, in milliseconds since 1970: within a second, if all processes have the same
    /// `redis.sent_ttl_s`.
    pub(super) at_ms: i64,
    /// For how long Redis still remembers it.
    pub(super) remaining_s: u64,
}

/// The row of the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Stored {
    pub(super) seq: u64,
    pub(super) msg_type: u32,
    /// By the clock of the client.
    pub(super) sent_at_ms: i64,
    /// By the clock of the worker; 0 for old rows.
    pub(super) stored_at_ms: i64,
    pub(super) is_recalled: bool,
}

/// The work queue of the message's shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Queue {
    /// RabbitMQ was reached, and the queue exists.
    pub(super) is_known: bool,
    /// Bodies that wait; those with a worker are not among them.
    pub(super) ready_bodies: u32,
    pub(super) consumers: u32,
}

/// Somebody who has read the message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Reader {
    pub(super) user_id: String,
    pub(super) position: u64,
}
