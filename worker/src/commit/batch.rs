//! The messages of one transaction, in the order in which they are planned and stored.

use std::ops::Range;

use shared::conversation::Conversation;

use super::pending::Pending;

/// Messages sorted by conversation, sequence number and arrival. Each conversation is one contiguous group, and locking
/// the groups in order locks rows in the order of their keys.
#[derive(Debug, Clone)]
pub struct Batch {
    messages: Vec<Pending>,
    groups: Vec<Range<usize>>,
}

impl Batch {
    /// A batch of `messages`, in any order.
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

    /// All messages, sorted.
    #[must_use]
    pub fn messages(&self) -> &[Pending] {
        &self.messages
    }

    /// The range of each conversation's messages, in the order of [`conversations`](Self::conversations).
    #[must_use]
    pub fn groups(&self) -> &[Range<usize>] {
        &self.groups
    }

    /// The conversations, sorted by key, each once.
    pub fn conversations(&self) -> impl Iterator<Item = &Conversation> {
        self.groups.iter().map(|group| &self.messages[group.start].message.conversation)
    }

    /// All messages, sorted.
    #[must_use]
    pub fn into_messages(self) -> Vec<Pending> {
        self.messages
    }
}
