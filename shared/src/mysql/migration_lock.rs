//! One process at a time migrates a schema.
//!
//! The lock is taken without waiting in the database: sqlx waits without a timeout, which MariaDB answers with NULL and no
//! lock. A MariaDB Galera cluster refuses named locks; there the lock is that of a row, which is one of the node: all processes
//! must use the same node, as they must anyway (docs/operations.md).

use std::time::{Duration, Instant};

use sqlx::migrate::MigrateError;
use sqlx::{Connection as _, Executor as _, MySqlConnection};

use super::Pool;
use super::fault::number;

/// The time for which a process waits for another one that migrates.
const LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// Interval of its attempts. Polling, because a statement that waits for the lock is logged as a slow one.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);
/// "This version of MariaDB doesn't yet support 'GET_LOCK in cluster (WSREP_ON=ON)'".
const NOT_SUPPORTED: u16 = 1235;
const TABLE_EXISTS: u16 = 1050;
/// The pause after the table of the lock was made: the statement of another process that makes it too would end the transaction
/// with the lock.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The lock, until it is [released](Self::release) or dropped.
pub(super) struct MigrationLock(MySqlConnection);

impl MigrationLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// A failed statement, or a lock that another process holds for more than two minutes.
    pub(super) async fn take(pool: &Pool) -> Result<Self, MigrateError> {
        // A connection of its own, closed afterwards, which releases the lock in every case.
        let mut connection = pool.acquire().await?.detach();
        let until = Instant::now() + LOCK_TIMEOUT;
        let mut is_cluster = false;
        loop {
            let got = if is_cluster {
                lock_row(&mut connection).await?
            } else {
                match lock_name(&mut connection).await {
                    Err(error) if number(&error) == Some(NOT_SUPPORTED) => {
                        make_table(&mut connection).await?;
                        is_cluster = true;
                        continue;
                    }
                    got => got?,
                }
            };
            if got {
                return Ok(Self(connection));
            }
            if Instant::now() >= until {
                let seconds = LOCK_TIMEOUT.as_secs();
                let why = format!("another process has been migrating this schema for {seconds} s");
                return Err(MigrateError::Execute(sqlx::Error::Protocol(why)));
            }
            tokio::time::sleep(LOCK_INTERVAL).await;
        }
    }

    /// Releases it.
    ///
    /// # Errors
    /// The lock was lost meanwhile: another process may have migrated at the same time.
    pub(super) async fn release(mut self) -> Result<(), MigrateError> {
        // Fails if the transaction was ended from outside.
        self.0.execute("COMMIT").await?;
        Ok(self.0.close().await?)
    }
}

async fn lock_name(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    // Lock names are limited to 64 characters and belong to the server, not to the schema. (MySQL 9 has no SHA1.)
    let lock = "SELECT GET_LOCK(CONCAT('im.migrate.', LEFT(SHA2(DATABASE(), 256), 40)), 0)";
    let got: Option<i64> = sqlx::query_scalar(lock).fetch_one(connection).await?;
    Ok(got == Some(1))
}

/// Makes the table of the lock, unless it exists.
async fn make_table(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let known = "SELECT COUNT(*) FROM information_schema.tables \
                 WHERE table_schema = DATABASE() AND table_name = 'migration_lock'";
    let tables: i64 = sqlx::query_scalar(known).fetch_one(&mut *connection).await?;
    if tables > 0 {
        return Ok(());
    }
    match connection
        .execute("CREATE TABLE migration_lock (id TINYINT NOT NULL PRIMARY KEY) ENGINE = InnoDB")
        .await
    {
        Err(error) if number(&error) == Some(TABLE_EXISTS) => {}
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    tokio::time::sleep(SETTLE_TIME).await;
    Ok(())
}

/// Locks the row in a transaction that stays open.
async fn lock_row(connection: &mut MySqlConnection) -> Result<bool, sqlx::Error> {
    let rows: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM migration_lock").fetch_one(&mut *connection).await?;
    if rows == 0 {
        connection.execute("INSERT IGNORE INTO migration_lock (id) VALUES (1)").await?;
    }
    connection.execute("BEGIN").await?;
    let locked = connection.execute("SELECT id FROM migration_lock WHERE id = 1 FOR UPDATE NOWAIT").await;
    if locked.is_err() {
        connection.execute("ROLLBACK").await?;
    }
    Ok(locked.is_ok())
}
