//! The messages of one transaction, in the order in which they are judged and stored.

use std::ops::Range;

use shared::conversation::Conversation;

use super::pending::Pending;

/// Messages sorted by conversation, number and arrival: each conversation is one contiguous group, and locking the
/// groups in order locks rows in the order of their key.
#[derive(Debug, Clone)]
pub struct Batch {
    messages: Vec<Pending>,
    groups: Vec<Range<usize>>,
}

impl Batch {
    /// Sorts `messages`.
    #[must_use]
    pub fn new(mut messages: Vec<Pending>) -> Self {
        messages.sort_unstable_by(|a, b| {
            let by_conversation = a.message.conversation.cmp(&b.message.conversation);
            by_conversation.then(a.seq.cmp(&b.seq)).then(a.arrival.cmp(&b.arrival))
        });
        let mut groups = Vec::new();
        let mut start = 0;
        for group in messages.chunk_by(|a, b| a.message.conversation == b.message.conversation) {
            groups.push(start..start + group.len());
            start += group.len();
        }
        Self { messages, groups }
    }

    /// All messages in order.
    #[must_use]
    pub fn messages(&self) -> &[Pending] {
        &self.messages
    }

    /// Where each conversation's messages are, in the order of [`conversations`](Self::conversations).
    #[must_use]
    pub fn groups(&self) -> &[Range<usize>] {
        &self.groups
    }

    /// The conversations, sorted by key, each once.
    pub fn conversations(&self) -> impl Iterator<Item = &Conversation> {
        self.groups.iter().map(|group| &self.messages[group.start].message.conversation)
    }

    /// Gives the messages back, in order.
    #[must_use]
    pub fn into_messages(self) -> Vec<Pending> {
        self.messages
    }
}
