//! Webhooks: endpoints of an app that are told what happened. What an operator may set, and which events an endpoint gets.
//!
//! Pure: the statements are in [`mysql::webhooks`](crate::mysql::webhooks).

use crate::config::Secret;
use crate::conversation::{Conversation, Kind};
use crate::feed::EventKind;
use crate::webhook_signature::SigningKey;

/// Webhooks of a deployment.
pub const WEBHOOKS_MAX: usize = 64;
/// How long an old secret may sign beside the new one.
pub const KEEP_OLD_S_MAX: u32 = 30 * 86_400;
/// How long it does unless another time is asked for.
pub const KEEP_OLD_S_DEFAULT: u32 = 86_400;

/// Begins the name of the reader of the change feed that belongs to a webhook.
const READER_PREFIX: &str = "webhook_";
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 16;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 100;
/// Conversations of a filter.
const CONVERSATIONS_MAX: usize = 32;
/// Bytes of the name of a conversation in a filter.
const CONVERSATION_BYTES_MAX: usize = 100;
/// Names all private chats in a filter.
const PRIVATE: &str = "private";
/// Names all groups in a filter.
const GROUP: &str = "group";
/// Begins the id of each group.
const GROUP_PREFIX: &str = "group_";

/// A value that cannot be set. Its `Display` names the field, and says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct InvalidWebhook {
    /// The field.
    pub field: &'static str,
    /// What to write.
    pub why: String,
}

impl InvalidWebhook {
    /// The field `field` has an unusable value.
    pub fn new(field: &'static str, why: impl ToString) -> Self {
        Self { field, why: why.to_string() }
    }
}

/// The id of a webhook: 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookId(String);

impl WebhookId {
    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()))
    }

    /// Reads an id; `None` if it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id =
            text.len() == ID_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned()))
    }

    /// The webhook whose reader of the change feed has this name.
    #[must_use]
    pub fn of_reader(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix(READER_PREFIX)?)
    }

    /// The name of its reader of the change feed.
    #[must_use]
    pub fn reader(&self) -> String {
        format!("{READER_PREFIX}{}", self.0)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A type of events, as an operator names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// An entry of a conversation.
    Message,
    /// Numbers without an entry.
    Voided,
    /// Another number than its sender was told.
    Corrected,
    /// Accepted, and not stored.
    Refused,
    /// A change of a group or its members.
    Group,
    /// A change of a profile.
    Profile,
}

impl EventType {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Message, Self::Voided, Self::Corrected, Self::Refused, Self::Group, Self::Profile];

    /// As in the field `type` of an event.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Voided => "voided",
            Self::Corrected => "corrected",
            Self::Refused => "refused",
            Self::Group => "group",
            Self::Profile => "profile",
        }
    }

    /// The type with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// Which events a webhook gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these types; empty: of all.
    pub types: Vec<EventType>,
    /// Of these conversations: `private`, `group`, or what ids of groups begin with; empty: of all.
    pub conversations: Vec<String>,
}

impl Filter {
    /// Whether it lets every event pass.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.types.is_empty() && self.conversations.is_empty()
    }

    /// Whether it lets this event pass. A profile belongs to no conversation: with conversations, changes of profiles pass
    /// only if their type is named.
    #[must_use]
    pub fn has(&self, event: &EventKind<'_>) -> bool {
        let (kind, conversation) = match event {
            EventKind::Message(stored) => (EventType::Message, Some(&stored.message.conversation)),
            EventKind::Voided { conversation, .. } => (EventType::Voided, Some(*conversation)),
            EventKind::Corrected(corrected) => (EventType::Corrected, Some(&corrected.conversation)),
            EventKind::Refused(refused) => (EventType::Refused, Some(&refused.conversation)),
            EventKind::Group(change) => (EventType::Group, Some(&change.group)),
            EventKind::Profile(_) => (EventType::Profile, None),
        };
        let is_named = self.types.contains(&kind);
        if !is_named && !self.types.is_empty() {
            return false;
        }
        match conversation {
            Some(conversation) => self.has_conversation(conversation),
            None => is_named || self.conversations.is_empty(),
        }
    }

    fn has_conversation(&self, conversation: &Conversation) -> bool {
        let mut named = self.conversations.iter();
        self.conversations.is_empty()
            || match conversation.kind() {
                Kind::Private(..) => named.any(|name| name == PRIVATE),
                Kind::Group => named.any(|name| conversation.key().starts_with(name)),
            }
    }
}

/// What an operator sets of a webhook. What is `None` stays as it is; in a new one, it has the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WebhookPatch {
    /// What it is for.
    pub name: Option<String>,
    /// Where calls go; the gateway has checked it.
    pub url: Option<String>,
    /// See [`Filter`].
    pub types: Option<Vec<EventType>>,
    /// See [`Filter`].
    pub conversations: Option<Vec<String>>,
    /// Events of one call, at most.
    pub batch_events: Option<u32>,
    /// Bytes of the events of one call, at most. A single event may have more.
    pub batch_bytes: Option<u32>,
}

impl WebhookPatch {
    /// The default of [`batch_events`](Self::batch_events).
    pub const BATCH_EVENTS: u32 = 100;
    /// The default of [`batch_bytes`](Self::batch_bytes).
    pub const BATCH_BYTES: u32 = 256 * 1024;

    /// The types with these names.
    ///
    /// # Errors
    /// There is no such type.
    pub fn parse_types(names: &[String]) -> Result<Vec<EventType>, InvalidWebhook> {
        let parse = |name: &String| {
            EventType::parse(name).ok_or_else(|| {
                let all = EventType::ALL.map(EventType::name).join(", ");
                InvalidWebhook::new("event_types", format!("{name:?} is not one of {all}"))
            })
        };
        let mut types = Vec::new();
        for one in names.iter().map(parse) {
            let one = one?;
            if !types.contains(&one) {
                types.push(one);
            }
        }
        Ok(types)
    }

    /// Checks all values but the URL.
    ///
    /// # Errors
    /// Names the field, and says what to write.
    pub fn check(&self) -> Result<(), InvalidWebhook> {
        if let Some(name) = &self.name {
            let chars = name.chars().count();
            if chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
                let why = format!("must have 1 to {NAME_CHARS_MAX} characters, and no control characters");
                return Err(InvalidWebhook::new("name", why));
            }
        }
        for (field, value, range) in
            [("batch_events", self.batch_events, 1..=500), ("batch_bytes", self.batch_bytes, 1_024..=1 << 20)]
        {
            if value.is_some_and(|value| !range.contains(&value)) {
                let why = format!("must be {} to {}", range.start(), range.end());
                return Err(InvalidWebhook::new(field, why));
            }
        }
        self.conversations.as_deref().map_or(Ok(()), check_conversations)
    }
}

fn check_conversations(names: &[String]) -> Result<(), InvalidWebhook> {
    let invalid = |why: String| Err(InvalidWebhook::new("conversations", why));
    if names.len() > CONVERSATIONS_MAX {
        return invalid(format!("has more than {CONVERSATIONS_MAX}: shorten what ids of groups begin with"));
    }
    for name in names {
        let is_known = name == PRIVATE || name == GROUP || name.starts_with(GROUP_PREFIX);
        let is_short = name.len() <= CONVERSATION_BYTES_MAX;
        if !is_known || !is_short || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return invalid(format!(
                "{name:?} is not \"private\", \"group\", or what ids of groups begin with: \"group_support_\""
            ));
        }
    }
    Ok(())
}

/// The secrets that sign the calls of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secrets {
    /// The present one.
    pub present: Secret,
    /// The one before.
    pub old: Secret,
    /// It signs until then, in milliseconds since 1970.
    pub old_until: i64,
}

impl Secrets {
    /// Whether the old secret signs at `now`, in milliseconds since 1970.
    #[must_use]
    pub fn signs_with_old(&self, now: i64) -> bool {
        !self.old.is_empty() && now < self.old_until
    }

    /// What signs at `now`; `None` if the stored secret is none.
    #[must_use]
    pub fn key(&self, now: i64) -> Option<SigningKey> {
        let present = self.present.expose();
        if self.signs_with_old(now) {
            return SigningKey::parse(&format!("{present} {}", self.old.expose())).ok();
        }
        SigningKey::parse(present).ok()
    }
}

/// A secret that an operator gave: one, not two.
///
/// # Errors
/// Says what to write, and never shows the text.
pub fn check_secret(secret: &str) -> Result<(), InvalidWebhook> {
    if secret.split_ascii_whitespace().count() > 1 {
        return Err(InvalidWebhook::new("secret", "has several: the old one signs on after a rotation"));
    }
    if secret.trim() != secret {
        return Err(InvalidWebhook::new("secret", "begins or ends with a blank"));
    }
    SigningKey::parse(secret).map(drop).map_err(|error| InvalidWebhook::new("secret", error))
}

/// A webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Its id.
    pub id: WebhookId,
    /// What it is for.
    pub name: String,
    /// Where calls go.
    pub url: String,
    /// What signs them.
    pub secrets: Secrets,
    /// Which events it gets.
    pub filter: Filter,
    /// Events of one call, at most.
    pub batch_events: u32,
    /// Bytes of the events of one call, at most.
    pub batch_bytes: u32,
    /// In milliseconds since 1970.
    pub created_at: i64,
    /// In milliseconds since 1970; higher with each change.
    pub updated_at: i64,
}

#[cfg(test)]
mod tests;
