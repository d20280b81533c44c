//! The baselines' tables: the columns and keys of the system's tables, in a schema of their own on the same server.

use std::ops::DerefMut;
use std::sync::Arc;

use anyhow::Context as _;
use parking_lot::Mutex;
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::Semaphore;

use super::drive::Message;

/// Created for each comparison.
const SCHEMA: &str = "im_compare";

/// Its rows are locked by the baseline "MySQL only", as the system's workers lock theirs.
const CONVERSATION: &str = "CREATE TABLE conversation (
    conversation_id VARCHAR(160) NOT NULL,
    PRIMARY KEY (conversation_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

const TIMELINE: &str = "CREATE TABLE timeline_message (
    conversation_id VARCHAR(160) NOT NULL,
    seq BIGINT UNSIGNED NOT NULL,
    msg_id VARCHAR(64) NOT NULL,
    sender_id VARCHAR(64) NOT NULL,
    content VARCHAR(4096) NOT NULL,
    msg_type TINYINT UNSIGNED NOT NULL,
    send_time BIGINT NOT NULL,
    PRIMARY KEY (conversation_id, seq),
    UNIQUE KEY one_per_id (conversation_id, sender_id, msg_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";

const INSERT: &str = "INSERT INTO timeline_message \
    (conversation_id, seq, msg_id, sender_id, content, msg_type, send_time) VALUES (?, ?, ?, ?, ?, 1, ?)";
/// A further row of the same statement.
const ONE_MORE: &str = ", (?, ?, ?, ?, ?, 1, ?)";

/// Open connections. sqlx's pool pings each connection when it is released; this one does not, because an extra round trip
/// for each message would be unfair to the baselines.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    connections: Arc<Connections>,
}

#[derive(Debug)]
struct Connections {
    free: Mutex<Vec<MySqlConnection>>,
    count: Semaphore,
}

impl Connections {
    /// A connection for one statement or transaction.
    async fn lend(&self) -> anyhow::Result<impl DerefMut<Target = MySqlConnection> + '_> {
        let place = self.count.acquire().await?;
        let connection = self.free.lock().pop().context("a place without a connection")?;
        Ok(scopeguard::guard(connection, move |connection| {
            self.free.lock().push(connection);
            drop(place);
        }))
    }
}

impl Timeline {
    /// Creates the schema on the server of `url`, and opens `connections`.
    pub(crate) async fn make(url: &str, connections: u32) -> anyhow::Result<Self> {
        let options: MySqlConnectOptions = url.parse()?;
        let options = options.disable_statement_logging();
        let mut connection = options.connect().await.context("MySQL")?;
        connection.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {SCHEMA}"))).await?;
        let make = format!("CREATE DATABASE {SCHEMA} DEFAULT CHARACTER SET utf8mb4");
        connection.execute(AssertSqlSafe(make)).await?;
        connection.close().await?;

        let options = options.database(SCHEMA);
        let mut free = Vec::new();
        for n in 0..connections {
            let mut connection = options.connect().await?;
            // As the system does: gap locks of the default level would make neighboring inserts wait.
            connection.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
            if n == 0 {
                connection.execute(CONVERSATION).await?;
                connection.execute(TIMELINE).await?;
            }
            free.push(connection);
        }
        let count = Semaphore::new(free.len());
        Ok(Self { connections: Arc::new(Connections { free: Mutex::new(free), count }) })
    }

    /// Inserts the rows that the baseline "MySQL only" locks.
    pub(super) async fn add_conversations(&self, ids: &[String]) -> anyhow::Result<()> {
        for id in ids {
            let insert = "INSERT IGNORE INTO conversation (conversation_id) VALUES (?)";
            sqlx::query(insert).bind(id).execute(&mut *self.connections.lend().await?).await?;
        }
        Ok(())
    }

    /// One row with one statement in a transaction of its own.
    pub(super) async fn insert(&self, message: &Message, seq: u64) -> anyhow::Result<()> {
        insert(message, seq).execute(&mut *self.connections.lend().await?).await?;
        Ok(())
    }

    /// All rows with one statement in one transaction. Their sequence numbers start at `first`.
    pub(crate) async fn insert_together(&self, messages: &[Message], first: u64) -> anyhow::Result<()> {
        let text = INSERT.to_owned() + &ONE_MORE.repeat(messages.len().saturating_sub(1));
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (seq, message) in (first..).zip(messages) {
            query = bind(query, message, seq);
        }
        query.execute(&mut *self.connections.lend().await?).await?;
        Ok(())
    }

    /// Finds the next sequence number and inserts, in one transaction. The lock of the conversation's row serializes the
    /// transactions; without it, two of them would lock the same gap, and one would fail with a deadlock.
    pub(super) async fn number_and_insert(&self, message: &Message) -> anyhow::Result<()> {
        let mut connection = self.connections.lend().await?;
        let mut transaction = connection.begin().await?;
        let lock = "SELECT conversation_id FROM conversation WHERE conversation_id = ? FOR UPDATE";
        sqlx::query(lock).bind(&message.conversation).fetch_one(&mut *transaction).await?;
        let highest = "SELECT MAX(seq) FROM timeline_message WHERE conversation_id = ?";
        let highest = sqlx::query_scalar::<_, Option<u64>>(highest).bind(&message.conversation);
        let seq = highest.fetch_one(&mut *transaction).await?.unwrap_or(0) + 1;
        insert(message, seq).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// The number of rows of these conversations.
    pub(super) async fn rows(&self, ids: &[String]) -> anyhow::Result<u64> {
        let mut rows = 0;
        for id in ids {
            let count = "SELECT COUNT(*) FROM timeline_message WHERE conversation_id = ?";
            let counted = sqlx::query_scalar(count).bind(id);
            let count: i64 = counted.fetch_one(&mut *self.connections.lend().await?).await?;
            rows += u64::try_from(count)?;
        }
        Ok(rows)
    }
}

type Insert<'q> = sqlx::query::Query<'q, sqlx::MySql, sqlx::mysql::MySqlArguments>;

fn insert(message: &Message, seq: u64) -> Insert<'_> {
    bind(sqlx::query(INSERT), message, seq)
}

fn bind<'q>(query: Insert<'q>, message: &'q Message, seq: u64) -> Insert<'q> {
    query
        .bind(&message.conversation)
        .bind(seq)
        .bind(&message.msg_id)
        .bind(&message.sender)
        .bind(&message.content)
        .bind(now_ms())
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
