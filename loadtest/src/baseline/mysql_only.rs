//! The baseline "MySQL only": for each message a transaction that finds the next sequence number and inserts one row.

use super::drive::{Accept, Message};
use super::timeline::Timeline;

pub(super) struct MysqlOnly {
    pub(super) timeline: Timeline,
}

impl Accept for MysqlOnly {
    async fn accept(&self, message: Message) -> anyhow::Result<()> {
        self.timeline.number_and_insert(&message).await
    }
}
