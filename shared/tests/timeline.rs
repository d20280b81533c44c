//! The statements, on a real MySQL or MariaDB over TCP.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed helper is a failed test, and tasks end with its runtime"
)]

#[path = "support/migrated.rs"]
mod support;

use std::time::Duration;

use futures_util::FutureExt as _;
use shared::config;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::message::fixture::{numbered, text, with_kind};
use shared::message::{Numbered, Stored};
use shared::mysql::conversations::{ADVANCED_FROM_MAX, Head};
use shared::mysql::positions::{self, Advance};
use shared::mysql::settings::{self, ShardCountError, first_shard_state};
use shared::mysql::timeline::{self, Direction};
use shared::mysql::{self, Ping, Pool, Transaction, Tx, conversations, message_ids};
use shared::shard::ShardLayout;
use shared::shard_state::ShardState;
use sqlx::Connection as _;
use testbed::stack::Stores;

use support::migrated;

async fn connect(stores: &Stores) -> Pool {
    let settings = config::Mysql { url: stores.mysql_url.as_str().into(), ..Default::default() };
    mysql::connect(&settings, Ping::Never, Duration::from_secs(30)).await.unwrap()
}

#[tokio::test]
async fn a_process_starts_on_the_schema_of_a_newer_version() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    // The state that a version with one more migration leaves.
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (900, 'of a newer version', TRUE, X'00', 1)",
    )
    .execute(&pool)
    .await
    .unwrap();
    mysql::migrate(&pool).await.unwrap();
}

fn group(name: &str) -> Conversation {
    Conversation::from_key(&format!("group_{name}")).unwrap()
}

fn message(conversation: &Conversation, sender: &str, id: &str) -> Numbered {
    with_kind(numbered(conversation.key(), 0, sender, id), text(&format!("{id} 😀 says {sender}")))
}

async fn store(pool: &Pool, messages: &[(u64, Numbered)]) -> sqlx::Result<()> {
    let mut tx = pool.sqlx_pool().begin().await?;
    let rows: Vec<_> = messages.iter().map(|(seq, message)| (Seq(*seq), message)).collect();
    timeline::insert(&mut tx, &rows).await?;
    let last = rows.iter().map(|(seq, _)| *seq).max().unwrap();
    conversations::lock_heads(&mut tx, &[&messages[0].1.conversation]).await?;
    conversations::advance_heads(&mut tx, &[(&messages[0].1.conversation, last)]).await?;
    tx.commit().await
}

#[tokio::test]
async fn ten_processes_that_start_together_migrate_once() {
    let stores = Stores::for_test().await.unwrap();
    let pools = futures_util::future::join_all((0..10).map(|_| connect(&stores))).await;
    for migrated in futures_util::future::join_all(pools.iter().map(mysql::migrate)).await {
        migrated.unwrap();
    }
    let applied: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations").fetch_one(&pools[0]).await.unwrap();
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count();
    assert_eq!(usize::try_from(applied).unwrap(), files);
}

#[tokio::test]
async fn the_number_of_shards_is_stored_at_the_first_start_and_replaced_step_by_step() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let eight = ShardLayout::new(8);
    let stable = ShardState::stable(eight.unwrap());
    for configured in [eight, eight, None, ShardLayout::new(4)] {
        assert_eq!(first_shard_state(&pool, configured).await.unwrap(), stable);
    }
    let (three, four) = (stable.announce(3).unwrap(), stable.announce(4).unwrap());
    assert!(settings::replace_shard_state(&pool, stable, three).await.unwrap());
    assert!(!settings::replace_shard_state(&pool, stable, four).await.unwrap(), "one step is taken once");
    assert_eq!(settings::shard_state(&pool).await.unwrap(), Some(three));
    sqlx::query("UPDATE setting SET value = 'many'").execute(&pool).await.unwrap();
    assert!(matches!(first_shard_state(&pool, None).await, Err(ShardCountError::Invalid { .. })));
}

#[tokio::test]
async fn processes_and_drained_shards_are_recorded_and_forgotten() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    for applied in ["", "2"] {
        settings::record_applied(&pool, "a", "gateway", applied).await.unwrap();
    }
    let all = settings::shard_processes(&pool).await.unwrap();
    assert_eq!(all.len(), 1);
    assert!(all[0].applied == "2" && (0..5).contains(&all[0].seen_before_s), "{all:?}");
    sqlx::query("UPDATE shard_process SET seen_at = seen_at - 90000").execute(&pool).await.unwrap();
    settings::forget_shard_process(&pool, "b").await.unwrap();
    assert_eq!(settings::shard_processes(&pool).await.unwrap(), []);

    let (first, second) = (ShardLayout::new(2).unwrap(), ShardLayout::of_generation(2, 1).unwrap());
    let all: Vec<_> = first.all().chain(second.all()).collect();
    for shard in all.iter().chain(&all) {
        settings::record_drained(&pool, *shard).await.unwrap();
    }
    assert_eq!(settings::drained_shards(&pool).await.unwrap(), all);
    settings::forget_drained(&pool, second).await.unwrap();
    assert_eq!(settings::drained_shards(&pool).await.unwrap(), second.all().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_timeline_is_read_in_both_directions() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let here = group("here");
    let rows: Vec<_> = (1..=300).map(|n| (n * 2, message(&here, "alice", &format!("m{n}")))).collect();
    store(&pool, &rows).await.unwrap();
    store(&pool, &[(7, message(&group("elsewhere"), "alice", "m1"))]).await.unwrap();
    let read = |cursor, direction| timeline::read(&pool, &here, Seq(cursor), direction, 3);
    let seqs = |rows: Vec<Stored>| rows.iter().map(|m| m.seq.0).collect::<Vec<_>>();
    assert_eq!(seqs(read(0, Direction::Forward).await.unwrap()), [2, 4, 6]);
    assert_eq!(seqs(read(595, Direction::Forward).await.unwrap()), [596, 598, 600]);
    assert_eq!(seqs(read(600, Direction::Forward).await.unwrap()), [0; 0]);
    assert_eq!(seqs(read(0, Direction::Backward).await.unwrap()), [600, 598, 596]);
    assert_eq!(seqs(read(5, Direction::Backward).await.unwrap()), [4, 2]);
    assert_eq!(seqs(read(9_999_999, Direction::Backward).await.unwrap()), [600, 598, 596]);
    assert_eq!(read(0, Direction::Forward).await.unwrap()[0].kind.content(), "m1 😀 says alice");
    let last = conversations::last_seqs(&pool, &[&group("nowhere"), &here]).await.unwrap();
    assert_eq!(last, [Seq::ZERO, Seq(600)]);
}

#[tokio::test]
async fn a_row_with_an_id_that_is_not_valid_any_more_does_not_fail_its_page() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let conversation = group("1");
    store(&pool, &[(1, message(&conversation, "alice", "m1")), (2, message(&conversation, "bob", "m2"))])
        .await
        .unwrap();
    sqlx::query("UPDATE timeline_message SET sender_id = 'a lice', msg_id = '' WHERE seq = 1")
        .execute(&pool)
        .await
        .unwrap();
    let page = timeline::read(&pool, &conversation, Seq(0), Direction::Forward, 10).await.unwrap();
    let senders: Vec<&str> = page.iter().map(|stored| stored.message.sender.as_str()).collect();
    assert_eq!(senders, ["a lice", "bob"]);
}

#[tokio::test]
async fn an_id_is_stored_once_per_sender_and_conversation_byte_for_byte() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let here = group("here");
    let all = [
        (1, message(&here, "alice", "m1")),
        (2, message(&here, "bob", "m1")),
        (3, message(&here, "Alice", "m1")),
        (4, message(&here, "alice", "M1")),
        (5, message(&here, "alicé", "m1")),
    ];
    store(&pool, &all).await.unwrap();
    store(&pool, &[(1, message(&group("other"), "alice", "m1"))]).await.unwrap();
    let twice = store(&pool, &[(6, message(&here, "alice", "m1"))]).await.unwrap_err();
    assert!(mysql::is_duplicate_key(&twice), "{twice}");
    let taken = store(&pool, &[(5, message(&here, "carol", "m9"))]).await.unwrap_err();
    assert!(mysql::is_duplicate_key(&taken), "{taken}");
    let mut tx = pool.sqlx_pool().begin().await.unwrap();
    let unknown = message(&here, "dave", "m1");
    let asked: Vec<_> = all.iter().map(|(_, m)| m).chain([&unknown]).collect();
    let mut found = message_ids::find_ids(&mut tx, &asked).await.unwrap();
    found.sort_by_key(|id| id.seq);
    let found: Vec<_> =
        found.iter().map(|id| (id.seq.0, id.sender_id.as_str(), id.msg_id.as_str())).collect();
    assert_eq!(
        found,
        [(1, "alice", "m1"), (2, "bob", "m1"), (3, "Alice", "m1"), (4, "alice", "M1"), (5, "alicé", "m1")]
    );
}

#[tokio::test]
async fn rows_of_conversations_are_locked_by_one_transaction_at_a_time() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let (a, b, c) = (group("a"), group("b"), group("c"));
    let mut first = pool.sqlx_pool().begin().await.unwrap();
    let heads = conversations::lock_heads(&mut first, &[&a, &b]).await.unwrap();
    assert_eq!((heads[&a].last_seq, heads[&b].last_seq), (Seq(0), Seq(0)));
    conversations::advance_heads(&mut first, &[(&a, Seq(3)), (&b, Seq(9))]).await.unwrap();
    let second = {
        let (pool, a, b, c) = (pool.clone(), a.clone(), b.clone(), c.clone());
        tokio::spawn(async move {
            let mut tx = pool.sqlx_pool().begin().await.unwrap();
            conversations::lock_heads(&mut tx, &[&a, &b, &c]).await.unwrap()
        })
    };
    // The second transaction waits in the server, where no client can observe it: give it a moment to arrive there.
    assert!(
        tokio::time::timeout(Duration::from_millis(200), async {
            while !second.is_finished() {
                tokio::task::yield_now().await
            }
        })
        .await
        .is_err()
    );
    first.commit().await.unwrap();
    let heads = second.await.unwrap();
    assert_eq!([&a, &b, &c].map(|key| heads[key].last_seq), [Seq(3), Seq(9), Seq(0)]);
}

#[tokio::test]
async fn rows_of_conversations_are_advanced_only_from_what_the_caller_knows() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let groups: Vec<Conversation> = (10..10 + ADVANCED_FROM_MAX).map(|n| group(&n.to_string())).collect();
    let head = |last_seq, access_version| Head { last_seq: Seq(last_seq), access_version };
    let last_seqs = async || {
        let groups: Vec<&Conversation> = groups.iter().collect();
        conversations::last_seqs(&pool, &groups).await.unwrap()
    };
    let advance = async |rows: &[(&Conversation, Head, Seq)]| mysql::run_tx(&pool, &AdvanceFrom(rows)).await;
    let unknown = advance(&[(&groups[0], head(0, 0), Seq(1))]).await;
    assert!(matches!(unknown, Err(sqlx::Error::RowNotFound)), "no such row: {unknown:?}");
    for (n, group) in groups.iter().enumerate() {
        store(&pool, &[(n as u64 + 1, message(group, "bob", "m1"))]).await.unwrap();
    }
    sqlx::query("UPDATE conversation SET access_version = 7 WHERE conversation_id = ?")
        .bind(groups[1].key())
        .execute(&pool)
        .await
        .unwrap();
    let before = last_seqs().await;
    let version = |n| if n == 1 { 7 } else { 0 };
    for many in 1..=ADVANCED_FROM_MAX {
        for other in [None, Some(head(u64::MAX, version(many - 1))), Some(head(many as u64, 8))] {
            let row = |n: usize| (&groups[n], head(n as u64 + 1, version(n)), Seq(n as u64 + 1_000));
            let mut rows: Vec<_> = (0..many).map(row).collect();
            let Some(other) = other else {
                assert!(advance(&rows).await.is_ok(), "{many} rows as they are");
                let after: Vec<Seq> = rows.iter().map(|row| row.2).collect();
                assert_eq!(last_seqs().await, [&after, &before[many..]].concat());
                let back =
                    rows.iter().map(|row| (row.0, head(row.2.0, row.1.access_version), row.1.last_seq));
                advance(&back.collect::<Vec<_>>()).await.unwrap();
                continue;
            };
            rows[many - 1].1 = other;
            let refused = advance(&rows).await;
            assert!(matches!(refused, Err(sqlx::Error::RowNotFound)), "{many} rows, {other:?}: {refused:?}");
            assert_eq!(last_seqs().await, before, "{many} rows, {other:?}");
        }
    }
}

struct AdvanceFrom<'a>(&'a [(&'a Conversation, Head, Seq)]);

impl Transaction for AdvanceFrom<'_> {
    type Output = ();
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<()> {
        conversations::advance_from(tx, self.0).await
    }
}

#[tokio::test]
async fn read_positions_move_forward_and_stop_at_the_newest_message() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let (here, alice) = (group("here"), UserId::parse("alice").unwrap());
    store(&pool, &[(10, message(&here, "bob", "m1"))]).await.unwrap();
    let to = |seq| positions::advance(&pool, &alice, &here, Seq(seq));
    assert_eq!(to(0).await.unwrap(), Advance { position: Seq(0), moved: false, unmarked: false });
    assert_eq!(to(4).await.unwrap(), Advance { position: Seq(4), moved: true, unmarked: false });
    assert_eq!(to(3).await.unwrap(), Advance { position: Seq(4), moved: false, unmarked: false });
    assert_eq!(to(99).await.unwrap(), Advance { position: Seq(10), moved: true, unmarked: false });
}

/// The id of the connection that is used, and the number of its pings.
async fn used(pool: &Pool) -> (u64, u64) {
    let (_, pings): (String, String) =
        sqlx::query_as("SHOW SESSION STATUS LIKE 'Com_admin_commands'").fetch_one(pool).await.unwrap();
    (sqlx::query_scalar("SELECT CONNECTION_ID()").fetch_one(pool).await.unwrap(), pings.parse().unwrap())
}

/// How many transactions were begun by a statement of their own on the connection that is used.
async fn begun(pool: &Pool) -> u64 {
    let (_, begun): (String, String) =
        sqlx::query_as("SHOW SESSION STATUS LIKE 'Com_begin'").fetch_one(pool).await.unwrap();
    begun.parse().unwrap()
}

struct CountOne;

impl Transaction for CountOne {
    type Output = i64;
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<i64> {
        sqlx::query_scalar("SELECT 1").fetch_one(tx).await
    }
}

struct InsertAndFail;

impl Transaction for InsertAndFail {
    type Output = ();
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO setting (name, value) VALUES ('test', 'x')").execute(tx).await?;
        Err(sqlx::Error::RowNotFound)
    }
}

#[tokio::test]
async fn a_finished_connection_is_reused_without_a_ping_and_any_other_one_is_closed() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let before = used(&pool).await;
    for _ in 0..5 {
        assert_eq!(used(&pool).await, before);
    }
    let counted = mysql::run_tx(&pool, &CountOne);
    assert_eq!(counted.await.unwrap(), 1);
    assert_eq!(used(&pool).await, before, "a transaction releases it, too");

    // A statement that the server refuses, and a rollback, leave the connection usable.
    assert!(sqlx::query("SELECT no_column FROM setting").execute(&pool).await.is_err());
    assert!(mysql::run_tx(&pool, &InsertAndFail).await.is_err());
    let rows = "SELECT COUNT(*) FROM setting WHERE name = 'test'";
    assert_eq!(sqlx::query_scalar::<_, i64>(rows).fetch_one(&pool).await.unwrap(), 0);
    assert_eq!(used(&pool).await, before);

    // A query that is cancelled closes its connection: its answer must not be read by another query.
    let mut left = pool.acquire().await.unwrap();
    // The server may answer before the first poll: then the ping was not cancelled.
    while left.ping().now_or_never().is_some() {}
    drop(left);
    let mut slow = Box::pin(sqlx::query("SELECT SLEEP(0.2)").execute(&pool));
    assert!((&mut slow).now_or_never().is_none());
    drop(slow);
    for n in 0..5_i64 {
        assert_eq!(sqlx::query_scalar::<_, i64>("SELECT ? + 0").bind(n).fetch_one(&pool).await.unwrap(), n);
    }
    assert_ne!(used(&pool).await.0, before.0);

    // A connection that the server closed fails one query and is not reused.
    let (id, _) = used(&pool).await;
    sqlx::query(sqlx::AssertSqlSafe(format!("KILL {id}"))).execute(pool.sqlx_pool()).await.unwrap();
    let _ = sqlx::query("SELECT 1").execute(&pool).await;
    assert_ne!(used(&pool).await.0, id);
}

struct InsertOne(&'static str);

impl Transaction for InsertOne {
    type Output = ();
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<()> {
        sqlx::query("INSERT INTO setting (name, value) VALUES (?, 'x')")
            .bind(self.0)
            .execute(tx)
            .await
            .map(drop)
    }
}

/// Where transactions follow one another, the end of one begins the next; a statement alone is not part of it.
#[tokio::test]
async fn what_follows_a_transaction_on_its_connection_is_committed_or_rolled_back_on_its_own() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let settings = config::Mysql { url: stores.mysql_url.as_str().into(), ..Default::default() };
    let other = mysql::connect(&settings, Ping::BeforeUse, Duration::from_secs(30)).await.unwrap();
    let is_there = async |name: &'static str| {
        let rows = sqlx::query_scalar::<_, i64>("SELECT COUNT(*) FROM setting WHERE name = ?").bind(name);
        rows.fetch_one(&other).await.unwrap() == 1
    };
    let (connection, before) = (used(&pool).await.0, begun(&pool).await);
    mysql::run_tx(&pool, &InsertOne("first")).await.unwrap();
    assert!(is_there("first").await);
    mysql::run_tx(&pool, &InsertOne("second")).await.unwrap();
    assert!(is_there("second").await);
    assert!(mysql::run_tx(&pool, &InsertAndFail).await.is_err());
    mysql::run_tx(&pool, &InsertOne("third")).await.unwrap();
    assert!(is_there("third").await && !is_there("test").await);
    sqlx::query("INSERT INTO setting (name, value) VALUES ('alone', 'x')").execute(&pool).await.unwrap();
    assert!(is_there("alone").await, "a statement after a transaction commits at once");
    mysql::run_tx(&pool, &InsertOne("fourth")).await.unwrap();
    // Nothing is open that sees or locks anything.
    sqlx::query("UPDATE setting SET value = 'y' WHERE name = 'fourth'").execute(&other).await.unwrap();
    sqlx::query("ALTER TABLE setting COMMENT = 'x'").execute(&other).await.unwrap();
    assert_eq!(mysql::run_tx(&pool, &ReadFourth).await.unwrap(), "y");
    let begun = begun(&pool).await - before;
    assert_eq!(begun, 3, "the second one, the one that fails and the last one are begun by the one before");
    assert_eq!(used(&pool).await.0, connection, "all of it on one connection");
}

struct ReadFourth;

impl Transaction for ReadFourth {
    type Output = String;
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<String> {
        sqlx::query_scalar("SELECT value FROM setting WHERE name = 'fourth'").fetch_one(tx).await
    }
}

#[tokio::test]
async fn callers_that_wait_for_a_connection_get_the_next_one() {
    let stores = Stores::for_test().await.unwrap();
    let settings =
        config::Mysql { url: stores.mysql_url.as_str().into(), connections_max: 2, ..Default::default() };
    let pool = mysql::connect(&settings, Ping::Never, Duration::from_secs(30)).await.unwrap();
    let asked = (0..50_i64).map(|n| {
        let pool = &pool;
        async move { sqlx::query_scalar::<_, i64>("SELECT ? + 0").bind(n).fetch_one(pool).await.unwrap() }
    });
    assert_eq!(futures_util::future::join_all(asked).await, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn one_connection_is_enough_to_start() {
    let stores = Stores::for_test().await.unwrap();
    let settings =
        config::Mysql { url: stores.mysql_url.as_str().into(), connections_max: 1, ..Default::default() };
    let pool = mysql::connect(&settings, Ping::BeforeUse, Duration::from_secs(30)).await.unwrap();
    mysql::migrate(&pool).await.unwrap();
    let none = conversations::last_seqs(&pool, &[&group("nowhere")]).await.unwrap();
    assert_eq!(none, [Seq::ZERO]);
}
