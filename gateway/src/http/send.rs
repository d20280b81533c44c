//! `POST /api/conversations/{id}/messages`: sends a message as cmd 2 does.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::ids::DeviceId;
use warp::http::StatusCode;

use super::answer::{Answer, json_text, retryable_error};
use super::call::Call;
use super::conversation_id::conversation;
use crate::identity::Identity;
use crate::outbox::{Outbox, OutboxLimits};
use crate::wire::api_error::ApiError;
use crate::wire::chat::ChatRequest;
use crate::wire::outcome::Outcome;

/// The device that is named as the sender's.
const DEVICE: &str = "http";

#[derive(Deserialize)]
struct Body {
    msg_id: Option<String>,
    payload: Option<Box<RawValue>>,
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
    // The reply has ids and numbers, and what the hook has replaced.
    let outbox = Outbox::new(OutboxLimits { replies: 1, reply_bytes: 4_096, push_bytes: 0 });
    if let Some(lookup) = connections.sends.submit(&by, conversation, chat, outbox.reserve()) {
        lookup.await;
    }
    let reply = outbox.one_reply().await;
    let Outcome { code, message, retry_after_ms } = Outcome::of(&reply).ok_or(ApiError::Internal)?;
    if code == 0 {
        return Ok(json_text(reply));
    }
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(retryable_error(status, &message, retry_after_ms))
}
