//! What each session sets for itself, and what the server must have.
//!
//! The statements of this project are written for one set of session variables. Their defaults belong to the server, and
//! to the other programs on it.

use sqlx::Executor as _;
use sqlx::mysql::MySqlConnection;

use super::pool::{Ping, Pool};
use crate::config::{ConfigError, Mysql};

/// Prepared statements that one connection uses, about: with fewer for all connections together, they are prepared again
/// and again, or not at all.
const STATEMENTS_PREPARED: u64 = 100;
/// Longest statement and longest row of a result that occur, with room: a batch of messages, a page.
const PACKET_BYTES_MIN: u64 = 16 << 20;

/// Seconds that a statement waits for a row lock: less than the timeout of a statement, so that the server names the
/// cause.
const LOCK_WAIT_S: u32 = 3;
/// The same for a caller that retries: other conversations wait meanwhile.
const LOCK_WAIT_RETRIED_S: u32 = 1;
/// The server closes sessions that are idle for longer; the pool closes them much earlier.
const IDLE_S: u32 = 28_800;

/// Sets all session variables on which statements depend.
///
/// * The mode, first of all: `ORACLE`, `ANSI_QUOTES` and others change what a statement means. Text that does not fit is
///   an error, never cut.
/// * On MariaDB no limit for a transaction that waits for its next statement: the end of one begins the next.
/// * READ COMMITTED: gap locks of the default level would make neighboring inserts wait for each other.
///
/// # Errors
/// The server's.
pub(super) async fn set_up(connection: &mut MySqlConnection, ping: Ping) -> sqlx::Result<()> {
    let lock_wait_s = if ping == Ping::Never { LOCK_WAIT_RETRIED_S } else { LOCK_WAIT_S };
    let variables = format!(
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, sql_safe_updates = 0, \
         sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_auto_is_null = 0, \
         innodb_lock_wait_timeout = {lock_wait_s}, wait_timeout = {IDLE_S} \
         /*M!100300 , idle_transaction_timeout = 0 */"
    );
    // As text: a prepared statement needs a free place among max_prepared_stmt_count.
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(variables))).await?;
    let transactions = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE";
    connection.execute(sqlx::raw_sql(transactions)).await?;
    Ok(())
}

/// Why a server cannot be used.
#[derive(Debug)]
pub(super) enum ServerError {
    Unusable(ConfigError),
    Sql(sqlx::Error),
}

impl From<sqlx::Error> for ServerError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// Checks global variables once, at the start: those that no session can set.
///
/// # Errors
/// One makes the project unusable; others are logged as warnings.
pub(super) async fn check_server(pool: &Pool, settings: &Mysql) -> Result<(), ServerError> {
    let read = "SELECT CAST(@@global.max_prepared_stmt_count AS UNSIGNED), \
                CAST(@@global.max_allowed_packet AS UNSIGNED), \
                CAST(@@global.innodb_flush_log_at_trx_commit AS UNSIGNED)";
    let mut connection = pool.acquire().await?;
    let row = pool.bounded((&mut *connection).fetch_one(sqlx::raw_sql(read))).await;
    let row = connection.finish(row)?;
    let number = |at: usize| sqlx::Row::try_get_unchecked::<u64, _>(&row, at);
    let [statements, packet_bytes, flush] = [number(0)?, number(1)?, number(2)?];
    if statements == 0 {
        let why = "its max_prepared_stmt_count is 0, so that no statement can be prepared: set it to 16382, the default";
        return Err(ServerError::Unusable(ConfigError::key("mysql.url", why)));
    }
    let needed = u64::from(settings.connections_max) * STATEMENTS_PREPARED;
    if statements < needed {
        tracing::warn!(
            max_prepared_stmt_count = statements,
            needed,
            "max_prepared_stmt_count of MySQL is too low for mysql.connections_max of this process; statements are \
             prepared again, and some fail with error 1461 and are repeated"
        );
    }
    if packet_bytes < PACKET_BYTES_MIN {
        tracing::warn!(
            max_allowed_packet_bytes = packet_bytes,
            needed_bytes = PACKET_BYTES_MIN,
            "max_allowed_packet of MySQL is too low; large batches of messages cannot be committed"
        );
    }
    if flush != 1 {
        tracing::warn!(
            innodb_flush_log_at_trx_commit = flush,
            "MySQL does not write each commit to its disk; committed messages may be lost if its machine stops"
        );
    }
    Ok(())
}
