//! Changing a group's settings, and dismissing it.

use super::change::{Difference, GroupChange};
use super::error::GroupError;
use super::policy::NewcomerHistory;
use super::rows::{existing, floor_of, relation_of};
use crate::conversation::Conversation;
use crate::ids::{Seq, UserId, unix_millis};
use crate::message::FileId;
use crate::meta::Meta;
use crate::mysql::system_entries::{SystemChange, SystemEntry};
use crate::mysql::{Tx, files};
use crate::permission::{Action, Actor};

/// Changes a group's settings: for the owner and admins. A setting that is `None` stays as it is.
#[derive(Debug, Clone)]
pub struct UpdateGroup<'c> {
    /// The caller.
    pub by: &'c Actor,
    /// Another name.
    pub name: Option<&'c str>,
    /// Another notice.
    pub notice: Option<&'c str>,
    /// Another object of the app's own.
    pub meta: Option<&'c Meta>,
    /// Another avatar; `Some(None)` takes it away.
    pub avatar: Option<Option<&'c FileId>>,
    /// Whether only the owner and admins may send.
    pub is_muted: Option<bool>,
    /// Whether new members see the messages before them: those that the caller sees.
    pub history_from_start: Option<bool>,
}

impl<'c> UpdateGroup<'c> {
    /// No change yet, by `by`.
    #[must_use]
    pub fn unchanged(by: &'c Actor) -> Self {
        let (name, notice, meta, avatar) = (None, None, None, None);
        Self { by, name, notice, meta, avatar, is_muted: None, history_from_start: None }
    }
}

impl GroupChange for UpdateGroup<'_> {
    const NAME: &'static str = "update group";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        _: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        relation_of(tx, group, &found, self.by).await?.check(Action::UpdateGroup, unix_millis)?;
        self.set_avatar(tx, group, found.avatar.as_deref()).await?;
        let mut history = found.newcomer_history;
        if let Some(from_start) = self.history_from_start {
            history = history.set(from_start, floor_of(tx, group, self.by).await?);
        }
        let (from_start, floor) = match history {
            NewcomerHistory::From(floor) => (true, floor),
            NewcomerHistory::Joining => (false, Seq::ZERO),
        };
        sqlx::query(
            "UPDATE chat_group SET name = COALESCE(?, name), notice = COALESCE(?, notice), meta = COALESCE(?, meta), \
             is_muted = COALESCE(?, is_muted), history_from_start = ?, history_floor = ? WHERE group_id = ?",
        )
        .bind(self.name)
        .bind(self.notice)
        .bind(self.meta.map(Meta::as_str))
        .bind(self.is_muted)
        .bind(from_start)
        .bind(floor.0)
        .bind(group.key())
        .execute(&mut *tx)
        .await?;
        let renamed = self.name.filter(|name| *name != found.name);
        let entry = renamed.map(|name| {
            SystemEntry::new(SystemChange::Renamed { name: name.to_owned() }, self.by, Vec::new())
        });
        Ok(Some(Difference { entry, ..Difference::default() }))
    }
}

impl UpdateGroup<'_> {
    async fn set_avatar(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        old: Option<&str>,
    ) -> Result<(), GroupError> {
        let Some(new) = self.avatar else { return Ok(()) };
        if old == new.map(FileId::as_str) {
            return Ok(());
        }
        if !files::exchange_avatar(tx, old, new).await? {
            return Err(GroupError::AvatarGone);
        }
        sqlx::query("UPDATE chat_group SET avatar = ? WHERE group_id = ?")
            .bind(new.map_or("", FileId::as_str))
            .bind(group.key())
            .execute(&mut *tx)
            .await?;
        Ok(())
    }
}

/// Dismisses a group for good: for the owner. It has no members afterwards; its messages stay stored.
#[derive(Debug, Clone)]
pub struct DismissGroup<'c> {
    /// The caller.
    pub by: &'c Actor,
}

impl GroupChange for DismissGroup<'_> {
    const NAME: &'static str = "dismiss group";

    async fn apply(
        &self,
        tx: &mut Tx,
        group: &Conversation,
        _: Seq,
    ) -> Result<Option<Difference>, GroupError> {
        let found = existing(tx, group).await?;
        relation_of(tx, group, &found, self.by).await?.check(Action::DismissGroup, unix_millis)?;
        UpdateGroup { avatar: Some(None), ..UpdateGroup::unchanged(self.by) }
            .set_avatar(tx, group, found.avatar.as_deref())
            .await?;
        let left: Vec<String> = sqlx::query_scalar("SELECT user_id FROM group_member WHERE group_id = ?")
            .bind(group.key())
            .fetch_all(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM group_member WHERE group_id = ?")
            .bind(group.key())
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE chat_group SET is_dismissed = TRUE WHERE group_id = ?")
            .bind(group.key())
            .execute(&mut *tx)
            .await?;
        let left = left.iter().filter_map(|id| UserId::parse(id).ok()).collect();
        Ok(Some(Difference { left, ..Difference::default() }))
    }
}
