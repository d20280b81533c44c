//! Which messages the endpoint is asked about.

use shared::conversation::{Conversation, Kind};
use shared::message::{Message, MessageKind};

use crate::config::{self, HOOK_GROUP, HOOK_PRIVATE};

/// The conversations and the kinds of messages that the endpoint is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    private_chats: bool,
    /// What the ids of groups begin with.
    groups: Vec<String>,
    /// Names of kinds.
    kinds: Vec<String>,
}

impl Scope {
    /// The scope of a configuration that was checked.
    pub(super) fn of(config: &config::Hook) -> Self {
        let all = &config.conversations;
        // All ids of groups begin with it.
        let groups = all.iter().filter(|name| name.starts_with(HOOK_GROUP)).cloned().collect();
        let private_chats = all.iter().any(|name| name == HOOK_PRIVATE);
        Self { private_chats, groups, kinds: config.messages.clone() }
    }

    /// Whether the endpoint is asked about this message.
    pub(super) fn has(&self, message: &Message) -> bool {
        let name = kind_name(&message.kind);
        name.is_some_and(|name| self.kinds.iter().any(|kind| kind == name))
            && self.has_conversation(&message.conversation)
    }

    fn has_conversation(&self, conversation: &Conversation) -> bool {
        match conversation.kind() {
            Kind::Private(..) => self.private_chats,
            Kind::Group => self.groups.iter().any(|prefix| conversation.key().starts_with(prefix)),
        }
    }
}

/// The name of a kind in `hook.messages`; `None` for what users do not send.
fn kind_name(kind: &MessageKind) -> Option<&'static str> {
    Some(match kind {
        MessageKind::Text(_) => "text",
        MessageKind::Image(_) => "image",
        MessageKind::File(_) => "file",
        MessageKind::App { .. } => "app",
        MessageKind::Edit { .. } => "edit",
        MessageKind::Recall(_) => "recall",
        MessageKind::Reaction { .. } => "reaction",
        MessageKind::Pin { .. } => "pin",
        MessageKind::System | MessageKind::Unknown { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use shared::ids::Seq;
    use shared::message::{Body, fixture};

    use super::*;

    fn scope(conversations: &[&str], messages: &[&str]) -> Scope {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        let (conversations, messages) = (names(conversations), names(messages));
        Scope::of(&config::Hook { conversations, messages, ..config::Hook::default() })
    }

    fn message(conversation: &str, kind: MessageKind) -> Message {
        fixture::with_kind(fixture::numbered(conversation, 1, "alice", "m"), kind).message
    }

    #[test]
    fn conversations_are_private_chats_groups_or_groups_with_a_prefix() {
        for (conversations, private, support, other) in [
            (&["private", "group"][..], true, true, true),
            (&["private"], true, false, false),
            (&["group"], false, true, true),
            (&["group_support_"], false, true, false),
            (&["group_support_", "group_x", "private"], true, true, false),
        ] {
            let scope = scope(conversations, &["text"]);
            let has = |conversation| scope.has(&message(conversation, fixture::text("x")));
            let found = (has("private_alice bob"), has("group_support_7"), has("group_1"));
            assert_eq!(found, (private, support, other), "{conversations:?}");
        }
    }

    #[test]
    fn each_kind_has_a_name_and_the_default_leaves_out_recalls_reactions_and_pins() {
        let body = || Body::new("x".to_owned()).unwrap();
        let target = Seq(1);
        let default = Scope::of(&config::Hook::default());
        for (name, kind, by_default) in [
            ("text", MessageKind::Text(body()), true),
            ("image", MessageKind::Image(body()), true),
            ("file", MessageKind::File(body()), true),
            ("app", MessageKind::App { msg_type: 100, content: body() }, true),
            ("edit", MessageKind::Edit { target, content: None }, true),
            ("recall", MessageKind::Recall(target), false),
            ("reaction", MessageKind::Reaction { target, reaction: body(), removes: false }, false),
            ("pin", MessageKind::Pin { target, removes: false }, false),
        ] {
            let message = message("group_1", kind);
            assert_eq!(default.has(&message), by_default, "{name}");
            for other in config::HOOK_KINDS {
                assert_eq!(scope(&["group"], &[other]).has(&message), name == other, "{name} {other}");
            }
        }
        assert!(!scope(&["group"], &config::HOOK_KINDS).has(&message("group_1", MessageKind::System)));
    }
}
