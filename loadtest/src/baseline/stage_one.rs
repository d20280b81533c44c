//! Stage one: one process and MySQL. Per message a transaction that finds the next number and inserts one row.

use super::drive::{Accept, Message};
use super::timeline::Timeline;

pub(super) struct StageOne {
    pub(super) timeline: Timeline,
}

impl Accept for StageOne {
    async fn accept(&self, message: Message) -> anyhow::Result<()> {
        self.timeline.number_and_insert(&message).await
    }
}
