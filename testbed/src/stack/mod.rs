//! A whole system on one machine: private servers, gateways and workers, all on loopback ports of their own.

mod engines;
mod install;
mod link;
mod links;
mod mysql;
mod operator_key;
mod ports;
mod process;
mod rabbitmq;
mod redis;
mod servers;
mod service;
mod stores;
mod system;

pub use engines::ENGINES_ENV;
pub use install::{Install, libfaketime, require, require_for_chaos};
pub use link::{Direction, Link};
pub use links::End;
pub use mysql::MysqlServer;
pub use ports::free_port;
pub use process::Process;
pub use rabbitmq::RabbitServer;
pub use redis::RedisServer;
pub use servers::{Servers, Urls};
pub use service::Service;
pub use stores::{AMQP_ENV, MYSQL_ENV, Stores};
pub use system::{Builder, DEMO_SECRET, System, program};

use std::time::{Duration, Instant};

/// For one question whether something is ready.
const ATTEMPT_PATIENCE: Duration = Duration::from_secs(10);

/// It has ended and will not get ready any more.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Dead(String);

/// Calls `ready` until it succeeds.
///
/// # Errors
/// After `patience`, with `what` and the last error; at once if that is [`Dead`].
pub async fn wait_for(
    what: &str,
    patience: Duration,
    mut ready: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let until = Instant::now() + patience;
    loop {
        // Something that answers, but not as it should, must not hold this up for ever.
        let asked = tokio::time::timeout(ATTEMPT_PATIENCE, ready()).await;
        let Err(why) = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer"))) else { return Ok(()) };
        if why.is::<Dead>() {
            return Err(why);
        }
        if Instant::now() >= until {
            return Err(why.context(format!("{what} was not ready within {} s", patience.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
