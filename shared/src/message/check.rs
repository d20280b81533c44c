//! The check of a message that comes from the broker.

use proto::v1;

use super::body::{BODY_BYTES_MAX, REACTION_BYTES_MAX};
use super::extra::{Extra, extra_of};
use super::kind::{self, ChangeFields};
use crate::conversation::{Conversation, ConversationError};
use crate::ids::{IdError, MsgId, Seq, UserId};

/// The reason why a message from the broker can never be stored.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// An id breaks the rules.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The conversation cannot exist.
    #[error(transparent)]
    Conversation(#[from] ConversationError),
    /// A number or a length is outside of its limits.
    #[error("{0}")]
    Limit(&'static str),
}

/// The ids of a message that can be stored, and what it has beside.
pub(super) type Checked = (Conversation, UserId, MsgId, Option<Extra>);

pub(super) fn check(wire: &v1::ChatMessage) -> Result<Checked, MessageError> {
    limit((1..=Seq::MAX.0).contains(&wire.seq), "seq is 0 or beyond 2^53 - 1")?;
    let extra = extra_of(wire.rare.as_deref()).map(Extra::decode).transpose().map_err(MessageError::Limit)?;
    let fields = extra.as_ref().map_or_else(ChangeFields::default, Extra::change_fields);
    check_content(wire.msg_type, &wire.content, fields)?;
    Ok((
        Conversation::from_key(&wire.conversation)?,
        UserId::parse(&wire.sender_id)?,
        MsgId::parse(&wire.msg_id)?,
        extra,
    ))
}

fn check_content(msg_type: u32, content: &str, fields: ChangeFields) -> Result<(), MessageError> {
    let ChangeFields { target, keeps_content, .. } = fields;
    let is_change = matches!(msg_type, kind::EDIT | kind::REACTION | kind::PIN);
    let is_app = kind::APP_TYPES.contains(&msg_type);
    let is_first = matches!(msg_type, kind::TEXT | kind::IMAGE | kind::RECALL | kind::FILE);
    let is_known = is_change || is_app || is_first || msg_type == kind::SYSTEM;
    limit(is_known, "msg_type is not 1 to 8, or 100 to 255")?;
    let may_be_empty =
        is_app || matches!(msg_type, kind::IMAGE | kind::EDIT | kind::PIN | kind::FILE | kind::SYSTEM);
    limit(may_be_empty || !content.is_empty(), "content is empty")?;
    limit(content.len() <= BODY_BYTES_MAX, "content is over 4096 bytes")?;
    limit(!keeps_content || content.is_empty(), "an edit without content has content")?;
    let is_reaction = msg_type == kind::REACTION;
    limit(!is_reaction || content.len() <= REACTION_BYTES_MAX, "a reaction is over 32 bytes")?;
    limit(is_change == target.is_some(), "only an edit, a reaction or a pin has a target, and each has one")?;
    limit(target.is_none_or(|seq| (Seq(1)..=Seq::MAX).contains(&seq)), "the target is no number")?;
    let is_readable = msg_type != kind::RECALL || kind::recalled_number(msg_type, content).is_some();
    limit(is_readable, "the content of a recall is no number")
}

fn limit(ok: bool, what: &'static str) -> Result<(), MessageError> {
    if ok { Ok(()) } else { Err(MessageError::Limit(what)) }
}
