//! The kinds of messages, with their bodies.

use std::borrow::Cow;

use super::body::Body;
use super::fingerprint::Fingerprint;
use crate::ids::Seq;

pub(super) const TEXT: u32 = 1;
pub(super) const IMAGE: u32 = 2;
pub(super) const RECALL: u32 = 3;
pub(super) const EDIT: u32 = 4;
pub(super) const REACTION: u32 = 5;
pub(super) const PIN: u32 = 6;
pub(super) const FILE: u32 = 7;
pub(super) const SYSTEM: u32 = 8;
/// The first and the last of the app's own types.
pub const APP_TYPES: std::ops::RangeInclusive<u32> = 100..=255;

/// What a message is to an earlier one of the same sender with the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// The same message, sent again.
    Retry,
    /// Of the same kind, with another content: the earlier content stays.
    OtherContent,
    /// Something else: another kind, or another change. It must not be answered as if it were done.
    OtherMessage,
}

/// The kind of a message with its body: owned in a [`Message`], borrowed (`MessageKind<&str>`) where it is only shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind<B = Body> {
    /// A text.
    Text(B),
    /// An image: an attachment with the body as its caption, or a body that says where it is.
    Image(B),
    /// Files, with a caption that may be empty.
    File(B),
    /// A kind of the app's own.
    App {
        /// One of [`APP_TYPES`].
        msg_type: u32,
        /// Its content, which may be empty.
        content: B,
    },
    /// The recall of the message with this number in the same conversation.
    Recall(Seq),
    /// A new content of an earlier message of the same sender.
    Edit {
        /// The message to edit.
        target: Seq,
        /// Its new content; `None`: it stays as it is.
        content: Option<B>,
    },
    /// A reaction to a message.
    Reaction {
        /// The message that the user reacts to.
        target: Seq,
        /// The reaction, checked by [`Body::reaction`].
        reaction: B,
        /// The user takes it back.
        removes: bool,
    },
    /// A pin on a message.
    Pin {
        /// The message to pin.
        target: Seq,
        /// The pin is taken off.
        removes: bool,
    },
    /// A change of the group that its members see. Made by gateways only; `meta` says what it is.
    System,
    /// A kind of a later version: shown, and never accepted.
    Unknown {
        /// Its number in the protocol.
        msg_type: u32,
        /// Its content.
        content: B,
    },
}

/// The part of a stored kind that is not in the columns `msg_type` and `content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ChangeFields {
    /// The message that an edit, a reaction or a pin changes.
    pub(super) target: Option<Seq>,
    /// The reaction or pin is removed.
    pub(super) removes: bool,
    /// The edit leaves the content as it is.
    pub(super) keeps_content: bool,
}

impl<B> MessageKind<B> {
    /// The number of the kind, in the protocol and in the table.
    #[must_use]
    pub fn msg_type(&self) -> u32 {
        match self {
            Self::Text(_) => TEXT,
            Self::Image(_) => IMAGE,
            Self::File(_) => FILE,
            Self::Recall(_) => RECALL,
            Self::Edit { .. } => EDIT,
            Self::Reaction { .. } => REACTION,
            Self::Pin { .. } => PIN,
            Self::System => SYSTEM,
            Self::App { msg_type, .. } | Self::Unknown { msg_type, .. } => *msg_type,
        }
    }

    /// The number of the message to recall, if this is a recall.
    #[must_use]
    pub fn recalls(&self) -> Option<Seq> {
        match self {
            Self::Recall(seq) => Some(*seq),
            _ => None,
        }
    }

    /// The number of the message that this entry changes, if it is a change entry.
    #[must_use]
    pub fn changes(&self) -> Option<Seq> {
        match self {
            Self::Recall(target)
            | Self::Edit { target, .. }
            | Self::Reaction { target, .. }
            | Self::Pin { target, .. } => Some(*target),
            Self::Text(_)
            | Self::Image(_)
            | Self::File(_)
            | Self::App { .. }
            | Self::System
            | Self::Unknown { .. } => None,
        }
    }

    /// Whether it counts as unread, and is shown as the last message of its conversation: it is no change entry, and no
    /// system entry.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.changes().is_none() && !matches!(self, Self::System)
    }

    /// Whether it has fields in the column `extra`.
    #[must_use]
    pub(super) fn has_extra(&self) -> bool {
        matches!(self, Self::Edit { .. } | Self::Reaction { .. } | Self::Pin { .. })
    }

    /// Whether it is a reaction or a pin, which may change nothing when its turn comes.
    #[must_use]
    pub fn may_change_nothing(&self) -> bool {
        matches!(self, Self::Reaction { .. } | Self::Pin { .. })
    }

    /// Whether its sender may edit it.
    #[must_use]
    pub fn is_editable(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Image(_) | Self::File(_) | Self::App { .. })
    }

    /// The content that readers see: `None` in a recall, in a pin, and in a system entry.
    #[must_use]
    pub fn body(&self) -> Option<&B> {
        match self {
            Self::Text(body)
            | Self::Image(body)
            | Self::File(body)
            | Self::App { content: body, .. }
            | Self::Unknown { content: body, .. } => Some(body),
            Self::Edit { content, .. } => content.as_ref(),
            Self::Recall(_) | Self::Reaction { .. } | Self::Pin { .. } | Self::System => None,
        }
    }

    /// The number of bytes of the body.
    #[must_use]
    pub fn body_bytes(&self) -> usize
    where
        B: AsRef<str>,
    {
        self.body().map_or(0, |body| body.as_ref().len())
    }

    pub(super) fn change_fields(&self) -> ChangeFields {
        let (target, removes, keeps_content) = match self {
            Self::Edit { target, content } => (Some(*target), false, content.is_none()),
            Self::Reaction { target, removes, .. } | Self::Pin { target, removes } => {
                (Some(*target), *removes, false)
            }
            _ => return ChangeFields::default(),
        };
        ChangeFields { target, removes, keeps_content }
    }

    fn from_parts(msg_type: u32, content: B, recalls: Option<Seq>, fields: ChangeFields) -> Self {
        let ChangeFields { target, removes, keeps_content } = fields;
        match (msg_type, recalls, target) {
            (TEXT, ..) => Self::Text(content),
            (IMAGE, ..) => Self::Image(content),
            (RECALL, Some(seq), _) => Self::Recall(seq),
            (EDIT, _, Some(target)) => {
                Self::Edit { target, content: if keeps_content { None } else { Some(content) } }
            }
            (REACTION, _, Some(target)) => Self::Reaction { target, reaction: content, removes },
            (PIN, _, Some(target)) => Self::Pin { target, removes },
            (FILE, ..) => Self::File(content),
            (SYSTEM, ..) => Self::System,
            (msg_type, ..) if APP_TYPES.contains(&msg_type) => Self::App { msg_type, content },
            (msg_type, ..) => Self::Unknown { msg_type, content },
        }
    }
}

impl<'a> MessageKind<&'a str> {
    /// The kind of a stored message, from its columns or fields.
    #[must_use]
    pub(super) fn of_stored(msg_type: u32, content: &'a str, fields: ChangeFields) -> Self {
        Self::from_parts(msg_type, content, recalled_number(msg_type, content), fields)
    }
}

impl MessageKind {
    /// The kind of a stored message, from its columns. The content is not checked: a recalled message has none.
    #[must_use]
    pub(super) fn from_stored(msg_type: u32, content: String, fields: ChangeFields) -> Self {
        let recalls = recalled_number(msg_type, &content);
        Self::from_parts(msg_type, Body::from_stored(content), recalls, fields)
    }

    /// The kind as it is shown.
    #[must_use]
    pub fn as_deref(&self) -> MessageKind<&str> {
        match self {
            Self::Text(body) => MessageKind::Text(body.as_str()),
            Self::Image(body) => MessageKind::Image(body.as_str()),
            Self::File(body) => MessageKind::File(body.as_str()),
            Self::App { msg_type, content } => {
                MessageKind::App { msg_type: *msg_type, content: content.as_str() }
            }
            Self::Recall(seq) => MessageKind::Recall(*seq),
            Self::Edit { target, content } => {
                MessageKind::Edit { target: *target, content: content.as_ref().map(Body::as_str) }
            }
            Self::Reaction { target, reaction, removes } => {
                MessageKind::Reaction { target: *target, reaction: reaction.as_str(), removes: *removes }
            }
            Self::Pin { target, removes } => MessageKind::Pin { target: *target, removes: *removes },
            Self::System => MessageKind::System,
            Self::Unknown { msg_type, content } => {
                MessageKind::Unknown { msg_type: *msg_type, content: content.as_str() }
            }
        }
    }

    /// The value of the column `content`: the body, the reaction, or the number of the message to recall.
    #[must_use]
    pub fn content(&self) -> Cow<'_, str> {
        match self {
            Self::Recall(seq) => Cow::Owned(seq.to_string()),
            Self::Reaction { reaction, .. } => Cow::Borrowed(reaction.as_str()),
            _ => Cow::Borrowed(self.body().map_or("", Body::as_str)),
        }
    }

    /// The text that a retry must be equal to. Of a change it includes what is changed.
    fn comparable(&self) -> Cow<'_, str> {
        let ChangeFields { target, removes, .. } = self.change_fields();
        match target {
            Some(target) => Cow::Owned(format!("{target} {removes} {}", self.content())),
            None => self.content(),
        }
    }

    /// Replaces the content of an entry that has one.
    pub fn set_content(&mut self, body: Body) {
        match self {
            Self::Text(content)
            | Self::Image(content)
            | Self::File(content)
            | Self::App { content, .. }
            | Self::Unknown { content, .. } => *content = body,
            Self::Edit { content, .. } => *content = Some(body),
            Self::Recall(_) | Self::Reaction { .. } | Self::Pin { .. } | Self::System => {}
        }
    }

    /// The fingerprint of the kind with its body.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.msg_type(), &self.comparable())
    }

    /// What a message of this kind is to the earlier one that had the fingerprint `first`.
    #[must_use]
    pub fn reuse_of(&self, first: Fingerprint) -> Reuse {
        self.reuse(self.msg_type().min(999) == first.msg_type(), || self.fingerprint() == first)
    }

    /// What a message of this kind is to a stored one. Of a message that was recalled or edited since, only the kind, and of
    /// a change its target, is left to compare.
    #[must_use]
    pub fn reuse_of_stored(&self, stored: &Self, is_rewritten: bool) -> Reuse {
        let is_same = || match self.changes() {
            _ if self == stored => true,
            None => is_rewritten,
            Some(_) => is_rewritten && self.changes() == stored.changes(),
        };
        self.reuse(self.msg_type() == stored.msg_type(), is_same)
    }

    /// What a message of this kind is to an earlier one of kind `first`.
    #[must_use]
    pub fn reuse_of_kind(&self, first: &Self) -> Reuse {
        self.reuse_of_stored(first, false)
    }

    fn reuse(&self, is_same_kind: bool, is_same_content: impl FnOnce() -> bool) -> Reuse {
        match self.changes() {
            _ if !is_same_kind => Reuse::OtherMessage,
            _ if is_same_content() => Reuse::Retry,
            Some(_) => Reuse::OtherMessage,
            None => Reuse::OtherContent,
        }
    }

    /// [`content`](Self::content) without a copy of the body.
    pub(super) fn into_content(self) -> String {
        match self {
            Self::Recall(seq) => seq.to_string(),
            Self::Text(body)
            | Self::Image(body)
            | Self::File(body)
            | Self::App { content: body, .. }
            | Self::Edit { content: Some(body), .. }
            | Self::Reaction { reaction: body, .. }
            | Self::Unknown { content: body, .. } => body.into_string(),
            Self::Edit { content: None, .. } | Self::Pin { .. } | Self::System => String::new(),
        }
    }
}

/// Reads the content of a recall: a number in decimal, with nothing around it.
pub(super) fn recalled_number(msg_type: u32, content: &str) -> Option<Seq> {
    if msg_type != RECALL || content.starts_with('0') || !content.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    content.parse().ok().map(Seq).filter(|seq| (Seq(1)..=Seq::MAX).contains(seq))
}

#[cfg(test)]
mod tests;
