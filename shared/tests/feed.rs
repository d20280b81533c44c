//! The statements of the change feed, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use shared::config;
use shared::conversation::Conversation;
use shared::feed::{Cursor, EventKind, FeedBody, FeedShards, GroupChanged, NewRow, Row, SeqRange, plan};
use shared::ids::{Seq, UserId, unix_millis};
use shared::message::fixture::numbered;
use shared::mysql::feed::{self, Extent};
use shared::mysql::groups::{self, AddMembers, CreateGroup, GroupPolicy, MemberUpdate, UpdateMember};
use shared::mysql::profiles::{self, ProfileUpdate};
use shared::mysql::{self, Pool, Transaction, Tx, conversations, timeline};
use shared::nickname::Nickname;
use shared::permission::Actor;
use shared::shard::ShardLayout;
use testbed::stack::Stores;

use support::migrated;

async fn opened(pool: &Pool, shards: u16) -> FeedShards {
    let config = config::Feed { enabled: true, shards, ..config::Feed::default() };
    feed::open(pool, &config, ShardLayout::DEFAULT).await.unwrap().unwrap()
}

fn group(n: usize) -> Conversation {
    Conversation::from_key(&format!("group_{n}")).unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// Stores one message in each of some conversations, as a commit does.
struct Commit {
    conversations: Vec<Conversation>,
    id: String,
    shards: FeedShards,
}

impl Transaction for Commit {
    type Output = Vec<NewRow>;
    type Error = sqlx::Error;

    const NAME: &'static str = "test";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Vec<NewRow>> {
        let all: Vec<&Conversation> = self.conversations.iter().collect();
        let heads = conversations::lock_heads(tx, &all).await?;
        let mut rows: BTreeMap<u16, FeedBody> = BTreeMap::new();
        let mut moved = Vec::new();
        for conversation in all {
            let after = heads[conversation].last_seq;
            let message = numbered(conversation.key(), after.0 + 1, "alice", &self.id);
            timeline::insert(tx, &[(after.next(), &message)]).await?;
            let range = SeqRange { conversation: conversation.clone(), after, last: after.next() };
            rows.entry(self.shards.of(conversation)).or_default().ranges.push(range);
            moved.push((conversation, after.next()));
        }
        conversations::advance_heads(tx, &moved).await?;
        Ok(rows.into_iter().map(|(shard, body)| NewRow { shard, body }).collect())
    }

    fn feed(&self, rows: &mut Vec<NewRow>) -> Vec<NewRow> {
        std::mem::take(rows)
    }
}

async fn all_rows(pool: &Pool, shard: u16) -> Vec<Row> {
    all_rows_after(pool, shard, 0).await
}

async fn all_rows_after(pool: &Pool, shard: u16, position: u64) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    loop {
        let after = rows.last().map_or(position, |row| row.position);
        let next = feed::rows(pool, shard, after, 100).await.unwrap();
        if next.is_empty() {
            return rows;
        }
        rows.extend(next);
    }
}

/// Writers that believe they own the same conversations, while old rows are removed: no deadlock, no gap, every number once.
#[tokio::test(flavor = "multi_thread")]
async fn positions_have_no_gaps_whoever_writes_at_the_same_time() {
    const WRITERS: usize = 6;
    const COMMITS: usize = 40;
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let shards = opened(&pool, 2).await;
    let writer = async |writer: usize| {
        for n in 0..COMMITS {
            let mut conversations = vec![group(n % 5), group(5 + (n + writer) % 4)];
            conversations.sort_unstable();
            let commit = Commit { conversations, id: format!("w{writer}.{n}"), shards };
            mysql::run_tx(&pool, &commit).await.unwrap();
        }
    };
    let pruner = async {
        for _ in 0..20 {
            // Nothing is old enough; the statements run.
            for shard in shards.all() {
                assert_eq!(feed::prune(&pool, shard, unix_millis() - 60_000, 10).await.unwrap(), 0);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::join!(join_all((0..WRITERS).map(writer)), pruner);

    let mut numbers: BTreeMap<Conversation, u64> = BTreeMap::new();
    for shard in shards.all() {
        let rows = all_rows(&pool, shard).await;
        assert!(
            rows.iter().zip(1..).all(|(row, position)| row.position == position),
            "gaps in shard {shard}"
        );
        for range in rows.iter().flat_map(|row| &row.body.ranges) {
            assert_eq!(shards.of(&range.conversation), shard);
            let last = numbers.entry(range.conversation.clone()).or_default();
            assert_eq!((range.after.0, range.last.0), (*last, *last + 1), "{:?}", range.conversation);
            *last += 1;
        }
    }
    assert_eq!(numbers.values().sum::<u64>(), (2 * WRITERS * COMMITS) as u64);
    let all: Vec<&Conversation> = numbers.keys().collect();
    let heads = conversations::last_seqs(&pool, &all).await.unwrap();
    assert!(heads.iter().zip(numbers.values()).all(|(head, last)| head.0 == *last));
}

#[tokio::test]
async fn a_transaction_that_fails_adds_no_row_and_no_position_is_lost() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let shards = opened(&pool, 1).await;
    let commit = |id: &str| Commit { conversations: vec![group(1)], id: id.to_owned(), shards };
    mysql::run_tx(&pool, &commit("a")).await.unwrap();
    let again = mysql::run_tx(&pool, &commit("a")).await.unwrap_err();
    assert!(mysql::is_duplicate_key(&again), "{again}");
    mysql::run_tx(&pool, &commit("b")).await.unwrap();
    assert_eq!(all_rows(&pool, 0).await.iter().map(|row| row.position).collect::<Vec<_>>(), [1, 2]);

    // A shard that does not exist: nothing is committed, and the connection goes on.
    let other = Commit { shards: FeedShards::new(1_000).unwrap(), ..commit("c") };
    assert!(mysql::run_tx(&pool, &other).await.is_err());
    assert_eq!(conversations::last_seqs(&pool, &[&group(1)]).await.unwrap(), [Seq(2)]);
    mysql::run_tx(&pool, &commit("c")).await.unwrap();
    assert_eq!(feed::extents(&pool).await.unwrap(), [Extent { shard: 0, before: 0, head: 3 }]);
}

#[tokio::test]
async fn old_rows_are_removed_in_steps_and_positions_go_on() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let shards = opened(&pool, 1).await;
    for n in 0..7 {
        let commit = Commit { conversations: vec![group(1)], id: format!("m{n}"), shards };
        mysql::run_tx(&pool, &commit).await.unwrap();
    }
    assert_eq!(feed::prune(&pool, 0, unix_millis() - 60_000, 4).await.unwrap(), 0);
    let later = unix_millis() + 60_000;
    assert_eq!(feed::prune(&pool, 0, later, 4).await.unwrap(), 4);
    assert_eq!(feed::extents(&pool).await.unwrap(), [Extent { shard: 0, before: 4, head: 7 }]);
    assert_eq!(feed::prune(&pool, 0, later, 4).await.unwrap(), 3);
    assert_eq!(feed::prune(&pool, 0, later, 4).await.unwrap(), 0);
    assert_eq!(feed::extents(&pool).await.unwrap(), [Extent { shard: 0, before: 7, head: 7 }]);
    let commit = Commit { conversations: vec![group(1)], id: "last".to_owned(), shards };
    mysql::run_tx(&pool, &commit).await.unwrap();
    assert_eq!(all_rows_after(&pool, 0, 7).await[0].position, 8);
    assert_eq!(feed::heads(&pool).await.unwrap(), [(0, 8)]);
}

#[tokio::test]
async fn the_number_of_shards_is_that_of_the_first_start() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let off = config::Feed::default();
    assert_eq!(feed::open(&pool, &off, ShardLayout::DEFAULT).await.unwrap(), None);
    assert_eq!(feed::extents(&pool).await.unwrap(), []);
    assert_eq!(opened(&pool, 0).await.get(), ShardLayout::DEFAULT.get());
    assert_eq!(opened(&pool, 5).await.get(), ShardLayout::DEFAULT.get());
    let none = |shard| Extent { shard, before: 0, head: 0 };
    let all: Vec<Extent> = (0..ShardLayout::DEFAULT.get()).map(none).collect();
    assert_eq!(feed::extents(&pool).await.unwrap(), all);
}

#[tokio::test]
async fn a_page_has_the_messages_of_its_rows() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let shards = opened(&pool, 1).await;
    for n in 0..6 {
        let conversations = (0..3).map(group).collect();
        mysql::run_tx(&pool, &Commit { conversations, id: format!("m{n}"), shards }).await.unwrap();
    }
    let rows = feed::rows(&pool, 0, 0, 100).await.unwrap();
    let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
    loop {
        let from = usize::try_from(cursor.position).unwrap();
        let plan = plan(&rows[from..], cursor, 4);
        let found = feed::messages(&pool, &plan).await.unwrap();
        let page = plan.page(&found, (4, usize::MAX), |_| 1);
        if page.events.is_empty() {
            break;
        }
        for event in &page.events {
            let EventKind::Message(message) = &event.kind else { panic!("{event:?}") };
            seen.push((
                message.message.conversation.clone(),
                message.message.msg_id.to_string(),
                message.seq.0,
            ));
        }
        cursor = page.next;
    }
    let expected = (0..6).flat_map(|n| (0..3).map(move |c| (group(c), format!("m{n}"), n + 1)));
    assert_eq!(seen, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn changes_of_groups_and_profiles_are_in_the_feed() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let shards = opened(&pool, 1).await;
    let policy =
        GroupPolicy { large_above: 10, members_max: 30, has_system_entries: false, feed: Some(shards) };
    let (ann, group) = (Actor::User(user("ann")), group(1));
    let new = CreateGroup {
        name: String::new(),
        owner: Some(user("ann")),
        members: vec![user("bob")],
        history_from_start: true,
        is_open: false,
    };
    groups::change(&pool, &group, policy, &new).await.unwrap();
    let again = AddMembers { by: &ann, users: &[user("bob")] };
    groups::change(&pool, &group, policy, &again).await.unwrap();
    let update = MemberUpdate { muted_until: Some(9_999_999_999_999), ..MemberUpdate::default() };
    let mute = UpdateMember { by: &ann, user: &user("bob"), update };
    groups::change(&pool, &group, policy, &mute).await.unwrap();
    let unwritten = GroupPolicy { feed: None, ..policy };
    groups::change(&pool, &group, unwritten, &mute).await.unwrap();
    let profile =
        ProfileUpdate { nickname: Some(Nickname::parse("Ann").unwrap()), ..ProfileUpdate::default() };
    assert!(profiles::update(&pool, &user("ann"), &profile, Some(shards)).await.unwrap());
    assert!(profiles::replace(&pool, &user("bob"), &profile, None).await.unwrap());

    let bodies: Vec<FeedBody> = all_rows(&pool, 0).await.into_iter().map(|row| row.body).collect();
    let changed = |version, change: &str| GroupChanged {
        group: group.clone(),
        version,
        change: change.to_owned(),
        joined: Vec::new(),
        left: Vec::new(),
        member: None,
        is_cut: false,
    };
    let created = GroupChanged { joined: vec![user("ann"), user("bob")], ..changed(1, "create group") };
    let muted = GroupChanged { member: Some(user("bob")), ..changed(2, "update member") };
    let of_group = |change| FeedBody { group: Some(change), ..FeedBody::default() };
    let of_profile = FeedBody { profile: Some(user("ann")), ..FeedBody::default() };
    assert_eq!(bodies, [of_group(created), of_group(muted), of_profile]);
}
