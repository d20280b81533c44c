//! Reads groups and blocks again from the database, in one task per group or user until the view is current.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashSet;
use shared::backoff::Backoff;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::mysql::{self, Pool, blocks, members, views};
use shared::shutdown::Shutdown;
use tokio::sync::{Notify, Semaphore, watch};

use super::group_event::{Reading, Step};
use super::view::{Loaded, Outcome, Reload, View};

/// Groups that are read at the same time; the others wait, since requests need connections to the database too.
const READS_AT_ONCE: usize = 4;

/// Starts and runs reloads.
#[derive(Debug)]
pub(super) struct Reloader {
    view: Arc<View>,
    pool: Pool,
    permits: Semaphore,
    /// Groups that are being reloaded.
    active: watch::Sender<usize>,
    /// Wakes reloads that wait for the predecessors of a held change.
    current: Notify,
    tasks: Shutdown,
}

impl Reloader {
    pub(super) fn new(view: Arc<View>, pool: Pool, tasks: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            view,
            pool,
            permits: Semaphore::new(READS_AT_ONCE),
            active: watch::channel(0).0,
            current: Notify::new(),
            tasks,
        })
    }

    /// Does what an event asks for. Returns whether the event concerned someone here.
    pub(super) fn follow(self: &Arc<Self>, outcome: Outcome) -> bool {
        if outcome.current {
            self.current.notify_waiters();
        }
        self.start(outcome.reload);
        outcome.concerned
    }

    /// Starts a task for each reload. It ends when the view is current, or at the stop.
    pub(super) fn start(self: &Arc<Self>, reloads: impl IntoIterator<Item = Reload>) {
        for reload in reloads {
            let this = Arc::clone(self);
            match reload {
                Reload::Group(group) => {
                    self.active.send_modify(|active| *active += 1);
                    self.tasks.spawn(async move {
                        // A panic must not make every later change wait for this reload.
                        let active = scopeguard::guard(Arc::clone(&this), |this| {
                            this.active.send_modify(|active| *active -= 1);
                        });
                        if !this.reload_group(&group).await {
                            // At the stop nothing was applied.
                            let _ = scopeguard::ScopeGuard::into_inner(active);
                        }
                    });
                }
                Reload::Blockers(user) => {
                    self.tasks.spawn(async move { this.reload_blockers(&user).await });
                }
                Reload::Users(users) => {
                    self.tasks.spawn(async move { this.reload_users(&users).await });
                }
            }
        }
    }

    /// Resolves when no group is being reloaded: all changes that were heard of by now are applied.
    pub(super) async fn finished(&self) {
        // The sender lives as long as `self`.
        let _ = self.active.subscribe().wait_for(|active| *active == 0).await;
    }

    /// Returns true when the view is current, false at the stop.
    async fn reload_group(self: &Arc<Self>, group: &Conversation) -> bool {
        let mut backoff = Backoff::dependency();
        let mut was_old = false;
        loop {
            let mut current = pin!(self.current.notified());
            current.as_mut().enable();
            let users = match self.view.next_step(group, Instant::now()) {
                Step::Done => return true,
                Step::Wait(until) => {
                    let _ = tokio::time::timeout_at(until.into(), current).await;
                    continue;
                }
                Step::Read(users) => users,
            };
            let read = async {
                let _permit = self.permits.acquire().await;
                members::memberships_in(&self.pool, group, &users).await
            };
            let is_repeated = match read.await {
                Ok((settings, members)) => {
                    let reading = Reading { asked: users, settings, members };
                    let (is_current, outcome) = self.view.group_read(group, reading, Instant::now());
                    self.follow(outcome);
                    // Once: the reading has crossed an event. Twice in a row: the database has lost changes.
                    was_old_before(&mut was_old, !is_current)
                }
                Err(error) => {
                    tracing::warn!(%group, %error, "reading the members of a group failed: trying again");
                    self.view.group_read_failed(group, users, Instant::now());
                    true
                }
            };
            if !is_repeated {
                backoff.reset();
            } else if !self.tasks.sleep(backoff.next_delay()).await {
                return false;
            }
        }
    }

    async fn reload_users(self: &Arc<Self>, users: &[UserId]) {
        let mut backoff = Backoff::dependency();
        let _permit = self.permits.acquire().await;
        loop {
            match self.load(users).await {
                Ok(loaded) => {
                    for (user, loaded) in users.iter().zip(loaded) {
                        self.start(self.view.users_read(user, loaded, Instant::now()));
                    }
                    return;
                }
                Err(error) => tracing::warn!(%error, "reading the groups of users failed: trying again"),
            }
            if !self.tasks.sleep(backoff.next_delay()).await {
                return;
            }
        }
    }

    /// Reads what is to be known about each of `users`, in their order.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn load(&self, users: &[UserId]) -> Result<Vec<Loaded>, mysql::Error> {
        let marks = self.view.marks();
        let groups = members::groups_of(&self.pool, users);
        let blockers = blocks::blockers_of(&self.pool, users);
        let cleared = views::cleared_of(&self.pool, users);
        let (groups, blockers, cleared) = futures_util::try_join!(groups, blockers, cleared)?;
        // Copied, not moved: a user may log in on two devices at once.
        let loaded = |user| Loaded {
            groups: groups.get(user).cloned().unwrap_or_default(),
            blockers: blockers.get(user).cloned().unwrap_or_default(),
            cleared: cleared.get(user).cloned().unwrap_or_default(),
            marks,
        };
        Ok(users.iter().map(loaded).collect())
    }

    async fn reload_blockers(&self, user: &UserId) {
        let mut backoff = Backoff::dependency();
        loop {
            let marks = self.view.marks();
            match blockers(&self.pool, user).await {
                Ok(blockers) => {
                    if self.view.blockers_read(user, marks, blockers) {
                        return;
                    }
                    // A block was heard of meanwhile.
                }
                Err(error) => {
                    tracing::warn!(%user, %error, "reading the blocks of a user failed: trying again");
                }
            }
            if !self.tasks.sleep(backoff.next_delay()).await {
                return;
            }
        }
    }
}

/// Whether this reading and the one before were older than the view.
fn was_old_before(was_old: &mut bool, is_old: bool) -> bool {
    std::mem::replace(was_old, is_old) && is_old
}

/// The users who take no private messages from `user`.
///
/// # Errors
/// As the database says.
pub(super) async fn blockers(pool: &Pool, user: &UserId) -> Result<AHashSet<UserId>, mysql::Error> {
    let mut found = blocks::blockers_of(pool, std::slice::from_ref(user)).await?;
    Ok(found.remove(user).unwrap_or_default())
}
