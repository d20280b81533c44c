//! Transactions that are tried again when they collide with another one.

use std::future::Future;
use std::pin::Pin;

use sqlx::Connection as _;

use super::{Pool, Tx};
use crate::backoff::Backoff;

/// What a transaction's body returns.
pub type TxFuture<'t, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 't>>;

/// An error that a transaction's body may end with.
pub trait TxError: From<sqlx::Error> {
    /// The database's part in it, if it had one.
    fn sql(&self) -> Option<&sqlx::Error>;
}

impl TxError for sqlx::Error {
    fn sql(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}

/// Attempts before a deadlock or lock timeout is handed to the caller.
const ATTEMPTS_MAX: usize = 8;

/// Runs `body` in a transaction and commits; on an error everything is rolled back.
///
/// A deadlock or a lock timeout runs `body` again, up to 8 times, so it must change nothing outside the transaction.
///
/// # Errors
/// Whatever `body`, begin or commit says.
pub async fn run_tx<T, E, F>(pool: &Pool, name: &'static str, mut body: F) -> Result<T, E>
where
    E: TxError,
    F: for<'t> FnMut(&'t mut Tx) -> TxFuture<'t, T, E>,
{
    let mut backoff =
        Backoff::new(std::time::Duration::from_millis(5), std::time::Duration::from_millis(200));
    let mut attempt = 1;
    loop {
        let done: Result<T, E> = async {
            let mut connection = pool.acquire().await?;
            let mut tx = connection.begin().await?;
            let ended = body(&mut tx).await;
            match ended {
                Ok(_) => tx.commit().await?,
                Err(_) => {
                    if tx.rollback().await.is_err() {
                        return ended;
                    }
                }
            }
            connection.keep();
            ended
        }
        .await;
        match done {
            Err(error) if attempt < ATTEMPTS_MAX && error.sql().is_some_and(is_lock_conflict) => {
                metrics::counter!(crate::metrics::TRANSACTION_RETRIES, "transaction" => name).increment(1);
                tokio::time::sleep(backoff.next_delay()).await;
                attempt += 1;
            }
            done => return done,
        }
    }
}

fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>().map(|e| e.number())
}

/// Deadlock (1213) or lock wait timeout (1205): the same transaction may succeed now.
#[must_use]
pub fn is_lock_conflict(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1205 | 1213))
}

/// A row with this key is there already (1062).
#[must_use]
pub fn is_duplicate_key(error: &sqlx::Error) -> bool {
    number(error) == Some(1062)
}
