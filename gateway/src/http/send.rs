//! `POST /api/conversations/{id}/messages`: sends a message as cmd 2 does.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::ids::DeviceId;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use warp::http::StatusCode;

use super::answer::{Answer, json_text, retryable_error};
use super::call::Call;
use super::conversation_id::conversation;
use crate::identity::Identity;
use crate::outbox::{Outbox, OutboxLimits};
use crate::wire::api_error::ApiError;
use crate::wire::chat::ChatRequest;

/// The device that is named as the sender's.
const DEVICE: &str = "http";

#[derive(Deserialize)]
struct Body {
    msg_id: Option<String>,
    payload: Option<Box<RawValue>>,
}

/// The part of a reply that an error response repeats.
#[derive(Deserialize)]
struct Outcome {
    code: u16,
    payload: Option<Why>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Why {
    Message(String),
    Retry {
        message: String,
        retry_after_ms: u64,
    },
    /// Of a reply with code 0.
    Other(serde::de::IgnoredAny),
}

pub(super) async fn send(id: &str, call: Call) -> Answer {
    let conversation = conversation(id, &call)?;
    let body: Body = call.json().await?;
    let payload = body.payload.as_deref().map_or("{}", RawValue::get);
    let chat = ChatRequest::from_json(body.msg_id.map(Into::into), payload)?;
    let device = DeviceId::parse(DEVICE).map_err(ApiError::malformed)?;
    let connections = &call.deps.connections;
    // An origin of its own: all connections of the sender get the push.
    let by =
        Arc::new(Identity { user: call.user()?.clone(), device, origin: connections.new_connection_id() });
    // The reply has ids and numbers only.
    let outbox = Outbox::new(OutboxLimits { replies: 1, reply_bytes: 4_096, push_bytes: 0 });
    if let Some(lookup) = connections.sends.submit(&by, conversation, chat, outbox.reserve()) {
        lookup.await;
    }
    let reply = reply(&outbox).await;
    let outcome: Outcome = serde_json::from_str(&reply).map_err(|_| ApiError::Internal)?;
    if outcome.code == 0 {
        return Ok(json_text(reply));
    }
    let status = StatusCode::from_u16(outcome.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (message, retry_after_ms) = match outcome.payload {
        Some(Why::Message(message)) => (message, None),
        Some(Why::Retry { message, retry_after_ms }) => (message, Some(retry_after_ms)),
        Some(Why::Other(_)) | None => (String::new(), None),
    };
    Ok(retryable_error(status, &message, retry_after_ms))
}

/// The one reply of `outbox`. It comes by the deadline of the message.
async fn reply(outbox: &Arc<Outbox>) -> Utf8Bytes {
    poll_fn(|cx| {
        outbox.watch(cx);
        outbox.pop_reply().map_or(Poll::Pending, Poll::Ready)
    })
    .await
}
