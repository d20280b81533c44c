//! Groups and who is in them, on a real MySQL or MariaDB over TCP.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::Duration;

use loadtest::stack::Stores;
use shared::config;
use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::groups::{self, Actor, GroupError, MemberUpdate, NewGroup, Sizes, Update};
use shared::mysql::members::{self, Access, Membership, Role};
use shared::mysql::{self, Ping, Pool, access, blocks, conversations};

const SIZES: Sizes = Sizes { large_above: 10, members_max: 30 };

async fn migrated(stores: &Stores) -> Pool {
    let settings = config::Mysql { url: stores.mysql_url.as_str().into(), ..Default::default() };
    let pool = mysql::connect(&settings, Ping::Never, Duration::from_secs(30)).await.unwrap();
    mysql::migrate(&pool).await.unwrap();
    pool
}

fn here() -> Conversation {
    Conversation::from_key("group_here").unwrap()
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn actor(id: &str) -> Actor {
    Actor::User(user(id))
}

fn users(count: usize) -> Vec<UserId> {
    (0..count).map(|n| user(&format!("u{n:02}"))).collect()
}

async fn advance(pool: &Pool, to: u64) {
    let mut tx = pool.unkept().begin().await.unwrap();
    access::lock(&mut tx, &here()).await.unwrap();
    conversations::advance_heads(&mut tx, &[(&here(), Seq(to))]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn create(pool: &Pool, history_from_start: bool) {
    let new = NewGroup {
        name: "Here".to_owned(),
        owner: Some(user("owner")),
        members: vec![user("admin"), user("carol"), user("owner")],
        history_from_start,
        is_open: false,
    };
    let made = groups::create(pool, &here(), new, SIZES).await.unwrap();
    assert_eq!((made.version, made.joined), (Some(1), vec![user("admin"), user("carol"), user("owner")]));
    let admin = MemberUpdate { role: Some(Role::Admin), muted_until: None };
    groups::update_member(pool, &here(), &actor("owner"), &user("admin"), admin, SIZES).await.unwrap();
}

async fn access_of(pool: &Pool, id: &str) -> Option<Access> {
    match members::membership(pool, &here(), &user(id)).await.unwrap() {
        Membership::Member(_, access) => Some(access),
        _ => None,
    }
}

fn refused<T: std::fmt::Debug>(done: Result<T, GroupError>) -> &'static str {
    match done.unwrap_err() {
        GroupError::NotAllowed(_) => "not allowed",
        GroupError::NotMember => "not a member",
        GroupError::NoGroup => "no group",
        GroupError::NoSuchMember => "no such member",
        GroupError::Exists => "exists",
        GroupError::Full(_) => "full",
        GroupError::Sql(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn open_groups_are_joined_once() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let alice = user("alice");
    assert_eq!(members::membership(&pool, &here(), &alice).await.unwrap(), Membership::NoGroup);
    assert_eq!(groups::create_open(&pool, &here(), SIZES).await.unwrap().version, Some(1));
    assert_eq!(groups::create_open(&pool, &here(), SIZES).await.unwrap().version, None);
    assert_eq!(members::membership(&pool, &here(), &alice).await.unwrap(), Membership::Open);
    assert_eq!(groups::join(&pool, &here(), &alice, SIZES).await.unwrap().joined, [user("alice")]);
    assert_eq!(groups::join(&pool, &here(), &alice, SIZES).await.unwrap().version, None);
    let asked = [user("bob"), user("carol"), alice.clone(), alice.clone()];
    let groups = members::groups_of(&pool, &asked).await.unwrap();
    assert_eq!(groups.len(), 1, "{groups:?}");
    let [(group, about, access)] = &groups[&alice][..] else { panic!("{groups:?}") };
    assert_eq!((group, about.version, access.role), (&here(), 2, Role::Member));
}

#[tokio::test]
async fn everyone_may_do_what_its_role_allows_and_no_more() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, true).await;
    let again = NewGroup {
        name: String::new(),
        owner: None,
        members: Vec::new(),
        history_from_start: true,
        is_open: true,
    };
    assert_eq!(refused(groups::create(&pool, &here(), again, SIZES).await), "exists");
    let add = async |by: &str, who: &str| groups::add(&pool, &here(), &actor(by), &[user(who)], SIZES).await;
    let remove =
        async |by: &str, who: &str| groups::remove(&pool, &here(), &actor(by), &user(who), SIZES).await;
    let rename = async |by: &str| {
        let update = Update { name: Some("There".to_owned()), ..Update::default() };
        groups::update(&pool, &here(), &actor(by), update, SIZES).await
    };
    let role = async |by: &str, who: &str, role: Role| {
        let update = MemberUpdate { role: Some(role), muted_until: None };
        groups::update_member(&pool, &here(), &actor(by), &user(who), update, SIZES).await
    };
    let mute = async |by: &str, who: &str| {
        let update = MemberUpdate { role: None, muted_until: Some(i64::MAX) };
        groups::update_member(&pool, &here(), &actor(by), &user(who), update, SIZES).await
    };
    assert_eq!(refused(add("carol", "dave").await), "not allowed");
    assert_eq!(refused(add("eve", "eve").await), "not a member");
    assert_eq!(add("admin", "dave").await.unwrap().joined, [user("dave")]);
    assert_eq!(add("admin", "dave").await.unwrap().version, None, "is in already");
    assert_eq!(refused(rename("carol").await), "not allowed");
    rename("admin").await.unwrap();
    assert_eq!(groups::find(&pool, &here()).await.unwrap().unwrap().name, "There");
    assert_eq!(refused(role("admin", "dave", Role::Admin).await), "not allowed");
    assert_eq!(refused(mute("carol", "dave").await), "not allowed");
    assert_eq!(refused(mute("admin", "owner").await), "not allowed");
    mute("admin", "dave").await.unwrap();
    assert!(!access_of(&pool, "dave").await.unwrap().may_send(false, 1));
    assert_eq!(refused(remove("carol", "dave").await), "not allowed");
    assert_eq!(refused(remove("admin", "owner").await), "not allowed");
    assert_eq!(refused(remove("admin", "nobody").await), "no such member");
    assert_eq!(remove("admin", "dave").await.unwrap().left, [user("dave")]);
    assert_eq!(remove("carol", "carol").await.unwrap().left, [user("carol")], "leaves");
    assert_eq!(refused(remove("owner", "owner").await), "not allowed", "hands over first");
    assert_eq!(refused(role("owner", "owner", Role::Member).await), "not allowed");
    role("owner", "admin", Role::Owner).await.unwrap();
    assert_eq!(access_of(&pool, "owner").await.unwrap().role, Role::Admin);
    assert_eq!(remove("owner", "owner").await.unwrap().left, [user("owner")]);
    assert_eq!(refused(groups::dismiss(&pool, &here(), &actor("owner"), SIZES).await), "not a member");
    assert_eq!(groups::dismiss(&pool, &here(), &actor("admin"), SIZES).await.unwrap().left, [user("admin")]);
    assert_eq!(refused(groups::add(&pool, &here(), &Actor::Operator, &users(1), SIZES).await), "no group");
    assert_eq!(
        members::membership(&pool, &here(), &user("admin")).await.unwrap(),
        Membership::NoGroup,
        "a dismissed group is none"
    );
}

#[tokio::test]
async fn newcomers_see_history_as_the_group_was_set_when_they_came() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, false).await;
    advance(&pool, 70).await;
    let add = async |id: &str| groups::add(&pool, &here(), &Actor::Operator, &[user(id)], SIZES).await;
    let late = add("late").await.unwrap();
    assert_eq!((late.joined_seq, late.joined_floor), (Seq(70), Seq(70)));
    let update = Update { history_from_start: Some(true), ..Update::default() };
    groups::update(&pool, &here(), &Actor::Operator, update, SIZES).await.unwrap();
    advance(&pool, 80).await;
    assert_eq!(add("later").await.unwrap().joined_floor, Seq(0));
    let [late, later] = [access_of(&pool, "late").await.unwrap(), access_of(&pool, "later").await.unwrap()];
    assert_eq!(
        [(late.join_seq, late.floor), (later.join_seq, later.floor)],
        [(Seq(70), Seq(70)), (Seq(80), Seq(0))]
    );
}

#[tokio::test]
async fn groups_become_large_and_small_again_with_some_play() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, true).await;
    let is_large = async || groups::find(&pool, &here()).await.unwrap().unwrap().is_large;
    groups::add(&pool, &here(), &Actor::Operator, &users(7), SIZES).await.unwrap();
    assert!(!is_large().await, "10 of 10");
    groups::add(&pool, &here(), &Actor::Operator, &users(8), SIZES).await.unwrap();
    assert!(is_large().await, "11 of 10");
    for (n, large) in [(0, true), (1, true), (2, false)] {
        groups::remove(&pool, &here(), &Actor::Operator, &users(8)[n], SIZES).await.unwrap();
        assert_eq!(is_large().await, large, "{} of 10", 10 - n);
    }
    let (about, _) = groups::accesses(&pool, &here(), &[]).await.unwrap();
    assert!(about.merges_head, "for as long as an old cursor may come");
    assert_eq!(refused(groups::add(&pool, &here(), &Actor::Operator, &users(30), SIZES).await), "full");
    assert_eq!(groups::find(&pool, &here()).await.unwrap().unwrap().members, 8, "nothing was changed");
}

#[tokio::test]
async fn blocks_and_every_other_change_are_listed_with_their_version() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, true).await;
    let (alice, bob) = (user("alice"), user("bob"));
    assert_eq!(blocks::set(&pool, &alice, &bob, true).await.unwrap(), Some(1));
    assert_eq!(blocks::set(&pool, &alice, &bob, true).await.unwrap(), None);
    let both = [alice.clone(), bob.clone()];
    let blockers = blocks::blockers_of(&pool, &both).await.unwrap();
    assert!(blockers.len() == 1 && blockers[&bob].iter().eq([&alice]), "{blockers:?}");
    assert_eq!(blocks::blocked_by(&pool, &alice, "", 10).await.unwrap(), ["bob"]);
    assert_eq!(blocks::set(&pool, &alice, &bob, false).await.unwrap(), Some(2));
    assert!(blocks::blockers_of(&pool, &both).await.unwrap().is_empty());
    let changes = access::changes_after(&pool, 0, &[]).await.unwrap();
    let seen: Vec<_> = changes.iter().map(|c| (c.conversation.key(), c.version)).collect();
    let private = "private_alice bob";
    assert_eq!(seen, [("group_here", 1), ("group_here", 2), (private, 1), (private, 2)]);
    let last = changes.last().unwrap().id;
    assert_eq!(access::newest_change(&pool).await.unwrap(), last);
    assert_eq!(access::changes_after(&pool, last, &[]).await.unwrap(), []);
    let skipped = access::changes_after(&pool, last, &[changes[1].id]).await.unwrap();
    assert_eq!(skipped, [changes[1].clone()]);
    access::remove_old_changes(&pool).await.unwrap();
    assert_eq!(access::changes_after(&pool, 0, &[]).await.unwrap().len(), 4, "not old yet");
}
