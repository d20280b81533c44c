//! What clients rely on, played against real processes on real stores.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Deserialize;
use serde_json::{Value, json};
use spec::{Strictness, api};
use testbed::client::{Chat, Client, Ended, Http, Packet};
use testbed::meter::metric;
use testbed::stack::{Builder, DEMO_SECRET, System, wait_for};
use tokio_tungstenite::tungstenite::Message;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    #[serde(rename = "as")]
    who: String,
    send: Option<Value>,
    expect: Option<Value>,
    #[serde(default)]
    without: Vec<String>,
}

fn holds(expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        (Value::String(pattern), got) if pattern == "*" => !got.is_null(),
        (Value::String(pattern), Value::String(text)) if pattern.ends_with('*') => {
            text.starts_with(pattern.trim_end_matches('*'))
        }
        (Value::Object(expected), Value::Object(got)) => {
            expected.iter().all(|(key, value)| holds(value, got.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(expected), Value::Array(got)) => {
            expected.len() == got.len()
                && expected.iter().zip(got).all(|(expected, got)| holds(expected, got))
        }
        (expected, got) => expected == got,
    }
}

/// What is answered with code 0 was a request as docs/api describes it; what is malformed was none. Answers are checked by the
/// client.
fn check_request(before: &[Step], step: &Step, expect: &Value) {
    let last = before.iter().rev().find(|earlier| earlier.who == step.who && earlier.send.is_some());
    let Some(sent) = last.and_then(|earlier| earlier.send.as_ref()).filter(|sent| sent.is_object()) else {
        return;
    };
    if sent["cmd"] != expect["cmd"] && expect["cmd"] != -1 {
        return;
    }
    let conforms = api().check_client_frame(sent, Strictness::Closed);
    match expect["code"].as_u64() {
        Some(0) => assert_eq!(conforms, Ok(()), "{sent}"),
        Some(400) => assert!(conforms.is_err(), "{sent} is malformed, and conforms to docs/api"),
        _ => {}
    }
}

async fn play(file: &str, system: &System) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden").join(file);
    let steps: Vec<Step> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let gateways = system.ws_urls();
    let mut clients: HashMap<String, Client> = HashMap::new();
    for step in &steps {
        if !clients.contains_key(&step.who) {
            let gateway = &gateways[clients.len() % gateways.len()];
            let mut client = Client::connect(gateway, &step.who).await.unwrap();
            // Its pushes are on once this is answered.
            client.request(0, r#"{"cmd":0}"#).await.unwrap();
            clients.insert(step.who.clone(), client);
        }
    }
    let mut aside: HashMap<String, Vec<Value>> = HashMap::new();
    for (number, step) in steps.iter().enumerate() {
        let client = clients.get_mut(&step.who).unwrap();
        if let Some(send) = &step.send {
            let text = send.as_str().map_or_else(|| send.to_string(), str::to_owned);
            client.send(text).await.unwrap();
        }
        if let Some(expect) = &step.expect {
            check_request(&steps[..number], step, expect);
            // Replies, pushes and events overtake each other; those of one kind do not.
            let aside = aside.entry(step.who.clone()).or_default();
            let got = loop {
                if let Some(place) = aside.iter().position(|frame| frame["cmd"] == expect["cmd"]) {
                    break aside.remove(place);
                }
                let text = client.next_text().await;
                let text =
                    text.unwrap_or_else(|error| panic!("{file} step {number}: {error:#}, not {expect}"));
                let frame: Value = serde_json::from_str(&text).unwrap();
                // May come at any time, and changes nothing for one who has missed nothing.
                if frame["payload"]["type"] != "resync" {
                    aside.push(frame);
                }
            };
            assert!(holds(expect, &got), "{file} step {number}: expected {expect}, got {got}");
            let extra: Vec<_> = step.without.iter().filter(|field| got.get(field).is_some()).collect();
            assert!(extra.is_empty(), "{file} step {number}: {extra:?} in {got}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_frames() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    play("chat.json", &system).await;
    play("bad_input.json", &system).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_retries_over_two_gateways_are_one_message() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    let gateways = system.ws_urls();
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(Client::connect(&gateways[n % 2], "alice").await.unwrap());
    }
    let retries = clients
        .into_iter()
        .map(|mut client| async move { client.say("group_1", "the-one", "hello").await.unwrap() });
    let seqs = futures_util::future::join_all(retries).await;
    assert!(seqs.iter().all(|seq| *seq == seqs[0]), "{seqs:?}");
    let mut reader = Client::connect(&gateways[0], "alice").await.unwrap();
    let after = reader.say("group_1", "another", "hello again").await.unwrap();
    wait_until(&mut reader, "group_1", after).await;
    let ids: Vec<_> =
        reader.pull_all("group_1", 0).await.unwrap().into_iter().map(|m| (m.msg_id, m.seq)).collect();
    assert_eq!(ids, [("the-one".to_owned(), seqs[0]), ("another".to_owned(), after)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_id_gets_its_stored_seq() {
    let mut system = Builder::new().unlimited().for_test().await.unwrap();
    let gateways = system.ws_urls();
    let mut alice = Client::connect(&gateways[0], "alice").await.unwrap();
    let first = alice.say("group_1", "m1", "hello").await.unwrap();
    wait_until(&mut alice, "group_1", first).await;
    let redis = system.redis().unwrap();
    redis.kill();
    redis.lose_data().unwrap();
    redis.start_again().await.unwrap();
    let chat = |id: &str| Chat {
        conversation: "group_1".into(),
        msg_id: id.into(),
        content: "hello".into(),
        stored: true,
    };
    let until_accepted = async |client: &mut Client, id: &str| loop {
        let reply = client.chat(&chat(id)).await.unwrap();
        match reply.retry_after_ms() {
            Some(wait) => tokio::time::sleep(Duration::from_millis(wait)).await,
            None => return reply.seq.unwrap(),
        }
    };
    assert_eq!(until_accepted(&mut alice, "m1").await, first, "a retry of what Redis has forgotten");
    let next = until_accepted(&mut alice, "m2").await;
    assert!(next > first, "{next}");
    let ids: Vec<_> =
        alice.pull_all("group_1", 0).await.unwrap().into_iter().map(|m| (m.msg_id, m.seq)).collect();
    assert_eq!(ids, [("m1".to_owned(), first), ("m2".to_owned(), next)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_device_gets_pushes_and_positions_but_its_own() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    let gateways = system.ws_urls();
    let connect = async |gateway: usize, user: &str, device: &str| {
        let url = format!("{}?user_id={user}&device_id={device}", gateways[gateway]);
        let mut client = Client::open(&url).await.unwrap();
        client.request(0, r#"{"cmd":0}"#).await.unwrap();
        client
    };
    let mut phone = connect(0, "alice", "phone").await;
    let mut desk = connect(1, "alice", "desk").await;
    let mut bob = connect(1, "bob", "phone").await;
    phone.say("private_alice_bob", "m1", "hello").await.unwrap();
    for client in [&mut desk, &mut bob] {
        let push = client.wait_for(|packet| packet.cmd == 5).await.unwrap();
        assert_eq!(push.messages().unwrap()[0].msg_id, "m1");
    }
    bob.say("private_alice_bob", "m2", "hi").await.unwrap();
    let push = phone.wait_for(|packet| packet.cmd == 5).await.unwrap();
    assert_eq!(push.messages().unwrap()[0].msg_id, "m2", "its own message was not pushed to it");
    let acked =
        phone.request(4, r#"{"cmd":4,"conversation_id":"private_alice_bob","cursor_seq":2}"#).await.unwrap();
    assert_eq!(acked.seq, Some(2));
    let event = desk.wait_for(|packet| packet.event() == Some("ack")).await.unwrap();
    assert_eq!(event.payload, json!({"type": "ack", "seq": 2, "unread": 0}));

    let mut again = connect(0, "alice", "phone").await;
    let Ended(closed) = phone.until_closed().await.unwrap();
    assert_eq!(closed.unwrap().0, 4409);
    bob.say("private_alice_bob", "m3", "still there?").await.unwrap();
    let push = again.wait_for(|packet| packet.cmd == 5).await.unwrap();
    assert_eq!(push.messages().unwrap()[0].msg_id, "m3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_many_pull_shows_all_that_was_stored_before_it_was_asked_for() {
    let system = Builder::new().unlimited().for_test().await.unwrap();
    let gateways = system.ws_urls();
    let chat = "private_alice_bob";
    let bob = |gateway: usize, device: String| {
        let url = format!("{}?user_id=bob&device_id={device}", gateways[gateway]);
        async move { Client::open(&url).await.unwrap() }
    };
    let enough = Arc::new(AtomicBool::new(false));
    let mut crowd = tokio::task::JoinSet::new();
    for n in 0..8 {
        let (mut one, enough) = (bob(n % 2, format!("crowd{n}")).await, Arc::clone(&enough));
        crowd.spawn(async move {
            while !enough.load(Ordering::Relaxed) {
                assert_eq!(one.pull(chat, 0, 500).await.unwrap().code, 0);
            }
        });
    }
    let mut readers = [bob(0, "reader0".to_owned()).await, bob(1, "reader1".to_owned()).await];
    let mut alice = Client::connect(&gateways[0], "alice").await.unwrap();
    for n in 1..=60 {
        // Each third one recalls the one before.
        let payload = match n % 3 {
            0 => json!({"msg_type": 3, "recall_seq": n - 1, "ack": "stored"}),
            _ => json!({"msg_type": 1, "content": "hello", "ack": "stored"}),
        };
        let frame = json!({"cmd": 2, "msg_id": format!("m{n}"), "conversation_id": chat, "payload": payload});
        let stored = alice.request(2, frame.to_string()).await.unwrap();
        assert_eq!((stored.code, stored.seq), (0, Some(n)), "{}", stored.payload);
        for reader in &mut readers {
            let page = reader.pull(chat, 0, 500).await.unwrap().messages().unwrap();
            let seen: Vec<_> = page.iter().map(|message| (message.seq, message.recalled)).collect();
            let stored: Vec<_> = (1..=n).map(|seq| (seq, seq % 3 == 2 && seq < n)).collect();
            assert_eq!(seen, stored);
        }
    }
    // Nothing is added any more: the same page is given again.
    for url in system.ops_urls() {
        wait_for("a page that is given again", Duration::from_secs(20), async || {
            let again = metric(&url, "im_gateway_pages_again_total").await?;
            anyhow::ensure!(again > 0.0, "{again}");
            Ok(())
        })
        .await
        .unwrap();
    }
    enough.store(true, Ordering::Relaxed);
    while let Some(ended) = crowd.join_next().await {
        ended.unwrap();
    }
}

fn token(secret: &str, user: &str) -> String {
    let exp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = json!({"sub": user, "exp": exp});
    encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_time_limits() {
    let builder = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__AUTH__MODE", "jwt")
        .set("IM__TIMEOUTS__LOGIN_MS", 700)
        .set("IM__TIMEOUTS__HEARTBEAT_MS", 400);
    let system = builder.for_test().await.unwrap();
    let url = &system.ws_urls()[0];
    assert!(format!("{:#}", Client::connect(url, "alice").await.unwrap_err()).contains("401"));
    let bad = token("not the secret, but long enough too", "alice");
    assert!(format!("{:#}", Client::open(&format!("{url}?token={bad}")).await.unwrap_err()).contains("401"));

    let good = token(DEMO_SECRET, "alice");
    let mut by_query = Client::open(&format!("{url}?token={good}")).await.unwrap();
    assert_eq!(by_query.request(0, r#"{"cmd":0}"#).await.unwrap().code, 0);
    let mut by_frame = Client::open(url).await.unwrap();
    let login = json!({"cmd": 1, "payload": {"token": good, "device_id": "phone"}}).to_string();
    let reply = by_frame.request(1, login).await.unwrap();
    assert_eq!(
        (reply.code, &reply.payload["user_id"], &reply.payload["device_id"]),
        (0, &json!("alice"), &json!("phone"))
    );
    assert_eq!(reply.payload["heartbeat_ms"], 400);
    let api = Http::of_nobody(&system.http_urls()[0]).ok("GET", "/api", None).await.unwrap();
    assert_eq!((&api["protocol"], &api["limits"]["heartbeat_ms"]), (&json!(1), &json!(400)), "{api}");
    assert_eq!(api["version"], env!("CARGO_PKG_VERSION"));
    for field in ["protocol", "features"] {
        assert_eq!(reply.payload[field], api[field], "{}", reply.payload);
    }

    let closed = async |client: &mut Client| client.until_closed().await.unwrap().0.unwrap().0;
    let mut wrong = Client::open(url).await.unwrap();
    let reply = wrong.request(1, json!({"cmd": 1, "payload": {"token": bad}}).to_string()).await.unwrap();
    assert_eq!(reply.code, 401);
    assert_eq!(closed(&mut wrong).await, 4401);
    let mut hasty = Client::open(url).await.unwrap();
    hasty.send(r#"{"cmd":0}"#).await.unwrap();
    assert_eq!(closed(&mut hasty).await, 4401);
    let mut late = Client::open(url).await.unwrap();
    assert_eq!(closed(&mut late).await, 4401);
    let mut silent = by_query;
    assert_eq!(closed(&mut silent).await, 4408, "three heartbeats were missed");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_break_the_rules_of_websockets() {
    let system = Builder::new().gateways(1).workers(1).for_test().await.unwrap();
    let url = &system.ws_urls()[0];
    let mut binary = Client::connect(url, "alice").await.unwrap();
    binary.send_frame(Message::binary(vec![1, 2, 3])).await.unwrap();
    let reply = binary.next().await.unwrap();
    assert_eq!((reply.cmd, reply.code), (-1, 400));
    let big = "x".repeat(64 * 1024 + 1);
    binary.send(big).await.unwrap();
    assert_eq!(binary.until_closed().await.unwrap().0.unwrap().0, 1009);
    let mut garbage = Client::connect(url, "alice").await.unwrap();
    for _ in 0..=64 {
        garbage.send("garbage").await.unwrap();
    }
    assert_eq!(garbage.until_closed().await.unwrap().0.unwrap().0, 4429);
    let at_limit = format!(
        r#"{{"cmd":2,"msg_id":"m","conversation_id":"group_1","payload":{{"content":"{}"}}}}"#,
        "x".repeat(4097)
    );
    let mut alice = Client::connect(url, "alice").await.unwrap();
    assert_eq!(alice.request(2, at_limit).await.unwrap().code, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_fast_and_unknown_groups() {
    let builder = Builder::new()
        .gateways(1)
        .workers(1)
        .set("IM__GROUPS__AUTO_CREATE", "false")
        .set("IM__LIMITS__USER_MESSAGES_PER_SECOND", 1)
        .set("IM__LIMITS__USER_MESSAGES_BURST", 2);
    let system = builder.for_test().await.unwrap();
    let mut alice = Client::connect(&system.ws_urls()[0], "alice").await.unwrap();
    let unknown = alice.pull("group_unknown", 0, 1).await.unwrap();
    assert_eq!(unknown.code, 404);
    let chat = |id: &str| Chat {
        conversation: "private_alice_bob".into(),
        msg_id: id.into(),
        content: "hello".into(),
        stored: false,
    };
    let mut codes = Vec::new();
    for id in ["a", "b", "c"] {
        codes.push(alice.chat(&chat(id)).await.unwrap());
    }
    assert_eq!(codes.iter().map(|reply| reply.code).collect::<Vec<_>>(), [0, 0, 429]);
    assert!((1..=1_001).contains(&codes[2].retry_after_ms().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_answers_and_sends_its_clients_away() {
    let mut system = Builder::new().set("IM__DRAIN__SPREAD_MS", 300).for_test().await.unwrap();
    let url = system.gateway(0).ws_url();
    let mut clients = Vec::new();
    for n in 0..20 {
        let mut client = Client::connect(&url, &format!("user{n}")).await.unwrap();
        client.request(0, r#"{"cmd":0}"#).await.unwrap();
        clients.push(client);
    }
    let (status, closed) = tokio::join!(
        system.gateway(0).terminate(),
        futures_util::future::join_all(clients.iter_mut().map(|client| client.until_closed()))
    );
    for closed in closed {
        let (code, reason) = closed.unwrap().0.unwrap();
        assert_eq!(code, 1012);
        let retry: u64 = reason.strip_prefix("retry_after_ms=").unwrap().parse().unwrap();
        assert!((1..=10_000).contains(&retry));
    }
    assert!(status.unwrap().success(), "it ended in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_to_pull_and_keeps_its_connection() {
    let system = Builder::new()
        .unlimited()
        .set("IM__LIMITS__PUSH_BYTES_PER_CONNECTION_MAX", 20_000)
        // On a busy machine the messages take longer than a stalled or silent client is allowed.
        .set("IM__TIMEOUTS__STALLED_MS", 600_000)
        .set("IM__TIMEOUTS__HEARTBEAT_MS", 200_000)
        .for_test()
        .await
        .unwrap();
    let gateways = system.ws_urls();
    let mut slow = Client::connect(&gateways[0], "slow").await.unwrap();
    slow.pull("group_1", 0, 1).await.unwrap();
    let mut sender = Client::connect(&gateways[1], "sender").await.unwrap();
    let content = "x".repeat(4_000);
    let mut last = 0;
    // More than the kernel's buffers and the outbox hold together.
    for n in 0..4_000 {
        last = sender.say("group_1", &format!("m{n}"), &content).await.unwrap();
    }
    // One without a conversation may come too: a worker that took a shard over makes everyone pull.
    let about = |packet: &Packet| packet.conversation_id.as_deref() == Some("group_1");
    slow.wait_for(|packet| packet.event() == Some("resync") && about(packet)).await.unwrap();
    wait_until(&mut sender, "group_1", last).await;
    assert_eq!(slow.pull_all("group_1", 0).await.unwrap().len(), 4_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_end_a_process_with_one_line_that_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let run = async |program: &str, environment: &[(&str, &str)]| {
        let program = testbed::stack::program(program).unwrap();
        let output = tokio::process::Command::new(program)
            .current_dir(folder.path())
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .await
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    for (program, environment, key) in [
        ("gateway", &[][..], "auth.hs256_secret"),
        (
            "gateway",
            &[("IM__AUTH__MODE", "insecure"), ("IM__LIMITS__BATCH_MESSAGES_MAX", "0")],
            "limits.batch_messages_max",
        ),
        ("gateway", &[("IM__LISTEN__ADRESS", "x")], "adress"),
        ("worker", &[("IM__COMMIT__HOLE_TIMEOUT_MS", "soon")], "commit.hole_timeout_ms"),
        ("worker", &[("IM__SHARDS__COUNT", "0")], "shards.count"),
    ] {
        let (code, said) = run(program, environment).await;
        assert_eq!(code, 78, "{program}: {said}");
        assert!(said.contains(key) && said.trim().lines().count() == 1, "{program}: {said}");
    }
    // What is missing at the start is waited for, and then named.
    let stores = testbed::stack::Stores::for_test().await.unwrap();
    let (mysql, redis) = (stores.mysql_url.as_str(), stores.redis_url.as_str());
    for program in ["gateway", "worker"] {
        for (missing, key, url) in [
            ("MySQL", "IM__MYSQL__URL", "mysql://root@127.0.0.1:1/im"),
            ("Redis", "IM__REDIS__URL", "redis://127.0.0.1:1"),
            ("RabbitMQ", "IM__AMQP__URL", "amqp://guest:guest@127.0.0.1:1/%2f"),
        ] {
            let mut environment =
                vec![("IM__MYSQL__URL", mysql), ("IM__REDIS__URL", redis), ("IM__START__WAIT_S", "1")];
            environment.retain(|(set, _)| *set != key);
            environment.push((key, url));
            if program == "gateway" {
                environment.push(("IM__AUTH__MODE", "insecure"));
            }
            let (code, said) = run(program, &environment).await;
            assert_eq!(code, 1, "{program}: {said}");
            let named =
                said.contains(missing) && said.contains("127.0.0.1:1") && said.trim().lines().count() == 1;
            assert!(named, "{program}: {said}");
            assert!(!said.contains("guest"), "credentials are not shown: {said}");
        }
    }
}

async fn wait_until(client: &mut Client, conversation: &str, seq: u64) {
    wait_for(conversation, Duration::from_secs(20), async || {
        let last = client.pull_all(conversation, seq - 1).await?.last().map(|message| message.seq);
        anyhow::ensure!(last >= Some(seq), "at {last:?}");
        Ok(())
    })
    .await
    .unwrap();
}
