//! Accounts whose ids look alike, on a real MySQL or MariaDB over TCP.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

#[path = "support/migrated.rs"]
mod support;

use shared::ids::UserId;
use shared::mysql::look_alikes::{self, CreateError, NewAccount, STEP_ACCOUNTS_MAX, add_missing};
use shared::mysql::{Pool, accounts};
use testbed::stack::Stores;

use support::migrated;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

/// The id in lower case, and without its digits.
fn keys_of(id: &str) -> Vec<String> {
    let lower = id.to_lowercase();
    let letters: String = lower.chars().filter(|c| !c.is_ascii_digit()).collect();
    vec![format!("letters {letters}"), format!("lower {lower}")]
}

async fn create(pool: &Pool, id: &str) -> Result<(), CreateError> {
    let keys = &keys_of(id);
    let account = NewAccount { user: &user(id), password_hash: "hash", nickname: id, keys, version: 1 };
    look_alikes::create(pool, account).await
}

async fn exists(pool: &Pool, id: &str) -> bool {
    accounts::password_hash(pool, &user(id)).await.unwrap().is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_account_shares_no_key_with_another_one() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    create(&pool, "alice").await.unwrap();
    assert!(matches!(create(&pool, "alice").await, Err(CreateError::Taken)));
    for id in ["ALICE", "Alice", "alice7"] {
        assert!(matches!(create(&pool, id).await, Err(CreateError::LooksTaken)), "{id}");
        assert!(!exists(&pool, id).await, "{id}");
    }
    create(&pool, "bob").await.unwrap();
    // What was refused has left no key behind.
    create(&pool, "carol7").await.unwrap();
    assert!(matches!(create(&pool, "carol").await, Err(CreateError::LooksTaken)));
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_without_keys_get_them_in_steps_and_keep_their_ids() {
    let stores = Stores::for_test().await.unwrap();
    let pool = migrated(&stores).await;
    // As an earlier version made them: also some that look alike, and more than one step.
    let look_alikes = ["alice", "Alice", "ALICE9"];
    for id in look_alikes {
        assert!(accounts::create(&pool, &user(id), "hash", id).await.unwrap());
    }
    let letters =
        |n: usize| format!("{}{}", char::from(b'a' + (n / 26) as u8), char::from(b'a' + (n % 26) as u8));
    for n in 0..STEP_ACCOUNTS_MAX {
        assert!(accounts::create(&pool, &user(&letters(n)), "hash", "").await.unwrap());
    }
    create(&pool, "dave").await.unwrap();
    // Two gateways at once. The later one may find only what the first one left.
    let (one, other) = tokio::join!(add_missing(&pool, 1, keys_of), add_missing(&pool, 1, keys_of));
    assert!([one.unwrap(), other.unwrap()].contains(&true));
    while add_missing(&pool, 1, keys_of).await.unwrap() {}
    assert!(!add_missing(&pool, 1, keys_of).await.unwrap());
    for id in look_alikes.into_iter().chain(["aa", "dave"]) {
        assert!(exists(&pool, id).await, "{id}");
    }
    for id in ["aLICE", "alice1", "AA", "Ab1", "DAVE"] {
        assert!(matches!(create(&pool, id).await, Err(CreateError::LooksTaken)), "{id}");
    }
    create(&pool, "eve").await.unwrap();
    // Another version of the rule adds its keys to all accounts.
    let backward = |id: &str| vec![format!("backward {}", id.chars().rev().collect::<String>())];
    while add_missing(&pool, 2, backward).await.unwrap() {}
    let keys = backward("eve");
    let account =
        NewAccount { user: &user("Eve"), password_hash: "hash", nickname: "", keys: &keys, version: 2 };
    assert!(matches!(look_alikes::create(&pool, account).await, Err(CreateError::LooksTaken)));
}
