//! How many groups a user may be in and make, and how many members it may add, per day. A group that comes into being by its
//! first use counts as made by its user.
//!
//! The operator has no quotas. A day begins at midnight UTC.

use parking_lot::RwLock;
use shared::ids::{UserId, unix_millis};
use shared::mysql::Pool;
use shared::mysql::quotas::{self, DayCounts};

use crate::wire::api_error::ApiError;

const DAY_MS: i64 = 86_400_000;

/// The limits; 0 for no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QuotaSettings {
    /// Groups that a user may be in.
    pub(crate) groups_per_user_max: u32,
    /// Groups that a user may make.
    pub(crate) made_per_day: u32,
    /// Members that a user may add to groups, those of new groups included.
    pub(crate) added_per_day: u32,
    /// Only users with an account may be added.
    pub(crate) members_need_accounts: bool,
}

/// Checks and counts what users do to groups.
#[derive(Debug)]
pub(crate) struct Quotas {
    pool: Pool,
    settings: RwLock<QuotaSettings>,
}

impl Quotas {
    /// Counts in `pool`.
    #[must_use]
    pub(crate) fn new(pool: Pool, settings: QuotaSettings) -> Self {
        Self { pool, settings: RwLock::new(settings) }
    }

    /// Applies `settings` from now on.
    pub(crate) fn set(&self, settings: QuotaSettings) {
        *self.settings.write() = settings;
    }

    fn settings(&self) -> QuotaSettings {
        *self.settings.read()
    }

    /// Counts that `by` makes a group with `members`, unless a limit is reached.
    ///
    /// # Errors
    /// 403 for a member without an account, 409 for one in too many groups, 429 until the next day, 503.
    pub(crate) async fn make_group(&self, by: &UserId, members: &[UserId]) -> Result<(), ApiError> {
        let mut all = members.to_vec();
        all.push(by.clone());
        self.check_members(&all).await?;
        self.count(by, DayCounts { groups_made: 1, members_added: count(members) }).await
    }

    /// Counts that `by` adds `members` to a group, unless a limit is reached.
    ///
    /// # Errors
    /// As [`make_group`](Self::make_group).
    pub(crate) async fn add_members(&self, by: &UserId, members: &[UserId]) -> Result<(), ApiError> {
        self.check_members(members).await?;
        self.count(by, DayCounts { groups_made: 0, members_added: count(members) }).await
    }

    /// Counts that `user` makes a group by using it, unless a limit is reached.
    ///
    /// # Errors
    /// 403 if it is in too many groups, 429 until the next day, 503.
    pub(crate) async fn make_by_use(&self, user: &UserId) -> Result<(), ApiError> {
        self.join_by_use(user).await?;
        self.count(user, DayCounts { groups_made: 1, members_added: 0 }).await
    }

    /// Checks that `user` may be in one more group, which it joins by using it.
    ///
    /// # Errors
    /// 403 if it is in too many groups, 503.
    pub(crate) async fn join_by_use(&self, user: &UserId) -> Result<(), ApiError> {
        // Not 409: for a message, that is about its id.
        self.full(std::slice::from_ref(user)).await?.map_or(Ok(()), |why| Err(ApiError::Forbidden(why)))
    }

    /// Checks that `user` may be in one more group, into which it was invited.
    ///
    /// # Errors
    /// 409 if it is in too many groups, 503.
    pub(crate) async fn accept(&self, user: &UserId) -> Result<(), ApiError> {
        self.full(std::slice::from_ref(user)).await?.map_or(Ok(()), |why| Err(ApiError::Conflict(why)))
    }

    async fn check_members(&self, members: &[UserId]) -> Result<(), ApiError> {
        if self.settings().members_need_accounts {
            let unknown = quotas::without_account(&self.pool, members).await;
            if let Some(user) = unknown.map_err(|e| ApiError::database(&e))? {
                return Err(ApiError::Forbidden(format!(
                    "{user} has no account: only users with one are added"
                )));
            }
        }
        self.full(members).await?.map_or(Ok(()), |why| Err(ApiError::Conflict(why)))
    }

    /// Which of `members` is in as many groups as allowed.
    async fn full(&self, members: &[UserId]) -> Result<Option<String>, ApiError> {
        let groups_max = self.settings().groups_per_user_max;
        if groups_max == 0 {
            return Ok(None);
        }
        let full = quotas::in_too_many_groups(&self.pool, members, groups_max).await;
        let full = full.map_err(|e| ApiError::database(&e))?;
        Ok(full.first().map(|user| format!("{user} is in {groups_max} groups, the maximum")))
    }

    async fn count(&self, by: &UserId, done: DayCounts) -> Result<(), ApiError> {
        let settings = self.settings();
        let QuotaSettings { made_per_day, added_per_day, .. } = settings;
        if made_per_day == 0 && added_per_day == 0 {
            return Ok(());
        }
        let (day, ends_after_ms) = day(unix_millis());
        let counted = quotas::count(&self.pool, by, day, done).await.map_err(|e| ApiError::database(&e))?;
        let Some(message) = settings.exceeded(done, counted) else { return Ok(()) };
        if let Err(error) = quotas::uncount(&self.pool, by, day, done).await {
            tracing::warn!(user.id = %by, %error, "Cannot take back the refused counts of user {by}; they count until midnight");
        }
        Err(ApiError::RateLimited { message, retry_after_ms: ends_after_ms })
    }
}

impl QuotaSettings {
    /// Why `done` is refused, with which `counted` were done on this day.
    fn exceeded(&self, done: DayCounts, counted: DayCounts) -> Option<String> {
        let is_over = |max: u32, done: u32, counted: u32| max > 0 && done > 0 && counted > max;
        if is_over(self.made_per_day, done.groups_made, counted.groups_made) {
            return Some(format!("you may make {} groups a day", self.made_per_day));
        }
        if is_over(self.added_per_day, done.members_added, counted.members_added) {
            return Some(format!("you may add {} members a day to groups", self.added_per_day));
        }
        None
    }
}

fn count(members: &[UserId]) -> u32 {
    u32::try_from(members.len()).unwrap_or(u32::MAX)
}

/// The day of this time, and the milliseconds until it ends.
pub(crate) fn day(now_ms: i64) -> (u32, u64) {
    let day = u32::try_from(now_ms / DAY_MS).unwrap_or_default();
    (day, u64::try_from(DAY_MS - now_ms % DAY_MS).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_done_counts_against_its_limit() {
        let settings = QuotaSettings {
            groups_per_user_max: 0,
            made_per_day: 2,
            added_per_day: 10,
            members_need_accounts: false,
        };
        let counts = |groups_made, members_added| DayCounts { groups_made, members_added };
        let exceeded = |done, counted| settings.exceeded(done, counted).is_some();
        assert!(!exceeded(counts(1, 5), counts(2, 10)));
        assert!(exceeded(counts(1, 0), counts(3, 0)));
        assert!(exceeded(counts(1, 5), counts(2, 11)));
        assert!(exceeded(counts(0, 1), counts(0, 11)));
        assert!(!exceeded(counts(0, 1), counts(9, 10)), "it makes no group");
        let unlimited = QuotaSettings { made_per_day: 0, added_per_day: 0, ..settings };
        assert!(unlimited.exceeded(counts(1, 1), counts(1_000, 1_000_000)).is_none());
    }

    #[test]
    fn a_day_ends_at_midnight_utc() {
        assert_eq!(day(0), (0, 86_400_000));
        assert_eq!(day(86_399_999), (0, 1));
        assert_eq!(day(86_400_000 * 20_000 + 1), (20_000, 86_399_999));
    }
}
