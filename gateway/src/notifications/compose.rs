//! What devices are told. Pure.

use pushservice::{CollapseKey, Notification, PushMessage, Urgency, Withdrawal};
use serde_json::{Map, Value, json};
use shared::conversation::{Conversation, Kind};
use shared::ids::Seq;
use shared::message::{MessageKind, Stored};
use shared::mysql::notifications::Unread;

use super::rules::KEPT;

/// What a notification is made of.
#[derive(Debug)]
pub(super) struct Content<'c> {
    pub(super) conversation: &'c Conversation,
    /// Empty for a private chat, and for a group without a name.
    pub(super) group_name: &'c str,
    /// The nickname of the last sender.
    pub(super) sender_name: &'c str,
    pub(super) unread: &'c Unread,
    /// The number of the notification.
    pub(super) seq: Seq,
    /// It contains the text of the last message.
    pub(super) has_text: bool,
    /// It replaces one that is shown, without a new message.
    pub(super) is_quiet: bool,
    pub(super) badge: Option<u32>,
}

/// A notification.
pub(super) fn show(content: &Content<'_>) -> PushMessage {
    let Content { conversation, unread, seq, .. } = content;
    let Unread { count, newest, mention } = unread;
    let mut data = data("message", conversation, *seq);
    data.insert("count".to_owned(), json!(count));
    data.insert("sender_id".to_owned(), json!(newest.message.sender.as_str()));
    if *mention > Seq::ZERO {
        data.insert("mention".to_owned(), json!(true));
    }
    let (title, body) = title_and_body(content);
    PushMessage::Show(Notification {
        title,
        body,
        data,
        collapse_key: collapse_key(conversation),
        badge: content.badge,
        urgency: if content.is_quiet { Urgency::Low } else { Urgency::High },
        quiet: content.is_quiet,
        ttl: KEPT,
    })
}

/// The end of a notification. `seq`: what is shown up to this number is removed.
pub(super) fn withdraw(conversation: &Conversation, seq: Seq, badge: Option<u32>) -> PushMessage {
    let data = data("read", conversation, seq);
    PushMessage::Withdraw(Withdrawal { collapse_key: collapse_key(conversation), data, badge, ttl: KEPT })
}

fn data(kind: &str, conversation: &Conversation, seq: Seq) -> Map<String, Value> {
    Map::from_iter([
        ("type".to_owned(), json!(kind)),
        ("conversation_id".to_owned(), json!(conversation.wire())),
        ("seq".to_owned(), json!(seq.0)),
    ])
}

fn collapse_key(conversation: &Conversation) -> CollapseKey {
    CollapseKey::of(conversation.key())
}

fn title_and_body(content: &Content<'_>) -> (String, Option<String>) {
    let text = content.has_text.then(|| text(&content.unread.newest)).flatten();
    let sender = content.sender_name;
    match content.conversation.kind() {
        Kind::Private(..) => (sender.to_owned(), text.map(ToOwned::to_owned)),
        Kind::Group => {
            let title = match content.group_name {
                "" => content.conversation.wire().into_owned(),
                name => name.to_owned(),
            };
            (title, Some(text.map_or_else(|| sender.to_owned(), |text| format!("{sender}: {text}"))))
        }
    }
}

/// The text of a message: what people wrote, or the name of a file. The app's own types may have anything as their content.
fn text(stored: &Stored) -> Option<&str> {
    let text = match stored.message.kind.as_deref() {
        MessageKind::Text(text) | MessageKind::File(text) => text,
        MessageKind::Image(text) if stored.message.has_files() => text,
        _ => "",
    };
    if !text.is_empty() {
        return Some(text);
    }
    let attachments = stored.message.details.as_ref().map_or(&[][..], |details| &details.attachments);
    attachments.first().map(|file| file.name.as_str()).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use shared::message::fixture;

    use super::*;

    fn unread(kind: MessageKind) -> Unread {
        let numbered = fixture::with_kind(fixture::numbered("group_1", 7, "ann", "m"), kind);
        Unread { count: 3, newest: Stored::new(numbered.message, Seq(7)), mention: Seq::ZERO }
    }

    fn shown(conversation: &str, change: impl FnOnce(&mut Content<'_>)) -> Notification {
        let (conversation, unread) =
            (Conversation::from_key(conversation).unwrap(), unread(fixture::text("Hi")));
        let mut content = Content {
            conversation: &conversation,
            group_name: "",
            sender_name: "Ann",
            unread: &unread,
            seq: Seq(8),
            has_text: true,
            is_quiet: false,
            badge: None,
        };
        change(&mut content);
        let PushMessage::Show(notification) = show(&content) else { panic!("shows nothing") };
        notification
    }

    #[test]
    fn a_private_chat_shows_its_sender_and_a_group_its_name() {
        let of = |conversation, has_text, group_name: &'static str| {
            let shown = shown(conversation, |content| {
                (content.has_text, content.group_name) = (has_text, group_name);
            });
            (shown.title, shown.body)
        };
        let text = |text: &str| text.to_owned();
        assert_eq!(of("private_ann bob", true, ""), (text("Ann"), Some(text("Hi"))));
        assert_eq!(of("private_ann bob", false, ""), (text("Ann"), None));
        assert_eq!(of("group_1", true, "Team"), (text("Team"), Some(text("Ann: Hi"))));
        assert_eq!(of("group_1", false, ""), (text("group_1"), Some(text("Ann"))));
    }

    #[test]
    fn the_data_is_that_of_the_contract() {
        let shown = shown("private_ann bob", |_| {});
        let expected = json!({"type": "message", "conversation_id": "private_ann_bob", "seq": 8, "count": 3,
            "sender_id": "ann"});
        assert_eq!(Value::Object(shown.data), expected);
        let conversation = Conversation::from_key("group_1").unwrap();
        let PushMessage::Withdraw(withdrawn) = withdraw(&conversation, Seq(9), Some(0)) else { panic!() };
        let expected = json!({"type": "read", "conversation_id": "group_1", "seq": 9});
        assert_eq!(Value::Object(withdrawn.data), expected);
        assert_eq!(withdrawn.collapse_key, collapse_key(&conversation));
    }

    #[test]
    fn content_of_the_apps_own_types_and_addresses_of_pictures_are_not_shown() {
        let text_of = |kind| text(&unread(kind).newest).map(ToOwned::to_owned);
        let body = |text| match fixture::text(text) {
            MessageKind::Text(body) => body,
            other => panic!("{other:?}"),
        };
        assert_eq!(text_of(fixture::text("Hi")), Some("Hi".to_owned()));
        assert_eq!(text_of(MessageKind::App { msg_type: 100, content: body("{}") }), None);
        assert_eq!(text_of(MessageKind::Image(body("https://x.example/a.png"))), None);
    }
}
