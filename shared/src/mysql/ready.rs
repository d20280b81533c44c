//! Whether a statement that changes something would succeed now.

use std::time::Duration;

use sqlx::mysql::MySqlConnection;
use tokio::time::timeout;

use super::pool::{Pool, no_answer_within};
use super::read_only::{is_read_only, read_only_error};

/// Longest that the check may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Why MySQL is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    /// The server is a replica, or was made read-only before a failover.
    #[error("the server is read-only")]
    ReadOnly,
    /// It did not answer.
    #[error("no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// A statement failed, or there was no connection.
    #[error(transparent)]
    Sql(#[from] sqlx::Error),
}

/// Checks whether `pool` leads to a server that has the schema and takes changes: one statement on one connection. If the
/// server is read-only, all connections are opened again, since the address may lead to another server by now. Also sets
/// the gauges of the pool.
///
/// # Errors
/// [`NotReady`].
pub async fn check(pool: &Pool) -> Result<(), NotReady> {
    pool.report();
    let mut connection = timeout(TIMEOUT, pool.acquire()).await.map_err(|_| NotReady::Timeout)??;
    match timeout(TIMEOUT, answers(&mut connection)).await {
        Ok(Ok(false)) => {
            connection.release();
            Ok(())
        }
        Ok(Ok(true)) => {
            connection.give_up(&read_only_error());
            Err(NotReady::ReadOnly)
        }
        Ok(Err(error)) => Ok(connection.finish(Err(error))?),
        Err(_) => {
            connection.give_up(&no_answer_within(TIMEOUT));
            Err(NotReady::Timeout)
        }
    }
}

/// Whether the server is read-only.
async fn answers(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
    let is_read_only = is_read_only(connection).await?;
    sqlx::query("SELECT name FROM setting LIMIT 1").execute(connection).await?;
    Ok(is_read_only)
}
