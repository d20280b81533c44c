//! Who may call and connect: keys, tokens, limits, played over two real gateways.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use testbed::client::{Client, Ended};
use testbed::stack::{Builder, System, wait_for};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(15);

/// Calls of one gateway.
struct Http {
    base: String,
    client: reqwest::Client,
    key: String,
}

impl Http {
    fn of(system: &System, gateway: usize) -> Self {
        Self {
            base: system.http_urls()[gateway].clone(),
            client: reqwest::Client::new(),
            key: system.operator_key().to_owned(),
        }
    }

    fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    fn as_operator(&self, method: Method, path: &str) -> RequestBuilder {
        self.call(method, path).header("x-api-key", &self.key)
    }

    async fn mint(&self, user: &str, ttl_s: u64) -> String {
        let request = self.as_operator(Method::POST, "/api/admin/tokens");
        let (status, body) = answered(request.json(&json!({"user_id": user, "ttl_s": ttl_s}))).await;
        assert_eq!(status, 200, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }
}

/// Connects with a token.
async fn connect(system: &System, gateway: usize, token: &str) -> anyhow::Result<Client> {
    Client::open(&format!("{}?token={token}", system.ws_urls()[gateway])).await
}

fn login_frame(token: &str) -> String {
    json!({"cmd": 1, "payload": {"token": token}}).to_string()
}

fn keys() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden/keys")
}

/// A token of an issuer of its own.
fn signed(algorithm: Algorithm, kid: Option<&str>, key: &EncodingKey) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, &json!({"sub": "alice", "iat": now, "exp": now + 60}), key).unwrap()
}

/// The status and the body. What is refused has the shape of all errors.
async fn answered(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    if !status.is_success() {
        assert_eq!(body["code"], status.as_u16(), "{body}");
        assert!(body["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    }
    (status.as_u16(), body)
}

/// Sends bytes, and reads until the other side closes or `PATIENCE` is over.
async fn raw(base: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_checked_before_they_are_served() {
    let mut system = Builder::new().workers(1).for_test().await.unwrap();
    let http = Http::of(&system, 1);
    let tokens = || http.as_operator(Method::POST, "/api/admin/tokens");

    // Who calls.
    let nobody = http.call(Method::POST, "/api/admin/tokens");
    assert_eq!(answered(nobody).await.0, 401);
    let wrong = http.call(Method::POST, "/api/admin/tokens").header("x-api-key", format!("{}x", http.key));
    assert_eq!(answered(wrong).await.0, 401);
    let user = http.call(Method::POST, "/api/admin/tokens").bearer_auth(http.mint("alice", 60).await);
    assert_eq!(answered(user).await.0, 403);
    let believed = http.call(Method::POST, "/api/admin/tokens?user_id=alice");
    assert_eq!(answered(believed).await.0, 403);

    // What is called.
    assert_eq!(answered(http.call(Method::GET, "/api/nothing")).await.0, 404);
    assert_eq!(answered(http.call(Method::GET, "/nothing")).await.0, 404);
    let wrong = http.as_operator(Method::DELETE, "/api/admin/tokens").send().await.unwrap();
    assert_eq!(
        (wrong.status(), &wrong.headers()["allow"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"POST".parse().unwrap())
    );

    // What it brings.
    for (body, named) in [
        (json!({}), "user_id"),
        (json!({"user_id": 5}), "user_id"),
        (json!({"user_id": "al ice"}), "user_id"),
        (json!({"user_id": "a".repeat(65)}), "user_id"),
        (json!({"user_id": "alice", "ttl_s": "soon"}), "ttl_s"),
        (json!({"user_id": "alice", "ttl_s": 0}), "ttl_s"),
        (json!([]), "one JSON object"),
    ] {
        let (status, answer) = answered(tokens().json(&body)).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["message"].as_str().unwrap().contains(named), "{body}: {answer}");
    }
    let (status, _) = answered(tokens().json(&json!({"user_id": "alice", "unknown": [1]}))).await;
    assert_eq!(status, 200);

    // Nothing of the key is in the logs.
    let log = std::fs::read_to_string(system.logs().join("gateway-1.log")).unwrap();
    assert!(!log.contains(&http.key));
    assert!(system.gateway(1).process().unwrap().must_run().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_heads_are_bounded_in_size_and_time() {
    let system = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__TIMEOUTS__HTTP_HEADER_MS", 500)
        .set("IM__TIMEOUTS__HTTP_BODY_MS", 500)
        .for_test()
        .await
        .unwrap();
    let http = Http::of(&system, 0);
    let (key, base) = (&http.key, &http.base);
    let filler = "x".repeat(70_000);
    let large = http.as_operator(Method::POST, "/api/admin/tokens").json(&json!({"user_id": filler}));
    assert_eq!(answered(large).await.0, 413);

    let head = format!("POST /api/admin/tokens HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n");
    // Chunked bodies are taken, in whatever pieces they come, and bounded too.
    let chunked = format!(
        "{head}connection: close\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{{\"user_id\r\n9\r\n\":\"bob\"}} \r\n0\r\n\r\n"
    );
    let answer = raw(base, chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"token\""), "{answer}");
    let chunk = format!("{:x}\r\n{filler}\r\n", filler.len());
    let endless = format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}");
    assert!(raw(base, endless.as_bytes()).await.starts_with("HTTP/1.1 413"));
    // One that stops in its middle, and a head that does.
    let stopped = raw(base, format!("{head}content-length: 100\r\n\r\n{{").as_bytes()).await;
    assert!(stopped.starts_with("HTTP/1.1 408"), "{stopped}");
    let slow_head = raw(base, head.as_bytes()).await;
    assert!(slow_head.is_empty() || slow_head.starts_with("HTTP/1.1 408"), "{slow_head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_and_addresses_have_their_rates_and_the_operator_has_none() {
    let system = Builder::new()
        .workers(1)
        .set("IM__LIMITS__USER_CALLS_PER_SECOND", 1)
        .set("IM__LIMITS__USER_CALLS_BURST", 3)
        .set("IM__LIMITS__ADDRESS_CALLS_PER_SECOND", 1)
        .set("IM__LIMITS__ADDRESS_CALLS_BURST", 12)
        .set("IM__LISTEN__TRUSTED_PROXIES", "127.0.0.0/8")
        .for_test()
        .await
        .unwrap();
    let http = Http::of(&system, 0);
    let from = |address: &str, user: &str| {
        http.call(Method::GET, &format!("/api/nothing?user_id={user}")).header("x-forwarded-for", address)
    };
    for _ in 0..3 {
        assert_eq!(answered(from("192.0.2.1", "alice")).await.0, 404);
    }
    // From wherever she calls; the answer says when to come back.
    let limited = from("192.0.2.2", "alice").send().await.unwrap();
    assert_eq!((limited.status().as_u16(), &limited.headers()["retry-after"]), (429, &"1".parse().unwrap()));
    let body: Value = limited.json().await.unwrap();
    assert!((1..=1_001).contains(&body["retry_after_ms"].as_u64().unwrap()), "{body}");
    assert_eq!(answered(from("192.0.2.1", "bob")).await.0, 404);
    let mut codes = Vec::new();
    for n in 0..14 {
        codes.push(answered(from("192.0.2.3", &format!("user{n}"))).await.0);
    }
    assert!(codes[..12].iter().all(|code| *code == 404) && codes.contains(&429), "{codes:?}");
    for _ in 0..20 {
        assert_eq!(answered(http.as_operator(Method::GET, "/api/nothing")).await.0, 404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_call() {
    let system = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__LISTEN__ALLOWED_ORIGINS", "https://chat.example")
        .for_test()
        .await
        .unwrap();
    let http = Http::of(&system, 0);
    let asked = |origin: &'static str| {
        http.call(Method::OPTIONS, "/api/admin/tokens")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .send()
    };
    let allowed = asked("https://chat.example").await.unwrap();
    assert_eq!(allowed.status(), 204);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://chat.example");
    assert!(allowed.headers()["access-control-allow-headers"].to_str().unwrap().contains("authorization"));
    let refused = asked("https://evil.example").await.unwrap();
    assert_eq!(refused.status(), 403);
    assert!(!refused.headers().contains_key("access-control-allow-origin"));
    // Errors can be read by the page, too.
    let call = http.call(Method::GET, "/api/nothing").header("origin", "https://chat.example").send();
    let call = call.await.unwrap();
    assert_eq!(call.status(), 404);
    assert_eq!(call.headers()["access-control-allow-origin"], "https://chat.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_registered_once_and_logs_in_with_its_password() {
    let system = Builder::new().unlimited().workers(1).for_test().await.unwrap();
    let (one, other) = (Http::of(&system, 0), Http::of(&system, 1));
    let post = |http: &Http, path: &str, user: &str, password: &str| {
        http.call(Method::POST, path).json(&json!({"user_id": user, "password": password}))
    };
    let (status, registered) = answered(post(&one, "/api/register", "alice", "correct horse")).await;
    assert_eq!(status, 200, "{registered}");
    assert!(registered["expires_at"].as_i64().unwrap() > 0);
    assert_eq!(answered(post(&other, "/api/register", "alice", "another one")).await.0, 409);
    let (status, logged_in) = answered(post(&other, "/api/login", "alice", "correct horse")).await;
    assert_eq!(status, 200, "{logged_in}");
    for token in [&registered["token"], &logged_in["token"]] {
        let mut alice = connect(&system, 0, token.as_str().unwrap()).await.unwrap();
        assert_eq!(alice.request(0, r#"{"cmd":0}"#).await.unwrap().code, 0);
    }
    for (body, named) in [
        (json!({"user_id": "bob", "password": "short"}), "password"),
        (json!({"user_id": "bob", "password": "x".repeat(257)}), "password"),
        (json!({"user_id": "bob"}), "password"),
        (json!({"user_id": "b b", "password": "correct horse"}), "user_id"),
        (json!({"user_id": "bob", "password": "correct horse", "nickname": "x".repeat(65)}), "nickname"),
    ] {
        let (status, answer) = answered(one.call(Method::POST, "/api/register").json(&body)).await;
        assert_eq!(status, 400, "{body}");
        assert!(answer["message"].as_str().unwrap().contains(named), "{answer}");
    }

    // Nobody learns who has an account: the same answer after the same work.
    let timed = async |user: &str| {
        let mut quickest = Duration::MAX;
        let mut answer = Value::Null;
        for _ in 0..3 {
            let begun = Instant::now();
            let (status, body) = answered(post(&one, "/api/login", user, "wrong horse")).await;
            assert_eq!(status, 401, "{body}");
            quickest = quickest.min(begun.elapsed());
            answer = body;
        }
        (quickest, answer)
    };
    let ((known_time, known), (unknown_time, unknown)) = (timed("alice").await, timed("nobody").await);
    assert_eq!(known, unknown);
    assert!(unknown_time * 2 > known_time, "{unknown_time:?} for nobody, {known_time:?} for alice");
    for gateway in ["gateway-0.log", "gateway-1.log"] {
        let log = std::fs::read_to_string(system.logs().join(gateway)).unwrap();
        assert!(!log.contains("horse"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn password_attempts_are_limited_and_accounts_can_be_disabled() {
    let limited = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__LIMITS__USER_LOGINS_PER_MINUTE", 2)
        .set("IM__LIMITS__ADDRESS_LOGINS_PER_MINUTE", 5);
    let system = limited.for_test().await.unwrap();
    let http = Http::of(&system, 0);
    let attempt = async |user: &str| {
        let request = http.call(Method::POST, "/api/login");
        answered(request.json(&json!({"user_id": user, "password": "wrong horse"}))).await
    };
    assert_eq!((attempt("alice").await.0, attempt("alice").await.0), (401, 401));
    let (status, body) = attempt("alice").await;
    assert_eq!(status, 429);
    assert!(body["retry_after_ms"].as_u64().unwrap() > 1_000, "{body}");
    assert_eq!((attempt("bob").await.0, attempt("carol").await.0), (401, 401));
    assert_eq!(attempt("dave").await.0, 429, "the address has had its share");
    drop(system);

    let off = Builder::new().gateways(1).workers(1).set("IM__AUTH__ACCOUNTS", "false");
    let system = off.for_test().await.unwrap();
    let http = Http::of(&system, 0);
    for path in ["/api/register", "/api/login"] {
        let request =
            http.call(Method::POST, path).json(&json!({"user_id": "alice", "password": "correct horse"}));
        assert_eq!(answered(request).await.0, 404);
    }
    http.mint("alice", 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_token_unless_it_gets_a_new_one() {
    let system =
        Builder::new().workers(1).set("IM__TIMEOUTS__TOKEN_WARNING_MS", 2_000).for_test().await.unwrap();
    let http = Http::of(&system, 0);
    let (mut stays, mut goes) = (
        connect(&system, 0, &http.mint("alice", 3).await).await.unwrap(),
        connect(&system, 1, &http.mint("alice", 3).await).await.unwrap(),
    );
    let begun = Instant::now();
    for client in [&mut stays, &mut goes] {
        let warning = client.next().await.unwrap();
        assert_eq!((warning.cmd, warning.code), (7, 0));
        assert_eq!(warning.payload["type"], "token_expiring");
        assert!(warning.payload["expires_at"].as_i64().unwrap() > 0);
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "the warning comes before the end");

    let bobs = stays.request(1, login_frame(&http.mint("bob", 60).await)).await.unwrap();
    assert_eq!(bobs.code, 403, "{bobs:?}");
    let nobodys = stays.request(1, login_frame("nonsense")).await.unwrap();
    assert_eq!(nobodys.code, 401, "{nobodys:?}");
    let renewed = stays.request(1, login_frame(&http.mint("alice", 60).await)).await.unwrap();
    assert_eq!((renewed.code, &renewed.payload["user_id"]), (0, &json!("alice")));

    let Ended(why) = goes.until_closed().await.unwrap();
    assert_eq!(why.unwrap().0, 4402);
    // The one with the new token has outlived the old one.
    assert_eq!(stays.request(0, r#"{"cmd":0}"#).await.unwrap().code, 0);

    // The same for a token that comes in the first frame; its answer comes before the warning.
    let mut late = Client::open(&system.ws_urls()[0]).await.unwrap();
    late.send(login_frame(&http.mint("alice", 1).await)).await.unwrap();
    let (first, second) = (late.next().await.unwrap(), late.next().await.unwrap());
    assert_eq!((first.cmd, first.code, second.cmd), (1, 0, 7));
    assert_eq!(late.until_closed().await.unwrap().0.unwrap().0, 4402);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_tokens_end_everywhere_at_once_and_for_good() {
    let mut system = Builder::new().workers(1).for_test().await.unwrap();
    let (one, other) = (Http::of(&system, 0), Http::of(&system, 1));
    let (old, bobs) = (one.mint("alice", 600).await, one.mint("bob", 600).await);
    let mut alice_here = connect(&system, 0, &old).await.unwrap();
    let mut alice_there = connect(&system, 1, &old).await.unwrap();
    let mut bob = connect(&system, 1, &bobs).await.unwrap();

    let by_user = one.call(Method::POST, "/api/admin/users/alice/revoke").bearer_auth(&bobs);
    assert_eq!(answered(by_user).await.0, 403);
    let begun = Instant::now();
    let (status, body) = answered(one.as_operator(Method::POST, "/api/admin/users/alice/revoke")).await;
    assert_eq!(status, 200);
    assert!(body["not_before"].as_i64().unwrap() > 0);
    for client in [&mut alice_here, &mut alice_there] {
        assert_eq!(client.until_closed().await.unwrap().0.unwrap().0, 4402);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for (gateway, http) in [(0, &one), (1, &other)] {
        assert!(connect(&system, gateway, &old).await.is_err());
        assert_eq!(answered(http.call(Method::POST, "/api/logout").bearer_auth(&old)).await.0, 401);
    }
    assert_eq!(bob.request(0, r#"{"cmd":0}"#).await.unwrap().code, 0);

    // New ones are good at once, and by logging out a user ends its own.
    let new = other.mint("alice", 600).await;
    let mut alice = connect(&system, 0, &new).await.unwrap();
    assert_eq!(answered(other.call(Method::POST, "/api/logout").bearer_auth(&new)).await.0, 200);
    assert_eq!(alice.until_closed().await.unwrap().0.unwrap().0, 4402);

    // A gateway that starts knows them all.
    system.gateway(1).kill();
    system.gateway(1).start_again().await.unwrap();
    for token in [&old, &new] {
        assert!(connect(&system, 1, token).await.is_err());
    }
    let fresh = one.mint("alice", 600).await;
    let mut alice = connect(&system, 1, &fresh).await.unwrap();

    // A row whose event was lost is found.
    let pool = sqlx::MySqlPool::connect(&system.urls.mysql).await.unwrap();
    let lost = "UPDATE token_revocation SET not_before_ms = not_before_ms + 3600000, \
                changed_at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) WHERE user_id = 'alice'";
    sqlx::query(lost).execute(&pool).await.unwrap();
    let begun = Instant::now();
    assert_eq!(alice.until_closed().await.unwrap().0.unwrap().0, 4402);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_keys_own_algorithm_counts_and_keys_change_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("public.pem");
    std::fs::copy(keys().join("rsa_public.pem"), &file).unwrap();
    let system = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__AUTH__MODE", "jwt")
        .set("IM__AUTH__ACCOUNTS", "false")
        .set("IM__AUTH__HS256_SECRET", "")
        .set("IM__AUTH__PUBLIC_KEY_FILE", file.display())
        .set("IM__AUTH__JWKS_FILE", keys().join("jwks.json").display())
        .for_test()
        .await
        .unwrap();
    let read = |name: &str| std::fs::read(keys().join(name)).unwrap();
    let rsa = EncodingKey::from_rsa_pem(&read("rsa_private.pem")).unwrap();
    let ed = EncodingKey::from_ed_pem(&read("ed25519_private.pem")).unwrap();
    let public = EncodingKey::from_secret(&read("rsa_public.pem"));
    for good in [
        signed(Algorithm::RS256, None, &rsa),
        signed(Algorithm::RS256, Some("rsa-1"), &rsa),
        signed(Algorithm::EdDSA, Some("ed-1"), &ed),
    ] {
        connect(&system, 0, &good).await.unwrap();
    }
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6OTk5OTk5OTk5OX0.".to_owned();
    let http = Http::of(&system, 0);
    for bad in [
        unsigned,
        signed(Algorithm::HS256, None, &public),
        signed(Algorithm::RS512, None, &rsa),
        signed(Algorithm::EdDSA, Some("ed-2"), &ed),
        format!("{}x", signed(Algorithm::RS256, None, &rsa)),
    ] {
        assert!(connect(&system, 0, &bad).await.is_err(), "{bad}");
        assert_eq!(answered(http.call(Method::POST, "/api/logout").bearer_auth(&bad)).await.0, 401);
    }
    // Nobody is believed, and nothing can be signed here.
    assert!(Client::connect(&system.ws_urls()[0], "alice").await.is_err());
    let mint = http.as_operator(Method::POST, "/api/admin/tokens").json(&json!({"user_id": "alice"}));
    assert_eq!(answered(mint).await.0, 404);

    // A key without a name takes tokens of any name.
    let token = signed(Algorithm::EdDSA, Some("ed-2"), &ed);
    std::fs::copy(keys().join("ed25519_public.pem"), &file).unwrap();
    wait_for("the new key", PATIENCE, async || connect(&system, 0, &token).await.map(drop)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_its_keys_does_not_start() {
    let program = testbed::stack::program("gateway").unwrap();
    let (secret, short) = ("x".repeat(32), "x".repeat(31));
    let secret_only = ("IM__AUTH__HS256_SECRET", secret.as_str());
    for (environment, named) in [
        (vec![], "auth.hs256_secret"),
        (vec![secret_only], "auth.api_key"),
        (vec![secret_only, ("IM__AUTH__API_KEY", &short)], "auth.api_key"),
        (vec![secret_only, ("IM__AUTH__API_KEY_FILE", "/nowhere")], "auth.api_key_file"),
        (vec![("IM__AUTH__PUBLIC_KEY_FILE", "/nowhere.pem")], "auth.public_key_file"),
        (vec![("IM__AUTH__MODE", "insecure"), ("IM__AUTH__ACCOUNTS", "true")], "auth.accounts"),
    ] {
        let output =
            tokio::process::Command::new(&program).env_clear().envs(environment).output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.contains(named) && said.trim().lines().count() == 1, "{named}: {said}");
        assert!(!said.contains(&short));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_has_begun_is_answered_by_a_gateway_that_goes_away() {
    let mut system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let http = Http::of(&system, 0);
    let address = http.base.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let head = format!("POST /api/admin/tokens HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n", http.key);
    stream.write_all(format!("{head}content-length: 17\r\n\r\n{{\"user_id\"").as_bytes()).await.unwrap();
    // By the time this is answered, the one above has been read as far as it goes.
    http.mint("bob", 60).await;
    let going = tokio::spawn(async move { system.gateway(0).terminate().await });
    wait_for("the end of listening", PATIENCE, async || {
        anyhow::ensure!(TcpStream::connect(&address).await.is_err(), "it still listens");
        Ok(())
    })
    .await
    .unwrap();
    stream.write_all(b":\"bob\"}").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert!(going.await.unwrap().unwrap().success());
}
