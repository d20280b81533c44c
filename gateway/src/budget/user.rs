//! The budget of one user.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use shared::permits::resize;
use shared::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use super::rate::{CostRate, Spent};
use super::settings::BudgetSettings;
use crate::wire::api_error::ApiError;
use crate::wire::retry_delay::RetryDelay;

/// What one user may make this gateway do, over all its connections and calls.
#[derive(Debug)]
pub(crate) struct UserBudget {
    account: Mutex<Account>,
    reads: Arc<Semaphore>,
    pub(super) reply_bytes: Arc<Semaphore>,
}

/// What the user has spent, and how fast it regains that.
#[derive(Debug)]
struct Account {
    /// `None`: no limit.
    rate: Option<CostRate>,
    spent: Spent,
}

/// The permit for one read. It is held until the read has ended.
#[derive(Debug)]
pub(crate) struct ReadPermit(#[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>);

impl UserBudget {
    pub(super) fn new(settings: &BudgetSettings, now: Instant) -> Self {
        Self {
            account: Mutex::new(Account { rate: settings.user_cost, spent: Spent::nothing(now) }),
            reads: Arc::new(Semaphore::new(settings.user_reads_max)),
            reply_bytes: Arc::new(Semaphore::new(settings.user_reply_bytes_max)),
        }
    }

    /// Applies `after` instead of `before` from now on. What is spent stays spent.
    pub(super) fn set(&self, before: &BudgetSettings, after: &BudgetSettings, tasks: &Shutdown) {
        self.account.lock().rate = after.user_cost;
        resize(&self.reads, before.user_reads_max, after.user_reads_max, tasks);
        resize(&self.reply_bytes, before.user_reply_bytes_max, after.user_reply_bytes_max, tasks);
    }

    /// Spends the cost of work that is done.
    pub(crate) fn spend(&self, units: u32) {
        let mut account = self.account.lock();
        if let Some(rate) = account.rate {
            account.spent.spend(rate, units, Instant::now());
        }
    }

    /// The time until the budget is not overdrawn.
    pub(crate) fn wait(&self) -> Duration {
        let account = self.account.lock();
        account.rate.map_or(Duration::ZERO, |rate| account.spent.wait(rate, Instant::now()))
    }

    /// Waits until the budget is not overdrawn.
    pub(crate) async fn recovered(&self) {
        loop {
            let wait = self.wait();
            if wait.is_zero() {
                return;
            }
            sleep(wait).await;
        }
    }

    /// 429, with the time until the budget is not overdrawn.
    pub(crate) fn exceeded(&self) -> ApiError {
        let wait_ms = u64::try_from(self.wait().as_millis()).unwrap_or(u64::MAX);
        ApiError::RateLimited {
            message: "you ask for more than your share of this gateway: send fewer or smaller requests"
                .to_owned(),
            retry_after_ms: wait_ms.saturating_add(RetryDelay::Overloaded.random_ms()),
        }
    }

    pub(super) fn is_unused(&self, now: Instant) -> bool {
        self.account.lock().spent.is_nothing(now)
    }
}

/// The user who pays for a request.
#[derive(Debug, Clone)]
pub(crate) enum Payer {
    /// The operator acts for a user, which costs the user nothing.
    Operator,
    /// The user itself.
    User(Arc<UserBudget>),
}

impl Payer {
    /// Waits for one of the user's concurrent reads and until its budget is not overdrawn, then spends `units`.
    pub(crate) async fn begin_read(&self, units: u32) -> ReadPermit {
        let Self::User(budget) = self else { return ReadPermit(None) };
        // The semaphore is never closed.
        let permit = Arc::clone(&budget.reads).acquire_owned().await.ok();
        budget.recovered().await;
        budget.spend(units);
        ReadPermit(permit)
    }

    /// Spends the cost of work that is done.
    pub(crate) fn spend(&self, units: u32) {
        if let Self::User(budget) = self {
            budget.spend(units);
        }
    }

    /// The refusal of a request that could not begin before its deadline.
    pub(crate) fn exceeded(&self) -> ApiError {
        match self {
            Self::User(budget) => budget.exceeded(),
            Self::Operator => ApiError::unavailable("this gateway is overloaded", RetryDelay::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::budgets::Budgets;
    use super::*;

    fn budgets(per_second: u32, burst: u32) -> Budgets {
        Budgets::new(BudgetSettings {
            user_cost: CostRate::new(per_second, burst),
            user_reads_max: 2,
            user_reply_bytes_max: 1_000,
            reply_bytes_max: 10_000,
        })
    }

    fn payer(budgets: &Budgets, user: &str) -> Payer {
        Payer::User(budgets.of(&shared::ids::UserId::parse(user).unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_has_few_reads_at_once_and_another_user_has_its_own() {
        let budgets = budgets(0, 0);
        let (alice, bob) = (payer(&budgets, "alice"), payer(&budgets, "bob"));
        let (first, _second) = (alice.begin_read(1).await, alice.begin_read(1).await);
        let third = tokio::time::timeout(Duration::from_secs(1), alice.begin_read(1));
        assert!(third.await.is_err());
        let _bobs = bob.begin_read(1).await;
        let _operators = Payer::Operator.begin_read(1).await;
        drop(first);
        let _third = alice.begin_read(1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_overdrawn_budget_delays_the_next_read_on_all_connections_of_the_user() {
        let budgets = budgets(1_000, 100);
        let start = Instant::now();
        drop(payer(&budgets, "alice").begin_read(100).await);
        payer(&budgets, "alice").spend(500);
        drop(payer(&budgets, "bob").begin_read(100).await);
        assert_eq!(start.elapsed(), Duration::ZERO);
        let ApiError::RateLimited { retry_after_ms, .. } = payer(&budgets, "alice").exceeded() else {
            panic!("no 429")
        };
        assert!((500..=1_500).contains(&retry_after_ms), "{retry_after_ms}");
        drop(payer(&budgets, "alice").begin_read(1).await);
        assert!((500..510).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_apply_at_once_to_users_who_are_here() {
        let (budgets, tasks) = (budgets(1_000, 100), Shutdown::new());
        let alice = payer(&budgets, "alice");
        let settings = |per_second, user_reads_max, user_reply_bytes_max| BudgetSettings {
            user_cost: CostRate::new(per_second, 100),
            user_reads_max,
            user_reply_bytes_max,
            reply_bytes_max: 10_000,
        };
        let Payer::User(budget) = &alice else { panic!("a user") };
        budget.spend(1_100);
        assert_eq!(budget.wait(), Duration::from_secs(1));
        budgets.set(settings(0, 1, 3_000), &tasks);
        assert_eq!(budget.wait(), Duration::ZERO);
        assert_eq!(budget.reply_bytes.available_permits(), 3_000);
        let _first = alice.begin_read(1).await;
        let second = tokio::time::timeout(Duration::from_secs(1), alice.begin_read(1));
        assert!(second.await.is_err());
        assert_eq!(budgets.user_reply_bytes_max(), 3_000);
    }
}
