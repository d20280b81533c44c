//! Connections over in-memory streams, with paused time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use shared::conversation::Conversation;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;
use crate::config::Config;
use crate::connection::fake::{FakeBackend, START_UNIX_MS};
use crate::connection::settings::ConnectionSettings;
use crate::connection::socket::{FRAME_BYTES_MAX, websocket_config};
use crate::hub::Member;

const LOGIN: &str = r#"{"cmd":1,"payload":{"token":"alice","device_id":"phone"}}"#;
/// Bytes that a stream takes while nobody reads it.
const ROOMY: usize = 1 << 20;

fn config() -> Config {
    let mut config = Config::default();
    config.timeouts.login_ms = 10_000;
    config.timeouts.heartbeat_ms = 30_000;
    config.timeouts.stalled_ms = 30_000;
    config.timeouts.token_warning_ms = 60_000;
    config.limits.connections_per_user_max = 2;
    config.limits.malformed_frames_max = 3;
    config.limits.requests_per_connection_max = 4;
    config
}

/// The client's end of a connection.
struct Client {
    socket: WebSocketStream<DuplexStream>,
    server: JoinHandle<()>,
    opened: Instant,
}

/// How the server closed a connection: the code, the reason, and how long after its beginning.
type Closed = (u16, String, Duration);

impl Client {
    /// Opens a connection whose stream holds `room` bytes.
    async fn open(backend: &Arc<FakeBackend>, room: usize, login: Option<VerifiedLogin>) -> Self {
        let (ours, theirs) = duplex(room);
        let theirs = Counted::new(theirs);
        let socket = WebSocketStream::from_raw_socket(theirs, Role::Server, Some(websocket_config())).await;
        let opened = Instant::now();
        let server = tokio::spawn(Connection::new(Arc::clone(backend), socket).run(login));
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        Self { socket, server, opened }
    }

    async fn anonymous(backend: &Arc<FakeBackend>) -> Self {
        Self::open(backend, ROOMY, None).await
    }

    /// A connection that is logged in by a frame.
    async fn logged_in(backend: &Arc<FakeBackend>) -> Self {
        let mut client = Self::anonymous(backend).await;
        client.send(LOGIN).await;
        assert_eq!(client.json().await["payload"]["user_id"], "alice");
        client
    }

    async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    async fn chat(&mut self, id: &str, conversation: &str) {
        self.send(&format!(
            r#"{{"cmd":2,"msg_id":"{id}","conversation_id":"{conversation}","payload":{{"content":"x"}}}}"#
        ))
        .await;
    }

    async fn text(&mut self) -> String {
        match self.socket.next().await.unwrap().unwrap() {
            Message::Text(text) => text.to_string(),
            other => panic!("{other:?}"),
        }
    }

    async fn json(&mut self) -> serde_json::Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Reads until the close frame: the texts before it, and how it closed.
    async fn until_closed(mut self) -> (Vec<String>, Closed) {
        let mut texts = Vec::new();
        loop {
            match self.socket.next().await.unwrap().unwrap() {
                Message::Text(text) => texts.push(text.to_string()),
                Message::Close(frame) => {
                    let (frame, after) = (frame.unwrap(), self.opened.elapsed());
                    // Answers the close frame, and sees the end of the stream.
                    while let Some(Ok(_)) = self.socket.next().await {}
                    drop(self.socket);
                    self.server.await.unwrap();
                    return (texts, (frame.code.into(), frame.reason.to_string(), after));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn closed_with(self) -> (u16, Duration) {
        let (_, (code, _, after)) = self.until_closed().await;
        (code, after)
    }
}

fn backend(config: Config) -> Arc<FakeBackend> {
    Arc::new(FakeBackend::new(ConnectionSettings::of(&config)))
}

fn verified(backend: &FakeBackend, token: &str) -> Option<VerifiedLogin> {
    Some(VerifiedLogin { login: backend.check_token(token).ok()?, device: None })
}

fn outboxes(backend: &FakeBackend) -> Vec<Arc<Outbox>> {
    let mut outboxes = Vec::new();
    backend.hub.each_of("alice", |member: &Member| outboxes.push(Arc::clone(&member.outbox)));
    outboxes
}

/// Lets all tasks run until they wait.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

fn about(after: Duration, expected_ms: u64) -> bool {
    let ms = u64::try_from(after.as_millis()).unwrap();
    (expected_ms..expected_ms + 10).contains(&ms)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_log_in_is_closed_with_4401() {
    let (code, after) = Client::anonymous(&backend(config())).await.closed_with().await;
    assert!(code == 4401 && about(after, 10_000), "{code} after {after:?}");
}

#[tokio::test(start_paused = true)]
async fn garbage_and_pings_do_not_prolong_the_time_to_log_in() {
    let mut client = Client::anonymous(&backend(config())).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        client.send("garbage").await;
        client.socket.send(Message::Ping("".into())).await.unwrap();
        assert_eq!(client.json().await["code"], 400);
        assert!(matches!(client.socket.next().await, Some(Ok(Message::Pong(_)))));
    }
    let (code, after) = client.closed_with().await;
    assert!(code == 4401 && about(after, 10_000), "{code} after {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_short_stall_does_not_shorten_the_time_to_log_in() {
    let mut config = config();
    config.timeouts.stalled_ms = 1_000;
    // The reply to the garbage does not fit into the stream at once.
    let mut client = Client::open(&backend(config), 64, None).await;
    client.send("garbage").await;
    settle().await;
    assert_eq!(client.json().await["code"], 400);
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.send(LOGIN).await;
    assert_eq!(client.json().await["code"], 0, "half of the time to log in is left");
}

#[tokio::test(start_paused = true)]
async fn a_first_frame_other_than_a_login_and_a_bad_token_close_with_4401() {
    let backend = backend(config());
    let mut hasty = Client::anonymous(&backend).await;
    hasty.chat("m1", "private_alice_bob").await;
    assert_eq!(hasty.closed_with().await.0, 4401);
    let mut wrong = Client::anonymous(&backend).await;
    wrong.send(r#"{"cmd":1,"payload":{"token":"bad"}}"#).await;
    let (texts, (code, ..)) = wrong.until_closed().await;
    assert!(code == 4401 && texts.len() == 1 && texts[0].contains(r#""cmd":1,"code":401"#), "{texts:?}");
    assert!(backend.submitted.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_user_is_closed_with_4408_and_any_frame_is_a_sign_of_life() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(80)).await;
        client.socket.send(Message::Ping("".into())).await.unwrap();
        assert!(matches!(client.socket.next().await, Some(Ok(Message::Pong(_)))));
    }
    assert_eq!(backend.hub.connections(), 1);
    let (code, after) = client.closed_with().await;
    assert!(code == 4408 && about(after, 4 * 80_000 + 90_000), "{code} after {after:?}");
    assert_eq!(backend.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn pushes_to_a_silent_user_do_not_keep_its_connection_open() {
    let backend = backend(config());
    let client = Client::open(&backend, ROOMY, verified(&backend, "alice")).await;
    settle().await;
    let group = Conversation::from_key("group_1").unwrap();
    let outbox = outboxes(&backend).remove(0);
    tokio::spawn(async move {
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            outbox.push(Utf8Bytes::from_static("push"), &group);
        }
    });
    let (texts, (code, _, after)) = client.until_closed().await;
    assert!(code == 4408 && about(after, 90_000), "{code} after {after:?}");
    assert!(texts.len() >= 89, "{} pushes", texts.len());
}

#[tokio::test(start_paused = true)]
async fn a_stalled_reader_is_closed_with_4413() {
    let mut config = config();
    config.timeouts.heartbeat_ms = 1_000_000;
    let backend = backend(config);
    let client = Client::open(&backend, 256, verified(&backend, "alice")).await;
    settle().await;
    let outbox = outboxes(&backend).remove(0);
    outbox.notify(Utf8Bytes::from("x".repeat(5_000)));
    tokio::time::sleep(Duration::from_millis(29_900)).await;
    assert_eq!(backend.hub.connections(), 1, "not yet");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(backend.hub.connections(), 0);
    // The client reads again while the gateway waits for its close frame.
    let (texts, (code, ..)) = client.until_closed().await;
    assert_eq!((code, texts.len()), (4413, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_keeps_its_connection_while_it_makes_progress() {
    let mut config = config();
    config.timeouts.heartbeat_ms = 1_000_000;
    config.timeouts.drain_bytes_per_second_min = 5;
    let backend = backend(config);
    let (mut ours, theirs) = duplex(256);
    let socket =
        WebSocketStream::from_raw_socket(Counted::new(theirs), Role::Server, Some(websocket_config())).await;
    let login = verified(&backend, "alice");
    let server = tokio::spawn(Connection::new(Arc::clone(&backend), socket).run(login));
    settle().await;
    outboxes(&backend).remove(0).notify(Utf8Bytes::from("x".repeat(5_000)));
    // Each pause is shorter than the limit, all of them together are much longer.
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut some = [0; 256];
        ours.read_exact(&mut some[..200]).await.unwrap();
        assert_eq!(backend.hub.connections(), 1);
    }
    drop(ours);
    server.await.unwrap();
    assert_eq!(backend.hub.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_too_slowly_for_long_is_closed_with_4413() {
    let mut config = config();
    config.timeouts.heartbeat_ms = 1_000_000;
    config.timeouts.drain_bytes_per_second_min = 100;
    let backend = backend(config);
    let (mut ours, theirs) = duplex(256);
    let socket =
        WebSocketStream::from_raw_socket(Counted::new(theirs), Role::Server, Some(websocket_config())).await;
    let login = verified(&backend, "alice");
    tokio::spawn(Connection::new(Arc::clone(&backend), socket).run(login));
    settle().await;
    let (start, outbox) = (Instant::now(), outboxes(&backend).remove(0));
    outbox.notify(Utf8Bytes::from("x".repeat(50_000)));
    while backend.hub.connections() == 1 {
        assert!(start.elapsed() < Duration::from_secs(40), "open after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_secs(5)).await;
        ours.read_exact(&mut [0; 200]).await.unwrap();
    }
    assert!(start.elapsed() >= Duration::from_secs(30), "closed after {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn malformed_frames_are_answered_until_there_are_too_many_in_a_row() {
    for logged_in in [false, true] {
        let backend = backend(config());
        let mut client = match logged_in {
            true => Client::logged_in(&backend).await,
            false => Client::anonymous(&backend).await,
        };
        for _ in 0..3 {
            client.socket.send(Message::binary(vec![1, 2])).await.unwrap();
            assert_eq!(client.json().await["code"], 400);
        }
        client.send("{").await;
        let (texts, (code, ..)) = client.until_closed().await;
        assert_eq!((texts.len(), code), (0, 4429));
    }
}

#[tokio::test(start_paused = true)]
async fn frames_that_break_the_rules_of_websockets_close_with_their_codes() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    client.send(&"x".repeat(FRAME_BYTES_MAX + 1)).await;
    assert_eq!(client.closed_with().await.0, 1009);
    // A masked text frame that is not UTF-8, and one with a reserved bit.
    for (bytes, code) in [(&[0x81, 0x81, 0, 0, 0, 0, 0xff][..], 1007), (&[0xf1, 0x80, 0, 0, 0, 0][..], 1002)]
    {
        let mut client = Client::logged_in(&backend).await;
        client.socket.get_mut().write_all(bytes).await.unwrap();
        let Some(Ok(Message::Close(Some(frame)))) = client.socket.next().await else { panic!("{code}") };
        assert_eq!(u16::from(frame.code), code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_draining_gateway_answers_open_requests_and_reads_no_more_frames() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    backend.answers_at_once.store(false, Ordering::Relaxed);
    client.chat("m1", "private_alice_bob").await;
    client.send(r#"{"cmd":3,"msg_id":"m2","conversation_id":"private_alice_bob"}"#).await;
    settle().await;
    outboxes(&backend).remove(0).close(Close::GoingAway { retry_after_ms: 7 });
    settle().await;
    client.chat("m3", "private_alice_bob").await;
    assert!(client.text().now_or_never().is_none(), "two replies are owed");
    assert!(backend.answer_one());
    assert_eq!(client.text().await, "m1");
    assert_eq!(backend.hub.connections(), 1);
    assert!(backend.answer_one());
    let (texts, (code, reason, _)) = client.until_closed().await;
    assert_eq!(texts, ["pull m2"]);
    assert_eq!((code, reason.as_str()), (1012, "retry_after_ms=7"));
    assert_eq!(*backend.submitted.lock(), ["m1"], "the last frame stayed in the socket");
}

#[tokio::test(start_paused = true)]
async fn ready_replies_are_written_before_the_close_frame() {
    let backend = backend(config());
    let client = Client::logged_in(&backend).await;
    let outbox = outboxes(&backend).remove(0);
    outbox.reserve().send(Utf8Bytes::from_static("a reply"));
    outbox.push(Utf8Bytes::from_static("a push"), &Conversation::from_key("group_1").unwrap());
    outbox.close(Close::TokenRevoked);
    let (texts, (code, ..)) = client.until_closed().await;
    assert_eq!((texts[0].as_str(), code), ("a reply", 4402));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_expires_during_the_login_is_answered_and_then_closed_with_4402() {
    let backend = backend(config());
    backend.logins.forget_permits(1_000);
    let mut client = Client::anonymous(&backend).await;
    client.send(r#"{"cmd":1,"payload":{"token":"alice:500"}}"#).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(client.text().now_or_never().is_none(), "neither warned nor closed before the login is answered");
    backend.logins.add_permits(1);
    let (texts, (code, ..)) = client.until_closed().await;
    assert_eq!((texts.len(), code), (1, 4402));
    assert!(texts[0].contains(r#""cmd":1,"code":0"#), "{texts:?}");
    assert!(texts[0].contains(&(START_UNIX_MS + 2_000).to_string()[..10]), "{texts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_causes_one_warning_and_a_renewed_token_keeps_the_connection() {
    let backend = backend(config());
    let mut client = Client::open(&backend, ROOMY, verified(&backend, "alice:61000")).await;
    let warning = client.json().await;
    assert_eq!(warning["payload"]["type"], "token_expiring");
    assert_eq!(warning["payload"]["expires_at"], START_UNIX_MS + 61_000);
    assert!(about(client.opened.elapsed(), 1_000));
    client.send(r#"{"cmd":1,"payload":{"token":"bob"}}"#).await;
    assert_eq!(client.json().await["code"], 403);
    client.send(r#"{"cmd":1,"payload":{"token":"bad"}}"#).await;
    assert_eq!(client.json().await["code"], 401);
    // Nearer to its end than the warning: the client is warned at once.
    client.send(r#"{"cmd":1,"payload":{"token":"alice:30000"}}"#).await;
    assert_eq!(client.json().await["code"], 0);
    assert_eq!(client.json().await["payload"]["type"], "token_expiring");
    let (texts, (code, _, after)) = client.until_closed().await;
    assert!(texts.is_empty() && code == 4402 && about(after, 31_000), "{texts:?} {code} {after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_revoked_during_the_login_closes_with_4402() {
    let backend = backend(config());
    backend.revoked.lock().insert(backend.check_token("alice").unwrap().user);
    let mut client = Client::anonymous(&backend).await;
    client.send(LOGIN).await;
    let (texts, (code, ..)) = client.until_closed().await;
    assert_eq!((texts.len(), code, backend.hub.connections()), (0, 4402, 0));
}

#[tokio::test(start_paused = true)]
async fn a_newer_connection_of_the_same_device_replaces_the_older_one() {
    let backend = backend(config());
    let older = Client::logged_in(&backend).await;
    let mut newer = Client::logged_in(&backend).await;
    assert_eq!(older.closed_with().await.0, 4409);
    assert_eq!(backend.hub.connections(), 1);
    newer.chat("m1", "private_alice_bob").await;
    assert_eq!(newer.text().await, "m1");
    outboxes(&backend).remove(0).notify(Utf8Bytes::from_static("an event"));
    assert_eq!(newer.text().await, "an event");
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_replaced_while_its_memberships_are_loaded() {
    let backend = backend(config());
    backend.logins.forget_permits(1_000);
    let mut older = Client::anonymous(&backend).await;
    older.send(LOGIN).await;
    settle().await;
    let mut newer = Client::anonymous(&backend).await;
    newer.send(LOGIN).await;
    let (texts, (code, ..)) = older.until_closed().await;
    assert_eq!((texts.len(), code), (0, 4409));
    backend.logins.add_permits(1);
    assert_eq!(newer.json().await["code"], 0);
    assert_eq!(backend.hub.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_further_connection_of_a_user_closes_the_one_that_was_silent_longest() {
    let backend = backend(config());
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::open(&backend, ROOMY, verified(&backend, "alice")).await);
        settle().await;
    }
    assert_eq!(clients.remove(0).closed_with().await.0, 4429);
    assert_eq!(backend.hub.connections(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_while_the_database_is_away_is_refused_with_a_retry_delay() {
    let backend = backend(config());
    backend.database_is_away.store(true, Ordering::Relaxed);
    let mut by_frame = Client::anonymous(&backend).await;
    by_frame.send(LOGIN).await;
    let (texts, (code, reason, _)) = by_frame.until_closed().await;
    assert!(texts.len() == 1 && texts[0].contains(r#""cmd":1,"code":503"#), "{texts:?}");
    assert!(code == 1012 && reason.starts_with("retry_after_ms="), "{reason}");
    let by_upgrade = Client::open(&backend, ROOMY, verified(&backend, "alice")).await;
    let (texts, (code, ..)) = by_upgrade.until_closed().await;
    assert_eq!((texts.len(), code, backend.hub.connections()), (0, 1012, 0));
}

#[tokio::test(start_paused = true)]
async fn no_further_frame_is_handled_while_a_membership_is_looked_up() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    let gate = backend.look_up("group_unknown");
    client.chat("m1", "private_alice_bob").await;
    client.chat("m2", "group_unknown").await;
    client.chat("m3", "private_alice_bob").await;
    assert_eq!(client.text().await, "m1");
    settle().await;
    assert_eq!(*backend.submitted.lock(), ["m1", "m2"]);
    // Pushes are written meanwhile.
    outboxes(&backend).remove(0).notify(Utf8Bytes::from_static("an event"));
    assert_eq!(client.text().await, "an event");
    gate.add_permits(1);
    assert_eq!((client.text().await, client.text().await), ("m2".to_owned(), "m3".to_owned()));
    assert_eq!(*backend.submitted.lock(), ["m1", "m2", "m3"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_lookup_does_not_count_as_silence_of_the_client() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    let gate = backend.look_up("group_unknown");
    client.chat("m1", "group_unknown").await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    client.chat("m2", "private_alice_bob").await;
    gate.add_permits(1);
    assert_eq!((client.text().await, client.text().await), ("m1".to_owned(), "m2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_client_with_too_many_open_requests_is_not_read_until_it_takes_replies() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    backend.answers_at_once.store(false, Ordering::Relaxed);
    for n in 0..6 {
        client.chat(&format!("m{n}"), "private_alice_bob").await;
    }
    settle().await;
    assert_eq!(backend.submitted.lock().len(), 4);
    assert!(backend.answer_one());
    assert_eq!(client.text().await, "m0");
    settle().await;
    assert_eq!(backend.submitted.lock().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_is_deregistered_at_once() {
    let backend = backend(config());
    let mut client = Client::logged_in(&backend).await;
    client.socket.close(None).await.unwrap();
    while let Some(Ok(_)) = client.socket.next().await {}
    client.server.await.unwrap();
    assert_eq!(backend.hub.connections(), 0);
    let client = Client::logged_in(&backend).await;
    drop(client.socket);
    client.server.await.unwrap();
    assert_eq!(backend.hub.connections(), 0);
}

#[test]
fn an_idle_connection_is_small() {
    let backend = || Arc::new(FakeBackend::new(ConnectionSettings::of(&Config::default())));
    let size = |connection: Connection<DuplexStream, FakeBackend>| size_of_val(&connection.run(None));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let size = runtime.block_on(async {
        let (_, theirs) = duplex(1);
        let socket = WebSocketStream::from_raw_socket(Counted::new(theirs), Role::Server, None).await;
        size(Connection::new(backend(), socket))
    });
    assert!(size < 2_048, "the task of one connection takes {size} bytes");
}
