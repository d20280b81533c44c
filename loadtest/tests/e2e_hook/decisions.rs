//! What becomes of a message by the decision about it, and what a retry gets.

use serde_json::{Value, json};
use testbed::certificates::Authority;
use testbed::client::Packet;
use testbed::meter::metric;

use crate::server::{Endpoint, Reply, allow, at_once, refuse};
use crate::{CHAT, TIMEOUT, asking, connect, send, text};

const SENTENCE: &str = "No insults here.";

/// Refuses insults, and replaces what is half of one.
fn moderate(data: &Value) -> Reply {
    let content = data["message"]["content"].as_str().unwrap();
    at_once(if content.contains("insult") {
        refuse(SENTENCE)
    } else if content.contains("darn") {
        let meta = json!({"moderated": true});
        json!({"action": "replace", "content": content.replace("darn", "****"), "meta": meta})
    } else {
        allow()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_edits_are_allowed_refused_or_replaced_over_tls() {
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new("the app's own").unwrap());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let endpoint = Endpoint::start_tls(&authority).await;
    endpoint.set(moderate);
    let system = asking(&endpoint, "refuse").set("IM__HOOK__TLS_CA", ca.display()).for_test().await.unwrap();
    let (mut alice, mut bob) = (connect(&system, 0, "alice").await, connect(&system, 1, "bob").await);

    let allowed = send(&mut alice, CHAT, "m1", &text("hello")).await;
    assert_eq!((allowed.code, allowed.seq, allowed.payload), (0, Some(1), Value::Null));
    let refused = send(&mut alice, CHAT, "m2", &text("an insult")).await;
    assert_eq!((refused.code, refused.payload), (403, json!(SENTENCE)));
    let replaced = send(&mut alice, CHAT, "m3", &text("darn!")).await;
    let now = json!({"replaced": true, "content": "****!", "meta": {"moderated": true}});
    assert_eq!((replaced.code, replaced.seq, &replaced.payload), (0, Some(2), &now));
    let fast = send(&mut alice, CHAT, "m4", &json!({"content": "darn"})).await;
    assert_eq!((fast.code, fast.payload["content"].as_str()), (0, Some("****")), "answered by the queue");
    let image = send(&mut alice, CHAT, "i1", &json!({"msg_type": 2, "content": "http://a/darn.png"})).await;
    assert_eq!(image.payload["content"], "http://a/****.png");

    // Edits pass it, too.
    let edit = |content: &str| json!({"msg_type": 4, "edit_seq": 1, "content": content, "ack": "stored"});
    let refused = send(&mut alice, CHAT, "e1", &edit("an insult")).await;
    assert_eq!((refused.code, refused.payload), (403, json!(SENTENCE)));
    let replaced = send(&mut alice, CHAT, "e2", &edit("oh darn")).await;
    assert_eq!((replaced.code, replaced.payload["content"].as_str()), (0, Some("oh ****")));

    // Over HTTP by the same rules.
    let http = system.http(0, "alice");
    let path = format!("/api/conversations/{CHAT}/messages");
    let body = |msg_id: &str, content: &str| json!({"msg_id": msg_id, "payload": {"content": content}});
    let (code, answer) = http.call("POST", &path, Some(&body("h1", "an insult"))).await.unwrap();
    assert_eq!((code, answer), (403, json!({"code": 403, "message": SENTENCE})));
    let answer = http.ok("POST", &path, Some(body("h2", "darn it"))).await.unwrap();
    assert_eq!(answer["payload"]["content"], "**** it", "{answer}");

    // Recalls, reactions and pins are not asked about.
    let asked = endpoint.seen().len();
    for (msg_id, payload) in [
        ("r1", json!({"msg_type": 5, "react_seq": 1, "reaction": "insult"})),
        ("p1", json!({"msg_type": 6, "pin_seq": 1})),
        ("c1", json!({"msg_type": 3, "recall_seq": replaced.seq.unwrap() - 1})),
    ] {
        assert_eq!(send(&mut alice, CHAT, msg_id, &payload).await.code, 0, "{msg_id}");
    }
    assert_eq!(endpoint.seen().len(), asked);

    // Everybody has the same.
    send(&mut alice, CHAT, "last", &text("bye")).await;
    let is_last = |packet: &Packet| packet.cmd == 5 && packet.payload.to_string().contains("bye");
    let mut pushed = Vec::new();
    while !pushed.last().is_some_and(is_last) {
        let push = bob.wait_for(|packet| packet.cmd == 5);
        pushed.push(tokio::time::timeout(TIMEOUT, push).await.unwrap().unwrap());
    }
    let pushes = pushed.iter().map(|push| push.payload.to_string()).collect::<String>();
    let pulled: Vec<_> = bob.pull_all(CHAT, 0).await.unwrap().into_iter().map(|one| one.content).collect();
    assert_eq!(pulled[..3], ["oh ****", "****!", "****"]);
    for content in ["hello", "****!", "oh ****", "**** it"] {
        assert!(pushes.contains(content), "{content}: {pushes}");
    }
    assert!(!pushes.contains("insult\",\"msg_type\":1") && !pushes.contains("darn"), "{pushes}");

    let seen = endpoint.seen();
    let first = &seen[0];
    assert_eq!((&first["conversation_id"], &first["peer"]), (&json!(CHAT), &json!("bob")));
    assert_eq!(
        (&first["message"]["sender_id"], &first["message"]["msg_id"]),
        (&json!("alice"), &json!("m1"))
    );
    assert!(first["message"]["seq"].is_null(), "no number is taken yet");
    let ops = &system.ops_urls()[0];
    for (outcome, count) in [("allowed", 2.0), ("refused", 3.0), ("replaced", 5.0)] {
        let name = format!("im_gateway_hook_calls_total{{outcome=\"{outcome}\"}}");
        assert_eq!(metric(ops, &name).await.unwrap(), count, "{outcome}");
    }
    assert!(metric(ops, "im_gateway_hook_seconds_count").await.is_ok_and(|count| count == 10.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_has_the_outcome_of_the_first_attempt() {
    let endpoint = Endpoint::start().await;
    endpoint.set(moderate);
    let system = asking(&endpoint, "refuse").for_test().await.unwrap();
    let (mut alice, mut again) = (connect(&system, 0, "alice").await, connect(&system, 1, "alice").await);
    let edit = |seq: u64| json!({"msg_type": 4, "edit_seq": seq, "content": "darn again", "ack": "stored"});
    let plain = send(&mut alice, CHAT, "m1", &text("hello")).await.seq;
    let replaced = send(&mut alice, CHAT, "m2", &text("darn")).await;
    let edited = send(&mut alice, CHAT, "e1", &edit(plain.unwrap())).await;
    assert_eq!((replaced.code, edited.code), (0, 0));

    // The same decision: the same answer.
    let retry = send(&mut again, CHAT, "m2", &text("darn")).await;
    assert_eq!((retry.code, retry.seq, &retry.payload), (0, replaced.seq, &replaced.payload));
    let retry = send(&mut again, CHAT, "e1", &edit(plain.unwrap())).await;
    assert_eq!((retry.code, retry.seq), (0, edited.seq), "{}", retry.payload);

    // Another decision: what is stored stays.
    endpoint.set(|_| at_once(json!({"action": "replace", "content": "something else"})));
    for (msg_id, content, seq) in [("m1", "hello", plain), ("m2", "darn", replaced.seq)] {
        let retry = send(&mut again, CHAT, msg_id, &text(content)).await;
        assert_eq!((retry.code, retry.seq), (0, seq), "{}", retry.payload);
        assert_eq!(retry.payload["content_differs"], true);
    }
    endpoint.set(|_| at_once(refuse(SENTENCE)));
    for client in [&mut alice, &mut again] {
        for (msg_id, content, seq) in [("m1", "hello", plain), ("m2", "darn", replaced.seq)] {
            let retry = send(client, CHAT, msg_id, &text(content)).await;
            assert_eq!((retry.code, retry.seq), (0, seq), "{}", retry.payload);
        }
        let retry = send(client, CHAT, "e1", &edit(plain.unwrap())).await;
        assert_eq!((retry.code, retry.seq), (0, edited.seq), "{}", retry.payload);
        assert_eq!(send(client, CHAT, "new", &text("hello")).await.code, 403);
    }
    // Not decided about: what is stored is answered all the same, and what is not is tried again.
    endpoint.set(|_| Reply::Raw("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n".to_owned()));
    let retry = send(&mut again, CHAT, "m1", &text("hello")).await;
    assert_eq!((retry.code, retry.seq), (0, plain), "{}", retry.payload);
    let unsent = send(&mut again, CHAT, "new", &text("hello")).await;
    assert!(unsent.code == 503 && unsent.retry_after_ms().is_some(), "{}", unsent.payload);
    let contents: Vec<_> =
        alice.pull_all(CHAT, 0).await.unwrap().into_iter().map(|one| one.content).collect();
    assert_eq!(contents, ["**** again", "****", "**** again"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_conversations_and_kinds_of_the_configuration_are_asked_about() {
    let endpoint = Endpoint::start().await;
    endpoint.set(|_| at_once(refuse(SENTENCE)));
    let system = asking(&endpoint, "refuse")
        .set("IM__HOOK__CONVERSATIONS", "group_public_")
        .set("IM__HOOK__MESSAGES", "text, reaction")
        .for_test()
        .await
        .unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    let image = json!({"msg_type": 2, "content": "http://a/b.png", "ack": "stored"});
    let reaction = json!({"msg_type": 5, "react_seq": 1, "reaction": "x"});
    let cases = [
        (CHAT, text("x"), 0),
        ("group_secret", text("x"), 0),
        ("group_public_1", image, 0),
        ("group_public_1", text("x"), 403),
        ("group_public_1", reaction, 403),
    ];
    for (n, (conversation, payload, code)) in cases.into_iter().enumerate() {
        let answer = send(&mut alice, conversation, &format!("m{n}"), &payload).await;
        assert_eq!(answer.code, code, "{conversation} {payload}: {}", answer.payload);
    }
    assert_eq!(endpoint.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_shown_to_the_endpoint_with_what_the_server_knows_of_them() {
    let (folder, endpoint) = (tempfile::tempdir().unwrap(), Endpoint::start().await);
    endpoint.set(moderate);
    let system = asking(&endpoint, "refuse")
        .set("IM__FILES__STORE", "folder")
        .set("IM__FILES__FOLDER", folder.path().display())
        .set("IM__FILES__LINKS_KEY", "x".repeat(48))
        .for_test()
        .await
        .unwrap();
    let mut alice = connect(&system, 0, "alice").await;
    // A private chat is there when its first message is.
    assert_eq!(send(&mut alice, CHAT, "m1", &text("hello")).await.code, 0);
    let (http, bytes) = (system.http(0, "alice"), b"a text".to_vec());
    let begin =
        json!({"conversation_id": CHAT, "name": "a.txt", "size": bytes.len(), "content_type": "text/plain"});
    let upload = http.ok("POST", "/api/uploads", Some(begin)).await.unwrap();
    let url = format!("{}{}", system.http_urls()[0], upload["url"].as_str().unwrap());
    assert!(reqwest::Client::new().put(url).body(bytes).send().await.unwrap().status().is_success());
    let id = upload["file_id"].as_str().unwrap();
    let complete = format!("/api/uploads/{id}/complete");
    http.ok("POST", &complete, Some(json!({}))).await.unwrap();

    let payload =
        json!({"msg_type": 7, "content": "darn file", "attachments": [{"file_id": id}], "ack": "stored"});
    let sent = send(&mut alice, CHAT, "f1", &payload).await;
    assert_eq!((sent.code, sent.payload["content"].as_str()), (0, Some("**** file")), "{}", sent.payload);
    let shown = &endpoint.seen().pop().unwrap()["message"]["attachments"][0];
    assert_eq!(
        (&shown["name"], &shown["size"], &shown["content_type"]),
        (&json!("a.txt"), &json!(6), &json!("text/plain"))
    );
    let retry = send(&mut alice, CHAT, "f1", &payload).await;
    assert_eq!((retry.code, retry.seq), (0, sent.seq), "{}", retry.payload);
}
