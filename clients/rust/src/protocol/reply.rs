//! Replies with borrowed fields, for programs that handle many.

use std::borrow::Cow;

use serde::Deserialize;

/// A reply, with the fields that a sender needs.
#[derive(Debug, Deserialize)]
pub struct Reply<'a> {
    /// The `cmd` of the request, or 5 for a push and 7 for an event.
    pub cmd: i64,
    /// 0 for success.
    pub code: u16,
    /// The message id of the request.
    #[serde(default)]
    pub msg_id: Option<&'a str>,
    /// The sequence number.
    #[serde(default)]
    pub seq: Option<u64>,
    /// The payload, not parsed.
    #[serde(borrow, default)]
    pub payload: Option<&'a serde_json::value::RawValue>,
}

/// The payload of a refusal: a sentence, or an object with one.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Refused<'a> {
    /// With 429 and 503.
    Later {
        /// What was wrong.
        #[serde(borrow)]
        message: Cow<'a, str>,
        /// When to send it again.
        retry_after_ms: Option<u64>,
    },
    /// With all other codes.
    Sentence(#[serde(borrow)] Cow<'a, str>),
}
