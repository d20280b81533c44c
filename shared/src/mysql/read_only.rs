//! Whether a server takes no changes.

use sqlx::Row as _;
use sqlx::mysql::MySqlConnection;

/// Fails if the server is read-only.
pub(super) async fn require_writable(connection: &mut MySqlConnection) -> sqlx::Result<()> {
    if is_read_only(connection).await? { Err(read_only_error()) } else { Ok(()) }
}

/// As an error of the connection, which may be retried.
pub(super) fn read_only_error() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("the server is read-only"))
}

/// Whether the server is read-only. A user with more privileges may write to a read-only server all the same: then no statement fails, and what is written
/// is lost with the failover.
pub(super) async fn is_read_only(connection: &mut MySqlConnection) -> sqlx::Result<bool> {
    let read = "SELECT CAST(@@global.read_only AS CHAR), CAST(@@global.innodb_read_only AS CHAR)";
    let row = sqlx::query(read).fetch_one(connection).await?;
    let is_off = |value: &str| matches!(value, "0" | "OFF");
    Ok(!(is_off(row.try_get(0)?) && is_off(row.try_get(1)?)))
}
