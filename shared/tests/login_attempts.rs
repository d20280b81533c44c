//! Limits of attempts to log in, on a real Redis.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed helper is a failed test, and tasks end with its runtime"
)]

use std::net::IpAddr;
use std::time::Duration;

use fred::interfaces::KeysInterface as _;
use shared::ids::UserId;
use shared::redis::login_attempts::{AccountLimits, LoginAttempts};
use testbed::stack::Stores;

mod support;

use support::{connect, raw_client};

const LIMITS: AccountLimits = AccountLimits { per_address: 3, unknown_addresses: 5 };

fn alice() -> UserId {
    UserId::parse("alice").unwrap()
}

fn address(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

/// How many of `count` attempts at alice's account from `address` are possible.
async fn possible(attempts: &LoginAttempts, from: u8, count: usize) -> usize {
    let mut possible = 0;
    for _ in 0..count {
        possible += usize::from(attempts.take_at(&alice(), address(from), LIMITS).await.unwrap().is_ok());
    }
    possible
}

#[tokio::test]
async fn one_address_cannot_use_up_the_attempts_of_others() {
    let stores = Stores::for_test().await.unwrap();
    // As two gateways.
    let (one, other) =
        (LoginAttempts::new(connect(&stores).await), LoginAttempts::new(connect(&stores).await));
    assert_eq!(possible(&one, 1, 2).await, 2);
    assert_eq!(possible(&other, 1, 20).await, 1, "both count the same attempts");
    let wait = one.take_at(&alice(), address(1), LIMITS).await.unwrap().unwrap_err();
    assert!((Duration::from_secs(15)..=Duration::from_secs(20)).contains(&wait), "{wait:?} for 3 a minute");
    assert_eq!(possible(&other, 2, 20).await, 2, "all unknown addresses together have 5");
    assert_eq!(possible(&one, 3, 20).await, 0);
    let bob = UserId::parse("bob").unwrap();
    assert!(one.take_at(&bob, address(1), LIMITS).await.unwrap().is_ok(), "another account");
}

#[tokio::test]
async fn a_known_address_is_not_kept_out_by_others() {
    let stores = Stores::for_test().await.unwrap();
    let attempts = LoginAttempts::new(connect(&stores).await);
    assert_eq!(possible(&attempts, 9, 1).await, 1);
    attempts.succeeded(&alice(), address(9), LIMITS).await.unwrap();
    for attacker in 1..=5 {
        possible(&attempts, attacker, 20).await;
    }
    assert_eq!(possible(&attempts, 8, 1).await, 0, "an unknown address waits");
    assert_eq!(possible(&attempts, 9, 20).await, 3, "its own limit is that of each address");
    // The oldest of many known addresses is forgotten.
    for newer in 100..=131 {
        attempts.succeeded(&alice(), address(newer), LIMITS).await.unwrap();
    }
    let raw = raw_client(&stores).await;
    raw.del::<(), _>(vec!["im:login:{alice}:192.0.2.9", "im:login:{alice}:192.0.2.100"]).await.unwrap();
    assert_eq!(possible(&attempts, 100, 1).await, 1);
    for attacker in 10..=20 {
        possible(&attempts, attacker, 20).await;
    }
    assert_eq!(possible(&attempts, 9, 1).await, 0);
}

#[tokio::test]
async fn an_attempt_with_the_right_password_does_not_count() {
    let stores = Stores::for_test().await.unwrap();
    let attempts = LoginAttempts::new(connect(&stores).await);
    for _ in 0..20 {
        assert_eq!(possible(&attempts, 1, 1).await, 1);
        attempts.succeeded(&alice(), address(1), LIMITS).await.unwrap();
    }
    assert_eq!(possible(&attempts, 1, 20).await, 3);
}

#[tokio::test]
async fn concurrent_attempts_do_not_exceed_a_limit() {
    let stores = Stores::for_test().await.unwrap();
    let attempts = LoginAttempts::new(connect(&stores).await);
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let attempts = attempts.clone();
            tokio::spawn(async move { possible(&attempts, 1, 1).await })
        })
        .collect();
    let mut taken = 0;
    for task in tasks {
        taken += task.await.unwrap();
    }
    assert_eq!(taken, 3);
}

#[tokio::test]
async fn an_address_has_a_limit_of_its_own_and_counters_expire() {
    let stores = Stores::for_test().await.unwrap();
    let attempts = LoginAttempts::new(connect(&stores).await);
    let raw = raw_client(&stores).await;
    for taken in [true, true, false] {
        assert_eq!(attempts.take_from(address(1), 2).await.unwrap().is_ok(), taken);
    }
    assert!(attempts.take_from(address(1), 0).await.unwrap().is_ok(), "no limit");
    assert!(attempts.take_from("2001:db8::".parse().unwrap(), 2).await.unwrap().is_ok());
    possible(&attempts, 1, 5).await;
    for (key, at_most_ms) in [
        ("im:login-address:{192.0.2.1}", 60_000),
        ("im:login-address:{2001:db8::}", 30_000),
        ("im:login:{alice}:192.0.2.1", 60_000),
        ("im:login:{alice}", 36_000),
    ] {
        let expires_ms: i64 = raw.pttl(key).await.unwrap();
        assert!((1..=at_most_ms).contains(&expires_ms), "{key}: {expires_ms}");
    }
    attempts.succeeded(&alice(), address(1), LIMITS).await.unwrap();
    assert!(raw.pttl::<i64, _>("im:login-known:{alice}").await.unwrap() > 0);
    // The server's clock was set back: at worst the limit holds for one more minute.
    raw.set::<(), _, _>("im:login:{alice}:192.0.2.1", "9000000000000000", None, None, false).await.unwrap();
    let wait = attempts.take_at(&alice(), address(1), LIMITS).await.unwrap().unwrap_err();
    assert!(wait <= Duration::from_secs(20), "{wait:?}");
}
