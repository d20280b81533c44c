//! The statements of notifications, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::Pool;
use shared::mysql::notifications::{self, DueRow, Key, Planned, Sent};
use shared::mysql::push_subscriptions::{self, NewSubscription, SUBSCRIPTIONS_MAX};
use testbed::stack::Stores;

use support::migrated;

const SHARD: u16 = 3;
const INTERVAL: i64 = 10_000;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn key() -> Key {
    Key { user: user("bob"), conversation: Conversation::from_key("private_ann bob").unwrap() }
}

fn planned(last_seq: u64, due_at: i64) -> Planned {
    let Key { user, conversation } = key();
    let since_ms = due_at - 5;
    Planned { user, conversation, last_seq: Seq(last_seq), mention_seq: Seq::ZERO, since_ms, due_at }
}

async fn plan(pool: &Pool, planned: &Planned) {
    let mut connection = pool.acquire().await.unwrap();
    let rows = std::slice::from_ref(planned);
    let upserted = notifications::upsert(&mut connection, SHARD, rows, INTERVAL).await;
    connection.finish(upserted).unwrap();
}

/// The only row, if it is due at `now`.
async fn due(pool: &Pool, now: i64) -> Option<DueRow> {
    let mut rows = notifications::due(pool, SHARD, now, 10).await.unwrap();
    assert!(rows.len() <= 1 && notifications::due(pool, SHARD + 1, now, 10).await.unwrap().is_empty());
    rows.pop().map(|(found, row, _)| {
        assert_eq!(found, key());
        row
    })
}

fn sent(seq: u64, at: i64) -> Sent {
    Sent { shown_seq: Seq(seq), shown_at: at, pending: "a b".to_owned(), due_at: at + 600_000, looks: 0 }
}

#[tokio::test]
async fn further_messages_raise_the_row_and_keep_its_time_and_the_interval() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    plan(&pool, &planned(5, 1_000)).await;
    assert_eq!(due(&pool, 999).await, None);
    plan(&pool, &planned(7, 3_000)).await;
    let row = due(&pool, 1_000).await.unwrap();
    assert_eq!((row.last_seq, row.since_ms, row.version), (Seq(7), 995, 2));

    assert!(notifications::begin(&pool, &key(), row.version, Some(Seq(7)), 30_000).await.unwrap());
    assert!(
        !notifications::begin(&pool, &key(), row.version, Some(Seq(7)), 30_000).await.unwrap(),
        "a frozen gateway"
    );
    assert!(notifications::sent(&pool, &key(), row.version + 1, &sent(7, 2_000)).await.unwrap());
    assert_eq!(due(&pool, 600_000).await, None);
    plan(&pool, &planned(9, 4_000)).await;
    assert_eq!(due(&pool, 2_000 + INTERVAL - 1).await, None, "the interval");
    let row = due(&pool, 2_000 + INTERVAL).await.unwrap();
    assert_eq!((row.last_seq, row.shown_seq, row.since_ms), (Seq(9), Seq(7), 3_995));
    assert_eq!((row.sending_seq, row.pending), (Seq(7), vec!["a".to_owned(), "b".to_owned()]));
}

#[tokio::test]
async fn what_changes_while_a_row_is_sent_is_looked_at_afterwards() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let now = notifications::clock(&pool).await.unwrap();
    let later = now + 3_600_000;
    plan(&pool, &planned(5, later)).await;
    let Key { user, conversation } = key();
    notifications::touch(&pool, &user, &conversation).await.unwrap();
    assert_eq!(due(&pool, later - 1).await, None, "nothing is shown yet");
    let row = due(&pool, later).await.unwrap();
    assert!(notifications::begin(&pool, &key(), row.version, Some(Seq(5)), later).await.unwrap());
    notifications::touch(&pool, &user, &conversation).await.unwrap();
    assert!(!notifications::sent(&pool, &key(), row.version + 1, &sent(5, later)).await.unwrap());
    notifications::sent_meanwhile(&pool, &key(), &sent(5, later)).await.unwrap();
    let row = due(&pool, later - 1).await.unwrap();
    assert_eq!((row.shown_seq, row.shown_at), (Seq(5), later));
    notifications::remove(&pool, &[(&key(), row.version - 1)]).await.unwrap();
    assert!(due(&pool, later - 1).await.is_some(), "of another version");
    assert!(notifications::begin(&pool, &key(), row.version, None, later).await.unwrap());
    let row = due(&pool, later).await.unwrap();
    assert!(row.is_withdrawn && row.pending.is_empty(), "{row:?}");
    notifications::remove(&pool, &[(&key(), row.version)]).await.unwrap();
    assert_eq!(due(&pool, i64::MAX).await, None);
}

#[tokio::test]
async fn a_recall_concerns_what_may_be_shown() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    plan(&pool, &planned(5, 1_000)).await;
    let recall = async |target: u64| {
        let mut connection = pool.acquire().await.unwrap();
        let conversation = key().conversation;
        let recalled =
            notifications::recalled(&mut connection, &conversation, Seq(target), Seq(6), 500).await;
        connection.finish(recalled).unwrap();
    };
    recall(5).await;
    assert_eq!(due(&pool, 500).await, None, "it is not shown");
    let row = due(&pool, 1_000).await.unwrap();
    assert!(notifications::begin(&pool, &key(), row.version, Some(Seq(5)), 30_000).await.unwrap());
    recall(6).await;
    assert_eq!(due(&pool, 500).await, None, "a later message");
    recall(5).await;
    assert_eq!(due(&pool, 500).await.unwrap().last_seq, Seq(6));
    let waiting = notifications::overdue(&pool, SHARD, 700).await.unwrap();
    assert_eq!((waiting.rows, waiting.oldest_due_at), (1, Some(500)));
}

fn fcm(token: &str) -> NewSubscription {
    NewSubscription {
        kind: "fcm",
        target: token.to_owned(),
        p256dh: None,
        auth: None,
        vapid_key: None,
        topic: None,
        is_sandbox: None,
        device: None,
    }
}

#[tokio::test]
async fn members_with_subscriptions_are_found_with_what_they_have_read_and_muted() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    for (n, user_id) in ["ann", "bob", "zoe"].into_iter().enumerate() {
        push_subscriptions::register(&pool, &user(user_id), &format!("{n:032}"), &fcm(user_id))
            .await
            .unwrap();
    }
    for sql in [
        "INSERT INTO group_member (group_id, user_id, join_time, join_seq) VALUES ('group_1', 'ann', 0, 4), \
         ('group_1', 'bob', 0, 0), ('group_1', 'eve', 0, 0)",
        "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at, muted_until) \
         VALUES ('bob', 'group_1', 7, 0, -1), ('bob', 'private_ann bob', 3, 0, 0)",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    let group = Conversation::from_key("group_1").unwrap();
    let mut found = notifications::of_group(&pool, &group).await.unwrap();
    found.sort_unstable_by(|a, b| a.user.cmp(&b.user));
    let short: Vec<_> = found.iter().map(|one| (one.user.as_str(), one.read.0, one.muted_until)).collect();
    assert_eq!(short, [("ann", 4, 0), ("bob", 7, -1)]);
    let chats = ["private_ann bob", "private_eve ida", "private_bob bob"]
        .map(|key| Conversation::from_key(key).unwrap());
    let chats: Vec<&Conversation> = chats.iter().collect();
    let found = notifications::of_private_chats(&pool, &chats).await.unwrap();
    let short: Vec<_> = found.iter().map(|(chat, one)| (chat.key(), one.user.as_str(), one.read.0)).collect();
    assert_eq!(short, [("private_ann bob", "ann", 0), ("private_ann bob", "bob", 3)]);
}

#[tokio::test]
async fn subscriptions_are_bounded_and_a_failure_rests_one() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let bob = user("bob");
    let register = async |n: u32| {
        let new_id = format!("{n:032}");
        push_subscriptions::register(&pool, &bob, &new_id, &fcm(&format!("t{n}"))).await.unwrap()
    };
    let first = register(1).await;
    assert_eq!(register(1).await, first);
    for n in 2..=SUBSCRIPTIONS_MAX + 1 {
        register(n).await;
    }
    let all = async || {
        let found = push_subscriptions::of_users(&pool, std::slice::from_ref(&bob)).await.unwrap();
        found.into_values().flatten().collect::<Vec<_>>()
    };
    let stored = all().await;
    assert_eq!(stored.len(), SUBSCRIPTIONS_MAX as usize);
    push_subscriptions::failed(&pool, &stored[0].id, 70_000).await.unwrap();
    let failed = all().await.remove(0);
    assert_eq!((failed.retry_at, failed.failures), (70_000, 1));
    push_subscriptions::accepted(&pool, &[&failed], 80_000).await.unwrap();
    let accepted = all().await.remove(0);
    assert_eq!((accepted.retry_at, accepted.failures, accepted.accepted_at), (0, 0, Some(80_000)));
}
