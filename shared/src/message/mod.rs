//! A chat message as one value, and the stages of its way that wrap it.
//!
//! | stage | type | made by |
//! |---|---|---|
//! | written by a client | [`Message`] | the gateway's admission |
//! | numbered | [`Numbered`] | the gateway's pipeline; travels through the broker |
//! | stored | [`Stored`] | the worker's commit; read by pulls and syncs |
//!
//! The fields of a message are named in `value.rs`, in `message.proto`, in the statements of the table (`mysql::timeline`)
//! and in the gateway's JSON (`wire::message`), and nowhere else.

mod body;
mod extra;
mod fingerprint;
pub mod fixture;
mod kind;
mod reactions;
mod value;

pub use body::{BODY_BYTES_MAX, Body, BodyError, REACTION_BYTES_MAX};
pub use extra::{Details, MENTIONS_MAX, Mentions, MentionsError};
pub use fingerprint::Fingerprint;
pub use kind::{APP_TYPES, MessageKind, Reuse};
pub use reactions::{FirstUser, ReactionSummary, SHOWN_USERS_MAX};
pub use value::{
    Message, MessageError, MessageId, Numbered, Stored, origin_from_wire, origin_to_wire, read_event,
};
