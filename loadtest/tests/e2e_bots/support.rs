//! A bot that reads, and users who talk to it.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::client::Http;
use testbed::stack::{Builder, System};

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn system() -> System {
    Builder::new().gateways(2).workers(2).unlimited().feed().for_test().await.unwrap()
}

pub(crate) fn messages(conversation: &str) -> String {
    format!("/api/conversations/{conversation}/messages")
}

/// Sends a text, and waits until it is stored.
pub(crate) async fn say(http: &Http, conversation: &str, msg_id: &str, content: &str) -> u64 {
    let body = json!({"msg_id": msg_id, "payload": {"content": content, "ack": "stored"}});
    http.ok("POST", &messages(conversation), Some(body)).await.unwrap()["seq"].as_u64().unwrap()
}

pub(crate) async fn make_group(http: &Http, group: &str, members: &[&str], history: &str) {
    let body = json!({"conversation_id": group, "members": members, "history": history});
    http.ok("POST", "/api/groups", Some(body)).await.unwrap();
}

/// A bot that remembers its cursor.
pub(crate) struct Bot {
    pub(crate) http: Http,
    pub(crate) cursor: String,
}

impl Bot {
    /// Begins at `cursor`: `oldest` or `latest`.
    pub(crate) async fn begin(http: Http, cursor: &str) -> Self {
        let mut bot = Self { http, cursor: cursor.to_owned() };
        if cursor == "latest" {
            assert_eq!(bot.page("").await, [Value::Null; 0]);
        }
        bot
    }

    pub(crate) fn path(&self, parameters: &str) -> String {
        format!("/api/feed?cursor={}{parameters}", self.cursor)
    }

    /// The next page; remembers its end.
    pub(crate) async fn page(&mut self, parameters: &str) -> Vec<Value> {
        self.page_and_more(parameters).await.0
    }

    async fn page_and_more(&mut self, parameters: &str) -> (Vec<Value>, bool) {
        let page = self.http.ok("GET", &self.path(parameters), None).await.unwrap();
        page["next_cursor"].as_str().unwrap().clone_into(&mut self.cursor);
        (page["events"].as_array().unwrap().clone(), page["has_more"] == true)
    }

    /// All events that there are, by pages of `limit`.
    pub(crate) async fn rest(&mut self, limit: usize) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let (events, has_more) = self.page_and_more(&format!("&limit={limit}")).await;
            assert!(events.len() <= limit, "{events:?}");
            all.extend(events);
            if !has_more {
                return all;
            }
        }
    }
}

/// The contents of the messages of `conversation`, in their order.
pub(crate) fn contents<'e>(events: &'e [Value], conversation: &str) -> Vec<&'e str> {
    let of =
        events.iter().filter(|event| event["type"] == "message" && event["conversation_id"] == conversation);
    of.map(|event| event["message"]["content"].as_str().unwrap()).collect()
}

/// The changes of `group`, in their order.
pub(crate) fn changes<'e>(events: &'e [Value], group: &str) -> Vec<&'e str> {
    let of = events.iter().filter(|event| event["type"] == "group" && event["conversation_id"] == group);
    of.map(|event| event["change"].as_str().unwrap()).collect()
}
