//! `imctl feed`: the shards of the change feed, and what they have.

use serde::Serialize;
use shared::ids::unix_millis;
use shared::mysql::feed::{self, Extent};
use shared::mysql::{self, Pool};

use crate::context::Context;
use crate::output::{Ending, Output};
use crate::text::{duration, or_dash, table};

/// What `imctl feed --json` prints.
#[derive(Debug, Serialize)]
struct Report {
    /// Empty if the feed was never switched on.
    shards: Vec<Shard>,
}

#[derive(Debug, Serialize)]
struct Shard {
    shard: u16,
    /// The cursor before the oldest row.
    oldest_cursor: u64,
    /// The cursor after the newest row.
    latest_cursor: u64,
    rows: u64,
    /// When the oldest row was written.
    oldest_ms: Option<i64>,
    /// When the newest row was written.
    newest_ms: Option<i64>,
}

/// Shows the shards.
pub(crate) async fn run(context: &Context, output: Output) -> anyhow::Result<Ending> {
    let pool = context.mysql().await?;
    let mut shards = Vec::new();
    for extent in feed::extents(&pool).await? {
        shards.push(shard(&pool, extent).await?);
    }
    output.show(&Report { shards }, text)?;
    Ok(Ending::Good)
}

async fn shard(pool: &Pool, Extent { shard, before, head }: Extent) -> Result<Shard, mysql::Error> {
    let written_after = async |position: u64| {
        let rows = feed::rows(pool, shard, position, 1).await?;
        Ok::<_, mysql::Error>(rows.first().map(|row| row.written_at))
    };
    Ok(Shard {
        shard,
        oldest_cursor: before,
        latest_cursor: head,
        rows: head - before,
        oldest_ms: written_after(before).await?,
        newest_ms: if head > before { written_after(head - 1).await? } else { None },
    })
}

fn text(report: &Report) -> String {
    if report.shards.is_empty() {
        return "the change feed was never switched on: feed.enabled".to_owned();
    }
    let now = unix_millis();
    let ago = |written: Option<i64>| or_dash(written.map(|written| duration(now - written)));
    let row = |shard: &Shard| {
        let numbers = [u64::from(shard.shard), shard.oldest_cursor, shard.latest_cursor, shard.rows];
        let mut row: Vec<String> = numbers.iter().map(u64::to_string).collect();
        row.extend([ago(shard.oldest_ms), ago(shard.newest_ms)]);
        row
    };
    let header = ["shard", "oldest cursor", "latest cursor", "rows", "oldest is", "newest is"];
    table(&header, report.shards.iter().map(row))
}
