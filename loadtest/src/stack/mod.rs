//! A whole system on one machine: private servers, gateways and workers, all on loopback ports of their own.

mod install;
mod mysql;
mod ports;
mod process;
mod rabbitmq;
mod redis;
mod servers;
mod service;
mod stores;
mod system;

pub use install::{Install, require};
pub use mysql::MysqlServer;
pub use ports::free_port;
pub use process::Process;
pub use rabbitmq::RabbitServer;
pub use redis::RedisServer;
pub use servers::{Servers, Urls};
pub use service::Service;
pub use stores::{AMQP_ENV, MYSQL_ENV, Stores};
pub use system::{Builder, DEMO_SECRET, System};

use std::time::{Duration, Instant};

/// Calls `ready` until it is true.
///
/// # Errors
/// After `patience`, with `what` and the last answer.
pub async fn wait_for<E: std::fmt::Display>(
    what: &str,
    patience: Duration,
    mut ready: impl AsyncFnMut() -> Result<(), E>,
) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    loop {
        let Err(why) = ready().await else { return Ok(()) };
        if Instant::now() >= until {
            anyhow::bail!("{what} was not ready within {} s: {why}", patience.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
