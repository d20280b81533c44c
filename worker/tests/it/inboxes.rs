//! Recording conversations in inboxes.

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::groups::{self, RemoveMember};
use shared::permission::Actor;
use shared::redis::inbox::{Inboxes, Order};

use crate::support::{Ends, SIZES, eventually, group, message, ready, user};

/// Builds an inbox with `conversations`, like a gateway for a user's first sync.
async fn begin(inboxes: &Inboxes, user: &UserId, conversations: &[(Conversation, Seq)]) {
    let opened = inboxes.open(user).await.unwrap();
    assert!(inboxes.fill(user, &opened, conversations).await.unwrap());
}

/// The entries of a user's inbox, oldest change first.
async fn inbox(inboxes: &Inboxes, user: &UserId) -> Result<Vec<(String, u64)>, String> {
    let page = inboxes.read(user, Order::RisingAfter(0), 100).await.map_err(|error| error.to_string())?;
    let entries = page.inbox.ok_or("no inbox")?.entries;
    Ok(entries.iter().map(|entry| (entry.conversation.key().to_owned(), entry.last_seq.0)).collect())
}

async fn expect_inbox(inboxes: &Inboxes, user: &UserId, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected.iter().map(|(key, seq)| ((*key).to_owned(), *seq)).collect();
    eventually("the inbox", async || {
        let now = inbox(inboxes, user).await;
        if now.as_ref() == Ok(&expected) { Ok(()) } else { Err(now) }
    })
    .await;
}

async fn expect_head(inboxes: &Inboxes, group: &Conversation, last_seq: u64) {
    eventually("the group's head", async || {
        let heads = inboxes.group_heads(std::slice::from_ref(group)).await;
        match heads.as_deref() {
            Ok([Some((_, seq))]) if seq.0 == last_seq => Ok(()),
            _ => Err(format!("{heads:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn conversations_are_recorded_in_existing_inboxes() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let inboxes = ends.inboxes().await;
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let (chat, private) = (group("group_1"), Conversation::between(&alice, &bob));
    ends.join(&chat, &["alice", "bob", "carol"]).await;
    begin(&inboxes, &alice, &[]).await;
    begin(&inboxes, &bob, &[(chat.clone(), Seq(0))]).await;
    let burst: Vec<_> = (1..=50).map(|seq| message(&chat, seq, "alice", &format!("a{seq}"))).collect();
    ends.publish(&burst).await;
    expect_inbox(&inboxes, &alice, &[("group_1", 50)]).await;
    ends.publish(&[message(&private, 1, "bob", "b1")]).await;
    let both = [("group_1", 50), ("private_alice bob", 1)];
    expect_inbox(&inboxes, &alice, &both).await;
    expect_inbox(&inboxes, &bob, &both).await;
    assert_eq!(inbox(&inboxes, &carol).await, Err("no inbox".to_owned()), "she has never synced");
    // The inbox of a user who has left is not updated.
    let removal = RemoveMember { by: &Actor::Operator, user: &bob };
    groups::change(&ends.pool, &chat, SIZES, &removal).await.unwrap();
    ends.publish(&[message(&chat, 51, "alice", "a51")]).await;
    expect_inbox(&inboxes, &alice, &[("private_alice bob", 1), ("group_1", 51)]).await;
    expect_inbox(&inboxes, &bob, &both).await;
    ends.expect_all_acknowledged(worker).await;
}

#[tokio::test]
async fn a_large_group_has_one_group_head() {
    let ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let inboxes = ends.inboxes().await;
    let chat = group("group_1");
    let all: Vec<String> = (0..10).map(|n| format!("u{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    begin(&inboxes, &user("u1"), &[]).await;
    ends.join(&chat, &all).await;
    ends.publish(&[message(&chat, 1, "u1", "m1")]).await;
    expect_inbox(&inboxes, &user("u1"), &[("group_1", 1)]).await;
    let head = async || inboxes.group_heads(std::slice::from_ref(&chat)).await.unwrap()[0];
    assert_eq!(head().await, None);
    ends.join(&chat, &["u10", "u11"]).await;
    ends.publish(&[message(&chat, 2, "u1", "m2")]).await;
    expect_head(&inboxes, &chat, 2).await;
    assert_eq!(inbox(&inboxes, &user("u1")).await, Ok(vec![("group_1".to_owned(), 1)]));
    for leaver in ["u11", "u10", "u9", "u8"] {
        let removal = RemoveMember { by: &Actor::Operator, user: &user(leaver) };
        groups::change(&ends.pool, &chat, SIZES, &removal).await.unwrap();
    }
    ends.publish(&[message(&chat, 3, "u1", "m3")]).await;
    expect_inbox(&inboxes, &user("u1"), &[("group_1", 3)]).await;
    ends.expect_all_acknowledged(worker).await;
}

#[tokio::test]
async fn inbox_updates_are_retried_until_redis_is_available() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    // A group head is valid after a restart of Redis; an inbox is not.
    let all: Vec<String> = (0..12).map(|n| format!("u{n}")).collect();
    ends.join(&chat, &all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    ends.publish(&[message(&chat, 1, "u1", "m1")]).await;
    ends.expect_timeline(&chat, &[(1, "m1")]).await;
    ends.stores.as_mut().unwrap().redis.kill();
    // Messages are stored meanwhile, one batch after another.
    for seq in 2..=6 {
        ends.publish(&[message(&chat, seq, "u1", &format!("m{seq}"))]).await;
        eventually("the message", async || {
            let now = ends.timeline(&chat).await;
            if now.as_ref().is_ok_and(|rows| rows.len() as u64 == seq) { Ok(()) } else { Err(now) }
        })
        .await;
    }
    ends.stores.as_mut().unwrap().redis.start_again().await.unwrap();
    expect_head(&ends.inboxes().await, &chat, 6).await;
    ready(&worker).await;
    ends.expect_all_acknowledged(worker).await;
}

#[tokio::test]
async fn a_worker_that_stops_while_redis_is_unavailable_leaves_inbox_updates_to_another() {
    let mut ends = Ends::new().await;
    let worker = ends.start_worker().await;
    let chat = group("group_1");
    let inboxes = ends.inboxes().await;
    begin(&inboxes, &user("alice"), &[]).await;
    ends.publish(&[message(&chat, 1, "alice", "a1")]).await;
    // Nothing of the first message is left to be done.
    expect_inbox(&inboxes, &user("alice"), &[("group_1", 1)]).await;
    ends.stores.as_mut().unwrap().redis.kill();
    ends.publish(&[message(&chat, 2, "alice", "a2")]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "a2")]).await;
    worker.stop().await;
    // RabbitMQ requeues unacknowledged bodies asynchronously.
    eventually("the body back in the queue", async || match ends.bodies_left().await {
        1 => Ok(()),
        left => Err(left),
    })
    .await;
    ends.stores.as_mut().unwrap().redis.start_again().await.unwrap();
    let inboxes = ends.inboxes().await;
    begin(&inboxes, &user("alice"), &[]).await;
    let successor = ends.start_worker().await;
    expect_inbox(&inboxes, &user("alice"), &[("group_1", 2)]).await;
    ends.expect_timeline(&chat, &[(1, "a1"), (2, "a2")]).await;
    ends.expect_all_acknowledged(successor).await;
}
