//! Reads the sources of a conversation list and answers with one page of it.

use std::sync::Arc;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::{Pool, members};
use shared::redis::RedisError;
use shared::redis::inbox::{Inboxes, Order, Page};

use super::super::tail_cache::TailCache;
use super::entries::Entries;
use super::inbox_builder::{InboxBuilder, inbox_unavailable, rebuilt_too_often};
use super::merge::{GroupHead, can_answer, merge, next_cursor};
use crate::membership::Memberships;
use crate::wire::api_error::ApiError;
use crate::wire::listing::Listing;

/// Answers syncs and lists of conversations.
#[derive(Debug)]
pub(in crate::read) struct ConversationLists {
    pool: Pool,
    inboxes: Inboxes,
    builder: InboxBuilder,
    entries: Entries,
    /// Older cursors may be from before the oldest change that an inbox knows.
    ttl_us: u64,
}

impl ConversationLists {
    /// An inbox answers cursors for `inbox_ttl_s`.
    pub(in crate::read) fn new(
        pool: Pool,
        inboxes: Inboxes,
        memberships: Arc<Memberships>,
        tails: Arc<TailCache>,
        inbox_ttl_s: u32,
    ) -> Self {
        Self {
            builder: InboxBuilder::new(pool.clone(), inboxes.clone()),
            entries: Entries::new(pool.clone(), memberships, tails),
            pool,
            inboxes,
            ttl_us: u64::from(inbox_ttl_s) * 1_000_000,
        }
    }

    /// The conversations that changed after `cursor` (0: all), oldest change first.
    ///
    /// # Errors
    /// 503 while MySQL or Redis is unavailable, and 500.
    pub(in crate::read) async fn changes(
        &self,
        user: &UserId,
        cursor: u64,
        limit: usize,
    ) -> Result<Listing, ApiError> {
        let mut order = Order::RisingAfter(cursor);
        let mut inbox = self.read_inbox(user, order, limit).await?;
        let read = inbox.inbox.as_ref();
        let can_answer = read.is_some_and(|read| can_answer(read, cursor, inbox.now, self.ttl_us));
        if !can_answer {
            order = Order::RisingAfter(0);
            self.builder.build(user).await?;
            inbox = self.read_inbox(user, order, limit).await?;
        }
        let listing = self.page(user, order, limit, inbox).await?;
        Ok(Listing { reset: !can_answer && cursor != 0, ..listing })
    }

    /// The conversations that changed before `before` (0: all), newest change first.
    ///
    /// # Errors
    /// 503 while MySQL or Redis is unavailable, and 500.
    pub(in crate::read) async fn newest_first(
        &self,
        user: &UserId,
        before: u64,
        limit: usize,
    ) -> Result<Listing, ApiError> {
        let order = Order::FallingBefore(if before == 0 { Seq::MAX.0 } else { before });
        let mut inbox = self.read_inbox(user, order, limit).await?;
        if inbox.inbox.is_none() {
            self.builder.build(user).await?;
            inbox = self.read_inbox(user, order, limit).await?;
        }
        self.page(user, order, limit, inbox).await
    }

    /// The version of the user's newest change. Without an inbox it is the present, which is above every cursor, so that
    /// the client syncs.
    ///
    /// # Errors
    /// If Redis is unavailable.
    pub(in crate::read) async fn latest(
        &self,
        user: &UserId,
        large_groups: &[Conversation],
    ) -> Result<u64, RedisError> {
        let read = self.inboxes.read(user, Order::RisingAfter(0), 0).await?;
        let Some(inbox) = read.inbox else { return Ok(read.now) };
        let heads = self.inboxes.group_heads(large_groups).await?;
        Ok(heads.into_iter().flatten().map(|(version, _)| version).fold(inbox.last, u64::max))
    }

    /// One entry more than the page has: it says whether there are more.
    async fn read_inbox(&self, user: &UserId, order: Order, limit: usize) -> Result<Page, ApiError> {
        self.inboxes.read(user, order, limit + 1).await.map_err(|e| inbox_unavailable(&e))
    }

    async fn page(
        &self,
        user: &UserId,
        order: Order,
        limit: usize,
        inbox: Page,
    ) -> Result<Listing, ApiError> {
        let read_at = inbox.now;
        let Some(inbox) = inbox.inbox else { return Err(rebuilt_too_often()) };
        let page = merge(order, limit, inbox.entries, self.group_heads(user).await?);
        let is_complete_list = matches!(order, Order::RisingAfter(0) | Order::FallingBefore(_));
        let (entries, cut_at) = self.entries.of(user, page.entries, is_complete_list).await?;
        let (reached, has_more) = cut_at.map_or((page.reached, page.has_more), |version| (version, true));
        let next = next_cursor(order, reached, has_more, read_at);
        Ok(Listing { entries, next, has_more, reset: false })
    }

    async fn group_heads(&self, user: &UserId) -> Result<Vec<GroupHead>, ApiError> {
        let groups =
            members::merging_groups_of(&self.pool, user).await.map_err(|e| ApiError::database(&e))?;
        let heads = self.inboxes.group_heads(&groups).await.map_err(|e| inbox_unavailable(&e))?;
        let heads = groups.into_iter().zip(heads);
        Ok(heads
            .filter_map(|(group, head)| head.map(|(version, last_seq)| (group, version, last_seq)))
            .collect())
    }
}
