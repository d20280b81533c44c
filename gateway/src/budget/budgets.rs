//! The budgets of all users.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::{Mutex, RwLock};
use shared::ids::UserId;
use shared::permits::resize;
use shared::shutdown::Shutdown;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::settings::BudgetSettings;
use super::user::UserBudget;
use crate::config::REPLY_BYTES_MAX;

/// Number of users from which on budgets that nobody uses are removed.
const USERS_MAX: usize = 10_000;
/// One of this many bytes of the process may be used for replies to users for whom others wait already.
const FURTHER_PART: usize = 2;

/// The budgets of all users of this gateway.
#[derive(Debug)]
pub(crate) struct Budgets {
    settings: RwLock<BudgetSettings>,
    pub(super) reply_bytes: Arc<Semaphore>,
    /// Within `reply_bytes`: those of replies to users for whom others wait already.
    pub(super) further_reply_bytes: Arc<Semaphore>,
    users: Mutex<Users>,
}

#[derive(Debug)]
struct Users {
    budgets: AHashMap<UserId, Arc<UserBudget>>,
    /// The number of users that starts the next removal.
    cleanup_at: usize,
}

impl Budgets {
    /// No user has spent anything.
    #[must_use]
    pub(crate) fn new(settings: BudgetSettings) -> Self {
        let further = further(settings);
        Self {
            settings: RwLock::new(settings),
            reply_bytes: Arc::new(Semaphore::new(settings.reply_bytes_max)),
            further_reply_bytes: Arc::new(Semaphore::new(further)),
            users: Mutex::new(Users { budgets: AHashMap::new(), cleanup_at: USERS_MAX }),
        }
    }

    /// Applies `settings` from now on.
    pub(crate) fn set(&self, settings: BudgetSettings, tasks: &Shutdown) {
        // The lock of the users first, as for a new budget: no user is missed.
        let users = self.users.lock();
        let before = std::mem::replace(&mut *self.settings.write(), settings);
        resize(&self.reply_bytes, before.reply_bytes_max, settings.reply_bytes_max, tasks);
        resize(&self.further_reply_bytes, further(before), further(settings), tasks);
        for budget in users.budgets.values() {
            budget.set(&before, &settings, tasks);
        }
    }

    /// Bytes of replies that wait for one user to read them, at most.
    pub(super) fn user_reply_bytes_max(&self) -> usize {
        self.settings.read().user_reply_bytes_max
    }

    /// The budget of `user`, which all its connections and calls share.
    #[must_use]
    pub(crate) fn of(&self, user: &UserId) -> Arc<UserBudget> {
        let now = Instant::now();
        let mut users = self.users.lock();
        if let Some(budget) = users.budgets.get(user) {
            return Arc::clone(budget);
        }
        if users.budgets.len() >= users.cleanup_at {
            users.budgets.retain(|_, budget| Arc::strong_count(budget) > 1 || !budget.is_unused(now));
            users.cleanup_at = USERS_MAX.max(2 * users.budgets.len());
        }
        let budget = Arc::new(UserBudget::new(&self.settings.read(), now));
        users.budgets.insert(user.clone(), Arc::clone(&budget));
        budget
    }
}

/// The bytes of replies to users for whom others wait already.
fn further(settings: BudgetSettings) -> usize {
    (settings.reply_bytes_max / FURTHER_PART).max(REPLY_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::rate::CostRate;

    #[tokio::test(start_paused = true)]
    async fn unused_budgets_are_removed_and_others_are_kept() {
        let budgets = Budgets::new(BudgetSettings {
            user_cost: CostRate::new(1, 1),
            user_reads_max: 1,
            user_reply_bytes_max: 1,
            reply_bytes_max: 1,
        });
        let user = |n: usize| UserId::parse(&format!("user{n}")).unwrap();
        budgets.of(&user(0)).spend(1);
        let held = budgets.of(&user(1));
        for n in 2..=USERS_MAX {
            drop(budgets.of(&user(n)));
        }
        assert_eq!(budgets.users.lock().budgets.len(), 3, "the one in debt, the one in use, the newest");
        assert!(Arc::ptr_eq(&held, &budgets.of(&user(1))));
        assert!(!budgets.of(&user(0)).is_unused(Instant::now()));
    }
}
