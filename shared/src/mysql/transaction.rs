//! Transactions that are tried again when they collide with another one.

use std::future::Future;
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::mysql::MySqlConnection;

use super::fault::{Fault, number};
use super::pool::Connection;
use super::{Pool, feed};
use crate::backoff::Backoff;
use crate::feed::NewRow;

/// A connection with a transaction open on it.
pub type Tx = MySqlConnection;

/// The error of a transaction.
pub trait TxError: From<sqlx::Error> {
    /// The database's error behind it, if there is one.
    fn sql(&self) -> Option<&sqlx::Error>;
}

impl TxError for sqlx::Error {
    fn sql(&self) -> Option<&sqlx::Error> {
        Some(self)
    }
}

/// A transaction as a value, for [`run_tx`]. It may run several times, so it changes nothing outside of the database.
pub trait Transaction: Sync {
    /// The result of a committed transaction.
    type Output: Send;
    /// The error that rolls it back.
    type Error: TxError + Send;

    /// Its name in the metrics.
    const NAME: &'static str;
    /// Whether it runs again after it has waited for a row lock in vain.
    const WAITS_FOR_LOCKS: bool = true;

    /// Runs the statements.
    ///
    /// # Errors
    /// Any error rolls the transaction back.
    fn run(&self, tx: &mut Tx) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// Takes the rows for the change feed out of the output, or makes them from it: each of another shard, rising. They are
    /// written last, so that what else the transaction locks is locked before.
    fn feed(&self, _: &mut Self::Output) -> Vec<NewRow> {
        Vec::new()
    }
}

/// Attempts before a deadlock or lock timeout is handed to the caller.
const ATTEMPTS_MAX: usize = 8;
/// The first and the longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(200));

/// Runs `transaction` and commits; on an error everything is rolled back. After a deadlock or a lock timeout it runs again,
/// up to 8 times. Each run ends after the timeout of the pool; then nothing is known about its commit.
///
/// # Errors
/// The transaction's, or that of its begin or commit.
pub async fn run_tx<T: Transaction>(pool: &Pool, transaction: &T) -> Result<T::Output, T::Error> {
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut attempt = 1;
    loop {
        match run_once(pool, transaction).await {
            Err(error) if attempt < ATTEMPTS_MAX && error.sql().is_some_and(runs_again::<T>) => {
                metrics::counter!(crate::metrics::TRANSACTION_RETRIES, "transaction" => T::NAME).increment(1);
                tokio::time::sleep(backoff.next_delay()).await;
                attempt += 1;
            }
            ended => return ended,
        }
    }
}

async fn run_once<T: Transaction>(pool: &Pool, transaction: &T) -> Result<T::Output, T::Error> {
    let mut connection = pool.acquire_any().await?;
    let run = tokio::time::timeout(pool.timeout(), run_on(&mut connection, transaction));
    match run.await {
        Ok(Ok(Ok(output))) => {
            connection.release();
            Ok(output)
        }
        Ok(Ok(Err(error))) => {
            connection.release_after(error.sql());
            Err(error)
        }
        // The state of the connection is not known: it is closed.
        Ok(Err(error)) => {
            connection.close_after(error.sql());
            Err(error)
        }
        Err(_) => {
            let error = pool.timeout_error();
            connection.close_after(Some(&error));
            Err(error.into())
        }
    }
}

/// The inner result is the transaction's; the outer one is an error of its begin, commit or rollback.
///
/// The connection is closed if this is cancelled, which rolls back.
async fn run_on<T: Transaction>(
    connection: &mut Connection,
    transaction: &T,
) -> Result<Result<T::Output, T::Error>, T::Error> {
    connection.begin().await?;
    let error = match transaction.run(connection).await {
        Ok(mut output) => match transaction.feed(&mut output) {
            rows if rows.is_empty() => {
                connection.commit(|commit| Ok(commit.to_owned())).await?;
                return Ok(Ok(output));
            }
            rows => match connection.commit(|commit| feed::append_and_commit(&rows, commit)).await {
                Ok(()) => return Ok(Ok(output)),
                // The answer to a statement: if it is that to COMMIT, it has rolled back.
                Err(error @ sqlx::Error::Database(_)) => error.into(),
                Err(error) => return Err(error.into()),
            },
        },
        Err(error) => error,
    };
    match connection.execute("ROLLBACK").await {
        Ok(_) => Ok(Err(error)),
        Err(_) => Err(error),
    }
}

/// Deadlock, lock wait timeout and the like: the same transaction may succeed now.
#[must_use]
pub fn is_lock_conflict(error: &sqlx::Error) -> bool {
    Fault::of(error) == Fault::Conflict
}

fn runs_again<T: Transaction>(error: &sqlx::Error) -> bool {
    is_lock_conflict(error) && (T::WAITS_FOR_LOCKS || !is_lock_wait_timeout(error))
}

/// A row was locked by another transaction for longer than the session waits (1205).
#[must_use]
pub fn is_lock_wait_timeout(error: &sqlx::Error) -> bool {
    number(error) == Some(1205)
}

/// A row with this key is there already (1062).
#[must_use]
pub fn is_duplicate_key(error: &sqlx::Error) -> bool {
    number(error) == Some(1062)
}
