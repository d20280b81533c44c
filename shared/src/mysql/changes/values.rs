//! What a commit reads and writes about changes.

use std::collections::BTreeSet;

use ahash::{AHashMap, AHashSet};

use crate::conversation::Conversation;
use crate::ids::{Seq, UserId};
use crate::message::{FileId, Mentions, ReactionSummary, Stored};

/// In `message_mention`: all members.
pub(in crate::mysql) const EVERYONE: &str = "*";

/// A question about what the change entries of one conversation refer to.
#[derive(Debug, Clone)]
pub struct ChangeQuery<'a> {
    /// The conversation, which the transaction has locked.
    pub conversation: &'a Conversation,
    /// The messages that are changed.
    pub targets: BTreeSet<Seq>,
    /// The reactions that are added or removed.
    pub reactions: Vec<ReactionQuery<'a>>,
    /// Pins are added or removed.
    pub pins: bool,
}

/// One reaction that is added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReactionQuery<'a> {
    /// The message.
    pub target: Seq,
    /// The reaction.
    pub reaction: &'a str,
    /// The user.
    pub user: &'a UserId,
    /// It is removed.
    pub removes: bool,
}

/// What is stored about the targets of one conversation's change entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeFacts {
    /// Those of the messages that are stored.
    pub targets: AHashMap<Seq, Stored>,
    /// All reactions to the messages, in no order.
    pub reactions: AHashMap<Seq, Vec<ReactionSummary>>,
    /// Those of the users' reactions that stand.
    pub standing: AHashSet<(Seq, String, UserId)>,
    /// All pinned messages.
    pub pins: BTreeSet<Seq>,
}

/// A reaction that a user adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedReaction {
    /// The message.
    pub target: Seq,
    /// The reaction.
    pub reaction: String,
    /// The user.
    pub user: UserId,
    /// The entry that adds it.
    pub seq: Seq,
    /// Its send time, in milliseconds since 1970.
    pub time_ms: i64,
}

/// What the change entries of one conversation change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeWrites {
    /// Rows with a new content, new details, or other flags.
    pub rewritten: Vec<Stored>,
    /// Messages that were recalled: what belongs to them goes. Their rows are among `rewritten`.
    pub recalled: Vec<Seq>,
    /// Reactions to insert.
    pub added: Vec<AddedReaction>,
    /// Reactions to remove.
    pub removed: Vec<(Seq, String, UserId)>,
    /// The new summaries of reactions that changed; with total 0, it goes.
    pub summaries: Vec<(Seq, ReactionSummary)>,
    /// Pinned messages with the entries that pin them.
    pub pinned: Vec<(Seq, Seq)>,
    /// Messages that are not pinned any more.
    pub unpinned: Vec<Seq>,
    /// Messages with the entries that edit them.
    pub edits: Vec<(Seq, Seq)>,
    /// The members whom a message mentions now, instead of those before.
    pub mentions: Vec<(Seq, Mentions)>,
    /// The files that messages carry.
    pub attachments: Vec<(Seq, Vec<FileId>)>,
}

impl ChangeWrites {
    /// Nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
