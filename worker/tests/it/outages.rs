//! Outages of stores and of the broker.

use std::time::Duration;

use tempfile::TempDir;
use testbed::stack::Servers;

use crate::support::{Ends, GAP_TIMEOUT, eventually, group, message, ready, settings};

/// Servers of this test alone, which it can stop.
async fn own_servers() -> (Servers, Ends, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start(folder.path()).await.unwrap();
    let ends = Ends::on(settings(&servers.urls(), "im")).await;
    (servers, ends, folder)
}

#[tokio::test]
async fn while_mysql_is_unavailable_messages_are_kept_and_no_gap_times_out() {
    let (mut servers, ends, _folder) = own_servers().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.join(&chat, &["alice", "bob"]).await;
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    // 2 is missing when the outage begins.
    ends.publish(&[message(&chat, 3, "alice", "a3")]).await;
    servers.mysql.kill();
    ends.publish(&[message(&chat, 4, "alice", "a4")]).await;
    eventually("not ready, for this reason", async || {
        let failing = worker.health().failing();
        if failing.iter().any(|why| why.starts_with("mysql:")) { Ok(()) } else { Err(failing) }
    })
    .await;
    // The outage is longer than the timeout.
    tokio::time::sleep(GAP_TIMEOUT * 2).await;
    ends.publish(&[message(&chat, 2, "bob", "b2")]).await;
    servers.mysql.start_again().await.unwrap();
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b2"), (3, "a3"), (4, "a4")]).await;
    ready(&worker).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn after_the_broker_is_killed_each_message_is_stored_once() {
    let (mut servers, mut ends, _folder) = own_servers().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    // RabbitMQ 3.10 writes its list of quorum queues to disk every half second. If it is killed before, queues may have no
    // leader afterwards, which is not the subject of this test.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Confirmed, but possibly not delivered.
    ends.publish(&[message(&chat, 2, "alice", "a2")]).await;
    servers.rabbit.kill();
    eventually("not ready, for this reason", async || {
        let failing = worker.health().failing();
        if failing.iter().any(|why| why.starts_with("rabbitmq")) { Ok(()) } else { Err(failing) }
    })
    .await;
    servers.rabbit.start_again().await.unwrap();
    ends = Ends::on(ends.settings).await;
    ends.publish(&[message(&chat, 3, "alice", "a3")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "a2"), (3, "a3")]).await;
    ready(&worker).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn while_redis_is_unavailable_messages_are_stored_and_renumbered_ones_wait() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let (chat, other) = (group("group_1"), group("group_2"));
    ends.publish(&[message(&chat, 1, "alice", "a1"), message(&chat, 2, "bob", "b1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1")]).await;
    ends.stores.as_mut().unwrap().redis.kill();
    eventually("not ready, for this reason", async || {
        let failing = worker.health().failing();
        if failing.iter().any(|why| why.starts_with("redis:")) { Ok(()) } else { Err(failing) }
    })
    .await;
    // Needs a fresh sequence number. The other messages do not wait for it.
    ends.publish(&[message(&chat, 2, "carol", "c1")]).await;
    ends.publish(&[message(&chat, 3, "alice", "a3")]).await;
    ends.publish(&[message(&other, 1, "alice", "a1")]).await;
    ends.expect_timeline(&other, &[(1, "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (3, "a3")]).await;
    ends.stores.as_mut().unwrap().redis.start_again().await.unwrap();
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (3, "a3"), (4, "c1")]).await;
    let corrected = ends.next_corrected().await;
    assert_eq!((corrected.msg_id.as_str(), corrected.seq, corrected.changed), ("c1", 4, true));
    ready(&worker).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_locked_conversation_is_set_aside_and_the_others_of_its_shard_go_on() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let locked = group("group_1");
    let shard = ends.shard_of(&locked);
    let other =
        (2..).map(|n| group(&format!("group_{n}"))).find(|other| ends.shard_of(other) == shard).unwrap();
    ends.publish(&[message(&locked, 1, "alice", "a1"), message(&other, 1, "bob", "b1")]).await;
    ends.expect_timeline(&locked, &[(1, "a1")]).await;
    ends.expect_timeline(&other, &[(1, "b1")]).await;
    let lock = ends.lock_row(&locked).await;
    let begun = std::time::Instant::now();
    ends.publish(&[message(&locked, 2, "alice", "a2"), message(&other, 2, "bob", "b2")]).await;
    ends.expect_timeline(&other, &[(1, "b1"), (2, "b2")]).await;
    for seq in 3..10 {
        ends.publish(&[message(&locked, seq, "alice", &format!("a{seq}"))]).await;
        ends.publish(&[message(&other, seq, "bob", &format!("b{seq}"))]).await;
    }
    ends.expect_last(&other, "b9").await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(ends.timeline(&locked).await.unwrap().len(), 1, "its row is locked");
    ready(&worker).await;
    drop(lock);
    ends.expect_last(&locked, "a9").await;
    assert_eq!(ends.timeline(&locked).await.unwrap().len(), 9, "no number was skipped");
    assert!(worker.stop().await);
}
