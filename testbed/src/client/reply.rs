//! Replies as a sender reads them.

use std::borrow::Cow;

use serde::Deserialize;

/// A reply, with the fields that a sender needs; borrowed, because there are many.
#[derive(Deserialize)]
pub(super) struct Reply<'a> {
    pub(super) cmd: i64,
    pub(super) code: u16,
    #[serde(default)]
    pub(super) msg_id: Option<&'a str>,
    #[serde(default)]
    pub(super) seq: Option<u64>,
    #[serde(borrow, default)]
    pub(super) payload: Option<&'a serde_json::value::RawValue>,
}

/// The payload of a refusal: a sentence, or an object with one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Refused<'a> {
    Later {
        #[serde(borrow)]
        message: Cow<'a, str>,
        retry_after_ms: Option<u64>,
    },
    Sentence(#[serde(borrow)] Cow<'a, str>),
}
