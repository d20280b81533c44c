//! The rules of HTTP and of the WebSocket handshake, played with sockets against real processes.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use testbed::client::Client;
use testbed::stack::{Builder, DEMO_SECRET, System, program};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

const TIMEOUT: Duration = Duration::from_secs(15);
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// One gateway without a list of allowed origins.
fn one_gateway() -> Builder {
    Builder::new().gateways(1).workers(1).unlimited().set("IM__LISTEN__ALLOWED_ORIGINS", "")
}

fn address(system: &System) -> String {
    system.http_urls()[0].trim_start_matches("http://").to_owned()
}

/// A response: its status, its fields with names in lower case, and its body.
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let field = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line}"));
            (name.to_lowercase(), value.to_owned())
        };
        Self { status, fields: lines.map(field).collect(), body: body.to_owned() }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// Sends lines and a body, and reads until the server closes; the last line should be `Connection: close`.
async fn exchange(address: &str, lines: &[&str], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    Answer::parse(&until_closed(&mut stream).await.0)
}

/// What is read until the server closes, and how long that takes.
async fn until_closed(stream: &mut TcpStream) -> (String, Duration) {
    let begun = Instant::now();
    let mut text = Vec::new();
    let read = tokio::time::timeout(TIMEOUT, stream.read_to_end(&mut text)).await;
    let _ = read.unwrap_or_else(|_| panic!("still open: {}", String::from_utf8_lossy(&text)));
    (String::from_utf8_lossy(&text).into_owned(), begun.elapsed())
}

/// The status of a handshake with these lines beside `GET`.
async fn handshake(address: &str, lines: &[&str]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET /ws?user_id=alice HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    tokio::time::timeout(TIMEOUT, stream.read_exact(&mut start)).await.unwrap().unwrap();
    std::str::from_utf8(&start[9..]).unwrap().parse().unwrap()
}

/// Opens a WebSocket as a page of `origin` and returns how it is closed: by a close code, or with an HTTP status before
/// the upgrade. 0: the gateway answers a heartbeat.
async fn connect_from(address: &str, query: &str, fields: &[(&'static str, &str)]) -> (u16, String) {
    let mut request = format!("ws://{address}/ws{query}").into_client_request().unwrap();
    for (name, value) in fields {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    let mut socket = match client_async(request, stream).await {
        Ok((socket, _)) => socket,
        Err(Error::Http(response)) => {
            let body =
                response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            return (response.status().as_u16(), body);
        }
        Err(other) => panic!("{other}"),
    };
    let _ = socket.send(Message::text(r#"{"cmd":0}"#)).await;
    let frame = tokio::time::timeout(TIMEOUT, socket.next()).await.unwrap();
    match frame {
        Some(Ok(Message::Close(Some(frame)))) => (frame.code.into(), frame.reason.to_string()),
        Some(Ok(Message::Text(text))) => (0, text.to_string()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_read_as_the_standards_say() {
    let system = one_gateway().for_test().await.unwrap();
    let address = address(&system);
    let host = format!("Host: {address}");
    let version = "Sec-WebSocket-Version: 13";
    for (lines, status) in [
        (&["Connection: Upgrade", "Upgrade: websocket", version, KEY][..], 101),
        (&["Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket", version, KEY], 101),
        (&["Connection: Upgrade", "Connection: close", "Upgrade: websocket", version, KEY], 101),
        (&["connection: keep-alive , upgrade", "upgrade: h2c", "upgrade: WebSocket", version, KEY], 101),
        (&["Connection: Upgrade", "Upgrade: h2c, websocket", version, KEY], 101),
        (&["Connection: keep-alive", "Upgrade: websocket", version, KEY], 400),
        (&["Connection: Upgrade", "Upgrade: h2c", version, KEY], 400),
        (&["Connection: Upgrade", "Upgrade: websocket", KEY], 426),
        (&["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 8", KEY], 426),
        (&["Connection: Upgrade", "Upgrade: websocket", version], 400),
        (&["Connection: Upgrade", "Upgrade: websocket", version, KEY, KEY], 400),
        (&["Connection: Upgrade", "Upgrade: websocket", version, "Sec-WebSocket-Key: eA=="], 400),
        (
            &[
                "Connection: Upgrade",
                "Upgrade: websocket",
                version,
                "Sec-WebSocket-Key: not base64 at all!!!",
            ],
            400,
        ),
    ] {
        let lines: Vec<&str> = std::iter::once(host.as_str()).chain(lines.iter().copied()).collect();
        assert_eq!(handshake(&address, &lines).await, status, "{lines:?}");
    }
    let post =
        exchange(&address, &["POST /ws HTTP/1.1", &host, "Content-Length: 0", "Connection: close"], "").await;
    assert_eq!((post.status, post.field("allow")), (405, Some("GET")));
}

#[tokio::test(flavor = "multi_thread")]
async fn origins_are_compared_as_browsers_write_them() {
    let system =
        one_gateway().set("IM__LISTEN__ALLOWED_ORIGINS", "HTTPS://App.example:443").for_test().await.unwrap();
    let address = address(&system);
    let (_, port) = address.split_once(':').unwrap();
    let here = |scheme: &str, host: &str| format!("{scheme}://{host}:{port}");
    for (host, origin, allowed) in [
        (address.clone(), here("http", "127.0.0.1"), true),
        (address.clone(), here("HTTP", "127.0.0.1"), true),
        (format!("localhost:{port}"), here("http", "LocalHost"), true),
        (format!("LOCALHOST:{port}"), here("http", "localhost"), true),
        ("localhost".to_owned(), "http://localhost:80".to_owned(), true),
        ("localhost:80".to_owned(), "http://localhost".to_owned(), true),
        ("localhost:443".to_owned(), "https://localhost".to_owned(), true),
        (address.clone(), "https://app.example".to_owned(), true),
        (address.clone(), "http://app.example".to_owned(), false),
        (address.clone(), "http://127.0.0.1".to_owned(), false),
        (address.clone(), "https://evil.example".to_owned(), false),
        (address.clone(), "null".to_owned(), false),
    ] {
        let fields = [("host", host.as_str()), ("origin", origin.as_str())];
        let (code, why) = connect_from(&address, "?user_id=alice", &fields).await;
        assert_eq!(code, if allowed { 0 } else { 4403 }, "{origin} at {host}: {why}");
        let (host, origin) = (format!("Host: {host}"), format!("Origin: {origin}"));
        let call = ["GET /api/blocks?user_id=alice HTTP/1.1", &host, &origin, "Connection: close"];
        assert_eq!(
            exchange(&address, &call, "").await.status,
            if allowed { 200 } else { 403 },
            "{origin} at {host}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_learns_by_a_close_code_why_it_is_refused_and_others_by_a_status() {
    let system = one_gateway().set("IM__AUTH__MODE", "jwt").for_test().await.unwrap();
    let address = address(&system);
    let own = format!("http://{address}");
    let page = [("origin", own.as_str())];
    let foreign = [("origin", "https://evil.example")];
    for (query, fields, code) in [
        ("?token=nonsense", &page[..], 4401),
        ("?user_id=alice", &page, 4401),
        ("?token=nonsense", &[], 401),
        ("?user_id=alice", &[], 401),
        ("", &foreign, 4403),
        ("?device_id=a%20b", &page, 4400),
        ("?device_id=a%20b", &[], 400),
        // Nothing is refused yet: the first frame is no login.
        ("", &page, 4401),
        ("", &[], 4401),
    ] {
        let (got, why) = connect_from(&address, query, fields).await;
        assert_eq!(got, code, "{query} {fields:?}: {why}");
        assert!(!why.is_empty(), "{query} {fields:?}");
        if code < 1_000 {
            let body: Value = serde_json::from_str(&why).unwrap();
            assert_eq!(body["code"], code, "{body}");
        }
    }
    let token = format!("?token={}", token(json!({})));
    assert_eq!(connect_from(&address, &token, &page).await.0, 0);
    let log = std::fs::read_to_string(system.logs().join("gateway-0.log")).unwrap();
    assert!(log.contains("https://evil.example") && log.contains("listen.allowed_origins"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebound_name_does_not_reach_a_gateway_without_tokens() {
    let system = one_gateway().set("IM__LISTEN__HOSTS", "chat.local, other.local").for_test().await.unwrap();
    let address = address(&system);
    let (_, port) = address.split_once(':').unwrap();
    for (name, known) in [
        ("localhost", true),
        ("[::1]", true),
        ("chat.local", true),
        ("Other.Local", true),
        ("evil.example", false),
        ("127.0.0.1.evil.example", false),
    ] {
        let (host, origin) = (format!("{name}:{port}"), format!("http://{name}:{port}"));
        let (code, why) =
            connect_from(&address, "?user_id=alice", &[("host", &host), ("origin", &origin)]).await;
        assert_eq!(code, if known { 0 } else { 4403 }, "{name}: {why}");
        // A browser sends no origin with GET to the host of the page.
        let host = format!("Host: {host}");
        let call = ["GET /api/blocks?user_id=alice HTTP/1.1", &host, "Connection: close"];
        assert_eq!(exchange(&address, &call, "").await.status, if known { 200 } else { 403 }, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_for_its_time_and_a_slow_head_is_not() {
    let system = one_gateway()
        .set("IM__TIMEOUTS__HTTP_HEADER_MS", 500)
        .set("IM__TIMEOUTS__HTTP_IDLE_MS", 2_500)
        .for_test()
        .await
        .unwrap();
    let address = address(&system);
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let mut buffer = [0; 4_096];
    for pause_ms in [0, 1_500, 1_500] {
        // Longer than the time of a head.
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let read = tokio::time::timeout(TIMEOUT, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
    }
    let (rest, idle) = until_closed(&mut stream).await;
    assert!(rest.is_empty() && (2_300..6_000).contains(&idle.as_millis()), "{rest} {idle:?}");

    for head in ["", "GET /healthz HTTP/1.1\r\nHost:"] {
        let mut slow = TcpStream::connect(&address).await.unwrap();
        slow.write_all(head.as_bytes()).await.unwrap();
        let (_, open) = until_closed(&mut slow).await;
        assert!((400..2_300).contains(&open.as_millis()), "{head:?} {open:?}");
    }
    // Also the head of a later request.
    let mut slow = TcpStream::connect(&address).await.unwrap();
    slow.write_all(request.as_bytes()).await.unwrap();
    let read = tokio::time::timeout(TIMEOUT, slow.read(&mut buffer)).await.unwrap().unwrap();
    assert!(read > 0);
    slow.write_all(b"GET /heal").await.unwrap();
    let (_, open) = until_closed(&mut slow).await;
    assert!((400..2_300).contains(&open.as_millis()), "{open:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_read_as_the_standard_says() {
    let system = one_gateway().for_test().await.unwrap();
    let address = address(&system);
    let host = format!("Host: {address}");
    let close = "Connection: close";
    let send = async |line: &str, more: &[&str]| {
        let lines: Vec<&str> = [line].into_iter().chain(more.iter().copied()).chain([close]).collect();
        exchange(&address, &lines, "").await
    };

    // HEAD has the head of GET.
    for path in ["/healthz", "/readyz", "/api/blocks?user_id=alice", "/api/conversations?user_id=alice"] {
        let get = send(&format!("GET {path} HTTP/1.1"), &[&host]).await;
        let head = send(&format!("HEAD {path} HTTP/1.1"), &[&host]).await;
        assert_eq!((head.status, head.body.as_str()), (get.status, ""), "{path}");
        assert_eq!(head.field("content-type"), get.field("content-type"), "{path}");
        assert_eq!(head.field("cache-control"), Some("no-store"), "{path}");
        assert!(head.field("content-length").is_some(), "{path}");
    }
    // Other methods are told which ones there are.
    for (path, allow) in [
        ("/healthz", "GET, HEAD"),
        ("/readyz", "GET, HEAD"),
        ("/api/blocks", "GET, HEAD, POST"),
        ("/api/register", "POST"),
        ("/ws", "GET"),
    ] {
        let put = send(&format!("PUT {path}?user_id=alice HTTP/1.1"), &[&host, "Content-Length: 0"]).await;
        assert_eq!((put.status, put.field("allow")), (405, Some(allow)), "{path}");
        if path != "/ws" {
            let options = send(&format!("OPTIONS {path}?user_id=alice HTTP/1.1"), &[&host]).await;
            assert_eq!((options.status, options.field("allow")), (204, Some(allow)), "{path}");
        }
    }

    // One host, which is valid; the one of the target counts.
    let with_hosts = async |hosts: &[&str]| send("GET /healthz HTTP/1.1", hosts).await.status;
    assert_eq!(with_hosts(&[]).await, 400);
    assert_eq!(with_hosts(&[&host, &host]).await, 400);
    assert_eq!(with_hosts(&["Host: a b"]).await, 400);
    assert_eq!(with_hosts(&["Host: user@localhost"]).await, 400);
    assert_eq!(send("GET /healthz HTTP/1.0", &[]).await.status, 200);
    assert_eq!(send("GET http://localhost/healthz HTTP/1.1", &["Host: evil.example"]).await.status, 200);
    let rebound = "GET http://evil.example/api/blocks?user_id=alice HTTP/1.1";
    assert_eq!(send(rebound, &["Host: localhost"]).await.status, 403);

    // Credentials that are sent twice are refused.
    let bearer = format!("Authorization: Bearer {}", token(json!({})));
    assert_eq!(send("GET /api/blocks HTTP/1.1", &[&host, &bearer]).await.status, 200);
    assert_eq!(send("GET /api/blocks HTTP/1.1", &[&host, &bearer, &bearer]).await.status, 400);
    let operator = format!("X-Api-Key: {}", system.operator_key());
    let both = [&host, &operator, "X-User-Id: alice", "X-User-Id: bob"];
    assert_eq!(send("GET /api/blocks HTTP/1.1", &both).await.status, 400);

    // Strange targets.
    for target in [
        "OPTIONS * HTTP/1.1",
        "CONNECT localhost:443 HTTP/1.1",
        "GET /api/ HTTP/1.1",
        "POST /api HTTP/1.1",
        "GET // HTTP/1.1",
    ] {
        let answer = send(target, &[&host]).await;
        assert!((400..500).contains(&answer.status) && answer.json()["code"] == answer.status, "{target}");
    }
    assert_eq!(send("GET /healthz HTTP/1.1", &[&host]).await.body, "ok\n");
}

/// A token of alice with these claims beside the usual ones.
fn token(claims: Value) -> String {
    signed(Header::new(Algorithm::HS256), claims)
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn signed(header: Header, claims: Value) -> String {
    let mut all = json!({"sub": "alice", "iat": now_s(), "exp": now_s() + 60});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&header, &all, &EncodingKey::from_secret(DEMO_SECRET.as_bytes())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_have_whole_seconds_and_their_refusal_names_the_claim() {
    let system = one_gateway().for_test().await.unwrap();
    let address = address(&system);
    let host = format!("Host: {address}");
    let blocks = async |token: &str| {
        let bearer = format!("Authorization: Bearer {token}");
        exchange(&address, &["GET /api/blocks HTTP/1.1", &host, &bearer, "Connection: close"], "").await
    };
    assert_eq!(blocks(&token(json!({"iat": now_s() + 30}))).await.status, 200, "within the leeway");
    let crit = Header { crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::HS256) };
    for (token, named) in [
        (token(json!({"exp": now_s() - 1})), "exp"),
        (token(json!({"exp": "soon"})), "exp"),
        (token(json!({"exp": null})), "exp"),
        (token(json!({"iat": now_s() + 3_600})), "iat"),
        (token(json!({"iat": "now"})), "iat"),
        (token(json!({"nbf": now_s() + 3_600})), "nbf"),
        (token(json!({"sub": 5})), "sub"),
        (token(json!({"sub": "al ice"})), "sub"),
        (signed(crit, json!({})), "crit"),
    ] {
        let answer = blocks(&token).await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, 401, "{message}");
        assert!(message.contains(named), "{named}: {message}");
    }

    let operator = format!("X-Api-Key: {}", system.operator_key());
    let post = async |path: &str, body: &str, by: &str| {
        let (line, length) = (format!("POST {path} HTTP/1.1"), format!("Content-Length: {}", body.len()));
        exchange(&address, &[&line, &host, by, &length, "Connection: close"], body).await
    };
    let account = r#"{"user_id":"carol","password":"correct horse","nickname":null}"#;
    for (path, body) in [
        ("/api/admin/tokens", r#"{"user_id":"alice","ttl_s":6e1}"#),
        ("/api/admin/tokens", r#"{"user_id":"alice","ttl_s":60.0}"#),
        ("/api/admin/tokens", r#"{"user_id":"alice","ttl_s":null}"#),
        ("/api/register", account),
        ("/api/login", account),
    ] {
        let answer = post(path, body, &operator).await;
        assert_eq!((answer.status, answer.field("cache-control")), (200, Some("no-store")), "{path} {body}");
        let token = answer.json()["token"].as_str().unwrap().to_owned();
        let claims = token.split('.').nth(1).unwrap();
        let claims: Value = serde_json::from_slice(&from_base64(claims)).unwrap();
        assert!(claims["iat"].is_u64() && claims["exp"].is_u64(), "{claims}");
        assert_eq!(blocks(&token).await.status, 200);
    }
    for bad in ["1.5", "\"60\"", "9007199254740992.0"] {
        let body = format!(r#"{{"user_id":"alice","ttl_s":{bad}}}"#);
        let answer = post("/api/admin/tokens", &body, &operator).await;
        assert!(answer.status == 400 && answer.body.contains("ttl_s"), "{bad}: {}", answer.body);
    }
    let group = r#"{"conversation_id":"group_1","name":null,"members":null,"history":null}"#;
    assert_eq!(post("/api/groups?user_id=alice", group, "X: y").await.status, 200);

    // Whole numbers of frames and of parameters.
    let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    let pulled = alice
        .request(3, r#"{"cmd":3.0,"conversation_id":"group_1","cursor_seq":57.0,"payload":{"limit":1e2}}"#);
    assert_eq!(pulled.await.unwrap().code, 0);
    let page = "GET /api/conversations/group_1/messages?user_id=alice&cursor_seq=57.0&limit=1e2 HTTP/1.1";
    assert_eq!(exchange(&address, &[page, &host, "Connection: close"], "").await.status, 200);
}

/// Base64 for addresses, without padding.
fn from_base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let sextets = text.bytes().map(|byte| ALPHABET.iter().position(|one| *one == byte).unwrap());
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_usize, 0);
    for sextet in sextets {
        (bits, held) = (bits << 6 | sextet, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_behind_a_balancer_have_limits_of_their_own() {
    let system = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__LIMITS__ADDRESS_CALLS_PER_SECOND", 1)
        .set("IM__LIMITS__ADDRESS_CALLS_BURST", 3)
        .set("IM__LISTEN__TRUSTED_PROXIES", "127.0.0.1, 10.0.0.0/8")
        .for_test()
        .await
        .unwrap();
    let address = address(&system);
    let host = format!("Host: {address}");
    // Three calls of each client pass; with a shared limit, only three of all of them would.
    for field in [
        "X-Forwarded-For: 192.0.2.1:5678",
        "X-Forwarded-For: [2001:db8:1::1]:443",
        "X-Forwarded-For: 2001:db8:2::1",
        "X-Forwarded-For: 1.1.1.1, 192.0.2.2:80, 10.0.0.1:9",
        "Forwarded: for=192.0.2.3;proto=https",
        "Forwarded: for=\"192.0.2.4:47011\"",
        "Forwarded: For=\"[2001:db8:3::1]:4711\", for=10.0.0.1",
    ] {
        let mut codes = Vec::new();
        for _ in 0..5 {
            let lines = ["GET /api/nothing HTTP/1.1", &host, field, "Connection: close"];
            codes.push(exchange(&address, &lines, "").await.status);
        }
        assert_eq!(codes[..3], [404; 3], "{field}");
        assert!(codes[3..].contains(&429), "{field}: {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_processes_take_the_same_environment_and_name_what_is_wrong() {
    let secret = "x".repeat(32);
    let shared: HashMap<&str, &str> = HashMap::from([
        ("IM__AUTH__HS256_SECRET", secret.as_str()),
        ("IM__AUTH__API_KEY", &secret),
        ("IM__LIMITS__CONNECTIONS_MAX", "1000"),
        ("IM__LISTEN__ADDRESS", "127.0.0.1:0"),
        ("IM__OPS__ADDRESS", "127.0.0.1:0"),
        ("IM__COMMIT__HOLE_TIMEOUT_MS", "1000"),
        ("IM__DRAIN__SPREAD_MS", "100"),
        ("IM__DRAIN__GRACE_MS", "100"),
        // Nothing listens there, so that the start ends after the configuration is read.
        ("IM__MYSQL__URL", "mysql://root@127.0.0.1:1/im"),
        ("IM__REDIS__URL", "redis://127.0.0.1:1"),
        ("IM__AMQP__URL", "amqp://guest:guest@127.0.0.1:1/%2f"),
        ("IM__START__WAIT_S", "0"),
    ]);
    for process in ["gateway", "worker"] {
        let run = async |more: &[(&str, &str)]| {
            let mut command = tokio::process::Command::new(program(process).unwrap());
            let output = command.env_clear().envs(&shared).envs(more.iter().copied()).output().await.unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, said) = run(&[]).await;
        assert_eq!(code, Some(1), "{process}: {said}");
        for (variable, value, named) in [
            ("IM__AUTH__MOED", "jwt", "auth.mode"),
            ("IM__MYSQL__ULR", "x", "mysql.url"),
            ("IM__COMIT__HOLE_TIMEOUT_MS", "1", "commit.hole_timeout_ms"),
            ("IM__NOTHING", "1", "nothing"),
            ("IM__SHARDS__COUNT", "many", "shards.count"),
            ("IM__SHARDS__COUNT", "0", "shards.count"),
        ] {
            let (code, said) = run(&[(variable, value)]).await;
            assert_eq!(code, Some(78), "{process} {variable}: {said}");
            assert!(said.contains(variable) && said.contains(named), "{process} {variable}: {said}");
            assert_eq!(said.trim().lines().count(), 1, "{said}");
        }
    }
}

/// The head of a response, and what follows of it, without a close of the connection.
async fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let byte = tokio::time::timeout(TIMEOUT, stream.read_u8()).await.unwrap();
        text.push(byte.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text))));
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rare_fields_of_requests_have_the_effect_of_the_standard_or_none() {
    let system = one_gateway().for_test().await.unwrap();
    let address = address(&system);
    let (host, close) = (format!("Host: {address}"), "Connection: close");
    let operator = format!("X-Api-Key: {}", system.operator_key());
    let body = r#"{"user_id":"alice"}"#;
    let length = format!("Content-Length: {}", body.len());
    let post = "POST /api/admin/tokens HTTP/1.1";

    // Expect: the body is asked for once the caller is known, and not at all if the request is refused.
    let expect = "Expect: 100-continue";
    let mut stream = TcpStream::connect(&address).await.unwrap();
    let lines = [post, &host, &operator, &length, expect, close].join("\r\n");
    stream.write_all(format!("{lines}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 100"));
    stream.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(Answer::parse(&until_closed(&mut stream).await.0).status, 200);
    for (key, length, status) in
        [("X-Other: x", length.as_str(), 401), (&operator, "Content-Length: 99999999", 413)]
    {
        let refused = exchange(&address, &[post, &host, key, length, expect, close], "").await;
        assert_eq!(refused.status, status);
    }

    // Range, and conditions, are about stored representations: answers are of this moment.
    for field in ["Range: bytes=0-3", "If-None-Match: *", "If-Modified-Since: Sat, 29 Oct 2094 19:43:31 GMT"]
    {
        let whole = exchange(&address, &["GET /healthz HTTP/1.1", &host, field, close], "").await;
        assert_eq!((whole.status, whole.body.as_str()), (200, "ok\n"), "{field}");
    }
    // Answers are not compressed, whatever is accepted.
    for accepted in ["gzip, br", "identity;q=0", "*;q=0"] {
        let field = format!("Accept-Encoding: {accepted}");
        let plain = exchange(&address, &["GET /healthz HTTP/1.1", &host, &field, close], "").await;
        assert_eq!((plain.status, plain.field("content-encoding")), (200, None), "{accepted}");
    }
    // A compressed body is refused by its name, not as bad JSON.
    for (coding, status) in
        [("identity", 200), ("IDENTITY", 200), ("gzip", 400), ("gzip, identity", 400), ("x", 400)]
    {
        let field = format!("Content-Encoding: {coding}");
        let answer = exchange(&address, &[post, &host, &operator, &length, &field, close], body).await;
        assert_eq!(answer.status, status, "{coding}");
        assert!(status == 200 || answer.body.contains("Content-Encoding"), "{coding}: {}", answer.body);
    }
    // The type of the body is not looked at: it is JSON or refused.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let field = format!("Content-Type: {kind}");
        let answer = exchange(&address, &[post, &host, &operator, &length, &field, close], body).await;
        assert_eq!(answer.status, 200, "{kind}");
    }
    // Two lengths, and a length beside chunks, may be read differently by a proxy.
    let other = format!("Content-Length: {}", body.len() + 1);
    for fields in [[length.as_str(), other.as_str()], ["Transfer-Encoding: gzip", "X-Other: x"]] {
        let answer = exchange(&address, &[post, &host, &operator, fields[0], fields[1], close], body).await;
        assert_eq!(answer.status, 400, "{fields:?}");
    }
    // An upgrade to anything else than a WebSocket is ignored.
    let h2c = ["GET /healthz HTTP/1.1", &host, "Connection: Upgrade, close", "Upgrade: h2c"];
    assert_eq!(exchange(&address, &h2c, "").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_extension_and_no_subprotocol_is_taken() {
    let system = one_gateway().for_test().await.unwrap();
    let address = address(&system);
    for offer in [
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Sec-WebSocket-Extensions: permessage-deflate, x-webkit-deflate-frame",
        "Sec-WebSocket-Extensions: ;;;=",
        "Sec-WebSocket-Protocol: chat, superchat",
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let lines = [
            "GET /ws?user_id=alice HTTP/1.1",
            &format!("Host: {address}"),
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            KEY,
            offer,
        ];
        stream.write_all(format!("{}\r\n\r\n", lines.join("\r\n")).as_bytes()).await.unwrap();
        let head = head(&mut stream).await.to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{offer}: {head}");
        assert!(
            !head.contains("sec-websocket-extensions") && !head.contains("sec-websocket-protocol"),
            "{head}"
        );
        // A compressed frame (RSV1) breaks the rules then.
        stream.write_all(&[0xc1, 0x80, 0, 0, 0, 0]).await.unwrap();
        assert_eq!(close_code(&mut stream).await, Some(1002), "{offer}");
    }
}

/// The code of the next close frame; `None` if it has none, or the connection ends without one.
async fn close_code(stream: &mut TcpStream) -> Option<u16> {
    loop {
        let mut start = [0; 2];
        tokio::time::timeout(TIMEOUT, stream.read_exact(&mut start)).await.unwrap().ok()?;
        let length = match start[1] {
            126 => usize::from(stream.read_u16().await.unwrap()),
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        if start[0] == 0x88 {
            return payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn close_frames_of_clients_are_answered_as_the_standard_says() {
    let system = one_gateway().for_test().await.unwrap();
    let address = address(&system);
    let with = |code: u16, reason: &[u8]| [&code.to_be_bytes()[..], reason].concat();
    for (payload, answer) in [
        (Vec::new(), None),
        (with(1000, b"bye"), Some(1000)),
        (with(1001, b""), Some(1001)),
        (with(3000, b""), Some(3000)),
        (with(4999, b""), Some(4999)),
        // Codes that must not be sent, and frames that break the rules.
        (with(0, b""), Some(1002)),
        (with(999, b""), Some(1002)),
        (with(1004, b""), Some(1002)),
        (with(1005, b""), Some(1002)),
        (with(1006, b""), Some(1002)),
        (with(1015, b""), Some(1002)),
        (with(2999, b""), Some(1002)),
        (with(5000, b""), Some(1002)),
        (with(65535, b""), Some(1002)),
        (vec![3], Some(1002)),
        (with(1000, &[0xff, 0xfe]), Some(1007)),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let upgrade = format!(
            "GET /ws?user_id=alice HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\n{KEY}\r\n\r\n"
        );
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
        // With a mask of zeros.
        let mut frame = vec![0x88, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        frame.extend(&payload);
        stream.write_all(&frame).await.unwrap();
        assert_eq!(close_code(&mut stream).await, answer, "{payload:?}");
        let (rest, _) = until_closed(&mut stream).await;
        assert_eq!(rest, "", "{payload:?}");
    }
}
