//! Connections.

use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};

use super::kept::Pool;
use crate::backoff::Backoff;
use crate::config::{ConfigError, Mysql};

/// How long a request waits for a free connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Statements kept prepared per connection: above the number of all shapes of all statements here.
const STATEMENTS_PREPARED_MAX: usize = 400;

/// Why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot be used.
    #[error("MySQL at {url}: {source}")]
    Unreachable {
        /// Without credentials.
        url: String,
        /// As sqlx says.
        source: sqlx::Error,
    },
}

/// Whether a connection that was idle for a while is pinged before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ping {
    /// A round trip more after a second of idleness, but a connection that died meanwhile fails no request.
    BeforeUse,
    /// For a caller that tries again anyway.
    Never,
}

/// Connects, trying again until `patience` is over.
///
/// # Errors
/// The last failure. A wrong password or an unknown schema is not waited for.
pub async fn connect(settings: &Mysql, ping: Ping, patience: Duration) -> Result<Pool, ConnectError> {
    let options: MySqlConnectOptions = settings
        .url
        .expose()
        .parse()
        .map_err(|_| ConfigError::key("mysql.url", "is not mysql://user:password@host:port/schema"))?;
    let options = options
        .log_statements(tracing::log::LevelFilter::Off)
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1))
        .statement_cache_capacity(STATEMENTS_PREPARED_MAX);
    let all = MySqlPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(ping == Ping::BeforeUse)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // Gap locks of the default level would make neighbouring inserts wait for each other.
                sqlx::query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                    .execute(connection)
                    .await
                    .map(drop)
            })
        })
        .connect_lazy_with(options);
    let pool = Pool::new(all, ping);
    let (until, mut backoff, mut told) = (Instant::now() + patience, Backoff::dependency(), false);
    loop {
        let source = match pool.acquire().await {
            Ok(connection) => {
                connection.keep();
                return Ok(pool);
            }
            Err(source) => source,
        };
        let url = settings.url.to_string();
        if !is_away(&source) || Instant::now() >= until {
            return Err(ConnectError::Unreachable { url, source });
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%url, error = %source, "waiting for MySQL, up to {} s", patience.as_secs());
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Whether the server could not be asked (as opposed to: it was, and refused).
#[must_use]
pub fn is_away(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Protocol(_) => true,
        // Too many connections; shutdown in progress; connection killed; read-only during a failover; starting up.
        sqlx::Error::Database(e) => {
            e.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().is_some_and(|e| {
                matches!(e.number(), 1040 | 1053 | 1077 | 1079 | 1290 | 1836 | 1927 | 3168 | 3169)
            })
        }
        _ => false,
    }
}
