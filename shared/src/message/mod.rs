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

mod attachment;
mod body;
mod check;
mod extra;
mod fingerprint;
pub mod fixture;
mod kind;
mod reactions;
mod value;

pub use attachment::{
    ATTACHMENTS_MAX, Attachment, CONTENT_TYPE_BYTES_MAX, Dimensions, FILE_NAME_BYTES_MAX,
    FILE_NAME_CHARS_MAX, FileId, FileIdError,
};
pub use body::{BODY_BYTES_MAX, Body, BodyError, REACTION_BYTES_MAX};
pub use check::MessageError;
pub use extra::{Details, MENTIONS_MAX, Mentions, MentionsError};
pub use fingerprint::Fingerprint;
pub use kind::{APP_TYPES, MessageKind, Reuse};
pub use reactions::{FirstUser, ReactionSummary, SHOWN_USERS_MAX};
pub use value::{Message, MessageId, Numbered, Stored, origin_from_wire, origin_to_wire, read_event};
