//! Sequence numbers and inboxes in Redis, with one command each.

use anyhow::Context as _;
use fred::clients::Pool;
use fred::prelude::*;

use super::timeline::now_ms;

/// Connections; each pipelines concurrent commands.
const CONNECTIONS: usize = 4;

/// Counters by conversation, and inboxes by user.
#[derive(Clone)]
pub(super) struct Sequences {
    pool: Pool,
}

impl Sequences {
    pub(super) async fn connect(url: &str) -> anyhow::Result<Self> {
        let pool = Builder::from_config(Config::from_url(url)?)
            .with_connection_config(|connection| connection.tcp.nodelay = Some(true))
            .build_pool(CONNECTIONS)?;
        pool.init().await.context("Redis")?;
        Ok(Self { pool })
    }

    /// The next sequence number of a conversation.
    pub(super) async fn next(&self, conversation: &str) -> anyhow::Result<u64> {
        Ok(self.pool.incr(format!("compare:seq:{conversation}")).await?)
    }

    /// Moves the conversation to the top of each member's inbox, in one round trip.
    pub(super) async fn update_inboxes(&self, conversation: &str, members: &[String]) -> anyhow::Result<()> {
        #[expect(clippy::cast_precision_loss, reason = "below 2^52 for long")]
        let now = now_ms() as f64;
        let pipeline = self.pool.next().pipeline();
        for member in members {
            let key = format!("compare:inbox:{member}");
            pipeline.zadd::<(), _, _>(key, None, None, false, false, (now, conversation)).await?;
        }
        Ok(pipeline.last().await?)
    }
}
