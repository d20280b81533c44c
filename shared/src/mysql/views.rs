//! A user's own view of its conversations: what it has set (`user_conversation_state`), and what it has cleared.

use std::sync::LazyLock;

use ahash::AHashMap;
use serde::Serialize;
use sqlx::Row as _;
use sqlx::mysql::MySqlRow;

use super::multi_row::MultiRow;
use super::{Pool, Transaction, Tx, run_tx};
use crate::conversation::{Conversation, Kind};
use crate::ids::{Seq, UserId, unix_millis};

/// The longest draft, in bytes of UTF-8.
pub const DRAFT_BYTES_MAX: usize = 4_096;

/// What a user has set for one conversation. As JSON it has what is not at its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ViewSettings {
    /// No notifications until then, in milliseconds since 1970; -1 for ever, 0 if it is not muted.
    #[serde(skip_serializing_if = "is_default")]
    pub muted_until: i64,
    /// It is at the top of the user's list.
    #[serde(skip_serializing_if = "is_default")]
    pub pinned: bool,
    /// It is put away.
    #[serde(skip_serializing_if = "is_default")]
    pub archived: bool,
    /// It is shown as unread until the user reads it.
    #[serde(skip_serializing_if = "is_default")]
    pub marked_unread: bool,
    /// What the user has begun to write, at most [`DRAFT_BYTES_MAX`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draft: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A change of a user's settings; `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ViewUpdate {
    /// See [`ViewSettings::muted_until`].
    pub muted_until: Option<i64>,
    /// See [`ViewSettings::pinned`].
    pub pinned: Option<bool>,
    /// See [`ViewSettings::archived`].
    pub archived: Option<bool>,
    /// See [`ViewSettings::marked_unread`].
    pub marked_unread: Option<bool>,
    /// `Some(None)` takes the draft away.
    pub draft: Option<Option<String>>,
}

impl ViewUpdate {
    /// `before` with this change.
    fn applied_to(&self, before: &ViewSettings) -> ViewSettings {
        ViewSettings {
            muted_until: self.muted_until.unwrap_or(before.muted_until),
            pinned: self.pinned.unwrap_or(before.pinned),
            archived: self.archived.unwrap_or(before.archived),
            marked_unread: self.marked_unread.unwrap_or(before.marked_unread),
            draft: self.draft.clone().unwrap_or_else(|| before.draft.clone()),
        }
    }
}

/// The state of one conversation for one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The read position.
    pub last_ack_seq: Seq,
    /// What the user has set.
    pub settings: ViewSettings,
    /// Nothing at or below is shown to the user; `None` if it has cleared nothing.
    pub cleared: Option<Seq>,
}

static OF_USER: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT conversation_id, last_ack_seq, muted_until, is_pinned, is_archived, is_marked_unread, draft, cleared_seq \
         FROM user_conversation_state WHERE user_id = ? AND conversation_id IN (",
        "?",
        ",",
        ")",
    )
});

/// The views of `user` on `conversations`; those that it has neither read nor set up are left out.
///
/// # Errors
/// The database's.
pub async fn of_user(
    pool: &Pool,
    user: &UserId,
    conversations: &[&Conversation],
) -> sqlx::Result<AHashMap<Conversation, View>> {
    OF_USER.by_conversation(pool, Some(user.as_str()), conversations, view).await
}

fn view(row: &MySqlRow) -> sqlx::Result<View> {
    let cleared: Option<u64> = row.try_get(7)?;
    Ok(View {
        last_ack_seq: Seq(row.try_get(1)?),
        settings: ViewSettings {
            muted_until: row.try_get(2)?,
            pinned: row.try_get(3)?,
            archived: row.try_get(4)?,
            marked_unread: row.try_get(5)?,
            draft: row.try_get(6)?,
        },
        cleared: cleared.map(Seq),
    })
}

/// What `user` has set for `conversation`.
///
/// # Errors
/// The database's.
pub async fn settings(pool: &Pool, user: &UserId, conversation: &Conversation) -> sqlx::Result<ViewSettings> {
    let found = of_user(pool, user, &[conversation]).await?.remove(conversation);
    Ok(found.unwrap_or_default().settings)
}

/// Changes what `user` has set for `conversation`. Returns the settings after the change, and whether they differ from
/// those before.
///
/// # Errors
/// The database's.
pub async fn update(
    pool: &Pool,
    user: &UserId,
    conversation: &Conversation,
    update: &ViewUpdate,
) -> sqlx::Result<(ViewSettings, bool)> {
    let before = settings(pool, user, conversation).await?;
    let after = update.applied_to(&before);
    if after == before {
        return Ok((before, false));
    }
    // Another device may change other settings at the same moment: only what this change names is written.
    sqlx::query(
        "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at, \
         muted_until, is_pinned, is_archived, is_marked_unread, draft) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?) \
         ON DUPLICATE KEY UPDATE updated_at = VALUES(updated_at), \
         muted_until = IF(?, VALUES(muted_until), muted_until), is_pinned = IF(?, VALUES(is_pinned), is_pinned), \
         is_archived = IF(?, VALUES(is_archived), is_archived), \
         is_marked_unread = IF(?, VALUES(is_marked_unread), is_marked_unread), draft = IF(?, VALUES(draft), draft)",
    )
    .bind(user.as_str())
    .bind(conversation.key())
    .bind(unix_millis())
    .bind(after.muted_until)
    .bind(after.pinned)
    .bind(after.archived)
    .bind(after.marked_unread)
    .bind(after.draft.as_deref())
    .bind(update.muted_until.is_some())
    .bind(update.pinned.is_some())
    .bind(update.archived.is_some())
    .bind(update.marked_unread.is_some())
    .bind(update.draft.is_some())
    .execute(pool)
    .await?;
    Ok((settings(pool, user, conversation).await?, true))
}

/// Clears `conversation` for `user` up to its present head. Returns that head, or a higher one up to which it was cleared
/// before; `None` if it is a private chat without messages, which is in no list.
///
/// # Errors
/// The database's.
pub async fn clear(pool: &Pool, user: &UserId, conversation: &Conversation) -> sqlx::Result<Option<Seq>> {
    run_tx(pool, &Clear { user, conversation }).await
}

struct Clear<'c> {
    user: &'c UserId,
    conversation: &'c Conversation,
}

impl Transaction for Clear<'_> {
    type Output = Option<Seq>;
    type Error = sqlx::Error;

    const NAME: &'static str = "clear";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<Option<Seq>> {
        let (user, key) = (self.user.as_str(), self.conversation.key());
        // Not locked: what is committed meanwhile is above this head, and is shown.
        let head: Option<(u64, u64)> =
            sqlx::query_as("SELECT last_seq, access_version FROM conversation WHERE conversation_id = ?")
                .bind(key)
                .fetch_optional(&mut *tx)
                .await?;
        let (last_seq, version) = head.unwrap_or_default();
        if last_seq == 0 && self.conversation.kind() != Kind::Group {
            return Ok(None);
        }
        sqlx::query(
            "INSERT INTO user_conversation_state (user_id, conversation_id, last_ack_seq, updated_at, cleared_seq) \
             VALUES (?, ?, 0, ?, ?) ON DUPLICATE KEY UPDATE updated_at = VALUES(updated_at), \
             cleared_seq = GREATEST(COALESCE(cleared_seq, 0), VALUES(cleared_seq))",
        )
        .bind(user)
        .bind(key)
        .bind(unix_millis())
        .bind(last_seq)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO cleared_conversation (user_id, conversation_id) VALUES (?, ?) \
             ON DUPLICATE KEY UPDATE user_id = cleared_conversation.user_id",
        )
        .bind(user)
        .bind(key)
        .execute(&mut *tx)
        .await?;
        super::access::log_clear(tx, self.conversation, version, self.user).await?;
        let cleared: u64 = sqlx::query_scalar(
            "SELECT cleared_seq FROM user_conversation_state WHERE user_id = ? AND conversation_id = ?",
        )
        .bind(user)
        .bind(key)
        .fetch_one(&mut *tx)
        .await?;
        Ok(Some(Seq(cleared)))
    }
}

static CLEARED_OF: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT c.user_id, c.conversation_id, s.cleared_seq FROM cleared_conversation c \
         JOIN user_conversation_state s ON s.user_id = c.user_id AND s.conversation_id = c.conversation_id \
         WHERE s.cleared_seq IS NOT NULL AND c.user_id IN (",
        "?",
        ",",
        ")",
    )
});

/// What each of `users` has cleared, and up to where; a user who has cleared nothing has no entry.
///
/// # Errors
/// The database's; an ill-formed stored id is left out and logged.
pub async fn cleared_of(
    pool: &Pool,
    users: &[UserId],
) -> sqlx::Result<AHashMap<UserId, Vec<(Conversation, Seq)>>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut cleared: AHashMap<UserId, Vec<(Conversation, Seq)>> = AHashMap::new();
    for row in CLEARED_OF.select_from(pool, None, &ids).await? {
        let (user, key): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(user), Ok(conversation)) = (UserId::parse(user), Conversation::from_key(key)) else {
            tracing::error!(%user, %key, "ill-formed id in cleared_conversation");
            continue;
        };
        cleared.entry(user).or_default().push((conversation, Seq(row.try_get(2)?)));
    }
    Ok(cleared)
}

/// Whether `peer` has blocked `user`, and up to where `user` has cleared their private chat `conversation`.
///
/// # Errors
/// The database's.
pub async fn of_participant(
    pool: &Pool,
    conversation: &Conversation,
    user: &UserId,
    peer: &str,
) -> sqlx::Result<(bool, Seq)> {
    let row = sqlx::query(
        "SELECT EXISTS (SELECT 1 FROM user_block WHERE user_id = ? AND blocked_id = ?), \
         (SELECT cleared_seq FROM user_conversation_state WHERE user_id = ? AND conversation_id = ?)",
    )
    .bind(peer)
    .bind(user.as_str())
    .bind(user.as_str())
    .bind(conversation.key())
    .fetch_one(pool)
    .await?;
    let (is_blocked, cleared): (i64, Option<u64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok((is_blocked != 0, Seq(cleared.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_as_json_have_what_is_not_at_its_default() {
        let json = |settings: &ViewSettings| serde_json::to_string(settings).unwrap();
        assert_eq!(json(&ViewSettings::default()), "{}");
        let all = ViewSettings {
            muted_until: -1,
            pinned: true,
            archived: true,
            marked_unread: true,
            draft: Some("x".to_owned()),
        };
        assert_eq!(
            json(&all),
            r#"{"muted_until":-1,"pinned":true,"archived":true,"marked_unread":true,"draft":"x"}"#
        );
        let removed = ViewUpdate { draft: Some(None), pinned: Some(false), ..ViewUpdate::default() };
        assert_eq!(
            json(&removed.applied_to(&all)),
            r#"{"muted_until":-1,"archived":true,"marked_unread":true}"#
        );
        assert_eq!(ViewUpdate::default().applied_to(&all), all);
    }
}
