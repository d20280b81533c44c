//! The script that assigns the sequence numbers of a batch, with pipelined calls.

use std::sync::Arc;

use anyhow::Context as _;
use fred::prelude::*;
use fred::types::scripts::Script;

use super::Settings;
use super::part::{Drive, Drivers, Part, measure};
use testbed::stack::Servers;

pub(super) const SEQUENCES: &str = "sequence numbers";

/// The gateway's script, called as its header describes.
const SCRIPT: &str = include_str!("../../../shared/src/redis/lua/next_seq.lua");
/// Calls in flight: as many as two gateways with eight shards each have.
const CALLS: usize = 16;
/// How long the script stores an id.
const STORED_S: u32 = 900;

/// Assigns sequence numbers to batches of one conversation each.
pub(super) async fn sequences(settings: &Settings, url: &str, servers: &Servers) -> anyhow::Result<Part> {
    let client = Builder::from_config(Config::from_url(url)?)
        .with_connection_config(|connection| connection.tcp.nodelay = Some(true))
        .build()?;
    client.init().await.context("Redis")?;
    let script = Script::from_lua(SCRIPT);
    script.load(&client).await?;
    let drive = Arc::new(Drive::default());
    let mut drivers = Drivers::new();
    for group in 0..CALLS {
        let (client, script, drive) = (client.clone(), script.clone(), Arc::clone(&drive));
        let batch = settings.batch;
        drivers.spawn(async move {
            let mut sent = 0_usize;
            while drive.goes_on() {
                let mut keys = vec![format!("limits:seq:{{{group}}}")];
                let id = |n: usize| format!("limits:sent:{{{group}}}:10:limits.0.0:limits.0.0-{n}");
                keys.extend((sent..sent + batch).map(id));
                sent += batch;
                let arguments = vec![STORED_S.to_string(), batch.to_string(), "0".to_owned(), "0".to_owned()];
                let given: Vec<i64> = script.evalsha(&client, keys, arguments).await?;
                anyhow::ensure!(
                    given.len() == batch + 1,
                    "{} sequence numbers for {batch} messages",
                    given.len()
                );
                drive.done(batch);
            }
            Ok(())
        });
    }
    let what = "a sequence number assigned and its id stored, by one script call for a batch";
    let part = measure((SEQUENCES, what), settings.seconds, servers, &drive, drivers).await?;
    client.flushall::<()>(false).await?;
    client.quit().await?;
    Ok(part)
}
