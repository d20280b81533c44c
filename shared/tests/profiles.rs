//! Profiles of users, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use shared::ids::UserId;
use shared::meta::Meta;
use shared::mysql::profiles::{self, Profile, ProfileUpdate};
use shared::mysql::{Pool, accounts};
use shared::nickname::Nickname;
use testbed::stack::Stores;

use support::migrated;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn change(nickname: Option<&str>, meta: Option<&str>) -> ProfileUpdate {
    ProfileUpdate {
        nickname: nickname.map(|text| Nickname::parse(text).unwrap()),
        meta: meta.map(|text| Meta::parse(text).unwrap()),
        avatar: None,
    }
}

fn shown(profile: &Profile) -> (&str, &str, &str) {
    (&profile.user_id, &profile.nickname, profile.meta.as_str())
}

async fn of(pool: &Pool, id: &str) -> Option<Profile> {
    profiles::find(pool, &[user(id)]).await.unwrap().pop()
}

#[tokio::test]
async fn a_profile_is_the_users_own_or_the_accounts() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    assert_eq!(of(&pool, "ann").await, None);
    assert!(accounts::create(&pool, &user("ann"), "hash", "Ann").await.unwrap());
    assert!(accounts::create(&pool, &user("Ann"), "hash", "").await.unwrap());
    assert_eq!(shown(&of(&pool, "ann").await.unwrap()), ("ann", "Ann", "{}"));
    assert_eq!(
        shown(&of(&pool, "Ann").await.unwrap()),
        ("Ann", "Ann", "{}"),
        "another user, without a nickname"
    );

    // The account's nickname is kept with the first change, whatever that is of.
    profiles::update(&pool, &user("ann"), &change(None, Some("{\"a\": 1.0}")), None).await.unwrap();
    let first = of(&pool, "ann").await.unwrap();
    assert_eq!(shown(&first), ("ann", "Ann", "{\"a\": 1.0}"));
    profiles::update(&pool, &user("ann"), &change(Some("Anna 😀"), None), None).await.unwrap();
    let second = of(&pool, "ann").await.unwrap();
    assert_eq!(shown(&second), ("ann", "Anna 😀", "{\"a\": 1.0}"));
    assert!(second.updated_at > first.updated_at, "{} after {}", second.updated_at, first.updated_at);

    profiles::replace(&pool, &user("ann"), &change(None, Some("{}")), None).await.unwrap();
    let third = of(&pool, "ann").await.unwrap();
    assert_eq!(shown(&third), ("ann", "ann", "{}"));
    assert!(third.updated_at > second.updated_at);
    profiles::update(&pool, &user("eve"), &change(None, Some("{}")), None).await.unwrap();
    assert_eq!(shown(&of(&pool, "eve").await.unwrap()), ("eve", "eve", "{}"), "without an account");
}

#[tokio::test]
async fn profiles_of_many_users_are_found_each_once_in_the_order_of_ids() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    let users: Vec<UserId> = (0..100).map(|n| user(&format!("u{n:02}"))).collect();
    let mut expected = Vec::new();
    for (n, user) in users.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        let nickname = format!("User {n}");
        if n % 3 == 1 {
            profiles::replace(&pool, user, &change(Some(&nickname), None), None).await.unwrap();
        } else {
            assert!(accounts::create(&pool, user, "hash", &nickname).await.unwrap());
        }
        expected.push((user.as_str().to_owned(), nickname));
    }
    let mut asked = users.clone();
    asked.reverse();
    let found = profiles::find(&pool, &asked).await.unwrap();
    let found: Vec<_> = found.into_iter().map(|profile| (profile.user_id, profile.nickname)).collect();
    assert_eq!(found, expected);
    assert!(profiles::find(&pool, &[]).await.unwrap().is_empty());
}
