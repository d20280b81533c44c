//! Migrations, run once however many processes start at the same moment.

use sqlx::Connection as _;
use sqlx::migrate::{MigrateError, Migrator};

use super::Pool;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a process waits for another one that is migrating.
const LOCK_WAIT_S: i32 = 120;

/// Brings the schema up to date.
///
/// sqlx asks for its lock with an infinite timeout, which MariaDB answers with NULL and no lock; so the lock is taken
/// here, with a finite one.
///
/// # Errors
/// A failed statement, or a lock that is held for more than two minutes.
pub async fn migrate(pool: &Pool) -> Result<(), MigrateError> {
    // Detached and closed afterwards: that frees the lock whatever happens.
    let mut connection = pool.acquire().await?.detach();
    let migrated = locked(&mut connection).await;
    connection.close().await?;
    migrated
}

async fn locked(connection: &mut sqlx::MySqlConnection) -> Result<(), MigrateError> {
    // Names of locks are short, and the server's, not the schema's. (MySQL 9 has no SHA1 any more.)
    let lock = "SELECT GET_LOCK(CONCAT('im.migrate.', LEFT(SHA2(DATABASE(), 256), 40)), ?)";
    let got: Option<i64> = sqlx::query_scalar(lock).bind(LOCK_WAIT_S).fetch_one(&mut *connection).await?;
    if got != Some(1) {
        let why = format!("another process has been migrating this schema for {LOCK_WAIT_S} s");
        return Err(MigrateError::Execute(sqlx::Error::Protocol(why)));
    }
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.set_locking(false);
    // A newer version may have been here first: its tables only add to what this one knows, and a process of this one
    // that is restarted beside it must start.
    migrations.set_ignore_missing(true);
    migrations.run_direct(None, connection, false).await
}
