//! Views of users on their conversations, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::views::{self, View, ViewSettings, ViewUpdate};
use shared::mysql::{Pool, access, blocks, members, positions};
use testbed::stack::Stores;

use support::migrated;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn conversation(key: &str) -> Conversation {
    Conversation::from_key(key).unwrap()
}

/// `conversation` has messages up to `last_seq`.
async fn head(pool: &Pool, conversation: &Conversation, last_seq: u64) {
    sqlx::query(
        "INSERT INTO conversation (conversation_id, kind, last_seq, updated_at) VALUES (?, 2, ?, 0) \
         ON DUPLICATE KEY UPDATE last_seq = VALUES(last_seq)",
    )
    .bind(conversation.key())
    .bind(last_seq)
    .execute(pool)
    .await
    .unwrap();
}

async fn view(pool: &Pool, user: &UserId, conversation: &Conversation) -> Option<View> {
    views::of_user(pool, user, &[conversation]).await.unwrap().remove(conversation)
}

#[tokio::test]
async fn an_update_changes_what_it_names_and_tells_whether_it_changed_something() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let (ann, group) = (user("ann"), conversation("group_1"));
    let update = async |update: ViewUpdate| views::update(&pool, &ann, &group, &update).await.unwrap();
    assert_eq!(view(&pool, &ann, &group).await, None);
    let nothing = ViewUpdate { pinned: Some(false), draft: Some(None), ..ViewUpdate::default() };
    assert_eq!(update(nothing).await, (ViewSettings::default(), false));
    assert_eq!(view(&pool, &ann, &group).await, None, "no row without a reason");

    let draft = "é\0😀".repeat(585);
    let first = ViewUpdate {
        muted_until: Some(-1),
        draft: Some(Some(draft.clone())),
        marked_unread: Some(true),
        ..ViewUpdate::default()
    };
    let mut expected =
        ViewSettings { muted_until: -1, draft: Some(draft), marked_unread: true, ..ViewSettings::default() };
    assert_eq!(update(first.clone()).await, (expected.clone(), true));
    assert_eq!(update(first).await, (expected.clone(), false));
    let second = ViewUpdate { pinned: Some(true), archived: Some(true), ..ViewUpdate::default() };
    (expected.pinned, expected.archived) = (true, true);
    assert_eq!(update(second).await, (expected.clone(), true));

    // A read position is kept beside it, and ends the mark wherever it is.
    head(&pool, &group, 5).await;
    let advance = async |to| positions::advance(&pool, &ann, &group, Seq(to)).await.unwrap();
    let advanced = advance(0).await;
    assert_eq!((advanced.position, advanced.moved, advanced.unmarked), (Seq(0), false, true));
    expected.marked_unread = false;
    assert_eq!(views::settings(&pool, &ann, &group).await.unwrap(), expected);
    update(ViewUpdate { marked_unread: Some(true), ..ViewUpdate::default() }).await;
    let advanced = advance(4).await;
    assert_eq!((advanced.position, advanced.moved, advanced.unmarked), (Seq(4), true, true));
    assert!(!advance(5).await.unmarked);
    let found = view(&pool, &ann, &group).await.unwrap();
    assert_eq!(found, View { last_ack_seq: Seq(5), settings: expected, cleared: None });
    let longest = "😀".repeat(1_024);
    update(ViewUpdate { draft: Some(Some(longest.clone())), ..ViewUpdate::default() }).await;
    assert_eq!(views::settings(&pool, &ann, &group).await.unwrap().draft, Some(longest));
    assert_eq!(view(&pool, &user("Ann"), &group).await, None, "another user");
}

#[tokio::test]
async fn a_clear_hides_what_is_there_and_only_rises() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let [ann, bob] = ["ann", "bob"].map(user);
    let (group, chat) = (conversation("group_1"), Conversation::between(&ann, &bob));
    let newest = access::newest_change(&pool).await.unwrap();
    assert_eq!(views::clear(&pool, &ann, &chat).await.unwrap(), None, "it has no messages");
    assert_eq!(views::clear(&pool, &ann, &group).await.unwrap(), Some(Seq(0)));
    for (group_has, chat_has) in [(3, 7), (5, 9)] {
        head(&pool, &group, group_has).await;
        head(&pool, &chat, chat_has).await;
        assert_eq!(views::clear(&pool, &ann, &group).await.unwrap(), Some(Seq(group_has)));
        assert_eq!(views::clear(&pool, &ann, &chat).await.unwrap(), Some(Seq(chat_has)));
    }
    // A head that went back, as after a restored backup, takes nothing back.
    head(&pool, &group, 4).await;
    assert_eq!(views::clear(&pool, &ann, &group).await.unwrap(), Some(Seq(5)));
    let mut cleared = views::cleared_of(&pool, &[ann.clone(), bob.clone()]).await.unwrap();
    let mut of_ann = cleared.remove(&ann).unwrap();
    of_ann.sort_unstable();
    assert_eq!(of_ann, [(group.clone(), Seq(5)), (chat.clone(), Seq(9))]);
    assert!(cleared.is_empty());
    assert_eq!(view(&pool, &ann, &group).await.unwrap().cleared, Some(Seq(5)));

    // The log names the user, and no access version changed.
    let changes = access::changes_after(&pool, newest, &[]).await.unwrap();
    assert_eq!(changes.len(), 6);
    assert!(changes.iter().all(|change| change.version == 0 && change.cleared_by.as_ref() == Some(&ann)));

    // Permissions that are read for one user hide it.
    let of_participant =
        async |user: &UserId, peer: &str| views::of_participant(&pool, &chat, user, peer).await.unwrap();
    assert_eq!(of_participant(&ann, "bob").await, (false, Seq(9)));
    assert_eq!(of_participant(&bob, "ann").await, (false, Seq(0)));
    blocks::set(&pool, &ann, &bob, true).await.unwrap();
    assert_eq!((of_participant(&ann, "bob").await.0, of_participant(&bob, "ann").await.0), (false, true));
    for statement in [
        "INSERT INTO chat_group (group_id, is_open, created_at) VALUES ('group_1', FALSE, 0)",
        "INSERT INTO group_member (group_id, user_id, join_time, floor_seq) VALUES ('group_1', 'ann', 0, 2)",
        "INSERT INTO group_member (group_id, user_id, join_time, floor_seq) VALUES ('group_1', 'bob', 0, 2)",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let floor = async |user| members::permissions(&pool, &group, user).await.unwrap().1.floor();
    assert_eq!((floor(&ann).await, floor(&bob).await), (Seq(5), Seq(2)));
}
