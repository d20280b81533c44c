//! `user_profile`: what users show of themselves.
//!
//! A user without a row shows the nickname of its account (`user_account`). Nothing is cached: whoever reads after a change
//! is committed sees it, on every gateway.

use std::sync::LazyLock;

use ahash::AHashSet;
use sqlx::{MySqlConnection, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Transaction, Tx, files, run_tx};
use crate::feed::{FeedBody, FeedShards, NewRow};
use crate::ids::{UserId, unix_millis};
use crate::message::FileId;
use crate::meta::Meta;
use crate::nickname::Nickname;

/// What a user shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The user.
    pub user_id: String,
    /// Its nickname, or its id if it has none.
    pub nickname: String,
    /// The file that is shown for it.
    pub avatar: Option<String>,
    /// The app's own.
    pub meta: Meta,
    /// The time of the last change, in milliseconds since 1970; higher with each change. 0 if nothing was ever set.
    pub updated_at: i64,
}

impl Profile {
    /// The profile of a user that has set nothing.
    #[must_use]
    pub fn unset(user: &UserId) -> Self {
        Self::new(user.as_str().to_owned(), String::new(), String::new(), 0)
    }

    fn new(user_id: String, nickname: String, meta: String, updated_at: i64) -> Self {
        let nickname = if nickname.is_empty() { user_id.clone() } else { nickname };
        Self { user_id, nickname, avatar: None, meta: Meta::from_stored(meta), updated_at }
    }
}

static PROFILES: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT user_id, nickname, meta, updated_at, avatar FROM user_profile WHERE user_id IN (",
        "?",
        ",",
        ")",
    )
});

static ACCOUNTS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new("SELECT user_id, nickname, created_at FROM user_account WHERE user_id IN (", "?", ",", ")")
});

/// The profiles of those of `users`, each given once, who have a profile or an account, by id. Two reads by primary key at most; one if all have
/// profiles.
///
/// # Errors
/// The database's.
pub async fn find(pool: &Pool, users: &[UserId]) -> sqlx::Result<Vec<Profile>> {
    let mut connection = pool.acquire().await?;
    let found = find_on(&mut connection, users).await;
    connection.finish(found)
}

async fn find_on(connection: &mut MySqlConnection, users: &[UserId]) -> sqlx::Result<Vec<Profile>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut profiles = Vec::with_capacity(users.len());
    for row in PROFILES.select(connection, None, &ids).await? {
        let avatar: String = row.try_get(4)?;
        let profile = Profile::new(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        profiles.push(Profile { avatar: Some(avatar).filter(|avatar| !avatar.is_empty()), ..profile });
    }
    let others: Vec<[&str; 1]> = {
        let found: AHashSet<&str> = profiles.iter().map(|profile| profile.user_id.as_str()).collect();
        ids.into_iter().filter(|[id]| !found.contains(id)).collect()
    };
    for row in ACCOUNTS.select(connection, None, &others).await? {
        profiles.push(Profile::new(row.try_get(0)?, row.try_get(1)?, String::new(), row.try_get(2)?));
    }
    profiles.sort_unstable_by(|a, b| a.user_id.cmp(&b.user_id));
    Ok(profiles)
}

/// What is to change of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProfileUpdate {
    /// Another nickname.
    pub nickname: Option<Nickname>,
    /// Another object of the app's own.
    pub meta: Option<Meta>,
    /// Another avatar; `Some(None)` takes it away.
    pub avatar: Option<Option<FileId>>,
}

/// Changes what `update` has; the rest stays as it is. `feed`: the change feed, if it is on. False, and nothing is changed, if the avatar has gone.
///
/// # Errors
/// The database's.
pub async fn update(
    pool: &Pool,
    user: &UserId,
    update: &ProfileUpdate,
    feed: Option<FeedShards>,
) -> sqlx::Result<bool> {
    run_tx(pool, &Change { user, update, is_whole: false, feed }).await
}

/// Sets the whole profile: what `profile` lacks is unset. `feed`: the change feed, if it is on. False, and nothing is changed, if the avatar has gone.
///
/// # Errors
/// The database's.
pub async fn replace(
    pool: &Pool,
    user: &UserId,
    profile: &ProfileUpdate,
    feed: Option<FeedShards>,
) -> sqlx::Result<bool> {
    run_tx(pool, &Change { user, update: profile, is_whole: true, feed }).await
}

struct Change<'a> {
    user: &'a UserId,
    update: &'a ProfileUpdate,
    /// What the update lacks is unset.
    is_whole: bool,
    feed: Option<FeedShards>,
}

impl Transaction for Change<'_> {
    type Output = bool;
    type Error = sqlx::Error;

    const NAME: &'static str = "update profile";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<bool> {
        let avatar = if self.is_whole {
            Some(self.update.avatar.as_ref().and_then(Option::as_ref))
        } else {
            self.update.avatar.as_ref().map(Option::as_ref)
        };
        if let Some(new) = avatar {
            let old: Option<String> =
                sqlx::query_scalar("SELECT avatar FROM user_profile WHERE user_id = ? FOR UPDATE")
                    .bind(self.user.as_str())
                    .fetch_optional(&mut *tx)
                    .await?;
            let old = old.as_deref().filter(|old| !old.is_empty());
            if old != new.map(FileId::as_str) && !files::exchange_avatar(tx, old, new).await? {
                return Ok(false);
            }
        }
        if self.is_whole {
            self.replace(tx).await?
        } else {
            self.update(tx).await?
        }
        if let Some(new) = avatar {
            sqlx::query("UPDATE user_profile SET avatar = ? WHERE user_id = ?")
                .bind(new.map_or("", FileId::as_str))
                .bind(self.user.as_str())
                .execute(&mut *tx)
                .await?;
        }
        Ok(true)
    }

    fn feed(&self, is_changed: &mut bool) -> Vec<NewRow> {
        let shards = self.feed.filter(|_| *is_changed);
        let row = |shards: FeedShards| NewRow {
            shard: shards.of_user(self.user),
            body: FeedBody { profile: Some(self.user.clone()), ..FeedBody::default() },
        };
        shards.map(row).into_iter().collect()
    }
}

impl Change<'_> {
    async fn update(&self, tx: &mut Tx) -> sqlx::Result<()> {
        let (nickname, meta) = (
            self.update.nickname.as_ref().map(Nickname::as_str),
            self.update.meta.as_ref().map(Meta::as_str),
        );
        sqlx::query(
            "INSERT INTO user_profile (user_id, nickname, meta, updated_at) \
             VALUES (?, COALESCE(?, (SELECT nickname FROM user_account WHERE user_id = ?), ''), COALESCE(?, ''), ?) \
             ON DUPLICATE KEY UPDATE nickname = COALESCE(?, user_profile.nickname), \
             meta = COALESCE(?, user_profile.meta), \
             updated_at = GREATEST(user_profile.updated_at + 1, VALUES(updated_at))",
        )
        .bind(self.user.as_str())
        .bind(nickname)
        .bind(self.user.as_str())
        .bind(meta)
        .bind(unix_millis())
        .bind(nickname)
        .bind(meta)
        .execute(&mut *tx)
        .await
        .map(drop)
    }

    async fn replace(&self, tx: &mut Tx) -> sqlx::Result<()> {
        sqlx::query(
            "INSERT INTO user_profile (user_id, nickname, meta, updated_at) VALUES (?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE nickname = VALUES(nickname), meta = VALUES(meta), \
             updated_at = GREATEST(user_profile.updated_at + 1, VALUES(updated_at))",
        )
        .bind(self.user.as_str())
        .bind(self.update.nickname.as_ref().map_or("", Nickname::as_str))
        .bind(self.update.meta.as_ref().map_or("", Meta::as_str))
        .bind(unix_millis())
        .execute(&mut *tx)
        .await
        .map(drop)
    }
}
