//! Queues that are deleted, at once or for a while.

use std::time::Duration;

use crate::support::{Ends, group, message, ready};

#[tokio::test]
async fn a_queue_that_is_deleted_is_declared_and_consumed_again() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    ends.delete_queue(ends.shard_of(&chat)).await;
    ends.until_queue_exists(ends.shard_of(&chat)).await;
    ready(&worker).await;
    ends.publish(&[message(&chat, 2, "alice", "a2")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "a2")]).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_queue_that_is_deleted_and_declared_again_at_once_under_load_is_consumed() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let shard = ends.shard_of(&chat);
    ends.join(&chat, &["alice"]).await;
    let mut seqs = 1..;
    for round in 0..12 {
        let next = |seq| message(&chat, seq, "alice", &format!("m{seq}"));
        let lost: Vec<_> = seqs.by_ref().take(300).map(next).collect();
        let replacing = async {
            tokio::time::sleep(Duration::from_millis(5 + 5 * round)).await;
            ends.replace_queue(shard).await;
        };
        tokio::join!(replacing, ends.publish_or_lose(&lost));
        // Messages that were lost with the queue leave gaps, which are skipped.
        let last = seqs.next().map(next).unwrap();
        ends.publish_until_confirmed(&last).await;
        ends.expect_last(&chat, last.msg_id.as_str()).await;
    }
    ready(&worker).await;
    assert!(worker.stop().await);
}
