//! A chat message as clients see it in pulls, pushes and lists.

use std::borrow::Cow;

use proto::v1;
use serde::{Serialize, Serializer};
use shared::ids::{Seq, UNIX_MILLIS_MAX, UserId};
use shared::message::{
    Details, FirstUser, Mentions, Message, MessageKind, ReactionSummary, SHOWN_USERS_MAX, Stored, read_event,
};
use shared::meta::Meta;

use super::attachment::AttachmentView;
use super::json_size::escaped_bytes;
use super::json_text::{push_number, push_string};

/// Ids, numbers and names of fields of a message beside its content, in bytes, roughly.
pub(super) const FIELDS_BYTES: usize = 192;

/// A message as clients see it, borrowed from a row or an event.
#[derive(Debug, Clone)]
pub struct MessageView<'a> {
    plain: Plain<'a>,
    more: Option<Box<More<'a>>>,
}

/// The fields that a plain message has.
#[derive(Debug, Clone, Serialize)]
struct Plain<'a> {
    msg_id: &'a str,
    /// 0: it has none yet.
    #[serde(skip_serializing_if = "is_zero")]
    seq: Seq,
    sender_id: &'a str,
    /// Empty if the message was recalled, or is a change entry without one.
    content: &'a str,
    msg_type: u32,
    send_time: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    recalled: bool,
    /// The message that this one recalls.
    #[serde(skip_serializing_if = "Option::is_none")]
    recall_seq: Option<Seq>,
}

fn is_zero(seq: &Seq) -> bool {
    *seq == Seq::ZERO
}

/// The fields that a plain message does not have.
#[derive(Debug, Clone, Default, Serialize)]
struct More<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    edit_seq: Option<Seq>,
    /// The edit leaves the content as it is: `content` is empty.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    keeps_content: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    react_seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reaction: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pin_seq: Option<Seq>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    remove: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Cow<'a, Meta>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mentions: Option<Cow<'a, Mentions>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<AttachmentView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_at: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reactions: Vec<ReactionView<'a>>,
}

/// One reaction with its first users.
#[derive(Debug, Clone, Serialize)]
struct ReactionView<'a> {
    reaction: &'a str,
    count: u32,
    user_ids: Vec<&'a UserId>,
}

impl<'a> From<&'a ReactionSummary> for ReactionView<'a> {
    fn from(summary: &'a ReactionSummary) -> Self {
        let user_ids = summary.first.iter().take(SHOWN_USERS_MAX).map(|FirstUser(user, _)| user);
        Self { reaction: &summary.reaction, count: summary.total, user_ids: user_ids.collect() }
    }
}

impl Serialize for MessageView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Both<'v, 'a> {
            #[serde(flatten)]
            plain: &'v Plain<'a>,
            #[serde(flatten)]
            more: &'v More<'a>,
        }
        // Nearly all messages are plain, and flattened fields cost more than those of one struct.
        match &self.more {
            None => self.plain.serialize(serializer),
            Some(more) => Both { plain: &self.plain, more }.serialize(serializer),
        }
    }
}

impl<'a> MessageView<'a> {
    fn new(
        msg_id: &'a str,
        seq: Seq,
        sender_id: &'a str,
        kind: MessageKind<&'a str>,
        send_time: i64,
    ) -> Self {
        let plain = Plain {
            msg_id,
            seq,
            sender_id,
            content: kind.body().copied().unwrap_or_default(),
            msg_type: kind.msg_type(),
            // Earlier versions stored any number.
            send_time: send_time.clamp(0, UNIX_MILLIS_MAX),
            recalled: false,
            recall_seq: kind.recalls(),
        };
        Self { plain, more: More::of_change(kind) }
    }

    /// The view of `message` under its number `seq`; 0: it has none yet.
    #[must_use]
    pub fn of(message: &'a Message, seq: Seq) -> Self {
        let Message { conversation: _, sender, msg_id, kind, details, send_time_ms } = message;
        let view = Self::new(msg_id.as_str(), seq, sender.as_str(), kind.as_deref(), *send_time_ms);
        match details.as_deref() {
            Some(Details { meta, reply_to, mentions, attachments }) => view.with(|more| {
                more.attachments = attachments.iter().map(AttachmentView::from).collect();
                more.meta = meta.as_ref().map(Cow::Borrowed);
                more.mentions = mentions.as_ref().map(Cow::Borrowed);
                more.reply_to = *reply_to;
            }),
            None => view,
        }
    }

    fn with(mut self, set: impl FnOnce(&mut More<'a>)) -> Self {
        set(self.more.get_or_insert_default());
        self
    }

    /// The number of bytes of its content.
    pub(super) fn content_len(&self) -> usize {
        self.plain.content.len()
    }

    /// The number of bytes of its content, and of what it has beside, in JSON.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        let more = self.more.as_ref().map_or(0, |more| more.bytes());
        escaped_bytes(self.plain.content) + more
    }

    /// Appends the message as JSON.
    pub(super) fn write(&self, json: &mut String) {
        // Every field by name: the compiler reports one that is forgotten here.
        let Plain { msg_id, seq, sender_id, content, msg_type, send_time, recalled, recall_seq } =
            &self.plain;
        if self.more.is_some() || *recalled || recall_seq.is_some() {
            // Strings and numbers only: serialization cannot fail.
            json.push_str(&serde_json::to_string(self).unwrap_or_default());
            return;
        }
        json.push_str(r#"{"msg_id":"#);
        push_string(json, msg_id);
        json.push_str(r#","seq":"#);
        push_number(json, seq.0);
        json.push_str(r#","sender_id":"#);
        push_string(json, sender_id);
        json.push_str(r#","content":"#);
        push_string(json, content);
        json.push_str(r#","msg_type":"#);
        push_number(json, *msg_type);
        json.push_str(r#","send_time":"#);
        push_number(json, *send_time);
        json.push('}');
    }

    /// The message as JSON, to be put into any number of frames.
    #[must_use]
    pub fn rendered(&self) -> String {
        let mut json = String::with_capacity(self.content_len() + FIELDS_BYTES);
        self.write(&mut json);
        json
    }
}

impl<'a> More<'a> {
    fn of_change(kind: MessageKind<&'a str>) -> Option<Box<Self>> {
        let more = match kind {
            MessageKind::Edit { target, content } => {
                Self { edit_seq: Some(target), keeps_content: content.is_none(), ..Self::default() }
            }
            MessageKind::Reaction { target, reaction, removes } => {
                let (react_seq, reaction) = (Some(target), Some(reaction));
                Self { react_seq, reaction, remove: removes, ..Self::default() }
            }
            MessageKind::Pin { target, removes } => {
                Self { pin_seq: Some(target), remove: removes, ..Self::default() }
            }
            _ => return None,
        };
        Some(Box::new(more))
    }

    /// About its bytes in JSON, beside names and numbers.
    fn bytes(&self) -> usize {
        let of_users =
            |users: &[&UserId]| users.iter().map(|user| escaped_bytes(user.as_str()) + 3).sum::<usize>();
        let mentions = self.mentions.as_deref().map_or(&[][..], Mentions::users);
        let mentions: usize = mentions.iter().map(|user| escaped_bytes(user.as_str()) + 3).sum();
        let reactions =
            self.reactions.iter().map(|one| escaped_bytes(one.reaction) + of_users(&one.user_ids) + 48);
        let attachments: usize = self.attachments.iter().map(AttachmentView::bytes).sum();
        let meta = self.meta.as_ref().map_or(0, |meta| meta.as_str().len());
        meta + mentions + attachments + reactions.sum::<usize>()
    }
}

impl<'a> From<&'a Stored> for MessageView<'a> {
    fn from(row: &'a Stored) -> Self {
        let mut view = Self::of(&row.message, row.seq);
        view.plain.recalled = row.is_recalled;
        if row.edited_at.is_none() && row.reactions.is_empty() {
            return view;
        }
        view.with(|more| {
            more.edited_at = row.edited_at;
            more.reactions = row.reactions.iter().map(ReactionView::from).collect();
        })
    }
}

impl<'a> From<&'a v1::StoredMessage> for MessageView<'a> {
    fn from(event: &'a v1::StoredMessage) -> Self {
        let (kind, details) = read_event(event);
        let view = Self::new(&event.msg_id, Seq(event.seq), &event.sender_id, kind, event.send_time_ms);
        match details {
            Some(details) => view.with(|more| {
                let Details { meta, reply_to, mentions, attachments } = *details;
                more.attachments = attachments.into_iter().map(AttachmentView::from).collect();
                (more.meta, more.mentions) = (meta.map(Cow::Owned), mentions.map(Cow::Owned));
                more.reply_to = reply_to;
            }),
            None => view,
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::message::{Attachment, FileId};

    use super::*;

    #[test]
    fn a_stored_send_time_beyond_the_limits_is_shown_at_the_limit() {
        for (stored, shown) in [(i64::MIN, 0), (-1, 0), (5, 5), (i64::MAX, UNIX_MILLIS_MAX)] {
            let event = v1::StoredMessage { send_time_ms: stored, ..v1::StoredMessage::default() };
            assert_eq!(MessageView::from(&event).plain.send_time, shown, "{stored}");
        }
    }

    #[test]
    fn an_event_and_a_row_are_shown_alike() {
        let details = Details {
            meta: Some(Meta::parse(r#"{"a":1.0}"#).unwrap()),
            reply_to: Some(Seq(2)),
            mentions: Some(Mentions::Everyone),
            attachments: vec![Attachment::named(FileId::parse(&"0f".repeat(16)).unwrap())],
        };
        let mut numbered = shared::message::fixture::numbered("group_1", 7, "alice", "m1");
        numbered.message.details = Some(Box::new(details));
        let row = Stored::new(numbered.message.clone(), Seq(7));
        let event = numbered.into_event(Seq(7));
        let text = MessageView::from(&event).rendered();
        assert_eq!(text, MessageView::from(&row).rendered());
        let end = r#""meta":{"a":1.0},"reply_to":2,"mentions":["*"],"attachments":[{"file_id":"0f"#;
        assert!(text.contains(end), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn a_plain_message_is_written_as_the_serializer_writes_it(
            content in "(?s).*", id in "\\PC{1,64}", seq in 1..=u64::MAX, send_time: i64, recalled: bool,
        ) {
            let kind = MessageKind::Text(content.as_str());
            let mut view = MessageView::new(&id, Seq(seq), &id, kind, send_time);
            view.plain.recalled = recalled;
            proptest::prop_assert_eq!(view.rendered(), serde_json::to_string(&view).unwrap());
        }
    }
}
