//! Full prefetch windows.

use std::time::{Duration, Instant};

use shared::ids::Seq;
use shared::mysql::{self, Ping};
use shared::redis::sequence::{AssignedNumber, NumberRequest, Numbers, Sequence};

use crate::support::{Ends, GAP_TIMEOUT, SHARDS, eventually, group, message};

/// Publishes the messages `from..=to`, each in a body of its own, all sent on one connection.
async fn publish_singly(
    ends: &Ends,
    chat: &shared::conversation::Conversation,
    numbers: std::ops::RangeInclusive<u64>,
) {
    for seq in numbers {
        ends.publish(&[message(chat, seq, "alice", &format!("a{seq}"))]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_move_with_full_windows_keep_their_seqs() {
    const WINDOW: u16 = 50;
    const ALL: u64 = 300;
    let mut ends = Ends::new().await;
    ends.settings.commit.prefetch_bodies = WINDOW;
    // One conversation per shard.
    let chats: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let mut names = (0..).map(|n| group(&format!("group_{n}")));
            names.find(|chat| ends.shard_of(chat).number() == shard).unwrap()
        })
        .collect();
    let first = ends.start_worker().await;
    for chat in &chats {
        publish_singly(&ends, chat, 1..=1).await;
        ends.expect_timeline(chat, &[(1, "a1")]).await;
    }
    // It is stopped in a transaction, while its window is full.
    let pool = mysql::connect(&ends.settings.mysql, Ping::Never, GAP_TIMEOUT).await.unwrap();
    let mut lock = pool.sqlx_pool().begin().await.unwrap();
    sqlx::query("SELECT last_seq FROM conversation FOR UPDATE").fetch_all(&mut *lock).await.unwrap();
    for chat in &chats {
        publish_singly(&ends, chat, 2..=ALL).await;
        eventually("a full window", async || match ends.ready_bodies(ends.shard_of(chat)).await {
            ready if u64::from(ready) == ALL - 1 - u64::from(WINDOW) => Ok(()),
            ready => Err(ready),
        })
        .await;
    }
    // Another worker takes some shards over, and the first one continues.
    let all = usize::from(SHARDS);
    let second = loop {
        let second = ends.start_worker().await;
        eventually("shards that are shared out", async || match (first.shards(), second.shards()) {
            (mine, others) if mine.len() + others.len() == all => Ok(()),
            shares => Err(shares),
        })
        .await;
        // Its id is random, so it may get no shard.
        if !first.shards().is_empty() && !second.shards().is_empty() {
            break second;
        }
        second.stop().await;
    };
    lock.rollback().await.unwrap();
    let expected: Vec<_> = (1..=ALL).map(|seq| (seq, format!("a{seq}"))).collect();
    let expected: Vec<_> = expected.iter().map(|(seq, id)| (*seq, id.as_str())).collect();
    for chat in &chats {
        ends.expect_timeline(chat, &expected).await;
    }
    assert!(first.stop().await);
    assert!(second.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_full_of_late_messages_does_not_block_the_queue() {
    const LATE: u64 = 40;
    const BEHIND: u64 = 200;
    let mut ends = Ends::new().await;
    ends.settings.commit.prefetch_bodies = 8;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    // The sequence numbers up to 40 are skipped…
    ends.publish(&[message(&chat, LATE + 1, "bob", "b")]).await;
    ends.expect_timeline(&chat, &[(LATE + 1, "b")]).await;
    assert!(worker.stop().await);
    let redis = shared::redis::connect(&ends.settings.redis, GAP_TIMEOUT).await.unwrap();
    let sequence = Sequence::new(redis, 60);
    sequence.take_above(&chat, Seq(LATE + 1), 1).await.unwrap();
    // …and their messages arrive when others have gathered behind them.
    publish_singly(&ends, &chat, 1..=LATE).await;
    let mut said = 0;
    let mut talk = async |count| {
        for _ in 0..count {
            let mut live = message(&chat, 1, "carol", &format!("c{said}"));
            let messages = vec![(&live.sender, &live.msg_id, live.kind.fingerprint())];
            let wanted = [NumberRequest { conversation: &chat, messages, floor: None }];
            let asked = sequence.next(&wanted).await.remove(0).unwrap();
            let Numbers::Assigned { numbers, .. } = asked else { panic!("{asked:?}") };
            let [AssignedNumber::New(seq)] = numbers[..] else { panic!("{numbers:?}") };
            live.seq = seq;
            ends.publish(&[live]).await;
            said += 1;
        }
        said
    };
    talk(BEHIND).await;
    let worker = ends.start_worker().await;
    // Further messages must not keep the worker from catching up.
    let begun = Instant::now();
    loop {
        let said = talk(10).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (stored, all) = (ends.timeline(&chat).await.unwrap().len() as u64, 1 + LATE + said);
        if stored + 20 > all {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{stored} of {all} are stored");
    }
    assert!(worker.stop().await);
}
