//! Groups and their members, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::groups::{
    self, AddMembers, Changed, CreateGroup, DismissGroup, GroupChange, GroupError, GroupPolicy, JoinGroup,
    MemberUpdate, RemoveMember, UpdateGroup, UpdateMember,
};
use shared::mysql::{Pool, access, blocks, conversations, members};
use shared::permission::{Action, Actor, Denied, GroupSettings, Membership, Permissions, Relation, Role};
use testbed::stack::Stores;

use support::migrated;

const SIZES: GroupPolicy =
    GroupPolicy { large_above: 10, members_max: 30, has_system_entries: true, feed: None };

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
    let mut tx = pool.sqlx_pool().begin().await.unwrap();
    access::lock(&mut tx, &here()).await.unwrap();
    conversations::advance_heads(&mut tx, &[(&here(), Seq(to))]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn create(pool: &Pool, history_from_start: bool) {
    let new = CreateGroup {
        name: "Here".to_owned(),
        owner: Some(user("owner")),
        members: vec![user("admin"), user("carol"), user("owner")],
        history_from_start,
        is_open: false,
    };
    let made = change(pool, &new).await.unwrap();
    assert_eq!((made.version, made.joined), (Some(1), vec![user("admin"), user("carol"), user("owner")]));
    let admin = MemberUpdate { role: Some(Role::Admin), muted_until: None };
    let update = UpdateMember { by: &actor("owner"), user: &user("admin"), update: admin };
    change(pool, &update).await.unwrap();
}

async fn change<C: GroupChange>(pool: &Pool, change: &C) -> Result<Changed, GroupError> {
    groups::change(pool, &here(), SIZES, change).await
}

async fn add(pool: &Pool, by: &Actor, users: &[UserId]) -> Result<Changed, GroupError> {
    change(pool, &AddMembers { by, users }).await
}

async fn permissions_of(pool: &Pool, id: &str) -> Permissions {
    members::permissions(pool, &here(), &user(id)).await.unwrap().1
}

async fn membership_of(pool: &Pool, id: &str) -> Option<(GroupSettings, Membership)> {
    let (settings, members) = members::memberships_in(pool, &here(), &[user(id)]).await.unwrap();
    members.first().map(|(_, membership)| (settings, *membership))
}

fn refused<T: std::fmt::Debug>(done: Result<T, GroupError>) -> &'static str {
    match done.unwrap_err() {
        GroupError::Denied(Denied::NotMember) => "not a member",
        GroupError::Denied(Denied::NoGroup) => "no group",
        GroupError::Denied(_) => "not allowed",
        GroupError::NoSuchMember => "no such member",
        GroupError::Exists => "exists",
        GroupError::Full(_) => "full",
        GroupError::Refused(_) => "blocked",
        GroupError::NoInvitation => "no invitation",
        GroupError::TooManyInvitations(_) => "too many invitations",
        GroupError::AvatarGone => "avatar gone",
        GroupError::Sql(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn open_groups_are_joined_once() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let alice = user("alice");
    assert_eq!(permissions_of(&pool, "alice").await.relation, Relation::NoGroup);
    assert_eq!(groups::create_open(&pool, &here(), SIZES).await.unwrap().version, Some(1));
    assert_eq!(groups::create_open(&pool, &here(), SIZES).await.unwrap().version, None);
    assert_eq!(permissions_of(&pool, "alice").await.relation, Relation::Outsider { group_is_open: true });
    assert_eq!(change(&pool, &JoinGroup { user: &alice }).await.unwrap().joined, [user("alice")]);
    assert_eq!(change(&pool, &JoinGroup { user: &alice }).await.unwrap().version, None);
    let asked = [user("bob"), user("carol"), alice.clone(), alice.clone()];
    let groups = members::groups_of(&pool, &asked).await.unwrap();
    assert_eq!(groups.len(), 1, "{groups:?}");
    let [found] = &groups[&alice][..] else { panic!("{groups:?}") };
    let (version, role) = (found.settings.version, found.membership.status.role);
    assert_eq!((&found.group, version, role), (&here(), 2, Role::Member));
}

#[tokio::test]
async fn a_change_needs_the_role_that_the_rule_names() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, true).await;
    let again = CreateGroup {
        name: String::new(),
        owner: None,
        members: Vec::new(),
        history_from_start: true,
        is_open: true,
    };
    assert_eq!(refused(change(&pool, &again).await), "exists");
    let add = async |by: &str, who: &str| add(&pool, &actor(by), &[user(who)]).await;
    let remove =
        async |by: &str, who: &str| change(&pool, &RemoveMember { by: &actor(by), user: &user(who) }).await;
    let rename = async |by: &str| {
        let by = actor(by);
        change(&pool, &UpdateGroup { name: Some("There"), ..UpdateGroup::unchanged(&by) }).await
    };
    let role = async |by: &str, who: &str, role: Role| {
        let update = MemberUpdate { role: Some(role), muted_until: None };
        change(&pool, &UpdateMember { by: &actor(by), user: &user(who), update }).await
    };
    let mute = async |by: &str, who: &str| {
        let update = MemberUpdate { role: None, muted_until: Some(i64::MAX) };
        change(&pool, &UpdateMember { by: &actor(by), user: &user(who), update }).await
    };
    assert_eq!(refused(add("carol", "dave").await), "not allowed");
    assert_eq!(refused(add("eve", "eve").await), "not a member");
    assert_eq!(add("admin", "dave").await.unwrap().joined, [user("dave")]);
    assert_eq!(add("admin", "dave").await.unwrap().version, None, "is a member already");
    assert_eq!(refused(rename("carol").await), "not allowed");
    rename("admin").await.unwrap();
    assert_eq!(groups::find(&pool, &here()).await.unwrap().unwrap().name, "There");
    assert_eq!(refused(role("admin", "dave", Role::Admin).await), "not allowed");
    assert_eq!(refused(mute("carol", "dave").await), "not allowed");
    assert_eq!(refused(mute("admin", "owner").await), "not allowed");
    mute("admin", "dave").await.unwrap();
    assert_eq!(
        permissions_of(&pool, "dave").await.check(Action::Send, || 1),
        Err(Denied::Muted { until: i64::MAX })
    );
    assert_eq!(refused(remove("carol", "dave").await), "not allowed");
    assert_eq!(refused(remove("admin", "owner").await), "not allowed");
    assert_eq!(refused(remove("admin", "nobody").await), "no such member");
    assert_eq!(remove("admin", "dave").await.unwrap().left, [user("dave")]);
    assert_eq!(remove("carol", "carol").await.unwrap().left, [user("carol")], "leaves");
    assert_eq!(refused(remove("owner", "owner").await), "not allowed", "must name another owner first");
    assert_eq!(refused(role("owner", "owner", Role::Member).await), "not allowed");
    role("owner", "admin", Role::Owner).await.unwrap();
    assert_eq!(permissions_of(&pool, "owner").await.relation.role(), Some(Role::Admin));
    assert_eq!(remove("owner", "owner").await.unwrap().left, [user("owner")]);
    assert_eq!(refused(change(&pool, &DismissGroup { by: &actor("owner") }).await), "not a member");
    assert_eq!(change(&pool, &DismissGroup { by: &actor("admin") }).await.unwrap().left, [user("admin")]);
    assert_eq!(refused(self::add(&pool, &Actor::Operator, &users(1)).await), "no group");
    assert_eq!(
        permissions_of(&pool, "admin").await.relation,
        Relation::NoGroup,
        "a dismissed group does not exist"
    );
}

#[tokio::test]
async fn the_history_of_a_new_member_depends_on_the_setting_when_it_joins() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, false).await;
    advance(&pool, 70).await;
    let add = async |id: &str| add(&pool, &Actor::Operator, &[user(id)]).await;
    let late = add("late").await.unwrap();
    assert_eq!((late.history.join_seq, late.history.floor), (Seq(70), Seq(70)));
    let update = UpdateGroup { history_from_start: Some(true), ..UpdateGroup::unchanged(&Actor::Operator) };
    change(&pool, &update).await.unwrap();
    advance(&pool, 80).await;
    assert_eq!(add("later").await.unwrap().history.floor, Seq(0));
    let [late, later] =
        [permissions_of(&pool, "late").await.history, permissions_of(&pool, "later").await.history];
    assert_eq!(
        [(late.join_seq, late.floor), (later.join_seq, later.floor)],
        [(Seq(70), Seq(70)), (Seq(80), Seq(0))]
    );
}

#[tokio::test]
async fn a_group_switches_between_large_and_small_with_hysteresis() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, true).await;
    let is_large = async || groups::find(&pool, &here()).await.unwrap().unwrap().is_large;
    add(&pool, &Actor::Operator, &users(7)).await.unwrap();
    assert!(!is_large().await, "10 of 10");
    add(&pool, &Actor::Operator, &users(8)).await.unwrap();
    assert!(is_large().await, "11 of 10");
    for (n, large) in [(0, true), (1, true), (2, false)] {
        let removal = RemoveMember { by: &Actor::Operator, user: &users(8)[n] };
        change(&pool, &removal).await.unwrap();
        assert_eq!(is_large().await, large, "{} of 10", 10 - n);
    }
    let (settings, _) = membership_of(&pool, "owner").await.unwrap();
    assert!(settings.merges_head, "while an old cursor may be used");
    assert_eq!(refused(add(&pool, &Actor::Operator, &users(30)).await), "full");
    assert_eq!(groups::find(&pool, &here()).await.unwrap().unwrap().members, 8, "nothing was changed");
}

#[tokio::test]
async fn every_change_is_in_the_change_log_with_its_version() {
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
