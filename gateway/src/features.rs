//! The features of this gateway, as clients may ask for them.

use shared::message::{Message, MessageKind};

use crate::config::Config;
use crate::wire::api_error::ApiError;

/// A feature that may be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// Editing messages.
    Edits,
    /// `meta` of messages, and messages of the app's own types.
    Meta,
    /// Messages that answer others.
    Replies,
    /// Messages that mention users.
    Mentions,
    /// Reactions to messages.
    Reactions,
    /// Pinned messages.
    Pins,
    /// Changes of groups as entries of their timelines.
    System,
    /// What users set for their conversations, and clearing them.
    Settings,
    /// Profiles of users, and what groups show beside their names.
    Profiles,
    /// Events about who is connected.
    PresenceEvents,
    /// Pictures and files.
    Files,
    /// The change feed of a user's own conversations.
    Feed,
}

impl Feature {
    /// In the order in which clients are told them.
    const ALL: [Self; 12] = [
        Self::Edits,
        Self::Meta,
        Self::Replies,
        Self::Mentions,
        Self::Reactions,
        Self::Pins,
        Self::System,
        Self::Settings,
        Self::Profiles,
        Self::PresenceEvents,
        Self::Files,
        Self::Feed,
    ];

    /// The name that clients know it by.
    fn name(self) -> &'static str {
        match self {
            Self::Edits => "edit",
            Self::Meta => "meta",
            Self::Replies => "reply",
            Self::Mentions => "mentions",
            Self::Reactions => "reactions",
            Self::Pins => "pins",
            Self::System => "system",
            Self::Settings => "settings",
            Self::Profiles => "profiles",
            Self::PresenceEvents => "presence_events",
            Self::Files => "files",
            Self::Feed => "feed",
        }
    }

    /// The key of the configuration that switches it on.
    fn setting(self) -> &'static str {
        match self {
            Self::Edits => "messages.edits",
            Self::Meta => "messages.meta",
            Self::Replies => "messages.replies",
            Self::Mentions => "messages.mentions",
            Self::Reactions => "messages.reactions",
            Self::Pins => "messages.pins",
            Self::System => "groups.system_messages",
            Self::Settings => "conversations.settings",
            Self::Profiles => "profiles.enabled",
            Self::PresenceEvents => "presence.events",
            Self::Files => "files.store",
            Self::Feed => "feed.enabled",
        }
    }

    fn is_on(self, config: &Config) -> bool {
        let messages = &config.messages;
        match self {
            Self::Edits => messages.edits,
            Self::Meta => messages.meta,
            Self::Replies => messages.replies,
            Self::Mentions => messages.mentions,
            Self::Reactions => messages.reactions,
            Self::Pins => messages.pins,
            Self::System => config.groups.system_messages,
            Self::Settings => config.conversations.settings,
            Self::Profiles => config.profiles.enabled,
            Self::PresenceEvents => config.presence.events,
            Self::Files => config.files.is_on(),
            Self::Feed => config.feed.enabled,
        }
    }
}

/// The features that are switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Features(Vec<Feature>);

impl Features {
    pub(crate) fn of(config: &Config) -> Self {
        Self(Feature::ALL.into_iter().filter(|feature| feature.is_on(config)).collect())
    }

    /// Their names. A client that finds a feature here may use its requests and fields.
    #[must_use]
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|feature| feature.name()).collect()
    }

    #[must_use]
    pub(crate) fn is_on(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Refuses a message that needs a feature that is switched off.
    ///
    /// # Errors
    /// 400 with the name of the setting.
    pub(crate) fn require_for(&self, message: &Message) -> Result<(), ApiError> {
        let of_kind = match &message.kind {
            MessageKind::Edit { .. } => Some(Feature::Edits),
            MessageKind::Reaction { .. } => Some(Feature::Reactions),
            MessageKind::Pin { .. } => Some(Feature::Pins),
            MessageKind::App { .. } => Some(Feature::Meta),
            _ => None,
        };
        let details = message.details.as_deref();
        let meta = details.and_then(|details| details.meta.as_ref()).map(|_| Feature::Meta);
        let reply = details.and_then(|details| details.reply_to).map(|_| Feature::Replies);
        let mentions = details.and_then(|details| details.mentions.as_ref()).map(|_| Feature::Mentions);
        let files = message.has_files().then_some(Feature::Files);
        let mut needed = [of_kind, meta, reply, mentions, files].into_iter().flatten();
        needed.try_for_each(|feature| self.require(feature))
    }

    /// Refuses requests of a feature that is switched off.
    ///
    /// # Errors
    /// 400 with the name of the setting.
    pub(crate) fn require(&self, feature: Feature) -> Result<(), ApiError> {
        if self.is_on(feature) {
            return Ok(());
        }
        let (name, setting) = (feature.name(), feature.setting());
        let off = if feature == Feature::Files { "\"none\"" } else { "false" };
        Err(ApiError::Malformed(format!(
            "the feature {name} is switched off here: the gateway runs with {setting} = {off}"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_that_is_switched_off_is_not_listed_and_names_its_setting() {
        let mut config = Config::default();
        let all = [
            "edit",
            "meta",
            "reply",
            "mentions",
            "reactions",
            "pins",
            "system",
            "settings",
            "profiles",
            "presence_events",
        ];
        assert_eq!(Features::of(&config).names(), all);
        assert_eq!(Features::of(&config).require(Feature::Profiles), Ok(()));
        config.profiles.enabled = false;
        config.conversations.settings = false;
        config.presence.events = false;
        assert_eq!(Features::of(&config).names(), all[..7]);
        for (feature, setting) in [
            (Feature::Profiles, "profiles.enabled"),
            (Feature::Settings, "conversations.settings"),
            (Feature::PresenceEvents, "presence.events"),
        ] {
            let refused = Features::of(&config).require(feature).unwrap_err();
            assert_eq!(refused.code(), 400);
            assert!(refused.message().contains(&format!("{setting} = false")), "{}", refused.message());
        }
    }
}
