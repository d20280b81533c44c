//! Stage two: the number from Redis, then one row, committed by itself, and the members' inboxes if wanted.

use std::collections::HashMap;

use anyhow::Context as _;

use super::drive::{Accept, Message};
use super::numbers::Numbers;
use super::timeline::Timeline;

pub(super) struct StageTwo {
    pub(super) timeline: Timeline,
    pub(super) numbers: Numbers,
    /// Members by conversation, if there are inboxes.
    pub(super) members: Option<HashMap<String, Vec<String>>>,
}

impl StageTwo {
    /// The same with the inboxes of these members, by conversation.
    pub(super) fn with_members(&self, members: Option<HashMap<String, Vec<String>>>) -> Self {
        Self { timeline: self.timeline.clone(), numbers: self.numbers.clone(), members }
    }
}

impl Accept for StageTwo {
    async fn accept(&self, message: Message) -> anyhow::Result<()> {
        let seq = self.numbers.next(&message.conversation).await?;
        self.timeline.insert(&message, seq).await?;
        if let Some(members) = &self.members {
            let members = members.get(&message.conversation).context("a conversation without members")?;
            self.numbers.touch_inboxes(&message.conversation, members).await?;
        }
        Ok(())
    }
}
