//! Every frame that the gateway can send has a schema.

use gateway::wire::api_error::ApiError;
use gateway::wire::hook::Replaced;
use gateway::wire::listing::{Listed, Listing, UnreadMentions};
use gateway::wire::message::MessageView;
use gateway::wire::name::ConversationName;
use gateway::wire::reply::{self, Event};
use gateway::wire::request::Cmd;
use serde_json::Value;
use shared::conversation::Conversation;
use shared::ids::{DeviceId, MsgId, Seq, UserId};
use shared::meta::Meta;
use shared::mysql::views::ViewSettings;
use spec::api;
use syn::{Fields, Item};

use super::source;

/// Checks a frame, and that it has the schema `name`.
fn assert_is(name: &str, frame: &str) {
    let frame: Value = serde_json::from_str(frame).unwrap();
    api().check_server_frame(&frame).unwrap_or_else(|error| panic!("{frame}: {error}"));
    let schema = format!("schemas/{name}.json");
    let conforms = api().check(&schema, &frame, spec::Strictness::Closed);
    conforms.unwrap_or_else(|error| panic!("{frame}: {error}"));
    let any = api().check("schemas/server.json", &frame, spec::Strictness::Open);
    any.unwrap_or_else(|error| panic!("{frame}: {error}"));
}

fn alice() -> UserId {
    UserId::parse("alice").unwrap()
}

fn private() -> Conversation {
    Conversation::between(&alice(), &UserId::parse("bob").unwrap())
}

/// Each of them set.
fn all_settings() -> ViewSettings {
    ViewSettings {
        muted_until: -1,
        pinned: true,
        archived: true,
        marked_unread: true,
        draft: Some("Dear".to_owned()),
    }
}

fn group() -> Conversation {
    Conversation::from_key("group_1").unwrap()
}

/// Each variant of [`Event`] with values, and the names of all variants in the source.
#[test]
fn every_event_has_a_schema_with_all_its_fields() {
    let file = syn::parse_file(&source("gateway/src/wire/reply.rs")).unwrap();
    let events = file.items.into_iter().find_map(|item| match item {
        Item::Enum(found) if found.ident == "Event" => Some(found),
        _ => None,
    });
    let mut faults = Vec::new();
    for variant in &events.unwrap().variants {
        let name = snake_case(&variant.ident.to_string());
        let file = format!("docs/api/schemas/event.{name}.json");
        let schema = api().documents().get(&format!("schemas/event.{name}.json"));
        if schema.is_null() {
            faults.push(format!(
                "The event {name} has no schema: add {file} (copy one of another event), name it in \
                 docs/api/schemas/server.json, docs/api/asyncapi.yaml and SCHEMAS of gateway/src/http/specification.rs."
            ));
            continue;
        }
        let Fields::Named(fields) = &variant.fields else { continue };
        for field in &fields.named {
            let field = field.ident.as_ref().unwrap().to_string();
            if schema.pointer(&format!("/properties/payload/properties/{field}")).is_none() {
                faults.push(format!("{file} does not describe the field {field} of the event."));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `TokenExpiring` is `token_expiring` in a frame.
fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

#[test]
fn events_conform_to_their_schemas() {
    let (private, group) = (private(), group());
    let (chat, team) = (ConversationName::of(&private, "alice"), ConversationName::of_group(&group));
    assert_is("event.resync", &reply::event(None, Event::Resync));
    for name in [&chat, &team] {
        for (event, schema) in [
            (Event::Resync, "event.resync"),
            (Event::Ack { seq: Seq(7), unread: None }, "event.ack"),
            (Event::Ack { seq: Seq(7), unread: Some(2) }, "event.ack"),
            (Event::Read { user_id: "bob", seq: Seq(7) }, "event.read"),
            (Event::Typing { user_id: "bob" }, "event.typing"),
            (Event::Settings { settings: &all_settings() }, "event.settings"),
            (Event::Settings { settings: &ViewSettings::default() }, "event.settings"),
            (Event::Cleared { seq: Seq(7) }, "event.cleared"),
        ] {
            assert_is(schema, &reply::event(Some(name), event));
        }
    }
    for (event, schema) in [
        (Event::Joined, "event.joined"),
        (Event::Left, "event.left"),
        (Event::Invited { by: "bob" }, "event.invited"),
        (Event::GroupUpdated, "event.group_updated"),
        (Event::Dismissed, "event.dismissed"),
    ] {
        assert_is(schema, &reply::event(Some(&team), event));
    }
    for (online, last_seen) in [(true, None), (false, Some(1_700_000_000_000))] {
        let presence = Event::Presence { user_id: "bob", online, last_seen };
        assert_is("event.presence", &reply::event(None, presence));
    }
    let expiring = Event::TokenExpiring { expires_at: 1_700_000_000_000 };
    assert_is("event.token_expiring", &reply::event(None, expiring));
}

#[test]
fn replies_conform_to_their_schemas() {
    let (private, group) = (private(), group());
    let (id, device) = (MsgId::parse("m1").unwrap(), DeviceId::parse("phone").unwrap());
    assert_is("server.heartbeat", &reply::heartbeat());
    assert_is("server.watch", &reply::watching(&[]));
    assert_is("server.watch", &reply::watching(&[(alice(), true), (alice(), false)]));
    assert_is("server.heartbeat", &reply::heartbeat_at(1_700_000_000_000_000));
    assert_is("server.login", &reply::login(&alice(), &device, 1_700_000_000_000, 30_000, &["profiles"]));
    for name in [ConversationName::of(&private, "alice"), ConversationName::of_group(&group)] {
        assert_is("server.chat", &reply::chat(&id, &name, Seq(7)));
        assert_is("server.chat", &reply::chat_content_differs(&id, &name, Seq(7)));
        for (content, meta) in [(Some("***"), None), (None, Some("{}")), (Some(""), Some(r#"{"a":1}"#))] {
            let meta = meta.map(|meta| Meta::parse(meta).unwrap());
            let replaced = Replaced { content: content.map(ToOwned::to_owned), meta };
            assert_is("server.chat", &reply::chat_replaced(&id, &name, Seq(7), &replaced));
        }
        assert_is("server.ack", &reply::ack(&name, Seq(7)));
        assert_is("server.typing", &reply::typing(&name));
        assert_is("server.pull", &reply::pull(&name, &[], Seq::ZERO, false));
        for message in messages() {
            let message = MessageView::from(&message);
            assert_is("server.pull", &reply::pull(&name, std::slice::from_ref(&message), Seq(7), true));
            assert_is("server.push", &reply::push(&name, &[&message.rendered()], Seq(7)));
        }
    }
    for reset in [false, true] {
        let entry = |conversation: &Conversation, last_message| Listed::Conversation {
            conversation: conversation.clone(),
            last_seq: Seq(7),
            last_ack_seq: Seq(1),
            unread: 3,
            mentions: Some(UnreadMentions { count: 1, first: Seq(7) }),
            settings: Some(Box::new(all_settings())),
            last_message,
        };
        let mut entries = vec![
            entry(&private, None),
            entry(&group, None),
            Listed::Removed(group.clone()),
            Listed::Cleared(group.clone()),
            Listed::Cleared(private.clone()),
        ];
        entries.extend(stored().map(|message| entry(&group, Some(std::sync::Arc::new(message)))));
        let listing = Listing { entries, next: 9, has_more: true, reset, examined: 0, counted: 0 };
        assert_is("server.sync", &reply::sync(&listing, &alice()));
    }
}

/// As events carry them: a text, an image, a recall.
fn messages() -> Vec<proto::v1::StoredMessage> {
    let message = |msg_type, content: &str| proto::v1::StoredMessage {
        msg_id: "m1".to_owned(),
        seq: 7,
        sender_id: "bob".to_owned(),
        content: content.to_owned(),
        msg_type,
        send_time_ms: 1_700_000_000_000,
        ..Default::default()
    };
    vec![message(1, "hello"), message(2, "https://chat.example/a.png"), message(3, "5")]
}

/// As rows hold them, also recalled.
fn stored() -> impl Iterator<Item = shared::message::Stored> {
    use shared::message::{Body, Message, MessageKind, Stored};
    let kinds = [MessageKind::Text(Body::new("hello".to_owned()).unwrap()), MessageKind::Recall(Seq(5))];
    kinds.into_iter().flat_map(|kind| {
        [false, true].map(|is_recalled| {
            let message = Message {
                conversation: group(),
                sender: alice(),
                msg_id: MsgId::parse("m1").unwrap(),
                kind: kind.clone(),
                details: None,
                send_time_ms: 1_700_000_000_000,
            };
            Stored { is_recalled, ..Stored::new(message, Seq(7)) }
        })
    })
}

#[test]
fn refusals_conform_to_their_schema() {
    let (private, group) = (private(), group());
    let text = || "send it again".to_owned();
    for refusal in [
        ApiError::Malformed(text()),
        ApiError::Unauthenticated(text()),
        ApiError::Forbidden(text()),
        ApiError::NotFound(text()),
        ApiError::Conflict(text()),
        ApiError::TooLarge(text()),
        ApiError::RateLimited { message: text(), retry_after_ms: 5 },
        ApiError::Internal,
        ApiError::Unavailable { message: text(), retry_after_ms: 5 },
    ] {
        assert_is("server.error", &refusal.frame(Cmd::UNKNOWN, None, None));
        assert_is("server.error", &refusal.frame(Cmd::CHAT, Some("white space"), Some("room")));
        for name in [ConversationName::of(&private, "alice"), ConversationName::of_group(&group)] {
            assert_is("server.error", &refusal.frame_about(Cmd::CHAT, Some("m1"), &name));
        }
    }
}
