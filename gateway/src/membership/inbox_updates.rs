//! Records changes of membership, and of views, in the inboxes of the users concerned.

use shared::backoff::Backoff;
use shared::conversation::Conversation;
use shared::ids::UserId;
use shared::mysql::groups::Changed;
use shared::redis::inbox::{Change, InboxUpdate, Inboxes};
use shared::shutdown::Shutdown;
use tokio::task::JoinHandle;

/// Attempts to record a change: half a minute with the growing delays in between. After the last one the change is
/// dropped, and the users see it when their inbox is built anew.
const ATTEMPTS_MAX: usize = 20;

/// Records changes in tasks of its own. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct InboxUpdates {
    inboxes: Inboxes,
    tasks: Shutdown,
}

impl InboxUpdates {
    /// Tasks that still try when `tasks` is stopped end then.
    #[must_use]
    pub(crate) fn new(inboxes: Inboxes, tasks: Shutdown) -> Self {
        Self { inboxes, tasks }
    }

    /// Records in the inboxes of the users that joined or left that their membership in `group` changed. The task goes on
    /// if the returned handle is dropped.
    pub(super) fn record(&self, changed: Changed, group: &Conversation) -> JoinHandle<()> {
        let joined = changed.joined.into_iter().map(|user| (user, Change::Joined(changed.history.join_seq)));
        let left = changed.left.into_iter().map(|user| (user, Change::Other));
        self.record_all(joined.chain(left).collect(), group.clone())
    }

    /// Records in the inbox of `user` that its view of `conversation` changed, likewise.
    pub(crate) fn record_view(&self, user: UserId, conversation: Conversation) -> JoinHandle<()> {
        self.record_all(vec![(user, Change::Other)], conversation)
    }

    fn record_all(&self, changes: Vec<(UserId, Change)>, conversation: Conversation) -> JoinHandle<()> {
        let (inboxes, tasks) = (self.inboxes.clone(), self.tasks.clone());
        self.tasks.spawn(async move {
            let mut backoff = Backoff::dependency();
            let conversation = &conversation;
            for _ in 0..ATTEMPTS_MAX {
                let updates = changes.iter();
                let updates = updates.map(|(user, change)| InboxUpdate { user, conversation, change: *change });
                match inboxes.record(updates).await {
                    Ok(()) => return,
                    // A Redis that is restarted meanwhile has its inboxes built anew from the database.
                    Err(error) => {
                        tracing::warn!(%conversation, %error, "recording a change in inboxes failed: trying again")
                    }
                }
                if !tasks.sleep(backoff.next_delay()).await {
                    return;
                }
            }
            tracing::error!(%conversation, attempts = ATTEMPTS_MAX, "a change was not recorded in all inboxes");
        })
    }
}
