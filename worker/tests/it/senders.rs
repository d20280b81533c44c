//! Messages that were accepted, and whose senders may not send any more when they are committed.

use std::time::{Duration, Instant};

use shared::conversation::Conversation;
use shared::ids::{Seq, unix_millis};
use shared::message::fixture::with_kind;
use shared::message::{MessageKind, Numbered};
use shared::mysql::blocks;
use shared::mysql::groups::{
    self, AddMembers, DismissGroup, MemberUpdate, RemoveMember, UpdateGroup, UpdateMember,
};
use shared::mysql::timeline::{self, Direction};
use shared::permission::{Actor, Role};

use crate::support::{Ends, Event, GAP_TIMEOUT, SIZES, eventually, group, message, user};

async fn remove(ends: &Ends, chat: &Conversation, id: &str) {
    let removal = RemoveMember { by: &Actor::Operator, user: &user(id) };
    groups::change(&ends.pool, chat, SIZES, &removal).await.unwrap();
}

async fn update(ends: &Ends, chat: &Conversation, id: &str, update: MemberUpdate) {
    let update = UpdateMember { by: &Actor::Operator, user: &user(id), update };
    groups::change(&ends.pool, chat, SIZES, &update).await.unwrap();
}

/// The next refusal, as (id, code).
async fn refused(ends: &mut Ends) -> (String, u32) {
    let refused = ends.next_refused().await;
    assert!(!refused.message.is_empty());
    (refused.msg_id, refused.code)
}

#[tokio::test]
async fn a_sender_removed_after_acceptance_is_refused_and_its_seq_is_voided() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.publish(&[message(&chat, 1, "alice", "a1"), message(&chat, 2, "bob", "b1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1")]).await;
    remove(&ends, &chat, "bob").await;
    let published = Instant::now();
    ends.publish_as_is(&[message(&chat, 3, "bob", "b2"), message(&chat, 4, "alice", "a2")]).await;
    let event = ends.next_refused().await;
    assert_eq!((event.conversation.as_str(), event.sender_id.as_str()), ("group_1", "bob"));
    assert_eq!((event.msg_id.as_str(), event.code), ("b2", 403));
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (4, "a2")]).await;
    assert!(published.elapsed() < GAP_TIMEOUT);
    // A member again, the sender retries; the sequence number is passed by now.
    let addition = AddMembers { by: &Actor::Operator, users: &[user("bob")] };
    groups::change(&ends.pool, &chat, SIZES, &addition).await.unwrap();
    ends.publish_as_is(&[Numbered { retry: true, ..message(&chat, 3, "bob", "b2") }]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (4, "a2"), (5, "b2")]).await;
    groups::change(&ends.pool, &chat, SIZES, &DismissGroup { by: &Actor::Operator }).await.unwrap();
    ends.publish_as_is(&[message(&chat, 6, "alice", "a3")]).await;
    assert_eq!(refused(&mut ends).await, ("a3".to_owned(), 404));
    ends.publish_as_is(&[message(&group("group_none"), 1, "alice", "a1")]).await;
    assert_eq!(refused(&mut ends).await, ("a1".to_owned(), 404));
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_message_stored_in_time_is_never_refused() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let stored = message(&chat, 1, "alice", "a1");
    ends.publish(&[stored.clone(), message(&chat, 2, "bob", "b1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1")]).await;
    remove(&ends, &chat, "alice").await;
    // A retry under its own sequence number, then under a new one, because Redis has forgotten the id.
    ends.publish_as_is(&[Numbered { retry: true, ..stored }]).await;
    let answer = ends.next_corrected().await;
    assert_eq!((answer.msg_id.as_str(), answer.seq, answer.changed), ("a1", 1, false));
    ends.publish_as_is(&[message(&chat, 3, "alice", "a1"), message(&chat, 4, "alice", "a2")]).await;
    let answer = ends.next_corrected().await;
    assert_eq!((answer.msg_id.as_str(), answer.seq, answer.changed), ("a1", 1, true));
    assert_eq!(refused(&mut ends).await, ("a2".to_owned(), 403));
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1")]).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_muted_sender_is_refused_until_the_mute_ends() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.join(&chat, &["alice", "bob"]).await;
    update(&ends, &chat, "alice", MemberUpdate { role: Some(Role::Admin), muted_until: None }).await;
    let mute = |until| MemberUpdate { role: None, muted_until: Some(until) };
    update(&ends, &chat, "bob", mute(unix_millis() + 3_600_000)).await;
    ends.publish_as_is(&[message(&chat, 1, "bob", "b1"), message(&chat, 2, "alice", "a1")]).await;
    assert_eq!(refused(&mut ends).await, ("b1".to_owned(), 403));
    let until = unix_millis() + 500;
    update(&ends, &chat, "bob", mute(until)).await;
    // No event announces the end of a mute.
    while unix_millis() <= until {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ends.publish_as_is(&[message(&chat, 3, "bob", "b2")]).await;
    ends.expect_timeline(&chat, &[(2, "a1"), (3, "b2")]).await;
    let mute_all = |on| UpdateGroup { is_muted: Some(on), ..UpdateGroup::unchanged(&Actor::Operator) };
    groups::change(&ends.pool, &chat, SIZES, &mute_all(true)).await.unwrap();
    ends.publish_as_is(&[message(&chat, 4, "bob", "b3"), message(&chat, 5, "alice", "a2")]).await;
    assert_eq!(refused(&mut ends).await, ("b3".to_owned(), 403));
    groups::change(&ends.pool, &chat, SIZES, &mute_all(false)).await.unwrap();
    ends.publish_as_is(&[message(&chat, 6, "bob", "b4")]).await;
    ends.expect_timeline(&chat, &[(2, "a1"), (3, "b2"), (5, "a2"), (6, "b4")]).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn a_blocked_sender_is_refused() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let (alice, bob) = (user("alice"), user("bob"));
    let chat = Conversation::between(&alice, &bob);
    ends.publish(&[message(&chat, 1, "bob", "b1"), message(&chat, 2, "eve", "e1")]).await;
    assert_eq!(refused(&mut ends).await, ("e1".to_owned(), 403), "a private conversation has two users");
    blocks::set(&ends.pool, &alice, &bob, true).await.unwrap();
    ends.publish(&[message(&chat, 3, "bob", "b2"), message(&chat, 4, "alice", "a1")]).await;
    assert_eq!(refused(&mut ends).await, ("b2".to_owned(), 403));
    ends.expect_timeline(&chat, &[(1, "b1"), (4, "a1")]).await;
    blocks::set(&ends.pool, &alice, &bob, false).await.unwrap();
    ends.publish(&[message(&chat, 5, "bob", "b3")]).await;
    ends.expect_timeline(&chat, &[(1, "b1"), (4, "a1"), (5, "b3")]).await;
    assert!(worker.stop().await);
}

#[tokio::test]
async fn only_members_may_send_to_a_large_group() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let all: Vec<String> = (0..12).map(|n| format!("u{n}")).collect();
    ends.join(&chat, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    ends.publish_as_is(&[message(&chat, 1, "u1", "m1"), message(&chat, 2, "eve", "e1")]).await;
    assert_eq!(refused(&mut ends).await, ("e1".to_owned(), 403));
    // Other members send, without a change of permissions.
    ends.publish_as_is(&[message(&chat, 3, "u2", "m2"), message(&chat, 4, "u1", "m3")]).await;
    ends.publish_as_is(&[message(&chat, 5, "eve", "e2"), message(&chat, 6, "u3", "m4")]).await;
    assert_eq!(refused(&mut ends).await, ("e2".to_owned(), 403));
    ends.expect_timeline(&chat, &[(1, "m1"), (3, "m2"), (4, "m3"), (6, "m4")]).await;
    remove(&ends, &chat, "u2").await;
    ends.publish_as_is(&[message(&chat, 7, "u2", "m5")]).await;
    assert_eq!(refused(&mut ends).await, ("m5".to_owned(), 403));
    assert!(worker.stop().await);
}

fn recall(chat: &Conversation, seq: u64, sender: &str, id: &str, target: u64) -> Numbered {
    with_kind(message(chat, seq, sender, id), MessageKind::Recall(Seq(target)))
}

/// The rows of a conversation as (seq, content, recalled).
async fn rows(ends: &Ends, chat: &Conversation) -> Vec<(u64, String, bool)> {
    let rows = timeline::read(&ends.pool, chat, Seq::ZERO, Direction::Forward, 100).await.unwrap();
    for row in &rows {
        let facts = timeline::facts(&ends.pool, chat, row.seq).await.unwrap().unwrap();
        assert!((unix_millis() - facts.stored_at).abs() < 60_000, "{row:?}: {facts:?}");
    }
    rows.into_iter().map(|row| (row.seq.0, row.kind.content().into_owned(), row.is_recalled)).collect()
}

#[tokio::test]
async fn a_recall_removes_the_content_if_its_sender_may_recall_the_message() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    ends.join(&chat, &["alice", "bob", "carol"]).await;
    update(&ends, &chat, "carol", MemberUpdate { role: Some(Role::Admin), muted_until: None }).await;
    ends.publish(&[message(&chat, 1, "alice", "a1"), message(&chat, 2, "bob", "b1")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1")]).await;
    // Another user's message; a message that does not exist.
    ends.publish(&[recall(&chat, 3, "bob", "r1", 1), recall(&chat, 4, "bob", "r2", 99)]).await;
    assert_eq!(refused(&mut ends).await, ("r1".to_owned(), 403));
    assert_eq!(refused(&mut ends).await, ("r2".to_owned(), 404));
    // The sender's own message in the same batch; a recall.
    ends.publish(&[message(&chat, 5, "bob", "b2"), recall(&chat, 6, "bob", "r3", 5)]).await;
    ends.publish(&[recall(&chat, 7, "bob", "r4", 6)]).await;
    assert_eq!(refused(&mut ends).await, ("r4".to_owned(), 404));
    // Any message, by an admin.
    ends.publish(&[recall(&chat, 8, "carol", "r5", 1)]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "b1"), (5, "b2"), (6, "r3"), (8, "r5")]).await;
    let expected =
        [(1, "", true), (2, "content of b1", false), (5, "", true), (6, "5", false), (8, "1", false)];
    let expected = expected.map(|(seq, content, recalled)| (seq, content.to_owned(), recalled));
    assert_eq!(rows(&ends, &chat).await, expected);
    // A recall is announced like any other message.
    eventually("the recall among the events", async || {
        loop {
            if let Event::Committed(committed) = ends.next_event().await
                && let Some(told) = committed.messages.iter().find(|told| told.msg_id == "r5")
            {
                assert_eq!((told.msg_type, told.content.as_str()), (3, "1"));
                return Ok::<_, ()>(());
            }
        }
    })
    .await;
    assert!(worker.stop().await);
}
