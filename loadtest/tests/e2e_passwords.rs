//! Attempts to guess a password, common passwords, and changes of passwords, played over two real gateways.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testbed::client::Client;
use testbed::stack::{Builder, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(15);
const PASSWORD: &str = "correct horse";
const WRONG: &str = "wrong horse";

/// Calls of both gateways.
struct Http {
    bases: Vec<String>,
    client: reqwest::Client,
    key: String,
}

impl Http {
    fn of(system: &System) -> Self {
        let (bases, key) = (system.http_urls(), system.operator_key().to_owned());
        Self { bases, client: reqwest::Client::new(), key }
    }

    fn call(&self, gateway: usize, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.bases[gateway]))
    }

    async fn register(&self, gateway: usize, user: &str, password: &str) -> (u16, Value) {
        let body = json!({"user_id": user, "password": password});
        answered(self.call(gateway, Method::POST, "/api/register").json(&body)).await
    }

    async fn log_in(&self, gateway: usize, user: &str, password: &str) -> (u16, Value) {
        let body = json!({"user_id": user, "password": password});
        answered(self.call(gateway, Method::POST, "/api/login").json(&body)).await
    }

    /// Logs in from `address`, behind a trusted proxy.
    async fn log_in_from(&self, gateway: usize, address: &str, user: &str, password: &str) -> u16 {
        let body = json!({"user_id": user, "password": password});
        let call = self.call(gateway, Method::POST, "/api/login").header("x-forwarded-for", address);
        answered(call.json(&body)).await.0
    }

    async fn change(&self, gateway: usize, token: &str, old: &str, new: &str) -> (u16, Value) {
        let body = json!({"old_password": old, "new_password": new});
        let call = self.call(gateway, Method::PUT, "/api/users/me/password").bearer_auth(token);
        answered(call.json(&body)).await
    }

    async fn reset(&self, gateway: usize, user: &str, new: &str) -> (u16, Value) {
        let call = self.call(gateway, Method::PUT, &format!("/api/admin/users/{user}/password"));
        answered(call.header("x-api-key", &self.key).json(&json!({"password": new}))).await
    }
}

/// The status and the body. What is refused has the shape of all errors.
async fn answered(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    if status != 200 {
        assert_eq!(body["code"], status, "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }
    (status, body)
}

fn token(body: &Value) -> String {
    body["token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

async fn connect(system: &System, gateway: usize, token: &str) -> anyhow::Result<Client> {
    Client::open(&format!("{}?token={token}", system.ws_urls()[gateway])).await
}

/// Two gateways behind a proxy, of which an account takes 3 wrong passwords per address and 8 in all.
fn limited() -> Builder {
    Builder::new()
        .workers(1)
        .unlimited()
        .set("IM__LISTEN__TRUSTED_PROXIES", "127.0.0.0/8")
        .set("IM__LIMITS__ADDRESS_LOGINS_PER_MINUTE", 100)
        .set("IM__LIMITS__USER_LOGINS_PER_MINUTE", 3)
        .set("IM__LIMITS__ACCOUNT_LOGINS_PER_MINUTE", 8)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_passwords_from_elsewhere_do_not_keep_the_owner_out() {
    let system = limited().for_test().await.unwrap();
    let http = Http::of(&system);
    let home = "192.0.2.1";
    let body = json!({"user_id": "alice", "password": PASSWORD});
    let registered = http.call(0, Method::POST, "/api/register").header("x-forwarded-for", home).json(&body);
    assert_eq!(answered(registered).await.0, 200);

    // One attacker has three attempts, however many gateways it asks, and the same for an account that does not exist.
    for user in ["alice", "nobody"] {
        let mut codes = Vec::new();
        for n in 0..8 {
            codes.push(http.log_in_from(n % 2, "198.51.100.1", user, WRONG).await);
        }
        assert_eq!(codes, [401, 401, 401, 429, 429, 429, 429, 429], "{user}");
    }
    // The right password does not help the attacker now, and the owner comes in from anywhere else.
    assert_eq!(http.log_in_from(0, "198.51.100.1", "alice", PASSWORD).await, 429);
    for (gateway, address) in [(0, home), (1, home), (1, "192.0.2.2")] {
        assert_eq!(http.log_in_from(gateway, address, "alice", PASSWORD).await, 200, "{address}");
    }
    // All addresses of an IPv6 network are one.
    let mut codes = Vec::new();
    for n in 0..4 {
        codes.push(http.log_in_from(n % 2, &format!("2001:db8::{n}"), "alice", WRONG).await);
    }
    assert_eq!(codes, [401, 401, 401, 429]);

    // An attack from many addresses is slowed down, and the owner comes in from where it was before.
    let mut wrong = 0;
    for n in 0..20 {
        let code = http.log_in_from(n % 2, &format!("203.0.113.{n}"), "alice", WRONG).await;
        wrong += usize::from(code == 401);
    }
    assert!(wrong <= 4, "{wrong} attempts, after six others");
    assert_eq!(http.log_in_from(0, "203.0.113.100", "alice", PASSWORD).await, 429);
    for address in [home, "192.0.2.2"] {
        assert_eq!(http.log_in_from(1, address, "alice", PASSWORD).await, 200, "{address}");
    }
    assert_eq!(http.log_in_from(0, "203.0.113.100", "carol", WRONG).await, 401, "another account");
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_of_one_address_are_limited_on_all_gateways_together() {
    let system = limited().set("IM__LIMITS__ADDRESS_LOGINS_PER_MINUTE", 6).for_test().await.unwrap();
    let http = Http::of(&system);
    let (status, alice) = http.register(0, "alice", PASSWORD).await;
    assert_eq!((status, http.register(1, "alice", PASSWORD).await.0), (200, 409));
    assert_eq!(http.log_in(0, "bob", WRONG).await.0, 401);
    assert_eq!(http.change(1, &token(&alice), WRONG, "battery staple").await.0, 403);
    assert_eq!(http.log_in(1, "carol", WRONG).await.0, 401);
    assert_eq!(http.log_in(0, "alice", PASSWORD).await.0, 200);
    for gateway in [0, 1] {
        assert_eq!(http.log_in(gateway, "dave", WRONG).await.0, 429);
        assert_eq!(http.register(gateway, "dave", PASSWORD).await.0, 429);
        assert_eq!(http.change(gateway, &token(&alice), PASSWORD, "battery staple").await.0, 429);
    }
    let by_operator = http.call(0, Method::POST, "/api/login").header("x-api-key", &http.key);
    let body = json!({"user_id": "alice", "password": PASSWORD});
    assert_eq!(answered(by_operator.json(&body)).await.0, 200, "the operator has no limit");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_gateway_counts_its_own_attempts() {
    let mut system = limited().for_test().await.unwrap();
    let http = Http::of(&system);
    assert_eq!(http.register(0, "alice", PASSWORD).await.0, 200);
    system.redis().unwrap().kill();
    wait_for("the loss of Redis", TIMEOUT, async || {
        let ready = http.call(0, Method::GET, "/readyz").send().await?;
        anyhow::ensure!(ready.status() == 503, "ready");
        Ok(())
    })
    .await
    .unwrap();
    for gateway in [0, 1] {
        let mut codes = Vec::new();
        for _ in 0..4 {
            codes.push(http.log_in_from(gateway, "198.51.100.1", "alice", WRONG).await);
        }
        assert_eq!(codes, [401, 401, 401, 429]);
        assert_eq!(http.log_in_from(gateway, "192.0.2.1", "alice", PASSWORD).await, 200);
    }
    system.redis().unwrap().start_again().await.unwrap();
    wait_for("attempts that are counted together", TIMEOUT, async || {
        let log = std::fs::read_to_string(system.logs().join("gateway-0.log"))?;
        http.log_in_from(0, "192.0.2.1", "alice", PASSWORD).await;
        anyhow::ensure!(log.contains("counted by all gateways together again"), "not yet");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_changes_the_password_and_ends_all_other_tokens() {
    let system = Builder::new().workers(1).unlimited().for_test().await.unwrap();
    let http = Http::of(&system);
    let registered = token(&http.register(0, "alice", PASSWORD).await.1);
    let second = token(&http.log_in(1, "alice", PASSWORD).await.1);
    for (old, new, status, named) in [
        (WRONG, "battery staple", 403, "old_password"),
        (PASSWORD, "short", 400, "password"),
        (PASSWORD, "12345678", 400, "easy to guess"),
        (PASSWORD, "alice", 400, "password"),
        (PASSWORD, PASSWORD, 400, "new_password"),
    ] {
        let (code, body) = http.change(0, &registered, old, new).await;
        assert_eq!(code, status, "{old} to {new}: {body}");
        assert!(body["message"].as_str().unwrap().contains(named), "{body}");
    }
    let nobody = http.call(0, Method::PUT, "/api/users/me/password");
    assert_eq!(answered(nobody.json(&json!({"old_password": PASSWORD, "new_password": "x"}))).await.0, 401);
    let (status, missing) =
        answered(http.call(0, Method::PUT, "/api/users/me/password").bearer_auth(&second).json(&json!({})))
            .await;
    assert_eq!((status, missing["message"].as_str().unwrap().contains("old_password")), (400, true));
    let get = http.call(0, Method::GET, "/api/users/me/password").bearer_auth(&second).send().await.unwrap();
    assert_eq!((get.status().as_u16(), &get.headers()["allow"]), (405, &"PUT".parse().unwrap()));

    let mut here = connect(&system, 0, &registered).await.unwrap();
    let mut there = connect(&system, 1, &second).await.unwrap();
    let (status, changed) = http.change(1, &second, PASSWORD, "battery staple").await;
    assert_eq!(status, 200, "{changed}");
    for client in [&mut here, &mut there] {
        assert_eq!(client.until_closed().await.unwrap().0.unwrap().0, 4402);
    }
    for gateway in [0, 1] {
        for old in [&registered, &second] {
            assert!(connect(&system, gateway, old).await.is_err());
        }
        assert_eq!(http.log_in(gateway, "alice", PASSWORD).await.0, 401);
        assert_eq!(http.log_in(gateway, "alice", "battery staple").await.0, 200);
        let mut alice = connect(&system, gateway, &token(&changed)).await.unwrap();
        assert_eq!(alice.request(0, r#"{"cmd":0}"#).await.unwrap().code, 0);
    }
    // A user whose tokens come from elsewhere has no password.
    let minted = http.call(0, Method::POST, "/api/admin/tokens").header("x-api-key", &http.key);
    let minted = answered(minted.json(&json!({"user_id": "bob"}))).await.1;
    assert_eq!(http.change(0, &token(&minted), PASSWORD, "battery staple").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_resets_a_password() {
    let system = Builder::new().workers(1).unlimited().for_test().await.unwrap();
    let http = Http::of(&system);
    let old = token(&http.register(0, "alice", PASSWORD).await.1);
    let mut alice = connect(&system, 1, &old).await.unwrap();
    let by_user = http.call(0, Method::PUT, "/api/admin/users/alice/password").bearer_auth(&old);
    assert_eq!(answered(by_user.json(&json!({"password": "battery staple"}))).await.0, 403);
    assert_eq!(http.reset(0, "alice", "password").await.0, 400);
    assert_eq!(http.reset(0, "nobody", "battery staple").await.0, 404);
    let (status, reset) = http.reset(0, "alice", "battery staple").await;
    assert_eq!(status, 200, "{reset}");
    assert!(reset["not_before"].as_i64().unwrap() > 0);
    assert_eq!(alice.until_closed().await.unwrap().0.unwrap().0, 4402);
    for gateway in [0, 1] {
        assert!(connect(&system, gateway, &old).await.is_err());
        assert_eq!(http.log_in(gateway, "alice", PASSWORD).await.0, 401);
        let new = token(&http.log_in(gateway, "alice", "battery staple").await.1);
        connect(&system, gateway, &new).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_runs_beside_a_change_leaves_no_token_of_the_old_password() {
    let system = Builder::new()
        .workers(1)
        .unlimited()
        .set("IM__LIMITS__ADDRESS_LOGINS_PER_MINUTE", 0)
        .set("IM__LIMITS__USER_LOGINS_PER_MINUTE", 0)
        .set("IM__LIMITS__ACCOUNT_LOGINS_PER_MINUTE", 0)
        .for_test()
        .await
        .unwrap();
    let http = Http::of(&system);
    let mut own = token(&http.register(0, "alice", PASSWORD).await.1);
    let passwords = [PASSWORD, "battery staple"];
    for round in 0..6 {
        let (old, new) = (passwords[round % 2], passwords[(round + 1) % 2]);
        let logins = async {
            let logins = (0..6).map(|n| http.log_in(n % 2, "alice", old));
            futures_util::future::join_all(logins).await
        };
        let change = async {
            tokio::time::sleep(Duration::from_millis(15 * u64::try_from(round).unwrap())).await;
            loop {
                let (status, body) = http.change(1, &own, old, new).await;
                // Too many hashes at this moment.
                if status != 503 {
                    return (status, body);
                }
            }
        };
        let (logged_in, (status, changed)) = tokio::join!(logins, change);
        assert_eq!(status, 200, "{changed}");
        own = token(&changed);
        connect(&system, 1, &own).await.unwrap();
        for (status, body) in logged_in {
            if status == 200 {
                let refused = http.call(1, Method::GET, "/api/settings").bearer_auth(token(&body));
                assert_eq!(answered(refused).await.0, 401, "a token of the old password");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn common_passwords_are_refused_unless_they_are_allowed() {
    let system = Builder::new().gateways(1).workers(1).unlimited().for_test().await.unwrap();
    let http = Http::of(&system);
    for common in
        ["password", "PASSWORD1", "12345678", "qwertyuiop", "aaaaaaaa", "chat-user-1", "CHAT-user-1"]
    {
        let (status, body) = http.register(0, "chat-user-1", common).await;
        assert_eq!(status, 400, "{common}");
        assert!(body["message"].as_str().unwrap().contains("easy to guess"), "{body}");
    }
    assert_eq!(http.register(0, "chat-user-1", PASSWORD).await.0, 200);
    drop(system);
    let allowed = Builder::new().gateways(1).workers(1).set("IM__AUTH__REFUSE_COMMON_PASSWORDS", "false");
    let system = allowed.for_test().await.unwrap();
    assert_eq!(Http::of(&system).register(0, "alice", "password").await.0, 200);
}
