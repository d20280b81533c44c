//! Reads the sources of a conversation list and answers with one page of it.

use std::sync::Arc;

use shared::conversation::Conversation;
use shared::ids::{Seq, UserId};
use shared::mysql::{Pool, members};
use shared::redis::RedisError;
use shared::redis::inbox::{Inboxes, Order, Page};
use tokio::sync::Semaphore;

use super::super::tail_cache::TailCache;
use super::entries::Entries;
use super::inbox_builder::{InboxBuilder, inbox_unavailable, rebuilt_too_often};
use super::merge::{Continuation, Merge, ReadMoment, can_answer, heartbeat_cursor};
use crate::membership::Memberships;
use crate::wire::api_error::ApiError;
use crate::wire::listing::Listing;

/// Groups of a user whose heads are read in one step: well below a millisecond of the database.
const GROUPS_PER_STEP: usize = 100;

/// Answers syncs and lists of conversations.
#[derive(Debug)]
pub(in crate::read) struct ConversationLists {
    pool: Pool,
    inboxes: Inboxes,
    builder: InboxBuilder,
    entries: Entries,
    /// One permit: users with very many groups read them one after the other.
    further_steps: Semaphore,
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
            further_steps: Semaphore::new(1),
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
        let order = Order::RisingAfter(cursor);
        let inbox = self.read_inbox(user, order, limit).await?;
        let read = inbox.inbox.as_ref();
        let can_answer = read.is_some_and(|read| can_answer(read, cursor, inbox.now, self.ttl_us));
        if cursor == 0 {
            return self.complete_list(user, limit, inbox).await;
        }
        if can_answer {
            return self.page(user, order, limit, inbox).await;
        }
        let inbox = self.read_inbox(user, Order::RisingAfter(0), limit).await?;
        Ok(Listing { reset: true, ..self.complete_list(user, limit, inbox).await? })
    }

    /// The first page of all conversations, from `inbox` or from a new one.
    async fn complete_list(&self, user: &UserId, limit: usize, mut inbox: Page) -> Result<Listing, ApiError> {
        let order = Order::RisingAfter(0);
        if inbox.inbox.is_none() {
            self.builder.build(user, 0).await?;
            inbox = self.read_inbox(user, order, limit).await?;
        }
        let aged_below = self.moment(inbox.now, 0).aged_below();
        let listing = self.page(user, order, limit, inbox).await?;
        if !listing.has_more || listing.next >= aged_below {
            return Ok(listing);
        }
        // The cursor of the second page would be too old to be answered: all versions have to be newer.
        self.builder.build(user, aged_below).await?;
        let inbox = self.read_inbox(user, order, limit).await?;
        self.page(user, order, limit, inbox).await
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
        let newest = Order::FallingBefore(Seq::MAX.0);
        let mut order = if before == 0 { newest } else { Order::FallingBefore(before) };
        let mut inbox = self.read_inbox(user, order, limit).await?;
        if inbox.inbox.is_none() {
            self.builder.build(user, 0).await?;
            inbox = self.read_inbox(user, order, limit).await?;
        }
        // A cursor of an earlier inbox: all entries of this one are above it. Begin again, so that none is missed.
        if before != 0 && inbox.inbox.as_ref().is_some_and(|inbox| before <= inbox.floor) {
            order = newest;
            inbox = self.read_inbox(user, order, limit).await?;
        }
        self.page(user, order, limit, inbox).await
    }

    /// The answer to a heartbeat with `cursor`: `cursor` if nothing changed since for the user, otherwise another number.
    /// Without an inbox it is the present, which is above every cursor, so that the client syncs.
    ///
    /// # Errors
    /// If Redis is unavailable.
    pub(in crate::read) async fn heartbeat(
        &self,
        user: &UserId,
        cursor: u64,
        large_groups: &[Conversation],
    ) -> Result<u64, RedisError> {
        let read = self.inboxes.read(user, Order::RisingAfter(0), 0).await?;
        let Some(inbox) = read.inbox else { return Ok(heartbeat_cursor(cursor, read.now, read.now)) };
        let heads = self.inboxes.group_heads(large_groups).await?;
        let newest = heads.into_iter().flatten().map(|(version, _)| version).fold(inbox.last, u64::max);
        Ok(heartbeat_cursor(cursor, newest, read.now))
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
        let Some(read) = inbox.inbox else { return Err(rebuilt_too_often()) };
        let moment = self.moment(inbox.now, read.last);
        let mut merge = Merge::new(order, limit, read);
        let examined = self.add_heads(user, &mut merge).await?;
        let page = merge.into_page();
        let is_complete_list = matches!(order, Order::RisingAfter(0) | Order::FallingBefore(_));
        let ((entries, cut_at), counted) = self.entries.of(user, page.entries, is_complete_list).await?;
        let (reached, has_more) = cut_at.map_or((page.reached, page.has_more), |version| (version, true));
        let Continuation { next, has_more } = Continuation::new(order, reached, has_more, moment);
        Ok(Listing { entries, next, has_more, reset: false, examined, counted })
    }

    fn moment(&self, now: u64, inbox_last: u64) -> ReadMoment {
        ReadMoment { now, inbox_last, ttl_us: self.ttl_us }
    }

    /// Adds the heads of all large groups of `user` in steps, so that others' requests come in between however many groups
    /// the user has. Beyond the first one of each user, one step runs at a time. Returns the number of groups and entries
    /// that had to be looked at.
    async fn add_heads(&self, user: &UserId, merge: &mut Merge) -> Result<usize, ApiError> {
        let (mut examined, mut after) = (merge.inbox_entries(), String::new());
        let mut permit = None;
        loop {
            let groups = members::groups_of_user(&self.pool, user, &after, GROUPS_PER_STEP);
            let groups = groups.await.map_err(|e| ApiError::database(&e))?;
            let heads = self.inboxes.group_heads(&groups.merging).await.map_err(|e| inbox_unavailable(&e))?;
            examined += groups.examined;
            let heads = groups.merging.into_iter().zip(heads);
            merge.add(
                heads.filter_map(|(group, head)| head.map(|(version, last_seq)| (group, version, last_seq))),
            );
            match groups.next {
                Some(next) => after = next,
                None => return Ok(examined),
            }
            drop(permit.take());
            // The semaphore is never closed.
            permit = self.further_steps.acquire().await.ok();
        }
    }
}
