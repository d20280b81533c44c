//! What an error of MySQL or MariaDB means for the connection on which it came.
//!
//! Pure. A server that may not be used any more often answers on all old connections: after a failover the old primary is
//! read-only, and its connections live on. Such an answer says nothing about the statement, and every later statement on the
//! same connection gets it too.

use sqlx::mysql::MySqlDatabaseError;

/// The consequence of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is the answer to the statement. The connection goes on.
    Statement,
    /// Another transaction is in the way: the same transaction may succeed now. The connection goes on.
    Conflict,
    /// This connection is of no more use: it is closed. The statement may succeed on another one.
    Connection,
    /// The server must not be used any more: all connections that were opened before are closed. The address may lead to
    /// another server by now.
    Server,
}

impl Fault {
    /// The consequence of `error`.
    #[must_use]
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => error
                .try_downcast_ref::<MySqlDatabaseError>()
                .map_or(Self::Statement, |error| Self::of_code(error.number())),
            // The caller's mistakes, and waits for a connection.
            sqlx::Error::RowNotFound
            | sqlx::Error::TypeNotFound { .. }
            | sqlx::Error::ColumnIndexOutOfBounds { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Encode(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed => Self::Statement,
            // The other connections lead to the same host, which may have vanished.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => Self::Server,
            // The stream of answers may be out of step.
            _ => Self::Connection,
        }
    }

    /// The consequence of an error with this number.
    #[must_use]
    pub(super) const fn of_code(number: u16) -> Self {
        match number {
            // Read-only server (--read-only, super_read_only, a member of a group replication, Aurora), read-only
            // transaction, read-only mode, read-only table; shutdown in progress, normal shutdown, shutdown complete; offline mode;
            // Galera: the node is not ready (as "unknown command").
            1290 | 1792 | 1836 | 1036 | 1053 | 1077 | 1079 | 3032 | 1047 => Self::Server,
            // Deadlock, lock wait timeout; changed since the snapshot (MariaDB); refused by the group (replication).
            1213 | 1205 | 1020 | 3101 => Self::Conflict,
            // Too many connections, of all users or of one; a limit per hour. Access denied to the server, the schema or
            // from this host, also with an account that is locked, expired or must use TLS: a proxy that logs in anew
            // reports it at any time. The schema is unknown.
            1040 | 1203 | 1226 | 1045 | 1044 | 1049 | 1129 | 1130 | 1698 | 1820 | 1862 | 3118 | 3159 => {
                Self::Connection
            }
            // The connection was killed, aborted or timed out; network errors; the server is not available.
            1078 | 1080 | 1152 | 1158..=1161 | 1184 | 1927 | 3168 | 3169 | 4031 => Self::Connection,
            // Lost or no connection behind a proxy.
            2002 | 2003 | 2006 | 2013 | 9001 => Self::Connection,
            // More prepared statements than max_prepared_stmt_count: closing a connection frees its own.
            1461 => Self::Connection,
            _ => Self::Statement,
        }
    }
}

/// Whether a login was refused, so that a retry is of no use before someone corrects the configuration.
pub(super) fn is_refused_login(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1044 | 1045 | 1049 | 1130 | 1698 | 1820 | 1862 | 3118 | 3159))
}

/// Whether the server cannot serve a statement now, and may be able to later: it lacks disk or memory, or gave the statement
/// up after a time of its own.
pub(super) fn is_exhausted(error: &sqlx::Error) -> bool {
    matches!(number(error), Some(1021 | 1037 | 1038 | 1041 | 1114 | 1206 | 1317 | 1969 | 3024))
}

/// The number of an error that the server reported.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_number_has_its_consequence() {
        use Fault::{Conflict, Connection, Server, Statement};
        for (number, name, fault) in [
            (1290, "ER_OPTION_PREVENTS_STATEMENT", Server),
            (1792, "ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION", Server),
            (1836, "ER_READ_ONLY_MODE", Server),
            (1036, "ER_OPEN_AS_READONLY", Server),
            (1053, "ER_SERVER_SHUTDOWN", Server),
            (1077, "ER_NORMAL_SHUTDOWN", Server),
            (1079, "ER_SHUTDOWN_COMPLETE", Server),
            (3032, "ER_SERVER_OFFLINE_MODE", Server),
            (1047, "ER_UNKNOWN_COM_ERROR", Server),
            (1040, "ER_CON_COUNT_ERROR", Connection),
            (1203, "ER_TOO_MANY_USER_CONNECTIONS", Connection),
            (1226, "ER_USER_LIMIT_REACHED", Connection),
            (1045, "ER_ACCESS_DENIED_ERROR", Connection),
            (1044, "ER_DBACCESS_DENIED_ERROR", Connection),
            (1049, "ER_BAD_DB_ERROR", Connection),
            (1129, "ER_HOST_IS_BLOCKED", Connection),
            (1130, "ER_HOST_NOT_PRIVILEGED", Connection),
            (1152, "ER_ABORTING_CONNECTION", Connection),
            (1159, "ER_NET_READ_INTERRUPTED", Connection),
            (1927, "ER_CONNECTION_KILLED", Connection),
            (3169, "ER_SESSION_WAS_KILLED", Connection),
            (4031, "ER_CLIENT_INTERACTION_TIMEOUT", Connection),
            (2013, "CR_SERVER_LOST", Connection),
            (1461, "ER_MAX_PREPARED_STMT_COUNT_REACHED", Connection),
            (1205, "ER_LOCK_WAIT_TIMEOUT", Conflict),
            (1213, "ER_LOCK_DEADLOCK", Conflict),
            (1020, "ER_CHECKREAD", Conflict),
            (1062, "ER_DUP_ENTRY", Statement),
            (1064, "ER_PARSE_ERROR", Statement),
            (1146, "ER_NO_SUCH_TABLE", Statement),
            (1317, "ER_QUERY_INTERRUPTED", Statement),
            (1406, "ER_DATA_TOO_LONG", Statement),
        ] {
            assert_eq!(Fault::of_code(number), fault, "{number} {name}");
        }
    }

    #[test]
    fn errors_without_a_number_concern_the_connection_unless_they_are_the_callers() {
        let broken = [
            sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()),
            sqlx::Error::Protocol("out of step".to_owned()),
        ];
        assert!(broken.iter().all(|error| Fault::of(error) == Fault::Connection));
        let timed_out = sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        assert_eq!(Fault::of(&timed_out), Fault::Server);
        let usable = [sqlx::Error::RowNotFound, sqlx::Error::PoolTimedOut];
        assert!(usable.iter().all(|error| Fault::of(error) == Fault::Statement));
    }
}
