//! Who may call and connect: keys, tokens, limits, played over two real gateways.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::time::Duration;

use loadtest::stack::{Builder, System};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
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
