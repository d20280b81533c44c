//! The hook before sending, with real gateways and workers: an endpoint of an app that allows, refuses, replaces, is slow,
//! answers wrongly, hangs or is dead.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod decisions;
mod document;
mod faults;
mod order;
mod server;

use std::time::Duration;

use serde_json::{Value, json};
use server::{Endpoint, SECRET};
use testbed::client::{Client, Packet};
use testbed::stack::{Builder, System};

const TIMEOUT: Duration = Duration::from_secs(30);
const CHAT: &str = "private_alice_bob";

/// A system whose gateways ask the endpoint.
fn asking(endpoint: &Endpoint, on_failure: &str) -> Builder {
    Builder::new()
        .unlimited()
        .workers(1)
        .set("IM__HOOK__URL", endpoint.url())
        .set("IM__HOOK__SECRET", SECRET)
        .set("IM__HOOK__ON_FAILURE", on_failure)
}

async fn connect(system: &System, gateway: usize, user: &str) -> Client {
    let mut client = Client::connect(&system.ws_urls()[gateway], user).await.unwrap();
    client.request(0, r#"{"cmd":0}"#).await.unwrap();
    client
}

fn frame(conversation: &str, msg_id: &str, payload: &Value) -> String {
    json!({"cmd": 2, "msg_id": msg_id, "conversation_id": conversation, "payload": payload}).to_string()
}

async fn answer_to(client: &mut Client, msg_id: &str) -> Packet {
    let is_it = |packet: &Packet| packet.cmd == 2 && packet.msg_id.as_deref() == Some(msg_id);
    tokio::time::timeout(TIMEOUT, client.wait_for(is_it)).await.unwrap().unwrap()
}

/// Sends `payload` under `msg_id`, and returns the first answer.
async fn send(client: &mut Client, conversation: &str, msg_id: &str, payload: &Value) -> Packet {
    client.send(frame(conversation, msg_id, payload)).await.unwrap();
    answer_to(client, msg_id).await
}

fn text(content: &str) -> Value {
    json!({"content": content, "ack": "stored"})
}
