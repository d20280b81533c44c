//! How far each user has read.

use std::sync::Arc;

use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId};
use shared::mysql::positions::{self, Advance, ListedPosition};
use shared::mysql::{Pool, notifications, views};
use shared::permission::Relation;
use shared::redis::inbox::{Change, InboxUpdate, Inboxes};

use super::moved_positions::{MovedPosition, MovedPositions};
use crate::announce::Announcer;
use crate::budget::Payer;
use crate::identity::Identity;
use crate::membership::Memberships;
use crate::views::settings_changed;
use crate::wire::api_error::ApiError;

/// Moves and lists read positions.
#[derive(Debug)]
pub(super) struct ReadPositions {
    pool: Pool,
    inboxes: Inboxes,
    memberships: Arc<Memberships>,
    moved: MovedPositions,
    announcer: Announcer,
    /// Notifications are on.
    has_notifications: bool,
}

impl ReadPositions {
    pub(super) fn new(
        pool: Pool,
        inboxes: Inboxes,
        memberships: Arc<Memberships>,
        (moved, announcer): (MovedPositions, Announcer),
        has_notifications: bool,
    ) -> Self {
        Self { pool, inboxes, memberships, moved, announcer, has_notifications }
    }

    /// Moves the read position forward to `cursor`, records it in the user's inbox, and announces it to the user's other
    /// connections and to the other user of a private chat, with an unread count that `payer` pays for.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(super) async fn advance(
        &self,
        (payer, by): (&Payer, &Identity),
        conversation: &Conversation,
        cursor: Seq,
    ) -> Result<Advance, ApiError> {
        let permissions = self.memberships.require_to_read(conversation, &by.user).await?;
        let advance = positions::advance(&self.pool, &by.user, conversation, cursor)
            .await
            .map_err(|e| ApiError::database(&e))?;
        if !(advance.moved || advance.unmarked) {
            return Ok(advance);
        }
        let update = InboxUpdate { user: &by.user, conversation, change: Change::Other };
        if let Err(error) = self.inboxes.record(std::iter::once(update)).await {
            tracing::warn!(
                user.id = %by.user, conversation.id = %conversation, %error,
                "Cannot record the read position of user {} in its inbox; the next sync lacks it", by.user
            );
        }
        if advance.unmarked {
            self.announce_unmarked(by, conversation).await;
        }
        if advance.moved {
            if self.has_notifications {
                self.withdraw(&by.user, conversation).await;
            }
            let moved = MovedPosition {
                position: advance.position,
                counted_from: permissions.history.counted_from(),
                origin: by.origin,
                payer: payer.clone(),
            };
            self.moved.announce(&by.user, conversation, moved);
        }
        Ok(advance)
    }

    /// Lets what devices show be withdrawn, after the position is stored. What fails here is noticed when the notification is
    /// looked at again.
    async fn withdraw(&self, user: &UserId, conversation: &Conversation) {
        if let Err(error) = notifications::touch(&self.pool, user, conversation).await {
            tracing::warn!(
                user.id = %user, conversation.id = %conversation, %error,
                "The notification of user {user} about {conversation} cannot be withdrawn now; it is withdrawn later"
            );
        }
    }

    /// The conversation is not marked as unread any more. If that cannot be announced, a sync tells it.
    async fn announce_unmarked(&self, by: &Identity, conversation: &Conversation) {
        match views::settings(&self.pool, &by.user, conversation).await {
            Ok(settings) => {
                let origin = Some(by.origin);
                self.announcer.announce(settings_changed(&by.user, conversation, &settings, origin));
            }
            Err(error) => tracing::warn!(
                user.id = %by.user, conversation.id = %conversation, %error,
                "Cannot read the settings of user {} for {conversation}; its other devices see them with the next sync", by.user
            ),
        }
    }

    /// The read positions of at most `limit` members whose ids are above `cursor`, by id. Those who have blocked `user` are left
    /// out.
    ///
    /// # Errors
    /// 403, 404, 503.
    pub(super) async fn list(
        &self,
        user: &UserId,
        conversation: &Conversation,
        cursor: &str,
        limit: u32,
    ) -> Result<Vec<ListedPosition>, ApiError> {
        let permissions = self.memberships.require(conversation, user).await?;
        let Kind::Private(lo, hi) = conversation.kind() else {
            let listed = positions::of_group(&self.pool, conversation, user, cursor, limit).await;
            return listed.map_err(|e| ApiError::database(&e));
        };
        let mut both = Vec::new();
        for id in if lo == hi { vec![lo] } else { vec![lo, hi] } {
            let Ok(reader) = UserId::parse(id) else { continue };
            let read = positions::of_user(&self.pool, &reader, &[conversation]).await;
            let read = read.map_err(|e| ApiError::database(&e))?;
            let seq = read.get(conversation).copied().unwrap_or(Seq::ZERO);
            both.push(ListedPosition { user_id: id.to_owned(), seq });
        }
        if permissions.relation == (Relation::Participant { is_blocked: true }) {
            both.retain(|position| position.user_id == user.as_str());
        }
        both.retain(|position| position.user_id.as_str() > cursor);
        both.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(both)
    }
}
