//! A system with push services, users and devices.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::client::{Client, Http};
use testbed::push::{Delivered, PushDevice, WebPushService};
use testbed::stack::{Builder, System, wait_for};

pub(super) const TIMEOUT: Duration = Duration::from_secs(30);
/// A private key for VAPID.
pub(super) const KEY: &str = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw";
/// Its public key.
pub(super) const PUBLIC_KEY: &str =
    "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8";
/// Another private key.
pub(super) const OTHER_KEY: &str = "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94";
/// The private chat of ann and bob.
pub(super) const CHAT: &str = "private_ann_bob";
/// That of bob and zoe, for messages that come after everything else.
pub(super) const LAST: &str = "private_bob_zoe";

/// Notifications by Web Push, of which each is sent at once.
pub(super) fn builder() -> Builder {
    Builder::new()
        .gateways(2)
        .workers(2)
        .unlimited()
        .feed()
        .set("IM__PUSH__ENABLED", true)
        .set("IM__PUSH__VAPID_KEYS", KEY)
        .set("IM__PUSH__VAPID_SUBJECT", "mailto:push@example.com")
        .set("IM__PUSH__INTERVAL_S", 0)
        .set("IM__PUSH__DELAY_S", 2)
        // One reader: notifications are planned in the order of the messages, whatever their conversations.
        .set("IM__FEED__SHARDS", 1)
        .set("IM__PUSH__TEXT", true)
        .set("IM__OUTGOING__ALLOWED_NETWORKS", "127.0.0.0/8")
}

/// What registers `device`.
pub(super) fn registration(device: &PushDevice) -> Value {
    json!({"endpoint": device.endpoint, "expirationTime": null,
        "keys": {"p256dh": device.p256dh, "auth": device.auth}})
}

/// Registers a new device of `user`. Returns it with the id of the subscription.
pub(super) async fn register(http: &Http, push: &WebPushService) -> (PushDevice, String) {
    let device = push.subscribe(Some(PUBLIC_KEY));
    let answer = http.ok("POST", "/api/push/subscriptions", Some(registration(&device))).await.unwrap();
    (device, answer["id"].as_str().unwrap().to_owned())
}

/// Sends a text as `user`, who disconnects afterwards, and returns its number when it is stored.
pub(super) async fn say(system: &System, user: &str, conversation: &str, msg_id: &str, text: &str) -> u64 {
    let mut client = Client::connect(&system.ws_urls()[1], user).await.unwrap();
    send(&mut client, conversation, msg_id, json!({ "content": text })).await
}

/// Sends any message, and returns its number when it is stored.
pub(super) async fn send(client: &mut Client, conversation: &str, msg_id: &str, mut payload: Value) -> u64 {
    payload["ack"] = "stored".into();
    let frame = json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload});
    client.send(frame.to_string()).await.unwrap();
    let reply = client.wait_for(|packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id)).await;
    let reply = reply.unwrap();
    assert_eq!(reply.code, 0, "{msg_id}: {}", reply.payload);
    reply.seq.unwrap()
}

/// Moves the read position.
pub(super) async fn read(client: &mut Client, conversation: &str, seq: u64) {
    let frame = json!({"cmd": 4, "conversation_id": conversation, "cursor_seq": seq});
    let reply = client.request(4, frame.to_string()).await.unwrap();
    assert_eq!(reply.code, 0, "{}", reply.payload);
}

/// What the device received, once `is_done` with it.
pub(super) async fn received(
    device: &PushDevice,
    what: &str,
    is_done: impl Fn(&[Value]) -> bool,
) -> Vec<Value> {
    let mut all = Vec::new();
    wait_for(what, TIMEOUT, async || {
        all = device.received().iter().map(Delivered::json).collect();
        anyhow::ensure!(is_done(&all), "{all:?}");
        Ok(())
    })
    .await
    .unwrap();
    all
}

/// What the device received before a message of zoe that is sent now.
pub(super) async fn received_until_now(system: &System, device: &PushDevice, msg_id: &str) -> Vec<Value> {
    let seq = say(system, "zoe", LAST, msg_id, "the last one").await;
    let is_last = |one: &Value| one["conversation_id"] == LAST && one["seq"] == seq;
    let mut all = received(device, "the message of zoe", |all| all.iter().any(is_last)).await;
    all.retain(|one| one["conversation_id"] != LAST);
    all
}
