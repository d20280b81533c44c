//! The script that numbers a batch, pipelined.

use std::sync::Arc;

use anyhow::Context as _;
use fred::prelude::*;
use fred::types::scripts::Script;

use super::Settings;
use super::part::{Drive, Drivers, Part, measure};
use testbed::stack::Servers;

pub(super) const NUMBERS: &str = "numbers";

/// The very script; what it is called with is written as its head says.
const SCRIPT: &str = include_str!("../../../shared/src/redis/lua/next_seq.lua");
/// Calls on their way at once: as many as two gateways with eight shards each have.
const CALLS: usize = 16;
/// How long the script remembers an id.
const REMEMBERED_S: u32 = 900;

/// Numbers batches of one conversation each.
pub(super) async fn numbers(settings: &Settings, url: &str, servers: &Servers) -> anyhow::Result<Part> {
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
                let arguments =
                    vec![REMEMBERED_S.to_string(), batch.to_string(), "0".to_owned(), "0".to_owned()];
                let given: Vec<i64> = script.evalsha(&client, keys, arguments).await?;
                anyhow::ensure!(given.len() == batch + 1, "{} numbers for {batch} messages", given.len());
                drive.done(batch);
            }
            Ok(())
        });
    }
    let what = "a number given and its id remembered, by one script call for a batch";
    let part = measure((NUMBERS, what), settings.seconds, servers, &drive, drivers).await?;
    client.flushall::<()>(false).await?;
    client.quit().await?;
    Ok(part)
}
