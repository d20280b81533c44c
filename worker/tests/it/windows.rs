//! Prefetch windows that are full.

use std::time::{Duration, Instant};

use shared::ids::Seq;
use shared::mysql::{self, Ping};
use shared::redis::sequence::{AssignedNumber, NumberRequest, Numbers, Sequence};

use crate::support::{Ends, HOLE_TIMEOUT, SHARDS, eventually, group, message};

/// Messages `from..=to`, each in a body of its own, all sent on one connection.
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
async fn shards_that_change_hands_with_full_windows_keep_their_numbers() {
    const WINDOW: u16 = 50;
    const ALL: u64 = 300;
    let mut ends = Ends::new().await;
    ends.settings.commit.prefetch_bodies = WINDOW;
    // One in each shard: whichever move, some do.
    let chats: Vec<_> = (0..SHARDS)
        .map(|shard| {
            let mut names = (0..).map(|n| group(&format!("group_{n}")));
            names.find(|chat| ends.shard_of(chat).0 == shard).unwrap()
        })
        .collect();
    let first = ends.start_worker().await;
    for chat in &chats {
        publish_singly(&ends, chat, 1..=1).await;
        ends.expect_timeline(chat, &[(1, "a1")]).await;
    }
    // It stands still in the middle of a transaction, with more behind than its window takes.
    let pool = mysql::connect(&ends.settings.mysql, Ping::Never, HOLE_TIMEOUT).await.unwrap();
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
    // Another one takes some of them over, and the first goes on.
    let all = usize::from(SHARDS);
    let second = loop {
        let second = ends.start_worker().await;
        eventually("shards that are shared out", async || match (first.shards(), second.shards()) {
            (mine, others) if mine.len() + others.len() == all => Ok(()),
            shares => Err(shares),
        })
        .await;
        // By its name, which is chosen at random, it may have none.
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
async fn a_window_full_of_late_messages_does_not_hold_up_those_behind_it() {
    const LATE: u64 = 40;
    const BEHIND: u64 = 200;
    let mut ends = Ends::new().await;
    ends.settings.commit.prefetch_bodies = 8;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    // The numbers up to 40 are given up…
    ends.publish(&[message(&chat, LATE + 1, "bob", "b")]).await;
    ends.expect_timeline(&chat, &[(LATE + 1, "b")]).await;
    assert!(worker.stop().await);
    let redis = shared::redis::connect(&ends.settings.redis, HOLE_TIMEOUT).await.unwrap();
    let sequence = Sequence::new(redis, 60);
    sequence.take_above(&chat, Seq(LATE + 1), 1).await.unwrap();
    // …and come all the same, when others have gathered behind them.
    publish_singly(&ends, &chat, 1..=LATE).await;
    let mut said = 0;
    let mut talk = async |count| {
        for _ in 0..count {
            let mut live = message(&chat, 1, "carol", &format!("c{said}"));
            let messages = vec![(&live.sender, &live.msg_id)];
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
    // Everyone talks on meanwhile: that must not keep it from catching up.
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
