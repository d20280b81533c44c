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
    let got: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(CONCAT('im.migrate.', SHA1(DATABASE())), ?)")
        .bind(LOCK_WAIT_S)
        .fetch_one(&mut *connection)
        .await?;
    if got != Some(1) {
        let why = format!("another process has been migrating this schema for {LOCK_WAIT_S} s");
        return Err(MigrateError::Execute(sqlx::Error::Protocol(why)));
    }
    let mut migrations = Migrator { migrations: MIGRATIONS.migrations.clone(), ..Migrator::DEFAULT };
    migrations.set_locking(false);
    migrations.run_direct(None, connection, false).await
}
