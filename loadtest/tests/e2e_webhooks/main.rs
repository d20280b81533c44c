//! Webhooks with real gateways, workers and endpoints: order, repetitions, endpoints that fail, gateways that are killed or
//! frozen, and what an operator does.

#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod catch_up;
mod delivery;
mod document;
mod gateways;
mod operator;

use std::time::Duration;

use serde_json::{Value, json};
use testbed::client::{Client, FeedEvent, Http, WebhookReceiver};
use testbed::stack::{Builder, System, wait_for};

const TIMEOUT: Duration = Duration::from_secs(60);
const PATH: &str = "/api/admin/webhooks";

fn builder() -> Builder {
    Builder::new().workers(1).unlimited().webhooks()
}

fn operator(system: &System, gateway: usize) -> Http {
    Http::of_operator(&system.http_urls()[gateway], system.operator_key())
}

/// Adds a webhook with an address and other settings. Returns its id; the receiver knows its secret.
async fn add(http: &Http, receiver: &WebhookReceiver, settings: Value) -> String {
    let mut body = json!({"name": "a test", "url": receiver.url()});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let added = http.ok("POST", PATH, Some(body)).await.unwrap();
    receiver.set_secrets(&[added["secret"].as_str().unwrap()]);
    added["id"].as_str().unwrap().to_owned()
}

async fn show(http: &Http, id: &str) -> Value {
    http.ok("GET", &format!("{PATH}/{id}"), None).await.unwrap()
}

async fn act(http: &Http, id: &str, action: &str, body: Value) -> Value {
    http.ok("POST", &format!("{PATH}/{id}/{action}"), Some(body)).await.unwrap()
}

/// Sends messages with the ids `name0`, `name1` … to a conversation, and waits until they are stored.
async fn say(client: &mut Client, conversation: &str, name: &str, count: usize) {
    for n in 0..count {
        client.say(conversation, &format!("{name}{n}"), "hello").await.unwrap();
    }
}

/// The ids of the messages of a conversation that a receiver has recorded, in the order of their first deliveries.
fn recorded(receiver: &WebhookReceiver, conversation: &str) -> Vec<String> {
    let (shards, complaints) = receiver.firsts();
    assert_eq!(complaints, [""; 0]);
    let of_it = |event: &FeedEvent| match event {
        FeedEvent::Message(place, message) if place == conversation => Some(message.msg_id.clone()),
        _ => None,
    };
    shards.iter().flatten().filter_map(of_it).collect()
}

/// Waits until the receiver has these messages of a conversation, in this order.
async fn receives(receiver: &WebhookReceiver, conversation: &str, expected: &[String]) {
    wait_for("the messages", TIMEOUT, async || {
        let found = recorded(receiver, conversation);
        anyhow::ensure!(found == expected, "{} of {}: {found:?}", found.len(), expected.len());
        Ok(())
    })
    .await
    .unwrap();
}

fn ids(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{name}{n}")).collect()
}

/// Waits until `condition` holds for what the operator sees of the webhook.
async fn state_is(http: &Http, id: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
    let mut found = Value::Null;
    wait_for(what, TIMEOUT, async || {
        found = show(http, id).await;
        anyhow::ensure!(condition(&found), "{found}");
        Ok(())
    })
    .await
    .unwrap();
    found
}

/// A value of the shards of a webhook, by the shard that has one.
fn any_shard<'v>(webhook: &'v Value, field: &str) -> Option<&'v Value> {
    let shards = webhook["shards"].as_array()?;
    shards.iter().map(|shard| &shard[field]).find(|value| !value.is_null())
}
