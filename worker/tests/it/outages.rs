//! Stores and the broker that go away and come back.

use std::time::Duration;

use tempfile::TempDir;
use testbed::stack::Servers;

use crate::support::{Ends, HOLE_TIMEOUT, eventually, group, message, ready, settings};

/// Servers that only this test uses, so that it may break them.
async fn own_servers() -> (Servers, Ends, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let servers = Servers::start(folder.path()).await.unwrap();
    let ends = Ends::on(settings(&servers.urls(), "im")).await;
    (servers, ends, folder)
}

#[tokio::test]
async fn while_mysql_is_away_everything_is_kept_and_no_hole_times_out() {
    let (mut servers, ends, _folder) = own_servers().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.join(&chat, &["alice", "bob"]).await;
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    // 2 is missing when the database goes away.
    ends.publish(&[message(&chat, 3, "alice", "a3")]).await;
    servers.mysql.kill();
    ends.publish(&[message(&chat, 4, "alice", "a4")]).await;
    eventually("not ready, for this reason", async || {
        let failing = worker.health().failing();
        if failing.iter().any(|why| why.starts_with("mysql:")) { Ok(()) } else { Err(failing) }
    })
    .await;
    // An outage of this length is what the test is about.
    tokio::time::sleep(HOLE_TIMEOUT * 2).await;
    ends.publish(&[message(&chat, 2, "bob", "b2")]).await;
    servers.mysql.start_again().await.unwrap();
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b2"), (3, "a3"), (4, "a4")]).await;
    ready(&worker).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_broker_that_was_killed_delivers_again_and_nothing_is_doubled() {
    let (mut servers, mut ends, _folder) = own_servers().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    // RabbitMQ 3.10 writes its list of quorum queues to disk every half second. Killed before, it comes back with queues
    // that never find a leader; that is not what this test is about.
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Confirmed, and perhaps not delivered.
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
async fn without_redis_messages_are_stored_and_fresh_numbers_wait() {
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
    // Needs a fresh number; its neighbours do not, and are not kept waiting.
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
