use super::*;
use crate::feed::{Corrected, GroupChanged, RefusedMessage};
use crate::ids::{MsgId, Seq, UserId};
use crate::message::{Stored, fixture};
use crate::webhook_signature::new_secret;

fn filter(types: &[EventType], conversations: &[&str]) -> Filter {
    let conversations = conversations.iter().map(|name| (*name).to_owned()).collect();
    Filter { types: types.to_vec(), conversations }
}

/// The types that a filter lets pass, of events in `key`.
fn passed(filter: &Filter, key: &str) -> Vec<EventType> {
    let conversation = Conversation::from_key(key).unwrap();
    let (user, msg_id) = (UserId::parse("ann").unwrap(), MsgId::parse("m").unwrap());
    let message = fixture::numbered(key, 1, "ann", "m").message;
    let stored = Stored {
        message,
        seq: Seq(1),
        is_recalled: false,
        edited_at: None,
        has_reactions: false,
        reactions: Vec::new(),
    };
    let corrected = Corrected {
        conversation: conversation.clone(),
        sender: user.clone(),
        msg_id: msg_id.clone(),
        told: Seq(1),
        seq: Seq(2),
    };
    let refused = RefusedMessage {
        conversation: conversation.clone(),
        sender: user.clone(),
        msg_id,
        seq: Seq(1),
        code: 403,
    };
    let group = GroupChanged {
        group: conversation.clone(),
        version: 1,
        change: "create group".to_owned(),
        joined: Vec::new(),
        left: Vec::new(),
        member: None,
        is_cut: false,
    };
    let events = [
        EventKind::Message(&stored),
        EventKind::Voided { conversation: &conversation, first: Seq(1), last: Seq(2) },
        EventKind::Corrected(&corrected),
        EventKind::Refused(&refused),
        EventKind::Group(&group),
        EventKind::Profile(&user),
    ];
    EventType::ALL
        .into_iter()
        .zip(&events)
        .filter(|(_, event)| filter.has(event))
        .map(|(one, _)| one)
        .collect()
}

#[test]
fn a_filter_without_types_and_conversations_lets_everything_pass() {
    assert!(Filter::default().is_all());
    assert_eq!(passed(&Filter::default(), "group_1"), EventType::ALL);
}

#[test]
fn types_and_conversations_must_both_fit() {
    use EventType::{Group, Message, Profile, Voided};
    assert_eq!(passed(&filter(&[Message, Group], &[]), "group_1"), [Message, Group]);
    assert_eq!(
        passed(&filter(&[Message, Voided], &["group_support_"]), "group_support_7"),
        [Message, Voided]
    );
    assert_eq!(passed(&filter(&[Message], &["group_support_"]), "group_1"), []);
    assert_eq!(passed(&filter(&[Message], &["group_support_", "private"]), "private_a b"), [Message]);
    assert_eq!(passed(&filter(&[Message], &["group"]), "private_a b"), []);
    assert_eq!(passed(&filter(&[Message], &["group"]), "group_1"), [Message]);
    assert_eq!(passed(&filter(&[Message], &["private"]), "group_1"), []);
    assert_eq!(passed(&filter(&[Profile], &[]), "group_1"), [Profile]);
}

#[test]
fn with_conversations_changes_of_profiles_pass_only_if_their_type_is_named() {
    use EventType::{Message, Profile};
    assert!(!passed(&filter(&[], &["group"]), "group_1").contains(&Profile));
    assert_eq!(passed(&filter(&[Message, Profile], &["private"]), "group_1"), [Profile]);
}

#[test]
fn an_unusable_value_is_refused_with_the_name_of_its_field() {
    let names = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect());
    let many: Vec<String> = (0..33).map(|n| format!("group_{n}")).collect();
    for (patch, field) in [
        (WebhookPatch { name: Some(String::new()), ..WebhookPatch::default() }, "name: "),
        (WebhookPatch { name: Some("a\nb".to_owned()), ..WebhookPatch::default() }, "name: "),
        (WebhookPatch { name: Some("é".repeat(101)), ..WebhookPatch::default() }, "name: "),
        (WebhookPatch { batch_events: Some(0), ..WebhookPatch::default() }, "batch_events: must be 1 to 500"),
        (WebhookPatch { batch_events: Some(501), ..WebhookPatch::default() }, "batch_events: "),
        (
            WebhookPatch { batch_bytes: Some(1_023), ..WebhookPatch::default() },
            "batch_bytes: must be 1024 to",
        ),
        (
            WebhookPatch { conversations: names(&["private_a_b"]), ..WebhookPatch::default() },
            "conversations: ",
        ),
        (WebhookPatch { conversations: names(&["group_a b"]), ..WebhookPatch::default() }, "conversations: "),
        (WebhookPatch { conversations: names(&[""]), ..WebhookPatch::default() }, "conversations: "),
        (
            WebhookPatch { conversations: Some(many), ..WebhookPatch::default() },
            "conversations: has more than 32",
        ),
    ] {
        let error = patch.check().unwrap_err().to_string();
        assert!(error.starts_with(field), "{field}: {error}");
    }
    let good = WebhookPatch {
        name: Some("é".repeat(100)),
        conversations: names(&["private", "group", "group_", "group_support_"]),
        batch_events: Some(500),
        batch_bytes: Some(1_024),
        ..WebhookPatch::default()
    };
    assert_eq!(good.check(), Ok(()));
}

#[test]
fn types_are_read_once_each_and_others_are_refused_with_the_list() {
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let types = WebhookPatch::parse_types(&names(&["group", "message", "group"])).unwrap();
    assert_eq!(types, [EventType::Group, EventType::Message]);
    let error = WebhookPatch::parse_types(&names(&["messages"])).unwrap_err().to_string();
    assert_eq!(
        error,
        "event_types: \"messages\" is not one of message, voided, corrected, refused, group, profile"
    );
}

#[test]
fn the_old_secret_signs_beside_the_new_one_until_its_time() {
    let (new, old) = (new_secret(), new_secret());
    let secrets = Secrets { present: new.as_str().into(), old: old.as_str().into(), old_until: 1_000 };
    let header = |now| secrets.key(now).unwrap().header("a", 1, b"x");
    let of = |secret: &str| SigningKey::parse(secret).unwrap().header("a", 1, b"x");
    assert_eq!(header(999), format!("{} {}", of(&new), of(&old)));
    assert_eq!(header(1_000), of(&new));
    let never = Secrets { old: Secret::default(), ..secrets };
    assert_eq!(never.key(0).unwrap().header("a", 1, b"x"), of(&new));
    assert!(check_secret(&new).is_ok());
    for wrong in [format!("{new} {old}"), format!(" {new}"), "whsec_short".to_owned(), String::new()] {
        let error = check_secret(&wrong).unwrap_err().to_string();
        assert!(error.starts_with("secret: ") && !error.contains(&new[6..]), "{error}");
    }
}

#[test]
fn an_id_is_read_as_it_is_written_also_from_the_name_of_a_reader() {
    let id = WebhookId::random();
    assert_eq!(WebhookId::parse(id.as_str()), Some(id.clone()));
    assert_eq!(WebhookId::of_reader(&id.reader()), Some(id));
    for wrong in ["", "0123", "0123456789ABCDEF", "0123456789abcdeg", "0123456789abcdef0"] {
        assert_eq!(WebhookId::parse(wrong), None, "{wrong}");
    }
    assert_eq!(WebhookId::of_reader("notifications"), None);
}
