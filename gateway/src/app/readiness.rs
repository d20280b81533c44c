//! Readiness of the gateway: a new client would be served now, and a message could be sent and stored.
//!
//! A client needs MySQL for its login, and Redis and RabbitMQ for its messages. A worker is not needed: without one,
//! messages are accepted, and RabbitMQ stores them. The checks are no load: one statement per second, the heartbeat that is
//! written to Redis in any case, and (in [`Broker`](shared::amqp::Broker)) a look at the queues every five seconds.

use std::sync::Arc;
use std::time::Duration;

use shared::health::Check;
use shared::mysql::{self, Pool};
use shared::shutdown::Shutdown;

use crate::membership::LiveGateways;

/// How often MySQL is asked.
const MYSQL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the state of the connection to Redis is looked at.
const REDIS_INTERVAL: Duration = Duration::from_millis(500);

/// Lets `check` pass while MySQL answers and takes changes.
pub(super) async fn watch_mysql(pool: Pool, check: Check, shutdown: Shutdown) {
    loop {
        match mysql::ready::check(&pool).await {
            Ok(()) => check.pass(),
            Err(error) => check.fail(error.to_string()),
        }
        if !shutdown.sleep(MYSQL_INTERVAL).await {
            return;
        }
    }
}

/// Lets `check` pass while Redis is connected and took the last heartbeat. The heartbeat is a write: it fails too if Redis
/// has become a replica, is out of memory, or cannot write its snapshots.
pub(super) async fn watch_redis(
    redis: shared::redis::Client,
    live: Arc<LiveGateways>,
    check: Check,
    shutdown: Shutdown,
) {
    loop {
        match live.failure() {
            _ if !redis.is_connected() => check.fail("not connected"),
            Some(failure) => check.fail(failure),
            None => check.pass(),
        }
        if !shutdown.sleep(REDIS_INTERVAL).await {
            return;
        }
    }
}
