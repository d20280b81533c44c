//! The unread messages of all conversations of a user, as an app shows them on its icon.

use std::sync::Arc;

use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId, unix_millis};
use shared::mysql::{self, Pool, conversations, views};
use shared::permission::HistoryRange;

use super::tail_cache::TailCache;
use crate::membership::Memberships;

/// Conversations that are counted: for a user with more of them that may have unread messages there is no total.
const COUNTED_MAX: usize = 200;

/// Counts from the same tails as lists of conversations.
#[derive(Debug)]
pub(super) struct UnreadTotals {
    pool: Pool,
    memberships: Arc<Memberships>,
    tails: Arc<TailCache>,
}

impl UnreadTotals {
    pub(super) fn new(pool: Pool, memberships: Arc<Memberships>, tails: Arc<TailCache>) -> Self {
        Self { pool, memberships, tails }
    }

    /// The unread messages of `user`, without those of muted conversations. `None` if too many conversations would have to be
    /// counted.
    ///
    /// # Errors
    /// The database's.
    pub(super) async fn of(&self, user: &UserId) -> Result<Option<u64>, mysql::Error> {
        let all = conversations::of_user(&self.pool, user).await?;
        let named: Vec<&Conversation> = all.iter().map(|(conversation, _)| conversation).collect();
        let groups: Vec<&Conversation> = named.iter().copied().filter(|c| c.kind() == Kind::Group).collect();
        let mut views = views::of_user(&self.pool, user, &named).await?;
        let histories = self.memberships.accesses(user, &groups).await?;
        let now = unix_millis();
        let mut counted = Vec::new();
        for (conversation, last_seq) in &all {
            let view = views.remove(conversation).unwrap_or_default();
            let HistoryRange { join_seq, floor } = histories.get(conversation).copied().unwrap_or_default();
            let floor = floor.max(view.cleared.unwrap_or(Seq::ZERO));
            let from = view.last_ack_seq.max(HistoryRange { join_seq, floor }.counted_from());
            let muted_until = view.settings.muted_until;
            if *last_seq > from && muted_until != -1 && muted_until <= now {
                counted.push((conversation, *last_seq, from));
            }
        }
        if counted.len() > COUNTED_MAX {
            return Ok(None);
        }
        let mut total = 0;
        for (conversation, last_seq, from) in counted {
            total += self.tails.summary(conversation, last_seq, user, from).await?.unread;
        }
        Ok(Some(total))
    }
}
