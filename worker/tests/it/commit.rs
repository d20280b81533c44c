//! Committing numbered messages on real stores.

use std::time::Instant;

use crate::support::{Ends, GAP_TIMEOUT, eventually, group, message};
use shared::envelope;
use shared::ids::Seq;
use shared::message::fixture::{text, with_kind};
use shared::message::{Body, MessageKind, Numbered};
use shared::redis::sequence::{AssignedNumber, NumberRequest, Numbers, Sequence};

#[tokio::test]
async fn messages_of_two_gateways_are_committed_in_order_of_their_seqs() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    // One gateway numbers first and publishes last.
    ends.publish(&[message(&chat, 2, "bob", "b1"), message(&chat, 4, "bob", "b2")]).await;
    ends.publish(&[message(&chat, 1, "alice", "a1"), message(&chat, 3, "alice", "a2")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (3, "a2"), (4, "b2")]).await;
    let told = ends.next_committed().await;
    assert_eq!(told.conversation, "group_1");
    let told: Vec<_> = told.messages.iter().map(|m| (m.seq, m.msg_id.as_str(), m.content.as_str())).collect();
    assert_eq!(told[0], (1, "a1", "content of a1"));
    assert_eq!(told.iter().map(|m| m.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_gap_is_skipped_after_the_timeout_and_the_late_message_is_renumbered() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let published = Instant::now();
    ends.publish(&[message(&chat, 2, "bob", "b1")]).await;
    ends.expect_timeline(&chat, &[(2, "b1")]).await;
    assert!(published.elapsed() >= GAP_TIMEOUT, "skipped after {:?}", published.elapsed());
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(2, "b1"), (3, "a1")]).await;
    let corrected = ends.next_corrected().await;
    assert_eq!((corrected.msg_id.as_str(), corrected.seq, corrected.changed), ("a1", 3, true));
    // A retry gets the final sequence number, and new messages follow it.
    let redis = shared::redis::connect(&ends.settings.redis, GAP_TIMEOUT).await.unwrap();
    let sequence = Sequence::new(redis, 60);
    let (known, new) = (message(&chat, 1, "alice", "a1"), message(&chat, 1, "alice", "a2"));
    let expected = Numbers::Assigned {
        jump: false,
        numbers: vec![AssignedNumber::Known(Seq(3), None), AssignedNumber::New(Seq(4))],
    };
    eventually("the final sequence number in Redis", async || {
        let messages = [&known, &new].map(|m| (&m.sender, &m.msg_id, m.kind.fingerprint())).to_vec();
        let wanted = [NumberRequest { conversation: &chat, messages, floor: None }];
        let numbers = sequence.next(&wanted).await.remove(0).unwrap();
        // In a second attempt, the second message is known too.
        let known = Numbers::Assigned {
            jump: false,
            numbers: vec![
                AssignedNumber::Known(Seq(3), None),
                AssignedNumber::Known(Seq(4), Some(new.kind.fingerprint())),
            ],
        };
        if numbers == expected || numbers == known { Ok(()) } else { Err(numbers) }
    })
    .await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_marked_jump_is_not_held() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    let published = Instant::now();
    let after_loss = Numbered { jump: true, ..message(&chat, 1_001, "alice", "a2") };
    ends.publish(&[after_loss, message(&chat, 1_002, "alice", "a3")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (1_001, "a2"), (1_002, "a3")]).await;
    assert!(published.elapsed() < GAP_TIMEOUT);
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_message_is_stored_once_under_its_first_seq() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let first = message(&chat, 1, "alice", "a1");
    ends.publish(std::slice::from_ref(&first)).await;
    ends.expect_timeline(&chat, &[(1, "a1")]).await;
    // A retry with the same sequence number.
    ends.publish(&[Numbered { retry: true, ..first.clone() }]).await;
    let answer = ends.next_corrected().await;
    assert_eq!((answer.msg_id.as_str(), answer.seq, answer.changed), ("a1", 1, false));
    // The content of the first one stays.
    ends.publish(&[Numbered { retry: true, ..with_kind(first.clone(), text("changed")) }]).await;
    assert_eq!(ends.next_corrected().await.seq, 1);
    // Its sender has used the id for another message.
    let recall = with_kind(first.clone(), MessageKind::Recall(Seq(1)));
    ends.publish(&[Numbered { retry: true, ..recall }]).await;
    let refused = ends.next_refused().await;
    assert_eq!((refused.msg_id.as_str(), refused.code), ("a1", 409));
    // A retry with another one, because Redis has forgotten the id. It is voided, so the next message is not held.
    let published = Instant::now();
    ends.publish(&[message(&chat, 2, "alice", "a1"), message(&chat, 3, "bob", "b1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (3, "b1")]).await;
    assert!(published.elapsed() < GAP_TIMEOUT);
    let answer = ends.next_corrected().await;
    assert_eq!((answer.msg_id.as_str(), answer.seq, answer.changed), ("a1", 1, true));
    // In a batch of its own.
    ends.publish(&[message(&chat, 4, "alice", "a1")]).await;
    assert_eq!(ends.next_corrected().await.seq, 1);
    let published = Instant::now();
    ends.publish(&[message(&chat, 5, "bob", "b2")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (3, "b1"), (5, "b2")]).await;
    assert!(published.elapsed() < GAP_TIMEOUT);
    // Another sender can use the same id.
    ends.publish(&[message(&chat, 6, "bob", "a1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (3, "b1"), (5, "b2"), (6, "a1")]).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn after_a_counter_falls_back_messages_are_renumbered_in_their_order() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let before: Vec<_> = (1..=5).map(|seq| message(&chat, seq, "alice", &format!("a{seq}"))).collect();
    ends.publish(&before).await;
    // Redis gives 4 and 5 a second time. 6 is unused, but its sender sent it last.
    let after =
        [message(&chat, 4, "bob", "b1"), message(&chat, 5, "carol", "c1"), message(&chat, 6, "bob", "b2")];
    ends.publish(&after).await;
    let stored = |n: usize| (n as u64, format!("a{n}"));
    let timeline = eventually("eight messages", async || {
        let now = ends.timeline(&chat).await;
        now.clone().ok().filter(|rows| rows.len() == 8).ok_or(now)
    })
    .await;
    assert_eq!(timeline[..5], [stored(1), stored(2), stored(3), stored(4), stored(5)]);
    let ids: Vec<_> = timeline[5..].iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(ids, ["b1", "c1", "b2"]);
    for (seq, id) in &timeline[5..] {
        let corrected = ends.next_corrected().await;
        assert_eq!((corrected.seq, &corrected.msg_id, corrected.changed), (*seq, id, true));
    }
    assert!(worker.stop().await);
}

#[tokio::test]
async fn messages_that_cannot_be_stored_become_dead_letters_and_others_are_committed() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let shard = ends.shard_of(&chat);
    let empty = with_kind(message(&chat, 2, "alice", "empty"), MessageKind::Text(Body::default()));
    ends.publish_raw(shard, b"no protobuf").await;
    ends.publish(&[message(&chat, 1, "alice", "a1"), empty, message(&chat, 3, "alice", "a3")]).await;
    let (body, reason) = ends.next_dead_letter().await;
    assert_eq!(body, b"no protobuf");
    assert!(reason.contains("not decodable"), "{reason}");
    let (body, reason) = ends.next_dead_letter().await;
    assert_eq!(reason, "content is empty");
    assert_eq!(envelope::decode_batch(&body).unwrap().refused.len(), 1);
    // The sequence number of the refused message is a gap.
    ends.expect_timeline(&chat, &[(1, "a1"), (3, "a3")]).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn event_batches_are_numbered_and_a_beacon_repeats_the_last_number() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let shard = ends.shard_of(&chat).0;
    for seq in 1..=2 {
        ends.publish(&[message(&chat, seq, "alice", &format!("a{seq}"))]).await;
        ends.next_committed().await;
    }
    let beacon = loop {
        let batch = ends.next_batch().await;
        if batch.shard == Some(shard) {
            break batch;
        }
    };
    assert_eq!((beacon.number, beacon.events.len()), (2, 0));
    assert!(worker.stop().await);
}
