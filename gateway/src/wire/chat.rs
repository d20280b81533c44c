//! A chat message as clients send it: the payload of cmd 2, and of the same call over HTTP.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::conversation::Conversation;
use shared::ids::{MsgId, Seq, UNIX_MILLIS_MAX, UserId};
use shared::message::{
    APP_TYPES, ATTACHMENTS_MAX, Attachment, Body, BodyError, Details, FileId, Mentions, MentionsError,
    Message, MessageKind,
};
use shared::meta::{Meta, MetaError};

use super::api_error::ApiError;
use super::fields::{object, value, whole};

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatRequest {
    /// `None`: the server makes one.
    pub msg_id: Option<MsgId>,
    /// The kind of the message, with its body.
    pub kind: MessageKind,
    /// What it has beside, if it is not plain.
    pub details: Option<Box<Details>>,
    /// `None`: the server's clock.
    pub send_time_ms: Option<i64>,
    /// The sender is answered at the commit only.
    pub reply_when_stored: bool,
}

/// The payload of cmd 2.
#[derive(Deserialize, Default)]
pub(crate) struct ChatPayload<'a> {
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    msg_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    recall_seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    edit_seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    react_seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pin_seq: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reaction: Option<&'a RawValue>,
    #[serde(borrow, default)]
    remove: Option<&'a RawValue>,
    #[serde(borrow, default)]
    meta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    reply_to: Option<&'a RawValue>,
    #[serde(borrow, default)]
    mentions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    attachments: Option<&'a RawValue>,
    #[serde(borrow, default)]
    send_time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    ack: Option<&'a RawValue>,
}

const MSG_TYPES: &str = "payload.msg_type must be 1 (text), 2 (image), 3 (recall), 4 (edit), 5 (reaction), 6 (pin), 7 (file), \
                         or 100 to 255 (the app's own)";
const SEND_TIMES: &str = "payload.send_time must be milliseconds since 1970, from 0 to 8640000000000000";
const ACK_MODES: &str = "payload.ack must be \"accepted\" (default) or \"stored\"";
const REACTIONS: &str = "payload.reaction must be 1 to 32 bytes without white space and control characters";
const ATTACHMENTS: &str = "payload.attachments must be a list of 1 to 10 objects with a file_id each";
const MENTIONS: &str = "payload.mentions must be a list of user ids, or [\"*\"] for everyone";

impl ChatRequest {
    pub(crate) fn parse(msg_id: Option<Cow<'_, str>>, payload: &ChatPayload<'_>) -> Result<Self, ApiError> {
        let msg_id = msg_id.map(|id| MsgId::parse(&id)).transpose().map_err(ApiError::malformed)?;
        let msg_type: Option<u32> = whole(payload.msg_type, MSG_TYPES)?;
        let (kind, details) = kind(msg_type.unwrap_or(1), payload)?;
        let send_time_ms: Option<i64> = whole(payload.send_time, SEND_TIMES)?;
        if send_time_ms.is_some_and(|time| !(0..=UNIX_MILLIS_MAX).contains(&time)) {
            return Err(ApiError::malformed(SEND_TIMES));
        }
        let ack: Option<Cow<'_, str>> = value(payload.ack, ACK_MODES)?;
        let reply_when_stored = match ack.as_deref() {
            None | Some("accepted") => false,
            Some("stored") => true,
            Some(_) => return Err(ApiError::malformed(ACK_MODES)),
        };
        Ok(Self { msg_id, kind, details, send_time_ms, reply_when_stored })
    }

    /// Parses the payload of a message that is sent over HTTP.
    ///
    /// # Errors
    /// 400 and 413.
    pub(crate) fn from_json(msg_id: Option<Cow<'_, str>>, payload: &str) -> Result<Self, ApiError> {
        let payload = object(payload).map_err(|_| ApiError::malformed("payload must be an object"))?;
        Self::parse(msg_id, &payload)
    }

    /// The message that `sender` sends to `conversation`; `now` is used if the client named no time.
    #[must_use]
    pub fn into_message(
        self,
        conversation: Conversation,
        sender: UserId,
        now: impl FnOnce() -> i64,
    ) -> Message {
        Message {
            conversation,
            sender,
            msg_id: self.msg_id.unwrap_or_else(MsgId::generate),
            kind: self.kind,
            details: self.details,
            send_time_ms: self.send_time_ms.unwrap_or_else(now),
        }
    }
}

/// The content and the `meta` that replace those of a message, checked as those of a sender are; what is absent or `null` is
/// `None`.
pub(super) fn replacement(
    content: Option<&RawValue>,
    meta: Option<&RawValue>,
) -> Result<(Option<Body>, Option<Meta>), ApiError> {
    let payload = ChatPayload { content, meta, ..ChatPayload::default() };
    Ok((self::content(&payload)?, all_details(&payload)?.meta))
}

type KindAndDetails = (MessageKind, Option<Box<Details>>);

fn kind(msg_type: u32, payload: &ChatPayload<'_>) -> Result<KindAndDetails, ApiError> {
    let kind = match msg_type {
        1 => MessageKind::Text(body(payload)?),
        2 => {
            let attachments = attachments(payload)?;
            let content =
                if attachments.is_empty() { body(payload)? } else { content(payload)?.unwrap_or_default() };
            return with_files(MessageKind::Image(content), attachments, payload);
        }
        7 => {
            let attachments = attachments(payload)?;
            if attachments.is_empty() {
                return Err(ApiError::malformed(ATTACHMENTS));
            }
            let caption = content(payload)?.unwrap_or_default();
            return with_files(MessageKind::File(caption), attachments, payload);
        }
        3 => return Ok((MessageKind::Recall(seq(payload.recall_seq, "recall_seq", "recall")?), None)),
        4 => return edit(payload),
        5 => {
            let target = seq(payload.react_seq, "react_seq", "react to")?;
            let reaction: Option<String> = value(payload.reaction, REACTIONS)?;
            let reaction = reaction.and_then(Body::reaction).ok_or_else(|| ApiError::malformed(REACTIONS))?;
            return Ok((MessageKind::Reaction { target, reaction, removes: removes(payload)? }, None));
        }
        6 => {
            let target = seq(payload.pin_seq, "pin_seq", "pin")?;
            return Ok((MessageKind::Pin { target, removes: removes(payload)? }, None));
        }
        app if APP_TYPES.contains(&app) => {
            if payload.content.is_none() && payload.meta.is_none() {
                return Err(ApiError::malformed("send payload.content, payload.meta, or both"));
            }
            MessageKind::App { msg_type: app, content: content(payload)?.unwrap_or_default() }
        }
        8 => return Err(ApiError::malformed("payload.msg_type 8 (system) is made by the server only")),
        _ => return Err(ApiError::malformed(MSG_TYPES)),
    };
    if payload.attachments.is_some() {
        return Err(ApiError::malformed(
            "payload.attachments belong to messages of type 2 (image) and 7 (file) only",
        ));
    }
    Ok((kind, details(payload)?))
}

fn with_files(
    kind: MessageKind,
    attachments: Vec<Attachment>,
    payload: &ChatPayload<'_>,
) -> Result<KindAndDetails, ApiError> {
    let mut details = details(payload)?;
    if !attachments.is_empty() {
        details.get_or_insert_default().attachments = attachments;
    }
    Ok((kind, details))
}

/// The files that a client names. What they are is looked up later.
fn attachments(payload: &ChatPayload<'_>) -> Result<Vec<Attachment>, ApiError> {
    #[derive(Deserialize)]
    struct Named {
        file_id: FileId,
    }
    let Some(raw) = payload.attachments else { return Ok(Vec::new()) };
    let named: Vec<Named> = serde_json::from_str(raw.get()).map_err(|_| ApiError::malformed(ATTACHMENTS))?;
    if named.is_empty() || named.len() > ATTACHMENTS_MAX {
        return Err(ApiError::malformed(ATTACHMENTS));
    }
    let is_twice = |at: usize| named[..at].iter().any(|before| before.file_id == named[at].file_id);
    if (0..named.len()).any(is_twice) {
        return Err(ApiError::malformed("payload.attachments has a file twice"));
    }
    Ok(named.into_iter().map(|named| Attachment::named(named.file_id)).collect())
}

fn edit(payload: &ChatPayload<'_>) -> Result<KindAndDetails, ApiError> {
    let target = seq(payload.edit_seq, "edit_seq", "edit")?;
    let details = Details { reply_to: None, ..all_details(payload)? };
    let content = content(payload)?;
    if content.is_none() && details == Details::default() {
        return Err(ApiError::malformed("an edit changes payload.content, payload.meta or payload.mentions"));
    }
    let details = (details != Details::default()).then(|| Box::new(details));
    Ok((MessageKind::Edit { target, content }, details))
}

fn details(payload: &ChatPayload<'_>) -> Result<Option<Box<Details>>, ApiError> {
    // Nearly all messages have none.
    if payload.meta.is_none() && payload.reply_to.is_none() && payload.mentions.is_none() {
        return Ok(None);
    }
    let mut details = all_details(payload)?;
    details.mentions = details.mentions.filter(|mentions| !mentions.is_empty());
    Ok((details != Details::default()).then(|| Box::new(details)))
}

fn all_details(payload: &ChatPayload<'_>) -> Result<Details, ApiError> {
    let meta = payload.meta.map(|raw| Meta::parse(raw.get())).transpose();
    let meta = meta.map_err(|error| match error {
        MetaError::TooLong(_) => ApiError::TooLarge(format!("payload.{error}")),
        MetaError::NotAnObject | MetaError::Unreadable(_) => ApiError::Malformed(format!("payload.{error}")),
    })?;
    let reply_to = payload.reply_to.map(|raw| seq(Some(raw), "reply_to", "answer")).transpose()?;
    let mentions: Option<Vec<Cow<'_, str>>> = value(payload.mentions, MENTIONS)?;
    let mentions = mentions.map(|list| Mentions::parse(&list)).transpose();
    let mentions =
        mentions.map_err(|error: MentionsError| ApiError::Malformed(format!("payload.{error}")))?;
    Ok(Details { meta, reply_to, mentions, attachments: Vec::new() })
}

fn removes(payload: &ChatPayload<'_>) -> Result<bool, ApiError> {
    let removes: Option<bool> = value(payload.remove, "payload.remove must be true or false")?;
    Ok(removes.unwrap_or(false))
}

/// The content of a message that must have one.
fn body(payload: &ChatPayload<'_>) -> Result<Body, ApiError> {
    content(payload)?
        .filter(|body| !body.as_str().is_empty())
        .ok_or_else(|| ApiError::malformed("payload.content is empty: send 1 to 4096 bytes"))
}

fn content(payload: &ChatPayload<'_>) -> Result<Option<Body>, ApiError> {
    let content: Option<String> = value(payload.content, "payload.content must be a string")?;
    content.map(Body::new_or_empty).transpose().map_err(|error| match error {
        BodyError::Empty => ApiError::malformed("payload.content is empty: send 1 to 4096 bytes"),
        BodyError::TooLong(bytes) => {
            ApiError::TooLarge(format!("payload.content has {bytes} bytes: send at most 4096"))
        }
    })
}

fn seq(raw: Option<&RawValue>, field: &str, verb: &str) -> Result<Seq, ApiError> {
    let rule = || format!("payload.{field} must be the seq of the message to {verb}");
    let seq: Option<u64> = whole(raw, "").map_err(|_| ApiError::Malformed(rule()))?;
    let seq = seq.filter(|seq| (1..=Seq::MAX.0).contains(seq)).map(Seq);
    seq.ok_or_else(|| ApiError::Malformed(rule()))
}

#[cfg(test)]
mod tests;
