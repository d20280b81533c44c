//! How many bodies wait in the queues of this worker's shards, as metrics.
//!
//! The broker is asked with a passive declaration, which needs no management plugin. A task of its own does it: under load
//! a shard task never waits.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use shared::amqp::Broker;
use shared::metrics::{DEAD_LETTERS, WORKER_READY_BODIES};
use shared::shard::ShardId;
use shared::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::intake::consumer::ConsumeError;

/// How often the broker is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// For the answers about all shards.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The owner of the shard with this number, of any layout, reports the dead letters.
const OF_DEAD_LETTERS: u16 = 0;

/// Sets the gauges of the shards in `owned`, once per second, until `stop`.
pub(crate) async fn report_backlog(
    broker: Arc<Broker>,
    owned: watch::Receiver<Vec<ShardId>>,
    stop: Shutdown,
) {
    let mut channel = None;
    let mut reported: Vec<ShardId> = Vec::new();
    while stop.sleep(INTERVAL).await {
        let shards = owned.borrow().clone();
        for shard in reported.iter().filter(|shard| !shards.contains(shard)) {
            forget(*shard);
        }
        if reports_dead_letters(&reported) && !reports_dead_letters(&shards) {
            metrics::gauge!(DEAD_LETTERS).set(0.0);
        }
        let asking = timeout(TIMEOUT, ask(&broker, &mut channel, &shards));
        let Some(answer) = stop.run_until_stopped(asking).await else { return };
        // The shard tasks report a broker that does not answer. The gauges keep their last values.
        if !matches!(answer, Ok(Ok(()))) {
            channel = None;
        }
        reported = shards;
    }
}

async fn ask(broker: &Broker, channel: &mut Option<Channel>, shards: &[ShardId]) -> Result<(), ConsumeError> {
    if shards.is_empty() {
        return Ok(());
    }
    let channel = match channel {
        Some(channel) => channel,
        none => none.insert(broker.channel().await?),
    };
    for shard in shards {
        let (ready, _) = broker.topology().inspect_shard_queue(channel, *shard).await?;
        metrics::gauge!(WORKER_READY_BODIES, "shard" => shard.to_string()).set(f64::from(ready));
    }
    if reports_dead_letters(shards) {
        let letters = broker.topology().dead_letters(channel).await?;
        metrics::gauge!(DEAD_LETTERS).set(f64::from(letters));
    }
    Ok(())
}

/// Another worker reports the shard now.
fn forget(shard: ShardId) {
    metrics::gauge!(WORKER_READY_BODIES, "shard" => shard.to_string()).set(0.0);
}

fn reports_dead_letters(shards: &[ShardId]) -> bool {
    shards.iter().any(|shard| shard.number() == OF_DEAD_LETTERS)
}
