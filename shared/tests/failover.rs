//! Servers that are replaced while old connections live on, and servers that fall silent.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::time::{Duration, Instant};

use shared::config;
use shared::conversation::Conversation;
use shared::ids::{MsgId, UserId};
use shared::message::fixture;
use shared::mysql::ready::{self, NotReady};
use shared::mysql::{self, Ping, Pool, Transaction, Tx};
use shared::redis::sequence::{Floor, NumberRequest, Sequence};
use testbed::stack::{Direction, Link, MysqlServer, RedisServer, wait_for};

/// Of a statement, in these tests.
const TIMEOUT_MS: u64 = 1_000;
/// How soon after a failover the new server must be in use.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(10);

struct Failover {
    old: MysqlServer,
    new: MysqlServer,
    link: Link,
    _folder: tempfile::TempDir,
}

impl Failover {
    /// Two servers with the schema, and a link to the first of them.
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let (old, new) = tokio::try_join!(MysqlServer::start(&old), MysqlServer::start(&new)).unwrap();
        for server in [&old, &new] {
            set_up(server).await;
        }
        let link = Link::to(old.port()).await.unwrap();
        Self { old, new, link, _folder: folder }
    }

    /// The old server becomes read-only, and the address leads to the new one; old connections stay open.
    async fn fail_over(&self) {
        self.old.execute("SET GLOBAL read_only = 1").await.unwrap();
        self.link.lead_to(self.new.port());
    }
}

async fn one_server() -> (MysqlServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let server = MysqlServer::start(folder.path()).await.unwrap();
    set_up(&server).await;
    (server, folder)
}

/// Creates the schema and a user without privileges on the server.
async fn set_up(server: &MysqlServer) {
    for statement in [
        "CREATE DATABASE im DEFAULT CHARACTER SET utf8mb4",
        "CREATE USER im@'127.0.0.1' IDENTIFIED BY 'secret'",
        "GRANT ALL ON im.* TO im@'127.0.0.1'",
    ] {
        server.execute(statement).await.unwrap();
    }
    mysql::migrate(&connect("root", server.port(), Ping::Never).await).await.unwrap();
}

async fn connect(user: &str, port: u16, ping: Ping) -> Pool {
    let settings = config::Mysql {
        url: format!("mysql://{user}@127.0.0.1:{port}/im").as_str().into(),
        connections_max: 4,
        timeout_ms: TIMEOUT_MS,
        ..Default::default()
    };
    mysql::connect(&settings, ping, Duration::from_secs(30)).await.unwrap()
}

/// Writes, and returns the port of the server that took it.
struct Write;

impl Transaction for Write {
    type Output = u64;
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<u64> {
        let write =
            "INSERT INTO setting (name, value) VALUES ('test', '1') ON DUPLICATE KEY UPDATE value = value";
        sqlx::query(write).execute(&mut *tx).await?;
        sqlx::query_scalar("SELECT CAST(@@global.port AS UNSIGNED)").fetch_one(tx).await
    }
}

/// Opens all connections of the pool, so that old ones are there to be used again.
async fn use_all(pool: &Pool) {
    let slow = || async { sqlx::query("SELECT SLEEP(0.2)").execute(pool).await.unwrap() };
    tokio::join!(slow(), slow(), slow(), slow());
}

#[tokio::test]
async fn after_a_failover_of_mysql_old_connections_are_given_up() {
    let failover = Failover::start().await;
    for (user, ping) in [("im:secret", Ping::BeforeUse), ("im:secret", Ping::Never), ("root", Ping::Never)] {
        failover.old.execute("SET GLOBAL read_only = 0").await.unwrap();
        failover.link.lead_to(failover.old.port());
        let pool = connect(user, failover.link.port(), ping).await;
        use_all(&pool).await;
        assert_eq!(mysql::run_tx(&pool, &Write).await.unwrap(), u64::from(failover.old.port()));
        // Connections that are younger survive.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        failover.fail_over().await;
        if user == "root" {
            // Root may write to a read-only server: only the regular check notices the failover.
            assert!(matches!(ready::check(&pool).await, Err(NotReady::ReadOnly)));
        }
        let begun = Instant::now();
        wait_for("the new server", FAILOVER_TIMEOUT, async || {
            let port = mysql::run_tx(&pool, &Write).await?;
            anyhow::ensure!(port == u64::from(failover.new.port()), "the old server takes writes");
            Ok(())
        })
        .await
        .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{user}, {ping:?}: {:?}", begun.elapsed());
        ready::check(&pool).await.unwrap();
        // None of the four old connections is used again.
        for _ in 0..8 {
            assert_eq!(mysql::run_tx(&pool, &Write).await.unwrap(), u64::from(failover.new.port()));
        }
    }
}

#[tokio::test]
async fn a_pool_that_writes_refuses_a_read_only_server_and_one_that_reads_uses_it() {
    let failover = Failover::start().await;
    let (old, old_port) = (&failover.old, failover.old.port());
    let (writer, reader) =
        (connect("root", old_port, Ping::Never).await, connect("root", old_port, Ping::BeforeUse).await);
    old.execute("SET GLOBAL read_only = 1").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for pool in [&writer, &reader] {
        assert!(matches!(ready::check(pool).await, Err(NotReady::ReadOnly)));
    }
    let error = mysql::run_tx(&writer, &Write).await.unwrap_err();
    assert!(mysql::is_unavailable(&error) && error.to_string().contains("read-only"), "{error}");
    sqlx::query("SELECT 1").execute(&reader).await.unwrap();
    old.execute("SET GLOBAL read_only = 0").await.unwrap();
    for pool in [&writer, &reader] {
        ready::check(pool).await.unwrap();
        mysql::run_tx(pool, &Write).await.unwrap();
    }
}

#[tokio::test]
async fn a_silent_server_fails_statements_and_transactions_in_time() {
    let failover = Failover::start().await;
    for ping in [Ping::BeforeUse, Ping::Never] {
        let pool = connect("root", failover.link.port(), ping).await;
        mysql::run_tx(&pool, &Write).await.unwrap();
        failover.link.stall(Direction::Both);
        let in_time = Duration::from_secs(6);
        let ended = tokio::time::timeout(in_time, mysql::run_tx(&pool, &Write)).await;
        assert!(mysql::is_unavailable(&ended.unwrap().unwrap_err()));
        let ended = tokio::time::timeout(in_time, sqlx::query("SELECT 1").execute(&pool)).await;
        assert!(mysql::is_unavailable(&ended.unwrap().unwrap_err()));
        assert!(tokio::time::timeout(in_time, ready::check(&pool)).await.unwrap().is_err());
        failover.link.heal();
        wait_for("the server", FAILOVER_TIMEOUT, async || {
            ready::check(&pool).await?;
            Ok(mysql::run_tx(&pool, &Write).await.map(drop)?)
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_session_has_its_own_settings_whatever_those_of_the_server_are() {
    let (server, _folder) = one_server().await;
    for statement in [
        "SET GLOBAL sql_mode = 'ORACLE,ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "SET GLOBAL autocommit = 0",
        "SET GLOBAL innodb_lock_wait_timeout = 100",
        "SET GLOBAL wait_timeout = 5",
        "SET GLOBAL transaction_isolation = 'SERIALIZABLE'",
        "SET GLOBAL sql_safe_updates = 1",
        "SET GLOBAL sql_select_limit = 1",
    ] {
        // Some are not dynamic, or have another name, on some servers.
        let _ = server.execute(statement).await;
    }
    let pool = connect("im:secret", server.port(), Ping::Never).await;
    let session: (String, i64, i64, i64) = sqlx::query_as(
        "SELECT @@session.sql_mode, CAST(@@session.autocommit AS SIGNED), \
         CAST(@@session.innodb_lock_wait_timeout AS SIGNED), CAST(@@session.wait_timeout AS SIGNED)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(session, ("STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION".to_owned(), 1, 1, 28_800));
    mysql::migrate(&pool).await.unwrap();
    mysql::run_tx(&pool, &Write).await.unwrap();
    let rows =
        sqlx::query("SELECT name FROM setting UNION ALL SELECT 'one more'").fetch_all(&pool).await.unwrap();
    assert!(rows.len() > 1);
}

#[tokio::test]
async fn too_few_prepared_statements_delay_a_transaction_and_none_is_an_error_at_the_start() {
    let (server, _folder) = one_server().await;
    let pool = connect("im:secret", server.port(), Ping::Never).await;
    server.execute("SET GLOBAL max_prepared_stmt_count = 3").await.unwrap();
    // Each statement has another text, and is prepared: more than there is room for.
    for n in 0..12 {
        wait_for("a statement", FAILOVER_TIMEOUT, async || {
            let text = sqlx::AssertSqlSafe(format!("SELECT {n}"));
            Ok(sqlx::query(text).execute(&pool).await.map(drop)?)
        })
        .await
        .unwrap();
    }
    server.execute("SET GLOBAL max_prepared_stmt_count = 0").await.unwrap();
    let settings = config::Mysql {
        url: format!("mysql://root@127.0.0.1:{}/im", server.port()).as_str().into(),
        ..config::Mysql::default()
    };
    let error = mysql::connect(&settings, Ping::BeforeUse, Duration::from_secs(2)).await.unwrap_err();
    assert!(error.to_string().contains("max_prepared_stmt_count"), "{error}");
}

/// A client through a link to the first of two servers.
async fn redis_pair() -> (RedisServer, RedisServer, Link, Sequence, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let old = RedisServer::start(&folder.path().join("old")).await.unwrap();
    let new = RedisServer::start(&folder.path().join("new")).await.unwrap();
    let link = Link::to(old.port()).await.unwrap();
    let settings = config::Redis {
        url: format!("redis://127.0.0.1:{}", link.port()).as_str().into(),
        command_timeout_ms: 1_000,
        ..config::Redis::default()
    };
    let client = shared::redis::connect(&settings, Duration::from_secs(10)).await.unwrap();
    (old, new, link, Sequence::new(client, 60), folder)
}

async fn number(sequence: &Sequence, msg_id: &str) -> anyhow::Result<()> {
    let conversation = Conversation::from_key("group_1")?;
    let (sender, msg_id) = (UserId::parse("alice")?, MsgId::parse(msg_id)?);
    let floor = Some(Floor { last: shared::ids::Seq::ZERO, jump: false });
    let request = NumberRequest {
        conversation: &conversation,
        messages: vec![(&sender, &msg_id, fixture::text("x").fingerprint())],
        floor,
    };
    let mut numbers = sequence.next(&[request]).await;
    numbers.remove(0).map(drop).map_err(Into::into)
}

#[tokio::test]
async fn after_a_failover_of_redis_the_old_connection_is_given_up() {
    // READONLY, MASTERDOWN, NOREPLICAS.
    for serves_stale_data in [Some("yes"), Some("no"), None] {
        let (old, new, link, sequence, _folder) = redis_pair().await;
        number(&sequence, "m1").await.unwrap();
        if let Some(serves) = serves_stale_data {
            old.command(&["CONFIG", "SET", "replica-serve-stale-data", serves]).await.unwrap();
            // Its master does not answer.
            old.command(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
        } else {
            old.command(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await.unwrap();
        }
        assert!(number(&sequence, "m2").await.is_err());
        link.lead_to(new.port());
        let begun = Instant::now();
        wait_for("the new server", FAILOVER_TIMEOUT, async || number(&sequence, "m3").await).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
