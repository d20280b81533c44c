//! What changed for a user since an earlier sync (cmd 6), and its list of conversations.
//!
//! Two sources are merged: the user's inbox, and the heads of its large groups, which have no place in inboxes. Both are
//! in Redis and carry versions of the same clock. An inbox that is missing is built from the database, and answered as a
//! complete list.
//!
//! No change is skipped: the sources are not read at one moment, so a cursor that is handed out at the end of a list
//! never reaches beyond the moment at which the inbox was read, which is first.

use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use futures_util::future::try_join_all;
use shared::conversation::{Conversation, Kind};
use shared::ids::{Seq, UserId};
use shared::mysql::{Pool, conversations, members, positions};
use shared::redis::RedisError;
use shared::redis::inbox::{Entry, Inbox, Inboxes, Order};
use tokio::sync::Mutex;

use super::tails::Tails;
use crate::membership::Memberships;
use crate::wire::api_error::ApiError;
use crate::wire::listing::{Listed, Listing};
use crate::wire::retry_delay::RetryDelay;

/// Inboxes that are built at the same time.
const BUILDERS: usize = 16;
/// How often a build is begun again because another gateway began one too.
const BUILDS_MAX: usize = 5;
/// A page ends before the entry whose last message would take it beyond this.
const PAGE_BYTES_MAX: usize = 512 * 1024;

/// Answers syncs.
#[derive(Debug)]
pub(super) struct Syncs {
    pool: Pool,
    inboxes: Inboxes,
    memberships: Arc<Memberships>,
    pub(super) tails: Tails,
    /// Cursors that are older may be from before what inboxes remember.
    ttl_us: u64,
    hasher: RandomState,
    building: Vec<Mutex<()>>,
}

impl Syncs {
    pub(super) fn new(pool: Pool, inboxes: Inboxes, memberships: Arc<Memberships>, ttl_s: u32) -> Self {
        Self {
            tails: Tails::new(pool.clone()),
            pool,
            inboxes,
            memberships,
            ttl_us: u64::from(ttl_s) * 1_000_000,
            hasher: RandomState::new(),
            building: (0..BUILDERS).map(|_| Mutex::default()).collect(),
        }
    }

    /// What changed after `cursor` (0: everything), oldest change first.
    pub(super) async fn changes(
        &self,
        user: &UserId,
        cursor: u64,
        limit: usize,
    ) -> Result<Listing, ApiError> {
        let ask = async |cursor: u64| {
            let read = self.inboxes.read(user, Order::RisingAfter(cursor), limit + 1).await;
            read.map_err(|e| inbox_away(&e))
        };
        let (mut cursor, mut reset) = (cursor, false);
        let mut read = ask(cursor).await?;
        let can_answer = |inbox: &Inbox| {
            cursor == 0
                || (inbox.floor <= cursor
                    && cursor <= inbox.last.max(read.now)
                    && read.now.saturating_sub(cursor) < self.ttl_us)
        };
        if !read.inbox.as_ref().is_some_and(can_answer) {
            (cursor, reset) = (0, cursor != 0);
            self.build(user).await?;
            read = ask(cursor).await?;
        }
        // What is noted from that moment on gets this version or a higher one.
        let begun = read.now;
        let Some(inbox) = read.inbox else { return Err(built_too_often()) };
        let large = members::merging_groups_of(&self.pool, user).await.map_err(|e| ApiError::database(&e))?;
        let heads = self.inboxes.group_heads(&large).await.map_err(|e| inbox_away(&e))?;
        let mut entries = inbox.entries;
        let inbox_has_more = entries.len() > limit;
        let complete_to = entries.last().filter(|_| inbox_has_more).map(|entry| entry.version);
        for (group, head) in large.into_iter().zip(heads) {
            let Some((version, last_seq)) = head.filter(|(version, _)| *version > cursor) else { continue };
            match entries.iter_mut().find(|entry| entry.conversation == group) {
                Some(entry) => {
                    entry.last_seq = entry.last_seq.max(last_seq);
                    entry.version = entry.version.max(version);
                }
                None => entries.push(Entry { conversation: group, version, last_seq }),
            }
        }
        entries.sort_unstable_by_key(|entry| entry.version);
        // Beyond what was read of the inbox, something of it may be missing.
        entries.retain(|entry| complete_to.is_none_or(|to| entry.version <= to));
        let has_more = inbox_has_more || entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().map_or(cursor, |entry| entry.version);
        let (shown, cut) = self.show(user, entries, cursor == 0).await?;
        if let Some(version) = cut {
            return Ok(Listing { entries: shown, next: version, has_more: true, reset });
        }
        let bound = if has_more { last } else { last.min(begun.saturating_sub(1)) };
        Ok(Listing { entries: shown, next: bound.max(cursor), has_more, reset })
    }

    /// What changed last before `before` (0: everything), newest change first.
    pub(super) async fn newest_first(
        &self,
        user: &UserId,
        before: u64,
        limit: usize,
    ) -> Result<Listing, ApiError> {
        let before = if before == 0 { Seq::MAX.0 } else { before };
        let ask = async || {
            let read = self.inboxes.read(user, Order::FallingBefore(before), limit + 1).await;
            read.map_err(|e| inbox_away(&e))
        };
        let mut read = ask().await?;
        if read.inbox.is_none() {
            self.build(user).await?;
            read = ask().await?;
        }
        let Some(inbox) = read.inbox else { return Err(built_too_often()) };
        let large = members::merging_groups_of(&self.pool, user).await.map_err(|e| ApiError::database(&e))?;
        let heads = self.inboxes.group_heads(&large).await.map_err(|e| inbox_away(&e))?;
        let heads: AHashMap<Conversation, (u64, Seq)> =
            large.into_iter().zip(heads).filter_map(|(group, head)| Some((group, head?))).collect();
        let inbox_has_more = inbox.entries.len() > limit;
        let complete_to = inbox.entries.last().filter(|_| inbox_has_more).map(|entry| entry.version);
        let mut entries = inbox.entries;
        // A large group stands where its head is, if that is newer.
        entries.retain(|entry| {
            heads.get(&entry.conversation).is_none_or(|(version, _)| *version < entry.version)
        });
        let of_inbox: Vec<Conversation> = entries.iter().map(|entry| entry.conversation.clone()).collect();
        let others =
            heads.into_iter().filter(|(group, (version, _))| *version < before && !of_inbox.contains(group));
        entries.extend(others.map(|(conversation, (version, last_seq))| Entry {
            conversation,
            version,
            last_seq,
        }));
        entries.retain(|entry| complete_to.is_none_or(|to| entry.version >= to));
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.version));
        let has_more = inbox_has_more || entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().map_or(0, |entry| entry.version);
        let (shown, cut) = self.show(user, entries, true).await?;
        Ok(Listing {
            entries: shown,
            next: cut.unwrap_or(last),
            has_more: has_more || cut.is_some(),
            reset: false,
        })
    }

    /// The version of the newest change for `user`; above any cursor if its inbox has to be built first.
    pub(super) async fn latest(&self, user: &UserId, large: &[Conversation]) -> Result<u64, RedisError> {
        let read = self.inboxes.read(user, Order::RisingAfter(0), 0).await?;
        let Some(inbox) = read.inbox else { return Ok(read.now) };
        let heads = self.inboxes.group_heads(large).await?;
        Ok(heads.into_iter().flatten().map(|(version, _)| version).fold(inbox.last, u64::max))
    }

    /// Builds the inbox if there is none to be believed. Whoever waits for another build of the same user takes its
    /// result.
    async fn build(&self, user: &UserId) -> Result<(), ApiError> {
        #[allow(clippy::cast_possible_truncation)] // any bits will do
        let place = self.hasher.hash_one(user.as_str()) as usize % BUILDERS;
        let _turn = self.building[place].lock().await;
        for _ in 0..BUILDS_MAX {
            let there =
                self.inboxes.read(user, Order::RisingAfter(0), 0).await.map_err(|e| inbox_away(&e))?;
            if there.inbox.is_some() {
                return Ok(());
            }
            let opened = self.inboxes.open(user).await.map_err(|e| inbox_away(&e))?;
            let all = conversations::of_user(&self.pool, user).await.map_err(|e| ApiError::database(&e))?;
            metrics::counter!(shared::metrics::GATEWAY_INBOXES_BUILT).increment(1);
            self.inboxes.fill(user, &opened, &all).await.map_err(|e| inbox_away(&e))?;
        }
        Err(built_too_often())
    }

    /// Looks up what is to be said about each; also gives the version of the last one shown if not all fit on a page.
    /// `complete`: the client knows nothing yet, so that what the user is no longer in need not be said.
    async fn show(
        &self,
        user: &UserId,
        entries: Vec<Entry>,
        complete: bool,
    ) -> Result<(Vec<Listed>, Option<u64>), ApiError> {
        let all: Vec<&Conversation> = entries.iter().map(|entry| &entry.conversation).collect();
        let groups: Vec<&Conversation> = all.iter().copied().filter(|c| c.kind() == Kind::Group).collect();
        let read = positions::of_user(&self.pool, user, &all);
        let (read, accesses) = futures_util::try_join!(read, self.memberships.accesses(user, &groups))
            .map_err(|e| ApiError::database(&e))?;
        let summaries = entries.iter().map(|entry| {
            let access = accesses.get(&entry.conversation);
            let is_in = access.is_some() || entry.conversation.kind() != Kind::Group;
            let ack = read.get(&entry.conversation).copied().unwrap_or(Seq::ZERO);
            let counted_from = ack.max(access.map_or(Seq::ZERO, |access| access.join_seq.max(access.floor)));
            async move {
                if !is_in {
                    return Ok(None);
                }
                let of = &entry.conversation;
                self.tails.summary(of, entry.last_seq, user, counted_from).await.map(|it| Some((ack, it)))
            }
        });
        let summaries = try_join_all(summaries).await.map_err(|e| ApiError::database(&e))?;
        let (mut shown, mut bytes, mut last) = (Vec::with_capacity(entries.len()), 0, None);
        for (Entry { conversation, version, .. }, summary) in entries.into_iter().zip(summaries) {
            let listed = match summary {
                None if complete => None,
                None => Some(Listed::Removed(conversation)),
                Some((_, summary)) if summary.last_seq == Seq::ZERO && conversation.kind() != Kind::Group => {
                    None
                }
                Some((last_ack_seq, summary)) => {
                    let floor = accesses.get(&conversation).map_or(Seq::ZERO, |access| access.floor);
                    bytes += summary.last_message.as_ref().map_or(0, |message| message.kind.body_bytes());
                    Some(Listed::Conversation {
                        conversation,
                        last_seq: summary.last_seq,
                        last_ack_seq,
                        unread: summary.unread,
                        last_message: summary.last_message.filter(|message| message.seq > floor),
                    })
                }
            };
            if bytes > PAGE_BYTES_MAX && last.is_some() {
                return Ok((shown, last));
            }
            shown.extend(listed);
            last = Some(version);
        }
        Ok((shown, None))
    }
}

fn inbox_away(error: &RedisError) -> ApiError {
    tracing::warn!(%error, "an inbox could not be read");
    ApiError::unavailable("the inbox is unavailable: try again", RetryDelay::StoreUnavailable)
}

fn built_too_often() -> ApiError {
    ApiError::unavailable("your inbox is being built: try again", RetryDelay::Overloaded)
}
