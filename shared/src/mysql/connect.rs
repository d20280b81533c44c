//! Connecting to MySQL or MariaDB.

use std::time::{Duration, Instant};

use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};

use super::fault::{self, Fault};
use super::pool::{Ping, Pool};
use super::session::{self, ServerError};
use crate::backoff::Backoff;
use crate::config::{ConfigError, Mysql};
use crate::tls::TlsProblem;

/// How long a request waits for a free connection before it fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// Prepared statements per connection: more than there are sizes of all statements of this project.
const STATEMENTS_PREPARED_MAX: usize = 400;

/// The reason why there is no pool.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address is malformed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The server cannot be reached, or refuses the connection.
    #[error("MySQL at {url}: {source}")]
    Unreachable {
        /// Its address, without credentials.
        url: String,
        /// The last failure.
        source: sqlx::Error,
    },
    /// The TLS handshake fails for a reason that a retry does not remove.
    #[error(transparent)]
    Tls(#[from] TlsProblem),
}

/// Connects, and retries for up to `wait`.
///
/// # Errors
/// The last failure. A wrong password, an unknown schema and a certificate that is refused fail at once.
pub async fn connect(settings: &Mysql, ping: Ping, wait: Duration) -> Result<Pool, ConnectError> {
    let options: MySqlConnectOptions = settings
        .url
        .expose()
        .parse()
        .map_err(|_| ConfigError::key("mysql.url", "is not mysql://user:password@host:port/schema"))?;
    let options = with_tls(options, settings)
        .log_statements(tracing::log::LevelFilter::Off)
        .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(1))
        .statement_cache_capacity(STATEMENTS_PREPARED_MAX);
    let sqlx_pool = MySqlPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .after_connect(move |connection, _| Box::pin(session::set_up(connection, ping)))
        .connect_lazy_with(options);
    let pool = Pool::new(sqlx_pool, ping, settings.timeout());
    let (deadline, mut backoff, mut is_logged) = (Instant::now() + wait, Backoff::dependency(), false);
    loop {
        let source = match pool.acquire().await {
            Ok(connection) => {
                connection.release();
                session::check_server(&pool, settings).await.map_err(|error| match error {
                    ServerError::Unusable(error) => ConnectError::Config(error),
                    ServerError::Sql(source) => {
                        ConnectError::Unreachable { url: settings.url.to_string(), source }
                    }
                })?;
                return Ok(pool);
            }
            Err(source) => source,
        };
        let url = settings.url.to_string();
        if let Some(problem) = TlsProblem::of(&settings.tls(), &url, &source) {
            return Err(problem.into());
        }
        if fault::is_refused_login(&source) || !is_unavailable(&source) || Instant::now() >= deadline {
            return Err(ConnectError::Unreachable { url, source });
        }
        if !std::mem::replace(&mut is_logged, true) {
            let wait_s = wait.as_secs();
            tracing::warn!(%url, wait_s, error = %source, "MySQL is not reachable at {url}; retrying for up to {wait_s} s");
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// With the files of TLS. They are read for each connection.
fn with_tls(mut options: MySqlConnectOptions, settings: &Mysql) -> MySqlConnectOptions {
    let tls = settings.tls();
    if tls.is_set() && !matches!(options.get_ssl_mode(), MySqlSslMode::VerifyCa) {
        options = options.ssl_mode(MySqlSslMode::VerifyIdentity);
    }
    if let Some(ca) = tls.ca_file() {
        options = options.ssl_ca(ca);
    }
    match tls.identity_files() {
        Some((cert, key)) => options.ssl_client_cert(cert).ssl_client_key(key),
        None => options,
    }
}

/// Whether the server is unavailable, as opposed to a statement that it refused: a retry may succeed.
#[must_use]
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed)
        || matches!(Fault::of(error), Fault::Connection | Fault::Server)
        || fault::is_exhausted(error)
}
