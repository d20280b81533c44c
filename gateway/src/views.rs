//! A user's own view of its conversations: changes it, and tells the user's other devices.
//!
//! What a user has set is read from the database with each list. What it has cleared is kept by `membership` for the users
//! who are connected, because it decides what every read shows: a call that clears is answered when all gateways have it.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::event::Kind;
use shared::conversation::Conversation;
use shared::ids::{ConnectionId, UserId};
use shared::message::origin_to_wire;
use shared::mysql::views::{self, ViewSettings, ViewUpdate};
use shared::mysql::{Pool, notifications};

use crate::announce::Announcer;
use crate::membership::{Barriers, InboxUpdates, Memberships};
use crate::wire::api_error::ApiError;

/// How long a call waits until its change is recorded in the user's inbox. The recording goes on after that.
const INBOX_TIMEOUT: Duration = Duration::from_secs(1);

/// Changes views.
#[derive(Debug)]
pub(crate) struct Views {
    pub(crate) pool: Pool,
    pub(crate) memberships: Arc<Memberships>,
    pub(crate) barriers: Arc<Barriers>,
    pub(crate) announcer: Announcer,
    pub(crate) inbox_updates: InboxUpdates,
    /// Notifications are on.
    pub(crate) has_notifications: bool,
}

impl Views {
    /// Changes what `user` has set for `conversation`. Returns all of it.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn update(
        &self,
        user: &UserId,
        conversation: &Conversation,
        update: &ViewUpdate,
    ) -> Result<ViewSettings, ApiError> {
        self.memberships.require_inside(conversation, user).await?;
        let updated = views::update(&self.pool, user, conversation, update).await;
        let (settings, is_changed) = updated.map_err(|e| ApiError::database(&e))?;
        if is_changed {
            if update.muted_until.is_some() {
                self.look_at_notification(user, conversation).await;
            }
            self.record(user, conversation).await;
            self.announcer.announce(settings_changed(user, conversation, &settings, None));
        }
        Ok(settings)
    }

    /// Clears `conversation` for `user`. When this returns, it holds on every live gateway, or the barrier has timed out.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(crate) async fn clear(&self, user: &UserId, conversation: &Conversation) -> Result<(), ApiError> {
        self.memberships.require_inside(conversation, user).await?;
        let cleared = views::clear(&self.pool, user, conversation).await;
        let Some(seq) = cleared.map_err(|e| ApiError::database(&e))? else { return Ok(()) };
        let event = v1::ConversationCleared {
            conversation: conversation.key().to_owned(),
            user_id: user.as_str().to_owned(),
            seq: seq.0,
        };
        self.memberships.conversation_cleared(&event);
        self.look_at_notification(user, conversation).await;
        tokio::join!(
            self.barriers.announce(Kind::ConversationCleared(event)),
            self.record(user, conversation)
        );
        Ok(())
    }

    /// What devices show may be withdrawn. If this fails, that happens when it is looked at again.
    async fn look_at_notification(&self, user: &UserId, conversation: &Conversation) {
        if !self.has_notifications {
            return;
        }
        if let Err(error) = notifications::touch(&self.pool, user, conversation).await {
            tracing::warn!(
                user.id = %user, conversation.id = %conversation, %error,
                "The notification of user {user} about {conversation} cannot be looked at now; it is looked at later"
            );
        }
    }

    /// A sync brings the change to devices that are not connected.
    async fn record(&self, user: &UserId, conversation: &Conversation) {
        let recorded = self.inbox_updates.record_view(user.clone(), conversation.clone());
        let _ = tokio::time::timeout(INBOX_TIMEOUT, recorded).await;
    }
}

/// The event that tells the other connections of `user` what it has set for `conversation`. `origin`: the connection that
/// changed it.
pub(crate) fn settings_changed(
    user: &UserId,
    conversation: &Conversation,
    settings: &ViewSettings,
    origin: Option<ConnectionId>,
) -> Kind {
    Kind::ViewSettingsChanged(v1::ViewSettingsChanged {
        conversation: conversation.key().to_owned(),
        user_id: user.as_str().to_owned(),
        origin: origin.map(origin_to_wire),
        settings: Some(v1::ViewSettings {
            muted_until: settings.muted_until,
            pinned: settings.pinned,
            archived: settings.archived,
            marked_unread: settings.marked_unread,
            draft: settings.draft.clone(),
        }),
    })
}

/// The settings of such an event.
pub(crate) fn settings_of(event: &v1::ViewSettingsChanged) -> ViewSettings {
    let v1::ViewSettings { muted_until, pinned, archived, marked_unread, draft } =
        event.settings.clone().unwrap_or_default();
    ViewSettings { muted_until, pinned, archived, marked_unread, draft }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_carries_all_settings() {
        let user = UserId::parse("alice").unwrap();
        let conversation = Conversation::from_key("group_1").unwrap();
        let settings = ViewSettings {
            muted_until: -1,
            pinned: true,
            archived: true,
            marked_unread: true,
            draft: Some("x".to_owned()),
        };
        let origin = Some(ConnectionId { gateway: 1, connection: 2 });
        let event = settings_changed(&user, &conversation, &settings, origin);
        let Kind::ViewSettingsChanged(event) = event else { panic!("{event:?}") };
        assert_eq!(settings_of(&event), settings);
        assert_eq!(event.origin.map(|origin| origin.connection), Some(2));
    }
}
