//! `push_subscription`: the devices that take notifications.

use std::sync::LazyLock;

use ahash::AHashMap;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::multi_row::MultiRow;
use super::{Pool, Transaction, Tx, run_tx};
use crate::ids::{DeviceId, UserId, unix_millis};

/// Most subscriptions of a user: a further one replaces the one that was of use longest ago.
pub const SUBSCRIPTIONS_MAX: u32 = 20;
/// An accepted notification is recorded at most this often for a device that had no failure.
const ACCEPTED_RECORDED_MS: i64 = 60_000;

/// What a device registers.
#[derive(Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// The kind of its push service: `webpush`, `fcm` or `apns`.
    pub kind: &'static str,
    /// The endpoint or the token, which nobody else has to know.
    pub target: String,
    /// Of Web Push: the public key of the device.
    pub p256dh: Option<String>,
    /// Of Web Push: the secret of the device.
    pub auth: Option<String>,
    /// Of Web Push: the public key that it subscribed with.
    pub vapid_key: Option<String>,
    /// Of APNs: the bundle id.
    pub topic: Option<String>,
    /// Of APNs: the token is of the sandbox.
    pub is_sandbox: Option<bool>,
    /// The device, as its connections name it.
    pub device: Option<DeviceId>,
}

impl std::fmt::Debug for NewSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSubscription")
            .field("kind", &self.kind)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// A stored subscription.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredSubscription {
    /// Its id.
    pub id: String,
    /// `webpush`, `fcm` or `apns`.
    pub kind: String,
    /// The endpoint or the token.
    pub target: String,
    /// See [`NewSubscription::p256dh`].
    pub p256dh: Option<String>,
    /// See [`NewSubscription::auth`].
    pub auth: Option<String>,
    /// See [`NewSubscription::vapid_key`].
    pub vapid_key: Option<String>,
    /// See [`NewSubscription::topic`].
    pub topic: Option<String>,
    /// See [`NewSubscription::is_sandbox`].
    pub is_sandbox: Option<bool>,
    /// See [`NewSubscription::device`].
    pub device_id: Option<String>,
    /// When the user registered it, in milliseconds since 1970.
    pub created_at: i64,
    /// When its push service last took a notification, in milliseconds since 1970.
    pub accepted_at: Option<i64>,
    /// Nothing is sent before, in milliseconds since 1970.
    pub retry_at: i64,
    /// Since the last notification that was taken.
    pub failures: u32,
}

impl std::fmt::Debug for StoredSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredSubscription")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Stores what a device of `user` registers, under `new_id` if its target is new. A target of another user is `user`'s from
/// now on. Returns the id.
///
/// # Errors
/// The database's.
pub async fn register(
    pool: &Pool,
    user: &UserId,
    new_id: &str,
    subscription: &NewSubscription,
) -> sqlx::Result<String> {
    run_tx(pool, &Register { user, new_id, subscription }).await
}

struct Register<'r> {
    user: &'r UserId,
    new_id: &'r str,
    subscription: &'r NewSubscription,
}

impl Transaction for Register<'_> {
    type Output = String;
    type Error = sqlx::Error;

    const NAME: &'static str = "register for notifications";

    async fn run(&self, tx: &mut Tx) -> sqlx::Result<String> {
        let NewSubscription { kind, target, p256dh, auth, vapid_key, topic, is_sandbox, device } =
            self.subscription;
        let (user, hashed) = (self.user.as_str(), format!("{kind} {target}"));
        let device = device.as_ref().map(DeviceId::as_str);
        sqlx::query(
            "INSERT INTO push_subscription (id, user_id, device_id, kind, target, target_hash, p256dh, auth, vapid_key, \
             topic, is_sandbox, created_at) VALUES (?, ?, ?, ?, ?, UNHEX(SHA2(?, 256)), ?, ?, ?, ?, ?, ?) \
             ON DUPLICATE KEY UPDATE created_at = IF(user_id = VALUES(user_id), created_at, VALUES(created_at)), \
             accepted_at = IF(user_id = VALUES(user_id), accepted_at, NULL), \
             user_id = VALUES(user_id), device_id = VALUES(device_id), p256dh = VALUES(p256dh), auth = VALUES(auth), \
             vapid_key = VALUES(vapid_key), topic = VALUES(topic), is_sandbox = VALUES(is_sandbox), retry_at = 0, failures = 0",
        )
        .bind(self.new_id)
        .bind(user)
        .bind(device)
        .bind(*kind)
        .bind(target)
        .bind(&hashed)
        .bind(p256dh.as_deref())
        .bind(auth.as_deref())
        .bind(vapid_key.as_deref())
        .bind(topic.as_deref())
        .bind(*is_sandbox)
        .bind(unix_millis())
        .execute(&mut *tx)
        .await?;
        let id: String =
            sqlx::query_scalar("SELECT id FROM push_subscription WHERE target_hash = UNHEX(SHA2(?, 256))")
                .bind(&hashed)
                .fetch_one(&mut *tx)
                .await?;
        if device.is_some() {
            // Its earlier endpoint or token: a device shows a message once.
            sqlx::query(
                "DELETE FROM push_subscription WHERE user_id = ? AND device_id = ? AND kind = ? AND id <> ?",
            )
            .bind(user)
            .bind(device)
            .bind(*kind)
            .bind(&id)
            .execute(&mut *tx)
            .await?;
        }
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM push_subscription WHERE user_id = ? \
             ORDER BY id = ? DESC, GREATEST(created_at, COALESCE(accepted_at, 0)) DESC LIMIT 100",
        )
        .bind(user)
        .bind(&id)
        .fetch_all(&mut *tx)
        .await?;
        for old in ids.iter().skip(SUBSCRIPTIONS_MAX as usize) {
            sqlx::query("DELETE FROM push_subscription WHERE id = ?").bind(old).execute(&mut *tx).await?;
        }
        Ok(id)
    }
}

static OF_USERS: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "SELECT user_id, id, kind, target, p256dh, auth, vapid_key, topic, is_sandbox, device_id, created_at, accepted_at, \
         retry_at, failures FROM push_subscription WHERE user_id IN (",
        "?",
        ",",
        ") ORDER BY user_id, created_at, id",
    )
});

/// The subscriptions of each of `users`, the oldest first; a user without any has no entry.
///
/// # Errors
/// The database's.
pub async fn of_users(
    pool: &Pool,
    users: &[UserId],
) -> sqlx::Result<AHashMap<UserId, Vec<StoredSubscription>>> {
    let ids: Vec<[&str; 1]> = users.iter().map(|user| [user.as_str()]).collect();
    let mut found: AHashMap<UserId, Vec<StoredSubscription>> = AHashMap::new();
    for row in OF_USERS.select_from(pool, None, &ids).await? {
        found.entry(UserId::from_stored(row.try_get(0)?)).or_default().push(stored(&row)?);
    }
    Ok(found)
}

fn stored(row: &MySqlRow) -> sqlx::Result<StoredSubscription> {
    Ok(StoredSubscription {
        id: row.try_get(1)?,
        kind: row.try_get(2)?,
        target: row.try_get(3)?,
        p256dh: row.try_get(4)?,
        auth: row.try_get(5)?,
        vapid_key: row.try_get(6)?,
        topic: row.try_get(7)?,
        is_sandbox: row.try_get(8)?,
        device_id: row.try_get(9)?,
        created_at: row.try_get(10)?,
        accepted_at: row.try_get(11)?,
        retry_at: row.try_get(12)?,
        failures: row.try_get(13)?,
    })
}

/// Removes the subscription `id` of `user`. False if there is none.
///
/// # Errors
/// The database's.
pub async fn remove(pool: &Pool, user: &UserId, id: &str) -> sqlx::Result<bool> {
    let removed = sqlx::query("DELETE FROM push_subscription WHERE id = ? AND user_id = ?")
        .bind(id)
        .bind(user.as_str())
        .execute(pool)
        .await?;
    Ok(removed.rows_affected() > 0)
}

/// Removes all subscriptions of `user`.
///
/// # Errors
/// The database's.
pub async fn remove_all(pool: &Pool, user: &UserId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM push_subscription WHERE user_id = ?")
        .bind(user.as_str())
        .execute(pool)
        .await
        .map(drop)
}

/// Removes subscriptions that have ended, as their push services say.
///
/// # Errors
/// The database's.
pub async fn remove_ended(pool: &Pool, user: &UserId, ids: &[&str]) -> sqlx::Result<()> {
    for id in ids {
        remove(pool, user, id).await?;
    }
    Ok(())
}

static ACCEPTED: LazyLock<MultiRow> = LazyLock::new(|| {
    MultiRow::new(
        "UPDATE push_subscription SET accepted_at = CAST(? AS SIGNED), retry_at = 0, failures = 0 WHERE id IN (",
        "?",
        ",",
        ")",
    )
});

/// Records that the push services of `subscriptions` have taken a notification at `now`.
///
/// # Errors
/// The database's.
pub async fn accepted(pool: &Pool, subscriptions: &[&StoredSubscription], now: i64) -> sqlx::Result<()> {
    let is_news = |one: &&&StoredSubscription| {
        one.failures > 0 || one.accepted_at.is_none_or(|last| now - last > ACCEPTED_RECORDED_MS)
    };
    let ids: Vec<&str> = subscriptions.iter().filter(is_news).map(|one| one.id.as_str()).collect();
    for (range, length, text) in ACCEPTED.padded(ids.len()) {
        let ids = &ids[range];
        let mut query = sqlx::query(AssertSqlSafe(text)).bind(now);
        for id in ids.iter().chain(ids.last().into_iter().cycle()).take(length) {
            query = query.bind(*id);
        }
        query.execute(pool).await?;
    }
    Ok(())
}

/// Sends nothing to the subscription `id` before `retry_at`, because of one failure more.
///
/// # Errors
/// The database's.
pub async fn failed(pool: &Pool, id: &str, retry_at: i64) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE push_subscription SET retry_at = GREATEST(retry_at, ?), failures = LEAST(failures, 1000) + 1 WHERE id = ?",
    )
    .bind(retry_at)
    .bind(id)
    .execute(pool)
    .await
    .map(drop)
}
