//! The baseline "Redis seq, insert each": the sequence number from Redis, one row in a transaction of its own, and the
//! members' inboxes if there are any.

use std::collections::HashMap;

use anyhow::Context as _;

use super::drive::{Accept, Message};
use super::sequences::Sequences;
use super::timeline::Timeline;

pub(super) struct RedisSeqInsertEach {
    pub(super) timeline: Timeline,
    pub(super) sequences: Sequences,
    /// Members by conversation, if there are inboxes.
    pub(super) members: Option<HashMap<String, Vec<String>>>,
}

impl RedisSeqInsertEach {
    /// The same with the inboxes of these members, by conversation.
    pub(super) fn with_members(&self, members: Option<HashMap<String, Vec<String>>>) -> Self {
        Self { timeline: self.timeline.clone(), sequences: self.sequences.clone(), members }
    }
}

impl Accept for RedisSeqInsertEach {
    async fn accept(&self, message: Message) -> anyhow::Result<()> {
        let seq = self.sequences.next(&message.conversation).await?;
        self.timeline.insert(&message, seq).await?;
        if let Some(members) = &self.members {
            let members = members.get(&message.conversation).context("a conversation without members")?;
            self.sequences.update_inboxes(&message.conversation, members).await?;
        }
        Ok(())
    }
}
